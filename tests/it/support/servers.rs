//! Servers of a test's own, which it stops, freezes and starts again.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::net::TcpStream;

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A server; it ends with the test.
pub struct Server {
    port: u16,
    program: PathBuf,
    arguments: Box<dyn Fn(&mut Command) + Send + Sync>,
    child: Option<Child>,
}

impl Server {
    /// One that listens on `port` when it is run with `arguments`.
    pub fn new(port: u16, arguments: impl Fn(&mut Command) + Send + Sync + 'static) -> Self {
        Self { port, program: PathBuf::new(), arguments: Box::new(arguments), child: None }
    }

    pub fn program(&mut self, program: PathBuf) {
        self.program = program;
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command.env("LD_LIBRARY_PATH", super::set_up("RATEKITTY_SERVER_LIBS"));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        (self.arguments)(&mut command);
        self.child = Some(command.spawn().unwrap());
        for _ in 0..300 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} does not start", self.program.display());
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// It neither answers nor ends.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Ends it at once.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
