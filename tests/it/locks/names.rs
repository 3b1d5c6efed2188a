//! Names of locks, as the reference's own classes make them.

use chrono::{DateTime, Utc};
use ratekitty::{
    lock::LockName,
    state::{reprocessing, schema},
};
use serde_json::Value;

use super::scope;
use crate::{
    databases::{
        open,
        programs::{configure, python},
    },
    support::Db,
};

/// Names the lock of each scope, and of what is to be reprocessed by the state
/// database: FILE SCOPE...
const NAMES: &str = r#"
import json
import sys
import warnings

warnings.simplefilter("ignore")

from oslo_config import cfg

from cloudkitty import orchestrator, storage_state

cfg.CONF(["--config-file", sys.argv[1]], project="cloudkitty")


class Place:
    @staticmethod
    def get_lock(name):
        return name


def names(kind, worked_on):
    # Without what it would connect to.
    service = kind.__new__(kind)
    service.worker_class = orchestrator.ReprocessingWorker
    bases = [service.generate_lock_base_name(one) for one in worked_on]
    return [orchestrator.get_lock(Place, base)[0] for base in bases]


schedules = storage_state.ReprocessingSchedulerDb().get_all(order="asc")
print(json.dumps({
    "scopes": names(orchestrator.CloudKittyProcessor, sys.argv[2:]),
    "schedules": names(orchestrator.CloudKittyReprocessor, schedules),
}))
"#;

#[tokio::test]
async fn names_are_those_of_the_references_classes() {
    let url = Db::Mariadb.create().await.unwrap();
    let database = open(&url).await;
    schema::upgrade(&database).await.unwrap();
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    for (scope_id, start, end) in [
        ("p1", "2026-11-01T05:00:00Z", "2026-11-01T07:00:00Z"),
        // Midnight, seconds, and a scope that is no word.
        ("p1", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("it's \"2\" -end=", "2026-10-25T00:30:07Z", "2026-10-25T01:30:59Z"),
    ] {
        reprocessing::schedule(&database, scope_id, (at(start), at(end)), "").await.unwrap();
    }
    let schedules = reprocessing::unfinished(&database).await.unwrap();
    assert_eq!(schedules.len(), 3);
    let scopes = ["p1", "it's \"2\" -end=", "6f1c7e4a9d0b4c55a1c9"];
    let dir = tempfile::tempdir().unwrap();
    let more = "[fetcher]\nbackend = prometheus\n[collect]\ncollector = prometheus\n";
    let conf = configure(dir.path(), &url, "http://127.0.0.1:1/loki/api/v1", more);
    let conf = conf.display().to_string();
    let arguments: Vec<&str> = std::iter::once(conf.as_str()).chain(scopes).collect();
    // Dates in names are in UTC, wherever the process is.
    let theirs = python(NAMES, "Europe/Paris", &arguments);
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let ours: Vec<_> = scopes.iter().map(|name| scope(name).digest().to_owned()).collect();
    assert_eq!(texts(&theirs["scopes"]), ours);
    let keys = ("prometheus", "prometheus", "project_id");
    let ours: Vec<_> = schedules
        .iter()
        .map(|schedule| {
            let scope = (schedule.id, schedule.scope_id.as_str());
            let name = LockName::reprocessing(scope, (schedule.start, schedule.end), keys);
            name.digest().to_owned()
        })
        .collect();
    assert_eq!(texts(&theirs["schedules"]), ours);
}
