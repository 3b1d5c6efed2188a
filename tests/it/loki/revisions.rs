//! What is rated again takes the place of what was there, at once, for any age.

use ratekitty::{
    storage::{Storage, StorageError},
    time::seconds,
};
use sea_orm::ConnectionTrait;

use super::{HOUR, START, by_flavor, by_type, everything, frame, hour, prices};
use crate::{
    storage::loki_app,
    support::fake_loki::{Deletes, Fault, Kind, Limits},
    support::{StorageExt, TestApp},
};

/// Checks that all ways to read agree on these prices.
async fn shows(storage: &dyn Storage, expected: &[&str]) {
    assert_eq!(prices(storage).await, expected);
    let sum: i64 = expected.iter().map(|price| price.parse::<i64>().unwrap()).sum();
    let sum = if expected.is_empty() { "nothing".to_owned() } else { sum.to_string() };
    assert_eq!(by_type(storage).await, sum);
    assert_eq!(by_flavor(storage).await.unwrap(), sum);
    let filtered = everything().with("flavor.name", &["m1"]);
    let page = ratekitty::storage::Page { offset: 0, limit: 3 };
    let got = storage.retrieve(&filtered, page).await.unwrap();
    assert_eq!(got.total, expected.len() as u64);
    assert_eq!(got.points.len(), expected.len().min(3));
}

#[tokio::test]
async fn reprocessing_the_past_replaces_it_at_once() {
    // Deletes act on what is pushed later, too, as in a real Loki.
    let limits = Limits { deletes: Deletes::Enabled, max_chunk_age: 7_200, ..Limits::roomy() };
    for conf in ["", "delete_superseded = true"] {
        let (app, _loki) = loki_app(limits.clone(), conf).await;
        for number in 0..6 {
            app.storage.put("p1", &frame("p1", number, 1, "1")).await.unwrap();
            app.storage.put("p2", &frame("p2", number, 1, "1")).await.unwrap();
        }
        shows(&*app.storage, &["1"; 12]).await;
        // As the reprocessor does: delete the range, then rate its periods. The
        // stream of p1 is hours further by now.
        app.storage.remove("p1", hour(1).begin, hour(4).begin).await.unwrap();
        shows(&*app.storage, &["1"; 9]).await;
        for number in 1..4 {
            app.storage.put("p1", &frame("p1", number, 1, "7")).await.unwrap();
        }
        let sum: u32 = prices(&*app.storage).await.iter().map(|p| p.parse::<u32>().unwrap()).sum();
        assert_eq!(sum, 9 + 21, "{conf}");
        assert_eq!(by_flavor(&*app.storage).await.unwrap(), "30", "{conf}");
        // A second time, only a part, and the processor goes on meanwhile.
        app.storage.remove("p1", hour(2).begin, hour(3).begin).await.unwrap();
        app.storage.put("p1", &frame("p1", 6, 1, "1")).await.unwrap();
        app.storage.put("p1", &frame("p1", 2, 1, "100")).await.unwrap();
        app.storage.put("p1", &frame("p1", 7, 1, "1")).await.unwrap();
        assert_eq!(by_flavor(&*app.storage).await.unwrap(), "125", "{conf}");
        assert_eq!(by_type(&*app.storage).await, "125", "{conf}");
    }
}

#[tokio::test]
async fn a_reset_takes_everything_from_there_on() {
    let (app, _loki) = loki_app(Limits::roomy(), "").await;
    for number in 0..4 {
        app.storage.put("p1", &frame("p1", number, 1, "1")).await.unwrap();
    }
    let end = seconds(253_402_300_799);
    app.storage.remove("p1", hour(1).begin, end).await.unwrap();
    shows(&*app.storage, &["1"]).await;
    // With the same content as before: nothing of the old may count again.
    for number in 1..3 {
        app.storage.put("p1", &frame("p1", number, 1, "1")).await.unwrap();
    }
    shows(&*app.storage, &["1"; 3]).await;
    app.storage.remove("p1", hour(0).begin, end).await.unwrap();
    shows(&*app.storage, &[]).await;
    app.storage.put("p1", &frame("p1", 0, 2, "1")).await.unwrap();
    shows(&*app.storage, &["1", "1"]).await;
}

