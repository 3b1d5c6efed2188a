//! Points, page by page.
//!
//! Heads tell exactly where the entries of a page stand, as long as they can
//! answer the filters. Otherwise, and for what the reference wrote, Loki counts
//! the points of each period, and the periods of the page are read.

use std::{collections::BTreeMap, ops::Range};

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use super::{LokiStorage, question::Question, read::Sums, streams::SECOND, view::View};
use crate::{
    dataframe::DataPoint,
    state::{Context, integer_sum, statement},
    storage::{
        GroupKey, Page, PointSink, Selection, StorageError,
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

impl HeadSpan {
    /// Takes away the first `points` and gives them.
    fn split_off_first(&mut self, points: i64) -> Self {
        let first = Self { points, frame_type: self.frame_type.clone(), ..*self };
        self.offset += points;
        self.points -= points;
        first
    }
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

/// A page, planned on one view of the streams.
struct Planned {
    view: View,
    plan: Plan,
    /// For each part of ours, where heads say that its points are.
    spans: Option<Vec<Vec<HeadSpan>>>,
}

impl LokiStorage {
    pub(super) async fn read_page(
        &self,
        selection: &Selection,
        page: Page,
        sink: &mut dyn PointSink,
    ) -> Result<(), StorageError> {
        if selection.begin >= selection.end {
            sink.total(0).await;
            return Ok(());
        }
        let question = Question::new(selection, &[GroupKey::Time]);
        let mut by_lines = false;
        let mut tries = 0;
        let (planned, first) = loop {
            tries += 1;
            let planned = self.plan_page(selection, &question, page, by_lines).await;
            let begun = match planned {
                Ok(planned) => {
                    let steps = planned.plan.steps();
                    let first = match steps.first() {
                        Some(step) => {
                            self.read_step(selection, &question, &planned, step, by_lines).await
                        }
                        None => Ok(Points::new()),
                    };
                    first.map(|first| (planned, first))
                }
                Err(error) => Err(error),
            };
            match begun {
                // Nothing is handed on yet: replaced between two looks, or
                // Loki counted lines that are no points.
                Err(StorageError::Changed) if tries < TRIES => by_lines = true,
                Err(StorageError::NotShown { .. }) if tries < 2 => {}
                begun => break begun?,
            }
        };
        sink.total(planned.plan.total).await;
        if sink.points(first).await.is_break() {
            return Ok(());
        }
        for step in planned.plan.steps().iter().skip(1) {
            let points = self.read_step(selection, &question, &planned, step, by_lines).await?;
            if sink.points(points).await.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Counts the points of each period and tells which of them are the page.
    async fn plan_page(
        &self,
        selection: &Selection,
        question: &Question<'_>,
        page: Page,
        by_lines: bool,
    ) -> Result<Planned, StorageError> {
        // First what the reference wrote, mostly nothing: then everything of
        // ours can come from one snapshot.
        let before = self.view(selection).await?;
        let reference = match by_lines {
            true => self.count_reference_lines(selection, question, &before).await?,
            false => self.sum_reference(selection, question, Sums::Counts, &before).await?,
        };
        let reference = reference.counts();
        let last = reference.keys().map(|period| period.end.timestamp()).max();
        let is_same = |view: &View| {
            last.is_none_or(|last| view.hides_as(&before, last.saturating_mul(SECOND)))
        };
        let heads = HeadQuery::new(&self.store, selection, &self.scope_key);
        let snapshot = self.database.snapshot().await?;
        let by_heads = match heads.heads_tell() {
            true => self.count_heads(&snapshot, &heads).await?,
            false => None,
        };
        let view = View::load(&snapshot, &self.store, &self.scope_key, selection).await?;
        if !is_same(&view) {
            return Err(StorageError::Changed);
        }
        let Some(own) = by_heads else {
            drop(snapshot);
            let (own, view) = self.sum_own(selection, question, Sums::Counts, view).await?;
            if !is_same(&view) {
                return Err(StorageError::Changed);
            }
            let plan = Plan::new(&reference, &own.counts(), page);
            return Ok(Planned { view, plan, spans: None });
        };
        let mut plan = Plan::new(&reference, &own, page);
        let mut spans = Vec::with_capacity(plan.own.len());
        for part in &plan.own {
            spans.push(self.head_spans(&snapshot, &heads, *part).await?);
        }
        let spans = plan.part_spans(spans);
        Ok(Planned { view, plan, spans: Some(spans) })
    }

    /// The points of some parts of a page.
    async fn read_step(
        &self,
        selection: &Selection,
        question: &Question<'_>,
        planned: &Planned,
        step: &Step,
        by_lines: bool,
    ) -> Result<Points, StorageError> {
        let Planned { view, plan, spans } = planned;
        let pages = match (step, spans) {
            (Step::Own(parts), Some(spans)) => {
                self.points_of_spans(view, &spans[parts.clone()]).await?
            }
            (Step::Own(parts), None) => {
                self.points_by_lines(question, view, &plan.own[parts.clone()]).await?
            }
            (Step::Reference(parts), _) => {
                let parts = &plan.reference[parts.clone()];
                self.points_of_reference(selection, question, view, parts, by_lines).await?
            }
        };
        Ok(pages.into_iter().flatten().collect())
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
            "SELECT d.begin_epoch, d.end_epoch, {} AS points \
             FROM ratekitty_dataframes d WHERE {} GROUP BY d.begin_epoch, d.end_epoch",
            integer_sum(connection, "d.points"),
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

/// Points that are read together, if they are of several periods.
const POINTS_AT_ONCE: u64 = 5_000;
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

    /// Makes several parts of ours out of each that has more points than are
    /// read together; `spans` are those of the parts, as is what is given back.
    fn part_spans(&mut self, spans: Vec<Vec<HeadSpan>>) -> Vec<Vec<HeadSpan>> {
        let most = i64::try_from(POINTS_AT_ONCE).unwrap_or(i64::MAX);
        let (mut own, mut all) = (Vec::new(), Vec::new());
        let mut counts = Vec::new();
        for (part, spans) in self.own.iter().zip(spans) {
            let before = all.len();
            let (mut lot, mut points) = (Vec::new(), 0);
            for mut span in spans {
                while points + span.points > most {
                    let first = span.split_off_first(most - points);
                    lot.extend((first.points > 0).then_some(first));
                    all.push(std::mem::take(&mut lot));
                    points = 0;
                }
                points += span.points;
                lot.push(span);
            }
            all.push(lot);
            counts.push(all.len() - before);
            for lot in &all[before..] {
                let take = lot.iter().map(|span| span.points).sum::<i64>();
                let take = u64::try_from(take).unwrap_or_default();
                own.push(Part { take, is_whole: false, ..*part });
            }
        }
        let mut counts = counts.into_iter();
        let order = std::mem::take(&mut self.order).into_iter();
        self.order = order
            .flat_map(|is_own| {
                let count = if is_own { counts.next().unwrap_or(1) } else { 1 };
                std::iter::repeat_n(is_own, count)
            })
            .collect();
        self.own = own;
        all
    }

    /// Parts that are read together: some thousand points, or one part.
    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let (mut own, mut reference, mut points) = (0, 0, 0);
        for is_own in &self.order {
            let (parts, at) = match is_own {
                true => (&self.own, &mut own),
                false => (&self.reference, &mut reference),
            };
            let take = parts.get(*at).map_or(0, |part| part.take);
            let range = *at..*at + 1;
            *at += 1;
            points += take;
            match (steps.last_mut(), is_own) {
                (Some(Step::Own(last)), true) | (Some(Step::Reference(last)), false)
                    if points <= POINTS_AT_ONCE =>
                {
                    last.end = range.end;
                }
                _ => {
                    points = take;
                    steps.push(if *is_own { Step::Own(range) } else { Step::Reference(range) });
                }
            }
        }
        steps
    }
}

/// Parts of a plan that are read together, by their places.
enum Step {
    Own(Range<usize>),
    Reference(Range<usize>),
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
