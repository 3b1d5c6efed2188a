//! Rules as trees of checks, and their answers.
//!
//! A check that has no answer is an error and not a refusal: under a `not`, a refusal would allow. In
//! oslo.policy 6.0.1 most of these raise an exception, and the request ends with 500.

use std::fmt;

use serde_json::Value;

use super::{Credentials, MAX_DEPTH, Target, format::Pattern, kind::Kind};
use crate::dataframe::python_str;

/// How many checks may be asked for one answer. Rules that refer to others twice and more could
/// otherwise keep a request for ever.
const MAX_CHECKS: usize = 100_000;

/// What a rule asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// `@` or nothing: allows everything.
    Always,
    /// `!`, or what cannot be read: allows nothing.
    Never,
    /// The other way round.
    Not(Box<Check>),
    /// All of them allow.
    And(Vec<Check>),
    /// One of them allows.
    Or(Vec<Check>),
    /// `rule:NAME`: another rule allows.
    Rule(String),
    /// `role:NAME`: the caller has a role, in capitals or not.
    Role(Pattern),
    /// `KIND:PATTERN`: a constant or a credential is the same text.
    Generic {
        /// The left side as it was written.
        left: String,
        /// What the left side asks for.
        kind: Kind,
        /// The text to compare with.
        right: Pattern,
    },
    /// `http:` or `https:`: some other server allows. There is no answer to it here.
    Remote(String),
}

/// Why a check has no answer. The caller is refused then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A rule that asks for itself, sooner or later.
    #[error("rule \"{0}\" refers to itself")]
    Cycle(String),
    /// More checks within each other than [`MAX_DEPTH`].
    #[error("rules are nested deeper than {MAX_DEPTH} levels")]
    Deep,
    /// Rules that refer to others again and again.
    #[error("rules ask for more than {MAX_CHECKS} checks")]
    Long,
    /// The left side of a check is nothing.
    #[error("\"{0}\" is neither a literal nor the name of a credential")]
    Kind(String),
    /// A `%` with something other than `(KEY)s` behind it.
    #[error("\"{0}\" cannot be filled in: only %(KEY)s can")]
    Conversion(String),
    /// Another server would have to be asked.
    #[error("\"{0}\" asks another server, which is not available")]
    Remote(String),
    /// A credential was asked for a part that it cannot have.
    #[error("credential \"{0}\" has no parts with names")]
    NoParts(String),
    /// `roles` is no list of texts.
    #[error("credential \"roles\" is no list of names")]
    Roles,
}

impl Check {
    /// A single check as it stands between blanks: `role:admin`, `@`.
    /// `None` if it has no `:`.
    pub(super) fn single(text: &str) -> Option<Self> {
        match text {
            "!" => return Some(Self::Never),
            "@" => return Some(Self::Always),
            _ => {}
        }
        let (left, right) = text.split_once(':')?;
        Some(match left {
            "rule" => Self::Rule(right.to_owned()),
            "role" => Self::Role(Pattern::read(right)),
            "http" | "https" => Self::Remote(text.to_owned()),
            left => Self::Generic {
                left: left.to_owned(),
                kind: Kind::read(left),
                right: Pattern::read(right),
            },
        })
    }

    /// All checks of the tree that are no operators, in order.
    pub(super) fn leaves<'a>(&'a self, found: &mut Vec<&'a Self>) {
        match self {
            Self::Not(check) => check.leaves(found),
            Self::And(checks) | Self::Or(checks) => {
                checks.iter().for_each(|check| check.leaves(found));
            }
            leaf => found.push(leaf),
        }
    }
}

/// As oslo.policy writes it, with parentheses around `and` and `or`.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, checks: &[Self], word: &str| {
            f.write_str("(")?;
            for (at, check) in checks.iter().enumerate() {
                if at > 0 {
                    f.write_str(word)?;
                }
                check.fmt(f)?;
            }
            f.write_str(")")
        };
        match self {
            Self::Always => f.write_str("@"),
            Self::Never => f.write_str("!"),
            Self::Not(check) => write!(f, "not {check}"),
            Self::And(checks) => joined(f, checks, " and "),
            Self::Or(checks) => joined(f, checks, " or "),
            Self::Rule(name) => write!(f, "rule:{name}"),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Generic { left, right, .. } => write!(f, "{left}:{right}"),
            Self::Remote(text) => f.write_str(text),
        }
    }
}

/// One question: may this caller do that to this target?
pub(super) struct Question<'a> {
    /// The check of a rule and the name under which it was found, by the name that is asked for.
    pub rules: &'a dyn Fn(&str) -> Option<(&'a str, &'a Check)>,
    /// What it is to be done to.
    pub target: &'a Target,
    /// Who asks.
    pub credentials: &'a Credentials,
}

