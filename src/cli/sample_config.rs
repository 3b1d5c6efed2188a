//! `ratekitty sample-config`: a `cloudkitty.conf` with every option in it, as a
//! comment, with its meaning and default.

use std::process::ExitCode;

use super::answer;
use crate::config::{
    all_options,
    opts::{Kind, Opt},
};

/// Widest line of a comment, in characters.
const WIDTH: usize = 88;

/// Runs the command.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    answer(sample().trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// The file. Sections and options are in the order of the alphabet.
pub fn sample() -> String {
    let mut options = all_options();
    options.sort_by_key(|opt| (opt.group != "DEFAULT", opt.group, opt.name));
    let mut text =
        "# Every option of ratekitty, with its default. Those that are not CloudKitty's are in\n\
         # [ratekitty], and named in docs/CONFIGURATION.md.\n"
            .to_owned();
    let mut group = "";
    for opt in &options {
        if opt.group != group {
            group = opt.group;
            text.push_str(&format!("\n[{group}]\n"));
        }
        text.push_str(&shown(opt));
    }
    text
}

fn shown(opt: &Opt) -> String {
    let mut text = "\n".to_owned();
    let secret = if opt.secret { " Is never shown." } else { "" };
    for line in wrapped(&format!("{} ({}){secret}", opt.help, allowed(opt))) {
        text.push_str(&format!("# {line}\n"));
    }
    let older: Vec<String> = opt
        .deprecated
        .iter()
        .map(|(group, name)| match *group {
            "" => (*name).to_owned(),
            group if group == opt.group => (*name).to_owned(),
            group => format!("[{group}] {name}"),
        })
        .collect();
    if !older.is_empty() {
        text.push_str(&format!("# Older name: {}\n", older.join(", ")));
    }
    match opt.default {
        // A value may begin with what would be a substitution.
        Some(default) => {
            for default in default.split('\n') {
                text.push_str(&format!("#{} = {default}\n", opt.name));
            }
        }
        None => text.push_str(&format!("#{} = <unset>\n", opt.name)),
    }
    text
}

fn allowed(opt: &Opt) -> String {
    match opt.kind {
        Kind::Multi => "any text; may be given several times".to_owned(),
        kind => kind.allowed().into_owned(),
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let is_full = lines.last().is_some_and(|line| {
            !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH
        });
        if is_full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Place, Sources};

    /// With all comments taken away but those of values, it is the defaults.
    #[test]
    fn the_sample_says_the_defaults() {
        let text: String = sample()
            .lines()
            .filter(|line| !line.ends_with("= <unset>"))
            .map(|line| match line.strip_prefix('#') {
                Some(option) if !option.starts_with(' ') => format!("{option}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sample.conf");
        std::fs::write(&file, text).unwrap();
        let said = Config::from_sources(&Sources::read(&[Place::File(file)]).unwrap()).unwrap();
        let defaults = Config::from_sources(&Sources::default()).unwrap();
        assert_eq!(said.warnings, Vec::<String>::new());
        let shown = |config: &Config| {
            let mut config = config.clone();
            // These tell where values come from, not what they are.
            (config.files, config.storage.backend_is_set) = (Vec::new(), false);
            (config.oslo_policy.policy_file_is_set, config.warnings) = (false, Vec::new());
            format!("{config:?}")
        };
        assert_eq!(shown(&said), shown(&defaults));
    }
}
