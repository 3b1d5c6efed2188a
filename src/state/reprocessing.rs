//! `storage_scope_reprocessing_schedule`: times of scopes that are to be rated
//! again.
//!
//! A row names a scope by its identifier alone. `current_reprocess_time` is the
//! begin of the last period that was done, null before the first one; a row
//! whose current time has come to its end is finished, and stays on record. All
//! dates are in UTC without zone.
//!
//! There may be several scopes of one identifier, under different keys. What is
//! scheduled here has a row for each of them, and `ratekitty_schedules` says which
//! scope is meant. A row that the reference made means any of them.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::{
    Context, Database, StateError, Transaction, date_column, date_value, for_update, insert_row,
    placeholders,
    scopes::{self, ScopeState},
    statement,
};

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reprocessing {
    /// Row number.
    pub id: i64,
    /// Identifier of the scope.
    pub scope_id: String,
    /// Begin of the first period.
    pub start: DateTime<Utc>,
    /// Last instant at which a period may begin.
    pub end: DateTime<Utc>,
    /// Begin of the last period that was done.
    pub current: Option<DateTime<Utc>>,
    /// Why.
    pub reason: String,
}

const ACTION: &str = "read what is to be reprocessed";

const COLUMNS: &str = "id, identifier, start_reprocess_time, end_reprocess_time, \
     current_reprocess_time, reason";

fn read_row(row: &QueryResult) -> Result<Reprocessing, StateError> {
    let date = |name| -> Result<DateTime<Utc>, StateError> {
        let date = date_column(row, name)?;
        let value = "NULL".to_owned();
        Ok(date.ok_or(StateError::BadValue { column: name, value })?.and_utc())
    };
    Ok(Reprocessing {
        id: row.try_get::<i32>("", "id").to(ACTION)?.into(),
        scope_id: row.try_get("", "identifier").to(ACTION)?,
        start: date("start_reprocess_time")?,
        end: date("end_reprocess_time")?,
        current: date_column(row, "current_reprocess_time")?.map(|date| date.and_utc()),
        reason: row.try_get("", "reason").to(ACTION)?,
    })
}

/// The row with this number, which nobody else may change until the transaction
/// ends.
pub(super) async fn locked(
    transaction: &Transaction,
    id: i64,
) -> Result<Option<Reprocessing>, StateError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM storage_scope_reprocessing_schedule WHERE id = ?{}",
        for_update(transaction)
    );
    let row = transaction.query_one_raw(statement(transaction, &sql, [id.into()])).await;
    row.to(ACTION)?.as_ref().map(read_row).transpose()
}

/// The row with this number.
///
/// # Errors
/// A database that fails.
pub async fn get(database: &Database, id: i64) -> Result<Option<Reprocessing>, StateError> {
    let connection = database.connection();
    let sql = format!("SELECT {COLUMNS} FROM storage_scope_reprocessing_schedule WHERE id = ?");
    let row = connection.query_one_raw(statement(connection, &sql, [id.into()])).await;
    row.to(ACTION)?.as_ref().map(read_row).transpose()
}

/// What is not finished yet, in the order in which it was scheduled.
///
/// # Errors
/// A database that fails.
pub async fn unfinished(database: &Database) -> Result<Vec<Reprocessing>, StateError> {
    let connection = database.connection();
    let sql = format!(
        "SELECT {COLUMNS} FROM storage_scope_reprocessing_schedule \
         WHERE current_reprocess_time IS NULL OR current_reprocess_time < end_reprocess_time \
         ORDER BY id"
    );
    let rows = connection.query_all_raw(statement(connection, &sql, [])).await;
    rows.to(ACTION)?.iter().map(read_row).collect()
}

/// Rows of these scopes, or of all if there are none, in the order in which they
/// were scheduled, or the last ones first.
///
/// # Errors
/// A database that fails.
pub async fn list(
    database: &Database,
    scope_ids: &[String],
    last_first: bool,
    (offset, limit): (u64, u64),
) -> Result<Vec<Reprocessing>, StateError> {
    let connection = database.connection();
    let mut values: Vec<Value> = scope_ids.iter().map(|id| id.as_str().into()).collect();
    let condition = match scope_ids {
        [] => String::new(),
        ids => format!("WHERE identifier IN ({})", placeholders(ids.len())),
    };
    let order = if last_first { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT {COLUMNS} FROM storage_scope_reprocessing_schedule {condition} \
         ORDER BY id {order} LIMIT ? OFFSET ?"
    );
    let number = |count: u64| Value::from(i64::try_from(count).unwrap_or(i64::MAX));
    values.extend([number(limit), number(offset)]);
    let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
    rows.to(ACTION)?.iter().map(read_row).collect()
}

