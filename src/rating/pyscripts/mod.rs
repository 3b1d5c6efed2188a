//! The pyscripts module: prices by the operator's own Python scripts.
//!
//! A script finds the dataframe of a scope and period as `data`, a dict in the
//! form of the reference's, and changes it. Scripts run one after the other, in
//! the order of their rows, those that hold at the begin of the period.
//!
//! They never run in this process: [`pool`] keeps workers, processes of CPython
//! with [`worker.py`](./worker.py), which have no more rights and memory than
//! they need ([`sandbox`]). What a script does wrong (throws, hangs, exits, eats
//! memory, leaves nonsense) fails the scope's period, and nothing else. [`edit`]
//! changes scripts one by one.

pub mod edit;
mod pool;
mod protocol;
pub mod sandbox;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::NaiveDateTime;
use ruff_python_parser::parse_module;
use ruff_text_size::Ranged;

use super::{RatingError, RatingModule, Validity};
use crate::{config::Config, dataframe::DataFrame, state::scripts::ScriptRow};

pub use pool::Workers;

/// How workers run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// CPython.
    pub python: String,
    /// This program, which becomes the worker; `None`: the running one.
    pub program: Option<PathBuf>,
    /// Workers at the same time.
    pub workers: usize,
    /// Longest time for one dataframe.
    pub timeout: Duration,
    /// Most memory of one worker, in bytes.
    pub memory: u64,
}

impl Settings {
    /// What the configuration says.
    pub fn of(config: &Config) -> Self {
        let section = &config.ratekitty;
        Self {
            python: section.pyscripts_python.clone(),
            program: section.program.clone(),
            workers: config.orchestrator.max_workers,
            timeout: section.pyscripts_timeout,
            memory: section.pyscripts_memory,
        }
    }
}

/// Why scripts gave no prices.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// There is no worker.
    #[error(
        "no worker for Python scripts can be started: {0}; check [ratekitty] pyscripts_python and pyscripts_memory, and what was written to standard error"
    )]
    Start(String),
    /// The worker ended by itself.
    #[error(
        "the worker of the Python scripts ended ({0}): a script left it, or used more than [ratekitty] pyscripts_memory"
    )]
    Ended(String),
    /// It took too long.
    #[error(
        "the Python scripts took longer than [ratekitty] pyscripts_timeout = {} s, and were ended", .0.as_secs()
    )]
    Timeout(Duration),
    /// A script failed.
    #[error("script `{name}` failed: {error}")]
    Failed {
        /// Its name.
        name: String,
        /// What it said.
        error: String,
    },
    /// The worker answered what it should not.
    #[error("the worker of the Python scripts gave a bad answer: {0}")]
    Answer(String),
}

/// Refuses a text that is no Python of any version: it would fail every period.
///
/// # Errors
/// What is wrong, and in which line.
pub fn check_syntax(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("The script holds a NUL character.".to_owned());
    }
    match parse_module(text) {
        Ok(_) => Ok(()),
        Err(problem) => {
            let before = text.get(..problem.range().start().to_usize()).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            Err(format!("The script is no Python: line {line}: {}", problem.error))
        }
    }
}

/// The scripts that hold at one instant.
#[derive(Debug)]
pub struct Scripts {
    workers: Arc<Workers>,
    scripts: Vec<ScriptRow>,
    validity: Validity,
}

impl Scripts {
    /// Picks those of `rows` that hold at `at`.
    pub fn at(workers: Arc<Workers>, rows: &[ScriptRow], at: NaiveDateTime) -> Self {
        let mut validity = Validity::default();
        for row in rows {
            validity.bound(row.audit.start, at);
            if let Some(end) = row.audit.end {
                validity.bound(end, at);
            }
        }
        let scripts = rows.iter().filter(|row| row.audit.holds(at)).cloned().collect();
        Self { workers, scripts, validity }
    }

    /// For how long the choice holds.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

#[async_trait]
impl RatingModule for Scripts {
    async fn rate(&self, frame: &mut DataFrame) -> Result<(), RatingError> {
        if self.scripts.is_empty() {
            return Ok(());
        }
        let rated = self.workers.run(&self.scripts, frame).await?;
        *frame = rated;
        Ok(())
    }
}
