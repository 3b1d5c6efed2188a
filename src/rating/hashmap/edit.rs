//! Changing the rules, one by one, as people do over the API.
//!
//! Everything is checked within the transaction that writes, with all other
//! editors locked out: two rules for one thing at one time would be a price that
//! depends on their order.

use super::super::edit::{
    AuditFilter, EditError, Editor, Extent, check_description, check_length, extent, new_time,
};
use crate::{
    decimal::Decimal,
    state::{
        Context, Database, Transaction,
        audit::Audit,
        rating_rules::{
            self, CostType, GroupRow, MappingRow, Parent, RuleTable, ServiceRow, ThresholdRow,
            new_id,
            records::{self, Field, Mapping, Rule, Threshold, Which},
        },
    },
};

type Result<T, E = EditError> = std::result::Result<T, E>;

/// Longest name of a service, field or group, value and scope.
const LONGEST: usize = 255;

/// Longest name of a mapping.
const LONGEST_NAME: usize = 32;

/// What a cost and a level stay below.
const TOO_MUCH: i64 = 1_000_000_000_000;

fn first<T>(found: Vec<T>, missing: impl FnOnce() -> String) -> Result<T> {
    found.into_iter().next().ok_or_else(|| EditError::Missing(missing()))
}

async fn begin(database: &Database) -> Result<Transaction> {
    let transaction = database.begin().await?;
    rating_rules::lock(&transaction).await?;
    Ok(transaction)
}

async fn commit(transaction: Transaction) -> Result<()> {
    Ok(transaction.commit().await.to("change the rating rules")?)
}

/// All services.
///
/// # Errors
/// A database that fails.
pub async fn services(database: &Database) -> Result<Vec<ServiceRow>> {
    Ok(records::services(database.connection(), Which::All).await?)
}

/// One service.
///
/// # Errors
/// One that is not there.
pub async fn service(database: &Database, id: &str) -> Result<ServiceRow> {
    find_service(database.connection(), id).await
}

async fn find_service(connection: &impl sea_orm::ConnectionTrait, id: &str) -> Result<ServiceRow> {
    let found = records::services(connection, Which::One(id)).await?;
    first(found, || format!("No such service: None (UUID: {id})"))
}

/// Adds a service.
///
/// # Errors
/// A name that is in use.
pub async fn add_service(database: &Database, name: &str) -> Result<ServiceRow> {
    check_length("name", name, LONGEST)?;
    let transaction = begin(database).await?;
    let known = records::services(&transaction, Which::All).await?;
    if let Some(row) = known.iter().find(|row| row.name == name) {
        let text = format!("Service {name} already exists (UUID: {})", row.service_id);
        return Err(EditError::Exists(text));
    }
    let service_id = new_id();
    let id = rating_rules::add_service(&transaction, &service_id, name)
        .await
        .map_err(|error| taken("Service", name, error))?;
    commit(transaction).await?;
    Ok(ServiceRow { id, service_id, name: name.to_owned() })
}

/// MariaDB finds names the same that differ in case or accents only.
fn taken(what: &str, name: &str, error: crate::state::StateError) -> EditError {
    match error.is_duplicate() {
        true => {
            EditError::Exists(format!("{what} {name} already exists, in small or capital letters"))
        }
        false => error.into(),
    }
}

/// Deletes a service, its fields and all their rules.
///
/// # Errors
/// One that is not there.
pub async fn delete_service(database: &Database, id: &str) -> Result<()> {
    let transaction = begin(database).await?;
    let row = find_service(&transaction, id).await?;
    rating_rules::delete_row(&transaction, RuleTable::Services, row.id).await?;
    commit(transaction).await
}

/// The fields of a service; none if it is not there.
///
/// # Errors
/// A database that fails.
pub async fn fields(database: &Database, service_id: &str) -> Result<Vec<Field>> {
    Ok(records::fields(database.connection(), Which::Service(service_id)).await?)
}

/// One field.
///
/// # Errors
/// One that is not there.
pub async fn field(database: &Database, id: &str) -> Result<Field> {
    find_field(database.connection(), id).await
}

async fn find_field(connection: &impl sea_orm::ConnectionTrait, id: &str) -> Result<Field> {
    let found = records::fields(connection, Which::One(id)).await?;
    first(found, || format!("No such field: {id}"))
}

