//! `ratekitty_processors`: processors that run, and what they have rated, for who
//! looks how fast it goes. Nothing depends on these rows.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, QueryResult};

use super::{Context, Database, StateError, failures::bounded, given, or_update, statement};
use crate::time::seconds;

/// Longest name of a host, in characters.
const LONGEST_HOST: usize = 255;

/// A processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processor {
    /// What tells it from all others, those before it on this host among them.
    pub id: String,
    /// Where it runs.
    pub host: String,
    /// Its number there.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Since when.
    pub started: DateTime<Utc>,
    /// When it wrote this.
    pub seen: DateTime<Utc>,
    /// Periods of scopes that it has rated since, also again.
    pub periods: u64,
    /// Data points of these.
    pub points: u64,
    /// Why it cannot rate anything at all; empty if it can.
    pub problem: String,
}

/// Notes that a processor runs, and what it has done.
///
/// # Errors
/// A database that fails.
pub async fn note(database: &Database, processor: &Processor) -> Result<(), StateError> {
    let connection = database.connection();
    let mut sql = format!(
        "INSERT INTO ratekitty_processors (id, host, pid, version, started_epoch, seen_epoch, \
         periods, points, problem) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) {} seen_epoch = {}",
        or_update(connection, "id"),
        given(connection, "seen_epoch"),
    );
    for column in ["periods", "points", "problem"] {
        sql += &format!(", {column} = {}", given(connection, column));
    }
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let host: String = processor.host.chars().take(LONGEST_HOST).collect();
    let values = [
        processor.id.as_str().into(),
        host.into(),
        i64::from(processor.pid).into(),
        processor.version.as_str().into(),
        processor.started.timestamp().into(),
        processor.seen.timestamp().into(),
        count(processor.periods).into(),
        count(processor.points).into(),
        bounded(&processor.problem).into(),
    ];
    let insert = statement(connection, &sql, values);
    connection.execute_raw(insert).await.to("note that a processor runs")?;
    Ok(())
}

/// All processors that are noted, by host and start.
///
/// # Errors
/// A database that fails.
pub async fn list(database: &Database) -> Result<Vec<Processor>, StateError> {
    const ACTION: &str = "read which processors run";
    let connection = database.connection();
    let sql = "SELECT id, host, pid, version, started_epoch, seen_epoch, periods, points, problem \
               FROM ratekitty_processors ORDER BY host, started_epoch, id";
    let rows = connection.query_all_raw(statement(connection, sql, [])).await;
    let read = |row: &QueryResult| {
        let text = |name| row.try_get::<String>("", name).to(ACTION);
        let number = |name| row.try_get::<i64>("", name).to(ACTION);
        Ok(Processor {
            id: text("id")?,
            host: text("host")?,
            pid: number("pid")?.try_into().unwrap_or_default(),
            version: text("version")?,
            started: seconds(number("started_epoch")?),
            seen: seconds(number("seen_epoch")?),
            periods: number("periods")?.try_into().unwrap_or_default(),
            points: number("points")?.try_into().unwrap_or_default(),
            problem: text("problem")?,
        })
    };
    rows.to(ACTION)?.iter().map(read).collect()
}

/// Forgets a processor: it ends.
///
/// # Errors
/// A database that fails.
pub async fn forget(database: &Database, id: &str) -> Result<(), StateError> {
    let connection = database.connection();
    let sql = "DELETE FROM ratekitty_processors WHERE id = ?";
    let delete = statement(connection, sql, [id.into()]);
    connection.execute_raw(delete).await.to("note that a processor ends")?;
    Ok(())
}

/// Forgets processors that were last seen before `oldest`: they have ended without a
/// word.
///
/// # Errors
/// A database that fails.
pub async fn tidy(database: &Database, oldest: DateTime<Utc>) -> Result<(), StateError> {
    let connection = database.connection();
    let sql = "DELETE FROM ratekitty_processors WHERE seen_epoch < ?";
    let delete = statement(connection, sql, [oldest.timestamp().into()]);
    connection.execute_raw(delete).await.to("forget processors that have ended")?;
    Ok(())
}
