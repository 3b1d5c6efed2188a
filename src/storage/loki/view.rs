//! What counts at one moment: a view of the streams, taken from the state
//! database, by which Loki is read.
//!
//! While Loki is asked, others write. A view says which times of which streams
//! it knows, and only these are read, so that a sum never holds half a period.
//! At first it is taken for likely that a stream which has nothing on its way
//! will not be written meanwhile, since then most streams are read over one
//! and the same time; if that was wrong, each is read no further than known.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sea_orm::{ConnectionTrait, DatabaseTransaction, Value as SqlValue};

use super::{
    slices::{Slice, Source},
    streams::{self, SECOND, Span, Stream},
};
use crate::{
    state::{Context, integer_sum, statement},
    storage::{Mark, Selection, StorageError},
};

/// Streams and what counts of them in a window.
#[derive(Debug, Clone)]
pub struct View {
    /// First begin of a period, and first one that is not in, in seconds.
    window: (i64, i64),
    /// The streams that have points in the window.
    pub streams: Vec<Stream>,
    superseded: HashMap<i64, Vec<Span>>,
    /// How many points there are in the streams.
    pub points: u64,
    /// For each scope key and scope, times in which entries of the reference do
    /// not count.
    hidden: Hidden,
    /// What the window was at this moment.
    pub mark: Mark,
}

type Hidden = BTreeMap<String, HashMap<String, Vec<Span>>>;

/// Streams that are read over the same times.
struct Class {
    uneven: bool,
    names: Vec<String>,
    spans: Vec<Span>,
}

impl View {
    /// The view of a window. A filter on the scope narrows it.
    pub async fn load(
        connection: &DatabaseTransaction,
        store: &str,
        scope_key: &str,
        selection: &Selection,
    ) -> Result<Self, StorageError> {
        let window = (selection.begin.timestamp(), selection.end.timestamp());
        let mut streams = streams::in_window(connection, store, window).await?;
        for (_, wanted) in selection.filters.iter().filter(|(key, _)| key == scope_key) {
            streams.retain(|s| s.scope_key != scope_key || wanted.contains(&s.scope_id));
        }
        let mut hidden = Hidden::new();
        let mut hide = |scope_key: &str, scope_id: String, span: Span| {
            let scopes = hidden.entry(scope_key.to_owned()).or_default();
            scopes.entry(scope_id).or_default().push(span);
        };
        for stream in streams.iter().filter(|stream| !stream.appended) {
            let covered = (stream.first, stream.covered_until());
            let span = (covered.0.saturating_mul(SECOND), covered.1.saturating_mul(SECOND));
            hide(&stream.scope_key, stream.scope_id.clone(), span);
        }
        // Entries of a period stand up to its length behind its begin.
        let longest = streams.iter().map(|s| Stream::shift(s.period_seconds)).max().unwrap_or(0);
        let until = window.1.saturating_add(longest).saturating_mul(SECOND);
        let time = (window.0.saturating_mul(SECOND), until);
        let mut superseded: HashMap<i64, Vec<Span>> = HashMap::new();
        for note in streams::superseded(connection, store, time).await? {
            match note.stream {
                Some(stream) => superseded.entry(stream).or_default().push(note.span),
                None => hide(&note.scope_key, note.scope_id, note.span),
            }
        }
        let mark = Mark::of(connection, store, scope_key, selection).await?;
        let held = held(connection, store, window).await?;
        streams.retain(|stream| held.contains_key(&stream.id));
        let held: Vec<&Held> = streams.iter().filter_map(|stream| held.get(&stream.id)).collect();
        let points = held.iter().map(|held| held.points).sum();
        // No further than there is anything.
        let first = held.iter().map(|held| held.first).min().unwrap_or(window.1);
        let last = held.iter().map(|held| held.last + 1).max().unwrap_or(first);
        let window = (first, last);
        Ok(Self { window, streams, superseded, points, hidden, mark })
    }

    /// The same streams over a narrower time. How many points they have there
    /// is not told.
    pub fn narrowed(&self, window: (i64, i64)) -> Self {
        Self { window, points: 0, ..self.clone() }
    }

    /// Time of the entries of a stream whose periods are in the window.
    fn span(&self, stream: &Stream) -> Span {
        (stream.second_ns(self.window.0), stream.second_ns(self.window.1))
    }

    /// The times of a stream that count; `cautious` ends them where nothing
    /// more is known, else only where something is on its way.
    fn spans(&self, stream: &Stream, cautious: bool) -> Vec<Span> {
        let (from, mut to) = self.span(stream);
        if cautious || stream.pending_ns.is_some() {
            to = to.min(stream.known_ns);
        }
        let mut excluded: Vec<Span> = self.superseded.get(&stream.id).cloned().unwrap_or_default();
        excluded.sort_unstable();
        let mut spans = Vec::new();
        let mut at = from;
        for (begin, end) in excluded {
            if begin >= to {
                break;
            }
            if begin > at {
                spans.push((at, begin));
            }
            at = at.max(end);
        }
        if at < to {
            spans.push((at, to));
        }
        spans
    }

