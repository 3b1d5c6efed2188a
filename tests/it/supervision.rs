//! What systemd is told by the program, and when it hears no more.

use std::{
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ratekitty::fetcher::{FetchError, Fetcher};
use tokio_util::sync::CancellationToken;

use crate::support::TestApp;

/// Nobody listens at this Prometheus; cycles go on all the same.
const CONF: &str = "[DEFAULT]\nauth_strategy = noauth\n[api]\nhost_ip = 127.0.0.1\nport = 0\n\
    [storage]\nbackend = sql\n[ratekitty]\nhttp_retry_budget = 0\n[fetcher]\nbackend = prometheus\n\
    [fetcher_prometheus]\nmetric = m\nprometheus_url = http://127.0.0.1:1/api/v1\n\
    [collector_prometheus]\nprometheus_url = http://127.0.0.1:1/api/v1\n[collect]\ncollector = prometheus\n";

struct Started {
    socket: UnixDatagram,
    child: Child,
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Started {
    fn new(dir: &Path, command: &str, watchdog_for: impl Fn(&mut Command)) -> Self {
        let metrics = dir.join("metrics.yml");
        std::fs::write(&metrics, "metrics:\n  m: {unit: u}\n").unwrap();
        let conf = dir.join("cloudkitty.conf");
        std::fs::write(&conf, format!("{CONF}metrics_conf = {}\n", metrics.display())).unwrap();
        let address = dir.join(format!("notify-{command}"));
        let socket = UnixDatagram::bind(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_ratekitty"));
        program
            .arg("--config-file")
            .arg(&conf)
            .arg(command)
            .env("OS_RATEKITTY__STATE_PATH", dir)
            .env("NOTIFY_SOCKET", &address)
            .env("WATCHDOG_USEC", "100000")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        watchdog_for(&mut program);
        Self { socket, child: program.spawn().unwrap() }
    }

    fn heard(&self) -> String {
        let mut bytes = [0; 64];
        let length = self.socket.recv(&mut bytes).expect("nothing is told");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    fn terminate(&mut self) -> Option<i32> {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
        self.child.wait().unwrap().code()
    }
}

#[test]
fn systemd_is_told_of_start_life_and_stop() {
    for command in ["processor", "api", "all"] {
        let dir = tempfile::tempdir().unwrap();
        let mut started = Started::new(dir.path(), command, |_| {});
        assert_eq!(started.heard(), "READY=1", "{command}");
        for _ in 0..5 {
            assert_eq!(started.heard(), "WATCHDOG=1", "{command}");
        }
        assert_eq!(started.terminate(), Some(0), "{command}");
        let begun = Instant::now();
        while started.heard() != "STOPPING=1" {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{command} does not tell of the stop"
            );
        }
    }
}

#[test]
fn a_watchdog_of_another_process_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let mut started = Started::new(dir.path(), "api", |program| {
        program.env("WATCHDOG_PID", "1");
    });
    assert_eq!(started.heard(), "READY=1");
    assert_eq!(started.terminate(), Some(0));
    assert_eq!(started.heard(), "STOPPING=1");
}

/// One who asks for no more than a start is told of none that failed.
#[test]
fn a_start_that_fails_is_not_told_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut started = Started::new(dir.path(), "all", |program| {
        program.args(["--port", &port]);
    });
    assert_eq!(started.child.wait().unwrap().code(), Some(1));
    started.socket.set_nonblocking(true).unwrap();
    assert!(started.socket.recv(&mut [0; 64]).is_err());
}

/// A fetcher that answers never, and is asked all the same.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl Fetcher for Silent {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    async fn scopes(&self) -> Result<Vec<String>, FetchError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_cycle_that_does_not_go_on_is_seen() {
    let url = "prometheus_url = http://127.0.0.1:1/api/v1";
    let conf = format!("[fetcher_prometheus]\nmetric = m\n{url}\n[collector_prometheus]\n{url}\n");
    let app = TestApp::new("2026-11-01T05:00:00Z", &conf, "metrics: {m: {unit: u}}\n").await;
    let mut pipeline = app.try_pipeline().unwrap();
    pipeline.fetcher = Arc::new(Silent);
    let pipeline = Arc::new(pipeline);
    let overdue = || pipeline.pulses().iter().map(|pulse| pulse.is_overdue()).collect::<Vec<_>>();
    assert_eq!(overdue(), [false; 3]);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (pipeline, stop) = (pipeline.clone(), stop.clone());
        async move { pipeline.run(&stop).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(overdue(), [false; 3]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(20 * 60)).await;
    assert!(!overdue()[0], "a slow one is left alone");
    tokio::time::advance(Duration::from_secs(60 * 60)).await;
    assert!(overdue()[0]);
    tokio::time::resume();
    stop.cancel();
    running.await.unwrap();
}
