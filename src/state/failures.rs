//! `ratekitty_failures`: scopes whose last try failed, for who looks what is wrong.
//!
//! A row is written when a scope fails, and never when one is rated: a failure is
//! over once the scope has come past its period. Nothing depends on these rows.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::{
    Context, Database, StateError, given, or_update, placeholders,
    scopes::{self, ScopeFilter, ScopeKeys, ScopeState},
    statement,
};
use crate::time::{Period, seconds};

/// Longest text of an error, in characters.
const LONGEST_ERROR: usize = 1_000;

/// What is being done.
const ACTION: &str = "read what failed";

/// Rows of one statement.
const ROWS: usize = 200;

/// The most rows that are looked at.
const MOST: u32 = 20_000;

/// A scope that could not be rated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its identifier.
    pub scope_id: String,
    /// The period that was tried.
    pub period: Period,
    /// When it failed last.
    pub at: DateTime<Utc>,
    /// What failed, in one word.
    pub stage: Arc<str>,
    /// The error.
    pub error: Arc<str>,
    /// How often this period has failed. When it is written, it counts one more.
    pub tries: i64,
}

impl Failure {
    /// The begin of a period of which nothing is known: the scope's row cannot be read.
    pub const UNKNOWN: DateTime<Utc> = DateTime::UNIX_EPOCH;

    /// Whether the scope has come past its period, or is not to be rated any more.
    fn is_over(&self, state: Option<&ScopeState>) -> bool {
        state.is_some_and(|state| !state.active || state.last_processed >= self.period.begin)
    }
}

/// A text that every column can hold: cut, and without control characters.
pub(super) fn bounded(text: &str) -> String {
    let is_fine = |c: &char| !c.is_control();
    let mut bounded: String = text
        .chars()
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .filter(is_fine)
        .collect();
    if let Some((at, _)) = bounded.char_indices().nth(LONGEST_ERROR) {
        let cut = bounded[..at].char_indices().next_back().map_or(0, |(last, _)| last);
        bounded.truncate(cut);
        bounded.push('…');
    }
    bounded
}

/// Notes failures of scopes with these keys, each scope once.
///
/// # Errors
/// A database that fails.
pub async fn note(
    database: &Database,
    keys: &ScopeKeys,
    failures: &[Failure],
) -> Result<(), StateError> {
    let connection = database.connection();
    // In one order, so that processors do not wait for each other in a circle.
    let mut failures: Vec<_> = failures.iter().collect();
    failures.sort_by(|a, b| a.scope_id.cmp(&b.scope_id));
    for part in failures.chunks(ROWS) {
        let row = format!("({})", placeholders(10));
        let mut sql = format!(
            "INSERT INTO ratekitty_failures (scope_id, scope_key, fetcher, collector, begin_epoch, \
             end_epoch, failed_epoch, stage, error, tries) VALUES {} {} tries = CASE \
             WHEN ratekitty_failures.begin_epoch = {} THEN ratekitty_failures.tries + 1 ELSE 1 END",
            vec![row; part.len()].join(", "),
            or_update(connection, "scope_id, scope_key, fetcher, collector"),
            given(connection, "begin_epoch"),
        );
        // MySQL sets them in this order, and `tries` needs the old begin.
        for column in ["begin_epoch", "end_epoch", "failed_epoch", "stage", "error"] {
            sql += &format!(", {column} = {}", given(connection, column));
        }
        let values = part.iter().flat_map(|failure| {
            let [scope_key, fetcher, collector] = keys.values();
            [
                failure.scope_id.as_str().into(),
                scope_key,
                fetcher,
                collector,
                failure.period.begin.timestamp().into(),
                failure.period.end.timestamp().into(),
                failure.at.timestamp().into(),
                (&*failure.stage).into(),
                bounded(&failure.error).into(),
                1_i64.into(),
            ]
        });
        let insert = statement(connection, &sql, values);
        connection.execute_raw(insert).await.to("note what failed")?;
    }
    Ok(())
}

