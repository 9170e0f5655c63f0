//! REST and JSON around the control plane: routing, the checks every request gets, and the shape of answers.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State as Extract};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value};

use super::Lattice;
use super::model::{Operation, decode};
use super::rules::{Fault, Rule};

const BODY_BYTES_MAX: usize = 1 << 20;

/// Every path goes through one handler: the model knows the paths.
pub(super) fn router(lattice: Lattice) -> Router {
    Router::new().fallback(handle).with_state(lattice)
}

async fn handle(Extract(lattice): Extract<Lattice>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (method, path) = (parts.method.as_str().to_owned(), parts.uri.path().to_owned());
    let Some((name, operation, path_parameters)) = lattice.model().route(&method, &path) else {
        lattice.count("UnknownOperation");
        return refuse(&Fault::new(Rule::UnknownOperation, format!("{method} {path}")));
    };
    lattice.count(name);
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return refuse(&Fault::new(Rule::NotJson, "the body is longer than 1 MiB or was cut off"));
    };
    let query = parts.uri.query().unwrap_or_default();
    let answer = async {
        signed(&parts.headers)?;
        lattice.throttled(name)?;
        let request = assemble(&lattice, operation, path_parameters, query, &body)?;
        check(&lattice, name, operation, &request)?;
        lattice.perform(name, &request).await
    };
    match answer.await {
        Ok(answer) => {
            lattice.check_answer(name, operation, &answer);
            reply(operation.status, &answer)
        }
        Err(fault) => refuse(&fault),
    }
}

/// The lab checks no signature, but an unsigned or wrongly scoped request is a mistake of the caller.
fn signed(headers: &HeaderMap) -> Result<(), Fault> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header.starts_with("AWS4-HMAC-SHA256 ") && header.contains("/vpc-lattice/aws4_request") {
        Ok(())
    } else {
        Err(Fault::new(Rule::Unsigned, "Authorization"))
    }
}

/// One object with every member of the request, wherever it travelled.
fn assemble(
    lattice: &Lattice,
    operation: &Operation,
    path: Map<String, Value>,
    query: &str,
    body: &Bytes,
) -> Result<Value, Fault> {
    let mut members = Map::new();
    if !body.is_empty() {
        match serde_json::from_slice(body) {
            Ok(Value::Object(given)) => members = given,
            Ok(_) => return Err(Fault::new(Rule::NotJson, "the body is not an object")),
            Err(error) => return Err(Fault::new(Rule::NotJson, error.to_string())),
        }
    }
    let known = lattice.model().query_members(operation);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(&value.replace('+', " ")));
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, true)) => {
                let list = members.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut().map(|list| list.push(value.into())).unwrap_or_default();
            }
            Some((_, false)) => {
                let number = value.parse::<i64>().ok().filter(|_| lattice.model().is_number(operation, &name));
                members.insert(name, number.map_or(Value::from(value), Value::from));
            }
            None => return Err(Fault::field(Rule::NotAMember, &name, "in the query string")),
        }
    }
    members.extend(path);
    // A null member is an absent one.
    members.retain(|_, value| !value.is_null());
    Ok(Value::Object(members))
}

fn check(lattice: &Lattice, name: &str, operation: &Operation, request: &Value) -> Result<(), Fault> {
    let emptied = request.get("securityGroupIds").and_then(Value::as_array).is_some_and(Vec::is_empty);
    if name == "UpdateServiceNetworkVpcAssociation" && emptied {
        return Err(Fault::field(Rule::SecurityGroupsStay, "securityGroupIds", "an empty list"));
    }
    let broken = lattice.model().check_input(operation, request);
    let Some(first) = broken.first() else { return Ok(()) };
    let rule = if broken.iter().all(|broken| broken.unknown) { Rule::NotAMember } else { Rule::Shape };
    let fields = broken.iter().map(|broken| (broken.path.clone(), broken.problem.clone())).collect();
    Err(Fault { fields, ..Fault::new(rule, format!("{} {}", first.path, first.problem)) })
}

fn reply(status: u16, answer: &Value) -> Response {
    let body = if status == 204 { Body::empty() } else { Body::from(answer.to_string()) };
    response(status, body)
}

fn refuse(fault: &Fault) -> Response {
    let kind = fault.rule.documented().kind;
    let mut response = response(kind.status(), Body::from(fault.body().to_string()));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(kind.name()));
    if let Some(seconds) = fault.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn response(status: u16, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}
