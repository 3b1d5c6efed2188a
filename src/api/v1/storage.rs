//! `/v1/storage/dataframes`: rated data points.

use axum::{
    http::{Method, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{
    Call, Fault,
    report::window,
    unrouted,
    wsme::{Attribute, Kind, written},
};
use crate::{
    api::{
        access::Forbidden,
        openapi::{Operation, schema},
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
        let date = |date: DateTime<Utc>| date.format("%Y-%m-%dT%H:%M:%S").to_string();
        let Some((period, frames)) = self.open.take() else { return };
        for ((_, tenant), points) in frames {
            if std::mem::replace(&mut self.has_frame, true) {
                text.push_str(", ");
            }
            let (begin, end) = (date(period.begin), date(period.end));
            let tenant = written(&json!(tenant));
            text.push_str(&format!(
                "{{\"begin\": \"{begin}\", \"end\": \"{end}\", \"tenant_id\": {tenant}, \
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
            let shown = show(&frame_type, &point);
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

/// A point as a rated resource: labels together, those of groupby before others.
fn show(service: &str, point: &DataPoint) -> String {
    let mut desc = Map::new();
    for (name, value) in point.metadata.iter().chain(point.groupby.iter()) {
        // Version 1 knows no lists; the reference then shows nothing at all.
        let value = match value {
            Value::Array(_) | Value::Object(_) => json!(python_str(value)),
            value => value.clone(),
        };
        desc.insert(name.clone(), value);
    }
    written(&json!({
        "rating": python_float(point.price.to_f64()),
        "service": service,
        "desc": desc,
        "volume": python_float(point.qty.to_f64()),
    }))
}

/// Operations on dataframes.
pub(super) fn describe() -> Vec<Operation> {
    let resource = schema::object(&[
        ("rating", schema::digits()),
        ("service", schema::text()),
        ("desc", schema::map(schema::reference("Label"))),
        ("volume", schema::digits()),
    ]);
    let frame = schema::object(&[
        ("begin", schema::naive_date()),
        ("end", schema::naive_date()),
        ("tenant_id", schema::text()),
        ("resources", schema::list(resource)),
    ]);
    vec![
        Operation::new("get", "/v1/storage/dataframes", "Rated data points, by period and scope")
            .attributes(ARGS)
            .answers(200, "Dataframes.", schema::object(&[("dataframes", schema::list(frame))])),
    ]
}
