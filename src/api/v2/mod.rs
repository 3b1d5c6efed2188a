//! Version 2 of the API.

pub(super) mod dataframes;
mod given;
pub(super) mod modules;
pub(super) mod reprocesses;
pub(super) mod scope;
pub(super) mod status;
pub(super) mod summary;

use axum::{
    body::Bytes,
    http::header,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};

use super::{
    AppState,
    answer::{self, Answer},
    openapi::Operation,
    query::Args,
};
use crate::{storage::Page, time::month_of};

/// What the reference says when nothing is found.
const NOTHING_FOUND: &str = "No resource found for provided filters.";

/// An answer in JSON, with the reference's content type.
fn json_response(body: &impl Answer) -> Response {
    response_of(json_bytes(body))
}

/// The same of what is written already.
fn response_of(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn json_bytes(body: &impl Answer) -> Bytes {
    answer::json(body).into()
}

/// `begin` and `end`: by default those of the present month, each alone.
fn window(state: &AppState, args: &Args) -> (DateTime<Utc>, DateTime<Utc>) {
    let (first, next) = month_of(state.clock.now());
    (args.date("begin").unwrap_or(first), args.date("end").unwrap_or(next))
}

/// `offset` and `limit`.
fn page(args: &Args) -> Page {
    Page { offset: args.number("offset").unwrap_or(0), limit: args.number("limit").unwrap_or(100) }
}

pub(super) fn describe() -> Vec<Operation> {
    [
        summary::describe(),
        dataframes::describe(),
        scope::describe(),
        modules::describe(),
        reprocesses::describe(),
        status::describe(),
    ]
    .concat()
}
