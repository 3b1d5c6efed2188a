//! `ratekitty man DIR`: a manual page for each command, under the reference's names
//! as well.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::{
    Man,
    roff::{Roff, bold, italic, roman},
};

/// The reference's programs, and the commands that they are.
const PROGRAMS: [(&str, &str); 5] = [
    ("cloudkitty-api", "api"),
    ("cloudkitty-dbsync", "dbsync"),
    ("cloudkitty-processor", "processor"),
    ("cloudkitty-status", "status"),
    ("cloudkitty-storage-init", "storage-init"),
];

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder to write to; made if it is not there
    dir: PathBuf,
}

/// Runs the command.
pub(super) fn run(command: &Command, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    let source = format!("ratekitty {}", command.get_version().unwrap_or_default());
    write_all(command.clone(), dir, &source)?;
    for (program, name) in PROGRAMS {
        let found = command.find_subcommand(name);
        let found = found.with_context(|| format!("there is no command `{name}`"))?;
        let common = command.get_arguments().filter(|argument| argument.is_global_set()).cloned();
        let version = env!("CARGO_PKG_VERSION");
        write_all(found.clone().name(program).version(version).args(common), dir, &source)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a command that nothing is above, and those below it.
fn write_all(command: Command, dir: &Path, source: &str) -> anyhow::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    // It gives the commands below their whole names and common options.
    command.build();
    let mut commands = vec![&command];
    while let Some(command) = commands.pop() {
        write(command, dir, source)?;
        commands.extend(command.get_subcommands().filter(|command| !command.is_hide_set()));
    }
    Ok(())
}

fn write(command: &Command, dir: &Path, source: &str) -> anyhow::Result<()> {
    let man = Man::new(command.clone());
    let path = dir.join(man.get_filename());
    // clap_mangen's title leaves out an empty date, so that its other words move up.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let title = format!(".TH {name} 1 \"\" \"{source}\" \"ratekitty Manual\"\n");
    let mut page = title.into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    common_sections().to_writer(&mut page)?;
    std::fs::write(&path, page).with_context(|| format!("cannot write `{}`", path.display()))
}

/// What is the same of all commands.
fn common_sections() -> Roff {
    let mut roff = Roff::new();
    let items = |roff: &mut Roff, heading, items: &[(&str, &str)]| {
        roff.control("SH", [heading]);
        for (item, text) in items {
            roff.control("TP", []).text([bold(*item)]).text([roman(*text)]);
        }
    };
    items(
        &mut roff,
        "FILES",
        &[
            (
                "/etc/cloudkitty/cloudkitty.conf",
                "The configuration, if no other is named. `ratekitty sample-config` prints one with every option and its meaning.",
            ),
            (
                "/etc/cloudkitty/metrics.yml",
                "What is collected, unless [collect] metrics_conf names another file.",
            ),
            ("/etc/cloudkitty/policy.yaml", "Who may do what, where that is not the default."),
            ("/var/lib/cloudkitty", "The state database and the locks, unless they are elsewhere."),
        ],
    );
    items(
        &mut roff,
        "ENVIRONMENT",
        &[(
            "OS_SECTION__OPTION",
            "The value of an option, in place of what files say, such as OS_COLLECT__PERIOD.",
        )],
    );
    items(
        &mut roff,
        "EXIT STATUS",
        &[
            ("0", "It is done."),
            (
                "1",
                "It is not: a bad configuration, a peer that is not there, or an answer that is no.",
            ),
            (
                "2",
                "The arguments are not understood, or `status upgrade check` found something to do.",
            ),
        ],
    );
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("ratekitty"), roman("(1)")]);
    roff.control("PP", []);
    roff.text([
        roman("Operators' documents are in "),
        italic("/usr/share/doc/ratekitty"),
        roman(" or in the source, in "),
        italic("docs"),
        roman("."),
    ]);
    roff
}
