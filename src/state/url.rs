//! `[database] connection`: a database URL as SQLAlchemy writes it, made into
//! what the driver needs.
//!
//! `dialect+driver://user:password@host:port/database?option=value`. The Python
//! driver after `+` makes no difference here, but for the names of its options;
//! user and password may be percent-encoded, and need to be where they contain
//! an `@`.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use sea_orm::sqlx::{
    mysql::{MySqlConnectOptions, MySqlSslMode},
    postgres::{PgConnectOptions, PgSslMode},
};
use tracing::warn;

use super::StateError;

/// A database, by its kind.
#[derive(Debug)]
pub(super) enum Target {
    /// A file.
    Sqlite(PathBuf),
    /// A MariaDB or MySQL server.
    Mysql(Server<MySqlConnectOptions>),
    /// A PostgreSQL server.
    Postgresql(Server<PgConnectOptions>),
}

/// A server, how it is reached, and how it is called in messages.
pub(super) struct Server<O> {
    pub options: O,
    /// Kind, database, place and user; no password.
    pub place: String,
    /// Longest time for making a connection.
    pub connect_timeout: Option<Duration>,
}

impl<O> std::fmt::Debug for Server<O> {
    // The driver's options show their password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.place)
    }
}

/// The pieces of a URL.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    user: Option<String>,
    password: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    options: HashMap<String, String>,
}

impl Target {
    /// Reads `url`; `parameters` are further options, as `[database]
    /// connection_parameters` has them.
    ///
    /// # Errors
    /// A kind of database that is not known, an option that changes the
    /// connection and is not known or has a bad value.
    pub fn parse(url: &str, parameters: &str) -> Result<Self, StateError> {
        let unknown = || StateError::UnknownUrl(crate::http::without_credentials(url));
        let (scheme, rest) = url.split_once("://").ok_or_else(unknown)?;
        let dialect = scheme.split('+').next().unwrap_or_default();
        if dialect == "sqlite" {
            let path = rest.strip_prefix('/').and_then(|path| path.split('?').next());
            let path = path.filter(|path| !path.is_empty()).ok_or_else(unknown)?;
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        let parts = Parts::parse(rest, parameters).map_err(StateError::Url)?;
        match dialect {
            "mysql" | "mariadb" => parts.mysql().map(Self::Mysql),
            "postgresql" => parts.postgresql().map(Self::Postgresql),
            _ => return Err(unknown()),
        }
        .map_err(StateError::Url)
    }
}

fn decoded(text: &str) -> Result<String, String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err("user or password is not UTF-8 when decoded".to_owned()),
    }
}

