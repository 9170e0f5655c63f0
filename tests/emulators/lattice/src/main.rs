//! winterbaume's VPC Lattice behind two loopback ports: as it is, and with what it loses put back.
//!
//! It owns no behaviour: every answer is winterbaume's. What winterbaume takes and does not keep is remembered here and
//! added to the answers, because nothing can be reconciled in a world that forgets; `sequence.py` holds that each such
//! addition is still needed. Both ports show the same state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Response, StatusCode, Uri};
use serde_json::{Map, Value, json};
use winterbaume_core::{MockRequest, MockResponse, MockService};
use winterbaume_vpclattice::VpcLatticeService;

/// One view of the emulator.
#[derive(Clone)]
struct View {
    lattice: Arc<VpcLatticeService>,
    kept: Arc<Mutex<HashMap<String, Map<String, Value>>>>,
    region: Arc<str>,
    is_mended: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let region = std::env::args().nth(1).unwrap_or_else(|| "eu-west-1".to_owned());
    let mended = View { lattice: Arc::default(), kept: Arc::default(), region: region.into(), is_mended: true };
    let bare = View { is_mended: false, ..mended.clone() };
    let listen = || tokio::net::TcpListener::bind("127.0.0.1:0");
    let (first, second) = (listen().await?, listen().await?);
    println!("{} {}", first.local_addr()?.port(), second.local_addr()?.port());
    let serve = |listener, view| axum::serve(listener, Router::new().fallback(answer).with_state(view)).into_future();
    tokio::try_join!(serve(first, mended), serve(second, bare)).map(|_| ())
}

async fn answer(State(view): State<View>, method: Method, uri: Uri, body: Bytes) -> Response<Body> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // The Region is read from the host name; a loopback address would put everything into us-east-1.
    let request = MockRequest {
        method: method.to_string(),
        uri: format!("https://vpc-lattice.{}.amazonaws.com{path}", view.region),
        headers: axum::http::HeaderMap::new(),
        body: body.clone(),
    };
    let mut answer = view.lattice.handle(request).await;
    view.remember(&method, uri.path(), &body, &answer);
    if view.is_mended && method == Method::GET && answer.status == 200 {
        view.mend(uri.path(), &mut answer);
    }
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = answer.headers;
    response
}

impl View {
    /// Keeps what winterbaume takes and forgets, under the id of the resource.
    fn remember(&self, method: &Method, path: &str, body: &[u8], answer: &MockResponse) {
        let words: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (Ok(Value::Object(request)), Ok(told)) = (serde_json::from_slice(body), read(answer)) else { return };
        if !matches!(answer.status, 200 | 201 | 202) {
            return;
        }
        let created = || told["id"].as_str().map(str::to_owned);
        let (id, members) = match (method.as_str(), words.as_slice()) {
            ("POST", ["services"]) => (created(), pick(&request, &["customDomainName", "idleTimeoutSeconds"])),
            ("PATCH", ["services", id]) => (Some((*id).to_owned()), pick(&request, &["idleTimeoutSeconds"])),
            ("POST", ["targetgroups"]) => {
                let config = request.get("config").and_then(Value::as_object);
                (created(), config.map(|config| pick(config, &["healthCheck"])).unwrap_or_default())
            }
            ("PATCH", ["targetgroups", id]) => (Some((*id).to_owned()), pick(&request, &["healthCheck"])),
            _ => return,
        };
        if let (Some(id), Ok(mut kept)) = (id, self.kept.lock()) {
            merge(kept.entry(id).or_default(), members);
        }
    }

    /// Puts it into the answer to a `Get`, and the name that VPC Lattice generates for a service.
    fn mend(&self, path: &str, answer: &mut MockResponse) {
        let words: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (Ok(mut told), Ok(kept)) = (read(answer), self.kept.lock()) else { return };
        let known = told["id"].as_str().and_then(|id| kept.get(id)).cloned().unwrap_or_default();
        match words.as_slice() {
            ["services", _] => {
                let id = told["id"].as_str().unwrap_or_default().trim_start_matches("svc-").replace('-', "");
                let name = told["name"].as_str().unwrap_or_default();
                let domain = format!("{name}-{id}.7d67968.vpc-lattice-svcs.{}.on.aws", self.region);
                add(&mut told, known);
                told["dnsEntry"] = json!({ "domainName": domain, "hostedZoneId": "Z09127221KTH2CFUOHIZH" });
            }
            ["targetgroups", _] => add(&mut told["config"], known),
            _ => return,
        }
        answer.body = Bytes::from(told.to_string());
        answer.headers.remove("content-length");
    }
}

fn read(answer: &MockResponse) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(&answer.body)
}

fn pick(from: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    from.iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// What an update leaves out keeps its value, and 0 resets a number to its default, which is left out of an answer here
/// (API reference, `HealthCheckConfig`).
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            (_, Value::Object(from)) => {
                let mut fresh = Map::new();
                merge(&mut fresh, from);
                into.insert(name, Value::Object(fresh));
            }
            (_, value) if value == 0 => drop(into.remove(&name)),
            (_, value) => drop(into.insert(name, value)),
        }
    }
}

fn add(to: &mut Value, members: Map<String, Value>) {
    if let Value::Object(to) = to {
        to.extend(members);
    }
}
