//! Changing the scripts, one by one, as people do over the API.

use super::super::edit::{
    AuditFilter, EditError, Editor, Extent, check_description, check_length, extent, new_time,
};
use crate::state::{
    Context, Database, Transaction,
    audit::Audit,
    rating_rules::{self, new_id},
    scripts::{self, ScriptRow, Which},
};

type Result<T, E = EditError> = std::result::Result<T, E>;

/// Longest name.
const LONGEST: usize = 255;

/// What MariaDB keeps of a script, packed.
const LARGEST: usize = 65_535;

fn missing(id: &str) -> EditError {
    EditError::Missing(format!("No such script: None (UUID: {id})"))
}

async fn find(connection: &impl sea_orm::ConnectionTrait, id: &str) -> Result<ScriptRow> {
    let found = scripts::load(connection, Which::One(id)).await?;
    let kept = found.into_iter().find(|script| script.audit.deleted.is_none());
    kept.ok_or_else(|| missing(id))
}

async fn begin(database: &Database) -> Result<Transaction> {
    let transaction = database.begin().await?;
    rating_rules::lock(&transaction).await?;
    Ok(transaction)
}

async fn commit(transaction: Transaction) -> Result<()> {
    Ok(transaction.commit().await.to("change the scripts")?)
}

/// Refuses what Python cannot read, and what would not fit the column.
fn check(data: &str) -> Result<()> {
    super::check_syntax(data).map_err(EditError::Refused)?;
    match scripts::packed(data.as_bytes())?.len() <= LARGEST {
        true => Ok(()),
        false => Err(EditError::Refused(format!(
            "The script is too long: packed, it has more than {LARGEST} bytes."
        ))),
    }
}

/// Scripts that are asked for.
///
/// # Errors
/// A database that fails.
pub async fn list(database: &Database, filter: &AuditFilter) -> Result<Vec<ScriptRow>> {
    let which = if filter.deleted { Which::All } else { Which::Kept };
    let mut scripts = scripts::load(database.connection(), which).await?;
    scripts.retain(|script| filter.wants(&script.audit));
    Ok(scripts)
}

/// One script.
///
/// # Errors
/// One that is not there, or deleted.
pub async fn get(database: &Database, id: &str) -> Result<ScriptRow> {
    find(database.connection(), id).await
}

/// A script as it is asked for.
#[derive(Debug, Clone)]
pub struct NewScript {
    /// Its name.
    pub name: String,
    /// Its text.
    pub data: String,
    /// For people.
    pub description: Option<String>,
    /// First instant at which it holds; now if there is none.
    pub start: Option<chrono::NaiveDateTime>,
    /// First instant at which it no longer holds.
    pub end: Option<chrono::NaiveDateTime>,
    /// Whether it may begin in the past.
    pub force: bool,
}

/// Adds a script.
///
/// # Errors
/// A name that is in use, a text that is no Python, a time that is not right.
pub async fn add(database: &Database, new: &NewScript, editor: Editor<'_>) -> Result<ScriptRow> {
    let (start, end) = new_time(new.start, new.end, editor.now, new.force)?;
    check_length("name", &new.name, LONGEST)?;
    check_description(new.description.as_deref())?;
    check(&new.data)?;
    let transaction = begin(database).await?;
    let kept = scripts::load(&transaction, Which::Kept).await?;
    if let Some(script) = kept.iter().find(|script| script.audit.name == new.name) {
        let (name, id) = (&new.name, &script.script_id);
        return Err(EditError::Exists(format!("Script {name} already exists (UUID: {id})")));
    }
    let audit = Audit::new(
        new.name.clone(),
        new.description.clone(),
        (start, end),
        (editor.user, editor.now),
    );
    let id = new_id();
    scripts::add(&transaction, &id, new.data.as_bytes(), &audit).await?;
    let script = find(&transaction, &id).await?;
    commit(transaction).await?;
    Ok(script)
}

/// What a script is to be.
#[derive(Debug, Clone)]
pub struct ScriptChange {
    /// Its text; unchanged if there is none.
    pub data: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// When it begins; unchanged if there is none.
    pub start: Option<chrono::NaiveDateTime>,
    /// When it ends; never if there is none.
    pub end: Option<chrono::NaiveDateTime>,
}

/// Changes a script, but for its name. One that holds already may only be given
/// an end. `differs` tells whether the request holds anything else that the
/// script is not.
///
/// # Errors
/// A script that is not there, or may not be changed in this way; a text that
/// is no Python.
pub async fn change(
    database: &Database,
    id: &str,
    change: &ScriptChange,
    differs: impl FnOnce(&ScriptRow) -> bool + Send,
    editor: Editor<'_>,
) -> Result<ScriptRow> {
    let transaction = begin(database).await?;
    let script = find(&transaction, id).await?;
    let mut audit = script.audit.clone();
    let mut data = None;
    match extent(&audit, change.end, editor.now, differs(&script))? {
        Extent::End => audit.end = change.end,
        Extent::All => {
            let start = change.start.unwrap_or(audit.start);
            (audit.start, audit.end) = new_time(Some(start), change.end, editor.now, false)?;
            check_description(change.description.as_deref())?;
            audit.description = change.description.clone();
            data = change.data.as_deref();
            check(data.unwrap_or_default())?;
        }
    }
    audit.updated_by = Some(editor.user.to_owned());
    scripts::change(&transaction, script.id, data.map(str::as_bytes), &audit).await?;
    let script = find(&transaction, id).await?;
    commit(transaction).await?;
    Ok(script)
}

/// Deletes a script: it rates no more and stays on record.
///
/// # Errors
/// One that is not there, or deleted already.
pub async fn delete(database: &Database, id: &str, editor: Editor<'_>) -> Result<()> {
    let transaction = begin(database).await?;
    let script = find(&transaction, id).await?;
    scripts::delete(&transaction, script.id, editor.now, editor.user).await?;
    commit(transaction).await
}
