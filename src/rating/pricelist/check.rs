//! What is refused of a price list: mistakes, and what the tables cannot hold.

use chrono::NaiveDateTime;

use super::{Mapping, PriceList, PriceListError, Threshold, invalid, scripts};
use crate::{decimal::Decimal, rating::MODULES};

/// Refuses a list that cannot be imported.
pub(super) fn check(list: &PriceList) -> Result<(), PriceListError> {
    for (name, module) in &list.modules {
        let place = format!("module `{name}`");
        if !MODULES.contains(&name.as_str()) {
            return Err(invalid(&place, format!("not known; known are {}", MODULES.join(", "))));
        }
        if module.priority == 0 {
            return Err(invalid(&place, "priority must not be 0, which is read as 1"));
        }
    }
    unique("hashmap", "group", &list.hashmap.groups)?;
    let services: Vec<_> = list.hashmap.services.iter().map(|s| s.name.clone()).collect();
    unique("hashmap", "service", &services)?;
    let mut names = Vec::new();
    for service in &list.hashmap.services {
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
    named("hashmap", "mapping", &names)?;
    unique("hashmap", "mapping", &names)?;
    scripts::check(list.pyscripts.as_deref().unwrap_or_default())
}

/// Refuses names that are empty.
pub(super) fn named(place: &str, what: &str, names: &[String]) -> Result<(), PriceListError> {
    match names.iter().any(String::is_empty) {
        true => Err(invalid(place, format!("a {what} needs a name of 1 to 255 characters"))),
        false => Ok(()),
    }
}

/// Refuses names that are too long, or there twice.
pub(super) fn unique(place: &str, what: &str, names: &[String]) -> Result<(), PriceListError> {
    for (at, name) in names.iter().enumerate() {
        if name.chars().count() > 255 {
            return Err(invalid(place, format!("the name of a {what} has at most 255 characters")));
        }
        if names[..at].contains(name) {
            return Err(invalid(place, format!("{what} `{name}` is there twice")));
        }
    }
    Ok(())
}

/// Refuses an end before the start.
pub(super) fn check_time(
    place: &str,
    start: Option<NaiveDateTime>,
    end: Option<NaiveDateTime>,
) -> Result<(), PriceListError> {
    match (start, end) {
        // One that ends when it begins never holds, and is nothing to worry about.
        (Some(start), Some(end)) if end < start => {
            Err(invalid(place, format!("end {end} is not after start {start}")))
        }
        _ => Ok(()),
    }
}

/// Refuses a number that does not fit a column of 12 digits before the point and
/// so many behind it.
fn check_number(
    place: &str,
    what: &str,
    number: Decimal,
    places: u32,
) -> Result<(), PriceListError> {
    let limit = Decimal::from(1_000_000_000_000);
    let stored = number.quantize(places);
    match stored < limit && stored > Decimal::from(-1_000_000_000_000) {
        true => Ok(()),
        false => Err(invalid(
            place,
            format!("{what} `{number}` has more than 12 digits before the point"),
        )),
    }
}

fn check_rules(
    place: &str,
    of_field: bool,
    mappings: &[Mapping],
    thresholds: &[Threshold],
) -> Result<(), PriceListError> {
    for (at, mapping) in mappings.iter().enumerate() {
        check_number(place, "cost", mapping.cost, 28)?;
        match &mapping.value {
            None if of_field => return Err(invalid(place, "a mapping of a field needs a `value`")),
            Some(_) if !of_field => {
                return Err(invalid(
                    place,
                    "a mapping of a service has no `value`; make it one of a field",
                ));
            }
            Some(value) if value.chars().count() > 255 => {
                return Err(invalid(place, "a `value` has at most 255 characters"));
            }
            _ => {}
        }
        if mapping.name.as_ref().is_some_and(|name| name.chars().count() > 32) {
            return Err(invalid(place, "the `name` of a mapping has at most 32 characters"));
        }
        check_time(place, mapping.start, mapping.end)?;
        if !mapping.overlaps && mappings[..at].iter().any(|other| mapping.meets(other)) {
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
        check_number(place, "cost", threshold.cost, 28)?;
        check_number(place, "level", threshold.level, 8)?;
        let overlaps = threshold.overlaps && threshold.tenant_id.is_none();
        if !overlaps && thresholds[..at].iter().any(|other| threshold.meets(other)) {
            return Err(invalid(place, format!("two thresholds of level `{}`", threshold.level)));
        }
    }
    Ok(())
}
