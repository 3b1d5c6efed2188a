//! State databases: tables, refusals, and databases that go away.

mod commands;
mod notes;
pub mod programs;
mod reference;
pub mod refusals;
mod scopes;
mod zones;

use ratekitty::{
    config::{Config, Place, Sources},
    state::Database,
};
use sea_orm::{ConnectionTrait, QueryResult, Statement};
use tempfile::TempDir;

/// A configuration whose database is at `url`, and its folder.
fn configuration(url: &str, more: &str) -> (TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ratekitty.conf");
    let path = dir.path().display();
    let text = format!(
        "[database]\nconnection = {url}\nmax_retries = 0\n[ratekitty]\nstate_path = {path}\n{more}"
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::from_sources(&Sources::read(&[Place::File(file)]).unwrap()).unwrap();
    (dir, config)
}

pub async fn open(url: &str) -> Database {
    Database::connect(&configuration(url, "").1.database).await.unwrap()
}

/// The rows of a query without parameters.
async fn rows(database: &Database, sql: &str) -> Vec<QueryResult> {
    let connection = database.connection();
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_all_raw(statement).await.unwrap()
}

/// One text of each row.
pub async fn texts(database: &Database, sql: &str) -> Vec<String> {
    let rows = rows(database, sql).await;
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}
