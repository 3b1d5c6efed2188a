//! The hashmap tables: services, fields, groups, mappings and thresholds as
//! rows. What they mean is `rating::hashmap`'s business.
//!
//! [`load`] reads all that rates, in one go; [`records`] what people ask for,
//! by public identifiers; `write` changes rows.

pub mod records;
mod write;

use chrono::NaiveDateTime;
use schemars::JsonSchema;
use sea_orm::{ConnectionTrait, QueryResult};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Context, StateError, Transaction, as_text, date_column, for_update, statement};
use crate::decimal::Decimal;
pub use write::*;

const ACTION: &str = "read the hashmap rules";

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

impl HashmapRows {
    /// Whether there are rules for this scope alone.
    pub fn has_rules_of(&self, scope_id: &str) -> bool {
        let mappings = self.mappings.iter().map(|row| &row.tenant_id);
        let thresholds = self.thresholds.iter().map(|row| &row.tenant_id);
        mappings.chain(thresholds).any(|tenant| tenant.as_deref() == Some(scope_id))
    }
}

/// Identifier for something new.
pub fn new_id() -> String {
    Uuid::new_v4().to_string()
}

/// Lets one at a time change rules, of hashmap and of pyscripts, until the
/// transaction ends: whether a rule may be written depends on others.
///
/// # Errors
/// A database that fails.
pub async fn lock(transaction: &Transaction) -> Result<(), StateError> {
    // A row that is always there; readers do not wait for it.
    let sql = format!("SELECT version FROM ratekitty_schema{}", for_update(transaction));
    let rows = transaction.query_all_raw(statement(transaction, &sql, [])).await;
    rows.to("lock the rating rules")?;
    Ok(())
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
