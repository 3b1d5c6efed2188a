//! `file:///folder`: a file for each lock, and a POSIX record lock on it.
//!
//! The files stay when locks are given back, as tooz leaves them: taking one
//! away could take it from under who waits for it. Such a lock is a process' own
//! and ends with any of its descriptors, so a file is opened only by who has the
//! claim to it.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use rustix::{
    fs::{FlockOperation, fcntl_lock},
    io::Errno,
};

use super::{Driver, Held, LockName, place::Place};

/// Locks in a folder.
pub(super) struct FileLocks {
    folder: PathBuf,
}

impl FileLocks {
    pub fn new(place: &Place) -> Result<Self, String> {
        place.allow(&[], &["timeout", "lock_timeout", "membership_timeout"])?;
        if place.path.is_empty() || place.host.is_some() {
            return Err("there is no folder: write file:///path/to/folder".to_owned());
        }
        Ok(Self { folder: place.path.clone().into() })
    }

    fn try_take(&self, name: &LockName) -> Result<Option<HeldFile>, String> {
        let told =
            |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        // tooz makes these beside its files; they are not lock names.
        for folder in [self.folder.clone(), self.folder.join("tmp"), self.folder.join("groups")] {
            fs::create_dir_all(&folder).map_err(|error| told(&folder, &error))?;
        }
        let path = self.folder.join(name.digest());
        // Not truncated: another program may have it open.
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(|error| told(&path, &error))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Ok(None),
            Err(error) => return Err(told(&path, &error)),
        }
        let mut held = HeldFile { path, file };
        // Between the two steps it may have been replaced.
        if held.is_in_place().is_err() { Ok(None) } else { Ok(Some(held)) }
    }
}

#[async_trait]
impl Driver for FileLocks {
    // Several paths may lead to one folder, which has to be there to be known.
    fn key(&self, _: &str, name: &LockName) -> String {
        let _ = fs::create_dir_all(&self.folder);
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        format!("file {}", folder.join(name.digest()).display())
    }

    async fn take(&self, name: &LockName) -> Result<Option<Box<dyn Held>>, String> {
        Ok(self.try_take(name)?.map(|held| Box::new(held) as _))
    }
}

struct HeldFile {
    path: PathBuf,
    file: File,
}

impl HeldFile {
    fn is_in_place(&mut self) -> Result<(), String> {
        let told = |error| format!("{}: {error}", self.path.display());
        let (ours, there) =
            (self.file.metadata().map_err(told)?, fs::metadata(&self.path).map_err(told)?);
        if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
            Ok(())
        } else {
            Err(format!("{} was replaced", self.path.display()))
        }
    }
}

#[async_trait]
impl Held for HeldFile {
    async fn check(&mut self) -> Result<(), String> {
        self.is_in_place()
    }

    async fn release(self: Box<Self>) -> Result<(), String> {
        fcntl_lock(&self.file, FlockOperation::Unlock).map_err(|error| error.to_string())
    }
}
