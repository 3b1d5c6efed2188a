//! Sums that are kept are those that would be computed now.

use std::time::Duration;

use ratekitty::{
    storage::{self, Mark},
    time::Clock,
};
use sea_orm::ConnectionTrait;

use super::*;

/// The storage of another process with the same configuration, but for how long it keeps
/// sums.
fn another(app: &TestApp, seconds: u64) -> Arc<dyn Storage> {
    let mut config = app.config.clone();
    config.ratekitty.summary_cache = Duration::from_secs(seconds);
    let clock: Arc<dyn Clock> = Arc::new(app.clock.clone());
    storage::build(&config, &app.database, &clock).unwrap()
}

/// Those whose sums are kept, without faults.
async fn keepers() -> Vec<Backend> {
    let mut keepers = Vec::new();
    for backend in backends().await.into_iter().take(6) {
        if backend.storage.mark(&everything()).await.unwrap().is_some() {
            keepers.push(backend);
        }
    }
    let names: Vec<_> = keepers.iter().map(|keeper| keeper.name.as_str()).collect();
    assert_eq!(
        names,
        ["sql on Sqlite", "sql on Mariadb", "sql on Postgresql", "loki, with MariaDB"]
    );
    keepers
}

/// Does something with dataframes.
async fn change(storage: &dyn Storage, random: &mut StdRng) -> String {
    let scope = ["p1", "p2", "p3", ""][random.random_range(0..4)];
    let at = random.random_range(0..8);
    let mut points = |count: u32| {
        let points = (0..count).map(|id| {
            let qty = random.random_range(0..1_000).to_string();
            let mut one = point(scope, &format!("id-{id}"), &qty, "0.1");
            if random.random_range(0..3) == 0 {
                Arc::make_mut(&mut one.metadata).insert("flavor".into(), json!("m2"));
            }
            ("cpu", one)
        });
        frame(hour(at), points.collect::<Vec<_>>())
    };
    let (few, more) = (points(1), points(3));
    match random.random_range(0..10) {
        0..=4 => storage.put(scope, &more).await.unwrap(),
        5 => storage.put(scope, &DataFrame::new(hour(at))).await.unwrap(),
        6..=7 => storage.append(&[few]).await.unwrap(),
        8 => storage.append(&[few, more]).await.unwrap(),
        _ => storage.remove(scope, hour(at).begin, hour(at + 2).begin).await.unwrap(),
    }
    format!("`{scope}`, hour {at}")
}

