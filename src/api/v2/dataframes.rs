//! `/v2/dataframes`: rated data points, read and pushed.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::{FromRequest, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{NOTHING_FOUND, given, json_response, page, response_of, window};
use crate::{
    api::{
        AppState,
        access::Caller,
        answer::{Answer, Instant, Labels},
        body::{self, Whole},
        error::ApiError,
        openapi::{Operation, schema},
        query::{Args, Kind, Spec},
        stream::{self, Shape},
    },
    dataframe::DataPoint,
    storage::{Found, Selection},
    time::Period,
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
        return Ok(json_response(&Dataframes { total: 0, dataframes: Vec::new() }));
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

// It may be larger than memory, so `Frames` writes what is around points as they
// come; a test holds it to this type.
/// A page of data points, by period.
#[derive(Serialize, JsonSchema)]
struct Dataframes<'a> {
    /// How many points there are, on all pages.
    total: u64,
    dataframes: Vec<Frame<'a>>,
}

impl Answer for Dataframes<'_> {}

/// The data points of a period.
#[derive(Serialize, JsonSchema)]
struct Frame<'a> {
    period: Span,
    /// Points by type.
    usage: BTreeMap<String, Vec<Point<'a>>>,
}

/// A period.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Period")]
struct Span {
    begin: Instant,
    end: Instant,
}

impl From<Period> for Span {
    fn from(period: Period) -> Self {
        Self { begin: Instant(period.begin), end: Instant(period.end) }
    }
}

/// A rated data point.
#[derive(Serialize, JsonSchema)]
struct Point<'a> {
    vol: Volume<'a>,
    rating: Rating,
    groupby: Labels<'a>,
    metadata: Labels<'a>,
}

/// How much was used.
#[derive(Serialize, JsonSchema)]
struct Volume<'a> {
    unit: &'a str,
    qty: f64,
}

/// What it costs.
#[derive(Serialize, JsonSchema)]
struct Rating {
    price: f64,
}

impl<'a> From<&'a DataPoint> for Point<'a> {
    fn from(point: &'a DataPoint) -> Self {
        Self {
            vol: Volume { unit: &point.unit, qty: point.qty.to_f64() },
            rating: Rating { price: point.price.to_f64() },
            groupby: Labels(&point.groupby),
            metadata: Labels(&point.metadata),
        }
    }
}

/// The text of a part of an answer.
fn text(part: &impl Serialize) -> String {
    // It has texts for keys, and so can be written.
    serde_json::to_string(part).unwrap_or_default()
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
        let period = self::text(&Span::from(period));
        text.push_str(&format!("{{\"period\":{period},\"usage\":{{"));
        for (at, (frame_type, points)) in usage.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            text.push_str(&format!("{comma}{}:[{points}]", self::text(frame_type)));
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
            let point = self::text(&Point::from(&point));
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
    let number = schema::given_number();
    let vol = schema::object(&[("unit", schema::text()), ("qty", number.clone())]);
    let mut point = schema::object(&[
        ("vol", vol),
        ("rating", schema::object(&[("price", number)])),
        ("groupby", labels.clone()),
        ("metadata", labels),
    ]);
    point["required"] = json!(["vol", "groupby", "metadata"]);
    let date = schema::reference("Date");
    let period = schema::object(&[("begin", date.clone()), ("end", date)]);
    let usage = schema::map(schema::list(point));
    let frame = schema::object(&[("period", period), ("usage", usage)]);
    let mut given = schema::list(frame);
    given["minItems"] = json!(1);
    let path = "/v2/dataframes";
    vec![
        Operation::new("get", path, "Rated data points, by period")
            .arguments(ARGS)
            .answers::<Dataframes>(200, "Points of the page, and how many there are.")
            .may_miss(),
        Operation::new("post", path, "Keep data points that are priced already")
            .body_like(schema::object(&[("dataframes", given)]))
            .ends(204, "All of them are kept."),
    ]
}

#[cfg(test)]
mod tests {
    use std::{str::FromStr, sync::Arc};

    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::{dataframe::Labels as Map, decimal::Decimal};

    /// Periods, types and points, with what text in JSON must not be mixed up with.
    fn found() -> Vec<Found> {
        let begin = DateTime::from_timestamp(1_793_491_200, 0).unwrap();
        let hostile = "a \"b\", \\ {}\n\u{0}é\u{1f600}";
        let mut found = Vec::new();
        for at in 0..3 {
            let begin = begin + TimeDelta::hours(at);
            let period = Period { begin, end: begin + TimeDelta::hours(1) };
            for frame_type in ["cpu", hostile] {
                for qty in ["0", "1.5", "-0.000000001", "123456789012345678901234567890"] {
                    let mut labels = Map::new();
                    labels.insert(hostile.to_owned(), json!([1, {"a": null}, hostile]));
                    labels.insert("empty".to_owned(), json!(""));
                    let qty = Decimal::from_str(qty).unwrap();
                    let mut point = DataPoint::new(Arc::from(hostile), qty, labels, Map::new());
                    point.price = qty;
                    found.push((period, frame_type.to_owned(), point));
                }
            }
        }
        // In the order in which types appear there; the type sorts them.
        found.sort_by(|a, b| (a.0.begin, &a.1).cmp(&(b.0.begin, &b.1)));
        found
    }

    #[test]
    fn what_is_streamed_is_what_is_described() {
        let found = found();
        let total = found.len() as u64;
        let mut dataframes: Vec<(Period, Frame)> = Vec::new();
        for (period, frame_type, point) in &found {
            if dataframes.last().is_none_or(|(last, _)| last != period) {
                let frame = Frame { period: Span::from(*period), usage: BTreeMap::new() };
                dataframes.push((*period, frame));
            }
            let (_, frame) = dataframes.last_mut().unwrap();
            frame.usage.entry(frame_type.clone()).or_default().push(Point::from(point));
        }
        let dataframes = dataframes.into_iter().map(|(_, frame)| frame).collect();
        let expected = text(&Dataframes { total, dataframes });
        // In pieces of any size, as storage gives them.
        for size in [1, 3, 8, found.len()] {
            let mut frames = Frames::default();
            let mut streamed = frames.begin(total);
            for piece in found.chunks(size) {
                streamed.push_str(&frames.add(piece.to_vec()));
            }
            streamed.push_str(&frames.end());
            assert_eq!(streamed, expected, "{size}");
        }
    }

    #[test]
    fn points_are_written_with_the_nearest_floats() {
        let mut labels = Map::new();
        labels.insert("z".to_owned(), json!("\u{e9}"));
        labels.insert("a".to_owned(), json!(null));
        let qty = Decimal::from_str("123456789012345678901234567890").unwrap();
        let mut point = DataPoint::new(Arc::from("GiB"), qty, labels, Map::new());
        point.price = Decimal::from_str("0.100").unwrap();
        let expected = "{\"vol\":{\"unit\":\"GiB\",\"qty\":1.2345678901234568e+29},\
            \"rating\":{\"price\":0.1},\"groupby\":{\"z\":\"\u{e9}\",\"a\":null},\"metadata\":{}}";
        assert_eq!(text(&Point::from(&point)), expected);
    }
}
