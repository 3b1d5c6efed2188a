//! What `ratekitty check` asks a Loki.
//!
//! Probe entries go into streams of their own, which carry none of the
//! configured labels, so that no program takes them for dataframes.

use std::time::Duration;

use super::{
    LokiError, LokiStorage,
    line::Line,
    logql,
    push::{Entry, StreamEntries},
    streams::{SECOND, new_label},
};
use crate::storage::Finding;

/// Label of the streams of probe entries.
const PROBE_LABEL: &str = "ratekitty_probe";

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Settings of Loki that matter here, as `/config` names them.
const SETTINGS: [&str; 9] = [
    "reject_old_samples_max_age",
    "max_query_length",
    "max_query_series",
    "max_entries_limit_per_query",
    "ingestion_rate_mb",
    "ingestion_burst_size_mb",
    "max_line_size",
    "max_chunk_age",
    "query_ingesters_within",
];

impl LokiStorage {
    pub(super) async fn examine(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.push(match self.client.read_root("/ready").await {
            Ok(_) => Finding::Good("Loki is ready".to_owned()),
            // A gateway in front of Loki may not pass this path on.
            Err(error) => Finding::Note(format!("/ready does not say that Loki is ready: {error}")),
        });
        findings.push(match self.version().await {
            Some(version) => Finding::Good(format!("Loki {version}")),
            None => Finding::Note("Loki does not tell its version".to_owned()),
        });
        findings.extend(self.settings().await);
        let newest = self.try_entry(0).await;
        let works = newest.is_ok();
        findings.push(match newest {
            Ok(true) => Finding::Good("takes an entry of now and shows it".to_owned()),
            Ok(false) => Finding::Bad(
                "took an entry of now and does not show it: do the URLs for writing and reading belong to the same Loki and tenant?".to_owned(),
            ),
            Err(error) => Finding::Bad(error.to_string()),
        });
        if works {
            findings.push(self.old_entry().await);
            findings.push(self.deepest_past().await);
            findings.push(self.disorder().await);
            findings.push(self.deletes().await);
        }
        findings
    }

    async fn version(&self) -> Option<String> {
        let answer = self.client.read_root("/loki/api/v1/status/buildinfo").await.ok()?;
        let info: serde_json::Value = serde_json::from_str(&answer).ok()?;
        Some(info.get("version")?.as_str()?.to_owned())
    }

