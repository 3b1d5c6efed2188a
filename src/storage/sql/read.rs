//! Reading: exact sums and pages, each from one snapshot of the database.
//!
//! Rows of `ratekitty_dataframes` (heads) answer by themselves what asks for
//! type, scope and time only; anything else looks at points, by the labels of
//! their series. A head names its scope under the label that was the scope key
//! when it was written; where that is another one than now, its points decide.

use std::collections::HashMap;

use chrono::{DateTime, FixedOffset};
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
    time::{CALENDAR, Period, at_offset, calendar_labels, seconds},
};

const ACTION: &str = "read dataframes";

/// Order of points and of heads.
const ORDER: &str = "d.begin_epoch, d.end_epoch, d.scope_id, d.type, d.id";

/// Columns that [`Head::read`] needs.
const HEAD: &str = "d.begin_epoch, d.end_epoch, d.utc_offset, d.scope_key, d.scope_id, d.type";

type Filter = (String, Vec<String>);

/// A selection, split by who can tell.
struct Query<'a> {
    /// Conditions on heads `d`; they let pass what only points can tell.
    sql: String,
    values: Vec<SqlValue>,
    /// Filters on the label that is the scope key.
    scope: Vec<&'a Filter>,
    /// Filters on calendar labels, which need the period.
    calendar: Vec<&'a Filter>,
    /// Filters on other labels.
    labels: Vec<&'a Filter>,
}

impl<'a> Query<'a> {
    fn new(selection: &'a Selection, scope_key: &str) -> Self {
        let mut query = Self {
            sql: "d.begin_epoch >= ? AND d.begin_epoch < ?".to_owned(),
            values: vec![selection.begin.timestamp().into(), selection.end.timestamp().into()],
            scope: Vec::new(),
            calendar: Vec::new(),
            labels: Vec::new(),
        };
        for filter in &selection.filters {
            let (key, wanted) = filter;
            let list = placeholders(wanted.len());
            match key.as_str() {
                "type" => query.sql.push_str(&format!(" AND d.type IN ({list})")),
                key if key == scope_key => {
                    query.scope.push(filter);
                    query
                        .sql
                        .push_str(&format!(" AND (d.scope_key <> ? OR d.scope_id IN ({list}))"));
                    query.values.push(scope_key.into());
                }
                key if CALENDAR.contains(&key) => {
                    query.calendar.push(filter);
                    continue;
                }
                _ => {
                    query.labels.push(filter);
                    continue;
                }
            }
            query.values.extend(wanted.iter().map(|value| SqlValue::from(value.as_str())));
        }
        query
    }

    /// Whether heads alone tell which points are selected, if all of them are
    /// under the present scope key.
    fn heads_tell(&self) -> bool {
        self.calendar.is_empty() && self.labels.is_empty()
    }

    /// Whether a series is selected, the calendar aside.
    fn accepts(&self, series: &Series) -> bool {
        self.scope.iter().chain(&self.labels).all(|(key, wanted)| {
            series.label(key).is_some_and(|value| wanted.contains(&python_str(value)))
        })
    }

    /// The names of labels that a sum by `keys` needs from each series: those
    /// of the keys, then those of the calendar filters.
    fn needed(&self, keys: &[&GroupKey]) -> Vec<String> {
        let keys = keys.iter().filter_map(|key| match key {
            GroupKey::Label(name) => Some(name.clone()),
            GroupKey::Type | GroupKey::Time => None,
        });
        keys.chain(self.calendar.iter().map(|(key, _)| key.clone())).collect()
    }
}

/// A row of `ratekitty_dataframes`.
struct Head {
    period: Period,
    utc_offset: i32,
    scope_key: String,
    scope_id: String,
    frame_type: String,
}

impl Head {
    fn read(row: &QueryResult) -> Result<Self, StorageError> {
        let epoch = |name| row.try_get::<i64>("", name).to(ACTION);
        Ok(Self {
            period: Period {
                begin: seconds(epoch("begin_epoch")?),
                end: seconds(epoch("end_epoch")?),
            },
            utc_offset: row.try_get("", "utc_offset").to(ACTION)?,
            scope_key: row.try_get("", "scope_key").to(ACTION)?,
            scope_id: row.try_get("", "scope_id").to(ACTION)?,
            frame_type: row.try_get("", "type").to(ACTION)?,
        })
    }

    /// Begin of the period in the zone in which it was written.
    fn begin(&self) -> DateTime<FixedOffset> {
        at_offset(self.period.begin, self.utc_offset)
    }

