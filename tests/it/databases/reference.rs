//! Our tables and the reference's: each program on what the other made.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use chrono::{DateTime, Utc};
use ratekitty::state::{
    Database,
    audit::Audit,
    rating_rules::new_id,
    reprocessing,
    schema::{self, Condition, MODULES, Upgrade},
    scopes::{self, ScopeKeys},
    scripts::{self, Which},
};
use ratekitty::time::seconds;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use super::{open, rows, texts};
use crate::{
    fixture,
    processors::set_price,
    support::{Db, set_up},
};

/// Runs a program of the reference with its state in the database at `url`.
pub(super) fn reference(dir: &Path, url: &str, program: &str, arguments: &[&str]) -> Output {
    let file = dir.join("reference.conf");
    let text = format!(
        "[database]\nconnection = {url}\n[storage]\nbackend = loki\n\
         [storage_loki]\nurl = http://127.0.0.1:1/loki/api/v1\n\
         [collect]\ncollector = prometheus\n[fetcher]\nbackend = prometheus\n"
    );
    std::fs::write(&file, text).unwrap();
    let program = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin").join(program);
    let mut command = Command::new(program);
    command.arg("--config-file").arg(&file).args(arguments).env("PYTHONWARNINGS", "ignore");
    command.output().unwrap()
}

