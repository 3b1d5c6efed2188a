//! Our own tables, `ratekitty_*`: written once, for all databases.
//!
//! Text is compared and sorted byte by byte, whatever the database does by
//! default: names of scopes that differ in case, or in blanks at their end, are
//! different ones.

use sea_orm::{ConnectionTrait, DatabaseBackend};

/// Version of our own tables.
pub(super) const VERSION: i64 = 7;

/// All tables of [`VERSION`]. `{id}` numbers rows, `{text}` holds any text,
/// `{options}` and `{clustered}` end a table.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS ratekitty_schema (
  version BIGINT NOT NULL PRIMARY KEY
){options};
CREATE TABLE IF NOT EXISTS ratekitty_periods (
  scope_key VARCHAR(40) NOT NULL,
  fetcher VARCHAR(40) NOT NULL,
  collector VARCHAR(40) NOT NULL,
  seconds BIGINT NOT NULL,
  PRIMARY KEY (scope_key, fetcher, collector)
){options};
CREATE TABLE IF NOT EXISTS ratekitty_series (
  id {id},
  fingerprint CHAR(64) NOT NULL UNIQUE,
  unit VARCHAR(255) NOT NULL,
  groupby {text} NOT NULL,
  metadata {text} NOT NULL,
  calendar BOOLEAN NOT NULL
){options};
CREATE TABLE IF NOT EXISTS ratekitty_dataframes (
  id {id},
  begin_epoch BIGINT NOT NULL,
  end_epoch BIGINT NOT NULL,
  utc_offset INTEGER NOT NULL,
  scope_key VARCHAR(255) NOT NULL,
  scope_id VARCHAR(256) NOT NULL,
  type VARCHAR(255) NOT NULL,
  points BIGINT NOT NULL,
  qty VARCHAR(64) NOT NULL,
  price VARCHAR(64) NOT NULL,
  store VARCHAR(64) NOT NULL DEFAULT 'sql',
  appended BOOLEAN NOT NULL DEFAULT FALSE,
  stream_id BIGINT,
  stream_offset BIGINT,
  writer VARCHAR(128) NOT NULL DEFAULT ''
){options};
CREATE INDEX ratekitty_dataframes_period
  ON ratekitty_dataframes (begin_epoch, end_epoch, scope_id, type);
CREATE INDEX ratekitty_dataframes_scope ON ratekitty_dataframes (scope_id, begin_epoch);
CREATE INDEX ratekitty_dataframes_stream ON ratekitty_dataframes (stream_id, begin_epoch);
CREATE TABLE IF NOT EXISTS ratekitty_points (
  dataframe_id BIGINT NOT NULL,
  position BIGINT NOT NULL,
  series_id BIGINT NOT NULL,
  qty VARCHAR(64) NOT NULL,
  price VARCHAR(64) NOT NULL,
  PRIMARY KEY (dataframe_id, position),
  FOREIGN KEY (dataframe_id) REFERENCES ratekitty_dataframes (id) ON DELETE CASCADE,
  FOREIGN KEY (series_id) REFERENCES ratekitty_series (id)
){clustered};
CREATE TABLE IF NOT EXISTS ratekitty_streams (
  id {id},
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
  digest VARCHAR(64) NOT NULL,
  writer VARCHAR(128) NOT NULL DEFAULT ''
){options};
CREATE INDEX ratekitty_streams_scope ON ratekitty_streams (store, scope_key, scope_id);
CREATE TABLE IF NOT EXISTS ratekitty_superseded (
  id {id},
  store VARCHAR(64) NOT NULL,
  stream_id BIGINT,
  scope_key VARCHAR(255) NOT NULL,
  scope_id VARCHAR(256) NOT NULL,
  from_ns BIGINT NOT NULL,
  to_ns BIGINT NOT NULL,
  FOREIGN KEY (stream_id) REFERENCES ratekitty_streams (id)
){options};
CREATE INDEX ratekitty_superseded_stream ON ratekitty_superseded (store, stream_id);
CREATE TABLE IF NOT EXISTS ratekitty_resets (
  id {id},
  scope BIGINT NOT NULL,
  scope_id VARCHAR(256) NOT NULL,
  last_epoch BIGINT NOT NULL,
  requested_epoch BIGINT NOT NULL
){options};
CREATE TABLE IF NOT EXISTS ratekitty_schedules (
  schedule BIGINT NOT NULL PRIMARY KEY,
  scope BIGINT NOT NULL
){options};
CREATE TABLE IF NOT EXISTS ratekitty_failures (
  scope_id VARCHAR(256) NOT NULL,
  scope_key VARCHAR(40) NOT NULL,
  fetcher VARCHAR(40) NOT NULL,
  collector VARCHAR(40) NOT NULL,
  begin_epoch BIGINT NOT NULL,
  end_epoch BIGINT NOT NULL,
  failed_epoch BIGINT NOT NULL,
  stage VARCHAR(20) NOT NULL,
  error VARCHAR(1000) NOT NULL,
  tries BIGINT NOT NULL,
  PRIMARY KEY (scope_id, scope_key, fetcher, collector)
){options};
CREATE TABLE IF NOT EXISTS ratekitty_processors (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  host VARCHAR(255) NOT NULL,
  pid BIGINT NOT NULL,
  version VARCHAR(40) NOT NULL,
  started_epoch BIGINT NOT NULL,
  seen_epoch BIGINT NOT NULL,
  periods BIGINT NOT NULL,
  points BIGINT NOT NULL,
  problem VARCHAR(1000) NOT NULL
){options};
CREATE TABLE IF NOT EXISTS ratekitty_changes (
  store VARCHAR(64) NOT NULL,
  scope_key VARCHAR(255) NOT NULL,
  scope_id VARCHAR(256) NOT NULL,
  begin_epoch BIGINT NOT NULL,
  end_epoch BIGINT NOT NULL,
  changes BIGINT NOT NULL,
  PRIMARY KEY (store, scope_key, scope_id)
){clustered};
";

