//! The whole price list as one YAML file: `ratekitty rules export|import`.
//!
//! A file can be kept in version control and imported again and again: an
//! import compares it with the database, changes what differs and nothing else,
//! in one transaction.
//!
//! A price holds for periods that begin from its `start` on. Rating lags behind
//! the clock, so a change of price must not take the old price away from periods
//! that are still to be rated: what is gone from the file, or replaced by
//! something without a `start`, ends with the import, and what is priced further
//! without a `start` begins there. What had no price before, and has no `start`,
//! holds since ever. Mappings that have ended are history and left alone, in the
//! file or not.
//!
//! Whatever the tables can hold, an export says it, and an import into an empty
//! database makes the same prices of it. Tables can hold what nobody would write
//! down: rules of which a later one takes the place of an earlier one, scripts
//! that are no Python. Such things are marked in the file ([`Mapping::overlaps`],
//! [`Threshold::overlaps`], [`Script::unchecked`]); without the mark they are
//! taken for a mistake.
//!
//! ```yaml
//! modules:
//!   hashmap: {enabled: true, priority: 1}
//! hashmap:
//!   groups: [uptime]
//!   services:
//!     - name: instance
//!       mappings:
//!         - {type: flat, cost: "0.1", group: uptime}
//!       thresholds:
//!         - {level: "100", type: rate, cost: "0.9", group: uptime}
//!       fields:
//!         - name: flavor_name
//!           mappings:
//!             - {value: m1.large, type: flat, cost: "0.4", group: uptime}
//! pyscripts:
//!   - name: night
//!     data: |
//!       for points in data["usage"].values():
//!           ...
//! ```

mod check;
mod import;
mod scripts;

use std::{collections::BTreeMap, fmt, ops::Not};

use chrono::{DateTime, NaiveDateTime};
use serde::{Deserialize, Deserializer, Serialize, de};

use self::import::Importer;
use super::MODULES;
use crate::{
    decimal::Decimal,
    state::{
        self, Database, StateError, collectors,
        modules::{self, ModuleState},
        rating_rules::{self, CostType, Parent},
    },
};

/// The start of what holds since ever.
const ALWAYS: NaiveDateTime = DateTime::UNIX_EPOCH.naive_utc();

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceList {
    /// State of the rating modules by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, Module>,
    /// Rules of the hashmap module. Must be there, so that a file that was cut
    /// short does not end every price.
    pub hashmap: Hashmap,
    /// Scripts of the pyscripts module, in the order in which they are added. A
    /// file without this key leaves scripts alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pyscripts: Option<Vec<Script>>,
}

/// A Python script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// Its text.
    pub data: String,
    /// First instant at which it holds, local time. When left out: the time of
    /// the import if there is, or was, a script of that name, else since ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<NaiveDateTime>,
    /// First instant at which it no longer holds, local time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<NaiveDateTime>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether its text is taken even if it is no Python. The reference keeps such
    /// scripts; where they hold, nothing is rated.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub unchecked: bool,
}

/// State of a rating module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Whether it rates.
    pub enabled: bool,
    /// Modules of higher priority rate first. Not 0, which is read as 1.
    #[serde(default = "one")]
    pub priority: i32,
}

fn one() -> i32 {
    1
}

/// Rules of the hashmap module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hashmap {
    /// Names of the groups; those that rules name need not be listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Types of data points and their rules.
    pub services: Vec<Service>,
}

/// A type of data point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The type.
    pub name: String,
    /// Prices of the service itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// Prices from a quantity on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Threshold>,
    /// Labels and the prices of their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

/// A label.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Name of the label.
    pub name: String,
    /// Prices of its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// Prices from a numeric value on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Threshold>,
}

/// A price or factor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The field's value, which may be empty; not for a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `flat` (a price per unit) or `rate` (a factor).
    #[serde(rename = "type")]
    pub kind: CostType,
    /// Price or factor.
    #[serde(deserialize_with = "all_digits")]
    pub cost: Decimal,
    /// Group, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The only scope it holds for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// First instant at which it holds, local time. When left out: the time of
    /// the import if its value has a price already, or had one, else since ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<NaiveDateTime>,
    /// First instant at which it no longer holds, local time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<NaiveDateTime>,
    /// Name, at most 32 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it may hold at the same time as an earlier one of the list that
    /// prices the same. It takes the place of that one, while both hold.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub overlaps: bool,
}

