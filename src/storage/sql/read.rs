//! Reading: exact sums and pages.

use std::{collections::HashMap, sync::Arc};

use futures::TryStreamExt;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, QueryResult, Statement, StreamTrait, Value as SqlValue,
};
use serde_json::Value;

use super::{SqlStorage, series::Series};
use crate::{
    dataframe::{DataPoint, python_str},
    decimal::{Decimal, Total},
    state::{Context, placeholders, statement},
    storage::{GroupKey, Page, Retrieved, Selection, StorageError, TotalRow, Totals},
    time::{Period, calendar_labels, seconds},
};

const ACTION: &str = "read dataframes";

/// Order of points and of rows of `ratekitty_dataframes`.
const ORDER: &str = "d.begin_epoch, d.end_epoch, d.scope_id, d.type, d.id";

/// A selection, split into what a row of `ratekitty_dataframes` tells and what
/// only the labels of a point tell.
struct Query<'a> {
    sql: String,
    values: Vec<SqlValue>,
    labels: Vec<&'a (String, Vec<String>)>,
}

impl<'a> Query<'a> {
    /// Conditions on `ratekitty_dataframes d`.
    fn new(selection: &'a Selection, scope_key: &str) -> Self {
        let mut sql = "d.begin_epoch >= ? AND d.begin_epoch < ?".to_owned();
        let mut values: Vec<SqlValue> =
            vec![selection.begin.timestamp().into(), selection.end.timestamp().into()];
        let mut labels = Vec::new();
        for filter in &selection.filters {
            let (key, wanted) = filter;
            let column = match key.as_str() {
                "type" => "d.type",
                key if key == scope_key => "d.scope_id",
                _ => {
                    labels.push(filter);
                    continue;
                }
            };
            sql.push_str(&format!(" AND {column} IN ({})", placeholders(wanted.len())));
            values.extend(wanted.iter().map(|value| SqlValue::from(value.as_str())));
        }
        Self { sql, values, labels }
    }

    fn accepts(&self, series: &Series) -> bool {
        self.labels.iter().all(|(key, wanted)| {
            series.label(key).is_some_and(|value| wanted.contains(&python_str(value)))
        })
    }
}

/// One row of `ratekitty_dataframes`, or of its points.
struct Head {
    period: Period,
    scope_id: String,
    frame_type: String,
}

fn head(row: &QueryResult) -> Result<Head, StorageError> {
    let epoch = |name| row.try_get::<i64>("", name).to(ACTION);
    Ok(Head {
        period: Period { begin: seconds(epoch("begin_epoch")?), end: seconds(epoch("end_epoch")?) },
        scope_id: row.try_get("", "scope_id").to(ACTION)?,
        frame_type: row.try_get("", "type").to(ACTION)?,
    })
}

fn decimal(row: &QueryResult, name: &str) -> Result<Decimal, StorageError> {
    let text: String = row.try_get("", name).to(ACTION)?;
    text.parse().map_err(|error| StorageError::Damaged(format!("{name}: {error}")))
}

/// Sums by group, in the making.
#[derive(Default)]
struct Groups {
    sums: HashMap<(Option<Period>, Vec<Option<String>>), Sums>,
}

#[derive(Default)]
struct Sums {
    values: Vec<Value>,
    qty: Total,
    price: Total,
}

impl Groups {
    fn add(
        &mut self,
        period: Option<Period>,
        values: Vec<Option<Value>>,
        qty: Decimal,
        price: Decimal,
    ) {
        // A label that is a number and one that is its text are one group, as
        // they are one value to filters.
        let key = values.iter().map(|value| value.as_ref().map(python_str)).collect();
        let sums = self.sums.entry((period, key)).or_insert_with(|| Sums {
            values: values.into_iter().map(|value| value.unwrap_or(Value::Null)).collect(),
            ..Sums::default()
        });
        sums.qty.add(qty);
        sums.price.add(price);
    }

    /// The rows of a page. `time_at` is the place of the period among the group keys.
    fn page(self, time_at: Option<usize>, page: Page) -> Totals {
        let mut groups: Vec<_> = self.sums.into_iter().collect();
        groups.sort_by(|((period, one), _), ((other_period, other), _)| {
            let at = time_at.unwrap_or(0);
            let before = one[..at].cmp(&other[..at]);
            before.then(period.cmp(other_period)).then_with(|| one[at..].cmp(&other[at..]))
        });
        let total = groups.len() as u64;
        let rows = groups
            .into_iter()
            .skip(usize::try_from(page.offset).unwrap_or(usize::MAX))
            .take(usize::try_from(page.limit).unwrap_or(usize::MAX))
            .map(|((period, _), sums)| TotalRow {
                period,
                values: sums.values,
                qty: sums.qty.value(),
                price: sums.price.value(),
            })
            .collect();
        Totals { total, rows }
    }
}

/// The calendar label of a period, for points that do not carry it.
fn calendar_label(name: &str, period: Period) -> Option<Value> {
    let labels = calendar_labels(period.begin);
    labels.into_iter().find(|(known, _)| *known == name).map(|(_, value)| Value::String(value))
}

