//! Puts the parts of a program together, as the configuration says.

use std::sync::Arc;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::{self, Access, AppState},
    collector,
    config::{Config, metrics_yml},
    fetcher,
    keystone::Sessions,
    lock::Coordinator,
    processor::Pipeline,
    rating::Rater,
    schedule::Schedule,
    state::{
        Database,
        schema::{self, Condition},
        scopes::ScopeKeys,
    },
    storage,
    supervisor::Pulse,
    time::{Clock, RealClock},
    watch::{Found, Watch},
};

/// Opens the state database, whose tables must be of our revision. Two things
/// are made on the way: all tables of a file that has none, so that the embedded
/// default needs no set-up, and our own tables beside those of the reference, so
/// that a cloud moves over by starting another program.
pub(super) async fn database(config: &Config) -> anyhow::Result<Database> {
    let database = Database::connect(&config.database).await?;
    match schema::condition(&database).await? {
        Condition::Empty if database.is_embedded() => {
            info!("The state database is empty: making its tables");
            schema::upgrade(&database).await?;
        }
        Condition::Reference => {
            info!("The state database is CloudKitty's: adding our own tables beside its");
            schema::upgrade(&database).await?;
        }
        Condition::Empty | Condition::Ready => {}
    }
    schema::check(&database).await?;
    Ok(database)
}

/// What tells the scopes of this configuration from others.
pub(super) fn scope_keys(config: &Config) -> ScopeKeys {
    ScopeKeys {
        scope_key: config.collect.scope_key.clone(),
        fetcher: config.fetcher.backend.clone(),
        collector: config.collect.collector.clone(),
    }
}

/// The time of this machine.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(RealClock)
}

/// Logins at Keystone, none yet.
pub(super) fn sessions() -> Sessions {
    Sessions::new(clock())
}

/// The place of the locks.
pub(super) fn locks(config: &Config) -> anyhow::Result<Coordinator> {
    Ok(Coordinator::new(config.orchestrator.coordination_url.expose_secret())?)
}

/// Sees to it that a processor can do its work, before it begins.
pub(super) async fn prepare(pipeline: &Pipeline) -> anyhow::Result<()> {
    raise_file_limit();
    schema::check_writable(&pipeline.database).await?;
    pipeline.claim_period().await?;
    pipeline.locks.probe().await?;
    Ok(())
}

/// The four stages over a database.
pub(super) fn pipeline(config: &Config, database: &Database) -> anyhow::Result<Pipeline> {
    // Everything is checked before a peer is asked.
    let metrics = metrics_yml::read(&config.collect.metrics_conf, &config.collect.scope_key)?;
    for warning in &metrics.warnings {
        warn!("{}: {warning}", config.collect.metrics_conf.display());
    }
    let locks = locks(config)?;
    let clock = clock();
    let sessions = sessions();
    let fetcher = fetcher::build(config, &sessions)?;
    let collector = collector::build(config, &sessions)?;
    let storage = storage::build(config, database, &clock)?;
    let pipeline = Pipeline::new(
        config,
        metrics,
        (fetcher, collector, storage),
        (database.clone(), locks),
        clock,
    );
    pipeline.with_context(|| format!("metrics file `{}`", config.collect.metrics_conf.display()))
}

/// How the daemon does: whether loops go on, and how far the scopes are that were found.
pub(super) fn watch(
    config: &Config,
    database: &Database,
    pulses: Vec<Pulse>,
    found: Found,
    stop: &CancellationToken,
) -> Arc<Watch> {
    Arc::new(Watch {
        database: database.clone(),
        keys: scope_keys(config),
        schedule: Schedule {
            period: config.collect.period,
            wait_periods: config.collect.wait_periods,
        },
        clock: clock(),
        pulses,
        found,
        stop: stop.clone(),
        storage: config.storage.backend.clone(),
    })
}

/// What clients are held to.
pub(super) fn limits(config: &Config) -> api::Limits {
    api::Limits {
        connections: config.ratekitty.api_max_connections,
        patience: config.ratekitty.api_client_timeout,
        grace: config.ratekitty.shutdown_grace,
    }
}

/// Listens where `[ratekitty] processor_listen` says, and tells there how the daemon
/// does, until told to stop.
pub(super) async fn serve_watch(
    config: &Config,
    watch: Arc<Watch>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    if let Some((host, port)) = &config.ratekitty.processor_listen {
        let listener = api::listen(host, *port, "[ratekitty] processor_listen").await?;
        let serving = api::serve_watch(listener, watch, stop.clone(), limits(config), api::pulse());
        tokio::spawn(serving);
    }
    Ok(())
}

/// What the API needs, over a database.
pub(super) fn app_state(
    config: &Config,
    database: &Database,
    watch: Arc<Watch>,
) -> anyhow::Result<AppState> {
    let clock = clock();
    let access = Access::new(config, &super::search_path(), &clock)?;
    Ok(AppState {
        storage: storage::build(config, database, &clock)?,
        database: database.clone(),
        keys: scope_keys(config),
        rater: Arc::new(Rater::new(config, database.clone())),
        period: config.collect.period,
        metrics_conf: config.collect.metrics_conf.clone(),
        access: Arc::new(access),
        http: config.http.clone(),
        watch,
        has_metrics: config.ratekitty.api_metrics,
        clock,
        coalesced: Arc::default(),
    })
}

/// Lets the process open as many files as it may: each lock of a scope may be one, and
/// the usual limit is from times when programs had few.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("The limit of open files stays at {:?}: {error}", limit.current);
    }
}
