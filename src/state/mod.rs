//! The state database: how far each scope is rated, which rules and modules
//! there are. Knows nothing above it.
//!
//! Tables and columns are the reference's (CloudKitty 25.0.0), so that either
//! program can run on what the other made; our own have the prefix
//! `ratekitty_`. SQL is written once; what differs between databases is in
//! `dialect`.

pub mod audit;
mod batch;
pub mod collectors;
mod dialect;
pub mod failures;
pub mod modules;
pub mod periods;
pub mod processors;
pub mod rating_rules;
pub mod reprocessing;
pub mod resets;
pub mod schema;
pub mod scopes;
pub mod scripts;
mod step;
mod url;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sea_orm::{
    ConnectionTrait, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr,
    IsolationLevel, RuntimeErr, SqliteTransactionMode, SqlxMySqlConnector, SqlxPostgresConnector,
    SqlxSqliteConnector, TransactionOptions, TransactionTrait,
    sqlx::{
        self, Connection, Executor,
        mysql::{MySqlConnectOptions, MySqlConnection, MySqlPoolOptions},
        pool::PoolOptions,
        postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};
use secrecy::ExposeSecret;
use tokio::time::{sleep, timeout};
use tracing::warn;

pub(crate) use batch::{batches, batches_mut};
use dialect::{Refusal, is_conflict, refusal};
pub(crate) use dialect::{
    as_text, date_column, date_value, decimal_placeholder, for_update, given, insert_if_new,
    insert_row, integer_sum, is_duplicate, is_refused_value, optional_date_value, or_update,
    placeholders, statement,
};
pub use step::Step;
use url::{Server, Target};

use crate::config::sections::database::Database as Settings;

/// Time for which SQLite waits for another process to finish writing.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for making a connection to a server, unless its URL says so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the state database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The URL names no database that we know.
    #[error(
        "[database] connection: `{0}` is not known; known are mysql+pymysql://USER:PASSWORD@HOST/DATABASE, postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE and sqlite:////path/to/file"
    )]
    UnknownUrl(String),
    /// The URL is not as it should be.
    #[error("[database] connection: {0}")]
    Url(String),
    /// The folder of the SQLite file cannot be made or written.
    #[error("[database] connection: cannot use folder `{path}` for the SQLite file: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error("cannot open the state database ({place}): {source}; {advice}")]
    Connect {
        /// Where it is, without password.
        place: String,
        /// What the driver said.
        source: DbErr,
        /// What to do.
        advice: &'static str,
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
    /// The reference's tables are of another release.
    #[error(
        "the state database is not of CloudKitty 25.0.0: table `{table}` says revision {found}, not {expected}; an older one is brought up to date by `cloudkitty-dbsync upgrade` and `cloudkitty-storage-init` of CloudKitty 25.0.0, then by `ratekitty dbsync upgrade`"
    )]
    UnknownRevision {
        /// Table of the revision.
        table: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The user may not write.
    #[error(
        "the state database may only be read: writing to `{table}` failed: {source}; grant the user of [database] connection all rights on it"
    )]
    ReadOnly {
        /// A table.
        table: &'static str,
        /// What the driver said.
        source: DbErr,
    },
    /// A scope does not stand where it stood when its period was chosen.
    #[error(
        "scope `{0}` was moved by someone else while a period of it was rated; it is rated again from where it stands now"
    )]
    Moved(String),
    /// Periods have another length.
    #[error(
        "[collect] period = {wanted} s, but scopes of fetcher {}, collector {} and scope key {} are rated in periods of {known} s: another processor has that period, or it was changed here; give all processors the same one, or, if it is to change, stop them all and run `ratekitty dbsync set-period`",
        .keys.fetcher, .keys.collector, .keys.scope_key
    )]
    OtherPeriod {
        /// What tells these scopes from others.
        keys: Box<scopes::ScopeKeys>,
        /// Length of their periods, in seconds.
        known: i64,
        /// Length that was to be.
        wanted: i64,
    },
    /// The database does not tell two scopes apart.
    #[error(
        "the state database takes scope `{wanted}` for scope `{found}`: the column cloudkitty_storage_states.identifier needs a collation that tells them apart, such as utf8mb4_bin"
    )]
    SameName {
        /// The scope that was looked for.
        wanted: String,
        /// The scope that has the row.
        found: String,
    },
    /// A reprocessing was changed or deleted meanwhile.
    #[error(
        "the reprocessing {id} of scope `{scope_id}` was changed or taken away by someone else; it goes on from where it stands now"
    )]
    Rescheduled {
        /// Row number.
        id: i64,
        /// The scope.
        scope_id: String,
    },
    /// A column holds what it never should.
    #[error("the state database holds a bad value in {column}: `{value}`")]
    BadValue {
        /// Table and column.
        column: &'static str,
        /// The value.
        value: String,
    },
}

