//! A real Prometheus, filled with samples of the past.

use std::{
    io::Write,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use ratekitty::http::{ClientSettings, client};
use tempfile::TempDir;

use super::until;

/// A running Prometheus; stopped when dropped.
pub struct Prometheus {
    child: Child,
    /// Base of its API.
    pub url: String,
    _data: TempDir,
}

impl Prometheus {
    /// Starts one that holds the samples of an OpenMetrics text.
    pub async fn start(openmetrics: &str) -> Self {
        Self::start_with(openmetrics, "").await
    }

    /// Starts one whose web server is configured by a YAML text; with a
    /// certificate in it, its URL is an HTTPS one.
    pub async fn start_with(openmetrics: &str, web: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let samples = data.path().join("samples.om");
        std::fs::write(&samples, openmetrics).unwrap();
        let tsdb = data.path().join("tsdb");
        let made = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
            .args([&samples, &tsdb])
            .output()
            .expect("promtool is not there: run the tests with `make test`");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let config = data.path().join("prometheus.yml");
        std::fs::File::create(&config).unwrap().write_all(b"global: {}\n").unwrap();
        let web_config = data.path().join("web.yml");
        std::fs::write(&web_config, web).unwrap();
        // Freed at once; nobody else on this machine is in a hurry for it.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", tsdb.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--web.config.file={}", web_config.display()))
            .args(["--storage.tsdb.retention.time=100y", "--log.level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is not there: run the tests with `make test`");
        let scheme = if web.contains("cert_file") { "https" } else { "http" };
        let base = format!("{scheme}://127.0.0.1:{port}");
        let running = Self { child, url: format!("{base}/api/v1"), _data: data };
        let settings = ClientSettings { insecure: true, ..ClientSettings::default() };
        let http = client(&settings).unwrap();
        until("Prometheus to be ready", || async {
            // Asked for a password, it is there, too.
            let answer = http.get(format!("{base}/-/ready")).send().await;
            answer.is_ok_and(|answer| answer.status().is_success() || answer.status() == 401)
        })
        .await;
        running
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
