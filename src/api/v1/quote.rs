//! `/v1/rating/quote`: what something would cost now, in any scope.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    fault::{Fault, Told},
    written::answer,
    wsme::{Input, Kind, python_type},
};
use crate::{
    api::{
        AppState,
        access::Caller,
        answer::Digits,
        body::{Whole, number},
        error::ApiError,
        openapi::{Operation, schema},
    },
    dataframe::{DataFrame, DataPoint, Labels, python_str},
    decimal::Decimal,
    time::{Period, local_naive},
};

/// The unit of what is only quoted, as scripts see it.
const UNIT: &str = "undef";

/// `POST /v1/rating/quote`: the price of all resources together, as a text.
///
/// Rules count that hold now, and for all scopes.
pub(super) async fn post(
    State(state): State<AppState>,
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Whole, ApiError>,
) -> Result<Response, Fault> {
    let Whole(bytes) = body?;
    let input = Input { path: &[], query: query.as_deref(), headers: &headers, body: &bytes };
    let (_, body) = input.object(&[], "res_data", &[("resources", Kind::Json, false)])?;
    caller.may("rating:quote", &[])?;
    let now = state.clock.now();
    let period = Period::starting(now, state.period);
    let mut frame = DataFrame::new(period);
    for resource in resources(body.json("resources"))? {
        frame.add(&resource.service, [resource.point]);
    }
    let rater = state.rater.quoting(local_naive(now)).await?;
    rater.rate(&mut frame).await?;
    let mut price = Decimal::zero();
    for (_, points) in &frame.usage {
        for point in points {
            price += point.price;
        }
    }
    Ok(answer(StatusCode::OK, &Digits(price.to_string())))
}

struct Resource {
    service: String,
    point: DataPoint,
}

fn resources(given: Option<&Value>) -> Result<Vec<Resource>, Fault> {
    let none = Value::Null;
    let given = given.unwrap_or(&none);
    // Told as WSME does, which has an eye for the whole only.
    let whole = |problem: String| {
        let told = python_str(&json!({"resources": given}));
        Fault::invalid("res_data", &told, &problem)
    };
    match given {
        Value::Array(list) => list.iter().map(|given| resource(given, &whole)).collect(),
        other => Err(whole(format!("Value not a valid list: {}", python_str(other)))),
    }
}

fn resource(given: &Value, whole: &impl Fn(String) -> Fault) -> Result<Resource, Fault> {
    let invalid = |name: &str, value: Option<&Value>, problem: &str| {
        let told = value.map_or_else(|| "None".to_owned(), python_str);
        Fault::invalid(name, &told, problem)
    };
    let Value::Object(fields) = given else {
        return Err(invalid("resources", Some(given), "A resource must be an object."));
    };
    let known = ["service", "desc", "volume"];
    if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        let text = format!("Unknown attribute for argument res_data.resources: {name}");
        return Err(Fault::bad_request(text));
    }
    let service = match fields.get("service") {
        Some(Value::String(service)) => service.clone(),
        other => {
            let kind = other.map_or("NoneType", python_type);
            let problem = format!("Wrong type. Expected '<class 'str'>', got '<class '{kind}'>'");
            return Err(invalid("service", other, &problem));
        }
    };
    let volume = fields.get("volume");
    let qty = volume.and_then(number);
    let qty = qty.ok_or_else(|| invalid("volume", volume, "It must be a number."))?;
    let (groupby, metadata) = match fields.get("desc") {
        None | Some(Value::Null) => <_>::default(),
        Some(Value::Object(desc)) => labels(desc)?,
        Some(other) => return Err(whole(format!("Value not a valid dict: {}", python_str(other)))),
    };
    Ok(Resource { service, point: DataPoint::new(UNIT.into(), qty, groupby, metadata) })
}

/// The labels that a description means: those of its objects `groupby` and
/// `metadata`, and what stands beside those, as the reference documents it and
/// does not do.
fn labels(desc: &Labels) -> Result<(Labels, Labels), Fault> {
    let (mut groupby, mut metadata) = (Labels::new(), Labels::new());
    for (name, value) in desc {
        match (name.as_str(), value) {
            ("groupby", Value::Object(labels)) => groupby.extend(labels.clone()),
            ("metadata", Value::Object(labels)) => metadata.extend(labels.clone()),
            (_, Value::Null) => {}
            ("groupby" | "metadata", other) => {
                let problem = "It must be an object.";
                return Err(Fault::invalid(&format!("desc.{name}"), &python_str(other), problem));
            }
            (_, Value::String(_) | Value::Number(_) | Value::Bool(_)) => {
                metadata.entry(name.clone()).or_insert_with(|| value.clone());
            }
            (_, other) => {
                let kind = python_type(other);
                let problem = format!("It must be a text or a number, not a {kind}.");
                return Err(Fault::invalid(&format!("desc.{name}"), &python_str(value), &problem));
            }
        }
    }
    Ok((groupby, metadata))
}

/// Operations on quotes.
pub(super) fn describe() -> Vec<Operation> {
    let desc = schema::map(json!({"type": ["string", "number", "boolean", "null"]}));
    let resource = json!({
        "type": "object",
        "properties": {
            "service": schema::text(),
            "desc": schema::nullable(desc),
            "volume": schema::given_number(),
        },
        "required": ["service", "volume"],
        "additionalProperties": false,
    });
    vec![
        Operation::new("post", "/v1/rating/quote", "What something would cost now")
            .body_like(schema::object(&[("resources", schema::list(resource))]))
            .answers::<Digits>(200, "The price of all resources together.")
            .answers::<Told>(500, "A script fails, and is named."),
    ]
}
