//! Stage 4: rated dataframes, kept and answered for.
//!
//! `DataFrame → backend`; the API asks back through the same trait. Every
//! backend passes the suite in `tests/it/storage/mod.rs`.

mod cached;
mod changes;
mod groups;
mod heads;
pub mod loki;
pub mod sql;

use std::{ops::ControlFlow, sync::Arc};

use async_trait::async_trait;
pub use changes::Mark;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    config::Config,
    dataframe::{DataFrame, DataPoint},
    decimal::Decimal,
    http::{ClientError, retry::Retryable},
    state::{Database, StateError, Step},
    time::{Clock, Period},
};

/// Backends by their names in `[storage] backend`.
const KNOWN: &str = "sql, loki";

/// Why dataframes are neither kept nor read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// Loki failed.
    #[error(transparent)]
    Loki(#[from] loki::LokiError),
    /// A data point is too long for Loki.
    #[error(
        "a data point of type `{frame_type}` of scope `{scope_id}` makes a log line of {bytes} bytes, and Loki takes 262144; drop labels of the metric"
    )]
    LongLine {
        /// The scope.
        scope_id: String,
        /// Type of the point.
        frame_type: String,
        /// Length of the line.
        bytes: usize,
    },
    /// Entries that the storage has taken do not show, so that an answer would
    /// be a part of the whole.
    #[error(
        "Loki shows {shown} of {stored} data points that it has taken: entries which are older than its query_ingesters_within (3 hours unless set) when they are pushed show only once their chunks are flushed; see docs/storage-loki.md"
    )]
    NotShown {
        /// Points that are there to be read.
        shown: u64,
        /// Points that were stored.
        stored: u64,
    },
    /// The storage holds more than it should.
    #[error(
        "Loki holds {shown} data points where the state database knows {stored}: it may be from a backup, and its scopes have been rated again since; reset them to the time of the backup"
    )]
    TooMany {
        /// Points that are there to be read.
        shown: u64,
        /// Points that were stored.
        stored: u64,
    },
    /// The data changed while it was read.
    #[error("dataframes were replaced while they were read; try again")]
    Changed,
    /// Someone else rated the same period, or took it away, while it was stored.
    #[error(
        "scope `{0}` was rated, reset or reprocessed by someone else while a period of it was stored; it is rated again"
    )]
    Overtaken(String),
    /// A period would take the place of a part of another one.
    #[error(
        "the period {period} of scope `{scope_id}` lies across the period {rated}, which is rated already in another length: part of it would be lost or billed twice; reset the scope to a time before {}", rated.begin
    )]
    Crossing {
        /// The scope.
        scope_id: String,
        /// The period that was to be stored.
        period: Period,
        /// The one that is there.
        rated: Period,
    },
    /// Another collector has rated the same time.
    #[error(
        "the period {period} of scope `{scope_id}` is rated already by collector `{other}`, and `{ours}` would bill it, too: to go on in its place, run `ratekitty dbsync take-over --from {other}`; to bill both, set [ratekitty] other_collectors = keep"
    )]
    OtherCollector {
        /// The scope.
        scope_id: String,
        /// The period.
        period: Period,
        /// Who has rated it.
        other: String,
        /// Who was to rate it.
        ours: String,
    },
    /// What is stored cannot be read back.
    #[error("the stored dataframes are damaged: {0}")]
    Damaged(String),
    /// A `time-` groupby that does not exist.
    #[error("Invalid groupby time option. There is no groupby processing for [{0}].")]
    GroupbyTime(String),
}

impl StorageError {
    /// Whether nobody answers, whatever is to be kept.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Loki(error) if error.is_retryable())
    }

    /// Whether the database let another transaction pass, so that the same may do better
    /// at once.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::State(error) if error.is_conflict())
    }

    /// Whether points were refused for good, for what they are.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Loki(loki::LokiError::Refused { .. }))
    }
}

/// Why there is no storage.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration names an unknown backend.
    #[error("[storage] backend = `{0}` is not known; known backends: {KNOWN}")]
    UnknownBackend(String),
    /// Certificates or keys cannot be read.
    #[error("[storage_loki]: {0}")]
    Client(#[from] ClientError),
}

/// What to read: points whose period begins in `[begin, end)` and that have,
/// for each key, one of the values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selection {
    /// First begin.
    pub begin: DateTime<Utc>,
    /// First begin that is not in.
    pub end: DateTime<Utc>,
    /// Keys and the values they may have. `type` is the type of the data
    /// point, everything else a label of groupby or metadata.
    pub filters: Vec<(String, Vec<String>)>,
}

