//! Import of a price list: what differs, and how it is written.

use std::collections::BTreeMap;

use chrono::NaiveDateTime;

use super::{ALWAYS, Change, Hashmap, Mapping, Module, Threshold, shortened};
use crate::state::{
    StateError, Transaction,
    modules::{self, ModuleState},
    rating_rules::{self, HashmapRows, MappingRow, Parent, RuleTable, ThresholdRow, new_id},
};

/// Finds the differences, and writes them.
pub(super) struct Importer<'a> {
    /// Within which everything is written.
    pub transaction: &'a Transaction,
    /// Rules as they are in the database.
    pub rows: HashmapRows,
    /// The wall clock of the local zone.
    pub now: NaiveDateTime,
    /// Whether differences are written, or only told.
    pub write: bool,
    /// Differences found so far.
    pub changes: Vec<Change>,
}

impl Importer<'_> {
    /// State of the modules.
    pub async fn modules(
        &mut self,
        wanted: &BTreeMap<String, Module>,
        states: &[ModuleState],
    ) -> Result<(), StateError> {
        for (name, module) in wanted {
            let state = ModuleState {
                name: name.clone(),
                enabled: module.enabled,
                priority: module.priority,
            };
            if states.contains(&state) {
                continue;
            }
            let word = if module.enabled { "enabled" } else { "disabled" };
            self.changes
                .push(Change::Set(format!("module {name}: {word}, priority {}", module.priority)));
            if self.write {
                modules::set(self.transaction, &state).await?;
            }
        }
        Ok(())
    }

    /// Rules of the hashmap module.
    pub async fn hashmap(&mut self, wanted: &Hashmap) -> Result<(), StateError> {
        let mut services = Vec::new();
        for service in &wanted.services {
            let known =
                self.rows.services.iter().find(|row| row.name == service.name).map(|row| row.id);
            let place = format!("service {}", service.name);
            let id = match known {
                Some(id) => id,
                None => {
                    self.changes.push(Change::Add(place.clone()));
                    if self.write {
                        rating_rules::add_service(self.transaction, &new_id(), &service.name)
                            .await?
                    } else {
                        -1
                    }
                }
            };
            services.push(id);
            self.rules(&place, Parent::Service(id), &service.mappings, &service.thresholds).await?;
            let mut fields = Vec::new();
            for field in &service.fields {
                let known =
                    self.rows.fields.iter().find(|row| row.service == id && row.name == field.name);
                let known = known.map(|row| row.id);
                let place = format!("{place}, field {}", field.name);
                let field_id = match known {
                    Some(id) => id,
                    None => {
                        self.changes.push(Change::Add(place.clone()));
                        if self.write {
                            rating_rules::add_field(self.transaction, &new_id(), id, &field.name)
                                .await?
                        } else {
                            -1
                        }
                    }
                };
                fields.push(field_id);
                self.rules(&place, Parent::Field(field_id), &field.mappings, &field.thresholds)
                    .await?;
            }
            let gone = self
                .rows
                .fields
                .iter()
                .filter(|row| row.service == id && !fields.contains(&row.id));
            for row in gone.cloned().collect::<Vec<_>>() {
                let place = format!("{place}, field {}", row.name);
                self.remove(&place, Parent::Field(row.id), RuleTable::Fields, row.id).await?;
            }
        }
        let gone = self.rows.services.iter().filter(|row| !services.contains(&row.id));
        for row in gone.cloned().collect::<Vec<_>>() {
            let place = format!("service {}", row.name);
            let mut empty = true;
            for field in self.rows.fields.clone().iter().filter(|field| field.service == row.id) {
                let place = format!("{place}, field {}", field.name);
                let parent = Parent::Field(field.id);
                empty &= self.remove(&place, parent, RuleTable::Fields, field.id).await?;
            }
            if empty {
                self.remove(&place, Parent::Service(row.id), RuleTable::Services, row.id).await?;
            } else {
                self.rules(&place, Parent::Service(row.id), &[], &[]).await?;
            }
        }
        for name in &wanted.groups {
            self.group(Some(name)).await?;
        }
        let used = |group: &str| {
            let rules = wanted.services.iter().flat_map(|service| {
                let fields = service.fields.iter();
                let mappings =
                    service.mappings.iter().chain(fields.clone().flat_map(|f| &f.mappings));
                let thresholds =
                    service.thresholds.iter().chain(fields.flat_map(|f| &f.thresholds));
                mappings.map(|m| &m.group).chain(thresholds.map(|t| &t.group))
            });
            wanted.groups.iter().any(|name| name == group)
                || rules.flatten().any(|name| name == group)
        };
        // A mapping that has ended still needs its group.
        let needed = |id: i32| self.rows.mappings.iter().any(|row| row.group == Some(id));
        let gone: Vec<_> = self
            .rows
            .groups
            .iter()
            .filter(|row| !used(&row.name) && !needed(row.id))
            .cloned()
            .collect();
        for row in gone {
            self.changes.push(Change::Remove(format!("group {}", row.name)));
            if self.write {
                rating_rules::delete_row(self.transaction, RuleTable::Groups, row.id).await?;
            }
        }
        Ok(())
    }

    /// Row of a group, made if it is not there.
    async fn group(&mut self, name: Option<&String>) -> Result<Option<i32>, StateError> {
        let Some(name) = name else { return Ok(None) };
        if let Some(row) = self.rows.groups.iter().find(|row| row.name == *name) {
            return Ok(Some(row.id));
        }
        self.changes.push(Change::Add(format!("group {name}")));
        let id = if self.write {
            rating_rules::add_group(self.transaction, &new_id(), name).await?
        } else {
            -1
        };
        self.rows.groups.push(rating_rules::GroupRow {
            id,
            group_id: String::new(),
            name: name.clone(),
        });
        Ok(Some(id))
    }

    /// Ends the rules of a service or field, and removes it unless periods that
    /// are still to be rated may need its prices. Tells whether it is gone.
    async fn remove(
        &mut self,
        place: &str,
        parent: Parent,
        table: RuleTable,
        id: i32,
    ) -> Result<bool, StateError> {
        self.rules(place, parent, &[], &[]).await?;
        if self.rows.mappings.iter().any(|row| row.parent == parent && row.start < self.now) {
            return Ok(false);
        }
        self.changes.push(Change::Remove(place.to_owned()));
        if self.write {
            rating_rules::delete_row(self.transaction, table, id).await?;
        }
        Ok(true)
    }

    async fn rules(
        &mut self,
        place: &str,
        parent: Parent,
        mappings: &[Mapping],
        thresholds: &[Threshold],
    ) -> Result<(), StateError> {
        // What has ended is history.
        let now = self.now;
        let over = move |row: &MappingRow| row.end.is_some_and(|end| end <= now);
        let (mut kept, mut added) = (Vec::new(), Vec::new());
        for mapping in mappings {
            let group = self.group(mapping.group.as_ref()).await?;
            let same = |row: &&MappingRow| {
                row.parent == parent
                    && !kept.contains(&row.id)
                    && row.group == group
                    && row.value.as_deref().unwrap_or("") == mapping.value.as_deref().unwrap_or("")
                    && row.kind == mapping.kind
                    && row.cost == mapping.cost.quantize(28)
                    && row.tenant_id == mapping.tenant_id
                    // What the file leaves open was decided when it was first imported.
                    && mapping.start.is_none_or(|start| start == row.start)
                    && row.end == mapping.end
                    && mapping.name.as_ref().is_none_or(|name| *name == row.name)
                    && row.description == mapping.description
            };
            if let Some(row) = self.rows.mappings.iter().find(same) {
                kept.push(row.id);
                continue;
            }
            added.push((mapping, group));
        }
        let gone: Vec<MappingRow> = self
            .rows
            .mappings
            .iter()
            .filter(|row| row.parent == parent && !kept.contains(&row.id) && !over(row))
            .cloned()
            .collect();
        for (mapping, group) in added {
            // Where there is a price, or was one, a further one begins now, of
            // whatever group it is: both would count in the time before.
            let priced = self.rows.mappings.iter().any(|row| {
                row.parent == parent
                    && row.tenant_id == mapping.tenant_id
                    && row.value.as_deref().unwrap_or("") == mapping.value.as_deref().unwrap_or("")
            });
            let lasts = mapping.end.is_none_or(|end| end > now);
            let start = mapping.start.unwrap_or(if priced && lasts { now } else { ALWAYS });
            self.changes.push(Change::Add(format!(
                "{place}: {}{}",
                show_mapping(mapping),
                if start == ALWAYS { String::new() } else { format!(" from {start} on") }
            )));
            if self.write {
                let row = MappingRow {
                    id: 0,
                    mapping_id: new_id(),
                    parent,
                    group,
                    value: Some(mapping.value.clone().unwrap_or_default()),
                    cost: mapping.cost,
                    kind: mapping.kind,
                    tenant_id: mapping.tenant_id.clone(),
                    name: mapping.name.clone().unwrap_or_else(|| new_id().replace('-', "")),
                    start,
                    end: mapping.end,
                    description: mapping.description.clone(),
                    created_by: String::new(),
                };
                rating_rules::add_mapping(self.transaction, &row, self.now).await?;
            }
        }
        for row in gone {
            let value = row.value.as_deref().filter(|value| !value.is_empty());
            let value = value.map(|value| format!(" of value {value}")).unwrap_or_default();
            let begun = row.start < self.now;
            let what = format!("{place}: mapping{value} at {}", shortened(row.cost));
            self.changes.push(Change::Remove(match begun {
                true => format!("{what}, from {} on", self.now),
                false => what,
            }));
            if self.write && begun {
                rating_rules::end_mapping(self.transaction, row.id, self.now).await?;
            } else if self.write {
                rating_rules::delete_mapping(self.transaction, row.id, self.now, "ratekitty")
                    .await?;
            }
        }
        self.thresholds(place, parent, thresholds).await
    }

    async fn thresholds(
        &mut self,
        place: &str,
        parent: Parent,
        thresholds: &[Threshold],
    ) -> Result<(), StateError> {
        let mut kept = Vec::new();
        let mut added = Vec::new();
        for threshold in thresholds {
            let group = self.group(threshold.group.as_ref()).await?;
            let same = |row: &&ThresholdRow| {
                row.parent == parent
                    && !kept.contains(&row.id)
                    && row.group == group
                    && row.level == threshold.level.quantize(8)
                    && row.kind == threshold.kind
                    && row.cost == threshold.cost.quantize(28)
                    && row.tenant_id == threshold.tenant_id
            };
            match self.rows.thresholds.iter().find(same) {
                Some(row) => kept.push(row.id),
                None => added.push((threshold, group)),
            }
        }
        // Old ones first: a level is there once only.
        let gone: Vec<_> = self
            .rows
            .thresholds
            .iter()
            .filter(|row| row.parent == parent && !kept.contains(&row.id))
            .map(|row| (row.id, row.level))
            .collect();
        for (id, level) in gone {
            self.changes
                .push(Change::Remove(format!("{place}: threshold at level {}", shortened(level))));
            if self.write {
                rating_rules::delete_threshold(self.transaction, id).await?;
            }
        }
        for (threshold, group) in added {
            self.changes.push(Change::Add(format!(
                "{place}: threshold at level {}, {} {}",
                threshold.level,
                threshold.kind.as_str(),
                threshold.cost
            )));
            if self.write {
                let row = ThresholdRow {
                    id: 0,
                    threshold_id: new_id(),
                    parent,
                    group,
                    level: threshold.level,
                    cost: threshold.cost,
                    kind: threshold.kind,
                    tenant_id: threshold.tenant_id.clone(),
                };
                rating_rules::add_threshold(self.transaction, &row).await?;
            }
        }
        Ok(())
    }
}

fn show_mapping(mapping: &Mapping) -> String {
    let value = mapping.value.as_deref().filter(|value| !value.is_empty());
    let value = value.map(|value| format!(" of value {value}")).unwrap_or_default();
    let tenant =
        mapping.tenant_id.as_ref().map(|tenant| format!(" for {tenant}")).unwrap_or_default();
    format!("mapping{value}, {} {}{tenant}", mapping.kind.as_str(), mapping.cost)
}
