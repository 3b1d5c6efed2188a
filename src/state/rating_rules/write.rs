//! Writing to the hashmap tables. What is right to write, callers know.

use chrono::NaiveDateTime;
use sea_orm::{ConnectionTrait, Value};

use super::{MappingRow, Parent, ThresholdRow};
use crate::{
    decimal::Decimal,
    state::{
        Context, StateError, audit::Audit, date_value, decimal_placeholder, insert_row,
        optional_date_value, statement,
    },
};

const WRITE: &str = "write the hashmap rules";

async fn insert(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: Vec<Value>,
) -> Result<i32, StateError> {
    let id = insert_row(connection, sql, values).await.to(WRITE)?;
    i32::try_from(id).map_err(|_| StateError::BadValue { column: "id", value: id.to_string() })
}

/// Adds a service and gives its row number.
///
/// # Errors
/// A database that fails.
pub async fn add_service(
    connection: &impl ConnectionTrait,
    service_id: &str,
    name: &str,
) -> Result<i32, StateError> {
    let sql = "INSERT INTO hashmap_services (service_id, name) VALUES (?, ?)";
    insert(connection, sql, vec![service_id.into(), name.into()]).await
}

/// Adds a field and gives its row number.
///
/// # Errors
/// A database that fails.
pub async fn add_field(
    connection: &impl ConnectionTrait,
    field_id: &str,
    service: i32,
    name: &str,
) -> Result<i32, StateError> {
    let sql = "INSERT INTO hashmap_fields (field_id, service_id, name) VALUES (?, ?, ?)";
    insert(connection, sql, vec![field_id.into(), service.into(), name.into()]).await
}

/// Adds a group and gives its row number.
///
/// # Errors
/// A database that fails.
pub async fn add_group(
    connection: &impl ConnectionTrait,
    group_id: &str,
    name: &str,
) -> Result<i32, StateError> {
    let sql = "INSERT INTO hashmap_groups (group_id, name) VALUES (?, ?)";
    insert(connection, sql, vec![group_id.into(), name.into()]).await
}

fn parent_values(parent: Parent) -> [Value; 2] {
    match parent {
        Parent::Service(id) => [id.into(), None::<i32>.into()],
        Parent::Field(id) => [None::<i32>.into(), id.into()],
    }
}