/// Adds a field to a service.
///
/// # Errors
/// A service that is not there, a name that it has already.
pub async fn add_field(database: &Database, service_id: &str, name: &str) -> Result<Field> {
    check_length("name", name, LONGEST)?;
    let transaction = begin(database).await?;
    let service = find_service(&transaction, service_id).await.map_err(EditError::of_request)?;
    let known = records::fields(&transaction, Which::Service(&service.service_id)).await?;
    if let Some(field) = known.iter().find(|field| field.name == name) {
        let text = format!("Field {name} already exists (UUID: {})", field.field_id);
        return Err(EditError::Exists(text));
    }
    let field_id = new_id();
    let id = rating_rules::add_field(&transaction, &field_id, service.id, name)
        .await
        .map_err(|error| taken("Field", name, error))?;
    commit(transaction).await?;
    Ok(Field { id, field_id, name: name.to_owned(), service_id: service.service_id })
}

/// Deletes a field and its rules.
///
/// # Errors
/// One that is not there.
pub async fn delete_field(database: &Database, id: &str) -> Result<()> {
    let transaction = begin(database).await?;
    let field = find_field(&transaction, id).await?;
    rating_rules::delete_row(&transaction, RuleTable::Fields, field.id).await?;
    commit(transaction).await
}

/// All groups.
///
/// # Errors
/// A database that fails.
pub async fn groups(database: &Database) -> Result<Vec<GroupRow>> {
    Ok(records::groups(database.connection(), Which::All).await?)
}

/// One group.
///
/// # Errors
/// One that is not there.
pub async fn group(database: &Database, id: &str) -> Result<GroupRow> {
    find_group(database.connection(), id).await
}

async fn find_group(connection: &impl sea_orm::ConnectionTrait, id: &str) -> Result<GroupRow> {
    let found = records::groups(connection, Which::One(id)).await?;
    first(found, || format!("No such group: None (UUID: {id})"))
}

/// Adds a group.
///
/// # Errors
/// A name that is in use.
pub async fn add_group(database: &Database, name: &str) -> Result<GroupRow> {
    check_length("name", name, LONGEST)?;
    let transaction = begin(database).await?;
    let known = records::groups(&transaction, Which::All).await?;
    if let Some(row) = known.iter().find(|row| row.name == name) {
        let text = format!("Group {name} already exists (UUID: {})", row.group_id);
        return Err(EditError::Exists(text));
    }
    let group_id = new_id();
    let id = rating_rules::add_group(&transaction, &group_id, name)
        .await
        .map_err(|error| taken("Group", name, error))?;
    commit(transaction).await?;
    Ok(GroupRow { id, group_id, name: name.to_owned() })
}

/// Deletes a group; its rules with it if `recursive`, or else they belong to no
/// group any more.
///
/// # Errors
/// One that is not there.
pub async fn delete_group(database: &Database, id: &str, recursive: bool) -> Result<()> {
    let transaction = begin(database).await?;
    let row = find_group(&transaction, id).await?;
    if recursive {
        rating_rules::delete_rules_of_group(&transaction, row.id).await?;
    }
    rating_rules::delete_row(&transaction, RuleTable::Groups, row.id).await?;
    commit(transaction).await
}

/// Which rules are asked for.
#[derive(Debug, Clone, Default)]
pub struct RuleFilter {
    /// Of a service, by its public identifier. A field then counts for nothing.
    pub service_id: Option<String>,
    /// Of a field.
    pub field_id: Option<String>,
    /// Of a group.
    pub group_id: Option<String>,
    /// Of no group; counts for nothing beside one.
    pub no_group: bool,
    /// Of a scope, or of none.
    pub tenant_id: Option<Option<String>>,
}

impl RuleFilter {
    /// The narrowest question to the database.
    fn which(&self) -> Which<'_> {
        match (&self.service_id, &self.field_id, &self.group_id) {
            (Some(id), ..) => Which::Service(id),
            (_, Some(id), _) => Which::Field(id),
            (_, _, Some(id)) => Which::Group(id),
            _ => Which::All,
        }
    }

    fn wants(&self, rule: &Rule) -> bool {
        let group = match &self.group_id {
            Some(id) => rule.group_id.as_ref() == Some(id),
            None => !self.no_group || rule.group_id.is_none(),
        };
        group && self.tenant_id.as_ref().is_none_or(|tenant| rule.tenant_id == *tenant)
    }
}

