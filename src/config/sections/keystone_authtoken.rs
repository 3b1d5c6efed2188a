//! `[keystone_authtoken]`: how the API has tokens of its users validated, as
//! keystonemiddleware has it.
//! <https://docs.openstack.org/keystonemiddleware/latest/middlewarearchitecture.html>

use std::time::Duration;

use secrecy::SecretString;

use super::keystone_auth::{KeystoneAuth, Reach, common_options, login_options};
use crate::config::{
    ConfigError, Reader,
    opts::{INT, Kind, Opt, at_least},
};

/// The section.
pub const GROUP: &str = "keystone_authtoken";

const STRATEGY: Kind = Kind::Choice { words: &["None", "MAC", "ENCRYPT"], ignore_case: true };

/// Options of the section, without those of the login.
const OWN: &[Opt] = &[
    Opt::unset(
        GROUP,
        "www_authenticate_uri",
        Kind::Str,
        "Keystone's URL for users, told to those who come without a good token.",
    )
    .renamed(&[("", "auth_uri")]),
    Opt::unset(GROUP, "auth_version", Kind::Str, "Version of Keystone's API; only 3."),
    Opt::new(
        GROUP,
        "interface",
        Kind::Str,
        "internal",
        "Interface of Keystone in the catalog by which tokens are validated.",
    ),
    Opt::new(
        GROUP,
        "delay_auth_decision",
        Kind::Bool,
        "false",
        "Whether requests without a good token are left to the policy.",
    ),
    Opt::unset(
        GROUP,
        "http_connect_timeout",
        at_least(0),
        "Longest wait for Keystone's answer, in seconds.",
    ),
    Opt::new(
        GROUP,
        "http_request_max_retries",
        at_least(0),
        "3",
        "How often a request to Keystone is tried again.",
    ),
    Opt::unset(GROUP, "cache", Kind::Str, "Has no effect."),
    Opt::unset(GROUP, "cafile", Kind::Str, "File with certificate authorities (PEM) to trust; wins over insecure."),
    Opt::unset(GROUP, "certfile", Kind::Str, "File with our certificate (PEM)."),
    Opt::unset(GROUP, "keyfile", Kind::Str, "File with its key (PEM)."),
    Opt::new(
        GROUP,
        "insecure",
        Kind::Bool,
        "false",
        "Whether HTTPS certificates are left unchecked.",
    ),
    Opt::unset(GROUP, "region_name", Kind::Str, "Region of Keystone in the catalog."),
    Opt::unset(
        GROUP,
        "memcached_servers",
        Kind::List,
        "memcached servers (HOST:PORT) in which all processes of the API keep validated tokens; unset: each in its memory.",
    )
    .renamed(&[("", "memcache_servers")]),
    Opt::new(
        GROUP,
        "token_cache_time",
        INT,
        "300",
        "Seconds for which a validated token is not asked for again; -1: never kept.",
    ),
    Opt::new(
        GROUP,
        "memcache_security_strategy",
        STRATEGY,
        "None",
        "Whether what is kept in memcached is signed (MAC) or encrypted (ENCRYPT).",
    ),
    Opt::unset(GROUP, "memcache_secret_key", Kind::Str, "Key for that.").secret(),
    Opt::new(GROUP, "memcache_tls_enabled", Kind::Bool, "false", "Not supported: must be false."),
    Opt::unset(GROUP, "memcache_tls_cafile", Kind::Str, "Has no effect."),
    Opt::unset(GROUP, "memcache_tls_certfile", Kind::Str, "Has no effect."),
    Opt::unset(GROUP, "memcache_tls_keyfile", Kind::Str, "Has no effect."),
    Opt::unset(GROUP, "memcache_tls_allowed_ciphers", Kind::Str, "Has no effect."),
    Opt::new(
        GROUP,
        "memcache_pool_dead_retry",
        at_least(0),
        "300",
        "Seconds for which a memcached server that failed is left alone.",
    ),
    Opt::new(GROUP, "memcache_pool_maxsize", INT, "10", "Has no effect."),
    Opt::new(
        GROUP,
        "memcache_pool_socket_timeout",
        at_least(1),
        "3",
        "Longest wait for a memcached server, in seconds.",
    ),
    Opt::new(GROUP, "memcache_pool_unused_timeout", INT, "60", "Has no effect."),
    Opt::new(GROUP, "memcache_pool_conn_get_timeout", INT, "10", "Has no effect."),
    Opt::new(GROUP, "memcache_use_advanced_pool", Kind::Bool, "true", "Has no effect."),
    Opt::new(GROUP, "memcache_sasl_enabled", Kind::Bool, "false", "Not supported: must be false."),
    Opt::unset(GROUP, "memcache_username", Kind::Str, "Has no effect."),
    Opt::unset(GROUP, "memcache_password", Kind::Str, "Has no effect.").secret(),
    Opt::new(GROUP, "include_service_catalog", Kind::Bool, "true", "Has no effect: it is not needed."),
    Opt::new(GROUP, "enforce_token_bind", Kind::Str, "permissive", "Has no effect: Keystone 3 binds none."),
    Opt::new(
        GROUP,
        "service_token_roles",
        Kind::List,
        "service",
        "Roles of which a service's token must have one.",
    ),
    Opt::new(
        GROUP,
        "service_token_roles_required",
        Kind::Bool,
        "true",
        "Whether a service's token without such a role is no good.",
    ),
    Opt::unset(
        GROUP,
        "service_type",
        Kind::Str,
        "Type of this service in the catalog, for application credentials with access rules.",
    ),
];

