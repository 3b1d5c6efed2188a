//! Databases that refuse, go away and come back.

use std::{path::Path, process::Command, time::Duration};

use ratekitty::state::{Database, schema};
use tokio::time::Instant;

use super::{configuration, open};
use crate::support::{
    Authority, Db,
    databases::execute,
    servers::{Server, free_port},
    set_up,
};

/// An URL with another login.
fn with_login(url: &str, login: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    format!("{scheme}://{login}@{}", rest.split_once('@').unwrap().1)
}

#[tokio::test]
async fn a_refusal_says_what_to_do_at_once() {
    for db in Db::SERVERS {
        let url = db.create().await.unwrap();
        let place = url.split_once('@').unwrap().1;
        let missing = format!("{}/not_there", url.rsplit_once('/').unwrap().0);
        let cases = [
            (with_login(&url, "nobody:s3cret"), "check user and password"),
            (missing, "create the database"),
        ];
        for (url, advice) in cases {
            let (_dir, config) = configuration(&url, "");
            let begun = Instant::now();
            let error = Database::connect(&config.database).await.unwrap_err().to_string();
            assert!(error.contains(advice), "{error}");
            assert!(error.contains(place.split('/').next().unwrap()), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{error}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let port = free_port();
    let url = format!("mysql+pymysql://u:s3cret@127.0.0.1:{port}/db");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ratekitty.conf");
    let text = format!(
        "[database]\nconnection = {url}\nmax_retries = 2\nretry_interval = 1\n[ratekitty]\nstate_path = {}\n",
        dir.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_ratekitty"))
        .arg("--config-file")
        .arg(&file)
        .args(["processor", "--once"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(&format!("127.0.0.1:{port}")) && told.contains("check that"), "{told}");
    assert_eq!(log.matches("trying again in 1 s").count(), 2, "{log}");
    assert!(!told.contains("s3cret") && !log.contains("s3cret"));
}

#[tokio::test]
async fn a_user_that_may_only_read_is_told_before_work_begins() {
    let name = format!("reader_{:x}", rand::random::<u32>());
    let url = Db::Mariadb.create().await.unwrap();
    let database = url.rsplit_once('/').unwrap().1;
    let server = Db::Mariadb.server().unwrap();
    execute(
        &server,
        &[
            &format!("CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'pw'"),
            &format!("GRANT SELECT ON {database}.* TO {name}@'127.0.0.1'"),
        ],
    )
    .await;
    check_reader(&url, &with_login(&url, &format!("{name}:pw"))).await;

    let url = Db::Postgresql.create().await.unwrap();
    schema::upgrade(&open(&url).await).await.unwrap();
    execute(
        &url.replace("+psycopg2", ""),
        &[
            &format!("CREATE USER {name} PASSWORD 'pw'"),
            &format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}"),
        ],
    )
    .await;
    check_reader(&url, &with_login(&url, &format!("{name}:pw"))).await;
}

async fn check_reader(owner: &str, reader: &str) {
    // Tables cannot be made, and nothing is half done.
    if schema::check(&open(owner).await).await.is_err() {
        let error = schema::upgrade(&open(reader).await).await.unwrap_err().to_string();
        assert!(error.contains("make its tables"), "{error}");
        schema::upgrade(&open(owner).await).await.unwrap();
    }
    let database = open(reader).await;
    schema::check(&database).await.unwrap();
    let error = schema::check_writable(&database).await.unwrap_err().to_string();
    assert!(error.contains("may only be read") && error.contains("grant"), "{error}");
    schema::check_writable(&open(owner).await).await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = mariadb(dir.path()).await;
    let login = Db::Mariadb.server().unwrap();
    let login = login.split_once("://").unwrap().1.split_once('@').unwrap().0;
    let place = format!("{login}@127.0.0.1:{}", server.port());
    execute(&format!("mysql://{place}"), &["CREATE DATABASE ck"]).await;
    let url = format!("mysql+pymysql://{place}/ck?connect_timeout=3");
    let (_dir, config) = configuration(&url, "[database]\npool_timeout = 2\n");
    let database = Database::connect(&config.database).await.unwrap();
    schema::upgrade(&database).await.unwrap();
    for _ in 0..2 {
        server.stop();
        assert!(schema::check(&database).await.is_err());
        server.start().await;
        schema::check(&database).await.unwrap();
    }
}

#[tokio::test]
async fn servers_are_reached_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.sign("127.0.0.1");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, wrong) = (write("ca.pem", &authority.pem()), write("wrong.pem", &other.pem()));
    let arguments = vec![
        format!("--ssl-ca={ca}"),
        format!("--ssl-cert={}", write("cert.pem", &certificate)),
        format!("--ssl-key={}", write("key.pem", &key)),
    ];
    let server = mariadb_with(dir.path(), arguments).await;
    let login = Db::Mariadb.server().unwrap();
    let login = login.split_once("://").unwrap().1.split_once('@').unwrap().0;
    let admin = format!("mysql://{login}@127.0.0.1:{}", server.port());
    execute(
        &admin,
        &[
            "CREATE DATABASE ck",
            "CREATE USER safe@'127.0.0.1' IDENTIFIED BY 'pw' REQUIRE SSL",
            "GRANT ALL ON ck.* TO safe@'127.0.0.1'",
        ],
    )
    .await;
    let url = |host: &str, query: &str| {
        format!("mysql+pymysql://safe:pw@{host}:{}/ck?{query}", server.port())
    };
    let connect = |url: String| async move {
        let (_dir, config) = configuration(&url, "");
        Database::connect(&config.database).await
    };
    let database = connect(url("127.0.0.1", &format!("ssl_ca={ca}"))).await.unwrap();
    schema::upgrade(&database).await.unwrap();
    let sql = "SHOW STATUS LIKE 'Ssl_cipher'";
    let cipher: String = super::rows(&database, sql).await[0].try_get_by_index(1).unwrap();
    assert!(!cipher.is_empty());
    // TLS is taken where it is offered; without it, this user is refused.
    connect(url("127.0.0.1", "")).await.unwrap();
    assert!(connect(url("127.0.0.1", "ssl_disabled=true")).await.is_err());
    // Another authority, another name.
    let error = connect(url("127.0.0.1", &format!("ssl_ca={wrong}"))).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = connect(url("localhost", &format!("ssl_ca={ca}"))).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let name = format!("ssl_ca={ca}&ssl_check_hostname=false");
    connect(url("localhost", &name)).await.unwrap();
    // Locks on the same server.
    let locks = |query: &str| {
        let url = format!("mysql://safe:pw@127.0.0.1:{}/ck?{query}", server.port());
        ratekitty::lock::Coordinator::new(&url).unwrap()
    };
    locks(&format!("ssl_ca={ca}")).probe().await.unwrap();
    assert!(locks(&format!("ssl_ca={wrong}")).probe().await.is_err());
}

/// A MariaDB of a test's own.
pub async fn mariadb(dir: &Path) -> Server {
    mariadb_with(dir, Vec::new()).await
}

/// One with further arguments and an empty database, and where that is:
/// `USER:PASSWORD@HOST:PORT/DATABASE`.
pub async fn own_database(dir: &Path, more: &[&str]) -> (Server, String) {
    let more = more.iter().map(|argument| (*argument).to_owned()).collect();
    let server = mariadb_with(dir, more).await;
    let login = Db::Mariadb.server().unwrap();
    let login = login.split_once("://").unwrap().1.split_once('@').unwrap().0;
    let place = format!("{login}@127.0.0.1:{}", server.port());
    execute(&format!("mysql://{place}"), &["CREATE DATABASE ck CHARACTER SET utf8mb4"]).await;
    (server, format!("{place}/ck"))
}

async fn mariadb_with(dir: &Path, more: Vec<String>) -> Server {
    let port = free_port();
    let data = dir.join("data");
    let copied =
        Command::new("cp").arg("-r").arg(set_up("RATEKITTY_MARIADB_TEMPLATE")).arg(&data).status();
    assert!(copied.unwrap().success());
    let base = set_up("RATEKITTY_MARIADB_BIN");
    let program = Path::new(&base).join("sbin/mariadbd");
    let dir = dir.display().to_string();
    let is_root = String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap();
    let mut server = Server::new(port, move |command| {
        command.arg("--no-defaults").arg(format!("--basedir={base}"));
        command.arg(format!("--datadir={dir}/data")).arg(format!("--socket={dir}/s"));
        command.arg(format!("--port={port}")).arg(format!("--pid-file={dir}/pid"));
        // What is committed must be there after a kill: nothing is tuned away.
        command.args(["--bind-address=127.0.0.1", "--skip-name-resolve"]);
        command.args(&more);
        if is_root.trim() == "0" {
            command.arg("--user=root");
        }
    });
    server.program(program);
    server.start().await;
    server
}
