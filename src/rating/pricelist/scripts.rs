//! Python scripts in the price list.
//!
//! A script is told by its name. What is gone from the list, or has another text,
//! ends with the import, so that periods which are still to be rated keep their
//! prices.

use super::{
    ALWAYS, Change, PriceListError, Script,
    check::{check_time, named, unique},
    import::Importer,
    invalid,
};
use crate::{
    rating::pyscripts::check_syntax,
    state::{
        StateError,
        audit::Audit,
        rating_rules::new_id,
        scripts::{self, ScriptRow, Which},
    },
};

/// Refuses what the API would refuse, and what Python could not compile.
pub(super) fn check(scripts: &[Script]) -> Result<(), PriceListError> {
    for (at, script) in scripts.iter().enumerate() {
        let place = format!("script `{}`", script.name);
        let name = std::slice::from_ref(&script.name);
        named("pyscripts", "script", name)?;
        unique("pyscripts", "script", name)?;
        if !script.unchecked {
            check_syntax(&script.data).map_err(|problem| invalid(&place, problem))?;
        }
        check_time(&place, script.start, script.end)?;
        let meets = |other: &Script| {
            other.name == script.name
                && other.end.is_none_or(|end| script.start.is_none_or(|start| start < end))
                && script.end.is_none_or(|end| other.start.is_none_or(|start| start < end))
        };
        if scripts[..at].iter().any(meets) {
            return Err(invalid(&place, "two scripts of this name hold at the same time"));
        }
    }
    Ok(())
}

/// The name of a script; one that has none is known by its identifier.
fn name(row: &ScriptRow) -> &str {
    if row.audit.name.is_empty() { &row.script_id } else { &row.audit.name }
}

/// The scripts of the database.
pub(super) fn export(rows: Vec<ScriptRow>) -> Result<Vec<Script>, PriceListError> {
    let script = |row: ScriptRow| {
        let name = name(&row).to_owned();
        let data = String::from_utf8(row.data).map_err(|_| {
            invalid(&format!("script `{name}`"), "its text is not UTF-8 and cannot be exported")
        })?;
        Ok(Script {
            name,
            unchecked: check_syntax(&data).is_err(),
            data,
            start: Some(row.audit.start).filter(|start| *start != ALWAYS),
            end: row.audit.end,
            description: row.audit.description,
        })
    };
    rows.into_iter().map(script).collect()
}

impl Importer<'_> {
    /// Scripts of the pyscripts module.
    pub(super) async fn scripts(&mut self, wanted: &[Script]) -> Result<(), StateError> {
        let (now, rows) = (self.now, scripts::load(self.transaction, Which::Kept).await?);
        let (mut kept, mut added) = (Vec::new(), Vec::new());
        for script in wanted {
            let same = |row: &&ScriptRow| {
                !kept.contains(&row.id)
                    && name(row) == script.name
                    && row.data == script.data.as_bytes()
                    // What the file leaves open was decided when it was first imported.
                    && script.start.is_none_or(|start| start == row.audit.start)
                    && row.audit.end == script.end
                    && row.audit.description == script.description
            };
            match rows.iter().find(same) {
                Some(row) => kept.push(row.id),
                None => added.push(script),
            }
        }
        // What has ended is history.
        let is_gone =
            |row: &&ScriptRow| !kept.contains(&row.id) && row.audit.end.is_none_or(|end| end > now);
        for row in rows.iter().filter(is_gone) {
            let begun = row.audit.start < now;
            let from = if begun { format!(", from {now} on") } else { String::new() };
            self.changes.push(Change::Remove(format!("script {}{from}", name(row))));
            match (self.write, begun) {
                (false, _) => {}
                (true, true) => scripts::end(self.transaction, row.id, now).await?,
                (true, false) => {
                    scripts::delete(self.transaction, row.id, now, "ratekitty").await?;
                }
            }
        }
        for script in added {
            // Where there is one of this name, a further one begins now: both
            // would run in the time before.
            let of_name = || rows.iter().filter(|row| name(row) == script.name);
            let replaces = of_name().any(|row| is_gone(&row) && row.audit.start < now);
            let lasts = script.end.is_none_or(|end| end > now);
            let start = match script.start {
                Some(start) if replaces => start.max(now),
                Some(start) => start,
                None if lasts && of_name().next().is_some() => now,
                None => ALWAYS,
            };
            let from = if start == ALWAYS { String::new() } else { format!(" from {start} on") };
            self.changes.push(Change::Add(format!("script {}{from}", script.name)));
            if self.write {
                let (name, description) = (script.name.clone(), script.description.clone());
                let time = (start, script.end);
                let audit = Audit::new(name, description, time, ("ratekitty", now));
                let data = script.data.as_bytes();
                scripts::add(self.transaction, &new_id(), data, &audit).await?;
            }
        }
        Ok(())
    }
}
