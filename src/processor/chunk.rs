//! Many scopes and periods at a time, which is how a month of a cloud takes seconds.
//!
//! Scopes that stand at the same period are taken in chunks: they are locked, and
//! what all of them used in some periods is asked for by one question per metric.
//! Then each is rated by itself, and some thousand points at a time are stored,
//! with the scopes' states, in one transaction. While one worker waits for an
//! answer, others rate and store.
//!
//! The number of questions depends on the number of points and of chunks, and
//! these are [`CHUNKS`] however many scopes there are. How many scopes and periods
//! go into one question follows from how many points the last ones had, and from
//! how long they took ([`Pace`]).
//!
//! A chunk is the fast way, and the plain one ([`super::period`]) decides: a scope
//! with which anything is the matter leaves its chunk and is rated by itself, with
//! questions of its own, and errors are told of that.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{SinkExt, StreamExt, TryStreamExt, channel::mpsc, stream};
use tokio::time::Instant;
use tracing::debug;

use super::{
    Cycle, Pipeline, TRIES, TURN, Task, Waiting, pause_a_little, period::PeriodError, queue::Turn,
};
use crate::{
    collector::Usage,
    dataframe::DataFrame,
    instruments::{Work, instruments},
    lock::{Lock, LockName},
    state::{
        Step,
        scopes::{self, ScopeState},
    },
    storage::{Replacement, StorageError},
    time::{Period, Periods},
};

/// Chunks into which the scopes of a cycle are dealt, if there are as many: enough
/// for several processors to share them.
const CHUNKS: usize = 16;

/// Scopes of a chunk when there are few.
const FEW_SCOPES: usize = 8;

/// The most scopes of a chunk: each is locked while it is worked on.
const MOST_SCOPES: usize = 500;

/// Points that are asked for at once, of all metrics together, as far as it can be
/// known before. Bounds the memory of each worker.
const POINTS: f64 = 50_000.0;

/// Points that are stored at once, where those of several periods share their labels.
const STORED: usize = 8_000;

/// Points of a single period that are stored at once: each has labels of its own, which
/// are most of its memory.
const STORED_ALONE: usize = 4_000;

/// Stores of a worker on their way at the same time.
const STORES_AT_ONCE: usize = 2;

/// Scopes and periods of the first question, of which nothing is known.
const FIRST_SCOPES: usize = 32;
const FIRST_PERIODS: u32 = 4;

/// The most periods of a question. Prometheus gives 11,000 values of a series.
const MOST_PERIODS: u32 = 1_000;

/// Locks that are taken at the same time.
const LOCKS_AT_ONCE: usize = 16;

/// Scopes that stand at the same period, as far as that is known.
pub(super) struct Chunk {
    scopes: Vec<String>,
    /// Periods to ask for at once.
    periods: u32,
}

/// How much a scope uses, learned from what was asked before, and how much may be asked
/// for, learned from what was refused.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Learned>);

#[derive(Debug)]
struct Learned {
    /// Points of one scope in one period, on average; `None` before any are known.
    points: Option<f64>,
    /// Points that are asked for at once.
    most: f64,
}

impl Default for Learned {
    fn default() -> Self {
        Self { points: None, most: POINTS }
    }
}

