//! Locks, against the real servers, and against tooz holding them.

mod lost;
mod names;
mod tls;

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use ratekitty::lock::{Coordinator, Lock, LockName};
use tempfile::TempDir;

use crate::{
    fixture,
    support::{Db, set_up},
};

/// A place of each kind: its name and its URL.
async fn places(dir: &TempDir) -> Vec<(&'static str, String)> {
    let mysql = Db::Mariadb.server().unwrap();
    let postgresql = Db::Postgresql.server().unwrap();
    let etcd = set_up("RATEKITTY_TEST_ETCD").replace("http://", "etcd3+http://");
    vec![
        ("file", format!("file://{}/locks", dir.path().display())),
        ("mysql", format!("{mysql}/mysql")),
        ("postgresql", format!("{postgresql}/postgres")),
        ("redis", format!("{}?lock_timeout=6", set_up("RATEKITTY_TEST_REDIS"))),
        ("etcd", format!("{etcd}?lock_timeout=6")),
    ]
}

fn scope(name: &str) -> LockName {
    LockName::scope(name, "prometheus", "prometheus", "project_id")
}

/// A name that no other test has.
fn unique() -> LockName {
    scope(&format!("{:x}", rand::random::<u128>()))
}

/// Takes a lock that was given back a moment ago.
async fn soon(coordinator: &Coordinator, name: &LockName) -> Lock {
    let lock = coordinator.lock(name, Duration::from_secs(20)).await.unwrap();
    lock.unwrap_or_else(|| panic!("{name:?} is not to be had at {coordinator:?}"))
}

/// tooz, holding a lock.
struct Tooz {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Tooz {
    fn run(url: &str, name: &LockName, arguments: &[&str]) -> (String, Self) {
        let python = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin/python");
        let mut child = Command::new(python)
            .arg(fixture("locks/hold.py"))
            .args([url, name.digest()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (line.trim().to_owned(), Self { child, stdin })
    }

    fn holding(url: &str, name: &LockName) -> Self {
        let (said, tooz) = Self::run(url, name, &["hold"]);
        assert_eq!(said, "taken", "{url}");
        tooz
    }

    fn tries(url: &str, name: &LockName) -> String {
        let (said, mut tooz) = Self::run(url, name, &[]);
        tooz.end();
        said
    }

    fn end(&mut self) {
        drop(self.stdin.take());
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn locks_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, url) in places(&dir).await {
        let (one, other) = (Coordinator::new(&url).unwrap(), Coordinator::new(&url).unwrap());
        one.probe().await.unwrap();
        let name = unique();
        let mut held = one.try_lock(&name).await.unwrap().unwrap();
        // From another coordinator as from the same one.
        assert!(other.try_lock(&name).await.unwrap().is_none(), "{kind}");
        assert!(one.try_lock(&name).await.unwrap().is_none(), "{kind}");
        held.check().await.unwrap();
        let another = other.try_lock(&unique()).await.unwrap().unwrap();
        held.release().await;
        let mut held = other.try_lock(&name).await.unwrap().unwrap();
        assert!(one.try_lock(&name).await.unwrap().is_none(), "{kind}");
        held.check().await.unwrap();
        // What is dropped is given back as well.
        drop(held);
        soon(&one, &name).await.release().await;
        another.release().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_tasks_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, url) in places(&dir).await {
        let coordinators = [Coordinator::new(&url).unwrap(), Coordinator::new(&url).unwrap()];
        let names: Vec<_> = (0..50).map(|_| unique()).collect();
        let inside: std::sync::Arc<Mutex<HashSet<String>>> = std::sync::Arc::default();
        let mut tasks = Vec::new();
        for number in 0..200 {
            let (coordinator, name) = (coordinators[number % 2].clone(), names[number / 4].clone());
            let inside = inside.clone();
            tasks.push(tokio::spawn(async move {
                let patience = Duration::from_secs(60);
                let lock = coordinator.lock(&name, patience).await.unwrap().unwrap();
                assert!(inside.lock().unwrap().insert(name.digest().to_owned()), "{name:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert!(inside.lock().unwrap().remove(name.digest()));
                lock.release().await;
            }));
        }
        for task in tasks {
            task.await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tooz_and_we_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, url) in places(&dir).await {
        let coordinator = Coordinator::new(&url).unwrap();
        let name = unique();
        let mut tooz = Tooz::holding(&url, &name);
        assert!(coordinator.try_lock(&name).await.unwrap().is_none(), "{kind}");
        tooz.end();
        let held = soon(&coordinator, &name).await;
        assert_eq!(Tooz::tries(&url, &name), "refused", "{kind}");
        held.release().await;
        assert_eq!(Tooz::tries(&url, &name), "taken", "{kind}");
    }
}

#[tokio::test]
async fn etcd3_is_etcd_over_http() {
    let http = set_up("RATEKITTY_TEST_ETCD").replace("http://", "etcd3+http://");
    let (long, short) = (
        Coordinator::new(&http).unwrap(),
        Coordinator::new(&http.replace("etcd3+http://", "etcd3://")).unwrap(),
    );
    let name = unique();
    let held = short.try_lock(&name).await.unwrap().unwrap();
    assert!(long.try_lock(&name).await.unwrap().is_none());
    held.release().await;
    soon(&long, &name).await.release().await;
}

#[tokio::test]
async fn files_are_locked_as_the_reference_locks_them() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/a/b", dir.path().display());
    let coordinator = Coordinator::new(&url).unwrap();
    let name = scope("p1");
    let held = coordinator.try_lock(&name).await.unwrap().unwrap();
    let file = dir.path().join("a/b").join(name.digest());
    assert!(file.exists());
    held.release().await;
    assert!(file.exists(), "others may have it open");
    // A second path to the same folder is another place, and the same lock.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("a"), &link).unwrap();
    let same = Coordinator::new(&format!("file://{}/b", link.display())).unwrap();
    let held = same.try_lock(&name).await.unwrap().unwrap();
    assert!(coordinator.try_lock(&name).await.unwrap().is_none());
    held.release().await;
}

#[tokio::test]
async fn a_place_that_refuses_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let wrong = |url: String| {
        let (scheme, rest) = url.split_once("://").unwrap();
        let host = rest.split_once('@').unwrap().1;
        format!("{scheme}://root:s3cret@{host}")
    };
    let cases = [
        (format!("file://{}/locks", file.display()), "file/locks"),
        (wrong(format!("{}/mysql", Db::Mariadb.server().unwrap())), "Access denied"),
        (wrong(format!("{}/postgres", Db::Postgresql.server().unwrap())), "authentication"),
        ("redis://:s3cret@127.0.0.1:1".to_owned(), "redis://127.0.0.1:1"),
        ("etcd3+http://127.0.0.1:1".to_owned(), "etcd3+http://127.0.0.1:1"),
    ];
    for (url, expected) in cases {
        let coordinator = Coordinator::new(&url).unwrap();
        let error = coordinator.try_lock(&unique()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("coordination_url") && !error.contains("s3cret"), "{error}");
        // The claim of the failed try is gone.
        let again = coordinator.try_lock(&scope("p1")).await;
        assert!(again.is_err());
        assert!(coordinator.try_lock(&scope("p1")).await.is_err());
    }
}
