//! Errors of version 1, as the reference's library WSME tells them.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::error;

use super::written::answer;
use crate::{
    api::{access::Forbidden, answer::Answer, error::ApiError},
    rating::{RatingError, edit::EditError},
    state::StateError,
    storage::StorageError,
};

/// Why a request of version 1 has no proper answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The client's mistake, told to it.
    #[error("{1}")]
    Client(StatusCode, String),
    /// Something could not be rated.
    #[error(transparent)]
    Rating(RatingError),
    /// Dataframes cannot be read, or the state database cannot be used.
    #[error(transparent)]
    Read(#[from] ApiError),
}

impl Fault {
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::Client(StatusCode::BAD_REQUEST, text.into())
    }

    /// What is wrong with an argument or one of its keys.
    pub fn invalid(field: &str, value: &str, problem: &str) -> Self {
        Self::bad_request(format!(
            "Invalid input for field/attribute {field}. Value: '{value}'. {problem}"
        ))
    }

    pub fn missing(argument: &str) -> Self {
        Self::bad_request(format!("Missing argument: \"{argument}\""))
    }
}

impl From<EditError> for Fault {
    fn from(error: EditError) -> Self {
        let text = error.to_string();
        match error {
            EditError::Missing(_) => Self::Client(StatusCode::NOT_FOUND, text),
            EditError::Exists(_) => Self::Client(StatusCode::CONFLICT, text),
            EditError::Refused(_) => Self::bad_request(text),
            EditError::State(error) => error.into(),
        }
    }
}

impl From<Forbidden> for Fault {
    fn from(forbidden: Forbidden) -> Self {
        let text = format!("Policy doesn't allow {} to be performed.", forbidden.rule);
        Self::Client(StatusCode::FORBIDDEN, text)
    }
}

impl From<RatingError> for Fault {
    fn from(error: RatingError) -> Self {
        match error {
            RatingError::State(error) => error.into(),
            RatingError::NotNumeric { .. } => Self::bad_request(error.to_string()),
            other => Self::Rating(other),
        }
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        Self::Read(error.into())
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Read(error.into())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut retry_after = 5;
        let (status, faultcode, faultstring) = match self {
            Self::Read(problem) => {
                retry_after = problem.retry_after();
                let (status, text) = problem.told();
                let code = if status.is_server_error() { Code::Server } else { Code::Client };
                (status, code, text)
            }
            Self::Client(status, text) => (status, Code::Client, text),
            Self::Rating(problem) => {
                error!(error = %problem, "A request failed: {problem}");
                (StatusCode::INTERNAL_SERVER_ERROR, Code::Server, problem.to_string())
            }
        };
        let mut response = answer(status, &Told { faultcode, faultstring, debuginfo: () });
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after.into());
        }
        response
    }
}

/// An error of version 1.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Fault")]
pub(in crate::api) struct Told {
    /// Whose mistake it is.
    faultcode: Code,
    faultstring: String,
    debuginfo: (),
}

impl Answer for Told {}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
enum Code {
    Client,
    Server,
}
