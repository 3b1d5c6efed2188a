//! The one retry loop: exponential, jittered, within a total time budget. It counts
//! and times each try.
//!
//! Only for requests that may be repeated without harm.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;
use tracing::warn;

use crate::instruments::{Answered, Asked, instruments};

/// First pause; each next one doubles, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// An error that knows whether trying again can help.
pub trait Retryable {
    /// Whether the same request may succeed a little later.
    fn is_retryable(&self) -> bool;

    /// How long the server asks to wait, if it says.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// A `Retry-After` in seconds; dates are not used by the servers that we ask.
pub fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let value = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = value.trim().parse().ok()?;
    // Nobody waits longer than a day, nor can an instant be so far away.
    Some(Duration::from_secs(seconds.min(86_400)))
}

/// Runs `operation` until it succeeds, fails for good, or `budget` is spent.
///
/// # Errors
/// The last error.
pub async fn retry<T, E, F>(
    budget: Duration,
    asked: Asked,
    what: &str,
    mut operation: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Retryable + std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + budget;
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let result = operation().await;
        let answered = match &result {
            Ok(_) => Answered::Well,
            Err(error) if error.is_retryable() => Answered::Passing,
            Err(_) => Answered::Refused,
        };
        instruments().asked(asked, answered, begun.elapsed());
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) if answered == Answered::Refused => return Err(error),
            Err(error) => error,
        };
        // Half to full pause, so that workers that failed together do not
        // come back together.
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        // Never sooner than the server asks for.
        let jittered = jittered.max(error.retry_after().unwrap_or_default());
        if Instant::now() + jittered > deadline {
            return Err(error);
        }
        warn!(error = %error, "{what} failed and is tried again: {error}");
        tokio::time::sleep(jittered).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Fault(bool);

    impl Retryable for Fault {
        fn is_retryable(&self) -> bool {
            self.0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_when_the_budget_is_spent() {
        let mut tries = 0;
        let start = Instant::now();
        let result: Result<(), Fault> =
            retry(Duration::from_secs(5), Asked::Prometheus, "it", || {
                tries += 1;
                std::future::ready(Err(Fault(true)))
            })
            .await;
        assert!(result.is_err());
        assert!((4..20).contains(&tries), "{tries}");
        assert!(start.elapsed() <= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_repeat_what_cannot_help() {
        let mut tries = 0;
        let result: Result<(), Fault> =
            retry(Duration::from_secs(5), Asked::Prometheus, "it", || {
                tries += 1;
                std::future::ready(Err(Fault(false)))
            })
            .await;
        assert!(result.is_err());
        assert_eq!(tries, 1);
    }
}
