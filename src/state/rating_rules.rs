//! The hashmap tables: services, fields, groups, mappings and thresholds as
//! rows. What they mean is `rating::hashmap`'s business.

use chrono::NaiveDateTime;
use sea_orm::{ConnectionTrait, QueryResult, Value};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Context, StateError, as_text, date_column, date_value, decimal_placeholder, insert_row,
    optional_date_value, statement,
};
use crate::decimal::Decimal;

const ACTION: &str = "read the hashmap rules";
const WRITE: &str = "write the hashmap rules";

/// A service: the type of the data points that its rules price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRow {
    /// Row number.
    pub id: i32,
    /// Public identifier.
    pub service_id: String,
    /// Type of data points.
    pub name: String,
}

/// A field: a label whose values are priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRow {
    /// Row number.
    pub id: i32,
    /// Public identifier.
    pub field_id: String,
    /// Row of the service.
    pub service: i32,
    /// Name of the label.
    pub name: String,
}

/// A group: rules of different groups are added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// Row number.
    pub id: i32,
    /// Public identifier.
    pub group_id: String,
    /// Name.
    pub name: String,
}

/// How a cost counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostType {
    /// A price per unit.
    Flat,
    /// A factor on the price.
    Rate,
}

impl CostType {
    /// The word of the column and of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Rate => "rate",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "flat" => Some(Self::Flat),
            "rate" => Some(Self::Rate),
            _ => None,
        }
    }
}

/// What a rule belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Row of a service.
    Service(i32),
    /// Row of a field.
    Field(i32),
}

/// A mapping: the price of a service, or of a field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingRow {
    /// Row number; 0 before it is written.
    pub id: i32,
    /// Public identifier.
    pub mapping_id: String,
    /// Service or field.
    pub parent: Parent,
    /// Row of the group.
    pub group: Option<i32>,
    /// The field's value that is priced.
    pub value: Option<String>,
    /// Price or factor.
    pub cost: Decimal,
    /// How the cost counts.
    pub kind: CostType,
    /// The only scope it holds for; all when `None`.
    pub tenant_id: Option<String>,
    /// Name, at most 32 characters.
    pub name: String,
    /// First instant at which it holds, local time without zone.
    pub start: NaiveDateTime,
    /// First instant at which it no longer holds.
    pub end: Option<NaiveDateTime>,
    /// For people.
    pub description: Option<String>,
    /// Identifier of the user who made it.
    pub created_by: String,
}

/// A threshold: a price from a quantity, or from a field's value, on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdRow {
    /// Row number; 0 before it is written.
    pub id: i32,
    /// Public identifier.
    pub threshold_id: String,
    /// Service or field.
    pub parent: Parent,
    /// Row of the group.
    pub group: Option<i32>,
    /// Quantity or value from which it holds.
    pub level: Decimal,
    /// Price or factor.
    pub cost: Decimal,
    /// How the cost counts.
    pub kind: CostType,
    /// The only scope it holds for; all when `None`.
    pub tenant_id: Option<String>,
}

/// All rows, as loaded: services and fields by name, rules by row number,
/// which is the order in which the reference applies them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HashmapRows {
    /// Services.
    pub services: Vec<ServiceRow>,
    /// Fields.
    pub fields: Vec<FieldRow>,
    /// Groups.
    pub groups: Vec<GroupRow>,
    /// Mappings that are not deleted; a date of deletion in the future counts, too.
    pub mappings: Vec<MappingRow>,
    /// Thresholds.
    pub thresholds: Vec<ThresholdRow>,
}

/// Identifier for something new.
pub fn new_id() -> String {
    Uuid::new_v4().to_string()
}

async fn rows<C: ConnectionTrait>(
    connection: &C,
    sql: &str,
) -> Result<Vec<QueryResult>, StateError> {
    connection.query_all_raw(statement(connection, sql, [])).await.to(ACTION)
}

fn decimal(row: &QueryResult, name: &'static str) -> Result<Decimal, StateError> {
    let text: Option<String> = row.try_get("", name).to(ACTION)?;
    // A cost that is null breaks rating in the reference, too; it is refused
    // here instead of being billed as nothing.
    let text = text.unwrap_or_else(|| "NULL".to_owned());
    text.parse().map_err(|_| StateError::BadValue { column: name, value: text })
}

fn kind(row: &QueryResult) -> Result<CostType, StateError> {
    let word: String = row.try_get("", "map_type").to(ACTION)?;
    CostType::parse(&word).ok_or(StateError::BadValue { column: "map_type", value: word })
}

fn parent(row: &QueryResult) -> Result<Parent, StateError> {
    let service: Option<i32> = row.try_get("", "service_id").to(ACTION)?;
    let field: Option<i32> = row.try_get("", "field_id").to(ACTION)?;
    match (service, field) {
        (None, Some(field)) => Ok(Parent::Field(field)),
        (Some(service), None) => Ok(Parent::Service(service)),
        _ => Err(StateError::BadValue {
            column: "service_id, field_id",
            value: format!("{service:?}, {field:?}"),
        }),
    }
}

