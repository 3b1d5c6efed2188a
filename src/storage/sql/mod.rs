//! Dataframes in the state database: the embedded default.
//!
//! ```text
//! ratekitty_dataframes   one row per scope, period and type: how many points,
//!                        their exact sums of quantity and price
//! ratekitty_points       the points: quantity, price, and the series they are of
//! ratekitty_series       unit and labels, once for all points that share them
//! ```
//!
//! Things live longer than periods, so labels are kept once per series and a
//! point is a few dozen bytes. Sums by type, scope and time come from the rows
//! of the first table alone, of which there are as many as queries to
//! Prometheus, not as many as points. Numbers are text: no database's floats
//! touch them.

mod read;
mod series;
mod write;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::{
    GroupKey, Mark, Page, PointSink, Replacement, Selection, Storage, StorageError, Totals,
};
use crate::{
    dataframe::DataFrame,
    state::{Database, Step},
    time::Period,
};

/// Name of this store in the rows of its heads.
pub(super) const STORE: &str = "sql";

/// Reads that run at the same time. More wait for their turn, so that they do
/// not take all connections from the processor and from small questions.
const READS_AT_ONCE: usize = 4;

/// Storage in the state database.
#[derive(Debug)]
pub struct SqlStorage {
    database: Database,
    /// Label that names the scope.
    scope_key: String,
    /// Whether periods may be rated that another collector has rated.
    beside_others: bool,
    series: series::SeriesCache,
    reads: Semaphore,
}

impl SqlStorage {
    /// A storage in `database`, whose tables must be there.
    pub fn new(database: Database, scope_key: &str, beside_others: bool) -> Self {
        Self {
            database,
            scope_key: scope_key.to_owned(),
            beside_others,
            series: series::SeriesCache::default(),
            reads: Semaphore::new(READS_AT_ONCE),
        }
    }
}

#[async_trait]
impl Storage for SqlStorage {
    async fn replace_all(&self, replacements: &[Replacement<'_>]) -> Result<(), StorageError> {
        self.write_replacing(replacements).await
    }

    async fn append(&self, frames: &[DataFrame]) -> Result<(), StorageError> {
        self.write_beside(frames).await
    }

    async fn retrieve_into(
        &self,
        selection: &Selection,
        page: Page,
        sink: &mut dyn PointSink,
    ) -> Result<(), StorageError> {
        let _turn = self.reads.acquire().await;
        self.read_points(selection, page, sink).await
    }

    async fn total(
        &self,
        selection: &Selection,
        groupby: &[GroupKey],
        page: Page,
    ) -> Result<Totals, StorageError> {
        let _turn = self.reads.acquire().await;
        self.sum(selection, groupby, page).await
    }

    async fn mark(&self, selection: &Selection) -> Result<Option<Mark>, StorageError> {
        let connection = self.database.connection();
        Mark::of(connection, STORE, &self.scope_key, selection).await.map(Some)
    }

    async fn delete(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        step: &Step<'_>,
    ) -> Result<(), StorageError> {
        self.forget(scope_id, begin, end, step).await
    }

    async fn crossing(
        &self,
        scope_id: &str,
        writer: &str,
        time: Period,
    ) -> Result<Option<Period>, StorageError> {
        let (begin, end) = (time.begin.timestamp(), time.end.timestamp());
        self.kept(scope_id, writer).crossing(self.database.connection(), begin, end).await
    }
}
