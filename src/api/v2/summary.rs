//! `GET /v2/summary`: sums of quantities and prices.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::{RawQuery, State},
    response::Response,
};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tracing::warn;

use super::{json_bytes, json_response, page, response_of, window};
use crate::{
    api::{
        AppState,
        access::Caller,
        answer::{Answer, Instant, Label},
        error::ApiError,
        openapi::Operation,
        query::{Args, Kind, Spec},
    },
    storage::{GroupKey, Selection, TotalRow, Totals},
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
        let nothing = Table { total: 0, columns: Vec::new(), results: Vec::new(), format: None };
        return Ok(json_response(&Summary::Table(nothing)));
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
    let whole = (selection.begin, selection.end);
    let rows = totals.rows.iter().map(|row| Row::of(row, &labels, whole));
    let (total, rows) = (totals.total, rows.collect::<Vec<_>>());
    json_bytes(&if format == "table" {
        let columns = rows.first().map(Row::columns).unwrap_or_default();
        let results = rows.into_iter().map(Row::cells).collect();
        Summary::Table(Table { total, columns, results, format: Some(TableFormat::Table) })
    } else {
        Summary::Objects(Objects { total, results: rows, format: ObjectFormat::Object })
    })
}

/// Sums by group, in one of two forms.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Summary<'a> {
    Table(Table<'a>),
    Objects(Objects<'a>),
}

impl Answer for Summary<'_> {}

/// Sums by group, as lists.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SummaryTable")]
struct Table<'a> {
    total: u64,
    /// Names of what the lists hold: `begin`, `end`, `qty`, `rate`, and labels.
    columns: Vec<&'a str>,
    results: Vec<Vec<Cell<'a>>>,
    /// Those get none who have no project, and so see nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TableFormat")]
    format: Option<TableFormat>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum TableFormat {
    Table,
}

/// What a column holds.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Cell<'a> {
    Date(Instant),
    Sum(f64),
    Label(Label<'a>),
}

/// Sums by group, as objects.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SummaryObjects")]
struct Objects<'a> {
    total: u64,
    results: Vec<Row<'a>>,
    format: ObjectFormat,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum ObjectFormat {
    Object,
}

/// The sums of a group, and its labels.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SummaryRow")]
struct Row<'a> {
    begin: Instant,
    end: Instant,
    qty: f64,
    rate: f64,
    #[serde(flatten)]
    group: Group<'a>,
}

/// Labels in the order in which they were asked for.
#[derive(JsonSchema)]
#[schemars(inline)]
struct Group<'a>(#[schemars(with = "BTreeMap<String, Label>")] Vec<(&'a str, &'a Value)>);

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl<'a> Row<'a> {
    fn of(
        row: &'a TotalRow,
        labels: &[&'a str],
        (begin, end): (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
        let (begin, end) = row.period.map_or((begin, end), |period| (period.begin, period.end));
        let labels = labels.iter().copied().zip(&row.values);
        Self {
            begin: Instant(begin),
            end: Instant(end),
            qty: row.qty.to_f64(),
            rate: row.price.to_f64(),
            group: Group(labels.filter(|(name, _)| !FIXED.contains(name)).collect()),
        }
    }

    fn columns(&self) -> Vec<&'a str> {
        FIXED.into_iter().chain(self.group.0.iter().map(|(name, _)| *name)).collect()
    }

    fn cells(self) -> Vec<Cell<'a>> {
        let fixed = [
            Cell::Date(self.begin),
            Cell::Date(self.end),
            Cell::Sum(self.qty),
            Cell::Sum(self.rate),
        ];
        let labels = self.group.0.into_iter().map(|(_, value)| Cell::Label(Label(value)));
        fixed.into_iter().chain(labels).collect()
    }
}

pub(super) fn describe() -> Vec<Operation> {
    vec![
        Operation::new("get", "/v2/summary", "Sums of quantities and prices")
            .arguments(ARGS)
            .choice("response_format", FORMATS)
            .answers::<Summary>(200, "Sums by group."),
    ]
}
