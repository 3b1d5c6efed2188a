//! `ratekitty completions SHELL`: what a shell has to read to complete command lines.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::answer;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Shell that is to read it
    shell: Shell,
}

/// Runs the command.
pub(super) fn run(command: &Command, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut shown(command), "ratekitty", &mut script);
    answer(String::from_utf8(script)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// The command without what is hidden, which clap would complete, too.
fn shown(command: &Command) -> Command {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new("ratekitty")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .disable_help_subcommand(true)
        .args(arguments.cloned())
        .subcommands(commands.cloned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn what_is_hidden_is_not_completed() {
        let whole = Cli::command();
        shown(&whole).debug_assert();
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut shown(&whole), "ratekitty", &mut script);
            let script = String::from_utf8(script).unwrap();
            for there in ["storage-init", "take-over", "config-dir", "dry-run"] {
                assert!(script.contains(there), "{shell}: {there}");
            }
            for hidden in ["pyscripts-worker", "completions", "use-syslog"] {
                assert!(!script.contains(hidden), "{shell}: {hidden}");
            }
        }
    }
}
