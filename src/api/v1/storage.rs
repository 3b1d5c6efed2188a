//! `/v1/storage/dataframes`: rated data points.

use axum::{
    http::{Method, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Call, Fault,
    report::window,
    unrouted,
    written::written,
    wsme::{Attribute, Kind},
};
use crate::{
    api::{
        access::Forbidden,
        answer::{Answer, Digits, Labels, NaiveDate},
        openapi::Operation,
        stream::{self, Shape},
    },
    dataframe::{DataPoint, python_float, python_str},
    storage::{Found, Page, Selection},
    time::{Period, month_of},
};

const ARGS: &[Attribute] = &[
    ("begin", Kind::Instant, false),
    ("end", Kind::Instant, false),
    ("tenant_id", Kind::Text, false),
    ("resource_type", Kind::Text, false),
];

/// The scope of points that have none.
const UNDEFINED: &str = "__UNDEF__";

/// Answers every request below storage.
pub(super) async fn route(call: Call) -> Response {
    let parts = call.parts();
    let answer = match (&call.method, parts.as_slice()) {
        (&Method::GET, ["dataframes"]) => dataframes(&call).await,
        _ => Ok(unrouted(&call, &[])),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// All points of a time, by period, type and scope.
async fn dataframes(call: &Call) -> Result<Response, Fault> {
    let values = call.input(&[]).arguments(ARGS)?;
    let (begin, end) = window(&values, month_of(call.state.clock.now()));
    let mut selection = Selection::all(begin, end);
    let scope_key = call.state.keys.scope_key.clone();
    let asked = values.filled("tenant_id");
    let tenant = asked.clone().or_else(|| call.caller.project_id().map(str::to_owned));
    let rule = "storage:list_data_frames";
    call.caller.may(rule, &[("project_id", json!(tenant))])?;
    let tenant = match (call.caller.is_admin(), tenant) {
        (true, _) => asked,
        (false, Some(tenant)) => Some(tenant),
        (false, None) => return Err(Forbidden { rule }.into()),
    };
    if let Some(tenant) = tenant {
        selection.filters.push((scope_key.clone(), vec![tenant]));
    }
    if let Some(resource_type) = values.filled("resource_type") {
        selection.filters.push(("type".to_owned(), vec![resource_type]));
    }
    let page = Page { offset: 0, limit: u64::MAX };
    let frames = Frames { scope_key, has_frame: false, open: None };
    let (_, body) = stream::body(call.state.storage.clone(), selection, page, frames).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// A type and a scope, and the text of their points.
type Frame = ((String, String), String);

// They may be more than memory holds, so `Frames` writes what is around points as
// they come; a test holds it to this type.
/// All data points of a time.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DataframesV1")]
struct Dataframes<'a> {
    dataframes: Vec<Dataframe<'a>>,
}

impl Answer for Dataframes<'_> {}

/// The data points of a period, a type and a scope. Dates are in UTC.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FrameV1")]
struct Dataframe<'a> {
    begin: NaiveDate,
    end: NaiveDate,
    tenant_id: String,
    resources: Vec<Resource<'a>>,
}

/// A rated data point.
#[derive(Serialize, JsonSchema)]
struct Resource<'a> {
    /// What it costs.
    rating: Digits,
    /// Its type.
    service: &'a str,
    /// Its labels.
    desc: Labels<'a>,
    /// How much was used.
    volume: Digits,
}

/// The JSON of all frames in the making.
struct Frames {
    scope_key: String,
    /// Whether a frame is complete.
    has_frame: bool,
    /// Frames of the last period, to which more points may come.
    open: Option<(Period, Vec<Frame>)>,
}

impl Frames {
    fn close(&mut self, text: &mut String) {
        let Some((period, frames)) = self.open.take() else { return };
        for ((_, tenant), points) in frames {
            if std::mem::replace(&mut self.has_frame, true) {
                text.push_str(", ");
            }
            let begin = written(&NaiveDate::utc(period.begin));
            let end = written(&NaiveDate::utc(period.end));
            let tenant = written(&tenant);
            text.push_str(&format!(
                "{{\"begin\": {begin}, \"end\": {end}, \"tenant_id\": {tenant}, \
                 \"resources\": [{points}]}}"
            ));
        }
    }
}

impl Shape for Frames {
    fn begin(&mut self, _total: u64) -> String {
        "{\"dataframes\": [".to_owned()
    }

    fn add(&mut self, points: Vec<Found>) -> String {
        let mut text = String::new();
        for (period, frame_type, point) in points {
            if self.open.as_ref().is_none_or(|(open, _)| *open != period) {
                self.close(&mut text);
                self.open = Some((period, Vec::new()));
            }
            let Some((_, frames)) = &mut self.open else { continue };
            let tenant = point.label(&self.scope_key);
            let tenant = tenant.map_or_else(|| UNDEFINED.to_owned(), python_str);
            let shown = written(&show(&frame_type, &point, &desc(&point)));
            let key = (frame_type, tenant);
            match frames.iter_mut().find(|(known, _)| *known == key) {
                Some((_, points)) => {
                    points.push_str(", ");
                    points.push_str(&shown);
                }
                None => frames.push((key, shown)),
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

/// Labels of a point together, those of groupby before others.
fn desc(point: &DataPoint) -> Map<String, Value> {
    let mut desc = Map::new();
    for (name, value) in point.metadata.iter().chain(point.groupby.iter()) {
        // Version 1 knows no lists; the reference then shows nothing at all.
        let value = match value {
            Value::Array(_) | Value::Object(_) => json!(python_str(value)),
            value => value.clone(),
        };
        desc.insert(name.clone(), value);
    }
    desc
}

fn show<'a>(service: &'a str, point: &DataPoint, desc: &'a Map<String, Value>) -> Resource<'a> {
    Resource {
        rating: Digits(python_float(point.price.to_f64())),
        service,
        desc: Labels(desc),
        volume: Digits(python_float(point.qty.to_f64())),
    }
}

/// Operations on dataframes.
pub(super) fn describe() -> Vec<Operation> {
    vec![
        Operation::new("get", "/v1/storage/dataframes", "Rated data points, by period and scope")
            .attributes(ARGS)
            .answers::<Dataframes>(200, "Dataframes."),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::decimal::Decimal;

    #[test]
    fn what_is_streamed_is_what_is_described() {
        let hostile = "a \"b\", \\ {}\n\u{0}é\u{1f600}";
        let first = DateTime::from_timestamp(1_793_491_200, 0).unwrap();
        let mut found = Vec::new();
        let mut all = Vec::new();
        for hour in 0..3 {
            let begin = first + TimeDelta::hours(hour);
            let period = Period { begin, end: begin + TimeDelta::hours(1) };
            for (frame_type, tenant) in [("cpu", "alpha"), ("cpu", hostile), (hostile, "alpha")] {
                for qty in 0..2 {
                    let mut labels = Map::new();
                    labels.insert("project_id".to_owned(), json!(tenant));
                    labels.insert(hostile.to_owned(), json!([1, {"a": hostile}]));
                    let qty = Decimal::from(qty);
                    let point = DataPoint::new(Arc::from("unit"), qty, labels, Map::new());
                    found.push((period, frame_type.to_owned(), point));
                }
                all.push((period, tenant));
            }
        }
        let descs: Vec<_> = found.iter().map(|(.., point)| desc(point)).collect();
        let mut resources = found
            .iter()
            .zip(&descs)
            .map(|((_, frame_type, point), desc)| show(frame_type, point, desc));
        let dataframes = all.into_iter().map(|(period, tenant)| Dataframe {
            begin: NaiveDate::utc(period.begin),
            end: NaiveDate::utc(period.end),
            tenant_id: tenant.to_owned(),
            resources: resources.by_ref().take(2).collect(),
        });
        let expected = written(&Dataframes { dataframes: dataframes.collect() });
        // In pieces of any size, as storage gives them.
        for size in [1, 4, found.len()] {
            let scope_key = "project_id".to_owned();
            let mut frames = Frames { scope_key, has_frame: false, open: None };
            let mut streamed = frames.begin(0);
            for piece in found.chunks(size) {
                streamed.push_str(&frames.add(piece.to_vec()));
            }
            streamed.push_str(&frames.end());
            assert_eq!(streamed, expected, "{size}");
        }
    }
}
