//! `etcd3+http://host:port`: a key on a lease, through etcd's JSON gateway.
//!
//! The key is made only if there is none, with a lease that is kept alive, and
//! deleted only while it has our value: tooz's steps. `etcd3://` is taken as
//! `etcd3+http://`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Driver, Held, LockName, TIMEOUT,
    lease::{HeldLease, Lease},
    place::Place,
};

const KNOWN: [&str; 7] = [
    "api_version",
    "ca_cert",
    "cert_key",
    "cert_cert",
    "timeout",
    "lock_timeout",
    "membership_timeout",
];

/// Time of a lock unless it is given, in seconds.
const LIFETIME: u64 = 30;

/// What tooz puts in front of a lock's name.
const PREFIX: &str = "/tooz/locks";

/// An etcd.
struct Server {
    client: reqwest::Client,
    /// Ends in a slash.
    url: String,
}

impl Server {
    async fn ask(&self, path: &str, question: &Value) -> Result<Value, String> {
        let url = format!("{}{path}", self.url);
        let request = self.client.post(url).timeout(TIMEOUT).body(question.to_string());
        let answer = async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        };
        let (status, text) = answer.await.map_err(|error| {
            let error = error.without_url();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}{}", cause.map(|cause| format!(": {cause}")).unwrap_or_default())
        })?;
        if !status.is_success() {
            return Err(format!(
                "{path} answers {status}: {}",
                crate::http::excerpt(text.as_bytes())
            ));
        }
        serde_json::from_str(&text).map_err(|error| format!("{path} does not answer JSON: {error}"))
    }
}

/// Locks in an etcd.
pub(super) struct EtcdLocks {
    server: Arc<Server>,
    lifetime: Duration,
}

impl EtcdLocks {
    pub fn new(place: &Place) -> Result<Self, String> {
        crate::http::choose_cryptography();
        place.allow(&KNOWN, &[])?;
        let seconds = place.number("lock_timeout")?.or(place.number("timeout")?);
        let lifetime = seconds.unwrap_or(LIFETIME);
        if lifetime == 0 {
            return Err("option lock_timeout must be at least 1 second".to_owned());
        }
        let scheme = if place.scheme == "etcd3+https" { "https" } else { "http" };
        let host = place.host.as_deref().unwrap_or("localhost");
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let version = place.option("api_version").unwrap_or("v3");
        let url = format!("{scheme}://{host}:{}/{version}/", place.port.unwrap_or(2379));
        let mut builder = reqwest::Client::builder().connect_timeout(TIMEOUT);
        let read = |option: &str| match place.option(option) {
            Some(path) => std::fs::read(path)
                .map(Some)
                .map_err(|error| format!("option {option}: {path}: {error}")),
            None => Ok(None),
        };
        let told = |error: reqwest::Error| error.to_string();
        if let Some(pem) = read("ca_cert")? {
            let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(told)?;
            builder = builder.tls_certs_only(roots);
        }
        match (read("cert_cert")?, read("cert_key")?) {
            (Some(mut pem), Some(key)) => {
                pem.extend(key);
                builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(told)?);
            }
            (None, None) => {}
            _ => return Err("options cert_cert and cert_key go together".to_owned()),
        }
        let client = builder.build().map_err(told)?;
        let server = Arc::new(Server { client, url });
        Ok(Self { server, lifetime: Duration::from_secs(lifetime) })
    }
}

/// A number that etcd writes as text.
fn number(value: &Value) -> Option<i64> {
    value.as_str().map_or_else(|| value.as_i64(), |text| text.parse().ok())
}

#[async_trait]
impl Driver for EtcdLocks {
    async fn take(&self, name: &LockName) -> Result<Option<Box<dyn Held>>, String> {
        let key = STANDARD.encode(format!("{PREFIX}{}", name.digest()));
        // Most locks that are not to be had are seen here, without a lease.
        let range = self.server.ask("kv/range", &json!({"key": key})).await?;
        if range["kvs"][0].is_object() {
            return Ok(None);
        }
        let asked = Instant::now();
        let question = json!({"TTL": self.lifetime.as_secs(), "ID": 0});
        let granted = self.server.ask("lease/grant", &question).await?;
        let id = number(&granted["ID"]).ok_or("lease/grant gives no lease")?;
        let lease = Key {
            server: self.server.clone(),
            key,
            value: STANDARD.encode(uuid::Uuid::new_v4().as_bytes()),
            lease: id,
        };
        let question = json!({
            "compare": [{
                "key": lease.key, "result": "EQUAL", "target": "CREATE", "create_revision": 0
            }],
            "success": [{
                "request_put": {"key": lease.key, "value": lease.value, "lease": id}
            }],
            "failure": [{"request_range": {"key": lease.key}}],
        });
        let answer = self.server.ask("kv/txn", &question).await?;
        if answer["succeeded"] != json!(true) {
            // tooz leaves such leases to run out; thousands of tries need not.
            let revoked = self.server.ask("lease/revoke", &json!({"ID": id})).await;
            if let Err(problem) = revoked {
                tracing::debug!("A lease of etcd that is not needed runs out by itself: {problem}");
            }
            return Ok(None);
        }
        Ok(Some(Box::new(HeldLease::new(lease, self.lifetime, asked))))
    }
}

/// A key that we have made.
struct Key {
    server: Arc<Server>,
    key: String,
    value: String,
    lease: i64,
}

#[async_trait]
impl Lease for Key {
    async fn renew(&self) -> Result<bool, String> {
        let answer = self.server.ask("lease/keepalive", &json!({"ID": self.lease})).await?;
        // A lease that is gone has no time left to tell.
        if number(&answer["result"]["TTL"]).unwrap_or_default() <= 0 {
            return Ok(false);
        }
        // Someone may have broken the lock and left the lease.
        let range = self.server.ask("kv/range", &json!({"key": self.key})).await?;
        Ok(range["kvs"][0]["value"] == json!(self.value))
    }

    async fn give_back(&self) -> Result<(), String> {
        // The key goes with its lease, and only with its own.
        self.server.ask("lease/revoke", &json!({"ID": self.lease})).await.map(|_| ())
    }
}
