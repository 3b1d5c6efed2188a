//! Puts the parts of a program together, as the configuration says.

use std::sync::Arc;

use anyhow::Context;
use tracing::{info, warn};

use crate::{
    api::AppState,
    collector,
    config::{Config, metrics_yml},
    fetcher,
    processor::Pipeline,
    state::{Database, schema},
    storage,
    time::{Clock, RealClock},
};

/// Opens the state database. One that has no tables yet gets them, so that the
/// embedded default needs no set-up; anything else must be of our revision.
pub(super) async fn database(config: &Config) -> anyhow::Result<Database> {
    let database = Database::connect(&config.database).await?;
    if schema::is_empty(&database).await? {
        info!("The state database is empty: making its tables");
        schema::upgrade(&database).await?;
    }
    schema::check(&database).await?;
    Ok(database)
}

/// The time of this machine.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(RealClock)
}

/// The four stages over a database.
pub(super) fn pipeline(config: &Config, database: &Database) -> anyhow::Result<Pipeline> {
    // Everything is checked before a peer is asked.
    let metrics = metrics_yml::read(&config.collect.metrics_conf, &config.collect.scope_key)?;
    for warning in &metrics.warnings {
        warn!("{}: {warning}", config.collect.metrics_conf.display());
    }
    warn!(
        "Locks are not available yet and [orchestrator] coordination_url is not used: run only one processor on a state database"
    );
    let fetcher = fetcher::build(config)?;
    let collector = collector::build(config)?;
    let clock = clock();
    let storage = storage::build(config, database, &clock)?;
    let pipeline =
        Pipeline::new(config, metrics, (fetcher, collector, storage), database.clone(), clock);
    pipeline.with_context(|| format!("metrics file `{}`", config.collect.metrics_conf.display()))
}

/// What the API needs, over a database.
pub(super) fn app_state(config: &Config, database: &Database) -> anyhow::Result<AppState> {
    let clock = clock();
    Ok(AppState {
        storage: storage::build(config, database, &clock)?,
        database: database.clone(),
        clock,
    })
}
