//! `[DEFAULT]`: logging, and how API users are known.

use std::path::PathBuf;

use crate::{
    config::{
        ConfigError, Reader,
        opts::{INT, Kind, Opt},
    },
    time::is_date_format,
};

const ROTATION: Kind = Kind::Choice { words: &["interval", "size", "none"], ignore_case: true };
const INTERVAL: Kind = Kind::Choice {
    words: &["Seconds", "Minutes", "Hours", "Days", "Weekday", "Midnight"],
    ignore_case: true,
};
const EXCEPT_LEVEL: Kind = Kind::Choice {
    words: &["CRITICAL", "ERROR", "INFO", "WARNING", "DEBUG", ""],
    ignore_case: false,
};
const STRATEGY: Kind = Kind::Choice { words: &["noauth", "keystone"], ignore_case: false };

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::new("DEFAULT", "debug", Kind::Bool, "false", "Whether debug messages are logged."),
    Opt::unset("DEFAULT", "log_file", Kind::Str, "File to log to; unset: standard output.")
        .renamed(&[("DEFAULT", "logfile")]),
    Opt::unset(
        "DEFAULT",
        "log_dir",
        Kind::Str,
        "Folder of the log file; alone: <program>.log in it.",
    )
    .renamed(&[("DEFAULT", "logdir")]),
    Opt::new("DEFAULT", "use_json", Kind::Bool, "false", "Whether log lines are JSON objects."),
    Opt::new(
        "DEFAULT",
        "use_stderr",
        Kind::Bool,
        "false",
        "Whether messages go to standard error, too.",
    ),
    Opt::new(
        "DEFAULT",
        "log_date_format",
        Kind::Str,
        "%Y-%m-%d %H:%M:%S",
        "Date of a log line, as strftime has it.",
    ),
    Opt::new("DEFAULT", "auth_strategy", STRATEGY, "keystone", "How the API knows its users."),
    // Known, so that they are not reported; what they ask for is not done.
    Opt::unset(
        "DEFAULT",
        "log_config_append",
        Kind::Str,
        "Python logging configuration; not supported.",
    )
    .renamed(&[("DEFAULT", "log-config"), ("DEFAULT", "log_config")]),
    Opt::new(
        "DEFAULT",
        "use_syslog",
        Kind::Bool,
        "false",
        "Not supported: let the service manager take standard output.",
    ),
    Opt::new(
        "DEFAULT",
        "use_journal",
        Kind::Bool,
        "false",
        "Not supported: let the service manager take standard output.",
    ),
    Opt::new(
        "DEFAULT",
        "log_rotation_type",
        ROTATION,
        "none",
        "Not supported: use logrotate, the file is reopened when moved.",
    ),
    Opt::new("DEFAULT", "log_rotate_interval", INT, "1", "Has no effect."),
    Opt::new("DEFAULT", "log_rotate_interval_type", INTERVAL, "days", "Has no effect."),
    Opt::new("DEFAULT", "max_logfile_count", INT, "30", "Has no effect."),
    Opt::new("DEFAULT", "max_logfile_size_mb", INT, "200", "Has no effect."),
    Opt::unset("DEFAULT", "logging_context_format_string", Kind::Str, "Has no effect."),
    Opt::unset("DEFAULT", "logging_default_format_string", Kind::Str, "Has no effect."),
    Opt::unset("DEFAULT", "logging_debug_format_suffix", Kind::Str, "Has no effect."),
    Opt::unset("DEFAULT", "logging_exception_prefix", Kind::Str, "Has no effect."),
    Opt::unset("DEFAULT", "logging_user_identity_format", Kind::Str, "Has no effect."),
    Opt::unset(
        "DEFAULT",
        "default_log_levels",
        Kind::List,
        "Levels of Python loggers; has no effect.",
    ),
    Opt::new("DEFAULT", "log_color", Kind::Bool, "false", "Has no effect."),
    Opt::new("DEFAULT", "log_options", Kind::Bool, "true", "Has no effect."),
    Opt::new("DEFAULT", "publish_errors", Kind::Bool, "false", "Has no effect."),
    Opt::unset("DEFAULT", "instance_format", Kind::Str, "Has no effect."),
    Opt::unset("DEFAULT", "instance_uuid_format", Kind::Str, "Has no effect."),
    Opt::new("DEFAULT", "rate_limit_interval", INT, "0", "Has no effect."),
    Opt::new("DEFAULT", "rate_limit_burst", INT, "0", "Has no effect."),
    Opt::new("DEFAULT", "rate_limit_except_level", EXCEPT_LEVEL, "CRITICAL", "Has no effect."),
    Opt::new("DEFAULT", "syslog_log_facility", Kind::Str, "LOG_USER", "Has no effect."),
    Opt::new(
        "DEFAULT",
        "graceful_shutdown_timeout",
        INT,
        "60",
        "Has no effect: see [ratekitty] shutdown_grace.",
    ),
    Opt::unset("DEFAULT", "host", Kind::Str, "Name of this machine for the message bus."),
    Opt::new("DEFAULT", "api_paste_config", Kind::Str, "api_paste.ini", "Has no effect."),
    Opt::unset("DEFAULT", "transport_url", Kind::Str, "Message bus; not needed.").secret(),
    Opt::new("DEFAULT", "control_exchange", Kind::Str, "cloudkitty", "Has no effect."),
    Opt::new("DEFAULT", "rpc_response_timeout", INT, "60", "Has no effect."),
    Opt::new("DEFAULT", "executor_thread_pool_size", INT, "64", "Has no effect.")
        .renamed(&[("DEFAULT", "rpc_thread_pool_size")]),
    Opt::new("DEFAULT", "rpc_ping_enabled", Kind::Bool, "false", "Has no effect."),
];