/// What leads from one version to the next. Versions 1 and 2 were on SQLite
/// alone; what comes after 3 is written for all databases, as [`TABLES`] is.
const STEPS: &[(i64, &str)] = &[
    (
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
    ),
    (
        3,
        "
CREATE TABLE ratekitty_periods (
  scope_key VARCHAR(40) NOT NULL,
  fetcher VARCHAR(40) NOT NULL,
  collector VARCHAR(40) NOT NULL,
  seconds BIGINT NOT NULL,
  PRIMARY KEY (scope_key, fetcher, collector)
);
",
    ),
    (
        4,
        "
CREATE TABLE IF NOT EXISTS ratekitty_resets (
  id {id},
  scope BIGINT NOT NULL,
  scope_id VARCHAR(256) NOT NULL,
  last_epoch BIGINT NOT NULL,
  requested_epoch BIGINT NOT NULL
){options};
",
    ),
    (
        5,
        "
ALTER TABLE ratekitty_dataframes ADD COLUMN writer VARCHAR(128) NOT NULL DEFAULT '';
ALTER TABLE ratekitty_streams ADD COLUMN writer VARCHAR(128) NOT NULL DEFAULT '';
UPDATE ratekitty_dataframes SET writer = COALESCE((SELECT MIN(s.collector) FROM cloudkitty_storage_states s WHERE {identifier} = ratekitty_dataframes.scope_id), '') WHERE NOT appended;
UPDATE ratekitty_streams SET writer = COALESCE((SELECT MIN(s.collector) FROM cloudkitty_storage_states s WHERE {identifier} = ratekitty_streams.scope_id), '') WHERE NOT appended;
CREATE TABLE IF NOT EXISTS ratekitty_schedules (
  schedule BIGINT NOT NULL PRIMARY KEY,
  scope BIGINT NOT NULL
){options};
",
    ),
    (
        6,
        "
CREATE TABLE IF NOT EXISTS ratekitty_failures (
  scope_id VARCHAR(256) NOT NULL,
  scope_key VARCHAR(40) NOT NULL,
  fetcher VARCHAR(40) NOT NULL,
  collector VARCHAR(40) NOT NULL,
  begin_epoch BIGINT NOT NULL,
  end_epoch BIGINT NOT NULL,
  failed_epoch BIGINT NOT NULL,
  stage VARCHAR(20) NOT NULL,
  error VARCHAR(1000) NOT NULL,
  tries BIGINT NOT NULL,
  PRIMARY KEY (scope_id, scope_key, fetcher, collector)
){options};
CREATE TABLE IF NOT EXISTS ratekitty_processors (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  host VARCHAR(255) NOT NULL,
  pid BIGINT NOT NULL,
  version VARCHAR(40) NOT NULL,
  started_epoch BIGINT NOT NULL,
  seen_epoch BIGINT NOT NULL,
  periods BIGINT NOT NULL,
  points BIGINT NOT NULL,
  problem VARCHAR(1000) NOT NULL
){options};
",
    ),
    (
        7,
        "
CREATE TABLE IF NOT EXISTS ratekitty_changes (
  store VARCHAR(64) NOT NULL,
  scope_key VARCHAR(255) NOT NULL,
  scope_id VARCHAR(256) NOT NULL,
  begin_epoch BIGINT NOT NULL,
  end_epoch BIGINT NOT NULL,
  changes BIGINT NOT NULL,
  PRIMARY KEY (store, scope_key, scope_id)
){clustered};
DELETE FROM ratekitty_changes;
INSERT INTO ratekitty_changes (store, scope_key, scope_id, begin_epoch, end_epoch, changes) SELECT store, scope_key, scope_id, MIN(begin_epoch), MAX(end_epoch), 0 FROM ratekitty_dataframes GROUP BY store, scope_key, scope_id;
",
    ),
];

