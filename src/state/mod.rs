//! The state database: how far each scope is rated, which rules and modules
//! there are. Knows nothing above it.
//!
//! Tables and columns are the reference's (CloudKitty 25.0.0), so that either
//! program can run on what the other made; our own have the prefix
//! `ratekitty_`. SQL is written once, with `?` for parameters and names that
//! every database takes; what differs between databases stays in this file.

pub mod modules;
pub mod rating_rules;
pub mod schema;
pub mod scopes;

use std::{path::PathBuf, time::Duration};

use chrono::NaiveDateTime;
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction,
    DbErr, IsolationLevel, QueryResult, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait, Value,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};
use secrecy::ExposeSecret;

use crate::config::sections::database::Database as Settings;

/// Time for which SQLite waits for another process to finish writing.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the state database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The URL names no database that we know.
    #[error(
        "[database] connection: `{0}` is not known; a SQLite file is written sqlite:////path/to/file"
    )]
    UnknownUrl(String),
    /// The folder of the SQLite file cannot be made or written.
    #[error("[database] connection: cannot use folder `{path}` for the SQLite file: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error(
        "cannot open the state database ({place}): {source}; if it is not there yet, run `ratekitty dbsync upgrade`"
    )]
    Connect {
        /// Where it is, without password.
        place: String,
        /// What the driver said.
        source: DbErr,
    },
    /// A statement failed.
    #[error("the state database failed to {action}: {source}")]
    Statement {
        /// What was being done.
        action: &'static str,
        /// What the driver said.
        source: DbErr,
    },
    /// The tables are not there, or older or newer than this program.
    #[error("the state database is not ready: {0}; run `ratekitty dbsync upgrade`")]
    Schema(String),
    /// A scope does not stand where it stood when its period was chosen.
    #[error(
        "scope `{0}` was moved by someone else while a period of it was rated; it is rated again from where it stands now"
    )]
    Moved(String),
    /// A column holds what it never should.
    #[error("the state database holds a bad value in {column}: `{value}`")]
    BadValue {
        /// Table and column.
        column: &'static str,
        /// The value.
        value: String,
    },
}

/// Adds what was being done to a driver's error.
pub(crate) trait Context<T> {
    /// `action` completes "the state database failed to ...".
    fn to(self, action: &'static str) -> Result<T, StateError>;
}

impl<T> Context<T> for Result<T, DbErr> {
    fn to(self, action: &'static str) -> Result<T, StateError> {
        self.map_err(|source| StateError::Statement { action, source })
    }
}

/// A transaction on the state database.
pub type Transaction = DatabaseTransaction;

/// A pool of connections to the state database.
#[derive(Debug, Clone)]
pub struct Database {
    pool: DatabaseConnection,
}

impl Database {
    /// Opens the database of `[database] connection`; a SQLite file and its
    /// folder are made if they are not there.
    ///
    /// # Errors
    /// A URL that is not known, a database that cannot be opened.
    pub async fn connect(settings: &Settings) -> Result<Self, StateError> {
        Self::open(settings, true).await
    }

    /// Opens the database of `[database] connection` if it is there: for who
    /// only looks, and may be another user than the service.
    ///
    /// # Errors
    /// As [`Self::connect`], and a SQLite file that is not there.
    pub async fn connect_existing(settings: &Settings) -> Result<Self, StateError> {
        Self::open(settings, false).await
    }

