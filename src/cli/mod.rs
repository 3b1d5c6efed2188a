//! The command line: `ratekitty COMMAND`, or the reference's program names.
//!
//! Called as `cloudkitty-processor`, `cloudkitty-api`, `cloudkitty-dbsync`,
//! `cloudkitty-storage-init` or `cloudkitty-status`, the program is that
//! command. One module per command; [`wiring`] puts their parts together.

mod api;
mod check;
mod completions;
mod dbsync;
mod man;
mod policy;
mod processor;
mod rules;
mod sample_config;
mod status;
mod summary;
mod wiring;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::{Level, warn};

use crate::{
    config::{Config, Place, Sources, default_search_path, find_places},
    rating::pyscripts::sandbox,
    telemetry::{self, Target},
};

/// Rates the use of a cloud, in place of OpenStack CloudKitty.
#[derive(Debug, Parser)]
#[command(
    name = "ratekitty",
    version,
    propagate_version = true,
    infer_long_args = true,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command, as oslo has them.
#[derive(Debug, Args)]
struct Common {
    /// Configuration file; may be repeated, later ones win
    #[arg(long, value_name = "PATH", global = true, action = ArgAction::Append)]
    config_file: Vec<PathBuf>,
    /// Folder of *.conf files; may be repeated
    #[arg(long, value_name = "DIR", global = true, action = ArgAction::Append)]
    config_dir: Vec<PathBuf>,
    /// Log debug messages
    #[arg(long, short, global = true, overrides_with = "nodebug")]
    debug: bool,
    /// Do not log debug messages
    #[arg(long, global = true, overrides_with = "debug")]
    nodebug: bool,
    /// File to log to
    #[arg(long, visible_alias = "logfile", value_name = "PATH", global = true)]
    log_file: Option<String>,
    /// Folder of the log file
    #[arg(long, visible_alias = "logdir", value_name = "DIR", global = true)]
    log_dir: Option<String>,
    /// Date of a log line, as strftime has it
    #[arg(long, value_name = "FORMAT", global = true)]
    log_date_format: Option<String>,
    /// Log JSON objects
    #[arg(long, global = true, overrides_with = "nouse_json")]
    use_json: bool,
    /// Do not log JSON objects
    #[arg(long, global = true, overrides_with = "use_json")]
    nouse_json: bool,
    // Taken, so that unit files of the reference start; told as not supported.
    #[arg(long, global = true, hide = true)]
    use_syslog: bool,
    #[arg(long, global = true, hide = true)]
    nouse_syslog: bool,
    #[arg(long, global = true, hide = true)]
    use_journal: bool,
    #[arg(long, global = true, hide = true)]
    nouse_journal: bool,
    #[arg(long, global = true, hide = true, alias = "log-config")]
    log_config_append: Option<String>,
    #[arg(long, global = true, hide = true)]
    syslog_log_facility: Option<String>,
}

