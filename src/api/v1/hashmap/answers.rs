//! What services, fields, groups, mappings and thresholds look like in answers.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    api::{
        answer::{Answer, Digits},
        v1::rules::{Held, Trail},
    },
    decimal::Decimal,
    state::rating_rules::{CostType, GroupRow, ServiceRow, records},
};

/// Kinds of costs.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CostTypes")]
pub struct Types(pub Vec<CostType>);

impl Answer for Types {}

/// Services.
#[derive(Serialize, JsonSchema)]
pub struct Services<'a> {
    services: Vec<Service<'a>>,
}

impl Answer for Services<'_> {}

impl<'a> Services<'a> {
    pub fn of(services: &'a [ServiceRow]) -> Self {
        Self { services: services.iter().map(Service::of).collect() }
    }
}

/// A type of data points that is priced.
#[derive(Serialize, JsonSchema)]
pub struct Service<'a> {
    service_id: &'a str,
    name: &'a str,
}

impl Answer for Service<'_> {}

impl<'a> Service<'a> {
    pub fn of(service: &'a ServiceRow) -> Self {
        Self { service_id: &service.service_id, name: &service.name }
    }
}

/// Fields.
#[derive(Serialize, JsonSchema)]
pub struct Fields<'a> {
    fields: Vec<Field<'a>>,
}

impl Answer for Fields<'_> {}

impl<'a> Fields<'a> {
    pub fn of(fields: &'a [records::Field]) -> Self {
        Self { fields: fields.iter().map(Field::of).collect() }
    }
}

/// A label whose values are priced.
#[derive(Serialize, JsonSchema)]
pub struct Field<'a> {
    field_id: &'a str,
    name: &'a str,
    service_id: &'a str,
}

impl Answer for Field<'_> {}

impl<'a> Field<'a> {
    pub fn of(field: &'a records::Field) -> Self {
        Self { field_id: &field.field_id, name: &field.name, service_id: &field.service_id }
    }
}

/// Groups.
#[derive(Serialize, JsonSchema)]
pub struct Groups<'a> {
    groups: Vec<Group<'a>>,
}

impl Answer for Groups<'_> {}

impl<'a> Groups<'a> {
    pub fn of(groups: &'a [GroupRow]) -> Self {
        Self { groups: groups.iter().map(Group::of).collect() }
    }
}

/// A group of rules.
#[derive(Serialize, JsonSchema)]
pub struct Group<'a> {
    group_id: &'a str,
    name: &'a str,
}

impl Answer for Group<'_> {}

impl<'a> Group<'a> {
    pub fn of(group: &'a GroupRow) -> Self {
        Self { group_id: &group.group_id, name: &group.name }
    }
}

/// What mappings and thresholds have in common.
#[derive(Serialize, JsonSchema)]
struct Rule<'a> {
    r#type: CostType,
    cost: Option<Digits>,
    service_id: Option<&'a str>,
    field_id: Option<&'a str>,
    group_id: Option<&'a str>,
    /// The only scope it holds for; null if it holds for all.
    tenant_id: Option<&'a str>,
}

impl<'a> Rule<'a> {
    fn of(rule: &'a records::Rule) -> Self {
        Self {
            r#type: rule.kind,
            cost: number(rule.cost, 28),
            service_id: rule.service_id.as_deref(),
            field_id: rule.field_id.as_deref(),
            group_id: rule.group_id.as_deref(),
            tenant_id: rule.tenant_id.as_deref(),
        }
    }
}

/// A number with all digits of its column.
fn number(number: Option<Decimal>, digits: u32) -> Option<Digits> {
    number.map(|number| Digits(number.quantize(digits).to_plain_string()))
}

/// Mappings.
#[derive(Serialize, JsonSchema)]
pub struct Mappings<'a> {
    mappings: Vec<Mapping<'a>>,
}

impl Answer for Mappings<'_> {}

impl<'a> Mappings<'a> {
    pub fn of(mappings: &'a [records::Mapping]) -> Self {
        Self { mappings: mappings.iter().map(Mapping::of).collect() }
    }
}

/// A price of a service, or of a value of a field.
#[derive(Serialize, JsonSchema)]
pub struct Mapping<'a> {
    mapping_id: &'a str,
    value: Option<&'a str>,
    #[serde(flatten)]
    rule: Rule<'a>,
    #[serde(flatten)]
    held: Held,
    name: &'a str,
    #[serde(flatten)]
    trail: Trail<'a>,
}

impl Answer for Mapping<'_> {}

impl<'a> Mapping<'a> {
    pub fn of(mapping: &'a records::Mapping) -> Self {
        Self {
            mapping_id: &mapping.rule.rule_id,
            value: mapping.value.as_deref(),
            rule: Rule::of(&mapping.rule),
            held: Held::of(&mapping.audit),
            name: &mapping.audit.name,
            trail: Trail::of(&mapping.audit),
        }
    }
}

/// Thresholds.
#[derive(Serialize, JsonSchema)]
pub struct Thresholds<'a> {
    thresholds: Vec<Threshold<'a>>,
}

impl Answer for Thresholds<'_> {}

impl<'a> Thresholds<'a> {
    pub fn of(thresholds: &'a [records::Threshold]) -> Self {
        Self { thresholds: thresholds.iter().map(Threshold::of).collect() }
    }
}

/// A price from a quantity or value on.
#[derive(Serialize, JsonSchema)]
pub struct Threshold<'a> {
    threshold_id: &'a str,
    level: Option<Digits>,
    #[serde(flatten)]
    rule: Rule<'a>,
}

impl Answer for Threshold<'_> {}

impl<'a> Threshold<'a> {
    pub fn of(threshold: &'a records::Threshold) -> Self {
        Self {
            threshold_id: &threshold.rule.rule_id,
            level: number(threshold.level, 8),
            rule: Rule::of(&threshold.rule),
        }
    }
}
