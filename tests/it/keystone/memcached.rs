//! Validated tokens in a real memcached.

use std::{fmt::Write, path::Path};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::{faults::Double, users::Client};
use crate::support::{
    TestApp,
    servers::{Server, free_port},
    set_up,
};

const REQUEST: &str = "GET /v1/info/config";

async fn memcached() -> Server {
    let port = free_port();
    let mut server = Server::new(port, move |command| {
        command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0"]);
        // Whom it becomes if root starts it, and nobody else looks at.
        command.args(["-u", "root"]);
    });
    server.program(Path::new(&set_up("RATEKITTY_MEMCACHED_BIN")).join("memcached"));
    server.start().await;
    server
}

/// APIs that keep tokens in one memcached; each stops when it goes.
struct Apis {
    clients: Vec<(Client, TestApp)>,
    stop: CancellationToken,
}

impl Apis {
    /// One for each configuration.
    async fn start(double: &Double, server: &Server, confs: &[&str]) -> Self {
        let mut apis = Self { clients: Vec::new(), stop: CancellationToken::new() };
        for conf in confs {
            let servers = format!("memcached_servers = 127.0.0.1:{}\n", server.port());
            let app = double.app(&format!("{servers}{conf}")).await;
            apis.clients.push((Client::new(&app, &apis.stop).await, app));
        }
        apis
    }

    /// What one of them answers to who shows a token.
    async fn status(&self, number: usize, token: &str) -> u16 {
        self.clients[number].0.status(REQUEST, token).await
    }
}

impl Drop for Apis {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a memcached keeps for a token.
async fn kept(server: &Server, token: &str) -> String {
    let mut name = "ratekitty/token/2/".to_owned();
    for byte in Sha256::digest(token) {
        write!(name, "{byte:02x}").unwrap();
    }
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    stream.write_all(format!("get {name}\r\nquit\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_api_asks_another_knows() {
    let (double, server) = (Double::start().await, memcached().await);
    let apis = Apis::start(&double, &server, &["", ""]).await;
    // That a token is bad is nobody's business but of who asked.
    for (token, expected, validations) in [("good-1", 200, 1), ("bad-1", 401, 3)] {
        for number in [0, 1, 0] {
            assert_eq!(apis.status(number, token).await, expected, "{token}");
        }
        assert_eq!(double.validations(), validations, "{token}");
    }
    let good = kept(&server, "good-1").await;
    assert!(good.contains("admin") && !good.contains("good-1"), "{good}");
    let bad = kept(&server, "bad-1").await;
    assert!(!bad.contains("VALUE"), "{bad}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_key_reads_nothing() {
    for strategy in ["MAC", "ENCRYPT"] {
        let (double, server) = (Double::start().await, memcached().await);
        let guarded = |key: &str| {
            format!("memcache_security_strategy = {strategy}\nmemcache_secret_key = {key}\n")
        };
        let (one, other) = (guarded("one"), guarded("another"));
        let apis = Apis::start(&double, &server, &[&one, &one, &other, ""]).await;
        // The last one to ask Keystone keeps what it heard by its own key.
        for (number, validations) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
            assert_eq!(apis.status(number, "good-1").await, 200, "{strategy} {number}");
            assert_eq!(double.validations(), validations, "{strategy} {number}");
            let kept = kept(&server, "good-1").await;
            assert!(kept.starts_with("VALUE "), "{strategy} {number}: {kept}");
            assert_eq!(kept.contains("admin"), number == 3, "{strategy} {number}: {kept}");
        }
    }
}

/// memcached closes connections when it is started again, and those that are idle.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_is_opened_again() {
    let (double, mut server) = (Double::start().await, memcached().await);
    let apis = Apis::start(&double, &server, &["", ""]).await;
    assert_eq!(apis.status(0, "good-1").await, 200);
    assert!(kept(&server, "good-1").await.contains("admin"));
    for (token, validations) in [("good-2", 2), ("good-3", 3)] {
        server.stop();
        server.start().await;
        assert_eq!(apis.status(0, token).await, 200);
        assert!(kept(&server, token).await.contains("admin"), "{token} is not kept");
        assert_eq!(apis.status(1, token).await, 200);
        assert_eq!(double.validations(), validations);
    }
    // One that is away is none, and requests go on.
    server.stop();
    for number in [0, 1] {
        assert_eq!(apis.status(number, "good-4").await, 200);
    }
    assert_eq!(double.validations(), 5);
}
