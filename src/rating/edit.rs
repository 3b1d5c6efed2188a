//! What may be done to rules that hold for a time: mappings and scripts.
//!
//! A rule that rates already may only be given an end in the future, and one
//! that has ended stays as it is, so that what was billed can be explained.
//! Errors are told in the reference's words, since they are answers of its API.

use chrono::NaiveDateTime;

use crate::state::{StateError, audit::Audit};

/// Why rules are not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// What is asked for, or stands in a request, is not there.
    #[error("{0}")]
    Missing(String),
    /// There is one already.
    #[error("{0}")]
    Exists(String),
    /// It would not be right.
    #[error("{0}")]
    Refused(String),
    /// The database fails.
    #[error(transparent)]
    State(StateError),
}

impl From<StateError> for EditError {
    fn from(error: StateError) -> Self {
        match error.is_refused_value() {
            // MariaDB's tables are of three bytes a character, as the reference makes them.
            true => Self::Refused(
                "The database cannot keep the text: its tables have no such character.".to_owned(),
            ),
            false => Self::State(error),
        }
    }
}

impl EditError {
    /// What a request names in passing and is not there makes it a bad one.
    #[must_use]
    pub(super) fn of_request(self) -> Self {
        match self {
            Self::Missing(text) => Self::Refused(text),
            other => other,
        }
    }
}

/// Who changes rules, and when, by the wall clock of the local zone.
#[derive(Debug, Clone, Copy)]
pub struct Editor<'a> {
    /// Identifier of the user.
    pub user: &'a str,
    /// The present.
    pub now: NaiveDateTime,
}

/// The time for which a new rule is to hold; from now on if it has no start.
///
/// # Errors
/// A start in the past, unless `force`, and an end before the start.
pub(super) fn new_time(
    start: Option<NaiveDateTime>,
    end: Option<NaiveDateTime>,
    now: NaiveDateTime,
    force: bool,
) -> Result<(NaiveDateTime, Option<NaiveDateTime>), EditError> {
    let begin = start.unwrap_or(now);
    if begin < now && !force {
        return Err(EditError::Refused(format!(
            "Cannot create a rule with start in the past. start=[{begin}] current time=[{now}]."
        )));
    }
    match end {
        Some(end) if end < begin => Err(EditError::Refused(format!(
            "Cannot create a rule with start after end. start=[{begin}] end=[{end}]."
        ))),
        _ => Ok((begin, end)),
    }
}

/// What may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The rule has not begun.
    All,
    /// It holds already.
    End,
}

/// How much of a rule may be changed. `differs` tells whether anything but the
/// end would be another.
///
/// # Errors
/// A rule that has an end already, a change of one that holds, an end in the past.
pub(super) fn extent(
    audit: &Audit,
    end: Option<NaiveDateTime>,
    now: NaiveDateTime,
    differs: bool,
) -> Result<Extent, EditError> {
    // One that begins now holds.
    if audit.start > now {
        return Ok(Extent::All);
    }
    if audit.end.is_some() {
        return Err(EditError::Refused(
            "Cannot update a rule that was already processed and has a defined end date."
                .to_owned(),
        ));
    }
    if differs {
        return Err(EditError::Refused(format!(
            "You are allowed to update only the attribute [end] as this rule is already running \
             as it started on [{}]",
            audit.start
        )));
    }
    match end {
        Some(end) if end < now => Err(EditError::Refused(format!(
            "End date must be in the future. end=[{end}] current time=[{now}]"
        ))),
        _ => Ok(Extent::End),
    }
}

/// What is asked of rules by time and people.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Whether deleted ones are wanted, too.
    pub deleted: bool,
    /// Those that begin then or later.
    pub start: Option<NaiveDateTime>,
    /// Those that end before.
    pub end: Option<NaiveDateTime>,
    /// Those made by this user.
    pub created_by: Option<String>,
    /// Those changed last by this user.
    pub updated_by: Option<String>,
    /// Those deleted by this user.
    pub deleted_by: Option<String>,
    /// Those whose description holds this text, in small or capital letters.
    pub description: Option<String>,
    /// Those that hold at this instant.
    pub active_at: Option<NaiveDateTime>,
}

impl AuditFilter {
    /// Whether a rule is asked for.
    pub fn wants(&self, audit: &Audit) -> bool {
        let of_user = |wanted: &Option<String>, user: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| user == Some(wanted))
        };
        let holds = |text: &String| {
            let description = audit.description.as_ref().map(|text| text.to_lowercase());
            description.is_some_and(|description| description.contains(&text.to_lowercase()))
        };
        (self.deleted || audit.deleted.is_none())
            && self.start.is_none_or(|start| audit.start >= start)
            && self.end.is_none_or(|end| audit.end.is_some_and(|its| its < end))
            && of_user(&self.created_by, Some(&audit.created_by))
            && of_user(&self.updated_by, audit.updated_by.as_ref())
            && of_user(&self.deleted_by, audit.deleted_by.as_ref())
            && self.description.as_ref().is_none_or(holds)
            && self.active_at.is_none_or(|at| audit.deleted.is_none() && audit.holds(at))
    }
}

/// Refuses text that a column cannot hold: every database would cut it, refuse
/// it or keep it, each as it likes.
pub(super) fn check_length(name: &str, text: &str, most: usize) -> Result<(), EditError> {
    let count = text.chars().count();
    if text.contains('\0') {
        return Err(EditError::Refused(format!("{name} holds a NUL character.")));
    }
    match count <= most {
        true => Ok(()),
        false => Err(EditError::Refused(format!(
            "{name} has {count} characters; at most {most} can be kept."
        ))),
    }
}

/// Refuses a description that is longer than MariaDB keeps, in bytes.
pub(super) fn check_description(text: Option<&str>) -> Result<(), EditError> {
    check_length("description", text.unwrap_or_default(), 65_535)?;
    match text.is_some_and(|text| text.len() > 65_535) {
        true => Err(EditError::Refused("description is longer than 65535 bytes.".to_owned())),
        false => Ok(()),
    }
}
