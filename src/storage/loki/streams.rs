//! `ratekitty_streams` and `ratekitty_superseded`: which entries of Loki count.
//!
//! Loki keeps what it has taken: an entry is neither replaced nor reliably
//! deleted, and a stream that has moved on takes nothing older. So each scope
//! writes a stream of its own, from period to period. What is rated again goes
//! into a new stream, and the entries that it takes the place of are noted as
//! superseded; reads leave them out.
//!
//! What is about to be pushed is noted before (`pending_ns`), and counts only
//! when all of it is acknowledged and its heads are written. A kill in between
//! leaves entries that no read sees. The same period with the same content is
//! then pushed to the same place, where Loki recognises each entry that it has.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{ConnectionTrait, QueryResult, Value as SqlValue};
use sha2::{Digest, Sha256};

use crate::{
    state::{
        Context, Transaction, batches, batches_mut, for_update, given, or_update, placeholders,
        statement,
    },
    storage::{StorageError, heads::Kept},
    time::Period,
};

/// In the place of a digest: nothing more is written to this stream.
const CLOSED: &str = "closed";

/// Columns that change after a stream has begun.
const CHANGEABLE: [&str; 6] =
    ["uneven", "first_epoch", "last_epoch", "known_ns", "pending_ns", "digest"];

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// First instants within a second at which streams begin to write. The rest of
/// the second is room for the entries.
const SPREAD: u64 = 900_000_000;

/// A stream, as the state database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Row number; 0 before it has a row.
    pub id: i64,
    /// Value of its label `ratekitty`.
    pub label: String,
    /// Label that names its scope.
    pub scope_key: String,
    /// Identifier of its scope.
    pub scope_id: String,
    /// Who writes it; nobody in particular what is appended.
    pub writer: String,
    /// Whether it holds points that were added beside what the processor rates.
    pub appended: bool,
    /// Whether it holds points that Loki's expressions cannot tell.
    pub uneven: bool,
    /// Length of all its periods.
    pub period_seconds: i64,
    /// Begin of its first period.
    pub first: i64,
    /// Begin of its newest period.
    pub last: i64,
    /// Everything before this instant is known: kept, or superseded.
    pub known_ns: i64,
    /// End of entries that may be on their way; none of them counts.
    pub pending_ns: Option<i64>,
    /// What the newest period holds.
    pub digest: String,
}

const COLUMNS: &str = "id, label, scope_key, scope_id, writer, appended, uneven, period_seconds, \
     first_epoch, last_epoch, known_ns, pending_ns, digest";

impl Stream {
    /// Seconds from the begin of a period to its entries. They stand in the
    /// last second of the period: the younger an entry is, the sooner a stock
    /// Loki shows it.
    pub fn shift(period_seconds: i64) -> i64 {
        (period_seconds - 1).max(0)
    }

    /// The instant of the first entry of the period that begins at `begin`.
    pub fn start_ns(&self, begin: i64) -> i64 {
        self.second_ns(begin) + spread(&self.label)
    }

    /// The second in which all entries of a period stand.
    pub fn second_ns(&self, begin: i64) -> i64 {
        begin.saturating_add(Self::shift(self.period_seconds)).saturating_mul(SECOND)
    }

    /// Whether more can be written to it.
    pub fn is_open(&self) -> bool {
        self.pending_ns.is_none() && self.digest != CLOSED
    }

    /// Sees to it that nothing more is written to it.
    pub fn close(&mut self) {
        self.digest = CLOSED.to_owned();
    }

    /// End of the time that it decides about: entries of the reference for its
    /// scope do not count before.
    pub fn covered_until(&self) -> i64 {
        self.pending_begin().unwrap_or(self.last + self.period_seconds)
    }

    /// Begin of the first period that is on its way to a stream of rated periods.
    fn pending_begin(&self) -> Option<i64> {
        let known = self.known_ns.div_euclid(SECOND) - Self::shift(self.period_seconds);
        self.pending_ns.map(|_| known)
    }

    /// Whether something is on its way for a time, in seconds.
    pub fn is_pending_in(&self, (begin, end): (i64, i64)) -> bool {
        self.pending_begin()
            .is_some_and(|pending| pending < end && self.last + self.period_seconds > begin)
    }

