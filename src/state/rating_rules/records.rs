//! The hashmap tables as people see them: told by public identifiers, deleted
//! mappings among them, in the order of their rows.

use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::{CostType, GroupRow, ServiceRow};
use crate::{
    decimal::Decimal,
    state::{
        Context, StateError, as_text,
        audit::{self, Audit},
        statement,
    },
};

const ACTION: &str = "read the hashmap rules";

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Row number.
    pub id: i32,
    /// Public identifier.
    pub field_id: String,
    /// Name of the label.
    pub name: String,
    /// Public identifier of its service.
    pub service_id: String,
}

/// What mappings and thresholds have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Row number.
    pub id: i32,
    /// Public identifier.
    pub rule_id: String,
    /// How the cost counts.
    pub kind: CostType,
    /// Price or factor. The reference takes null, and then cannot rate.
    pub cost: Option<Decimal>,
    /// Public identifier of the service, if that is what is priced.
    pub service_id: Option<String>,
    /// Public identifier of the field, if that is what is priced.
    pub field_id: Option<String>,
    /// Public identifier of the group.
    pub group_id: Option<String>,
    /// The only scope it holds for; all when `None`.
    pub tenant_id: Option<String>,
}

impl Rule {
    /// Whether two rules price the same thing for the same scope in one group.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.service_id == other.service_id
            && self.field_id == other.field_id
            && self.group_id == other.group_id
            && self.tenant_id == other.tenant_id
    }
}

/// A mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What it prices, and how.
    pub rule: Rule,
    /// The field's value that is priced.
    pub value: Option<String>,
    /// When it holds, what it is called, who made it.
    pub audit: Audit,
}

/// A threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    /// What it prices, and how.
    pub rule: Rule,
    /// Quantity or value from which it holds. The reference takes null, and then
    /// cannot rate.
    pub level: Option<Decimal>,
}