    /// The settings that Loki shows, and those that do not fit ours.
    async fn settings(&self) -> Vec<Finding> {
        let Ok(config) = self.client.read_root("/config").await else {
            return vec![Finding::Note(
                "Loki does not show its settings at /config; see docs/storage-loki.md for those that matter".to_owned(),
            )];
        };
        let value = |name: &str| {
            let line = config.lines().map(str::trim).find_map(|line| line.strip_prefix(name))?;
            let value = line.strip_prefix(':')?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let seen: Vec<_> =
            SETTINGS.iter().filter_map(|name| Some(format!("{name} = {}", value(name)?))).collect();
        let mut findings = vec![Finding::Good(format!("settings: {}", seen.join(", ")))];
        let seconds = |name| value(name).as_deref().and_then(duration);
        if let Some(limit) = seconds("max_query_length")
            && limit > 0
            && limit < self.shard()
        {
            findings.push(Finding::Note(format!(
                "[storage_loki] shard_days = {} is longer than Loki's max_query_length: each query is made a second time, in parts",
                self.shard_days
            )));
        }
        if value("max_line_size_truncate").as_deref() == Some("true") {
            findings.push(Finding::Note(
                "Loki cuts long lines (max_line_size_truncate), and a point that was cut cannot be read back; set it to false, or max_line_size to 256KB or more".to_owned(),
            ));
        }
        let entries: Option<usize> =
            value("max_entries_limit_per_query").and_then(|text| text.parse().ok());
        if let Some(limit) = entries
            && limit > 0
            && limit < self.entry_limit.get()
        {
            findings.push(Finding::Note(format!(
                "[storage_loki] max_query_entries is above Loki's max_entries_limit_per_query = {limit}, which is taken instead"
            )));
        }
        findings
    }

    /// Pushes an entry of some age into a stream of its own, and looks whether
    /// it shows.
    async fn try_entry(&self, age: i64) -> Result<bool, LokiError> {
        let stream = new_label();
        let timestamp = self.push_probe(&stream, age).await?;
        let selector = format!("{{{PROBE_LABEL}={}}}", logql::quote(&stream));
        for _ in 0..5 {
            let span = (timestamp, timestamp + 1);
            let lines = self.client.lines(&selector, span, 1).await?;
            if !lines.is_empty() {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(false)
    }

    async fn push_probe(&self, stream: &str, age: i64) -> Result<i64, LokiError> {
        let timestamp = (self.clock.now().timestamp() - age) * SECOND;
        let line = format!("{{\"probe\":\"{stream}\"}}");
        let line = Line::of(self.client.format(), &line);
        let entry = Entry { timestamp, line, metadata: <_>::default() };
        let labels = [(PROBE_LABEL.to_owned(), stream.to_owned())];
        self.client.push(&[StreamEntries { labels: &labels, entries: &[entry] }]).await?;
        Ok(timestamp)
    }

    async fn old_entry(&self) -> Finding {
        match self.try_entry(5 * HOUR).await {
            Ok(true) => Finding::Good("shows an entry of five hours ago at once".to_owned()),
            Ok(false) => Finding::Note(
                "an entry of five hours ago does not show until its chunk is flushed: after a catch-up, summaries by other keys than type, scope and time answer 503 until then; set query_ingesters_within: 0 under querier, and max_chunk_age: 48h under ingester, if that should not be".to_owned(),
            ),
            Err(error) => Finding::Bad(format!("an entry of five hours ago: {error}")),
        }
    }

    async fn deepest_past(&self) -> Finding {
        let mut deepest = 5 * HOUR;
        for days in [6, 29, 89, 364] {
            match self.push_probe(&new_label(), days * DAY + 12 * HOUR).await {
                Ok(_) => deepest = days * DAY + 12 * HOUR,
                Err(LokiError::Refused { .. }) => break,
                Err(error) => return Finding::Bad(format!("an entry of {days} days ago: {error}")),
            }
        }
        let days = deepest / DAY;
        if deepest < 29 * DAY {
            Finding::Note(format!(
                "takes entries of {days} days ago and none of 29: a month cannot be rated again from its begin; raise reject_old_samples_max_age in Loki's limits_config"
            ))
        } else {
            Finding::Good(format!("takes entries of {days} days ago"))
        }
    }

    async fn disorder(&self) -> Finding {
        let stream = new_label();
        let mut window = 0;
        let mut result = self.push_probe(&stream, 0).await.map(drop);
        for minutes in [10, 50, 110, 710] {
            if result.is_err() {
                break;
            }
            match self.push_probe(&stream, minutes * 60).await {
                Ok(_) => window = minutes,
                Err(LokiError::Refused { .. }) => break,
                Err(error) => result = Err(error),
            }
        }
        match result {
            Ok(()) => Finding::Good(format!(
                "takes entries {window} minutes behind the newest of their stream (half of max_chunk_age); nothing here depends on it"
            )),
            Err(error) => Finding::Bad(error.to_string()),
        }
    }

    async fn deletes(&self) -> Finding {
        match (self.client.deletions().await, self.delete_superseded) {
            (Ok(_), true) => Finding::Good("takes requests to delete".to_owned()),
            (Ok(_), false) => Finding::Good(
                "takes requests to delete; none are made, see [storage_loki] delete_superseded"
                    .to_owned(),
            ),
            (Err(error), true) => Finding::Bad(format!(
                "[storage_loki] delete_superseded is set, and Loki takes no requests to delete; set deletion_mode and the compactor's retention_enabled: {error}"
            )),
            (Err(_), false) => Finding::Good(
                "takes no requests to delete; superseded entries stay until they are too old"
                    .to_owned(),
            ),
        }
    }
}

/// A duration as Loki prints it, such as `31d1h`, `745h0m0s` or `4w3d`, in
/// seconds.
fn duration(text: &str) -> Option<i64> {
    let mut sum = 0.0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "y" => 365.0 * 86_400.0,
            "w" => 7.0 * 86_400.0,
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "" if number == 0.0 => 0.0,
            _ => return None,
        };
        rest = &rest[letters..];
        sum += number * unit;
    }
    Some(sum as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_as_loki_prints_them() {
        let cases = [
            ("31d1h", Some(2_682_000)),
            ("745h0m0s", Some(2_682_000)),
            ("4w3d", Some(2_678_400)),
            ("0s", Some(0)),
            ("0", Some(0)),
            ("100ms", Some(0)),
            ("soon", None),
            ("5", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }
}
