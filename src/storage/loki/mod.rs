//! Dataframes in Grafana Loki.
//!
//! ```text
//! write.rs     heads and intent → push → commit     streams.rs: which entries count
//! read.rs      sums: heads, or LogQL, or lines      view.rs: what counts now
//! retrieve.rs  pages of points, points.rs           lines.rs: all lines of a time
//! question.rs, slices.rs, logql.rs                  what is asked, in parts, as text
//! line.rs, push.rs, client.rs, error.rs             lines and Loki's HTTP API
//! ```
//!
//! Log lines are the reference's (CloudKitty 25.0.0), so that either program
//! reads what the other wrote. The state database keeps, as for every backend,
//! one head per scope, period and type with exact sums, and here also the place
//! of the entries. By it, reads are answered or checked: what Loki has taken
//! and does not show yet is never missing without a word.

mod client;
mod error;
mod line;
mod lines;
mod logql;
mod points;
mod probe;
mod push;
mod question;
mod read;
mod retrieve;
mod slices;
mod streams;
mod view;
mod write;

use std::sync::{Arc, atomic::AtomicI64};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

pub use client::LokiClient;
pub use error::{LokiError, QueryLimit};

use super::{
    Finding, GroupKey, Mark, Page, PointSink, Replacement, Selection, Storage, StorageError, Totals,
};
use crate::{
    config::{Config, sections::storage_loki::StorageLoki},
    dataframe::DataFrame,
    http::ClientError,
    state::{Database, Step},
    time::{Clock, Period},
};

/// Storage in a Loki.
#[derive(Debug)]
pub struct LokiStorage {
    database: Database,
    client: LokiClient,
    clock: Arc<dyn Clock>,
    /// Name of this store in the state database.
    store: String,
    /// Labels of all streams.
    common: Vec<(String, String)>,
    /// Label that names the scope.
    scope_key: String,
    /// Whether periods may be rated that another collector has rated.
    beside_others: bool,
    structured_metadata: bool,
    read_cloudkitty_entries: bool,
    delete_superseded: bool,
    batch_entries: usize,
    batch_bytes: usize,
    shard_days: u32,
    /// Longest time of one query, in seconds.
    longest_query: AtomicI64,
    pushes_at_once: usize,
    queries_at_once: usize,
    entry_limit: read::EntryLimit,
}

impl LokiStorage {
    /// The storage of `[storage_loki]`, its state in `database`.
    ///
    /// # Errors
    /// Certificates and keys that cannot be read.
    pub fn new(
        config: &Config,
        database: Database,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let settings = &config.storage_loki;
        Ok(Self {
            database,
            client: LokiClient::new(settings, config.ratekitty.max_response_bytes)?,
            clock,
            store: store_name(settings),
            common: settings.stream.clone(),
            scope_key: config.collect.scope_key.clone(),
            beside_others: config.ratekitty.beside_other_collectors,
            structured_metadata: settings.structured_metadata,
            read_cloudkitty_entries: settings.read_cloudkitty_entries,
            delete_superseded: settings.delete_superseded,
            batch_entries: settings.batch_entries,
            batch_bytes: settings.batch_bytes,
            shard_days: settings.shard_days,
            longest_query: AtomicI64::new(i64::from(settings.shard_days) * 86_400),
            pushes_at_once: settings.pushes_at_once,
            queries_at_once: settings.queries_at_once,
            entry_limit: read::EntryLimit::new(settings.max_query_entries),
        })
    }
}

impl LokiStorage {
    /// Whether all that is read leaves notes: what the reference writes, or Loki forgets of
    /// it, does not.
    fn is_marked(&self) -> bool {
        !self.read_cloudkitty_entries
    }
}

/// Name of a store: its tenant and labels, whatever the URLs are.
fn store_name(settings: &StorageLoki) -> String {
    let mut hash = Sha256::new();
    let pairs = settings.stream.iter().flat_map(|(name, value)| [name, value]);
    for text in std::iter::once(&settings.tenant).chain(pairs) {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    let digits: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("loki:{digits}")
}

#[async_trait]
impl Storage for LokiStorage {
    async fn replace_all(&self, replacements: &[Replacement<'_>]) -> Result<(), StorageError> {
        self.write_replacing(replacements).await
    }

    async fn append(&self, frames: &[DataFrame]) -> Result<(), StorageError> {
        self.write_beside(frames).await
    }

    async fn retrieve_into(
        &self,
        selection: &Selection,
        page: Page,
        sink: &mut dyn PointSink,
    ) -> Result<(), StorageError> {
        self.read_page(selection, page, sink).await
    }

    async fn total(
        &self,
        selection: &Selection,
        groupby: &[GroupKey],
        page: Page,
    ) -> Result<Totals, StorageError> {
        self.sum(selection, groupby, page).await
    }

    async fn mark(&self, selection: &Selection) -> Result<Option<Mark>, StorageError> {
        if !self.is_marked() {
            return Ok(None);
        }
        let connection = self.database.connection();
        Mark::of(connection, &self.store, &self.scope_key, selection).await.map(Some)
    }

    async fn delete(
        &self,
        scope_id: &str,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        step: &Step<'_>,
    ) -> Result<(), StorageError> {
        self.forget(scope_id, begin, end, step).await
    }

    async fn crossing(
        &self,
        scope_id: &str,
        writer: &str,
        time: Period,
    ) -> Result<Option<Period>, StorageError> {
        let (begin, end) = (time.begin.timestamp(), time.end.timestamp());
        self.owner(scope_id, writer).kept().crossing(self.database.connection(), begin, end).await
    }

    async fn probe(&self) -> Vec<Finding> {
        self.examine().await
    }
}
