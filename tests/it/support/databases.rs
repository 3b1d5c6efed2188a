//! State databases of a test's own: a SQLite file, or a database on one of the
//! servers that `scripts/with-servers` runs.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Database};

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Db {
    Sqlite,
    Mariadb,
    Postgresql,
}

impl Db {
    pub const ALL: [Self; 3] = [Self::Sqlite, Self::Mariadb, Self::Postgresql];
    pub const SERVERS: [Self; 2] = [Self::Mariadb, Self::Postgresql];

    /// Makes an empty database; its URL as SQLAlchemy writes it. `None` for a
    /// file, which each program makes where it is told.
    pub async fn create(self) -> Option<String> {
        let name = format!("t_{:x}", rand::random::<u64>());
        let server = self.server()?;
        let admin = match self {
            Self::Postgresql => format!("{server}/postgres"),
            _ => server.clone(),
        };
        let charset = if self == Self::Mariadb { " CHARACTER SET utf8mb4" } else { "" };
        execute(&admin, &[&format!("CREATE DATABASE {name}{charset}")]).await;
        let (scheme, rest) = server.split_once("://").unwrap();
        let driver = if self == Self::Mariadb { "pymysql" } else { "psycopg2" };
        Some(format!("{scheme}+{driver}://{rest}/{name}"))
    }

    /// URL of the server, with an administrator's login.
    pub fn server(self) -> Option<String> {
        match self {
            Self::Sqlite => None,
            Self::Mariadb => Some(super::set_up("RATEKITTY_TEST_MARIADB")),
            Self::Postgresql => Some(super::set_up("RATEKITTY_TEST_POSTGRESQL")),
        }
    }
}

/// Runs statements on a server; `url` without a Python driver.
pub async fn execute(url: &str, statements: &[&str]) {
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false).connect_timeout(Duration::from_secs(20));
    let connection = Database::connect(options).await.unwrap();
    for statement in statements {
        connection.execute_unprepared(statement).await.unwrap();
    }
    connection.close().await.unwrap();
}