impl SqlStorage {
    pub(super) async fn sum(
        &self,
        selection: &Selection,
        groupby: &[GroupKey],
        page: Page,
    ) -> Result<Totals, StorageError> {
        let query = Query::new(selection, &self.scope_key);
        let by_time = groupby.contains(&GroupKey::Time);
        let time_at = groupby.iter().position(|key| *key == GroupKey::Time);
        let keys: Vec<&GroupKey> = groupby.iter().filter(|key| **key != GroupKey::Time).collect();
        let head_tells = |key: &&GroupKey| match key {
            GroupKey::Type | GroupKey::Time => true,
            GroupKey::Label(name) => *name == self.scope_key,
        };
        let mut groups = Groups::default();
        let snapshot = self.database.snapshot().await?;
        if query.labels.is_empty() && keys.iter().all(head_tells) {
            sum_heads(&snapshot, &query, &keys, by_time, &mut groups).await?;
        } else {
            self.sum_points(&snapshot, &query, &keys, by_time, &mut groups).await?;
        }
        Ok(groups.page(time_at, page))
    }

    /// Sums points one by one, by their labels.
    async fn sum_points(
        &self,
        connection: &DatabaseTransaction,
        query: &Query<'_>,
        keys: &[&GroupKey],
        by_time: bool,
        groups: &mut Groups,
    ) -> Result<(), StorageError> {
        let series = self.series_of(connection, query).await?;
        let sql = format!(
            "SELECT d.begin_epoch, d.end_epoch, d.scope_id, d.type, p.series_id, p.qty, p.price \
             FROM ratekitty_dataframes d JOIN ratekitty_points p ON p.dataframe_id = d.id WHERE {}",
            query.sql
        );
        let select = statement(connection, &sql, query.values.clone());
        let mut rows = connection.stream_raw(select).await.to(ACTION)?;
        while let Some(row) = rows.try_next().await.to(ACTION)? {
            let id: i32 = row.try_get("", "series_id").to(ACTION)?;
            let Some(series) = series.get(&id) else { continue };
            let head = head(&row)?;
            let value = |key: &&GroupKey| match key {
                GroupKey::Type => Some(Value::String(head.frame_type.clone())),
                GroupKey::Time => None,
                GroupKey::Label(name) => {
                    series.label(name).cloned().or_else(|| calendar_label(name, head.period))
                }
            };
            let values = keys.iter().map(value).collect();
            let period = by_time.then_some(head.period);
            groups.add(period, values, decimal(&row, "qty")?, decimal(&row, "price")?);
        }
        Ok(())
    }

    /// The series of the points that a query selects, without those that its
    /// label filters leave out.
    async fn series_of(
        &self,
        connection: &DatabaseTransaction,
        query: &Query<'_>,
    ) -> Result<HashMap<i32, Arc<Series>>, StorageError> {
        let sql = format!(
            "SELECT DISTINCT p.series_id FROM ratekitty_dataframes d \
             JOIN ratekitty_points p ON p.dataframe_id = d.id WHERE {}",
            query.sql
        );
        let select = statement(connection, &sql, query.values.clone());
        let rows = connection.query_all_raw(select).await.to(ACTION)?;
        let ids = rows.iter().map(|row| row.try_get("", "series_id").to(ACTION));
        let ids: Vec<i32> = ids.collect::<Result<_, _>>()?;
        let mut series = self.series_by_id(connection, &ids).await?;
        series.retain(|_, series| query.accepts(series));
        Ok(series)
    }

    pub(super) async fn read_points(
        &self,
        selection: &Selection,
        page: Page,
    ) -> Result<Retrieved, StorageError> {
        let query = Query::new(selection, &self.scope_key);
        let snapshot = self.database.snapshot().await?;
        if query.labels.is_empty() {
            self.read_by_heads(&snapshot, &query, page).await
        } else {
            self.read_by_labels(&snapshot, &query, page).await
        }
    }

    /// A page found by counting through `ratekitty_dataframes`.
    async fn read_by_heads(
        &self,
        connection: &DatabaseTransaction,
        query: &Query<'_>,
        page: Page,
    ) -> Result<Retrieved, StorageError> {
        let sql = format!(
            "SELECT d.id, d.points FROM ratekitty_dataframes d WHERE {} ORDER BY {ORDER}",
            query.sql
        );
        let select = statement(connection, &sql, query.values.clone());
        let (mut total, mut wanted, mut first) = (0_u64, Vec::new(), 0_u64);
        let last = page.offset.saturating_add(page.limit);
        {
            let mut rows = connection.stream_raw(select).await.to(ACTION)?;
            while let Some(row) = rows.try_next().await.to(ACTION)? {
                let points: i64 = row.try_get("", "points").to(ACTION)?;
                let points = u64::try_from(points).unwrap_or(0);
                if total + points > page.offset && total < last {
                    if wanted.is_empty() {
                        first = total;
                    }
                    wanted.push(row.try_get::<i32>("", "id").to(ACTION)?);
                }
                total += points;
            }
        }
        let skip = usize::try_from(page.offset.saturating_sub(first)).unwrap_or(usize::MAX);
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let mut points = Vec::new();
        for batch in wanted.chunks(500) {
            let sql = format!(
                "SELECT d.begin_epoch, d.end_epoch, d.scope_id, d.type, p.series_id, p.qty, p.price \
                 FROM ratekitty_dataframes d JOIN ratekitty_points p ON p.dataframe_id = d.id \
                 WHERE d.id IN ({}) ORDER BY {ORDER}, p.position",
                placeholders(batch.len())
            );
            let values = batch.iter().map(|id| SqlValue::from(*id));
            points.extend(self.points(connection, statement(connection, &sql, values)).await?);
            if points.len() >= skip.saturating_add(limit) {
                break;
            }
        }
        Ok(Retrieved { total, points: points.into_iter().skip(skip).take(limit).collect() })
    }

