//! `ratekitty_resets`: scopes that someone sends back, until a processor has
//! done it.
//!
//! What is asked for over the API stays here, so that nothing is lost when
//! programs stop. The transaction that resets a scope takes its row away.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, QueryResult};

use super::{
    Context, Database, StateError, Transaction, insert_row, scopes::ScopeState, statement,
};
use crate::time::seconds;

const ACTION: &str = "read which scopes are to be reset";

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Row number.
    pub id: i64,
    /// Row number of the scope.
    pub scope: i64,
    /// Identifier of the scope.
    pub scope_id: String,
    /// Where it goes: begin of the last period that stays.
    pub last: DateTime<Utc>,
}

/// Asks that scopes are reset, all or none. What was asked for before and is not
/// done counts no more.
///
/// # Errors
/// A database that fails.
pub async fn request(
    database: &Database,
    scopes: &[ScopeState],
    last: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), StateError> {
    let action = "ask that a scope is reset";
    let transaction = database.begin().await?;
    for scope in scopes {
        let sql = "DELETE FROM ratekitty_resets WHERE scope = ?";
        let delete = statement(&transaction, sql, [scope.id.into()]);
        transaction.execute_raw(delete).await.to(action)?;
        let sql = "INSERT INTO ratekitty_resets (scope, scope_id, last_epoch, requested_epoch) \
                   VALUES (?, ?, ?, ?)";
        let values = [
            scope.id.into(),
            scope.identifier.as_str().into(),
            last.timestamp().into(),
            now.timestamp().into(),
        ];
        insert_row(&transaction, sql, values).await.to(action)?;
    }
    transaction.commit().await.to(action)
}

/// What is to be done, in the order in which it was asked for.
///
/// # Errors
/// A database that fails.
pub async fn pending(database: &Database) -> Result<Vec<Reset>, StateError> {
    let connection = database.connection();
    let sql = "SELECT id, scope, scope_id, last_epoch FROM ratekitty_resets ORDER BY id";
    let rows = connection.query_all_raw(statement(connection, sql, [])).await;
    let read = |row: &QueryResult| {
        Ok(Reset {
            id: row.try_get("", "id").to(ACTION)?,
            scope: row.try_get("", "scope").to(ACTION)?,
            scope_id: row.try_get("", "scope_id").to(ACTION)?,
            last: seconds(row.try_get("", "last_epoch").to(ACTION)?),
        })
    };
    rows.to(ACTION)?.iter().map(read).collect()
}

/// Whether a row is there still, and nobody else may take it away before the
/// transaction ends.
pub(super) async fn is_pending(transaction: &Transaction, id: i64) -> Result<bool, StateError> {
    let lock = super::for_update(transaction);
    let sql = format!("SELECT id FROM ratekitty_resets WHERE id = ?{lock}");
    let row = transaction.query_one_raw(statement(transaction, &sql, [id.into()])).await;
    Ok(row.to(ACTION)?.is_some())
}

/// Takes a row away: it is done, or cannot be.
///
/// # Errors
/// A database that fails.
pub async fn done(connection: &impl ConnectionTrait, id: i64) -> Result<(), StateError> {
    let sql = "DELETE FROM ratekitty_resets WHERE id = ?";
    let delete = statement(connection, sql, [id.into()]);
    connection.execute_raw(delete).await.to("note that a scope was reset")?;
    Ok(())
}
