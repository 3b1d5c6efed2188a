//! Tables of the state database: made by `ratekitty dbsync upgrade`, checked at
//! every start.
//!
//! Beside the reference's tables, as CloudKitty 25.0.0 makes them, there are our
//! own ([`own`]). On a database that the reference made nothing of its own is
//! changed. Both programs tell the revision of a module's tables by the same
//! row, so that either finds nothing to do where the other has been.

mod own;

use sea_orm::{ConnectionTrait, DatabaseBackend};

use super::{Context, Database, StateError, Transaction, as_text, dialect, statement};
use own::statements;

/// Tables that are versioned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// Name, as `dbsync --module` takes it.
    pub name: &'static str,
    /// The table that holds their revision.
    pub table: &'static str,
    /// The revision of CloudKitty 25.0.0.
    pub revision: &'static str,
}

/// The reference's modules; tables of the last one are made by its
/// `cloudkitty-storage-init`.
pub const MODULES: [Module; 4] = [
    Module { name: "cloudkitty", table: "cloudkitty_alembic", revision: "385e33fef139" },
    Module { name: "hashmap", table: "hashmap_alembic", revision: "8a591f85865f" },
    Module { name: "pyscripts", table: "pyscripts_alembic", revision: "c6e4cda29654" },
    Module { name: "storage_states", table: "storage_states_alembic", revision: "9feccd32" },
];

/// Name of the lock under which servers make tables.
const LOCK: &str = "ratekitty-dbsync";
/// Seconds to wait for someone else who makes tables.
const LOCK_WAIT: u32 = 60;

/// What `dbsync upgrade` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// Tables were made.
    Created,
    /// Everything was there already.
    UpToDate,
}

/// How far the tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There are none.
    Empty,
    /// Those of the reference are as they should be, and there are none of ours.
    Reference,
    /// Everything is there.
    Ready,
}

async fn versions(
    connection: &impl ConnectionTrait,
    table: &str,
    column: &str,
) -> Result<Vec<String>, StateError> {
    let sql = format!("SELECT {} AS version FROM {table}", as_text(connection, column));
    let rows = connection.query_all_raw(statement(connection, &sql, [])).await;
    let rows = rows.to("read the revision of its tables")?;
    rows.iter()
        .map(|row| row.try_get("", "version").to("read the revision of its tables"))
        .collect()
}

async fn has_table(connection: &impl ConnectionTrait, table: &str) -> Result<bool, StateError> {
    let sql = match connection.get_database_backend() {
        DatabaseBackend::MySql => {
            "SELECT 1 FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = ?"
        }
        DatabaseBackend::Postgres => {
            "SELECT 1 FROM information_schema.tables \
             WHERE table_schema = ANY (current_schemas(FALSE)) AND table_name = ?"
        }
        _ => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
    };
    let row = connection.query_one_raw(statement(connection, sql, [table.into()])).await;
    Ok(row.to("list its tables")?.is_some())
}

/// The revision that a module's tables are of; `None` if it has none.
///
/// # Errors
/// A database that cannot be read.
pub async fn revision(
    connection: &impl ConnectionTrait,
    module: &Module,
) -> Result<Option<String>, StateError> {
    if !has_table(connection, module.table).await? {
        return Ok(None);
    }
    let found = versions(connection, module.table, "version_num").await?;
    Ok((!found.is_empty()).then(|| found.join(", ")))
}

/// Makes all tables that are not there. On SQLite and PostgreSQL that is one
/// transaction; MariaDB keeps each table by itself, and a second try makes the
/// rest.
///
/// # Errors
/// Tables of a revision that this program does not know, which it leaves alone.
pub async fn upgrade(database: &Database) -> Result<Upgrade, StateError> {
    if condition(database).await.is_ok_and(|condition| condition == Condition::Ready) {
        return Ok(Upgrade::UpToDate);
    }
    let transaction = database.begin().await?;
    lock(&transaction).await?;
    let made = make(&transaction).await;
    let unlocked = unlock(&transaction).await;
    made?;
    unlocked?;
    transaction.commit().await.to("make its tables")?;
    Ok(Upgrade::Created)
}

