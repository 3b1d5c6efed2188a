//! `[database]`: the state database.

use std::time::Duration;

use secrecy::SecretString;

use crate::config::{
    ConfigError, Reader,
    opts::{INT, Kind, Opt, at_least},
};

/// Options of the section: those of oslo.db that a server or a file can honour.
pub const OPTIONS: &[Opt] = &[
    Opt::new(
        "database",
        "connection",
        Kind::Str,
        "sqlite:///${ratekitty.state_path}/cloudkitty.sqlite",
        "State database, as SQLAlchemy writes it.",
    )
    .secret(),
    Opt::new(
        "database",
        "max_pool_size",
        INT,
        "5",
        "Connections kept open; with max_overflow, 2 to 8 count on SQLite.",
    ),
    Opt::new(
        "database",
        "max_overflow",
        INT,
        "50",
        "Connections opened beyond max_pool_size under load.",
    ),
    Opt::new(
        "database",
        "connection_recycle_time",
        INT,
        "3600",
        "Age at which a connection is replaced, in seconds.",
    ),
    Opt::new(
        "database",
        "max_retries",
        INT,
        "10",
        "Further tries to reach a database server at the start, -1 without end; has no effect on SQLite.",
    ),
    Opt::new(
        "database",
        "retry_interval",
        at_least(0),
        "10",
        "Seconds between these tries; has no effect on SQLite.",
    ),
    Opt::unset("database", "pool_timeout", INT, "Longest wait for a free connection, in seconds."),
    Opt::new(
        "database",
        "sqlite_synchronous",
        Kind::Bool,
        "true",
        "Whether SQLite waits until data is on the disk.",
    ),
    Opt::new(
        "database",
        "connection_debug",
        Kind::Int { min: 0, max: 100 },
        "0",
        "Verbosity of the reference's SQL log; has no effect.",
    ),
    Opt::new("database", "connection_trace", Kind::Bool, "false", "Has no effect."),
    Opt::new(
        "database",
        "connection_parameters",
        Kind::Str,
        "",
        "Options added to those of the URL: name=value&name=value.",
    ),
    Opt::new("database", "backend", Kind::Str, "sqlalchemy", "Has no effect."),
    Opt::unset("database", "slave_connection", Kind::Str, "Has no effect.").secret(),
    Opt::unset("database", "asyncio_connection", Kind::Str, "Has no effect.").secret(),
    Opt::unset("database", "asyncio_slave_connection", Kind::Str, "Has no effect.").secret(),
    Opt::new(
        "database",
        "mysql_sql_mode",
        Kind::Str,
        "TRADITIONAL",
        "SQL mode of MySQL sessions, empty for the server's own; has no effect elsewhere.",
    ),
    Opt::unset(
        "database",
        "mysql_wsrep_sync_wait",
        INT,
        "Galera causality checks of MySQL sessions; has no effect elsewhere.",
    ),
    Opt::new("database", "synchronous_reader", Kind::Bool, "true", "Has no effect."),
    Opt::new(
        "database",
        "use_db_reconnect",
        Kind::Bool,
        "false",
        "Has no effect: lost connections are always replaced.",
    ),
    Opt::new("database", "db_retry_interval", INT, "1", "Has no effect."),
    Opt::new("database", "db_inc_retry_interval", Kind::Bool, "true", "Has no effect."),
    Opt::new("database", "db_max_retry_interval", INT, "10", "Has no effect."),
    Opt::new("database", "db_max_retries", INT, "20", "Has no effect."),
];

/// `[database]`.
#[derive(Debug, Clone)]
pub struct Database {
    /// Where the database is, as SQLAlchemy writes it; may hold a password.
    pub connection: SecretString,
    /// Most connections open at a time.
    pub max_connections: u32,
    /// Age at which a connection is replaced; `None`: never.
    pub connection_recycle_time: Option<Duration>,
    /// Longest wait for a free connection.
    pub pool_timeout: Duration,
    /// Whether SQLite waits until data is on the disk.
    pub sqlite_synchronous: bool,
    /// Further options of the URL.
    pub connection_parameters: String,
    /// Further tries to reach a server at the start; `None`: without end.
    pub max_retries: Option<u32>,
    /// Pause between these tries.
    pub retry_interval: Duration,
    /// SQL mode of MySQL sessions; `None`: the server's.
    pub mysql_sql_mode: Option<String>,
    /// Galera causality checks of MySQL sessions.
    pub mysql_wsrep_sync_wait: Option<i64>,
}

impl Database {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let group = "database";
        // oslo.db takes negative sizes for "no limit"; a pool needs one.
        let pool: i64 = reader.int(group, "max_pool_size")?.unwrap_or(5);
        let overflow: i64 = reader.int(group, "max_overflow")?.unwrap_or(50);
        let connections =
            if pool <= 0 || overflow < 0 { 100 } else { pool.saturating_add(overflow).min(1000) };
        let recycle: i64 = reader.int(group, "connection_recycle_time")?.unwrap_or(-1);
        let timeout: i64 = reader.int(group, "pool_timeout")?.unwrap_or(30);
        for opt in OPTIONS {
            reader.value(opt.group, opt.name)?;
        }
        let retries: i64 = reader.int(group, "max_retries")?.unwrap_or(10);
        let mysql_sql_mode = reader.filled(group, "mysql_sql_mode")?;
        if let Some(mode) = &mysql_sql_mode
            && !mode.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_,".contains(&byte))
        {
            return Err(reader.refuse(group, "mysql_sql_mode", "names of modes and commas"));
        }
        Ok(Self {
            connection: reader
                .filled(group, "connection")?
                .ok_or_else(|| reader.refuse(group, "connection", "the URL of a database"))?
                .into(),
            max_connections: u32::try_from(connections).unwrap_or(100),
            connection_recycle_time: u64::try_from(recycle).ok().map(Duration::from_secs),
            pool_timeout: Duration::from_secs(u64::try_from(timeout).unwrap_or(30).max(1)),
            sqlite_synchronous: reader.flag(group, "sqlite_synchronous")?,
            connection_parameters: reader.text(group, "connection_parameters")?.unwrap_or_default(),
            // oslo.db takes any negative number for "without end".
            max_retries: (retries >= 0).then(|| u32::try_from(retries).unwrap_or(u32::MAX)),
            retry_interval: Duration::from_secs(reader.required_int(group, "retry_interval")?),
            mysql_sql_mode,
            mysql_wsrep_sync_wait: reader.int(group, "mysql_wsrep_sync_wait")?,
        })
    }
}
