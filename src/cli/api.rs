//! `ratekitty api` and `ratekitty all`.

use std::{process::ExitCode, sync::Arc};

use clap::Args;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::wiring;
use crate::{api, config::Config, shutdown, supervisor::Supervisor};

/// What says where the API listens.
const OPTION: &str = "[api] port and --port";

/// Arguments of the commands.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address to listen on, in place of [api] host_ip
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on, in place of [api] port
    #[arg(long)]
    port: Option<u16>,
}

impl Arguments {
    fn address(&self, config: &Config) -> (String, u16) {
        let host = self.host.clone().unwrap_or_else(|| config.api.host.clone());
        (host, self.port.unwrap_or(config.api.port))
    }
}

/// Runs the API.
pub(super) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = wiring::database(config).await?;
    let stop = CancellationToken::new();
    let pulse = api::pulse();
    let pulses = vec![pulse.clone()];
    let watch = wiring::watch(config, &database, pulses.clone(), <_>::default(), &stop);
    let state = wiring::app_state(config, &database, watch)?;
    let (host, port) = arguments.address(config);
    let listener = api::listen(&host, port, OPTION).await?;
    shutdown::on_signal(&stop);
    let _serving = Supervisor::from_environment().serving(&stop, pulses);
    api::serve(listener, state, stop, wiring::limits(config), pulse).await;
    info!("The API stopped");
    Ok(ExitCode::SUCCESS)
}

/// Runs processor and API together; when the API dies, the processor stops.
pub(super) async fn run_with_processor(
    config: &Config,
    arguments: Arguments,
) -> anyhow::Result<ExitCode> {
    let database = wiring::database(config).await?;
    let pipeline = Arc::new(wiring::pipeline(config, &database)?);
    wiring::prepare(&pipeline).await?;
    let (host, port) = arguments.address(config);
    let listener = api::listen(&host, port, OPTION).await?;
    let limits = wiring::limits(config);
    let stop = CancellationToken::new();
    let pulse = api::pulse();
    let pulses: Vec<_> = pipeline.pulses().into_iter().chain([pulse.clone()]).collect();
    let watch = wiring::watch(config, &database, pulses.clone(), pipeline.found(), &stop);
    wiring::serve_watch(config, watch.clone(), &stop).await?;
    let state = wiring::app_state(config, &database, watch)?;
    shutdown::on_signal(&stop);
    // Also when it panics.
    let stop_all = stop.clone().drop_guard();
    let stop_api = stop.clone();
    let serving = tokio::spawn(async move {
        let _stop_all = stop_all;
        api::serve(listener, state, stop_api, limits, pulse).await;
    });
    let _serving = Supervisor::from_environment().serving(&stop, pulses);
    pipeline.run(&stop).await;
    serving.await?;
    Ok(ExitCode::SUCCESS)
}
