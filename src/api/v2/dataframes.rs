//! `/v2/dataframes`: rated data points, read and pushed.

use axum::{
    body::Bytes,
    extract::{FromRequest, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{NOTHING_FOUND, given, json_response, page, response_of, window};
use crate::{
    api::{
        AppState,
        access::Caller,
        body::{self, Whole},
        error::ApiError,
        openapi::{Operation, schema},
        query::{Args, Kind, Spec},
        stream::{self, Shape},
    },
    storage::{Found, Selection},
    time::{Period, isoformat},
};

/// Largest body that is read before it is known whether the client may push, in bytes.
const SMALL: usize = 1 << 20;

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
    caller: Caller,
    request: Request,
) -> Result<Response, Response> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // As in the reference, a body is looked at before the policy; but not a large one.
    if length.is_none_or(|length| length > SMALL) {
        let allowed = caller.may("dataframes:add", &[]).map_err(ApiError::from);
        allowed.map_err(IntoResponse::into_response)?;
    }
    let headers = request.headers().clone();
    let Whole(bytes) =
        Whole::from_request(request, &state).await.map_err(IntoResponse::into_response)?;
    keep(&state, &caller, &headers, bytes).await.map_err(IntoResponse::into_response)
}

async fn keep(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let given = body::json(headers, &bytes)?;
    drop(bytes);
    let frames = given::frames(&given)?;
    caller.may("dataframes:add", &[])?;
    if frames.is_empty() {
        return Err(ApiError::BadRequest("Parameter dataframes must not be empty.".to_owned()));
    }
    let frames: Vec<_> = frames.into_iter().filter(|frame| !frame.is_empty()).collect();
    state.storage.append(&frames).await?;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((StatusCode::NO_CONTENT, kind).into_response())
}

/// `GET /v2/dataframes`: a page of points, merged by period.
pub(in crate::api) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let args = Args::parse(query.as_deref(), ARGS)?;
    caller.may("dataframes:get", &[("project_id", json!(caller.project_id()))])?;
    let Some(filters) = caller.narrow(args.filters("filters"), &state.keys.scope_key) else {
        return Ok(json_response(&json!({"total": 0, "dataframes": []})));
    };
    let (begin, end) = window(&state, &args);
    let selection = Selection { begin, end, filters };
    let page = page(&args);
    if page.limit <= stream::LARGE {
        let question = format!("v2/dataframes {selection:?} {page:?}");
        let look = async {
            let found = stream::text(&state.storage, &selection, page, Frames::default()).await?;
            found.map(Bytes::from).ok_or_else(|| ApiError::NotFound(NOTHING_FOUND.to_owned()))
        };
        return state.coalesced.answer(question, look).await.map(response_of);
    }
    let (total, body) = stream::body(state.storage, selection, page, Frames::default()).await?;
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

pub(super) fn describe() -> Vec<Operation> {
    let labels = schema::map(schema::reference("Label"));
    let point = |number: &Value, labels: &Value| {
        let vol = schema::object(&[("unit", schema::text()), ("qty", number.clone())]);
        schema::object(&[
            ("vol", vol),
            ("rating", schema::object(&[("price", number.clone())])),
            ("groupby", labels.clone()),
            ("metadata", labels.clone()),
        ])
    };
    let frames = |point: Value, date: Value| {
        let period = schema::object(&[("begin", date.clone()), ("end", date)]);
        let usage = schema::map(schema::list(point));
        schema::list(schema::object(&[("period", period), ("usage", usage)]))
    };
    let shown = frames(point(&schema::number(), &labels), schema::date());
    let mut given = point(&schema::given_number(), &labels);
    given["required"] = json!(["vol", "groupby", "metadata"]);
    let mut given = frames(given, schema::reference("Date"));
    given["minItems"] = json!(1);
    let path = "/v2/dataframes";
    vec![
        Operation::new("get", path, "Rated data points, by period")
            .arguments(ARGS)
            .answers(
                200,
                "Points of the page, and how many there are.",
                schema::object(&[("total", schema::integer()), ("dataframes", shown)]),
            )
            .may_miss(),
        Operation::new("post", path, "Keep data points that are priced already")
            .body_like(schema::object(&[("dataframes", given)]))
            .ends(204, "All of them are kept."),
    ]
}
