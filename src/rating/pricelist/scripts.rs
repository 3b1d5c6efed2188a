//! Python scripts in the price list.
//!
//! A script is told by its name. What is gone from the list, or has another text,
//! ends with the import, so that periods which are still to be rated keep their
//! prices.

use super::{ALWAYS, Change, PriceListError, Script, import::Importer, invalid, unique};
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
        unique("pyscripts", "script", std::slice::from_ref(&script.name))?;
        check_syntax(&script.data).map_err(|problem| invalid(&place, problem))?;
        if let (Some(start), Some(end)) = (script.start, script.end)
            && end <= start
        {
            return Err(invalid(&place, format!("end {end} is not after start {start}")));
        }
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

/// The scripts of the database.
pub(super) fn export(rows: Vec<ScriptRow>) -> Result<Vec<Script>, PriceListError> {
    let script = |row: ScriptRow| {
        let data = String::from_utf8(row.data).map_err(|_| {
            invalid(
                &format!("script `{}`", row.audit.name),
                "its text is not UTF-8 and cannot be exported",
            )
        })?;
        Ok(Script {
            name: row.audit.name,
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
                    && row.audit.name == script.name
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
            self.changes.push(Change::Remove(format!("script {}{from}", row.audit.name)));
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
            let of_name = || rows.iter().filter(|row| row.audit.name == script.name);
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
