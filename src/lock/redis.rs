//! `redis://:password@host:port?db=0`: a key with a random value that runs out.
//!
//! Key and steps are redis-py's, which tooz uses: `SET key value NX PX`, and
//! scripts that renew and delete the key only while it has our value. With
//! `sentinel=NAME` the host is a sentinel, which is asked for the master.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    Script, TlsCertificates, TlsMode,
    aio::MultiplexedConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use std::sync::Arc;
use tokio::{sync::Mutex, time::Instant};

use super::{
    Driver, Held, LockName, TIMEOUT, in_time,
    lease::{HeldLease, Lease},
    place::Place,
};

const KNOWN: [&str; 16] = [
    "db",
    "lock_timeout",
    "timeout",
    "namespace",
    "socket_timeout",
    "ssl",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_ca_certs",
    "sentinel",
    "sentinel_fallback",
    "sentinel_username",
    "sentinel_password",
    "sentinel_ssl",
    "socket_connect_timeout",
    "membership_timeout",
];
const IGNORED: [&str; 4] =
    ["encoding", "retry_on_timeout", "socket_keepalive", "health_check_interval"];

/// Time of a lock unless it is given, in seconds.
const LIFETIME: u64 = 30;

const RENEW: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then \
     return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end";
const RELEASE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then \
     return redis.call('del', KEYS[1]) else return 0 end";

/// Who is asked for a connection.
enum Peer {
    Server(Client),
    Sentinel(Mutex<SentinelClient>),
}

struct Server {
    peer: Peer,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Server {
    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        match &self.peer {
            Peer::Server(client) => {
                in_time(TIMEOUT, client.get_multiplexed_async_connection()).await
            }
            Peer::Sentinel(client) => {
                let mut client = client.lock().await;
                in_time(TIMEOUT, client.get_async_connection()).await
            }
        }
    }

    /// Asks; a connection that is found dead is replaced once.
    async fn ask<T, F>(&self, question: impl Fn(MultiplexedConnection) -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let mut current = self.connection.lock().await;
        if let Some(connection) = current.clone() {
            if let Ok(answer) = in_time(TIMEOUT, question(connection)).await {
                return Ok(answer);
            }
            *current = None;
        }
        let connection = self.connect().await?;
        let answer = in_time(TIMEOUT, question(connection.clone())).await?;
        *current = Some(connection);
        Ok(answer)
    }
}

/// Locks in a Redis.
pub(super) struct RedisLocks {
    server: Arc<Server>,
    namespace: String,
    lifetime: Duration,
}

impl RedisLocks {
    pub fn new(place: &Place) -> Result<Self, String> {
        crate::http::choose_cryptography();
        place.allow(&KNOWN, &IGNORED)?;
        let timeout = place.number("timeout")?;
        let lifetime = place.number("lock_timeout")?.or(timeout).unwrap_or(LIFETIME);
        if lifetime == 0 {
            return Err("option lock_timeout must be at least 1 second".to_owned());
        }
        let peer = peer(place)?;
        Ok(Self {
            server: Arc::new(Server { peer, connection: Mutex::new(None) }),
            namespace: place.option("namespace").unwrap_or("_tooz").to_owned(),
            lifetime: Duration::from_secs(lifetime),
        })
    }
}

fn read(place: &Place, option: &str) -> Result<Option<Vec<u8>>, String> {
    let Some(path) = place.option(option) else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|error| format!("option {option}: {path}: {error}"))
}

fn certificates(place: &Place) -> Result<TlsCertificates, String> {
    let client = (read(place, "ssl_certfile")?, read(place, "ssl_keyfile")?);
    let client_tls = match client {
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
        (None, None) => None,
        _ => return Err("options ssl_certfile and ssl_keyfile go together".to_owned()),
    };
    Ok(TlsCertificates { client_tls, root_cert: read(place, "ssl_ca_certs")? })
}

