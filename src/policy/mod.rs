//! Who may do what: the rules of oslo.policy, with the defaults of the reference.
//!
//! ```text
//! defaults ──► overlaid with policy_file, then policy_dirs in order ──► Policy
//! Policy, rule, target, credentials ──► allowed or not
//! ```
//!
//! A [`Policy`] is what oslo.policy 6.0.1 makes of the same files, and gives the same answers; recorded
//! ones are in `tests/fixtures/policy`. It reads no files itself ([`files::find`] says which they are,
//! and in which order) and asks nobody.
//!
//! Whatever cannot be read, or has no answer, allows nothing. [`Policy::new`] refuses it, for the start;
//! [`Policy::read`] keeps the rest, for a file that was changed while others ask.

pub mod check;
pub mod defaults;
pub mod error;
pub mod files;
mod format;
mod kind;
pub mod parse;
#[cfg(test)]
mod replay;
mod review;
pub mod store;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value};

use check::{Check, CheckError, Question};
use defaults::{DEFAULTS, DefaultRule};
use error::{PolicyError, PolicyErrors, Warning};
use parse::{is_nothing, parse, parse_text, type_name};

/// How many checks may be nested, in one rule and through the rules it refers to. oslo.policy ends at
/// some 450, where Python's stack ends.
pub const MAX_DEPTH: usize = 200;

/// What is known of the caller, as `oslo.context` tells it: `user_id`, `user_domain_id`,
/// `system_scope`, `domain_id`, `project_id`, `project_domain_id`, `roles`, `is_admin_project`, and
/// `service_user_id`, `service_user_domain_id`, `service_project_id`, `service_project_domain_id`,
/// `service_roles`. What a token lacks is null, roles are empty then. There is no `is_admin`.
pub type Credentials = Map<String, Value>;

/// What the caller wants to do something to. The reference tells `project_id` or `tenant_id`, or
/// nothing.
pub type Target = Map<String, Value>;

/// What the options of `[oslo_policy]` say about rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `policy_default_rule`: the rule that is asked where there is none of a name.
    pub default_rule: String,
    /// `enforce_scope`: whether a token must be of a scope that the rule is for. oslo.policy 6 has no
    /// such option any more, and always enforces.
    pub enforce_scope: bool,
    /// `enforce_new_defaults`: if not, a changed default also allows what it allowed before.
    pub enforce_new_defaults: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { default_rule: "default".to_owned(), enforce_scope: true, enforce_new_defaults: true }
    }
}

/// Where a rule comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is a default.
    Default,
    /// It is a default, together with the one it took the place of.
    BothDefaults,
    /// It is in a file, under the name that the rule had before.
    OldName(String),
    /// It is in a file.
    File(String),
}

/// A rule that is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What it asks for.
    pub check: Check,
    /// How it is written where it comes from; lists as JSON.
    pub text: String,
    /// Where it comes from.
    pub source: Source,
    /// The default of this name, if the reference has one.
    pub default: Option<&'static DefaultRule>,
}

/// What comes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allowed,
    /// The rule does not allow it.
    Denied,
    /// The token is of a scope that the rule is not for. The reference fails with 500 then.
    WrongScope {
        /// That of the token: `system`, `domain` or `project`.
        scope: &'static str,
        /// Those that the rule is for.
        wanted: &'static [&'static str],
    },
    /// The rule has no answer, so it does not allow it. The reference fails with 500 then.
    Failed(CheckError),
}

/// All rules that are in force.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: BTreeMap<String, Rule>,
    settings: Settings,
    warnings: Vec<Warning>,
    /// A file is not known, and may have forbidden anything.
    is_closed: bool,
}

/// A rule in a file.
struct Written {
    file: String,
    text: String,
    check: Check,
}

impl Policy {
    /// The policy of these files: each with its name and what it holds, in the order in which later
    /// ones replace rules of earlier ones.
    ///
    /// # Errors
    /// Anything that cannot be read.
    pub fn new(files: &[(String, Value)], settings: &Settings) -> Result<Self, PolicyErrors> {
        let (policy, errors) = Self::read(files, settings);
        if errors.is_empty() { Ok(policy) } else { Err(PolicyErrors(errors)) }
    }

    /// The policy of these files, and what is wrong with them. Rules that cannot be read allow
    /// nothing; after a file without rules nothing is allowed at all.
    pub fn read(files: &[(String, Value)], settings: &Settings) -> (Self, Vec<PolicyError>) {
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let mut written = BTreeMap::new();
        let mut is_closed = false;
        for (file, content) in files {
            match content {
                Value::Object(rules) => {
                    for (name, rule) in rules {
                        if !rule.is_string() && is_nothing(rule) {
                            warnings.push(Warning::Nothing {
                                file: file.clone(),
                                rule: name.clone(),
                                found: type_name(rule),
                            });
                        }
                        let parsed = parse(rule);
                        errors.extend(parsed.problems.into_iter().map(|problem| {
                            PolicyError::Rule { file: file.clone(), rule: name.clone(), problem }
                        }));
                        let text = rule.as_str().map_or_else(|| rule.to_string(), str::to_owned);
                        let rule = Written { file: file.clone(), text, check: parsed.check };
                        written.insert(name.clone(), rule);
                    }
                }
                nothing if is_nothing(nothing) => {}
                other => {
                    is_closed = true;
                    let found = type_name(other);
                    errors.push(PolicyError::NoMapping { file: file.clone(), found });
                }
            }
        }
        let mut policy =
            Self { rules: BTreeMap::new(), settings: settings.clone(), warnings, is_closed };
        for default in DEFAULTS {
            policy.add_default(default, &written);
        }
        for (name, rule) in written {
            policy.add_written(name, rule);
        }
        policy.warnings.extend(review::review(&policy.rules, &policy.settings.default_rule));
        (policy, errors)
    }

