//! Writing: every call is one transaction.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, Value as SqlValue};

use super::{STORE, SqlStorage, series::Identity};
use crate::{
    dataframe::DataFrame,
    state::{Context, Step, placeholders, statement},
    storage::{
        StorageError,
        heads::{Block, Kept, Place, blocks_of, scopes_of, sorted_blocks},
    },
    time::{Period, local},
};

/// Points written in one statement: five values each, and SQLite takes 32,766.
const BATCH: usize = 2_000;

impl SqlStorage {
    pub(super) async fn write_replacing(
        &self,
        scope_id: &str,
        frame: &DataFrame,
        step: &Step<'_>,
    ) -> Result<(), StorageError> {
        let blocks = blocks_of(scope_id, frame);
        self.write(Some((scope_id, frame.period, step)), blocks).await
    }

    pub(super) async fn write_beside(&self, frames: &[DataFrame]) -> Result<(), StorageError> {
        let scopes = scopes_of(frames, &self.scope_key);
        self.write(None, sorted_blocks(frames, &scopes)).await
    }

    async fn write(
        &self,
        replaced: Option<(&str, Period, &Step<'_>)>,
        blocks: Vec<Block<'_>>,
    ) -> Result<(), StorageError> {
        let points = blocks.iter().flat_map(|block| {
            let begin = local(block.period.begin);
            block.points.iter().map(move |point| Identity::of(point, begin))
        });
        let identities = points.collect::<Result<Vec<_>, StorageError>>()?;
        let writer = replaced.map(|(.., step)| step.writer()).unwrap_or_default();
        let transaction = self.database.begin().await?;
        if let Some((scope_id, period, step)) = replaced {
            step.take(&transaction).await?;
            let kept = self.kept(scope_id, &writer);
            kept.check_replaceable(&transaction, period, self.beside_others).await?;
            let time = (period.begin.timestamp(), period.end.timestamp());
            kept.delete(&transaction, time, false).await?;
        }
        let ids = self.series_ids(&transaction, &identities).await?;
        let place = Place {
            store: STORE,
            scope_key: &self.scope_key,
            appended: replaced.is_none(),
            writer: &writer,
            stream: None,
        };
        let mut identities = identities.iter();
        for block in &blocks {
            let dataframe = place.write_head(&transaction, block).await?;
            let action = "write data points";
            let mut rows = block.points.iter().zip(identities.by_ref()).enumerate();
            loop {
                let batch: Vec<_> = rows.by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                let one = format!("({})", placeholders(5));
                let sql = format!(
                    "INSERT INTO ratekitty_points (dataframe_id, position, series_id, qty, price) VALUES {}",
                    vec![one.as_str(); batch.len()].join(", ")
                );
                let mut values: Vec<SqlValue> = Vec::with_capacity(5 * batch.len());
                for (position, (point, identity)) in &batch {
                    let series = ids.get(&identity.fingerprint).copied().ok_or_else(|| {
                        StorageError::Damaged("a series was not written".to_owned())
                    })?;
                    values.extend([
                        SqlValue::from(dataframe),
                        i64::try_from(*position).unwrap_or(i64::MAX).into(),
                        series.into(),
                        point.qty.to_string().into(),
                        point.price.to_string().into(),
                    ]);
                }
                let insert = statement(&transaction, &sql, values);
                transaction.execute_raw(insert).await.to(action)?;
            }
        }
        transaction.commit().await.to("commit data points")?;
        self.series.learn(ids);
        Ok(())
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
        Ok(transaction.commit().await.to("delete data points")?)
    }
}