fn peer(place: &Place) -> Result<Peer, String> {
    let told = |error: RedisError| error.to_string();
    let tls = place.scheme == "rediss" || place.flag("ssl") == Some(true);
    let database = match place.option("db") {
        Some(text) => text.parse::<i64>().map_err(|_| "option db is no number")?,
        None => 0,
    };
    let address = |host: &str, port: u16, tls: bool| match tls {
        false => ConnectionAddr::Tcp(host.to_owned(), port),
        true => ConnectionAddr::TcpTls {
            host: host.to_owned(),
            port,
            insecure: false,
            tls_params: None,
        },
    };
    let host = place.host.as_deref().unwrap_or("localhost");
    let Some(master) = place.option("sentinel") else {
        let mut settings = RedisConnectionInfo::default().set_db(database);
        if let Some(user) = &place.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &place.password {
            settings = settings.set_password(password);
        }
        let address = match &place.host {
            None if place.path.len() > 1 => ConnectionAddr::Unix(PathBuf::from(&place.path)),
            _ => address(host, place.port.unwrap_or(6379), tls),
        };
        let info = address.into_connection_info().map_err(told)?.set_redis_settings(settings);
        let client = match tls {
            true => Client::build_with_tls(info, certificates(place)?),
            false => Client::open(info),
        };
        return client.map(Peer::Server).map_err(told);
    };
    let sentinel_tls = place.flag("sentinel_ssl") == Some(true);
    let mut sentinels = vec![address(host, place.port.unwrap_or(26379), sentinel_tls)];
    for (_, fallback) in place.options.iter().filter(|(name, _)| name == "sentinel_fallback") {
        let parsed = fallback
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)));
        let (host, port) = parsed.ok_or("option sentinel_fallback is not host:port")?;
        sentinels.push(address(host, port, sentinel_tls));
    }
    let kind = SentinelServerType::Master;
    let mut builder = SentinelClientBuilder::new(sentinels, master, kind)
        .map_err(told)?
        .set_client_to_redis_db(database);
    if let Some(user) = &place.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &place.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = place.option("sentinel_username") {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = place.option("sentinel_password") {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates(place)?);
    }
    if sentinel_tls {
        builder = builder
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates(place)?);
    }
    Ok(Peer::Sentinel(Mutex::new(builder.build().map_err(told)?)))
}

#[async_trait]
impl Driver for RedisLocks {
    async fn take(&self, name: &LockName) -> Result<Option<Box<dyn Held>>, String> {
        let key = format!("{}_{}_lock", self.namespace, name.digest());
        let lease = Key {
            server: self.server.clone(),
            key,
            token: uuid::Uuid::new_v4().simple().to_string(),
            lifetime: self.lifetime,
        };
        let asked = Instant::now();
        let mut set = redis::cmd("SET");
        set.arg(&lease.key).arg(&lease.token).arg("NX").arg("PX").arg(milliseconds(self.lifetime));
        let set = &set;
        let answer: Option<String> = self
            .server
            .ask(|mut connection| async move { set.query_async(&mut connection).await })
            .await?;
        if answer.is_none() {
            // A first question may have been heard, and its answer lost.
            let get = redis::cmd("GET").arg(&lease.key).to_owned();
            let get = &get;
            let holder: Option<String> = self
                .server
                .ask(|mut connection| async move { get.query_async(&mut connection).await })
                .await?;
            if holder.as_deref() != Some(&lease.token) {
                return Ok(None);
            }
        }
        Ok(Some(Box::new(HeldLease::new(lease, self.lifetime, asked))))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A key that we have set.
struct Key {
    server: Arc<Server>,
    key: String,
    token: String,
    lifetime: Duration,
}

impl Key {
    async fn run(&self, script: &str) -> Result<bool, String> {
        let script = Script::new(script);
        let mut call = script.key(&self.key);
        call.arg(&self.token).arg(milliseconds(self.lifetime));
        let call = &call;
        let ask = |mut connection| async move { call.invoke_async(&mut connection).await };
        Ok(self.server.ask::<i64, _>(ask).await? == 1)
    }
}

#[async_trait]
impl Lease for Key {
    async fn renew(&self) -> Result<bool, String> {
        self.run(RENEW).await
    }

    async fn give_back(&self) -> Result<(), String> {
        self.run(RELEASE).await.map(|_| ())
    }
}
