//! Systems Manager, as far as the product uses it: Run Command that really runs, documents, and managed instances.
//!
//! Parameter Store is passed on to the emulator behind, after the checks it lacks; what changes there is announced as
//! `Parameter Store Change`. What AWS refuses is refused here, and every refusal names its documentation ([`rules`]).

#![expect(clippy::wildcard_enum_match_arm, reason = "every other kind of JSON value is refused alike")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;

mod command;
mod documents;
mod inventory;
mod parameters;
pub mod rules;
mod run;

use command::Command;
use documents::Document;
use rules::{Fault, Rule};

/// The largest request: a document is 64 KB, a parameter 8 KB.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The answer of an operation.
type Answer = Result<Value, Fault>;

/// Where events go.
pub trait EventSink: Send + Sync {
    /// Takes one event. Delivery is the sink's business.
    fn emit(&self, source: &str, detail_type: &str, resources: Vec<String>, detail: Value);
}

/// A sink for nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit(&self, _: &str, _: &str, _: Vec<String>, _: Value) {}
}

/// How the stand-in behaves where AWS leaves it open.
#[derive(Debug, Clone)]
pub struct Options {
    /// Base URL of the Parameter Store behind.
    pub upstream: String,
    /// The region in ARNs.
    pub region: String,
    /// The account in ARNs: 12 digits.
    pub account: String,
    /// Where scripts are written while they run; made if it is not there.
    pub scratch: PathBuf,
    /// How long a new command is not visible to `GetCommandInvocation`.
    pub hidden: Duration,
    /// How long a second of a delivery timeout takes (execution runs in real time).
    pub delivery_second: Duration,
    /// What scripts find first in their environment; the guest's own variables are added.
    pub path: String,
}

impl Options {
    /// Region `eu-west-1`, account `000000000000`, 100 ms of invisibility, real time.
    pub fn new(upstream: impl Into<String>, scratch: impl Into<PathBuf>) -> Self {
        Self {
            upstream: upstream.into().trim_end_matches('/').to_owned(),
            region: "eu-west-1".into(),
            account: "000000000000".into(),
            scratch: scratch.into(),
            hidden: Duration::from_millis(100),
            delivery_second: Duration::from_secs(1),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        }
    }
}

/// A host with an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedInstance {
    /// `i-...`.
    pub id: String,
    /// The private address its agent reports.
    pub ip: IpAddr,
    /// Instance tags.
    pub tags: BTreeMap<String, String>,
    /// Whether the agent is heard. While it is not, commands are not delivered.
    pub online: bool,
    /// The agent's version; from 3.3.2746.0 on it knows `ENV_VAR`.
    pub agent_version: String,
    /// What the agent's scripts find in their environment, besides `PATH` and `SSM_*`.
    pub environment: BTreeMap<String, String>,
    /// Where scripts start.
    pub directory: PathBuf,
}

/// Why an instance was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The id has not the form of an instance id.
    #[error("{0} is not an instance id")]
    Id(String),
    /// A script could reach an account over this endpoint.
    #[error("{variable} of {id} is not an http URL of a loopback address")]
    Endpoint {
        /// The instance.
        id: String,
        /// The variable.
        variable: String,
    },
}

/// What a command printed, untruncated, for the leak check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// The command.
    pub command_id: String,
    /// The instance.
    pub instance_id: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

#[derive(Default)]
struct State {
    documents: BTreeMap<String, Document>,
    instances: BTreeMap<String, ManagedInstance>,
    commands: BTreeMap<String, Command>,
    /// Oldest first.
    order: Vec<String>,
    counts: BTreeMap<String, u64>,
    next: u64,
}

struct Inner {
    options: Options,
    sink: Arc<dyn EventSink>,
    http: reqwest::Client,
    state: Mutex<State>,
    address: SocketAddr,
}

