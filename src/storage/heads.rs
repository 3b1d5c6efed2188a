//! Heads: one row of the state database per scope, period and type, with the
//! number of points and their exact sums. Every backend writes one for each
//! block of points that it keeps, wherever the points themselves are.
//!
//! Heads answer by themselves what asks for type, scope and time only. A head
//! names its scope under the label that was the scope key when it was written;
//! where that is another one than now, its points decide.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, FixedOffset};
use futures::TryStreamExt;
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, StreamTrait, Value as SqlValue};
use serde_json::Value;

use super::{GroupKey, Selection, StorageError, groups::Groups};
use crate::{
    dataframe::{DataFrame, DataPoint, python_str},
    decimal::{Decimal, Total},
    state::{Context, batches, insert_row, placeholders, statement},
    time::{CALENDAR, Period, at_offset, calendar_labels, local, seconds},
};

const ACTION: &str = "read dataframes";

/// Order of heads, and so of points.
pub(super) const ORDER: &str = "d.begin_epoch, d.end_epoch, d.scope_id, d.type, d.id";

/// Columns that [`Head::read`] needs.
pub(super) const HEAD: &str = "d.begin_epoch, d.end_epoch, d.utc_offset, d.type";

/// Begin and end of a period, type and scope, as far as sums are by them.
type SumKey = (Option<(i64, i64)>, Option<String>, Option<String>);

/// A label and the values that it may have.
pub(super) type Filter = (String, Vec<String>);

/// A selection, split by who can tell.
pub(super) struct HeadQuery<'a> {
    /// Conditions on heads `d`; they let pass what only points can tell.
    pub sql: String,
    pub values: Vec<SqlValue>,
    /// Filters on the label that is the scope key.
    pub scope: Vec<&'a Filter>,
    /// Filters on calendar labels, which need the period.
    pub calendar: Vec<&'a Filter>,
    /// Filters on other labels.
    pub labels: Vec<&'a Filter>,
}

impl<'a> HeadQuery<'a> {
    /// The heads of `store` among which the selection is.
    pub fn new(store: &str, selection: &'a Selection, scope_key: &str) -> Self {
        let mut query = Self {
            sql: "d.store = ? AND d.begin_epoch >= ? AND d.begin_epoch < ?".to_owned(),
            values: vec![
                store.into(),
                selection.begin.timestamp().into(),
                selection.end.timestamp().into(),
            ],
            scope: Vec::new(),
            calendar: Vec::new(),
            labels: Vec::new(),
        };
        for filter in &selection.filters {
            let (key, wanted) = filter;
            let list = placeholders(wanted.len());
            match key.as_str() {
                "type" => query.sql.push_str(&format!(" AND d.type IN ({list})")),
                key if key == scope_key => {
                    query.scope.push(filter);
                    query
                        .sql
                        .push_str(&format!(" AND (d.scope_key <> ? OR d.scope_id IN ({list}))"));
                    query.values.push(scope_key.into());
                }
                key if CALENDAR.contains(&key) => {
                    query.calendar.push(filter);
                    continue;
                }
                _ => {
                    query.labels.push(filter);
                    continue;
                }
            }
            query.values.extend(wanted.iter().map(|value| SqlValue::from(value.as_str())));
        }
        query
    }

    /// Whether heads alone tell which points are selected, if all of them are
    /// under the present scope key.
    pub fn heads_tell(&self) -> bool {
        self.calendar.is_empty() && self.labels.is_empty()
    }

    /// Whether heads alone can tell sums by `keys`, if all of them are under
    /// the present scope key.
    pub fn heads_sum(&self, keys: &[&GroupKey], scope_key: &str) -> bool {
        self.heads_tell()
            && keys.iter().all(|key| match key {
                GroupKey::Type | GroupKey::Time => true,
                GroupKey::Label(name) => *name == scope_key,
            })
    }