/// Options of the section.
pub fn options() -> Vec<Opt> {
    [OWN.to_vec(), common_options(GROUP), login_options(GROUP)].concat()
}

/// How what is kept in memcached is guarded.
#[derive(Debug, Clone)]
pub enum Guard {
    /// Not at all.
    None,
    /// By this key. We encrypt for both strategies.
    Key(SecretString),
}

/// Where validated tokens are kept for other processes, too.
#[derive(Debug, Clone)]
pub struct Memcached {
    /// Servers, as `HOST:PORT`.
    pub servers: Vec<String>,
    /// How it is guarded.
    pub guard: Guard,
    /// Longest wait for one.
    pub timeout: Duration,
    /// For how long one that failed is left alone.
    pub dead_retry: Duration,
}

/// `[keystone_authtoken]`.
#[derive(Debug, Clone)]
pub struct KeystoneAuthtoken {
    /// How the API logs in to validate tokens; nothing if it is not configured.
    pub auth: Option<KeystoneAuth>,
    /// What is told to users who come without a good token.
    pub www_authenticate_uri: Option<String>,
    /// Interface of Keystone in the catalog.
    pub interface: String,
    /// Region of Keystone in the catalog.
    pub region_name: Option<String>,
    /// Whether requests without a good token go on, as nobody's.
    pub delay_auth_decision: bool,
    /// How often a request to Keystone is tried again.
    pub retries: u32,
    /// For how long a validated token is kept; `None`: not at all.
    pub token_cache_time: Option<Duration>,
    /// Where else tokens are kept.
    pub memcached: Option<Memcached>,
    /// Roles of which a service's token must have one.
    pub service_token_roles: Vec<String>,
    /// Whether it must.
    pub service_token_roles_required: bool,
    /// Type of this service in the catalog.
    pub service_type: Option<String>,
}

impl KeystoneAuthtoken {
    /// For how long a request to Keystone is tried again: as long as the number of
    /// tries takes with pauses that begin with half a second and double.
    pub fn retry_budget(&self) -> Duration {
        let pauses = 2_u32.saturating_pow(self.retries.min(6)) - 1;
        Duration::from_millis(500) * pauses
    }

    pub(in crate::config) fn read(
        reader: &Reader<'_>,
        login: &'static str,
    ) -> Result<Self, ConfigError> {
        for opt in OWN {
            reader.value(opt.group, opt.name)?;
        }
        let timeout = reader.int::<u64>(GROUP, "http_connect_timeout")?;
        let reach = Reach {
            timeout: timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            ..Reach::read(reader, GROUP)?
        };
        if let Some(version) = reader.filled(GROUP, "auth_version")?
            && !matches!(version.trim_start_matches('v'), "3" | "3.0")
        {
            return Err(reader.refuse(GROUP, "auth_version", "3"));
        }
        for name in ["memcache_tls_enabled", "memcache_sasl_enabled"] {
            if reader.flag(GROUP, name)? {
                return Err(reader.refuse(GROUP, name, "false: it is not supported"));
            }
        }
        let cache_time = reader.required_int::<i64>(GROUP, "token_cache_time")?;
        Ok(Self {
            auth: KeystoneAuth::read(reader, login, reach)?,
            www_authenticate_uri: reader.filled(GROUP, "www_authenticate_uri")?,
            interface: reader.filled(GROUP, "interface")?.unwrap_or_else(|| "internal".to_owned()),
            region_name: reader.filled(GROUP, "region_name")?,
            delay_auth_decision: reader.flag(GROUP, "delay_auth_decision")?,
            retries: reader.required_int(GROUP, "http_request_max_retries")?,
            token_cache_time: u64::try_from(cache_time).ok().map(Duration::from_secs),
            memcached: memcached(reader)?,
            service_token_roles: reader.list(GROUP, "service_token_roles")?,
            service_token_roles_required: reader.flag(GROUP, "service_token_roles_required")?,
            service_type: reader.filled(GROUP, "service_type")?,
        })
    }
}

fn memcached(reader: &Reader<'_>) -> Result<Option<Memcached>, ConfigError> {
    let servers = reader.list(GROUP, "memcached_servers")?;
    if servers.is_empty() {
        return Ok(None);
    }
    let strategy = reader.text(GROUP, "memcache_security_strategy")?.unwrap_or_default();
    let guard = match reader.filled(GROUP, "memcache_secret_key")? {
        _ if strategy.eq_ignore_ascii_case("none") => Guard::None,
        Some(key) => Guard::Key(key.into()),
        None => {
            return Err(ConfigError::Missing {
                group: GROUP,
                option: "memcache_secret_key",
                why: format!("memcache_security_strategy = {strategy} needs it"),
            });
        }
    };
    let seconds =
        |name| Ok::<_, ConfigError>(Duration::from_secs(reader.required_int(GROUP, name)?));
    Ok(Some(Memcached {
        servers,
        guard,
        timeout: seconds("memcache_pool_socket_timeout")?,
        dead_retry: seconds("memcache_pool_dead_retry")?,
    }))
}
