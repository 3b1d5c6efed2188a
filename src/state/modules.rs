//! `modules_state`: which rating modules are enabled, and their order.

use sea_orm::ConnectionTrait;

use super::{Context, Database, StateError, for_update, statement};

/// State of a rating module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleState {
    /// Name of the module.
    pub name: String,
    /// Whether it rates.
    pub enabled: bool,
    /// Modules of higher priority rate first.
    pub priority: i32,
}

/// Lowest priority that editors may give. The reference takes any, reads 0 as 1, and
/// means whole numbers from 1 on; rows that have a lower one are kept in its order.
pub const LOWEST_PRIORITY: i32 = 1;

/// All modules that have a row. A module without one is disabled.
///
/// # Errors
/// A database that fails.
pub async fn list(connection: &impl ConnectionTrait) -> Result<Vec<ModuleState>, StateError> {
    let sql = "SELECT name, state, priority FROM modules_state ORDER BY name";
    let rows = connection.query_all_raw(statement(connection, sql, [])).await;
    let action = "read the rating modules";
    rows.to(action)?
        .iter()
        .map(|row| {
            let priority: Option<i32> = row.try_get("", "priority").to(action)?;
            Ok(ModuleState {
                name: row.try_get("", "name").to(action)?,
                enabled: row.try_get("", "state").to(action)?,
                // The reference reads no priority, and 0, as 1.
                priority: priority.filter(|priority| *priority != 0).unwrap_or(1),
            })
        })
        .collect()
}

/// Sets the state of a module.
///
/// # Errors
/// A database that fails.
pub async fn set(
    connection: &impl ConnectionTrait,
    module: &ModuleState,
) -> Result<(), StateError> {
    let action = "set a rating module";
    let sql = "DELETE FROM modules_state WHERE name = ?";
    let delete = statement(connection, sql, [module.name.as_str().into()]);
    connection.execute_raw(delete).await.to(action)?;
    let sql = "INSERT INTO modules_state (name, state, priority) VALUES (?, ?, ?)";
    let values = [module.name.as_str().into(), module.enabled.into(), module.priority.into()];
    connection.execute_raw(statement(connection, sql, values)).await.to(action)?;
    Ok(())
}

/// Changes what is given of a module's state; a module without a row gets one.
///
/// # Errors
/// A database that fails.
pub async fn change(
    database: &Database,
    name: &str,
    enabled: Option<bool>,
    priority: Option<i32>,
) -> Result<(), StateError> {
    let action = "change a rating module";
    let transaction = database.begin().await?;
    let sql = format!("SELECT name FROM modules_state WHERE name = ?{}", for_update(&transaction));
    let row = transaction.query_one_raw(statement(&transaction, &sql, [name.into()])).await;
    if row.to(action)?.is_none() {
        let sql = "INSERT INTO modules_state (name, state, priority) VALUES (?, ?, ?)";
        // As the reference has them.
        let values = [name.into(), false.into(), 1.into()];
        transaction.execute_raw(statement(&transaction, sql, values)).await.to(action)?;
    }
    if let Some(enabled) = enabled {
        let sql = "UPDATE modules_state SET state = ? WHERE name = ?";
        let update = statement(&transaction, sql, [enabled.into(), name.into()]);
        transaction.execute_raw(update).await.to(action)?;
    }
    if let Some(priority) = priority {
        let sql = "UPDATE modules_state SET priority = ? WHERE name = ?";
        let update = statement(&transaction, sql, [priority.into(), name.into()]);
        transaction.execute_raw(update).await.to(action)?;
    }
    transaction.commit().await.to(action)
}
