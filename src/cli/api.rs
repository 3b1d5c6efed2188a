//! `ratekitty api` and `ratekitty all`.

use std::{process::ExitCode, sync::Arc};

use clap::Args;
use tracing::info;

use super::wiring;
use crate::{api, config::Config, shutdown, supervisor::Supervisor};

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

/// What clients are held to.
fn limits(config: &Config) -> api::Limits {
    api::Limits {
        connections: config.ratekitty.api_max_connections,
        patience: config.ratekitty.api_client_timeout,
        grace: config.ratekitty.shutdown_grace,
    }
}

/// Runs the API.
pub(super) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = wiring::database(config).await?;
    let state = wiring::app_state(config, &database)?;
    let (host, port) = arguments.address(config);
    let listener = api::listen(&host, port).await?;
    let stop = shutdown::on_signal();
    let pulse = api::pulse();
    let _serving = Supervisor::from_environment().serving(&stop, vec![pulse.clone()]);
    api::serve(listener, state, stop, limits(config), pulse).await;
    info!("The API stopped");
    Ok(ExitCode::SUCCESS)
}

/// Runs processor and API together; when the API dies, the processor stops.
pub(super) async fn run_with_processor(
    config: &Config,
    arguments: Arguments,
) -> anyhow::Result<ExitCode> {
    let database = wiring::database(config).await?;
    let state = wiring::app_state(config, &database)?;
    let pipeline = Arc::new(wiring::pipeline(config, &database)?);
    wiring::prepare(&pipeline).await?;
    let (host, port) = arguments.address(config);
    let listener = api::listen(&host, port).await?;
    let stop = shutdown::on_signal();
    let limits = limits(config);
    let pulse = api::pulse();
    let pulses = pipeline.pulses().into_iter().chain([pulse.clone()]).collect();
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
