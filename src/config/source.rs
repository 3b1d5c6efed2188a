//! Where option texts come from: files, the environment, the command line;
//! their order, older names, and `$name` substitution.
//!
//! Order, as oslo.config has it: the command line over the environment over
//! files, later files over earlier ones. Deviation: oslo.config lets the
//! environment win over the command line for an option that is in a file, too,
//! which nobody can mean.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
};

use super::{
    ini::{self, Entry, IniError, is_space},
    opts::{Kind, Opt, Value},
};

/// Substitutions within substitutions that are followed before it must be a loop.
const MAX_DEPTH: usize = 32;

/// Where the text of an option was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// A file and line.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// The command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path, line) => write!(f, "file `{}`, line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable `{name}`"),
            Self::CommandLine => f.write_str("the command line"),
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error(transparent)]
    Ini(#[from] IniError),
    /// Files named on the command line do not exist.
    #[error("configuration file `{0}` does not exist; check --config-file")]
    FileNotFound(PathBuf),
    /// A folder named on the command line does not exist.
    #[error("configuration folder `{0}` does not exist; check --config-dir")]
    DirNotFound(PathBuf),
    /// A value is not allowed.
    #[error("[{group}] {option} = `{value}` ({origin}) is not allowed: it must be {allowed}")]
    BadValue {
        /// Section.
        group: String,
        /// Option.
        option: String,
        /// The text, or `***` for a secret.
        value: String,
        /// Where it was found.
        origin: Origin,
        /// What is allowed.
        allowed: String,
    },
    /// A `$name` in a value names nothing, or itself.
    #[error(
        "[{group}] {option} ({origin}): `${name}` {problem}; a plain dollar sign is written `$$`"
    )]
    Substitution {
        /// Section.
        group: String,
        /// Option.
        option: String,
        /// What stands behind the dollar sign.
        name: String,
        /// Where the value was found.
        origin: Origin,
        /// What is wrong.
        problem: &'static str,
    },
    /// An option that must be set is not.
    #[error("[{group}] {option} is not set: {why}")]
    Missing {
        /// Section.
        group: &'static str,
        /// Option.
        option: &'static str,
        /// Why it is needed and what to write.
        why: String,
    },
    /// Options are set that exclude each other.
    #[error("[{group}] sets more than one of {options}; set one of them")]
    Conflict {
        /// Section.
        group: &'static str,
        /// Options.
        options: &'static str,
    },
    /// A section asks for an option that no table lists: a defect of the program.
    #[error("[{0}] {1} is not in the option table")]
    Unregistered(String, String),
}

/// All configured texts.
#[derive(Debug, Default)]
pub struct Sources {
    /// Files in the order read.
    files: Vec<(PathBuf, Vec<Entry>)>,
    environment: HashMap<String, String>,
    /// Options given as arguments: (group, name) to text.
    arguments: HashMap<(&'static str, &'static str), String>,
}

/// A file or folder to read; both must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A folder: every `*.conf` in it is read, by name.
    Dir(PathBuf),
}

impl Sources {
    /// Reads files and folders in the given order; what is read later wins.
    ///
    /// # Errors
    /// A file or folder that does not exist, or cannot be read or parsed.
    pub fn read(places: &[Place]) -> Result<Self, ConfigError> {
        let mut sources = Self::default();
        for place in places {
            match place {
                Place::File(path) if !path.exists() => {
                    return Err(ConfigError::FileNotFound(path.clone()));
                }
                Place::Dir(path) if !path.exists() => {
                    return Err(ConfigError::DirNotFound(path.clone()));
                }
                Place::File(path) => sources.read_file(path)?,
                Place::Dir(path) => {
                    conf_files(path).iter().try_for_each(|path| sources.read_file(path))?;
                }
            }
        }
        Ok(sources)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let entries = ini::read_file(path)?;
        self.files.push((path.to_owned(), entries));
        Ok(())
    }

    /// Adds environment variables; those of the form `OS_GROUP__OPTION` count.
    #[must_use]
    pub fn with_environment(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        self.environment.extend(variables.into_iter().filter(|(name, _)| name.starts_with("OS_")));
        self
    }