/// Which rows to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// All.
    All,
    /// The one of this public identifier.
    One(&'a str),
    /// Those of the service of this public identifier.
    Service(&'a str),
    /// Those of the field of this public identifier.
    Field(&'a str),
    /// Those in the group of this public identifier.
    Group(&'a str),
    /// Mappings of this name that are not deleted, whatever they price.
    Name(&'a str),
}

impl Which<'_> {
    /// The condition, where the rows themselves are told by `identifier`.
    fn condition(self, identifier: &str) -> (String, Option<Value>) {
        let (column, value) = match self {
            Self::All => return (String::new(), None),
            Self::One(id) => (identifier, id),
            Self::Service(id) => ("s.service_id", id),
            Self::Field(id) => ("f.field_id", id),
            Self::Group(id) => ("g.group_id", id),
            Self::Name(name) => ("r.deleted IS NULL AND r.name", name),
        };
        (format!("WHERE {column} = ?"), Some(value.into()))
    }
}

async fn rows(
    connection: &impl ConnectionTrait,
    sql: &str,
    value: Option<Value>,
) -> Result<Vec<QueryResult>, StateError> {
    connection.query_all_raw(statement(connection, sql, value)).await.to(ACTION)
}

/// Reads services: all, or one.
///
/// # Errors
/// A database that fails.
pub async fn services(
    connection: &impl ConnectionTrait,
    which: Which<'_>,
) -> Result<Vec<ServiceRow>, StateError> {
    let (condition, value) = which.condition("s.service_id");
    let sql = format!(
        "SELECT s.id, s.service_id, s.name FROM hashmap_services s {condition} ORDER BY s.id"
    );
    let read = |row: &QueryResult| {
        Ok(ServiceRow {
            id: row.try_get("", "id").to(ACTION)?,
            service_id: row.try_get("", "service_id").to(ACTION)?,
            name: row.try_get("", "name").to(ACTION)?,
        })
    };
    rows(connection, &sql, value).await?.iter().map(read).collect()
}

/// Reads groups: all, or one.
///
/// # Errors
/// A database that fails.
pub async fn groups(
    connection: &impl ConnectionTrait,
    which: Which<'_>,
) -> Result<Vec<GroupRow>, StateError> {
    let (condition, value) = which.condition("g.group_id");
    let sql =
        format!("SELECT g.id, g.group_id, g.name FROM hashmap_groups g {condition} ORDER BY g.id");
    let read = |row: &QueryResult| {
        Ok(GroupRow {
            id: row.try_get("", "id").to(ACTION)?,
            group_id: row.try_get("", "group_id").to(ACTION)?,
            name: row.try_get("", "name").to(ACTION)?,
        })
    };
    rows(connection, &sql, value).await?.iter().map(read).collect()
}

/// Reads fields: all, one, or those of a service.
///
/// # Errors
/// A database that fails.
pub async fn fields(
    connection: &impl ConnectionTrait,
    which: Which<'_>,
) -> Result<Vec<Field>, StateError> {
    let (condition, value) = which.condition("f.field_id");
    let sql = format!(
        "SELECT f.id, f.field_id, f.name, s.service_id FROM hashmap_fields f \
         JOIN hashmap_services s ON s.id = f.service_id {condition} ORDER BY f.id"
    );
    let read = |row: &QueryResult| {
        Ok(Field {
            id: row.try_get("", "id").to(ACTION)?,
            field_id: row.try_get("", "field_id").to(ACTION)?,
            name: row.try_get("", "name").to(ACTION)?,
            service_id: row.try_get("", "service_id").to(ACTION)?,
        })
    };
    rows(connection, &sql, value).await?.iter().map(read).collect()
}

/// The statement for rules: `more` columns, and the condition on the table,
/// which is called `r`.
fn rule_sql(
    connection: &impl ConnectionTrait,
    (table, identifier): (&str, &str),
    more: &str,
    condition: &str,
) -> String {
    let (cost, kind) = (as_text(connection, "r.cost"), as_text(connection, "r.map_type"));
    format!(
        "SELECT r.id, r.{identifier} AS rule_id, {kind} AS map_type, {cost} AS cost, \
         s.service_id AS service, f.field_id AS field, g.group_id AS of_group, r.tenant_id, {more} \
         FROM {table} r \
         LEFT JOIN hashmap_services s ON s.id = r.service_id \
         LEFT JOIN hashmap_fields f ON f.id = r.field_id \
         LEFT JOIN hashmap_groups g ON g.id = r.group_id {condition} ORDER BY r.id"
    )
}

fn rule(row: &QueryResult) -> Result<Rule, StateError> {
    Ok(Rule {
        id: row.try_get("", "id").to(ACTION)?,
        rule_id: row.try_get("", "rule_id").to(ACTION)?,
        kind: super::kind(row)?,
        cost: number(row, "cost")?,
        service_id: row.try_get("", "service").to(ACTION)?,
        field_id: row.try_get("", "field").to(ACTION)?,
        group_id: row.try_get("", "of_group").to(ACTION)?,
        tenant_id: row.try_get("", "tenant_id").to(ACTION)?,
    })
}

fn number(row: &QueryResult, column: &'static str) -> Result<Option<Decimal>, StateError> {
    let text: Option<String> = row.try_get("", column).to(ACTION)?;
    let parse = |text: String| {
        text.parse().map_err(|_| StateError::BadValue { column, value: text.clone() })
    };
    text.map(parse).transpose()
}

/// Reads mappings, deleted ones among them.
///
/// # Errors
/// A database that fails, a cost that is no number.
pub async fn mappings(
    connection: &impl ConnectionTrait,
    which: Which<'_>,
) -> Result<Vec<Mapping>, StateError> {
    let (condition, value) = which.condition("r.mapping_id");
    let more = format!("r.value, {}", audit::COLUMNS);
    let sql = rule_sql(connection, ("hashmap_mappings", "mapping_id"), &more, &condition);
    let read = |row: &QueryResult| {
        Ok(Mapping {
            rule: rule(row)?,
            value: row.try_get("", "value").to(ACTION)?,
            audit: audit::read(row)?,
        })
    };
    rows(connection, &sql, value).await?.iter().map(read).collect()
}

/// Reads thresholds.
///
/// # Errors
/// A database that fails, a cost or level that is no number.
pub async fn thresholds(
    connection: &impl ConnectionTrait,
    which: Which<'_>,
) -> Result<Vec<Threshold>, StateError> {
    let (condition, value) = which.condition("r.threshold_id");
    let more = format!("{} AS level", as_text(connection, "r.level"));
    let sql = rule_sql(connection, ("hashmap_thresholds", "threshold_id"), &more, &condition);
    let read = |row: &QueryResult| Ok(Threshold { rule: rule(row)?, level: number(row, "level")? });
    rows(connection, &sql, value).await?.iter().map(read).collect()
}
