//! What a teardown deletes, and what it leaves: everything that is seen under the stack's names, or in the way of its own,
//! and is not its.

use serde::Serialize;

use super::estate::wanted_ingress;
use super::observed::{Observed, Owned, SeenIngress};
use super::present::is_our_name;
use super::{network_name, plan, service_name};
use crate::spec::{Manage, Spec, State};
use crate::tag;

/// Something that stays although the stack is to be absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// What, by its kind, its name if it has one, and its id.
    pub what: String,
    /// Why.
    pub because: String,
}

/// What is left of what was seen; empty while the stack is wanted, or protected.
pub fn left(spec: &Spec, observed: &Observed) -> Vec<Left> {
    if spec.state == State::Present || spec.deletion_protection {
        return Vec::new();
    }
    let mut all = Vec::new();
    let because = reason(spec);
    let theirs = lattice(spec, observed).into_iter().filter(|(_, owned)| !owned.ours);
    all.extend(theirs.map(|(what, owned)| Left { what: format!("{what} ({})", owned.id), because: because.clone() }));
    all.extend(record(spec, observed));
    if spec.manage == Manage::Stack {
        all.extend(rules(spec, observed));
    }
    all
}

/// What a teardown sets about deleting now; `None` while the stack is wanted, or protected.
pub(super) fn deleting(spec: &Spec, observed: &Observed) -> Option<Vec<String>> {
    if spec.state == State::Present || spec.deletion_protection {
        return None;
    }
    let steps = plan(spec, observed).steps.into_iter();
    Some(steps.filter_map(|step| deleted(&step.action.to_string()).map(str::to_owned)).collect())
}

/// What a step deletes, by its words; `None` for one that deletes nothing.
pub fn deleted(action: &str) -> Option<&str> {
    action.strip_prefix("- ")
}

fn reason(spec: &Spec) -> String {
    match spec.manage {
        Manage::Stack => format!("it does not carry our tag {}={}", tag::STACK, spec.stack),
        Manage::Rotation | Manage::Nothing => "manage is not `stack`: the estate is somebody else's".to_owned(),
    }
}

/// Everything of VPC Lattice that was seen and bears on the stack, by its kind and name.
fn lattice<'a>(spec: &Spec, observed: &'a Observed) -> Vec<(String, &'a Owned)> {
    let network = observed.network.as_ref().map(|one| &one.owned);
    let network_is = match &spec.network.service_network_id {
        Some(_) => "service network, which the spec only uses".to_owned(),
        None => format!("service network {}", network_name(&spec.stack)),
    };
    let mut all: Vec<(String, &Owned)> = network.map(|owned| (network_is, owned)).into_iter().collect();
    // What a VPC has with other networks has nothing to do with this stack.
    let here = observed.vpc_associations.iter().filter(|one| Some(&one.network_id) == network.map(|owned| &owned.id));
    all.extend(here.map(|one| (format!("association of {}", one.vpc_id), &one.owned)));
    let service = observed.service.iter();
    all.extend(service.map(|one| (format!("service {}", service_name(&spec.stack)), &one.owned)));
    all.extend(observed.service_associations.iter().map(|one| ("service association".to_owned(), &one.owned)));
    all.extend(observed.target_groups.iter().map(|one| (format!("target group {}", one.name), &one.owned)));
    all
}

fn record(spec: &Spec, observed: &Observed) -> Option<Left> {
    let alias = observed.record.as_ref()?.alias.as_ref();
    let entry = observed.service.as_ref().filter(|one| !one.owned.ours).and_then(|one| one.dns_entry.as_ref());
    let is_ours = alias.is_some_and(|alias| Some(alias) != entry && is_our_name(spec, &observed.estate, alias));
    let zone = observed.estate.hosted_zone.as_ref()?;
    let because = match spec.manage {
        Manage::Stack if is_ours => return None,
        Manage::Stack => "it does not point to a service of this stack".to_owned(),
        Manage::Rotation | Manage::Nothing => reason(spec),
    };
    Some(Left { what: format!("record {} in hosted zone {zone}", spec.service.domain_name), because })
}

/// Rules of others for the very ports and sources that ours were for.
fn rules(spec: &Spec, observed: &Observed) -> Vec<Left> {
    let (group, wanted) = (&spec.targets.security_group_id, wanted_ingress(spec, &observed.estate));
    let same = |rule: &&SeenIngress| wanted.iter().any(|(source, port)| rule.admits(source, *port));
    let theirs = observed.estate.other_ingress.iter().filter(same);
    theirs
        .map(|rule| Left {
            what: format!("ingress rule of {group} for port {} ({})", rule.ports.0, rule.rule_id),
            because: format!("its description is not {}", tag::rule_description(&spec.stack)),
        })
        .collect()
}
