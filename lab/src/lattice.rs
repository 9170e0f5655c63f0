//! VPC Lattice, as far as TLS passthrough goes: a strict control plane over HTTP and a data plane on loopback sockets.
//!
//! What AWS refuses is refused here, and every refusal names the documentation it rests on ([`rules`]). Creations,
//! updates and deletions take time, so that a caller that does not wait is found out. Clients, targets and the prober
//! are admitted by the VPC associations and security groups that EC2 and this control plane hold.
//!
//! Invariant: the data plane decides each connection from the state at that moment; no other copy of it exists.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::fabric::{Fabric, lock};

mod auth;
mod checker;
mod data_plane;
mod dispatch;
mod groups;
mod health;
mod hello;
mod http;
mod listeners;
mod logs;
mod model;
mod page;
pub mod rules;
mod services;
mod state;
mod tally;

pub use model::ModelError;
use model::{Model, Operation};
use rules::{Fault, Rule};
use state::State;

/// The stand-in advances by itself this often; requests advance it too.
const TICK: Duration = Duration::from_millis(50);
/// The last events kept for a reader.
const EVENTS_MAX: usize = 1_000;

/// The answer of an operation.
type Answer = Result<Value, Fault>;

/// How the stand-in behaves where AWS leaves it open, and how fast its time runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The region in ARNs and generated names.
    pub region: String,
    /// The account in ARNs: 12 digits.
    pub account: String,
    /// The hosted zone of generated names (`dnsEntry.hostedZoneId`).
    pub hosted_zone_id: String,
    /// How long creations are in progress.
    pub create_delay: Duration,
    /// How long updates of VPC associations are in progress.
    pub update_delay: Duration,
    /// How long deletions are in progress.
    pub delete_delay: Duration,
    /// How long a new target is `INITIAL`.
    pub register_delay: Duration,
    /// How long a deregistered target drains; about one minute on AWS.
    pub draining: Duration,
    /// Items on a page when the caller does not say; small, so that callers that do not page are found out.
    pub page_size: usize,
    /// The longest a connection lives: ten minutes (UG tls-listeners).
    pub connection_max: Duration,
    /// How many times faster than it passes the time since a listener's last change is told.
    pub pace: u8,
    /// How long a second of a health check's interval and timeout takes.
    pub second: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            region: "eu-west-1".into(),
            account: "000000000000".into(),
            hosted_zone_id: "Z09127221KTH2CFUOHIZH".into(),
            create_delay: Duration::from_millis(400),
            update_delay: Duration::from_millis(300),
            delete_delay: Duration::from_millis(400),
            register_delay: Duration::from_millis(300),
            draining: Duration::from_secs(2),
            page_size: 5,
            connection_max: Duration::from_secs(600),
            pace: 1,
            second: Duration::from_secs(1),
        }
    }
}

/// The stand-in could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not free.
    #[error("VPC Lattice cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The checked-in model is broken.
    #[error("the API model cannot be used")]
    Model(#[from] ModelError),
}

/// Connections that the data plane has made to one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetConnections {
    /// Instance id or address.
    pub target: String,
    /// Port.
    pub port: u16,
    /// Connections opened so far.
    pub opened: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections that could not be opened.
    pub failed: u64,
}

/// Something the data plane did other than pass bytes: a refusal, a timeout, an end by its own decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One of `NotAdmitted`, `NotAuthorized`, `NoHello`, `WrongName`, `NoTarget`, `TargetUnreachable`, `IdleTimeout`, `MaxDuration`,
    /// `Drained`.
    pub what: &'static str,
    /// To whom or why.
    pub detail: String,
}

