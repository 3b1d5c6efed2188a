//! Sums that are kept until something changes them.
//!
//! Most of what is asked for is over: last month's bill, the week in a dashboard.
//! Summing it up takes up to seconds, and telling that nothing in it has changed
//! (`changes.rs`) takes one row. So a sum is kept with the mark that its selection had
//! in the same snapshot, and given again while the mark is still that, in
//! whatever process the change would be made. Nothing is told that a new sum
//! would not tell.
//!
//! What is changed past ratekitty, in a restored database say, leaves no mark: sums
//! are kept for a limited time, whatever their marks say.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use quick_cache::{Weighter, sync::Cache};

use super::{
    Finding, GroupKey, Mark, Page, PointSink, Replacement, Selection, Storage, StorageError,
    TotalRow, Totals,
};
use crate::{
    dataframe::DataFrame,
    instruments::instruments,
    state::Step,
    time::{Clock, Period},
};

/// Room for sums, in bytes.
const ROOM: u64 = 16 << 20;

/// About so many answers are expected.
const ANSWERS: usize = 1_000;

/// Rows of an answer that is kept. Of what has as many or fewer, all are computed at
/// once, so that paging through them costs one look.
const ROWS: u64 = 10_000;

/// What sums are over.
type Question = (Selection, Vec<GroupKey>);

/// A storage whose sums are kept.
pub(super) struct CachedSums {
    storage: Arc<dyn Storage>,
    longest: Duration,
    clock: Arc<dyn Clock>,
    sums: Cache<Question, Arc<Kept>, Bytes>,
}

/// Sums, and when they hold.
struct Kept {
    since: DateTime<Utc>,
    /// From the first one on; not all of them if `total` is more.
    totals: Totals,
}

impl Kept {
    /// A page, if it is in these.
    fn page(&self, page: Page) -> Option<Totals> {
        let kept = self.totals.rows.len() as u64;
        let is_in = self.totals.total == kept || page.offset.saturating_add(page.limit) <= kept;
        is_in.then(|| page_of(&self.totals, page))
    }
}

fn page_of(totals: &Totals, page: Page) -> Totals {
    let number = |count| usize::try_from(count).unwrap_or(usize::MAX);
    let rows = totals.rows.iter().skip(number(page.offset)).take(number(page.limit));
    Totals { total: totals.total, rows: rows.cloned().collect(), mark: totals.mark }
}

impl CachedSums {
    /// Keeps sums of a storage for no longer than a time.
    pub fn new(storage: Arc<dyn Storage>, longest: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { storage, longest, clock, sums: Cache::with_weighter(ANSWERS, ROOM, Bytes) }
    }

    fn is_young(&self, kept: &Kept) -> bool {
        // A clock that was put back says nothing.
        (self.clock.now() - kept.since).to_std().is_ok_and(|age| age < self.longest)
    }
}

/// How much room sums take, roughly.
#[derive(Clone)]
struct Bytes;

impl Weighter<Question, Arc<Kept>> for Bytes {
    fn weight(&self, (selection, groupby): &Question, kept: &Arc<Kept>) -> u64 {
        let filters = selection.filters.iter().flat_map(|(key, values)| {
            std::iter::once(key).chain(values).map(|text| text.len() + size_of::<String>())
        });
        let values = |row: &TotalRow| {
            let texts = row.values.iter().filter_map(|value| value.as_str()).map(str::len);
            size_of::<TotalRow>() + size_of_val(row.values.as_slice()) + texts.sum::<usize>()
        };
        let rows = kept.totals.rows.iter().map(values);
        let keys = size_of_val(groupby.as_slice());
        (size_of::<Question>() + size_of::<Kept>() + keys + filters.chain(rows).sum::<usize>())
            as u64
    }
}

#[async_trait]
impl Storage for CachedSums {
    async fn replace_all(&self, replacements: &[Replacement<'_>]) -> Result<(), StorageError> {
        self.storage.replace_all(replacements).await
    }

    async fn append(&self, frames: &[DataFrame]) -> Result<(), StorageError> {
        self.storage.append(frames).await
    }

    async fn retrieve_into(
        &self,
        selection: &Selection,
        page: Page,
        sink: &mut dyn PointSink,
    ) -> Result<(), StorageError> {
        self.storage.retrieve_into(selection, page, sink).await
    }

    async fn total(
        &self,
        selection: &Selection,
        groupby: &[GroupKey],
        page: Page,
    ) -> Result<Totals, StorageError> {
        let Some(mark) = self.storage.mark(selection).await? else {
            return self.storage.total(selection, groupby, page).await;
        };
        let question = (selection.clone(), groupby.to_vec());
        let kept = self
            .sums
            .get(&question)
            .filter(|kept| kept.totals.mark == Some(mark) && self.is_young(kept));
        if let Some(totals) = kept.and_then(|kept| kept.page(page)) {
            instruments().summed(true);
            return Ok(totals);
        }
        instruments().summed(false);
        let since = self.clock.now();
        let is_early = page.offset.saturating_add(page.limit) <= ROWS;
        let asked = if is_early { Page { offset: 0, limit: ROWS } } else { page };
        let totals = self.storage.total(selection, groupby, asked).await?;
        if asked.offset > 0 || totals.rows.len() as u64 > ROWS {
            return Ok(totals);
        }
        let told = page_of(&totals, page);
        if totals.mark.is_some() {
            self.sums.insert(question, Arc::new(Kept { since, totals }));
        }
        Ok(told)
    }

    async fn mark(&self, selection: &Selection) -> Result<Option<Mark>, StorageError> {
        self.storage.mark(selection).await
    }

    async fn delete(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        step: &Step<'_>,
    ) -> Result<(), StorageError> {
        self.storage.delete(scope_id, begin, end, step).await
    }

    async fn crossing(
        &self,
        scope_id: &str,
        writer: &str,
        time: Period,
    ) -> Result<Option<Period>, StorageError> {
        self.storage.crossing(scope_id, writer, time).await
    }

    async fn probe(&self) -> Vec<Finding> {
        self.storage.probe().await
    }
}
