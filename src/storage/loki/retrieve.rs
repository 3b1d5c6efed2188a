//! Points, page by page.
//!
//! Heads tell exactly where the entries of a page stand, as long as they can
//! answer the filters. Otherwise, and for what the reference wrote, Loki counts
//! the points of each period, and the periods of the page are read.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use super::{LokiStorage, question::Question, read::Sums, view::View};
use crate::{
    dataframe::DataPoint,
    state::{Context, statement},
    storage::{
        GroupKey, Page, Retrieved, Selection, StorageError,
        heads::{HeadQuery, ORDER},
    },
    time::{Period, seconds},
};

/// How many points there are in each period.
type Counts = BTreeMap<Period, u64>;

/// Points of a page.
pub(super) type Points = Vec<(Period, String, DataPoint)>;

/// Where the points of a head stand.
pub(super) struct HeadSpan {
    pub stream: i64,
    pub frame_type: String,
    /// Begin of the period.
    pub begin: i64,
    /// Entries of the stream and period before the first one.
    pub offset: i64,
    /// How many.
    pub points: i64,
}

/// A part of a period: how many points to leave out, and how many to take.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub period: Period,
    pub skip: u64,
    pub take: u64,
    /// Whether that is all of the period.
    pub is_whole: bool,
}

impl LokiStorage {
    pub(super) async fn read_page(
        &self,
        selection: &Selection,
        page: Page,
    ) -> Result<Retrieved, StorageError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_read_page(selection, page, tries > 1).await {
                // Replaced between two looks, most likely.
                Err(StorageError::Changed | StorageError::NotShown { .. }) if tries < TRIES => {}
                result => return result,
            }
        }
    }

    async fn try_read_page(
        &self,
        selection: &Selection,
        page: Page,
        by_lines: bool,
    ) -> Result<Retrieved, StorageError> {
        if selection.begin >= selection.end {
            return Ok(Retrieved { total: 0, points: Vec::new() });
        }
        let question = Question::new(selection, &[GroupKey::Time]);
        // First what the reference wrote, mostly nothing: then everything of
        // ours can come from one snapshot.
        let before = self.view(selection).await?;
        let reference = match by_lines {
            // Loki may have counted lines that are no points.
            true => self.count_reference_lines(selection, &question, &before).await?,
            false => self.sum_reference(selection, &question, Sums::Counts, &before).await?,
        };
        let reference = reference.counts();
        let heads = HeadQuery::new(&self.store, selection, &self.scope_key);
        let snapshot = self.database.snapshot().await?;
        let by_heads = match heads.heads_tell() {
            true => self.count_heads(&snapshot, &heads).await?,
            false => None,
        };
        let view = View::load(&snapshot, &self.store, &self.scope_key, selection).await?;
        if !reference.is_empty() && !view.hides_as(&before) {
            return Err(StorageError::Changed);
        }
        let Some(own) = by_heads else {
            drop(snapshot);
            let (own, view) = self.sum_own(selection, &question, Sums::Counts, view).await?;
            let plan = Plan::new(&reference, &own.counts(), page);
            let own = self.points_by_lines(&question, &view, &plan.own).await?;
            let reference = self
                .points_of_reference(selection, &question, &view, &plan.reference, by_lines)
                .await?;
            return Ok(plan.join(own, reference));
        };
        let plan = Plan::new(&reference, &own, page);
        let mut spans = Vec::with_capacity(plan.own.len());
        for part in &plan.own {
            spans.push(self.head_spans(&snapshot, &heads, *part).await?);
        }
        drop(snapshot);
        let own = self.points_of_spans(&view, &spans).await?;
        let reference = self
            .points_of_reference(selection, &question, &view, &plan.reference, by_lines)
            .await?;
        Ok(plan.join(own, reference))
    }

    /// Points per period, by heads; `None` if one of them cannot tell.
    async fn count_heads(
        &self,
        connection: &DatabaseTransaction,
        heads: &HeadQuery<'_>,
    ) -> Result<Option<Counts>, StorageError> {
        let action = "count points";
        if !heads.scope.is_empty() {
            let sql = format!(
                "SELECT 1 FROM ratekitty_dataframes d WHERE {} AND d.scope_key <> ? LIMIT 1",
                heads.sql
            );
            let mut values = heads.values.clone();
            values.push(self.scope_key.as_str().into());
            let other = connection.query_one_raw(statement(connection, &sql, values)).await;
            if other.to(action)?.is_some() {
                return Ok(None);
            }
        }
        let sql = format!(
            "SELECT d.begin_epoch, d.end_epoch, SUM(d.points) AS points \
             FROM ratekitty_dataframes d WHERE {} GROUP BY d.begin_epoch, d.end_epoch",
            heads.sql
        );
        let select = statement(connection, &sql, heads.values.clone());
        let mut counts = Counts::new();
        for row in connection.query_all_raw(select).await.to(action)? {
            let number = |name| row.try_get::<i64>("", name).to(action);
            let (begin, end) = (seconds(number("begin_epoch")?), seconds(number("end_epoch")?));
            let points = u64::try_from(number("points")?).unwrap_or_default();
            counts.insert(Period { begin, end }, points);
        }
        Ok(Some(counts))
    }

    /// The heads of a part of a period, cut to the part.
    async fn head_spans(
        &self,
        connection: &DatabaseTransaction,
        heads: &HeadQuery<'_>,
        part: Part,
    ) -> Result<Vec<HeadSpan>, StorageError> {
        let action = "read dataframes";
        let sql = format!(
            "SELECT d.stream_id, d.type, d.stream_offset, d.points FROM ratekitty_dataframes d \
             WHERE {} AND d.begin_epoch = ? AND d.end_epoch = ? ORDER BY {ORDER}",
            heads.sql
        );
        let mut values = heads.values.clone();
        values.extend([part.period.begin.timestamp().into(), part.period.end.timestamp().into()]);
        let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
        let mut window = Window { skip: part.skip, take: part.take };
        let mut spans = Vec::new();
        for row in rows.to(action)? {
            let number = |name| row.try_get::<i64>("", name).to(action);
            let points = u64::try_from(number("points")?).unwrap_or_default();
            let Some((skip, take)) = window.next(points) else { continue };
            let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            spans.push(HeadSpan {
                stream: number("stream_id")?,
                frame_type: row.try_get("", "type").to(action)?,
                begin: part.period.begin.timestamp(),
                offset: number("stream_offset")? + signed(skip),
                points: signed(take),
            });
        }
        Ok(spans)
    }
}

