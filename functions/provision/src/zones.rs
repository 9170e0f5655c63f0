//! Looking at the private hosted zones of the stack's own, and at what is in their way.

use std::collections::{BTreeMap, BTreeSet};

use espalier_aws::AwsError;
use espalier_aws::error::Kind;
use espalier_aws::route53::Zone;
use espalier_domain::id::{HostedZoneId, VpcId};
use espalier_domain::network::{SeenPrivateZone, SeenService, current_zone, may_have_zones};
use espalier_domain::spec::{Dns, State};
use espalier_domain::tag;
use espalier_reconcile::Clock;

use crate::estate::{Network, record};

/// What one look saw of them.
#[derive(Debug, Default)]
pub(crate) struct OwnZones {
    pub(crate) ours: Vec<SeenPrivateZone>,
    pub(crate) in_the_way: Vec<(VpcId, HostedZoneId)>,
}

impl<C: Clock> Network<'_, C> {
    pub(crate) async fn own_zones(&self, service: Option<&SeenService>) -> Result<OwnZones, AwsError> {
        if !may_have_zones(self.spec, service) {
            return Ok(OwnZones::default());
        }
        let comment = tag::zone_comment(&self.spec.stack, self.route53.region());
        let mut zones = BTreeMap::new();
        for id in self.route53.zones_with(&comment).await? {
            // Gone since it was listed, or given to somebody else.
            if let Some(zone) = self.zone_of_ours(&id, &comment).await? {
                zones.insert(id, zone);
            }
        }
        let in_the_way = self.in_the_way(&comment, &mut zones).await?;
        let mut ours = Vec::with_capacity(zones.len());
        for (id, zone) in zones {
            ours.extend(self.seen(id, &zone).await?);
        }
        self.find_strangers(&mut ours).await?;
        Ok(OwnZones { ours, in_the_way })
    }

    async fn zone_of_ours(&self, id: &HostedZoneId, comment: &str) -> Result<Option<Zone>, AwsError> {
        match self.route53.zone(id).await {
            Ok(zone) => Ok(zone.filter(|zone| zone.private && zone.comment == comment)),
            // Another account's.
            Err(error) if error.kind == Kind::Denied => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The zones of the wanted name that others have where ours is not yet. One of ours that the list did not have is added
    /// to ours.
    async fn in_the_way(
        &self,
        comment: &str,
        zones: &mut BTreeMap<HostedZoneId, Zone>,
    ) -> Result<Vec<(VpcId, HostedZoneId)>, AwsError> {
        let (Dns::PrivateZone { name }, State::Present) = (&self.spec.service.dns, self.spec.state) else {
            return Ok(Vec::new());
        };
        let named = zones.values().filter(|zone| zone.name == name.as_str());
        let held: BTreeSet<&str> = named.flat_map(|zone| &zone.vpcs).map(String::as_str).collect();
        let mut missing = self.spec.resolving_vpcs();
        missing.retain(|vpc| !held.contains(vpc.as_str()));
        let mut others = Vec::new();
        for (vpc, id) in self.route53.zones_in(&missing, name).await? {
            match self.zone_of_ours(&id, comment).await? {
                Some(zone) => drop(zones.insert(id, zone)),
                None => others.push((vpc, id)),
            }
        }
        Ok(others)
    }

    async fn seen(&self, id: HostedZoneId, zone: &Zone) -> Result<Option<SeenPrivateZone>, AwsError> {
        let record = match self.route53.records(&id, &self.spec.service.domain_name).await {
            Ok(records) => record(&records),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let all: Vec<VpcId> = zone.vpcs.iter().filter_map(|vpc| VpcId::parse(vpc).ok()).collect();
        let wanted = self.spec.resolving_vpcs();
        let (mut vpc_ids, more): (Vec<_>, Vec<_>) = all.into_iter().partition(|vpc| wanted.contains(vpc));
        if let Some(one) = wanted.first().filter(|_| !more.is_empty()) {
            vpc_ids.extend(self.ec2.of_the_owner_of(one, &more).await?);
        }
        Ok(Some(SeenPrivateZone {
            id,
            name: zone.name.clone(),
            vpc_ids: vpc_ids.into_iter().collect(),
            record,
            stranger: None,
        }))
    }

    /// What keeps a zone that is to go from being deleted.
    async fn find_strangers(&self, ours: &mut [SeenPrivateZone]) -> Result<(), AwsError> {
        let current = match self.spec.state {
            State::Present => current_zone(self.spec, ours).map(|zone| zone.id.clone()),
            State::Absent => None,
        };
        for zone in ours.iter_mut().filter(|zone| Some(&zone.id) != current.as_ref()) {
            zone.stranger = match self.route53.stranger(&zone.id, &zone.name, &self.spec.service.domain_name).await {
                Ok(stranger) => stranger,
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }
}