/// The stand-in. Clones are the same one.
#[derive(Clone)]
pub struct Ssm {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Ssm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ssm").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

impl Ssm {
    /// Opens a loopback port and serves until the runtime ends.
    ///
    /// # Errors
    /// No port could be opened, or no directory made for scripts.
    pub async fn start(options: Options, sink: Arc<dyn EventSink>) -> io::Result<Self> {
        tokio::fs::create_dir_all(&options.scratch).await?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let address = listener.local_addr()?;
        let http = reqwest::Client::new();
        let ssm = Self { inner: Arc::new(Inner { options, sink, http, state: Mutex::default(), address }) };
        let served = ssm.clone();
        let app = Router::new().fallback(move |request: Request| {
            let ssm = served.clone();
            async move { ssm.serve(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(ssm)
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.inner.address)
    }

    /// The region in ARNs.
    pub fn region(&self) -> &str {
        &self.inner.options.region
    }

    /// The account in ARNs.
    pub fn account(&self) -> &str {
        &self.inner.options.account
    }

    /// How often each operation was called.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.state().counts.clone()
    }

    /// Adds a managed instance, or replaces it.
    ///
    /// # Errors
    /// The id is none, or its environment leads out of loopback.
    pub fn register(&self, instance: ManagedInstance) -> Result<(), RegisterError> {
        inventory::check(&instance)?;
        self.state().instances.insert(instance.id.clone(), instance);
        Ok(())
    }

    /// Takes an instance out of the inventory; whether it was there.
    pub fn deregister(&self, id: &str) -> bool {
        self.state().instances.remove(id).is_some()
    }

    /// Sets whether an agent is heard; whether the instance is known.
    pub fn set_online(&self, id: &str, online: bool) -> bool {
        self.state().instances.get_mut(id).map(|instance| instance.online = online).is_some()
    }

    /// Sets one of an instance's tags; whether the instance is known.
    pub fn set_tag(&self, id: &str, key: &str, value: &str) -> bool {
        let mut state = self.state();
        let instance = state.instances.get_mut(id);
        instance.map(|instance| instance.tags.insert(key.to_owned(), value.to_owned())).is_some()
    }

    /// The ids of the managed instances.
    pub fn instances(&self) -> BTreeSet<String> {
        self.state().instances.keys().cloned().collect()
    }

    /// What every command printed so far.
    pub fn command_outputs(&self) -> Vec<CommandOutput> {
        let state = self.state();
        state.order.iter().filter_map(|id| state.commands.get(id)).flat_map(Command::outputs).collect()
    }

    /// Performs an operation of the stand-in itself (not of Parameter Store), as over HTTP.
    ///
    /// # Errors
    /// What AWS would answer.
    pub fn call(&self, operation: &str, request: &Value) -> Result<Value, Fault> {
        self.perform(operation, request).unwrap_or_else(|| Err(Fault::new(Rule::Unknown, operation)))
    }

    /// A poisoned lock means a handler panicked; the state is still the last whole one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn emit(&self, detail_type: &str, resources: Vec<String>, detail: Value) {
        self.inner.sink.emit("aws.ssm", detail_type, resources, detail);
    }

    /// `None`: not ours.
    fn perform(&self, operation: &str, request: &Value) -> Option<Answer> {
        Some(match operation {
            "CreateDocument" => self.create_document(request),
            "UpdateDocument" => self.update_document(request),
            "UpdateDocumentDefaultVersion" => self.update_default_version(request),
            "DescribeDocument" => self.describe_document(request),
            "GetDocument" => self.get_document(request),
            "DeleteDocument" => self.delete_document(request),
            "DescribeInstanceInformation" => self.describe_instances(request),
            "SendCommand" => self.send_command(request),
            "GetCommandInvocation" => self.get_command_invocation(request),
            "ListCommandInvocations" => self.list_command_invocations(request),
            "ListCommands" => self.list_commands(request),
            "CancelCommand" => self.cancel_command(request),
            _ => return None,
        })
    }

    async fn serve(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
            return refuse(&Fault::new(Rule::NotJson, "the body is longer than 1 MiB or was cut off"));
        };
        match self.answer(&parts.headers, body).await {
            Ok(response) => response,
            Err(fault) => refuse(&fault),
        }
    }

    async fn answer(&self, headers: &HeaderMap, body: Bytes) -> Result<Response, Fault> {
        let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(operation) = target.strip_prefix("AmazonSSM.") else {
            return Err(Fault::new(Rule::Unknown, target));
        };
        *self.state().counts.entry(operation.to_owned()).or_default() += 1;
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if !authorization.unwrap_or_default().contains("/ssm/aws4_request") {
            return Err(Fault::new(Rule::Unsigned, "Authorization"));
        }
        let request: Value =
            serde_json::from_slice(&body).map_err(|error| Fault::new(Rule::NotJson, error.to_string()))?;
        if !request.is_object() {
            return Err(Fault::new(Rule::NotJson, "the body is not an object"));
        }
        match self.perform(operation, &request) {
            Some(answer) => answer.map(|answer| respond(StatusCode::OK, &answer)),
            None if parameters::OPERATIONS.contains(&operation) => {
                self.pass_parameter(operation, headers, body, &request).await
            }
            None => Err(Fault::new(Rule::Unknown, operation)),
        }
    }
}

fn respond(status: StatusCode, answer: &Value) -> Response {
    let mut response = Response::new(Body::from(answer.to_string()));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn refuse(fault: &Fault) -> Response {
    let documented = fault.rule.documented();
    let body = json!({"__type": documented.error, "message": fault.message(), "Message": fault.message()});
    let status = if fault.rule == Rule::Upstream { StatusCode::BAD_GATEWAY } else { StatusCode::BAD_REQUEST };
    let mut response = respond(status, &body);
    let kind = header::HeaderValue::from_static(documented.error);
    response.headers_mut().insert("x-amzn-errortype", kind);
    response
}
