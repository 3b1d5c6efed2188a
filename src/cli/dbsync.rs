//! `ratekitty dbsync` and `ratekitty storage-init`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{answer, wiring};
use crate::{
    config::Config,
    state::{
        Database, StateError, periods,
        schema::{self, MODULES, Module, Upgrade},
        scopes::{self, ScopeChange, ScopeFilter},
    },
    time::{Clock, RealClock},
};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the tables that are not there, of all modules together
    Upgrade {
        /// Revision to lead to: head; the revision that this program knows is the only one
        #[arg(long)]
        revision: Option<String>,
        /// Module whose revision is meant: cloudkitty, hashmap or pyscripts
        #[arg(long, value_parser = module_parser())]
        module: Option<Module>,
    },
    /// Note a revision without looking at the tables
    Stamp {
        /// head, base, or the revision that this program knows
        #[arg(long)]
        revision: String,
        /// Module: cloudkitty, hashmap or pyscripts
        #[arg(long, value_parser = module_parser())]
        module: Module,
    },
    /// Print the revisions of the tables
    Version {
        /// Module: cloudkitty, hashmap or pyscripts; all if it is left out
        #[arg(long, value_parser = module_parser())]
        module: Option<Module>,
    },
    /// Refused: new revisions of the reference's tables are not made here
    Revision {
        /// Taken as the reference has it
        #[arg(long, short)]
        message: Option<String>,
        /// Taken as the reference has it
        #[arg(long)]
        autogenerate: bool,
        /// Taken as the reference has it
        #[arg(long)]
        module: Option<String>,
    },
    /// Take [collect] period as the length of the periods to come
    ///
    /// Every scope goes on where its last period ended. All processors must be
    /// stopped, and must have the new period when they start again.
    SetPeriod,
    /// Let the collector of the configuration go on in place of another one
    ///
    /// Every scope of that collector becomes the configured fetcher's and collector's,
    /// with what is rated of it. All processors must be stopped.
    TakeOver {
        /// Collector until now
        #[arg(long, value_name = "COLLECTOR")]
        from: String,
    },
}

fn module_parser() -> impl clap::builder::TypedValueParser<Value = Module> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(MODULES.map(|module| module.name)).try_map(|name| {
        let module = MODULES.into_iter().find(|module| module.name == name);
        module.ok_or("not a module")
    })
}

/// The revision that a word means; `None` is base.
fn known_revision(module: &Module, word: &str) -> anyhow::Result<Option<&'static str>> {
    match word {
        "base" => Ok(None),
        "head" | "heads" => Ok(Some(module.revision)),
        word if word == module.revision => Ok(Some(module.revision)),
        word => anyhow::bail!(
            "revision {word} of module {} is not known; this program knows {} (head) alone",
            module.name,
            module.revision
        ),
    }
}

/// Runs `dbsync`.
pub(super) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Upgrade { revision, module } => {
            let revision = revision.as_deref().unwrap_or("head");
            let target = match module {
                Some(module) => known_revision(&module, revision)?,
                None if matches!(revision, "head" | "heads") => Some("head"),
                None if revision == "base" => None,
                None => anyhow::bail!(
                    "revision {revision} cannot be of several modules: name one with --module"
                ),
            };
            if target.is_none() {
                anyhow::bail!(
                    "tables cannot be taken back to revision base; drop the database instead"
                );
            }
            upgrade(&Database::connect(&config.database).await?).await?;
        }
        Command::Stamp { revision, module } => {
            let revision = known_revision(&module, &revision)?;
            let database = Database::connect_existing(&config.database).await?;
            let transaction = database.begin().await?;
            schema::stamp(&transaction, &module, revision).await?;
            transaction.commit().await?;
            let noted = revision.unwrap_or("base");
            answer(format_args!("Module {} is stamped {noted}.", module.name))?;
        }
        Command::Version { module } => {
            let database = Database::connect_existing(&config.database).await?;
            let modules = MODULES.into_iter().filter(|one| module.is_none_or(|only| only == *one));
            for one in modules {
                let found = schema::revision(database.connection(), &one).await?;
                let found = match found {
                    Some(found) if found == one.revision => format!("{found} (head)"),
                    found => found.unwrap_or_default(),
                };
                match module {
                    Some(_) => answer(found)?,
                    None => answer(format_args!("{}: {found}", one.name))?,
                }
            }
        }
        Command::Revision { .. } => anyhow::bail!(
            "new revisions of the tables are made by CloudKitty's developers with its own cloudkitty-dbsync"
        ),
        Command::SetPeriod => set_period(config).await?,
        Command::TakeOver { from } => take_over(config, &from).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn set_period(config: &Config) -> anyhow::Result<()> {
    let database = wiring::database(config).await?;
    let keys = wiring::scope_keys(config);
    let (before, scopes) = periods::set(&database, &keys, config.collect.period).await?;
    let before = before.map_or("no length".to_owned(), |seconds| format!("{seconds} s"));
    answer(format_args!(
        "Periods of fetcher {}, collector {} and scope key {} had {before} and will have {} s; {scopes} scopes were moved to go on where they ended.",
        keys.fetcher, keys.collector, keys.scope_key, config.collect.period
    ))
}

async fn take_over(config: &Config, from: &str) -> anyhow::Result<()> {
    let database = wiring::database(config).await?;
    let keys = wiring::scope_keys(config);
    let (mut taken, mut left) = (0, 0);
    let filter = ScopeFilter { collectors: vec![from.to_owned()], ..ScopeFilter::default() };
    for scope in scopes::list(&database, &filter, 0, u64::MAX).await? {
        if scope.has(&keys) {
            continue;
        }
        let known = scopes::keys_of(&scope);
        if let Some(known) = known
            && let Some(seconds) = periods::known(&database, &known).await?
            && seconds != i64::from(config.collect.period)
        {
            anyhow::bail!(
                "periods of collector {from} have {seconds} s, and [collect] period is {} s: set it to \
                 {seconds}, take over, and then change it as docs/databases-and-locks.md says",
                config.collect.period
            );
        }
        let change = ScopeChange {
            fetcher: Some(keys.fetcher.clone()),
            collector: Some(keys.collector.clone()),
            ..ScopeChange::default()
        };
        match scopes::change(&database, scope.id, &change, RealClock.now()).await {
            Ok(_) => taken += 1,
            Err(StateError::Moved(name)) => {
                left += 1;
                answer(format_args!(
                    "Scope {name} is there with the new keys already, and is left."
                ))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    answer(format_args!(
        "{taken} scopes of collector {from} are now of fetcher {}, collector {}; {left} were left.",
        keys.fetcher, keys.collector
    ))
}

/// Runs `storage-init`. Dataframes of the `sql` backend live in the state
/// database, so its tables are all there is to prepare.
pub(super) async fn storage_init(config: &Config) -> anyhow::Result<ExitCode> {
    let database = Database::connect(&config.database).await?;
    crate::storage::build(config, &database, &wiring::clock())?;
    upgrade(&database).await?;
    Ok(ExitCode::SUCCESS)
}

async fn upgrade(database: &Database) -> anyhow::Result<()> {
    answer(match schema::upgrade(database).await? {
        Upgrade::Created => "The tables of the state database were made.",
        Upgrade::UpToDate => "The tables of the state database are up to date.",
    })
}
