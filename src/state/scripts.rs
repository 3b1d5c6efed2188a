//! `pyscripts_scripts`: Python scripts that set prices.
//!
//! The text is kept compressed (zlib), with a SHA-512 of it beside. What the
//! scripts mean is `rating::pyscripts`' business.

use std::io::{Read, Write};

use chrono::NaiveDateTime;
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use sea_orm::ConnectionTrait;
use sha2::{Digest, Sha512};

use super::{
    Context, StateError, date_column, date_value, insert_row, optional_date_value, statement,
};

const ACTION: &str = "read the scripts";

/// Longest text that is taken, so that a small row cannot fill the memory.
const LONGEST: u64 = 16 << 20;

/// A script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptRow {
    /// Row number.
    pub id: i32,
    /// Public identifier.
    pub script_id: String,
    /// Name.
    pub name: String,
    /// Its text.
    pub data: Vec<u8>,
    /// SHA-512 of the text, in hex.
    pub checksum: String,
    /// First instant at which it holds, local time without zone.
    pub start: NaiveDateTime,
    /// First instant at which it no longer holds.
    pub end: Option<NaiveDateTime>,
    /// For people.
    pub description: Option<String>,
}

impl ScriptRow {
    /// Whether it holds at an instant.
    pub fn holds(&self, at: NaiveDateTime) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

/// All scripts that are not deleted, in the order of their rows, which is that
/// in which they run. `connection` should be a snapshot.
///
/// # Errors
/// A database that fails, a text that cannot be unpacked.
pub async fn load(connection: &impl ConnectionTrait) -> Result<Vec<ScriptRow>, StateError> {
    let sql = "SELECT id, script_id, name, data, checksum, start, \"end\", description \
               FROM pyscripts_scripts WHERE deleted IS NULL ORDER BY id";
    let rows = connection.query_all_raw(statement(connection, sql, [])).await.to(ACTION)?;
    let mut scripts = Vec::with_capacity(rows.len());
    for row in &rows {
        let name: String = row.try_get("", "name").to(ACTION)?;
        let packed: Vec<u8> = row.try_get("", "data").to(ACTION)?;
        let mut data = Vec::new();
        let unpacked = ZlibDecoder::new(packed.as_slice()).take(LONGEST).read_to_end(&mut data);
        if unpacked.is_err() || data.len() as u64 == LONGEST {
            let value = format!("the text of script `{name}` cannot be unpacked");
            return Err(StateError::BadValue { column: "pyscripts_scripts.data", value });
        }
        let start = date_column(row, "start")?.ok_or(StateError::BadValue {
            column: "pyscripts_scripts.start",
            value: "NULL".to_owned(),
        })?;
        let checksum: Option<String> = row.try_get("", "checksum").to(ACTION)?;
        scripts.push(ScriptRow {
            id: row.try_get("", "id").to(ACTION)?,
            script_id: row.try_get("", "script_id").to(ACTION)?,
            name,
            data,
            checksum: checksum.unwrap_or_default(),
            start,
            end: date_column(row, "end")?,
            description: row.try_get("", "description").to(ACTION)?,
        });
    }
    Ok(scripts)
}

/// Adds a script that holds from `start` to before `end`, and gives its row
/// number.
///
/// # Errors
/// A database that fails.
pub async fn add(
    connection: &impl ConnectionTrait,
    (name, data, description): (&str, &[u8], Option<&str>),
    (start, end): (NaiveDateTime, Option<NaiveDateTime>),
    (user, now): (&str, NaiveDateTime),
) -> Result<i64, StateError> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    let packed = packed.write_all(data).and_then(|()| packed.finish());
    let packed = packed.map_err(|error| StateError::BadValue {
        column: "pyscripts_scripts.data",
        value: error.to_string(),
    })?;
    let checksum: String = Sha512::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    let sql = "INSERT INTO pyscripts_scripts \
               (script_id, name, data, checksum, created_at, start, \"end\", description, \
               created_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = [
        super::rating_rules::new_id().into(),
        name.into(),
        packed.into(),
        checksum.into(),
        date_value(connection, now),
        date_value(connection, start),
        optional_date_value(connection, end),
        description.into(),
        user.into(),
    ];
    insert_row(connection, sql, values).await.to("add a script")
}

/// Ends a script: it holds for periods that begin before `end` only.
///
/// # Errors
/// A database that fails.
pub async fn end(
    connection: &impl ConnectionTrait,
    id: i32,
    end: NaiveDateTime,
) -> Result<(), StateError> {
    let sql = "UPDATE pyscripts_scripts SET \"end\" = ? WHERE id = ?";
    let values = [date_value(connection, end), id.into()];
    connection.execute_raw(statement(connection, sql, values)).await.to("end a script")?;
    Ok(())
}

/// Soft-deletes a script: it no longer rates and stays on record.
///
/// # Errors
/// A database that fails.
pub async fn delete(
    connection: &impl ConnectionTrait,
    id: i32,
    now: NaiveDateTime,
    user: &str,
) -> Result<(), StateError> {
    let sql = "UPDATE pyscripts_scripts SET deleted = ?, deleted_by = ? WHERE id = ?";
    let values = [date_value(connection, now), user.into(), id.into()];
    connection.execute_raw(statement(connection, sql, values)).await.to("delete a script")?;
    Ok(())
}