#[tokio::test]
async fn kept_sums_are_the_sums_of_now() {
    for Backend { name, storage, app, .. } in keepers().await {
        let (other, fresh) = (another(&app, 300), another(&app, 0));
        let seed = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        let windows = [
            everything(),
            Selection::all(hour(0).begin, hour(4).begin),
            Selection::all(hour(3).begin, hour(6).begin).with("project_id", &["p1", ""]),
            Selection::all(hour(2).begin, hour(8).begin).with("flavor", &["m2"]),
        ];
        let groupings = [
            vec![],
            vec![GroupKey::Time, GroupKey::Label("project_id".into())],
            vec![GroupKey::Label("flavor".into())],
        ];
        for step in 0..25 {
            let writer = if random.random() { &storage } else { &other };
            let done = change(&**writer, &mut random).await;
            for (selection, groupby) in
                windows.iter().flat_map(|window| groupings.iter().map(move |keys| (window, keys)))
            {
                let now = fresh.total(selection, groupby, Page::ALL).await.unwrap();
                for reader in [&storage, &other] {
                    let kept = reader.total(selection, groupby, Page::ALL).await.unwrap();
                    let told = format!("{name}, seed {seed}, step {step}: {done}, {selection:?}");
                    assert_eq!(kept, now, "{told} {groupby:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_goes_on_behind_a_window_leaves_its_mark_alone() {
    for Backend { name, storage, .. } in keepers().await {
        let cpu = |scope: &str, number| frame(hour(number), [("cpu", point(scope, "a", "1", "1"))]);
        for scope in ["p1", "p2"] {
            for number in 0..3 {
                storage.put(scope, &cpu(scope, number)).await.unwrap();
            }
        }
        let window = Selection::all(hour(0).begin, hour(3).begin);
        let of_p1 = window.clone().with("project_id", &["p1"]);
        let marks = async || -> (Mark, Mark) {
            let mark = async |selection| storage.mark(selection).await.unwrap().unwrap();
            (mark(&window).await, mark(&of_p1).await)
        };
        let first = marks().await;
        storage.put("p1", &cpu("p1", 3)).await.unwrap();
        storage.append(&[cpu("p2", 7)]).await.unwrap();
        assert_eq!(marks().await, first, "{name}");
        // What belongs to others is nothing to a scope.
        storage.put("p2", &frame(hour(2), [("cpu", point("p2", "b", "1", "1"))])).await.unwrap();
        let second = marks().await;
        assert!(second.0 != first.0 && second.1 == first.1, "{name}");
        let mut before = second;
        for number in 0..3 {
            match number {
                0 => storage.put("p1", &DataFrame::new(hour(1))).await.unwrap(),
                1 => storage.append(&[cpu("p1", 0)]).await.unwrap(),
                _ => storage.remove("p1", hour(2).begin, hour(3).begin).await.unwrap(),
            }
            let after = marks().await;
            assert!(after.0 != before.0 && after.1 != before.1, "{name} {number}");
            before = after;
        }
        // A scope that is new.
        storage.put("p3", &cpu("p3", 1)).await.unwrap();
        let after = marks().await;
        assert!(after.0 != before.0 && after.1 == before.1, "{name}");
    }
}

#[tokio::test]
async fn sums_are_kept_for_a_limited_time_and_for_all_pages() {
    let app = TestApp::new(NOW, "[ratekitty]\nsummary_cache = 60\n", "").await;
    let groupby = [GroupKey::Time];
    for number in 0..5 {
        let one = [("cpu", point("p1", "a", &number.to_string(), "1"))];
        app.storage.put("p1", &frame(hour(number), one)).await.unwrap();
    }
    let prices = async |storage: &dyn Storage, page| {
        let totals = storage.total(&everything(), &groupby, page).await.unwrap();
        assert_eq!(totals.total, 5);
        totals.rows.iter().map(|row| row.price.to_string()).collect::<Vec<_>>()
    };
    let two = Page { offset: 3, limit: 2 };
    assert_eq!(prices(&*app.storage, two).await, ["1", "1"]);
    // Nobody is told of this.
    let sql = "UPDATE ratekitty_dataframes SET price = '7'";
    app.database.connection().execute_unprepared(sql).await.unwrap();
    let uncached = another(&app, 0);
    assert_eq!(prices(&*uncached, two).await, ["7", "7"]);
    assert_eq!(prices(&*app.storage, two).await, ["1", "1"]);
    assert_eq!(prices(&*app.storage, Page { offset: 0, limit: 1 }).await, ["1"]);
    assert_eq!(prices(&*app.storage, Page { offset: 4, limit: 9 }).await, ["1"]);
    assert_eq!(prices(&*app.storage, Page { offset: 5, limit: 9 }).await, [""; 0]);
    assert_eq!(prices(&*app.storage, Page::ALL).await, ["1"; 5]);
    app.clock.set(app.clock.now() + Duration::from_secs(59));
    assert_eq!(prices(&*app.storage, Page::ALL).await, ["1"; 5]);
    app.clock.set(app.clock.now() + Duration::from_secs(1));
    assert_eq!(prices(&*app.storage, Page::ALL).await, ["7"; 5]);
    // A clock that goes back does not make old what is new, nor keep it for longer.
    app.clock.set(NOW.parse().unwrap());
    app.database.connection().execute_unprepared(&sql.replace('7', "8")).await.unwrap();
    assert_eq!(prices(&*app.storage, Page::ALL).await, ["8"; 5]);
}

#[tokio::test]
async fn what_left_no_note_is_replaced_even_so() {
    for Backend { name, storage, app, .. } in backends().await.into_iter().take(6) {
        for forget in
            ["DELETE FROM ratekitty_changes", "UPDATE ratekitty_changes SET end_epoch = 0"]
        {
            for number in 0..2 {
                let two =
                    [("cpu", point("p1", "a", "1", "1")), ("ram", point("p1", "b", "1", "1"))];
                storage.put("p1", &frame(hour(number), two)).await.unwrap();
            }
            app.database.connection().execute_unprepared(forget).await.unwrap();
            let again = frame(hour(0), [("cpu", point("p1", "a", "4", "8"))]);
            storage.put("p1", &again).await.unwrap();
            let (qty, price, points) = sums(&*another(&app, 0), &everything()).await;
            let expected = (decimal("6"), decimal("10"), 3);
            assert_eq!((qty, price, points), expected, "{name}: {forget}");
        }
    }
}
