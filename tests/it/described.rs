//! The description of the API, and the page that shows it to people.

use std::{collections::BTreeSet, path::Path};

use ratekitty::api::openapi;
use regex::Regex;

use crate::support::TestApp;

/// Files of the pages, and their types.
const PAGES: &[(&str, &str)] = &[
    ("/docs", "text/html; charset=utf-8"),
    ("/docs/docs.js", "text/javascript; charset=utf-8"),
    ("/docs/docs.css", "text/css; charset=utf-8"),
    ("/ui", "text/html; charset=utf-8"),
    ("/ui/ui.js", "text/javascript; charset=utf-8"),
    ("/ui/chart.js", "text/javascript; charset=utf-8"),
    ("/ui/ui.css", "text/css; charset=utf-8"),
];

#[tokio::test]
async fn pages_need_nothing_that_is_not_here() {
    let app = TestApp::new("2026-11-01T00:00:00Z", "", "metrics: {}\n").await;
    // In HTML, in scripts and in styles.
    let reference = Regex::new(
        r#"(?:\b(?:href|src|action)=|\b(?:fetch|ask)\(|\bimport\(|\burl\(|@import )\s*["']?([\w./:?=-]+)["']"#,
    );
    let reference = reference.unwrap();
    // Another host, with a scheme or without.
    let elsewhere = Regex::new(r#"(?i)\w+://|["'(]//"#).unwrap();
    let mut found = BTreeSet::new();
    for (path, kind) in PAGES {
        let answer = app.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.headers["content-type"], *kind, "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        // The name of what is drawn is no address.
        let text = answer.text.replace("http://www.w3.org/2000/svg", "");
        assert_eq!(elsewhere.find(&text), None, "{path}");
        // Texts of the API are put in as texts.
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(way), "{path}: {way}");
        }
        // All stand in the pages at /docs and /ui, or run there.
        for reference in reference.captures_iter(&answer.text) {
            found.insert(format!("/{}", &reference[1]));
        }
    }
    for path in &found {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    let expected = [
        "/docs/docs.css",
        "/docs/docs.js",
        "/openapi.json",
        "/ui/chart.js",
        "/ui/ui.css",
        "/ui/ui.js",
        "/v2/ratekitty/status",
        "/v2/summary",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}

/// What a handler answers is a type, so that nothing can be described but what is
/// written. This holds as long as nobody writes the schema of a type by hand.
#[test]
fn schemas_of_answers_are_derived() {
    fn read(folder: &Path, texts: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, texts);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut texts = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    let derived = Regex::new(r"#\[derive\([^)]*\bJsonSchema\b").unwrap();
    assert!(derived.find_iter(&texts).count() > 50);
    let by_hand = Regex::new(r"\bJsonSchema for\b|\bschema_with\b").unwrap();
    let found: Vec<_> = by_hand.find_iter(&texts).map(|found| found.as_str()).collect();
    assert!(found.is_empty(), "{found:?}");
}

/// Routes that are not described, by how they begin, and why.
const UNDESCRIBED: &[(&str, &str)] = &[
    ("/docs", "for people"),
    ("/ui", "for people"),
    ("/openapi.json", "the description itself"),
    ("/metrics", "for Prometheus, in its own format"),
    ("/livez", "for who starts the program anew"),
    ("/readyz", "for load balancers and who starts the program anew"),
    ("/healthcheck", "for load balancers; its answers go by the configuration"),
    ("/v1/billing", "an older name of /v1/rating"),
    ("/v1/rating/module_config/noop", "has nothing to configure"),
    ("/v1/rating/modules/{}/{*rest}", "answers that there is nothing"),
];

/// Routes that are no more than the beginning of others, where there is nothing.
const BEGINNINGS: &[&str] = &[
    "/v1",
    "/v1/rating",
    "/v1/collector",
    "/v1/rating/module_config/hashmap",
    "/v1/rating/module_config/pyscripts",
];

/// The routes as the source writes them: axum does not tell those that it has.
fn routes() -> BTreeSet<String> {
    let written = Regex::new(r#"(path\(|format!\()?"((?:\{root\})?/[^"\s]*)""#).unwrap();
    let parameter = Regex::new(r"\{\w+\}").unwrap();
    let mut routes = BTreeSet::new();
    for (file, function) in
        [("mod.rs", "pub fn router("), ("v1/mod.rs", "fn routes()"), ("watched.rs", "fn routes(")]
    {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api").join(file);
        let text = std::fs::read_to_string(file).unwrap();
        let (_, body) = text.split_once(function).unwrap();
        let body = body.split("\n}\n").next().unwrap();
        for found in written.captures_iter(body) {
            let below = found.get(1).is_some_and(|function| function.as_str() == "path(");
            let route = found[2].replace("{{", "{").replace("}}", "}");
            let route = route.replace("{slash}", "").replace("{root}", "/v1/rating");
            let route = if below { format!("/v1/rating{route}") } else { route };
            let route = parameter.replace_all(&route, "{}");
            let route = if route.len() > 1 { route.trim_end_matches('/') } else { &route };
            routes.insert(route.to_owned());
        }
    }
    routes
}

#[test]
fn every_route_is_described_or_has_a_reason() {
    let document = openapi::document();
    let parameter = Regex::new(r"\{\w+\}").unwrap();
    let paths = document["paths"].as_object().unwrap().keys();
    let paths: BTreeSet<_> = paths.map(|path| parameter.replace_all(path, "{}")).collect();
    let routes = routes();
    assert!(routes.len() > 30, "{routes:#?}");
    let has_reason = |route: &str| {
        BEGINNINGS.contains(&route) || UNDESCRIBED.iter().any(|(begin, _)| route.starts_with(begin))
    };
    let mut missing = Vec::new();
    for route in &routes {
        let is_described = match route.strip_suffix("{*rest}") {
            Some(begin) => paths.iter().any(|path| path.starts_with(begin)),
            None => paths.contains(route.as_str()),
        };
        if is_described == has_reason(route) {
            missing.push(route);
        }
    }
    assert!(missing.is_empty(), "neither, or both: {missing:#?}");
    let is_used = |begin: &str| routes.iter().any(|route| route.starts_with(begin));
    let begins = UNDESCRIBED.iter().map(|(begin, _)| *begin).chain(BEGINNINGS.iter().copied());
    let unused: Vec<_> = begins.filter(|begin| !is_used(begin)).collect();
    assert!(unused.is_empty(), "no such route: {unused:?}");
    // And what is described is routed.
    let routed = |path: &str| {
        routes.iter().any(|route| match route.strip_suffix("{*rest}") {
            // The last resort, which answers that there is nothing.
            Some("/v1/") => false,
            Some(begin) => path.starts_with(begin),
            None => route == path,
        })
    };
    let unrouted: Vec<_> = paths.iter().filter(|path| !routed(path)).collect();
    assert!(unrouted.is_empty(), "no route for: {unrouted:?}");
}