    fn read(row: &QueryResult) -> Result<Self, StorageError> {
        let action = "read streams";
        let number = |name| row.try_get::<i64>("", name).to(action);
        Ok(Self {
            id: number("id")?,
            label: row.try_get("", "label").to(action)?,
            scope_key: row.try_get("", "scope_key").to(action)?,
            scope_id: row.try_get("", "scope_id").to(action)?,
            writer: row.try_get("", "writer").to(action)?,
            appended: row.try_get("", "appended").to(action)?,
            uneven: row.try_get("", "uneven").to(action)?,
            period_seconds: number("period_seconds")?,
            first: number("first_epoch")?,
            last: number("last_epoch")?,
            known_ns: number("known_ns")?,
            pending_ns: row.try_get("", "pending_ns").to(action)?,
            digest: row.try_get("", "digest").to(action)?,
        })
    }
}

/// Where within a second a stream writes, so that entries of many streams do
/// not stand at one instant.
fn spread(label: &str) -> i64 {
    let hash = Sha256::digest(label);
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    i64::try_from(number % SPREAD).unwrap_or_default()
}

/// A name that no stream has: letters and digits, so that it needs no escapes
/// anywhere.
pub fn new_label() -> String {
    use rand::Rng;
    let mut random = rand::rng();
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..12).map(|_| char::from(letters[random.random_range(0..letters.len())])).collect()
}

/// Time of entries, from the first instant to the one after the last.
pub type Span = (i64, i64);

/// A scope in a store, as both tables name it.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Name of the store.
    pub store: &'a str,
    /// Label that names the scope.
    pub scope_key: &'a str,
    /// Its identifier.
    pub scope_id: &'a str,
    /// Who writes.
    pub writer: &'a str,
}

impl<'a> Owner<'a> {
    /// Its heads.
    pub fn kept(&self) -> Kept<'a> {
        let Self { store, scope_key, scope_id, writer } = *self;
        Kept { store, scope_key, scope_id, writer }
    }

    fn values(&self) -> Vec<SqlValue> {
        vec![self.store.into(), self.scope_key.into(), self.scope_id.into()]
    }

    /// Its streams that this writer may write, the newest first; nobody else may
    /// change them until the transaction ends.
    pub async fn streams(&self, transaction: &Transaction) -> Result<Vec<Stream>, StorageError> {
        Ok(Streams::of_all(transaction, &[*self]).await?.of(*self))
    }

    /// A stream that begins with a period; [`save_all`] makes its row.
    pub fn new_stream(&self, appended: bool, period: Period) -> Stream {
        let first = period.begin.timestamp();
        let mut stream = Stream {
            id: 0,
            label: new_label(),
            scope_key: self.scope_key.to_owned(),
            scope_id: self.scope_id.to_owned(),
            writer: if appended { "" } else { self.writer }.to_owned(),
            appended,
            uneven: false,
            period_seconds: period.seconds(),
            first,
            last: first,
            known_ns: 0,
            pending_ns: None,
            digest: String::new(),
        };
        stream.known_ns = stream.second_ns(first);
        stream
    }

    /// Notes that entries do not count any more: those of a stream, or, without
    /// one, those of the reference for this scope.
    pub async fn supersede(
        &self,
        transaction: &Transaction,
        stream: Option<i64>,
        (from, to): Span,
    ) -> Result<(), StorageError> {
        if from >= to {
            return Ok(());
        }
        let sql = "INSERT INTO ratekitty_superseded \
                   (store, scope_key, scope_id, stream_id, from_ns, to_ns) \
                   VALUES (?, ?, ?, ?, ?, ?)";
        let mut values = self.values();
        values.extend([stream.into(), from.into(), to.into()]);
        let insert = statement(transaction, sql, values);
        transaction.execute_raw(insert).await.to("supersede entries")?;
        Ok(())
    }

    /// Gives up what a stream has on its way: if any of it arrives, or has
    /// arrived, it does not count. The stream is read on, and written no more.
    /// `stream` is as `transaction` sees it.
    pub async fn give_up(
        &self,
        transaction: &Transaction,
        stream: &mut Stream,
    ) -> Result<(), StorageError> {
        let begin = stream.pending_begin();
        if let Some((pending, begin)) = stream.pending_ns.take().zip(begin) {
            self.supersede(transaction, Some(stream.id), (stream.known_ns, pending)).await?;
            stream.known_ns = stream.known_ns.max(pending);
            if !stream.appended {
                // About these periods it decides nothing.
                stream.last = begin - stream.period_seconds;
            }
            stream.close();
            save(transaction, self.store, stream).await?;
        }
        Ok(())
    }

    /// Gives up a push that failed, if the stream still waits for it.
    pub async fn give_up_push(
        &self,
        transaction: &Transaction,
        pushed: &Stream,
    ) -> Result<(), StorageError> {
        let streams = self.streams(transaction).await?;
        let waiting =
            |s: &Stream| s.id == pushed.id && s.pending_ns.is_some() && s.digest == pushed.digest;
        match streams.into_iter().find(waiting) {
            Some(mut stream) => self.give_up(transaction, &mut stream).await,
            None => Err(StorageError::Overtaken(self.scope_id.to_owned())),
        }
    }
}

