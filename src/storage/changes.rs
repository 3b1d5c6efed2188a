//! What tells, for little, that sums are still what they were: one row of the
//! state database per scope, changed by every write of dataframes in the same
//! transaction.
//!
//! A row holds how often what was there was changed (`changes`), and how far its
//! periods reach (`end_epoch`). What only goes on behind the last period moves the
//! reach, and leaves sums over earlier times alone. Neither number ever falls, so
//! their sums over scopes are the same at two moments only if nothing was committed
//! between them that is in the window.

use std::collections::{BTreeMap, HashMap, HashSet};

use sea_orm::{ConnectionTrait, Value as SqlValue};

use super::{Selection, StorageError, heads::Block};
use crate::state::{
    Context, Transaction, batches, given, integer_sum, or_update, placeholders, statement,
};

/// Scopes that a mark is narrowed to; of more, all are looked at.
const NARROW: usize = 100;

/// What the dataframes of a selection are at a moment: as long as it is the same, so
/// are sums over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    scopes: i64,
    changes: i64,
    reach: i64,
}

impl Mark {
    /// The mark of a selection in a store.
    pub(super) async fn of(
        connection: &impl ConnectionTrait,
        store: &str,
        scope_key: &str,
        selection: &Selection,
    ) -> Result<Self, StorageError> {
        let action = "look for changes";
        let end = selection.end.timestamp();
        let mut sql = format!(
            "SELECT COUNT(*) AS scopes, {} AS changes, {} AS reach \
             FROM ratekitty_changes WHERE store = ?",
            integer_sum(connection, "changes"),
            integer_sum(connection, "CASE WHEN end_epoch < ? THEN end_epoch ELSE ? END"),
        );
        let mut values: Vec<SqlValue> = vec![end.into(), end.into(), store.into()];
        let of_scopes = |(key, scopes): &&(String, Vec<String>)| {
            // The type is the type, whatever the scope key is.
            key == scope_key && key != "type" && (1..=NARROW).contains(&scopes.len())
        };
        for (_, scopes) in selection.filters.iter().filter(of_scopes) {
            let list = placeholders(scopes.len());
            sql.push_str(&format!(" AND (scope_key <> ? OR scope_id IN ({list}))"));
            values.push(scope_key.into());
            values.extend(scopes.iter().map(|scope| SqlValue::from(scope.as_str())));
        }
        let row = connection.query_one_raw(statement(connection, &sql, values)).await;
        let row = row.to(action)?;
        let number = |name| -> Result<i64, StorageError> {
            let number = row.as_ref().map(|row| row.try_get::<Option<i64>>("", name));
            Ok(number.transpose().to(action)?.flatten().unwrap_or(0))
        };
        Ok(Self { scopes: number("scopes")?, changes: number("changes")?, reach: number("reach")? })
    }
}

/// What a transaction writes, by scope key and scope.
#[derive(Debug, Default)]
pub(super) struct Changes<'a>(BTreeMap<(&'a str, &'a str), Change>);

#[derive(Debug)]
struct Change {
    begin: i64,
    end: i64,
    /// Whether there may be anything that is not what it was.
    is_rewritten: bool,
}

impl<'a> Changes<'a> {
    /// Notes that a scope has something new, in seconds from `begin` to before `end`,
    /// in place of what it had there.
    pub fn wrote(&mut self, scope_key: &'a str, scope_id: &'a str, (begin, end): (i64, i64)) {
        let change = self.0.entry((scope_key, scope_id));
        let change = change.or_insert(Change { begin, end, is_rewritten: false });
        change.begin = change.begin.min(begin);
        change.end = change.end.max(end);
    }

    /// Notes that a scope has lost something.
    pub fn removed(&mut self, scope_key: &'a str, scope_id: &'a str) {
        // The reach does not fall by it, and may be further than it is.
        let nothing = Change { begin: i64::MAX, end: 0, is_rewritten: true };
        self.0.entry((scope_key, scope_id)).or_insert(nothing).is_rewritten = true;
    }

