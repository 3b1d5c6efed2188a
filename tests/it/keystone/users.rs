//! Users of the API: who is known, and what each may do.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Cloud, http_client};
use crate::{fixture, support::TestApp};

const METRICS: &str = "metrics:
  openstack_instance:
    unit: instance
    alt_name: instance
    groupby: [id, project_id]
    metadata: [flavor_name]
    extra_args: {aggregation_method: max}
";

/// Tokens are good until a real time.
#[expect(clippy::disallowed_methods, reason = "tokens end at a real time")]
pub(super) fn now() -> String {
    DateTime::<Utc>::from(SystemTime::now()).to_rfc3339()
}

/// An API that asks the real Keystone.
pub(super) async fn app(cloud: &Cloud, more: &str) -> TestApp {
    let conf = format!(
        "[DEFAULT]\nauth_strategy = keystone\n[keystone_authtoken]\n{}{more}",
        cloud.options("cloudkitty", "service")
    );
    TestApp::new(&now(), &conf, METRICS).await
}

/// Asks a served API.
pub(super) struct Client {
    pub http: reqwest::Client,
    pub url: String,
}

impl Client {
    pub async fn new(app: &TestApp, stop: &CancellationToken) -> Self {
        Self { http: http_client(), url: app.serve(stop).await }
    }