    /// Adds an option given on the command line.
    pub fn set_argument(&mut self, group: &'static str, name: &'static str, text: String) {
        self.arguments.insert((group, name), text);
    }

    /// The section that the `auth_section` of a section names, or itself. It is
    /// read before the table of options is whole, because it says what is in it.
    pub(super) fn login_section(&self, group: &'static str) -> &'static str {
        let option = Opt::unset(group, "auth_section", Kind::Str, "");
        match self.find(&option).map(|(text, _)| text.trim_matches(is_space)) {
            None | Some("") => group,
            // Once per start, for as long as the program runs.
            Some(named) => Box::leak(named.to_owned().into_boxed_str()),
        }
    }

    /// Whether any file, variable or argument sets the option.
    pub fn is_set(&self, opt: &Opt) -> bool {
        self.find(opt).is_some()
    }

    /// Files that were read, in order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The text of an option and where it stands, without its default.
    fn find(&self, opt: &Opt) -> Option<(&str, Origin)> {
        if let Some(text) = self.arguments.get(&(opt.group, opt.name)) {
            return Some((text, Origin::CommandLine));
        }
        let variable = format!("OS_{}__{}", opt.group.to_uppercase(), opt.name.to_uppercase());
        if let Some(text) = self.environment.get(&variable) {
            return Some((text, Origin::Environment(variable)));
        }
        self.files.iter().rev().find_map(|(path, entries)| {
            names(opt).find_map(|(group, name)| {
                let entry = entries.iter().rev().find(|entry| matches(entry, group, name))?;
                Some((entry.value.as_str(), Origin::File(path.clone(), entry.line)))
            })
        })
    }

    /// All texts of an option that may be given several times. Within a file,
    /// those under an older name come first, as in oslo.config.
    fn find_all(&self, opt: &Opt) -> Vec<(&str, Origin)> {
        if let Some((text, origin @ (Origin::CommandLine | Origin::Environment(_)))) =
            self.find(opt)
        {
            // oslo.config makes one value of each character here.
            return if text.is_empty() { Vec::new() } else { vec![(text, origin)] };
        }
        let mut found = Vec::new();
        for (path, entries) in &self.files {
            let names: Vec<_> = names(opt).collect();
            for (group, name) in names.into_iter().rev() {
                found.extend(
                    entries.iter().filter(|entry| matches(entry, group, name)).map(|entry| {
                        (entry.value.as_str(), Origin::File(path.clone(), entry.line))
                    }),
                );
            }
        }
        found
    }

    /// Sections and keys that no option in `known` explains, each once.
    /// Only sections of which some option is known are looked at: others
    /// belong to programs that share the file.
    pub fn unknown_keys(&self, known: &[Opt]) -> Vec<String> {
        let entries = self
            .files
            .iter()
            .flat_map(|(path, entries)| entries.iter().map(move |entry| (path, entry)));
        let unknown: BTreeSet<String> = entries
            .filter(|(_, entry)| known.iter().any(|opt| same_group(&entry.section, opt.group)))
            .filter(|(_, entry)| {
                !known.iter().any(|opt| names(opt).any(|(group, name)| matches(entry, group, name)))
            })
            .map(|(path, entry)| {
                format!(
                    "[{}] {} (file `{}`, line {})",
                    entry.section,
                    entry.key,
                    path.display(),
                    entry.line
                )
            })
            .collect();
        unknown.into_iter().collect()
    }
}

fn names(opt: &Opt) -> impl Iterator<Item = (&'static str, &'static str)> {
    let (group, deprecated) = (opt.group, opt.deprecated);
    let older = deprecated
        .iter()
        .map(move |(older, name)| (if older.is_empty() { group } else { *older }, *name));
    std::iter::once((group, opt.name)).chain(older)
}

fn matches(entry: &Entry, group: &str, name: &str) -> bool {
    entry.key == name && same_group(&entry.section, group)
}

/// Section names ignore case, except that only `DEFAULT` is the default section.
fn same_group(section: &str, group: &str) -> bool {
    match (section, group) {
        ("DEFAULT", _) | (_, "DEFAULT") => section == group,
        _ => section.to_lowercase() == group.to_lowercase(),
    }
}

/// The `*.conf` of a folder by name; hidden ones are left out.
fn conf_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(dir) else {
        // A plain file given as folder holds no files, as in the reference.
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = listing
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".conf") && !name.starts_with('.')
        })
        .collect();
    files.sort();
    files
}

