//! `postgresql://user:password@host:port/database`: an advisory lock.
//!
//! tooz makes two small numbers of the name, the first two bytes of its MD5. Two
//! names in 65,536 thus share a lock, and wait for each other.

use async_trait::async_trait;
use md5::{Digest, Md5};
use sea_orm::sqlx::{
    self, Connection,
    postgres::{PgConnectOptions, PgConnection},
};

use super::{
    LockName,
    place::Place,
    session::{Server, SessionLocks},
};

pub(super) struct PostgreSql(PgConnectOptions);

pub(super) fn driver(place: &Place) -> Result<SessionLocks<PostgreSql>, String> {
    let ignored = ["timeout", "lock_timeout", "membership_timeout"];
    place.allow(&["host", "port", "dbname", "sslmode", "sslrootcert"], &ignored)?;
    let mut options = PgConnectOptions::new_without_pgpass().application_name("ratekitty locks");
    let host = place.option("host").or(place.host.as_deref()).unwrap_or("localhost");
    options = match host.starts_with('/') {
        true => options.socket(host),
        false => options.host(host),
    };
    let port = match place.number("port")? {
        Some(port) => Some(u16::try_from(port).map_err(|_| "option port is no port")?),
        None => place.port,
    };
    options = options.port(port.unwrap_or(5432));
    if let Some(user) = &place.user {
        options = options.username(user);
    }
    if let Some(password) = &place.password {
        options = options.password(password);
    }
    let database = place.option("dbname").unwrap_or(place.path.trim_start_matches('/'));
    if !database.is_empty() {
        options = options.database(database);
    }
    if let Some(mode) = place.option("sslmode") {
        let known = "disable, allow, prefer, require, verify-ca, verify-full";
        let mode = mode.parse().map_err(|_| format!("sslmode is none of {known}"))?;
        options = options.ssl_mode(mode);
    }
    if let Some(path) = place.option("sslrootcert") {
        options = options.ssl_root_cert(path);
    }
    Ok(SessionLocks::new(PostgreSql(options)))
}

/// The two numbers in a key.
fn numbers(key: &str) -> (i32, i32) {
    let (one, two) = key.split_once(' ').unwrap_or_default();
    (one.parse().unwrap_or_default(), two.parse().unwrap_or_default())
}

#[async_trait]
impl Server for PostgreSql {
    type Session = PgConnection;

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.0).await
    }

    fn key(&self, name: &LockName) -> String {
        let digest = Md5::digest(name.digest());
        format!("{} {}", digest[0], digest[1])
    }

    async fn take(&self, session: &mut PgConnection, key: &str) -> Result<bool, sqlx::Error> {
        let (one, two) = numbers(key);
        let sql = "SELECT pg_try_advisory_lock($1, $2)";
        sqlx::query_scalar(sql).bind(one).bind(two).fetch_one(session).await
    }

    async fn has(&self, session: &mut PgConnection, key: &str) -> Result<bool, sqlx::Error> {
        let (one, two) = numbers(key);
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' \
                   AND pid = pg_backend_pid() AND granted AND objsubid = 2 \
                   AND classid::bigint = $1::int AND objid::bigint = $2::int)";
        sqlx::query_scalar(sql).bind(one).bind(two).fetch_one(session).await
    }

    async fn release(&self, session: &mut PgConnection, key: &str) -> Result<(), sqlx::Error> {
        let (one, two) = numbers(key);
        let sql = "SELECT pg_advisory_unlock($1, $2)";
        sqlx::query(sql).bind(one).bind(two).execute(session).await.map(|_| ())
    }
}