    pub async fn ask(&self, request: &str, headers: &[(&str, &str)]) -> Response {
        let mut words = request.splitn(3, ' ');
        let method: Method = words.next().unwrap().parse().unwrap();
        let path = words.next().unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = words.next() {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        request.send().await.unwrap()
    }

    pub async fn status(&self, request: &str, token: &str) -> u16 {
        self.ask(request, &[("x-auth-token", token)]).await.status().as_u16()
    }
}

pub(super) async fn json_of(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// Where we answer otherwise than the reference: 500 and broken connections are
/// none of a client's business. Request, and our answers to the same tokens.
const OURS: &[(&str, u16)] = &[
    // It wants a filter there, and fails without.
    ("GET /v1/rating/module_config/hashmap/thresholds", 400),
    ("POST /v1/rating/quote {}", 400),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_request_by_every_kind_of_token() {
    let cloud = Cloud::get();
    let (app, stop) = (app(&cloud, "token_cache_time = 300\n").await, CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let client = Client::new(&app, &stop).await;
    let in_alpha = cloud.project_scope("alpha");
    let expired = cloud.short_token().await;
    let revoked = cloud.token_of("alpha-member", in_alpha.clone()).await;
    let revoking = http_client()
        .delete(format!("{}/auth/tokens", cloud.url))
        .header("x-auth-token", &revoked)
        .header("x-subject-token", &revoked)
        .send();
    assert!(revoking.await.unwrap().status().is_success());
    tokio::time::sleep(Duration::from_secs(4)).await;
    let domain = json!({"domain": {"id": "default"}});
    let mut tokens = vec![
        String::new(),
        "garbage".to_owned(),
        expired,
        revoked,
        cloud.token_of("alpha-member", Value::Null).await,
        cloud.token_of("domain-admin", domain).await,
        cloud.token_of("system-admin", json!({"system": {"all": true}})).await,
        cloud.token_of("admin", cloud.project_scope("admin")).await,
        cloud.token_of("alpha-admin", in_alpha.clone()).await,
        cloud.token_of("service-only", cloud.project_scope("service")).await,
    ];
    for user in ["alpha-manager", "alpha-member", "alpha-reader", "alpha-rating"] {
        tokens.push(cloud.token_of(user, in_alpha.clone()).await);
    }
    let mut wrong = Vec::new();
    let mut count = 0;
    let matrix = std::fs::read_to_string(fixture("keystone/matrix.txt")).unwrap();
    for line in matrix.lines().filter(|line| !line.starts_with('#')) {
        let (request, recorded) = line.split_once('\t').unwrap();
        let recorded: Vec<u16> = recorded.split(' ').map(|code| code.parse().unwrap()).collect();
        assert_eq!(recorded.len(), tokens.len(), "{line}");
        let asked = request.replace("{uuid}", "00000000-0000-0000-0000-000000000000");
        for (kind, (token, recorded)) in tokens.iter().zip(recorded).enumerate() {
            let ours = OURS.iter().find(|(of, _)| *of == request).map(|(_, code)| *code);
            let expected = match recorded {
                // Tokens of another scope have no rights; a crash is no answer.
                0 => 403,
                500 if matches!(kind, 5 | 6) => 403,
                500 => ours.unwrap_or(500),
                code => code,
            };
            let got = match token.as_str() {
                "" => client.ask(&asked, &[]).await.status().as_u16(),
                token => client.status(&asked, token).await,
            };
            count += 1;
            if got != expected {
                wrong.push(format!("{request}, token {kind}: {got}, not {expected} ({recorded})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 850, "{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_see_their_own_project_alone() {
    let cloud = Cloud::get();
    let (app, stop) = (app(&cloud, "").await, CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let client = Client::new(&app, &stop).await;
    let admin = cloud.token_of("admin", cloud.project_scope("admin")).await;
    let member = cloud.token_of("alpha-member", cloud.project_scope("alpha")).await;
    let (alpha, beta) = (cloud.project("alpha"), cloud.project("beta"));
    let month = Utc::now_of_tests().format("%Y-%m-01T00:00:00+00:00").to_string();
    let end = month.replace("T00:", "T01:");
    let point = |project: &str, price: u32| {
        json!({"vol": {"unit": "x", "qty": 1}, "rating": {"price": price},
            "groupby": {"project_id": project, "id": "1"}, "metadata": {}})
    };
    let body = json!({"dataframes": [{
        "period": {"begin": month, "end": end},
        "usage": {"cpu": [point(alpha, 3), point(beta, 5)]},
    }]});
    let pushed = client.status(&format!("POST /v2/dataframes {body}"), &admin).await;
    assert_eq!(pushed, 204);
    assert_eq!(client.status(&format!("POST /v2/dataframes {body}"), &member).await, 403);
    let rate = |request: String, token: &str| {
        let (client, token) = (&client, token.to_owned());
        async move {
            let answer = client.ask(&request, &[("x-auth-token", &token)]).await;
            assert_eq!(answer.status(), 200, "{request}");
            json_of(answer).await
        }
    };
    let summary = |filters: &str| format!("GET /v2/summary?response_format=object{filters}");
    let all = rate(summary(""), &admin).await;
    assert_eq!(all["results"][0]["rate"], 8.0);
    for filters in ["", &format!("&filters=project_id:{beta}"), "&groupby=project_id"] {
        let own = rate(summary(filters), &member).await;
        assert_eq!(own["results"][0]["rate"], 3.0, "{filters}: {own}");
        assert_eq!(own["total"], 1, "{filters}");
    }
    let frames = rate("GET /v2/dataframes".into(), &member).await;
    assert_eq!(frames["total"], 1, "{frames}");
    assert!(!frames.to_string().contains(beta), "{frames}");
    // Version 1.
    assert_eq!(rate("GET /v1/report/total".into(), &member).await, "3.0");
    assert_eq!(rate("GET /v1/report/total?all_tenants=true".into(), &admin).await, "8.0");
    assert_eq!(rate(format!("GET /v1/report/total?tenant_id={beta}"), &admin).await, "5.0");
    // Its own project, in which nothing is used.
    assert_eq!(rate("GET /v1/report/total".into(), &admin).await, "0");
    let forbidden = client
        .ask(&format!("GET /v1/report/total?tenant_id={beta}"), &[("x-auth-token", &member)])
        .await;
    assert_eq!(forbidden.status(), 403);
    assert_eq!(
        json_of(forbidden).await,
        json!({"faultcode": "Client", "debuginfo": null,
            "faultstring": "Policy doesn't allow report:get_total to be performed."})
    );
    let own = rate("GET /v1/storage/dataframes".into(), &member).await;
    assert!(own.to_string().contains(alpha) && !own.to_string().contains(beta), "{own}");
    // Whoever makes a rule is kept with it.
    let service = json!({"name": "cpu"});
    let path = "/v1/rating/module_config/hashmap";
    let made =
        client.ask(&format!("POST {path}/services {service}"), &[("x-auth-token", &admin)]).await;
    let service = json_of(made).await["service_id"].clone();
    let mapping = json!({"service_id": service, "cost": "1"});
    let made =
        client.ask(&format!("POST {path}/mappings {mapping}"), &[("x-auth-token", &admin)]).await;
    assert_eq!(json_of(made).await["created_by"], cloud.told["users"]["admin"]);
}

trait NowOfTests {
    fn now_of_tests() -> DateTime<Utc>;
}

impl NowOfTests for Utc {
    fn now_of_tests() -> DateTime<Utc> {
        now().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_taken_as_the_middleware_takes_them() {
    let cloud = Cloud::get();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let app = app(&cloud, "www_authenticate_uri = http://keystone.example/v3\n").await;
    let client = Client::new(&app, &stop).await;
    let member = cloud.token_of("alpha-member", cloud.project_scope("alpha")).await;
    let service = cloud.token_of("service-only", cloud.project_scope("service")).await;
    let request = "GET /v1/info/config";
    let refused = client.ask(request, &[]).await;
    assert_eq!(refused.status(), 401);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    assert_eq!(challenge, "Keystone uri=\"http://keystone.example/v3\"");
    assert!(refused.headers().contains_key("x-openstack-request-id"));
    assert_eq!(json_of(refused).await["error"]["code"], 401);
    let status = |headers: Vec<(&'static str, String)>| {
        let client = &client;
        async move {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            client.ask(request, &headers).await.status().as_u16()
        }
    };
    // What a client says about itself counts for nothing.
    let forged = vec![
        ("x-identity-status", "Confirmed".to_owned()),
        ("x-roles", "admin".to_owned()),
        ("x-project-id", "x".to_owned()),
    ];
    assert_eq!(status(forged).await, 401);
    assert_eq!(status(vec![("x-storage-token", member.clone())]).await, 200);
    let pair = |user: &str, of: &str| {
        vec![("x-auth-token", user.to_owned()), ("x-service-token", of.to_owned())]
    };
    assert_eq!(status(pair(&member, &service)).await, 200);
    assert_eq!(status(pair(&member, "garbage")).await, 401);
    // One that is not a service's.
    assert_eq!(status(pair(&member, &member)).await, 401);
    // One that has ended is good with a service's beside it, and only then.
    let short = cloud.short_token().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(status(vec![("x-auth-token", short.clone())]).await, 401);
    let short = cloud.short_token().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(status(pair(&short, &service)).await, 200);
    assert_eq!(status(pair(&short, &member)).await, 401);
    for odd in ["a".repeat(9_000), "a b".to_owned(), "\u{e9}".to_owned()] {
        assert_eq!(status(vec![("x-auth-token", odd)]).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_rules_hold_their_credential() {
    let cloud = Cloud::get();
    let service = cloud.token_of("service-only", cloud.project_scope("service")).await;
    for (conf, allowed) in [("service_type = rating\n", 200), ("", 401)] {
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let app = app(&cloud, conf).await;
        let client = Client::new(&app, &stop).await;
        let held = cloud.token_by_credential("summary-only").await;
        assert_eq!(client.status("GET /v2/summary", &held).await, allowed, "{conf}");
        assert_eq!(client.status("GET /v2/rating/modules", &held).await, 401, "{conf}");
        assert_eq!(client.status("POST /v2/summary {}", &held).await, 401, "{conf}");
        // A service's token beside it widens nothing.
        let beside = [("x-auth-token", held.as_str()), ("x-service-token", service.as_str())];
        for (request, expected) in [("GET /v2/summary", allowed), ("GET /v2/rating/modules", 401)] {
            assert_eq!(client.ask(request, &beside).await.status(), expected, "{conf}{request}");
        }
        let plain = cloud.token_by_credential("plain").await;
        assert_eq!(client.status("GET /v2/rating/modules", &plain).await, 200, "{conf}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_decisions_are_the_policys() {
    let cloud = Cloud::get();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let app = app(&cloud, "delay_auth_decision = true\n").await;
    let client = Client::new(&app, &stop).await;
    for headers in [vec![], vec![("x-auth-token", "garbage")]] {
        // Whoever it is may read this.
        assert_eq!(client.ask("GET /v1/info/config", &headers).await.status(), 200);
        assert_eq!(client.ask("GET /v2/scope", &headers).await.status(), 403);
        assert_eq!(client.ask("GET /v2/summary", &headers).await.status(), 403);
    }
}
