//! `mysql://user:password@host:port/database`: `GET_LOCK` of the lock's name.
//!
//! The server needs to let a session have several locks: MariaDB from 10.0.2,
//! MySQL from 5.7.5.

use async_trait::async_trait;
use sea_orm::sqlx::{
    self, Connection,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
};

use super::{
    LockName,
    place::Place,
    session::{Server, SessionLocks},
};

const KNOWN: [&str; 7] = [
    "unix_socket",
    "ssl_ca",
    "ssl_cert",
    "ssl_key",
    "ssl_verify_mode",
    "ssl_check_hostname",
    "charset",
];

pub(super) struct MySql(MySqlConnectOptions);

pub(super) fn driver(place: &Place) -> Result<SessionLocks<MySql>, String> {
    place.allow(&KNOWN, &["ssl_cipher", "timeout", "lock_timeout", "membership_timeout"])?;
    let mut options = MySqlConnectOptions::new()
        .host(place.host.as_deref().unwrap_or("localhost"))
        .port(place.port.unwrap_or(3306))
        .username(place.user.as_deref().unwrap_or("root"));
    if let Some(password) = &place.password {
        options = options.password(password);
    }
    let database = place.path.trim_start_matches('/');
    if !database.is_empty() {
        options = options.database(database);
    }
    if let Some(socket) = place.option("unix_socket") {
        options = options.socket(socket);
    }
    let mut mode = MySqlSslMode::Preferred;
    for (file, set) in [
        ("ssl_cert", MySqlConnectOptions::ssl_client_cert as fn(_, String) -> _),
        ("ssl_key", MySqlConnectOptions::ssl_client_key),
    ] {
        if let Some(path) = place.option(file) {
            options = set(options, path.to_owned());
            mode = MySqlSslMode::Required;
        }
    }
    let is_unverified = place
        .option("ssl_verify_mode")
        .is_some_and(|mode| matches!(mode, "CERT_NONE" | "none" | "false" | "False" | "0"));
    if is_unverified && matches!(mode, MySqlSslMode::Preferred) {
        mode = MySqlSslMode::Required;
    }
    if let Some(path) = place.option("ssl_ca").filter(|_| !is_unverified) {
        options = options.ssl_ca(path);
        mode = match place.flag("ssl_check_hostname") {
            Some(false) => MySqlSslMode::VerifyCa,
            _ => MySqlSslMode::VerifyIdentity,
        };
    }
    Ok(SessionLocks::new(MySql(options.ssl_mode(mode))))
}

#[async_trait]
impl Server for MySql {
    type Session = MySqlConnection;

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut session = MySqlConnection::connect_with(&self.0).await?;
        // A lock may be held for as long as a scope takes, without a question.
        sqlx::query("SET SESSION wait_timeout = 2147483").execute(&mut session).await?;
        Ok(session)
    }

    fn key(&self, name: &LockName) -> String {
        name.digest().to_owned()
    }

    async fn take(&self, session: &mut MySqlConnection, key: &str) -> Result<bool, sqlx::Error> {
        let taken: Option<i64> =
            sqlx::query_scalar("SELECT GET_LOCK(?, 0)").bind(key).fetch_one(session).await?;
        Ok(taken == Some(1))
    }

    async fn has(&self, session: &mut MySqlConnection, key: &str) -> Result<bool, sqlx::Error> {
        let sql = "SELECT CAST(IS_USED_LOCK(?) = CONNECTION_ID() AS SIGNED)";
        let ours: Option<i64> = sqlx::query_scalar(sql).bind(key).fetch_one(session).await?;
        Ok(ours == Some(1))
    }

    async fn release(&self, session: &mut MySqlConnection, key: &str) -> Result<(), sqlx::Error> {
        sqlx::query("DO RELEASE_LOCK(?)").bind(key).execute(session).await.map(|_| ())
    }
}