    /// Sums heads; `None` if one of them cannot tell.
    pub async fn sum(
        &self,
        connection: &DatabaseTransaction,
        scope_key: &str,
        keys: &[&GroupKey],
        by_time: bool,
    ) -> Result<Option<Groups>, StorageError> {
        let by_scope = !self.scope.is_empty() || keys.iter().any(|key| **key != GroupKey::Type);
        // There are many rows, so each has only what is needed.
        let mut columns = vec!["d.qty", "d.price"];
        let mut take = |is_needed: bool, names: [&'static str; 2]| {
            is_needed.then(|| {
                columns.extend(names);
                columns.len() - 2
            })
        };
        let time_at = take(by_time, ["d.begin_epoch", "d.end_epoch"]);
        let scope_at = take(by_scope, ["d.scope_key", "d.scope_id"]);
        let type_at = keys.contains(&&GroupKey::Type).then(|| {
            columns.push("d.type");
            columns.len() - 1
        });
        let columns = columns.join(", ");
        let sql = format!("SELECT {columns} FROM ratekitty_dataframes d WHERE {}", self.sql);
        let select = statement(connection, &sql, self.values.clone());
        let mut rows = connection.stream_raw(select).await.to(ACTION)?;
        let mut sums: HashMap<SumKey, (Total, Total)> = HashMap::new();
        while let Some(row) = rows.try_next().await.to(ACTION)? {
            let text = |at| row.try_get_by_index::<String>(at).to(ACTION);
            let epoch = |at| row.try_get_by_index::<i64>(at).to(ACTION);
            if let Some(at) = scope_at
                && text(at)? != scope_key
            {
                return Ok(None);
            }
            let time = time_at.map(|at| Ok::<_, StorageError>((epoch(at)?, epoch(at + 1)?)));
            let scope = scope_at.map(|at| text(at + 1)).transpose()?;
            let frame_type = type_at.map(text).transpose()?;
            let (qty, price) = sums.entry((time.transpose()?, frame_type, scope)).or_default();
            qty.add(parsed(&text(0)?, "qty")?);
            price.add(parsed(&text(1)?, "price")?);
        }
        let mut groups = Groups::default();
        for ((time, frame_type, scope), (qty, price)) in sums {
            let period =
                time.map(|(begin, end)| Period { begin: seconds(begin), end: seconds(end) });
            let values = keys.iter().map(|key| match key {
                GroupKey::Type => frame_type.clone().map(Value::String),
                _ => scope.clone().filter(|scope| !scope.is_empty()).map(Value::String),
            });
            groups.add(period, values.collect(), (qty.value(), price.value()));
        }
        Ok(Some(groups))
    }
}

/// A row of `ratekitty_dataframes`.
pub(super) struct Head {
    pub period: Period,
    pub utc_offset: i32,
    pub frame_type: String,
}

impl Head {
    pub fn read(row: &QueryResult) -> Result<Self, StorageError> {
        let epoch = |name| row.try_get::<i64>("", name).to(ACTION);
        Ok(Self {
            period: Period {
                begin: seconds(epoch("begin_epoch")?),
                end: seconds(epoch("end_epoch")?),
            },
            utc_offset: row.try_get("", "utc_offset").to(ACTION)?,
            frame_type: row.try_get("", "type").to(ACTION)?,
        })
    }

    /// Begin of the period in the zone in which it was written.
    pub fn begin(&self) -> DateTime<FixedOffset> {
        at_offset(self.period.begin, self.utc_offset)
    }

    /// A label as the series has it, or else from the calendar.
    pub fn label(&self, name: &str, of_series: Option<&Value>) -> Option<Value> {
        of_series.cloned().or_else(|| {
            if !CALENDAR.contains(&name) {
                return None;
            }
            let mut labels = calendar_labels(self.begin()).into_iter();
            labels.find(|(known, _)| *known == name).map(|(_, value)| Value::String(value))
        })
    }
}

/// A number, which is kept as text.
pub(super) fn decimal(row: &QueryResult, name: &str) -> Result<Decimal, StorageError> {
    parsed(&row.try_get::<String>("", name).to(ACTION)?, name)
}

fn parsed(text: &str, name: &str) -> Result<Decimal, StorageError> {
    text.parse().map_err(|error| StorageError::Damaged(format!("{name}: {error}")))
}

/// Points of one scope, period and type that are kept together.
pub(super) struct Block<'a> {
    pub scope_id: &'a str,
    pub frame_type: &'a str,
    pub period: Period,
    pub points: Vec<&'a DataPoint>,
}

/// The blocks of a frame whose points are all of one scope.
pub(super) fn blocks_of<'a>(scope_id: &'a str, frame: &'a DataFrame) -> Vec<Block<'a>> {
    let blocks = frame.usage.iter().map(|(frame_type, points)| Block {
        scope_id,
        frame_type,
        period: frame.period,
        points: points.iter().collect(),
    });
    blocks.collect()
}

