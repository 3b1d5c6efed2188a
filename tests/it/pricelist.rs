//! The price list as a file.

use std::collections::BTreeSet;

use chrono::NaiveDateTime;
use ratekitty::{
    dataframe::{DataFrame, DataPoint, Labels},
    decimal::Decimal,
    rating::{Rater, hashmap::Rules, pricelist::PriceList},
    state::{
        audit::Audit,
        collectors,
        modules::{self, ModuleState},
        rating_rules::{self, CostType, MappingRow, Parent, ThresholdRow, new_id},
        scripts,
    },
    time::{Period, seconds},
};
use serde_json::json;

use crate::support::{Db, TestApp, cloud::METRICS};

const LIST: &str = r#"
modules:
  hashmap: {enabled: true, priority: 3}
hashmap:
  groups: [uptime, empty]
  services:
    - name: instance
      mappings:
        - {type: flat, cost: "0.1000000000000000000000000001", start: 2026-01-01T00:00:00}
      thresholds:
        - {level: "100", type: rate, cost: "0.9", group: uptime}
      fields:
        - name: flavor
          mappings:
            - {value: m1.large, type: flat, cost: 0.12345678901234567891, group: uptime, start: 2026-01-01T00:00:00}
            - {value: m1.large, type: rate, cost: 2, tenant_id: p1, start: 2026-01-01T00:00:00, end: 2026-02-01T00:00:00, description: "a discount"}
    - name: volume
"#;

fn now() -> NaiveDateTime {
    "2026-11-01T00:00:00".parse().unwrap()
}

