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

mod import;
mod scripts;

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, NaiveDateTime};
use serde::{Deserialize, Deserializer, Serialize, de};

use self::import::Importer;
use super::MODULES;
use crate::{
    decimal::Decimal,
    state::{
        self, Database, StateError, modules,
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
}

/// State of a rating module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Whether it rates.
    pub enabled: bool,
    /// Modules of higher priority rate first.
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
    /// The field's value; not for a service.
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
        list.check()?;
        Ok(list)
    }

    /// Writes the list as YAML.
    ///
    /// # Errors
    /// A value that YAML cannot hold.
    pub fn to_yaml(&self) -> Result<String, PriceListError> {
        serde_yaml::to_string(self).map_err(|error| PriceListError::Syntax(error.to_string()))
    }

    fn check(&self) -> Result<(), PriceListError> {
        for (name, module) in &self.modules {
            let place = format!("module `{name}`");
            if !MODULES.contains(&name.as_str()) {
                return Err(invalid(
                    &place,
                    format!("not known; known are {}", MODULES.join(", ")),
                ));
            }
            if module.priority < 1 {
                return Err(invalid(&place, "priority must be at least 1"));
            }
        }
        unique("hashmap", "group", &self.hashmap.groups)?;
        let services: Vec<_> = self.hashmap.services.iter().map(|s| s.name.clone()).collect();
        unique("hashmap", "service", &services)?;
        let mut names = Vec::new();
        for service in &self.hashmap.services {
            let place = format!("service `{}`", service.name);
            let fields: Vec<_> = service.fields.iter().map(|field| field.name.clone()).collect();
            unique(&place, "field", &fields)?;
            check_rules(&place, false, &service.mappings, &service.thresholds)?;
            names.extend(service.mappings.iter().filter_map(|mapping| mapping.name.clone()));
            for field in &service.fields {
                let place = format!("{place}, field `{}`", field.name);
                check_rules(&place, true, &field.mappings, &field.thresholds)?;
                names.extend(field.mappings.iter().filter_map(|mapping| mapping.name.clone()));
            }
        }
        unique("hashmap", "mapping", &names)?;
        scripts::check(self.pyscripts.as_deref().unwrap_or_default())
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
        let mappings = |parent: Parent| {
            let own = rows.mappings.iter().filter(|mapping| mapping.parent == parent);
            own.map(|row| Mapping {
                value: row.value.clone().filter(|value| !value.is_empty()),
                kind: row.kind,
                cost: shortened(row.cost),
                group: group(row.group),
                tenant_id: row.tenant_id.clone(),
                start: Some(row.start).filter(|start| *start != ALWAYS),
                end: row.end,
                name: Some(row.name.clone()),
                description: row.description.clone(),
            })
            .collect()
        };
        let thresholds = |parent: Parent| {
            let own = rows.thresholds.iter().filter(|threshold| threshold.parent == parent);
            own.map(|row| Threshold {
                level: shortened(row.level),
                kind: row.kind,
                cost: shortened(row.cost),
                group: group(row.group),
                tenant_id: row.tenant_id.clone(),
            })
            .collect()
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
        let states = modules::list(&snapshot).await?.into_iter();
        let scripts = state::scripts::load(&snapshot, state::scripts::Which::Kept).await?;
        Ok(Self {
            pyscripts: match scripts.is_empty() {
                true => None,
                false => Some(scripts::export(scripts)?),
            },
            modules: states
                .map(|state| {
                    (state.name, Module { enabled: state.enabled, priority: state.priority })
                })
                .collect(),
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

fn unique(place: &str, what: &str, names: &[String]) -> Result<(), PriceListError> {
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || name.chars().count() > 255 {
            return Err(invalid(place, format!("a {what} needs a name of 1 to 255 characters")));
        }
        if names[..at].contains(name) {
            return Err(invalid(place, format!("{what} `{name}` is there twice")));
        }
    }
    Ok(())
}

/// Whether a number fits a column of `whole` digits before the point.
fn fits(value: Decimal, whole: u32) -> bool {
    let limit: Option<Decimal> = format!("1E+{whole}").parse().ok();
    limit.is_some_and(|limit| value.abs() < limit)
}

fn check_rules(
    place: &str,
    of_field: bool,
    mappings: &[Mapping],
    thresholds: &[Threshold],
) -> Result<(), PriceListError> {
    let cost = |cost: Decimal| {
        if fits(cost, 12) {
            Ok(())
        } else {
            Err(invalid(place, format!("cost `{cost}` has more than 12 digits before the point")))
        }
    };
    for (at, mapping) in mappings.iter().enumerate() {
        cost(mapping.cost)?;
        match &mapping.value {
            None if of_field => return Err(invalid(place, "a mapping of a field needs a `value`")),
            Some(_) if !of_field => {
                return Err(invalid(
                    place,
                    "a mapping of a service has no `value`; make it one of a field",
                ));
            }
            Some(value) if value.is_empty() || value.chars().count() > 255 => {
                return Err(invalid(place, "a `value` has 1 to 255 characters"));
            }
            _ => {}
        }
        if mapping.name.as_ref().is_some_and(|name| name.chars().count() > 32) {
            return Err(invalid(place, "the `name` of a mapping has at most 32 characters"));
        }
        if let (Some(start), Some(end)) = (mapping.start, mapping.end)
            && end <= start
        {
            return Err(invalid(place, format!("end {end} is not after start {start}")));
        }
        let same = |other: &&Mapping| {
            other.value == mapping.value
                && other.tenant_id == mapping.tenant_id
                && other.group == mapping.group
                && other.end.is_none_or(|end| mapping.start.is_none_or(|start| start < end))
                && mapping.end.is_none_or(|end| other.start.is_none_or(|start| start < end))
        };
        if mappings[..at].iter().any(|other| same(&other)) {
            let value = mapping.value.as_deref().unwrap_or("");
            return Err(invalid(
                place,
                format!(
                    "two mappings of value `{value}`, tenant `{}` hold at the same time",
                    mapping.tenant_id.as_deref().unwrap_or("all")
                ),
            ));
        }
    }
    for (at, threshold) in thresholds.iter().enumerate() {
        cost(threshold.cost)?;
        if !fits(threshold.level, 12) {
            return Err(invalid(
                place,
                format!("level `{}` has more than 12 digits before the point", threshold.level),
            ));
        }
        let same = |other: &Threshold| {
            other.level.quantize(8) == threshold.level.quantize(8)
                && other.tenant_id == threshold.tenant_id
        };
        if thresholds[..at].iter().any(same) {
            return Err(invalid(place, format!("two thresholds of level `{}`", threshold.level)));
        }
    }
    Ok(())
}
