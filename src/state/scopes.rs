//! `cloudkitty_storage_states`: how far each scope is rated.
//!
//! A scope is told by its identifier together with scope key, fetcher and
//! collector. Rows of older releases have no keys; they are adopted when first
//! read, as the reference does. `last_processed_timestamp` is the *begin* of
//! the last rated period, in UTC without zone.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::{
    Context, Database, StateError, Transaction, batches, date_value, for_update, insert_row,
    is_duplicate, placeholders, statement,
};

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

impl ScopeKeys {
    /// By what data of one scope is told apart: the collector, which says where it is
    /// from. Who found the scope makes no difference to what it used.
    pub fn writer(&self) -> String {
        self.collector.clone()
    }

    /// Scope key, fetcher and collector, as parameters.
    pub(super) fn values(&self) -> [Value; 3] {
        [&self.scope_key, &self.fetcher, &self.collector].map(|key| Value::from(key.as_str()))
    }
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

impl ScopeState {
    /// Whether it has just these keys.
    pub fn has(&self, keys: &ScopeKeys) -> bool {
        self.scope_key.as_ref() == Some(&keys.scope_key)
            && self.fetcher.as_ref() == Some(&keys.fetcher)
            && self.collector.as_ref() == Some(&keys.collector)
    }
}

const COLUMNS: &str = "id, identifier, scope_key, fetcher, collector, last_processed_timestamp, \
     scope_activation_toggle_date, active";

/// Reads a row of [`COLUMNS`], by their places: there are thousands.
fn read_row(row: &QueryResult) -> Result<ScopeState, StateError> {
    const ACTION: &str = "read a scope";
    let text = |at| row.try_get_by_index::<Option<String>>(at).to(ACTION);
    let date = |at| {
        let date: Option<NaiveDateTime> = row.try_get_by_index(at).to(ACTION)?;
        date.ok_or(StateError::BadValue {
            column: "cloudkitty_storage_states",
            value: "NULL".to_owned(),
        })
    };
    Ok(ScopeState {
        id: row.try_get_by_index::<i32>(0).to(ACTION)?.into(),
        identifier: row.try_get_by_index(1).to(ACTION)?,
        scope_key: text(2)?,
        fetcher: text(3)?,
        collector: text(4)?,
        last_processed: date(5)?.and_utc(),
        toggled: date(6)?,
        active: row.try_get_by_index(7).to(ACTION)?,
    })
}

/// The row of a scope that has exactly these keys; `lock` ends the statement.
pub(super) async fn find(
    connection: &impl ConnectionTrait,
    identifier: &str,
    keys: &ScopeKeys,
    lock: &str,
) -> Result<Option<ScopeState>, StateError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM cloudkitty_storage_states \
         WHERE identifier = ? AND scope_key = ? AND fetcher = ? AND collector = ? ORDER BY id{lock}"
    );
    let values = std::iter::once(Value::from(identifier)).chain(keys.values());
    let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
    let rows: Vec<_> =
        rows.to("read a scope")?.iter().map(read_row).collect::<Result<_, StateError>>()?;
    let first = rows.first().map(|row| row.identifier.clone());
    // MariaDB takes `A` for `a`, unless told otherwise, and has room for one row.
    match rows.into_iter().find(|row| row.identifier == identifier) {
        None if first.is_some() => Err(StateError::SameName {
            wanted: identifier.to_owned(),
            found: first.unwrap_or_default(),
        }),
        row => Ok(row),
    }
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
    if let Some(state) = find(connection, identifier, keys, "").await? {
        return Ok(Some(state));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM cloudkitty_storage_states WHERE identifier = ? \
         AND scope_key IS NULL AND fetcher IS NULL AND collector IS NULL ORDER BY id"
    );
    let rows = connection.query_all_raw(statement(connection, &sql, [identifier.into()])).await;
    let rows = rows.to("read a scope")?;
    for row in &rows {
        let mut state = read_row(row)?;
        if state.identifier != identifier {
            continue;
        }
        let sql = "UPDATE cloudkitty_storage_states \
                   SET scope_key = ?, fetcher = ?, collector = ? WHERE id = ? \
                   AND scope_key IS NULL AND fetcher IS NULL AND collector IS NULL";
        let values = keys.values().into_iter().chain([state.id.into()]);
        let adopt = connection.execute_raw(statement(connection, sql, values)).await;
        if adopt.to("adopt a scope")?.rows_affected() == 0 {
            // A processor with other keys was faster.
            continue;
        }
        state.scope_key = Some(keys.scope_key.clone());
        state.fetcher = Some(keys.fetcher.clone());
        state.collector = Some(keys.collector.clone());
        return Ok(Some(state));
    }
    Ok(None)
}

