//! One loopback port per AWS service: calls are counted and kept for the leak check, then passed on unchanged.
//!
//! Under a schedule of faults ([`Chaos`]) some calls are not passed on so faithfully.
//!
//! The SDK's and the CLI's `AWS_ENDPOINT_URL_<SERVICE>` variables point here, so that every call of the product and of
//! the targets is seen, whoever answers it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;

use crate::chaos::{CallFault, Chaos};

/// Larger bodies (function packages) are passed on, not kept.
const KEPT: usize = 256 * 1024;

/// The largest body passed on.
const LARGEST: usize = 512 * 1024 * 1024;

/// A call that passed.
#[derive(Debug, Clone)]
pub struct Passed {
    /// `<service>.<Operation>`.
    pub operation: String,
    /// The request's method.
    pub method: String,
    /// The request's path and query.
    pub path: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// The request's body.
    pub request: Bytes,
    /// The answer's body.
    pub answer: Bytes,
}

#[cfg(test)]
impl Passed {
    /// A call that was answered well.
    pub(crate) fn well(operation: &str, request: impl Into<Bytes>, answer: &'static str) -> Self {
        let (method, path) = ("POST".to_owned(), "/".to_owned());
        let (request, answer) = (request.into(), answer.into());
        Self { operation: operation.to_owned(), method, path, status: 200, request, answer }
    }
}

/// The lab's front door.
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    passed: Arc<Mutex<Vec<Passed>>>,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    endpoints: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Route {
    service: &'static str,
    upstream: String,
    http: reqwest::Client,
    chaos: Chaos,
    passed: Arc<Mutex<Vec<Passed>>>,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Gateway {
    /// Opens a port for each `(service, upstream)`; the service is named as in `AWS_ENDPOINT_URL_<SERVICE>`, in lower
    /// case.
    pub async fn start(routes: &[(&'static str, String)]) -> io::Result<Self> {
        Self::start_under(routes, &Chaos::default()).await
    }

    /// The same, with calls at the mercy of `chaos`.
    pub async fn start_under(routes: &[(&'static str, String)], chaos: &Chaos) -> io::Result<Self> {
        let mut gateway = Self::default();
        for (service, upstream) in routes {
            let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
            let variable = format!("AWS_ENDPOINT_URL_{}", service.to_uppercase());
            gateway.endpoints.insert(variable, format!("http://{}", listener.local_addr()?));
            let route = Route {
                service,
                upstream: upstream.trim_end_matches('/').to_owned(),
                http: reqwest::Client::new(),
                chaos: chaos.clone(),
                passed: Arc::clone(&gateway.passed),
                counts: Arc::clone(&gateway.counts),
            };
            let app = Router::new().fallback(pass).with_state(route);
            let app = app.into_make_service_with_connect_info::<SocketAddr>();
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
        Ok(gateway)
    }

    /// `AWS_ENDPOINT_URL_<SERVICE>` to its value.
    pub fn endpoints(&self) -> &BTreeMap<String, String> {
        &self.endpoints
    }

    /// How often each operation was called.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().map(|counts| counts.clone()).unwrap_or_default()
    }

    /// Every call that passed.
    pub fn passed(&self) -> Vec<Passed> {
        self.passed.lock().map(|passed| passed.clone()).unwrap_or_default()
    }
}

async fn pass(State(route): State<Route>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    match suffer(&route, peer, request).await {
        Ok(response) => response,
        Err(problem) => (StatusCode::BAD_GATEWAY, problem).into_response(),
    }
}

/// A call on its way.
#[derive(Clone)]
struct Call {
    operation: String,
    parts: Parts,
    body: Bytes,
}

/// Passes a call on, unless a fault is due.
async fn suffer(route: &Route, peer: SocketAddr, request: Request) -> Result<Response, String> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LARGEST).await.map_err(|error| error.to_string())?;
    let name = operation(route.service, &parts.method, &parts.uri, &parts.headers, &body);
    let call = Call { operation: format!("{}.{name}", route.service), parts, body };
    let Some(fault) = route.chaos.on_call(&call.operation) else { return forward(route, call).await };
    match fault {
        CallFault::Delay(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            forward(route, call).await
        }
        CallFault::Unavailable => Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")),
        CallFault::Throttle => Ok(refusal(StatusCode::BAD_REQUEST, "ThrottlingException")),
        CallFault::Deny => Ok(refusal(StatusCode::BAD_REQUEST, "AccessDeniedException")),
        CallFault::Refuse => Ok(cut()),
        CallFault::LoseAnswer => forward(route, call).await.map(|_lost| cut()),
        CallFault::Twice => {
            // As if the first answer had been lost and the SDK had asked again.
            let _lost = forward(route, call.clone()).await?;
            forward(route, call).await
        }
        CallFault::KillBefore => {
            route.chaos.kill_caller(peer);
            Ok(cut())
        }
        CallFault::KillAfter => {
            let answer = forward(route, call).await;
            route.chaos.kill_caller(peer);
            answer.map(|_lost| cut())
        }
    }
}

/// An error as the JSON protocols tell it; the others read the status.
fn refusal(status: StatusCode, code: &'static str) -> Response {
    let body = serde_json::json!({"__type": code, "message": "the lab's chaos"}).to_string();
    (status, [("x-amzn-errortype", code), ("content-type", "application/x-amz-json-1.1")], body).into_response()
}

/// No answer: a body that breaks at once makes the server close the connection.
fn cut() -> Response {
    let broken = futures::stream::once(async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) });
    Response::new(Body::from_stream(broken))
}

async fn forward(route: &Route, Call { operation, parts, body }: Call) -> Result<Response, String> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let asked = (parts.method.to_string(), path.to_owned());
    let mut headers = parts.headers;
    // The connection is ours, not the caller's.
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::EXPECT] {
        headers.remove(name);
    }
    let answer = route
        .http
        .request(parts.method, format!("{}{path}", route.upstream))
        .headers(headers)
        .body(body.clone())
        .send()
        .await
        .map_err(|error| format!("{operation}: {error}"))?;
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    let answer = answer.bytes().await.map_err(|error| format!("{operation}: {error}"))?;
    keep(route, operation, asked, status, &body, &answer);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    let mut response = Response::new(Body::from(answer));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn keep(
    route: &Route,
    operation: String,
    (method, path): (String, String),
    status: StatusCode,
    request: &Bytes,
    answer: &Bytes,
) {
    if let Ok(mut counts) = route.counts.lock() {
        *counts.entry(operation.clone()).or_default() += 1;
    }
    let kept = |body: &Bytes| if body.len() <= KEPT { body.clone() } else { Bytes::new() };
    if let Ok(mut passed) = route.passed.lock() {
        let (request, answer) = (kept(request), kept(answer));
        passed.push(Passed { operation, method, path, status: status.as_u16(), request, answer });
    }
}

