//! What differs between SQLite, MariaDB/MySQL and PostgreSQL.
//!
//! Statements are written once: `?` for parameters, double quotes around names
//! that one of them reserves. The functions here put in what cannot be written
//! for all three.

use chrono::NaiveDateTime;
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, QueryResult, Statement, Value, sqlx};

use super::{Context, StateError};

/// A statement for the database behind `connection`: `?` stands for each value.
pub(crate) fn statement(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    let backend = connection.get_database_backend();
    let sql = match backend {
        DatabaseBackend::Postgres => numbered(sql),
        // No statement has double quotes around anything but names.
        DatabaseBackend::MySql => sql.replace('"', "`"),
        _ => sql.to_owned(),
    };
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

/// Ends a `SELECT` whose rows nobody else may change, nor lock, until the
/// transaction ends. On SQLite, a transaction that writes is alone anyway.
pub(crate) fn for_update(connection: &impl ConnectionTrait) -> &'static str {
    match connection.get_database_backend() {
        DatabaseBackend::Sqlite => "",
        _ => " FOR UPDATE",
    }
}

/// An expression as text, digit for digit.
pub(crate) fn as_text(connection: &impl ConnectionTrait, expression: &str) -> String {
    match connection.get_database_backend() {
        DatabaseBackend::MySql => format!("CAST({expression} AS CHAR)"),
        _ => format!("CAST({expression} AS TEXT)"),
    }
}

/// A sum of integers as an integer of 64 bits; servers make a decimal of it.
pub(crate) fn integer_sum(connection: &impl ConnectionTrait, column: &str) -> String {
    match connection.get_database_backend() {
        DatabaseBackend::MySql => format!("CAST(SUM({column}) AS SIGNED)"),
        DatabaseBackend::Postgres => format!("CAST(SUM({column}) AS BIGINT)"),
        _ => format!("SUM({column})"),
    }
}

/// The placeholder of a decimal that is given as text. SQLite keeps the text: a
/// number would become a float there.
pub(crate) fn decimal_placeholder(connection: &impl ConnectionTrait) -> &'static str {
    match connection.get_database_backend() {
        DatabaseBackend::Postgres => "CAST(? AS NUMERIC)",
        _ => "?",
    }
}

/// A date without zone as a parameter. SQLite has no dates: it gets the text
/// that SQLAlchemy writes.
pub(crate) fn date_value(connection: &impl ConnectionTrait, date: NaiveDateTime) -> Value {
    optional_date_value(connection, Some(date))
}

/// As [`date_value`], or null.
pub(crate) fn optional_date_value(
    connection: &impl ConnectionTrait,
    date: Option<NaiveDateTime>,
) -> Value {
    match connection.get_database_backend() {
        DatabaseBackend::Sqlite => {
            date.map(|date| date.format("%Y-%m-%d %H:%M:%S%.6f").to_string()).into()
        }
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

/// Runs an `INSERT` into a table whose row number is called `id`, and gives
/// that number: of 64 bits in our own tables, of 32 in the reference's.
pub(crate) async fn insert_row(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<i64, DbErr> {
    let missing = || DbErr::RecordNotInserted;
    // MySQL has no RETURNING, and MariaDB answers both.
    if connection.get_database_backend() == DatabaseBackend::MySql {
        let result = connection.execute_raw(statement(connection, sql, values)).await?;
        return i64::try_from(result.last_insert_id()).map_err(|_| missing());
    }
    let sql = format!("{sql} RETURNING CAST(id AS BIGINT) AS id");
    let row = connection.query_one_raw(statement(connection, &sql, values)).await?;
    row.ok_or_else(missing)?.try_get("", "id")
}

/// Begins and ends an `INSERT` that leaves rows alone which are there already.
pub(crate) fn insert_if_new(connection: &impl ConnectionTrait, into: &str) -> String {
    match connection.get_database_backend() {
        // IGNORE would hide values that do not fit, too.
        DatabaseBackend::MySql => {
            format!("INSERT INTO {into} ON DUPLICATE KEY UPDATE id = id")
        }
        _ => format!("INSERT INTO {into} ON CONFLICT DO NOTHING"),
    }
}

/// Goes on behind an `INSERT` whose row may be there already, told by its `key`: what
/// follows sets columns of that row. [`given`] is what was to be inserted.
pub(crate) fn or_update(connection: &impl ConnectionTrait, key: &str) -> String {
    match connection.get_database_backend() {
        DatabaseBackend::MySql => "ON DUPLICATE KEY UPDATE".to_owned(),
        _ => format!("ON CONFLICT ({key}) DO UPDATE SET"),
    }
}

/// The value of a column in the row that was to be inserted: [`or_update`].
pub(crate) fn given(connection: &impl ConnectionTrait, column: &str) -> String {
    match connection.get_database_backend() {
        DatabaseBackend::MySql => format!("VALUES({column})"),
        _ => format!("excluded.{column}"),
    }
}

/// Whether two transactions were in each other's way, so that the same
/// statements may do better in a new one.
pub(crate) fn is_conflict(error: &DbErr) -> bool {
    match code(error).as_deref() {
        // PostgreSQL: serialization failure, deadlock, lock not available.
        Some("40001" | "40P01" | "55P03") => true,
        _ => matches!(mysql_number(error), Some(1205 | 1213)),
    }
}

/// Whether a row with the same unique key is there.
pub(crate) fn is_duplicate(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}

/// Whether a column cannot hold a value, nor be compared with it: it is too long, or
/// has characters that the table has not.
pub(crate) fn is_refused_value(error: &DbErr) -> bool {
    matches!(mysql_number(error), Some(1267 | 1270 | 1271 | 1366 | 1406))
        || matches!(code(error).as_deref(), Some("22001" | "22021" | "22P05"))
}

/// Whether an index of that name is there, which MySQL cannot be asked before.
pub(super) fn is_known_index(error: &DbErr) -> bool {
    mysql_number(error) == Some(1061)
}

/// What kind of error the server answers a connection with, if it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// User or password are wrong, or the user may not use the database.
    Login,
    /// There is no such database.
    NoDatabase,
    /// The server is there and takes no more connections, or is starting.
    Busy,
}

/// Why a server refused a connection; `None` if it did not answer.
pub(super) fn refusal(error: &DbErr) -> Option<Refusal> {
    match (code(error).as_deref(), mysql_number(error)) {
        (Some("28P01" | "28000" | "42501"), _) | (_, Some(1044 | 1045 | 1698)) => {
            Some(Refusal::Login)
        }
        (Some("3D000"), _) | (_, Some(1049)) => Some(Refusal::NoDatabase),
        (Some("53300" | "57P03"), _) | (_, Some(1040 | 1203 | 1226)) => Some(Refusal::Busy),
        _ => None,
    }
}

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else {
        return None;
    };
    match inner {
        sea_orm::RuntimeErr::SqlxError(error) => Some(&**error),
        sea_orm::RuntimeErr::Internal(_) => None,
    }
}

fn code(error: &DbErr) -> Option<String> {
    let error = sqlx_error(error)?.as_database_error()?;
    error.code().map(|code| code.into_owned())
}

fn mysql_number(error: &DbErr) -> Option<u16> {
    let error = sqlx_error(error)?.as_database_error()?;
    let error = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?;
    Some(error.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_placeholders() {
        assert_eq!(numbered("a = ? AND b = ?"), "a = $1 AND b = $2");
    }
}