async fn make(transaction: &Transaction) -> Result<(), StateError> {
    for module in &MODULES {
        if let Some(found) = revision(transaction, module).await?
            && found != module.revision
        {
            return Err(unknown_revision(module, &found));
        }
    }
    let script = match transaction.get_database_backend() {
        DatabaseBackend::MySql => include_str!("mysql.sql"),
        DatabaseBackend::Postgres => include_str!("postgresql.sql"),
        _ => include_str!("sqlite.sql"),
    };
    execute(transaction, &statements(script)).await?;
    for module in &MODULES {
        if revision(transaction, module).await?.is_none() {
            stamp(transaction, module, Some(module.revision)).await?;
        }
    }
    let found = match has_table(transaction, "ratekitty_schema").await? {
        true => own_version(transaction).await?,
        false => None,
    };
    let collation = own::mysql_collation(&version(transaction).await?);
    match found {
        // Made in full, or begun on MariaDB and not finished.
        None => execute(transaction, &own::tables(transaction, collation)).await?,
        Some(found) if found > own::VERSION => return Err(unknown_own_version(found)),
        Some(found) => execute(transaction, &own::steps(transaction, collation, found)).await?,
    }
    let action = "note the version of its tables";
    transaction.execute_unprepared("DELETE FROM ratekitty_schema").await.to(action)?;
    let insert = "INSERT INTO ratekitty_schema (version) VALUES (?)";
    let insert = statement(transaction, insert, [own::VERSION.into()]);
    transaction.execute_raw(insert).await.to(action)?;
    Ok(())
}

/// What a MySQL server calls itself; empty for others.
async fn version(transaction: &Transaction) -> Result<String, StateError> {
    let action = "read the server's version";
    if transaction.get_database_backend() != DatabaseBackend::MySql {
        return Ok(String::new());
    }
    let select = statement(transaction, "SELECT VERSION() AS version", []);
    let row = transaction.query_one_raw(select).await.to(action)?;
    row.map_or(Ok(String::new()), |row| row.try_get("", "version").to(action))
}

async fn execute(transaction: &Transaction, statements: &[String]) -> Result<(), StateError> {
    for sql in statements {
        match transaction.execute_unprepared(sql).await {
            // Left by a try that was cut short on MariaDB.
            Err(error) if dialect::is_known_index(&error) => {}
            result => {
                result.to("make its tables")?;
            }
        }
    }
    Ok(())
}

