//! Tables of the state database: made by `ratekitty dbsync upgrade`, checked at
//! every start.
//!
//! On SQLite, where the reference's own `cloudkitty-dbsync` fails, the tables
//! are the reference's with one difference: costs and levels are text, since
//! SQLite would turn a `NUMERIC` column into floats and lose digits.

use sea_orm::ConnectionTrait;

use super::{Context, Database, StateError, statement};

/// Version tables of the reference and the revisions of CloudKitty 25.0.0.
pub const REVISIONS: [(&str, &str); 4] = [
    ("cloudkitty_alembic", "385e33fef139"),
    ("hashmap_alembic", "8a591f85865f"),
    ("pyscripts_alembic", "c6e4cda29654"),
    ("storage_states_alembic", "9feccd32"),
];

/// Version of our own tables.
const OWN_VERSION: i64 = 2;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS cloudkitty_storage_states (
  id INTEGER NOT NULL PRIMARY KEY,
  identifier VARCHAR(256) NOT NULL,
  scope_key VARCHAR(40),
  fetcher VARCHAR(40),
  collector VARCHAR(40),
  last_processed_timestamp DATETIME NOT NULL,
  scope_activation_toggle_date DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  active BOOLEAN NOT NULL,
  CONSTRAINT uq_cloudkitty_storage_states_identifier UNIQUE (identifier, scope_key, collector, fetcher)
);
CREATE TABLE IF NOT EXISTS storage_scope_reprocessing_schedule (
  id INTEGER NOT NULL PRIMARY KEY,
  identifier VARCHAR(256) NOT NULL,
  start_reprocess_time DATETIME NOT NULL,
  end_reprocess_time DATETIME NOT NULL,
  current_reprocess_time DATETIME,
  reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS modules_state (
  name VARCHAR(255) NOT NULL PRIMARY KEY,
  state BOOLEAN NOT NULL,
  priority INTEGER
);
CREATE TABLE IF NOT EXISTS states (
  name VARCHAR(255) NOT NULL PRIMARY KEY,
  state BIGINT NOT NULL,
  s_metadata TEXT
);
CREATE TABLE IF NOT EXISTS service_to_collector_mappings (
  service VARCHAR(255) NOT NULL PRIMARY KEY,
  collector VARCHAR(255) NOT NULL
);
CREATE TABLE IF NOT EXISTS hashmap_services (
  id INTEGER NOT NULL PRIMARY KEY,
  service_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_services_service_id UNIQUE,
  name VARCHAR(255) NOT NULL CONSTRAINT uq_hashmap_services_name UNIQUE
);
CREATE TABLE IF NOT EXISTS hashmap_fields (
  id INTEGER NOT NULL PRIMARY KEY,
  field_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_fields_field_id UNIQUE,
  name VARCHAR(255) NOT NULL,
  service_id INTEGER NOT NULL REFERENCES hashmap_services (id) ON DELETE CASCADE,
  CONSTRAINT uniq_field_per_service UNIQUE (service_id, name)
);
CREATE TABLE IF NOT EXISTS hashmap_groups (
  id INTEGER NOT NULL PRIMARY KEY,
  group_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_groups_group_id UNIQUE,
  name VARCHAR(255) NOT NULL CONSTRAINT uq_hashmap_groups_name UNIQUE
);
CREATE TABLE IF NOT EXISTS hashmap_mappings (
  id INTEGER NOT NULL PRIMARY KEY,
  mapping_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_mappings_mapping_id UNIQUE,
  value VARCHAR(255),
  cost TEXT,
  map_type VARCHAR(4) NOT NULL CHECK (map_type IN ('flat', 'rate')),
  service_id INTEGER REFERENCES hashmap_services (id) ON DELETE CASCADE,
  field_id INTEGER REFERENCES hashmap_fields (id) ON DELETE CASCADE,
  group_id INTEGER REFERENCES hashmap_groups (id) ON DELETE SET NULL,
  tenant_id VARCHAR(255),
  name VARCHAR(32) NOT NULL,
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  start DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  \"end\" DATETIME,
  description TEXT,
  deleted DATETIME,
  created_by VARCHAR(32) NOT NULL,
  updated_by VARCHAR(32),
  deleted_by VARCHAR(32)
);
CREATE TABLE IF NOT EXISTS hashmap_thresholds (
  id INTEGER NOT NULL PRIMARY KEY,
  threshold_id VARCHAR(36) NOT NULL CONSTRAINT uq_hashmap_thresholds_threshold_id UNIQUE,
  level TEXT,
  cost TEXT,
  map_type VARCHAR(4) NOT NULL CHECK (map_type IN ('flat', 'rate')),
  service_id INTEGER REFERENCES hashmap_services (id) ON DELETE CASCADE,
  field_id INTEGER REFERENCES hashmap_fields (id) ON DELETE CASCADE,
  group_id INTEGER REFERENCES hashmap_groups (id) ON DELETE SET NULL,
  tenant_id VARCHAR(255),
  CONSTRAINT uniq_field_threshold UNIQUE (level, field_id, tenant_id),
  CONSTRAINT uniq_service_threshold UNIQUE (level, service_id, tenant_id)
);
CREATE TABLE IF NOT EXISTS pyscripts_scripts (
  id INTEGER NOT NULL PRIMARY KEY,
  script_id VARCHAR(36) NOT NULL CONSTRAINT script_id UNIQUE,
  name VARCHAR(255) NOT NULL,
  data BLOB NOT NULL,
  checksum VARCHAR(128),
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  start DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  \"end\" DATETIME,
  description TEXT,
  deleted DATETIME,
  created_by VARCHAR(32) NOT NULL,
  updated_by VARCHAR(32),
  deleted_by VARCHAR(32)
);
CREATE TABLE IF NOT EXISTS ratekitty_schema (
  version BIGINT NOT NULL PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS ratekitty_series (
  id INTEGER NOT NULL PRIMARY KEY,
  fingerprint CHAR(64) NOT NULL UNIQUE,
  unit VARCHAR(255) NOT NULL,
  groupby TEXT NOT NULL,
  metadata TEXT NOT NULL,
  calendar BOOLEAN NOT NULL
);
CREATE TABLE IF NOT EXISTS ratekitty_dataframes (
  id INTEGER NOT NULL PRIMARY KEY,
  begin_epoch BIGINT NOT NULL,
  end_epoch BIGINT NOT NULL,
  utc_offset INTEGER NOT NULL,
  scope_key VARCHAR(255) NOT NULL,
  scope_id VARCHAR(256) NOT NULL,
  type VARCHAR(255) NOT NULL,
  points BIGINT NOT NULL,
  qty VARCHAR(64) NOT NULL,
  price VARCHAR(64) NOT NULL
);
CREATE INDEX IF NOT EXISTS ratekitty_dataframes_period
  ON ratekitty_dataframes (begin_epoch, end_epoch, scope_id, type);
CREATE INDEX IF NOT EXISTS ratekitty_dataframes_scope
  ON ratekitty_dataframes (scope_id, begin_epoch);
CREATE TABLE IF NOT EXISTS ratekitty_points (
  dataframe_id INTEGER NOT NULL REFERENCES ratekitty_dataframes (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  series_id INTEGER NOT NULL REFERENCES ratekitty_series (id),
  qty VARCHAR(64) NOT NULL,
  price VARCHAR(64) NOT NULL,
  PRIMARY KEY (dataframe_id, position)
) WITHOUT ROWID;
";

/// Changes to our own tables, by the version that they lead to.
const OWN_STEPS: &[(i64, &str)] = &[(
    2,
    "
ALTER TABLE ratekitty_dataframes ADD COLUMN store VARCHAR(64) NOT NULL DEFAULT 'sql';
ALTER TABLE ratekitty_dataframes ADD COLUMN appended BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE ratekitty_dataframes ADD COLUMN stream_id INTEGER;
ALTER TABLE ratekitty_dataframes ADD COLUMN stream_offset BIGINT;
CREATE INDEX ratekitty_dataframes_stream ON ratekitty_dataframes (stream_id, begin_epoch);
CREATE TABLE ratekitty_streams (
  id INTEGER NOT NULL PRIMARY KEY,
  store VARCHAR(64) NOT NULL,
  label VARCHAR(32) NOT NULL UNIQUE,
  scope_key VARCHAR(255) NOT NULL,
  scope_id VARCHAR(256) NOT NULL,
  appended BOOLEAN NOT NULL,
  uneven BOOLEAN NOT NULL,
  period_seconds BIGINT NOT NULL,
  first_epoch BIGINT NOT NULL,
  last_epoch BIGINT NOT NULL,
  known_ns BIGINT NOT NULL,
  pending_ns BIGINT,
  digest VARCHAR(64) NOT NULL
);
CREATE INDEX ratekitty_streams_scope ON ratekitty_streams (store, scope_key, scope_id);
CREATE TABLE ratekitty_superseded (
  id INTEGER NOT NULL PRIMARY KEY,
  store VARCHAR(64) NOT NULL,
  stream_id INTEGER REFERENCES ratekitty_streams (id),
  scope_key VARCHAR(255) NOT NULL,
  scope_id VARCHAR(256) NOT NULL,
  from_ns BIGINT NOT NULL,
  to_ns BIGINT NOT NULL
);
CREATE INDEX ratekitty_superseded_stream ON ratekitty_superseded (store, stream_id);
",
)];

/// What `dbsync upgrade` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// All tables were made.
    Created,
    /// Everything was there already.
    UpToDate,
}

async fn versions(
    connection: &impl ConnectionTrait,
    table: &str,
    column: &str,
) -> Result<Vec<String>, StateError> {
    let sql = format!("SELECT CAST({column} AS TEXT) AS version FROM {table}");
    let rows = connection.query_all_raw(statement(connection, &sql, [])).await;
    let rows = rows.to("read the revision of its tables")?;
    rows.iter()
        .map(|row| row.try_get("", "version").to("read the revision of its tables"))
        .collect()
}

async fn has_table(connection: &impl ConnectionTrait, table: &str) -> Result<bool, StateError> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?";
    let row = connection.query_one_raw(statement(connection, sql, [table.into()])).await;
    Ok(row.to("list its tables")?.is_some())
}

/// Makes all tables, in one transaction, if they are not there.
///
/// # Errors
/// Tables of a revision that this program does not know, which it leaves alone.
pub async fn upgrade(database: &Database) -> Result<Upgrade, StateError> {
    if let Ok(()) = check(database).await {
        return Ok(Upgrade::UpToDate);
    }
    let transaction = database.begin().await?;
    for (table, revision) in REVISIONS {
        if has_table(&transaction, table).await? {
            let found = versions(&transaction, table, "version_num").await?;
            if found.iter().any(|found| found != revision) {
                return Err(unknown_revision(table, &found, revision));
            }
        }
    }
    let action = "make its tables";
    for sql in TABLES.split(";\n").filter(|sql| !sql.trim().is_empty()) {
        transaction.execute_unprepared(sql).await.to(action)?;
    }
    for (table, revision) in REVISIONS {
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {table} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
        );
        transaction.execute_unprepared(&create).await.to(action)?;
        let insert = format!("INSERT OR IGNORE INTO {table} (version_num) VALUES (?)");
        let insert = statement(&transaction, &insert, [revision.into()]);
        transaction.execute_raw(insert).await.to(action)?;
    }
    let found = versions(&transaction, "ratekitty_schema", "version").await?;
    let found: i64 = found.first().map_or(Ok(1), |text| text.parse()).map_err(|_| {
        let value = found.join(", ");
        StateError::BadValue { column: "ratekitty_schema.version", value }
    })?;
    for (_, step) in OWN_STEPS.iter().filter(|(version, _)| *version > found) {
        for sql in step.split(";\n").filter(|sql| !sql.trim().is_empty()) {
            transaction.execute_unprepared(sql).await.to(action)?;
        }
    }
    if found > OWN_VERSION {
        return Err(unknown_own_version(&found.to_string()));
    }
    transaction.execute_unprepared("DELETE FROM ratekitty_schema").await.to(action)?;
    let insert = "INSERT INTO ratekitty_schema (version) VALUES (?)";
    let insert = statement(&transaction, insert, [OWN_VERSION.into()]);
    transaction.execute_raw(insert).await.to(action)?;
    transaction.commit().await.to(action)?;
    Ok(Upgrade::Created)
}

