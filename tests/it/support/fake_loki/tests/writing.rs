//! Pushes, deletes, faults and listeners.

use std::{io::Write, time::Duration};

use prost::Message;
use reqwest::Client;
use serde_json::{Value, json};

use super::{
    super::{
        Deletes, FakeLoki, Fault, Kind, Limits, Role,
        decode::{EntryAdapter, LabelPairAdapter, PushRequest, StreamAdapter, Timestamp},
    },
    HOUR, Lab, NOVEMBER,
};

#[tokio::test]
async fn structured_metadata_of_json_keeps_its_escapes() {
    let lab = Lab::new(Limits::roomy()).await;
    let value = json!([NOVEMBER.to_string(), "x", {"name": "a\"b"}]);
    let body = json!({"streams": [{"stream": {"service": "a"}, "values": [value]}]});
    assert_eq!(lab.post(body.to_string()).await.unwrap().status(), 204);
    let stored = lab.loki.entries();
    assert_eq!(stored[0].structured_metadata, [("name".to_owned(), r#"a\"b"#.to_owned())]);
}

#[tokio::test]
async fn bodies_come_packed_and_as_protobuf() {
    let lab = Lab::new(Limits::roomy()).await;
    let url = format!("{}/push", lab.loki.url());
    let post = |body: Vec<u8>, headers: [(&'static str, &'static str); 2]| {
        let request = lab.http.post(&url).header("X-Scope-OrgID", "t").body(body);
        let request = headers.into_iter().fold(request, |request, (n, v)| request.header(n, v));
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let body = json!({"streams": [{"stream": {"service": "a"},
        "values": [[NOVEMBER.to_string(), "one"]]}]});
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body.to_string().as_bytes()).unwrap();
    let headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    assert_eq!(post(gzip.finish().unwrap(), headers).await, 204);
    let request = PushRequest {
        streams: vec![StreamAdapter {
            labels: r#"{service="a", project_id="we\"ird"}"#.to_owned(),
            entries: vec![EntryAdapter {
                timestamp: Some(Timestamp { seconds: NOVEMBER / 1_000_000_000, nanos: 7 }),
                line: "two".to_owned(),
                structured_metadata: vec![LabelPairAdapter {
                    name: "type".to_owned(),
                    value: "a\"b".to_owned(),
                }],
            }],
            hash: 0,
        }],
    };
    let packed = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
    let headers = [("Content-Type", "application/x-protobuf"), ("X-Other", "")];
    assert_eq!(post(packed, headers).await, 204);
    assert_eq!(post(b"rubbish".to_vec(), headers).await, 400);
    let stored = lab.loki.entries();
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[1].labels[0], ("project_id".to_owned(), "we\"ird".to_owned()));
    assert_eq!((stored[1].timestamp, &*stored[1].line), (NOVEMBER + 7, "two"));
    assert_eq!(stored[1].structured_metadata[0].1, "a\"b");
    assert_eq!(lab.loki.bytes_pushed(), 6);
}

#[tokio::test]
async fn a_delete_hides_later_lines_too() {
    let limits = Limits { deletes: Deletes::Enabled, delete_delay: 60, ..Limits::roomy() };
    let lab = Lab::new(limits).await;
    assert_eq!(lab.push("a", &[(NOVEMBER, "one"), (NOVEMBER + HOUR, "two")]).await, 204);
    let delete = async |start: i64, end: i64| {
        let url = format!("{}/delete", lab.loki.url());
        let params = [
            ("query", "{service=\"a\"} |= \"e\"".to_owned()),
            ("start", start.to_string()),
            ("end", end.to_string()),
        ];
        let request = lab.http.post(url).query(&params).header("X-Scope-OrgID", "t");
        request.send().await.unwrap().status().as_u16()
    };
    let start = NOVEMBER / 1_000_000_000;
    assert_eq!(delete(NOVEMBER, NOVEMBER + HOUR).await, 400);
    assert_eq!(delete(start, start + 1_000_000).await, 400);
    assert_eq!(delete(start, start + 3600).await, 204);
    assert_eq!(lab.lines("{service=\"a\"}").await, ["two", "one"]);
    lab.loki.set_now(NOVEMBER + 101 * HOUR);
    assert_eq!(lab.push("a", &[(NOVEMBER + 5, "three"), (NOVEMBER + HOUR + 1, "five")]).await, 204);
    assert_eq!(lab.lines("{service=\"a\"}").await, ["five", "two"]);
    assert_eq!(
        lab.values("sum(count_over_time({service=\"a\"}[2h]))", NOVEMBER + HOUR + 1).await,
        "{}=2"
    );
    let (_, listed) = lab.get("delete", &[]).await;
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()[0]["status"], "processed");
    for (deletes, status) in [(Deletes::Forbidden, 403), (Deletes::NotServed, 404)] {
        lab.loki.set_limits(Limits { deletes, ..Limits::roomy() });
        assert_eq!(delete(start, start + 3600).await, status);
    }
}

#[tokio::test]
async fn faults_come_as_asked_for() {
    let lab = Lab::new(Limits::roomy()).await;
    let faults = lab.loki.faults();
    let body = |at: i64| {
        let values =
            json!([[(NOVEMBER + at).to_string(), "x"], [(NOVEMBER + at + 1).to_string(), "y"]]);
        json!({"streams": [{"stream": {"service": "a"}, "values": values}]}).to_string()
    };
    faults.next(Kind::Push, 1, Fault::Reset);
    assert!(lab.post(body(0)).await.is_err());
    assert_eq!(lab.loki.stored(), 0);
    faults.next(Kind::Push, 1, Fault::DropAnswer);
    assert!(lab.post(body(0)).await.is_err());
    assert_eq!(lab.loki.stored(), 2);
    faults.next(Kind::Push, 1, Fault::HalfStored);
    assert_eq!(lab.post(body(10)).await.unwrap().status(), 500);
    assert_eq!(lab.loki.stored(), 3);
    faults.next(Kind::Push, 1, Fault::TooManyRequests(Some(7)));
    faults.next(Kind::Push, 1, Fault::TooManyRequests(None));
    faults.next(Kind::Any, 1, Fault::Status(503));
    let limited = lab.post(body(20)).await.unwrap();
    assert_eq!(
        (limited.status().as_u16(), &limited.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    let limited = lab.post(body(20)).await.unwrap();
    assert!(limited.status() == 429 && !limited.headers().contains_key("retry-after"));
    assert_eq!(lab.post(body(20)).await.unwrap().status(), 503);
    assert_eq!((lab.loki.stored(), faults.waiting()), (3, 0));
    faults.next(Kind::Query, 1, Fault::Truncated);
    assert_eq!(lab.push("b", &[(NOVEMBER, "z")]).await, 204);
    let request = lab.http.get(format!("{}/labels", lab.loki.url())).header("X-Scope-OrgID", "t");
    let cut = request.query(&[("start", NOVEMBER - HOUR)]).send().await.unwrap();
    assert!(cut.status() == 200 && cut.text().await.is_err());
    faults.next(Kind::Query, 1, Fault::Delay(Duration::from_millis(50)));
    assert_eq!(lab.get("labels", &[]).await, (200, r#"{"status":"success"}"#.to_owned()));
    faults.random(Kind::Push, 7, 0.5, &[Fault::Status(500), Fault::DropAnswer]);
    let mut fine = 0;
    for at in 0..40 {
        fine += usize::from(lab.post(body(100 + at)).await.is_ok_and(|a| a.status() == 204));
    }
    assert!((5..35).contains(&fine), "{fine}");
    faults.clear();
    assert_eq!(lab.post(body(100)).await.unwrap().status(), 204);
    assert_eq!(lab.loki.requests()[0].path, "/loki/api/v1/push");
    assert_eq!(lab.loki.count("/labels"), 2);
}

#[tokio::test]
async fn pushes_meet_the_other_limits() {
    let lab = Lab::new(Limits::stock()).await;
    let recent = NOVEMBER + 100 * HOUR - 1;
    let stream = |labels: Value, line: &str| {
        json!({"streams": [{"stream": labels, "values": [[recent.to_string(), line]]}]}).to_string()
    };
    let many: Value =
        (0..16).map(|i| (format!("l{i}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    let answer = lab.post(stream(many, "x")).await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().ends_with("has 16 label names; limit 15\n"));
    let answer = lab.post(r#"{"streams": []}"#.to_owned()).await.unwrap();
    assert_eq!(answer.status(), 422);
    // A stream refills at 3 MB a second, its tenant at 4 MB.
    lab.loki.set_limits(Limits { per_stream_burst_bytes: 5, ..Limits::stock() });
    let answer = lab.post(stream(json!({"app": "a"}), "sixsix")).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(
        answer.text().await.unwrap().contains("Per stream rate limit exceeded (limit: 3MB/sec)")
    );
    lab.loki.set_limits(Limits { max_streams: 1, ..Limits::stock() });
    let answer = lab.post(stream(json!({"app": "b"}), "x")).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.text().await.unwrap().starts_with("Maximum active stream limit exceeded"));
}

#[tokio::test]
async fn every_role_has_its_paths() {
    let lab = Lab::new(Limits { deletes: Deletes::Enabled, ..Limits::roomy() }).await;
    for (role, push, query, delete, flush) in [
        (Role::Distributor, 415, 404, 404, 404),
        (Role::QueryFrontend, 404, 400, 404, 404),
        (Role::Querier, 404, 400, 404, 404),
        (Role::Compactor, 404, 404, 200, 404),
        (Role::Ingester, 404, 404, 404, 204),
    ] {
        let url = lab.loki.start_role(role).await;
        let root = url.strip_suffix("/loki/api/v1").unwrap();
        let status = async |method: &str, url: String| {
            let request = lab.http.request(method.parse().unwrap(), url);
            request.header("X-Scope-OrgID", "t").send().await.unwrap().status().as_u16()
        };
        // No content type is a bad request of a push.
        let push = if push == 415 { 400 } else { push };
        assert_eq!(status("POST", format!("{url}/push")).await, push, "{role:?}");
        assert_eq!(status("GET", format!("{url}/query")).await, query, "{role:?}");
        assert_eq!(status("GET", format!("{url}/delete")).await, delete, "{role:?}");
        assert_eq!(status("POST", format!("{root}/flush")).await, flush, "{role:?}");
        assert_eq!(status("GET", format!("{root}/config")).await, 200, "{role:?}");
    }
}

#[tokio::test]
async fn tls_asks_for_a_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into())
        .unwrap();
    let loki = FakeLoki::start_tls(Limits::stock(), config).await;
    let ready = format!("{}/ready", loki.root());
    assert!(Client::new().get(&ready).send().await.is_err());
    let trusted = reqwest::Certificate::from_der(signed.cert.der()).unwrap();
    let http = Client::builder().tls_certs_only([trusted]).build().unwrap();
    assert_eq!(http.get(&ready).send().await.unwrap().text().await.unwrap(), "ready\n");
}
