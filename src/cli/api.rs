//! `ratekitty api` and `ratekitty all`.

use std::{process::ExitCode, sync::Arc};

use clap::Args;
use tracing::info;

use super::wiring;
use crate::{api, config::Config, shutdown};

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
    let stop = shutdown::on_signal();
    api::serve(&host, port, state, stop, limits(config)).await?;
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
    let stop = shutdown::on_signal();
    let limits = limits(config);
    let stop_api = stop.clone();
    let serving = tokio::spawn(async move {
        let served = api::serve(&host, port, state, stop_api.clone(), limits).await;
        stop_api.cancel();
        served
    });
    pipeline.run(&stop).await;
    serving.await??;
    Ok(ExitCode::SUCCESS)
}