/// The rows of several scopes, by their identifiers, as [`get`] gives each.
///
/// # Errors
/// As [`get`].
pub async fn several(
    database: &Database,
    identifiers: &[&str],
    keys: &ScopeKeys,
) -> Result<HashMap<String, ScopeState>, StateError> {
    let rows = named(database.connection(), identifiers, keys).await?;
    let rows = rows.into_iter().map(|state| (state.identifier.clone(), state));
    let mut found: HashMap<String, ScopeState> = rows.collect();
    // What is new, to be adopted, or has the name of another one.
    for identifier in identifiers {
        if !found.contains_key(*identifier)
            && let Some(state) = get(database, identifier, keys).await?
        {
            found.insert(state.identifier.clone(), state);
        }
    }
    Ok(found)
}

/// The rows with these keys that the database finds for these names, which may be those
/// of others.
pub(super) async fn named(
    connection: &impl ConnectionTrait,
    identifiers: &[&str],
    keys: &ScopeKeys,
) -> Result<Vec<ScopeState>, StateError> {
    let mut found = Vec::with_capacity(identifiers.len());
    for part in batches(identifiers) {
        let sql = format!(
            "SELECT {COLUMNS} FROM cloudkitty_storage_states WHERE identifier IN ({}) \
             AND scope_key = ? AND fetcher = ? AND collector = ?",
            placeholders(part.len())
        );
        let values = part.iter().map(|identifier| Value::from(*identifier)).chain(keys.values());
        let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
        for row in rows.to("read scopes")? {
            found.push(read_row(&row)?);
        }
    }
    Ok(found)
}

/// The rows of all scopes with these keys, and of those without any, which may
/// come to be theirs; `lock` ends the statement.
pub(super) async fn all(
    connection: &impl ConnectionTrait,
    keys: &ScopeKeys,
    lock: &str,
) -> Result<Vec<ScopeState>, StateError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM cloudkitty_storage_states \
         WHERE (scope_key = ? AND fetcher = ? AND collector = ?) \
         OR (scope_key IS NULL AND fetcher IS NULL AND collector IS NULL) ORDER BY id{lock}"
    );
    let rows = connection.query_all_raw(statement(connection, &sql, keys.values())).await;
    rows.to("list scopes")?.iter().map(read_row).collect()
}

/// How far all scopes with these keys are, in one statement. Scopes that are to
/// be adopted are told as they are.
///
/// # Errors
/// A database that fails.
pub async fn overview(
    database: &Database,
    keys: &ScopeKeys,
) -> Result<HashMap<String, ScopeState>, StateError> {
    let mut scopes = HashMap::new();
    for scope in all(database.connection(), keys, "").await? {
        let has_keys = scope.scope_key.is_some();
        let known: &mut ScopeState =
            scopes.entry(scope.identifier.clone()).or_insert(scope.clone());
        if has_keys && known.scope_key.is_none() {
            *known = scope;
        }
    }
    Ok(scopes)
}

/// The row with this number.
///
/// # Errors
/// A database that fails.
pub async fn by_row(database: &Database, id: i64) -> Result<Option<ScopeState>, StateError> {
    let connection = database.connection();
    let sql = format!("SELECT {COLUMNS} FROM cloudkitty_storage_states WHERE id = ?");
    let row = connection.query_one_raw(statement(connection, &sql, [id.into()])).await;
    row.to("read a scope")?.as_ref().map(read_row).transpose()
}

/// The row with this number, which nobody else may change until the transaction
/// ends.
pub(super) async fn locked(
    transaction: &Transaction,
    id: i64,
) -> Result<Option<ScopeState>, StateError> {
    Ok(all_locked(transaction, vec![id]).await?.remove(&id))
}

/// The rows with these numbers, which nobody else may change until the transaction
/// ends.
pub(super) async fn all_locked(
    transaction: &Transaction,
    mut ids: Vec<i64>,
) -> Result<HashMap<i64, ScopeState>, StateError> {
    // In one order, so that two who lock several wait for each other, and not both.
    ids.sort_unstable();
    let mut found = HashMap::with_capacity(ids.len());
    for ids in batches(&ids) {
        let sql = format!(
            "SELECT {COLUMNS} FROM cloudkitty_storage_states WHERE id IN ({}) ORDER BY id{}",
            placeholders(ids.len()),
            for_update(transaction)
        );
        let ids = ids.iter().map(|id| Value::from(*id));
        let rows = transaction.query_all_raw(statement(transaction, &sql, ids)).await;
        for row in rows.to("read scopes")? {
            let state = read_row(&row)?;
            found.insert(state.id, state);
        }
    }
    Ok(found)
}