/// Typed reads of the options of a table.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    sources: &'a Sources,
    table: &'a [Opt],
}

impl<'a> Reader<'a> {
    /// Reads the options of `table` from `sources`.
    pub fn new(sources: &'a Sources, table: &'a [Opt]) -> Self {
        Self { sources, table }
    }

    fn registered(&self, group: &str, name: &str) -> Option<&'a Opt> {
        self.table.iter().find(|opt| opt.group == group && opt.name == name)
    }

    fn option(&self, group: &str, name: &str) -> Result<&'a Opt, ConfigError> {
        self.registered(group, name)
            .ok_or_else(|| ConfigError::Unregistered(group.to_owned(), name.to_owned()))
    }

    /// Whether the option is set by anything but its default.
    ///
    /// # Errors
    /// An option that is not in the table.
    pub fn is_set(&self, group: &str, name: &str) -> Result<bool, ConfigError> {
        Ok(self.sources.is_set(self.option(group, name)?))
    }

    /// The value of any option but a [`Kind::Multi`] one.
    ///
    /// # Errors
    /// A value that is not allowed, or a substitution that fails.
    pub fn value(&self, group: &str, name: &str) -> Result<Option<Value>, ConfigError> {
        self.converted(self.option(group, name)?, 0)
    }

    fn converted(&self, opt: &Opt, depth: usize) -> Result<Option<Value>, ConfigError> {
        let Some((text, origin)) =
            self.sources.find(opt).or_else(|| Some((opt.default?, Origin::Default)))
        else {
            return Ok(None);
        };
        let text = self.substitute(opt, text, &origin, depth)?;
        opt.kind.convert(&text).map_err(|()| ConfigError::BadValue {
            group: opt.group.to_owned(),
            option: opt.name.to_owned(),
            value: if opt.secret { "***".to_owned() } else { text },
            origin,
            allowed: opt.kind.allowed().into_owned(),
        })
    }

    /// The error that refuses this option's present value.
    pub fn refuse(&self, group: &str, name: &str, allowed: impl Into<String>) -> ConfigError {
        let Some(opt) = self.registered(group, name) else {
            return ConfigError::Unregistered(group.to_owned(), name.to_owned());
        };
        let (text, origin) =
            self.sources.find(opt).unwrap_or((opt.default.unwrap_or_default(), Origin::Default));
        ConfigError::BadValue {
            group: opt.group.to_owned(),
            option: opt.name.to_owned(),
            value: if opt.secret { "***".to_owned() } else { text.to_owned() },
            origin,
            allowed: allowed.into(),
        }
    }

    /// All values of an option that may be given several times.
    ///
    /// # Errors
    /// A substitution that fails.
    pub fn multi(&self, group: &str, name: &str) -> Result<Vec<String>, ConfigError> {
        let opt = self.option(group, name)?;
        let found = self.sources.find_all(opt);
        if !self.sources.is_set(opt) {
            let defaults = opt.default.into_iter().flat_map(|text| text.split('\n'));
            return Ok(defaults.map(str::to_owned).collect());
        }
        found.into_iter().map(|(text, origin)| self.substitute(opt, text, &origin, 0)).collect()
    }

    /// Replaces `$name`, `${name}` and `${group.name}` by the values of other
    /// options; `$$` and `\$` stand for a dollar sign.
    fn substitute(
        &self,
        opt: &Opt,
        text: &str,
        origin: &Origin,
        depth: usize,
    ) -> Result<String, ConfigError> {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['$', '\\']) {
            result.push_str(&rest[..at]);
            rest = &rest[at..];
            if rest.starts_with("$$") || rest.starts_with("\\$") {
                result.push('$');
                rest = &rest[2..];
            } else if let Some((name, after)) = reference(rest) {
                let fail = |problem| ConfigError::Substitution {
                    group: opt.group.to_owned(),
                    option: opt.name.to_owned(),
                    // It may be part of the secret.
                    name: if opt.secret { "***".to_owned() } else { name.to_owned() },
                    origin: origin.clone(),
                    problem,
                };
                if depth >= MAX_DEPTH {
                    return Err(fail("leads back to this option"));
                }
                let target = match name.split_once('.') {
                    Some((group, name)) => {
                        self.registered(group, name).filter(|opt| opt.group != "DEFAULT")
                    }
                    None => self
                        .registered(opt.group, name)
                        .or_else(|| self.registered("DEFAULT", name)),
                };
                let target = target.ok_or_else(|| fail("is no option"))?;
                if target.kind == Kind::Multi {
                    let items = self.multi(target.group, target.name)?;
                    result.push_str(&Value::List(items).python_text());
                } else if let Some(value) = self.converted(target, depth + 1)? {
                    result.push_str(&value.python_text());
                }
                rest = after;
            } else {
                let mut chars = rest.chars();
                result.extend(chars.next());
                rest = chars.as_str();
            }
        }
        result.push_str(rest);
        Ok(result)
    }

    /// Text, `None` when unset.
    ///
    /// # Errors
    /// As [`Self::value`]; so are those of the other typed reads.
    pub fn text(&self, group: &str, name: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.value(group, name)?.map(|value| value.python_text()))
    }

    /// Text that is there and not blank.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn filled(&self, group: &str, name: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.text(group, name)?.filter(|text| !text.trim_matches(is_space).is_empty()))
    }

    /// Boolean; unset is false.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn flag(&self, group: &str, name: &str) -> Result<bool, ConfigError> {
        Ok(matches!(self.value(group, name)?, Some(Value::Bool(true))))
    }

    /// Whole number.
    ///
    /// # Errors
    /// As [`Self::value`], and a number that does not fit the type.
    pub fn int<T: TryFrom<i64>>(&self, group: &str, name: &str) -> Result<Option<T>, ConfigError> {
        match self.value(group, name)? {
            Some(Value::Int(number)) => match T::try_from(number) {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.refuse(group, name, "a smaller number")),
            },
            _ => Ok(None),
        }
    }

    /// Whole number that must be there.
    ///
    /// # Errors
    /// As [`Self::int`], and an option set to nothing.
    pub fn required_int<T: TryFrom<i64>>(&self, group: &str, name: &str) -> Result<T, ConfigError> {
        let allowed = self.option(group, name)?.kind.allowed();
        self.int(group, name)?.ok_or_else(|| self.refuse(group, name, allowed))
    }

    /// Number.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn float(&self, group: &str, name: &str) -> Result<Option<f64>, ConfigError> {
        Ok(match self.value(group, name)? {
            Some(Value::Float(number)) => Some(number),
            _ => None,
        })
    }

    /// Texts of a list.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn list(&self, group: &str, name: &str) -> Result<Vec<String>, ConfigError> {
        Ok(match self.value(group, name)? {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        })
    }

    /// Pairs of a dict, in file order.
    ///
    /// # Errors
    /// As [`Self::value`].
    pub fn dict(&self, group: &str, name: &str) -> Result<Vec<(String, String)>, ConfigError> {
        Ok(match self.value(group, name)? {
            Some(Value::Dict(pairs)) => pairs,
            _ => Vec::new(),
        })
    }
}

/// The option name of `$name...` or `${name}...`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('$')?;
    let (braced, body) = match text.strip_prefix('{') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let end = body
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
        .unwrap_or(body.len());
    let (name, after) = body.split_at(end);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    if braced { after.strip_prefix('}').map(|after| (name, after)) } else { Some((name, after)) }
}
