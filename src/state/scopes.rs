//! `cloudkitty_storage_states`: how far each scope is rated.
//!
//! A scope is told by its identifier together with scope key, fetcher and
//! collector. Rows of older releases have no keys; they are adopted when first
//! read, as the reference does. `last_processed_timestamp` is the *begin* of
//! the last rated period, in UTC without zone.

use chrono::{DateTime, NaiveDateTime, Utc};
use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::{Context, Database, StateError, date_column, date_value, placeholders, statement};

/// What tells a scope from others with the same identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeKeys {
    /// Label that names the scope.
    pub scope_key: String,
    /// Fetcher that found it.
    pub fetcher: String,
    /// Collector of its usage.
    pub collector: String,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeState {
    /// Row number.
    pub id: i64,
    /// Identifier, such as a project id.
    pub identifier: String,
    /// Label that names the scope.
    pub scope_key: Option<String>,
    /// Fetcher that found it.
    pub fetcher: Option<String>,
    /// Collector of its usage.
    pub collector: Option<String>,
    /// Begin of the last rated period.
    pub last_processed: DateTime<Utc>,
    /// When it was last activated or deactivated, without zone.
    pub toggled: NaiveDateTime,
    /// Whether it is rated.
    pub active: bool,
}

const COLUMNS: &str = "id, identifier, scope_key, fetcher, collector, last_processed_timestamp, \
     scope_activation_toggle_date, active";

fn read_row(row: &QueryResult) -> Result<ScopeState, StateError> {
    let text = |name| row.try_get::<Option<String>>("", name).to("read a scope");
    let date = |name: &'static str| {
        date_column(row, name)?.ok_or(StateError::BadValue {
            column: "cloudkitty_storage_states",
            value: "NULL".to_owned(),
        })
    };
    Ok(ScopeState {
        id: row.try_get::<i32>("", "id").to("read a scope")?.into(),
        identifier: row.try_get("", "identifier").to("read a scope")?,
        scope_key: text("scope_key")?,
        fetcher: text("fetcher")?,
        collector: text("collector")?,
        last_processed: date("last_processed_timestamp")?.and_utc(),
        toggled: date("scope_activation_toggle_date")?,
        active: row.try_get("", "active").to("read a scope")?,
    })
}

/// The row of a scope that has exactly these keys.
async fn find(
    connection: &impl ConnectionTrait,
    identifier: &str,
    keys: &ScopeKeys,
) -> Result<Option<ScopeState>, StateError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM cloudkitty_storage_states \
         WHERE identifier = ? AND scope_key = ? AND fetcher = ? AND collector = ?"
    );
    let values = [identifier, &keys.scope_key, &keys.fetcher, &keys.collector].map(Value::from);
    let row = connection.query_one_raw(statement(connection, &sql, values)).await;
    row.to("read a scope")?.as_ref().map(read_row).transpose()
}

/// The row of a scope. One without keys is adopted: it gets them.
///
/// # Errors
/// A database that fails.
pub async fn get(
    database: &Database,
    identifier: &str,
    keys: &ScopeKeys,
) -> Result<Option<ScopeState>, StateError> {
    let connection = database.connection();
    if let Some(state) = find(connection, identifier, keys).await? {
        return Ok(Some(state));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM cloudkitty_storage_states WHERE identifier = ? \
         AND scope_key IS NULL AND fetcher IS NULL AND collector IS NULL ORDER BY id"
    );
    let row = connection.query_one_raw(statement(connection, &sql, [identifier.into()])).await;
    let Some(row) = row.to("read a scope")? else { return Ok(None) };
    let state = read_row(&row)?;
    let sql = "UPDATE cloudkitty_storage_states \
               SET scope_key = ?, fetcher = ?, collector = ? WHERE id = ?";
    let values = [
        keys.scope_key.as_str().into(),
        keys.fetcher.as_str().into(),
        keys.collector.as_str().into(),
        state.id.into(),
    ];
    connection.execute_raw(statement(connection, sql, values)).await.to("adopt a scope")?;
    Ok(Some(state))
}

