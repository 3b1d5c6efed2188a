//! The pyscripts module: prices by the operator's own Python scripts.
//!
//! A script finds the dataframe of a scope and period as `data`, a dict in the
//! form of the reference's, and changes it. Scripts run one after the other, in
//! the order of their rows, those that hold at the begin of the period.
//!
//! They never run in this process: [`pool`] keeps workers, processes of CPython
//! with [`worker.py`](./worker.py), which have no more rights and memory than
//! they need ([`sandbox`]). A worker runs no script either: for each dataframe it
//! forks a child that does, and that ends with it. So a dataframe finds a fresh
//! Python, whatever ran before. What a script does wrong (throws, hangs, exits,
//! eats memory, leaves nonsense) fails the scope's period, and nothing else.
//! [`edit`] changes scripts one by one.

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
    /// The dataframe cannot be told to a worker.
    #[error("the Python scripts cannot be given this dataframe: {0}")]
    Request(String),
    /// The process that ran it ended by itself.
    #[error(
        "script `{script}` ended its process ({how}): it left it, or used more than [ratekitty] pyscripts_memory"
    )]
    Ended {
        /// Its name.
        script: String,
        /// How a process ends: a status or a signal.
        how: String,
    },
    /// It took too long.
    #[error(
        "the Python scripts took longer than [ratekitty] pyscripts_timeout = {} s, and were ended in script `{script}`",
        .limit.as_secs()
    )]
    Timeout {
        /// The one that ran.
        script: String,
        /// The time that all have.
        limit: Duration,
    },
    /// A script failed.
    #[error("script `{name}` failed: {error}")]
    Failed {
        /// Its name.
        name: String,
        /// What it said.
        error: String,
    },
    /// Scripts left behind, or told, what they should not.
    #[error("script `{script}` gave a bad answer: {problem}")]
    Answer {
        /// Its name, or those of all that ran.
        script: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Refuses a text that is no Python of any version: it would fail every period.
///
/// # Errors
/// What is wrong, and in which line.
pub fn check_syntax(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("The script holds a NUL character.".to_owned());
    }
    let comment = |line: &&str| line.trim_start().starts_with('#');
    let code: usize =
        text.split('\n').filter(|line| !comment(line)).map(|line| line.len() + 1).sum();
    if code > LONGEST {
        return Err(format!("The script is longer than {} KiB without comments.", LONGEST >> 10));
    }
    if let Some(line) = too_deep(text) {
        return Err(format!("The script is nested too deeply in line {line}."));
    }
    // The grammar crate calls itself for what is nested, and so does what it made
    // when it is dropped, which for a long sum is nested, too.
    let owned = text.to_owned();
    let parsed = std::thread::Builder::new().stack_size(PARSER_STACK).spawn(move || {
        parse_module(&owned).err().map(|problem| {
            let before = owned.get(..problem.range().start().to_usize()).unwrap_or(&owned);
            (before.matches('\n').count() + 1, problem.error.to_string())
        })
    });
    match parsed.map(std::thread::JoinHandle::join) {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some((line, problem)))) => {
            Err(format!("The script is no Python: line {line}: {problem}"))
        }
        Ok(Err(_)) | Err(_) => Err("The script cannot be checked now; try again.".to_owned()),
    }
}

/// The line in which brackets, or operators that stand before their operand, are
/// nested deeper than Python itself takes by far.
fn too_deep(text: &str) -> Option<usize> {
    let (mut open, mut before, mut sign, mut line) = (0_usize, 0_usize, false, 1);
    for (at, c) in text.char_indices() {
        match c {
            '\n' => {
                line += 1;
                if open == 0 {
                    before = 0;
                }
            }
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            '+' | '-' | '~' => before += usize::from(sign),
            'n' | 'e' | 'l' | '*' | 'a' | 'y' | ':' => {
                let rest = &text[at..];
                let words = ["not", "else", "lambda", "**", "await", "yield", ":="];
                before += usize::from(words.iter().any(|word| rest.starts_with(word)));
            }
            _ => {}
        }
        sign = matches!(c, '+' | '-' | '~') || sign && c.is_whitespace();
        if open.max(before) > DEEPEST {
            return Some(line);
        }
    }
    None
}

/// Longest script, in bytes, without lines that are comments: as many sums may be
/// nested in it as [`PARSER_STACK`] is enough for.
const LONGEST: usize = 512 << 10;

/// Deepest nesting; Python ends at 200 brackets.
const DEEPEST: usize = 1_000;

/// Stack of the thread that reads a script. Only what is used of it is taken.
const PARSER_STACK: usize = 512 << 20;

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