/// Streams of several scopes, which nobody else may change until the transaction ends.
#[derive(Debug)]
pub struct Streams(HashMap<String, Vec<Stream>>);

impl Streams {
    /// Those of owners in one store and with one scope key, that their writers may write.
    pub async fn of_all(
        transaction: &Transaction,
        owners: &[Owner<'_>],
    ) -> Result<Self, StorageError> {
        let action = "read streams";
        let mut ids: Vec<i64> = Vec::with_capacity(owners.len());
        for owners in batches(owners) {
            let Some(Owner { store, scope_key, .. }) = owners.first() else { continue };
            let writers: BTreeSet<&str> = owners.iter().map(|owner| owner.writer).collect();
            // First found and then locked by number: a database may look through a small
            // table, and lock what others are writing.
            let sql = format!(
                "SELECT id FROM ratekitty_streams WHERE store = ? AND scope_key = ? \
                 AND scope_id IN ({}) AND (appended OR writer IN ({}))",
                placeholders(owners.len()),
                placeholders(writers.len())
            );
            let scopes = owners.iter().map(|owner| owner.scope_id);
            let values = [*store, *scope_key].into_iter().chain(scopes).chain(writers);
            let values = values.map(SqlValue::from);
            let rows = transaction.query_all_raw(statement(transaction, &sql, values)).await;
            for row in rows.to(action)? {
                ids.push(row.try_get("", "id").to(action)?);
            }
        }
        ids.sort_unstable();
        let mut streams: HashMap<String, Vec<Stream>> = HashMap::with_capacity(owners.len());
        for ids in batches(&ids) {
            let sql = format!(
                "SELECT {COLUMNS} FROM ratekitty_streams WHERE id IN ({}) ORDER BY id{}",
                placeholders(ids.len()),
                for_update(transaction)
            );
            let ids = ids.iter().map(|id| SqlValue::from(*id));
            let rows = transaction.query_all_raw(statement(transaction, &sql, ids)).await;
            for row in rows.to(action)? {
                let stream = Stream::read(&row)?;
                streams.entry(stream.scope_id.clone()).or_default().push(stream);
            }
        }
        Ok(Self(streams))
    }

    /// Those that an owner may write, the newest first.
    pub fn of(&self, owner: Owner<'_>) -> Vec<Stream> {
        let all = self.0.get(owner.scope_id).map(Vec::as_slice).unwrap_or_default();
        let own = all.iter().filter(|stream| stream.appended || stream.writer == owner.writer);
        own.rev().cloned().collect()
    }
}

/// Writes the changeable columns of a stream.
pub async fn save(
    transaction: &Transaction,
    store: &str,
    stream: &Stream,
) -> Result<(), StorageError> {
    let mut streams = [&mut stream.clone()];
    save_all(transaction, store, &mut streams).await
}

/// Writes the changeable columns of streams, and makes rows of those that have none.
pub async fn save_all(
    transaction: &Transaction,
    store: &str,
    streams: &mut [&mut Stream],
) -> Result<(), StorageError> {
    let (mut new, known): (Vec<&mut Stream>, Vec<&mut Stream>) =
        streams.iter_mut().map(|stream| &mut **stream).partition(|stream| stream.id == 0);
    let set = CHANGEABLE.map(|column| format!("{column} = {}", given(transaction, column)));
    let or_update = format!(" {} {}", or_update(transaction, "id"), set.join(", "));
    for known in batches(&known) {
        insert(transaction, store, known, &or_update).await?;
    }
    for new in batches_mut(&mut new) {
        insert(transaction, store, new, "").await?;
        let action = "begin streams";
        let sql = format!(
            "SELECT id, label FROM ratekitty_streams WHERE label IN ({})",
            placeholders(new.len())
        );
        let labels = new.iter().map(|stream| SqlValue::from(stream.label.as_str()));
        let rows = transaction.query_all_raw(statement(transaction, &sql, labels)).await;
        let mut ids: HashMap<String, i64> = HashMap::with_capacity(new.len());
        for row in rows.to(action)? {
            ids.insert(row.try_get("", "label").to(action)?, row.try_get("", "id").to(action)?);
        }
        for stream in new {
            let missing = || StorageError::Damaged("a stream was not written".to_owned());
            stream.id = *ids.get(&stream.label).ok_or_else(missing)?;
        }
    }
    Ok(())
}

/// Inserts rows of streams: with their numbers, if they have any. `end` ends the statement.
async fn insert(
    transaction: &Transaction,
    store: &str,
    streams: &[&mut Stream],
    end: &str,
) -> Result<(), StorageError> {
    let Some(first) = streams.first() else { return Ok(()) };
    let has_number = first.id != 0;
    let id = if has_number { ", id" } else { "" };
    let row = format!("({})", placeholders(13 + usize::from(has_number)));
    let sql = format!(
        "INSERT INTO ratekitty_streams (store, scope_key, scope_id, label, appended, uneven, \
         period_seconds, first_epoch, last_epoch, known_ns, pending_ns, digest, writer{id}) \
         VALUES {}{end}",
        vec![row.as_str(); streams.len()].join(", ")
    );
    let values = streams.iter().flat_map(|stream| {
        let values: [SqlValue; 13] = [
            store.into(),
            stream.scope_key.as_str().into(),
            stream.scope_id.as_str().into(),
            stream.label.as_str().into(),
            stream.appended.into(),
            stream.uneven.into(),
            stream.period_seconds.into(),
            stream.first.into(),
            stream.last.into(),
            stream.known_ns.into(),
            stream.pending_ns.into(),
            stream.digest.as_str().into(),
            stream.writer.as_str().into(),
        ];
        values.into_iter().chain(has_number.then(|| stream.id.into()))
    });
    transaction.execute_raw(statement(transaction, &sql, values)).await.to("note streams")?;
    Ok(())
}

/// Streams of a store that decide about periods which begin in `[begin, end)`,
/// or hold points of them.
pub async fn in_window(
    connection: &impl ConnectionTrait,
    store: &str,
    (begin, end): (i64, i64),
) -> Result<Vec<Stream>, StorageError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM ratekitty_streams WHERE store = ? \
         AND (first_epoch < ? AND last_epoch >= ? OR id IN (\
         SELECT stream_id FROM ratekitty_dataframes \
         WHERE store = ? AND begin_epoch >= ? AND begin_epoch < ?)) ORDER BY id"
    );
    let values = [store.into(), end.into(), begin.into(), store.into(), begin.into(), end.into()];
    let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
    rows.to("read streams")?.iter().map(Stream::read).collect()
}

