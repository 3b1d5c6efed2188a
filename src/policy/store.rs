//! The policy as it stands in files, read again when one of them changes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;
use tracing::{error, info, warn};

use super::{
    Policy, Settings,
    error::PolicyErrors,
    files::{self, FindError},
};
use crate::config::{sections::oslo_policy::OsloPolicy, yaml};

/// Time between two looks whether files have changed.
const LOOK: Duration = Duration::from_secs(1);

/// Why the policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Files cannot be found.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The file that the configuration names is not there.
    #[error("[oslo_policy] policy_file = `{}` is not there; without this option the defaults hold", .0.display())]
    Missing(PathBuf),
    /// A file cannot be read.
    #[error("cannot read the policy file `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no YAML.
    #[error("the policy file `{path}` is no YAML: {problem}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// Rules cannot be read.
    #[error("the policy cannot be used: {0}")]
    Rules(#[from] PolicyErrors),
}

/// Where the policy stands.
#[derive(Debug, Clone)]
pub struct Place {
    file: String,
    file_is_set: bool,
    dirs: Vec<String>,
    /// Folders in which relative names are looked for.
    search: Vec<PathBuf>,
    settings: Settings,
}

/// Files with what tells that they have changed.
type Seen = Vec<(PathBuf, Option<SystemTime>, u64)>;

impl Place {
    /// The place of `[oslo_policy]`; relative names are looked for beside the
    /// configuration files, then where those are looked for.
    pub fn new(config: &OsloPolicy, files: &[PathBuf], search: &[PathBuf]) -> Self {
        let beside = files.iter().filter_map(|file| file.parent()).map(Path::to_path_buf);
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in beside.chain(search.iter().cloned()) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Self {
            file: config.policy_file.display().to_string(),
            file_is_set: config.policy_file_is_set,
            dirs: config.policy_dirs.iter().map(|dir| dir.display().to_string()).collect(),
            search: folders,
            settings: Settings {
                default_rule: config.default_rule.clone(),
                enforce_scope: config.enforce_scope,
                enforce_new_defaults: config.enforce_new_defaults,
            },
        }
    }

    /// The files that there are.
    fn files(&self) -> Result<Vec<PathBuf>, LoadError> {
        let found = files::find(&self.file, &self.dirs, &self.search)?;
        if self.file_is_set && files::find(&self.file, &[], &self.search)?.is_empty() {
            return Err(LoadError::Missing(PathBuf::from(&self.file)));
        }
        Ok(found)
    }

    fn contents(&self) -> Result<Vec<(String, Value)>, LoadError> {
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| LoadError::Read { path: path.clone(), source })?;
            let content = yaml::load(&text).map_err(|error| LoadError::Yaml {
                path: path.clone(),
                problem: error.to_string(),
            })?;
            Ok((path.display().to_string(), content.to_json()))
        };
        self.files()?.into_iter().map(read).collect()
    }

    /// The policy as it stands now.
    ///
    /// # Errors
    /// Anything that cannot be read.
    pub fn load(&self) -> Result<Policy, LoadError> {
        Ok(Policy::new(&self.contents()?, &self.settings)?)
    }

    /// The policy as it stands now, as far as it can be read: what cannot, allows
    /// nothing.
    fn load_what_can_be_read(&self) -> Policy {
        match self.contents() {
            Ok(files) => {
                let (policy, errors) = Policy::read(&files, &self.settings);
                for problem in &errors {
                    error!(error = %problem, "A rule of the policy allows nobody anything: {problem}");
                }
                policy
            }
            Err(problem) => {
                error!(error = %problem, "The policy allows nobody anything: {problem}");
                Policy::closed(&self.settings)
            }
        }
    }

    fn seen(&self) -> Seen {
        let files = self.files().unwrap_or_default();
        let look = |path: PathBuf| {
            let metadata = std::fs::metadata(&path).ok();
            let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
            (path, modified, metadata.map_or(0, |metadata| metadata.len()))
        };
        files.into_iter().map(look).collect()
    }
}

/// The policy, which follows its files.
#[derive(Debug)]
pub struct LivePolicy {
    place: Place,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    policy: Arc<Policy>,
    seen: Seen,
    looked: Instant,
}

impl LivePolicy {
    /// Reads the policy.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn new(place: Place) -> Result<Self, LoadError> {
        let seen = place.seen();
        let policy = Arc::new(place.load()?);
        for warning in policy.warnings() {
            warn!("Policy: {warning}");
        }
        Ok(Self { place, state: Mutex::new(State { policy, seen, looked: Instant::now() }) })
    }

    /// The policy of now, or of a second ago.
    pub fn present(&self) -> Arc<Policy> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK {
            state.looked = Instant::now();
            let seen = self.place.seen();
            if seen != state.seen {
                info!("The policy has changed and is read again");
                state.policy = Arc::new(self.place.load_what_can_be_read());
                state.seen = seen;
            }
        }
        state.policy.clone()
    }
}