    /// What is to be read, as few slices as possible, of at most `seconds`:
    /// those that Loki's expressions can tell, and the others.
    pub fn slices(&self, cautious: bool, seconds: i64) -> (Vec<Slice>, Vec<Slice>) {
        let mut classes: BTreeMap<(bool, Vec<Span>), Vec<String>> = BTreeMap::new();
        for stream in &self.streams {
            let spans = self.spans(stream, cautious);
            classes.entry((stream.uneven, spans)).or_default().push(stream.label.clone());
        }
        let (mut even, mut uneven) = (Vec::new(), Vec::new());
        for ((is_uneven, spans), names) in classes {
            let class = Class { uneven: is_uneven, names, spans };
            for span in class.spans {
                let slice = Slice::new(Source::Own(class.names.clone()), span);
                if class.uneven {
                    uneven.extend(slice.pieces(seconds));
                    continue;
                }
                let (whole, rest) = slice.whole_seconds();
                even.extend(whole.into_iter().flat_map(|slice| slice.pieces(seconds)));
                uneven.extend(rest.into_iter().flat_map(|slice| slice.pieces(seconds)));
            }
        }
        (even, uneven)
    }

    /// Whether a later view shows that a stream was written beyond what this
    /// one knew.
    pub fn was_overtaken(&self, later: &Self) -> bool {
        let now: HashMap<i64, &Stream> = later.streams.iter().map(|s| (s.id, s)).collect();
        self.streams.iter().any(|stream| now.get(&stream.id).is_none_or(|now| *now != stream))
    }

    /// Whether the same entries of the reference before an instant do not count.
    pub fn hides_as(&self, other: &Self, until: i64) -> bool {
        let clipped = |view: &Self| -> BTreeSet<(String, String, Span)> {
            let all = view.hidden.iter().flat_map(|(key, scopes)| {
                let spans =
                    scopes.iter().flat_map(|(id, spans)| spans.iter().map(move |s| (id, s)));
                spans.map(move |(id, (from, to))| (key.clone(), id.clone(), (*from, *to)))
            });
            let early = all.filter(|(_, _, (from, _))| *from < until);
            early.map(|(key, id, (from, to))| (key, id, (from, to.min(until)))).collect()
        };
        clipped(self) == clipped(other)
    }

    /// The first instant from which entries of the reference may not count.
    pub fn hidden_from(&self) -> i64 {
        let spans = self.hidden.values().flat_map(HashMap::values).flatten();
        spans.filter(|(from, to)| from < to).map(|(from, _)| *from).min().unwrap_or(i64::MAX)
    }

    /// Whether an entry of the reference at an instant does not count, of the
    /// scope that `scope_of` tells for each scope key.
    pub fn hides(&self, timestamp: i64, scope_of: impl Fn(&str) -> String) -> bool {
        self.hidden.iter().any(|(scope_key, scopes)| {
            let spans = scopes.get(&scope_of(scope_key));
            spans.is_some_and(|spans| {
                spans.iter().any(|(from, to)| (*from..*to).contains(&timestamp))
            })
        })
    }
}

/// What heads of a window say of a stream.
struct Held {
    points: u64,
    /// Begin of the first period.
    first: i64,
    /// Begin of the last one.
    last: i64,
}

/// What each stream holds of a window.
async fn held(
    connection: &DatabaseTransaction,
    store: &str,
    (begin, end): (i64, i64),
) -> Result<HashMap<i64, Held>, StorageError> {
    let action = "count points";
    let sql = format!(
        "SELECT stream_id, {} AS points, MIN(begin_epoch) AS first_epoch, \
         MAX(begin_epoch) AS last_epoch FROM ratekitty_dataframes \
         WHERE store = ? AND begin_epoch >= ? AND begin_epoch < ? GROUP BY stream_id",
        integer_sum(connection, "points")
    );
    let values = [SqlValue::from(store), begin.into(), end.into()];
    let rows = connection.query_all_raw(statement(connection, &sql, values)).await;
    let mut found = HashMap::new();
    for row in rows.to(action)? {
        let number = |name| row.try_get::<i64>("", name).to(action);
        let points = u64::try_from(number("points")?).unwrap_or_default();
        let held = Held { points, first: number("first_epoch")?, last: number("last_epoch")? };
        found.insert(number("stream_id")?, held);
    }
    Ok(found)
}
