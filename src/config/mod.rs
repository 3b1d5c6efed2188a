//! Configuration: `cloudkitty.conf` as the reference reads it, checked as a
//! whole before anything starts.
//!
//! ```text
//! files, OS_GROUP__OPTION, arguments → source::Sources → source::Reader → Config
//!                  (ini)                                  (opts: types)   (sections/)
//! ```
//!
//! One deliberate difference runs through it: the reference converts most
//! options when it first needs them, so that a bad value kills a worker hours
//! after the start. Here every option of every section is read at the start,
//! and a bad value stops it with file, section, option, value and what is
//! allowed. Unknown keys of known sections are reported, never refused: the
//! file is shared with Python programs.

pub mod ini;
pub mod metrics_yml;
pub mod opts;
pub mod sections;
mod source;
pub(crate) mod yaml;

use std::path::PathBuf;

pub use source::{ConfigError, Origin, Place, Reader, Sources};

use opts::Opt;
use sections::{
    PrometheusEndpoint,
    api::Api,
    collect::Collect,
    collector_aetos::CollectorAetos,
    collector_prometheus::CollectorPrometheus,
    database::Database,
    default::{AuthStrategy, Default as DefaultSection},
    fetcher::Fetcher,
    fetcher_keystone::FetcherKeystone,
    fetcher_prometheus::FetcherPrometheus,
    fetcher_source::FetcherSource,
    http::Http,
    keystone_auth::{self, KeystoneAuth},
    keystone_authtoken::KeystoneAuthtoken,
    orchestrator::Orchestrator,
    oslo_policy::OsloPolicy,
    ratekitty::Ratekitty,
    storage::Storage,
    storage_loki::StorageLoki,
};

/// Every option the program knows, all sections.
pub fn all_options() -> Vec<Opt> {
    [
        sections::default::OPTIONS,
        sections::api::OPTIONS,
        sections::collect::OPTIONS,
        &sections::collector_aetos::options(),
        sections::collector_prometheus::OPTIONS,
        sections::database::OPTIONS,
        sections::fetcher::OPTIONS,
        &sections::fetcher_keystone::options(),
        sections::fetcher_prometheus::OPTIONS,
        sections::fetcher_source::OPTIONS,
        sections::http::OPTIONS,
        &sections::keystone_authtoken::options(),
        sections::orchestrator::OPTIONS,
        sections::oslo_policy::OPTIONS,
        sections::ratekitty::OPTIONS,
        sections::storage::OPTIONS,
        sections::storage_loki::OPTIONS,
    ]
    .concat()
}

