//! The private hosted zone of the stack's own, in which its record is written.
//!
//! A name within a private zone that has no record of it does not resolve, whatever other zones say. So the zone is made
//! when its record can be written, and further VPCs get it when the record is there.

use super::Look;
use super::service::is_our_name;
use crate::id::{HostName, VpcId};
use crate::network::action::Action;
use crate::network::zones::{SeenPrivateZone, current_zone, retire};
use crate::plan::{BlockCode, Plan};
use crate::spec::Dns;
use crate::tag;

impl<'a> Look<'a> {
    /// Makes the zone. Whether it is there, or somebody else's business.
    pub(super) fn private_zone(&self, plan: &mut Plan<Action>) -> bool {
        let Dns::PrivateZone { name } = &self.spec.service.dns else { return true };
        if self.own_zone().is_some() {
            return true;
        }
        if self.blocked_zones(name, plan) {
            return false;
        }
        // The first by its id, so that two runs at once ask for the same: Route 53 refuses a second zone of a name in a VPC.
        if let Some(vpc_id) = self.spec.resolving_vpcs().first() {
            let action = Action::CreatePrivateZone {
                name: name.clone(),
                vpc_id: (*vpc_id).clone(),
                comment: tag::zone_comment(&self.spec.stack, &self.observed.estate.region),
                token: self.token("HostedZone", name.as_str()),
            };
            plan.step(action, "missing");
        }
        false
    }

    /// With the record in it, the zone answers where clients are and nowhere else. Whether it does.
    pub(super) fn zone_in_place(&self, plan: &mut Plan<Action>) -> bool {
        let before = (plan.steps.len(), plan.blocks.len());
        if let (Some(zone), Dns::PrivateZone { name }) = (self.own_zone(), &self.spec.service.dns) {
            self.zone_associations(zone, name, plan);
        }
        before == (plan.steps.len(), plan.blocks.len())
    }

    /// Zones of ours in which the record is no longer wanted go, when the name resolves without them.
    pub(super) fn former_zones(&self, plan: &mut Plan<Action>) {
        // A spec may name a zone of ours by its id, too.
        let estate = &self.observed.estate;
        let former = estate.private_zones.iter().filter(|zone| Some(&zone.id) != estate.hosted_zone.as_ref());
        let because = "the record is in another zone now";
        let is_ours = |alias: &_| is_our_name(self.spec, estate, alias);
        for zone in former {
            let goes = zone.record.is_some() && zone.stranger.is_none();
            let mut further = zone.vpc_ids.iter().skip(1).filter(|_| goes).peekable();
            if further.peek().is_none() {
                retire(self.spec, zone, &is_ours, because, plan);
            }
            // Without its record it would hide the name from them until it is gone. Only the last VPC has to stay.
            for vpc_id in further {
                let action = Action::DisassociateZone { hosted_zone_id: zone.id.clone(), vpc_id: vpc_id.clone() };
                plan.step(action, because);
            }
        }
    }

    fn zone_associations(&self, zone: &SeenPrivateZone, name: &HostName, plan: &mut Plan<Action>) {
        let wanted = self.spec.resolving_vpcs();
        let is_blocked = self.blocked_zones(name, plan);
        let missing: Vec<&VpcId> = wanted.iter().copied().filter(|vpc| !zone.vpc_ids.contains(vpc)).collect();
        for vpc_id in missing.iter().copied().filter(|vpc| !self.is_taken(vpc)) {
            // Where another zone of ours has the name, that one goes first.
            if !self.other_own_zone_in(zone, vpc_id) {
                let action = Action::AssociateZone { hosted_zone_id: zone.id.clone(), vpc_id: vpc_id.clone() };
                plan.step(action, format!("{name} does not resolve there"));
            }
        }
        if !missing.is_empty() || is_blocked {
            return;
        }
        for vpc_id in zone.vpc_ids.iter().filter(|vpc| !wanted.contains(vpc)) {
            let action = Action::DisassociateZone { hosted_zone_id: zone.id.clone(), vpc_id: vpc_id.clone() };
            plan.step(action, "the spec does not list this consumer");
        }
    }

    /// Blocks for every zone of somebody else's that has the name where ours is to have it. Whether there is one.
    fn blocked_zones(&self, name: &HostName, plan: &mut Plan<Action>) -> bool {
        let all = &self.observed.estate.zones_in_the_way;
        for (vpc, zone) in all {
            plan.block(
                BlockCode::Foreign,
                format!(
                    "service.dns.privateZone {name}: {vpc} has the private hosted zone {zone} of that name, and its comment is \
                     not {}: name it as hostedZoneId, remove it, or choose another name",
                    tag::zone_comment(&self.spec.stack, &self.observed.estate.region)
                ),
            );
        }
        !all.is_empty()
    }

    fn is_taken(&self, vpc: &VpcId) -> bool {
        self.observed.estate.zones_in_the_way.iter().any(|(other, _)| other == vpc)
    }

    fn other_own_zone_in(&self, zone: &SeenPrivateZone, vpc: &VpcId) -> bool {
        let mut others = self.observed.estate.private_zones.iter().filter(|one| one.id != zone.id);
        others.any(|one| one.name == zone.name && one.vpc_ids.contains(vpc))
    }

    fn own_zone(&self) -> Option<&'a SeenPrivateZone> {
        current_zone(self.spec, &self.observed.estate.private_zones)
    }
}
