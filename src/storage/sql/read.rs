//! Reading: exact sums and pages, each from one snapshot of the database.
//!
//! Heads answer what they can; anything else looks at points, by the labels of
//! their series.

use std::collections::HashMap;

use futures::TryStreamExt;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, StreamTrait, Value as SqlValue};
use serde_json::Value;

use super::{STORE, SqlStorage, series::Series};
use crate::{
    dataframe::{DataPoint, python_str},
    decimal::Decimal,
    state::{Context, placeholders, statement},
    storage::{
        GroupKey, Mark, Page, PointSink, Selection, StorageError, Totals,
        groups::Groups,
        heads::{HEAD, Head, HeadQuery, ORDER, decimal},
    },
    time::{CALENDAR, Period},
};

const ACTION: &str = "read dataframes";

/// Heads whose points are read in one statement.
const HEADS_AT_ONCE: usize = 50;

/// Labels that are needed of a series, by its number; those that are not
/// selected are not there.
type Needed = HashMap<i64, Vec<Option<Value>>>;

impl SqlStorage {
    pub(super) async fn sum(
        &self,
        selection: &Selection,
        groupby: &[GroupKey],
        page: Page,
    ) -> Result<Totals, StorageError> {
        let query = HeadQuery::new(STORE, selection, &self.scope_key);
        let time_at = groupby.iter().position(|key| *key == GroupKey::Time);
        let keys: Vec<&GroupKey> = groupby.iter().filter(|key| **key != GroupKey::Time).collect();
        let snapshot = self.database.snapshot().await?;
        let by_heads = match query.heads_sum(&keys, &self.scope_key) {
            true => query.sum(&snapshot, &self.scope_key, &keys, time_at.is_some()).await?,
            false => None,
        };
        let mark = Mark::of(&snapshot, STORE, &self.scope_key, selection).await?;
        let groups = match by_heads {
            Some(groups) => groups,
            None => sum_points(&snapshot, &query, &keys, time_at.is_some()).await?,
        };
        Ok(groups.page(time_at, page, Some(mark)))
    }

    pub(super) async fn read_points(
        &self,
        selection: &Selection,
        page: Page,
        sink: &mut dyn PointSink,
    ) -> Result<(), StorageError> {
        let query = HeadQuery::new(STORE, selection, &self.scope_key);
        let snapshot = self.database.snapshot().await?;
        if query.heads_tell()
            && let Some(page) = self.page_of_heads(&snapshot, &query, page).await?
        {
            return self.read_by_heads(&snapshot, page, sink).await;
        }
        self.read_by_labels(&snapshot, &query, page, sink).await
    }

    /// Finds a page by counting through heads; `None` if one cannot tell.
    async fn page_of_heads(
        &self,
        connection: &DatabaseTransaction,
        query: &HeadQuery<'_>,
        page: Page,
    ) -> Result<Option<HeadPage>, StorageError> {
        // There are many rows, so each has only what is needed.
        let by_scope = !query.scope.is_empty();
        let scope_key = if by_scope { ", d.scope_key" } else { "" };
        let sql = format!(
            "SELECT d.id, d.points{scope_key} FROM ratekitty_dataframes d WHERE {} ORDER BY {ORDER}",
            query.sql
        );
        let select = statement(connection, &sql, query.values.clone());
        let last = page.offset.saturating_add(page.limit);
        let (mut total, mut first, mut heads) = (0_u64, 0_u64, Vec::new());
        let mut rows = connection.stream_raw(select).await.to(ACTION)?;
        while let Some(row) = rows.try_next().await.to(ACTION)? {
            if by_scope && row.try_get_by_index::<String>(2).to(ACTION)? != self.scope_key {
                return Ok(None);
            }
            let points: i64 = row.try_get_by_index(1).to(ACTION)?;
            let points = u64::try_from(points).unwrap_or(0);
            if total + points > page.offset && total < last {
                if heads.is_empty() {
                    first = total;
                }
                heads.push(row.try_get_by_index::<i64>(0).to(ACTION)?);
            }
            total += points;
        }
        let skip = usize::try_from(page.offset.saturating_sub(first)).unwrap_or(usize::MAX);
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        Ok(Some(HeadPage { total, heads, skip, limit }))
    }

