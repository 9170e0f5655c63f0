//! What exists, and how it changes by itself as time passes.
//!
//! Nothing here looks at a clock: `now` is an argument, and [`State::settle`] moves everything whose time has come.
//! Identifiers grow, so every map lists in order of creation.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Options;
use super::health::{Health, HealthCheck};
use super::logs::LogSubscription;
use super::rules::{Fault, Rule};
use super::tally::Tally;

/// A point in time.
pub(super) type Moment = OffsetDateTime;

/// Where a resource is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Creating,
    Active,
    Updating,
    Deleting,
}

impl Phase {
    pub(super) const fn status(self) -> &'static str {
        match self {
            Self::Creating => "CREATE_IN_PROGRESS",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATE_IN_PROGRESS",
            Self::Deleting => "DELETE_IN_PROGRESS",
        }
    }
}

/// A resource's phase and when it ends by itself.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) phase: Phase,
    until: Moment,
    pub(super) created: Moment,
    pub(super) updated: Moment,
}

impl Life {
    pub(super) fn begin(now: Moment, delay: Duration) -> Self {
        Self { phase: Phase::Creating, until: now + delay, created: now, updated: now }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Moment, delay: Duration) {
        (self.phase, self.until, self.updated) = (phase, now + delay, now);
    }

    pub(super) fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    /// Moves on; false once the resource is gone.
    fn settle(&mut self, now: Moment) -> bool {
        match self.phase {
            Phase::Active => true,
            Phase::Creating | Phase::Updating => {
                if now >= self.until {
                    self.phase = Phase::Active;
                }
                true
            }
            Phase::Deleting => now < self.until,
        }
    }
}

#[derive(Debug)]
pub(super) struct ServiceNetwork {
    pub(super) name: String,
    pub(super) auth_type: String,
    pub(super) sharing: Option<Value>,
    pub(super) created: Moment,
    pub(super) updated: Moment,
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) custom_domain: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) auth_type: String,
    pub(super) idle_timeout_s: u64,
    pub(super) address: Ipv4Addr,
    pub(super) life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerProtocol {
    Http,
    Https,
    TlsPassthrough,
}

impl ListenerProtocol {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::TlsPassthrough => "TLS_PASSTHROUGH",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weighted {
    pub(super) group: String,
    pub(super) weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Forward(Vec<Weighted>),
    FixedResponse(u16),
}

impl Action {
    pub(super) fn groups(&self) -> &[Weighted] {
        match self {
            Self::Forward(groups) => groups,
            Self::FixedResponse(_) => &[],
        }
    }
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) protocol: ListenerProtocol,
    pub(super) port: u16,
    pub(super) action: Action,
    pub(super) created: Moment,
    pub(super) updated: Moment,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) protocol: Option<String>,
    pub(super) protocol_version: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) vpc: Option<String>,
    pub(super) address_type: Option<String>,
    pub(super) lambda_event_version: Option<String>,
    pub(super) health_check: HealthCheck,
    /// By id and port.
    pub(super) targets: BTreeMap<(String, u16), Target>,
    pub(super) life: Life,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) initial_until: Moment,
    pub(super) draining_until: Option<Moment>,
    pub(super) health: Health,
    pub(super) tally: Arc<Tally>,
}

#[derive(Debug)]
pub(super) struct ServiceAssociation {
    pub(super) network: String,
    pub(super) service: String,
    pub(super) life: Life,
}

#[derive(Debug)]
pub(super) struct VpcAssociation {
    pub(super) network: String,
    pub(super) vpc: String,
    pub(super) security_groups: Vec<String>,
    pub(super) private_dns: bool,
    pub(super) life: Life,
}

/// An answered creation, for requests that come again with the same token.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) input: Value,
    pub(super) answer: Value,
}

/// Everything the control plane knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: Options,
    pub(super) networks: BTreeMap<String, ServiceNetwork>,
    pub(super) services: BTreeMap<String, Service>,
    pub(super) listeners: BTreeMap<String, Listener>,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) service_associations: BTreeMap<String, ServiceAssociation>,
    pub(super) vpc_associations: BTreeMap<String, VpcAssociation>,
    pub(super) log_subscriptions: BTreeMap<String, LogSubscription>,
    /// Auth policies by the id of their service or service network.
    pub(super) policies: BTreeMap<String, String>,
    /// Tags by ARN.
    pub(super) tags: BTreeMap<String, BTreeMap<String, String>>,
    /// By operation and client token.
    pub(super) tokens: BTreeMap<(String, String), Remembered>,
    /// How often each service's listeners have chosen a target; the source of weighted turns.
    pub(super) turns: BTreeMap<String, u64>,
    issued: u32,
    entropy: RandomState,
}

