//! Locks in a Redis that is reached over TLS.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use ratekitty::lock::{Coordinator, LockError};

use super::{Tooz, soon, unique};
use crate::support::{
    Authority,
    servers::{Server, free_port},
    set_up,
};

/// A Redis that speaks TLS alone; `clients` says whether clients need a
/// certificate: `yes` or `no`.
async fn redis(dir: &Path, clients: &'static str) -> Server {
    let port = free_port();
    let dir = dir.to_owned();
    let mut server = Server::new(port, move |command| {
        command.args(["--bind", "127.0.0.1", "--port", "0", "--tls-port", &port.to_string()]);
        command.arg("--tls-ca-cert-file").arg(dir.join("ca.pem"));
        command.arg("--tls-cert-file").arg(dir.join("cert.pem"));
        command.arg("--tls-key-file").arg(dir.join("key.pem"));
        command.args(["--tls-auth-clients", clients, "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(&dir).stdout(Stdio::null());
    });
    server.program(Path::new(&set_up("RATEKITTY_REDIS_BIN")).join("redis-server"));
    server.start().await;
    server
}

/// No lock is had there, for a reason in which a word is.
async fn is_refused(url: &str, word: &str) {
    let error = match Coordinator::new(url) {
        Ok(coordinator) => coordinator.probe().await.unwrap_err(),
        // Where the system has no authorities of its own, one must be given.
        Err(error) => error,
    };
    assert!(matches!(error, LockError::Unavailable { .. } | LockError::Url(_)), "{url}: {error}");
    assert!(error.to_string().to_lowercase().contains(word), "{url}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_is_reached_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let write = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ca, wrong) = (write("ca.pem", &authority.pem()), write("wrong.pem", &other.pem()));
    let (certificate, key) = authority.sign("127.0.0.1");
    let (certificate, key) = (write("cert.pem", &certificate), write("key.pem", &key));
    let (ca, wrong) = (ca.display(), wrong.display());
    let (certificate, key) = (certificate.display(), key.display());

    let server = redis(dir.path(), "no").await;
    let port = server.port();
    let ours = format!("rediss://127.0.0.1:{port}?ssl_ca_certs={ca}");
    // As tooz wants it.
    let theirs = format!("redis://127.0.0.1:{port}?ssl=true&ssl_ca_certs={ca}");
    let (one, same) = (Coordinator::new(&ours).unwrap(), Coordinator::new(&theirs).unwrap());
    let name = unique();
    let mut held = soon(&one, &name).await;
    held.check().await.unwrap();
    assert!(same.try_lock(&name).await.unwrap().is_none());
    assert_eq!(Tooz::tries(&theirs, &name), "refused");
    held.release().await;
    let mut tooz = Tooz::holding(&theirs, &name);
    assert!(one.try_lock(&name).await.unwrap().is_none());
    tooz.end();
    soon(&same, &name).await.release().await;
    // Another authority, none that is known, another name, and no TLS.
    let wrong = format!("rediss://127.0.0.1:{port}?ssl_ca_certs={wrong}");
    is_refused(&wrong, "certificate").await;
    is_refused(&format!("rediss://127.0.0.1:{port}"), "certificate").await;
    is_refused(&format!("rediss://localhost:{port}?ssl_ca_certs={ca}"), "certificate").await;
    is_refused(&format!("redis://127.0.0.1:{port}"), "cannot be had").await;

    let server = redis(dir.path(), "yes").await;
    let url = format!("rediss://127.0.0.1:{}?ssl_ca_certs={ca}", server.port());
    is_refused(&url, "certificate").await;
    let url = format!("{url}&ssl_certfile={certificate}&ssl_keyfile={key}");
    Coordinator::new(&url).unwrap().probe().await.unwrap();
}
