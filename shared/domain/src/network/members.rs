//! What is written down of a look, for `rotate`: the stack's targets, and which of its sightings were known then.

use std::collections::{BTreeMap, BTreeSet};

use super::estate::is_out_of_service;
use super::left::deleting;
use super::observed::{Observed, SeenTargetGroup, TargetStatus};
use super::{TARGETS, target_group_names};
use crate::record::{Member, MembershipRecord};
use crate::rotation::proof::{Proof, proof};
use crate::spec::{Manage, Spec, State};

/// The running instances the spec selects, as they were seen.
pub fn members(spec: &Spec, observed: &Observed) -> MembershipRecord {
    let port = spec.targets.port;
    let wanted = target_group_names(spec);
    let counts = |group: &&SeenTargetGroup| match spec.manage {
        Manage::Stack => wanted.contains(&group.name) && group.owned.ours,
        // Somebody else registers, in groups of any name.
        Manage::Rotation | Manage::Nothing => true,
    };
    let targets = observed.target_groups.iter().filter(counts).flat_map(|group| &group.targets);
    let registered = targets.filter(|one| one.port == port && one.status != TargetStatus::Draining);
    let registered: BTreeSet<&str> = registered.map(|one| one.id.as_str()).collect();
    let instances = observed.estate.instances.iter();
    let serving = instances.filter(|one| one.is_running && !is_out_of_service(one) && spec.state == State::Present);
    let members = serving.map(|instance| {
        let member = Member {
            launched_at: instance.launched_at,
            // With `nothing` nobody asks VPC Lattice: whom clients are sent to is their owner's affair.
            registered: spec.manage == Manage::Nothing || registered.contains(instance.id.as_str()),
            seen_at: observed.sightings.get(&instance.id).map(|sighting| sighting.at),
        };
        (instance.id.clone(), member)
    });
    // All that is written down is one item of the ledger; who is beyond is not registered either, and told.
    let members: BTreeMap<_, _> = members.collect();
    MembershipRecord { members: members.into_iter().take(TARGETS).collect(), deleting: deleting(spec, observed) }
}

/// The members that nothing was seen of, as far as it counts: `rotate` has to be told.
pub fn unproven(spec: &Spec, observed: &Observed) -> usize {
    let members = members(spec, observed).members;
    let is_unproven = |(id, member): &(crate::id::TargetId, Member)| {
        let sighting = observed.sightings.get(id);
        proof(sighting, spec.targets.port, member.launched_at, observed.looked_at) == Proof::Missing
    };
    members.into_iter().filter(is_unproven).count()
}
