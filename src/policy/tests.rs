use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;
use parse::{Fault, Place, Problem};

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn file(rules: Value) -> Vec<(String, Value)> {
    vec![("policy.yaml".to_owned(), rules)]
}

fn policy(rules: Value) -> Policy {
    Policy::new(&file(rules), &Settings::default()).unwrap()
}

#[test]
fn the_start_refuses_what_cannot_be_read() {
    let cases = [
        (json!("role:admin or"), Place::Column(12), Fault::Unexpected("or".into())),
        (json!("(role:admin"), Place::Column(1), Fault::Unexpected("(".into())),
        (json!("role:a  é:b"), Place::Column(9), Fault::Unexpected("é:b".into())),
        (json!("role:a or (or)"), Place::Column(8), Fault::Unexpected("or".into())),
        (json!("role:admin or 'x'"), Place::Column(15), Fault::Quoted("'x'".into())),
        (json!("role:admin or (admin)"), Place::Column(16), Fault::NoColon("admin".into())),
        (json!(" \t"), Place::Whole, Fault::Blank),
        (json!("class:a"), Place::Column(1), Fault::Kind("class".into())),
        (json!("not a:%(b)d"), Place::Column(5), Fault::Conversion("%(b)d".into())),
        (json!("role:100%"), Place::Column(1), Fault::Conversion("%".into())),
        (json!("@ or http://h/%(a)s"), Place::Column(6), Fault::Remote("http://h/%(a)s".into())),
        (json!(["role:a", ["https://h"]]), Place::Item(2, 1), Fault::Remote("https://h".into())),
        (json!([[], ["role:a", 1]]), Place::Item(2, 2), Fault::NoText("a number")),
        (json!([true]), Place::Item(1, 1), Fault::NoText("a boolean")),
        (json!(1), Place::Whole, Fault::Type("a number")),
        (json!(true), Place::Whole, Fault::Type("a boolean")),
    ];
    for (rule, place, fault) in cases {
        let rules = json!({"report:get_total": rule, "report:get_summary": "@"});
        let errors = Policy::new(&file(rules.clone()), &Settings::default()).unwrap_err();
        let expected = PolicyError::Rule {
            file: "policy.yaml".to_owned(),
            rule: "report:get_total".to_owned(),
            problem: Problem { place, fault },
        };
        assert_eq!(errors.0, [expected]);
        // The other rules stay in force.
        let (policy, _) = Policy::read(&file(rules), &Settings::default());
        assert!(policy.allows("report:get_summary", &Map::new(), &Map::new()));
        let allows = policy.allows("report:get_total", &Map::new(), &Map::new());
        assert_eq!(allows, rule == json!("@ or http://h/%(a)s"), "{rule}");
    }
    let errors = Policy::new(&file(json!({"a": "role:admin or (admin)"})), &Settings::default());
    assert_eq!(
        errors.unwrap_err().to_string(),
        "policy.yaml: rule \"a\": column 16: \"admin\" is no check: there is no \":\" in it"
    );
}

#[test]
fn what_has_no_answer_is_denied_both_ways() {
    for rule in [
        "http://localhost/",
        "https:x",
        "class:a",
        "a:%s",
        "a:%(b)d",
        "[1]:1",
        "b'a':a",
        "set():x",
        "rule:self",
        "a.b:c",
        "roles:%",
    ] {
        for rule in [rule.to_owned(), format!("not {rule}"), format!("not (! or {rule})")] {
            let rules = json!({"report:get_total": rule, "self": "not rule:self"});
            let policy = Policy::read(&file(rules), &Settings::default()).0;
            let caller = object(&json!({"a": "text"}));
            let target = object(&json!({"b": 1}));
            let decision = policy.decide("report:get_total", &target, &caller);
            assert!(matches!(decision, Decision::Failed(_)), "{rule} {decision:?}");
        }
    }
}

