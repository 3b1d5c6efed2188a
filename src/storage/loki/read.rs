//! Reading: sums and lines out of Loki, checked against what the state database
//! knows to be there.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt, TryStreamExt, stream};
use tracing::debug;

use super::{
    LokiError, LokiStorage,
    error::QueryLimit,
    line,
    logql::{self, Extracted, Measure},
    question::{LogQuestion, Question},
    slices::{Slice, Source},
    streams::{SECOND, Span},
    view::View,
};
use crate::{
    dataframe::DataPoint,
    decimal::Decimal,
    storage::{GroupKey, Page, Selection, StorageError, Totals, groups::Groups, heads::HeadQuery},
    time::Period,
};

/// How often a read begins again when what it read was written meanwhile.
const TRIES: usize = 4;

/// Entries that are rather read than summed up by Loki in many parts.
const FEW: u64 = 50_000;

/// 2024-01-01: the reference had no storage in Loki before.
const FIRST_OF_REFERENCE: i64 = 1_704_067_200;

/// A point, as a line tells it, with the instant of the entry.
pub(super) type Found = (i64, Period, String, DataPoint);

/// What sums are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sums {
    /// Quantities and prices.
    Costs,
    /// How many points; they stand in the place of quantities.
    Counts,
}

impl LokiStorage {
    /// Longest time of one query, in seconds: as configured, or what Loki
    /// turned out to take.
    pub(super) fn shard(&self) -> i64 {
        self.longest_query.load(Ordering::Relaxed)
    }

    /// Notes that a time was too long for Loki, if that was the limit.
    pub(super) fn learn_time(&self, limit: QueryLimit, (from, to): Span) {
        if limit == QueryLimit::Time {
            let half = ((to - from) / SECOND / 2).max(1);
            self.longest_query.fetch_min(half, Ordering::Relaxed);
        }
    }

    pub(super) async fn sum(
        &self,
        selection: &Selection,
        groupby: &[GroupKey],
        page: Page,
    ) -> Result<Totals, StorageError> {
        let time_at = groupby.iter().position(|key| *key == GroupKey::Time);
        if selection.begin >= selection.end {
            return Ok(Groups::default().page(time_at, page, None));
        }
        let question = Question::new(selection, groupby);
        let heads = HeadQuery::new(&self.store, selection, &self.scope_key);
        let keys: Vec<&GroupKey> = groupby.iter().filter(|key| **key != GroupKey::Time).collect();
        let (mut groups, view) = {
            let snapshot = self.database.snapshot().await?;
            let groups = match heads.heads_sum(&keys, &self.scope_key) {
                true => heads.sum(&snapshot, &self.scope_key, &keys, time_at.is_some()).await?,
                false => None,
            };
            (groups, View::load(&snapshot, &self.store, &self.scope_key, selection).await?)
        };
        let (mut all, view) = match groups.take() {
            Some(groups) => (groups, view),
            None => self.sum_own(selection, &question, Sums::Costs, view).await?,
        };
        all.merge(self.sum_reference(selection, &question, Sums::Costs, &view).await?);
        let mark = Some(view.mark).filter(|_| self.is_marked());
        Ok(all.page(time_at, page, mark))
    }

    /// What counts now.
    pub(super) async fn view(&self, selection: &Selection) -> Result<View, StorageError> {
        let snapshot = self.database.snapshot().await?;
        View::load(&snapshot, &self.store, &self.scope_key, selection).await
    }