/// Keeps others from making tables at the same time.
async fn lock(transaction: &Transaction) -> Result<(), StateError> {
    let action = "wait for someone else who makes its tables";
    match transaction.get_database_backend() {
        DatabaseBackend::MySql => {
            let sql = "SELECT GET_LOCK(?, ?) AS taken";
            let values = [LOCK.into(), LOCK_WAIT.into()];
            let row = transaction.query_one_raw(statement(transaction, sql, values)).await;
            let taken = row.to(action)?.map(|row| row.try_get::<Option<i64>>("", "taken"));
            match taken.transpose().to(action)?.flatten() {
                Some(1) => Ok(()),
                _ => Err(StateError::Schema(format!(
                    "someone else has been making its tables for {LOCK_WAIT} s"
                ))),
            }
        }
        DatabaseBackend::Postgres => {
            let sql = "SELECT pg_advisory_xact_lock(hashtext(?))";
            let select = statement(transaction, sql, [LOCK.into()]);
            transaction.execute_raw(select).await.to(action)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Ends what [`lock`] began, where the end of the transaction does not.
async fn unlock(transaction: &Transaction) -> Result<(), StateError> {
    if transaction.get_database_backend() == DatabaseBackend::MySql {
        let sql = statement(transaction, "SELECT RELEASE_LOCK(?)", [LOCK.into()]);
        transaction.query_one_raw(sql).await.to("let go of its tables")?;
    }
    Ok(())
}

/// Notes the revision of a module's tables, without looking at them; `None`
/// notes that there are none.
///
/// # Errors
/// A database that fails.
pub async fn stamp(
    transaction: &Transaction,
    module: &Module,
    revision: Option<&str>,
) -> Result<(), StateError> {
    let action = "note the revision of its tables";
    let table = module.table;
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {table} (version_num VARCHAR(32) NOT NULL, \
         CONSTRAINT {table}_pkc PRIMARY KEY (version_num))"
    );
    transaction.execute_unprepared(&create).await.to(action)?;
    let delete = format!("DELETE FROM {table}");
    transaction.execute_unprepared(&delete).await.to(action)?;
    if let Some(revision) = revision {
        let insert = format!("INSERT INTO {table} (version_num) VALUES (?)");
        let insert = statement(transaction, &insert, [revision.into()]);
        transaction.execute_raw(insert).await.to(action)?;
    }
    Ok(())
}

async fn own_version(connection: &impl ConnectionTrait) -> Result<Option<i64>, StateError> {
    let found = versions(connection, "ratekitty_schema", "version").await?;
    let number = |text: &String| {
        text.parse().map_err(|_| StateError::BadValue {
            column: "ratekitty_schema.version",
            value: text.clone(),
        })
    };
    match found.as_slice() {
        [] => Ok(None),
        [text] => number(text).map(Some),
        several => Err(StateError::BadValue {
            column: "ratekitty_schema.version",
            value: several.join(", "),
        }),
    }
}

fn unknown_revision(module: &Module, found: &str) -> StateError {
    StateError::UnknownRevision {
        table: module.table,
        found: found.to_owned(),
        expected: module.revision,
    }
}

fn unknown_own_version(found: i64) -> StateError {
    StateError::Schema(format!(
        "our own tables are of version {found}, this program needs {}",
        own::VERSION
    ))
}

/// Looks how far the tables are.
///
/// # Errors
/// Tables that are there in part, or of other revisions.
pub async fn condition(database: &Database) -> Result<Condition, StateError> {
    let connection = database.connection();
    let (mut missing, mut present) = (None, false);
    for module in &MODULES {
        match revision(connection, module).await? {
            Some(found) if found != module.revision => {
                return Err(unknown_revision(module, &found));
            }
            Some(_) => present = true,
            None => missing = missing.or(Some(module.table)),
        }
    }
    if !has_table(connection, "ratekitty_schema").await? {
        return match missing {
            Some(_) if !present => Ok(Condition::Empty),
            Some(table) => Err(StateError::Schema(format!("table `{table}` is missing or empty"))),
            None => Ok(Condition::Reference),
        };
    }
    if let Some(table) = missing {
        return Err(StateError::Schema(format!("table `{table}` is missing or empty")));
    }
    match own_version(connection).await? {
        Some(own::VERSION) => Ok(Condition::Ready),
        Some(found) => Err(unknown_own_version(found)),
        None => Ok(Condition::Reference),
    }
}

/// Checks that all tables are there and of the revisions that this program knows.
///
/// # Errors
/// Missing tables and other revisions.
pub async fn check(database: &Database) -> Result<(), StateError> {
    match condition(database).await? {
        Condition::Ready => Ok(()),
        Condition::Reference => {
            Err(StateError::Schema("our own tables are not there yet".to_owned()))
        }
        Condition::Empty => Err(StateError::Schema("there are no tables".to_owned())),
    }
}

/// Sees to it that this user may write, before anything depends on it.
///
/// # Errors
/// A user that may only read.
pub async fn check_writable(database: &Database) -> Result<(), StateError> {
    let transaction = database.begin().await?;
    let tables = [
        "cloudkitty_storage_states",
        "ratekitty_dataframes",
        "ratekitty_streams",
        "ratekitty_changes",
    ];
    for table in tables {
        let sql = format!("UPDATE {table} SET scope_key = scope_key WHERE 1 = 0");
        let update = transaction.execute_raw(statement(&transaction, &sql, [])).await;
        update.map_err(|source| StateError::ReadOnly { table, source })?;
    }
    transaction.rollback().await.to("look whether it may be written")
}
