//! `[cors]`, `[oslo_middleware]` and `[healthcheck]`: what stands between clients and
//! the API in the reference, and in it here.
//! <https://docs.openstack.org/oslo.middleware/latest/reference/index.html>

use std::path::PathBuf;

use crate::config::{
    ConfigError, Reader,
    opts::{INT, Kind, Opt, at_least},
};

/// Options of the sections. Defaults of `[cors]` are those that CloudKitty sets.
pub const OPTIONS: &[Opt] = &[
    Opt::unset(
        "cors",
        "allowed_origin",
        Kind::List,
        "Origins of pages that may ask the API, such as https://horizon.example.org; * is any.",
    ),
    Opt::new(
        "cors",
        "allow_credentials",
        Kind::Bool,
        "true",
        "Whether they may send cookies and the like.",
    ),
    Opt::new(
        "cors",
        "expose_headers",
        Kind::List,
        "X-Auth-Token,X-Subject-Token,X-Service-Token,X-OpenStack-Request-ID",
        "Headers of answers that they may read.",
    ),
    Opt::new(
        "cors",
        "max_age",
        INT,
        "3600",
        "Seconds for which a browser need not ask again; 0: not told.",
    ),
    Opt::new(
        "cors",
        "allow_methods",
        Kind::List,
        "GET,PUT,POST,DELETE,PATCH",
        "Methods that they may use.",
    ),
    Opt::new(
        "cors",
        "allow_headers",
        Kind::List,
        "X-Auth-Token,X-Subject-Token,X-Roles,X-User-Id,X-Domain-Id,X-Project-Id,X-Tenant-Id,X-OpenStack-Request-ID",
        "Headers that they may send.",
    ),
    Opt::new(
        "oslo_middleware",
        "enable_proxy_headers_parsing",
        Kind::Bool,
        "false",
        "Whether Forwarded and X-Forwarded-... tell how clients reach the API; only behind a proxy that sets them.",
    ),
    Opt::new(
        "oslo_middleware",
        "max_request_body_size",
        at_least(0),
        "114688",
        "Has no effect, as in the reference: bodies are limited by endpoint.",
    ),
    Opt::new(
        "oslo_middleware",
        "http_basic_auth_user_file",
        Kind::Str,
        "/etc/htpasswd",
        "Has no effect.",
    ),
    Opt::unset("healthcheck", "path", Kind::Str, "Has no effect: it is /healthcheck."),
    Opt::new(
        "healthcheck",
        "detailed",
        Kind::Bool,
        "false",
        "Whether reasons are told with details.",
    ),
    Opt::new(
        "healthcheck",
        "backends",
        Kind::List,
        "disable_by_file",
        "What is looked at: disable_by_file, disable_by_files_ports, enable_by_files.",
    ),
    Opt::new(
        "healthcheck",
        "disable_by_file_path",
        Kind::Str,
        "/etc/cloudkitty/healthcheck_disable",
        "While this file is there, the check answers 503, so that a balancer sends nobody here.",
    ),
    Opt::unset(
        "healthcheck",
        "disable_by_file_paths",
        Kind::List,
        "The same for single ports, as PORT:PATH.",
    ),
    Opt::unset(
        "healthcheck",
        "enable_by_file_paths",
        Kind::List,
        "While one of these files is missing, the check answers 503.",
    ),
    Opt::unset(
        "healthcheck",
        "allowed_source_ranges",
        Kind::List,
        "Networks from which the check may be asked, such as 10.0.0.0/8; unset: any.",
    ),
    Opt::new(
        "healthcheck",
        "ignore_proxied_requests",
        Kind::Bool,
        "false",
        "Whether requests that came by a proxy are not answered.",
    ),
];

/// `[cors]`.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    /// Origins that may ask.
    pub allowed_origins: Vec<String>,
    /// Whether with credentials.
    pub allow_credentials: bool,
    /// Headers that they may read.
    pub expose_headers: Vec<String>,
    /// Seconds for which an answer holds.
    pub max_age: i64,
    /// Methods that they may use.
    pub allow_methods: Vec<String>,
    /// Headers that they may send.
    pub allow_headers: Vec<String>,
}