impl StateError {
    /// Whether others were in the way, so that the same may do better at once.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Statement { source, .. } => is_conflict(source),
            Self::Moved(_) | Self::Rescheduled { .. } => true,
            _ => false,
        }
    }
}

impl StateError {
    /// Whether another transaction was in the way.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if is_conflict(source))
    }

    /// Whether a column cannot hold a value.
    pub(crate) fn is_refused_value(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if is_refused_value(source))
    }

    /// Whether a row with the same unique key is there.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if is_duplicate(source))
    }
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

    /// Sees whether it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StateError> {
        self.pool.execute_unprepared("SELECT 1").await.to("answer").map(drop)
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
        let target =
            Target::parse(settings.connection.expose_secret(), &settings.connection_parameters)?;
        let pool = match target {
            Target::Sqlite(path) => open_file(&path, settings, create).await?,
            Target::Mysql(server) => {
                reach(&server, settings, || try_mysql(&server.options)).await?;
                let set_up = mysql_set_up(settings);
                let options: MySqlPoolOptions = pool_options(settings);
                let options = options.after_connect(move |connection, _| {
                    let set_up = set_up.clone();
                    Box::pin(async move {
                        for statement in set_up {
                            connection.execute(sqlx::AssertSqlSafe(statement)).await?;
                        }
                        Ok(())
                    })
                });
                SqlxMySqlConnector::from_sqlx_mysql_pool(
                    options.connect_lazy_with(server.options.clone()),
                )
            }
            Target::Postgresql(server) => {
                reach(&server, settings, || try_postgresql(&server.options)).await?;
                let options: PgPoolOptions = pool_options(settings);
                SqlxPostgresConnector::from_sqlx_postgres_pool(
                    options.connect_lazy_with(server.options.clone()),
                )
            }
        };
        Ok(Self { pool })
    }

    /// A connection of the pool, for reading and for single statements.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.pool
    }

    /// Whether it is a file of this machine.
    pub fn is_embedded(&self) -> bool {
        self.pool.get_database_backend() == DatabaseBackend::Sqlite
    }

    /// Begins a transaction that will write. SQLite takes its write lock at
    /// once, so that two writers wait for each other instead of failing.
    /// Servers show what others have committed, and lock only the rows that are
    /// written or asked for by [`for_update`].
    ///
    /// # Errors
    /// A database that cannot be reached or stays locked.
    pub async fn begin(&self) -> Result<Transaction, StateError> {
        let isolation_level = (!self.is_embedded()).then_some(IsolationLevel::ReadCommitted);
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            isolation_level,
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
        let isolation_level = (!self.is_embedded()).then_some(IsolationLevel::RepeatableRead);
        let options = TransactionOptions { isolation_level, ..TransactionOptions::default() };
        self.pool.begin_with_options(options).await.to("begin to read")
    }
}

