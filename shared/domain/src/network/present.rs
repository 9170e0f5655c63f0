//! `state: present`: make what is missing, mend what has drifted, retire what is no longer wanted.

mod access_logs;
mod auth;
mod fleet;
mod life;
mod lifecycle;
mod replace;
mod service;
mod service_network;
mod targets;
mod zone;

use super::action::Action;
use super::estate;
use super::observed::{Observed, Owned, SeenTargetGroup};
use super::roster::Roster;
use crate::plan::{BlockCode, Plan};
use crate::spec::Spec;
use crate::tag;
use crate::token::token;

pub(super) use auth::{network_policy, service_policy};
pub(super) use life::leave;
pub(super) use service::is_our_name;
pub(super) use service_network::delete_vpc_association;
pub(super) use targets::retire_group;

struct Look<'a> {
    spec: &'a Spec,
    observed: &'a Observed,
    roster: Roster<'a>,
}

pub(super) fn plan(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) {
    let look = Look { spec, observed, roster: Roster::of(observed) };
    let fleet = look.fleet(&estate::eligible(spec, &observed.estate, plan));
    if !estate::check(spec, &observed.estate, plan) {
        return;
    }
    let is_admitted = estate::admit(spec, &observed.estate, plan);
    let network = look.network(plan);
    if let Some(seen) = &observed.network {
        network_policy(seen, plan);
    }
    if let Some(network) = network {
        look.vpc_associations(network, plan);
    }
    let group = look.target_group(plan);
    if let Some(group) = group {
        look.targets(group, &fleet, plan);
        look.lifecycle(group, &fleet, plan);
    }
    let service = look.service(plan);
    if let Some(service) = service {
        look.access_logs(service, plan);
        if let Some(group) = group {
            look.listener(service, group, &fleet, is_admitted, plan);
        }
        let is_in_force = look.auth(service, plan);
        if let Some(network) = network
            && (is_in_force || look.is_associated(network, service))
        {
            look.service_association(network, service, plan);
        }
    }
    look.stale_groups(plan);
    if look.has_moved(group, plan) {
        estate::revoke(spec, &observed.estate, plan);
    }
    if plan.is_converged() {
        look.settle(group, plan);
    }
    // Last: what is awaited here keeps nothing else from being settled.
    fleet.wait(|id| group.is_some_and(|group| look.status(group, id.as_str()).is_some()), plan);
}

impl<'a> Look<'a> {
    fn tags(&self) -> std::collections::BTreeMap<String, String> {
        tag::tags(&self.spec.stack)
    }

    fn token(&self, kind: &str, name: &str) -> String {
        token(&self.spec.stack, kind, name, self.observed.looked_at)
    }

    /// How many seconds ago that was.
    fn since_s(&self, moment: time::OffsetDateTime) -> u32 {
        u32::try_from((self.observed.looked_at - moment).whole_seconds().max(0)).unwrap_or(u32::MAX)
    }

    /// Whether the resource may be used; blocks if it is foreign.
    fn accept(&self, what: &str, owned: &Owned, plan: &mut Plan<Action>) -> bool {
        if !owned.ours {
            let tag = tag::STACK;
            plan.block(
                BlockCode::Foreign,
                format!("{what} ({}) exists without our tag {tag}={}; rename or remove it", owned.id, self.spec.stack),
            );
        }
        owned.ours
    }

    /// Writes down that nothing is left to do under this spec: in several places, so that it is still known when
    /// somebody takes one of them away.
    fn settle(&self, group: Option<&SeenTargetGroup>, plan: &mut Plan<Action>) {
        let network = self.observed.network.as_ref().map(|network| ("service network", &network.owned));
        let service = self.observed.service.as_ref().map(|service| ("service", &service.owned));
        let group = group.map(|group| ("target group", &group.owned));
        for (what, owned) in [network, group, service].into_iter().flatten().filter(|(_, owned)| owned.ours) {
            if owned.spec_hash.as_deref() != Some(self.spec.hash()) {
                let tags = tag::settled(&self.spec.stack, self.spec.hash());
                let action = Action::Tag { arn: owned.arn.clone(), what: what.to_owned(), tags };
                plan.step(action, "everything is as the spec wants it");
            }
        }
    }

    /// Whether nothing is served any more in a way the spec no longer describes, and nothing is under way.
    fn has_moved(&self, group: Option<&SeenTargetGroup>, plan: &Plan<Action>) -> bool {
        let only_one = |group: &SeenTargetGroup| {
            self.observed.target_groups.iter().all(|other| !other.owned.ours || other.name == group.name)
        };
        plan.steps.is_empty() && plan.waits.is_empty() && group.is_some_and(only_one)
    }
}