/// How often a page is read when it changes meanwhile.
const TRIES: usize = 3;
/// Which parts of which periods make a page.
struct Plan {
    /// Points in all.
    total: u64,
    own: Vec<Part>,
    reference: Vec<Part>,
    /// In the order of the page: whether the next part is one of ours.
    order: Vec<bool>,
}

impl Plan {
    /// In each period, what the reference wrote comes first.
    fn new(reference: &Counts, own: &Counts, page: Page) -> Self {
        let mut window = Window { skip: page.offset, take: page.limit };
        let mut plan = Self {
            total: own.values().chain(reference.values()).sum(),
            own: Vec::new(),
            reference: Vec::new(),
            order: Vec::new(),
        };
        let mut periods: Vec<Period> = own.keys().chain(reference.keys()).copied().collect();
        periods.sort_unstable();
        periods.dedup();
        for period in periods {
            for (counts, is_own) in [(reference, false), (own, true)] {
                let count = counts.get(&period).copied().unwrap_or_default();
                if let Some((skip, take)) = window.next(count) {
                    let parts = if is_own { &mut plan.own } else { &mut plan.reference };
                    parts.push(Part { period, skip, take, is_whole: take == count });
                    plan.order.push(is_own);
                }
            }
        }
        plan
    }

    /// The page, of what was read for the parts.
    fn join(&self, own: Vec<Points>, reference: Vec<Points>) -> Retrieved {
        let (mut own, mut reference) = (own.into_iter(), reference.into_iter());
        let parts = self.order.iter().map(|is_own| match is_own {
            true => own.next(),
            false => reference.next(),
        });
        Retrieved { total: self.total, points: parts.flatten().flatten().collect() }
    }
}

/// Cuts a page out of counted points.
struct Window {
    skip: u64,
    take: u64,
}

impl Window {
    /// Of the next `count` points, how many to leave out and to take; `None` if
    /// none are on the page.
    fn next(&mut self, count: u64) -> Option<(u64, u64)> {
        if self.skip >= count {
            self.skip -= count;
            return None;
        }
        let skip = std::mem::take(&mut self.skip);
        let take = self.take.min(count - skip);
        self.take -= take;
        (take > 0).then_some((skip, take))
    }
}
