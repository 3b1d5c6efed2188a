//! Writing: every call is one transaction.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, Value as SqlValue};

use super::{
    STORE, SqlStorage,
    series::{Fingerprint, Identity},
};
use crate::{
    dataframe::DataFrame,
    state::{Context, Step, Transaction, placeholders, statement},
    storage::{
        Replacement, StorageError,
        changes::{Changes, Reaches},
        heads::{Block, Kept, Place, blocks_of, scopes_of, sorted_blocks},
    },
    time::local,
};

/// Points written in one statement: five values each, and SQLite takes 32,766.
const BATCH: usize = 2_000;

impl SqlStorage {
    pub(super) async fn write_replacing(
        &self,
        replacements: &[Replacement<'_>],
    ) -> Result<(), StorageError> {
        self.write(replacements, replacements.iter().map(Group::of).collect()).await
    }

    pub(super) async fn write_beside(&self, frames: &[DataFrame]) -> Result<(), StorageError> {
        let scopes = scopes_of(frames, &self.scope_key);
        let blocks = sorted_blocks(frames, &scopes);
        self.write(&[], vec![Group { appended: true, writer: String::new(), blocks }]).await
    }

    async fn write(
        &self,
        replacements: &[Replacement<'_>],
        groups: Vec<Group<'_>>,
    ) -> Result<(), StorageError> {
        let identities = identities(groups.iter().flat_map(|group| &group.blocks))?;
        let transaction = self.database.begin().await?;
        let mut changes = Changes::default();
        let steps: Vec<Step<'_>> = replacements.iter().map(|one| one.step).collect();
        Step::take_all(&transaction, &steps).await?;
        let scopes: Vec<&str> = replacements.iter().map(|one| one.scope_id).collect();
        let from = replacements.iter().map(|one| one.time().begin.timestamp()).min().unwrap_or(0);
        let reaches = Reaches::of(&transaction, STORE, &self.scope_key, &scopes, from).await?;
        for replacement in replacements {
            let (writer, period) = (replacement.step.writer(), replacement.time());
            let time = (period.begin.timestamp(), period.end.timestamp());
            if !reaches.end_before(replacement.scope_id, time.0) {
                let kept = self.kept(replacement.scope_id, &writer);
                kept.check_replaceable(&transaction, period, self.beside_others).await?;
                kept.delete(&transaction, time, false).await?;
            }
            changes.wrote(&self.scope_key, replacement.scope_id, time);
        }
        let ids = self.series_ids(&transaction, &identities).await?;
        let mut points = Points::new(&transaction, &ids);
        let mut identities = identities.iter();
        for Group { appended, writer, blocks } in &groups {
            let place = self.place(*appended, writer);
            changes.added(&self.scope_key, blocks);
            for block in blocks {
                let head = place.write_head(&transaction, block).await?;
                points.add(head, block, &mut identities).await?;
            }
        }
        points.finish().await?;
        changes.save(&transaction, STORE).await?;
        transaction.commit().await.to("commit data points")?;
        self.series.learn(ids);
        Ok(())
    }

    fn place<'a>(&'a self, appended: bool, writer: &'a str) -> Place<'a> {
        Place { store: STORE, scope_key: &self.scope_key, appended, writer, stream: None }
    }

    /// What a writer keeps of a scope.
    pub(super) fn kept<'a>(&'a self, scope_id: &'a str, writer: &'a str) -> Kept<'a> {
        Kept { store: STORE, scope_key: &self.scope_key, scope_id, writer }
    }

    pub(super) async fn forget(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        step: &Step<'_>,
    ) -> Result<(), StorageError> {
        let time = (begin.timestamp(), end.timestamp());
        let transaction = self.database.begin().await?;
        step.take(&transaction).await?;
        self.kept(scope_id, &step.writer()).delete(&transaction, time, true).await?;
        let mut changes = Changes::default();
        changes.removed(&self.scope_key, scope_id);
        changes.save(&transaction, STORE).await?;
        Ok(transaction.commit().await.to("delete data points")?)
    }
}

/// Blocks of one writer.
struct Group<'a> {
    appended: bool,
    writer: String,
    blocks: Vec<Block<'a>>,
}

impl<'a> Group<'a> {
    /// Those of all periods of a scope.
    fn of(replacement: &Replacement<'a>) -> Self {
        let Replacement { scope_id, frames, step } = *replacement;
        let blocks = frames.iter().flat_map(|frame| blocks_of(scope_id, frame)).collect();
        Self { appended: false, writer: step.writer(), blocks }
    }
}

/// The series of all points, in their order.
fn identities<'a>(
    blocks: impl Iterator<Item = &'a Block<'a>>,
) -> Result<Vec<Arc<Identity>>, StorageError> {
    // Points that share their labels, and are of one day, are of one series. The
    // addresses stay what they are while the blocks are borrowed.
    let mut known = HashMap::new();
    let mut identities = Vec::new();
    for block in blocks {
        let begin = local(block.period.begin);
        for point in &block.points {
            let labels = (Arc::as_ptr(&point.groupby).addr(), Arc::as_ptr(&point.metadata).addr());
            let key = (labels, point.unit.as_ptr().addr(), begin.date_naive());
            let identity = match known.entry(key) {
                Entry::Occupied(known) => Arc::clone(known.get()),
                Entry::Vacant(place) => {
                    Arc::clone(place.insert(Identity::of(point, begin)?.into()))
                }
            };
            identities.push(identity);
        }
    }
    Ok(identities)
}

/// Rows of points on their way into the database, several in one statement.
struct Points<'a> {
    transaction: &'a Transaction,
    ids: &'a HashMap<Fingerprint, i64>,
    rows: usize,
    values: Vec<SqlValue>,
}

impl<'a> Points<'a> {
    fn new(transaction: &'a Transaction, ids: &'a HashMap<Fingerprint, i64>) -> Self {
        Self { transaction, ids, rows: 0, values: Vec::new() }
    }

    /// Adds the points of a block, whose series come next.
    async fn add(
        &mut self,
        head: i64,
        block: &Block<'_>,
        identities: &mut impl Iterator<Item = &Arc<Identity>>,
    ) -> Result<(), StorageError> {
        for (position, (point, identity)) in (0_i64..).zip(block.points.iter().zip(identities)) {
            let series = self.ids.get(&identity.fingerprint).copied();
            let series = series
                .ok_or_else(|| StorageError::Damaged("a series was not written".to_owned()))?;
            self.values.extend([
                SqlValue::from(head),
                position.into(),
                series.into(),
                point.qty.to_string().into(),
                point.price.to_string().into(),
            ]);
            self.rows += 1;
            if self.rows == BATCH {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StorageError> {
        if self.rows == 0 {
            return Ok(());
        }
        let one = format!("({})", placeholders(5));
        let sql = format!(
            "INSERT INTO ratekitty_points (dataframe_id, position, series_id, qty, price) VALUES {}",
            vec![one.as_str(); self.rows].join(", ")
        );
        self.rows = 0;
        let values = std::mem::take(&mut self.values);
        let insert = statement(self.transaction, &sql, values);
        self.transaction.execute_raw(insert).await.to("write data points")?;
        Ok(())
    }

    async fn finish(mut self) -> Result<(), StorageError> {
        self.flush().await
    }
}
