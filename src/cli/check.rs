//! `ratekitty check`: one line for each part, good or what to do.

use std::{fmt::Display, process::ExitCode};

use super::answer;
use crate::{
    api, collector,
    config::{Config, metrics_yml},
    fetcher,
    state::{Database, schema},
    storage,
};

/// Lines printed so far.
#[derive(Default)]
struct Report {
    failed: bool,
}

impl Report {
    fn line<T>(
        &mut self,
        part: &str,
        result: Result<T, impl Display>,
        good: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<Option<T>> {
        match result {
            Ok(value) => {
                answer(format_args!("ok    {part}: {}", good(&value)))?;
                Ok(Some(value))
            }
            Err(error) => {
                self.failed = true;
                answer(format_args!("FAIL  {part}: {error}"))?;
                Ok(None)
            }
        }
    }
}

/// Runs the command: exit code 0, or 1 if a part is not good.
pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    let files: Vec<_> = config.files.iter().map(|file| file.display().to_string()).collect();
    let files =
        if files.is_empty() { "no file, defaults only".to_owned() } else { files.join(", ") };
    answer(format_args!("ok    configuration: {files}"))?;
    for warning in &config.warnings {
        answer(format_args!("note  configuration: {warning}"))?;
    }

    let metrics = metrics_yml::read(&config.collect.metrics_conf, &config.collect.scope_key);
    let path = config.collect.metrics_conf.display();
    let metrics = report.line("metrics file", metrics, |conf| {
        format!("{path}, {} definitions", conf.metrics.len())
    })?;
    for warning in metrics.iter().flat_map(|conf| &conf.warnings) {
        answer(format_args!("note  metrics file: {warning}"))?;
    }

    let database = report.line(
        "state database",
        Database::connect_existing(&config.database).await,
        |_| "reached".to_owned(),
    )?;
    if let Some(database) = &database {
        let revision = schema::check(database).await;
        report.line("tables", revision, |()| "of CloudKitty 25.0.0".to_owned())?;
        let storage = storage::build(config, database);
        report.line("storage", storage, |_| config.storage.backend.clone())?;
    }

    let fetcher = report.line("fetcher", fetcher::build(config), |f| f.name().to_owned())?;
    if let Some(fetcher) = fetcher {
        report
            .line("scopes", fetcher.scopes().await, |scopes| format!("{} found", scopes.len()))?;
    }
    let collector = collector::build(config);
    let collector = report.line("collector", collector, |collector| collector.name().to_owned())?;
    if let Some(collector) = collector {
        report.line("usage", collector.probe().await, |()| {
            "the collector's peer answers".to_owned()
        })?;
    }
    report.line("API", api::check(config), |()| {
        format!("would listen on {} port {}", config.api.host, config.api.port)
    })?;
    Ok(if report.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
