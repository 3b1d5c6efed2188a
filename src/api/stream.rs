//! Pages of points that are sent as they are read, so that their size costs no
//! memory.

use std::{io, ops::ControlFlow, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::body::Body;
use futures::stream;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::error::ApiError;
use crate::storage::{Found, Page, PointSink, Selection, Storage, StorageError};

/// Points that make an answer which is sent as it is read.
pub(super) const LARGE: u64 = 5_000;

/// Longest wait for a client to take a piece of such an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What points look like in an answer.
pub(super) trait Shape: Send + 'static {
    /// The text before all points, of which there are `total`.
    fn begin(&mut self, total: u64) -> String;

    /// Adds points, which come ordered by period, and gives the text of what is
    /// complete.
    fn add(&mut self, points: Vec<Found>) -> String;

    /// The text of what is left, and what is behind all points.
    fn end(&mut self) -> String;
}

/// The points of a page of at most [`LARGE`]; nothing if the selection has none.
///
/// # Errors
/// What cannot be read.
pub(super) async fn text(
    storage: &Arc<dyn Storage>,
    selection: &Selection,
    page: Page,
    mut shape: impl Shape,
) -> Result<Option<String>, ApiError> {
    let retrieved = storage.retrieve(selection, page).await?;
    if retrieved.total == 0 {
        return Ok(None);
    }
    let mut text = shape.begin(retrieved.total);
    text.push_str(&shape.add(retrieved.points));
    text.push_str(&shape.end());
    Ok(Some(text))
}

/// How many points a selection has, and the body with those of a page of any size.
///
/// # Errors
/// What cannot be read. An error on the way ends the connection, so that nobody
/// takes a part for the whole.
pub(super) async fn body(
    storage: Arc<dyn Storage>,
    selection: Selection,
    page: Page,
    shape: impl Shape,
) -> Result<(u64, Body), ApiError> {
    let (sender, mut receiver) = mpsc::channel::<io::Result<String>>(2);
    let (first, begun) = oneshot::channel();
    tokio::spawn(async move {
        let mut sink = Sender { sender, first: Some(first), shape, before: None, is_cut: false };
        let result = storage.retrieve_into(&selection, page, &mut sink).await;
        sink.finish(result).await;
    });
    match begun.await {
        Ok(Ok(total)) => {
            let rest = stream::poll_fn(move |context| receiver.poll_recv(context));
            Ok((total, Body::from_stream(rest)))
        }
        Ok(Err(error)) => Err(error.into()),
        // The task ended without a word: it panicked.
        Err(_) => Err(StorageError::Changed.into()),
    }
}

/// Makes text of points and hands it to the connection.
struct Sender<S> {
    sender: mpsc::Sender<io::Result<String>>,
    /// Who waits for the total, or for the error that comes in its place.
    first: Option<oneshot::Sender<Result<u64, StorageError>>>,
    shape: S,
    /// Text that is not sent yet.
    before: Option<String>,
    /// Whether the client does not get the rest.
    is_cut: bool,
}

impl<S: Shape> Sender<S> {
    /// Sends; whether the client still takes anything.
    async fn send(&mut self, text: String) -> ControlFlow<()> {
        let text = match self.before.take() {
            Some(before) => before + &text,
            None => text,
        };
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
            (Ok(()), _) if !self.is_cut => {
                let end = self.shape.end();
                let _ = self.send(end).await;
            }
            (Ok(()), _) => {}
            (Err(error), Some(first)) => drop(first.send(Err(error))),
            (Err(error), None) => {
                error!(error = %error, "A page of dataframes ends before its end: {error}");
                let _ = self.sender.send(Err(io::Error::other(error))).await;
            }
        }
    }
}

#[async_trait]
impl<S: Shape> PointSink for Sender<S> {
    async fn total(&mut self, total: u64) {
        self.before = Some(self.shape.begin(total));
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(total));
        }
    }

    async fn points(&mut self, points: Vec<Found>) -> ControlFlow<()> {
        let text = self.shape.add(points);
        let sent = self.send(text).await;
        self.is_cut |= sent.is_break();
        sent
    }
}