impl Mapping {
    /// Whether another one prices the same at the same time.
    fn meets(&self, other: &Self) -> bool {
        let begins_before = |one: &Self, other: &Self| {
            other.end.is_none_or(|end| one.start.is_none_or(|start| start < end))
        };
        self.value == other.value
            && self.tenant_id == other.tenant_id
            && self.group == other.group
            && begins_before(self, other)
            && begins_before(other, self)
    }
}

/// A price or factor from a level on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// The level.
    #[serde(deserialize_with = "all_digits")]
    pub level: Decimal,
    /// `flat` or `rate`.
    #[serde(rename = "type")]
    pub kind: CostType,
    /// Price or factor.
    #[serde(deserialize_with = "all_digits")]
    pub cost: Decimal,
    /// Group, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The only scope it holds for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Whether it may stand beside an earlier one of the list of the same level
    /// and group, for all scopes. It takes the place of that one.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub overlaps: bool,
}

impl Threshold {
    /// Whether another one counts from the same level on.
    fn meets(&self, other: &Self) -> bool {
        self.level.quantize(8) == other.level.quantize(8)
            && self.tenant_id == other.tenant_id
            // Of one scope, the tables hold a level once, whatever its group.
            && (self.tenant_id.is_some() || self.group == other.group)
    }
}

/// Reads a number by its text, in quotes or not: no float rounds it.
fn all_digits<'de, D: Deserializer<'de>>(input: D) -> Result<Decimal, D::Error> {
    String::deserialize(input)?.parse().map_err(de::Error::custom)
}

/// Why a price list is refused.
#[derive(Debug, thiserror::Error)]
pub enum PriceListError {
    /// The text is no price list.
    #[error("the price list cannot be read: {0}")]
    Syntax(String),
    /// It says what the API would refuse.
    #[error("{place}: {problem}")]
    Invalid {
        /// Where in the list.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The database failed; nothing was changed.
    #[error(transparent)]
    State(#[from] StateError),
}

fn invalid(place: &str, problem: impl Into<String>) -> PriceListError {
    PriceListError::Invalid { place: place.to_owned(), problem: problem.into() }
}

/// One difference between list and database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Is in the list only.
    Add(String),
    /// Is in the database only.
    Remove(String),
    /// Differs.
    Set(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(what) => write!(f, "+ {what}"),
            Self::Remove(what) => write!(f, "- {what}"),
            Self::Set(what) => write!(f, "~ {what}"),
        }
    }
}

impl PriceList {
    /// Reads a list from YAML and checks it.
    ///
    /// # Errors
    /// What is no price list, and what the API would refuse.
    pub fn parse(text: &str) -> Result<Self, PriceListError> {
        let list: Self = serde_yaml::from_str(text)
            .map_err(|error| PriceListError::Syntax(error.to_string()))?;
        check::check(&list)?;
        Ok(list)
    }

    /// Writes the list as YAML.
    ///
    /// # Errors
    /// A value that YAML cannot hold.
    pub fn to_yaml(&self) -> Result<String, PriceListError> {
        let yaml = serde_yaml::to_string(self)
            .map_err(|error| PriceListError::Syntax(error.to_string()))?;
        // Text may end in blank lines that belong to it. With the end marked, they
        // stay when blanks are cut from the end of the file.
        Ok(yaml + "...\n")
    }