/// A note that entries do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The stream; `None` for what the reference wrote for the scope.
    pub stream: Option<i64>,
    /// Label that names the scope.
    pub scope_key: String,
    /// The scope.
    pub scope_id: String,
    /// The time.
    pub span: Span,
}

/// What is superseded in a store and touches a time.
pub async fn superseded(
    connection: &impl ConnectionTrait,
    store: &str,
    (from, to): Span,
) -> Result<Vec<Superseded>, StorageError> {
    let action = "read superseded entries";
    let sql = "SELECT stream_id, scope_key, scope_id, from_ns, to_ns FROM ratekitty_superseded \
               WHERE store = ? AND from_ns < ? AND to_ns > ? ORDER BY id";
    let values = [store.into(), to.into(), from.into()];
    let rows = connection.query_all_raw(statement(connection, sql, values)).await;
    let rows = rows.to(action)?;
    let read = |row: &QueryResult| {
        Ok(Superseded {
            stream: row.try_get("", "stream_id").to(action)?,
            scope_key: row.try_get("", "scope_key").to(action)?,
            scope_id: row.try_get("", "scope_id").to(action)?,
            span: (row.try_get("", "from_ns").to(action)?, row.try_get("", "to_ns").to(action)?),
        })
    };
    rows.iter().map(read).collect()
}

/// The label of a stream.
pub async fn label(connection: &impl ConnectionTrait, id: i64) -> Result<String, StorageError> {
    let sql = "SELECT label FROM ratekitty_streams WHERE id = ?";
    let row = connection.query_one_raw(statement(connection, sql, [id.into()])).await;
    let row = row.to("read streams")?;
    let row = row.ok_or_else(|| StorageError::Damaged(format!("stream {id} is missing")))?;
    Ok(row.try_get("", "label").to("read streams")?)
}
