//! A ratekitty of a test's own: folder, configuration, database, clock.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use ratekitty::{
    api::{self, Access, AppState},
    collector,
    config::{Config, Place, Sources, metrics_yml},
    fetcher,
    keystone::Sessions,
    lock::Coordinator,
    processor::{Outcome, Pipeline, Progress, UnsupportedExpression},
    rating::Rater,
    schedule::Schedule,
    state::{Database, schema, scopes::ScopeKeys},
    storage::{self, Storage},
    time::{Clock, ManualClock},
    watch::{Found, Watch},
};
use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::util::ServiceExt;

use super::Db;

/// A ratekitty.
pub struct TestApp {
    /// Its folder, which goes with it.
    _dir: TempDir,
    /// What it is configured to.
    pub config: Config,
    /// Its state database.
    pub database: Database,
    /// Its storage.
    pub storage: Arc<dyn Storage>,
    /// Its time.
    pub clock: ManualClock,
}

/// A configuration file with a new database of this kind.
async fn with_connection(db: Db, conf: &str) -> String {
    match db.create().await {
        Some(url) => format!("[database]\nconnection = {url}\n{conf}"),
        None => conf.to_owned(),
    }
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl TestApp {
    /// One with a SQLite database; `conf` is added to its configuration file,
    /// `metrics` is its metrics file.
    pub async fn new(now: &str, conf: &str, metrics: &str) -> Self {
        Self::on(Db::Sqlite, now, conf, metrics).await
    }

    /// One with a database of this kind.
    pub async fn on(db: Db, now: &str, conf: &str, metrics: &str) -> Self {
        let conf = with_connection(db, conf).await;
        Self::with_storage("sql", now, &conf, metrics).await
    }

    /// One that keeps dataframes in a Loki; `conf` begins in `[storage_loki]`.
    pub async fn with_loki(now: &str, url: &str, conf: &str, metrics: &str) -> Self {
        Self::with_loki_on(Db::Sqlite, now, url, conf, metrics).await
    }

    /// The same with a database of this kind.
    pub async fn with_loki_on(db: Db, now: &str, url: &str, conf: &str, metrics: &str) -> Self {
        let conf = format!("[storage_loki]\nurl = {url}\nretry_budget = 5\n{conf}");
        let conf = with_connection(db, &conf).await;
        Self::with_storage("loki", now, &conf, metrics).await
    }

    async fn with_storage(backend: &str, now: &str, conf: &str, metrics: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        std::fs::write(dir.path().join("metrics.yml"), metrics).unwrap();
        let text = format!(
            "[DEFAULT]\nauth_strategy = noauth\n[storage]\nbackend = {backend}\n\
             [ratekitty]\nstate_path = {path}\nhttp_retry_budget = 0.3\nprogram = {}\n\
             [orchestrator]\ncoordination_url = file://{path}/locks\n\
             [collect]\ncollector = prometheus\nmetrics_conf = {path}/metrics.yml\n\
             [fetcher]\nbackend = prometheus\n{conf}",
            env!("CARGO_BIN_EXE_ratekitty"),
        );
        let file = dir.path().join("ratekitty.conf");
        std::fs::write(&file, text).unwrap();
        let mut config =
            Config::from_sources(&Sources::read(&[Place::File(file)]).unwrap()).unwrap();
        // Another CPython than the machine's, see the target `pythons` of the Makefile.
        if let Ok(python) = std::env::var("RATEKITTY_TEST_PYTHON") {
            config.ratekitty.pyscripts_python = python;
        }
        // Some do without certificates on purpose.
        let others = config.warnings.iter().filter(|warning| !warning.contains("insecure is set"));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new());
        let database = Database::connect(&config.database).await.unwrap();
        schema::upgrade(&database).await.unwrap();
        let clock = ManualClock::new(now.parse().unwrap());
        let as_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let storage = storage::build(&config, &database, &as_clock).unwrap();
        Self { _dir: dir, config, database, storage, clock }
    }

    /// One with both: usage from a Prometheus, dataframes in a Loki. `conf`
    /// follows in `[collect]`.
    pub async fn with_prometheus_and_loki(
        now: &str,
        (prometheus, loki): (&str, &str),
        conf: &str,
        metrics: &str,
    ) -> Self {
        let conf = format!(
            "[storage_loki]\nurl = {loki}\nretry_budget = 20\n\
             [fetcher_prometheus]\nmetric = scope_info\nprometheus_url = {prometheus}\n\
             [collector_prometheus]\nprometheus_url = {prometheus}\n[collect]\n{conf}\n"
        );
        Self::with_storage("loki", now, &conf, metrics).await
    }

    /// One whose fetcher and collector ask a Prometheus; `scope_info` tells the
    /// scopes. `conf` follows in `[collect]`.
    pub async fn with_prometheus(now: &str, url: &str, conf: &str, metrics: &str) -> Self {
        let conf = format!(
            "[fetcher_prometheus]\nmetric = scope_info\nprometheus_url = {url}\n\
             [collector_prometheus]\nprometheus_url = {url}\n[collect]\n{conf}\n"
        );
        Self::new(now, &conf, metrics).await
    }

    /// The processor.
    pub fn pipeline(&self) -> Arc<Pipeline> {
        Arc::new(self.try_pipeline().unwrap())
    }

    /// The processor, or why there is none.
    pub fn try_pipeline(&self) -> Result<Pipeline, UnsupportedExpression> {
        let conf = &self.config.collect;
        let metrics = metrics_yml::read(&conf.metrics_conf, &conf.scope_key).unwrap();
        let sessions = Sessions::new(Arc::new(self.clock.clone()));
        let stages = (
            fetcher::build(&self.config, &sessions).unwrap(),
            collector::build(&self.config, &sessions).unwrap(),
            self.storage.clone(),
        );
        let clock = Arc::new(self.clock.clone());
        let database = self.database.clone();
        Pipeline::new(&self.config, metrics, stages, (database, self.locks()), clock)
    }

    /// Where its locks are.
    pub fn locks(&self) -> Coordinator {
        Coordinator::new(self.config.orchestrator.coordination_url.expose_secret()).unwrap()
    }

    /// Gives it another metrics file.
    pub fn set_metrics(&mut self, metrics: &str) {
        std::fs::write(&self.config.collect.metrics_conf, metrics).unwrap();
    }

    /// Rates everything that is due.
    pub async fn rate(&self) -> Outcome {
        let stop = CancellationToken::new();
        self.pipeline().run_once(&Arc::new(Progress::quiet()), &stop).await.unwrap()
    }

    /// How its users are known.
    fn access(&self) -> Arc<Access> {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        Arc::new(Access::new(&self.config, &[], &clock).unwrap())
    }

    /// What its API needs.
    pub fn state(&self) -> AppState {
        AppState {
            storage: self.storage.clone(),
            database: self.database.clone(),
            keys: self.keys(),
            rater: Arc::new(Rater::new(&self.config, self.database.clone())),
            period: self.config.collect.period,
            metrics_conf: self.config.collect.metrics_conf.clone(),
            access: self.access(),
            http: self.config.http.clone(),
            watch: self.watch(),
            has_metrics: self.config.ratekitty.api_metrics,
            clock: Arc::new(self.clock.clone()),
            coalesced: Arc::default(),
        }
    }

    /// How it does.
    pub fn watch(&self) -> Arc<Watch> {
        let collect = &self.config.collect;
        Arc::new(Watch {
            database: self.database.clone(),
            keys: self.keys(),
            schedule: Schedule { period: collect.period, wait_periods: collect.wait_periods },
            clock: Arc::new(self.clock.clone()),
            pulses: Vec::new(),
            found: Found::default(),
            stop: CancellationToken::new(),
            storage: self.config.storage.backend.clone(),
        })
    }

    /// By what its API tells scopes from others.
    fn keys(&self) -> ScopeKeys {
        ScopeKeys {
            scope_key: self.config.collect.scope_key.clone(),
            fetcher: "prometheus".into(),
            collector: "prometheus".into(),
        }
    }

    /// Serves the API until `stop`, and gives its URL.
    pub async fn serve(&self, stop: &CancellationToken) -> String {
        let (state, stop) = (self.state(), stop.clone());
        let listener = api::listen("127.0.0.1", 0, "the test").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let limits = api::Limits {
                connections: 64,
                patience: Duration::from_secs(2),
                grace: Duration::ZERO,
            };
            api::serve(listener, state, stop, limits, api::pulse()).await;
        });
        format!("http://127.0.0.1:{port}")
    }

    /// What the API answers.
    pub async fn request(&self, request: Request<Body>) -> Answer {
        let state = self.state();
        let request = api::normalize_path(request);
        let response = api::router(state, Duration::from_secs(30)).oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// What the API answers to a GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Request::get(path).body(Body::empty()).unwrap()).await
    }
}