/// Notes that the period beginning at `begin` is rated and stored, if the
/// scope still stands where it stood: `known` is the row that the period was
/// chosen by, `None` for a scope that had none. `now` is the activation date of
/// a scope that is new.
///
/// # Errors
/// A database that fails, a scope that was moved by someone else meanwhile (a
/// reset, another processor).
pub async fn advance(
    database: &Database,
    identifier: &str,
    keys: &ScopeKeys,
    known: Option<&ScopeState>,
    begin: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), StateError> {
    let transaction = database.begin().await?;
    let present = find(&transaction, identifier, keys).await?;
    let moved = match (&present, known) {
        (Some(present), Some(known)) => present.last_processed != known.last_processed,
        (None, None) => false,
        _ => true,
    };
    if moved {
        return Err(StateError::Moved(identifier.to_owned()));
    }
    let begin = date_value(&transaction, begin.naive_utc());
    let (sql, values) = match present {
        Some(row) => (
            "UPDATE cloudkitty_storage_states SET last_processed_timestamp = ? WHERE id = ?",
            vec![begin, row.id.into()],
        ),
        None => (
            "INSERT INTO cloudkitty_storage_states (last_processed_timestamp, identifier, \
             scope_key, fetcher, collector, scope_activation_toggle_date, active) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
            vec![
                begin,
                identifier.into(),
                keys.scope_key.as_str().into(),
                keys.fetcher.as_str().into(),
                keys.collector.as_str().into(),
                date_value(&transaction, now.naive_utc()),
                true.into(),
            ],
        ),
    };
    let action = "advance a scope";
    transaction.execute_raw(statement(&transaction, sql, values)).await.to(action)?;
    transaction.commit().await.to(action)
}

/// Which scopes to list; a filter that is empty takes all.
#[derive(Debug, Clone, Default)]
pub struct ScopeFilter {
    /// Identifiers.
    pub identifiers: Vec<String>,
    /// Scope keys.
    pub scope_keys: Vec<String>,
    /// Fetchers.
    pub fetchers: Vec<String>,
    /// Collectors.
    pub collectors: Vec<String>,
    /// States, as integers: 1 is active.
    pub active: Vec<i64>,
}

/// Scopes in the order of their rows.
///
/// # Errors
/// A database that fails.
pub async fn list(
    database: &Database,
    filter: &ScopeFilter,
    offset: u64,
    limit: u64,
) -> Result<Vec<ScopeState>, StateError> {
    let connection = database.connection();
    let mut sql = format!("SELECT {COLUMNS} FROM cloudkitty_storage_states WHERE 1 = 1");
    let mut values: Vec<Value> = Vec::new();
    let lists = [
        ("identifier", &filter.identifiers),
        ("scope_key", &filter.scope_keys),
        ("fetcher", &filter.fetchers),
        ("collector", &filter.collectors),
    ];
    for (column, wanted) in lists {
        if !wanted.is_empty() {
            sql.push_str(&format!(" AND {column} IN ({})", placeholders(wanted.len())));
            values.extend(wanted.iter().map(|value| Value::from(value.as_str())));
        }
    }
    if !filter.active.is_empty() {
        // No state but 0 and 1 is in the table.
        let wanted: Vec<_> = filter.active.iter().filter(|state| matches!(state, 0 | 1)).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        sql.push_str(&format!(" AND active IN ({})", placeholders(wanted.len())));
        values.extend(wanted.into_iter().map(|state| Value::from(*state == 1)));
    }
    sql.push_str(" ORDER BY id LIMIT ? OFFSET ?");
    let number = |count: u64| Value::from(i64::try_from(count).unwrap_or(i64::MAX));
    values.extend([number(limit), number(offset)]);
    let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
    rows.to("list scopes")?.iter().map(read_row).collect()
}