impl Parts {
    fn parse(rest: &str, parameters: &str) -> Result<Self, String> {
        let mut parts = Self::default();
        // A login is what stands before an `@`: a user without `:` and `/`, and
        // a password that may hold anything else.
        let user_end = rest.find([':', '/', '@']).unwrap_or(rest.len());
        let (user, after) = rest.split_at(user_end);
        let rest = match after.strip_prefix('@') {
            Some(rest) => {
                parts.user = Some(decoded(user)?);
                rest
            }
            None => match after.strip_prefix(':').and_then(|after| after.split_once('@')) {
                Some((password, rest)) => {
                    parts.user = Some(decoded(user)?);
                    parts.password = Some(decoded(password)?);
                    rest
                }
                None => rest,
            },
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, database) = match place.split_once('/') {
            Some((host, database)) => (host, Some(database)),
            None => (place, None),
        };
        let (host, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':')),
            None => match host.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            },
        };
        parts.host = Some(host.to_owned()).filter(|host| !host.is_empty());
        parts.port = match port.filter(|port| !port.is_empty()) {
            Some(port) => Some(port.parse().map_err(|_| {
                // What stands there may be a piece of a password.
                "what follows the host is no port; write `@` in user and password as %40, and `:` in the user as %3A".to_owned()
            })?),
            None => None,
        };
        parts.database = database.filter(|name| !name.is_empty()).map(str::to_owned);
        for pair in query.split('&').chain(parameters.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parts.options.insert(name.to_owned(), decoded(&value.replace('+', " "))?);
        }
        Ok(parts)
    }

    fn place(&self, kind: &str, default_port: u16) -> String {
        let host = self.host.as_deref().unwrap_or("localhost");
        let place = match self.options.get("unix_socket") {
            Some(socket) => socket.clone(),
            None => format!("{host}:{}", self.port.unwrap_or(default_port)),
        };
        let database = self.database.as_deref().unwrap_or_default();
        let user = self.user.as_deref().unwrap_or_default();
        format!("{kind} database `{database}` at {place}, user `{user}`")
    }

    fn connect_timeout(&self) -> Result<Option<Duration>, String> {
        let seconds = self.options.get("connect_timeout").map(|text| text.parse::<u64>());
        let seconds = seconds.transpose().map_err(|_| "connect_timeout is no number of seconds")?;
        Ok(seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs))
    }

    fn mysql(&self) -> Result<Server<MySqlConnectOptions>, String> {
        let Some(database) = &self.database else {
            return Err("no database is named: write mysql+pymysql://USER:PASSWORD@HOST/DATABASE"
                .to_owned());
        };
        // The reference keeps the text that it is given; so do we, whatever the
        // tables' own character set is.
        let mut options = MySqlConnectOptions::new()
            .host(self.host.as_deref().unwrap_or("localhost"))
            .port(self.port.unwrap_or(3306))
            .username(self.user.as_deref().unwrap_or("root"))
            .database(database)
            .charset("utf8mb4")
            .pipes_as_concat(false)
            .no_engine_substitution(false);
        if let Some(password) = &self.password {
            options = options.password(password);
        }
        let mut mode = None;
        let (mut verify_host, mut with_ca, mut with_tls) = (true, false, false);
        for (name, value) in &self.options {
            match name.as_str() {
                "unix_socket" => options = options.socket(value),
                "ssl_ca" | "ssl-ca" => {
                    options = options.ssl_ca(value);
                    with_ca = true;
                }
                "ssl_cert" | "ssl-cert" => {
                    options = options.ssl_client_cert(value);
                    with_tls = true;
                }
                "ssl_key" | "ssl-key" => {
                    options = options.ssl_client_key(value);
                    with_tls = true;
                }
                "ssl_check_hostname" | "ssl_verify_identity" => verify_host = is_true(value),
                "ssl_verify_cert" => with_ca |= is_true(value),
                "ssl_disabled" if is_true(value) => mode = Some(MySqlSslMode::Disabled),
                "ssl_mode" | "ssl-mode" => {
                    mode = Some(value.parse().map_err(|_| {
                        format!("ssl_mode = `{value}` is not known; known: DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY")
                    })?);
                }
                "ssl" if is_true(value) => with_tls = true,
                "charset" | "use_unicode" | "collation" | "binary_prefix" | "local_infile"
                | "autocommit" | "connect_timeout" | "ssl" | "ssl_disabled" | "plugin" => {}
                "read_default_file" | "read_default_group" | "ssl_capath" | "ssl-capath"
                | "client_flag" | "init_command" => {
                    return Err(format!(
                        "option `{name}` of the URL is not supported; leave it out"
                    ));
                }
                _ => warn!("[database] connection: option `{name}` has no effect"),
            }
        }
        let by_options = match (with_ca, verify_host) {
            (true, true) => MySqlSslMode::VerifyIdentity,
            (true, false) => MySqlSslMode::VerifyCa,
            (false, _) if with_tls => MySqlSslMode::Required,
            (false, _) => MySqlSslMode::Preferred,
        };
        let options = options.ssl_mode(mode.unwrap_or(by_options));
        let place = self.place("MySQL", 3306);
        Ok(Server { options, place, connect_timeout: self.connect_timeout()? })
    }

    fn postgresql(&self) -> Result<Server<PgConnectOptions>, String> {
        // libpq's own fall-backs are left aside: the reference's unit files set none.
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(self.host.as_deref().unwrap_or("localhost"))
            .port(self.port.unwrap_or(5432))
            .application_name("ratekitty");
        let user = self.user.as_deref().or(self.options.get("user").map(String::as_str));
        if let Some(user) = user {
            options = options.username(user);
        }
        let password = self.password.as_ref().or(self.options.get("password"));
        if let Some(password) = password {
            options = options.password(password);
        }
        let Some(database) = self.database.as_ref().or(self.options.get("dbname")) else {
            return Err(
                "no database is named: write postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE"
                    .to_owned(),
            );
        };
        options = options.database(database);
        for (name, value) in &self.options {
            match name.as_str() {
                "host" if value.starts_with('/') => options = options.socket(value),
                "host" => options = options.host(value),
                "port" => {
                    options = options
                        .port(value.parse().map_err(|_| "option port is no port".to_owned())?);
                }
                "sslmode" => {
                    options = options.ssl_mode(value.parse::<PgSslMode>().map_err(|_| {
                        format!("sslmode = `{value}` is not known; known: disable, allow, prefer, require, verify-ca, verify-full")
                    })?);
                }
                "sslrootcert" => options = options.ssl_root_cert(value),
                "sslcert" => options = options.ssl_client_cert(value),
                "sslkey" => options = options.ssl_client_key(value),
                "application_name" => options = options.application_name(value),
                "user" | "password" | "dbname" | "connect_timeout" | "client_encoding" => {}
                "service" | "passfile" | "options" | "hostaddr" | "target_session_attrs" => {
                    return Err(format!(
                        "option `{name}` of the URL is not supported; leave it out"
                    ));
                }
                _ => warn!("[database] connection: option `{name}` has no effect"),
            }
        }
        let place = self.place("PostgreSQL", 5432);
        Ok(Server { options, place, connect_timeout: self.connect_timeout()? })
    }
}

fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(url: &str) -> Option<PathBuf> {
        match Target::parse(url, "") {
            Ok(Target::Sqlite(path)) => Some(path),
            _ => None,
        }
    }

    #[test]
    fn reads_files() {
        let cases = [
            ("sqlite:////var/lib/x.sqlite", Some("/var/lib/x.sqlite")),
            ("sqlite:///x.sqlite", Some("x.sqlite")),
            ("sqlite+pysqlite:////x?timeout=3", Some("/x")),
            ("sqlite://", None),
            ("/var/lib/x.sqlite", None),
        ];
        for (url, path) in cases {
            assert_eq!(sqlite(url), path.map(PathBuf::from), "{url}");
        }
    }

    fn mysql(url: &str) -> Server<MySqlConnectOptions> {
        match Target::parse(url, "") {
            Ok(Target::Mysql(server)) => server,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn reads_servers() {
        let server =
            mysql("mysql+pymysql://ck:p%40ss/w:rd@db.example:3307/cloudkitty?charset=utf8");
        assert_eq!(server.place, "MySQL database `cloudkitty` at db.example:3307, user `ck`");
        assert_eq!((server.options.get_host(), server.options.get_port()), ("db.example", 3307));
        assert!(!format!("{server:?}").contains("p@ss"), "{server:?}");
        let server = mysql("mysql://u@[::1]:3308/db");
        assert_eq!((server.options.get_host(), server.options.get_port()), ("::1", 3308));
        let server = mysql("mysql://u:p@/db?unix_socket=/run/my.sock");
        assert_eq!(server.options.get_socket(), Some(&PathBuf::from("/run/my.sock")));
        match Target::parse("postgresql+psycopg2://u:p@h/db?sslmode=require&connect_timeout=7", "")
        {
            Ok(Target::Postgresql(server)) => {
                assert_eq!(server.options.get_username(), "u");
                assert_eq!(server.options.get_database(), Some("db"));
                assert_eq!(server.connect_timeout, Some(Duration::from_secs(7)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tls_follows_the_options() {
        let mode = |query: &str| {
            format!("{:?}", mysql(&format!("mysql://h/d?{query}")).options.get_ssl_mode())
        };
        assert_eq!(mode(""), "Preferred");
        assert_eq!(mode("ssl_ca=/ca.pem"), "VerifyIdentity");
        assert_eq!(mode("ssl_ca=/ca.pem&ssl_check_hostname=false"), "VerifyCa");
        assert_eq!(mode("ssl_cert=/c&ssl_key=/k"), "Required");
        assert_eq!(mode("ssl_disabled=true"), "Disabled");
        let extra = Target::parse("mysql://h/d", "ssl_mode=VERIFY_CA");
        assert!(
            matches!(extra, Ok(Target::Mysql(server)) if matches!(server.options.get_ssl_mode(), MySqlSslMode::VerifyCa))
        );
    }

    #[test]
    fn refuses_what_it_cannot_honour() {
        let cases = [
            ("oracle://h/d", "`oracle://h/d` is not known"),
            ("postgres://u:secret@h/d", "is not known"),
            ("mysql://u:p@h", "no database is named"),
            ("mysql://u:secret@h:x/d", "no port"),
            ("mysql://h/d?read_default_file=/etc/my.cnf", "read_default_file"),
            ("mysql://h/d?ssl_mode=maybe", "ssl_mode = `maybe`"),
            ("postgresql://h/d?sslmode=maybe", "sslmode = `maybe`"),
            ("postgresql://h/d?service=x", "`service`"),
        ];
        for (url, expected) in cases {
            let error = Target::parse(url, "").unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("secret") && !error.contains("cret@"), "{error}");
        }
    }
}
