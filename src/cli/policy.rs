//! `ratekitty policy list`, `policy check` and `policy sample`: the rules that hold,
//! what they say to somebody, and the defaults as a file.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{answer, search_path, wiring};
use crate::{
    api::Access,
    config::Config,
    policy::{
        Credentials, Decision, Policy, Source, Target,
        defaults::{DEFAULTS, DefaultRule},
        store::{LoadError, Place},
    },
};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the rules that hold, and where each comes from
    List,
    /// Print a policy file with every rule and its default, as comments
    Sample,
    /// Tell what one rule, or all of them, say to the owner of a token
    Check {
        /// Rule, such as summary:get_summary; all of them when left out
        rule: Option<String>,
        /// File with a token of Keystone's, `-` for standard input; the variable
        /// OS_TOKEN when left out. A token as an argument would be seen by others.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// File with credentials in JSON (roles, project_id, ...), in place of a token
        #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
        credentials: Option<PathBuf>,
        /// An attribute of what is to be done something to, such as project_id=ID
        #[arg(long = "target", value_name = "NAME=VALUE")]
        targets: Vec<String>,
    },
}

/// Runs the command. Exit code of `check` with a rule: 0 if it is allowed, 1 if not.
pub(super) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Sample => print_sample(),
        Command::List => {
            let policy = load(config)?;
            for (name, rule) in policy.rules() {
                let source = match &rule.source {
                    Source::Default => "default".to_owned(),
                    Source::BothDefaults => "default, old and new".to_owned(),
                    Source::OldName(file) => format!("{file}, under its old name"),
                    Source::File(file) => file.clone(),
                };
                answer(format_args!("{}: {}  # {source}", quoted(name), quoted(&rule.text)))?;
            }
            for warning in policy.warnings() {
                answer(format_args!("# note: {warning}"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { rule, token_file, credentials, targets } => {
            let policy = load(config)?;
            let credentials = match credentials {
                Some(file) => read_credentials(&file)?,
                None => of_token(config, token_file.as_deref()).await?,
            };
            let target = parse_target(&targets, &credentials)?;
            match rule {
                Some(rule) => {
                    let decision = policy.decide(&rule, &target, &credentials);
                    answer(told(&decision))?;
                    let is_allowed = decision == Decision::Allowed;
                    Ok(if is_allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
                }
                None => {
                    for (name, rule) in policy.rules() {
                        if rule.default.is_some_and(|default| !default.operations.is_empty()) {
                            let decision = policy.decide(name, &target, &credentials);
                            answer(format_args!("{name}: {}", told(&decision)))?;
                        }
                    }
                    Ok(ExitCode::SUCCESS)
                }
            }
        }
    }
}

/// The policy as the configuration has it.
pub(super) fn load(config: &Config) -> Result<Policy, LoadError> {
    Place::new(&config.oslo_policy, &config.files, &search_path()).load()
}

impl Arguments {
    /// Whether the sample is wanted, whatever the configuration says.
    pub(super) fn is_sample(&self) -> bool {
        matches!(self.command, Command::Sample)
    }
}

/// Prints the sample.
pub(super) fn print_sample() -> anyhow::Result<ExitCode> {
    answer(sample().trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// The file. It changes nothing until a line of it is no comment any more.
fn sample() -> String {
    let mut text =
        "# Who may do what: the rules of CloudKitty 25.0.0 and their defaults. A rule that is\n\
         # written without the `#` before it takes the place of its default. `ratekitty policy\n\
         # list` prints what holds then, and `ratekitty policy check` whom it lets in.\n"
            .to_owned();
    DEFAULTS.iter().for_each(|rule| text.push_str(&shown(rule)));
    text
}

fn shown(rule: &DefaultRule) -> String {
    let mut text = format!("\n# {}\n", rule.description);
    for (method, path) in rule.operations {
        text.push_str(&format!("# {method} {path}\n"));
    }
    if let Some(since) = rule.removed_since {
        text.push_str(&format!("# Marked for removal in {since}.\n"));
    }
    text + &format!("#{}: {}\n", quoted(rule.name), quoted(rule.check))
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn told(decision: &Decision) -> String {
    match decision {
        Decision::Allowed => "allowed".to_owned(),
        Decision::Denied => "denied".to_owned(),
        Decision::WrongScope { scope, wanted } => {
            format!("denied: the token is for a {scope}, and the rule for {}", wanted.join(", "))
        }
        Decision::Failed(problem) => format!("denied: the rule has no answer: {problem}"),
    }
}

fn read_credentials(file: &Path) -> anyhow::Result<Credentials> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read credentials `{}`", file.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("credentials `{}` are no JSON object", file.display()))
}

async fn of_token(config: &Config, file: Option<&Path>) -> anyhow::Result<Credentials> {
    let token = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read the token")?;
            text
        }
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the token from `{}`", path.display()))?,
        None => std::env::var("OS_TOKEN")
            .context("give a token by --token-file or OS_TOKEN, or --credentials")?,
    };
    let access = Access::new(config, &search_path(), &wiring::clock())?;
    Ok(access.credentials(token.trim()).await?)
}

/// What is given; by default the project and the user of the credentials.
fn parse_target(given: &[String], credentials: &Credentials) -> anyhow::Result<Target> {
    let own = ["project_id", "user_id"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), credentials.get(name)?.clone())));
    let mut target: Target = own.collect();
    for pair in given {
        let (name, value) =
            pair.split_once('=').with_context(|| format!("--target {pair}: write NAME=VALUE"))?;
        target.insert(name.to_owned(), Value::String(value.to_owned()));
    }
    Ok(target)
}