/// The whole configuration, read and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[DEFAULT]`: logging and authentication strategy.
    pub default: DefaultSection,
    /// `[api]`.
    pub api: Api,
    /// `[collect]`.
    pub collect: Collect,
    /// `[collector_aetos]`.
    pub collector_aetos: CollectorAetos,
    /// `[collector_prometheus]`.
    pub collector_prometheus: CollectorPrometheus,
    /// `[database]`.
    pub database: Database,
    /// `[fetcher]`.
    pub fetcher: Fetcher,
    /// `[fetcher_keystone]`.
    pub fetcher_keystone: FetcherKeystone,
    /// `[fetcher_prometheus]`.
    pub fetcher_prometheus: FetcherPrometheus,
    /// `[fetcher_source]`.
    pub fetcher_source: FetcherSource,
    /// `[cors]`, `[oslo_middleware]` and `[healthcheck]`.
    pub http: Http,
    /// `[keystone_authtoken]`.
    pub keystone_authtoken: KeystoneAuthtoken,
    /// `[orchestrator]`.
    pub orchestrator: Orchestrator,
    /// `[oslo_policy]`.
    pub oslo_policy: OsloPolicy,
    /// `[ratekitty]`: what the reference does not have.
    pub ratekitty: Ratekitty,
    /// `[storage]`.
    pub storage: Storage,
    /// `[storage_loki]`.
    pub storage_loki: StorageLoki,
    /// What the operator should know, to be logged once logging runs.
    pub warnings: Vec<String>,
    /// Files that were read, in order.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// The first value that is not allowed.
    pub fn from_sources(sources: &Sources) -> Result<Self, ConfigError> {
        let mut options = all_options();
        let logins = ["collector_aetos", "fetcher_keystone", "keystone_authtoken"]
            .map(|group| sources.login_section(group));
        for group in logins {
            if !options.iter().any(|opt| opt.group == group && opt.name == "auth_url") {
                options.extend(keystone_auth::common_options(group));
                options.extend(keystone_auth::login_options(group));
            }
        }
        let reader = Reader::new(sources, &options);
        let mut warnings: Vec<String> = sources
            .unknown_keys(&options)
            .into_iter()
            .map(|key| format!("Unknown option {key} is ignored"))
            .collect();
        for (name, default) in sections::default::NOT_SUPPORTED {
            if reader.text("DEFAULT", name)?.is_some_and(|text| !text.eq_ignore_ascii_case(default))
            {
                warnings.push(format!("[DEFAULT] {name} is not supported and has no effect"));
            }
        }
        let files: Vec<PathBuf> = sources.files().map(PathBuf::from).collect();
        let storage = Storage::read(&reader)?;
        if !storage.backend_is_set && !files.is_empty() {
            warnings.push(
                "[storage] backend is not set: dataframes go into the state database (`sql`), \
                 where the reference would take InfluxDB"
                    .to_owned(),
            );
        }
        let ratekitty = Ratekitty::read(&reader)?;
        let storage_loki = StorageLoki::read(&reader, ratekitty.http_retry_budget)?;
        if storage_loki.lone_certificate {
            warnings.push(
                "[storage_loki] cert_file and key_file have effect only together, and one of them \
                 is not set"
                    .to_owned(),
            );
        }
        let mut config = Self {
            default: DefaultSection::read(&reader)?,
            api: Api::read(&reader)?,
            collect: Collect::read(&reader)?,
            collector_aetos: CollectorAetos::read(&reader, logins[0])?,
            collector_prometheus: CollectorPrometheus::read(&reader)?,
            database: Database::read(&reader)?,
            fetcher: Fetcher::read(&reader)?,
            fetcher_keystone: FetcherKeystone::read(&reader, logins[1])?,
            fetcher_prometheus: FetcherPrometheus::read(&reader)?,
            fetcher_source: FetcherSource::read(&reader)?,
            http: Http::read(&reader)?,
            keystone_authtoken: KeystoneAuthtoken::read(&reader, logins[2])?,
            orchestrator: Orchestrator::read(&reader)?,
            oslo_policy: OsloPolicy::read(&reader)?,
            ratekitty,
            storage,
            storage_loki,
            warnings,
            files,
        };
        let unchecked = config.unchecked_peers().into_iter().map(|(group, peer)| {
            format!(
                "[{group}] insecure is set: whoever is between here and {peer} may read and change \
                 everything, secrets too; name the certificate authority instead"
            )
        });
        config.warnings.extend(unchecked.collect::<Vec<_>>());
        Ok(config)
    }

    /// Sections in use that leave certificates unchecked, and of whom.
    fn unchecked_peers(&self) -> Vec<(&'static str, &'static str)> {
        let login = |auth: &Option<KeystoneAuth>| {
            let reach = auth.as_ref().map(|auth| &auth.reach);
            reach.is_some_and(|reach| reach.insecure && reach.cafile.is_none())
        };
        let endpoint = |at: &PrometheusEndpoint| at.insecure && at.cafile.is_none();
        let (fetcher, collector) = (self.fetcher.backend.as_str(), self.collect.collector.as_str());
        let has_users = self.default.auth_strategy == AuthStrategy::Keystone;
        [
            (
                fetcher == "prometheus" && endpoint(&self.fetcher_prometheus.endpoint),
                "fetcher_prometheus",
                "Prometheus",
            ),
            (
                fetcher == "keystone" && login(&self.fetcher_keystone.auth),
                "fetcher_keystone",
                "Keystone",
            ),
            (
                collector == "prometheus" && endpoint(&self.collector_prometheus.endpoint),
                "collector_prometheus",
                "Prometheus",
            ),
            (
                collector == "aetos" && login(&self.collector_aetos.auth),
                "collector_aetos",
                "Keystone and Aetos",
            ),
            (has_users && login(&self.keystone_authtoken.auth), "keystone_authtoken", "Keystone"),
            // Here it wins over the file.
            (self.storage.backend == "loki" && self.storage_loki.insecure, "storage_loki", "Loki"),
        ]
        .into_iter()
        .filter_map(|(is_unchecked, group, peer)| is_unchecked.then_some((group, peer)))
        .collect()
    }
}

/// The files and folders to read, as oslo.config finds them.
///
/// Unless `given` has a file, the first existing `cloudkitty.conf` and the
/// first existing `<program>.conf` of `search` are read, in that order; unless
/// it has a folder, likewise `cloudkitty.conf.d` and `<program>.conf.d`. So
/// given files replace only the default files, given folders only the default
/// folders, and defaults are read before what is given.
pub fn find_places(program: &str, search: &[PathBuf], given: &[Place]) -> Vec<Place> {
    let first = |name: String| search.iter().map(|dir| dir.join(&name)).find(|path| path.exists());
    let names: &[&str] =
        if program == "cloudkitty" { &["cloudkitty"] } else { &["cloudkitty", program] };
    let mut places = Vec::new();
    if !given.iter().any(|place| matches!(place, Place::File(_))) {
        let files = names.iter().filter_map(|name| first(format!("{name}.conf")));
        places.extend(files.map(Place::File));
    }
    if !given.iter().any(|place| matches!(place, Place::Dir(_))) {
        let dirs = names.iter().filter_map(|name| first(format!("{name}.conf.d")));
        places.extend(dirs.map(Place::Dir));
    }
    places.extend_from_slice(given);
    places
}

/// Folders in which oslo.config looks for `cloudkitty.conf`.
pub fn default_search_path(home: Option<PathBuf>) -> Vec<PathBuf> {
    let mut search = Vec::new();
    if let Some(home) = home {
        search.push(home.join(".cloudkitty"));
        search.push(home);
    }
    search.extend(["/etc/cloudkitty", "/etc"].map(PathBuf::from));
    search
}
