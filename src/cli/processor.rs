//! `ratekitty processor`.

use std::{io::IsTerminal, process::ExitCode};

use clap::Args;
use tracing::info;

use super::wiring;
use crate::{config::Config, processor::Progress, shutdown};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Rate everything that is due and exit: 0, or 1 if a scope failed
    #[arg(long)]
    once: bool,
}

impl Arguments {
    /// Whether progress is shown as a bar on the terminal.
    pub fn has_bar(&self) -> bool {
        self.once && std::io::stderr().is_terminal()
    }
}

/// Runs the command.
pub(super) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = wiring::database(config).await?;
    let pipeline = wiring::pipeline(config, &database)?;
    let stop = shutdown::on_signal();
    if !arguments.once {
        info!("The processor starts, rating periods of {} s", config.collect.period);
        pipeline.run(&stop).await;
        info!("The processor stopped");
        return Ok(ExitCode::SUCCESS);
    }
    let progress = Progress::shown();
    let outcome = pipeline.run_once(&progress, &stop).await?;
    info!(
        "Rated {} data points in {} periods of {} scopes; {} scopes failed",
        progress.points(),
        progress.periods(),
        outcome.scopes,
        outcome.failed
    );
    Ok(if outcome.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
