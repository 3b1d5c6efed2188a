//! What an operator sees of `processor --once`: a bar on a terminal, plain
//! log lines elsewhere.

use std::{
    io::IsTerminal,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;
use tracing::info;

/// Time between two log lines about progress.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Counts scopes, periods and points.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    bar: Option<ProgressBar>,
    started: Instant,
    logged: Mutex<Instant>,
    scopes: AtomicU64,
    scopes_done: AtomicU64,
    periods: AtomicU64,
    periods_done: AtomicU64,
    points: AtomicU64,
}

impl Progress {
    /// Nothing to be seen: for the daemon.
    pub fn quiet() -> Self {
        Self::new(false, None)
    }

    /// A bar on standard error if it is a terminal, else log lines.
    pub fn shown() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::new(true, None);
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(
            "{bar:30} {pos}/{len} periods, {msg}, {elapsed} passed, {eta} left",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self::new(true, Some(bar))
    }

    fn new(shown: bool, bar: Option<ProgressBar>) -> Self {
        Self {
            shown,
            bar,
            started: Instant::now(),
            logged: Mutex::new(Instant::now()),
            scopes: AtomicU64::new(0),
            scopes_done: AtomicU64::new(0),
            periods: AtomicU64::new(0),
            periods_done: AtomicU64::new(0),
            points: AtomicU64::new(0),
        }
    }

    /// Whether anybody sees how much is left.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// Notes how much there is to do.
    pub fn expect(&self, scopes: u64, periods: u64) {
        self.scopes.store(scopes, Ordering::Relaxed);
        self.periods.store(periods, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(periods);
        }
    }

    /// Notes a rated period.
    pub fn period_done(&self, points: usize) {
        self.periods_done.fetch_add(1, Ordering::Relaxed);
        self.points.fetch_add(points as u64, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_message(self.text());
            bar.inc(1);
            return;
        }
        if !self.shown {
            return;
        }
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.elapsed() >= LOG_EVERY {
            *logged = Instant::now();
            let (done, all) = (self.periods(), self.periods.load(Ordering::Relaxed));
            info!("Rated {done} of {all} periods, {}", self.text());
        }
    }

    /// Notes a scope that is up to date, or failed.
    pub fn scope_done(&self) {
        self.scopes_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Periods rated.
    pub fn periods(&self) -> u64 {
        self.periods_done.load(Ordering::Relaxed)
    }

    /// Data points rated.
    pub fn points(&self) -> u64 {
        self.points.load(Ordering::Relaxed)
    }

    fn text(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a figure for the eye")]
        let rate = self.points() as f64 / seconds;
        format!(
            "{}/{} scopes, {rate:.0} points/s",
            self.scopes_done.load(Ordering::Relaxed),
            self.scopes.load(Ordering::Relaxed)
        )
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
