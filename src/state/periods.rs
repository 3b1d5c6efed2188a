//! `ratekitty_periods`: how long the periods of scopes are.
//!
//! A scope's state is the begin of its last period; where the next one begins
//! depends on how long that was. A processor with another `[collect] period`
//! would leave time out, or bill it twice. So the length is kept with the state,
//! for each kind of scopes, and changed by `ratekitty dbsync set-period` alone.

use chrono::TimeDelta;
use sea_orm::ConnectionTrait;

use super::{
    Context, Database, StateError, Transaction, for_update, is_duplicate,
    scopes::{self, ScopeKeys},
    statement,
};

/// The length of periods of scopes with these keys in seconds, if it is known.
async fn find(
    connection: &impl ConnectionTrait,
    keys: &ScopeKeys,
    lock: &str,
) -> Result<Option<i64>, StateError> {
    let action = "read the length of periods";
    let sql = format!(
        "SELECT seconds FROM ratekitty_periods \
         WHERE scope_key = ? AND fetcher = ? AND collector = ?{lock}"
    );
    let row = connection.query_one_raw(statement(connection, &sql, keys.values())).await;
    row.to(action)?.map(|row| row.try_get("", "seconds").to(action)).transpose()
}

/// The length of periods of scopes with these keys in seconds, if it is known.
///
/// # Errors
/// A database that fails.
pub async fn known(database: &Database, keys: &ScopeKeys) -> Result<Option<i64>, StateError> {
    find(database.connection(), keys, "").await
}

fn other_period(keys: &ScopeKeys, known: i64, wanted: i64) -> StateError {
    StateError::OtherPeriod { keys: Box::new(keys.clone()), known, wanted }
}

/// Takes `seconds` as the length of periods, if none is known yet.
///
/// # Errors
/// Another length: of another processor, or of this one before its
/// configuration was changed.
pub async fn claim(database: &Database, keys: &ScopeKeys, seconds: u32) -> Result<(), StateError> {
    let seconds = i64::from(seconds);
    let connection = database.connection();
    let known = match find(connection, keys, "").await? {
        Some(known) => known,
        None => match insert(connection, keys, seconds).await {
            Err(StateError::Statement { source, .. }) if is_duplicate(&source) => {
                find(connection, keys, "").await?.unwrap_or(seconds)
            }
            result => result.map(|()| seconds)?,
        },
    };
    if known == seconds { Ok(()) } else { Err(other_period(keys, known, seconds)) }
}

async fn insert(
    connection: &impl ConnectionTrait,
    keys: &ScopeKeys,
    seconds: i64,
) -> Result<(), StateError> {
    let sql = "INSERT INTO ratekitty_periods (scope_key, fetcher, collector, seconds) \
               VALUES (?, ?, ?, ?)";
    let values = keys.values().into_iter().chain([seconds.into()]);
    let insert = statement(connection, sql, values);
    connection.execute_raw(insert).await.to("note the length of periods")?;
    Ok(())
}

/// Sees to it that a period which is about to be stored has the length that is
/// known.
pub(super) async fn verify(
    transaction: &Transaction,
    keys: &ScopeKeys,
    seconds: i64,
) -> Result<(), StateError> {
    match find(transaction, keys, "").await? {
        Some(known) if known != seconds => Err(other_period(keys, known, seconds)),
        _ => Ok(()),
    }
}

/// Changes the length of periods to come: every scope goes on where its last
/// period ended. Gives the length until now, and how many scopes were moved.
///
/// # Errors
/// A database that fails.
pub async fn set(
    database: &Database,
    keys: &ScopeKeys,
    seconds: u32,
) -> Result<(Option<i64>, usize), StateError> {
    let transaction = database.begin().await?;
    let before = find(&transaction, keys, for_update(&transaction)).await?;
    let seconds = i64::from(seconds);
    let mut moved = 0;
    match before {
        Some(before) if before != seconds => {
            let longer = TimeDelta::seconds(before - seconds);
            for scope in scopes::all(&transaction, keys, for_update(&transaction)).await? {
                scopes::move_to(&transaction, scope.id, scope.last_processed + longer).await?;
                moved += 1;
            }
            let sql = "UPDATE ratekitty_periods SET seconds = ? \
                       WHERE scope_key = ? AND fetcher = ? AND collector = ?";
            let values = std::iter::once(seconds.into()).chain(keys.values());
            let update = statement(&transaction, sql, values);
            transaction.execute_raw(update).await.to("note the length of periods")?;
        }
        Some(_) => {}
        None => insert(&transaction, keys, seconds).await?,
    }
    transaction.commit().await.to("note the length of periods")?;
    Ok((before, moved))
}