/// Options that ask for something that is not done, and the texts that do not ask.
pub(in crate::config) const NOT_SUPPORTED: [(&str, &str); 4] = [
    ("log_config_append", ""),
    ("use_syslog", "False"),
    ("use_journal", "False"),
    ("log_rotation_type", "none"),
];

/// How the API knows its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthStrategy {
    /// Everyone is admin.
    Noauth,
    /// By Keystone token.
    Keystone,
}

/// `[DEFAULT]`.
#[derive(Debug, Clone)]
pub struct Default {
    /// Whether debug messages are logged.
    pub debug: bool,
    /// File to log to, joined with the folder.
    pub log_file: Option<PathBuf>,
    /// Folder in which the log file is `<program>.log`, when only it is given.
    pub log_dir: Option<PathBuf>,
    /// Whether log lines are JSON.
    pub use_json: bool,
    /// Whether messages go to standard error.
    pub use_stderr: bool,
    /// Date of a log line, as strftime has it.
    pub log_date_format: String,
    /// How the API knows its users.
    pub auth_strategy: AuthStrategy,
}

impl Default {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let group = "DEFAULT";
        for opt in OPTIONS {
            reader.value(opt.group, opt.name)?;
        }
        let log_dir = reader.filled(group, "log_dir")?.map(PathBuf::from);
        let log_file = reader.filled(group, "log_file")?.map(PathBuf::from);
        let log_date_format = reader.text(group, "log_date_format")?.unwrap_or_default();
        if !is_date_format(&log_date_format) {
            return Err(reader.refuse(group, "log_date_format", "a format of strftime"));
        }
        Ok(Self {
            debug: reader.flag(group, "debug")?,
            log_file: log_file.map(|file| match &log_dir {
                Some(dir) => dir.join(file),
                None => file,
            }),
            log_dir,
            use_json: reader.flag(group, "use_json")?,
            use_stderr: reader.flag(group, "use_stderr")?,
            log_date_format,
            auth_strategy: match reader.text(group, "auth_strategy")?.as_deref() {
                Some("noauth") => AuthStrategy::Noauth,
                _ => AuthStrategy::Keystone,
            },
        })
    }
}
