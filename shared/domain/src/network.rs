//! The Lattice estate of a stack: what is seen, what can be done about it now, and why.
//!
//! [`plan`] is pure and total. It plans only steps whose inputs are already visible and active, so creation and
//! deletion order need no graph; it never touches what does not carry the stack's tag.

mod absent;
mod action;
mod block;
mod diagnose;
mod drift;
mod estate;
mod given;
mod health;
mod left;
mod members;
mod observed;
pub mod policy;
mod present;
mod render;
mod roster;
mod zones;

pub use action::{Action, IngressSource, TargetGroupWant};
pub use block::IpBlock;
pub use diagnose::{
    Answer as PitfallAnswer, Checkup, Finding, PITFALLS, Pitfall, SeenPolicy, SeenZone, diagnose, page as diagnose_page,
};
pub use drift::{drifted, is_settled, may_have_leftovers};
pub use estate::UNSUPPORTED_ZONES;
pub use health::{TargetHealth, health};
pub use left::{Left, deleted, left};
pub use members::{members, unproven};
pub use observed::{
    DnsEntry, Estate, Life, Observed, Owned, Scaling, SeenAccessLog, SeenFailure, SeenGroup, SeenHook, SeenIngress,
    SeenInstance, SeenListener, SeenNetwork, SeenRecord, SeenService, SeenServiceAssociation, SeenSubnet, SeenTarget,
    SeenTargetGroup, SeenVpc, SeenVpcAssociation, Status, TargetStatus,
};
pub use render::render;
pub use zones::{SeenPrivateZone, current_zone, may_have_zones};

use crate::id::StackName;
use crate::plan::{BlockCode, Plan};
use crate::spec::{Manage, Spec, State, TargetKind};
use crate::token::short_hash;

/// How soon to look again at something VPC Lattice is busy with, in seconds.
const SOON_S: u32 = 2;

/// What can be done now to bring the estate to what the spec wants.
pub fn plan(spec: &Spec, observed: &Observed) -> Plan<Action> {
    let mut plan = Plan::default();
    match (spec.manage, &spec.lattice) {
        (Manage::Stack, _) => {}
        (Manage::Rotation, Some(ids)) => {
            // What is not ours is not torn down either.
            if spec.state == State::Present {
                given::plan(spec, ids, observed, &mut plan);
            }
            return plan;
        }
        // The parser lets no `rotation` through without its estate.
        (Manage::Rotation, None) | (Manage::Nothing, _) => return plan,
    }
    match spec.state {
        State::Present => {
            present::plan(spec, observed, &mut plan);
            drift::hold_back(spec, observed, &mut plan);
        }
        State::Absent if spec.deletion_protection => plan.block(
            BlockCode::DeletionProtected,
            "state is absent but deletionProtection is on; set deletionProtection to false to tear the stack down",
        ),
        State::Absent => absent::plan(spec, observed, &mut plan),
    }
    drift::forget(spec, observed, &mut plan);
    plan
}

/// The service network's name.
pub fn network_name(stack: &StackName) -> String {
    format!("{stack}-network")
}

/// The service's name.
pub fn service_name(stack: &StackName) -> String {
    stack.to_string()
}

/// The name of the listener on this port. The port cannot be changed in place, so a change makes a new listener beside
/// the old one.
pub fn listener_name(stack: &StackName, port: u16) -> String {
    format!("{stack}-tls-{port}")
}

/// The target group's name. It holds a hash of everything that cannot be changed in place, so that a change makes a
/// new group beside the old one. At most 31 characters: the console takes 32, the API 128 (documents disagree).
pub fn target_group_name(spec: &Spec) -> String {
    let (port, limit) = (spec.targets.port.to_string(), spec.targets.targets_per_group.to_string());
    let kind = match spec.targets.select.kind() {
        TargetKind::Instance => "INSTANCE",
        TargetKind::Ipv4 => "IPV4",
        TargetKind::Ipv6 => "IPV6",
    };
    let mut fixed = vec![kind, "TCP", &port, spec.network.vpc_id.as_str()];
    // Another limit places everybody anew; with the usual one a group keeps the name it has always had.
    if spec.targets.targets_per_group != TARGETS_PER_GROUP {
        fixed.push(&limit);
    }
    format!("{}-{}", spec.stack, short_hash(&fixed, 6))
}

/// What a target group takes unless the spec says otherwise (VPC Lattice user guide, quotas).
const TARGETS_PER_GROUP: u32 = 1_000;

/// Target groups of one fleet, at most. A service may have ten (VPC Lattice user guide, quotas), and a replacement has as
/// many beside those that it replaces.
pub const GROUPS: usize = 5;

/// Targets of one stack, at most: what one item of the ledger remembers of them, some 120 bytes each, within the 400 KB that
/// DynamoDB allows (quotas, item size).
pub const TARGETS: usize = 3_000;

/// The names of the target groups among which a fleet is shared out, in the order in which they are filled: the first is
/// [`target_group_name`], of at most 31 characters, and the others have one letter more.
pub fn target_group_names(spec: &Spec) -> [String; GROUPS] {
    let first = target_group_name(spec);
    ["", "b", "c", "d", "e"].map(|letter| format!("{first}{letter}"))
}
