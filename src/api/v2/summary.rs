//! `GET /v2/summary`: sums of quantities and prices.

use axum::{
    body::Bytes,
    extract::{RawQuery, State},
    response::Response,
};
use serde_json::{Map, Value, json};
use tracing::warn;

use super::{json_bytes, json_response, page, response_of, window};
use crate::{
    api::{
        AppState,
        access::Caller,
        error::ApiError,
        openapi::{Operation, schema},
        query::{Args, Kind, Spec},
    },
    storage::{GroupKey, Selection, TotalRow, Totals},
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

/// What `response_format` may be.
const FORMATS: &[&str] = &["table", "object"];

/// Columns that every row has; a label of the same name gets none.
const FIXED: [&str; 4] = ["begin", "end", "qty", "rate"];

/// `GET /v2/summary`.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    let format = args.text("response_format").unwrap_or("table");
    if !FORMATS.contains(&format) {
        return Err(args.invalid("response_format", "value must be one of ['object', 'table']"));
    }
    if let Some(fields) = args.text("custom_fields") {
        // As the reference does with OpenSearch; it is the query language of InfluxDB.
        warn!("custom_fields = `{fields}` of a summary is ignored: qty and rate are all there is");
    }
    caller.may("summary:get_summary", &[("project_id", json!(caller.project_id()))])?;
    let Some(filters) = caller.narrow(args.filters("filters"), &state.keys.scope_key) else {
        return Ok(json_response(&json!({"total": 0, "columns": [], "results": []})));
    };
    let mut groupby: Vec<GroupKey> = Vec::new();
    for element in args.list("groupby") {
        let key = GroupKey::parse(&element)?;
        if !groupby.contains(&key) {
            groupby.push(key);
        }
    }
    let (begin, end) = window(&state, &args);
    let selection = Selection { begin, end, filters };
    let page = page(&args);
    let question = format!("v2/summary {selection:?} {groupby:?} {page:?} {format}");
    let look = async {
        let totals = state.storage.total(&selection, &groupby, page).await?;
        Ok(shown(&selection, &groupby, &totals, format))
    };
    state.coalesced.answer(question, look).await.map(response_of)
}

/// The answer to a request for sums in a format.
fn shown(selection: &Selection, groupby: &[GroupKey], totals: &Totals, format: &str) -> Bytes {
    let labels: Vec<&str> = groupby.iter().filter_map(GroupKey::column).collect();
    let row = |row: &TotalRow| -> Vec<(String, Value)> {
        let (begin, end) = row
            .period
            .map_or((selection.begin, selection.end), |period| (period.begin, period.end));
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
    json_bytes(&if format == "table" {
        let results: Vec<Vec<&Value>> =
            rows.iter().map(|row| row.iter().map(|(_, value)| value).collect()).collect();
        json!({"total": totals.total, "columns": columns, "results": results, "format": "table"})
    } else {
        let results: Vec<Map<String, Value>> =
            rows.iter().map(|row| row.iter().cloned().collect()).collect();
        json!({"total": totals.total, "results": results, "format": "object"})
    })
}

pub(super) fn describe() -> Vec<Operation> {
    let row = schema::map(schema::reference("Label"));
    let table = schema::object(&[
        ("total", schema::integer()),
        ("columns", schema::list(schema::text())),
        ("results", schema::list(schema::list(schema::reference("Label")))),
        ("format", schema::one_of(&["table"])),
    ]);
    let object = schema::object(&[
        ("total", schema::integer()),
        ("results", schema::list(row)),
        ("format", schema::one_of(&["object"])),
    ]);
    vec![
        Operation::new("get", "/v2/summary", "Sums of quantities and prices")
            .arguments(ARGS)
            .choice("response_format", FORMATS)
            .answers(200, "Sums by group.", json!({"oneOf": [table, object]})),
    ]
}