impl Pace {
    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question about some scopes and periods was answered with so many points.
    fn learn(&self, points: usize, scopes: usize, periods: u32) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seen = points as f64 / (scopes as f64 * f64::from(periods)).max(1.0);
        let mut learned = self.learned();
        // Rather too much than too little.
        let points = learned.points.map_or(seen, |known| seen.max(0.7 * known + 0.3 * seen));
        learned.points = Some(points);
        learned.most = (learned.most * 1.1).min(POINTS);
    }

    /// A question about some scopes and periods was about too much.
    fn refused(&self, scopes: usize, periods: u32) {
        // Then it was not for being many.
        if scopes == 1 && periods == 1 {
            return;
        }
        let mut learned = self.learned();
        if let Some(points) = learned.points {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let asked = points.max(1.0) * scopes as f64 * f64::from(periods);
            learned.most = learned.most.min(asked / 2.0).max(1.0);
        }
    }

    /// How many scopes may be asked for at once.
    fn scopes(&self) -> usize {
        let Learned { points, most } = *self.learned();
        points.map_or(FIRST_SCOPES, |points| whole(most / points.max(1.0)).clamp(1, MOST_SCOPES))
    }

    /// How many periods of so many scopes may be.
    fn periods(&self, scopes: usize) -> u32 {
        let Learned { points, most } = *self.learned();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let of_all = points.map(|points| (points * scopes as f64).max(1.0));
        let periods = of_all.map_or(FIRST_PERIODS as usize, |points| whole(most / points));
        u32::try_from(periods).unwrap_or(MOST_PERIODS).clamp(1, MOST_PERIODS)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded")]
fn whole(number: f64) -> usize {
    number.clamp(0.0, 1e6) as usize
}

/// A scope that is locked, and where it stands.
struct Locked {
    scope_id: String,
    lock: Lock,
    state: Option<ScopeState>,
}

/// Scopes that are stored at once, with what they used by period.
type Group = Vec<(Locked, Vec<DataFrame>)>;

/// What becomes of the scopes of a chunk.
#[derive(Default)]
struct Left {
    /// Have more periods that are due.
    more: Vec<String>,
    /// Are to be rated by themselves.
    alone: Vec<String>,
    /// Belong into other chunks.
    apart: Vec<Vec<String>>,
    /// Periods to ask for next time.
    periods: u32,
}

/// Why a question has no answer.
enum Unanswered {
    /// It was about too much.
    TooMuch,
    /// Nobody answers.
    Outage(PeriodError),
    /// Each scope is to be asked for by itself.
    Other,
}

impl Pipeline {
    /// Deals scopes into chunks.
    pub(super) fn chunks(&self, scopes: Vec<String>) -> Vec<Chunk> {
        let workers = self.settings.scopes_at_once.max(1);
        // Few scopes are not scattered more than workers need.
        let few = scopes.len().div_ceil(2 * workers).min(FEW_SCOPES);
        let chunks = CHUNKS.max(2 * workers);
        let size = scopes.len().div_ceil(chunks).max(few).clamp(1, MOST_SCOPES);
        let mut rest = scopes.as_slice();
        let mut dealt = Vec::new();
        while !rest.is_empty() {
            let most = &rest[..size.min(rest.len())];
            let fitting = self.collector.fitting(&mut most.iter().map(String::as_str));
            let (chunk, others) = rest.split_at(fitting);
            dealt.push(Chunk { scopes: chunk.to_vec(), periods: FIRST_PERIODS });
            rest = others;
        }
        dealt
    }

    /// One turn of a chunk.
    pub(super) async fn turn_of_chunk(&self, mut chunk: Chunk, cycle: &Cycle) -> Turn<Task> {
        if cycle.stop.is_cancelled() {
            return Turn::Halt;
        }
        self.pulses.cycles.beat();
        let rest = chunk.scopes.split_off(self.pace.scopes().min(chunk.scopes.len()));
        let Some(locked) = self.lock_all(std::mem::take(&mut chunk.scopes), cycle).await else {
            return Turn::Halt;
        };
        let left = self.rate_chunk(locked, chunk.periods, cycle).await;
        if cycle.stop.is_cancelled() {
            return Turn::Halt;
        }
        let of = |scopes: Vec<String>, periods| Task::Chunk(Chunk { scopes, periods });
        let mut fresh: Vec<Task> =
            left.apart.into_iter().map(|scopes| of(scopes, left.periods)).collect();
        if !rest.is_empty() {
            fresh.push(of(rest, chunk.periods));
        }
        // They have not had what they came for.
        let alone = left.alone.into_iter();
        fresh.extend(alone.map(|scope_id| Task::Scope(Waiting { scope_id, rater: None })));
        let again = match left.more.is_empty() {
            true => Vec::new(),
            false => vec![of(left.more, left.periods)],
        };
        Turn::Left { fresh, again }
    }

    /// Locks scopes, as far as nobody else has; `None` if no locks can be had.
    async fn lock_all(&self, scopes: Vec<String>, cycle: &Cycle) -> Option<Vec<(String, Lock)>> {
        let keys = &self.keys;
        let mut taken = stream::iter(scopes)
            .map(|scope_id| async move {
                let name =
                    LockName::scope(&scope_id, &keys.collector, &keys.fetcher, &keys.scope_key);
                self.locks.try_lock(&name).await.map(|lock| (scope_id, lock))
            })
            .buffered(LOCKS_AT_ONCE);
        let mut locked = Vec::new();
        while let Some(result) = taken.next().await {
            match result {
                Ok((scope_id, Some(lock))) => locked.push((scope_id, lock)),
                Ok((scope_id, None)) => cycle.busy(&scope_id),
                Err(error) => {
                    cycle.no_locks(&error);
                    drop(taken);
                    release(locked).await;
                    return None;
                }
            }
        }
        Some(locked)
    }

    /// Rates some periods of locked scopes.
    async fn rate_chunk(&self, locked: Vec<(String, Lock)>, periods: u32, cycle: &Cycle) -> Left {
        let mut left = Left { periods, ..Left::default() };
        let names: Vec<&str> = locked.iter().map(|(scope_id, _)| scope_id.as_str()).collect();
        let mut states = match scopes::several(&self.database, &names, &self.keys).await {
            Ok(states) => states,
            Err(error) => {
                // Perhaps of one of them only.
                debug!(error = %error, "Scopes are taken one by one: {error}");
                left.alone = locked.iter().map(|(scope_id, _)| scope_id.clone()).collect();
                release(locked).await;
                return left;
            }
        };
        let (now, schedule) = (self.clock.now(), self.settings.schedule);
        let mut standing: BTreeMap<DateTime<Utc>, Vec<Locked>> = BTreeMap::new();
        let mut idle = Vec::new();
        for (scope_id, lock) in locked {
            let state = states.remove(&scope_id);
            let begin = match &state {
                Some(state) => schedule.after(state.last_processed),
                None => self.first_begin(),
            };
            // Looked at before each window, so that a deactivation holds soon.
            let is_active = state.as_ref().is_none_or(|state| state.active);
            let due = if is_active { schedule.due(begin) } else { schedule.due(now) };
            if due > now {
                cycle.done_until(due);
                idle.push((scope_id, lock));
            } else {
                standing.entry(begin).or_default().push(Locked { scope_id, lock, state });
            }
        }
        release(idle).await;
        // Where most of them stand; the others go their own way.
        let most = standing.iter().max_by_key(|(_, scopes)| scopes.len()).map(|(begin, _)| *begin);
        let Some((begin, scopes)) = most.and_then(|begin| standing.remove_entry(&begin)) else {
            return left;
        };
        for others in standing.into_values() {
            left.apart.push(others.iter().map(|scope| scope.scope_id.clone()).collect());
            release(others.into_iter().map(|scope| (scope.scope_id, scope.lock))).await;
        }
        let before = begin - chrono::TimeDelta::seconds(schedule.period.into());
        let due = u32::try_from(schedule.backlog(before, now)).unwrap_or(u32::MAX).max(1);
        let count = periods.min(due).min(self.pace.periods(scopes.len()));
        let window = Periods { begin, seconds: schedule.period, count };
        self.rate_window(scopes, window, &mut left, cycle).await;
        left
    }

    async fn rate_window(
        &self,
        scopes: Vec<Locked>,
        window: Periods,
        left: &mut Left,
        cycle: &Cycle,
    ) {
        let begun = Instant::now();
        let names = |scopes: &[Locked]| -> Vec<String> {
            scopes.iter().map(|scope| scope.scope_id.clone()).collect()
        };
        let usages = match self.collect_many(&scopes, window).await {
            Ok(usages) => usages,
            Err(unanswered) => {
                if matches!(unanswered, Unanswered::TooMuch) {
                    self.pace.refused(scopes.len(), window.count);
                }
                let names = names(&scopes);
                release(scopes.into_iter().map(|scope| (scope.scope_id, scope.lock))).await;
                match unanswered {
                    Unanswered::TooMuch if window.count > 1 => {
                        left.periods = window.count / 2;
                        left.more = names;
                    }
                    Unanswered::TooMuch if names.len() > 1 => {
                        left.periods = 1;
                        let (one, other) = names.split_at(names.len() / 2);
                        left.apart.extend([one.to_vec(), other.to_vec()]);
                    }
                    Unanswered::TooMuch | Unanswered::Other => left.alone = names,
                    Unanswered::Outage(error) => {
                        cycle.failed(&names, Some(window.begin), &error);
                    }
                }
                return;
            }
        };
        let points = usages.iter().flatten().map(Usage::len).sum();
        self.pace.learn(points, scopes.len(), window.count);
        // While some are stored, which is waiting for others, the next ones are rated.
        let (rated, groups) = mpsc::channel(0);
        let rate = self.rate_groups(scopes, window, &usages, rated, cycle);
        let store = groups
            .map(|group| self.store(group, window, cycle))
            .buffer_unordered(STORES_AT_ONCE)
            .collect::<Vec<_>>();
        let (alone, stored) = tokio::join!(rate, store);
        left.alone.extend(alone);
        for stored in stored {
            left.more.extend(stored.more);
            left.alone.extend(stored.alone);
        }
        left.periods = next_window(window.count, begun.elapsed());
    }

    /// Rates scopes and hands them on, in groups that are stored at once. Gives those
    /// that could not be rated.
    async fn rate_groups(
        &self,
        scopes: Vec<Locked>,
        window: Periods,
        usages: &[Option<Usage>],
        mut rated: mpsc::Sender<Group>,
        cycle: &Cycle,
    ) -> Vec<String> {
        let (mut group, mut grouped, mut alone) = (Group::new(), 0, Vec::new());
        let most = if window.count == 1 { STORED_ALONE } else { STORED };
        let mut scopes = scopes.into_iter();
        while let Some(scope) = scopes.next() {
            if cycle.stop.is_cancelled() {
                release(scopes.map(|scope| (scope.scope_id, scope.lock))).await;
                break;
            }
            match self.rate_many(&scope.scope_id, window, usages).await {
                Ok(frames) => {
                    // At least one, so that empty periods come to be stored, too.
                    grouped += frames.iter().map(|frame| frame.len().max(1)).sum::<usize>();
                    group.push((scope, frames));
                }
                Err(error) => {
                    debug!(error = %error, "Scope `{}` leaves its chunk: {error}", scope.scope_id);
                    alone.push(scope.scope_id);
                    scope.lock.release().await;
                }
            }
            if grouped >= most {
                // Whoever takes them is there as long as this is.
                let _ = rated.send(std::mem::take(&mut group)).await;
                grouped = 0;
            }
        }
        let _ = rated.send(group).await;
        alone
    }

    /// What scopes used, by metric; `None` for a metric that has to be asked for scope
    /// by scope.
    async fn collect_many(
        &self,
        scopes: &[Locked],
        window: Periods,
    ) -> Result<Vec<Option<Usage>>, Unanswered> {
        let names: Vec<&str> = scopes.iter().map(|scope| scope.scope_id.as_str()).collect();
        let (names, limit) = (&names, self.settings.collect_timeout);
        let usages: Vec<Option<Usage>> = stream::iter(self.metrics.iter().cloned())
            .map(|(metric, _)| async move {
                let collect = self.collector.collect_many(&metric, names, window);
                match tokio::time::timeout(limit, collect).await {
                    Err(_) => Err(Unanswered::TooMuch),
                    Ok(Err(error)) if error.asks_for_less() => {
                        debug!(error = %error, "Asking for less: {error}");
                        Err(Unanswered::TooMuch)
                    }
                    Ok(Err(error)) if error.is_outage() => Err(Unanswered::Outage(error.into())),
                    Ok(Err(error)) => {
                        debug!(error = %error, "Scopes are asked for one by one: {error}");
                        Err(Unanswered::Other)
                    }
                    Ok(Ok(usage)) => Ok(usage),
                }
            })
            .buffered(self.settings.metrics_at_once)
            .try_collect()
            .await?;
        // Then there is nothing to gain.
        match usages.iter().all(Option::is_none) {
            true => Err(Unanswered::Other),
            false => Ok(usages),
        }
    }

    /// The rated frames of a scope, one for each period.
    async fn rate_many(
        &self,
        scope_id: &str,
        window: Periods,
        usages: &[Option<Usage>],
    ) -> Result<Vec<DataFrame>, PeriodError> {
        let mut frames: Vec<DataFrame> = window.iter().map(DataFrame::new).collect();
        for ((metric, _), usage) in self.metrics.iter().zip(usages) {
            match usage {
                Some(usage) => {
                    let points = self.collector.points(metric, scope_id, usage)?;
                    for (frame, points) in frames.iter_mut().zip(points) {
                        frame.add(&metric.frame_type, points);
                    }
                }
                None => {
                    for frame in &mut frames {
                        self.pulses.cycles.beat();
                        let points = self.collect_one(metric, scope_id, frame.period).await?;
                        frame.add(&metric.frame_type, points);
                    }
                }
            }
        }
        let mut rater = None;
        for frame in &mut frames {
            self.pulses.cycles.beat();
            self.rate_frame(scope_id, frame, &mut rater).await?;
            tokio::task::consume_budget().await;
        }
        Ok(frames)
    }

    /// Stores what scopes used, moves their states, and gives their locks back.
    async fn store(&self, group: Group, window: Periods, cycle: &Cycle) -> Left {
        let mut left = Left::default();
        self.pulses.cycles.beat();
        let mut held = Vec::with_capacity(group.len());
        for (mut scope, frames) in group {
            match scope.lock.check().await {
                Ok(()) => held.push((scope, frames)),
                Err(error) => {
                    let name = std::slice::from_ref(&scope.scope_id);
                    cycle.failed(name, Some(window.begin), &error.into());
                    scope.lock.release().await;
                }
            }
        }
        if held.is_empty() {
            return left;
        }
        let last = window.iter().last().unwrap_or(Period::EMPTY);
        let now = self.clock.now();
        let replacements: Vec<Replacement<'_>> =
            held.iter().map(|(scope, frames)| self.advance(scope, frames, last, now)).collect();
        let begun = Instant::now();
        let mut stored = self.storage.replace_all(&replacements).await;
        for tries in 1..TRIES {
            if !stored.as_ref().is_err_and(StorageError::is_conflict) {
                break;
            }
            pause_a_little(tries).await;
            stored = self.storage.replace_all(&replacements).await;
        }
        drop(replacements);
        let names = || held.iter().map(|(scope, _)| scope.scope_id.clone());
        match stored {
            Ok(()) => {
                instruments().stored(begun.elapsed());
                for (scope, frames) in &held {
                    let scope_id = &scope.scope_id;
                    for frame in frames {
                        let (points, period) = (frame.len(), frame.period);
                        cycle.progress.period_done(points);
                        instruments().rated(Work::Rating, points);
                        debug!(
                            scope.id = scope_id, %period, points,
                            "Rated {points} data points of scope `{scope_id}` in the period {period}"
                        );
                    }
                }
                let due = self.settings.schedule.due(last.end);
                match due <= self.clock.now() {
                    true => left.more.extend(names()),
                    false => held.iter().for_each(|_| cycle.done_until(due)),
                }
            }
            Err(error) if error.is_outage() => {
                let names: Vec<_> = names().collect();
                cycle.failed(&names, Some(window.begin), &error.into());
            }
            Err(error) => {
                debug!(error = %error, "Scopes are rated one by one: {error}");
                left.alone.extend(names());
            }
        }
        release(held.into_iter().map(|(scope, _)| (scope.scope_id, scope.lock))).await;
        left
    }
}

impl Pipeline {
    /// The periods of a scope, up to the last one, and its step behind them.
    fn advance<'a>(
        &'a self,
        scope: &'a Locked,
        frames: &'a [DataFrame],
        last: Period,
        now: DateTime<Utc>,
    ) -> Replacement<'a> {
        let scope_id = scope.scope_id.as_str();
        let step = Step::Advance {
            scope_id,
            keys: &self.keys,
            known: scope.state.as_ref(),
            begin: last.begin,
            seconds: last.seconds(),
            now,
        };
        Replacement { scope_id, frames, step }
    }
}