/// A collation of MariaDB and of MySQL that compares bytes and adds no blanks.
pub(super) fn mysql_collation(version: &str) -> &'static str {
    if version.contains("MariaDB") { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" }
}

/// Statements that make all tables; `collation` is that of [`mysql_collation`].
pub(super) fn tables(connection: &impl ConnectionTrait, collation: &str) -> Vec<String> {
    filled(connection, collation, TABLES)
}

/// The statements of a script for this database.
fn filled(connection: &impl ConnectionTrait, collation: &str, script: &str) -> Vec<String> {
    let binary = format!(" ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={collation}");
    let (id, text, options, clustered) = match connection.get_database_backend() {
        DatabaseBackend::MySql => {
            ("BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY", "LONGTEXT", &*binary, &*binary)
        }
        DatabaseBackend::Postgres => {
            ("BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "TEXT", "", "")
        }
        _ => ("INTEGER NOT NULL PRIMARY KEY", "TEXT", "", " WITHOUT ROWID"),
    };
    // Their table may have another character set.
    let identifier = match connection.get_database_backend() {
        DatabaseBackend::MySql => {
            format!("CONVERT(s.identifier USING utf8mb4) COLLATE {collation}")
        }
        _ => "s.identifier".to_owned(),
    };
    let sql = script
        .replace("{identifier}", &identifier)
        .replace("{id}", id)
        .replace("{text}", text)
        .replace("{options}", options)
        .replace("{clustered}", clustered);
    let sql = match connection.get_database_backend() {
        DatabaseBackend::Postgres => {
            let mut lines = Vec::new();
            for line in sql.lines() {
                let is_text = line.contains(" VARCHAR(") || line.contains(" CHAR(");
                lines.push(match line.split_once(')') {
                    Some((kind, rest)) if is_text => format!("{kind}) COLLATE \"C\"{rest}"),
                    _ => line.to_owned(),
                });
            }
            lines.join("\n") + "\n"
        }
        _ => sql,
    };
    statements(&sql)
}

/// Statements that lead from version `from` to [`VERSION`].
pub(super) fn steps(connection: &impl ConnectionTrait, collation: &str, from: i64) -> Vec<String> {
    let steps = STEPS.iter().filter(|(version, _)| *version > from);
    steps.flat_map(|(_, sql)| filled(connection, collation, sql)).collect()
}

/// The statements of a script, which end at the ends of lines; comments begin
/// them.
pub(super) fn statements(script: &str) -> Vec<String> {
    let lines = script.lines().filter(|line| !line.starts_with("--"));
    let script: String = lines.flat_map(|line| [line, "\n"]).collect();
    let statements = script.split(";\n").map(str::trim).filter(|sql| !sql.is_empty());
    statements.map(str::to_owned).collect()
}
