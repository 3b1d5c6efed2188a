//! The hashmap module: prices by type of data point and by value of its labels.
//!
//! A *service* is a type of data point, a *field* one of its labels. *Mappings*
//! give a price (`flat`) or a factor (`rate`), of the service itself or of a
//! field's value; *thresholds* give one from a quantity, or a field's numeric
//! value, on. Rules of one *group* make one price together; the prices of the
//! groups are added up. [`Rules::compile`] picks the rules that hold for a scope
//! at an instant and orders them as the reference (CloudKitty 25.0.0) applies
//! them, since the order decides about last digits; [`engine`] applies them.
//! [`edit`] changes them one by one.

pub mod edit;
mod engine;

use std::collections::HashMap;

use chrono::NaiveDateTime;

use super::Validity;
use crate::{
    decimal::Decimal,
    state::rating_rules::{CostType, HashmapRows, MappingRow, Parent, ThresholdRow},
};

/// Name under which the reference keeps rules without a group; a group that
/// really has this name is one with them.
const NO_GROUP: &str = "_DEFAULT_";

/// A price or factor.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    kind: CostType,
    cost: Decimal,
}

/// The rules of one scope at one instant, ready to be applied.
#[derive(Debug, Default)]
pub struct Rules {
    services: HashMap<String, Service>,
    /// How many groups there are; rules name them by number.
    groups: usize,
    validity: Validity,
}

/// Levels of one group and their costs; levels in the order of the rules.
type Levels = Vec<(Decimal, Cost)>;

/// Rules of one type of data point. Lists are in the order of application.
#[derive(Debug, Default)]
struct Service {
    mappings: Vec<(usize, Cost)>,
    thresholds: Vec<(usize, Levels)>,
    fields: Vec<Field>,
}

/// Rules of one label.
#[derive(Debug, Default)]
struct Field {
    name: String,
    mappings: Vec<(usize, HashMap<String, Cost>)>,
    thresholds: Vec<(usize, Levels)>,
}

/// Puts a value under a key; a key that is there keeps its place.
fn put<K: PartialEq, V>(list: &mut Vec<(K, V)>, key: K, value: V) {
    match list.iter_mut().find(|(known, _)| *known == key) {
        Some((_, old)) => *old = value,
        None => list.push((key, value)),
    }
}

/// The value under a key, which is added if it is not there.
fn entry<K: PartialEq, V: Default>(list: &mut Vec<(K, V)>, key: K) -> &mut V {
    let at = list.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        list.push((key, V::default()));
        list.len() - 1
    });
    &mut list[at].1
}

/// Numbers groups by name.
struct Groups<'a> {
    rows: &'a HashmapRows,
    names: Vec<&'a str>,
}

impl<'a> Groups<'a> {
    fn number(&mut self, row: Option<i32>) -> usize {
        let name = row
            .and_then(|id| self.rows.groups.iter().find(|group| group.id == id))
            .map_or(NO_GROUP, |group| group.name.as_str());
        self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }
}

impl Rules {
    /// The rules that hold for `scope_id`, or for any scope, when the wall clock
    /// of the local zone shows `at`: those for all scopes first, then the scope's own, which
    /// replace those of the same group and value (or level). A mapping holds
    /// from its start on, until before its end;
    /// thresholds hold always.
    pub fn compile(rows: &HashmapRows, scope_id: Option<&str>, at: NaiveDateTime) -> Self {
        let mut groups = Groups { rows, names: Vec::new() };
        let mut validity = Validity::default();
        for mapping in &rows.mappings {
            validity.bound(mapping.start, at);
            if let Some(end) = mapping.end {
                validity.bound(end, at);
            }
        }
        let valid =
            |mapping: &&MappingRow| mapping.start <= at && mapping.end.is_none_or(|end| end > at);
        let own = scope_id.is_some().then_some(scope_id);
        let tenants: Vec<Option<&str>> = [None].into_iter().chain(own).collect();
        let mappings = |parent: Parent| {
            tenants.iter().flat_map(move |tenant| {
                rows.mappings
                    .iter()
                    .filter(move |row| row.parent == parent && row.tenant_id.as_deref() == *tenant)
                    .filter(valid)
            })
        };
        let thresholds = |parent: Parent| {
            tenants.iter().flat_map(move |tenant| {
                let of_tenant = move |row: &&ThresholdRow| {
                    row.parent == parent && row.tenant_id.as_deref() == *tenant
                };
                rows.thresholds.iter().filter(of_tenant)
            })
        };
        let mut services = HashMap::new();
        for row in &rows.services {
            let parent = Parent::Service(row.id);
            let mut service = Service::default();
            for mapping in mappings(parent) {
                let cost = Cost { kind: mapping.kind, cost: mapping.cost };
                put(&mut service.mappings, groups.number(mapping.group), cost);
            }
            for threshold in thresholds(parent) {
                let levels = entry(&mut service.thresholds, groups.number(threshold.group));
                put(levels, threshold.level, Cost { kind: threshold.kind, cost: threshold.cost });
            }
            for field_row in rows.fields.iter().filter(|field| field.service == row.id) {
                let parent = Parent::Field(field_row.id);
                let mut field = Field { name: field_row.name.clone(), ..Field::default() };
                for mapping in mappings(parent) {
                    let values = entry(&mut field.mappings, groups.number(mapping.group));
                    let cost = Cost { kind: mapping.kind, cost: mapping.cost };
                    values.insert(mapping.value.clone().unwrap_or_default(), cost);
                }
                for threshold in thresholds(parent) {
                    let levels = entry(&mut field.thresholds, groups.number(threshold.group));
                    put(
                        levels,
                        threshold.level,
                        Cost { kind: threshold.kind, cost: threshold.cost },
                    );
                }
                service.fields.push(field);
            }
            services.insert(row.name.clone(), service);
        }
        Self { services, groups: groups.names.len(), validity }
    }

    /// The time in which this selection stays the same.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}
