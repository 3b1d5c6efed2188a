//! One question about many scopes and periods gives what many questions give: on a
//! real Prometheus, over all that a metric's definition may ask for.

use std::fmt::Write;

use ratekitty::{
    collector::{Collector, PrometheusCollector},
    config::{
        metrics_yml::{
            self, AGGREGATION_METHODS, MetricDefinition, QUERY_FUNCTIONS, RANGE_FUNCTIONS,
        },
        sections::PrometheusEndpoint,
    },
    dataframe::DataPoint,
    prometheus::PrometheusClient,
    time::{Period, Periods, seconds},
};
use std::{sync::Arc, time::Duration};

use crate::support::Prometheus;

/// 2026-11-01 00:00 UTC.
const START: i64 = 1_793_491_200;
const HOUR: i64 = 3_600;
/// Hours of samples, which Prometheus keeps in blocks of two.
const HOURS: i64 = 9;
/// Periods that are asked for: the first and the last one lie beside the samples.
const ASKED: Periods = Periods { begin: Period::EMPTY.begin, seconds: 3_600, count: 12 };

/// Label values that try to be something else, or to match others.
const SCOPES: [&str; 6] =
    ["p1", "p1|p2", "p.", "(?i)P1|quo\"te\\", "new\nline, ünïcode 😀 {x=\"}", "nothing"];

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Series that begin, end, stop for a while, start anew, jump, and are no numbers;
/// several of a thing, so that there is something to add up.
fn samples() -> String {
    let mut text = String::from("# TYPE used gauge\n");
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as f64 / 1e4 - 1e5
    };
    for scope in SCOPES.iter().filter(|scope| **scope != "nothing") {
        for (thing, from, to) in [(1, 0, HOURS), (2, 2, 5), (3, 4, HOURS), (4, 0, 1)] {
            for part in 0..3 {
                for time in (START + from * HOUR..START + to * HOUR).step_by(300) {
                    let since = (time - START) / 300;
                    // A gap longer than a period, and some within one.
                    if thing == 1 && (30..50).contains(&since) || (since + part) % 7 == 3 {
                        continue;
                    }
                    let value = match (thing, part, since % 29) {
                        (3, 1, 11) => "NaN".to_owned(),
                        (3, 2, 13) => "+Inf".to_owned(),
                        (2, 0, _) => (since * 1_000).to_string(),
                        _ => random().to_string(),
                    };
                    writeln!(
                        text,
                        "used{{project_id=\"{}\",id=\"t{thing}\",part=\"{part}\",flavor=\"f{}\"}} {value} {time}",
                        escaped(scope),
                        part % 2
                    )
                    .unwrap();
                }
            }
        }
    }
    // Without the label of a scope: nobody's.
    writeln!(text, "used{{id=\"t1\"}} 5 {}\n# EOF", START + 100).unwrap();
    text
}

/// One definition for each method and range function, each with some of the functions.
fn definitions() -> Vec<MetricDefinition> {
    let mut text = String::from("metrics:\n  used:\n");
    let ranges = std::iter::once(None).chain(RANGE_FUNCTIONS.map(Some));
    let mut count = 0;
    for (number, (range, method)) in
        ranges.flat_map(|range| AGGREGATION_METHODS.map(|method| (range, method))).enumerate()
    {
        let functions = [None, Some(number), Some(number + 4)];
        for function in functions.map(|at| at.map(|at| QUERY_FUNCTIONS[at % QUERY_FUNCTIONS.len()]))
        {
            count += 1;
            write!(
                text,
                "    - unit: u\n      alt_name: used{count}\n      groupby: [id]\n      \
                 metadata: [flavor, missing]\n      extra_args:\n        aggregation_method: {method}\n"
            )
            .unwrap();
            for (key, value) in [("range_function", range), ("query_function", function)] {
                if let Some(value) = value {
                    writeln!(text, "        {key}: {value}").unwrap();
                }
            }
        }
    }
    metrics_yml::parse(&text, "metrics.yml", "project_id").unwrap().metrics
}

