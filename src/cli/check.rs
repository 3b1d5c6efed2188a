//! `ratekitty check`: one line for each part, good or what to do.

use std::{fmt::Display, process::ExitCode};

use super::{answer, policy, wiring};
use crate::{
    api::Access,
    collector,
    config::{Config, metrics_yml, sections::default::AuthStrategy},
    fetcher,
    processor::Skip,
    rating::{
        MODULES,
        pyscripts::{self, Workers},
    },
    state::{Database, modules, schema},
    storage::{self, Finding},
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

    let expressions = metrics.iter().flat_map(|conf| &conf.metrics);
    let expressions = expressions.filter_map(|metric| metric.skip_datapoints_expression.as_ref());
    let default = &config.orchestrator.skip_datapoints_expression;
    let mut texts = expressions.chain([default]);
    let skips = texts.try_fold(0, |count, text| Skip::parse(text).map(|_| count + 1));
    report.line("skip expressions", skips, |count| format!("{count} understood"))?;

    let database = report.line(
        "state database",
        Database::connect_existing(&config.database).await,
        |_| "reached".to_owned(),
    )?;
    if let Some(database) = &database {
        let revision = schema::check(database).await;
        report.line("tables", revision, |()| "of CloudKitty 25.0.0".to_owned())?;
        let modules = modules::list(database.connection()).await.map(|modules| {
            let enabled = modules.into_iter().filter(|module| module.enabled);
            enabled.map(|module| module.name).collect::<Vec<_>>()
        });
        let modules = modules.map_err(anyhow::Error::from).and_then(|names| {
            match names.iter().find(|name| !MODULES.contains(&name.as_str())) {
                None => Ok(names),
                Some(name) => Err(anyhow::anyhow!(
                    "`{name}` is enabled and not available; disable it, or no scope is rated"
                )),
            }
        });
        let names = report.line("rating modules", modules, |names| match names.as_slice() {
            [] => "none enabled: every price is 0".to_owned(),
            names => names.join(", "),
        })?;
        if names.is_some_and(|names| names.iter().any(|name| name == "pyscripts")) {
            let settings = pyscripts::Settings::of(config);
            let python = settings.python.clone();
            let probed = Workers::new(settings).probe().await;
            report.line("python scripts", probed, |()| format!("{python} runs them"))?;
        }
        let storage = storage::build(config, database, &wiring::clock());
        let storage = report.line("storage", storage, |_| config.storage.backend.clone())?;
        if let Some(storage) = storage {
            for finding in storage.probe().await {
                match finding {
                    Finding::Good(text) => answer(format_args!("ok    storage: {text}"))?,
                    Finding::Note(text) => answer(format_args!("note  storage: {text}"))?,
                    Finding::Bad(text) => {
                        report.failed = true;
                        answer(format_args!("FAIL  storage: {text}"))?;
                    }
                }
            }
        }
    }

    let locks = match wiring::locks(config) {
        Ok(locks) => match locks.probe().await {
            Ok(()) => Ok(locks.place().to_owned()),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error),
    };
    report.line("locks", locks, |place| format!("can be taken at {place}"))?;

    let sessions = wiring::sessions();
    let fetcher =
        report.line("fetcher", fetcher::build(config, &sessions), |f| f.name().to_owned())?;
    if let Some(fetcher) = fetcher {
        match fetcher.scopes().await {
            Ok(scopes) if scopes.is_empty() => answer(format_args!(
                "note  scopes: none found, so that nothing is rated; docs/fetchers.md says where they come from"
            ))?,
            scopes => {
                report.line("scopes", scopes, |scopes| format!("{} found", scopes.len()))?;
            }
        }
    }
    let collector = collector::build(config, &sessions);
    let collector = report.line("collector", collector, |collector| collector.name().to_owned())?;
    if let Some(collector) = collector {
        report.line("usage", collector.probe().await, |()| {
            "the collector's peer answers".to_owned()
        })?;
    }
    let strategy = config.default.auth_strategy;
    if strategy == AuthStrategy::Keystone {
        let policy = policy::load(config);
        if let Some(policy) =
            report.line("policy", policy, |policy| format!("{} rules", policy.rules().count()))?
        {
            for warning in policy.warnings() {
                answer(format_args!("note  policy: {warning}"))?;
            }
        }
    }
    let access = Access::new(config, &super::search_path(), &wiring::clock());
    if let Some(access) = report.line("users", access, |_| match strategy {
        AuthStrategy::Noauth => "everyone who reaches the API is admin".to_owned(),
        AuthStrategy::Keystone => "by Keystone tokens".to_owned(),
    })? && strategy == AuthStrategy::Keystone
    {
        report.line("tokens", access.probe().await, |()| "Keystone validates them".to_owned())?;
    }
    answer(format_args!(
        "ok    API: would listen on {} port {}",
        config.api.host, config.api.port
    ))?;
    Ok(if report.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