    /// Sums over streams of ours, of all that the view knows, or, if it was
    /// overtaken, a later one, which is given back.
    pub(super) async fn sum_own(
        &self,
        selection: &Selection,
        question: &Question<'_>,
        sums: Sums,
        mut view: View,
    ) -> Result<(Groups, View), StorageError> {
        for attempt in 1..=TRIES {
            let cautious = attempt > 1;
            let (even, uneven) = view.slices(cautious, self.shard());
            let log_question = question.is_plain().then(|| question.in_logql());
            // Before and after: entries may come into sight, or out of it.
            let all: Vec<Slice> = even.iter().chain(&uneven).cloned().collect();
            let mut shown = self.count(all.clone()).await?;
            let mut groups = Groups::default();
            if shown == view.points {
                let told = self.sum_slices(question, log_question.as_ref(), sums, even);
                // Labels of these are beyond Loki's expressions.
                let rest = self.sum_slices(question, None, sums, uneven);
                let (told, rest) = tokio::try_join!(told, rest)?;
                groups.merge(told);
                groups.merge(rest);
                shown = self.count(all).await?;
            }
            if shown == view.points && cautious {
                return Ok((groups, view));
            }
            let later = self.view(selection).await?;
            if shown == view.points && !view.was_overtaken(&later) {
                return Ok((groups, view));
            }
            if attempt == TRIES || (cautious && !view.was_overtaken(&later)) {
                return Err(not_shown(&view, shown));
            }
            debug!("{shown} of {} points were shown; reading again", view.points);
            view = later;
        }
        Err(not_shown(&view, 0))
    }

    /// How many entries slices have, whatever they are.
    async fn count(&self, slices: Vec<Slice>) -> Result<u64, StorageError> {
        let question = LogQuestion::nothing();
        let counts = stream::iter(slices)
            .map(|slice| self.count_slice(slice, &question))
            .buffer_unordered(self.queries_at_once);
        counts.try_fold(0, |sum, count| async move { Ok(sum + count) }).await
    }

