//! Locks that are lost while they are held, and servers that go away.

use std::{path::Path, process::Stdio, time::Duration};

use ratekitty::lock::{Coordinator, LockError};

use super::{soon, unique};
use crate::support::{
    Db,
    databases::execute,
    servers::{Server, free_port},
    set_up, until,
};

fn is_lost(result: Result<(), LockError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, LockError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn a_lock_that_is_lost_is_noticed() {
    // The file is taken away.
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::new(&format!("file://{}", dir.path().display())).unwrap();
    let name = unique();
    let mut held = soon(&coordinator, &name).await;
    std::fs::remove_file(dir.path().join(name.digest())).unwrap();
    is_lost(held.check().await);
    held.release().await;
    let mut held = soon(&coordinator, &name).await;
    std::fs::remove_dir_all(dir.path()).unwrap();
    is_lost(held.check().await);
    drop(held);

    // Sessions are ended.
    let mysql = format!("{}/mysql", Db::Mariadb.server().unwrap());
    let coordinator = Coordinator::new(&mysql).unwrap();
    let name = unique();
    let mut held = soon(&coordinator, &name).await;
    let sql = format!("EXECUTE IMMEDIATE CONCAT('KILL ', IS_USED_LOCK('{}'))", name.digest());
    execute(&mysql, &[&sql]).await;
    is_lost(held.check().await);
    let mut other = soon(&coordinator, &unique()).await;
    is_lost(held.check().await);
    held.release().await;
    other.check().await.unwrap();
    soon(&coordinator, &name).await.release().await;

    let postgresql = format!("{}/postgres", Db::Postgresql.server().unwrap());
    let coordinator = Coordinator::new(&postgresql).unwrap();
    let name = unique();
    let mut held = soon(&coordinator, &name).await;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'ratekitty locks' AND pid IN \
               (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
    execute(&postgresql, &[sql]).await;
    is_lost(held.check().await);
    held.release().await;
    soon(&coordinator, &name).await.release().await;

    // Keys are deleted.
    let redis = set_up("RATEKITTY_TEST_REDIS");
    let coordinator = Coordinator::new(&redis).unwrap();
    let name = unique();
    let mut held = soon(&coordinator, &name).await;
    let client = redis::Client::open(redis.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("_tooz_{}_lock", name.digest());
    let _: () = redis::cmd("DEL").arg(&key).query_async(&mut connection).await.unwrap();
    is_lost(held.check().await);
    // What another has meanwhile is not given back by us.
    let another = soon(&Coordinator::new(&redis).unwrap(), &unique()).await;
    let _: () =
        redis::cmd("SET").arg(&key).arg("other").query_async(&mut connection).await.unwrap();
    held.release().await;
    let value: String = redis::cmd("GET").arg(&key).query_async(&mut connection).await.unwrap();
    assert_eq!(value, "other");
    another.release().await;

    let etcd = set_up("RATEKITTY_TEST_ETCD");
    let coordinator = Coordinator::new(&etcd.replace("http://", "etcd3+http://")).unwrap();
    let name = unique();
    let mut held = soon(&coordinator, &name).await;
    use base64::Engine;
    let key =
        base64::engine::general_purpose::STANDARD.encode(format!("/tooz/locks{}", name.digest()));
    let client = reqwest::Client::new();
    let delete = client.post(format!("{etcd}/v3/kv/deleterange"));
    let deleted = delete.body(format!("{{\"key\": \"{key}\"}}")).send().await.unwrap();
    assert!(deleted.status().is_success());
    is_lost(held.check().await);
}

/// A server of this test's own that can be stopped, frozen and started again.
async fn survives(server: &mut Server, url: &str, lifetime: Duration) {
    let coordinator = Coordinator::new(url).unwrap();
    let name = unique();
    let mut held = soon(&coordinator, &name).await;
    // Held for longer than a lease lasts.
    tokio::time::sleep(lifetime + Duration::from_millis(500)).await;
    held.check().await.unwrap();
    // Frozen for longer than a lease lasts.
    server.freeze();
    tokio::time::sleep(lifetime + Duration::from_millis(500)).await;
    let frozen = held.check().await;
    server.thaw();
    is_lost(frozen);
    held.release().await;
    let mut held = soon(&coordinator, &name).await;
    server.stop();
    is_lost(held.check().await);
    held.release().await;
    let error = coordinator.try_lock(&name).await.unwrap_err();
    assert!(matches!(error, LockError::Unavailable { .. }), "{error}");
    server.start().await;
    soon(&coordinator, &name).await.release().await;
}

#[tokio::test]
async fn a_redis_that_goes_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = redis(dir.path(), &[]).await;
    let url = format!("redis://127.0.0.1:{}?lock_timeout=2", server.port());
    survives(&mut server, &url, Duration::from_secs(2)).await;
}

#[tokio::test]
async fn an_etcd_that_goes_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (port, peer) = (free_port(), free_port());
    let program = Path::new(&set_up("RATEKITTY_ETCD_BIN")).join("etcd");
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer}");
    let data = dir.path().join("data").display().to_string();
    let cluster = format!("test={peer}");
    let mut server = Server::new(port, move |command| {
        command.args(["--name", "test", "--data-dir", &data, "--unsafe-no-fsync"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &cluster]);
    });
    server.program(program);
    server.start().await;
    let url = format!("etcd3+http://127.0.0.1:{port}?lock_timeout=3");
    survives(&mut server, &url, Duration::from_secs(4)).await;
}

