//! The points of a page, once it is known where they are.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
};

use super::{
    LokiStorage, line, logql,
    question::{LogQuestion, Question},
    read::Found,
    retrieve::{HeadSpan, Part, Points},
    slices::Slice,
    streams::{Span, Stream},
    view::View,
};
use crate::{
    dataframe::DataPoint,
    storage::{Selection, StorageError},
    time::{Period, seconds},
};

/// Up to how many streams are read one by one, each over all its periods.
const FEW_STREAMS: usize = 8;
/// How many others are read at a time, period by period.
const STREAMS_AT_ONCE: usize = 1_000;

/// Entries of a stream that stand together.
#[derive(Clone, Copy)]
struct Range<'a> {
    stream: &'a Stream,
    span: Span,
}

/// Points by stream and instant.
type ByPlace = HashMap<i64, BTreeMap<i64, (String, DataPoint)>>;

impl LokiStorage {
    /// The points of heads, which are given by part of the page.
    pub(super) async fn points_of_spans(
        &self,
        view: &View,
        parts: &[Vec<HeadSpan>],
    ) -> Result<Vec<Points>, StorageError> {
        let streams: HashMap<i64, &Stream> = view.streams.iter().map(|s| (s.id, s)).collect();
        let mut ranges = Vec::new();
        for span in parts.iter().flatten() {
            let stream = *streams.get(&span.stream).ok_or(StorageError::Changed)?;
            let from = stream.start_ns(span.begin) + span.offset;
            ranges.push(Range { stream, span: (from, from + span.points) });
        }
        let mut found = self.entries_of_ranges(&ranges).await?;
        let stored = ranges.iter().map(|range| range.span.1 - range.span.0).sum::<i64>();
        let mut shown = 0;
        let mut pages = Vec::with_capacity(parts.len());
        let mut ranges = ranges.iter();
        for spans in parts {
            let mut points = Points::new();
            for (span, Range { stream, span: (from, to) }) in spans.iter().zip(ranges.by_ref()) {
                let end = seconds(span.begin + stream.period_seconds);
                let period = Period { begin: seconds(span.begin), end };
                for timestamp in *from..*to {
                    let entry = found.get_mut(&stream.id).and_then(|e| e.remove(&timestamp));
                    match entry.filter(|(frame_type, _)| *frame_type == span.frame_type) {
                        Some((frame_type, point)) => points.push((period, frame_type, point)),
                        None => {
                            let stored = u64::try_from(stored).unwrap_or_default();
                            return Err(StorageError::NotShown { shown, stored });
                        }
                    }
                    shown += 1;
                }
            }
            pages.push(points);
        }
        Ok(pages)
    }

