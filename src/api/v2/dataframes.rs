//! `GET /v2/dataframes`: rated data points.

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{NOTHING_FOUND, json_response, page, window};
use crate::{
    api::{
        AppState,
        error::ApiError,
        query::{Args, Kind, Spec},
    },
    storage::Selection,
    time::{Period, isoformat},
};

const ARGS: &[Spec] = &[
    ("begin", Kind::Date),
    ("end", Kind::Date),
    ("filters", Kind::UniqueFilters),
    ("offset", Kind::Int(0)),
    ("limit", Kind::Int(1)),
];

/// `GET /v2/dataframes`: a page of points, merged by period.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    let (begin, end) = window(&state, &args);
    let selection = Selection { begin, end, filters: args.filters("filters") };
    let retrieved = state.storage.retrieve(&selection, page(&args)).await?;
    if retrieved.total == 0 {
        return Err(ApiError::NotFound(NOTHING_FOUND));
    }
    // Points come ordered by period, so one frame's are together. Types keep
    // the order in which they appear.
    let mut frames: Vec<(Period, Map<String, Value>)> = Vec::new();
    for (period, frame_type, point) in &retrieved.points {
        if frames.last().is_none_or(|(last, _)| last != period) {
            frames.push((*period, Map::new()));
        }
        if let Some((_, usage)) = frames.last_mut() {
            let points = usage.entry(frame_type.clone()).or_insert_with(|| json!([]));
            if let Value::Array(points) = points {
                points.push(point.to_json());
            }
        }
    }
    let frames: Vec<Value> = frames
        .into_iter()
        .map(|(period, usage)| {
            json!({
                "period": {"begin": isoformat(period.begin), "end": isoformat(period.end)},
                "usage": usage,
            })
        })
        .collect();
    Ok(json_response(&json!({"total": retrieved.total, "dataframes": frames})))
}