/// Opens a SQLite file.
async fn open_file(
    path: &Path,
    settings: &Settings,
    create: bool,
) -> Result<DatabaseConnection, StateError> {
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    if create && !folder.as_os_str().is_empty() {
        std::fs::create_dir_all(&folder)
            .map_err(|source| StateError::Folder { path: folder, source })?;
    }
    let synchronous =
        if settings.sqlite_synchronous { SqliteSynchronous::Full } else { SqliteSynchronous::Off };
    let file = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(create)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(SQLITE_BUSY_TIMEOUT);
    let options: SqlitePoolOptions = pool_options(settings);
    // More readers than cores only wait for each other in SQLite.
    let options = options.max_connections(settings.max_connections.clamp(2, 8));
    // After a write that failed for want of room, SQLite has rolled back by itself,
    // and the library still thinks it is in a transaction: what it did next on this
    // connection would never be committed.
    let options = options.before_acquire(|connection, _| {
        let is_clean = !connection.is_in_transaction();
        Box::pin(async move { Ok(is_clean) })
    });
    let pool = options.connect_with(file).await.map_err(|error| StateError::Connect {
        place: format!("SQLite file `{}`", path.display()),
        source: connection_error(error),
        advice: "if it is not there yet, run `ratekitty dbsync upgrade`",
    })?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// For so long is a connection that was not used taken for one that is still open: no
/// server is started anew in less, and on a busy API none is idle for longer.
const TRUSTED: Duration = Duration::from_millis(100);

fn pool_options<D: sqlx::Database>(settings: &Settings) -> PoolOptions<D> {
    PoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(settings.pool_timeout)
        .max_lifetime(settings.connection_recycle_time)
        // The library would ask a server before each use whether it is still there.
        .test_before_acquire(false)
        .before_acquire(|connection: &mut D::Connection, about| {
            Box::pin(async move {
                if about.idle_for >= TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

fn connection_error(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)))
}

/// What each session of MySQL begins with, as oslo.db has it.
fn mysql_set_up(settings: &Settings) -> Vec<String> {
    let mut statements = Vec::new();
    if let Some(mode) = &settings.mysql_sql_mode {
        statements.push(format!("SET SESSION sql_mode = '{mode}'"));
    }
    if let Some(causality) = settings.mysql_wsrep_sync_wait {
        statements.push(format!("SET SESSION wsrep_sync_wait = {causality}"));
    }
    statements
}

/// Makes a connection, to see whether the server is there: as often as
/// `max_retries` says while it does not answer. What it refuses is told at once.
async fn reach<O, F>(
    server: &Server<O>,
    settings: &Settings,
    connect: impl Fn() -> F,
) -> Result<(), StateError>
where
    F: Future<Output = Result<(), sqlx::Error>>,
{
    let limit = server.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let mut tries = 0;
    loop {
        let result = timeout(limit, connect()).await;
        let source = match result.map_err(|_| {
            let text = format!("no answer within {} s", limit.as_secs());
            sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
        }) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) | Err(error) => connection_error(error),
        };
        let refused = refusal(&source);
        let advice = match refused {
            Some(Refusal::Login) => {
                "check user and password in [database] connection, and what the user is granted"
            }
            Some(Refusal::NoDatabase) => {
                "create the database, grant the user all rights on it, and run `ratekitty dbsync upgrade`"
            }
            Some(Refusal::Busy) | None => {
                "check that the server runs and takes connections from here, and [database] connection"
            }
        };
        let is_last = settings.max_retries.is_some_and(|most| tries >= most);
        if is_last || matches!(refused, Some(Refusal::Login | Refusal::NoDatabase)) {
            return Err(StateError::Connect { place: server.place.clone(), source, advice });
        }
        tries += 1;
        warn!(
            "The state database ({}) cannot be reached, trying again in {} s: {source}",
            server.place,
            settings.retry_interval.as_secs()
        );
        sleep(settings.retry_interval).await;
    }
}

async fn try_mysql(options: &MySqlConnectOptions) -> Result<(), sqlx::Error> {
    MySqlConnection::connect_with(options).await?.close().await
}

async fn try_postgresql(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    PgConnection::connect_with(options).await?.close().await
}