    async fn read_by_heads(
        &self,
        connection: &DatabaseTransaction,
        page: HeadPage,
        sink: &mut dyn PointSink,
    ) -> Result<(), StorageError> {
        sink.total(page.total).await;
        let (mut skip, mut left) = (page.skip, page.limit);
        for batch in page.heads.chunks(HEADS_AT_ONCE) {
            let condition = format!("d.id IN ({})", placeholders(batch.len()));
            let values = batch.iter().map(|id| SqlValue::from(*id));
            let select = statement(connection, &select_points(&condition), values);
            let points = self.points(connection, select).await?;
            let points: Vec<_> =
                points.into_iter().skip(std::mem::take(&mut skip)).take(left).collect();
            left -= points.len();
            if sink.points(points).await.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// A page found by looking at the labels of every point.
    async fn read_by_labels(
        &self,
        connection: &DatabaseTransaction,
        query: &HeadQuery<'_>,
        page: Page,
        sink: &mut dyn PointSink,
    ) -> Result<(), StorageError> {
        let series = needed_labels(connection, query, &needed(query, &[])).await?;
        let sql = format!(
            "SELECT d.id, p.position, p.series_id, {HEAD} FROM ratekitty_dataframes d \
             JOIN ratekitty_points p ON p.dataframe_id = d.id WHERE {} ORDER BY {ORDER}, p.position",
            query.sql
        );
        let select = statement(connection, &sql, query.values.clone());
        let mut total = 0_u64;
        let mut wanted: Vec<(i64, i64)> = Vec::new();
        {
            let mut rows = connection.stream_raw(select).await.to(ACTION)?;
            while let Some(row) = rows.try_next().await.to(ACTION)? {
                let id: i64 = row.try_get("", "series_id").to(ACTION)?;
                let Some(labels) = series.get(&id) else { continue };
                if !query.calendar.is_empty() && !on_calendar(query, &Head::read(&row)?, labels) {
                    continue;
                }
                if total >= page.offset && total - page.offset < page.limit {
                    let position = row.try_get("", "position").to(ACTION)?;
                    wanted.push((row.try_get("", "id").to(ACTION)?, position));
                }
                total += 1;
            }
        }
        sink.total(total).await;
        for batch in wanted.chunks(500) {
            let one = "(p.dataframe_id = ? AND p.position = ?)";
            let sql = select_points(&vec![one; batch.len()].join(" OR "));
            let values = batch
                .iter()
                .flat_map(|(id, position)| [SqlValue::from(*id), SqlValue::from(*position)]);
            let points = self.points(connection, statement(connection, &sql, values)).await?;
            if sink.points(points).await.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The points that a statement selects, in its order.
    async fn points(
        &self,
        connection: &DatabaseTransaction,
        select: Statement,
    ) -> Result<Vec<(Period, String, DataPoint)>, StorageError> {
        let rows = connection.query_all_raw(select).await.to(ACTION)?;
        let ids = rows.iter().map(|row| row.try_get("", "series_id").to(ACTION));
        let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
        let series = self.series_by_id(connection, &ids).await?;
        rows.iter()
            .zip(&ids)
            .map(|(row, id)| {
                let head = Head::read(row)?;
                let series = series
                    .get(id)
                    .ok_or_else(|| StorageError::Damaged(format!("series {id} is missing")))?;
                let point = DataPoint {
                    unit: series.unit.clone(),
                    qty: decimal(row, "qty")?,
                    price: decimal(row, "price")?,
                    groupby: series.groupby_at(head.begin()).into(),
                    metadata: series.metadata.clone().into(),
                };
                Ok((head.period, head.frame_type, point))
            })
            .collect()
    }
}

/// A page, as the heads whose points it holds.
struct HeadPage {
    /// Points in all.
    total: u64,
    /// Numbers of the heads.
    heads: Vec<i64>,
    /// Points of the first head that are before the page.
    skip: usize,
    /// Points of the page.
    limit: usize,
}

/// Selects points with what [`SqlStorage::points`] needs.
fn select_points(condition: &str) -> String {
    format!(
        "SELECT {HEAD}, p.series_id, p.qty, p.price FROM ratekitty_dataframes d \
         JOIN ratekitty_points p ON p.dataframe_id = d.id \
         WHERE {condition} ORDER BY {ORDER}, p.position"
    )
}

/// Sums points one by one, by their labels.
async fn sum_points(
    connection: &DatabaseTransaction,
    query: &HeadQuery<'_>,
    keys: &[&GroupKey],
    by_time: bool,
) -> Result<Groups, StorageError> {
    let names = needed(query, keys);
    let series = needed_labels(connection, query, &names).await?;
    // Millions of rows may pass here: columns are read by number, and those of
    // heads only if they decide about something.
    let needs_head = by_time
        || keys.contains(&&GroupKey::Type)
        || names.iter().any(|name| CALENDAR.contains(&name.as_str()));
    let head_columns = if needs_head { format!(", {HEAD}") } else { String::new() };
    let sql = format!(
        "SELECT p.series_id, p.qty, p.price{head_columns} FROM ratekitty_dataframes d \
         JOIN ratekitty_points p ON p.dataframe_id = d.id WHERE {}",
        query.sql
    );
    let select = statement(connection, &sql, query.values.clone());
    let mut rows = connection.stream_raw(select).await.to(ACTION)?;
    let mut groups = Groups::default();
    while let Some(row) = rows.try_next().await.to(ACTION)? {
        let id: i64 = row.try_get_by_index(0).to(ACTION)?;
        let Some(labels) = series.get(&id) else { continue };
        let number = |at: usize| -> Result<Decimal, StorageError> {
            let text: String = row.try_get_by_index(at).to(ACTION)?;
            text.parse().map_err(|_| StorageError::Damaged(format!("number `{text}`")))
        };
        let sums = (number(1)?, number(2)?);
        if !needs_head {
            groups.add(None, labels.clone(), sums);
            continue;
        }
        let head = Head::read(&row)?;
        if !on_calendar(query, &head, labels) {
            continue;
        }
        let mut labels = labels.iter();
        let values = keys.iter().map(|key| match key {
            GroupKey::Label(name) => head.label(name, labels.next().and_then(Option::as_ref)),
            GroupKey::Type | GroupKey::Time => Some(Value::String(head.frame_type.clone())),
        });
        groups.add(by_time.then_some(head.period), values.collect(), sums);
    }
    Ok(groups)
}

/// Whether a point passes the calendar filters, whose labels are the last ones.
fn on_calendar(query: &HeadQuery<'_>, head: &Head, labels: &[Option<Value>]) -> bool {
    let labels = &labels[labels.len().saturating_sub(query.calendar.len())..];
    query.calendar.iter().zip(labels).all(|((key, wanted), label)| {
        let value = head.label(key, label.as_ref());
        value.is_some_and(|value| wanted.contains(&python_str(&value)))
    })
}

/// The labels that are needed of every selected series of a query's points.
async fn needed_labels(
    connection: &DatabaseTransaction,
    query: &HeadQuery<'_>,
    names: &[String],
) -> Result<Needed, StorageError> {
    let sql = format!(
        "SELECT s.id, {} FROM ratekitty_series s WHERE s.id IN (\
         SELECT p.series_id FROM ratekitty_dataframes d \
         JOIN ratekitty_points p ON p.dataframe_id = d.id WHERE {})",
        Series::COLUMNS,
        query.sql
    );
    let select = statement(connection, &sql, query.values.clone());
    let mut rows = connection.stream_raw(select).await.to(ACTION)?;
    let mut needed = Needed::new();
    while let Some(row) = rows.try_next().await.to(ACTION)? {
        let series = Series::read(&row)?;
        if accepts(query, &series) {
            let labels = names.iter().map(|name| series.label(name).cloned()).collect();
            needed.insert(row.try_get("", "id").to(ACTION)?, labels);
        }
    }
    Ok(needed)
}

/// Whether a series is selected, the calendar aside.
fn accepts(query: &HeadQuery<'_>, series: &Series) -> bool {
    query.scope.iter().chain(&query.labels).all(|(key, wanted)| {
        series.label(key).is_some_and(|value| wanted.contains(&python_str(value)))
    })
}

/// The names of labels that a sum by `keys` needs from each series: those
/// of the keys, then those of the calendar filters.
fn needed(query: &HeadQuery<'_>, keys: &[&GroupKey]) -> Vec<String> {
    let keys = keys.iter().filter_map(|key| match key {
        GroupKey::Label(name) => Some(name.clone()),
        GroupKey::Type | GroupKey::Time => None,
    });
    keys.chain(query.calendar.iter().map(|(key, _)| key.clone())).collect()
}