/// Adds a mapping.
///
/// # Errors
/// A database that fails.
pub async fn add_mapping(
    connection: &impl ConnectionTrait,
    mapping: &MappingRow,
    now: NaiveDateTime,
) -> Result<i32, StateError> {
    let cost = decimal_placeholder(connection);
    // A word of ours in the statement becomes whatever type the column has:
    // PostgreSQL takes no text parameter for its enumeration.
    let kind = mapping.kind.as_str();
    let sql = format!(
        "INSERT INTO hashmap_mappings (mapping_id, value, cost, map_type, service_id, \
         field_id, group_id, tenant_id, name, created_at, start, \"end\", description, \
         created_by) VALUES (?, ?, {cost}, '{kind}', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    );
    let [service, field] = parent_values(mapping.parent);
    let values = vec![
        mapping.mapping_id.as_str().into(),
        mapping.value.clone().into(),
        // As many decimals as the reference's NUMERIC(40, 28) shows.
        mapping.cost.quantize(28).to_plain_string().into(),
        service,
        field,
        mapping.group.into(),
        mapping.tenant_id.clone().into(),
        mapping.name.as_str().into(),
        date_value(connection, now),
        date_value(connection, mapping.start),
        optional_date_value(connection, mapping.end),
        mapping.description.clone().into(),
        mapping.created_by.as_str().into(),
    ];
    insert(connection, &sql, values).await
}

/// Adds a threshold.
///
/// # Errors
/// A database that fails.
pub async fn add_threshold(
    connection: &impl ConnectionTrait,
    threshold: &ThresholdRow,
) -> Result<i32, StateError> {
    let number = decimal_placeholder(connection);
    let kind = threshold.kind.as_str();
    let sql = format!(
        "INSERT INTO hashmap_thresholds (threshold_id, level, cost, map_type, service_id, \
         field_id, group_id, tenant_id) VALUES (?, {number}, {number}, '{kind}', ?, ?, ?, ?)"
    );
    let [service, field] = parent_values(threshold.parent);
    let values = vec![
        threshold.threshold_id.as_str().into(),
        threshold.level.quantize(8).to_plain_string().into(),
        threshold.cost.quantize(28).to_plain_string().into(),
        service,
        field,
        threshold.group.into(),
        threshold.tenant_id.clone().into(),
    ];
    insert(connection, &sql, values).await
}

/// Changes what may change of a mapping: its cost, time, description, and who
/// changed it.
///
/// # Errors
/// A database that fails.
pub async fn change_mapping(
    connection: &impl ConnectionTrait,
    id: i32,
    cost: Decimal,
    audit: &Audit,
) -> Result<(), StateError> {
    let number = decimal_placeholder(connection);
    let sql = format!(
        "UPDATE hashmap_mappings SET cost = {number}, start = ?, \"end\" = ?, description = ?, \
         updated_by = ? WHERE id = ?"
    );
    let values = [
        cost.quantize(28).to_plain_string().into(),
        date_value(connection, audit.start),
        optional_date_value(connection, audit.end),
        audit.description.clone().into(),
        audit.updated_by.clone().into(),
        id.into(),
    ];
    connection.execute_raw(statement(connection, &sql, values)).await.to(WRITE)?;
    Ok(())
}

/// Changes all of a threshold but its service or field.
///
/// # Errors
/// A database that fails.
pub async fn change_threshold(
    connection: &impl ConnectionTrait,
    threshold: &ThresholdRow,
) -> Result<(), StateError> {
    let number = decimal_placeholder(connection);
    let kind = threshold.kind.as_str();
    let sql = format!(
        "UPDATE hashmap_thresholds SET level = {number}, cost = {number}, map_type = '{kind}', \
         group_id = ?, tenant_id = ? WHERE id = ?"
    );
    let values = [
        threshold.level.quantize(8).to_plain_string().into(),
        threshold.cost.quantize(28).to_plain_string().into(),
        threshold.group.into(),
        threshold.tenant_id.clone().into(),
        threshold.id.into(),
    ];
    connection.execute_raw(statement(connection, &sql, values)).await.to(WRITE)?;
    Ok(())
}

/// Deletes all rules of a group for good, deleted mappings among them.
///
/// # Errors
/// A database that fails.
pub async fn delete_rules_of_group(
    connection: &impl ConnectionTrait,
    group: i32,
) -> Result<(), StateError> {
    for table in ["hashmap_mappings", "hashmap_thresholds"] {
        let sql = format!("DELETE FROM {table} WHERE group_id = ?");
        connection.execute_raw(statement(connection, &sql, [group.into()])).await.to(WRITE)?;
    }
    Ok(())
}

/// Ends a mapping: it holds for periods that begin before `end` only.
///
/// # Errors
/// A database that fails.
pub async fn end_mapping(
    connection: &impl ConnectionTrait,
    id: i32,
    end: NaiveDateTime,
) -> Result<(), StateError> {
    let sql = "UPDATE hashmap_mappings SET \"end\" = ? WHERE id = ?";
    let values = [date_value(connection, end), id.into()];
    connection.execute_raw(statement(connection, sql, values)).await.to(WRITE)?;
    Ok(())
}

/// Soft-deletes a mapping: it no longer rates and stays on record.
///
/// # Errors
/// A database that fails.
pub async fn delete_mapping(
    connection: &impl ConnectionTrait,
    id: i32,
    now: NaiveDateTime,
    user: &str,
) -> Result<(), StateError> {
    let sql = "UPDATE hashmap_mappings SET deleted = ?, deleted_by = ? WHERE id = ?";
    let values = [date_value(connection, now), user.into(), id.into()];
    connection.execute_raw(statement(connection, sql, values)).await.to(WRITE)?;
    Ok(())
}

/// Deletes a threshold for good; the reference keeps none either.
///
/// # Errors
/// A database that fails.
pub async fn delete_threshold(
    connection: &impl ConnectionTrait,
    id: i32,
) -> Result<(), StateError> {
    let sql = "DELETE FROM hashmap_thresholds WHERE id = ?";
    connection.execute_raw(statement(connection, sql, [id.into()])).await.to(WRITE)?;
    Ok(())
}

/// Deletes a service or field with all its rules, or a group, whose rules stay
/// without it.
///
/// # Errors
/// A database that fails.
pub async fn delete_row(
    connection: &impl ConnectionTrait,
    table: RuleTable,
    id: i32,
) -> Result<(), StateError> {
    let sql = format!("DELETE FROM {} WHERE id = ?", table.name());
    connection.execute_raw(statement(connection, &sql, [id.into()])).await.to(WRITE)?;
    Ok(())
}

/// Tables that rules stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleTable {
    /// Services.
    Services,
    /// Fields.
    Fields,
    /// Groups.
    Groups,
}

impl RuleTable {
    fn name(self) -> &'static str {
        match self {
            Self::Services => "hashmap_services",
            Self::Fields => "hashmap_fields",
            Self::Groups => "hashmap_groups",
        }
    }
}
