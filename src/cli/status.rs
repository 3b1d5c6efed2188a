//! `ratekitty status upgrade check`, as OpenStack's upgrade tools call it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::answer;
use crate::{
    config::Config,
    state::{Database, schema},
};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks before an upgrade
    Upgrade {
        /// What to do
        #[arg(value_parser = ["check"])]
        action: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Exit codes of OpenStack's upgrade checks.
const FAILURE: u8 = 2;

/// Runs the command: exit code 0, or 2 if a check failed.
pub(super) async fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Command::Upgrade { json, .. } = &arguments.command;
    let database = async {
        let database = Database::connect_existing(&config.database).await?;
        schema::check(&database).await
    };
    // The configuration was read before this, [storage] version with it.
    let checks = [("Storage version", None), ("State database", database.await.err())];
    let failed = checks.iter().any(|(_, problem)| problem.is_some());
    if *json {
        let checks: Vec<_> = checks
            .iter()
            .map(|(name, problem)| {
                let details = problem.as_ref().map(ToString::to_string);
                json!({"check": name, "result": if details.is_some() { FAILURE } else { 0 }, "details": details})
            })
            .collect();
        answer(json!({"name": "Upgrade Check Results", "checks": checks}))?;
    } else {
        answer("Upgrade Check Results")?;
        for (name, problem) in &checks {
            match problem {
                None => answer(format_args!("{name}: Success"))?,
                Some(problem) => answer(format_args!("{name}: Failure: {problem}"))?,
            }
        }
    }
    Ok(if failed { ExitCode::from(FAILURE) } else { ExitCode::SUCCESS })
}
