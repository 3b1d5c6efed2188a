//! What is wrong with policy files, and what may be.

use std::fmt;

use super::parse::Problem;

/// Why policy files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A file holds something else than rules by their names.
    #[error("{file}: a policy file must map names to rules, and not be {found}")]
    NoMapping {
        /// The file.
        file: String,
        /// What it holds.
        found: &'static str,
    },
    /// A rule cannot be read.
    #[error("{file}: rule \"{rule}\": {problem}")]
    Rule {
        /// The file.
        file: String,
        /// The rule.
        rule: String,
        /// What is wrong with it, and where.
        problem: Problem,
    },
}

/// All that is wrong with policy files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyErrors(pub Vec<PolicyError>);

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

/// What is worth a warning, and no error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A name that neither the reference nor another rule knows.
    #[error("{file}: nothing asks for rule \"{rule}\"")]
    Unknown {
        /// The file.
        file: String,
        /// The rule.
        rule: String,
    },
    /// A rule without content, which allows everything.
    #[error("{file}: rule \"{rule}\" is {found}, which allows everything")]
    Nothing {
        /// The file.
        file: String,
        /// The rule.
        rule: String,
        /// What it holds.
        found: &'static str,
    },
    /// A reference to a rule that is not there.
    #[error(
        "rule \"{rule}\" refers to \"{missing}\", which is not there: \"{default}\" is asked instead"
    )]
    Undefined {
        /// The rule.
        rule: String,
        /// What it refers to.
        missing: String,
        /// What is asked instead.
        default: String,
    },
    /// A rule that leads back to itself.
    #[error("rule \"{0}\" refers to itself, sooner or later")]
    Cycle(String),
    /// A rule that the reference means to remove.
    #[error("{file}: rule \"{rule}\" is deprecated since {since}")]
    Deprecated {
        /// The file.
        file: String,
        /// The rule.
        rule: String,
        /// The release.
        since: &'static str,
    },
    /// A rule whose name has changed.
    #[error("{file}: rule \"{old}\" is now called \"{rule}\", since {since}")]
    Renamed {
        /// The file.
        file: String,
        /// The name there.
        old: &'static str,
        /// The name now.
        rule: &'static str,
        /// The release.
        since: &'static str,
    },
    /// A rule that says what the default says.
    #[error("{file}: rule \"{rule}\" is the default, and can be left out")]
    Redundant {
        /// The file.
        file: String,
        /// The rule.
        rule: String,
    },
}
