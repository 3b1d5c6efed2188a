//! Keystone and Aetos that fail, which real ones do not do when asked.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::TimeDelta;
use ratekitty::{
    state::scopes,
    time::{Clock, ManualClock},
};
use serde_json::json;
use std::collections::HashMap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::users::Client;
use crate::support::{TestApp, TlsListener};

const NOW: &str = "2026-11-01T05:00:00Z";

/// A Keystone and an Aetos in one, which fail as they are told.
#[derive(Clone)]
pub(super) struct Double {
    pub url: String,
    clock: ManualClock,
    logins: Arc<AtomicU64>,
    queries: Arc<AtomicU64>,
    validations: Arc<AtomicU64>,
    /// How many further requests to Aetos are answered with which status.
    failing: Arc<std::sync::Mutex<(u64, u16)>>,
    is_down: Arc<AtomicBool>,
    /// Seconds for which a token is good that we log in for.
    good_for: Arc<AtomicU64>,
    /// Seconds for which tokens of users are good.
    users_good_for: Arc<AtomicU64>,
    /// Whether tokens of users are revoked.
    is_revoked: Arc<AtomicBool>,
    has_aetos: Arc<AtomicBool>,
}

impl Double {
    pub async fn start() -> Self {
        Self::start_at(None).await
    }

    /// One that speaks TLS as `config` says.
    pub async fn start_tls(config: rustls::ServerConfig) -> Self {
        Self::start_at(Some(config)).await
    }

    async fn start_at(tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let double = Self {
            url: format!("{scheme}://{}", listener.local_addr().unwrap()),
            clock: ManualClock::new(NOW.parse().unwrap()),
            logins: <_>::default(),
            queries: <_>::default(),
            validations: <_>::default(),
            failing: <_>::default(),
            is_down: <_>::default(),
            good_for: Arc::new(AtomicU64::new(3_600)),
            users_good_for: Arc::new(AtomicU64::new(3_600)),
            is_revoked: <_>::default(),
            has_aetos: Arc::new(AtomicBool::new(true)),
        };
        let routes = Router::new()
            .route("/v3/auth/tokens", post(log_in).get(validate))
            .route("/v3/projects", get(async || r#"{"projects":[{"id":"s0","enabled":true}],"links":{}}"#))
            .route(
                "/v3/role_assignments",
                get(async || {
                    r#"{"role_assignments":[{"role":{"name":"rating"},"user":{"id":"u"},"scope":{"project":{"id":"s0"}}}]}"#
                }),
            )
            .route("/aetos/api/v1/query", get(query))
            .with_state(double.clone());
        match tls {
            None => tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }),
            Some(config) => tokio::spawn(async move {
                axum::serve(TlsListener::new(listener, config), routes).await.unwrap()
            }),
        };
        double
    }

    /// How many tokens of users it was asked about.
    pub fn validations(&self) -> u64 {
        self.validations.load(Ordering::Relaxed)
    }

    fn fail(&self, count: u64, status: u16) {
        *self.failing.lock().unwrap() = (count, status);
    }

    /// A ratekitty that fetches, collects and validates here.
    pub async fn app(&self, more: &str) -> TestApp {
        let conf = format!(
            "[DEFAULT]\nauth_strategy = keystone\n[fetcher]\nbackend = keystone\n[collect]\n\
             collector = aetos\nwait_periods = 1\n[ratekitty]\nhttp_retry_budget = 3\n\
             first_period_begin = 2026-11-01T00:00:00+00:00\n\
             [fetcher_keystone]\nauth_section = ks\n[collector_aetos]\nauth_section = ks\n\
             [keystone_authtoken]\nauth_section = ks\nhttp_request_max_retries = 0\n{more}\
             [ks]\nauth_type = v3password\nauth_url = {}/v3\nusername = u\npassword = s3cret\n\
             project_id = p\n",
            self.url
        );
        let metrics = "metrics:\n  m:\n    unit: u\n    groupby: [id, project_id]\n";
        let app = TestApp::new(NOW, &conf, metrics).await;
        app.clock.set(self.clock.now());
        app
    }
}

fn gone() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "<html>Service Unavailable</html>").into_response()
}

async fn log_in(State(double): State<Double>) -> Response {
    if double.is_down.load(Ordering::Relaxed) {
        return gone();
    }
    let number = double.logins.fetch_add(1, Ordering::Relaxed);
    let good_for = double.good_for.load(Ordering::Relaxed);
    let end = double.clock.now() + TimeDelta::seconds(good_for as i64);
    let mut catalog = vec![json!({"type": "identity", "endpoints": [{
        "interface": "internal", "region": "r", "url": format!("{}/v3", double.url)}]})];
    if double.has_aetos.load(Ordering::Relaxed) {
        catalog.push(json!({"type": "metric-storage", "endpoints": [{
            "interface": "public", "region": "r", "url": format!("{}/aetos", double.url)}]}));
    }
    let body = json!({"token": {
        "expires_at": end.to_rfc3339(), "user": {"id": "u"}, "project": {"id": "p"},
        "roles": [{"name": "admin"}], "catalog": catalog,
    }});
    let token = [("x-subject-token", format!("token-{number}"))];
    (StatusCode::CREATED, token, body.to_string()).into_response()
}

