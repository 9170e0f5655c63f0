//! Private hosted zones in the simulated world, with what Route 53 refuses (API reference, one line per call).

use std::collections::BTreeSet;

use espalier_domain::id::{HostedZoneId, VpcId};
use espalier_domain::network::{Action, SeenPrivateZone, SeenRecord, current_zone, may_have_zones};
use espalier_domain::spec::{Dns, Spec, State};
use espalier_domain::tag;

use super::world::{Answer, World, dns_entry};

/// A private zone; its A record is kept with all the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone {
    pub(crate) id: HostedZoneId,
    pub(crate) name: String,
    pub(crate) comment: String,
    pub(crate) vpcs: BTreeSet<VpcId>,
    /// What somebody else has in it.
    pub(crate) theirs: Option<String>,
}

/// What a look sees of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) ours: Vec<SeenPrivateZone>,
    pub(crate) in_the_way: Vec<(VpcId, HostedZoneId)>,
    pub(crate) current: Option<HostedZoneId>,
}

impl World {
    pub(crate) fn seen_zones(&self, spec: &Spec) -> Seen {
        let service = self.seen_service(spec);
        if !may_have_zones(spec, service.as_ref()) {
            return Seen::default();
        }
        let comment = tag::zone_comment(&spec.stack, &self.estate.region);
        let ours = self.zones.iter().filter(|zone| zone.comment == comment);
        let ours: Vec<SeenPrivateZone> = ours
            .map(|zone| SeenPrivateZone {
                id: zone.id.clone(),
                name: zone.name.clone(),
                vpc_ids: zone.vpcs.iter().filter(|vpc| !self.abroad.contains(*vpc)).cloned().collect(),
                record: self.record_in(&zone.id),
                stranger: zone.theirs.clone(),
            })
            .collect();
        let current = current_zone(spec, &ours).map(|zone| zone.id.clone());
        let mut in_the_way = Vec::new();
        if let (Dns::PrivateZone { name }, State::Present) = (&spec.service.dns, spec.state) {
            for vpc in spec.resolving_vpcs() {
                let theirs = self.zones.iter().filter(|one| one.comment != comment && one.name == name.as_str());
                in_the_way.extend(theirs.filter(|one| one.vpcs.contains(vpc)).map(|one| (vpc.clone(), one.id.clone())));
            }
        }
        Seen { ours, in_the_way, current }
    }

    /// Whether the service's name leads to the service in this VPC: of the zones that are associated with it, the one with
    /// the longest name answers, or nobody does. The user's own zones, in all VPCs, are of the shortest name.
    pub(crate) fn resolves_in(&self, vpc: &VpcId) -> bool {
        let own = self.zones.iter().filter(|zone| zone.vpcs.contains(vpc));
        let leads = |record: &SeenRecord| {
            let alias = record.alias.as_ref();
            self.services.iter().any(|service| Some(&dns_entry(service)) == alias)
        };
        match own.max_by_key(|zone| zone.name.len()) {
            Some(zone) => self.record_in(&zone.id).as_ref().is_some_and(leads),
            None => {
                let plain = self.other_records.iter().filter(|(zone, _)| !zone.as_str().starts_with("ZOWN"));
                self.record.iter().chain(plain.map(|(_, record)| record)).any(leads)
            }
        }
    }

    pub(crate) fn zone_call(&mut self, action: &Action) -> Answer {
        match action {
            Action::CreatePrivateZone { name, vpc_id, comment, token } => {
                if !self.is_new(token, action)? {
                    return Ok(());
                }
                self.is_free(name.as_str(), vpc_id)?;
                let id = HostedZoneId::parse(self.id("ZOWN")).unwrap();
                let (name, vpcs) = (name.to_string(), [vpc_id.clone()].into());
                self.zones.push(Zone { id, name, comment: comment.clone(), vpcs, theirs: None });
            }
            Action::AssociateZone { hosted_zone_id, vpc_id } => {
                let name = self.own_zone(hosted_zone_id)?.name.clone();
                self.is_free(&name, vpc_id)?;
                self.own_zone(hosted_zone_id)?.vpcs.insert(vpc_id.clone());
            }
            Action::DisassociateZone { hosted_zone_id, vpc_id } => {
                assert!(!self.abroad.contains(vpc_id), "{vpc_id} is somebody else's");
                let zone = self.own_zone(hosted_zone_id)?;
                let is_last = zone.vpcs.len() == 1;
                refuse(is_last, "Route 53: LastVPCAssociation")?;
                refuse(!zone.vpcs.remove(vpc_id), "no such association")?;
            }
            Action::DeletePrivateZone { hosted_zone_id, .. } => {
                let has_record = self.record_in(hosted_zone_id).is_some();
                let zone = self.own_zone(hosted_zone_id)?;
                refuse(has_record || zone.theirs.is_some(), "Route 53: HostedZoneNotEmpty")?;
                let id = zone.id.clone();
                self.zones.retain(|one| one.id != id);
            }
            other => panic!("{other:?} is not about zones"),
        }
        Ok(())
    }

    /// A VPC has one private zone of a name.
    fn is_free(&self, name: &str, vpc: &VpcId) -> Answer {
        let is_taken = self.zones.iter().any(|one| one.name == name && one.vpcs.contains(vpc));
        refuse(is_taken, "Route 53: ConflictingDomainExists")
    }

    fn own_zone(&mut self, id: &HostedZoneId) -> Result<&mut Zone, String> {
        let zone = self.zones.iter_mut().find(|zone| zone.id == *id).ok_or("no such zone")?;
        assert!(zone.comment.starts_with("espalier:"), "{id} is somebody else's");
        Ok(zone)
    }
}

fn refuse(when: bool, because: &str) -> Answer {
    if when { Err(because.to_owned()) } else { Ok(()) }
}
