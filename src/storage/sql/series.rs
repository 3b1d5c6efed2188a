//! Series: the labels that points share, each kept once.
//!
//! Most points carry the calendar labels of their period. These are left out
//! of the series, which would otherwise be a new one every day, and put back
//! from the period when points are read ([`Series::calendar`]).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, FixedOffset};
use sea_orm::{ConnectionTrait, QueryResult, Value as SqlValue};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::SqlStorage;
use crate::{
    dataframe::{DataPoint, Labels},
    state::{Context, insert_if_new, placeholders, statement},
    storage::StorageError,
    time::{CALENDAR, calendar_labels},
};

/// Numbers of series kept in memory (some 50 bytes each); beyond it the cache
/// starts anew.
const CACHE_SIZE: usize = 200_000;
/// Series looked up in one statement.
const BATCH: usize = 500;

/// What points of one thing share.
#[derive(Debug, PartialEq)]
pub(super) struct Series {
    pub unit: Arc<str>,
    pub groupby: Labels,
    pub metadata: Labels,
    /// Whether the points carry the calendar labels of their periods.
    pub calendar: bool,
}

impl Series {
    /// Columns of `ratekitty_series` that [`Self::read`] needs.
    pub const COLUMNS: &'static str = "s.unit, s.groupby, s.metadata, s.calendar";

    pub fn read(row: &QueryResult) -> Result<Self, StorageError> {
        let action = "read series";
        let labels = |name: &str| -> Result<Labels, StorageError> {
            let text: String = row.try_get("", name).to(action)?;
            serde_json::from_str(&text)
                .map_err(|error| StorageError::Damaged(format!("labels `{text}`: {error}")))
        };
        let unit: String = row.try_get("", "unit").to(action)?;
        Ok(Self {
            unit: unit.into(),
            groupby: labels("groupby")?,
            metadata: labels("metadata")?,
            calendar: row.try_get("", "calendar").to(action)?,
        })
    }

    /// The label that filters and group keys mean by this name; calendar
    /// labels are the period's to tell.
    pub fn label(&self, name: &str) -> Option<&Value> {
        self.groupby.get(name).or_else(|| self.metadata.get(name))
    }

    /// The labels of a point whose period begins at `begin`.
    pub fn groupby_at(&self, begin: DateTime<FixedOffset>) -> Labels {
        let mut groupby = self.groupby.clone();
        if self.calendar {
            let labels = calendar_labels(begin).into_iter();
            groupby.extend(labels.map(|(name, value)| (name.to_owned(), Value::String(value))));
        }
        groupby
    }
}

/// What a series is found by.
pub(super) type Fingerprint = [u8; 32];

/// Numbers of known series.
#[derive(Debug, Default)]
pub(super) struct SeriesCache(Mutex<HashMap<Fingerprint, i64>>);

impl SeriesCache {
    fn known(&self, identities: &[Arc<Identity>]) -> HashMap<Fingerprint, i64> {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = identities
            .iter()
            .filter_map(|identity| Some((identity.fingerprint, *ids.get(&identity.fingerprint)?)));
        known.collect()
    }

    /// Notes the numbers of series that are now kept for good.
    pub fn learn(&self, known: HashMap<Fingerprint, i64>) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() + known.len() > CACHE_SIZE {
            ids.clear();
        }
        if known.len() <= CACHE_SIZE {
            ids.extend(known);
        }
    }
}

/// Tells series apart: same unit and labels, in the same order.
pub(super) struct Identity {
    pub fingerprint: Fingerprint,
    unit: String,
    groupby: String,
    metadata: String,
    calendar: bool,
}

impl Identity {
    /// The series of a point whose period begins at `begin`.
    pub fn of(point: &DataPoint, begin: DateTime<FixedOffset>) -> Result<Self, StorageError> {
        let text = |labels: &Labels| {
            serde_json::to_string(labels).map_err(|error| StorageError::Damaged(error.to_string()))
        };
        let calendar = calendar_labels(begin).iter().all(|(name, value)| {
            point.groupby.get(*name).and_then(Value::as_str) == Some(value.as_str())
        });
        let groupby = if calendar {
            let mut lasting = Labels::clone(&point.groupby);
            lasting.retain(|name, _| !CALENDAR.contains(&name.as_str()));
            text(&lasting)?
        } else {
            text(&point.groupby)?
        };
        let metadata = text(&point.metadata)?;
        let mut hash = Sha256::new();
        for part in [&*point.unit, &groupby, &metadata] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.update([u8::from(calendar)]);
        let fingerprint = hash.finalize().into();
        Ok(Self { fingerprint, unit: point.unit.to_string(), groupby, metadata, calendar })
    }
}