/// Mappings that are asked for.
///
/// # Errors
/// A database that fails.
pub async fn mappings(
    database: &Database,
    filter: &RuleFilter,
    audit: &AuditFilter,
) -> Result<Vec<Mapping>> {
    let mut mappings = records::mappings(database.connection(), filter.which()).await?;
    mappings.retain(|mapping| filter.wants(&mapping.rule) && audit.wants(&mapping.audit));
    Ok(mappings)
}

/// One mapping, deleted or not.
///
/// # Errors
/// One that is not there.
pub async fn mapping(database: &Database, id: &str) -> Result<Mapping> {
    find_mapping(database.connection(), id).await
}

async fn find_mapping(connection: &impl sea_orm::ConnectionTrait, id: &str) -> Result<Mapping> {
    let found = records::mappings(connection, Which::One(id)).await?;
    first(found, || no_mapping(id))
}

fn no_mapping(id: &str) -> String {
    format!("No such mapping: {id}")
}

/// The group of a mapping.
///
/// # Errors
/// One that is not there, or has none.
pub async fn group_of_mapping(database: &Database, id: &str) -> Result<GroupRow> {
    let found = records::mappings(database.connection(), Which::One(id)).await?;
    match found.first().and_then(|mapping| mapping.rule.group_id.as_deref()) {
        Some(group_id) => group(database, group_id).await,
        None => Err(EditError::Missing(format!("Mapping has no group (UUID: {id})"))),
    }
}

/// A rule as it is asked for.
#[derive(Debug, Clone)]
pub struct NewRule {
    /// Public identifier of the service.
    pub service_id: Option<String>,
    /// Public identifier of the field.
    pub field_id: Option<String>,
    /// Public identifier of the group.
    pub group_id: Option<String>,
    /// The only scope it holds for.
    pub tenant_id: Option<String>,
    /// How the cost counts.
    pub kind: CostType,
    /// Price or factor.
    pub cost: Decimal,
}

impl NewRule {
    fn check(&self) -> Result<()> {
        check_length("tenant_id", self.tenant_id.as_deref().unwrap_or_default(), LONGEST)?;
        check_number("cost", self.cost, 28)
    }

    /// Rows of the service or field, and of the group.
    async fn place(&self, transaction: &Transaction) -> Result<(Parent, Option<i32>)> {
        let parent = match (&self.service_id, &self.field_id) {
            (Some(id), None) => {
                find_service(transaction, id).await.map(|row| Parent::Service(row.id))
            }
            (None, Some(id)) => {
                find_field(transaction, id).await.map(|field| Parent::Field(field.id))
            }
            (Some(_), Some(_)) => {
                Err(EditError::Refused("You can only specify one parent.".to_owned()))
            }
            (None, None) => Err(EditError::Refused("You must specify one parent.".to_owned())),
        };
        let parent = parent.map_err(EditError::of_request)?;
        Ok((parent, row_of_group(transaction, self.group_id.as_deref()).await?))
    }

    /// Those of the same service or field.
    fn beside(&self) -> Which<'_> {
        match (&self.service_id, &self.field_id) {
            (Some(id), _) => Which::Service(id),
            (None, Some(id)) => Which::Field(id),
            (None, None) => Which::All,
        }
    }
}

async fn row_of_group(transaction: &Transaction, id: Option<&str>) -> Result<Option<i32>> {
    match id {
        None => Ok(None),
        Some(id) => {
            let row = find_group(transaction, id).await.map_err(EditError::of_request)?;
            Ok(Some(row.id))
        }
    }
}

/// Refuses a number that the column cannot hold.
fn check_number(name: &str, number: Decimal, digits: u32) -> Result<()> {
    match number.quantize(digits).abs() < Decimal::from(TOO_MUCH) {
        true => Ok(()),
        false => Err(EditError::Refused(format!(
            "{name} {number} is too large: at most 12 digits may stand before the point."
        ))),
    }
}