/// The operation's name: from the JSON protocols' header, the Query protocol's `Action`, or the REST path.
fn operation(service: &str, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> String {
    if let Some(target) = headers.get("x-amz-target").and_then(|value| value.to_str().ok()) {
        return target.rsplit('.').next().unwrap_or(target).to_owned();
    }
    let form = std::str::from_utf8(body).unwrap_or_default();
    let pairs = form.split('&').chain(uri.query().unwrap_or_default().split('&'));
    if let Some(action) = pairs.filter_map(|pair| pair.strip_prefix("Action=")).next() {
        return action.to_owned();
    }
    rest(service, method, uri.path())
}

fn rest(service: &str, method: &Method, path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if service == "vpc_lattice" {
        return lattice(method, &segments);
    }
    if service == "route_53" {
        return match (method.as_str(), segments.get(1..).unwrap_or_default()) {
            ("POST", ["hostedzone", _, "rrset", ..]) => "ChangeResourceRecordSets".into(),
            ("GET", ["hostedzone", _, "rrset"]) => "ListResourceRecordSets".into(),
            ("GET", ["hostedzone", _]) => "GetHostedZone".into(),
            ("GET", ["hostedzone"]) => "ListHostedZones".into(),
            ("GET", ["hostedzonesbyvpc"]) => "ListHostedZonesByVPC".into(),
            ("POST", ["hostedzone"]) => "CreateHostedZone".into(),
            ("DELETE", ["hostedzone", _]) => "DeleteHostedZone".into(),
            ("POST", ["hostedzone", _, "associatevpc"]) => "AssociateVPCWithHostedZone".into(),
            ("POST", ["hostedzone", _, "disassociatevpc"]) => "DisassociateVPCFromHostedZone".into(),
            (verb, rest) => format!("{verb} {}", rest.first().unwrap_or(&"")),
        };
    }
    match segments.as_slice() {
        [_, "functions", _, "invocations"] => "Invoke".into(),
        _ => format!("{method} /{}", segments.first().unwrap_or(&"")),
    }
}

/// VPC Lattice's REST paths (API reference): collections, then what is done to them.
fn lattice(method: &Method, segments: &[&str]) -> String {
    let kind = |collection: &str| match collection {
        "servicenetworks" => "ServiceNetwork",
        "servicenetworkvpcassociations" => "ServiceNetworkVpcAssociation",
        "servicenetworkserviceassociations" => "ServiceNetworkServiceAssociation",
        "services" => "Service",
        "targetgroups" => "TargetGroup",
        "listeners" => "Listener",
        "rules" => "Rule",
        _ => "Resource",
    };
    match (method.as_str(), segments) {
        (_, [.., "registertargets"]) => "RegisterTargets".into(),
        (_, [.., "deregistertargets"]) => "DeregisterTargets".into(),
        (_, [.., "listtargets"]) => "ListTargets".into(),
        ("GET", ["tags", ..]) => "ListTagsForResource".into(),
        ("POST", ["tags", ..]) => "TagResource".into(),
        ("DELETE", ["tags", ..]) => "UntagResource".into(),
        ("GET", [.., collection]) if segments.len() % 2 == 1 => format!("List{}s", kind(collection)),
        ("POST", [.., collection]) if segments.len() % 2 == 1 => format!("Create{}", kind(collection)),
        ("GET", [.., collection, _]) => format!("Get{}", kind(collection)),
        ("PATCH", [.., collection, _]) => format!("Update{}", kind(collection)),
        ("DELETE", [.., collection, _]) => format!("Delete{}", kind(collection)),
        (verb, _) => format!("{verb} {}", segments.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(service: &str, method: &str, path: &str, body: &str) -> String {
        let method: Method = method.parse().unwrap();
        operation(service, &method, &path.parse().unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn names_operations_of_every_protocol() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-target", "AmazonSSM.SendCommand".parse().unwrap());
        assert_eq!(operation("ssm", &Method::POST, &Uri::from_static("/"), &headers, b"{}"), "SendCommand");
        assert_eq!(named("ec2", "POST", "/", "Action=DescribeVpcs&Version=2016-11-15"), "DescribeVpcs");
        assert_eq!(named("vpc_lattice", "POST", "/services/svc-1/listeners", "{}"), "CreateListener");
        assert_eq!(named("vpc_lattice", "GET", "/servicenetworks", ""), "ListServiceNetworks");
        assert_eq!(named("vpc_lattice", "DELETE", "/targetgroups/tg-1", ""), "DeleteTargetGroup");
        assert_eq!(named("vpc_lattice", "POST", "/targetgroups/tg-1/listtargets", "{}"), "ListTargets");
        assert_eq!(named("route_53", "POST", "/2013-04-01/hostedzone/Z1/rrset/", ""), "ChangeResourceRecordSets");
        assert_eq!(named("lambda", "POST", "/2015-03-31/functions/mint/invocations", ""), "Invoke");
    }

    #[tokio::test]
    async fn passes_on_counts_and_keeps() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", upstream.local_addr().unwrap());
        let app = Router::new().fallback(async |body: Bytes| (StatusCode::CONFLICT, [body, Bytes::from("!")].concat()));
        tokio::spawn(async move { axum::serve(upstream, app).await });
        let gateway = Gateway::start(&[("ssm", base)]).await.unwrap();
        let url = gateway.endpoints()["AWS_ENDPOINT_URL_SSM"].clone();
        let request = reqwest::Client::new().post(url).header("x-amz-target", "AmazonSSM.GetParameter").body("hello");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 409);
        assert_eq!(answer.text().await.unwrap(), "hello!");
        assert_eq!(gateway.counts(), BTreeMap::from([("ssm.GetParameter".to_owned(), 1)]));
        assert_eq!(gateway.passed()[0].answer, "hello!");
    }

    #[tokio::test]
    async fn faults_happen_before_after_and_instead_of_the_effect() {
        use crate::chaos::Fault;

        let effects = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", upstream.local_addr().unwrap());
        let counted = Arc::clone(&effects);
        let app = Router::new()
            .fallback(async move || (counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1).to_string());
        tokio::spawn(async move { axum::serve(upstream, app).await });
        let chaos = Chaos::default();
        let gateway = Gateway::start_under(&[("ssm", base)], &chaos).await.unwrap();
        let url = gateway.endpoints()["AWS_ENDPOINT_URL_SSM"].clone();
        let call = async || {
            let request = reqwest::Client::new().post(&url).header("x-amz-target", "AmazonSSM.SendCommand");
            let answer = request.send().await.ok()?;
            Some((answer.status().as_u16(), answer.text().await.ok()?))
        };
        let expected = [
            (CallFault::Unavailable, Some(503), 0),
            (CallFault::Throttle, Some(400), 0),
            (CallFault::Refuse, None, 0),
            (CallFault::KillBefore, None, 0),
            (CallFault::LoseAnswer, None, 1),
            (CallFault::KillAfter, None, 1),
            (CallFault::Twice, Some(200), 2),
            (CallFault::Delay(10), Some(200), 1),
        ];
        for (what, status, happened) in expected {
            let before = effects.load(std::sync::atomic::Ordering::SeqCst);
            chaos.arm(vec![Fault::Call { operation: "ssm.SendCommand", first: 1, last: 1, what }]);
            assert_eq!(call().await.map(|(status, _)| status), status, "{what:?}");
            assert_eq!(effects.load(std::sync::atomic::Ordering::SeqCst) - before, happened, "{what:?}");
        }
        chaos.disarm();
        assert_eq!(call().await.map(|(status, _)| status), Some(200));
    }
}
