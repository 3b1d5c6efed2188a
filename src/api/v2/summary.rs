//! `GET /v2/summary`: sums of quantities and prices.

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{json_response, page, window};
use crate::{
    api::{
        AppState,
        error::ApiError,
        query::{Args, Kind, Spec},
    },
    storage::{GroupKey, Selection, TotalRow},
    time::isoformat,
};

const ARGS: &[Spec] = &[
    ("begin", Kind::Date),
    ("end", Kind::Date),
    ("groupby", Kind::List),
    ("filters", Kind::Filters),
    ("response_format", Kind::Text),
    ("custom_fields", Kind::Text),
    ("offset", Kind::Int(0)),
    ("limit", Kind::Int(1)),
];

/// Columns that every row has; a label of the same name gets none.
const FIXED: [&str; 4] = ["begin", "end", "qty", "rate"];

/// `GET /v2/summary`.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    let format = args.text("response_format").unwrap_or("table");
    if !matches!(format, "table" | "object") {
        return Err(args.invalid("response_format", "value must be one of ['object', 'table']"));
    }
    let mut groupby: Vec<GroupKey> = Vec::new();
    for element in args.list("groupby") {
        let key = GroupKey::parse(&element)?;
        if !groupby.contains(&key) {
            groupby.push(key);
        }
    }
    let (begin, end) = window(&state, &args);
    let selection = Selection { begin, end, filters: args.filters("filters") };
    let totals = state.storage.total(&selection, &groupby, page(&args)).await?;

    let labels: Vec<&str> = groupby.iter().filter_map(GroupKey::column).collect();
    let row = |row: &TotalRow| -> Vec<(String, Value)> {
        let (begin, end) = row.period.map_or((begin, end), |period| (period.begin, period.end));
        let fixed = [
            json!(isoformat(begin)),
            json!(isoformat(end)),
            json!(row.qty.to_f64()),
            json!(row.price.to_f64()),
        ];
        let fixed = FIXED.iter().map(|name| (*name).to_owned()).zip(fixed);
        let labels = labels.iter().zip(&row.values).filter(|(name, _)| !FIXED.contains(name));
        fixed.chain(labels.map(|(name, value)| ((*name).to_owned(), value.clone()))).collect()
    };
    let rows: Vec<_> = totals.rows.iter().map(row).collect();
    let columns: Vec<&String> =
        rows.first().map(|row| row.iter().map(|(name, _)| name).collect()).unwrap_or_default();
    Ok(json_response(&if format == "table" {
        let results: Vec<Vec<&Value>> =
            rows.iter().map(|row| row.iter().map(|(_, value)| value).collect()).collect();
        json!({"total": totals.total, "columns": columns, "results": results, "format": "table"})
    } else {
        let results: Vec<Map<String, Value>> =
            rows.iter().map(|row| row.iter().cloned().collect()).collect();
        json!({"total": totals.total, "results": results, "format": "object"})
    }))
}
