//! Errors of the API: the one place where HTTP status codes are decided.

use std::sync::Arc;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::{error, info};

use super::{
    access::Forbidden,
    answer::{self, Answer},
};
use crate::{state::StateError, storage::StorageError};

/// What a client is told whose text the database has no place for: on MariaDB one
/// with characters of four bytes, on PostgreSQL one with a NUL.
const REFUSED_TEXT: &str =
    "A text is longer than the database keeps, or has a character that it has not.";

/// Why a request has no proper answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The client's mistake, told to it.
    #[error("{0}")]
    BadRequest(String),
    /// The policy does not allow it.
    #[error("You are not authorized to perform this action")]
    Forbidden(Forbidden),
    /// There is nothing that fits.
    #[error("{0}")]
    NotFound(String),
    /// A body of another type than JSON.
    #[error(
        "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
    )]
    NotJson,
    /// A body that is larger than it may be.
    #[error("The body of the request is too large.")]
    TooLarge,
    /// Dataframes cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state database cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// What another request for the same has failed with.
    #[error(transparent)]
    Shared(Arc<ApiError>),
}

impl From<Forbidden> for ApiError {
    fn from(forbidden: Forbidden) -> Self {
        Self::Forbidden(forbidden)
    }
}

impl ApiError {
    /// After how many seconds the same request may succeed, for errors that pass.
    pub(super) fn retry_after(&self) -> u32 {
        match self {
            // Loki shows entries once it has flushed their chunk.
            Self::Storage(StorageError::NotShown { .. }) => 300,
            Self::Shared(error) => error.retry_after(),
            _ => 5,
        }
    }

    /// Whether it is about a text that no column can hold, nor be compared with.
    fn is_refused_text(&self) -> bool {
        match self {
            Self::State(error) | Self::Storage(StorageError::State(error)) => {
                error.is_refused_value()
            }
            Self::Shared(error) => error.is_refused_text(),
            _ => false,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            problem if problem.is_refused_text() => StatusCode::BAD_REQUEST,
            // What a client pushes may be too old, or in the future.
            Self::Storage(error) if error.is_refused() => StatusCode::BAD_REQUEST,
            Self::Storage(StorageError::GroupbyTime(_) | StorageError::LongLine { .. }) => {
                StatusCode::BAD_REQUEST
            }
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Shared(error) => error.status(),
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            // A peer is away or behind; the same request may succeed later.
            Self::Storage(
                StorageError::State(_)
                | StorageError::Loki(_)
                | StorageError::NotShown { .. }
                | StorageError::Changed
                | StorageError::Crossing { .. }
                | StorageError::OtherCollector { .. }
                | StorageError::Overtaken(_),
            )
            | Self::State(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Storage(StorageError::Damaged(_) | StorageError::TooMany { .. }) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

/// An error of version 2.
#[derive(Serialize, JsonSchema)]
pub(super) struct Message<'a> {
    message: &'a str,
}

impl Answer for Message<'_> {}

/// The JSON body of an error in v2.
pub(super) fn v2_body(message: &str) -> Response {
    let body = answer::json(&Message { message });
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

impl ApiError {
    /// The status, and what the client is told.
    pub(super) fn told(&self) -> (StatusCode, String) {
        let status = self.status();
        if self.is_refused_text() {
            info!(error = %self, "The database has no such text: {self}");
            return (status, REFUSED_TEXT.to_owned());
        }
        if !status.is_server_error() {
            return (status, self.to_string());
        }
        // Logged once, here; what is wrong inside is not the client's to know.
        error!(error = %self, "A request failed: {self}");
        let text = match status {
            StatusCode::SERVICE_UNAVAILABLE => "The service is temporarily unavailable.",
            _ => "Internal Server Error",
        };
        (status, text.to_owned())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, text) = self.told();
        let mut response = (status, v2_body(&text)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, self.retry_after().into());
        }
        response
    }
}
