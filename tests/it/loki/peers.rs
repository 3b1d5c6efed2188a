//! Ways to reach a Loki: TLS with client certificates, logins, parts apart.

use super::{by_flavor, frame};
use crate::support::{
    Authority, FakeLoki, StorageExt, TestApp,
    fake_loki::{Deletes, Limits, Role},
};

const NOW: &str = "2026-11-02T00:00:00Z";

async fn start(limits: Limits) -> FakeLoki {
    let loki = FakeLoki::start(limits).await;
    set_time(&loki);
    loki
}

fn set_time(loki: &FakeLoki) {
    let now: chrono::DateTime<chrono::Utc> = NOW.parse().unwrap();
    loki.set_now(now.timestamp() * 1_000_000_000);
}

#[tokio::test]
async fn certificates_are_shown_and_checked_on_both_sides() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let loki = FakeLoki::start_tls(Limits::roomy(), ours.server("127.0.0.1", Some(&ours))).await;
    set_time(&loki);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = ours.sign("client");
    let (other_certificate, other_key) = theirs.sign("client");
    let ca = file("ca.pem", &ours.pem());
    let other_ca = file("other-ca.pem", &theirs.pem());
    let (certificate, key) = (file("client.pem", &certificate), file("client.key", &key));
    let other = (file("other.pem", &other_certificate), file("other.key", &other_key));
    let identity = format!("cert_file = {certificate}\nkey_file = {key}");
    let cases = [
        (format!("ca_file = {ca}\n{identity}"), true),
        (format!("insecure = true\n{identity}"), true),
        // Insecure wins, as in the reference.
        (format!("insecure = true\nca_file = {other_ca}\n{identity}"), true),
        (format!("ca_file = {other_ca}\n{identity}"), false),
        (identity.clone(), false),
        (format!("ca_file = {ca}"), false),
        (format!("ca_file = {ca}\ncert_file = {}\nkey_file = {}", other.0, other.1), false),
    ];
    for (number, (conf, works)) in (0..).zip(cases) {
        let conf = format!("retry_budget = 0.1\n{conf}");
        let app = TestApp::with_loki(NOW, &loki.url(), &conf, "").await;
        let result = app.storage.put("p1", &frame("p1", number, 1, "1")).await;
        assert_eq!(result.is_ok(), works, "{conf}: {result:?}");
        if works {
            assert_eq!(by_flavor(&*app.storage).await.unwrap(), "1");
        }
    }
}

#[tokio::test]
async fn logins_are_sent_and_not_shown() {
    let loki = start(Limits::roomy()).await;
    // user:s3cret
    let basic = ("Basic dXNlcjpzM2NyZXQ=", "user = user\npassword = s3cret");
    let bearer = ("Bearer t0ken", "bearer_token = t0ken\nuser = user\npassword = s3cret");
    for (number, (header, conf)) in (0..).zip([basic, bearer]) {
        loki.require_authorization(Some(header));
        let app = TestApp::with_loki(NOW, &loki.url(), conf, "").await;
        app.storage.put("p1", &frame("p1", number, 1, "1")).await.unwrap();
        assert_eq!(by_flavor(&*app.storage).await.unwrap(), "1");
        loki.require_authorization(Some("Basic other"));
        let error = app.storage.put("p1", &frame("p1", 5, 1, "1")).await.unwrap_err();
        let shown = format!("{error} {error:?} {:?}", app.config);
        assert!(shown.contains("401"), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
    }
}

#[tokio::test]
async fn parts_of_loki_may_stand_apart() {
    let loki = start(Limits { deletes: Deletes::Enabled, ..Limits::roomy() }).await;
    let write = loki.start_role(Role::Distributor).await;
    let read = loki.start_role(Role::QueryFrontend).await;
    let delete = loki.start_role(Role::Compactor).await;
    let conf = format!(
        "write_url = {write}\nread_url = {read}/\ndelete_url = {delete}\ndelete_superseded = true"
    );
    // Nobody listens at the common URL.
    let app = TestApp::with_loki(NOW, "http://127.0.0.1:1/loki/api/v1", &conf, "").await;
    app.storage.put("p1", &frame("p1", 0, 2, "1")).await.unwrap();
    app.storage.put("p1", &frame("p1", 0, 2, "5")).await.unwrap();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "10");
    assert_eq!((loki.count("/push"), loki.count("/delete")), (2, 1));
    // A push to a part that takes none.
    let app = TestApp::with_loki(NOW, &read, "retry_budget = 0.1", "").await;
    let error = app.storage.put("p1", &frame("p1", 0, 2, "1")).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
}

#[tokio::test]
async fn tenants_are_apart() {
    let loki = start(Limits::roomy()).await;
    let conf = |tenant: &str| format!("tenant = {tenant}");
    let one = TestApp::with_loki(NOW, &loki.url(), &conf("one"), "").await;
    let two = TestApp::with_loki(NOW, &loki.url(), &conf("two"), "").await;
    one.storage.put("p1", &frame("p1", 0, 2, "1")).await.unwrap();
    two.storage.put("p1", &frame("p1", 0, 1, "1")).await.unwrap();
    assert_eq!(by_flavor(&*one.storage).await.unwrap(), "2");
    assert_eq!(by_flavor(&*two.storage).await.unwrap(), "1");
    assert!(loki.entries().iter().any(|entry| entry.tenant == "two"));
}

#[tokio::test]
async fn check_tells_what_a_loki_does() {
    let texts = async |limits: Limits, conf: &str| {
        let loki = FakeLoki::start(limits).await;
        set_time(&loki);
        let app = TestApp::with_loki(NOW, &loki.url(), conf, "").await;
        let findings = app.storage.probe().await;
        // Nothing that a reader of dataframes could see.
        let common = ("service".to_owned(), "cloudkitty".to_owned());
        assert!(loki.entries().iter().all(|entry| !entry.labels.contains(&common)));
        findings.iter().map(|finding| format!("{finding:?}")).collect::<Vec<_>>().join("\n")
    };
    let stock = texts(Limits::stock(), "").await;
    for words in [
        "Good(\"Loki is ready",
        "Good(\"Loki 3.4",
        "max_query_series = 500",
        "Good(\"takes an entry of now and shows it",
        "Note(\"an entry of five hours ago does not show until",
        "Good(\"takes entries of 29 days ago",
        "50 minutes behind the newest",
        "takes no requests to delete",
    ] {
        assert!(stock.contains(words), "{words}:\n{stock}");
    }
    let week = Limits { reject_old_samples_max_age: 7 * 86_400, ..Limits::roomy() };
    let week = Limits { max_query_length: 86_400, deletes: Deletes::Enabled, ..week };
    let roomy = texts(week, "max_query_entries = 9000").await;
    for words in [
        "Good(\"shows an entry of five hours ago at once",
        "Note(\"takes entries of 6 days ago and none of 29",
        "shard_days = 7 is longer",
        "max_entries_limit_per_query = 5000",
        "Good(\"takes requests to delete",
    ] {
        assert!(roomy.contains(words), "{words}:\n{roomy}");
    }
    let away = texts(Limits::stock(), "read_url = http://127.0.0.1:1/x\nretry_budget = 0.1").await;
    assert!(away.contains("Bad(\"cannot reach Loki"), "{away}");
}