    /// A page found by looking at the labels of every point.
    async fn read_by_labels(
        &self,
        connection: &DatabaseTransaction,
        query: &Query<'_>,
        page: Page,
    ) -> Result<Retrieved, StorageError> {
        let series = self.series_of(connection, query).await?;
        let sql = format!(
            "SELECT d.id, p.position, p.series_id FROM ratekitty_dataframes d \
             JOIN ratekitty_points p ON p.dataframe_id = d.id WHERE {} ORDER BY {ORDER}, p.position",
            query.sql
        );
        let select = statement(connection, &sql, query.values.clone());
        let mut total = 0_u64;
        let mut wanted: Vec<(i32, i32)> = Vec::new();
        {
            let mut rows = connection.stream_raw(select).await.to(ACTION)?;
            while let Some(row) = rows.try_next().await.to(ACTION)? {
                if !series.contains_key(&row.try_get::<i32>("", "series_id").to(ACTION)?) {
                    continue;
                }
                if total >= page.offset && total - page.offset < page.limit {
                    let position = row.try_get::<i32>("", "position").to(ACTION)?;
                    wanted.push((row.try_get::<i32>("", "id").to(ACTION)?, position));
                }
                total += 1;
            }
        }
        let mut points = Vec::new();
        for batch in wanted.chunks(500) {
            let one = "(p.dataframe_id = ? AND p.position = ?)";
            let sql = format!(
                "SELECT d.begin_epoch, d.end_epoch, d.scope_id, d.type, p.series_id, p.qty, p.price \
                 FROM ratekitty_dataframes d JOIN ratekitty_points p ON p.dataframe_id = d.id \
                 WHERE {} ORDER BY {ORDER}, p.position",
                vec![one; batch.len()].join(" OR ")
            );
            let values = batch
                .iter()
                .flat_map(|(id, position)| [SqlValue::from(*id), SqlValue::from(*position)]);
            points.extend(self.points(connection, statement(connection, &sql, values)).await?);
        }
        Ok(Retrieved { total, points })
    }

    /// The points that a statement selects, in its order.
    async fn points(
        &self,
        connection: &DatabaseTransaction,
        select: Statement,
    ) -> Result<Vec<(Period, String, DataPoint)>, StorageError> {
        let rows = connection.query_all_raw(select).await.to(ACTION)?;
        let ids = rows.iter().map(|row| row.try_get("", "series_id").to(ACTION));
        let ids: Vec<i32> = ids.collect::<Result<_, _>>()?;
        let series = self.series_by_id(connection, &ids).await?;
        rows.iter()
            .zip(&ids)
            .map(|(row, id)| {
                let head = head(row)?;
                let series = series
                    .get(id)
                    .ok_or_else(|| StorageError::Damaged(format!("series {id} is missing")))?;
                let point = DataPoint {
                    unit: series.unit.clone(),
                    qty: decimal(row, "qty")?,
                    price: decimal(row, "price")?,
                    groupby: series.groupby.clone(),
                    metadata: series.metadata.clone(),
                };
                Ok((head.period, head.frame_type, point))
            })
            .collect()
    }
}

/// Sums the rows of `ratekitty_dataframes`.
async fn sum_heads(
    connection: &DatabaseTransaction,
    query: &Query<'_>,
    keys: &[&GroupKey],
    by_time: bool,
    groups: &mut Groups,
) -> Result<(), StorageError> {
    let sql = format!(
        "SELECT d.begin_epoch, d.end_epoch, d.scope_id, d.type, d.qty, d.price \
         FROM ratekitty_dataframes d WHERE {}",
        query.sql
    );
    let query = statement(connection, &sql, query.values.clone());
    let mut rows = connection.stream_raw(query).await.to(ACTION)?;
    while let Some(row) = rows.try_next().await.to(ACTION)? {
        let head = head(&row)?;
        let value = |key: &&GroupKey| match key {
            GroupKey::Type => Some(Value::String(head.frame_type.clone())),
            _ if head.scope_id.is_empty() => None,
            _ => Some(Value::String(head.scope_id.clone())),
        };
        let values = keys.iter().map(value).collect();
        let period = by_time.then_some(head.period);
        groups.add(period, values, decimal(&row, "qty")?, decimal(&row, "price")?);
    }
    Ok(())
}
