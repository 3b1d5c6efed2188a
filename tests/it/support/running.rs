//! Programs that run in the background.

use std::{
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// A program that runs; it ends with the test.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().unwrap() }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&mut self, name: &str) {
        if self.ended().is_none() {
            let id = self.child.id().to_string();
            assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
        }
    }

    /// Lets its files grow no further than to so many bytes, as on a disk that is
    /// full; `None` lets them grow again.
    pub fn limit_files(&mut self, size: Option<u64>) {
        if self.ended().is_none() {
            let own = getrlimit(Resource::Fsize);
            let limit = Rlimit { current: size.or(own.current), maximum: own.maximum };
            // It may end at this moment.
            let _ = prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit);
        }
    }

    /// Ends it at once; whether it still ran.
    pub fn kill(&mut self) -> bool {
        if self.ended().is_some() {
            return false;
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        true
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.wait().await
    }

    /// Waits until it ends, at most two minutes.
    pub async fn wait(&mut self) -> ExitStatus {
        for _ in 0..6_000 {
            if let Some(status) = self.ended() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("process {} does not end", self.child.id());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
