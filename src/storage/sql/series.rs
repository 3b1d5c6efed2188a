//! Series: the labels that points share, each kept once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sea_orm::{ConnectionTrait, Value as SqlValue};
use sha2::{Digest, Sha256};

use super::SqlStorage;
use crate::{
    dataframe::{DataPoint, Labels},
    state::{Context, StateError, placeholders, statement},
    storage::StorageError,
};

/// Series kept in memory; beyond it the cache starts anew.
const CACHE_SIZE: usize = 200_000;
/// Fingerprints looked up in one statement.
const BATCH: usize = 500;

/// What points of one thing share.
#[derive(Debug, PartialEq)]
pub(super) struct Series {
    pub unit: Arc<str>,
    pub groupby: Labels,
    pub metadata: Labels,
}

impl Series {
    /// The label that filters and group keys mean by this name.
    pub fn label(&self, name: &str) -> Option<&serde_json::Value> {
        self.groupby.get(name).or_else(|| self.metadata.get(name))
    }
}

type Fingerprint = [u8; 32];

/// Known series, both ways.
#[derive(Debug, Default)]
pub(super) struct SeriesCache(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    ids: HashMap<Fingerprint, i32>,
    series: HashMap<i32, Arc<Series>>,
}

impl SeriesCache {
    fn with<T>(&self, use_maps: impl FnOnce(&mut Maps) -> T) -> T {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if maps.ids.len() > CACHE_SIZE || maps.series.len() > CACHE_SIZE {
            *maps = Maps::default();
        }
        use_maps(&mut maps)
    }

    /// Notes the numbers of series that are now kept for good.
    pub fn learn(&self, known: impl IntoIterator<Item = (Fingerprint, i32)>) {
        self.with(|maps| maps.ids.extend(known));
    }
}

/// Tells series apart: same unit and labels, in the same order.
pub(super) struct Identity {
    pub fingerprint: Fingerprint,
    unit: String,
    groupby: String,
    metadata: String,
}

impl Identity {
    pub fn of(point: &DataPoint) -> Result<Self, StorageError> {
        let text = |labels: &Labels| {
            serde_json::to_string(labels).map_err(|error| StorageError::Damaged(error.to_string()))
        };
        let (groupby, metadata) = (text(&point.groupby)?, text(&point.metadata)?);
        let mut hash = Sha256::new();
        for part in [&*point.unit, &groupby, &metadata] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let fingerprint = hash.finalize().into();
        Ok(Self { fingerprint, unit: point.unit.to_string(), groupby, metadata })
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
    /// Numbers of the series of `points`; new ones are added within `transaction`.
    /// They may be learnt only once it is committed.
    pub(super) async fn series_ids(
        &self,
        transaction: &impl ConnectionTrait,
        identities: &[Identity],
    ) -> Result<HashMap<Fingerprint, i32>, StorageError> {
        let action = "look up series";
        let mut ids: HashMap<Fingerprint, i32> = self.series.with(|maps| {
            let known = identities.iter().filter_map(|identity| {
                Some((identity.fingerprint, *maps.ids.get(&identity.fingerprint)?))
            });
            known.collect()
        });
        let mut missing: Vec<&Identity> =
            identities.iter().filter(|identity| !ids.contains_key(&identity.fingerprint)).collect();
        missing.sort_by_key(|identity| identity.fingerprint);
        missing.dedup_by_key(|identity| identity.fingerprint);
        for batch in missing.chunks(BATCH) {
            let sql = format!(
                "SELECT id, fingerprint FROM ratekitty_series WHERE fingerprint IN ({})",
                placeholders(batch.len())
            );
            let values = batch.iter().map(|identity| SqlValue::from(hex(&identity.fingerprint)));
            let rows = transaction.query_all_raw(statement(transaction, &sql, values)).await;
            for row in rows.to(action)? {
                let text: String = row.try_get("", "fingerprint").to(action)?;
                let fingerprint = unhex(&text)
                    .ok_or_else(|| StorageError::Damaged(format!("fingerprint `{text}`")))?;
                ids.insert(fingerprint, row.try_get("", "id").to(action)?);
            }
            for identity in batch {
                if ids.contains_key(&identity.fingerprint) {
                    continue;
                }
                let sql = "INSERT INTO ratekitty_series (fingerprint, unit, groupby, metadata) \
                           VALUES (?, ?, ?, ?) RETURNING id";
                let values = [
                    hex(&identity.fingerprint).into(),
                    identity.unit.as_str().into(),
                    identity.groupby.as_str().into(),
                    identity.metadata.as_str().into(),
                ];
                let row = transaction.query_one_raw(statement(transaction, sql, values)).await;
                let row = row.to("add a series")?;
                let row = row.ok_or_else(|| StorageError::Damaged("a series without id".into()))?;
                ids.insert(identity.fingerprint, row.try_get("", "id").to("add a series")?);
            }
        }
        Ok(ids)
    }

    /// The series with these numbers.
    pub(super) async fn series_by_id(
        &self,
        connection: &impl ConnectionTrait,
        ids: &[i32],
    ) -> Result<HashMap<i32, Arc<Series>>, StorageError> {
        let mut found: HashMap<i32, Arc<Series>> = self.series.with(|maps| {
            ids.iter().filter_map(|id| Some((*id, maps.series.get(id)?.clone()))).collect()
        });
        let mut missing: Vec<i32> =
            ids.iter().copied().filter(|id| !found.contains_key(id)).collect();
        missing.sort_unstable();
        missing.dedup();
        let action = "read series";
        for batch in missing.chunks(BATCH) {
            let sql = format!(
                "SELECT id, unit, groupby, metadata FROM ratekitty_series WHERE id IN ({})",
                placeholders(batch.len())
            );
            let values = batch.iter().map(|id| SqlValue::from(*id));
            let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
            for row in rows.to(action)? {
                let labels = |name: &str| -> Result<Labels, StorageError> {
                    let text: String = row.try_get("", name).to(action)?;
                    serde_json::from_str(&text)
                        .map_err(|error| StorageError::Damaged(format!("labels `{text}`: {error}")))
                };
                let unit: String = row.try_get("", "unit").to(action)?;
                let series = Arc::new(Series {
                    unit: unit.into(),
                    groupby: labels("groupby")?,
                    metadata: labels("metadata")?,
                });
                let id = row
                    .try_get("", "id")
                    .map_err(|source| StateError::Statement { action, source })?;
                found.insert(id, series);
            }
        }
        self.series.with(|maps| {
            maps.series.extend(missing.iter().filter_map(|id| Some((*id, found.get(id)?.clone()))));
        });
        match missing.iter().find(|id| !found.contains_key(id)) {
            Some(id) => Err(StorageError::Damaged(format!("series {id} is missing"))),
            None => Ok(found),
        }
    }
}
