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
    Context, StateError,
    audit::{self, Audit},
    date_value, insert_row, optional_date_value, statement,
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
    /// Its text.
    pub data: Vec<u8>,
    /// SHA-512 of the text, in hex.
    pub checksum: String,
    /// When it holds, what it is called, who made it.
    pub audit: Audit,
}

/// Which scripts to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// Those that are not deleted.
    Kept,
    /// All.
    All,
    /// The one of this public identifier, deleted or not.
    One(&'a str),
}

/// Reads scripts in the order of their rows, which is that in which they run.
/// `connection` should be a snapshot.
///
/// # Errors
/// A database that fails, a text that cannot be unpacked.
pub async fn load(
    connection: &impl ConnectionTrait,
    which: Which<'_>,
) -> Result<Vec<ScriptRow>, StateError> {
    let (condition, value) = match which {
        Which::Kept => ("WHERE r.deleted IS NULL", None),
        Which::All => ("", None),
        Which::One(id) => ("WHERE r.script_id = ?", Some(id.into())),
    };
    let sql = format!(
        "SELECT r.id, r.script_id, r.data, r.checksum, {} FROM pyscripts_scripts r {condition} \
         ORDER BY r.id",
        audit::COLUMNS
    );
    let rows = connection.query_all_raw(statement(connection, &sql, value)).await.to(ACTION)?;
    let mut scripts = Vec::with_capacity(rows.len());
    for row in &rows {
        let audit = audit::read(row)?;
        let packed: Vec<u8> = row.try_get("", "data").to(ACTION)?;
        let mut data = Vec::new();
        let unpacked = ZlibDecoder::new(packed.as_slice()).take(LONGEST).read_to_end(&mut data);
        if unpacked.is_err() || data.len() as u64 == LONGEST {
            let value = format!("the text of script `{}` cannot be unpacked", audit.name);
            return Err(StateError::BadValue { column: "pyscripts_scripts.data", value });
        }
        let checksum: Option<String> = row.try_get("", "checksum").to(ACTION)?;
        scripts.push(ScriptRow {
            id: row.try_get("", "id").to(ACTION)?,
            script_id: row.try_get("", "script_id").to(ACTION)?,
            data,
            checksum: checksum.unwrap_or_default(),
            audit,
        });
    }
    Ok(scripts)
}

/// The text as it is kept.
///
/// # Errors
/// Nothing that happens.
pub fn packed(data: &[u8]) -> Result<Vec<u8>, StateError> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    let packed = packed.write_all(data).and_then(|()| packed.finish());
    packed.map_err(|error| StateError::BadValue {
        column: "pyscripts_scripts.data",
        value: error.to_string(),
    })
}

fn checksum(data: &[u8]) -> String {
    Sha512::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds a script and gives its row number.
///
/// # Errors
/// A database that fails.
pub async fn add(
    connection: &impl ConnectionTrait,
    script_id: &str,
    data: &[u8],
    audit: &Audit,
) -> Result<i64, StateError> {
    let sql = "INSERT INTO pyscripts_scripts \
               (script_id, name, data, checksum, created_at, start, \"end\", description, \
               created_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let values = [
        script_id.into(),
        audit.name.as_str().into(),
        packed(data)?.into(),
        checksum(data).into(),
        date_value(connection, audit.created_at),
        date_value(connection, audit.start),
        optional_date_value(connection, audit.end),
        audit.description.clone().into(),
        audit.created_by.as_str().into(),
    ];
    insert_row(connection, sql, values).await.to("add a script")
}

/// Changes what may change of a script: its text, if one is given, its time,
/// description, and who changed it.
///
/// # Errors
/// A database that fails.
pub async fn change(
    connection: &impl ConnectionTrait,
    id: i32,
    data: Option<&[u8]>,
    audit: &Audit,
) -> Result<(), StateError> {
    let action = "change a script";
    let sql = "UPDATE pyscripts_scripts SET start = ?, \"end\" = ?, description = ?, \
               updated_by = ? WHERE id = ?";
    let values = [
        date_value(connection, audit.start),
        optional_date_value(connection, audit.end),
        audit.description.clone().into(),
        audit.updated_by.clone().into(),
        id.into(),
    ];
    connection.execute_raw(statement(connection, sql, values)).await.to(action)?;
    if let Some(data) = data {
        let sql = "UPDATE pyscripts_scripts SET data = ?, checksum = ? WHERE id = ?";
        let values = [packed(data)?.into(), checksum(data).into(), id.into()];
        connection.execute_raw(statement(connection, sql, values)).await.to(action)?;
    }
    Ok(())
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