#[test]
fn a_file_without_rules_closes_the_policy() {
    let settings = Settings::default();
    for content in [json!("text"), json!(["role:admin"]), json!(1), json!(true)] {
        let (policy, errors) = Policy::read(&file(content), &settings);
        assert!(matches!(errors[..], [PolicyError::NoMapping { .. }]));
        assert!(!policy.allows("info:get_config", &Map::new(), &Map::new()));
    }
    assert!(!Policy::closed(&settings).allows("info:get_config", &Map::new(), &Map::new()));
    for content in [json!(null), json!({}), json!([]), json!(false), json!("")] {
        let policy = policy(content);
        assert!(policy.allows("info:get_config", &Map::new(), &Map::new()));
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let admin = object(&json!({"roles": ["admin"]}));
    let ask = |rules: Value| {
        Policy::read(&file(rules), &Settings::default()).0.decide("first", &Map::new(), &admin)
    };
    let nested =
        |levels: usize| format!("{}role:admin{}", "not (".repeat(levels), ")".repeat(levels));
    assert_eq!(ask(json!({"first": nested(MAX_DEPTH - 2)})), Decision::Allowed);
    assert_eq!(ask(json!({"first": nested(MAX_DEPTH)})), Decision::Denied);
    assert_eq!(ask(json!({"first": nested(100_000)})), Decision::Denied);
    assert_eq!(ask(json!({"first": "not ".repeat(100_000) + "@"})), Decision::Denied);

    let chain = |length: usize| {
        let mut rules = Map::new();
        rules.insert("first".to_owned(), json!("rule:rule0"));
        for at in 0..length {
            rules.insert(format!("rule{at}"), json!(format!("rule:rule{}", at + 1)));
        }
        rules.insert(format!("rule{length}"), json!("role:admin"));
        Value::from(rules)
    };
    assert_eq!(ask(chain(MAX_DEPTH - 3)), Decision::Allowed);
    assert_eq!(ask(chain(400)), Decision::Failed(CheckError::Deep));

    let mut rules = Map::new();
    for at in 0..60 {
        rules.insert(format!("r{at}"), json!(format!("rule:r{0} and rule:r{0}", at + 1)));
    }
    rules.insert("r60".to_owned(), json!("@"));
    rules.insert("first".to_owned(), json!("rule:r0"));
    assert_eq!(ask(rules.into()), Decision::Failed(CheckError::Long));
}

#[test]
fn later_files_replace_rules_of_earlier_ones() {
    let files = [
        ("policy.yaml".to_owned(), json!({"report:get_total": "!", "report:get_summary": "!"})),
        ("policy.d/a.yaml".to_owned(), json!({"report:get_total": "@", "mine": "role:x"})),
        ("policy.d/b.yaml".to_owned(), Value::Null),
    ];
    let policy = Policy::new(&files, &Settings::default()).unwrap();
    assert!(policy.allows("report:get_total", &Map::new(), &Map::new()));
    assert!(!policy.allows("report:get_summary", &Map::new(), &Map::new()));
    let rules: HashMap<_, _> = policy.rules().collect();
    assert_eq!(rules.len(), DEFAULTS.len() + 1);
    assert_eq!(rules["report:get_total"].source, Source::File("policy.d/a.yaml".to_owned()));
    assert_eq!(rules["report:get_total"].text, "@");
    assert_eq!(rules["report:list_tenants"].source, Source::Default);
    assert_eq!(rules["mine"].default, None);
}

#[test]
fn warns_of_what_may_be_a_mistake() {
    let texts = |rules: Value| -> Vec<String> {
        policy(rules).warnings().iter().map(ToString::to_string).collect()
    };
    assert_eq!(texts(json!({})), [""; 0]);
    assert_eq!(texts(json!({"helper": "@", "scope:get_state": "rule:helper"})), [""; 0]);
    assert_eq!(
        texts(json!({"report:total": "@"})),
        ["policy.yaml: nothing asks for rule \"report:total\""]
    );
    assert_eq!(
        texts(json!({"report:get_total": null})),
        ["policy.yaml: rule \"report:get_total\" is null, which allows everything"]
    );
    assert_eq!(
        texts(json!({"report:get_total": "not rule:nowhere"})),
        [
            "rule \"report:get_total\" refers to \"nowhere\", which is not there: \"default\" is asked instead"
        ]
    );
    assert_eq!(
        texts(json!({"default": "rule:context_is_admin", "context_is_admin": "not rule:default"})),
        [
            "rule \"context_is_admin\" refers to itself, sooner or later",
            "rule \"default\" refers to itself, sooner or later",
        ]
    );
    assert_eq!(
        texts(json!({"admin_or_owner": "role:admin", "report:list_tenants": [["role:admin"]]})),
        [
            "policy.yaml: rule \"admin_or_owner\" is deprecated since 22.0.0",
            "policy.yaml: rule \"report:list_tenants\" is the default, and can be left out",
        ]
    );
    let renamed = policy(json!({"rule:admin_or_owner": "role:rating"}));
    assert_eq!(renamed.warnings().len(), 4);
    let rules = json!({"rule:admin_or_owner": "role:rating", "project_reader_api": "role:x"});
    assert_eq!(policy(rules).warnings().len(), 3);
    let rating = object(&json!({"roles": ["rating"]}));
    assert!(renamed.allows("report:get_total", &Map::new(), &rating));
}

#[test]
fn scopes_of_tokens_count_unless_the_option_says_otherwise() {
    let system = object(&json!({"system_scope": "all", "roles": ["admin"]}));
    let target = Map::new();
    let wrong = Decision::WrongScope { scope: "system", wanted: &["project"] };
    assert_eq!(policy(json!({})).decide("scope:get_state", &target, &system), wrong);
    let settings = Settings { enforce_scope: false, ..Settings::default() };
    let policy = Policy::new(&[], &settings).unwrap();
    assert_eq!(policy.decide("scope:get_state", &target, &system), Decision::Allowed);
}

#[test]
fn admins_are_told_by_their_own_rule() {
    let caller = |project: &str| {
        object(&json!({"roles": ["rating"], "project_id": project, "user_id": "u"}))
    };
    assert!(!policy(json!({})).is_admin(&caller("p1")));
    let policy = policy(json!({"context_is_admin": "'p1':%(project_id)s and user_id:%(user_id)s"}));
    assert!(policy.is_admin(&caller("p1")));
    assert!(!policy.is_admin(&caller("p2")));
}