    /// The list of what is in the database.
    ///
    /// # Errors
    /// A database that fails.
    pub async fn export(database: &Database) -> Result<Self, PriceListError> {
        let snapshot = database.snapshot().await?;
        let rows = rating_rules::load(&snapshot).await?;
        let group = |id: Option<i32>| {
            id.and_then(|id| rows.groups.iter().find(|g| g.id == id)).map(|g| g.name.clone())
        };
        // Names are there once, in a list; in the tables they should be.
        let is_name = |name: &str| {
            (1..=32).contains(&name.chars().count())
                && rows.mappings.iter().filter(|row| row.name == name).count() == 1
        };
        let mappings = |parent: Parent| {
            let mut list: Vec<Mapping> = Vec::new();
            for row in rows.mappings.iter().filter(|row| row.parent == parent) {
                let mut mapping = Mapping {
                    value: match parent {
                        // That of a service counts for nothing.
                        Parent::Service(_) => None,
                        Parent::Field(_) => Some(row.value.clone().unwrap_or_default()),
                    },
                    kind: row.kind,
                    cost: shortened(row.cost),
                    group: group(row.group),
                    tenant_id: row.tenant_id.clone(),
                    start: Some(row.start).filter(|start| *start != ALWAYS),
                    end: row.end,
                    name: Some(row.name.clone()).filter(|name| is_name(name)),
                    description: row.description.clone(),
                    overlaps: false,
                };
                mapping.overlaps = list.iter().any(|other| mapping.meets(other));
                list.push(mapping);
            }
            list
        };
        let thresholds = |parent: Parent| {
            let mut list: Vec<Threshold> = Vec::new();
            for row in rows.thresholds.iter().filter(|row| row.parent == parent) {
                let mut threshold = Threshold {
                    level: shortened(row.level),
                    kind: row.kind,
                    cost: shortened(row.cost),
                    group: group(row.group),
                    tenant_id: row.tenant_id.clone(),
                    overlaps: false,
                };
                threshold.overlaps = list.iter().any(|other| threshold.meets(other));
                list.push(threshold);
            }
            list
        };
        let services = rows.services.iter().map(|service| Service {
            name: service.name.clone(),
            mappings: mappings(Parent::Service(service.id)),
            thresholds: thresholds(Parent::Service(service.id)),
            fields: rows
                .fields
                .iter()
                .filter(|field| field.service == service.id)
                .map(|field| Field {
                    name: field.name.clone(),
                    mappings: mappings(Parent::Field(field.id)),
                    thresholds: thresholds(Parent::Field(field.id)),
                })
                .collect(),
        });
        let services = services.collect();
        let states = modules::list(&snapshot).await?;
        let scripts = state::scripts::load(&snapshot, state::scripts::Which::Kept).await?;
        Ok(Self {
            pyscripts: match scripts.is_empty() {
                true => None,
                false => Some(scripts::export(scripts)?),
            },
            modules: export_modules(states)?,
            hashmap: Hashmap {
                groups: rows.groups.iter().map(|group| group.name.clone()).collect(),
                services,
            },
        })
    }

    /// Makes the database say what the list says, in one transaction. `now` is
    /// the wall clock of the local zone: the start of mappings that name none.
    /// With `dry_run`, only tells what would change.
    ///
    /// # Errors
    /// A database that fails; nothing is changed then.
    pub async fn import(
        &self,
        database: &Database,
        now: NaiveDateTime,
        dry_run: bool,
    ) -> Result<Vec<Change>, PriceListError> {
        let transaction = database.begin().await?;
        rating_rules::lock(&transaction).await?;
        let rows = rating_rules::load(&transaction).await?;
        let states = modules::list(&transaction).await?;
        let mut importer =
            Importer { transaction: &transaction, rows, now, write: !dry_run, changes: Vec::new() };
        importer.modules(&self.modules, &states).await?;
        importer.hashmap(&self.hashmap).await?;
        if let Some(scripts) = &self.pyscripts {
            importer.scripts(scripts).await?;
        }
        let changes = importer.changes;
        let end = if dry_run { transaction.rollback().await } else { transaction.commit().await };
        end.map_err(|source| StateError::Statement { action: "import the price list", source })?;
        Ok(changes)
    }
}

/// A stored number without the zeros that its column adds.
fn shortened(value: Decimal) -> Decimal {
    let text = value.to_plain_string();
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    text.parse().unwrap_or(value)
}

/// States of the rating modules. Those of collectors are kept beside them and are
/// none of the list's; a module that is not here and not enabled counts for
/// nothing.
fn export_modules(states: Vec<ModuleState>) -> Result<BTreeMap<String, Module>, PriceListError> {
    let mut exported = BTreeMap::new();
    for state in states {
        let is_known = MODULES.contains(&state.name.as_str());
        if !is_known && state.enabled && !state.name.starts_with(collectors::PREFIX) {
            return Err(invalid(
                &format!("module `{}`", state.name),
                "is enabled and not available, so that nothing is rated; disable it first",
            ));
        }
        if is_known {
            let module = Module { enabled: state.enabled, priority: state.priority };
            exported.insert(state.name, module);
        }
    }
    Ok(exported)
}