impl<'a> Question<'a> {
    /// Whether the rule allows.
    pub fn ask(&self, rule: &str) -> Result<bool, CheckError> {
        let mut state = State { open: Vec::new(), depth: 0, checks: 0 };
        self.rule(rule, &mut state)
    }

    fn rule(&self, name: &str, state: &mut State<'a>) -> Result<bool, CheckError> {
        let Some((found, check)) = (self.rules)(name) else {
            return Ok(false);
        };
        // The same rule with the same target and caller would come here again, for ever.
        if state.open.contains(&found) {
            return Err(CheckError::Cycle(found.to_owned()));
        }
        state.open.push(found);
        let answer = self.check(check, state);
        state.open.pop();
        answer
    }

    fn check(&self, check: &Check, state: &mut State<'a>) -> Result<bool, CheckError> {
        state.checks += 1;
        state.depth += 1;
        if state.checks > MAX_CHECKS {
            return Err(CheckError::Long);
        }
        if state.depth > MAX_DEPTH {
            return Err(CheckError::Deep);
        }
        let answer = match check {
            Check::Always => true,
            Check::Never => false,
            Check::Not(check) => !self.check(check, state)?,
            Check::And(checks) => self.find(checks, false, state)?,
            Check::Or(checks) => self.find(checks, true, state)?,
            Check::Rule(name) => self.rule(name, state)?,
            Check::Role(role) => match role.fill(self.target)? {
                Some(role) => self.has_role(&role)?,
                None => false,
            },
            Check::Generic { left, kind: Kind::Unreadable, .. } => {
                return Err(CheckError::Kind(left.clone()));
            }
            Check::Generic { left, kind, right } => match right.fill(self.target)? {
                Some(wanted) => self.is(left, kind, &wanted)?,
                None => false,
            },
            Check::Remote(text) => return Err(CheckError::Remote(text.clone())),
        };
        state.depth -= 1;
        Ok(answer)
    }

    /// The wanted answer if a check gives it, else the other one; asks no further then.
    fn find(
        &self,
        checks: &[Check],
        wanted: bool,
        state: &mut State<'a>,
    ) -> Result<bool, CheckError> {
        for check in checks {
            if self.check(check, state)? == wanted {
                return Ok(wanted);
            }
        }
        Ok(!wanted)
    }

    fn has_role(&self, role: &str) -> Result<bool, CheckError> {
        let role = role.to_lowercase();
        match self.credentials.get("roles") {
            None => Ok(false),
            Some(Value::Array(roles)) => {
                let roles: Option<Vec<_>> = roles.iter().map(Value::as_str).collect();
                let roles = roles.ok_or(CheckError::Roles)?;
                Ok(roles.iter().any(|known| known.to_lowercase() == role))
            }
            // What Python makes of these when it goes through them.
            Some(Value::Object(roles)) => {
                Ok(roles.keys().any(|known| known.to_lowercase() == role))
            }
            Some(Value::String(roles)) => {
                Ok(roles.chars().any(|c| c.to_lowercase().eq(role.chars())))
            }
            Some(_) => Err(CheckError::Roles),
        }
    }

    fn is(&self, left: &str, kind: &Kind, wanted: &str) -> Result<bool, CheckError> {
        match kind {
            Kind::Literal(text) => Ok(text == wanted),
            Kind::Path(path) => {
                let Some((first, path)) = path.split_first() else {
                    return Ok(false);
                };
                match self.credentials.get(first) {
                    Some(value) => found(value, path, wanted)
                        .ok_or_else(|| CheckError::NoParts(left.to_owned())),
                    None => Ok(false),
                }
            }
            Kind::Unreadable => Err(CheckError::Kind(left.to_owned())),
        }
    }
}

/// Whether the value at the end of the path is the wanted text. Of a list, which may stand anywhere on
/// the way, one value is enough. `None` if there is a part to look for in what has no parts.
fn found(value: &Value, path: &[String], wanted: &str) -> Option<bool> {
    if let Value::Array(values) = value {
        for value in values {
            if inside(value, path, wanted)? {
                return Some(true);
            }
        }
        return Some(false);
    }
    inside(value, path, wanted)
}

fn inside(value: &Value, path: &[String], wanted: &str) -> Option<bool> {
    let Some((first, path)) = path.split_first() else {
        return Some(match value {
            Value::String(text) => text == wanted,
            value => python_str(value) == wanted,
        });
    };
    match value.as_object()?.get(first) {
        Some(value) => found(value, path, wanted),
        None => Some(false),
    }
}

struct State<'a> {
    /// Names of the rules that are being asked.
    open: Vec<&'a str>,
    depth: usize,
    checks: usize,
}