    /// Notes what blocks add.
    pub fn added<'b: 'a>(
        &mut self,
        scope_key: &'a str,
        blocks: impl IntoIterator<Item = &'a Block<'b>>,
    ) {
        for block in blocks {
            let time = (block.period.begin.timestamp(), block.period.end.timestamp());
            self.wrote(scope_key, block.scope_id, time);
        }
    }

    /// Writes the notes. Best at the end of a transaction: who writes the same scopes
    /// waits from here on.
    pub async fn save(self, transaction: &Transaction, store: &str) -> Result<(), StorageError> {
        let changes: Vec<_> = self.0.into_iter().collect();
        let or_update = or_update(transaction, "store, scope_key, scope_id");
        let [begin, end, added] =
            ["begin_epoch", "end_epoch", "changes"].map(|column| given(transaction, column));
        for changes in batches(&changes) {
            let rows = vec!["(?, ?, ?, ?, ?, ?)"; changes.len()].join(", ");
            // MySQL assigns one after the other: the new end comes after its use.
            let sql = format!(
                "INSERT INTO ratekitty_changes \
                 (store, scope_key, scope_id, begin_epoch, end_epoch, changes) VALUES {rows} \
                 {or_update} changes = ratekitty_changes.changes + {added} + \
                 CASE WHEN {begin} < ratekitty_changes.end_epoch THEN 1 ELSE 0 END, \
                 begin_epoch = {begin}, \
                 end_epoch = CASE WHEN {end} > ratekitty_changes.end_epoch \
                 THEN {end} ELSE ratekitty_changes.end_epoch END"
            );
            let values = changes.iter().flat_map(|((scope_key, scope_id), change)| {
                [
                    SqlValue::from(store),
                    (*scope_key).into(),
                    (*scope_id).into(),
                    change.begin.into(),
                    change.end.into(),
                    i64::from(change.is_rewritten).into(),
                ]
            });
            let insert = statement(transaction, &sql, values);
            transaction.execute_raw(insert).await.to("note changes")?;
        }
        Ok(())
    }
}

/// How far the periods of scopes reach, in seconds.
#[derive(Debug)]
pub(super) struct Reaches {
    ends: HashMap<String, i64>,
    /// Scopes that have something from the time on, whatever their notes say.
    present: HashSet<String>,
}

impl Reaches {
    /// Those of some scopes, which will be asked for times that begin at `from` or later.
    pub async fn of(
        connection: &impl ConnectionTrait,
        store: &str,
        scope_key: &str,
        scopes: &[&str],
        from: i64,
    ) -> Result<Self, StorageError> {
        let action = "look how far scopes reach";
        let (mut ends, mut present) = (HashMap::with_capacity(scopes.len()), HashSet::new());
        for scopes in batches(scopes) {
            let list = placeholders(scopes.len());
            let condition = format!("store = ? AND scope_key = ? AND scope_id IN ({list})");
            let scopes = scopes.iter().map(|scope| SqlValue::from(*scope));
            let values = [SqlValue::from(store), scope_key.into()].into_iter().chain(scopes);
            let noted =
                format!("SELECT scope_id, end_epoch FROM ratekitty_changes WHERE {condition}");
            let noted = statement(connection, &noted, values.clone());
            for row in connection.query_all_raw(noted).await.to(action)? {
                let end: i64 = row.try_get_by_index(1).to(action)?;
                ends.insert(row.try_get_by_index(0).to(action)?, end);
            }
            // Notes alone decide about no money: of what was written past them, this finds
            // what a new period might be billed beside.
            let found = format!(
                "SELECT DISTINCT scope_id FROM ratekitty_dataframes \
                 WHERE {condition} AND begin_epoch >= ?"
            );
            let values = values.chain([from.into()]);
            let found = connection.query_all_raw(statement(connection, &found, values)).await;
            for row in found.to(action)? {
                present.insert(row.try_get_by_index(0).to(action)?);
            }
        }
        Ok(Self { ends, present })
    }

    /// Whether a scope has nothing from an instant on, whoever may have written it: then
    /// there is nothing to look for, however much there is of the time before.
    pub fn end_before(&self, scope_id: &str, begin: i64) -> bool {
        !self.present.contains(scope_id) && self.ends.get(scope_id).is_none_or(|end| *end <= begin)
    }
}