/// What a rule prices, as errors tell it.
fn parent_text(service_id: Option<&str>, field_id: Option<&str>) -> String {
    match field_id {
        Some(id) => format!("field '{id}'"),
        None => format!("service '{}'", service_id.unwrap_or_default()),
    }
}

fn python(text: Option<&str>) -> &str {
    text.unwrap_or("None")
}

fn mapping_exists(
    value: Option<&str>,
    (service_id, field_id): (Option<&str>, Option<&str>),
    tenant_id: Option<&str>,
) -> EditError {
    EditError::Exists(format!(
        "Mapping '{}' already exists for {}, tenant: '{}'",
        python(value),
        parent_text(service_id, field_id),
        python(tenant_id)
    ))
}

/// A mapping as it is asked for.
#[derive(Debug, Clone)]
pub struct NewMapping {
    /// What it prices, and how.
    pub rule: NewRule,
    /// The field's value.
    pub value: Option<String>,
    /// Its name; any if there is none.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// First instant at which it holds; now if there is none.
    pub start: Option<chrono::NaiveDateTime>,
    /// First instant at which it no longer holds.
    pub end: Option<chrono::NaiveDateTime>,
    /// Whether it may begin in the past.
    pub force: bool,
}

/// Adds a mapping.
///
/// # Errors
/// A service, field or group that is not there, a time that is not right, a
/// name or a price that is there already.
pub async fn add_mapping(
    database: &Database,
    new: &NewMapping,
    editor: Editor<'_>,
) -> Result<Mapping> {
    let rule = &new.rule;
    let (start, end) = new_time(new.start, new.end, editor.now, new.force)?;
    if rule.service_id.is_some() != rule.field_id.is_some() {
        let has_value = new.value.as_deref().is_some_and(|value| !value.is_empty());
        if rule.service_id.is_some() && has_value {
            let text = "You can't specify a value and a service_id.";
            return Err(EditError::Refused(text.to_owned()));
        }
        if rule.field_id.is_some() && !has_value {
            let text = "You must specify a value for a field mapping.";
            return Err(EditError::Refused(text.to_owned()));
        }
    }
    rule.check()?;
    check_length("value", new.value.as_deref().unwrap_or_default(), LONGEST)?;
    check_description(new.description.as_deref())?;
    let name = new.name.clone().filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| new_id().replace('-', ""));
    check_length("name", &name, LONGEST_NAME)?;
    let transaction = begin(database).await?;
    let (parent, group) = rule.place(&transaction).await?;
    let exists = || {
        let parent = (rule.service_id.as_deref(), rule.field_id.as_deref());
        mapping_exists(new.value.as_deref(), parent, rule.tenant_id.as_deref())
    };
    let named = records::mappings(&transaction, Which::Name(&name)).await?;
    // MariaDB finds more than the same name.
    if named.iter().any(|mapping| mapping.audit.name == name) {
        return Err(exists());
    }
    let beside = records::mappings(&transaction, rule.beside()).await?;
    let meets = |other: &Mapping| {
        other.audit.deleted.is_none()
            && other.value == new.value
            && other.rule.group_id == rule.group_id
            && other.rule.tenant_id == rule.tenant_id
            && other.audit.meets(start, end)
    };
    if beside.iter().any(meets) {
        return Err(exists());
    }
    let row = MappingRow {
        id: 0,
        mapping_id: new_id(),
        parent,
        group,
        value: new.value.clone(),
        cost: rule.cost,
        kind: rule.kind,
        tenant_id: rule.tenant_id.clone(),
        name,
        start,
        end,
        description: new.description.clone(),
        created_by: editor.user.to_owned(),
    };
    rating_rules::add_mapping(&transaction, &row, editor.now).await?;
    let mapping = find_mapping(&transaction, &row.mapping_id).await?;
    commit(transaction).await?;
    Ok(mapping)
}

/// What a mapping is to be. What is `None` was not asked for.
#[derive(Debug, Clone)]
pub struct MappingChange {
    /// Its cost.
    pub cost: Decimal,
    /// When it begins; unchanged if there is none.
    pub start: Option<chrono::NaiveDateTime>,
    /// When it ends; never if there is none.
    pub end: Option<chrono::NaiveDateTime>,
    /// For people.
    pub description: Option<String>,
}

