//! `ratekitty dbsync` and `ratekitty storage-init`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{answer, wiring};
use crate::{
    config::Config,
    state::{
        Database,
        schema::{self, REVISIONS, Upgrade},
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
    /// Make the tables that are not there, of all modules together
    Upgrade {
        /// Taken as the reference has it; the newest revision is the only one
        #[arg(long, value_parser = ["head", "base"])]
        revision: Option<String>,
        /// Taken as the reference has it
        #[arg(long, value_parser = ["cloudkitty", "hashmap", "pyscripts"])]
        module: Option<String>,
    },
    /// Print the revisions of the tables
    Version,
}

/// Runs `dbsync`.
pub(super) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Upgrade { revision, .. } if revision.as_deref() == Some("base") => {
            anyhow::bail!("tables cannot be taken back to revision base; drop the database instead")
        }
        Command::Upgrade { .. } => upgrade(&Database::connect(&config.database).await?).await?,
        Command::Version => {
            let database = Database::connect_existing(&config.database).await?;
            schema::check(&database).await?;
            for (table, revision) in REVISIONS {
                answer(format_args!("{table}: {revision}"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
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
