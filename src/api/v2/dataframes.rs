//! `/v2/dataframes`: rated data points, read and pushed.

use axum::{
    body::Bytes,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{NOTHING_FOUND, given, page, window};
use crate::{
    api::{
        AppState, body,
        error::ApiError,
        query::{Args, Kind, Spec},
        stream::{self, Shape},
    },
    storage::{Found, Selection},
    time::{Period, isoformat},
};

const ARGS: &[Spec] = &[
    ("begin", Kind::Date),
    ("end", Kind::Date),
    ("filters", Kind::UniqueFilters),
    ("offset", Kind::Int(0)),
    ("limit", Kind::Int(1)),
];

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
    let (total, body) =
        stream::body(state.storage, selection, page(&args), Frames::default()).await?;
    if total == 0 {
        return Err(ApiError::NotFound(NOTHING_FOUND.to_owned()));
    }
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The JSON of a page in the making.
#[derive(Default)]
struct Frames {
    /// Whether a frame is complete.
    has_frame: bool,
    /// The frame of the last period, to which more points may come: the text of
    /// the points of each type, in the order in which types appear.
    open: Option<(Period, Vec<(String, String)>)>,
}

impl Frames {
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
}

impl Shape for Frames {
    fn begin(&mut self, total: u64) -> String {
        format!("{{\"total\":{total},\"dataframes\":[")
    }

    fn add(&mut self, points: Vec<Found>) -> String {
        let mut text = String::new();
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

    fn end(&mut self) -> String {
        let mut text = String::new();
        self.close(&mut text);
        text.push_str("]}");
        text
    }
}