/// Keeps others from writing what belongs to a scope, until the transaction ends.
pub(super) async fn lock(transaction: &Transaction, identifier: &str) -> Result<(), StateError> {
    let sql = format!(
        "SELECT id FROM cloudkitty_storage_states WHERE identifier = ? ORDER BY id{}",
        for_update(transaction)
    );
    let rows = transaction.query_all_raw(statement(transaction, &sql, [identifier.into()])).await;
    rows.to("lock a scope").map(|_| ())
}

/// Sets the begin of the last period of a row.
pub(super) async fn move_to(
    transaction: &Transaction,
    id: i64,
    begin: DateTime<Utc>,
) -> Result<(), StateError> {
    move_all_to(transaction, &[id], begin).await
}

/// Sets the begin of the last period of several rows.
pub(super) async fn move_all_to(
    transaction: &Transaction,
    ids: &[i64],
    begin: DateTime<Utc>,
) -> Result<(), StateError> {
    for ids in batches(ids) {
        let sql = format!(
            "UPDATE cloudkitty_storage_states SET last_processed_timestamp = ? WHERE id IN ({})",
            placeholders(ids.len())
        );
        let values = std::iter::once(date_value(transaction, begin.naive_utc()))
            .chain(ids.iter().map(|id| Value::from(*id)));
        let update = statement(transaction, &sql, values);
        transaction.execute_raw(update).await.to("move scopes")?;
    }
    Ok(())
}

/// A scope that has no row yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewScope<'a> {
    pub identifier: &'a str,
    pub keys: &'a ScopeKeys,
    /// Begin of its last period.
    pub begin: DateTime<Utc>,
    /// Activation date.
    pub now: DateTime<Utc>,
}

const INSERT: &str = "INSERT INTO cloudkitty_storage_states (last_processed_timestamp, identifier, \
     scope_key, fetcher, collector, scope_activation_toggle_date, active) VALUES";

impl NewScope<'_> {
    /// Its row, for [`INSERT`].
    fn values(&self, connection: &impl ConnectionTrait, active: bool) -> [Value; 7] {
        let [scope_key, fetcher, collector] = self.keys.values();
        let [begin, now] = [self.begin, self.now].map(|at| date_value(connection, at.naive_utc()));
        [begin, self.identifier.into(), scope_key, fetcher, collector, now, active.into()]
    }
}