#[derive(Debug)]
struct Throttle {
    operation: Option<String>,
    left: u32,
    retry_after_s: u32,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    model: Model,
    fabric: Fabric,
    state: Mutex<State>,
    doors: tokio::sync::Mutex<data_plane::Doors>,
    calls: Mutex<BTreeMap<String, u64>>,
    throttles: Mutex<Vec<Throttle>>,
    events: Mutex<Vec<Event>>,
    event_counts: Mutex<BTreeMap<&'static str, u64>>,
    faults: Mutex<Vec<String>>,
    address: SocketAddr,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// A running stand-in. Cheap to clone; [`Lattice::stop`] ends it.
#[derive(Debug, Clone)]
pub struct Lattice(Arc<Inner>);

impl Lattice {
    /// Serves the API on `address` (port 0 for any) and opens listeners as they are created.
    pub async fn start(address: SocketAddr, fabric: Fabric, options: Options) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        let lattice = Self(Arc::new(Inner {
            model: Model::load()?,
            fabric,
            state: Mutex::new(State::new(options.clone())),
            options,
            doors: tokio::sync::Mutex::default(),
            calls: Mutex::default(),
            throttles: Mutex::default(),
            events: Mutex::default(),
            event_counts: Mutex::default(),
            faults: Mutex::default(),
            address: bound,
            tasks: Mutex::default(),
        }));
        let router = lattice.router();
        let serving = tokio::spawn(async move { axum::serve(socket, router).await });
        let ticking = tokio::spawn(lattice.clone().tick());
        *lock(&lattice.0.tasks) = vec![serving.abort_handle(), ticking.abort_handle()];
        Ok(lattice)
    }

    /// The API as a router, for whoever serves it under another address.
    pub fn router(&self) -> axum::Router {
        http::router(self.clone())
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Calls so far by operation name, refused ones included.
    pub fn api_calls(&self) -> BTreeMap<String, u64> {
        lock(&self.0.calls).clone()
    }

    /// Answers the next `times` calls of `operation` (every operation when `None`) with `ThrottlingException`.
    pub fn throttle(&self, operation: Option<&str>, times: u32, retry_after_s: u32) {
        let operation = operation.map(str::to_owned);
        lock(&self.0.throttles).push(Throttle { operation, left: times, retry_after_s });
    }

    /// From now on tells the time since a listener's last change as `pace` times what passes, so that nobody has to sit
    /// through ten minutes.
    pub fn quicken(&self, pace: u8) {
        lock(&self.0.state).options.pace = pace;
    }

    /// The address of a service's generated name; names resolve whoever asks, as AWS's public ones do.
    pub fn resolve(&self, name: &str) -> Option<Ipv4Addr> {
        let name = name.trim_end_matches('.');
        let mut state = lock(&self.0.state);
        state.settle(OffsetDateTime::now_utc());
        let mut services = state.services.iter();
        let found = services.find(|(id, service)| state.dns_name(id, service).eq_ignore_ascii_case(name));
        found.filter(|(_, service)| service.life.phase != state::Phase::Creating).map(|(_, service)| service.address)
    }

    /// Connections by target, over all target groups.
    pub fn connections(&self) -> Vec<TargetConnections> {
        let state = lock(&self.0.state);
        let targets = state.groups.values().flat_map(|group| &group.targets);
        targets
            .map(|((target, port), known)| {
                let (opened, open, failed) = known.tally.counts();
                TargetConnections { target: target.clone(), port: *port, opened, open, failed }
            })
            .collect()
    }

    /// How many target groups listeners forward to with some weight.
    pub fn groups_in_use(&self) -> usize {
        let state = lock(&self.0.state);
        let weighted = state.listeners.values().flat_map(|listener| listener.action.groups());
        weighted.filter(|weighted| weighted.weight > 0).count()
    }

    /// The latest thousand events of the data plane.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.0.events).clone()
    }

    /// How often each kind of event has happened.
    pub fn event_counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.0.event_counts).clone()
    }

    /// Mistakes of the stand-in itself: answers that break the API's model, listeners that could not be opened.
    pub fn faults(&self) -> Vec<String> {
        lock(&self.0.faults).clone()
    }

    /// Everything that exists, as ARNs with their tags; empty after a clean teardown.
    pub fn resources(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut state = lock(&self.0.state);
        state.settle(OffsetDateTime::now_utc());
        let arns = (state.networks.keys().map(|id| state.network_arn(id)))
            .chain(state.services.keys().map(|id| state.service_arn(id)))
            .chain(state.listeners.iter().map(|(id, listener)| state.listener_arn(&listener.service, id)))
            .chain(state.groups.keys().map(|id| state.group_arn(id)))
            .chain(state.service_associations.keys().map(|id| state.service_association_arn(id)))
            .chain(state.vpc_associations.keys().map(|id| state.vpc_association_arn(id)));
        arns.map(|arn| (arn.clone(), state.tags.get(&arn).cloned().unwrap_or_default())).collect()
    }

    /// Ends the API and closes every listener.
    pub async fn stop(&self) {
        for task in lock(&self.0.tasks).drain(..) {
            task.abort();
        }
        self.0.doors.lock().await.sync(self, &[]).await;
    }
}

