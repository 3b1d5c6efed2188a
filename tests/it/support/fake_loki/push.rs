//! What a Loki does with a push: checks, and what is left of it is stored.

use super::{
    decode::{PushEntry, PushStream},
    go, labels,
    level::level,
    limits::Limits,
    store::Store,
};

/// Where a stream's `service_name` is taken from.
const SERVICE_LABELS: [&str; 10] = [
    "service",
    "app",
    "application",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "component",
    "workload",
    "job",
];
/// Refused entries that an answer names, per stream.
const NAMED_ENTRIES: usize = 10;

/// A status and the text of a refusal.
pub type Refusal = (u16, String);

/// A stream whose entries passed the distributor.
struct Checked {
    labels: Vec<(String, String)>,
    entries: Vec<PushEntry>,
}

/// Takes a push in; what is not refused is stored even so.
pub fn push(
    store: &mut Store,
    limits: &Limits,
    now: i64,
    tenant: &str,
    streams: Vec<PushStream>,
) -> Result<(), Refusal> {
    // Labels are parsed before anything else: one bad set refuses the whole push.
    let mut named = Vec::with_capacity(streams.len());
    for stream in streams {
        let set = labels::parse(&stream.labels)
            .map_err(|error| (400, format!("couldn't parse labels: {error}")))?;
        named.push((with_service(set), stream.entries));
    }
    if named.is_empty() {
        return Err((422, "error at least one valid stream is required for ingestion".to_owned()));
    }
    let mut errors = Vec::new();
    let mut checked = Vec::new();
    let (mut bytes, mut lines) = (0, 0);
    for (set, mut entries) in named.into_iter().filter(|(_, entries)| !entries.is_empty()) {
        let text = labels::text(set.iter().map(|(name, value)| (&**name, &**value)));
        if let Err(error) = label_names(&set, &text, limits) {
            errors.push(error);
            continue;
        }
        entries.retain_mut(|entry| match entry_is_fine(entry, &text, limits, now) {
            Ok(()) => {
                for (name, _) in &mut entry.meta {
                    *name = labels::normalised(name);
                }
                let level = level(&set, entry);
                entry.meta.push(("detected_level".to_owned(), level.to_owned()));
                bytes += size(entry);
                lines += 1;
                true
            }
            Err(error) => {
                errors.push(error);
                false
            }
        });
        if !entries.is_empty() {
            checked.push(Checked { labels: set, entries });
        }
    }
    let refused = if errors.is_empty() { Ok(()) } else { Err((400, grouped(&errors))) };
    if checked.is_empty() {
        return refused;
    }
    let bucket = &mut store.tenants.entry(tenant.to_owned()).or_default().bucket;
    if !bucket.take(now, limits.ingestion_rate_bytes, limits.ingestion_burst_bytes, bytes) {
        return Err((
            429,
            format!(
                "Ingestion rate limit exceeded for user {tenant} (limit: {} bytes/sec) while \
                 attempting to ingest '{lines}' lines totaling '{bytes}' bytes, reduce log volume \
                 or contact your Loki administrator to see if the limit can be increased",
                limits.ingestion_rate_bytes
            ),
        ));
    }
    // The error of the last stream is the one that is answered.
    let mut failed = Ok(());
    for stream in checked {
        if let Err(refusal) = append(store, limits, now, tenant, stream) {
            failed = Err(refusal);
        }
    }
    failed.and(refused)
}

/// The ingester's part.
fn append(
    store: &mut Store,
    limits: &Limits,
    now: i64,
    name: &str,
    checked: Checked,
) -> Result<(), Refusal> {
    let tenant = store.tenants.entry(name.to_owned()).or_default();
    let place = tenant.stream(&checked.labels, limits.max_streams).map_err(|text| {
        let why = format!(
            "Maximum active stream limit exceeded when trying to create stream {text}, reduce the \
             number of active streams (reduce labels or reduce label values), or contact your \
             Loki administrator to see if the limit can be increased, user: '{name}'"
        );
        (429, why)
    })?;
    let behind = limits.max_chunk_age * 1_000_000_000 / 2;
    let invisible = now - limits.query_ingesters_within * 1_000_000_000;
    let total = checked.entries.len();
    let mut ignored = Vec::new();
    let mut status = 400;
    for entry in checked.entries {
        let mut ignore = |code, why: String| {
            status = code;
            ignored.push((entry.ts, why));
        };
        let bytes = size(&entry);
        let meta = tenant.meta(&sorted(&entry.meta));
        let stream = &mut tenant.streams[place];
        let (rate, burst) = (limits.per_stream_rate_bytes, limits.per_stream_burst_bytes);
        if !stream.bucket.take(now, rate, burst, bytes) {
            ignore(
                429,
                format!(
                    "Per stream rate limit exceeded (limit: {}MB/sec) while attempting to ingest \
                     for stream '{}' totaling {bytes}B, consider splitting a stream via \
                     additional labels or contact your Loki administrator to see if the limit \
                     can be increased",
                    rate >> 20,
                    stream.text
                ),
            );
            continue;
        }
        let oldest = stream.newest.map(|newest| newest - behind);
        if let Some(oldest) = oldest.filter(|oldest| entry.ts < *oldest) {
            let (ts, oldest) = (go::rfc3339(entry.ts), go::rfc3339(oldest));
            ignore(
                400,
                format!(
                    "entry too far behind, entry timestamp is: {ts}, oldest acceptable timestamp \
                     is: {oldest}"
                ),
            );
            continue;
        }
        let visible = limits.query_ingesters_within == 0 || entry.ts >= invisible;
        stream.insert(entry.ts, &entry.line, meta, visible);
        store.bytes += entry.line.len() as u64;
    }
    if ignored.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for (ts, why) in ignored.iter().take(NAMED_ENTRIES) {
        let ts = go::time(*ts);
        text.push_str(&format!("entry with timestamp {ts} ignored, reason: '{why}',\n"));
    }
    let (count, stream) = (ignored.len(), &tenant.streams[place].text);
    text.push_str(&format!(
        "user '{name}', total ignored: {count} out of {total} for stream: {stream}"
    ));
    Err((status, text))
}

