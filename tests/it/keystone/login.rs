//! Logging in, finding services, fetching projects.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use ratekitty::{
    config::sections::keystone_auth::{Domain, KeystoneAuth, Login, Named, Scope},
    fetcher,
    keystone::{Session, Sessions, Wanted},
    time::{Clock, RealClock},
};
use serde_json::{Value, json};

use super::{Cloud, answer_of, config, faults::Double, http_client, session};
use crate::support::{Authority, set_up};

fn wanted(interface: &str, region: Option<&str>) -> Wanted {
    Wanted {
        service_type: "metric-storage".into(),
        interfaces: vec![interface.into()],
        region: region.map(str::to_owned),
    }
}

#[tokio::test]
async fn all_ways_to_log_in_lead_in() {
    let cloud = Cloud::get();
    let in_alpha = cloud.in_project("alpha");
    let by_names =
        Scope::Project(Named::Name("alpha".into(), Some(Domain::Name("Default".into()))));
    let mut logins = vec![
        ("by identifiers", cloud.auth("alpha-member", in_alpha.clone())),
        ("by names", cloud.auth("alpha-member", by_names)),
        ("domain", cloud.auth("domain-admin", Scope::Domain(Domain::Id("default".into())))),
        ("system", cloud.auth("system-admin", Scope::System)),
        (
            "trust",
            cloud.auth("service-only", Scope::Trust(cloud.told["trust"].as_str().unwrap().into())),
        ),
    ];
    let mut discovered = cloud.auth("alpha-member", in_alpha.clone());
    discovered.auth_url = cloud.url.trim_end_matches("/v3").to_owned();
    discovered.is_v3_url = false;
    logins.push(("version discovery", discovered));
    let mut by_token = cloud.auth("alpha-member", in_alpha.clone());
    let token = cloud.token_of("alpha-member", Value::Null).await;
    by_token.login = Login::Token(token.into());
    logins.push(("token", by_token));
    let mut by_credential = cloud.auth("alpha-member", in_alpha);
    let credential = &cloud.told["application_credentials"]["plain"];
    by_credential.login = Login::ApplicationCredential {
        credential: credential["id"].as_str().unwrap().into(),
        user: None,
        secret: credential["secret"].as_str().unwrap().to_owned().into(),
    };
    logins.push(("application credential", by_credential));
    for (name, auth) in logins {
        let access = session(&auth).access().await;
        let access = access.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(access.user_id().is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_refused_login_says_what_to_check() {
    let cloud = Cloud::get();
    let mut auth = cloud.auth("alpha-member", cloud.in_project("alpha"));
    auth.login = Login::Password {
        user: Named::Name("alpha-member".into(), Some(Domain::Id("default".into()))),
        password: "hunter2".to_owned().into(),
    };
    let error = session(&auth).access().await.unwrap_err().to_string();
    assert!(error.contains("refuses the login of [ks]") && error.contains("401"), "{error}");
    assert!(!error.contains("hunter2") && !format!("{auth:?}").contains("hunter2"), "{error}");
    // Of another project.
    let auth = cloud.auth("alpha-member", cloud.in_project("beta"));
    assert!(session(&auth).access().await.unwrap_err().to_string().contains("401"));
    // Nobody there.
    let mut auth = cloud.auth("alpha-member", cloud.in_project("alpha"));
    auth.auth_url = "http://user:pass@127.0.0.1:1/v3".into();
    let error = session(&auth).access().await.unwrap_err().to_string();
    assert!(error.contains("cannot reach Keystone at http://127.0.0.1:1/v3"), "{error}");
    // Something else there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    auth.auth_url = format!("http://{}", listener.local_addr().unwrap());
    let other = axum::Router::new().fallback(async || "{}");
    tokio::spawn(async move { axum::serve(listener, other).await.unwrap() });
    auth.is_v3_url = false;
    let error = session(&auth).access().await.unwrap_err().to_string();
    assert!(error.contains("did not answer as Keystone does"), "{error}");
}

#[tokio::test]
async fn services_are_found_by_interface_and_region() {
    let cloud = Cloud::get();
    let session = session(&cloud.auth("cloudkitty", cloud.in_project("service")));
    let (up, down) = (cloud.told["region"].as_str(), cloud.told["down_region"].as_str());
    let mut found = BTreeSet::new();
    for interface in ["public", "internal", "admin", "publicURL"] {
        found.insert(session.endpoint(&wanted(interface, up)).await.unwrap());
    }
    assert_eq!(found.len(), 2, "{found:?}");
    let url = session.endpoint(&wanted("public", down)).await.unwrap();
    assert_eq!(url, "http://127.0.0.2:1");
    let error = session.endpoint(&wanted("public", Some("Nowhere"))).await.unwrap_err().to_string();
    assert!(error.contains("region Nowhere") && error.contains("public in"), "{error}");
    // Without a project there is no catalog.
    let unscoped = super::session(&cloud.auth("alpha-member", Scope::Unscoped));
    let error = unscoped.endpoint(&wanted("public", None)).await.unwrap_err().to_string();
    assert!(error.contains("set project_name"), "{error}");
}

#[tokio::test]
async fn who_logs_in_alike_shares_one_login() {
    let cloud = Cloud::get();
    let auth = cloud.auth("cloudkitty", cloud.in_project("service"));
    let sessions = Sessions::new(Arc::new(RealClock));
    let first = sessions.of(&auth, Duration::ZERO).unwrap();
    let second = sessions.of(&auth, Duration::ZERO).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&first.access().await.unwrap(), &second.access().await.unwrap()));
    // What was refused is renewed once, however many noticed.
    let refused = first.access().await.unwrap();
    let (one, two) = tokio::join!(first.renewed(&refused), second.renewed(&refused));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &refused));
}

