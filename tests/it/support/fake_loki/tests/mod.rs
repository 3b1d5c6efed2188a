//! What the recorded contract does not show.

mod reading;
mod writing;

use reqwest::{Client, Response};
use serde_json::{Value, json};

use super::{FakeLoki, Limits};

const HOUR: i64 = 3_600_000_000_000;
/// 2026-11-01T00:00:00Z.
const NOVEMBER: i64 = 1_793_491_200_000_000_000;

/// A double and a client of it.
struct Lab {
    loki: FakeLoki,
    http: Client,
}

impl Lab {
    async fn new(limits: Limits) -> Self {
        // Fails where one is installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let loki = FakeLoki::start(limits).await;
        loki.set_now(NOVEMBER + 100 * HOUR);
        Self { loki, http: Client::new() }
    }

    async fn post(&self, body: String) -> reqwest::Result<Response> {
        self.http
            .post(format!("{}/push", self.loki.url()))
            .header("X-Scope-OrgID", "t")
            .header("Content-Type", "application/json")
            .body(body)
            .send()
            .await
    }

    /// Pushes lines to a stream; its status.
    async fn push(&self, stream: &str, lines: &[(i64, &str)]) -> u16 {
        let values: Vec<Value> =
            lines.iter().map(|(ts, line)| json!([ts.to_string(), line])).collect();
        let body = json!({"streams": [{"stream": {"service": stream}, "values": values}]});
        self.post(body.to_string()).await.unwrap().status().as_u16()
    }

    async fn get(&self, path: &str, params: &[(&str, String)]) -> (u16, String) {
        let request = self.http.get(format!("{}/{path}", self.loki.url())).query(params);
        let answer = request.header("X-Scope-OrgID", "t").send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn instant(&self, query: &str, time: i64) -> (u16, String) {
        self.get("query", &[("query", query.to_owned()), ("time", time.to_string())]).await
    }

    /// Labels and value of every series of an instant query, as one text.
    async fn values(&self, query: &str, time: i64) -> String {
        let (status, text) = self.instant(query, time).await;
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let series = answer["data"]["result"].as_array().unwrap().iter();
        let texts: Vec<String> =
            series.map(|one| format!("{}={}", one["metric"], one["value"][1])).collect();
        texts.join(" ").replace('"', "")
    }

    async fn lines(&self, query: &str) -> Vec<String> {
        let (from, to) = (NOVEMBER - HOUR, NOVEMBER + 50 * HOUR);
        let params = [
            ("query", query.to_owned()),
            ("start", from.to_string()),
            ("end", to.to_string()),
            ("limit", "5000".to_owned()),
        ];
        let (status, text) = self.get("query_range", &params).await;
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let streams = answer["data"]["result"].as_array().unwrap().iter();
        streams
            .flat_map(|stream| stream["values"].as_array().unwrap())
            .map(|value| value[1].as_str().unwrap().to_owned())
            .collect()
    }
}
