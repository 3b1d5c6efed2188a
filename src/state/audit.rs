//! For how long a mapping or script holds, and who made, changed and deleted
//! it: columns that both tables have. Dates are local time without zone.

use chrono::NaiveDateTime;
use sea_orm::QueryResult;

use super::{Context, StateError, date_column};

/// These columns of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// When it was made.
    pub created_at: NaiveDateTime,
    /// First instant at which it holds.
    pub start: NaiveDateTime,
    /// First instant at which it no longer holds.
    pub end: Option<NaiveDateTime>,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// When it was deleted. Who is deleted rates no more, and stays on record.
    pub deleted: Option<NaiveDateTime>,
    /// Who made it.
    pub created_by: String,
    /// Who changed it last.
    pub updated_by: Option<String>,
    /// Who deleted it.
    pub deleted_by: Option<String>,
}

impl Audit {
    /// What is new: made by `user` now, to hold from `start` to before `end`.
    pub fn new(
        name: String,
        description: Option<String>,
        (start, end): (NaiveDateTime, Option<NaiveDateTime>),
        (user, now): (&str, NaiveDateTime),
    ) -> Self {
        Self {
            created_at: now,
            start,
            end,
            name,
            description,
            deleted: None,
            created_by: user.to_owned(),
            updated_by: None,
            deleted_by: None,
        }
    }

    /// Whether it holds at an instant, if it is not deleted.
    pub fn holds(&self, at: NaiveDateTime) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }

    /// Whether it has an instant in common with what holds from `start` to
    /// `end`; one that ends when the other starts counts, as in the reference.
    pub fn meets(&self, start: NaiveDateTime, end: Option<NaiveDateTime>) -> bool {
        end.is_none_or(|end| self.start < end) && self.end.is_none_or(|end| end >= start)
    }
}

/// The columns, for a `SELECT` from a table that is called `r` in it.
pub(super) const COLUMNS: &str = "r.created_at, r.start, r.\"end\", r.name, r.description, \
                                  r.deleted, r.created_by, r.updated_by, r.deleted_by";

/// Reads the columns.
pub(super) fn read(row: &QueryResult) -> Result<Audit, StateError> {
    let action = "read who made a rule";
    let missing = |column| StateError::BadValue { column, value: "NULL".to_owned() };
    Ok(Audit {
        created_at: date_column(row, "created_at")?.ok_or_else(|| missing("created_at"))?,
        start: date_column(row, "start")?.ok_or_else(|| missing("start"))?,
        end: date_column(row, "end")?,
        name: row.try_get("", "name").to(action)?,
        description: row.try_get("", "description").to(action)?,
        deleted: date_column(row, "deleted")?,
        created_by: row.try_get("", "created_by").to(action)?,
        updated_by: row.try_get("", "updated_by").to(action)?,
        deleted_by: row.try_get("", "deleted_by").to(action)?,
    })
}
