//! `ratekitty processor`.

use std::{io::IsTerminal, process::ExitCode, sync::Arc};

use clap::Args;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{answer, wiring};
use crate::{config::Config, processor::Progress, shutdown, supervisor::Supervisor};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Rate everything that is due and exit: 0, or 1 if a scope failed or it was stopped
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
    let pipeline = Arc::new(wiring::pipeline(config, &database)?);
    wiring::prepare(&pipeline).await?;
    let stop = CancellationToken::new();
    if !arguments.once {
        let pulses = pipeline.pulses();
        let watch = wiring::watch(config, &database, pulses.clone(), pipeline.found(), &stop);
        wiring::serve_watch(config, watch, &stop).await?;
        shutdown::on_signal(&stop);
        info!("The processor starts, rating periods of {} s", config.collect.period);
        let _serving = Supervisor::from_environment().serving(&stop, pulses);
        pipeline.run(&stop).await;
        info!("The processor stopped");
        return Ok(ExitCode::SUCCESS);
    }
    shutdown::on_signal(&stop);
    let progress = Arc::new(Progress::shown());
    let again = Arc::new(Progress::quiet());
    let work = async {
        let outcome = pipeline.run_once(&progress, &stop).await?;
        let reprocessed = pipeline.reprocess_once(&again, &stop).await?;
        anyhow::Ok((outcome, reprocessed))
    };
    let (outcome, reprocessed) = pipeline.noted(work).await?;
    let mut result = format!(
        "Rated {} data points in {} periods of {} scopes; {} scopes failed",
        progress.points(),
        progress.periods(),
        outcome.scopes,
        outcome.failed,
    );
    if outcome.busy > 0 {
        result += &format!("; {} were being rated by others", outcome.busy);
    }
    if reprocessed.scheduled > 0 {
        result += &format!(
            "; rated {} periods again for {} schedules, of which {} failed",
            again.periods(),
            reprocessed.scheduled,
            reprocessed.failed
        );
    }
    if outcome.stopped {
        result += "; stopped before all was done";
    }
    if arguments.has_bar() {
        answer(result)?
    } else {
        info!("{result}")
    }
    let whole = outcome.failed == 0 && reprocessed.failed == 0 && !outcome.stopped;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
