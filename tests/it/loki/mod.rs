//! Dataframes in Loki: what only this backend has to get right. What every
//! backend must do is in `storage.rs`.

mod contract;
mod kills;
mod limits;
mod peers;
mod python;
mod revisions;
mod truth;

pub use truth::FAULTS;

use ratekitty::{
    dataframe::{DataFrame, DataPoint},
    decimal::Decimal,
    storage::{GroupKey, Page, Selection, Storage, StorageError},
    time::{CALENDAR, Period, calendar_labels, local, seconds},
};
use serde_json::{Value, json};

/// Midnight, 1 November 2026, UTC.
const START: i64 = 1_793_491_200;
const HOUR: i64 = 3_600;

fn hour(number: i64) -> Period {
    Period::starting(seconds(START + number * HOUR), 3_600)
}

fn everything() -> Selection {
    Selection::all(seconds(START), seconds(START + 1_000 * HOUR))
}

fn label(name: &str) -> GroupKey {
    GroupKey::Label(name.to_owned())
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// A point as a collector makes it, calendar labels and all.
fn point(scope: &str, id: &str, period: Period, price: &str) -> DataPoint {
    let labels = |value: Value| value.as_object().unwrap().clone();
    let mut groupby = labels(json!({"project_id": scope, "id": id}));
    for (name, value) in calendar_labels(local(period.begin)) {
        groupby.insert(name.to_owned(), json!(value));
    }
    assert!(CALENDAR.iter().all(|name| groupby.contains_key(*name)));
    let metadata = labels(json!({"flavor.name": "m1"}));
    DataPoint {
        unit: "GiB".into(),
        qty: decimal("2"),
        price: decimal(price),
        groupby: groupby.into(),
        metadata: metadata.into(),
    }
}

/// A point in a form that can be compared: numbers as floats.
fn as_json(point: &DataPoint) -> Value {
    json!({
        "unit": &*point.unit,
        "qty": point.qty.to_f64(),
        "price": point.price.to_f64(),
        "groupby": *point.groupby,
        "metadata": *point.metadata,
    })
}

/// A frame of `count` points of a scope, each with the price.
fn frame(scope: &str, number: i64, count: usize, price: &str) -> DataFrame {
    let period = hour(number);
    let mut frame = DataFrame::new(period);
    frame.add("cpu", (0..count).map(|id| point(scope, &format!("id-{id}"), period, price)));
    frame
}

/// Sum of all prices, by a key that heads cannot tell.
async fn by_flavor(storage: &dyn Storage) -> Result<String, StorageError> {
    let totals = storage.total(&everything(), &[label("flavor.name")], Page::ALL).await?;
    match totals.rows.as_slice() {
        [] => Ok("nothing".to_owned()),
        [row] => Ok(row.price.to_f64().to_string()),
        rows => panic!("{rows:?}"),
    }
}

/// Sum of all prices, as heads tell it.
async fn by_type(storage: &dyn Storage) -> String {
    let totals = storage.total(&everything(), &[GroupKey::Type], Page::ALL).await.unwrap();
    match totals.rows.as_slice() {
        [] => "nothing".to_owned(),
        [row] => row.price.to_f64().to_string(),
        rows => panic!("{rows:?}"),
    }
}

/// Prices of all points, one by one.
async fn prices(storage: &dyn Storage) -> Vec<String> {
    let got = storage.retrieve(&everything(), Page::ALL).await.unwrap();
    assert_eq!(got.total, got.points.len() as u64);
    got.points.iter().map(|(.., point)| point.price.to_f64().to_string()).collect()
}