impl State {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            networks: BTreeMap::new(),
            services: BTreeMap::new(),
            listeners: BTreeMap::new(),
            groups: BTreeMap::new(),
            service_associations: BTreeMap::new(),
            vpc_associations: BTreeMap::new(),
            log_subscriptions: BTreeMap::new(),
            policies: BTreeMap::new(),
            tags: BTreeMap::new(),
            tokens: BTreeMap::new(),
            turns: BTreeMap::new(),
            issued: 0,
            entropy: RandomState::new(),
        }
    }

    /// Ends every phase whose time has come, and removes what is gone with all that belonged to it.
    pub(super) fn settle(&mut self, now: Moment) {
        self.service_associations.retain(|_, association| association.life.settle(now));
        self.vpc_associations.retain(|_, association| association.life.settle(now));
        self.services.retain(|_, service| service.life.settle(now));
        // Deleting a service deletes its listeners (API DeleteService); they stop with its deletion's end.
        let services = &self.services;
        self.listeners.retain(|_, listener| services.contains_key(&listener.service));
        // With the service goes its policy (API DeleteService); with a network, its own.
        let networks = &self.networks;
        self.policies.retain(|id, _| services.contains_key(id) || networks.contains_key(id));
        // And its access-log subscriptions.
        self.log_subscriptions
            .retain(|_, one| services.contains_key(&one.resource) || networks.contains_key(&one.resource));
        self.groups.retain(|_, group| group.life.settle(now));
        for group in self.groups.values_mut() {
            group.targets.retain(|_, target| {
                let stays = target.draining_until.is_none_or(|until| now < until);
                if !stays {
                    target.tally.close();
                }
                stays
            });
        }
        let gone: Vec<String> = self.tags.keys().filter(|arn| !self.exists(arn)).cloned().collect();
        for arn in gone {
            self.tags.remove(&arn);
        }
    }

    /// A moment as callers are told it: as long ago as it would be if all the time since had run at the pace of now.
    pub(super) fn told(&self, moment: Moment, now: Moment) -> Moment {
        now - (now - moment) * i32::from(self.options.pace)
    }

    /// A fresh identifier: `prefix` and 17 lower-case alphanumerics.
    pub(super) fn issue(&mut self, prefix: &str) -> String {
        self.issued += 1;
        let mut hasher = self.entropy.build_hasher();
        hasher.write_u32(self.issued);
        format!("{prefix}0{:08x}{:08x}", self.issued, hasher.finish() as u32)
    }

    /// The ARN of `path`, for example `service/svc-…`.
    pub(super) fn arn(&self, path: &str) -> String {
        format!("arn:aws:vpc-lattice:{}:{}:{path}", self.options.region, self.options.account)
    }

    pub(super) fn service_arn(&self, id: &str) -> String {
        self.arn(&format!("service/{id}"))
    }

    pub(super) fn listener_arn(&self, service: &str, id: &str) -> String {
        self.arn(&format!("service/{service}/listener/{id}"))
    }

    pub(super) fn network_arn(&self, id: &str) -> String {
        self.arn(&format!("servicenetwork/{id}"))
    }

    pub(super) fn group_arn(&self, id: &str) -> String {
        self.arn(&format!("targetgroup/{id}"))
    }

    pub(super) fn service_association_arn(&self, id: &str) -> String {
        self.arn(&format!("servicenetworkserviceassociation/{id}"))
    }

    pub(super) fn vpc_association_arn(&self, id: &str) -> String {
        self.arn(&format!("servicenetworkvpcassociation/{id}"))
    }

    /// Does the resource with this ARN exist?
    pub(super) fn exists(&self, arn: &str) -> bool {
        let id = tail(arn);
        arn.starts_with(&self.arn(""))
            && (self.networks.contains_key(id)
                || self.services.contains_key(id)
                || self.listeners.contains_key(id)
                || self.groups.contains_key(id)
                || self.service_associations.contains_key(id)
                || self.vpc_associations.contains_key(id)
                || self.log_subscriptions.contains_key(id))
    }

    /// Looks a service up by id or ARN.
    pub(super) fn service(&self, identifier: &str) -> Result<(String, &Service), Fault> {
        look_up(&self.services, "SERVICE", identifier)
    }

    /// Looks a listener of a service up by id or ARN.
    pub(super) fn listener(&self, service: &str, identifier: &str) -> Result<(String, &Listener), Fault> {
        let (service, _) = self.service(service)?;
        let (id, listener) = look_up(&self.listeners, "LISTENER", identifier)?;
        if listener.service == service { Ok((id, listener)) } else { Err(missing("LISTENER", identifier)) }
    }

    /// Looks a service network up by id or ARN.
    pub(super) fn network(&self, identifier: &str) -> Result<(String, &ServiceNetwork), Fault> {
        look_up(&self.networks, "SERVICE_NETWORK", identifier)
    }

    /// Looks a target group up by id or ARN.
    pub(super) fn group(&self, identifier: &str) -> Result<(String, &Group), Fault> {
        look_up(&self.groups, "TARGET_GROUP", identifier)
    }

    /// The listeners of a service.
    pub(super) fn listeners_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = (&'a String, &'a Listener)> {
        self.listeners.iter().filter(move |(_, listener)| listener.service == service)
    }

    /// The services whose listeners forward to a group; at most one by rule.
    pub(super) fn services_using(&self, group: &str) -> Vec<String> {
        let using = self.listeners.values().filter(|l| l.action.groups().iter().any(|w| w.group == group));
        let mut services: Vec<String> = using.map(|listener| listener.service.clone()).collect();
        services.dedup();
        services
    }

    /// An address for a new service: the lowest free one, so that few addresses are ever used.
    pub(super) fn free_address(&self) -> Option<Ipv4Addr> {
        let taken = |last: u8| self.services.values().any(|service| service.address.octets()[3] == last);
        (2..=254).find(|last| !taken(*last)).map(|last| Ipv4Addr::new(127, 171, 0, last))
    }

    /// The generated name of a service.
    pub(super) fn dns_name(&self, id: &str, service: &Service) -> String {
        let id = id.trim_start_matches("svc-");
        format!("{}-{id}.7d67968.vpc-lattice-svcs.{}.on.aws", service.name, self.options.region)
    }
}