impl Selection {
    /// Everything that begins in a time.
    pub fn all(begin: DateTime<Utc>, end: DateTime<Utc>) -> Self {
        Self { begin, end, filters: Vec::new() }
    }

    /// The same, narrowed to one of `values` for `key`.
    #[must_use]
    pub fn with(mut self, key: &str, values: &[&str]) -> Self {
        self.filters.push((key.to_owned(), values.iter().map(|v| (*v).to_owned()).collect()));
        self
    }
}

/// Which part of a result to give. The result is computed whole before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many to leave out.
    pub offset: u64,
    /// How many to give at most.
    pub limit: u64,
}

impl Page {
    /// Everything.
    pub const ALL: Self = Self { offset: 0, limit: u64::MAX };
}

/// What sums are made by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GroupKey {
    /// Type of the data points.
    Type,
    /// Their period.
    Time,
    /// A label, told by its name. For `day_of_the_year`, `week_of_the_year`,
    /// `month` and `year`, a point without the label has that of its period.
    Label(String),
}

impl GroupKey {
    /// Reads one element of `groupby` as the reference does: `time` is the
    /// period, `time-d`, `time-w`, `time-m` and `time-y` are the calendar
    /// labels that the collector gives to every point.
    ///
    /// # Errors
    /// Any other `time-`.
    pub fn parse(element: &str) -> Result<Self, StorageError> {
        match element {
            "type" => return Ok(Self::Type),
            "time" => return Ok(Self::Time),
            _ => {}
        }
        // The reference looks for "time" anywhere in front of a single dash.
        let mut parts = element.split('-');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(option), None) if element.contains("time") => {
                let label = match option {
                    "d" => "day_of_the_year",
                    "w" => "week_of_the_year",
                    "m" => "month",
                    "y" => "year",
                    _ => return Err(StorageError::GroupbyTime(element.to_owned())),
                };
                Ok(Self::Label(label.to_owned()))
            }
            _ => Ok(Self::Label(element.to_owned())),
        }
    }

    /// Name of the column in answers; periods have none of their own.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Type => Some("type"),
            Self::Time => None,
            Self::Label(name) => Some(name),
        }
    }
}

/// Sums over one group of points.
#[derive(Debug, Clone, PartialEq)]
pub struct TotalRow {
    /// The period, when grouped by time.
    pub period: Option<Period>,
    /// Values of the group keys other than time, in their order; null for
    /// points that do not have the label.
    pub values: Vec<Value>,
    /// Sum of the quantities.
    pub qty: Decimal,
    /// Sum of the prices.
    pub price: Decimal,
}

/// One page of sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals {
    /// How many groups there are in all.
    pub total: u64,
    /// The page, ordered by the group keys in their order.
    pub rows: Vec<TotalRow>,
    /// What the selection was at the moment of the sums; `None` as for [`Storage::mark`].
    pub mark: Option<Mark>,
}

/// A point with its period and type.
pub type Found = (Period, String, DataPoint);

/// One page of points.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retrieved {
    /// How many points there are in all.
    pub total: u64,
    /// The page: (period, type, point), ordered by period, and within one always
    /// in the same way.
    pub points: Vec<Found>,
}

/// Takes the points of a page as they are read.
#[async_trait]
pub trait PointSink: Send {
    /// How many points there are in all; told once, before the first points.
    async fn total(&mut self, total: u64);

    /// The next points, a few thousand at most unless they are of one period;
    /// whether more are wanted.
    async fn points(&mut self, points: Vec<Found>) -> ControlFlow<()>;
}

#[async_trait]
impl PointSink for Retrieved {
    async fn total(&mut self, total: u64) {
        self.total = total;
    }

    async fn points(&mut self, mut points: Vec<Found>) -> ControlFlow<()> {
        self.points.append(&mut points);
        ControlFlow::Continue(())
    }
}

/// What a look at a backend's peer showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be.
    Good(String),
    /// It works; this should be known, or may be changed.
    Note(String),
    /// It does not work; what to do.
    Bad(String),
}

/// What a scope used in periods that follow one another.
#[derive(Debug, Clone, Copy)]
pub struct Replacement<'a> {
    /// The scope.
    pub scope_id: &'a str,
    /// Its points, a frame for each period, the oldest first; at least one frame.
    pub frames: &'a [DataFrame],
    /// What happens to its state.
    pub step: Step<'a>,
}

