//! Stage 3: what usage costs.
//!
//! `DataFrame → DataFrame with prices`, through every enabled module in order
//! of priority. The modules of a scope are loaded by a [`Rater`], which keeps
//! them as long as rules and validity allow.

pub mod edit;
pub mod hashmap;
pub mod pricelist;
pub mod pyscripts;
mod validity;

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use chrono::NaiveDateTime;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    config::Config,
    dataframe::DataFrame,
    instruments::instruments,
    state::{
        Database, StateError, collectors,
        modules::{self, ModuleState},
        rating_rules::{self, HashmapRows},
        scripts::{self, ScriptRow},
    },
};
use pyscripts::{ScriptError, Scripts, Workers};
pub use validity::Validity;

/// Modules that can rate. `noop` is one in the reference, too: it changes
/// nothing and is always there.
pub const MODULES: [&str; 3] = ["noop", "hashmap", "pyscripts"];

/// A module as the API tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Its name.
    pub name: &'static str,
    /// What it is; the reference's texts.
    pub description: &'static str,
    /// Whether it rates.
    pub enabled: bool,
    /// Whether it has a configuration of its own.
    pub is_configurable: bool,
    /// Modules of higher priority rate first.
    pub priority: i32,
}

impl ModuleInfo {
    /// All modules by name, given the rows that there are.
    pub fn all(states: &[ModuleState]) -> Vec<Self> {
        let mut all: Vec<_> = MODULES.iter().map(|name| Self::of(name, states)).collect();
        all.sort_unstable_by_key(|module| module.name);
        all
    }

    /// The module of a name, which is one of [`MODULES`].
    pub fn of(name: &'static str, states: &[ModuleState]) -> Self {
        // Whatever its row says, noop is enabled.
        let is_noop = name == "noop";
        let state = states.iter().find(|state| state.name == name && !is_noop);
        Self {
            name,
            description: match name {
                "hashmap" => "HashMap rating module.",
                "pyscripts" => "PyScripts rating module.",
                _ => "Dummy test module.",
            },
            enabled: state.map_or(is_noop, |state| state.enabled),
            is_configurable: !is_noop,
            priority: state.map_or(1, |state| state.priority),
        }
    }
}

/// Time for which rules are taken from memory. A change of price reaches a
/// running processor at most that much later.
const RULES_AGE: std::time::Duration = std::time::Duration::from_secs(2);

/// Why a frame has no prices. The scope's period fails and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum RatingError {
    /// The rules cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A threshold is set on a label whose value is no number.
    #[error(
        "data point of type `{frame_type}`: label `{field}` has thresholds, but its value `{value}` is no number; correct the label or remove the thresholds"
    )]
    NotNumeric {
        /// Type of the data point.
        frame_type: String,
        /// Name of the label.
        field: String,
        /// Its value.
        value: String,
    },
    /// A module is enabled that this program does not have.
    #[error(
        "rating module `{0}` is enabled but not available; disable it, or its prices would be missing"
    )]
    Unavailable(String),
    /// The scripts gave no prices.
    #[error(transparent)]
    Scripts(#[from] ScriptError),
}

/// One way of pricing.
#[async_trait]
pub trait RatingModule: Send + Sync + std::fmt::Debug {
    /// Sets the prices of a frame's points.
    ///
    /// # Errors
    /// Points that cannot be rated.
    async fn rate(&self, frame: &mut DataFrame) -> Result<(), RatingError>;
}

/// Rates the frames of scopes with the rules of the state database.
#[derive(Debug)]
pub struct Rater {
    database: Database,
    workers: Arc<Workers>,
    loaded: Mutex<Option<Loaded>>,
    /// What was compiled last for scopes that have no rules of their own.
    common: std::sync::Mutex<Option<ScopeRater>>,
}

/// Modules and rules as they were at some instant.
#[derive(Debug, Clone)]
struct Loaded {
    at: Instant,
    modules: Arc<Vec<ModuleState>>,
    rows: Arc<HashmapRows>,
    scripts: Arc<Vec<ScriptRow>>,
}

impl Loaded {
    /// Whether this is the same as what was loaded then.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.modules, &other.modules)
            && Arc::ptr_eq(&self.rows, &other.rows)
            && Arc::ptr_eq(&self.scripts, &other.scripts)
    }
}

fn kept_or_new<T: PartialEq>(kept: Arc<T>, new: T) -> Arc<T> {
    if *kept == new { kept } else { Arc::new(new) }
}