/// Tokens that begin with `good` are good, those that begin with `ended` have ended.
/// Their owner has the role that follows a slash, or else `admin`.
async fn validate(
    State(double): State<Double>,
    Query(arguments): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if double.is_down.load(Ordering::Relaxed) {
        return gone();
    }
    double.validations.fetch_add(1, Ordering::Relaxed);
    let subject = headers["x-subject-token"].to_str().unwrap();
    let is_known = !double.is_revoked.load(Ordering::Relaxed);
    let good_for = if is_known && subject.starts_with("good") {
        double.users_good_for.load(Ordering::Relaxed) as i64
    } else if is_known && subject.starts_with("ended") && arguments.contains_key("allow_expired") {
        -1
    } else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let end = double.clock.now() + TimeDelta::seconds(good_for);
    let role = subject.split_once('/').map_or("admin", |(_, role)| role);
    let body = json!({"token": {"expires_at": end.to_rfc3339(), "user": {"id": "x"},
        "project": {"id": "p"}, "roles": [{"name": role}]}});
    body.to_string().into_response()
}

async fn query(
    State(double): State<Double>,
    Query(arguments): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    double.queries.fetch_add(1, Ordering::Relaxed);
    let latest = format!("token-{}", double.logins.load(Ordering::Relaxed) - 1);
    if headers["x-auth-token"].to_str().unwrap() != latest {
        return (StatusCode::UNAUTHORIZED, "{}").into_response();
    }
    let (count, status) = &mut *double.failing.lock().unwrap();
    if *count > 0 {
        *count -= 1;
        let body = "<html><h1>not today</h1></html>";
        return (StatusCode::from_u16(*status).unwrap(), body).into_response();
    }
    let known = ["query", "time", "timeout"];
    assert!(arguments.keys().all(|name| known.contains(&name.as_str())), "{arguments:?}");
    let body = json!({"status": "success", "data": {"resultType": "vector", "result": [
        {"metric": {"id": "1", "project_id": "s0"}, "value": [0, "2"]}]}});
    body.to_string().into_response()
}