/// Sorts points of any scopes into blocks, ordered by period, scope and type.
/// `scopes` are the names of the points' scopes, by [`scopes_of`].
pub(super) fn sorted_blocks<'a>(
    frames: &'a [DataFrame],
    scopes: &'a [Vec<String>],
) -> Vec<Block<'a>> {
    let mut blocks: BTreeMap<(Period, &str, &str), Vec<&DataPoint>> = BTreeMap::new();
    for (frame, names) in frames.iter().zip(scopes) {
        let points = frame
            .usage
            .iter()
            .flat_map(|(frame_type, points)| points.iter().map(move |point| (frame_type, point)));
        for (name, (frame_type, point)) in names.iter().zip(points) {
            blocks.entry((frame.period, name, frame_type)).or_default().push(point);
        }
    }
    let blocks = blocks.into_iter().map(|((period, scope_id, frame_type), points)| Block {
        scope_id,
        frame_type,
        period,
        points,
    });
    blocks.collect()
}

/// The scope of each point, by its label `scope_key`; empty without one.
pub(super) fn scopes_of(frames: &[DataFrame], scope_key: &str) -> Vec<Vec<String>> {
    let name = |point: &DataPoint| point.label(scope_key).map(python_str).unwrap_or_default();
    let names = |frame: &DataFrame| {
        frame.usage.iter().flat_map(|(_, points)| points).map(name).collect::<Vec<_>>()
    };
    frames.iter().map(names).collect()
}

/// Where the points of a head are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Name of the store: `sql`, or a Loki's.
    pub store: &'a str,
    /// Label that names the scope.
    pub scope_key: &'a str,
    /// Whether the points were added beside what the processor rates.
    pub appended: bool,
    /// Who writes ([`Step::writer`](crate::state::Step)); nobody in particular for
    /// what is appended.
    pub writer: &'a str,
    /// The stream and the number of its entries of this period before the
    /// first point, in a store that has streams.
    pub stream: Option<(i64, i64)>,
}

/// Columns of a head, but for its number.
const COLUMNS: &str = "store, appended, stream_id, stream_offset, begin_epoch, end_epoch, utc_offset, \
     scope_key, scope_id, type, points, qty, price, writer";
/// How many they are.
const WIDTH: usize = 14;

impl Place<'_> {
    fn values(&self, block: &Block<'_>) -> [SqlValue; WIDTH] {
        let qty: Total = block.points.iter().map(|point| point.qty).sum();
        let price: Total = block.points.iter().map(|point| point.price).sum();
        [
            self.store.into(),
            self.appended.into(),
            self.stream.map(|(id, _)| id).into(),
            self.stream.map(|(_, offset)| offset).into(),
            block.period.begin.timestamp().into(),
            block.period.end.timestamp().into(),
            local(block.period.begin).offset().local_minus_utc().into(),
            self.scope_key.into(),
            block.scope_id.into(),
            block.frame_type.into(),
            i64::try_from(block.points.len()).unwrap_or(i64::MAX).into(),
            qty.value().to_string().into(),
            price.value().to_string().into(),
            self.writer.into(),
        ]
    }

    /// Writes the head of a block and gives its number.
    pub async fn write_head(
        &self,
        transaction: &impl ConnectionTrait,
        block: &Block<'_>,
    ) -> Result<i64, StorageError> {
        let list = placeholders(WIDTH);
        let sql = format!("INSERT INTO ratekitty_dataframes ({COLUMNS}) VALUES ({list})");
        Ok(insert_row(transaction, &sql, self.values(block)).await.to("write a dataframe")?)
    }
}

/// Writes the heads of blocks, several in one statement.
pub(super) async fn write_heads(
    transaction: &impl ConnectionTrait,
    heads: &[(Place<'_>, &Block<'_>)],
) -> Result<(), StorageError> {
    let one = format!("({})", placeholders(WIDTH));
    for heads in batches(heads) {
        let rows = vec![one.as_str(); heads.len()].join(", ");
        let sql = format!("INSERT INTO ratekitty_dataframes ({COLUMNS}) VALUES {rows}");
        let values = heads.iter().flat_map(|(place, block)| place.values(block));
        let insert = statement(transaction, &sql, values);
        transaction.execute_raw(insert).await.to("write dataframes")?;
    }
    Ok(())
}

/// What one writer keeps of a scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept<'a> {
    /// Name of the store.
    pub store: &'a str,
    /// Label that names the scope.
    pub scope_key: &'a str,
    /// The scope.
    pub scope_id: &'a str,
    /// Who writes.
    pub writer: &'a str,
}