/// Changes a mapping. One that holds already may only be given an end.
///
/// `differs` tells whether the request holds anything else that the mapping is
/// not.
///
/// # Errors
/// A mapping that is not there, that may not be changed in this way, or would
/// price what another one prices at the same time.
pub async fn change_mapping(
    database: &Database,
    id: &str,
    change: &MappingChange,
    differs: impl FnOnce(&Mapping) -> bool + Send,
    editor: Editor<'_>,
) -> Result<()> {
    check_number("cost", change.cost, 28)?;
    check_description(change.description.as_deref())?;
    let transaction = begin(database).await?;
    let mapping = find_mapping(&transaction, id).await?;
    if mapping.audit.deleted.is_some() {
        return Err(EditError::Missing(no_mapping(id)));
    }
    let is_other_cost = mapping.rule.cost != Some(change.cost.quantize(28));
    let differs = is_other_cost || differs(&mapping);
    let mut audit = mapping.audit.clone();
    let mut cost = mapping.rule.cost.unwrap_or(change.cost);
    match extent(&audit, change.end, editor.now, differs)? {
        Extent::End => audit.end = change.end,
        Extent::All => {
            let start = change.start.unwrap_or(audit.start);
            (audit.start, audit.end) = new_time(Some(start), change.end, editor.now, false)?;
            audit.description = change.description.clone();
            cost = change.cost;
        }
    }
    check_others(&transaction, &mapping, &audit).await?;
    audit.updated_by = Some(editor.user.to_owned());
    rating_rules::change_mapping(&transaction, mapping.rule.id, cost, &audit).await?;
    commit(transaction).await
}

/// Refuses a time in which another mapping prices the same. The reference does
/// not look, and bills by whichever was made later.
async fn check_others(transaction: &Transaction, mapping: &Mapping, audit: &Audit) -> Result<()> {
    let rule = &mapping.rule;
    let (service_id, field_id) = (rule.service_id.as_deref(), rule.field_id.as_deref());
    let which = match (service_id, field_id) {
        (Some(id), _) => Which::Service(id),
        (None, Some(id)) => Which::Field(id),
        (None, None) => return Ok(()),
    };
    let meets = |other: &Mapping, audit: &Audit| {
        other.rule.id != rule.id
            && other.audit.deleted.is_none()
            && other.value == mapping.value
            && other.rule.is_beside(rule)
            && other.audit.meets(audit.start, audit.end)
    };
    let others = records::mappings(transaction, which).await?;
    // What met before is not this change's doing, and may be its cure.
    let is_new = |other: &Mapping| meets(other, audit) && !meets(other, &mapping.audit);
    match others.iter().any(is_new) {
        true => {
            let parent = (service_id, field_id);
            Err(mapping_exists(mapping.value.as_deref(), parent, rule.tenant_id.as_deref()))
        }
        false => Ok(()),
    }
}

/// Deletes a mapping: it rates no more and stays on record.
///
/// # Errors
/// One that is not there, or deleted already.
pub async fn delete_mapping(database: &Database, id: &str, editor: Editor<'_>) -> Result<()> {
    let transaction = begin(database).await?;
    let mapping = find_mapping(&transaction, id).await?;
    if mapping.audit.deleted.is_some() {
        return Err(EditError::Missing(no_mapping(id)));
    }
    let row = mapping.rule.id;
    rating_rules::delete_mapping(&transaction, row, editor.now, editor.user).await?;
    commit(transaction).await
}

/// Thresholds that are asked for.
///
/// # Errors
/// A question that names no service, field or group.
pub async fn thresholds(database: &Database, filter: &RuleFilter) -> Result<Vec<Threshold>> {
    if filter.which() == Which::All {
        return Err(too_wide());
    }
    let mut thresholds = records::thresholds(database.connection(), filter.which()).await?;
    thresholds.retain(|threshold| filter.wants(&threshold.rule));
    Ok(thresholds)
}

/// The error of a question that names no service, field or group.
pub fn too_wide() -> EditError {
    let text = "You must specify either service_uuid, field_uuid or group_uuid.";
    EditError::Refused(text.to_owned())
}

/// One threshold.
///
/// # Errors
/// One that is not there.
pub async fn threshold(database: &Database, id: &str) -> Result<Threshold> {
    find_threshold(database.connection(), id).await
}