#[tokio::test]
async fn rating_again_and_again_counts_once() {
    let (app, loki) = loki_app(Limits::roomy(), "").await;
    for price in ["1", "2", "1", "2", "2", "1"] {
        app.storage.put("p1", &frame("p1", 0, 2, price)).await.unwrap();
        shows(&*app.storage, &[price, price]).await;
    }
    app.storage.put("p1", &ratekitty::dataframe::DataFrame::new(hour(0))).await.unwrap();
    shows(&*app.storage, &[]).await;
    // Nothing, something, nothing again.
    app.storage.put("p1", &frame("p1", 0, 1, "4")).await.unwrap();
    shows(&*app.storage, &["4"]).await;
    app.storage.put("p1", &ratekitty::dataframe::DataFrame::new(hour(0))).await.unwrap();
    shows(&*app.storage, &[]).await;
    app.storage.put("p1", &frame("p1", 1, 1, "1")).await.unwrap();
    shows(&*app.storage, &["1"]).await;
    // The same content, right behind itself, is not even pushed again.
    if let Some(loki) = loki {
        let pushes = loki.count("/push");
        app.storage.put("p1", &frame("p1", 1, 1, "1")).await.unwrap();
        assert_eq!(loki.count("/push"), pushes);
    }
}

#[tokio::test]
async fn the_same_points_make_the_same_bytes_at_the_same_place() {
    let (app, loki) = loki_app(Limits::roomy(), "retry_budget = 0.2").await;
    let Some(loki) = loki else { return };
    // Stored, and never acknowledged: tried again in the next cycle.
    loki.faults().next(Kind::Push, 2, Fault::DropAnswer);
    app.storage.put("p1", &frame("p1", 0, 5, "1")).await.unwrap_err();
    assert_eq!(loki.stored(), 5);
    shows(&*app.storage, &[]).await;
    loki.faults().clear();
    app.storage.put("p1", &frame("p1", 0, 5, "1")).await.unwrap();
    assert_eq!(loki.stored(), 5);
    shows(&*app.storage, &["1"; 5]).await;
}

/// A scope is rated over six hours, and from the third on again, by a database that has
/// forgotten it. `is_taken` says whether Loki takes entries so far behind.
async fn restore_a_backup(limits: Limits, is_taken: bool) {
    let (app, loki) = loki_app(limits, "").await;
    // A real one has the limits that it has.
    let is_taken = is_taken || loki.is_none();
    for number in 0..6 {
        app.storage.put("p1", &frame("p1", number, 1, "1")).await.unwrap();
    }
    // The backup knows of two hours.
    let end = START + 2 * HOUR;
    for sql in [
        format!("DELETE FROM ratekitty_dataframes WHERE begin_epoch >= {end}"),
        format!(
            "UPDATE ratekitty_streams SET last_epoch = {}, known_ns = {}, digest = ''",
            START + HOUR,
            end * 1_000_000_000
        ),
    ] {
        app.database.connection().execute_unprepared(&sql).await.unwrap();
    }
    assert_eq!(by_type(&*app.storage).await, "2");
    // What Loki has beyond it does not count.
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "2");
    assert_eq!(prices(&*app.storage).await.len(), 2);
    rate_again(&app).await;
    // In a new stream, where the old one takes nothing so old. Else what Loki has of the old
    // rating is never added up with the new one, until the scope is reset.
    match by_flavor(&*app.storage).await {
        Ok(price) => {
            assert!(!is_taken || loki.is_none(), "the double takes entries so far behind");
            assert_eq!(price, "14");
        }
        Err(StorageError::TooMany { shown, stored }) => {
            assert!(is_taken && (shown, stored) == (10, 6), "{shown} shown, {stored} stored");
            app.storage.remove("p1", hour(2).begin, hour(6).begin).await.unwrap();
            rate_again(&app).await;
            assert_eq!(by_flavor(&*app.storage).await.unwrap(), "14");
        }
        Err(error) => panic!("{error}"),
    }
    shows(&*app.storage, &["1", "1", "3", "3", "3", "3"]).await;
}

async fn rate_again(app: &TestApp) {
    for number in 2..6 {
        app.storage.put("p1", &frame("p1", number, 1, "3")).await.unwrap();
    }
    assert_eq!(by_type(&*app.storage).await, "14");
}

#[tokio::test]
async fn state_from_a_backup_meets_a_stream_that_takes_no_more() {
    restore_a_backup(Limits { max_chunk_age: 7_200, ..Limits::roomy() }, false).await;
}

#[tokio::test]
async fn state_from_a_backup_meets_a_stream_that_takes_more() {
    restore_a_backup(Limits::roomy(), true).await;
}

#[tokio::test]
async fn appended_points_stay_beside_what_is_rated() {
    let (app, _loki) = loki_app(Limits::roomy(), "retry_budget = 0.2").await;
    app.storage.put("p1", &frame("p1", 3, 1, "1")).await.unwrap();
    for number in [3, 3, 1, 3, 5] {
        app.storage.append(&[frame("p1", number, 1, "10")]).await.unwrap();
    }
    app.storage.append(&[frame("p1", 7, 1, "10"), frame("p2", 6, 1, "10")]).await.unwrap();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "71");
    app.storage.put("p1", &frame("p1", 3, 1, "2")).await.unwrap();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "72");
    assert_eq!(by_type(&*app.storage).await, "72");
    app.storage.remove("p1", hour(3).begin, hour(4).begin).await.unwrap();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "40");
    assert_eq!(prices(&*app.storage).await.len(), 4);
}

