//! Writing: note what will be pushed, push it, note that it is there.
//!
//! Each step is durable before the next begins, and reads see the outcome of
//! the last one alone. `docs/adr/0005-loki-storage.md` goes through what a kill
//! at each place leaves behind.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use sea_orm::ConnectionTrait;
use sha2::{Digest, Sha256};
use tracing::warn;

use super::{
    LokiError, LokiStorage,
    line::{self, LineWriter},
    logql,
    push::{Entry, Metadata, StreamEntries},
    streams::{self, Owner, SECOND, Span, Stream, Streams},
};
use crate::{
    dataframe::DataFrame,
    state::{Context, Step, Transaction, statement},
    storage::{
        Replacement, StorageError,
        changes::{Changes, Reaches},
        heads::{Block, Place, blocks_of, scopes_of, sorted_blocks, write_heads},
    },
    time::Period,
};

/// Longest line: Loki's `max_line_size`, unless that is changed.
const LONGEST_LINE: usize = 256 << 10;

/// The points of one scope and period, made into lines.
struct Prepared<'a> {
    period: Period,
    blocks: Vec<Block<'a>>,
    /// Their entries, in the order of the blocks; timestamps are set when the
    /// stream is known.
    entries: Vec<Entry>,
    uneven: bool,
    /// Tells contents apart.
    digest: [u8; 32],
}

impl<'a> Prepared<'a> {
    fn new(
        period: Period,
        blocks: Vec<Block<'a>>,
        metadata: bool,
        lines: &mut LineWriter<'a>,
    ) -> Result<Self, StorageError> {
        let mut entries = Vec::with_capacity(blocks.iter().map(|block| block.points.len()).sum());
        let mut uneven = false;
        let mut digest = Sha256::new();
        for block in &blocks {
            let head = lines.head(period, block.frame_type, &mut digest);
            let (frame_type, none) = (Arc::from(block.frame_type), Metadata::default());
            for point in block.points.iter().copied() {
                let metadata = match metadata {
                    true => lines.metadata(&frame_type, point),
                    false => none.clone(),
                };
                let line = lines.line(&head, point, &mut digest)?;
                for text in metadata.iter().flat_map(|(name, value)| [*name, &**value]) {
                    line::add(&mut digest, text.as_bytes());
                }
                // Loki refuses longer ones, or, if so configured, cuts them, so
                // that they could not be read back.
                if line.length > LONGEST_LINE {
                    let (scope_id, frame_type) = (block.scope_id, block.frame_type);
                    let (scope_id, frame_type) = (scope_id.to_owned(), frame_type.to_owned());
                    let bytes = line.length;
                    return Err(StorageError::LongLine { scope_id, frame_type, bytes });
                }
                uneven |= !line::is_even(point);
                entries.push(Entry { timestamp: 0, line, metadata });
            }
        }
        Ok(Self { period, blocks, entries, uneven, digest: digest.finalize().into() })
    }

    /// The periods of a scope.
    fn of(
        replacement: &Replacement<'a>,
        metadata: bool,
        lines: &mut LineWriter<'a>,
    ) -> Result<Vec<Self>, StorageError> {
        let Replacement { scope_id, frames, .. } = *replacement;
        lines.forget();
        let parts = frames
            .iter()
            .map(|frame| Self::new(frame.period, blocks_of(scope_id, frame), metadata, lines));
        parts.collect()
    }

    fn begin(&self) -> i64 {
        self.period.begin.timestamp()
    }

    /// Sets the timestamps, one nanosecond after the other, and gives the one
    /// after the last.
    fn place(&mut self, first: i64) -> Result<i64, StorageError> {
        let mut timestamp = first;
        for entry in &mut self.entries {
            entry.timestamp = timestamp;
            timestamp += 1;
        }
        // A hundred million points: nobody's period has them.
        if timestamp.div_euclid(SECOND) != first.div_euclid(SECOND) {
            return Err(StorageError::Damaged(format!(
                "{} points of one scope and period do not fit into a stream",
                self.entries.len()
            )));
        }
        Ok(timestamp)
    }

    /// Tells contents of several periods apart.
    fn digest(parts: &[Self]) -> String {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part.digest));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A stream with what is to be written to it.
