//! `/v2/dataframes`: rated data points, read and pushed.

use std::{io, ops::ControlFlow, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{NOTHING_FOUND, given, page, window};
use crate::{
    api::{
        AppState, body,
        error::ApiError,
        query::{Args, Kind, Spec},
    },
    storage::{Found, Page, PointSink, Selection, Storage, StorageError},
    time::{Period, isoformat},
};

const ARGS: &[Spec] = &[
    ("begin", Kind::Date),
    ("end", Kind::Date),
    ("filters", Kind::UniqueFilters),
    ("offset", Kind::Int(0)),
    ("limit", Kind::Int(1)),
];

/// Points that make an answer which is sent as it is read, so that its size
/// costs no memory.
const LARGE: u64 = 5_000;

/// Longest wait for a client to take a piece of such an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// `POST /v2/dataframes`: keeps points that are priced already, beside those that
/// are rated; all or, on error, none.
pub(in crate::api) async fn post(
    State(state): State<AppState>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let given = body::json(&headers, &bytes)?;
    drop(bytes);
    let frames = given::frames(&given)?;
    state.storage.append(&frames).await?;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((StatusCode::NO_CONTENT, kind).into_response())
}

/// `GET /v2/dataframes`: a page of points, merged by period.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    let (begin, end) = window(&state, &args);
    let selection = Selection { begin, end, filters: args.filters("filters") };
    let page = page(&args);
    let body = if page.limit <= LARGE {
        let retrieved = state.storage.retrieve(&selection, page).await?;
        if retrieved.total == 0 {
            return Err(ApiError::NotFound(NOTHING_FOUND.to_owned()));
        }
        let mut frames = Frames::new(retrieved.total);
        let mut text = frames.add(retrieved.points);
        text.push_str(&frames.end());
        Body::from(text)
    } else {
        stream_page(state.storage, selection, page).await?
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// A body that is read while it is sent. An error on the way ends the
/// connection, so that nobody takes a part for the whole.
async fn stream_page(
    storage: Arc<dyn Storage>,
    selection: Selection,
    page: Page,
) -> Result<Body, ApiError> {
    let (sender, mut receiver) = mpsc::channel::<io::Result<String>>(2);
    let (first, begun) = oneshot::channel();
    tokio::spawn(async move {
        let mut sink = Sender { sender, first: Some(first), frames: None };
        let result = storage.retrieve_into(&selection, page, &mut sink).await;
        sink.finish(result).await;
    });
    match begun.await {
        Ok(Ok(0)) => Err(ApiError::NotFound(NOTHING_FOUND.to_owned())),
        Ok(Ok(_)) => {
            Ok(Body::from_stream(stream::poll_fn(move |context| receiver.poll_recv(context))))
        }
        Ok(Err(error)) => Err(error.into()),
        // The task ended without a word: it panicked.
        Err(_) => Err(StorageError::Changed.into()),
    }
}

/// Makes text of points and hands it to the connection.
struct Sender {
    sender: mpsc::Sender<io::Result<String>>,
    /// Who waits for the total, or for the error that comes in its place.
    first: Option<oneshot::Sender<Result<u64, StorageError>>>,
    frames: Option<Frames>,
}

impl Sender {
    /// Sends; whether the client still takes anything.
    async fn send(&self, text: String) -> ControlFlow<()> {
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        match tokio::time::timeout(PATIENCE, self.sender.send(Ok(text))).await {
            Ok(Ok(())) => ControlFlow::Continue(()),
            // Gone, or too slow to be waited for.
            Ok(Err(_)) | Err(_) => ControlFlow::Break(()),
        }
    }

    async fn finish(mut self, result: Result<(), StorageError>) {
        match (result, self.first.take()) {
            (Ok(()), _) => {
                if let Some(mut frames) = self.frames.take()
                    && !frames.is_cut
                {
                    let _ = self.send(frames.end()).await;
                }
            }
            (Err(error), Some(first)) => drop(first.send(Err(error))),
            (Err(error), None) => {
                error!(error = %error, "A page of dataframes ends before its end: {error}");
                let _ = self.sender.send(Err(io::Error::other(error))).await;
            }
        }
    }
}

#[async_trait]
impl PointSink for Sender {
    async fn total(&mut self, total: u64) {
        self.frames = Some(Frames::new(total));
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(total));
        }
    }

    async fn points(&mut self, points: Vec<Found>) -> ControlFlow<()> {
        let Some(frames) = &mut self.frames else { return ControlFlow::Break(()) };
        let text = frames.add(points);
        let sent = self.send(text).await;
        if let (true, Some(frames)) = (sent.is_break(), &mut self.frames) {
            frames.is_cut = true;
        }
        sent
    }
}

/// The JSON of a page in the making.
struct Frames {
    /// Points in all.
    total: u64,
    /// Whether nothing is written yet.
    is_start: bool,
    /// Whether the client does not get the rest.
    is_cut: bool,
    /// Whether a frame is complete.
    has_frame: bool,
    /// The frame of the last period, to which more points may come: the text of
    /// the points of each type, in the order in which types appear.
    open: Option<(Period, Vec<(String, String)>)>,
}

impl Frames {
    fn new(total: u64) -> Self {
        Self { total, is_start: true, is_cut: false, has_frame: false, open: None }
    }

    /// Adds points, which come ordered by period, and gives the text of what is
    /// complete.
    fn add(&mut self, points: Vec<Found>) -> String {
        let mut text = String::new();
        if std::mem::take(&mut self.is_start) {
            text = format!("{{\"total\":{},\"dataframes\":[", self.total);
        }
        for (period, frame_type, point) in points {
            if self.open.as_ref().is_none_or(|(open, _)| *open != period) {
                self.close(&mut text);
                self.open = Some((period, Vec::new()));
            }
            let Some((_, usage)) = &mut self.open else { continue };
            let point = point.to_json().to_string();
            match usage.iter_mut().find(|(known, _)| *known == frame_type) {
                Some((_, points)) => {
                    points.push(',');
                    points.push_str(&point);
                }
                None => usage.push((frame_type, point)),
            }
        }
        text
    }

    /// Adds the open frame to the text.
    fn close(&mut self, text: &mut String) {
        let Some((period, usage)) = self.open.take() else { return };
        if std::mem::replace(&mut self.has_frame, true) {
            text.push(',');
        }
        let period = json!({"begin": isoformat(period.begin), "end": isoformat(period.end)});
        text.push_str(&format!("{{\"period\":{period},\"usage\":{{"));
        for (at, (frame_type, points)) in usage.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            text.push_str(&format!("{comma}{}:[{points}]", json!(frame_type)));
        }
        text.push_str("}}");
    }

    /// The text of what is left.
    fn end(&mut self) -> String {
        let mut text = self.add(Vec::new());
        self.close(&mut text);
        text.push_str("]}");
        text
    }
}