/// How many periods the only scope has behind it.
async fn rated(app: &TestApp) -> i64 {
    let keys = app.pipeline().keys().clone();
    let state = scopes::get(&app.database, "s0", &keys).await.unwrap();
    state.map_or(0, |state| state.last_processed.timestamp() / 3_600 - 1_793_491_200 / 3_600 + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn fetcher_and_collector_share_a_login() {
    let double = Double::start().await;
    let app = double.app("").await;
    assert_eq!(app.rate().await.failed, 0);
    assert_eq!(rated(&app).await, 4);
    assert_eq!(double.logins.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_is_renewed_in_time() {
    let double = Double::start().await;
    // Never good for as long as a request may take.
    double.good_for.store(30, Ordering::Relaxed);
    let app = double.app("").await;
    assert_eq!(app.rate().await.failed, 0);
    assert_eq!(rated(&app).await, 4);
    // One for each request: projects, roles (and who we are), four queries.
    assert!(double.logins.load(Ordering::Relaxed) >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_in_mid_run_is_renewed() {
    let double = Double::start().await;
    let app = double.app("").await;
    let pipeline = app.pipeline();
    let stop = CancellationToken::new();
    let progress = Arc::new(ratekitty::processor::Progress::quiet());
    pipeline.run_once(&progress, &stop).await.unwrap();
    // Someone revokes all tokens: ours is not the latest any more.
    double.logins.fetch_add(1, Ordering::Relaxed);
    app.clock.set("2026-11-01T08:00:00Z".parse().unwrap());
    double.clock.set(app.clock.now());
    assert_eq!(pipeline.run_once(&progress, &stop).await.unwrap().failed, 0);
    assert_eq!(rated(&app).await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_period_is_done_without_data() {
    for (status, is_passing) in [(401, false), (403, false), (404, false), (500, true), (503, true)]
    {
        let double = Double::start().await;
        let app = double.app("").await;
        double.fail(u64::MAX, status);
        assert_eq!(app.rate().await.failed, 1, "{status}");
        assert_eq!(rated(&app).await, 0, "{status}");
        let asked = double.queries.load(Ordering::Relaxed);
        match is_passing {
            // Tried again for the time that is allowed.
            true => assert!(asked > 3, "{status}: {asked}"),
            // A 401 once more, with a new token.
            false => assert!(asked <= 2, "{status}: {asked}"),
        }
        // A fault that passes costs nothing.
        double.fail(2, 503);
        assert_eq!(app.rate().await.failed, 0, "{status}");
        assert_eq!(rated(&app).await, 4, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_without_aetos_is_told() {
    let double = Double::start().await;
    double.has_aetos.store(false, Ordering::Relaxed);
    let app = double.app("").await;
    assert_eq!(app.rate().await.failed, 1);
    assert_eq!((rated(&app).await, double.queries.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystone_that_is_down_is_a_503() {
    let double = Double::start().await;
    let app = double.app("token_cache_time = 60\n").await;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let client = Client::new(&app, &stop).await;
    let request = "GET /v1/info/config";
    assert_eq!(client.status(request, "good-1").await, 200);
    assert_eq!(client.status(request, "bad-1").await, 401);
    double.is_down.store(true, Ordering::Relaxed);
    // What is known stays known, good and bad.
    for _ in 0..3 {
        assert_eq!(client.status(request, "good-1").await, 200);
        assert_eq!(client.status(request, "bad-1").await, 401);
    }
    assert_eq!(double.validations(), 2);
    let answer = client.ask(request, &[("x-auth-token", "good-2")]).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(client.status("GET /", "").await, 200);
    // And is asked for again when that is over.
    app.clock.set(app.clock.now() + TimeDelta::seconds(61));
    assert_eq!(client.status(request, "good-1").await, 503);
    double.is_down.store(false, Ordering::Relaxed);
    double.clock.set(app.clock.now());
    assert_eq!(client.status(request, "good-1").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_is_refused_though_it_is_kept() {
    let double = Double::start().await;
    double.users_good_for.store(30, Ordering::Relaxed);
    let app = double.app("token_cache_time = 300\n").await;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let client = Client::new(&app, &stop).await;
    let begin = app.clock.now();
    for (seconds, expected) in [(0, 200), (29, 200), (31, 401), (299, 401)] {
        app.clock.set(begin + TimeDelta::seconds(seconds));
        let status = client.status("GET /v1/info/config", "good-1").await;
        assert_eq!(status, expected, "after {seconds} s");
    }
    assert_eq!(double.validations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_taken_for_as_long_as_it_is_kept() {
    let double = Double::start().await;
    let app = double.app("token_cache_time = 60\n").await;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let client = Client::new(&app, &stop).await;
    let begin = app.clock.now();
    assert_eq!(client.status("GET /v1/info/config", "good-1").await, 200);
    double.is_revoked.store(true, Ordering::Relaxed);
    for (seconds, expected, validations) in [(59, 200, 1), (60, 401, 2), (61, 401, 2)] {
        app.clock.set(begin + TimeDelta::seconds(seconds));
        let status = client.status("GET /v1/info/config", "good-1").await;
        assert_eq!((status, double.validations()), (expected, validations), "after {seconds} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_each_request_asks() {
    let double = Double::start().await;
    let app = double.app("token_cache_time = -1\n").await;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let client = Client::new(&app, &stop).await;
    for validations in 1..4 {
        assert_eq!(client.status("GET /v1/info/config", "good-1").await, 200);
        assert_eq!(double.validations(), validations);
    }
    double.is_revoked.store(true, Ordering::Relaxed);
    assert_eq!(client.status("GET /v1/info/config", "good-1").await, 401);
}

/// A service's token beside a user's: configuration, user's, service's, answer.
const BESIDE: &[(&str, &str, &str, u16)] = &[
    // The role `service`, unless others are named.
    ("", "good-1", "good/service", 200),
    ("", "good-1", "good/helper", 401),
    ("", "ended-1", "good/service", 200),
    ("", "ended-1", "good/helper", 401),
    ("service_token_roles = spare, helper\n", "good-1", "good/helper", 200),
    ("service_token_roles = spare, helper\n", "good-1", "good/service", 401),
    ("service_token_roles = spare, helper\n", "ended-1", "good/spare", 200),
    ("service_token_roles = spare, helper\n", "ended-1", "good/service", 401),
    // Any good token, but only the role lets tokens in that have ended.
    ("service_token_roles_required = false\n", "good-1", "good/helper", 200),
    ("service_token_roles_required = false\n", "good-1", "bad", 401),
    ("service_token_roles_required = false\n", "good-1", "ended/service", 401),
    ("service_token_roles_required = false\n", "ended-1", "good/helper", 401),
    ("service_token_roles_required = false\n", "ended-1", "good/service", 200),
];

#[tokio::test(flavor = "multi_thread")]
async fn services_tokens_are_taken_by_their_roles() {
    let double = Double::start().await;
    for (conf, user, service, expected) in BESIDE {
        let app = double.app(conf).await;
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let client = Client::new(&app, &stop).await;
        let headers = [("x-auth-token", *user), ("x-service-token", *service)];
        let answer = client.ask("GET /v1/info/config", &headers).await;
        assert_eq!(answer.status(), *expected, "{conf}{user} beside {service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_with_one_token_ask_once() {
    let double = Double::start().await;
    let app = double.app("").await;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let client = Client::new(&app, &stop).await;
    assert_eq!(client.status("GET /v1/info/config", "good-1").await, 200);
    let many = (0..40).map(|_| client.status("GET /v1/info/config", "good-1"));
    assert!(futures::future::join_all(many).await.iter().all(|status| *status == 200));
    assert_eq!(double.validations(), 1);
    assert_eq!(double.logins.load(Ordering::Relaxed), 1);
}