/// Adds the rows of scopes that had none, and are active.
pub(super) async fn add_all(
    transaction: &Transaction,
    scopes: &[NewScope<'_>],
) -> Result<(), StateError> {
    for scopes in batches(scopes) {
        let rows = vec!["(?, ?, ?, ?, ?, ?, ?)"; scopes.len()].join(", ");
        let values = scopes.iter().flat_map(|scope| scope.values(transaction, true));
        let insert = statement(transaction, &format!("{INSERT} {rows}"), values);
        match transaction.execute_raw(insert).await {
            // Of one of them.
            Err(source) if is_duplicate(&source) => {
                let names: Vec<_> = scopes.iter().map(|scope| scope.identifier).collect();
                return Err(StateError::Moved(names.join("`, `")));
            }
            result => result.to("add scopes")?,
        };
    }
    Ok(())
}

/// Adds the row of a scope that had none. `now` is its activation date.
///
/// # Errors
/// As [`insert`].
pub async fn add(
    connection: &impl ConnectionTrait,
    identifier: &str,
    keys: &ScopeKeys,
    begin: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), StateError> {
    insert(connection, identifier, keys, (begin, true), now).await.map(|_| ())
}

/// Adds the row of a scope, and gives it: begin of its last period, and whether
/// it is active. `now` is its activation date.
///
/// # Errors
/// A database that fails, a row that someone else has added meanwhile.
pub async fn insert(
    connection: &impl ConnectionTrait,
    identifier: &str,
    keys: &ScopeKeys,
    (begin, active): (DateTime<Utc>, bool),
    now: DateTime<Utc>,
) -> Result<ScopeState, StateError> {
    let sql = format!("{INSERT} (?, ?, ?, ?, ?, ?, ?)");
    let values = NewScope { identifier, keys, begin, now }.values(connection, active);
    match insert_row(connection, &sql, values).await {
        Ok(id) => Ok(ScopeState {
            id,
            identifier: identifier.to_owned(),
            scope_key: Some(keys.scope_key.clone()),
            fetcher: Some(keys.fetcher.clone()),
            collector: Some(keys.collector.clone()),
            last_processed: begin,
            toggled: now.naive_utc(),
            active,
        }),
        Err(source) if is_duplicate(&source) => Err(StateError::Moved(identifier.to_owned())),
        Err(source) => Err(source).to("add a scope"),
    }
}

/// The keys of a row, if it has them all.
pub fn keys_of(state: &ScopeState) -> Option<ScopeKeys> {
    Some(ScopeKeys {
        scope_key: state.scope_key.clone()?,
        fetcher: state.fetcher.clone()?,
        collector: state.collector.clone()?,
    })
}

/// What is to be changed of a scope.
#[derive(Debug, Clone, Default)]
pub struct ScopeChange {
    /// Its scope key.
    pub scope_key: Option<String>,
    /// Its fetcher.
    pub fetcher: Option<String>,
    /// Its collector.
    pub collector: Option<String>,
    /// Whether it is active.
    pub active: Option<bool>,
}

/// Changes a scope, and gives what it is then; `None` if it is gone. When it is
/// switched, `now` is noted.
///
/// # Errors
/// Keys that another scope of this identifier has.
pub async fn change(
    database: &Database,
    id: i64,
    change: &ScopeChange,
    now: DateTime<Utc>,
) -> Result<Option<ScopeState>, StateError> {
    let transaction = database.begin().await?;
    let Some(mut state) = locked(&transaction, id).await? else { return Ok(None) };
    let before = state.collector.clone();
    let keys = [
        (&mut state.scope_key, &change.scope_key),
        (&mut state.fetcher, &change.fetcher),
        (&mut state.collector, &change.collector),
    ];
    for (its, wanted) in keys {
        if wanted.is_some() {
            its.clone_from(wanted);
        }
    }
    if let Some(active) = change.active.filter(|active| *active != state.active) {
        (state.active, state.toggled) = (active, now.naive_utc());
    }
    let sql = "UPDATE cloudkitty_storage_states SET scope_key = ?, fetcher = ?, collector = ?, \
               active = ?, scope_activation_toggle_date = ? WHERE id = ?";
    let values = [
        state.scope_key.clone().into(),
        state.fetcher.clone().into(),
        state.collector.clone().into(),
        state.active.into(),
        date_value(&transaction, state.toggled),
        id.into(),
    ];
    match transaction.execute_raw(statement(&transaction, sql, values)).await {
        Err(source) if is_duplicate(&source) => {
            return Err(StateError::Moved(state.identifier));
        }
        result => result.to("change a scope")?,
    };
    if before != state.collector {
        hand_over(&transaction, &state.identifier, (&before, &state.collector)).await?;
    }
    transaction.commit().await.to("change a scope")?;
    Ok(Some(state))
}

/// Gives what a collector has rated of a scope to another one, so that this one goes
/// on in its place, unless another row of this name is the old one's, too.
async fn hand_over(
    transaction: &Transaction,
    identifier: &str,
    (before, now): (&Option<String>, &Option<String>),
) -> Result<(), StateError> {
    let action = "hand over what was rated";
    let (before, now) = (before.as_deref().unwrap_or(""), now.as_deref().unwrap_or(""));
    let sql = "SELECT id FROM cloudkitty_storage_states WHERE identifier = ? AND collector = ?";
    let others = transaction
        .query_one_raw(statement(transaction, sql, [identifier.into(), before.into()]))
        .await;
    if others.to(action)?.is_some() {
        return Ok(());
    }
    for table in ["ratekitty_dataframes", "ratekitty_streams"] {
        let sql = format!(
            "UPDATE {table} SET writer = ? WHERE scope_id = ? AND writer = ? AND NOT appended"
        );
        let values = [now.into(), identifier.into(), before.into()];
        transaction.execute_raw(statement(transaction, &sql, values)).await.to(action)?;
    }
    Ok(())
}

/// Activates or deactivates a scope, and notes when; nothing changes if it is
/// that already. Whether there is such a scope.
///
/// # Errors
/// A database that fails.
pub async fn set_active(
    database: &Database,
    identifier: &str,
    keys: &ScopeKeys,
    active: bool,
    now: DateTime<Utc>,
) -> Result<bool, StateError> {
    let Some(state) = get(database, identifier, keys).await? else { return Ok(false) };
    let connection = database.connection();
    let sql = "UPDATE cloudkitty_storage_states \
               SET active = ?, scope_activation_toggle_date = ? WHERE id = ? AND active <> ?";
    let now = date_value(connection, now.naive_utc());
    let values = [active.into(), now, state.id.into(), active.into()];
    connection.execute_raw(statement(connection, sql, values)).await.to("activate a scope")?;
    Ok(true)
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
