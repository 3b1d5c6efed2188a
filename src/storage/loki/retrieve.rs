//! Points, page by page.
//!
//! Heads tell exactly where the entries of a page stand, as long as they can
//! answer the filters. Otherwise, and for what the reference wrote, Loki counts
//! the points of each period, and the periods of the page are read.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
};

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use super::{
    LokiStorage, line, logql,
    question::Question,
    read::{Found, Sums},
    slices::Slice,
    streams::Span,
    view::View,
};
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
type Points = Vec<(Period, String, DataPoint)>;

/// Where the points of a head stand.
struct HeadSpan {
    stream: i64,
    frame_type: String,
    /// Begin of the period.
    begin: i64,
    /// Entries of the stream and period before the first one.
    offset: i64,
    /// How many.
    points: i64,
}

/// A part of a period: how many points to leave out, and how many to take.
#[derive(Clone, Copy)]
struct Part {
    period: Period,
    skip: u64,
    take: u64,
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
        let mut own = Vec::with_capacity(spans.len());
        for spans in &spans {
            own.push(self.points_of_spans(&view, spans).await?);
        }
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

    /// The points of heads of one period, in their order.
    async fn points_of_spans(
        &self,
        view: &View,
        spans: &[HeadSpan],
    ) -> Result<Points, StorageError> {
        let streams: HashMap<i64, _> = view.streams.iter().map(|s| (s.id, s)).collect();
        // Entries that stand together are read together; of many streams, all
        // at once.
        let mut ranges: Vec<(&str, Span)> = Vec::new();
        let mut places = Vec::new();
        for span in spans {
            let Some(stream) = streams.get(&span.stream) else {
                return Err(StorageError::Changed);
            };
            let from = stream.start_ns(span.begin) + span.offset;
            let to = from + span.points;
            places.push((stream.label.as_str(), (from, to), span));
            match ranges.last_mut() {
                Some((label, (_, end))) if *label == stream.label && *end == from => *end = to,
                _ => ranges.push((&stream.label, (from, to))),
            }
        }
        let mut found: HashMap<(String, i64), (String, DataPoint)> = HashMap::new();
        for batch in ranges.chunks(if ranges.len() > MANY { STREAMS_AT_ONCE } else { 1 }) {
            let names: Vec<String> = {
                let mut names: Vec<_> =
                    batch.iter().map(|(label, _)| (*label).to_owned()).collect();
                names.sort_unstable();
                names.dedup();
                names
            };
            let from = batch.iter().map(|(_, (from, _))| *from).min().unwrap_or_default();
            let to = batch.iter().map(|(_, (_, to))| *to).max().unwrap_or_default();
            let selector = logql::own_streams(&self.common, &names);
            let wanted: HashMap<&str, Vec<Span>> =
                batch.iter().fold(HashMap::new(), |mut wanted, (label, span)| {
                    wanted.entry(*label).or_insert_with(Vec::new).push(*span);
                    wanted
                });
            self.read_entries(&selector, "", (from, to), &mut |timestamp, labels, text| {
                let label = labels.get(logql::STREAM_LABEL).map_or("", String::as_str);
                let spans = wanted.get(label).map_or(&[][..], Vec::as_slice);
                if spans.iter().any(|(from, to)| (*from..*to).contains(&timestamp))
                    && let Some((_, frame_type, point)) = line::read(text)
                {
                    found.insert((label.to_owned(), timestamp), (frame_type, point));
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        }
        let mut points = Points::new();
        let stored = spans.iter().map(|span| u64::try_from(span.points).unwrap_or(0)).sum();
        for (label, (from, to), span) in places {
            let length = streams.get(&span.stream).map_or(0, |stream| stream.period_seconds);
            let period = Period { begin: seconds(span.begin), end: seconds(span.begin + length) };
            for timestamp in from..to {
                match found.remove(&(label.to_owned(), timestamp)) {
                    Some((frame_type, point)) if frame_type == span.frame_type => {
                        points.push((period, frame_type, point));
                    }
                    _ => {
                        let shown = points.len() as u64;
                        return Err(StorageError::NotShown { shown, stored });
                    }
                }
            }
        }
        Ok(points)
    }

    /// Parts of periods, by looking at every line that the filters let pass.
    async fn points_by_lines(
        &self,
        question: &Question<'_>,
        view: &View,
        parts: &[Part],
    ) -> Result<Vec<Points>, StorageError> {
        let mut pages = Vec::new();
        for part in parts {
            let begin = part.period.begin.timestamp();
            let view = view.narrowed((begin, begin + 1));
            let (even, uneven) = view.slices(true, self.shard());
            let log_question = question.is_plain().then(|| question.in_logql());
            let mut found: Vec<Found> = Vec::new();
            for (slice, is_even) in
                even.iter().map(|s| (s, true)).chain(uneven.iter().map(|s| (s, false)))
            {
                let log_question = log_question.as_ref().filter(|_| is_even);
                self.collect(log_question, question, part, slice, &|_, _| true, &mut found).await?;
            }
            pages.push(take_part(found, part)?);
        }
        Ok(pages)
    }

    async fn points_of_reference(
        &self,
        selection: &Selection,
        question: &Question<'_>,
        view: &View,
        parts: &[Part],
        everywhere: bool,
    ) -> Result<Vec<Points>, StorageError> {
        let mut pages = Vec::new();
        for part in parts {
            // They stand at the begin of their period, unless something else
            // than the reference pushed them.
            let narrow = Selection {
                begin: part.period.begin,
                end: seconds(part.period.begin.timestamp() + 1),
                filters: selection.filters.clone(),
            };
            let narrow = if everywhere { selection.clone() } else { narrow };
            let (clear, mixed) = self.reference_slices(&narrow, view).await?;
            let log_question = question.is_plain().then(|| question.in_logql());
            let counts =
                |timestamp: i64, point: &DataPoint| !self.is_hidden(view, timestamp, point);
            let mut found: Vec<Found> = Vec::new();
            for slice in clear.iter().chain(&mixed) {
                let log_question = log_question.as_ref();
                self.collect(log_question, question, part, slice, &counts, &mut found).await?;
            }
            pages.push(take_part(found, part)?);
        }
        Ok(pages)
    }

    /// Adds the points of a slice that are of a part's period.
    async fn collect(
        &self,
        log_question: Option<&super::question::LogQuestion>,
        question: &Question<'_>,
        part: &Part,
        slice: &Slice,
        counts: &(dyn Fn(i64, &DataPoint) -> bool + Sync),
        found: &mut Vec<Found>,
    ) -> Result<(), StorageError> {
        let enough = part.skip.saturating_add(part.take);
        let mut here = 0;
        self.read_points(log_question, slice, &mut |point: Found| {
            let (timestamp, period, frame_type, data) = &point;
            if *period == part.period
                && counts(*timestamp, data)
                && question.group(*period, frame_type, data).is_some()
            {
                found.push(point);
                here += 1;
            }
            // Of each slice, no more can be on the page.
            Ok(if here < enough { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .await
    }
}

/// How often a page is read when it changes meanwhile.
const TRIES: usize = 3;
/// From how many ranges on they are read together.
const MANY: usize = 8;
/// How many of them.
const STREAMS_AT_ONCE: usize = 1_000;

/// The page's share of what was found in a period, oldest entry first.
fn take_part(mut found: Vec<Found>, part: &Part) -> Result<Points, StorageError> {
    found.sort_by_key(|one| one.0);
    let skip = usize::try_from(part.skip).unwrap_or(usize::MAX);
    let take = usize::try_from(part.take).unwrap_or(usize::MAX);
    let points: Points = found
        .into_iter()
        .skip(skip)
        .take(take)
        .map(|(_, period, frame_type, point)| (period, frame_type, point))
        .collect();
    // They were counted a moment before.
    if points.len() < take { Err(StorageError::Changed) } else { Ok(points) }
}

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
                    parts.push(Part { period, skip, take });
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