/// What the stand-in's own parts use.
impl Lattice {
    fn model(&self) -> &Model {
        &self.0.model
    }

    fn fabric(&self) -> &Fabric {
        &self.0.fabric
    }

    fn options(&self) -> &Options {
        &self.0.options
    }

    fn count(&self, operation: &str) {
        *lock(&self.0.calls).entry(operation.to_owned()).or_default() += 1;
    }

    fn note(&self, what: &'static str, detail: &str) {
        *lock(&self.0.event_counts).entry(what).or_default() += 1;
        let mut events = lock(&self.0.events);
        if events.len() == EVENTS_MAX {
            events.remove(0);
        }
        events.push(Event { what, detail: detail.to_owned() });
    }

    fn fault(&self, fault: String) {
        let mut faults = lock(&self.0.faults);
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    fn throttled(&self, operation: &str) -> Result<(), Fault> {
        let mut throttles = lock(&self.0.throttles);
        let due = throttles.iter_mut().find(|t| t.left > 0 && t.operation.as_deref().is_none_or(|o| o == operation));
        let Some(throttle) = due else { return Ok(()) };
        throttle.left -= 1;
        let retry_after_s = Some(throttle.retry_after_s);
        throttles.retain(|throttle| throttle.left > 0);
        Err(Fault { retry_after_s, ..Fault::new(Rule::Throttled, operation) })
    }

    async fn perform(&self, operation: &str, request: &Value) -> Answer {
        let asks_ec2 = matches!(
            operation,
            "CreateTargetGroup"
                | "RegisterTargets"
                | "CreateServiceNetworkVpcAssociation"
                | "UpdateServiceNetworkVpcAssociation"
        );
        let ec2 = match asks_ec2 {
            true => self.0.fabric.network().await.map_err(|error| Fault::new(Rule::NotKnown, error.to_string()))?,
            false => Arc::default(),
        };
        let answer = lock(&self.0.state).perform(operation, request, &ec2, OffsetDateTime::now_utc());
        // A listener that was created listens when the caller reads so.
        if operation.ends_with("Listener") || operation == "DeleteService" {
            self.sync_doors().await;
        }
        answer
    }

    fn check_answer(&self, name: &str, operation: &Operation, answer: &Value) {
        for broken in self.0.model.check_output(operation, answer) {
            self.fault(format!("{name} answered {} that {}", broken.path, broken.problem));
        }
    }

    async fn sync_doors(&self) {
        let mut doors = self.0.doors.lock().await;
        let wanted = lock(&self.0.state).doors();
        for problem in doors.sync(self, &wanted).await {
            self.fault(problem);
        }
    }

    fn gatekeeping(&self, listener: &str) -> Option<listeners::Gatekeeping> {
        let mut state = lock(&self.0.state);
        state.settle(OffsetDateTime::now_utc());
        state.gatekeeping(listener)
    }

    async fn route(&self, listener: &str) -> Option<listeners::Route> {
        let network = self.0.fabric.recent_network().await.ok()?;
        lock(&self.0.state).route(listener, &network, OffsetDateTime::now_utc())
    }

    fn record_check(&self, due: &checker::Due, passed: bool) {
        let mut state = lock(&self.0.state);
        let group = state.groups.get_mut(&due.group).filter(|group| group.health_check == due.check);
        if let Some(target) = group.and_then(|group| group.targets.get_mut(&due.target)) {
            target.health.record(passed, &due.check);
        }
    }

    async fn tick(self) {
        let mut checker = checker::Checker::default();
        loop {
            tokio::time::sleep(TICK).await;
            lock(&self.0.state).settle(OffsetDateTime::now_utc());
            self.sync_doors().await;
            // EC2 is asked only while there is something to check.
            let checked = lock(&self.0.state).has_health_checks();
            if checked && let Ok(network) = self.0.fabric.recent_network().await {
                let due = lock(&self.0.state).health_checks(&network);
                checker.tick(&self, due);
            }
        }
    }
}

/// Reads the members that an operation needs; the model has checked their types before.
fn input<T: DeserializeOwned>(request: &Value) -> Result<T, Fault> {
    T::deserialize(request).map_err(|error| Fault::new(Rule::NotJson, error.to_string()))
}
