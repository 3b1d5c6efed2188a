//! Many scopes and periods by few questions, and what is left when one has no answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ratekitty::{
    processor::Progress,
    state::scopes,
    storage::{Page, Selection},
    time::seconds,
};
use tokio_util::sync::CancellationToken;

use super::HOUR;
use crate::support::{Cloud, TestApp, cloud::METRICS, cloud::usage};

/// 2026-11-01 00:00 UTC.
const START: i64 = 1_793_491_200;

async fn app(cloud: &Cloud, hours: i64) -> TestApp {
    let conf = format!(
        "[ratekitty]\nfirst_period_begin = 2026-11-01T00:00:00Z\nhttp_retry_budget = 1\n{}wait_periods = 1\n",
        cloud.conf()
    );
    let now = seconds(START + hours * HOUR + 60).to_rfc3339();
    TestApp::new(&now, &conf, METRICS).await
}

/// Everything that is stored; panics unless it is all there once, and as it should be.
async fn check(app: &TestApp, scopes: usize, things: usize, hours: i64) {
    let all = Selection::all(seconds(0), seconds(4_000_000_000));
    let mut found: BTreeMap<(String, i64, String), usize> = BTreeMap::new();
    for (period, _, point) in app.storage.retrieve(&all, Page::ALL).await.unwrap().points {
        let text = |label: &str| point.groupby[label].as_str().unwrap().to_owned();
        let (scope, id) = (text("project_id"), text("id"));
        let expected =
            usage(scope[1..].parse().unwrap(), id.parse().unwrap(), period.end.timestamp());
        assert_eq!(point.qty.to_f64(), expected as f64, "{scope} {period} {id}");
        *found.entry((scope, period.begin.timestamp(), id)).or_default() += 1;
    }
    assert_eq!(found.len(), scopes * things * usize::try_from(hours).unwrap());
    assert!(found.values().all(|count| *count == 1));
    let last = seconds(START + (hours - 1) * HOUR);
    let states = scopes::overview(&app.database, app.pipeline().keys()).await.unwrap();
    assert_eq!(states.len(), scopes);
    assert!(states.values().all(|state| state.last_processed == last));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_questions_does_not_grow_with_the_scopes() {
    let mut questions = Vec::new();
    for scopes in [40, 400] {
        let cloud = Cloud::start(scopes, 2).await;
        let app = app(&cloud, 30).await;
        assert_eq!(app.rate().await.failed, 0);
        check(&app, scopes, 2, 30).await;
        questions.push(cloud.questions());
    }
    // 16 chunks, each of which asks for 4, 16 and 10 hours.
    assert!(questions.iter().all(|count| *count <= 16 * 4), "{questions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_too_large_are_made_smaller() {
    for limit in [1, 3, 7] {
        let cloud = Cloud::start(40, 2).await;
        cloud.set_limit(limit);
        let app = app(&cloud, 9).await;
        assert_eq!(app.rate().await.failed, 0, "{limit}");
        check(&app, 40, 2, 9).await;
        let twice = cloud.asked().values().filter(|times| **times > 1).count();
        assert_eq!(twice, 0, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_at_different_periods_go_their_own_way() {
    let cloud = Cloud::start(20, 1).await;
    let app = app(&cloud, 24).await;
    let pipeline = app.pipeline();
    let connection = app.database.connection();
    // Some have their first hours already.
    for scope in 0..15 {
        let begin = seconds(START + i64::from(scope % 5) * HOUR - HOUR);
        let name = format!("s{scope}");
        scopes::add(connection, &name, pipeline.keys(), begin, begin).await.unwrap();
    }
    assert_eq!(app.rate().await.failed, 0);
    let all = Selection::all(seconds(0), seconds(4_000_000_000));
    let points = app.storage.retrieve(&all, Page::ALL).await.unwrap().points;
    // Each scope from where it stood: 3 times 0 to 4 hours less.
    assert_eq!(points.len(), 20 * 24 - 3 * (1 + 2 + 3 + 4));
}

/// When nobody answers, each chunk says so once, and the next cycle goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_over_when_it_is_over() {
    let cloud = Cloud::start(8, 1).await;
    let app = app(&cloud, 3).await;
    cloud.set_down(true);
    let outcome = app.rate().await;
    assert_eq!((outcome.failed, outcome.scopes), (8, 8));
    cloud.set_down(false);
    assert_eq!(app.rate().await.failed, 0);
    check(&app, 8, 1, 3).await;
}

/// A stop in the middle of a long question: what is stored is whole, and the rest is
/// rated later.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_between_questions_loses_nothing() {
    let cloud = Cloud::start(6, 1).await;
    cloud.set_delay(Duration::from_millis(5));
    let app = app(&cloud, 200).await;
    let pipeline = app.pipeline();
    let (stop, progress) = (CancellationToken::new(), Arc::new(Progress::quiet()));
    let running = {
        let (pipeline, progress, stop) = (pipeline.clone(), progress.clone(), stop.clone());
        tokio::spawn(async move { pipeline.run_once(&progress, &stop).await })
    };
    while progress.periods() < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    assert!(running.await.unwrap().unwrap().stopped);
    let done = progress.periods();
    assert!((50..1_200).contains(&done), "{done}");
    cloud.set_delay(Duration::ZERO);
    assert_eq!(app.rate().await.failed, 0);
    check(&app, 6, 1, 200).await;
}