/// What the health check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// Down while this is there.
    DisableByFile(PathBuf),
    /// Down while the file of the port is there.
    DisableByFilesPorts(Vec<(u16, PathBuf)>),
    /// Down while one of these is missing.
    EnableByFiles(Vec<PathBuf>),
}

/// `[healthcheck]`.
#[derive(Debug, Clone, Default)]
pub struct Healthcheck {
    /// What is looked at, in this order.
    pub backends: Vec<Backend>,
    /// Whether reasons are told with details.
    pub detailed: bool,
    /// Networks from which it may be asked; none: any.
    pub sources: Vec<Network>,
    /// Whether proxied requests are not answered.
    pub ignore_proxied: bool,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: std::net::IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, or one address.
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: std::net::IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr;
        let same = |ours: u128, theirs: u128, width: u8| {
            let shift = u32::from(width - self.bits);
            ours.checked_shr(shift).unwrap_or(0) == theirs.checked_shr(shift).unwrap_or(0)
        };
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same(u32::from(ours).into(), u32::from(theirs).into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.into(), theirs.into(), 128),
            _ => false,
        }
    }
}

/// What stands between clients and the API.
#[derive(Debug, Clone, Default)]
pub struct Http {
    /// `[cors]`.
    pub cors: Cors,
    /// Whether headers of proxies are read.
    pub proxy_headers: bool,
    /// `[healthcheck]`.
    pub healthcheck: Healthcheck,
}

impl Http {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        for opt in OPTIONS {
            reader.value(opt.group, opt.name)?;
        }
        let list = |name| reader.list("cors", name);
        Ok(Self {
            cors: Cors {
                allowed_origins: list("allowed_origin")?,
                allow_credentials: reader.flag("cors", "allow_credentials")?,
                expose_headers: list("expose_headers")?,
                max_age: reader.int("cors", "max_age")?.unwrap_or(0),
                allow_methods: list("allow_methods")?,
                allow_headers: list("allow_headers")?,
            },
            proxy_headers: reader.flag("oslo_middleware", "enable_proxy_headers_parsing")?,
            healthcheck: Healthcheck::read(reader)?,
        })
    }
}

impl Healthcheck {
    fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let group = "healthcheck";
        let paths = |name| -> Result<Vec<PathBuf>, ConfigError> {
            Ok(reader.list(group, name)?.into_iter().map(PathBuf::from).collect())
        };
        let mut backends = Vec::new();
        for name in reader.list(group, "backends")? {
            match name.as_str() {
                "disable_by_file" => {
                    let path = reader.filled(group, "disable_by_file_path")?.unwrap_or_default();
                    backends.push(Backend::DisableByFile(path.into()));
                }
                "disable_by_files_ports" => {
                    let places = reader.list(group, "disable_by_file_paths")?;
                    let place = |text: &String| {
                        let (port, path) = text.split_once(':')?;
                        Some((port.trim().parse().ok()?, PathBuf::from(path)))
                    };
                    let places: Option<Vec<_>> = places.iter().map(place).collect();
                    backends.push(Backend::DisableByFilesPorts(places.ok_or_else(|| {
                        reader.refuse(group, "disable_by_file_paths", "a list of PORT:PATH")
                    })?));
                }
                "enable_by_files" => {
                    backends.push(Backend::EnableByFiles(paths("enable_by_file_paths")?));
                }
                // As the reference: what is not known is not looked at.
                _ => {}
            }
        }
        let ranges = reader.list(group, "allowed_source_ranges")?;
        let sources: Option<Vec<_>> = ranges.iter().map(|text| Network::parse(text)).collect();
        Ok(Self {
            backends,
            detailed: reader.flag(group, "detailed")?,
            sources: sources.ok_or_else(|| {
                reader.refuse(group, "allowed_source_ranges", "networks, such as 10.0.0.0/8")
            })?,
            ignore_proxied: reader.flag(group, "ignore_proxied_requests")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let holds = |network: &str, address: &str| {
            Network::parse(network).unwrap().contains(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1"));
        assert!(!holds("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(holds("0.0.0.0/0", "1.2.3.4"));
        assert!(holds("2001:db8::/32", "2001:db8::1"));
        assert!(holds("127.0.0.1", "127.0.0.1"));
        assert!(Network::parse("10.0.0.0/33").is_none());
        assert!(Network::parse("host").is_none());
    }
}
