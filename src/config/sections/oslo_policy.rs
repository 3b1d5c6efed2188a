//! `[oslo_policy]`: who may do what over the API.
//! <https://docs.openstack.org/oslo.policy/latest/configuration/index.html>

use std::path::PathBuf;

use crate::config::{
    ConfigError, Reader,
    opts::{Kind, Opt, SECONDS},
};

/// The section.
const GROUP: &str = "oslo_policy";

const CONTENT_TYPE: Kind = Kind::Choice {
    words: &["application/x-www-form-urlencoded", "application/json"],
    ignore_case: false,
};

/// Options of the section.
pub const OPTIONS: &[Opt] = &[
    Opt::new(
        GROUP,
        "enforce_scope",
        Kind::Bool,
        "true",
        "Whether tokens of another scope than a rule names are refused.",
    ),
    Opt::new(
        GROUP,
        "enforce_new_defaults",
        Kind::Bool,
        "true",
        "Whether deprecated defaults of rules count no more.",
    ),
    Opt::new(
        GROUP,
        "policy_file",
        Kind::Str,
        "policy.yaml",
        "File with rules that differ from the defaults; looked for beside the configuration.",
    ),
    Opt::new(
        GROUP,
        "policy_default_rule",
        Kind::Str,
        "default",
        "Rule in place of one that is not there.",
    ),
    Opt::new(
        GROUP,
        "policy_dirs",
        Kind::Multi,
        "policy.d",
        "Folders with more such files, of which later ones win.",
    ),
    Opt::new(
        GROUP,
        "remote_content_type",
        CONTENT_TYPE,
        "application/x-www-form-urlencoded",
        "Has no effect: rules are not asked for elsewhere.",
    ),
    Opt::new(GROUP, "remote_ssl_verify_server_crt", Kind::Bool, "false", "Has no effect."),
    Opt::unset(GROUP, "remote_ssl_ca_crt_file", Kind::Str, "Has no effect."),
    Opt::unset(GROUP, "remote_ssl_client_crt_file", Kind::Str, "Has no effect."),
    Opt::unset(GROUP, "remote_ssl_client_key_file", Kind::Str, "Has no effect."),
    Opt::new(GROUP, "remote_timeout", SECONDS, "60", "Has no effect."),
];

/// `[oslo_policy]`.
#[derive(Debug, Clone)]
pub struct OsloPolicy {
    /// Whether tokens of another scope than a rule names are refused.
    pub enforce_scope: bool,
    /// Whether deprecated defaults count no more.
    pub enforce_new_defaults: bool,
    /// File with rules.
    pub policy_file: PathBuf,
    /// Whether the configuration names the file, which must then be there.
    pub policy_file_is_set: bool,
    /// Rule in place of one that is not there.
    pub default_rule: String,
    /// Folders with more files.
    pub policy_dirs: Vec<PathBuf>,
}

impl OsloPolicy {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        for opt in OPTIONS.iter().filter(|opt| opt.kind != Kind::Multi) {
            reader.value(opt.group, opt.name)?;
        }
        let file = reader.filled(GROUP, "policy_file")?;
        Ok(Self {
            enforce_scope: reader.flag(GROUP, "enforce_scope")?,
            enforce_new_defaults: reader.flag(GROUP, "enforce_new_defaults")?,
            policy_file: file.unwrap_or_else(|| "policy.yaml".to_owned()).into(),
            policy_file_is_set: reader.is_set(GROUP, "policy_file")?,
            default_rule: reader.text(GROUP, "policy_default_rule")?.unwrap_or_default(),
            policy_dirs: reader
                .multi(GROUP, "policy_dirs")?
                .into_iter()
                .map(PathBuf::from)
                .collect(),
        })
    }
}
