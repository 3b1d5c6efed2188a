//! The price list as a file.

use ratekitty::{
    dataframe::{DataFrame, DataPoint, Labels},
    decimal::Decimal,
    rating::{hashmap::Rules, pricelist::PriceList},
    state::rating_rules,
    time::{Period, seconds},
};
use serde_json::json;

use crate::support::{TestApp, cloud::METRICS};

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

fn now() -> chrono::NaiveDateTime {
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
            "at least 1",
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