impl Kept<'_> {
    /// The condition on heads of the scope, and its parameters.
    fn of_scope(&self) -> (&'static str, Vec<SqlValue>) {
        let values = [self.store, self.scope_key, self.scope_id].map(SqlValue::from).to_vec();
        ("store = ? AND scope_key = ? AND scope_id = ?", values)
    }

    /// The condition on heads that this writer has rated, and its parameters.
    pub fn rated(&self) -> (String, Vec<SqlValue>) {
        let (scope, mut values) = self.of_scope();
        values.push(self.writer.into());
        (format!("{scope} AND writer = ? AND NOT appended"), values)
    }

    /// The first rated period that lies across the begin or the end of a time:
    /// partly in it and partly not.
    pub async fn crossing(
        &self,
        connection: &impl ConnectionTrait,
        begin: i64,
        end: i64,
    ) -> Result<Option<Period>, StorageError> {
        let (condition, mut values) = self.rated();
        let sql = format!(
            "SELECT begin_epoch, end_epoch FROM ratekitty_dataframes WHERE {condition} \
             AND (begin_epoch < ? AND end_epoch > ? \
             OR begin_epoch >= ? AND begin_epoch < ? AND end_epoch > ?) \
             ORDER BY begin_epoch, end_epoch LIMIT 1"
        );
        values.extend([begin, begin, begin, end, end].map(SqlValue::from));
        let row = connection.query_one_raw(statement(connection, &sql, values)).await.to(ACTION)?;
        let epoch = |row: &QueryResult, name| row.try_get::<i64>("", name).to(ACTION).map(seconds);
        row.map(|row| {
            Ok(Period { begin: epoch(&row, "begin_epoch")?, end: epoch(&row, "end_epoch")? })
        })
        .transpose()
    }

    /// Sees to it that a period can take the place of what is kept.
    ///
    /// # Errors
    /// A rated period of another length that would be replaced in part only: the
    /// rest would be lost, or billed twice. Unless that is wanted, what another
    /// collector has rated of the same time: both would be billed.
    pub async fn check_replaceable(
        &self,
        connection: &impl ConnectionTrait,
        period: Period,
        beside_others: bool,
    ) -> Result<(), StorageError> {
        let (begin, end) = (period.begin.timestamp(), period.end.timestamp());
        let scope_id = || self.scope_id.to_owned();
        if let Some(rated) = self.crossing(connection, begin, end).await? {
            return Err(StorageError::Crossing { scope_id: scope_id(), period, rated });
        }
        if beside_others {
            return Ok(());
        }
        let (scope, mut values) = self.of_scope();
        let sql = format!(
            "SELECT writer FROM ratekitty_dataframes WHERE {scope} AND NOT appended \
             AND writer <> ? AND begin_epoch < ? AND end_epoch > ? LIMIT 1"
        );
        values.extend([self.writer.into(), end.into(), begin.into()]);
        let row = connection.query_one_raw(statement(connection, &sql, values)).await.to(ACTION)?;
        match row {
            None => Ok(()),
            Some(row) => Err(StorageError::OtherCollector {
                scope_id: scope_id(),
                period,
                other: row.try_get("", "writer").to(ACTION)?,
                ours: self.writer.to_owned(),
            }),
        }
    }

    /// Forgets what begins in a time, in seconds from `begin` to before `end`;
    /// what is appended, too, unless it is to stay.
    pub async fn delete(
        &self,
        connection: &impl ConnectionTrait,
        (begin, end): (i64, i64),
        appended_too: bool,
    ) -> Result<(), StorageError> {
        let action = "delete data points";
        let (scope, mut values) = self.of_scope();
        let stay = if appended_too { "appended OR " } else { "" };
        // First found and then deleted by number: a database may look through a small
        // table for rows to delete, and lock what others are writing.
        let sql = format!(
            "SELECT id FROM ratekitty_dataframes WHERE {scope} \
             AND ({stay}NOT appended AND writer = ?) AND begin_epoch >= ? AND begin_epoch < ?"
        );
        values.extend([self.writer.into(), begin.into(), end.into()]);
        let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
        let ids = rows
            .to(action)?
            .iter()
            .map(|row| row.try_get::<i64>("", "id").to(action))
            .collect::<Result<Vec<_>, _>>()?;
        for ids in batches(&ids) {
            let list = placeholders(ids.len());
            let sql = format!("DELETE FROM ratekitty_dataframes WHERE id IN ({list})");
            let ids = ids.iter().map(|id| SqlValue::from(*id));
            connection.execute_raw(statement(connection, &sql, ids)).await.to(action)?;
        }
        Ok(())
    }
}