/// The id at the end of an ARN, or the id itself.
pub(super) fn tail(identifier: &str) -> &str {
    identifier.rsplit('/').next().unwrap_or(identifier)
}

/// RFC 3339 with a `Z`, as the model's `iso8601` timestamps are.
pub(super) fn stamp(moment: Moment) -> Value {
    moment.format(&Rfc3339).map_or(Value::Null, Value::from)
}

pub(super) fn missing(kind: &'static str, identifier: &str) -> Fault {
    Fault::about(Rule::Missing, kind, tail(identifier))
}

pub(super) fn look_up<'a, T>(
    map: &'a BTreeMap<String, T>,
    kind: &'static str,
    identifier: &str,
) -> Result<(String, &'a T), Fault> {
    let (id, value) = map.get_key_value(tail(identifier)).ok_or_else(|| missing(kind, identifier))?;
    Ok((id.clone(), value))
}

pub(super) fn look_up_mut<'a, T>(
    map: &'a mut BTreeMap<String, T>,
    kind: &'static str,
    identifier: &str,
) -> Result<&'a mut T, Fault> {
    map.get_mut(tail(identifier)).ok_or_else(|| missing(kind, identifier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_the_published_form_and_grow() {
        let mut state = State::new(Options::default());
        let ids: Vec<String> = (0..300).map(|_| state.issue("svc-")).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.len() == 21 && id[4..].bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn a_life_passes_its_phases_at_their_time() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let second = Duration::from_secs(1);
        let mut life = Life::begin(now, second);
        assert!(life.settle(now) && life.phase == Phase::Creating);
        assert!(life.settle(now + second) && life.is_active());
        life.enter(Phase::Deleting, now + second, second);
        assert!(life.settle(now + second) && life.phase.status() == "DELETE_IN_PROGRESS");
        assert!(!life.settle(now + second * 2));
    }
}