    /// A label as the series has it, or else from the calendar.
    fn label(&self, name: &str, of_series: Option<&Value>) -> Option<Value> {
        of_series.cloned().or_else(|| {
            if !CALENDAR.contains(&name) {
                return None;
            }
            let mut labels = calendar_labels(self.begin()).into_iter();
            labels.find(|(known, _)| *known == name).map(|(_, value)| Value::String(value))
        })
    }
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
        (qty, price): (Decimal, Decimal),
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
        let query = Query::new(selection, &self.scope_key);
        let time_at = groupby.iter().position(|key| *key == GroupKey::Time);
        let keys: Vec<&GroupKey> = groupby.iter().filter(|key| **key != GroupKey::Time).collect();
        let by_heads = query.heads_tell()
            && keys.iter().all(|key| match key {
                GroupKey::Type | GroupKey::Time => true,
                GroupKey::Label(name) => *name == self.scope_key,
            });
        let snapshot = self.database.snapshot().await?;
        let by_heads = match by_heads {
            true => self.sum_heads(&snapshot, &query, &keys, time_at.is_some()).await?,
            false => None,
        };
        let groups = match by_heads {
            Some(groups) => groups,
            None => sum_points(&snapshot, &query, &keys, time_at.is_some()).await?,
        };
        Ok(groups.page(time_at, page))
    }

    /// Sums heads; `None` if one of them cannot tell.
    async fn sum_heads(
        &self,
        connection: &DatabaseTransaction,
        query: &Query<'_>,
        keys: &[&GroupKey],
        by_time: bool,
    ) -> Result<Option<Groups>, StorageError> {
        let by_scope = !query.scope.is_empty() || keys.iter().any(|key| **key != GroupKey::Type);
        let sql = format!(
            "SELECT {HEAD}, d.qty, d.price FROM ratekitty_dataframes d WHERE {}",
            query.sql
        );
        let select = statement(connection, &sql, query.values.clone());
        let mut rows = connection.stream_raw(select).await.to(ACTION)?;
        let mut groups = Groups::default();
        while let Some(row) = rows.try_next().await.to(ACTION)? {
            let head = Head::read(&row)?;
            if by_scope && head.scope_key != self.scope_key {
                return Ok(None);
            }
            let values = keys.iter().map(|key| match key {
                GroupKey::Type => Some(Value::String(head.frame_type.clone())),
                _ if head.scope_id.is_empty() => None,
                _ => Some(Value::String(head.scope_id.clone())),
            });
            let sums = (decimal(&row, "qty")?, decimal(&row, "price")?);
            groups.add(by_time.then_some(head.period), values.collect(), sums);
        }
        Ok(Some(groups))
    }

    pub(super) async fn read_points(
        &self,
        selection: &Selection,
        page: Page,
    ) -> Result<Retrieved, StorageError> {
        let query = Query::new(selection, &self.scope_key);
        let snapshot = self.database.snapshot().await?;
        if query.heads_tell()
            && let Some(page) = self.page_of_heads(&snapshot, &query, page).await?
        {
            return self.read_by_heads(&snapshot, page).await;
        }
        self.read_by_labels(&snapshot, &query, page).await
    }

    /// Finds a page by counting through heads; `None` if one cannot tell.
    async fn page_of_heads(
        &self,
        connection: &DatabaseTransaction,
        query: &Query<'_>,
        page: Page,
    ) -> Result<Option<HeadPage>, StorageError> {
        let sql = format!(
            "SELECT d.id, d.points, d.scope_key FROM ratekitty_dataframes d WHERE {} ORDER BY {ORDER}",
            query.sql
        );
        let select = statement(connection, &sql, query.values.clone());
        let last = page.offset.saturating_add(page.limit);
        let (mut total, mut first, mut heads) = (0_u64, 0_u64, Vec::new());
        let mut rows = connection.stream_raw(select).await.to(ACTION)?;
        while let Some(row) = rows.try_next().await.to(ACTION)? {
            if !query.scope.is_empty() {
                let scope_key: String = row.try_get("", "scope_key").to(ACTION)?;
                if scope_key != self.scope_key {
                    return Ok(None);
                }
            }
            let points: i64 = row.try_get("", "points").to(ACTION)?;
            let points = u64::try_from(points).unwrap_or(0);
            if total + points > page.offset && total < last {
                if heads.is_empty() {
                    first = total;
                }
                heads.push(row.try_get::<i64>("", "id").to(ACTION)?);
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
    ) -> Result<Retrieved, StorageError> {
        let mut points = Vec::new();
        for batch in page.heads.chunks(500) {
            let condition = format!("d.id IN ({})", placeholders(batch.len()));
            let values = batch.iter().map(|id| SqlValue::from(*id));
            let select = statement(connection, &select_points(&condition), values);
            points.extend(self.points(connection, select).await?);
            if points.len() >= page.skip.saturating_add(page.limit) {
                break;
            }
        }
        let points = points.into_iter().skip(page.skip).take(page.limit).collect();
        Ok(Retrieved { total: page.total, points })
    }

    /// A page found by looking at the labels of every point.
    async fn read_by_labels(
        &self,
        connection: &DatabaseTransaction,
        query: &Query<'_>,
        page: Page,
    ) -> Result<Retrieved, StorageError> {
        let series = needed_labels(connection, query, &query.needed(&[])).await?;
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
        let mut points = Vec::new();
        for batch in wanted.chunks(500) {
            let one = "(p.dataframe_id = ? AND p.position = ?)";
            let sql = select_points(&vec![one; batch.len()].join(" OR "));
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
                    groupby: series.groupby_at(head.begin()),
                    metadata: series.metadata.clone(),
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
    query: &Query<'_>,
    keys: &[&GroupKey],
    by_time: bool,
) -> Result<Groups, StorageError> {
    let names = query.needed(keys);
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
fn on_calendar(query: &Query<'_>, head: &Head, labels: &[Option<Value>]) -> bool {
    let labels = &labels[labels.len().saturating_sub(query.calendar.len())..];
    query.calendar.iter().zip(labels).all(|((key, wanted), label)| {
        let value = head.label(key, label.as_ref());
        value.is_some_and(|value| wanted.contains(&python_str(&value)))
    })
}

/// The labels that are needed of every selected series of a query's points.
async fn needed_labels(
    connection: &DatabaseTransaction,
    query: &Query<'_>,
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
        if query.accepts(&series) {
            let labels = names.iter().map(|name| series.label(name).cloned()).collect();
            needed.insert(row.try_get("", "id").to(ACTION)?, labels);
        }
    }
    Ok(needed)
}