/// Why nothing was scheduled.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The scope is not rated as far.
    #[error("scope `{}` is rated to {}", .0.identifier, .0.last_processed)]
    TooLate(ScopeState),
    /// It is scheduled already for a part of the time.
    #[error("scope `{}` is scheduled from {} to {} already", .0.identifier, .1.start, .1.end)]
    Scheduled(ScopeState, Reprocessing),
    /// The database fails.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Schedules that scopes are rated again, all or none.
///
/// # Errors
/// A time that is not rated yet, or scheduled already, if only in one instant: a
/// period would be rated twice at once.
pub async fn schedule_all(
    database: &Database,
    scopes: &[ScopeState],
    (start, end): (DateTime<Utc>, DateTime<Utc>),
    reason: &str,
) -> Result<(), ScheduleError> {
    let transaction = database.begin().await?;
    for scope in scopes {
        let present = scopes::locked(&transaction, scope.id).await?;
        let scope = present.ok_or_else(|| StateError::Moved(scope.identifier.clone()))?;
        if scope.last_processed < start.max(end) {
            return Err(ScheduleError::TooLate(scope));
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM storage_scope_reprocessing_schedule WHERE identifier = ? \
             AND (current_reprocess_time IS NULL OR current_reprocess_time < end_reprocess_time) \
             ORDER BY id DESC"
        );
        let of_scope = [scope.identifier.as_str().into()];
        let rows = transaction.query_all_raw(statement(&transaction, &sql, of_scope)).await;
        for row in rows.to(ACTION)? {
            let known = read_row(&row)?;
            let is_meant = scope_of(&transaction, known.id).await?.is_none_or(|id| id == scope.id);
            let is_same = known.scope_id == scope.identifier && is_meant;
            if is_same && known.start <= end && start <= known.end {
                return Err(ScheduleError::Scheduled(scope, known));
            }
        }
        let id = insert(&transaction, &scope.identifier, (start, end), reason).await?;
        // SQLite gives the number of a row that was deleted to a new one.
        let sql = "DELETE FROM ratekitty_schedules WHERE schedule = ?";
        let forget = statement(&transaction, sql, [id.into()]);
        transaction.execute_raw(forget).await.to("schedule reprocessing")?;
        let sql = "INSERT INTO ratekitty_schedules (schedule, scope) VALUES (?, ?)";
        let note = statement(&transaction, sql, [id.into(), scope.id.into()]);
        transaction.execute_raw(note).await.to("schedule reprocessing")?;
    }
    Ok(transaction.commit().await.to("schedule reprocessing")?)
}

/// The row of the scope that a schedule means, if it means a certain one.
async fn scope_of(
    connection: &impl ConnectionTrait,
    schedule: i64,
) -> Result<Option<i64>, StateError> {
    let sql = "SELECT scope FROM ratekitty_schedules WHERE schedule = ?";
    let row = connection.query_one_raw(statement(connection, sql, [schedule.into()])).await;
    row.to(ACTION)?.map(|row| row.try_get("", "scope").to(ACTION)).transpose()
}

/// Whether a schedule means this scope, and not another one of its name.
///
/// # Errors
/// A database that fails.
pub async fn means(
    database: &Database,
    schedule: &Reprocessing,
    scope: &ScopeState,
) -> Result<bool, StateError> {
    match scope_of(database.connection(), schedule.id).await? {
        // One that is gone, or has another name, is not meant: the note is of an older row.
        Some(id) if id != scope.id => {
            let noted = scopes::by_row(database, id).await?;
            Ok(noted.is_none_or(|noted| noted.identifier != schedule.scope_id))
        }
        _ => Ok(true),
    }
}

/// Schedules that a scope is rated again, and gives the row number.
///
/// # Errors
/// A database that fails.
pub async fn schedule(
    database: &Database,
    scope_id: &str,
    time: (DateTime<Utc>, DateTime<Utc>),
    reason: &str,
) -> Result<i64, StateError> {
    insert(database.connection(), scope_id, time, reason).await
}

async fn insert(
    connection: &impl ConnectionTrait,
    scope_id: &str,
    (start, end): (DateTime<Utc>, DateTime<Utc>),
    reason: &str,
) -> Result<i64, StateError> {
    let sql = "INSERT INTO storage_scope_reprocessing_schedule \
               (identifier, start_reprocess_time, end_reprocess_time, reason) VALUES (?, ?, ?, ?)";
    let values = [
        scope_id.into(),
        date_value(connection, start.naive_utc()),
        date_value(connection, end.naive_utc()),
        reason.into(),
    ];
    insert_row(connection, sql, values).await.to("schedule reprocessing")
}
