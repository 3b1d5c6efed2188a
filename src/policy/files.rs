//! Which policy files there are, and in which order they count.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why policy files cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A name of `policy_dirs` is a file.
    #[error("[oslo_policy] policy_dirs: {0} is not a directory")]
    NoDirectory(PathBuf),
    /// A directory cannot be read.
    #[error("[oslo_policy] policy_dirs: cannot read {path}: {source}")]
    Read {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The policy files that are there: that of `policy_file`, then those of each of `policy_dirs` in the
/// order of their names. Rules of later files replace those of earlier ones.
///
/// A relative name is looked for in `search`, where the first place that has it counts. What is
/// nowhere is left out, and so are hidden files and directories within the directories.
///
/// # Errors
/// A name of `policy_dirs` that is there and no directory that can be read.
pub fn find(
    policy_file: &str,
    policy_dirs: &[String],
    search: &[PathBuf],
) -> Result<Vec<PathBuf>, FindError> {
    let mut found: Vec<_> = place(policy_file, search).into_iter().collect();
    for dir in policy_dirs.iter().filter_map(|dir| place(dir, search)) {
        if !dir.is_dir() {
            return Err(FindError::NoDirectory(dir));
        }
        let mut files =
            files(&dir).map_err(|source| FindError::Read { path: dir.clone(), source })?;
        files.sort();
        found.append(&mut files);
    }
    Ok(found)
}

fn place(name: &str, search: &[PathBuf]) -> Option<PathBuf> {
    if Path::new(name).is_absolute() {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    search.iter().map(|dir| dir.join(name)).find(|path| !name.is_empty() && path.exists())
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && !entry.path().is_dir() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_come_in_the_order_in_which_they_count() {
        let root = std::env::temp_dir().join(format!("policy-files-{}", std::process::id()));
        let (first, second) = (root.join("first"), root.join("second"));
        for dir in [&first.join("policy.d/sub"), &second.join("policy.d"), &second.join("more")] {
            fs::create_dir_all(dir).unwrap();
        }
        for file in [
            "second/policy.yaml",
            "second/policy.d/unseen.yaml",
            "first/policy.d/b.yaml",
            "first/policy.d/A.yaml",
            "first/policy.d/10.json",
            "first/policy.d/.hidden",
            "first/policy.d/sub/deep.yaml",
            "second/more/z.yaml",
        ] {
            fs::write(root.join(file), "").unwrap();
        }
        let search = [first.clone(), second.clone()];
        let dirs = ["policy.d".to_owned(), "nowhere".to_owned(), "more".to_owned()];
        let expected = [
            "second/policy.yaml",
            "first/policy.d/10.json",
            "first/policy.d/A.yaml",
            "first/policy.d/b.yaml",
            "second/more/z.yaml",
        ];
        let expected = expected.map(|file| root.join(file));
        assert_eq!(find("policy.yaml", &dirs, &search).unwrap(), expected);
        assert_eq!(find("other.yaml", &dirs[2..], &search).unwrap(), expected[4..]);
        let absolute = expected[0].to_string_lossy();
        assert_eq!(find(&absolute, &[], &search).unwrap(), expected[..1]);
        let file = "policy.yaml".to_owned();
        assert!(matches!(find("x", &[file], &search), Err(FindError::NoDirectory(_))));
        fs::remove_dir_all(root).unwrap();
    }
}
