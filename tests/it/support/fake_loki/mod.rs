//! A double of Grafana Loki 3.4.6: its HTTP API over lines in memory, with its
//! limits, its refusals and its habits, wrong answers included. It passes the
//! recorded contract, and it can fail on purpose.

mod builder;
mod decode;
mod deletes;
mod eval;
mod extract;
mod faults;
mod form;
mod go;
mod http;
mod json;
mod labels;
mod level;
mod lexer;
mod limits;
mod logql;
mod logs;
mod parser;
mod pipeline;
mod push;
mod query;
mod server;
mod split;
mod stages;
mod store;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use tokio::{net::TcpListener, task::JoinHandle};

use self::store::Store;
pub use self::{
    faults::{Fault, Faults, Kind},
    limits::{Deletes, Limits},
    server::{Role, TlsListener},
};

/// A request that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its path without parameters.
    pub path: String,
    /// Those of the URL and of a form, decoded.
    pub parameters: Vec<(String, String)>,
}

/// A push as it came: content type, content encoding, body.
pub type Push = (String, Option<String>, Vec<u8>);

/// A stored line, visible to queries or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Whose it is.
    pub tenant: String,
    /// Sorted by name; `service_name` is among them.
    pub labels: Vec<(String, String)>,
    /// In nanoseconds.
    pub timestamp: i64,
    /// As pushed.
    pub line: String,
    /// Sorted by name, without the detected level.
    pub structured_metadata: Vec<(String, String)>,
    /// Whether queries see it without a flush.
    pub visible: bool,
}

/// What all listeners share.
struct Shared {
    /// Those of every tenant.
    limits: RwLock<Limits>,
    /// What was pushed.
    store: RwLock<Store>,
    /// Present time in nanoseconds; 0 is the real one.
    now: AtomicI64,
    /// The header that every request must have.
    authorization: Mutex<Option<String>>,
    /// Those to come.
    faults: Faults,
    /// Requests so far.
    asked: Mutex<Vec<Asked>>,
    /// Bytes of the bodies of pushes.
    body_bytes: AtomicU64,
    /// Bodies of pushes, if they are to be kept.
    bodies: Mutex<Option<Vec<Push>>>,
    /// Tasks that serve.
    listeners: Mutex<Vec<JoinHandle<()>>>,
}

impl Shared {
    fn now(&self) -> i64 {
        match self.now.load(Ordering::Relaxed) {
            0 => real_time(),
            now => now,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Store> {
        self.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> Limits {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::disallowed_methods, reason = "a peer of the program has a time of its own")]
fn real_time() -> i64 {
    chrono::Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX)
}

/// A running double; stopped when dropped.
pub struct FakeLoki {
    shared: Arc<Shared>,
    root: String,
}

impl FakeLoki {
    /// Starts one on a free port.
    pub async fn start(limits: Limits) -> Self {
        Self::start_at(limits, None).await
    }

    /// Starts one that speaks TLS as `config` says.
    pub async fn start_tls(limits: Limits, config: rustls::ServerConfig) -> Self {
        Self::start_at(limits, Some(config)).await
    }

    async fn start_at(limits: Limits, tls: Option<rustls::ServerConfig>) -> Self {
        let shared = Arc::new(Shared {
            limits: RwLock::new(limits),
            store: RwLock::default(),
            now: AtomicI64::new(0),
            authorization: Mutex::default(),
            faults: Faults::default(),
            asked: Mutex::default(),
            body_bytes: AtomicU64::new(0),
            bodies: Mutex::default(),
            listeners: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let app = server::router(shared.clone(), Role::All);
        let task = match tls {
            None => tokio::spawn(server::serve(listener, app)),
            Some(config) => tokio::spawn(server::serve(TlsListener::new(listener, config), app)),
        };
        locked(&shared.listeners).push(task);
        Self { shared, root: format!("{scheme}://127.0.0.1:{port}") }
    }

    /// A further listener over the same lines, with the paths of one role.
    pub async fn start_role(&self, role: Role) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = server::router(self.shared.clone(), role);
        let task = tokio::spawn(server::serve(listener, app));
        locked(&self.shared.listeners).push(task);
        format!("http://127.0.0.1:{port}/loki/api/v1")
    }

    /// Base of its API.
    pub fn url(&self) -> String {
        format!("{}/loki/api/v1", self.root)
    }

    /// Root of the server, where `/ready`, `/flush` and `/config` are.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Sets its present time in nanoseconds; 0 is the real one.
    pub fn set_now(&self, nanos: i64) {
        self.shared.now.store(nanos, Ordering::Relaxed);
    }

    /// Changes its limits, from the next request on.
    pub fn set_limits(&self, limits: Limits) {
        *self.shared.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// From now on answers 401 without this `Authorization`.
    pub fn require_authorization(&self, header: Option<&str>) {
        *locked(&self.shared.authorization) = header.map(str::to_owned);
    }

    /// The faults to come.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What came in so far, requests that met a fault included.
    pub fn requests(&self) -> Vec<Asked> {
        locked(&self.shared.asked).clone()
    }

    /// Keeps the bodies of pushes from now on.
    #[allow(dead_code, reason = "for benchmarks")]
    pub fn keep_bodies(&self) {
        *locked(&self.shared.bodies) = Some(Vec::new());
    }

    /// The bodies that were kept.
    #[allow(dead_code, reason = "for benchmarks")]
    pub fn bodies(&self) -> Vec<Push> {
        locked(&self.shared.bodies).clone().unwrap_or_default()
    }

    /// Bytes of the bodies of pushes so far, as they came.
    #[allow(dead_code, reason = "for benchmarks")]
    pub fn body_bytes(&self) -> u64 {
        self.shared.body_bytes.load(Ordering::Relaxed)
    }

    /// Requests whose path ends like this.
    pub fn count(&self, end: &str) -> usize {
        locked(&self.shared.asked).iter().filter(|asked| asked.path.ends_with(end)).count()
    }

    /// All that is stored, visible or not: by tenant, by stream, by time.
    pub fn entries(&self) -> Vec<StoredEntry> {
        let store = self.shared.read();
        let pairs = |labels: &labels::Labels| -> Vec<(String, String)> {
            labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let mut entries = Vec::new();
        for (tenant, held) in &store.tenants {
            for stream in &held.streams {
                entries.extend(stream.entries.iter().map(|entry| {
                    let mut structured_metadata = pairs(&entry.meta);
                    structured_metadata.retain(|(name, _)| name != "detected_level");
                    StoredEntry {
                        tenant: tenant.clone(),
                        labels: pairs(&stream.labels),
                        timestamp: entry.ts,
                        line: entry.line.to_string(),
                        structured_metadata,
                        visible: entry.visible,
                    }
                }));
            }
        }
        entries
    }

    /// How many lines are stored, visible or not.
    pub fn stored(&self) -> usize {
        let store = self.shared.read();
        let streams = store.tenants.values().flat_map(|tenant| &tenant.streams);
        streams.map(|stream| stream.entries.len()).sum()
    }

    /// Bytes of the lines that were accepted, repeated ones included.
    pub fn bytes_pushed(&self) -> u64 {
        self.shared.read().bytes
    }

    /// Flushes the ingester: shows everything.
    pub fn flush(&self) {
        self.shared.write().flush();
    }
}

impl Drop for FakeLoki {
    fn drop(&mut self) {
        for listener in locked(&self.shared.listeners).drain(..) {
            listener.abort();
        }
    }
}