#[tokio::test]
async fn projects_with_the_role_are_scopes() {
    let cloud = Cloud::get();
    let scopes = |user: &'static str, conf: &'static str| {
        let text = format!(
            "[storage]\nbackend = sql\n[fetcher]\nbackend = keystone\n[ratekitty]\nhttp_retry_budget = 0\n\
             [fetcher_keystone]\nauth_section = ks_auth\n{conf}[ks_auth]\n{}",
            cloud.options(user, "service")
        );
        let config = config(&text);
        assert_eq!(config.warnings, Vec::<String>::new());
        let fetcher = fetcher::build(&config, &Sessions::new(Arc::new(RealClock))).unwrap();
        async move { fetcher.scopes().await }
    };
    let named = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| cloud.project(name).to_owned()).collect()
    };
    let found = |scopes: Vec<String>| scopes.into_iter().collect::<BTreeSet<_>>();
    let rated = scopes("cloudkitty", "").await.unwrap();
    assert_eq!(found(rated), named(&["service", "alpha", "beta", "closed"]));
    let enabled = scopes("cloudkitty", "ignore_disabled_tenants = true\n").await.unwrap();
    assert_eq!(found(enabled), named(&["service", "alpha", "beta"]));
    let all = scopes("cloudkitty", "ignore_rating_role = true\n").await.unwrap();
    assert_eq!(found(all), named(&["admin", "service", "alpha", "beta", "gamma", "closed"]));
    // Who may not list projects is told what is needed.
    let error = scopes("aetos", "").await.unwrap_err().to_string();
    assert!(error.contains("[ks_auth]") && error.contains("the role admin"), "{error}");
}

#[tokio::test]
async fn sources_are_scopes() {
    let text = "[storage]\nbackend = sql\n[fetcher]\nbackend = source\n\
                [fetcher_source]\nsources = b, a,b\n";
    let fetcher = fetcher::build(&config(text), &Sessions::new(Arc::new(RealClock))).unwrap();
    assert_eq!(fetcher.name(), "source");
    assert_eq!(fetcher.scopes().await.unwrap(), ["a", "b"]);
}