fn hex(fingerprint: &Fingerprint) -> String {
    fingerprint.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Fingerprint> {
    let mut fingerprint = [0; 32];
    for (byte, at) in fingerprint.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(fingerprint)
}

impl SqlStorage {
    /// Numbers of the series of points; new ones are added within `transaction`.
    /// They may be learnt only once it is committed.
    pub(super) async fn series_ids(
        &self,
        transaction: &impl ConnectionTrait,
        identities: &[Arc<Identity>],
    ) -> Result<HashMap<Fingerprint, i64>, StorageError> {
        let mut ids = self.series.known(identities);
        let mut missing: Vec<&Identity> = identities
            .iter()
            .map(Arc::as_ref)
            .filter(|identity| !ids.contains_key(&identity.fingerprint))
            .collect();
        missing.sort_by_key(|identity| identity.fingerprint);
        missing.dedup_by_key(|identity| identity.fingerprint);
        // In the order of fingerprints, so that two writers of the same series
        // wait for each other, and not both.
        for batch in missing.chunks(BATCH) {
            find_series(transaction, batch, &mut ids).await?;
            let new: Vec<&Identity> = batch
                .iter()
                .filter(|identity| !ids.contains_key(&identity.fingerprint))
                .copied()
                .collect();
            if new.is_empty() {
                continue;
            }
            let rows = vec!["(?, ?, ?, ?, ?)"; new.len()].join(", ");
            let into = format!(
                "ratekitty_series (fingerprint, unit, groupby, metadata, calendar) VALUES {rows}"
            );
            // Someone else may have added one of them a moment ago.
            let sql = insert_if_new(transaction, &into);
            let values = new.iter().flat_map(|identity| {
                [
                    SqlValue::from(hex(&identity.fingerprint)),
                    identity.unit.as_str().into(),
                    identity.groupby.as_str().into(),
                    identity.metadata.as_str().into(),
                    identity.calendar.into(),
                ]
            });
            let insert = statement(transaction, &sql, values);
            transaction.execute_raw(insert).await.to("add series")?;
            find_series(transaction, &new, &mut ids).await?;
        }
        Ok(ids)
    }

    /// The series with these numbers.
    pub(super) async fn series_by_id(
        &self,
        connection: &impl ConnectionTrait,
        ids: &[i64],
    ) -> Result<HashMap<i64, Arc<Series>>, StorageError> {
        let mut wanted = ids.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let action = "read series";
        let mut found = HashMap::new();
        for batch in wanted.chunks(BATCH) {
            let sql = format!(
                "SELECT s.id, {} FROM ratekitty_series s WHERE s.id IN ({})",
                Series::COLUMNS,
                placeholders(batch.len())
            );
            let values = batch.iter().map(|id| SqlValue::from(*id));
            let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
            for row in rows.to(action)? {
                found.insert(row.try_get("", "id").to(action)?, Arc::new(Series::read(&row)?));
            }
        }
        Ok(found)
    }
}

/// Looks up the numbers of series that are there.
async fn find_series(
    connection: &impl ConnectionTrait,
    identities: &[&Identity],
    ids: &mut HashMap<Fingerprint, i64>,
) -> Result<(), StorageError> {
    let action = "look up series";
    let sql = format!(
        "SELECT id, fingerprint FROM ratekitty_series WHERE fingerprint IN ({})",
        placeholders(identities.len())
    );
    let values = identities.iter().map(|identity| SqlValue::from(hex(&identity.fingerprint)));
    let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
    for row in rows.to(action)? {
        let text: String = row.try_get("", "fingerprint").to(action)?;
        let fingerprint =
            unhex(&text).ok_or_else(|| StorageError::Damaged(format!("fingerprint `{text}`")))?;
        ids.insert(fingerprint, row.try_get("", "id").to(action)?);
    }
    Ok(())
}