/// The compiled modules of one scope, or of all that have no rules of their own,
/// and for how long they hold.
#[derive(Debug, Clone)]
pub struct ScopeRater {
    loaded: Loaded,
    /// With their names.
    modules: Arc<Vec<(&'static str, Box<dyn RatingModule>)>>,
    validity: Validity,
}

impl Rater {
    /// A rater that reads its rules from `database`, and runs scripts in workers
    /// of its own, which it starts when there are scripts to run.
    pub fn new(config: &Config, database: Database) -> Self {
        let workers = Workers::new(pyscripts::Settings::of(config));
        Self { database, workers, loaded: Mutex::new(None), common: std::sync::Mutex::default() }
    }

    async fn load(&self) -> Result<Loaded, StateError> {
        let mut cached = self.loaded.lock().await;
        if let Some(loaded) = cached.as_ref().filter(|loaded| loaded.at.elapsed() < RULES_AGE) {
            return Ok(loaded.clone());
        }
        let at = Instant::now();
        let snapshot = self.database.snapshot().await?;
        let modules = modules::list(&snapshot).await?;
        let rows = rating_rules::load(&snapshot).await?;
        let scripts = scripts::load(&snapshot, scripts::Which::Kept).await?;
        drop(snapshot);
        // What did not change keeps its place, so that compiled rules live on.
        let loaded = match cached.take() {
            Some(kept) => Loaded {
                at,
                modules: kept_or_new(kept.modules, modules),
                rows: kept_or_new(kept.rows, rows),
                scripts: kept_or_new(kept.scripts, scripts),
            },
            None => Loaded {
                at,
                modules: Arc::new(modules),
                rows: Arc::new(rows),
                scripts: Arc::new(scripts),
            },
        };
        Ok(cached.insert(loaded).clone())
    }

    /// The modules for a period of a scope. `at` is the wall clock, in the
    /// local zone, at the begin of the period: rules that hold then apply.
    /// `previous` is taken again if it still holds.
    ///
    /// # Errors
    /// Rules that cannot be read, an enabled module that is not there.
    pub async fn scope(
        &self,
        scope_id: &str,
        at: NaiveDateTime,
        previous: Option<ScopeRater>,
    ) -> Result<ScopeRater, RatingError> {
        let loaded = self.load().await?;
        let holds = |rater: &ScopeRater| rater.loaded.is(&loaded) && rater.validity.contains(at);
        if let Some(previous) = previous.filter(holds) {
            return Ok(previous);
        }
        if loaded.rows.has_rules_of(scope_id) {
            return self.compile(loaded, Some(scope_id), at);
        }
        let common = || self.common.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(common) = common().clone().filter(holds) {
            return Ok(common);
        }
        let compiled = self.compile(loaded, None, at)?;
        *common() = Some(compiled.clone());
        Ok(compiled)
    }

    /// The modules for a quote at an instant of the local wall clock: with the
    /// rules as they are now, and no scope's own ones.
    ///
    /// # Errors
    /// As [`Self::scope`].
    pub async fn quoting(&self, at: NaiveDateTime) -> Result<ScopeRater, RatingError> {
        self.loaded.lock().await.take();
        self.compile(self.load().await?, None, at)
    }

    fn compile(
        &self,
        loaded: Loaded,
        scope_id: Option<&str>,
        at: NaiveDateTime,
    ) -> Result<ScopeRater, RatingError> {
        let mut enabled: Vec<&ModuleState> = loaded
            .modules
            .iter()
            .filter(|module| module.enabled && module.name != "noop")
            // States of collectors are kept beside those of modules.
            .filter(|module| !module.name.starts_with(collectors::PREFIX))
            .collect();
        enabled.sort_by_key(|module| std::cmp::Reverse(module.priority));
        let mut validity = Validity::default();
        let mut compiled: Vec<(&'static str, Box<dyn RatingModule>)> = Vec::new();
        for module in enabled {
            match module.name.as_str() {
                "hashmap" => {
                    let rules = hashmap::Rules::compile(&loaded.rows, scope_id, at);
                    validity = validity.and(rules.validity());
                    compiled.push(("hashmap", Box::new(rules)));
                }
                "pyscripts" => {
                    let scripts = Scripts::at(self.workers.clone(), &loaded.scripts, at);
                    validity = validity.and(scripts.validity());
                    compiled.push(("pyscripts", Box::new(scripts)));
                }
                other => return Err(RatingError::Unavailable(other.to_owned())),
            }
        }
        Ok(ScopeRater { loaded, modules: Arc::new(compiled), validity })
    }
}

impl ScopeRater {
    /// Sets the prices of a frame's points, module by module.
    ///
    /// # Errors
    /// Points that cannot be rated.
    pub async fn rate(&self, frame: &mut DataFrame) -> Result<(), RatingError> {
        for (name, module) in self.modules.iter() {
            let begun = Instant::now();
            let rated = module.rate(frame).await;
            instruments().module_took(name, begun.elapsed());
            rated?;
        }
        Ok(())
    }
}