#[tokio::test]
async fn two_processors_on_one_scope_do_no_harm() {
    let (app, loki) = loki_app(Limits { max_chunk_age: 7_200, ..Limits::roomy() }, "").await;
    let Some(loki) = loki else { return };
    // The push of one is held up, until Loki finds it too far behind.
    loki.faults().next(Kind::Push, 1, Fault::TooManyRequests(Some(2)));
    let slow = tokio::spawn({
        let storage = app.storage.clone();
        async move { storage.put("p1", &frame("p1", 0, 2, "1")).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    // The other rates the same period and goes on.
    for number in 0..5 {
        app.storage.put("p1", &frame("p1", number, 2, "1")).await.unwrap();
    }
    slow.await.unwrap().unwrap_err();
    shows(&*app.storage, &["1"; 10]).await;
    app.storage.put("p1", &frame("p1", 5, 2, "1")).await.unwrap();
    shows(&*app.storage, &["1"; 12]).await;
    let late = ratekitty::storage::Selection::all(hour(3).begin, hour(9).begin);
    let key = [super::label("flavor.name")];
    let totals = app.storage.total(&late, &key, ratekitty::storage::Page::ALL).await.unwrap();
    assert_eq!(totals.rows[0].price.to_f64(), 6.0);
}

#[tokio::test]
async fn a_rating_that_is_given_up_does_not_hide_what_was_there() {
    let (app, loki) = loki_app(Limits::roomy(), "retry_budget = 0.2").await;
    let Some(loki) = loki else { return };
    app.storage.put("p1", &frame("p1", 0, 1, "1")).await.unwrap();
    app.storage.put("p1", &frame("p1", 1, 1, "1")).await.unwrap();
    loki.faults().random(Kind::Push, 1, 1.0, &[Fault::Status(500)]);
    for price in ["2", "3", "3", "4"] {
        app.storage.put("p1", &frame("p1", 1, 1, price)).await.unwrap_err();
        shows(&*app.storage, &["1", "1"]).await;
    }
    loki.faults().clear();
    app.storage.put("p1", &frame("p1", 1, 1, "3")).await.unwrap();
    shows(&*app.storage, &["1", "3"]).await;
}

#[tokio::test]
async fn what_is_appended_after_a_reset_is_not_deleted_with_it() {
    // Loki's delete hides what is pushed later, too.
    let limits = Limits { deletes: Deletes::Enabled, ..Limits::roomy() };
    let (app, _loki) = loki_app(limits, "delete_superseded = true").await;
    app.storage.append(&[frame("p1", 3, 2, "10")]).await.unwrap();
    app.storage.remove("p1", hour(3).begin, hour(4).begin).await.unwrap();
    shows(&*app.storage, &[]).await;
    app.storage.append(&[frame("p1", 3, 2, "5")]).await.unwrap();
    shows(&*app.storage, &["5", "5"]).await;
}

#[tokio::test]
async fn an_append_of_a_day_goes_in_order() {
    // A stock Loki's window of an hour, and pushes of a few entries.
    let limits = Limits { max_chunk_age: 7_200, ..Limits::roomy() };
    let (app, _loki) = loki_app(limits, "batch_entries = 3").await;
    let frames: Vec<_> = (0..24).map(|number| frame("p1", number, 2, "1")).collect();
    app.storage.append(&frames).await.unwrap();
    shows(&*app.storage, &["1"; 48]).await;
}

#[tokio::test]
async fn an_append_that_fails_adds_nothing_ever() {
    let (app, loki) = loki_app(Limits::roomy(), "retry_budget = 0.2").await;
    let Some(loki) = loki else { return };
    app.storage.append(&[frame("p1", 3, 2, "10")]).await.unwrap();
    loki.faults().random(Kind::Push, 7, 1.0, &[Fault::HalfStored, Fault::DropAnswer]);
    let frames = [frame("p1", 3, 4, "1"), frame("p2", 3, 4, "1")];
    app.storage.append(&frames).await.unwrap_err();
    loki.faults().clear();
    shows(&*app.storage, &["10", "10"]).await;
    app.storage.append(&frames).await.unwrap();
    assert_eq!(by_flavor(&*app.storage).await.unwrap(), "28");
    assert_eq!(prices(&*app.storage).await.len(), 10);
}
