//! Queries.

use serde_json::json;

use super::{
    super::{Limits, go, labels, logql, split},
    HOUR, Lab, NOVEMBER,
};

fn refusal(query: &str) -> String {
    logql::parse(query, 131_072).unwrap_err().to_string()
}

#[test]
fn queries_are_parsed_or_refused_where_they_break() {
    for fine in [
        r#"{a="b"} |= "x" or "y" != `z` |~ "q.*" | json | price > 2.5 and (id="a" or id=~"b|c"), x!="""#,
        r#"sum by (a, b) (sum_over_time({a=~".+"} | json ck="x.y[\"odd key\"][0]" | unwrap ck | __error__="" [1h30m]))"#,
        r#"sum(count_over_time({a="b"}[5m] offset 1h)) without (c) / 2 + topk(3, max_over_time({a="b"} | json | unwrap p [1d]) by (x))"#,
        "count_over_time({a=`b`} # a comment\n | drop x, y=\"1\" | keep z [1w2d])",
    ] {
        assert!(logql::parse(fine, 131_072).is_ok(), "{fine}: {}", refusal(fine));
    }
    assert_eq!(
        refusal(r#"{a="b"} | line_format "x""#),
        "parse error at line 1, col 11: unsupported by FakeLoki: line_format"
    );
    assert_eq!(refusal(""), "parse error at line 1, col 1: syntax error: unexpected $end");
    assert_eq!(
        refusal(r#"{a b="c"}"#),
        "parse error at line 1, col 4: syntax error: unexpected IDENTIFIER, expecting = or != or \
         =~ or !~"
    );
    assert_eq!(
        refusal(r#"sum(sum_over_time({a="b"} | unwrap x [999999999ns]))"#),
        "parse error at line 1, col 38: not a valid duration string: \"999999999ns\""
    );
    assert_eq!(
        refusal(&format!("{{a=\"{}\"}}", "x".repeat(131_072))),
        "parse error : input size too long (131078 > 131072)"
    );
    assert!(refusal(r#"{a=~".*"}"#).starts_with("parse error : queries require"));
}

#[test]
fn texts_are_those_of_go() {
    let fine = r#"{ b = "x\"\\\u00e9", a=`\d`, e="" }"#;
    let pairs = [("a", "\\d"), ("b", "x\"\\é")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(labels::parse(fine).unwrap(), pairs);
    let text = labels::text(pairs.iter().map(|(n, v)| (&**n, &**v)));
    assert_eq!(text, r#"{a="\\d", b="x\"\\é"}"#);
    assert!(labels::parse("{a=1}").is_err());
    assert_eq!(go::model_duration(745 * HOUR), "31d1h");
    assert_eq!(go::duration(961 * HOUR), "961h0m0s");
    assert_eq!(go::parse_model_duration("1h30m"), Some(5_400_000_000_000));
    assert_eq!(go::parse_model_duration("30m1h"), None);
    assert_eq!(labels::normalised("1a.b"), "key_1a_b");
}

#[test]
fn steps_are_moved_to_multiples_of_the_step() {
    let logql::Expr::Metric(metric) = logql::parse(r#"count_over_time({a="b"}[1h])"#, 999).unwrap()
    else {
        panic!("no metric")
    };
    let steps = split::by_step(HOUR - 1, 2 * HOUR - 1, HOUR, &metric, HOUR);
    assert_eq!(steps, [vec![0], vec![HOUR], vec![2 * HOUR]]);
}

#[tokio::test]
async fn a_split_query_is_wrong_where_lokis_is() {
    let lab = Lab::new(Limits::roomy()).await;
    for (at, price) in [(0, 5), (1, 7)] {
        let line = format!(r#"{{"price": {price}}}"#);
        assert_eq!(lab.push("a", &[(NOVEMBER + at * HOUR, &line)]).await, 204);
        assert_eq!(lab.push("b", &[(NOVEMBER + at * HOUR, &line.replace('7', "1"))]).await, 204);
    }
    let query = |by: &str, range: &str| {
        format!("{by}(sum_over_time({{service=~\".+\"}} | json p=\"price\" | unwrap p [{range}]))")
    };
    let time = NOVEMBER + HOUR;
    assert_eq!(
        lab.values(&query("sum by (service) ", "2h"), time).await,
        "{service:a}=12 {service:b}=6"
    );
    // The greatest of each hour, summed: 5 + 7.
    assert_eq!(lab.values(&query("max ", "2h"), time).await, "{}=12");
    // An average of averages as well: (5 + 5) / 2 + (7 + 1) / 2.
    assert_eq!(lab.values(&query("avg ", "2h"), time).await, "{}=9");
    assert_eq!(lab.values(&query("max ", "1h"), time).await, "{}=7");
    assert_eq!(lab.values(&query("count ", "2h"), time).await, "{}=2");
    assert_eq!(lab.values(&format!("{} / 4", query("sum", "2h")), time).await, "{}=4.5");
}

#[tokio::test]
async fn inner_series_of_a_piece_are_limited() {
    let lab = Lab::new(Limits { max_query_series: 2, ..Limits::roomy() }).await;
    for stream in ["a", "b", "c"] {
        assert_eq!(lab.push(stream, &[(NOVEMBER, "{}"), (NOVEMBER + HOUR, "{}")]).await, 204);
    }
    let inner =
        |range: &str| format!("sum by (service) (count_over_time({{service=~\".+\"}}[{range}]))");
    let time = NOVEMBER + HOUR;
    let refused = (400, "maximum of series (2) reached for a single query".to_owned());
    assert_eq!(lab.instant(&inner("1h"), time).await, refused);
    assert_eq!(lab.values(&format!("max({})", inner("1h")), time).await, "{}=1");
    assert_eq!(lab.instant(&format!("max({})", inner("2h")), time).await, refused);
}

#[tokio::test]
async fn parsers_forget_labels_and_named_expressions_do_not() {
    let lab = Lab::new(Limits::roomy()).await;
    let meta = json!([NOVEMBER.to_string(), r#"{"type": "x", "n": 1}"#, {"type": "x"}]);
    let bare = json!([
        (NOVEMBER + 1).to_string(),
        r#"{"type": "y", "odd.key": {"a b": [1, "é\n"]}, "n": null}"#
    ]);
    let body = json!({"streams": [{"stream": {"service": "a"}, "values": [meta, bare]}]});
    assert_eq!(lab.post(body.to_string()).await.unwrap().status(), 204);
    let count = |json: &str, by: &str| {
        format!("sum by ({by}) (count_over_time({{service=\"a\"}} | {json} [1h]))")
    };
    assert_eq!(lab.values(&count("json", "type, k"), NOVEMBER + 1).await, "{}=1 {type:x}=1");
    let named = r#"json t="type", service="type", o="[\"odd.key\"][\"a b\"][1]", n="n""#;
    assert_eq!(lab.values(&count(named, "t"), NOVEMBER + 1).await, "{t:x}=1 {t:y}=1");
    assert_eq!(
        lab.values(&count(named, "service_extracted, o, n"), NOVEMBER + 1).await,
        "{n:,o:é\\n,service_extracted:y}=1 {n:1,o:,service_extracted:x}=1"
    );
    // Pipeline errors end a query unless it asks for no label of the parser.
    assert_eq!(lab.push("b", &[(NOVEMBER, "no json")]).await, 204);
    let (status, text) =
        lab.instant("count_over_time({service=\"b\"} | json [1h])", NOVEMBER).await;
    assert!(status == 400 && text.starts_with("pipeline error: 'JSONParserErr'"), "{text}");
    assert_eq!(
        lab.values("sum(count_over_time({service=\"b\"} | json [1h]))", NOVEMBER).await,
        "{}=1"
    );
    let errors =
        "sum by (__error__) (count_over_time({service=\"b\"} | json | __error__!=\"\" [1h]))";
    assert_eq!(lab.instant(errors, NOVEMBER).await.0, 200);
}

#[tokio::test]
async fn forms_headers_and_settings() {
    let lab = Lab::new(Limits::stock()).await;
    assert_eq!(lab.push("a", &[(NOVEMBER + 99 * HOUR, "x")]).await, 204);
    let form = format!(
        "query=sum%28count_over_time%28%7Bservice%3D%22a%22%7D%5B1h%5D%29%29&time={}",
        NOVEMBER + 99 * HOUR
    );
    let request = lab.http.post(format!("{}/query", lab.loki.url())).header("X-Scope-OrgID", "t");
    let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form);
    let text = request.send().await.unwrap().text().await.unwrap();
    assert!(text.contains(r#""result":[{"metric":{},"value":[1793847600,"1"]}]"#), "{text}");
    let (status, text) = lab.instant("{service=\"a\"}", NOVEMBER).await;
    assert!(status == 400 && text.starts_with("log queries are not supported as an instant"));
    let config = lab.http.get(format!("{}/config", lab.loki.root())).send().await.unwrap();
    let config = config.text().await.unwrap();
    for line in [
        "  reject_old_samples_max_age: 31d1h\n",
        "  max_chunk_age: 2h0m0s\n",
        "  ingestion_rate_mb: 4\n",
        "  query_ingesters_within: 3h0m0s\n",
    ] {
        assert!(config.contains(line), "{config}");
    }
    let (_, series) = lab
        .get(
            "series",
            &[
                ("match[]", "{service=\"a\"}".to_owned()),
                ("start", (NOVEMBER + 98 * HOUR).to_string()),
            ],
        )
        .await;
    assert_eq!(series, r#"{"status":"success","data":[{"service":"a","service_name":"a"}]}"#);
    lab.loki.require_authorization(Some("Bearer x"));
    assert_eq!(lab.get("labels", &[]).await.0, 401);
}

#[tokio::test]
async fn late_lines_show_after_a_flush() {
    let lab = Lab::new(Limits::stock()).await;
    assert_eq!(lab.push("a", &[(NOVEMBER, "x")]).await, 204);
    assert_eq!(lab.lines("{service=\"a\"}").await, Vec::<String>::new());
    assert!(!lab.loki.entries()[0].visible);
    lab.loki.flush();
    assert_eq!(lab.lines("{service=\"a\"}").await, ["x"]);
}