    async fn count_slice(&self, slice: Slice, question: &LogQuestion) -> Result<u64, StorageError> {
        let (whole, rest) = slice.whole_seconds();
        let mut sum = 0;
        let mut todo: Vec<Slice> = whole.into_iter().collect();
        while let Some(slice) = todo.pop() {
            let (query, time) = slice.query(Measure::Count, &self.common, question);
            match self.client.query(&query, time).await {
                Ok(samples) => {
                    for sample in samples {
                        let count: f64 = sample.value.1.parse().unwrap_or(-1.0);
                        if count < 0.0 {
                            let text = sample.value.1;
                            return Err(StorageError::Damaged(format!("Loki counts `{text}`")));
                        }
                        sum += count as u64;
                    }
                }
                Err(LokiError::Limit { limit, query, message }) => {
                    self.learn_time(limit, slice.span);
                    match slice.split(limit, question) {
                        Some(halves) => todo.extend(halves),
                        None => return Err(LokiError::Limit { limit, query, message }.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        for slice in rest {
            let selector = slice.selector(&self.common);
            self.read_entries(&selector, "", slice.span, &mut |_, _, _| {
                sum += 1;
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        }
        Ok(sum)
    }

    /// Sums over slices; without a question in LogQL, line by line.
    async fn sum_slices(
        &self,
        question: &Question<'_>,
        log_question: Option<&LogQuestion>,
        sums: Sums,
        slices: Vec<Slice>,
    ) -> Result<Groups, StorageError> {
        let parts = stream::iter(slices)
            .map(|slice| async move {
                match log_question {
                    Some(log_question) => self.sum_slice(question, log_question, sums, slice).await,
                    None => self.sum_lines(question, None, sums, &slice, &|_, _| true).await,
                }
            })
            .buffer_unordered(self.queries_at_once);
        parts
            .try_fold(Groups::default(), |mut all, part| async move {
                all.merge(part);
                Ok(all)
            })
            .await
    }

    async fn sum_slice(
        &self,
        question: &Question<'_>,
        log_question: &LogQuestion,
        sums: Sums,
        slice: Slice,
    ) -> Result<Groups, StorageError> {
        let mut groups = Groups::default();
        let mut todo = vec![slice];
        while let Some(slice) = todo.pop() {
            match self.ask_sums(log_question, sums, &slice).await {
                Ok(part) => groups.merge(part),
                Err(StorageError::Loki(LokiError::Limit { limit, message, .. })) => {
                    debug!("Parting a query that Loki refused: {message}");
                    self.learn_time(limit, slice.span);
                    // Few lines are read sooner than summed up in many parts.
                    let is_read = limit == QueryLimit::Series
                        && slice.has_all_values()
                        && self.count_slice(slice.clone(), &LogQuestion::nothing()).await? <= FEW;
                    match slice.split(limit, log_question).filter(|_| !is_read) {
                        Some(halves) => todo.extend(halves),
                        None => {
                            let all = |_: i64, _: &DataPoint| true;
                            let log_question = Some(log_question);
                            let sums =
                                self.sum_lines(question, log_question, sums, &slice, &all).await?;
                            groups.merge(sums);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    }

    /// Lets Loki compute the sums of a slice.
    async fn ask_sums(
        &self,
        question: &LogQuestion,
        sums: Sums,
        slice: &Slice,
    ) -> Result<Groups, StorageError> {
        let ask = |measure| {
            let (query, time) = slice.query(measure, &self.common, question);
            async move { self.client.query(&query, time).await }
        };
        let mut groups = Groups::default();
        let number = |text: &str| -> Result<Decimal, StorageError> {
            let value = text.parse().ok().and_then(|value| Decimal::from_f64(value).ok());
            value.ok_or_else(|| StorageError::Damaged(format!("Loki sums up to `{text}`")))
        };
        let mut add = |measure, samples: Vec<super::client::Sample>| -> Result<(), StorageError> {
            for sample in samples {
                let Some((period, values)) = question.group(&sample.metric) else { continue };
                let value = number(&sample.value.1)?;
                let zero = Decimal::zero();
                let pair = if measure == Measure::Price { (zero, value) } else { (value, zero) };
                groups.add(period, values, pair);
            }
            Ok(())
        };
        match sums {
            Sums::Counts => add(Measure::Count, ask(Measure::Count).await?)?,
            Sums::Costs => {
                // Not at once: what is too large is refused by the first one.
                add(Measure::Qty, ask(Measure::Qty).await?)?;
                add(Measure::Price, ask(Measure::Price).await?)?;
            }
        }
        Ok(groups)
    }

    /// Sums up a slice line by line, of the entries that `counts` lets pass.
    async fn sum_lines(
        &self,
        question: &Question<'_>,
        log_question: Option<&LogQuestion>,
        sums: Sums,
        slice: &Slice,
        counts: &(dyn Fn(i64, &DataPoint) -> bool + Sync),
    ) -> Result<Groups, StorageError> {
        let mut groups = Groups::default();
        self.read_points(log_question, slice, &mut |(timestamp, period, frame_type, point)| {
            if counts(timestamp, &point)
                && let Some((period, values)) = question.group(period, &frame_type, &point)
            {
                let sums = match sums {
                    Sums::Costs => (point.qty, point.price),
                    Sums::Counts => (Decimal::one(), Decimal::zero()),
                };
                groups.add(period, values, sums);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(groups)
    }

    /// Reads the points of a slice, oldest entry first.
    pub(super) async fn read_points(
        &self,
        question: Option<&LogQuestion>,
        slice: &Slice,
        each: &mut (dyn FnMut(Found) -> Result<ControlFlow<()>, StorageError> + Send),
    ) -> Result<(), StorageError> {
        let selector = slice.selector(&self.common);
        let stages = question.map(|question| {
            let stages = slice.stages(question);
            if stages.is_empty() {
                stages
            } else {
                format!("{}{stages}", question.extracted.stage())
            }
        });
        self.read_entries(
            &selector,
            &stages.unwrap_or_default(),
            slice.span,
            &mut |timestamp, _, text| {
                match line::read(text) {
                    Some((period, frame_type, point)) => {
                        each((timestamp, period, frame_type, point))
                    }
                    // Not a point: something else writes into these streams.
                    None => Ok(ControlFlow::Continue(())),
                }
            },
        )
        .await
    }

    /// Sums over what the reference wrote, of all that the view does not hide.
    pub(super) async fn sum_reference(
        &self,
        selection: &Selection,
        question: &Question<'_>,
        sums: Sums,
        view: &View,
    ) -> Result<Groups, StorageError> {
        let mut groups = Groups::default();
        let (clear, mixed) = self.reference_slices(selection, view).await?;
        let log_question = question.is_plain().then(|| question.in_logql());
        groups.merge(self.sum_slices(question, log_question.as_ref(), sums, clear).await?);
        let counts = |timestamp: i64, point: &DataPoint| !self.is_hidden(view, timestamp, point);
        for slice in &mixed {
            let log_question = log_question.as_ref();
            groups.merge(self.sum_lines(question, log_question, sums, slice, &counts).await?);
        }
        Ok(groups)
    }

    /// Counts what the reference wrote, line by line.
    pub(super) async fn count_reference_lines(
        &self,
        selection: &Selection,
        question: &Question<'_>,
        view: &View,
    ) -> Result<Groups, StorageError> {
        let mut groups = Groups::default();
        let (clear, mixed) = self.reference_slices(selection, view).await?;
        let counts = |timestamp: i64, point: &DataPoint| !self.is_hidden(view, timestamp, point);
        for slice in clear.iter().chain(&mixed) {
            groups.merge(self.sum_lines(question, None, Sums::Counts, slice, &counts).await?);
        }
        Ok(groups)
    }

    /// Whether an entry of the reference does not count.
    pub(super) fn is_hidden(&self, view: &View, timestamp: i64, point: &DataPoint) -> bool {
        view.hides(timestamp, |scope_key| {
            point.label(scope_key).map(crate::dataframe::python_str).unwrap_or_default()
        })
    }

    /// The times in which the reference wrote: those before this program
    /// decided about anything, and those in which each entry has to be looked
    /// at.
    pub(super) async fn reference_slices(
        &self,
        selection: &Selection,
        view: &View,
    ) -> Result<(Vec<Slice>, Vec<Slice>), StorageError> {
        if !self.read_cloudkitty_entries {
            return Ok((Vec::new(), Vec::new()));
        }
        let begin = selection.begin.timestamp().max(FIRST_OF_REFERENCE).saturating_mul(SECOND);
        // Of the days to come there is nothing.
        let tomorrow = self.clock.now().timestamp() + 86_400;
        let end = selection.end.timestamp().min(tomorrow).saturating_mul(SECOND).max(begin);
        let project = selection.filters.iter().find_map(|(key, values)| match values.as_slice() {
            [project] if key == "project_id" && !project.is_empty() => Some(project.as_str()),
            _ => None,
        });
        let selector = logql::reference_streams(&self.common, project);
        let border = view.hidden_from().clamp(begin, end);
        let slices =
            |span| Slice::new(Source::Reference(selector.clone()), span).pieces(self.shard());
        let mut mixed = Vec::new();
        for slice in slices((border, end)) {
            // Mostly nothing: the reference has gone when we began.
            if self.count(vec![slice.clone()]).await? > 0 {
                mixed.push(slice);
            }
        }
        Ok((slices((begin, border)), mixed))
    }
}

fn not_shown(view: &View, shown: u64) -> StorageError {
    let stored = view.points;
    if shown > stored {
        StorageError::TooMany { shown, stored }
    } else {
        StorageError::NotShown { shown, stored }
    }
}

/// How many entries one query may ask for: as configured, or as few as Loki
/// turned out to give.
#[derive(Debug)]
pub(super) struct EntryLimit(AtomicUsize);

impl EntryLimit {
    pub(super) fn new(limit: usize) -> Self {
        Self(AtomicUsize::new(limit))
    }

    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn lower(&self, limit: usize) {
        self.0.fetch_min(limit.max(1), Ordering::Relaxed);
    }

    /// Lowers the limit to what a refusal says; whether that changes anything.
    pub(super) fn learn(&self, message: &str) -> bool {
        // `... (5001 > 5000)`
        let said = message.rsplit_once("> ").map(|(_, end)| end);
        let said = said.map(|end| end.chars().take_while(char::is_ascii_digit).collect::<String>());
        match said.and_then(|digits| digits.parse::<usize>().ok()) {
            Some(limit) if limit > 0 && limit < self.get() => {
                self.0.store(limit, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }
}

impl LogQuestion {
    /// The question that everything passes.
    fn nothing() -> Self {
        Self::parting(Extracted::default(), Vec::new())
    }
}
