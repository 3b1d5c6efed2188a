//! `GET /v2/dataframes`: rated data points.

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::{Map, Value, json};
use tracing::error;

use super::{NOTHING_FOUND, page, window};
use crate::{
    api::{
        AppState,
        error::ApiError,
        query::{Args, Kind, Spec},
    },
    storage::{Page, Retrieved, Selection, Storage, StorageError},
    time::{Period, isoformat},
};

const ARGS: &[Spec] = &[
    ("begin", Kind::Date),
    ("end", Kind::Date),
    ("filters", Kind::UniqueFilters),
    ("offset", Kind::Int(0)),
    ("limit", Kind::Int(1)),
];

/// Points asked of the storage at a time. A larger page is sent as it is read,
/// so that its size costs no memory.
const CHUNK: u64 = 5_000;

/// `GET /v2/dataframes`: a page of points, merged by period.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    let (begin, end) = window(&state, &args);
    let selection = Selection { begin, end, filters: args.filters("filters") };
    let page = page(&args);
    let first = Page { offset: page.offset, limit: page.limit.min(CHUNK) };
    let retrieved = state.storage.retrieve(&selection, first).await?;
    if retrieved.total == 0 {
        return Err(ApiError::NotFound(NOTHING_FOUND));
    }
    let left = retrieved.total.saturating_sub(page.offset).min(page.limit);
    let mut frames = Frames::new(retrieved.total, left);
    let start = frames.add(retrieved);
    let body = if frames.left == 0 {
        Body::from(format!("{start}{}", frames.end()))
    } else {
        let pages = Pages { storage: state.storage, selection, offset: page.offset, frames };
        Body::from_stream(stream::try_unfold((Some(start), Some(pages)), next_text))
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The pages that are still to be sent.
struct Pages {
    storage: Arc<dyn Storage>,
    selection: Selection,
    offset: u64,
    frames: Frames,
}

/// What is ready to be sent, and what comes after it.
type Rest = (Option<String>, Option<Pages>);

/// The next piece of a streamed body. An error ends the connection, so that
/// nobody takes a part for the whole.
async fn next_text((ready, pages): Rest) -> Result<Option<(String, Rest)>, io::Error> {
    if let Some(text) = ready {
        return Ok(Some((text, (None, pages))));
    }
    let Some(mut pages) = pages else { return Ok(None) };
    if pages.frames.left == 0 {
        return Ok(Some((pages.frames.end(), (None, None))));
    }
    pages.offset += CHUNK;
    let page = Page { offset: pages.offset, limit: pages.frames.left.min(CHUNK) };
    let retrieved = pages.storage.retrieve(&pages.selection, page).await;
    let retrieved = retrieved.and_then(|retrieved| {
        // Fewer points than announced would mean to ask for ever.
        let is_same = retrieved.total == pages.frames.total && !retrieved.points.is_empty();
        if is_same { Ok(retrieved) } else { Err(StorageError::Changed) }
    });
    match retrieved {
        Ok(retrieved) => {
            let text = pages.frames.add(retrieved);
            Ok(Some((text, (None, Some(pages)))))
        }
        Err(error) => {
            error!(error = %error, "A page of dataframes ends before its end: {error}");
            Err(io::Error::other(error))
        }
    }
}

/// The JSON of a page in the making.
struct Frames {
    /// Points in all.
    total: u64,
    /// Points of the page that are not here yet.
    left: u64,
    /// Whether nothing is written yet.
    is_start: bool,
    /// The frame of the last period, to which more points may come. Types keep
    /// the order in which they appear.
    open: Option<(Period, Map<String, Value>)>,
}

impl Frames {
    fn new(total: u64, left: u64) -> Self {
        Self { total, left, is_start: true, open: None }
    }

    /// Adds points and gives the text of what is complete.
    fn add(&mut self, retrieved: Retrieved) -> String {
        let mut text = String::new();
        if self.is_start {
            text = format!("{{\"total\":{},\"dataframes\":[", self.total);
        }
        self.left = self.left.saturating_sub(retrieved.points.len() as u64);
        // Points come ordered by period, so one frame's are together.
        for (period, frame_type, point) in &retrieved.points {
            if self.open.as_ref().is_none_or(|(open, _)| open != period) {
                text.push_str(&self.close());
                self.open = Some((*period, Map::new()));
            }
            if let Some((_, usage)) = &mut self.open {
                let points = usage.entry(frame_type.clone()).or_insert_with(|| json!([]));
                if let Value::Array(points) = points {
                    points.push(point.to_json());
                }
            }
        }
        text
    }

    /// The text of the open frame.
    fn close(&mut self) -> String {
        let Some((period, usage)) = self.open.take() else { return String::new() };
        let comma = if std::mem::take(&mut self.is_start) { "" } else { "," };
        let period = json!({"begin": isoformat(period.begin), "end": isoformat(period.end)});
        format!("{comma}{}", json!({"period": period, "usage": usage}))
    }

    /// The text of what is left.
    fn end(&mut self) -> String {
        format!("{}]}}", self.close())
    }
}
