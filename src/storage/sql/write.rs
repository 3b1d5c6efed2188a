//! Writing: every call is one transaction.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, Value as SqlValue};

use super::{SqlStorage, series::Identity};
use crate::{
    dataframe::{DataFrame, DataPoint, python_str},
    decimal::Total,
    state::{Context, placeholders, statement},
    storage::StorageError,
    time::{Period, local},
};

/// Points written in one statement: five values each, and SQLite takes 32,766.
const BATCH: usize = 2_000;

/// The points of one row of `ratekitty_dataframes`.
struct Block<'a> {
    scope_id: &'a str,
    frame_type: &'a str,
    period: Period,
    points: Vec<&'a DataPoint>,
}

impl SqlStorage {
    pub(super) async fn write_replacing(
        &self,
        scope_id: &str,
        frame: &DataFrame,
    ) -> Result<(), StorageError> {
        let blocks = frame
            .usage
            .iter()
            .map(|(frame_type, points)| Block {
                scope_id,
                frame_type,
                period: frame.period,
                points: points.iter().collect(),
            })
            .collect();
        self.write(Some((scope_id, frame.period)), blocks).await
    }

    pub(super) async fn write_beside(&self, frames: &[DataFrame]) -> Result<(), StorageError> {
        let mut scopes: Vec<(Vec<String>, &DataFrame)> = Vec::new();
        for frame in frames {
            let points = frame.usage.iter().flat_map(|(_, points)| points);
            let names = points.map(|point| match point.label(&self.scope_key) {
                Some(scope) => python_str(scope),
                None => String::new(),
            });
            scopes.push((names.collect(), frame));
        }
        let mut blocks: BTreeMap<(Period, &str, &str), Vec<&DataPoint>> = BTreeMap::new();
        for (names, frame) in &scopes {
            let points = frame.usage.iter().flat_map(|(frame_type, points)| {
                points.iter().map(move |point| (frame_type, point))
            });
            for (name, (frame_type, point)) in names.iter().zip(points) {
                blocks.entry((frame.period, name, frame_type)).or_default().push(point);
            }
        }
        let blocks = blocks.into_iter().map(|((period, scope_id, frame_type), points)| Block {
            scope_id,
            frame_type,
            period,
            points,
        });
        self.write(None, blocks.collect()).await
    }

    async fn write(
        &self,
        replaced: Option<(&str, Period)>,
        blocks: Vec<Block<'_>>,
    ) -> Result<(), StorageError> {
        let points = blocks.iter().flat_map(|block| {
            let begin = local(block.period.begin);
            block.points.iter().map(move |point| Identity::of(point, begin))
        });
        let identities = points.collect::<Result<Vec<_>, StorageError>>()?;
        let transaction = self.database.begin().await?;
        if let Some((scope_id, period)) = replaced {
            let sql = "DELETE FROM ratekitty_dataframes WHERE scope_key = ? AND scope_id = ? \
                       AND begin_epoch = ? AND end_epoch = ?";
            let values = [
                self.scope_key.as_str().into(),
                scope_id.into(),
                period.begin.timestamp().into(),
                period.end.timestamp().into(),
            ];
            let delete = statement(&transaction, sql, values);
            transaction.execute_raw(delete).await.to("replace a period")?;
        }
        let ids = self.series_ids(&transaction, &identities).await?;
        let mut identities = identities.iter();
        for block in &blocks {
            let dataframe = self.write_head(&transaction, block).await?;
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

    async fn write_head(
        &self,
        transaction: &impl ConnectionTrait,
        block: &Block<'_>,
    ) -> Result<i64, StorageError> {
        let action = "write a dataframe";
        let qty: Total = block.points.iter().map(|point| point.qty).sum();
        let price: Total = block.points.iter().map(|point| point.price).sum();
        let sql = "INSERT INTO ratekitty_dataframes \
                   (begin_epoch, end_epoch, utc_offset, scope_key, scope_id, type, points, qty, price) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id";
        let values = [
            block.period.begin.timestamp().into(),
            block.period.end.timestamp().into(),
            local(block.period.begin).offset().local_minus_utc().into(),
            self.scope_key.as_str().into(),
            block.scope_id.into(),
            block.frame_type.into(),
            i64::try_from(block.points.len()).unwrap_or(i64::MAX).into(),
            qty.value().to_string().into(),
            price.value().to_string().into(),
        ];
        let row = transaction.query_one_raw(statement(transaction, sql, values)).await;
        let row = row.to(action)?;
        let row = row.ok_or_else(|| StorageError::Damaged("a dataframe without id".into()))?;
        Ok(row.try_get("", "id").to(action)?)
    }

    pub(super) async fn forget(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let connection = self.database.connection();
        let sql = "DELETE FROM ratekitty_dataframes \
                   WHERE scope_key = ? AND scope_id = ? AND begin_epoch >= ? AND begin_epoch < ?";
        let values = [
            self.scope_key.as_str().into(),
            scope_id.into(),
            begin.timestamp().into(),
            end.timestamp().into(),
        ];
        let delete = statement(connection, sql, values);
        connection.execute_raw(delete).await.to("delete data points")?;
        Ok(())
    }
}
