//! Private hosted zones of the stack's own: which of them its record belongs in, and how one is given up.

use std::collections::BTreeSet;

use super::action::Action;
use super::drift::may_have_leftovers;
use super::observed::{DnsEntry, SeenRecord, SeenService};
use crate::id::{HostedZoneId, VpcId};
use crate::plan::{BlockCode, Plan};
use crate::spec::{Dns, Manage, Spec, State};

/// A private hosted zone whose comment says that it is the stack's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPrivateZone {
    /// Its id.
    pub id: HostedZoneId,
    /// Its name without the trailing dot.
    pub name: String,
    /// The VPCs of this account and Region that it is associated with. Those of other accounts and Regions are associated
    /// by their owners, and theirs to disassociate.
    pub vpc_ids: BTreeSet<VpcId>,
    /// The A record of the service's domain name in it.
    pub record: Option<SeenRecord>,
    /// Another record set in it, in words, beside those that Route 53 makes; looked for when the zone is to go.
    pub stranger: Option<String>,
}

/// Whether there may be zones of the stack's own. Under a spec that wants none and was settled there are none.
pub fn may_have_zones(spec: &Spec, service: Option<&SeenService>) -> bool {
    may_have_leftovers(spec, service) || (spec.manage == Manage::Stack && wanted_name(spec).is_some())
}

/// The zone in which the record belongs. Two runs at once may have made one each, in different VPCs: then the one with a
/// record, the one with more of the wanted VPCs, the first by its id.
pub fn current_zone<'a>(spec: &Spec, zones: &'a [SeenPrivateZone]) -> Option<&'a SeenPrivateZone> {
    let name = wanted_name(spec)?;
    let wanted = spec.resolving_vpcs();
    let named = zones.iter().filter(|zone| zone.name == name);
    let worth = |zone: &SeenPrivateZone| {
        let vpcs = zone.vpc_ids.iter().filter(|vpc| wanted.contains(vpc)).count();
        (zone.record.is_some(), vpcs, std::cmp::Reverse(zone.id.clone()))
    };
    named.max_by_key(|zone| worth(zone))
}

fn wanted_name(spec: &Spec) -> Option<&str> {
    match &spec.service.dns {
        Dns::PrivateZone { name } => Some(name.as_str()),
        Dns::HostedZoneId(_) | Dns::HostedZoneName(_) => None,
    }
}

/// Gives up a zone of ours: first our record in it, then the zone, unless somebody else has something in it. While it has to
/// stay for that and the stack stands, our record stays, too: without it the zone would hide the name. Whether our record is
/// gone.
pub(super) fn retire(
    spec: &Spec,
    zone: &SeenPrivateZone,
    is_ours: &dyn Fn(&DnsEntry) -> bool,
    because: &str,
    plan: &mut Plan<Action>,
) -> bool {
    let (hosted_zone_id, name) = (zone.id.clone(), zone.name.clone());
    let alias = zone.record.as_ref().and_then(|record| record.alias.clone()).filter(|alias| is_ours(alias));
    let theirs = zone.record.as_ref().filter(|_| alias.is_none());
    let theirs = theirs.map(|_| format!("a record {}", spec.service.domain_name)).or_else(|| zone.stranger.clone());
    if let Some(target) = alias.filter(|_| theirs.is_none() || spec.state == State::Absent) {
        let name = spec.service.domain_name.clone();
        plan.step(Action::DeleteRecord { hosted_zone_id, name, target }, because);
        return false;
    }
    match theirs {
        Some(what) => plan.block(
            BlockCode::Foreign,
            format!(
                "hosted zone {name} ({hosted_zone_id}) is ours and not wanted any more, and holds {what}, which is not ours: \
                 remove it, and the zone goes"
            ),
        ),
        None => plan.step(Action::DeletePrivateZone { hosted_zone_id, name }, because),
    }
    true
}
