//! Processors: several at a time, far behind, told to rate again, killed.

mod chunks;
mod crowd;
mod hostile;
mod lengths;
mod reprocessing;
mod switches;
mod torture;

use ratekitty::{
    config::{Config, Place, Sources},
    state::{
        Database,
        modules::{self, ModuleState},
        rating_rules::{self, CostType, MappingRow, Parent},
        schema,
        scopes::ScopeKeys,
    },
    storage::{Page, Selection, Storage},
    time::{Clock, RealClock, seconds},
};
use sea_orm::ConnectionTrait;
use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use crate::support::{Running, cloud::usage};

const HOUR: i64 = 3_600;

/// Size that no file grows beyond while a disk is full, in bytes: logs are
/// smaller, databases larger.
const FULL: u64 = 64 << 10;

/// Writes a configuration and opens its database.
async fn set_up(dir: &Path, name: &str, text: &str) -> (Config, Database) {
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    let config = Config::from_sources(&Sources::read(&[Place::File(file)]).unwrap()).unwrap();
    let database = Database::connect(&config.database).await.unwrap();
    schema::upgrade(&database).await.unwrap();
    (config, database)
}

/// What tells the scopes of a [`crate::support::Cloud`] from others.
fn keys() -> ScopeKeys {
    let name = "prometheus".to_owned();
    ScopeKeys { scope_key: "project_id".into(), fetcher: name.clone(), collector: name }
}

/// Runs a program so that a write beyond a limit on files is an error of the
/// write, and not the end of the program.
fn command(program: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).args(program).stdin(Stdio::null());
    command
}

/// A processor in a process of its own, which says what it does in the file `log`.
fn processor(conf: &Path, log: &Path, arguments: &[&str]) -> Running {
    let log = File::create(log).unwrap();
    let mut command = command(&[env!("CARGO_BIN_EXE_ratekitty"), "--config-file"]);
    command.arg(conf).arg("processor").args(arguments);
    command.stdout(log.try_clone().unwrap()).stderr(log);
    Running::start(&mut command)
}

/// Gives instances a price.
pub async fn set_price(database: &Database, price: i64) {
    let connection = database.connection();
    let hashmap = ModuleState { name: "hashmap".into(), enabled: true, priority: 1 };
    let update = format!("UPDATE hashmap_mappings SET cost = '{price}'");
    let changed = connection.execute_unprepared(&update).await.unwrap().rows_affected();
    if changed == 0 && rating_rules::load(connection).await.unwrap().mappings.is_empty() {
        modules::set(connection, &hashmap).await.unwrap();
        let service = rating_rules::add_service(connection, &rating_rules::new_id(), "instance")
            .await
            .unwrap();
        let past = seconds(0).naive_utc();
        let mapping = MappingRow {
            id: 0,
            mapping_id: rating_rules::new_id(),
            parent: Parent::Service(service),
            group: None,
            value: None,
            cost: price.to_string().parse().unwrap(),
            kind: CostType::Flat,
            tenant_id: None,
            name: String::new(),
            start: past,
            end: None,
            description: None,
            created_by: "test".into(),
        };
        rating_rules::add_mapping(connection, &mapping, past).await.unwrap();
    }
}

/// What is stored: for each scope, period and server, its price per unit; panics
/// if a quantity is wrong, or a server is there twice in a period.
pub async fn unit_prices(
    storage: &dyn Storage,
    (begin, end): (i64, i64),
) -> BTreeMap<(String, i64, String), i64> {
    let window = Selection::all(seconds(begin), seconds(end));
    let mut prices = BTreeMap::new();
    for (period, _, point) in storage.retrieve(&window, Page::ALL).await.unwrap().points {
        let text = |label: &str| point.groupby[label].as_str().unwrap().to_owned();
        let (scope, id) = (text("project_id"), text("id"));
        let expected =
            usage(scope[1..].parse().unwrap(), id.parse().unwrap(), period.end.timestamp());
        assert_eq!(point.qty.to_f64(), expected as f64, "{scope} {period} {id}");
        let price = point.price.to_f64() / point.qty.to_f64();
        assert_eq!(price.fract(), 0.0, "{scope} {period} {id}: {price}");
        let key = (scope, period.begin.timestamp(), id);
        let before = prices.insert(key.clone(), price as i64);
        assert_eq!(before, None, "{key:?} is there twice");
    }
    prices
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(RealClock)
}

/// Begin of the first of the last `hours` hours that are due with
/// `wait_periods = 1`; one that becomes due meanwhile may come on top.
fn hours_ago(hours: i64) -> i64 {
    let now = RealClock.now().timestamp();
    now - now.rem_euclid(HOUR) - (hours + 1) * HOUR
}
