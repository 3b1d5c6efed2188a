//! What the processor notes in the state database for who looks how it does: which
//! scopes fail, that it runs, and what it has rated.
//!
//! Rating never waits for it. What fails is kept in memory, and written by a task of
//! its own; what cannot be written is told of once, and comes again.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{Pipeline, period::PeriodError};
use crate::{
    instruments::instruments,
    state::{
        StateError,
        failures::{self, Failure},
        processors::{self, Processor},
    },
    time::Period,
};

/// Pause between two notes that the processor runs.
const PAUSE: Duration = Duration::from_secs(30);

/// Pause between two writes of what fails while a cycle runs.
const FAILURES_PAUSE: Duration = Duration::from_secs(5);

/// Longest wait for the state database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest wait for it when the processor ends.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// A processor that was not seen for so many hours has ended.
const PROCESSOR_HOURS: i64 = 24;

/// A scope that was not tried for so many days is not rated here any more.
const FAILURE_DAYS: i64 = 7;

/// What is to be noted.
#[derive(Debug, Default)]
pub(super) struct Notes {
    failures: Mutex<HashMap<String, Failed>>,
    /// Why nothing can be rated.
    problem: Mutex<String>,
    /// There is something to write.
    changed: Notify,
    /// Whether it was told that nothing can be written.
    told: AtomicBool,
}

/// A scope that could not be rated, and is not noted yet.
#[derive(Debug)]
struct Failed {
    begin: DateTime<Utc>,
    stage: Arc<str>,
    error: Arc<str>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notes {
    /// Scopes failed in a period, if it is known in which.
    pub fn failed(&self, scopes: &[String], begin: Option<DateTime<Utc>>, error: &PeriodError) {
        let begin = begin.unwrap_or(Failure::UNKNOWN);
        let (stage, text): (Arc<str>, Arc<str>) = (error.reason().into(), error.to_string().into());
        let mut failures = held(&self.failures);
        for scope_id in scopes {
            let failed = Failed { begin, stage: stage.clone(), error: text.clone() };
            failures.insert(scope_id.clone(), failed);
        }
    }

    /// Nothing can be rated.
    pub fn cannot_rate(&self, error: &impl Display) {
        let text = error.to_string();
        let mut problem = held(&self.problem);
        if *problem != text {
            *problem = text;
            self.changed.notify_one();
        }
    }

    /// Something can be.
    pub fn can_rate(&self) {
        let mut problem = held(&self.problem);
        if !problem.is_empty() {
            problem.clear();
            self.changed.notify_one();
        }
    }

    /// Tells, the first time, that a note was not written.
    fn written(&self, result: Result<Result<(), StateError>, tokio::time::error::Elapsed>) {
        let problem = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it has not answered for {} s", PATIENCE.as_secs()),
        };
        if self.told.swap(true, Ordering::Relaxed) {
            debug!(error = %problem, "The state database does not take notes: {problem}");
        } else {
            warn!(
                error = %problem,
                "The state database does not take notes for /v2/ratekitty/status, rating goes on without them: {problem}"
            );
        }
    }
}

impl Pipeline {
    /// Does work, and notes meanwhile that this processor runs, and what fails.
    pub async fn noted<T>(&self, work: impl Future<Output = T>) -> T {
        let ended = CancellationToken::new();
        let work = async {
            let done = work.await;
            ended.cancel();
            done
        };
        let (done, ()) = tokio::join!(work, self.take_notes(&ended));
        done
    }

    async fn take_notes(&self, ended: &CancellationToken) {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let now = self.clock.now();
        let mut processor = Processor {
            id: Uuid::new_v4().to_string(),
            host,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: now,
            seen: now,
            periods: 0,
            points: 0,
            problem: String::new(),
        };
        let id = processor.id.clone();
        let notes = async {
            let oldest = now - TimeDelta::hours(PROCESSOR_HOURS);
            self.write(processors::tidy(&self.database, oldest)).await;
            loop {
                self.note_that_it_runs(&mut processor).await;
                let next = tokio::time::sleep(PAUSE);
                tokio::pin!(next);
                loop {
                    tokio::select! {
                        () = &mut next => break,
                        () = self.notes.changed.notified() => break,
                        () = tokio::time::sleep(FAILURES_PAUSE) => self.write_failures().await,
                    }
                }
            }
        };
        // A database that does not answer does not hold up the end.
        tokio::select! {
            () = ended.cancelled() => {}
            () = notes => {}
        }
        let end = async {
            self.write_failures().await;
            self.write(processors::forget(&self.database, &id)).await;
        };
        let _ = tokio::time::timeout(END_PATIENCE, end).await;
    }

    async fn note_that_it_runs(&self, processor: &mut Processor) {
        processor.seen = self.clock.now();
        processor.problem.clone_from(&held(&self.notes.problem));
        (processor.periods, processor.points) = instruments().rated_until_now();
        self.write(processors::note(&self.database, processor)).await;
        let oldest = self.clock.now() - TimeDelta::days(FAILURE_DAYS);
        self.write(failures::tidy(&self.database, &self.keys, oldest)).await;
    }

    /// Writes what failed since the last time.
    pub(super) async fn write_failures(&self) {
        let failed = std::mem::take(&mut *held(&self.notes.failures));
        if failed.is_empty() {
            return;
        }
        let (at, length) = (self.clock.now(), self.settings.schedule.period);
        let failures: Vec<Failure> = failed
            .into_iter()
            .map(|(scope_id, Failed { begin, stage, error })| {
                let period = Period::starting(begin, length);
                Failure { scope_id, period, at, stage, error, tries: 1 }
            })
            .collect();
        self.write(failures::note(&self.database, &self.keys, &failures)).await;
    }

    async fn write(&self, note: impl Future<Output = Result<(), StateError>>) {
        self.notes.written(tokio::time::timeout(PATIENCE, note).await);
    }
}
