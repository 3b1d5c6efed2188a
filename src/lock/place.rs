//! `coordination_url`, taken apart as tooz does: by Python's `urlsplit`, which
//! leaves user and password as they are written.

use percent_encoding::percent_decode_str;

/// Schemes of tooz that we do not take locks by.
const UNSUPPORTED: [&str; 7] =
    ["etcd", "ipc", "kazoo", "kubernetes", "memcached", "zookeeper", "zake"];

/// What is supported, for messages.
const KNOWN: &str = "file, mysql, postgresql, redis, rediss, etcd3+http, etcd3+https, etcd3";

/// A URL in pieces.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub scheme: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    /// With its first slash.
    pub path: String,
    /// Options, in their order; one may be there several times.
    pub options: Vec<(String, String)>,
}

impl Place {
    pub fn parse(url: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = url.trim().split_once("://") else {
            return Err(format!("there is no scheme; known are {KNOWN}"));
        };
        let mut place = Self { scheme: scheme.to_lowercase(), ..Self::default() };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        path.clone_into(&mut place.path);
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        if let Some(login) = login {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            place.user = Some(user.to_owned()).filter(|user| !user.is_empty());
            place.password = password.map(str::to_owned);
        }
        let (host, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match host.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            },
        };
        place.host = Some(host.to_owned()).filter(|host| !host.is_empty());
        place.port = match port.filter(|port| !port.is_empty()) {
            // What stands there may be a piece of a password.
            Some(port) => Some(port.parse().map_err(|_| "what follows the host is no port")?),
            None => None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                let text = text.replace('+', " ");
                percent_decode_str(&text).decode_utf8_lossy().into_owned()
            };
            place.options.push((decode(name), decode(value)));
        }
        Ok(place)
    }

    /// The URL without what may be secret.
    pub fn shown(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let host = self.host.as_deref().unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        format!("{}://{user}{host}{port}{}", self.scheme, self.path)
    }

    pub fn unknown_scheme(&self) -> String {
        let scheme = &self.scheme;
        match UNSUPPORTED.contains(&scheme.as_str()) {
            true => format!("scheme `{scheme}` is not supported; supported are {KNOWN}"),
            false => format!("scheme `{scheme}` is not known; known are {KNOWN}"),
        }
    }

    /// The last value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let mut values = self.options.iter().rev().filter(|(known, _)| known == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// An option that is a number of seconds, or another number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.option(name) else { return Ok(None) };
        let number: f64 = text.parse().map_err(|_| format!("option {name} is no number"))?;
        if !(0.0..1e9).contains(&number) {
            return Err(format!("option {name} is out of range"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the range that was just looked at"
        )]
        Ok(Some(number as u64))
    }

    /// An option that is yes or no.
    pub fn flag(&self, name: &str) -> Option<bool> {
        let text = self.option(name)?.to_lowercase();
        Some(matches!(text.as_str(), "1" | "t" | "true" | "y" | "yes" | "on"))
    }

    /// Refuses options that are not understood: they could change where locks
    /// are taken. `ignored` are understood and make no difference here.
    pub fn allow(&self, known: &[&str], ignored: &[&str]) -> Result<(), String> {
        for (name, _) in &self.options {
            if ignored.contains(&name.as_str()) {
                tracing::debug!("[orchestrator] coordination_url: option `{name}` has no effect");
            } else if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(format!(
                    "option `{name}` is not known for {}; known are {known}",
                    self.scheme
                ));
            }
        }
        Ok(())
    }
}