/// Makes or upgrades the reference's tables; what its migrations ran.
fn migrate(dir: &Path, url: &str) -> Vec<String> {
    let mut ran = Vec::new();
    for (program, arguments) in
        [("cloudkitty-dbsync", &["upgrade"][..]), ("cloudkitty-storage-init", &[])]
    {
        let output = reference(dir, url, program, arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        ran.extend(text.lines().filter(|line| line.contains("Running")).map(str::to_owned));
    }
    ran
}

/// How MariaDB shows all tables, those of ours or those of the reference.
async fn shown(database: &Database, ours: bool) -> Vec<String> {
    let mut shown = Vec::new();
    let like = if ours { "LIKE" } else { "NOT LIKE" };
    let tables = format!(
        "SELECT table_name FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name {like} 'ratekitty%' ORDER BY table_name"
    );
    let rows_before = regex::Regex::new(" AUTO_INCREMENT=\\d+").unwrap();
    for table in texts(database, &tables).await {
        let row = &rows(database, &format!("SHOW CREATE TABLE {table}")).await[0];
        let text: String = row.try_get_by_index(1).unwrap();
        // How many rows there were is no part of the table; and the order of keys
        // is another with each run of the reference.
        let text = rows_before.replace(&text, "");
        let lines = text.lines().map(|line| line.trim_end_matches(','));
        let (mut keys, columns): (Vec<_>, Vec<_>) =
            lines.partition(|line| line.contains("KEY `") || line.contains("CONSTRAINT"));
        keys.sort_unstable();
        shown.push(columns.into_iter().chain(keys).collect::<Vec<_>>().join("\n"));
    }
    shown
}

#[tokio::test]
async fn tables_are_those_that_the_reference_makes() {
    let dir = tempfile::tempdir().unwrap();
    let (theirs_url, ours_url) =
        (Db::Mariadb.create().await.unwrap(), Db::Mariadb.create().await.unwrap());
    let (theirs, ours) = (open(&theirs_url).await, open(&ours_url).await);
    assert!(migrate(dir.path(), &theirs_url).len() > 10);
    assert_eq!(schema::condition(&ours).await.unwrap(), Condition::Empty);
    assert_eq!(schema::upgrade(&ours).await.unwrap(), Upgrade::Created);
    assert_eq!(schema::upgrade(&ours).await.unwrap(), Upgrade::UpToDate);
    let expected = shown(&theirs, false).await;
    assert_eq!(expected.len(), 15);
    assert_eq!(shown(&ours, false).await, expected);
    // The reference finds nothing to do, and its tools say so.
    assert_eq!(migrate(dir.path(), &ours_url), Vec::<String>::new());
    assert_eq!(shown(&ours, false).await, expected);
    for module in &MODULES[..3] {
        let version = reference(
            dir.path(),
            &ours_url,
            "cloudkitty-dbsync",
            &["version", "--module", module.name],
        );
        let text = String::from_utf8_lossy(&version.stdout).into_owned();
        assert!(text.contains(&format!("{} (head)", module.revision)), "{text}");
    }

    // On what the reference made, nothing of its own changes.
    assert_eq!(schema::condition(&theirs).await.unwrap(), Condition::Reference);
    let error = schema::check(&theirs).await.unwrap_err().to_string();
    assert!(error.contains("dbsync upgrade"), "{error}");
    schema::upgrade(&theirs).await.unwrap();
    schema::check(&theirs).await.unwrap();
    assert_eq!(shown(&theirs, false).await, expected);
    assert_eq!(shown(&theirs, true).await, shown(&ours, true).await);
    assert_eq!(migrate(dir.path(), &theirs_url), Vec::<String>::new());
}

#[tokio::test]
async fn postgresql_has_the_tables_of_mariadb() {
    let (mariadb, postgresql) = (
        open(&Db::Mariadb.create().await.unwrap()).await,
        open(&Db::Postgresql.create().await.unwrap()).await,
    );
    schema::upgrade(&mariadb).await.unwrap();
    schema::upgrade(&postgresql).await.unwrap();
    let numbered = "CASE WHEN extra = 'auto_increment' THEN 'numbered' ELSE column_default END";
    let expected = columns(&mariadb, ("DATABASE()", "CHAR", numbered)).await;
    let numbered = "CASE WHEN is_identity = 'YES' OR column_default LIKE 'nextval(%' \
                    THEN 'numbered' ELSE column_default END";
    let found = columns(&postgresql, ("current_schema()", "TEXT", numbered)).await;
    assert!(expected.len() > 120, "{}", expected.len());
    for what in ["char(64)", "decimal(40, 28)", "NO numbered", "NO now", "NO sql", "YES "] {
        assert!(expected.iter().any(|column| column.contains(what)), "{what}: {expected:?}");
    }
    assert_eq!(found, expected);

    let foreign = texts(&mariadb, MARIADB_FOREIGN_KEYS).await;
    assert_eq!(sorted(&texts(&postgresql, POSTGRESQL_FOREIGN_KEYS).await), sorted(&foreign));
    assert!(foreign.len() >= 10, "{foreign:?}");
    // MariaDB makes an index of its own for a foreign key that has none.
    let is_made_for = |key: &str| {
        let plain = key.replace(" plain ", " ") + " to ";
        key.contains(" plain ") && foreign.iter().any(|foreign| foreign.starts_with(&plain))
    };
    let mut expected = texts(&mariadb, MARIADB_KEYS).await;
    assert!(expected.iter().any(|key| is_made_for(key)), "{expected:?}");
    expected.retain(|key| !is_made_for(key));
    for kind in [" primary ", " unique ", " plain "] {
        assert!(expected.iter().any(|key| key.contains(kind)), "{kind}: {expected:?}");
    }
    assert_eq!(sorted(&texts(&postgresql, POSTGRESQL_KEYS).await), sorted(&expected));
}

fn sorted(lines: &[String]) -> Vec<&String> {
    let mut lines: Vec<_> = lines.iter().collect();
    lines.sort();
    lines
}

/// `TABLE primary|unique|plain COLUMN...` of each key and index.
const MARIADB_KEYS: &str = "\
    SELECT CAST(CONCAT(table_name, ' ', MIN(CASE WHEN index_name = 'PRIMARY' THEN 'primary' \
        WHEN non_unique = 0 THEN 'unique' ELSE 'plain' END), ' ', \
        GROUP_CONCAT(column_name ORDER BY seq_in_index SEPARATOR ' ')) AS CHAR) \
    FROM information_schema.statistics WHERE table_schema = DATABASE() \
    GROUP BY table_name, index_name";

const POSTGRESQL_KEYS: &str = "\
    SELECT concat(owner.relname, ' ', CASE WHEN key.indisprimary THEN 'primary' \
        WHEN key.indisunique THEN 'unique' ELSE 'plain' END, ' ', \
        string_agg(col.attname::text, ' ' ORDER BY place.at)) \
    FROM pg_index AS key \
    JOIN pg_class AS owner ON owner.oid = key.indrelid \
    JOIN pg_namespace AS space ON space.oid = owner.relnamespace \
    CROSS JOIN LATERAL unnest(key.indkey) WITH ORDINALITY AS place (number, at) \
    JOIN pg_attribute AS col ON col.attrelid = owner.oid AND col.attnum = place.number \
    WHERE space.nspname = current_schema() \
    GROUP BY owner.relname, key.indexrelid, key.indisprimary, key.indisunique";

/// `TABLE COLUMN... to TABLE COLUMN..., on delete, on update` of each foreign key.
const MARIADB_FOREIGN_KEYS: &str = "\
    SELECT CAST(CONCAT(k.table_name, ' ', \
        GROUP_CONCAT(k.column_name ORDER BY k.ordinal_position SEPARATOR ' '), \
        ' to ', k.referenced_table_name, ' ', \
        GROUP_CONCAT(k.referenced_column_name ORDER BY k.ordinal_position SEPARATOR ' '), \
        ', ', r.delete_rule, ', ', r.update_rule) AS CHAR) \
    FROM information_schema.key_column_usage AS k \
    JOIN information_schema.referential_constraints AS r \
        ON r.constraint_schema = k.constraint_schema \
        AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name \
    WHERE k.table_schema = DATABASE() \
    GROUP BY k.table_name, k.constraint_name, k.referenced_table_name, r.delete_rule, \
        r.update_rule";

/// `NO ACTION` is what MariaDB calls `RESTRICT`.
const POSTGRESQL_FOREIGN_KEYS: &str = "\
    SELECT concat(owner.relname, ' ', (SELECT string_agg(col.attname::text, ' ' ORDER BY place.at) \
            FROM unnest(fk.conkey) WITH ORDINALITY AS place (number, at) JOIN pg_attribute AS col \
            ON col.attrelid = fk.conrelid AND col.attnum = place.number), \
        ' to ', other.relname, ' ', (SELECT string_agg(col.attname::text, ' ' ORDER BY place.at) \
            FROM unnest(fk.confkey) WITH ORDINALITY AS place (number, at) JOIN pg_attribute AS col \
            ON col.attrelid = fk.confrelid AND col.attnum = place.number), \
        ', ', CASE fk.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' \
            WHEN 'a' THEN 'RESTRICT' WHEN 'r' THEN 'RESTRICT' ELSE 'another' END, \
        ', ', CASE fk.confupdtype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' \
            WHEN 'a' THEN 'RESTRICT' WHEN 'r' THEN 'RESTRICT' ELSE 'another' END) \
    FROM pg_constraint AS fk \
    JOIN pg_class AS owner ON owner.oid = fk.conrelid \
    JOIN pg_class AS other ON other.oid = fk.confrelid \
    JOIN pg_namespace AS space ON space.oid = owner.relnamespace \
    WHERE fk.contype = 'f' AND space.nspname = current_schema()";

/// Every column in its place: name, type, whether it may be null, lengths, what
/// it is unless it is given.
async fn columns(database: &Database, (schema, text, default): (&str, &str, &str)) -> Vec<String> {
    let sql = format!(
        "SELECT CAST(table_name AS {text}), CAST(column_name AS {text}), \
         CAST(data_type AS {text}), CAST(is_nullable AS {text}), \
         CAST(character_maximum_length AS {text}), CAST(numeric_precision AS {text}), \
         CAST(numeric_scale AS {text}), CAST({default} AS {text}) \
         FROM information_schema.columns \
         WHERE table_schema = {schema} ORDER BY table_name, ordinal_position"
    );
    let rows = rows(database, &sql).await;
    let read = |row: &sea_orm::QueryResult| {
        let at = |index| row.try_get_by_index::<Option<String>>(index).unwrap().unwrap_or_default();
        let kind = match at(2).as_str() {
            "varchar" | "character varying" => format!("varchar({})", at(4)),
            "char" | "character" => format!("char({})", at(4)),
            "decimal" | "numeric" => format!("decimal({}, {})", at(5), at(6)),
            "int" | "integer" => "int".to_owned(),
            "datetime" | "timestamp without time zone" => "date".to_owned(),
            "tinyint" | "boolean" => "boolean".to_owned(),
            "blob" | "bytea" => "bytes".to_owned(),
            "enum" | "USER-DEFINED" => "enum".to_owned(),
            "longtext" => "text".to_owned(),
            other => other.to_owned(),
        };
        let default = match at(7).as_str() {
            "NULL" => String::new(),
            "current_timestamp()" | "now()" => "now".to_owned(),
            "0" => "false".to_owned(),
            // PostgreSQL tells the type of a text.
            other => other.split("::").next().unwrap().trim_matches('\'').to_owned(),
        };
        format!("{}.{} {kind} {} {default}", at(0), at(1), at(3))
    };
    let mut columns: Vec<_> = rows.iter().map(read).collect();
    columns.sort();
    columns
}

#[tokio::test]
async fn other_revisions_stop_the_start() {
    for db in Db::SERVERS {
        let database = open(&db.create().await.unwrap()).await;
        schema::upgrade(&database).await.unwrap();
        for module in MODULES {
            let set =
                |revision: &str| format!("UPDATE {} SET version_num = '{revision}'", module.table);
            database.connection().execute_unprepared(&set("older")).await.unwrap();
            for error in [
                schema::check(&database).await.unwrap_err(),
                schema::upgrade(&database).await.unwrap_err(),
            ] {
                let error = error.to_string();
                assert!(error.contains(module.table) && error.contains("older"), "{error}");
                assert!(error.contains("cloudkitty-dbsync upgrade"), "{error}");
            }
            database.connection().execute_unprepared(&set(module.revision)).await.unwrap();
        }
        database
            .connection()
            .execute_unprepared("UPDATE ratekitty_schema SET version = 99")
            .await
            .unwrap();
        let error = schema::upgrade(&database).await.unwrap_err().to_string();
        assert!(error.contains("version 99"), "{error}");
    }
}

#[tokio::test]
async fn several_may_make_the_tables_at_once() {
    for db in Db::SERVERS {
        let url = db.create().await.unwrap();
        let upgrades = (0..5).map(|_| {
            let url = url.clone();
            async move { schema::upgrade(&open(&url).await).await }
        });
        let results = futures::future::join_all(upgrades).await;
        for result in results {
            result.unwrap();
        }
        schema::check(&open(&url).await).await.unwrap();
    }
}

#[tokio::test]
async fn tables_that_were_begun_are_finished() {
    // MariaDB keeps what a broken upgrade made.
    let database = open(&Db::Mariadb.create().await.unwrap()).await;
    schema::upgrade(&database).await.unwrap();
    let complete = shown(&database, true).await;
    for sql in [
        "DELETE FROM ratekitty_schema",
        "DROP TABLE ratekitty_superseded",
        "DROP TABLE ratekitty_points",
        "DROP INDEX ratekitty_streams_scope ON ratekitty_streams",
    ] {
        database.connection().execute_unprepared(sql).await.unwrap();
    }
    assert!(schema::check(&database).await.is_err());
    schema::upgrade(&database).await.unwrap();
    assert_eq!(shown(&database, true).await, complete);
}

#[tokio::test]
async fn the_reference_uses_the_state_that_we_keep() {
    let url = Db::Mariadb.create().await.unwrap();
    let database = open(&url).await;
    schema::upgrade(&database).await.unwrap();
    let keys = ScopeKeys {
        scope_key: "project_id".into(),
        fetcher: "prometheus".into(),
        collector: "prometheus".into(),
    };
    let last = "2026-11-01T05:00:00Z".parse().unwrap();
    for scope in ["p1", "p2"] {
        scopes::add(database.connection(), scope, &keys, last, last).await.unwrap();
    }
    reprocessing::schedule(&database, "p2", (last, last), "because é").await.unwrap();
    set_price(&database, 3).await;
    let (text, past) = ("# ours: é\npass", seconds(0).naive_utc());
    let audit = Audit::new("ours".into(), None, (past, None), ("test", past));
    let connection = database.connection();
    scripts::add(connection, &new_id(), text.as_bytes(), &audit).await.unwrap();
    let checksum = scripts::load(connection, Which::Kept).await.unwrap()[0].checksum.clone();
    let dir = tempfile::tempdir().unwrap();
    // Writes the configuration file.
    reference(dir.path(), &url, "cloudkitty-dbsync", &["version", "--module", "cloudkitty"]);
    let python = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin/python");
    let output = Command::new(python)
        .arg(fixture("state/reference.py"))
        .arg(dir.path().join("reference.conf"))
        .output()
        .unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let expected = json!({
        "last": "2026-11-01T05:00:00+00:00",
        "active": true,
        "scopes": ["p1", "p2"],
        "schedules": [["p2", "2026-11-01T05:00:00", "because é"]],
        "modules": {"hashmap": true, "pyscripts": false},
        "scripts": [["ours", text, checksum]],
        "rules": [["3.0000000000000000000000000000", "flat"]],
    });
    assert_eq!(seen, expected);
    // And we read what it wrote.
    let found = scripts::load(connection, Which::Kept).await.unwrap();
    assert_eq!((&*found[1].audit.name, &*found[1].data), ("Python's", "# é\npass".as_bytes()));
    let state = scopes::get(&database, "p1", &keys).await.unwrap().unwrap();
    assert_eq!(state.last_processed, "2026-11-02T03:00:00Z".parse::<DateTime<Utc>>().unwrap());
    assert!(!state.active && state.toggled > last.naive_utc());
    let schedules = reprocessing::unfinished(&database).await.unwrap();
    let [ours, theirs] = schedules.as_slice() else { panic!("{schedules:?}") };
    assert_eq!((&*ours.reason, &*theirs.reason), ("because é", "Python"));
    assert_eq!(theirs.start, "2026-11-01T05:00:00Z".parse::<DateTime<Utc>>().unwrap());
    assert_eq!(theirs.current, None);
}