async fn redis(dir: &Path, more: &[String]) -> Server {
    let port = free_port();
    let (dir, more) = (dir.display().to_string(), more.to_vec());
    let mut server = Server::new(port, move |command| {
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--dir", &dir]).args(&more);
        command.stdout(Stdio::null());
    });
    server.program(Path::new(&set_up("RATEKITTY_REDIS_BIN")).join("redis-server"));
    server.start().await;
    server
}

const PASSWORD: &str = "s3cret";

/// A Redis with a password, which its replicas and sentinels use, too.
async fn guarded(dir: &Path, more: &[String]) -> Server {
    let mut arguments = vec!["--requirepass", PASSWORD, "--masterauth", PASSWORD];
    // A replica waits no longer than it must.
    arguments.extend(["--repl-diskless-sync-delay", "0"]);
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    redis(dir, &[&arguments[..], more].concat()).await
}

/// A sentinel that watches a master, which it calls `locks`.
async fn sentinel(dir: &Path, master: &Server, more: &str) -> Server {
    let port = free_port();
    let conf = dir.join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor locks 127.0.0.1 {} 1\n\
         sentinel auth-pass locks {PASSWORD}\n{more}",
        master.port()
    );
    std::fs::write(&conf, text).unwrap();
    let mut sentinel = Server::new(port, move |command| {
        command.arg(&conf).arg("--sentinel").stdout(Stdio::null());
    });
    sentinel.program(Path::new(&set_up("RATEKITTY_REDIS_BIN")).join("redis-server"));
    sentinel.start().await;
    sentinel
}

/// A connection to a database of a server.
async fn ask(server: &Server, database: u8) -> redis::aio::MultiplexedConnection {
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}/{database}", server.port());
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn a_sentinel_is_asked_for_the_master() {
    let dir = tempfile::tempdir().unwrap();
    let master = guarded(dir.path(), &[]).await;
    let sentinel = sentinel(dir.path(), &master, "").await;
    let url = format!(
        "redis://:{PASSWORD}@127.0.0.1:1?sentinel=locks&sentinel_fallback=127.0.0.1:{}&db=2",
        sentinel.port()
    );
    let coordinator = Coordinator::new(&url).unwrap();
    let name = unique();
    let mut held = soon(&coordinator, &name).await;
    held.check().await.unwrap();
    let mut connection = ask(&master, 2).await;
    let key = format!("_tooz_{}_lock", name.digest());
    let there: bool = redis::cmd("EXISTS").arg(&key).query_async(&mut connection).await.unwrap();
    assert!(there, "in the master's database 2");
    held.release().await;
}

#[tokio::test]
async fn a_failover_moves_locks_to_the_new_master() {
    let dir = tempfile::tempdir().unwrap();
    let mut master = guarded(dir.path(), &[]).await;
    let follow = ["--replicaof", "127.0.0.1", &master.port().to_string()].map(str::to_owned);
    let replica = guarded(dir.path(), &follow).await;
    let quick =
        "sentinel down-after-milliseconds locks 500\nsentinel failover-timeout locks 2000\n";
    let sentinel = sentinel(dir.path(), &master, quick).await;
    let url =
        format!("redis://:{PASSWORD}@127.0.0.1:{}?sentinel=locks&lock_timeout=3", sentinel.port());
    let (one, other) = (Coordinator::new(&url).unwrap(), Coordinator::new(&url).unwrap());
    let name = unique();
    let mut held = soon(&one, &name).await;
    // The replica follows its master, and the sentinel knows of it.
    let key = format!("_tooz_{}_lock", name.digest());
    let follower = ask(&replica, 0).await;
    until("the replica to have the lock", || async {
        let mut follower = follower.clone();
        redis::cmd("EXISTS").arg(&key).query_async(&mut follower).await.unwrap_or(false)
    })
    .await;
    let place = format!("redis://127.0.0.1:{}", sentinel.port());
    let client = redis::Client::open(place).unwrap();
    let watcher = client.get_multiplexed_async_connection().await.unwrap();
    until("the sentinel to know the replica", || async {
        let mut watcher = watcher.clone();
        let mut question = redis::cmd("SENTINEL");
        question.arg("REPLICAS").arg("locks");
        let known: Vec<redis::Value> = question.query_async(&mut watcher).await.unwrap();
        !known.is_empty()
    })
    .await;
    held.check().await.unwrap();
    master.stop();
    is_lost(held.check().await);
    held.release().await;
    until("a new master", || async { other.try_lock(&unique()).await.is_ok() }).await;
    let mut held = soon(&other, &name).await;
    held.check().await.unwrap();
    soon(&one, &unique()).await.release().await;
    let mut connection = ask(&replica, 0).await;
    let role: redis::Value = redis::cmd("ROLE").query_async(&mut connection).await.unwrap();
    assert!(format!("{role:?}").contains("master"), "{role:?}");
    let there: bool = redis::cmd("EXISTS").arg(&key).query_async(&mut connection).await.unwrap();
    assert!(there, "at the new master");
    held.release().await;
}