    async fn open(settings: &Settings, create: bool) -> Result<Self, StateError> {
        let url = settings.connection.expose_secret();
        let path = sqlite_path(url)
            .ok_or_else(|| StateError::UnknownUrl(crate::http::without_credentials(url)))?;
        let folder = path.parent().map(PathBuf::from).unwrap_or_default();
        if create && !folder.as_os_str().is_empty() {
            std::fs::create_dir_all(&folder)
                .map_err(|source| StateError::Folder { path: folder, source })?;
        }
        let synchronous = if settings.sqlite_synchronous {
            SqliteSynchronous::Full
        } else {
            SqliteSynchronous::Off
        };
        // The path is set below: in a URL, `?` and `%` would have to be escaped.
        let mut options = ConnectOptions::new("sqlite://state");
        let file = path.clone();
        options
            // More readers than cores only wait for each other in SQLite.
            .max_connections(settings.max_connections.clamp(2, 8))
            .acquire_timeout(settings.pool_timeout)
            .max_lifetime(settings.connection_recycle_time)
            .sqlx_logging(false)
            .record_stmt_in_spans(false)
            .map_sqlx_sqlite_opts(move |options| {
                options
                    .filename(&file)
                    .create_if_missing(create)
                    .foreign_keys(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(synchronous)
                    .busy_timeout(SQLITE_BUSY_TIMEOUT)
            });
        let pool = sea_orm::Database::connect(options).await.map_err(|source| {
            StateError::Connect { place: format!("SQLite file `{}`", path.display()), source }
        })?;
        Ok(Self { pool })
    }

    /// A connection of the pool, for reading and for single statements.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.pool
    }

    /// Begins a transaction that will write. SQLite takes its write lock at
    /// once, so that two writers wait for each other instead of failing.
    ///
    /// # Errors
    /// A database that cannot be reached or stays locked.
    pub async fn begin(&self) -> Result<Transaction, StateError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.pool.begin_with_options(options).await.to("begin a transaction")
    }

    /// Begins a transaction that only reads: all its reads see the same state,
    /// whatever is written meanwhile.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn snapshot(&self) -> Result<Transaction, StateError> {
        let isolation_level = match self.pool.get_database_backend() {
            DatabaseBackend::Sqlite => None,
            _ => Some(IsolationLevel::RepeatableRead),
        };
        let options = TransactionOptions { isolation_level, ..TransactionOptions::default() };
        self.pool.begin_with_options(options).await.to("begin to read")
    }
}

/// The file of a SQLAlchemy URL: `sqlite:///relative` or `sqlite:////absolute`.
fn sqlite_path(url: &str) -> Option<PathBuf> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme != "sqlite" && !scheme.starts_with("sqlite+") {
        return None;
    }
    let path = rest.strip_prefix('/')?.split('?').next().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(path))
}

/// A statement for the database behind `connection`: `?` stands for each value.
pub(crate) fn statement(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    let backend = connection.get_database_backend();
    let sql = if backend == DatabaseBackend::Postgres { numbered(sql) } else { sql.to_owned() };
    Statement::from_sql_and_values(backend, sql, values)
}

/// `?` as PostgreSQL wants it: `$1`, `$2`, ...
fn numbered(sql: &str) -> String {
    let mut parts = sql.split('?');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        result.push_str(&format!("${}{part}", index + 1));
    }
    result
}

/// `?, ?, ?` for `count` values.
pub(crate) fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// A date without zone as a parameter. SQLite has no dates: it gets the text
/// that SQLAlchemy writes.
pub(crate) fn date_value(connection: &impl ConnectionTrait, date: NaiveDateTime) -> Value {
    match connection.get_database_backend() {
        DatabaseBackend::Sqlite => date.format("%Y-%m-%d %H:%M:%S%.6f").to_string().into(),
        _ => date.into(),
    }
}

/// A date without zone from a column that may be null.
pub(crate) fn date_column(
    row: &QueryResult,
    name: &'static str,
) -> Result<Option<NaiveDateTime>, StateError> {
    row.try_get("", name).to("read a date")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sqlalchemy_urls() {
        let cases = [
            ("sqlite:////var/lib/x.sqlite", Some("/var/lib/x.sqlite")),
            ("sqlite:///x.sqlite", Some("x.sqlite")),
            ("sqlite+pysqlite:////x?timeout=3", Some("/x")),
            ("sqlite://", None),
            ("mysql+pymysql://u:p@h/db", None),
        ];
        for (url, path) in cases {
            assert_eq!(sqlite_path(url), path.map(PathBuf::from), "{url}");
        }
    }

    #[test]
    fn numbers_placeholders() {
        assert_eq!(numbered("a = ? AND b = ?"), "a = $1 AND b = $2");
    }
}