    /// A policy that allows nothing, for a file that cannot be read.
    pub fn closed(settings: &Settings) -> Self {
        Self { is_closed: true, ..Self::read(&[], settings).0 }
    }

    /// Whether the caller may do what the rule is for.
    pub fn allows(&self, rule: &str, target: &Target, credentials: &Credentials) -> bool {
        self.decide(rule, target, credentials) == Decision::Allowed
    }

    /// Whether the caller may do what the rule is for, and why not.
    pub fn decide(&self, rule: &str, target: &Target, credentials: &Credentials) -> Decision {
        if self.is_closed {
            return Decision::Denied;
        }
        let credentials = with_system(credentials);
        let default = self.rules.get(rule).and_then(|rule| rule.default);
        if let Some(default) = default
            && self.settings.enforce_scope
            && !default.scope_types.is_empty()
        {
            let (scope, wanted) = (token_scope(&credentials), default.scope_types);
            if !wanted.contains(&scope) {
                return Decision::WrongScope { scope, wanted };
            }
        }
        let rules = |name: &str| self.find(name);
        let question = Question { rules: &rules, target, credentials: &credentials };
        match question.ask(rule) {
            Ok(true) => Decision::Allowed,
            Ok(false) => Decision::Denied,
            Err(error) => Decision::Failed(error),
        }
    }

    /// Whether the caller sees all projects: rule `context_is_admin`, with the caller's own user and
    /// project as its target.
    pub fn is_admin(&self, credentials: &Credentials) -> bool {
        let own =
            |key: &str| (key.to_owned(), credentials.get(key).cloned().unwrap_or(Value::Null));
        let target = Target::from_iter([own("user_id"), own("project_id")]);
        self.allows("context_is_admin", &target, credentials)
    }

    /// All rules by name, in the order of the alphabet.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.rules.iter().map(|(name, rule)| (name.as_str(), rule))
    }

    /// What should be told to the operator.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The rule that is asked for a name, and its own name.
    fn find(&self, name: &str) -> Option<(&str, &Check)> {
        let default = self.settings.default_rule.as_str();
        let found = self.rules.get_key_value(name);
        let found =
            found.or_else(|| self.rules.get_key_value(default).filter(|_| !default.is_empty()))?;
        Some((found.0, &found.1.check))
    }

    fn add_default(&mut self, default: &'static DefaultRule, written: &BTreeMap<String, Written>) {
        if written.contains_key(default.name) {
            return;
        }
        let check = parse_text(default.check).check;
        let mut rule = Rule {
            check,
            text: default.check.to_owned(),
            source: Source::Default,
            default: Some(default),
        };
        if let Some(older) = &default.older {
            let older_check = parse_text(older.check).check;
            let renamed = written.get(older.name).filter(|_| older.name != default.name);
            if let Some(renamed) = renamed {
                self.warnings.push(Warning::Renamed {
                    file: renamed.file.clone(),
                    old: older.name,
                    rule: default.name,
                    since: older.since,
                });
            }
            let link = format!("rule:{}", default.name);
            let renamed =
                renamed.filter(|rule| rule.check != older_check && rule.check.to_string() != link);
            if let Some(renamed) = renamed {
                rule.check = renamed.check.clone();
                rule.text = renamed.text.clone();
                rule.source = Source::OldName(renamed.file.clone());
            } else if !self.settings.enforce_new_defaults && older.check != default.check {
                rule.check = Check::Or(vec![rule.check, older_check]);
                rule.text = format!("({}) or ({})", default.check, older.check);
                rule.source = Source::BothDefaults;
            }
        }
        self.rules.insert(default.name.to_owned(), rule);
    }

    fn add_written(&mut self, name: String, rule: Written) {
        let default = DEFAULTS.iter().find(|default| default.name == name);
        if let Some(default) = default {
            if let Some(since) = default.removed_since {
                let (file, rule) = (rule.file.clone(), name.clone());
                self.warnings.push(Warning::Deprecated { file, rule, since });
            }
            if parse_text(default.check).check.to_string() == rule.check.to_string() {
                let (file, rule) = (rule.file.clone(), name.clone());
                self.warnings.push(Warning::Redundant { file, rule });
            }
        }
        let source = Source::File(rule.file);
        self.rules.insert(name, Rule { check: rule.check, text: rule.text, source, default });
    }
}

/// The credentials with `system`, as rules call the scope of a token for the whole cloud.
fn with_system(credentials: &Credentials) -> Cow<'_, Credentials> {
    match credentials.get("system_scope") {
        Some(scope) if !is_nothing(scope) => {
            let mut credentials = credentials.clone();
            credentials.insert("system".to_owned(), scope.clone());
            Cow::Owned(credentials)
        }
        _ => Cow::Borrowed(credentials),
    }
}

fn token_scope(credentials: &Credentials) -> &'static str {
    let has = |key| credentials.get(key).is_some_and(|value| !is_nothing(value));
    match (has("system"), has("domain_id")) {
        (true, _) => "system",
        (false, true) => "domain",
        (false, false) => "project",
    }
}