impl Common {
    /// Options of `[DEFAULT]` that are given here, with their texts.
    fn given(&self) -> impl Iterator<Item = (&'static str, String)> {
        let flags = [
            ("debug", self.debug, self.nodebug),
            ("use_json", self.use_json, self.nouse_json),
            ("use_syslog", self.use_syslog, self.nouse_syslog),
            ("use_journal", self.use_journal, self.nouse_journal),
        ];
        let flags = flags.into_iter().filter(|(_, yes, no)| *yes || *no);
        let texts = [
            ("log_file", &self.log_file),
            ("log_dir", &self.log_dir),
            ("log_date_format", &self.log_date_format),
            ("log_config_append", &self.log_config_append),
            ("syslog_log_facility", &self.syslog_log_facility),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
        flags.map(|(name, yes, _)| (name, yes.to_string())).chain(texts)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find scopes, collect, rate and store, period by period
    Processor(processor::Arguments),
    /// Serve the REST API
    Api(api::Arguments),
    /// Processor and API in one process
    All(api::Arguments),
    /// Make or look at the tables of the state database
    Dbsync(dbsync::Arguments),
    /// Prepare the storage of dataframes
    StorageInit,
    /// Tell whether an upgrade can be done
    Status(status::Arguments),
    /// Check the configuration and reach every peer
    Check,
    /// Print the rules of who may do what, or ask them
    Policy(policy::Arguments),
    /// Export or import the price list
    Rules(rules::Arguments),
    /// Print a configuration file with every option and its meaning
    SampleConfig,
    /// Print a table of costs
    Summary(summary::Arguments),
    /// Print what a shell has to read to complete command lines
    #[command(hide = true)]
    Completions(completions::Arguments),
    /// Write a manual page for each command
    #[command(hide = true)]
    Man(man::Arguments),
    /// Become a worker of the pyscripts module: `processor` starts it
    #[command(hide = true)]
    PyscriptsWorker {
        /// CPython
        python: String,
        /// Most memory, in bytes
        memory: u64,
    },
}

impl Command {
    /// The reference's name of the program, by which default files are found.
    fn program(&self) -> &'static str {
        match self {
            Self::Processor(_)
            | Self::All(_)
            | Self::Check
            | Self::SampleConfig
            | Self::Completions(_)
            | Self::Man(_)
            | Self::PyscriptsWorker { .. } => "cloudkitty-processor",
            Self::Api(_) | Self::Summary(_) | Self::Policy(_) => "cloudkitty-api",
            Self::Dbsync(_) | Self::Rules(_) => "cloudkitty-dbsync",
            Self::StorageInit => "cloudkitty-storage-init",
            Self::Status(_) => "cloudkitty-status",
        }
    }

    /// Whether standard output is the command's answer, so that logs go elsewhere.
    fn answers(&self) -> bool {
        match self {
            Self::Api(_) | Self::All(_) => false,
            Self::Processor(arguments) => arguments.has_bar(),
            Self::Dbsync(_)
            | Self::StorageInit
            | Self::Status(_)
            | Self::Check
            | Self::Policy(_)
            | Self::Rules(_)
            | Self::SampleConfig
            | Self::Summary(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::PyscriptsWorker { .. } => true,
        }
    }
}

/// Runs the program with its arguments, the first of which is its name.
///
/// # Errors
/// What ends it early: a bad configuration, a peer that is not there.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let arguments = by_program_name(arguments.into_iter().collect());
    let matches = Cli::command().try_get_matches_from(arguments);
    let parsed = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            error.print()?;
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    // A worker takes nothing of the configuration, and rights are given up while
    // there is but one thread.
    if let Command::PyscriptsWorker { python, memory } = &cli.command {
        let problem = sandbox::become_worker(python, *memory, |what| {
            let _ = writeln!(io::stderr(), "A worker for Python scripts runs without {what}");
        });
        anyhow::bail!("no worker for Python scripts: {problem}");
    }
    // They tell of the program, not of what it is configured to.
    match &cli.command {
        Command::SampleConfig => return sample_config::run(),
        Command::Completions(arguments) => return completions::run(&Cli::command(), arguments),
        Command::Policy(arguments) if arguments.is_sample() => return policy::print_sample(),
        Command::Man(arguments) => return man::run(&Cli::command(), arguments),
        _ => {}
    }
    let config = load(&cli, &places(&matches))?;
    start_log(&cli, &config)?;
    // `check` has them in its answer.
    if !matches!(cli.command, Command::Check) {
        config.warnings.iter().for_each(|warning| warn!("{warning}"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Processor(arguments) => processor::run(&config, arguments).await,
            Command::Api(arguments) => api::run(&config, arguments).await,
            Command::All(arguments) => api::run_with_processor(&config, arguments).await,
            Command::Dbsync(arguments) => dbsync::run(&config, arguments).await,
            Command::StorageInit => dbsync::storage_init(&config).await,
            Command::Status(arguments) => status::run(&config, &arguments).await,
            Command::Check => check::run(&config).await,
            Command::Policy(arguments) => policy::run(&config, arguments).await,
            Command::Rules(arguments) => rules::run(&config, arguments).await,
            Command::Summary(arguments) => summary::run(&config, arguments).await,
            Command::SampleConfig
            | Command::Completions(_)
            | Command::Man(_)
            | Command::PyscriptsWorker { .. } => Ok(ExitCode::FAILURE),
        }
    })
}

/// Makes `cloudkitty-processor ARGS` of `ratekitty processor ARGS`.
fn by_program_name(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let program = arguments.first().map(Path::new).and_then(Path::file_name);
    let command = program.and_then(|name| name.to_str()).and_then(|name| {
        let name = name.strip_suffix(".py").unwrap_or(name);
        name.strip_prefix("cloudkitty-").or_else(|| name.strip_prefix("ratekitty-"))
    });
    let known = Cli::command();
    if let Some(command) = command.filter(|command| known.find_subcommand(command).is_some()) {
        let command = OsString::from(command);
        arguments.insert(1, command);
    }
    arguments
}

/// Files and folders in the order in which they were given.
fn places(matches: &ArgMatches) -> Vec<Place> {
    // Global options are found with the innermost command.
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let given = |id: &str| {
        let indices = matches.indices_of(id).into_iter().flatten();
        indices.zip(matches.get_many::<PathBuf>(id).into_iter().flatten().cloned())
    };
    let mut places: Vec<(usize, Place)> =
        given("config_file").map(|(index, path)| (index, Place::File(path))).collect();
    places.extend(given("config_dir").map(|(index, path)| (index, Place::Dir(path))));
    places.sort_by_key(|(index, _)| *index);
    places.into_iter().map(|(_, place)| place).collect()
}

/// Folders in which files of the configuration are looked for.
fn search_path() -> Vec<PathBuf> {
    default_search_path(std::env::var_os("HOME").map(PathBuf::from))
}

fn load(cli: &Cli, given: &[Place]) -> anyhow::Result<Config> {
    let places = find_places(cli.command.program(), &search_path(), given);
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut sources = Sources::read(&places)?.with_environment(variables);
    for (name, text) in cli.common.given() {
        sources.set_argument("DEFAULT", name, text);
    }
    Ok(Config::from_sources(&sources)?)
}

fn start_log(cli: &Cli, config: &Config) -> anyhow::Result<()> {
    let section = &config.default;
    let target = match (&section.log_file, &section.log_dir) {
        (Some(file), _) => Target::File(file.clone()),
        (None, Some(dir)) => Target::File(dir.join(format!("{}.log", cli.command.program()))),
        (None, None) if cli.command.answers() => Target::Stderr,
        (None, None) => Target::Stdout,
    };
    // Beside an answer only what is wrong is worth a line.
    let level = if target == Target::Stderr { Level::WARN } else { Level::INFO };
    telemetry::start(section, &target, level)?;
    Ok(())
}

/// An error and its causes, those left out that are told already.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Writes a line of the command's answer. A reader that has gone away is no error.
fn answer(line: impl std::fmt::Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> (Cli, Vec<Place>) {
        let arguments = by_program_name(arguments.iter().map(OsString::from).collect());
        let matches = Cli::command().try_get_matches_from(arguments).unwrap();
        (Cli::from_arg_matches(&matches).unwrap(), places(&matches))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn program_names_are_commands() {
        let (cli, places) = parse(&["/usr/bin/cloudkitty-processor", "--config-file", "a", "-d"]);
        assert!(matches!(cli.command, Command::Processor(_)));
        assert!(cli.common.debug);
        assert_eq!(places, [Place::File("a".into())]);
        let (cli, _) = parse(&["cloudkitty-storage-init"]);
        assert!(matches!(cli.command, Command::StorageInit));
        let (cli, _) = parse(&["cloudkitty-dbsync", "upgrade"]);
        assert!(matches!(cli.command, Command::Dbsync(_)));
        let (cli, _) = parse(&["ratekitty", "processor"]);
        assert!(matches!(cli.command, Command::Processor(_)));
    }

    #[test]
    fn files_and_folders_keep_their_order() {
        let line =
            ["ratekitty", "--config-file", "a", "--config-dir=b", "--config-file=c", "check"];
        let expected = [Place::File("a".into()), Place::Dir("b".into()), Place::File("c".into())];
        assert_eq!(parse(&line).1, expected);
        let line = ["ratekitty", "check", "--config-dir", "b", "--config-file", "a"];
        assert_eq!(parse(&line).1, [Place::Dir("b".into()), Place::File("a".into())]);
    }
}
