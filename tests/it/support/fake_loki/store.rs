//! What was pushed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use super::{
    deletes::Delete,
    labels::{self, Labels},
};

/// A stored line.
pub struct Entry {
    /// In nanoseconds.
    pub ts: i64,
    /// Of the line, so that equal ones are found fast.
    hash: u64,
    /// As pushed.
    pub line: Box<str>,
    /// Structured metadata, the detected level included.
    pub meta: Arc<Labels>,
    /// Whether a query sees it without a flush.
    pub visible: bool,
}

/// Lines of one label set, sorted by time; those of one instant in the order
/// of their pushes.
pub struct Stream {
    /// Sorted, `service_name` among them.
    pub labels: Labels,
    /// The labels as a selector.
    pub text: Arc<str>,
    /// Its lines.
    pub entries: Vec<Entry>,
    /// Timestamp of the newest line.
    pub newest: Option<i64>,
    /// Bytes that it may take.
    pub bucket: Bucket,
}

impl Stream {
    /// Stores a line unless it is there.
    pub fn insert(&mut self, ts: i64, line: &str, meta: Arc<Labels>, visible: bool) -> bool {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(line);
        let end = self.entries.partition_point(|entry| entry.ts <= ts);
        let known = self.entries[..end]
            .iter()
            .rev()
            .take_while(|entry| entry.ts == ts)
            .any(|entry| entry.hash == hash && *entry.line == *line);
        if !known {
            self.entries.insert(end, Entry { ts, hash, line: line.into(), meta, visible });
        }
        self.newest = self.newest.max(Some(ts));
        !known
    }

    /// Lines of `from..to`.
    pub fn between(&self, from: i64, to: i64) -> &[Entry] {
        let begin = self.entries.partition_point(|entry| entry.ts < from);
        let end = self.entries.partition_point(|entry| entry.ts < to);
        &self.entries[begin..end.max(begin)]
    }
}

/// A token bucket.
#[derive(Default)]
pub struct Bucket {
    /// Bytes left and when they were counted.
    state: Option<(f64, i64)>,
}

impl Bucket {
    /// Takes `bytes` out if they are there; a rate of 0 is without limit.
    pub fn take(&mut self, now: i64, rate: u64, burst: u64, bytes: u64) -> bool {
        if rate == 0 {
            return true;
        }
        let (left, then) = self.state.unwrap_or((burst as f64, now));
        let gained = (now - then).max(0) as f64 / 1e9 * rate as f64;
        let left = (left + gained).min(burst as f64);
        let enough = left >= bytes as f64;
        self.state = Some((if enough { left - bytes as f64 } else { left }, now));
        enough
    }
}

/// What a tenant pushed.
#[derive(Default)]
pub struct Tenant {
    /// In the order of their first pushes.
    pub streams: Vec<Stream>,
    /// Places of streams by their labels.
    index: HashMap<Arc<str>, usize>,
    /// Sets of structured metadata, kept once each.
    metas: HashSet<Arc<Labels>>,
    /// Names and values of labels, kept once each.
    names: HashSet<Arc<str>>,
    /// Bytes that it may push.
    pub bucket: Bucket,
    /// What it asked to delete.
    pub deletes: Vec<Delete>,
}

impl Tenant {
    /// Place of the stream with these labels, made if there is room for it.
    pub fn stream(&mut self, labels: &[(String, String)], max: usize) -> Result<usize, String> {
        let text = labels::text(labels.iter().map(|(name, value)| (&**name, &**value)));
        if let Some(&at) = self.index.get(text.as_str()) {
            return Ok(at);
        }
        if max != 0 && self.streams.len() >= max {
            return Err(text);
        }
        let labels = self.interned(labels);
        let text: Arc<str> = text.into();
        self.index.insert(text.clone(), self.streams.len());
        let bucket = Bucket::default();
        self.streams.push(Stream { labels, text, entries: Vec::new(), newest: None, bucket });
        Ok(self.streams.len() - 1)
    }

    fn interned(&mut self, pairs: &[(String, String)]) -> Labels {
        let mut name = |text: &str| match self.names.get(text) {
            Some(known) => known.clone(),
            None => {
                let new: Arc<str> = text.into();
                self.names.insert(new.clone());
                new
            }
        };
        pairs.iter().map(|(n, v)| (name(n), name(v))).collect()
    }

    /// Structured metadata, shared with every equal one.
    pub fn meta(&mut self, pairs: &[(String, String)]) -> Arc<Labels> {
        let set = Arc::new(self.interned(pairs));
        match self.metas.get(&set) {
            Some(known) => known.clone(),
            None => {
                self.metas.insert(set.clone());
                set
            }
        }
    }
}

/// What all tenants pushed.
#[derive(Default)]
pub struct Store {
    /// By their names.
    pub tenants: BTreeMap<String, Tenant>,
    /// Bytes of accepted lines.
    pub bytes: u64,
}

impl Store {
    /// Shows everything to queries.
    pub fn flush(&mut self) {
        let streams = self.tenants.values_mut().flat_map(|tenant| &mut tenant.streams);
        for entry in streams.flat_map(|stream| &mut stream.entries) {
            entry.visible = true;
        }
    }
}