    /// Reads the entries of ranges. Of few streams, each over its whole time;
    /// of many, all at once, second by second.
    async fn entries_of_ranges(&self, ranges: &[Range<'_>]) -> Result<ByPlace, StorageError> {
        let mut found = ByPlace::new();
        let streams: HashSet<i64> = ranges.iter().map(|range| range.stream.id).collect();
        let mut batches: BTreeMap<(i64, i64), Vec<Range<'_>>> = BTreeMap::new();
        for range in ranges {
            let key = match streams.len() <= FEW_STREAMS {
                true => (range.stream.id, 0),
                false => (0, range.span.0.div_euclid(super::streams::SECOND)),
            };
            batches.entry(key).or_default().push(*range);
        }
        for batch in batches.values().flat_map(|batch| batch.chunks(STREAMS_AT_ONCE)) {
            let names: HashSet<&str> = batch.iter().map(|r| r.stream.label.as_str()).collect();
            let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            names.sort_unstable();
            let ids: HashMap<&str, i64> =
                batch.iter().map(|r| (r.stream.label.as_str(), r.stream.id)).collect();
            let from = batch.iter().map(|range| range.span.0).min().unwrap_or_default();
            let to = batch.iter().map(|range| range.span.1).max().unwrap_or_default();
            let mut wanted: HashMap<i64, Vec<Span>> = HashMap::new();
            for range in batch {
                wanted.entry(range.stream.id).or_default().push(range.span);
            }
            wanted.values_mut().for_each(|spans| spans.sort_unstable());
            let selector = logql::own_streams(&self.common, &names);
            self.read_entries(&selector, "", (from, to), &mut |timestamp, labels, text| {
                let label = labels.get(logql::STREAM_LABEL).map_or("", String::as_str);
                let Some(id) = ids.get(label) else { return Ok(ControlFlow::Continue(())) };
                let spans = wanted.get(id).map_or(&[][..], Vec::as_slice);
                let at = spans.partition_point(|(_, to)| *to <= timestamp);
                if spans.get(at).is_some_and(|(from, _)| *from <= timestamp)
                    && let Some((_, frame_type, point)) = line::read(text)
                {
                    let found = found.entry(*id).or_default();
                    if found.insert(timestamp, (frame_type, point)).is_some() {
                        // Two entries in one place: of two lives of the state.
                        let stored = found.len() as u64;
                        return Err(StorageError::TooMany { shown: stored + 1, stored });
                    }
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        }
        Ok(found)
    }

    /// Parts of periods of streams of ours, by looking at every line that the
    /// filters let pass.
    pub(super) async fn points_by_lines(
        &self,
        question: &Question<'_>,
        view: &View,
        parts: &[Part],
    ) -> Result<Vec<Points>, StorageError> {
        let log_question = question.is_plain().then(|| question.in_logql());
        let mut pages = Vec::new();
        for run in runs(parts) {
            let view = view.narrowed(window(run));
            let (even, uneven) = view.slices(true, self.shard());
            let mut found = FoundByPeriod::new();
            for slice in &even {
                let log_question = log_question.as_ref();
                self.collect(log_question, question, run, slice, &|_, _| true, &mut found).await?;
            }
            for slice in &uneven {
                self.collect(None, question, run, slice, &|_, _| true, &mut found).await?;
            }
            take_parts(found, run, &mut pages)?;
        }
        Ok(pages)
    }

    /// Parts of periods of what the reference wrote. `everywhere` looks for
    /// them in the whole selection: entries stand at the begin of their period,
    /// unless something else than the reference pushed them.
    pub(super) async fn points_of_reference(
        &self,
        selection: &Selection,
        question: &Question<'_>,
        view: &View,
        parts: &[Part],
        everywhere: bool,
    ) -> Result<Vec<Points>, StorageError> {
        let log_question = question.is_plain().then(|| question.in_logql());
        let counts = |timestamp: i64, point: &DataPoint| !self.is_hidden(view, timestamp, point);
        let mut pages = Vec::new();
        for run in runs(parts) {
            let (begin, end) = window(run);
            let (begin, end) = (seconds(begin), seconds(end));
            let narrow = Selection { begin, end, filters: selection.filters.clone() };
            let narrow = if everywhere { selection } else { &narrow };
            let (clear, mixed) = self.reference_slices(narrow, view).await?;
            let mut found = FoundByPeriod::new();
            for slice in clear.iter().chain(&mixed) {
                let log_question = log_question.as_ref();
                self.collect(log_question, question, run, slice, &counts, &mut found).await?;
            }
            take_parts(found, run, &mut pages)?;
        }
        Ok(pages)
    }

    /// Adds the points of a slice that are of the periods of a run.
    async fn collect(
        &self,
        log_question: Option<&LogQuestion>,
        question: &Question<'_>,
        run: &[Part],
        slice: &Slice,
        counts: &(dyn Fn(i64, &DataPoint) -> bool + Sync),
        found: &mut FoundByPeriod,
    ) -> Result<(), StorageError> {
        let enough: u64 =
            run.iter().fold(0, |sum, part| sum.saturating_add(part.skip).saturating_add(part.take));
        let periods: HashSet<Period> = run.iter().map(|part| part.period).collect();
        let mut here = 0;
        self.read_points(log_question, slice, &mut |point: Found| {
            let (timestamp, period, frame_type, data) = &point;
            if periods.contains(period)
                && counts(*timestamp, data)
                && question.group(*period, frame_type, data).is_some()
            {
                found.entry(*period).or_default().push(point);
                here += 1;
            }
            // Of each slice, no more can be on the page.
            Ok(if here < enough { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .await
    }
}

/// What was found of each period.
type FoundByPeriod = HashMap<Period, Vec<Found>>;

/// Parts that can be read in one go: whole periods, one after the other.
fn runs(parts: &[Part]) -> impl Iterator<Item = &[Part]> {
    parts.chunk_by(|one, next| one.is_whole && next.is_whole)
}

/// The time in which the periods of a run begin, in seconds.
fn window(run: &[Part]) -> (i64, i64) {
    let begins = run.iter().map(|part| part.period.begin.timestamp());
    let first = begins.clone().min().unwrap_or_default();
    (first, begins.max().unwrap_or_default() + 1)
}

/// The page's share of what was found of each period, oldest entry first.
fn take_parts(
    mut found: FoundByPeriod,
    run: &[Part],
    pages: &mut Vec<Points>,
) -> Result<(), StorageError> {
    for part in run {
        let mut found = found.remove(&part.period).unwrap_or_default();
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
        if points.len() < take {
            return Err(StorageError::Changed);
        }
        pages.push(points);
    }
    Ok(())
}