/// Loads all rows but deleted mappings. `connection` should be a snapshot, so
/// that no import is seen by half.
///
/// # Errors
/// A database that fails, a cost that is no number, a rule without its parent.
pub async fn load(connection: &impl ConnectionTrait) -> Result<HashmapRows, StateError> {
    let mut all = HashmapRows::default();
    for row in
        rows(connection, "SELECT id, service_id, name FROM hashmap_services ORDER BY name").await?
    {
        all.services.push(ServiceRow {
            id: row.try_get("", "id").to(ACTION)?,
            service_id: row.try_get("", "service_id").to(ACTION)?,
            name: row.try_get("", "name").to(ACTION)?,
        });
    }
    let sql = "SELECT id, field_id, service_id, name FROM hashmap_fields ORDER BY service_id, name";
    for row in rows(connection, sql).await? {
        all.fields.push(FieldRow {
            id: row.try_get("", "id").to(ACTION)?,
            field_id: row.try_get("", "field_id").to(ACTION)?,
            service: row.try_get("", "service_id").to(ACTION)?,
            name: row.try_get("", "name").to(ACTION)?,
        });
    }
    for row in
        rows(connection, "SELECT id, group_id, name FROM hashmap_groups ORDER BY name").await?
    {
        all.groups.push(GroupRow {
            id: row.try_get("", "id").to(ACTION)?,
            group_id: row.try_get("", "group_id").to(ACTION)?,
            name: row.try_get("", "name").to(ACTION)?,
        });
    }
    let (cost, map_type) = (as_text(connection, "cost"), as_text(connection, "map_type"));
    let sql = format!(
        "SELECT id, mapping_id, value, {cost} AS cost, {map_type} AS map_type, service_id, field_id, group_id, \
         tenant_id, name, start, \"end\", description, created_by \
         FROM hashmap_mappings WHERE deleted IS NULL ORDER BY id"
    );
    for row in rows(connection, &sql).await? {
        let start = date_column(&row, "start")?.ok_or(StateError::BadValue {
            column: "hashmap_mappings.start",
            value: "NULL".to_owned(),
        })?;
        all.mappings.push(MappingRow {
            id: row.try_get("", "id").to(ACTION)?,
            mapping_id: row.try_get("", "mapping_id").to(ACTION)?,
            parent: parent(&row)?,
            group: row.try_get("", "group_id").to(ACTION)?,
            value: row.try_get("", "value").to(ACTION)?,
            cost: decimal(&row, "cost")?,
            kind: kind(&row)?,
            tenant_id: row.try_get("", "tenant_id").to(ACTION)?,
            name: row.try_get("", "name").to(ACTION)?,
            start,
            end: date_column(&row, "end")?,
            description: row.try_get("", "description").to(ACTION)?,
            created_by: row.try_get("", "created_by").to(ACTION)?,
        });
    }
    let level = as_text(connection, "level");
    let sql = format!(
        "SELECT id, threshold_id, {level} AS level, {cost} AS cost, {map_type} AS map_type, \
         service_id, field_id, group_id, tenant_id FROM hashmap_thresholds ORDER BY id"
    );
    for row in rows(connection, &sql).await? {
        all.thresholds.push(ThresholdRow {
            id: row.try_get("", "id").to(ACTION)?,
            threshold_id: row.try_get("", "threshold_id").to(ACTION)?,
            parent: parent(&row)?,
            group: row.try_get("", "group_id").to(ACTION)?,
            level: decimal(&row, "level")?,
            cost: decimal(&row, "cost")?,
            kind: kind(&row)?,
            tenant_id: row.try_get("", "tenant_id").to(ACTION)?,
        });
    }
    all.check()?;
    Ok(all)
}

impl HashmapRows {
    /// Refuses rules whose service, field or group is not there: pricing
    /// without them would bill something else.
    fn check(&self) -> Result<(), StateError> {
        let has_parent = |parent: Parent| match parent {
            Parent::Service(id) => self.services.iter().any(|row| row.id == id),
            Parent::Field(id) => self.fields.iter().any(|row| row.id == id),
        };
        let has_group =
            |group: Option<i32>| group.is_none_or(|id| self.groups.iter().any(|row| row.id == id));
        let mappings = self.mappings.iter().map(|row| (row.parent, row.group, &row.mapping_id));
        let thresholds =
            self.thresholds.iter().map(|row| (row.parent, row.group, &row.threshold_id));
        let mut orphans = mappings
            .chain(thresholds)
            .filter(|(parent, group, _)| !has_parent(*parent) || !has_group(*group));
        match orphans.next() {
            None => Ok(()),
            Some((.., id)) => Err(StateError::BadValue {
                column: "hashmap rules without service, field or group",
                value: id.clone(),
            }),
        }
    }
}

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
pub async fn add_service(connection: &impl ConnectionTrait, name: &str) -> Result<i32, StateError> {
    let sql = "INSERT INTO hashmap_services (service_id, name) VALUES (?, ?)";
    insert(connection, sql, vec![new_id().into(), name.into()]).await
}

/// Adds a field and gives its row number.
///
/// # Errors
/// A database that fails.
pub async fn add_field(
    connection: &impl ConnectionTrait,
    service: i32,
    name: &str,
) -> Result<i32, StateError> {
    let sql = "INSERT INTO hashmap_fields (field_id, service_id, name) VALUES (?, ?, ?)";
    insert(connection, sql, vec![new_id().into(), service.into(), name.into()]).await
}

/// Adds a group and gives its row number.
///
/// # Errors
/// A database that fails.
pub async fn add_group(connection: &impl ConnectionTrait, name: &str) -> Result<i32, StateError> {
    let sql = "INSERT INTO hashmap_groups (group_id, name) VALUES (?, ?)";
    insert(connection, sql, vec![new_id().into(), name.into()]).await
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

/// Deletes a service, field or group that has no rules any more.
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
