//! Logging in, finding services, fetching projects.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ratekitty::{
    config::sections::keystone_auth::{Domain, Login, Named, Scope},
    fetcher,
    keystone::{Sessions, Wanted},
    time::RealClock,
};

use super::{Cloud, config, session};

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
    let token = cloud.token_of("alpha-member", serde_json::Value::Null).await;
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
