//! `ratekitty rules export|import`: the price list as a file.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{answer, wiring};
use crate::{
    config::Config,
    rating::pricelist::PriceList,
    time::{Clock, RealClock, local_naive},
};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the price list as YAML
    Export {
        /// File to write; standard output when left out
        file: Option<PathBuf>,
    },
    /// Make the database say what a file says, and print what changes
    Import {
        /// File to read
        file: PathBuf,
        /// Only print what would change
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs the command.
pub(super) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = wiring::database(config).await?;
    match arguments.command {
        Command::Export { file } => {
            let yaml = PriceList::export(&database).await?.to_yaml()?;
            match file {
                Some(path) => std::fs::write(&path, yaml)
                    .with_context(|| format!("cannot write `{}`", path.display()))?,
                None => answer(yaml.trim_end())?,
            }
        }
        Command::Import { file, dry_run } => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read price list `{}`", file.display()))?;
            let list = PriceList::parse(&text)
                .with_context(|| format!("price list `{}` is refused", file.display()))?;
            let changes = list.import(&database, local_naive(RealClock.now()), dry_run).await?;
            for change in &changes {
                answer(change)?;
            }
            let note = if dry_run { " (nothing was written)" } else { "" };
            answer(format_args!("{} changes{note}", changes.len()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