fn unknown_revision(table: &str, found: &[String], expected: &str) -> StateError {
    StateError::Schema(format!(
        "table `{table}` says revision {}, this program needs {expected} (CloudKitty 25.0.0)",
        found.join(", ")
    ))
}

/// Whether there are no tables at all.
///
/// # Errors
/// A database that cannot be read.
pub async fn is_empty(database: &Database) -> Result<bool, StateError> {
    let connection = database.connection();
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' LIMIT 1";
    let row = connection.query_one_raw(statement(connection, sql, [])).await;
    Ok(row.to("list its tables")?.is_none())
}

/// Checks that all tables are of the revisions that this program knows.
///
/// # Errors
/// Missing tables and other revisions.
pub async fn check(database: &Database) -> Result<(), StateError> {
    let connection = database.connection();
    for (table, revision) in REVISIONS {
        if !has_table(connection, table).await? {
            return Err(StateError::Schema(format!("table `{table}` is missing")));
        }
        let found = versions(connection, table, "version_num").await?;
        if found != [revision] {
            return Err(unknown_revision(table, &found, revision));
        }
    }
    if !has_table(connection, "ratekitty_schema").await? {
        return Err(StateError::Schema("table `ratekitty_schema` is missing".to_owned()));
    }
    let own = versions(connection, "ratekitty_schema", "version").await?;
    if own != [OWN_VERSION.to_string()] {
        return Err(unknown_own_version(&own.join(", ")));
    }
    Ok(())
}

fn unknown_own_version(found: &str) -> StateError {
    StateError::Schema(format!(
        "its own tables are of version {found}, this program needs {OWN_VERSION}"
    ))
}