async fn import(app: &TestApp, yaml: &str, dry_run: bool) -> Vec<String> {
    let list = PriceList::parse(yaml).unwrap();
    let changes = list.import(&app.database, now(), dry_run).await.unwrap();
    changes.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn an_import_is_a_difference() {
    let app = TestApp::new("2026-11-01T00:00:00Z", "", "").await;
    let planned = import(&app, LIST, true).await;
    assert!(PriceList::export(&app.database).await.unwrap().hashmap.services.is_empty());
    let done = import(&app, LIST, false).await;
    assert_eq!(planned, done);
    assert_eq!(done[0], "~ module hashmap: enabled, priority 3");
    assert!(
        done.contains(
            &"+ service instance, field flavor: mapping of value m1.large, rate 2 for p1 from 2026-01-01 00:00:00 on"
                .to_owned()
        ),
        "{done:#?}"
    );
    assert_eq!(import(&app, LIST, false).await, Vec::<String>::new());

    let changed = LIST
        .replace("cost: 0.12345678901234567891", "cost: 0.5")
        .replace("    - name: volume\n", "");
    assert_eq!(
        import(&app, &changed, false).await,
        [
            "+ service instance, field flavor: mapping of value m1.large, flat 0.5 from 2026-01-01 00:00:00 on",
            "- service instance, field flavor: mapping of value m1.large at 0.12345678901234567891, from 2026-11-01 00:00:00 on",
            "- service volume",
        ]
    );
    assert_eq!(import(&app, &changed, false).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    let app = TestApp::new("2026-11-01T00:00:00Z", "", "").await;
    import(&app, LIST, false).await;
    let exported = PriceList::export(&app.database).await.unwrap();
    let yaml = exported.to_yaml().unwrap();
    assert!(yaml.contains("0.1000000000000000000000000001"), "{yaml}");
    assert_eq!(import(&app, &yaml, false).await, Vec::<String>::new());
    let other = TestApp::new("2026-11-01T00:00:00Z", "", "").await;
    import(&other, &yaml, false).await;
    assert_eq!(PriceList::export(&other.database).await.unwrap(), exported);
}

#[test]
fn refuses_what_the_api_would_refuse() {
    let service = |rules: &str| format!("hashmap:\n  services:\n    - name: s\n{rules}");
    let cases = [
        ("nonsense: 1".to_owned(), "unknown field"),
        ("modules: {hashmaps: {enabled: true}}\nhashmap: {services: []}".to_owned(), "not known"),
        (
            "modules: {hashmap: {enabled: true, priority: 0}}\nhashmap: {services: []}".to_owned(),
            "must not be 0",
        ),
        ("".to_owned(), ""),
        ("modules: {}".to_owned(), "hashmap"),
        ("hashmap: {}".to_owned(), "services"),
        (service("      mappings: [{type: flat, cost: abc}]"), "abc"),
        (service("      mappings: [{type: flat, cost: NaN}]"), "NaN"),
        (service("      mappings: [{type: flat}]"), "cost"),
        (service("      mappings: [{type: cubic, cost: 1}]"), "cubic"),
        (service("      mappings: [{type: flat, cost: '1234567890123'}]"), "12 digits"),
        (service("      mappings: [{type: flat, cost: 1, value: x}]"), "no `value`"),
        (
            service("      mappings: [{type: flat, cost: 1}, {type: rate, cost: 2}]"),
            "at the same time",
        ),
        (
            service("      fields: [{name: f, mappings: [{type: flat, cost: 1}]}]"),
            "needs a `value`",
        ),
        (service("      fields: [{name: f}, {name: f}]"), "twice"),
        (
            service(
                "      thresholds: [{level: 1, type: flat, cost: 1}, {level: 1.0, type: rate, cost: 2}]",
            ),
            "two thresholds",
        ),
        (
            service(
                "      thresholds: [{level: 1, type: flat, cost: 1, tenant_id: p, group: g}, {level: 1, type: flat, cost: 1, tenant_id: p, overlaps: true}]",
            ),
            "two thresholds",
        ),
        (service("      thresholds: [{level: 1234567890123, type: flat, cost: 1}]"), "12 digits"),
        (service("      mappings: [{type: flat, cost: -1234567890123}]"), "12 digits"),
        (service("      mappings: [{type: flat, cost: 1, name: ''}]"), "1 to 255"),
        (
            "hashmap: {services: []}\npyscripts: [{name: a, data: 'if'}]".to_owned(),
            "The script is no Python",
        ),
        (
            service(
                "      mappings: [{type: flat, cost: 1, start: 2026-02-01T00:00:00, end: 2026-01-01T00:00:00}]",
            ),
            "not after",
        ),
        (
            service(
                "      mappings: [{type: flat, cost: 1, name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}]",
            ),
            "32 characters",
        ),
    ];
    for (yaml, reason) in cases {
        let error = PriceList::parse(&yaml).unwrap_err().to_string();
        assert!(error.contains(reason), "{yaml}\n{error}");
    }
}

/// The flat price of a point of type `s` at an instant, as text.
async fn price(app: &TestApp, at: &str) -> String {
    let rows = rating_rules::load(app.database.connection()).await.unwrap();
    let rules = Rules::compile(&rows, Some("p1"), at.parse().unwrap());
    let mut frame = DataFrame::new(Period::starting(seconds(0), 3_600));
    let labels = json!({"f": "x"}).as_object().unwrap().clone();
    frame.add("s", [DataPoint::new("u".into(), Decimal::one(), labels, Labels::new())]);
    rules.rate(&mut frame).unwrap();
    frame.usage[0].1[0].price.quantize(2).to_plain_string()
}

#[tokio::test]
async fn a_change_of_price_leaves_periods_before_it_alone() {
    let app = TestApp::new("2026-11-01T00:00:00Z", "", "").await;
    let list = |rules: &str| format!("hashmap:\n  services:\n    - name: s\n      {rules}\n");
    // Rating lags behind: hours before the import are still to be rated.
    let (before, after) = ("2026-10-31T22:00:00", "2026-11-01T00:00:00");
    import(&app, &list("mappings: [{type: flat, cost: 10, group: g}]"), false).await;
    assert_eq!(
        (price(&app, before).await, price(&app, after).await),
        ("10.00".into(), "10.00".into())
    );
    import(&app, &list("mappings: [{type: flat, cost: 12, group: g}]"), false).await;
    assert_eq!(
        (price(&app, before).await, price(&app, after).await),
        ("10.00".into(), "12.00".into())
    );
    // Another group takes the place, too.
    import(&app, &list("mappings: [{type: flat, cost: 12}]"), false).await;
    assert_eq!(
        (price(&app, before).await, price(&app, after).await),
        ("10.00".into(), "12.00".into())
    );
    // Gone from the list, or the whole service gone: from now on only.
    import(&app, &list("fields: [{name: f, mappings: [{value: x, type: flat, cost: 5}]}]"), false)
        .await;
    assert_eq!(
        (price(&app, before).await, price(&app, after).await),
        ("15.00".into(), "5.00".into())
    );
    import(&app, "hashmap: {services: []}", false).await;
    assert_eq!(
        (price(&app, before).await, price(&app, after).await),
        ("15.00".into(), "0.00".into())
    );
    assert_eq!(import(&app, "hashmap: {services: []}", false).await, Vec::<String>::new());
    // Back again, in another group: not beside what held before.
    import(&app, &list("mappings: [{type: flat, cost: 7, group: h}]"), false).await;
    let prices = (price(&app, before).await, price(&app, after).await);
    assert_eq!(prices, ("15.00".into(), "7.00".into()));
}

#[tokio::test]
async fn an_import_is_seen_whole_or_not_at_all() {
    let url = "http://127.0.0.1:1";
    let app = TestApp::with_prometheus("2026-11-01T00:00:00Z", url, "", METRICS).await;
    let list = |rules: &str| {
        format!(
            "modules: {{hashmap: {{enabled: true}}}}\nhashmap:\n  services:\n    - name: s\n      {rules}\n"
        )
    };
    // The same price, once of the service and once of a label's value.
    let lists = [
        list("mappings: [{type: flat, cost: 10, group: g}]"),
        list("fields: [{name: f, mappings: [{value: x, type: flat, cost: 10, group: g}]}]"),
    ];
    import(&app, &lists[0], false).await;
    let database = app.database.clone();
    let importer = tokio::spawn(async move {
        for number in 1..80 {
            let list = PriceList::parse(&lists[number % 2]).unwrap();
            list.import(&database, now(), false).await.unwrap();
        }
    });
    let at = "2026-11-02T00:00:00".parse().unwrap();
    while !importer.is_finished() {
        let rater = app.pipeline().rater.scope("p1", at, None).await.unwrap();
        let mut frame = DataFrame::new(Period::starting(seconds(0), 3_600));
        let labels = json!({"f": "x"}).as_object().unwrap().clone();
        frame.add("s", [DataPoint::new("u".into(), Decimal::one(), labels, Labels::new())]);
        rater.rate(&mut frame).await.unwrap();
        assert_eq!(frame.usage[0].1[0].price, Decimal::from(10));
    }
    importer.await.unwrap();
}

/// Texts that files and databases are known to change. All databases can hold
/// them, and none finds two of them to be the same.
const TEXTS: [&str; 8] = [
    "",
    "it's \"quoted\": # no comment",
    "two\r\nlines\n\n",
    "équipe 日本 \u{2028}\u{85}",
    "  blanks around \t",
    "null",
    "1e3",
    "- {a: *b, c: |}",
];

fn at(text: &str) -> NaiveDateTime {
    format!("{text}T00:00:00").parse().unwrap()
}

/// A mapping of no group, for all scopes, at all times.
fn mapping(parent: Parent, value: Option<&str>, cost: &str) -> MappingRow {
    MappingRow {
        id: 0,
        mapping_id: new_id(),
        parent,
        group: None,
        value: value.map(str::to_owned),
        cost: cost.parse().unwrap(),
        kind: CostType::Flat,
        tenant_id: None,
        name: new_id().replace('-', ""),
        start: seconds(0).naive_utc(),
        end: None,
        description: None,
        created_by: "somebody".to_owned(),
    }
}

/// A threshold of no group, for all scopes.
fn threshold(parent: Parent, level: &str, cost: &str) -> ThresholdRow {
    ThresholdRow {
        id: 0,
        threshold_id: new_id(),
        parent,
        group: None,
        level: level.parse().unwrap(),
        cost: cost.parse().unwrap(),
        kind: CostType::Flat,
        tenant_id: None,
    }
}

/// What nobody would write down, and the API or the reference keeps.
async fn keep_odd_rules(app: &TestApp) {
    let connection = app.database.connection();
    let add =
        async |row: MappingRow| rating_rules::add_mapping(connection, &row, now()).await.unwrap();
    let add_threshold = async |row: ThresholdRow| {
        rating_rules::add_threshold(connection, &row).await.unwrap();
    };
    let mut groups = Vec::new();
    for name in TEXTS.iter().chain(&["_DEFAULT_", "of no rule"]) {
        groups.push(Some(rating_rules::add_group(connection, &new_id(), name).await.unwrap()));
    }
    for (number, name) in TEXTS.iter().enumerate() {
        let cost = |more: usize| format!("{}.{more}", number + 1);
        let id = rating_rules::add_service(connection, &new_id(), name).await.unwrap();
        let (service, group) = (Parent::Service(id), groups[number]);
        // Two at a time: without a value, and with an empty one.
        let start = at("2026-06-01");
        add(mapping(service, None, &cost(3))).await;
        add(MappingRow { start, ..mapping(service, Some(""), &cost(2)) }).await;
        // Two at a time, as the reference lets them in; the later one counts.
        let of_group = |cost: &str| MappingRow { group, ..mapping(service, None, cost) };
        let end = Some(at("2026-12-31"));
        add(MappingRow { start: at("2026-01-01"), end, ..of_group("5") }).await;
        add(MappingRow { start, ..of_group("0.0000000000000000000000000001") }).await;
        // Of one scope, of a scope without a name, ended, never to hold, deleted.
        let of_scope = |tenant: &str| MappingRow {
            tenant_id: Some(tenant.to_owned()),
            name: format!("n{number} \"{tenant}\": #\n"),
            description: Some(TEXTS[7 - number].to_owned()),
            ..of_group("999999999999.9999999999999999999999999999")
        };
        add(MappingRow { end: Some(at("2026-02-15")), ..of_scope("p1") }).await;
        add(MappingRow { kind: CostType::Rate, ..of_scope("") }).await;
        add(MappingRow { start, end: Some(start), ..of_scope("p2") }).await;
        let deleted = add(mapping(service, None, "77")).await;
        rating_rules::delete_mapping(connection, deleted, now(), "somebody").await.unwrap();
        // The same level in several groups, and twice in none.
        add_threshold(threshold(service, "10", "0.5")).await;
        add_threshold(ThresholdRow { group, ..threshold(service, "10", "0.25") }).await;
        add_threshold(ThresholdRow { group: groups[8], ..threshold(service, "10", "-3") }).await;
        add_threshold(threshold(service, "10.00000000", &cost(7))).await;
        let tenant_id = Some("p1".to_owned());
        let kind = CostType::Rate;
        add_threshold(ThresholdRow { kind, tenant_id, group, ..threshold(service, "10", "3") })
            .await;
        add_threshold(threshold(service, "-0.00000001", "0.125")).await;
        let id = rating_rules::add_field(connection, &new_id(), id, name).await.unwrap();
        let field = Parent::Field(id);
        for (at, value) in TEXTS.iter().enumerate() {
            let group = groups[(number + at) % groups.len()];
            add(MappingRow { group, ..mapping(field, Some(value), &format!("0.{at}1")) }).await;
        }
        add(mapping(field, None, "0.6")).await;
        add(mapping(field, Some(""), "0.7")).await;
    }
    // A field whose name is longer than most, with thresholds of its own.
    let id = rating_rules::add_service(connection, &new_id(), "sized").await.unwrap();
    let name = "é".repeat(255);
    let field =
        Parent::Field(rating_rules::add_field(connection, &new_id(), id, &name).await.unwrap());
    add_threshold(threshold(field, "999999999999.99999999", "1")).await;
    add_threshold(threshold(field, "0", "4")).await;
    add_threshold(threshold(field, "0", "2")).await;
    add_threshold(ThresholdRow { group: groups[8], ..threshold(field, "0", "1") }).await;
    add(mapping(Parent::Service(id), None, "0")).await;
}

/// Scripts of all kinds; the order in which they run counts.
async fn keep_odd_scripts(app: &TestApp) {
    let change = |what: &str, line: &str, blank: &str| {
        format!(
            "for points in data['usage'].values():{line}{blank}for point in points:{line}\
             {blank}{blank}point['rating']['price'] {what}"
        )
    };
    let (past, future) = (at("2020-01-01"), at("2999-01-01"));
    let texts = [
        ("", change("+= 1", "\r\n", "  "), past, None),
        ("it's: #1\n", change("*= 3", "\n", "\t"), past, None),
        ("null", change("+= 1\n  \n\n", "\n", " "), past, Some(at("2026-06-15"))),
        ("Python 2", "print \"é\"\r".to_owned(), past, Some(at("2020-02-01"))),
        ("to come", "if".to_owned(), future, None),
        ("never", change("+= 7", "\n", " "), past, Some(past)),
        ("empty", String::new(), at("2026-03-01"), None),
        ("deleted", change("+= 70", "\n", " "), past, None),
        ("blank end", change("+= 0 # é\n\n \n", "\n", " "), past, None),
    ];
    let connection = app.database.connection();
    for (name, text, start, end) in texts {
        let audit = Audit::new(name.to_owned(), None, (start, end), ("somebody", past));
        scripts::add(connection, &new_id(), text.as_bytes(), &audit).await.unwrap();
    }
    let rows = scripts::load(connection, scripts::Which::Kept).await.unwrap();
    let deleted = rows.iter().find(|row| row.audit.name == "deleted").unwrap();
    scripts::delete(connection, deleted.id, now(), "somebody").await.unwrap();
}

/// Prices of points of all kinds, in several scopes at several times, and quoted.
async fn all_prices(app: &TestApp) -> Vec<String> {
    let rater = Rater::new(&app.config, app.database.clone());
    let mut prices = Vec::new();
    for day in ["2025-12-01", "2026-02-01", "2026-06-10", "2026-07-01", "2027-01-01"] {
        for scope in [Some("p1"), Some("p2"), Some(""), None] {
            let rater = match scope {
                Some(scope) => rater.scope(scope, at(day), None).await.unwrap(),
                None => rater.quoting(at(day)).await.unwrap(),
            };
            let mut frame = DataFrame::new(Period::starting(seconds(0), 3_600));
            let mut point = |kind: &str, label: &str, value: &str, qty: &str| {
                let mut labels = Labels::new();
                labels.insert(label.to_owned(), value.into());
                let qty = qty.parse().unwrap();
                frame.add(kind, [DataPoint::new("u".into(), qty, labels, Labels::new())]);
            };
            for kind in TEXTS {
                for value in TEXTS.iter().chain(&["another"]) {
                    point(kind, kind, value, "1");
                    point(kind, kind, value, "10.5");
                }
            }
            for value in ["0", "-1", "999999999999.99999999"] {
                point("sized", &"é".repeat(255), value, "2");
            }
            rater.rate(&mut frame).await.unwrap();
            let points = frame.usage.iter().flat_map(|(_, points)| points);
            prices.extend(points.map(|point| point.price.to_string()));
        }
    }
    prices
}

#[tokio::test]
async fn whatever_the_tables_hold_an_empty_database_rates_the_same() {
    for db in Db::ALL {
        let app = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
        keep_odd_rules(&app).await;
        keep_odd_scripts(&app).await;
        // The API takes any priority; states of collectors are kept beside.
        for (name, enabled, priority) in
            [("hashmap", true, -1), ("pyscripts", true, 0), ("noop", false, 5), ("gone", false, 9)]
        {
            let module = ModuleState { name: name.to_owned(), enabled, priority };
            modules::set(app.database.connection(), &module).await.unwrap();
        }
        collectors::enable(&app.database, "prometheus", true).await.unwrap();
        let prices = all_prices(&app).await;
        let different: BTreeSet<&String> = prices.iter().collect();
        assert!(prices.len() > 2_000 && different.len() > 200, "{}", different.len());

        let exported = PriceList::export(&app.database).await.unwrap();
        let yaml = exported.to_yaml().unwrap();
        // What is written to a terminal may lose the blanks at its end.
        assert_eq!(PriceList::parse(yaml.trim_end()).unwrap(), exported, "{db:?}");
        assert_eq!(import(&app, &yaml, false).await, Vec::<String>::new(), "{db:?}");
        let other = TestApp::on(db, "2026-11-01T00:00:00Z", "", "").await;
        import(&other, &yaml, false).await;
        assert_eq!(all_prices(&other).await, prices, "{db:?}");
        assert_eq!(import(&other, &yaml, false).await, Vec::<String>::new(), "{db:?}");
        assert_eq!(PriceList::export(&other.database).await.unwrap(), exported, "{db:?}");
        let states = modules::list(app.database.connection()).await.unwrap();
        assert_eq!(states.len(), 5, "{db:?}: {states:?}");

        // Nothing is rated with it, nor exported.
        let module = ModuleState { name: "gone".to_owned(), enabled: true, priority: 1 };
        modules::set(app.database.connection(), &module).await.unwrap();
        let error = PriceList::export(&app.database).await.unwrap_err().to_string();
        assert!(error.contains("module `gone`: is enabled and not available"), "{error}");
    }
}