impl Replacement<'_> {
    /// The time of all its periods.
    fn time(&self) -> Period {
        let at = |frame: Option<&DataFrame>| frame.map_or(Period::EMPTY, |frame| frame.period);
        Period { begin: at(self.frames.first()).begin, end: at(self.frames.last()).end }
    }
}

/// A keeper of dataframes.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Keeps what scopes used in their periods, in place of what the same writer kept
    /// of that scope and of periods that lie in these, and takes the steps: all of it
    /// or, on error, nothing. Points that were appended stay. Durable when it
    /// returns. No scope is in two of them.
    ///
    /// # Errors
    /// [`StorageError`]; a step that cannot be taken.
    async fn replace_all(&self, replacements: &[Replacement<'_>]) -> Result<(), StorageError>;

    /// Keeps what one scope used in one period.
    ///
    /// # Errors
    /// As [`Self::replace_all`].
    async fn replace(
        &self,
        scope_id: &str,
        frame: &DataFrame,
        step: &Step<'_>,
    ) -> Result<(), StorageError> {
        let frames = std::slice::from_ref(frame);
        self.replace_all(&[Replacement { scope_id, frames, step: *step }]).await
    }

    /// Keeps further points of any scopes; all frames or, on error, nothing.
    ///
    /// # Errors
    /// [`StorageError`]
    async fn append(&self, frames: &[DataFrame]) -> Result<(), StorageError>;

    /// Hands on the points of a selection as they are read, all as they were
    /// at one moment.
    ///
    /// # Errors
    /// [`StorageError`]; then what was handed on is a part of the page.
    async fn retrieve_into(
        &self,
        selection: &Selection,
        page: Page,
        sink: &mut dyn PointSink,
    ) -> Result<(), StorageError>;

    /// Points of a selection.
    ///
    /// # Errors
    /// [`StorageError`]
    async fn retrieve(&self, selection: &Selection, page: Page) -> Result<Retrieved, StorageError> {
        let mut retrieved = Retrieved::default();
        self.retrieve_into(selection, page, &mut retrieved).await?;
        Ok(retrieved)
    }

    /// Sums over a selection. Without group keys there is one row, or none if
    /// there are no points.
    ///
    /// # Errors
    /// [`StorageError`]
    async fn total(
        &self,
        selection: &Selection,
        groupby: &[GroupKey],
        page: Page,
    ) -> Result<Totals, StorageError>;

    /// What a selection is at this moment, for less than it takes to sum it up: as long
    /// as the mark is the same, sums over the selection are, too. `None` if the backend
    /// also reads what others may change.
    ///
    /// # Errors
    /// [`StorageError`]
    async fn mark(&self, selection: &Selection) -> Result<Option<Mark>, StorageError>;

    /// Forgets the points of a scope whose period begins in `[begin, end)`, and
    /// takes `step`: both or, on error, nothing.
    ///
    /// # Errors
    /// [`StorageError`]; a step that cannot be taken.
    async fn delete(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        step: &Step<'_>,
    ) -> Result<(), StorageError>;

    /// The first period that a writer rated for a scope which lies across the begin
    /// or the end of a time: partly in it and partly not.
    ///
    /// # Errors
    /// [`StorageError`]
    async fn crossing(
        &self,
        scope_id: &str,
        writer: &str,
        time: Period,
    ) -> Result<Option<Period>, StorageError>;

    /// Looks at the peer that keeps the points, if that is one of its own.
    async fn probe(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// The backend that the configuration names.
///
/// # Errors
/// [`BuildError`]
pub fn build(
    config: &Config,
    database: &Database,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Storage>, BuildError> {
    let database = database.clone();
    let storage: Arc<dyn Storage> = match config.storage.backend.as_str() {
        "sql" => Arc::new(sql::SqlStorage::new(
            database,
            &config.collect.scope_key,
            config.ratekitty.beside_other_collectors,
        )),
        "loki" => Arc::new(loki::LokiStorage::new(config, database, clock.clone())?),
        other => return Err(BuildError::UnknownBackend(other.to_owned())),
    };
    let longest = config.ratekitty.summary_cache;
    if longest.is_zero() {
        return Ok(storage);
    }
    Ok(Arc::new(cached::CachedSums::new(storage, longest, clock.clone())))
}