/// Failures of scopes with these keys, the newest first, those that are over among
/// them, but without their errors, which are long; and where these scopes stand.
async fn all(
    database: &Database,
    keys: &ScopeKeys,
) -> Result<(Vec<Failure>, HashMap<String, ScopeState>), StateError> {
    let connection = database.connection();
    let sql = format!(
        "SELECT scope_id, begin_epoch, end_epoch, failed_epoch, stage, tries \
         FROM ratekitty_failures WHERE scope_key = ? AND fetcher = ? AND collector = ? \
         ORDER BY failed_epoch DESC, scope_id LIMIT {MOST}"
    );
    let rows = connection.query_all_raw(statement(connection, &sql, keys.values())).await;
    let read = |row: &QueryResult| {
        let at = |name| row.try_get("", name).map(seconds).to(ACTION);
        Ok(Failure {
            scope_id: row.try_get("", "scope_id").to(ACTION)?,
            period: Period { begin: at("begin_epoch")?, end: at("end_epoch")? },
            at: at("failed_epoch")?,
            stage: row.try_get::<String>("", "stage").to(ACTION)?.into(),
            error: "".into(),
            tries: row.try_get("", "tries").to(ACTION)?,
        })
    };
    let failures: Vec<Failure> =
        rows.to(ACTION)?.iter().map(read).collect::<Result<_, StateError>>()?;
    // All in one statement, unless they are few.
    if failures.len() > ROWS {
        return Ok((failures, scopes::overview(database, keys).await?));
    }
    let mut states: HashMap<String, ScopeState> = HashMap::new();
    if !failures.is_empty() {
        let identifiers = failures.iter().map(|failure| failure.scope_id.clone()).collect();
        let filter = ScopeFilter { identifiers, ..ScopeFilter::default() };
        for state in scopes::list(database, &filter, 0, u64::MAX).await? {
            let is_better = || states.get(&state.identifier).is_none_or(|known| !known.has(keys));
            // Rows without keys come to be theirs.
            if state.has(keys) || (state.scope_key.is_none() && is_better()) {
                states.insert(state.identifier.clone(), state);
            }
        }
    }
    Ok((failures, states))
}

/// The scopes that fail, with the newest first, without their errors: [`errors`] adds
/// those.
///
/// # Errors
/// A database that fails.
pub async fn standing(database: &Database, keys: &ScopeKeys) -> Result<Vec<Failure>, StateError> {
    let (mut failures, states) = all(database, keys).await?;
    failures.retain(|failure| !failure.is_over(states.get(&failure.scope_id)));
    Ok(failures)
}

/// Adds the errors to failures.
///
/// # Errors
/// A database that fails.
pub async fn errors(
    database: &Database,
    keys: &ScopeKeys,
    failures: &mut [Failure],
) -> Result<(), StateError> {
    let connection = database.connection();
    for part in failures.chunks_mut(ROWS) {
        let sql = format!(
            "SELECT scope_id, error FROM ratekitty_failures WHERE scope_id IN ({}) \
             AND scope_key = ? AND fetcher = ? AND collector = ?",
            placeholders(part.len())
        );
        let names = part.iter().map(|failure| Value::from(failure.scope_id.as_str()));
        let values = names.chain(keys.values());
        let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
        let read = |row: &QueryResult| {
            let text = |name| row.try_get::<String>("", name).to(ACTION);
            Ok((text("scope_id")?, text("error")?))
        };
        let mut errors: HashMap<String, String> =
            rows.to(ACTION)?.iter().map(read).collect::<Result<_, StateError>>()?;
        for failure in part {
            // One that is over meanwhile has none.
            failure.error = errors.remove(&failure.scope_id).unwrap_or_default().into();
        }
    }
    Ok(())
}

/// Takes away what is over, and what nobody has tried again since `oldest`.
///
/// # Errors
/// A database that fails.
pub async fn tidy(
    database: &Database,
    keys: &ScopeKeys,
    oldest: DateTime<Utc>,
) -> Result<(), StateError> {
    let (failures, states) = all(database, keys).await?;
    let is_past =
        |failure: &&Failure| failure.at < oldest || failure.is_over(states.get(&failure.scope_id));
    let past: Vec<&Failure> = failures.iter().filter(is_past).collect();
    let connection = database.connection();
    for part in past.chunks(ROWS) {
        // One that has failed again meanwhile stays.
        let sql = format!(
            "DELETE FROM ratekitty_failures WHERE scope_id IN ({}) AND failed_epoch <= ? \
             AND scope_key = ? AND fetcher = ? AND collector = ?",
            placeholders(part.len())
        );
        let newest = part.iter().map(|failure| failure.at.timestamp()).max().unwrap_or_default();
        let names = part.iter().map(|failure| Value::from(failure.scope_id.as_str()));
        let values = names.chain([newest.into()]).chain(keys.values());
        let delete = statement(connection, &sql, values);
        connection.execute_raw(delete).await.to("forget what failed")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(bounded("a\nb\u{0}c\u{1b}[31m"), "a bc[31m");
        let long = "é".repeat(LONGEST_ERROR);
        assert_eq!(bounded(&long), long);
        let cut = bounded(&"é".repeat(LONGEST_ERROR + 1));
        assert_eq!(cut.chars().count(), LONGEST_ERROR);
        assert!(cut.ends_with("é…"));
    }
}
