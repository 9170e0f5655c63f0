//! `state: present`: make what is missing, mend what has drifted, retire what is no longer wanted.

mod access_logs;
mod auth;
mod family;
mod fleet;
mod life;
mod lifecycle;
mod replace;
mod service;
mod service_network;
mod targets;
mod zone;

use super::action::Action;
use super::estate::{self, Fit};
use super::observed::{Observed, Owned};
use super::roster::Roster;
use super::target_group_names;
use crate::plan::{BlockCode, Plan};
use crate::spec::Spec;
use crate::tag;
use crate::token::token;

use family::Family;

pub(super) use auth::{network_policy, service_policy};
pub(super) use life::leave;
pub(super) use lifecycle::let_go;
pub(super) use service::is_our_name;
pub(super) use service_network::delete_vpc_association;
pub(super) use targets::retire_group;

struct Look<'a> {
    spec: &'a Spec,
    observed: &'a Observed,
    roster: Roster<'a>,
    fit: Fit<'a>,
    /// Whether every rule that the targets need is there.
    is_admitted: bool,
}

pub(super) fn plan(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) {
    let eligible = estate::eligible(spec, &observed.estate, plan);
    let fit = estate::check(spec, &observed.estate, plan);
    // A new stack is begun when all is there; one that runs goes on with whatever does not depend on what is missing.
    let is_running = observed.service.as_ref().is_some_and(|service| service.owned.ours);
    if !fit.is_all && !is_running {
        return;
    }
    let is_admitted = fit.rules && estate::admit(spec, &observed.estate, plan);
    let look = Look { spec, observed, roster: Roster::of(observed, &target_group_names(spec)), fit, is_admitted };
    let fleet = look.fleet(&eligible);
    let network = look.network(plan);
    if let Some(seen) = &observed.network {
        network_policy(seen, plan);
    }
    if let Some(network) = network {
        look.vpc_associations(network, plan);
    }
    let family = look.family(&fleet, plan);
    if !family.groups.is_empty() {
        look.targets(&family, &fleet, plan);
        look.lifecycle(&fleet, plan);
    }
    let service = look.service(plan);
    if let Some(service) = service {
        look.access_logs(service, plan);
        look.listener(service, &family, &fleet, is_admitted, plan);
        let is_in_force = look.auth(service, plan);
        if let Some(network) = network
            && (is_in_force || look.is_associated(network, service))
        {
            look.service_association(network, service, plan);
        }
    }
    look.stale_groups(&family, plan);
    if look.has_moved(&family, plan) {
        estate::revoke(spec, &observed.estate, plan);
    }
    look.unfinished(&family, plan);
    if plan.is_converged() {
        look.settle(&family, plan);
    }
    // Last: what is awaited here keeps nothing else from being settled.
    fleet.wait(|id| !family.groups.is_empty() && look.place(id.as_str()).is_some(), plan);
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
    fn settle(&self, family: &Family<'_>, plan: &mut Plan<Action>) {
        let network = self.observed.network.as_ref().map(|network| ("service network", &network.owned));
        let service = self.observed.service.as_ref().map(|service| ("service", &service.owned));
        let groups = family.groups.iter().map(|group| ("target group", &group.owned));
        let all = network.into_iter().chain(groups).chain(service);
        for (what, owned) in all.filter(|(_, owned)| owned.ours) {
            if owned.spec_hash.as_deref() != Some(self.spec.hash()) {
                let tags = tag::settled(&self.spec.stack, self.spec.hash());
                let action = Action::Tag { arn: owned.arn.clone(), what: what.to_owned(), tags };
                plan.step(action, "everything is as the spec wants it");
            }
        }
    }

    /// Whether nothing is served any more in a way the spec no longer describes, and nothing is under way.
    fn has_moved(&self, family: &Family<'_>, plan: &Plan<Action>) -> bool {
        let mut groups = self.observed.target_groups.iter();
        // Without a prefix list or a group nobody knows which rules are wanted.
        let is_known = self.fit.rules;
        let is_alone = groups.all(|other| !other.owned.ours || family.names.contains(&other.name));
        is_known && plan.steps.is_empty() && plan.waits.is_empty() && !family.groups.is_empty() && is_alone
    }
}