/// Bytes that an entry counts for.
fn size(entry: &PushEntry) -> u64 {
    let meta = entry.meta.iter().filter(|(name, _)| name != "detected_level");
    let meta: usize = meta.map(|(name, value)| name.len() + value.len()).sum();
    (entry.line.len() + meta) as u64
}

fn sorted(pairs: &[(String, String)]) -> Vec<(String, String)> {
    let mut pairs = pairs.to_vec();
    pairs.sort();
    pairs
}

fn with_service(mut set: Vec<(String, String)>) -> Vec<(String, String)> {
    if set.iter().all(|(name, _)| name != "service_name") {
        let value = |wanted| set.iter().find(|(name, _)| name == wanted).map(|(_, v)| v.clone());
        let found = SERVICE_LABELS.into_iter().find_map(value);
        let service = found.unwrap_or_else(|| "unknown_service".to_owned());
        set.push(("service_name".to_owned(), service));
        set.sort();
    }
    set
}

fn label_names(set: &[(String, String)], text: &str, limits: &Limits) -> Result<(), String> {
    let count = set.iter().filter(|(name, _)| name != "service_name").count();
    if count > limits.max_label_names {
        let limit = limits.max_label_names;
        return Err(format!("entry for stream '{text}' has {count} label names; limit {limit}"));
    }
    let mut last = "";
    for (name, value) in set {
        if name.len() > limits.max_label_name_length {
            return Err(format!("stream '{text}' has label name too long: '{name}'"));
        }
        if value.len() > limits.max_label_value_length {
            return Err(format!("stream '{text}' has label value too long: '{value}'"));
        }
        if last == name {
            return Err(format!("stream '{text}' has duplicate label name: '{name}'"));
        }
        last = name;
    }
    Ok(())
}

fn entry_is_fine(entry: &PushEntry, stream: &str, limits: &Limits, now: i64) -> Result<(), String> {
    let nanos = |seconds: i64| seconds.saturating_mul(1_000_000_000);
    let oldest = now.saturating_sub(nanos(limits.reject_old_samples_max_age));
    let ts = go::rfc3339(entry.ts);
    if entry.ts < oldest {
        let oldest = go::rfc3339(oldest);
        return Err(format!(
            "entry for stream '{stream}' has timestamp too old: {ts}, oldest acceptable timestamp \
             is: {oldest}"
        ));
    }
    if entry.ts > now + nanos(limits.creation_grace_period) {
        return Err(format!("entry for stream '{stream}' has timestamp too new: {ts}"));
    }
    let (length, limit) = (entry.line.len(), limits.max_line_size);
    if length > limit {
        return Err(format!(
            "Max entry size '{limit}' bytes exceeded for stream '{stream}' while adding an entry \
             with length '{length}' bytes"
        ));
    }
    let meta: usize = entry.meta.iter().map(|(name, value)| name.len() + value.len()).sum();
    let limit = limits.max_structured_metadata_size;
    if meta > limit {
        return Err(format!(
            "stream '{stream}' has structured metadata too large: '{meta}' bytes, limit: \
             '{limit}' bytes. Please see `limits_config.max_structured_metadata_size` or contact \
             your Loki administrator to increase it."
        ));
    }
    let (count, limit) = (entry.meta.len(), limits.max_structured_metadata_count);
    if count > limit {
        return Err(format!(
            "stream '{stream}' has too many structured metadata labels: '{count}', limit: \
             '{limit}'. Please see `limits_config.max_structured_metadata_entries_count` or \
             contact your Loki administrator to increase it."
        ));
    }
    Ok(())
}

/// Errors of one push as one text.
fn grouped(errors: &[String]) -> String {
    let mut kinds: Vec<(&String, usize)> = Vec::new();
    for error in errors {
        match kinds.iter_mut().find(|(kind, _)| *kind == error) {
            Some((_, count)) => *count += 1,
            None => kinds.push((error, 1)),
        }
    }
    let counted = errors.len() > 1;
    let line = |(kind, count): &(&String, usize)| match counted {
        true => format!("{count} errors like: {kind}"),
        false => (*kind).clone(),
    };
    kinds.iter().map(line).collect::<Vec<_>>().join("; ")
}