struct Write<'a> {
    owner: Owner<'a>,
    /// Tells apart what is written.
    digest: &'a str,
    stream: Stream,
    /// By period, oldest first.
    parts: Vec<Prepared<'a>>,
    /// Entries of its period before the first of each part.
    offsets: Vec<i64>,
}

impl Write<'_> {
    /// From the begin of its first period to the end of its last one, in seconds.
    fn time(&self) -> (i64, i64) {
        let begin = self.parts.iter().map(Prepared::begin).min();
        let end = self.parts.iter().map(|part| part.period.end.timestamp()).max();
        (begin.unwrap_or(0), end.unwrap_or(0))
    }
}

impl LokiStorage {
    pub(super) fn owner<'a>(&'a self, scope_id: &'a str, writer: &'a str) -> Owner<'a> {
        Owner { store: &self.store, scope_key: &self.scope_key, scope_id, writer }
    }

    /// Labels of a stream.
    fn labels(&self, stream: &Stream) -> Vec<(String, String)> {
        let mut labels = self.common.clone();
        if self.scope_key == "project_id" && !stream.scope_id.is_empty() {
            labels.push(("project_id".to_owned(), stream.scope_id.clone()));
        }
        labels.push((logql::STREAM_LABEL.to_owned(), stream.label.clone()));
        labels
    }

    pub(super) async fn write_replacing(
        &self,
        replacements: &[Replacement<'_>],
    ) -> Result<(), StorageError> {
        let mut lines = LineWriter::new(self.client.format());
        let mut prepare =
            |replacement| Prepared::of(replacement, self.structured_metadata, &mut lines);
        let mut prepared = replacements.iter().map(&mut prepare).collect::<Result<Vec<_>, _>>()?;
        let digests: Vec<String> = prepared.iter().map(|parts| Prepared::digest(parts)).collect();
        let steps: Vec<Step<'_>> = replacements.iter().map(|one| one.step).collect();
        let scopes: Vec<&str> = replacements.iter().map(|one| one.scope_id).collect();
        let writers: Vec<String> = steps.iter().map(Step::writer).collect();
        let owners = scopes.iter().zip(&writers);
        let owners: Vec<Owner<'_>> =
            owners.map(|(scope_id, writer)| self.owner(scope_id, writer)).collect();
        let from = replacements.iter().map(|one| one.time().begin.timestamp()).min().unwrap_or(0);
        let mut tries = 0;
        loop {
            let transaction = self.database.begin().await?;
            // Nothing is pushed that could not count.
            Step::check_all(&transaction, &steps).await?;
            let reaches = self.reaches(&transaction, &scopes, from).await?;
            let streams = Streams::of_all(&transaction, &owners).await?;
            let mut writes = Vec::with_capacity(replacements.len());
            let given = replacements.iter().zip(std::mem::take(&mut prepared)).zip(&digests);
            for (((replacement, mut parts), digest), owner) in given.zip(owners.iter().copied()) {
                let time = replacement.time();
                if !reaches.end_before(replacement.scope_id, time.begin.timestamp()) {
                    owner.kept().check_replaceable(&transaction, time, self.beside_others).await?;
                }
                let streams = streams.of(owner);
                let stream =
                    intend_to_replace(&transaction, owner, streams, &mut parts, digest).await?;
                let offsets = vec![0; parts.len()];
                let write = stream.map(|stream| Write { owner, digest, stream, parts, offsets });
                writes.push(write);
            }
            let mut streams: Vec<_> =
                writes.iter_mut().flatten().map(|write| &mut write.stream).collect();
            streams::save_all(&transaction, &self.store, &mut streams).await?;
            let pushed: Vec<&Write<'_>> = writes.iter().flatten().collect();
            let has_entries =
                pushed.iter().any(|write| write.parts.iter().any(|part| !part.entries.is_empty()));
            if !has_entries {
                self.finish(&transaction, &steps, &pushed).await?;
                return Ok(transaction.commit().await.to("commit a period")?);
            }
            transaction.commit().await.to("note a push")?;
            match self.push(&pushed).await {
                Ok(()) => {
                    let transaction = self.database.begin().await?;
                    let superseded = self.finish(&transaction, &steps, &pushed).await?;
                    transaction.commit().await.to("commit a period")?;
                    self.clean_up(&superseded).await;
                    return Ok(());
                }
                // A stream is further than we know: after the loss of state,
                // perhaps. New ones take the periods.
                Err(error) if error.is_too_far_behind() && tries == 0 => {
                    let scopes: Vec<_> = pushed.iter().map(|write| write.owner.scope_id).collect();
                    let scopes = scopes.join("`, `");
                    warn!(
                        error = %error,
                        "A stream in Loki, of one of these scopes, is further than the state database says; what is rated goes into new ones: `{scopes}`"
                    );
                    let transaction = self.database.begin().await?;
                    for write in pushed {
                        write.owner.give_up_push(&transaction, &write.stream).await?;
                    }
                    transaction.commit().await.to("give up a push")?;
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
            // Of those that are kept already, nothing is left to write: made again,
            // they are found kept again.
            for (replacement, write) in replacements.iter().zip(writes) {
                prepared.push(match write {
                    Some(write) => write.parts,
                    None => prepare(replacement)?,
                });
            }
        }
    }

    /// Makes pushed periods count, in place of what their writers wrote before, and takes
    /// their steps. What is not among the writes is kept: the stop came between the
    /// storage's yes and the move of the scope's state. Gives what they superseded.
    async fn finish(
        &self,
        transaction: &Transaction,
        steps: &[Step<'_>],
        writes: &[&Write<'_>],
    ) -> Result<Vec<(i64, Span)>, StorageError> {
        Step::take_all(transaction, steps).await?;
        self.settle(transaction, writes, false).await
    }

    /// How far scopes reach that are written from a time on.
    async fn reaches(
        &self,
        transaction: &Transaction,
        scopes: &[&str],
        from: i64,
    ) -> Result<Reaches, StorageError> {
        Reaches::of(transaction, &self.store, &self.scope_key, scopes, from).await
    }

    pub(super) async fn write_beside(&self, frames: &[DataFrame]) -> Result<(), StorageError> {
        let scopes = scopes_of(frames, &self.scope_key);
        // One stream for each scope and length of period.
        let mut groups: BTreeMap<(&str, i64), BTreeMap<Period, Vec<Block<'_>>>> = BTreeMap::new();
        for block in sorted_blocks(frames, &scopes) {
            let group = groups.entry((block.scope_id, block.period.seconds())).or_default();
            group.entry(block.period).or_default().push(block);
        }
        let mut writes = Vec::new();
        let mut lines = LineWriter::new(self.client.format());
        for ((scope_id, _), periods) in groups {
            lines.forget();
            let prepare = |(period, blocks)| {
                Prepared::new(period, blocks, self.structured_metadata, &mut lines)
            };
            let parts = periods.into_iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
            writes.push((scope_id, parts));
        }
        let digests: Vec<String> =
            writes.iter().map(|(_, parts)| Prepared::digest(parts)).collect();
        let owners: Vec<Owner<'_>> =
            writes.iter().map(|(scope_id, _)| self.owner(scope_id, "")).collect();
        let transaction = self.database.begin().await?;
        let streams = Streams::of_all(&transaction, &owners).await?;
        let mut intended = Vec::with_capacity(writes.len());
        for (((_, mut parts), digest), owner) in writes.into_iter().zip(&digests).zip(owners) {
            let (stream, offsets) = intend_to_append(owner, streams.of(owner), &mut parts, digest)?;
            intended.push(Write { owner, digest, stream, parts, offsets });
        }
        let mut streams: Vec<_> = intended.iter_mut().map(|write| &mut write.stream).collect();
        streams::save_all(&transaction, &self.store, &mut streams).await?;
        transaction.commit().await.to("note a push")?;
        let writes: Vec<&Write<'_>> = intended.iter().collect();
        if let Err(error) = self.push(&writes).await {
            let transaction = self.database.begin().await?;
            for write in writes {
                match write.owner.give_up_push(&transaction, &write.stream).await {
                    // Someone else gave it up already.
                    Ok(()) | Err(StorageError::Overtaken(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            transaction.commit().await.to("give up a push")?;
            return Err(error.into());
        }
        let transaction = self.database.begin().await?;
        self.settle(&transaction, &writes, true).await?;
        Ok(transaction.commit().await.to("commit data points")?)
    }

    /// Pushes everything, in parts that Loki takes, as many at once as the
    /// client allows.
    async fn push(&self, writes: &[&Write<'_>]) -> Result<(), LokiError> {
        let labels: Vec<_> = writes.iter().map(|write| self.labels(&write.stream)).collect();
        let mut batches: Vec<Vec<StreamEntries<'_>>> = Vec::new();
        let (mut count, mut bytes) = (usize::MAX, usize::MAX);
        for (write, labels) in writes.iter().zip(&labels) {
            for entries in write.parts.iter().map(|part| part.entries.as_slice()) {
                let mut start = 0;
                for (at, entry) in entries.iter().enumerate() {
                    let is_full = count >= self.batch_entries
                        || bytes.saturating_add(entry.line.length) > self.batch_bytes;
                    if is_full {
                        if let Some(batch) = batches.last_mut().filter(|_| start < at) {
                            batch.push(StreamEntries { labels, entries: &entries[start..at] });
                        }
                        batches.push(Vec::new());
                        (start, count, bytes) = (at, 0, 0);
                    }
                    count += 1;
                    bytes += entry.line.length;
                }
                if let Some(batch) = batches.last_mut().filter(|_| start < entries.len()) {
                    batch.push(StreamEntries { labels, entries: &entries[start..] });
                }
            }
        }
        // Loki takes nothing that is far behind the newest of its stream: what
        // is of several periods goes one after the other.
        let is_long = writes.iter().any(|write| write.parts.len() > 1);
        let at_once = if is_long { 1 } else { self.pushes_at_once };
        let pushes: Vec<_> = batches.iter().map(|batch| self.client.push(batch).boxed()).collect();
        stream::iter(pushes).buffer_unordered(at_once).try_collect().await
    }

    /// Makes pushed entries count: appended ones beside what there is, others in place of
    /// what their writer wrote before. Gives what they superseded.
    async fn settle(
        &self,
        transaction: &Transaction,
        writes: &[&Write<'_>],
        appended: bool,
    ) -> Result<Vec<(i64, Span)>, StorageError> {
        let owners: Vec<Owner<'_>> = writes.iter().map(|write| write.owner).collect();
        let scopes: Vec<&str> = owners.iter().map(|owner| owner.scope_id).collect();
        let all = Streams::of_all(transaction, &owners).await?;
        let from = writes.iter().map(|write| write.time().0).min().unwrap_or(0);
        let reaches = self.reaches(transaction, &scopes, from).await?;
        let (mut superseded, mut settled) = (Vec::new(), Vec::with_capacity(writes.len()));
        let (mut heads, mut changes) = (Vec::new(), Changes::default());
        for write in writes {
            let (owner, (begin, end)) = (write.owner, write.time());
            let streams = all.of(owner);
            let is_waiting = |stream: &&Stream| {
                stream.id == write.stream.id
                    && stream.pending_ns.is_some()
                    && stream.digest == write.digest
            };
            let Some(stream) = streams.iter().find(is_waiting) else {
                return Err(StorageError::Overtaken(owner.scope_id.to_owned()));
            };
            if !appended {
                forget_digests(transaction, owner, &streams, stream, (begin, end)).await?;
                if !reaches.end_before(owner.scope_id, begin) {
                    let replaced =
                        replace_heads(transaction, owner, &streams, stream, (begin, end)).await?;
                    superseded.extend(replaced);
                }
            }
            for (part, offset) in write.parts.iter().zip(&write.offsets) {
                let mut offset = *offset;
                for block in &part.blocks {
                    let place = Place {
                        store: &self.store,
                        scope_key: &self.scope_key,
                        appended,
                        writer: owner.writer,
                        stream: Some((stream.id, offset)),
                    };
                    heads.push((place, block));
                    offset += i64::try_from(block.points.len()).unwrap_or(i64::MAX);
                }
            }
            changes.wrote(&self.scope_key, owner.scope_id, (begin, end));
            let mut stream = stream.clone();
            stream.known_ns = stream.pending_ns.take().unwrap_or(stream.known_ns);
            settled.push(stream);
        }
        write_heads(transaction, &heads).await?;
        let mut settled: Vec<&mut Stream> = settled.iter_mut().collect();
        streams::save_all(transaction, &self.store, &mut settled).await?;
        changes.save(transaction, &self.store).await?;
        Ok(superseded)
    }

    pub(super) async fn forget(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        step: &Step<'_>,
    ) -> Result<(), StorageError> {
        let (begin, end) = (begin.timestamp(), end.timestamp());
        let writer = step.writer();
        let owner = self.owner(scope_id, &writer);
        let transaction = self.database.begin().await?;
        step.take(&transaction).await?;
        let mut superseded = Vec::new();
        for mut stream in owner.streams(&transaction).await? {
            if stream.last < begin || stream.first >= end {
                continue;
            }
            if stream.last < end {
                owner.give_up(&transaction, &mut stream).await?;
            }
            // No further than the stream goes, so that it can be continued.
            let span = (stream.second_ns(begin), stream.second_ns(end).min(stream.known_ns));
            owner.supersede(&transaction, Some(stream.id), span).await?;
            superseded.push((stream.id, span));
            if stream.is_open() && (begin..end).contains(&stream.last) {
                if stream.appended {
                    // Further points of the same period would stand in the
                    // second that Loki may be asked to delete.
                    stream.close();
                } else {
                    // The same content counts only if it is pushed again.
                    stream.digest.clear();
                }
                streams::save(&transaction, &self.store, &stream).await?;
            }
        }
        // Of the reference's entries there are none from times to come.
        let now = self.clock.now().timestamp();
        let span = (begin.saturating_mul(SECOND), end.min(now).saturating_mul(SECOND));
        owner.supersede(&transaction, None, span).await?;
        owner.kept().delete(&transaction, (begin, end), true).await?;
        let mut changes = Changes::default();
        changes.removed(&self.scope_key, scope_id);
        changes.save(&transaction, &self.store).await?;
        transaction.commit().await.to("delete data points")?;
        self.clean_up(&superseded).await;
        Ok(())
    }

    /// Asks Loki to delete what no read sees any more, if so configured. That
    /// hides lines which are pushed later, too; there will be none, in this
    /// stream and time.
    async fn clean_up(&self, superseded: &[(i64, Span)]) {
        if !self.delete_superseded {
            return;
        }
        for (stream, (from, to)) in superseded {
            let deleted = async {
                let label = streams::label(self.database.connection(), *stream).await?;
                let selector = logql::own_streams(&self.common, &[label]);
                // No entry of another period is within the second after.
                let end = to.div_euclid(SECOND) + i64::from(to.rem_euclid(SECOND) > 0);
                self.client.delete(&selector, from.div_euclid(SECOND), end).await?;
                Ok::<_, StorageError>(())
            };
            if let Err(error) = deleted.await {
                warn!(error = %error, "Superseded entries stay in Loki, unread: {error}");
            }
        }
    }
}

/// What a scope's streams become when its periods will be pushed: the stream to be
/// saved; `None` if just these count already.
async fn intend_to_replace(
    transaction: &Transaction,
    owner: Owner<'_>,
    mut streams: Vec<Stream>,
    parts: &mut [Prepared<'_>],
    digest: &str,
) -> Result<Option<Stream>, StorageError> {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return Err(StorageError::Damaged("a replacement without periods".to_owned()));
    };
    let (period, last) = (first.period, last.begin());
    let (begin, length) = (first.begin(), period.seconds());
    let place = |parts: &mut [Prepared<'_>], stream: &Stream| {
        parts.iter_mut().try_for_each(|part| part.place(stream.start_ns(part.begin())).map(drop))
    };
    streams.retain(|stream| !stream.appended);
    let same =
        streams.iter().find(|s| s.last == last && s.period_seconds == length && s.digest == digest);
    if let Some(stream) = same {
        place(parts, stream)?;
        // Without a push on its way, it is kept.
        return Ok(stream.pending_ns.is_some().then(|| stream.clone()));
    }
    // Other content on its way for one of these periods loses.
    for stream in streams.iter_mut().filter(|s| s.is_pending_in((begin, last + length))) {
        owner.give_up(transaction, stream).await?;
    }
    let follows = streams
        .into_iter()
        .find(|s| s.last + length == begin && s.period_seconds == length && s.is_open());
    let mut stream = follows.unwrap_or_else(|| owner.new_stream(false, period));
    place(parts, &stream)?;
    stream.last = last;
    stream.uneven |= parts.iter().any(|part| part.uneven);
    // Whole seconds, so that queries over whole seconds can leave them out.
    stream.known_ns = stream.second_ns(begin);
    stream.pending_ns = Some(stream.second_ns(last) + SECOND);
    stream.digest = digest.to_owned();
    Ok(Some(stream))
}

/// What a stream becomes when points will be pushed beside what there is, and
/// the number of its entries before each part, within the part's period.
fn intend_to_append(
    owner: Owner<'_>,
    streams: Vec<Stream>,
    parts: &mut [Prepared<'_>],
    digest: &str,
) -> Result<(Stream, Vec<i64>), StorageError> {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return Err(StorageError::Damaged("a frame without points".to_owned()));
    };
    let (period, last) = (first.period, last.begin());
    let begin = period.begin.timestamp();
    // One with something on its way may be another process' of this moment.
    let free = streams.into_iter().find(|stream| {
        stream.appended
            && stream.is_open()
            && stream.period_seconds == period.seconds()
            && stream.last <= begin
    });
    let mut stream = free.unwrap_or_else(|| owner.new_stream(true, period));
    let mut offsets = Vec::with_capacity(parts.len());
    let mut end = stream.known_ns;
    for part in parts.iter_mut() {
        let start = stream.start_ns(part.begin());
        let offset = (end - start).max(0);
        end = part.place(start + offset)?;
        offsets.push(offset);
        stream.uneven |= part.uneven;
    }
    stream.last = last;
    stream.pending_ns = Some(end);
    stream.digest = digest.to_owned();
    Ok((stream, offsets))
}

/// Sees to it that what other streams held of a time does not count, should it come again.
async fn forget_digests(
    transaction: &Transaction,
    owner: Owner<'_>,
    known: &[Stream],
    stream: &Stream,
    (begin, end): (i64, i64),
) -> Result<(), StorageError> {
    let replaced = |s: &&Stream| !s.appended && s.id != stream.id && (begin..end).contains(&s.last);
    for old in known.iter().filter(replaced) {
        if old.pending_ns.is_none() && old.is_open() {
            let mut old = old.clone();
            old.digest.clear();
            streams::save(transaction, owner.store, &old).await?;
        }
    }
    Ok(())
}

/// Takes away the heads of a scope and time that are to be replaced, and
/// notes their entries in other streams as superseded.
async fn replace_heads(
    transaction: &Transaction,
    owner: Owner<'_>,
    known: &[Stream],
    stream: &Stream,
    (begin, end): (i64, i64),
) -> Result<Vec<(i64, Span)>, StorageError> {
    let action = "replace a period";
    let (condition, mut values) = owner.kept().rated();
    let sql = format!(
        "SELECT DISTINCT stream_id, begin_epoch FROM ratekitty_dataframes WHERE {condition} \
         AND begin_epoch >= ? AND begin_epoch < ?"
    );
    values.extend([begin.into(), end.into()]);
    let rows = transaction.query_all_raw(statement(transaction, &sql, values)).await;
    let mut superseded = Vec::new();
    for row in rows.to(action)? {
        let id: Option<i64> = row.try_get("", "stream_id").to(action)?;
        let old_begin: i64 = row.try_get("", "begin_epoch").to(action)?;
        let old = known.iter().find(|old| Some(old.id) == id && old.id != stream.id);
        if let Some(old) = old {
            let from = old.second_ns(old_begin);
            owner.supersede(transaction, Some(old.id), (from, from + SECOND)).await?;
            superseded.push((old.id, (from, from + SECOND)));
        }
    }
    owner.kept().delete(transaction, (begin, end), false).await?;
    Ok(superseded)
}