/// A service that answers with the token that it is shown.
async fn mirror() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shown = async |headers: HeaderMap| {
        let token = headers.get("x-auth-token");
        token.map(|token| token.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let routes = axum::Router::new().fallback(shown);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    url
}

/// The token that a login leads to.
async fn shown(session: &Session, mirror: &str) -> String {
    let answer = session.send(|http| http.get(mirror)).await.unwrap();
    answer.text().await.unwrap()
}

/// The login that options in `[ks_auth]` mean, with those of `[fetcher_keystone]`.
fn login(options: &str, own: &str) -> KeystoneAuth {
    let config = config(&format!(
        "[storage]\nbackend = sql\n[fetcher_keystone]\nauth_section = ks_auth\n{own}\
         [ks_auth]\n{options}"
    ));
    // Some of them leave certificates unchecked, which is told.
    let others = config.warnings.iter().filter(|warning| !warning.contains("insecure is set"));
    assert_eq!(others.count(), 0, "{options}: {:?}", config.warnings);
    config.fetcher_keystone.auth.unwrap()
}

/// Options that keystoneauth has for ways to log in, by these.
fn known_options(types: &BTreeSet<&str>) -> Value {
    let script = "import json, sys
from keystoneauth1 import loading
options = {kind: loading.get_plugin_loader(kind).get_options() for kind in sys.argv[1:]}
print(json.dumps({
    kind: [name.dest for option in known for name in [option, *option.deprecated]]
    for kind, known in options.items()
}))";
    let output = Command::new(Path::new(&set_up("RATEKITTY_OPENSTACK_VENV")).join("bin/python"))
        .args(["-c", script])
        .args(types)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// From the text of a configuration to a token: who has it, and what it is for.
#[tokio::test]
async fn each_way_to_write_a_login_leads_in() {
    let cloud = Cloud::get();
    let (mirror, password) = (mirror().await, cloud.password());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (alpha, trust) = (cloud.project("alpha"), text(&cloud.told["trust"]));
    let member = text(&cloud.told["users"]["alpha-member"]);
    let credential = &cloud.told["application_credentials"]["plain"];
    let (credential, secret) = (text(&credential["id"]), text(&credential["secret"]));
    let unscoped = cloud.token_of("alpha-member", Value::Null).await;
    let in_alpha = Some(("/project/id", json!(alpha)));
    let in_domain = Some(("/domain/id", json!("default")));
    let named = |user: &str| {
        format!("username = {user}\nuser_domain_id = default\npassword = {password}\n")
    };
    let by_alias = |name: &str| format!("{name} = alpha-member\npassword = {password}\n");
    let cases = [
        ("password", format!("{}project_id = {alpha}\n", named("alpha-member")), &in_alpha),
        (
            "password",
            format!(
                "username = alpha-member\nuser_domain_name = Default\npassword = {password}\n\
                 project_name = alpha\nproject_domain_name = Default\n"
            ),
            &in_alpha,
        ),
        (
            "password",
            format!("{}default_domain_id = default\ntenant_name = alpha\n", by_alias("user_name")),
            &in_alpha,
        ),
        (
            "password",
            format!(
                "{}default_domain_name = Default\ntenant_id = {alpha}\n",
                by_alias("user-name")
            ),
            &in_alpha,
        ),
        (
            "password",
            format!("{}default_domain_name = Default\ntenant-name = alpha\n", by_alias("username")),
            &in_alpha,
        ),
        ("password", format!("user_id = {member}\npassword = {password}\n"), &None),
        (
            "v3password",
            format!(
                "user_id = {member}\npassword = {password}\nproject_name = alpha\n\
                 project_domain_id = default\n"
            ),
            &in_alpha,
        ),
        (
            "v3password",
            format!(
                "user_name = alpha-member\nuser_domain_name = Default\npassword = {password}\n\
                 project_id = {alpha}\n"
            ),
            &in_alpha,
        ),
        ("v3password", format!("{}domain_id = default\n", named("domain-admin")), &in_domain),
        ("password", format!("{}domain_name = Default\n", named("domain-admin")), &in_domain),
        (
            "v3password",
            format!("{}system_scope = all\n", named("system-admin")),
            &Some(("/system/all", json!(true))),
        ),
        (
            "v3password",
            format!("{}trust_id = {trust}\n", named("service-only")),
            &Some(("/OS-TRUST:trust/id", json!(trust))),
        ),
        (
            "v3applicationcredential",
            format!(
                "application_credential_id = {credential}\n\
                 application_credential_secret = {secret}\n"
            ),
            &in_alpha,
        ),
        (
            "v3applicationcredential",
            format!(
                "application_credential_name = plain\napplication_credential_secret = {secret}\n\
                 username = alpha-member\nuser_domain_name = Default\n"
            ),
            &in_alpha,
        ),
        (
            "v3applicationcredential",
            format!(
                "application_credential_name = plain\napplication_credential_secret = {secret}\n\
                 user_id = {member}\n"
            ),
            &in_alpha,
        ),
        ("token", format!("token = {unscoped}\ntenant_id = {alpha}\n"), &in_alpha),
        (
            "v3token",
            format!("token = {unscoped}\nproject_name = alpha\nproject_domain_name = Default\n"),
            &in_alpha,
        ),
    ];
    let known = known_options(&cases.iter().map(|(kind, ..)| *kind).collect());
    for (kind, options, scope) in cases {
        let users = ["domain-admin", "system-admin", "service-only"];
        let user = users.into_iter().find(|user| options.contains(user)).unwrap_or("alpha-member");
        // Types that know no version are given the URL of none.
        let (url, name) = match kind.starts_with("v3") {
            true => (cloud.url.as_str(), "auth_type"),
            false => (cloud.url.trim_end_matches("/v3"), "auth_plugin"),
        };
        let options = format!("auth_url = {url}\n{options}");
        for line in options.lines() {
            let option = line.split_once(" = ").unwrap().0.replace('-', "_");
            let is_known = known[kind].as_array().unwrap().contains(&json!(option));
            assert!(is_known, "keystoneauth has no {option} of {kind}");
        }
        let options = format!("{name} = {kind}\n{options}");
        let session = session(&login(&options, ""));
        if let Err(error) = session.access().await {
            panic!("{options}: {error}");
        }
        let secret = shown(&session, &mirror).await;
        let request = http_client()
            .get(format!("{}/auth/tokens?nocatalog=1", cloud.url))
            .header("x-auth-token", &secret)
            .header("x-subject-token", &secret);
        let told: Value =
            serde_json::from_str(&answer_of(request).await.text().await.unwrap()).unwrap();
        let token = &told["token"];
        assert_eq!(token["user"]["name"], user, "{options}{token}");
        let places = ["/project/id", "/domain/id", "/system/all", "/OS-TRUST:trust/id"];
        for place in places {
            match scope {
                Some((of, value)) if *of == place => {
                    assert_eq!(token.pointer(place), Some(value), "{options}{token}");
                }
                // A trust is for a project.
                Some(("/OS-TRUST:trust/id", _)) if place == "/project/id" => {
                    assert_eq!(token.pointer(place), Some(&json!(alpha)), "{options}{token}");
                }
                _ => assert_eq!(token.pointer(place), None, "{options}{token}"),
            }
        }
    }
}

#[tokio::test]
async fn nobody_shows_no_token() {
    let mirror = mirror().await;
    let session = session(&login("auth_type = none\nendpoint = http://aetos.example/p/\n", ""));
    let found = session.endpoint(&wanted("public", None)).await.unwrap();
    assert_eq!(found, "http://aetos.example/p");
    assert_eq!(shown(&session, &mirror).await, "");
    assert_eq!(session.access().await.unwrap().user_id(), None);
    let known = known_options(&BTreeSet::from(["none"]));
    assert_eq!(known["none"], json!(["endpoint"]));
}

#[tokio::test]
async fn a_keystone_that_hangs_is_given_up_in_time() {
    // Connections are made, and nobody looks at them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v3", silent.local_addr().unwrap());
    let section = format!(
        "auth_type = v3password\nauth_url = {url}\nusername = u\npassword = s3cret\nproject_id = p\n"
    );
    let for_users = config(&format!(
        "[storage]\nbackend = sql\n[keystone_authtoken]\nhttp_connect_timeout = 1\n{section}"
    ));
    let (fetching, validating) =
        (login(&section, "timeout = 1\n"), for_users.keystone_authtoken.auth.unwrap());
    for auth in [fetching, validating] {
        let begin = Instant::now();
        let error = session(&auth).access().await.unwrap_err().to_string();
        let took = begin.elapsed();
        assert!((1..10).contains(&took.as_secs()), "{}: {took:?}", auth.group);
        assert!(error.contains(&format!("cannot reach Keystone at {url}")), "{error}");
        assert!(error.contains("timed out"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystones_certificate_is_checked() {
    let (authority, other) = (Authority::new(), Authority::new());
    let double = Double::start_tls(authority.server("127.0.0.1", None)).await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let (ca, other) = (file("ca.pem", &authority.pem()), file("other.pem", &other.pem()));
    let section = format!(
        "auth_type = password\nauth_url = {}/v3\nusername = u\npassword = s3cret\nproject_id = p\n",
        double.url
    );
    for (own, leads_in) in [
        (format!("cafile = {ca}\n"), true),
        ("insecure = true\n".to_owned(), true),
        (String::new(), false),
        (format!("cafile = {other}\n"), false),
        // The authorities are what counts, then.
        (format!("cafile = {other}\ninsecure = true\n"), false),
    ] {
        match session(&login(&section, &own)).access().await {
            Ok(access) => {
                assert!(leads_in, "{own}");
                assert_eq!(access.user_id(), Some("u"));
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!leads_in && error.contains("certificate"), "{own}: {error}");
            }
        }
    }
    // What has no authority in it is told before anybody is asked.
    let empty = login(&section, &format!("cafile = {}\n", file("empty.pem", "")));
    let clock: Arc<dyn Clock> = Arc::new(RealClock);
    let error = Session::new(&empty, Duration::ZERO, clock).err().unwrap().to_string();
    assert!(error.contains("[ks_auth]") && error.contains("empty.pem"), "{error}");
}
