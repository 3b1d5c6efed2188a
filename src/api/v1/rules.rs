//! What mappings and scripts have in common: the attributes that tell when they
//! hold and who made them.

use schemars::JsonSchema;
use serde::Serialize;

use super::wsme::{Attribute, Kind, Values};
use crate::{api::answer::NaiveDate, rating::edit::AuditFilter, state::audit::Audit};

/// Attributes of a body. Most are answered only, and taken without effect.
pub(super) const AUDIT: [Attribute; 9] = [
    ("created_at", Kind::Date, false),
    ("start", Kind::Date, false),
    ("end", Kind::EndDate, false),
    ("name", Kind::Text, false),
    ("description", Kind::Text, false),
    ("deleted", Kind::Date, false),
    ("created_by", Kind::Text, false),
    ("updated_by", Kind::Text, false),
    ("deleted_by", Kind::Text, false),
];

/// When something holds, in local time. The first part of these attributes.
#[derive(Serialize, JsonSchema)]
pub(super) struct Held {
    created_at: NaiveDate,
    start: NaiveDate,
    end: Option<NaiveDate>,
}

impl Held {
    pub fn of(audit: &Audit) -> Self {
        Self {
            created_at: NaiveDate(audit.created_at),
            start: NaiveDate(audit.start),
            end: audit.end.map(NaiveDate),
        }
    }
}

/// What it is, and who made it. The part behind its name.
#[derive(Serialize, JsonSchema)]
pub(super) struct Trail<'a> {
    description: Option<&'a str>,
    deleted: Option<NaiveDate>,
    created_by: &'a str,
    updated_by: Option<&'a str>,
    deleted_by: Option<&'a str>,
}

impl<'a> Trail<'a> {
    pub fn of(audit: &'a Audit) -> Self {
        Self {
            description: audit.description.as_deref(),
            deleted: audit.deleted.map(NaiveDate),
            created_by: &audit.created_by,
            updated_by: audit.updated_by.as_deref(),
            deleted_by: audit.deleted_by.as_deref(),
        }
    }
}

/// Whether a request names anything of them, but the end, that is not so. What
/// is empty is not meant.
pub(super) fn audit_differs(asked: &Values, audit: &Audit) -> bool {
    let texts = [
        ("name", Some(&audit.name)),
        ("description", audit.description.as_ref()),
        ("created_by", Some(&audit.created_by)),
        ("updated_by", audit.updated_by.as_ref()),
        ("deleted_by", audit.deleted_by.as_ref()),
    ];
    let dates = [
        ("created_at", Some(audit.created_at)),
        ("start", Some(audit.start)),
        ("deleted", audit.deleted),
    ];
    texts.into_iter().any(|(name, text)| text_differs(asked, name, text.map(String::as_str)))
        || dates.into_iter().any(|(name, date)| {
            let asked = asked.date(name);
            asked.is_some() && asked != date
        })
}

/// Whether a request names another text.
pub(super) fn text_differs(asked: &Values, name: &str, text: Option<&str>) -> bool {
    asked.text(name).is_some_and(|asked| !asked.is_empty() && Some(asked) != text)
}

/// Arguments by which mappings and scripts are asked for.
pub(super) const FILTER: [Attribute; 8] = [
    ("deleted", Kind::Bool, false),
    ("start", Kind::Date, false),
    ("end", Kind::Date, false),
    ("updated_by", Kind::Text, false),
    ("created_by", Kind::Text, false),
    ("deleted_by", Kind::Text, false),
    ("description", Kind::Text, false),
    ("is_active", Kind::Bool, false),
];

/// What they ask for; `now` is the present by the wall clock of the local zone.
pub(super) fn audit_filter(asked: &Values, now: chrono::NaiveDateTime) -> AuditFilter {
    AuditFilter {
        deleted: asked.bool("deleted").unwrap_or(false),
        start: asked.date("start"),
        end: asked.date("end"),
        created_by: asked.filled("created_by"),
        updated_by: asked.filled("updated_by"),
        deleted_by: asked.filled("deleted_by"),
        description: asked.filled("description"),
        active_at: asked.bool("is_active").unwrap_or(false).then_some(now),
    }
}
