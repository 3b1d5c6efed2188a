//! `service_to_collector_mappings` and the states of collectors, which are kept
//! beside those of rating modules: what version 1 of the API shows and changes,
//! and nobody looks at.

use sea_orm::{ConnectionTrait, QueryResult};

use super::{Context, Database, StateError, for_update, modules, statement};

const ACTION: &str = "read the mappings of collectors";

/// Begins the name of a collector's state among those of rating modules.
pub const PREFIX: &str = "collector_";

/// Which collector a service is mapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The service.
    pub service: String,
    /// The collector.
    pub collector: String,
}

/// All mappings, or those of a collector, by service.
///
/// # Errors
/// A database that fails.
pub async fn list(
    database: &Database,
    collector: Option<&str>,
) -> Result<Vec<Mapping>, StateError> {
    let connection = database.connection();
    let sql = "SELECT service, collector FROM service_to_collector_mappings ORDER BY service";
    let rows = connection.query_all_raw(statement(connection, sql, [])).await;
    let read = |row: &QueryResult| {
        Ok(Mapping {
            service: row.try_get("", "service").to(ACTION)?,
            collector: row.try_get("", "collector").to(ACTION)?,
        })
    };
    let all: Vec<Mapping> = rows.to(ACTION)?.iter().map(read).collect::<Result<_, StateError>>()?;
    let wanted = |mapping: &Mapping| collector.is_none_or(|name| name == mapping.collector);
    Ok(all.into_iter().filter(wanted).collect())
}

/// Maps a service to a collector, whatever it was mapped to.
///
/// # Errors
/// A database that fails.
pub async fn set(database: &Database, service: &str, collector: &str) -> Result<(), StateError> {
    let action = "map a service to a collector";
    let transaction = database.begin().await?;
    let sql = "DELETE FROM service_to_collector_mappings WHERE service = ?";
    let delete = statement(&transaction, sql, [service.into()]);
    transaction.execute_raw(delete).await.to(action)?;
    let sql = "INSERT INTO service_to_collector_mappings (service, collector) VALUES (?, ?)";
    let insert = statement(&transaction, sql, [service.into(), collector.into()]);
    transaction.execute_raw(insert).await.to(action)?;
    transaction.commit().await.to(action)
}

/// Takes a mapping away; whether there was one.
///
/// # Errors
/// A database that fails.
pub async fn delete(database: &Database, service: &str) -> Result<bool, StateError> {
    let action = "delete the mapping of a service";
    let transaction = database.begin().await?;
    let lock = for_update(&transaction);
    let sql = format!("SELECT service FROM service_to_collector_mappings WHERE service = ?{lock}");
    let row = transaction.query_one_raw(statement(&transaction, &sql, [service.into()])).await;
    let was_there = row.to(action)?.is_some();
    let sql = "DELETE FROM service_to_collector_mappings WHERE service = ?";
    let delete = statement(&transaction, sql, [service.into()]);
    transaction.execute_raw(delete).await.to(action)?;
    transaction.commit().await.to(action)?;
    Ok(was_there)
}

/// Whether a collector is enabled; one that nobody enabled is not.
///
/// # Errors
/// A database that fails.
pub async fn is_enabled(database: &Database, collector: &str) -> Result<bool, StateError> {
    let name = format!("{PREFIX}{collector}");
    let states = modules::list(database.connection()).await?;
    Ok(states.iter().any(|state| state.name == name && state.enabled))
}

/// Enables or disables a collector.
///
/// # Errors
/// A database that fails.
pub async fn enable(database: &Database, collector: &str, enabled: bool) -> Result<(), StateError> {
    modules::change(database, &format!("{PREFIX}{collector}"), Some(enabled), None).await
}