async fn find_threshold(connection: &impl sea_orm::ConnectionTrait, id: &str) -> Result<Threshold> {
    let found = records::thresholds(connection, Which::One(id)).await?;
    first(found, || format!("No such threshold: {id}"))
}

/// The group of a threshold.
///
/// # Errors
/// One that is not there, or has none.
pub async fn group_of_threshold(database: &Database, id: &str) -> Result<GroupRow> {
    let found = records::thresholds(database.connection(), Which::One(id)).await?;
    match found.first().and_then(|threshold| threshold.rule.group_id.as_deref()) {
        Some(group_id) => group(database, group_id).await,
        None => Err(EditError::Missing(format!("Threshold has no group (UUID: {id})"))),
    }
}

/// Refuses a level that is there already: for a scope, in whatever group, since
/// the tables allow no more; for all scopes, in the same group.
fn check_level(others: &[Threshold], (id, level): (i32, Decimal), rule: &NewRule) -> Result<()> {
    let is_same = |other: &Threshold| {
        other.rule.id != id
            && other.level == Some(level.quantize(8))
            && other.rule.tenant_id == rule.tenant_id
            && (rule.tenant_id.is_some() || other.rule.group_id == rule.group_id)
    };
    match others.iter().any(is_same) {
        true => Err(EditError::Exists(format!(
            "Threshold '{level}' already exists for {}, tenant: '{}'",
            parent_text(rule.service_id.as_deref(), rule.field_id.as_deref()),
            python(rule.tenant_id.as_deref())
        ))),
        false => Ok(()),
    }
}

/// Adds a threshold.
///
/// # Errors
/// A service, field or group that is not there, a level that is there already.
pub async fn add_threshold(
    database: &Database,
    rule: &NewRule,
    level: Decimal,
) -> Result<Threshold> {
    rule.check()?;
    check_number("level", level, 8)?;
    let transaction = begin(database).await?;
    let (parent, group) = rule.place(&transaction).await?;
    let others = records::thresholds(&transaction, rule.beside()).await?;
    check_level(&others, (0, level), rule)?;
    let row = ThresholdRow {
        id: 0,
        threshold_id: new_id(),
        parent,
        group,
        level,
        cost: rule.cost,
        kind: rule.kind,
        tenant_id: rule.tenant_id.clone(),
    };
    rating_rules::add_threshold(&transaction, &row)
        .await
        .map_err(|error| taken("Threshold", &level.to_string(), error))?;
    let threshold = find_threshold(&transaction, &row.threshold_id).await?;
    commit(transaction).await?;
    Ok(threshold)
}

/// Changes a threshold. Its service or field stay, and its group unless another
/// one is named.
///
/// # Errors
/// One that is not there, a group that is not there, a level that is there
/// already.
pub async fn change_threshold(
    database: &Database,
    id: &str,
    change: NewRule,
    level: Decimal,
) -> Result<()> {
    change.check()?;
    check_number("level", level, 8)?;
    let transaction = begin(database).await?;
    let old = find_threshold(&transaction, id).await?.rule;
    let rule = NewRule {
        service_id: old.service_id,
        field_id: old.field_id,
        group_id: change.group_id.or(old.group_id),
        ..change
    };
    let (parent, group) = rule.place(&transaction).await?;
    let others = records::thresholds(&transaction, rule.beside()).await?;
    check_level(&others, (old.id, level), &rule)?;
    let row = ThresholdRow {
        id: old.id,
        threshold_id: old.rule_id,
        parent,
        group,
        level,
        cost: rule.cost,
        kind: rule.kind,
        tenant_id: rule.tenant_id,
    };
    rating_rules::change_threshold(&transaction, &row)
        .await
        .map_err(|error| taken("Threshold", &level.to_string(), error))?;
    commit(transaction).await
}

/// Deletes a threshold for good.
///
/// # Errors
/// One that is not there.
pub async fn delete_threshold(database: &Database, id: &str) -> Result<()> {
    let transaction = begin(database).await?;
    let threshold = find_threshold(&transaction, id).await?;
    rating_rules::delete_threshold(&transaction, threshold.rule.id).await?;
    commit(transaction).await
}