fn collector(url: &str) -> PrometheusCollector {
    let endpoint = PrometheusEndpoint {
        url: None,
        user: None,
        password: None,
        cafile: None,
        insecure: false,
        timeout: None,
    };
    let client = PrometheusClient::new(url, &endpoint, Duration::from_secs(5), 64 << 20).unwrap();
    PrometheusCollector::new(Arc::new(client), "project_id")
}

fn sorted(mut points: Vec<DataPoint>) -> Vec<DataPoint> {
    points.sort_by_key(|point| format!("{point:?}"));
    points
}

#[tokio::test]
async fn one_question_gives_what_many_give() {
    let prometheus = Prometheus::start(&samples()).await;
    let collector = collector(&prometheus.url);
    let periods = Periods { begin: seconds(START - HOUR), ..ASKED };
    let (mut compared, mut refused) = (0, 0);
    let definitions = definitions();
    assert_eq!(definitions.len(), 7 * 8 * 3);
    for metric in &definitions {
        let args = &metric.args;
        let many = match collector.collect_many(metric, &SCOPES, periods).await {
            Ok(many) => many.unwrap(),
            Err(error) => {
                // What Prometheus does not know.
                assert_eq!(args.range_function.as_deref(), Some("irange"), "{error}");
                let one = collector.collect(metric, "p1", periods.iter().next().unwrap()).await;
                assert!(one.is_err() && !error.is_outage() && !error.asks_for_less(), "{error}");
                refused += 1;
                continue;
            }
        };
        for scope in SCOPES {
            let of_scope = collector.points(metric, scope, &many).unwrap();
            assert_eq!(of_scope.len(), 12);
            for (period, found) in periods.iter().zip(of_scope) {
                let expected = collector.collect(metric, scope, period).await.unwrap();
                compared += expected.len();
                assert_eq!(sorted(found), sorted(expected), "{scope:?}, {period}, {args:?}");
            }
        }
        assert_eq!(many.len_of("nothing"), 0);
    }
    assert_eq!(refused, 7 * 3);
    assert!(compared > 10_000, "{compared}");
}

/// One period, one scope: parts of a question that has to be made smaller.
#[tokio::test]
async fn parts_of_a_question_give_parts_of_its_answer() {
    let prometheus = Prometheus::start(&samples()).await;
    let collector = collector(&prometheus.url);
    let definitions = definitions();
    let metric = &definitions[0];
    let periods = Periods { begin: seconds(START), count: 8, ..ASKED };
    let whole = collector.collect_many(metric, &SCOPES, periods).await.unwrap().unwrap();
    assert!(whole.len() > 50);
    for scope in SCOPES {
        let expected = collector.points(metric, scope, &whole).unwrap();
        for (number, period) in periods.iter().enumerate() {
            let one = Periods { begin: period.begin, count: 1, ..periods };
            for scopes in [&[scope][..], &SCOPES[..]] {
                let part = collector.collect_many(metric, scopes, one).await.unwrap().unwrap();
                let found = collector.points(metric, scope, &part).unwrap().remove(0);
                assert_eq!(sorted(found), sorted(expected[number].clone()), "{scope:?}, {period}");
            }
        }
    }
}

/// What may do anything with the whole of an answer is asked for scope by scope.
#[tokio::test]
async fn prefixes_and_suffixes_are_not_asked_for_at_once() {
    for more in ["query_prefix: 'topk by (id) (1,'", "query_suffix: '> 5'"] {
        let text = format!("metrics:\n  used: {{unit: u, extra_args: {{{more}}}}}\n");
        let Ok(metrics) = metrics_yml::parse(&text, "metrics.yml", "project_id") else {
            panic!("{text}");
        };
        let collector = collector("http://127.0.0.1:1/api/v1");
        let asked = collector.collect_many(&metrics.metrics[0], &["a", "b"], ASKED).await;
        assert!(asked.unwrap().is_none());
    }
}