/// How many periods to ask for after so many took so long: up to four times as many,
/// and no more than fit into a turn.
fn next_window(count: u32, took: Duration) -> u32 {
    let fitting = f64::from(count) * TURN.as_secs_f64() / 2.0 / took.as_secs_f64().max(0.001);
    let fitting = u32::try_from(whole(fitting)).unwrap_or(MOST_PERIODS);
    fitting.clamp(1, count.saturating_mul(4)).min(MOST_PERIODS)
}

/// Gives locks back.
async fn release(locked: impl IntoIterator<Item = (String, Lock)>) {
    let locks = locked.into_iter().map(|(_, lock)| lock.release());
    stream::iter(locks).buffer_unordered(LOCKS_AT_ONCE).collect::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_asked_for_in_less_and_then_a_little_more() {
        let pace = Pace::default();
        assert_eq!((pace.scopes(), pace.periods(4), pace.periods(1_000)), (32, 4, 4));
        // Of nothing is known yet how much it was.
        pace.refused(4, 4);
        pace.learn(4 * 4 * 100, 4, 4);
        assert_eq!((pace.scopes(), pace.periods(4), pace.periods(1)), (500, 125, 500));
        pace.refused(4, 125);
        assert_eq!((pace.scopes(), pace.periods(4)), (250, 62));
        pace.refused(4, 62);
        assert_eq!(pace.periods(4), 31);
        pace.learn(4 * 31 * 100, 4, 31);
        assert_eq!(pace.periods(4), 34);
        for _ in 0..20 {
            pace.learn(4 * 30 * 100, 4, 30);
        }
        assert_eq!(pace.periods(4), 125);
        // What cannot be less says nothing about the others.
        pace.refused(1, 1);
        assert_eq!(pace.periods(4), 125);
        // Never nothing.
        (0..100).for_each(|_| pace.refused(2, 1));
        assert_eq!((pace.scopes(), pace.periods(4)), (1, 1));
    }
}
