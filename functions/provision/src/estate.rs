//! The stack's network as something to reconcile: five services to look at, four pairs of hands.

use std::collections::BTreeMap;
use std::sync::Mutex;

use espalier_aws::AwsError;
use espalier_aws::lattice::{Lattice, Look};
use espalier_aws::ledger::{Ledger, LedgerError};
use espalier_aws::route53::{Alias, Record, Route53};
use espalier_aws_autoscaling::AutoScaling;
use espalier_aws_ec2::Ec2;
use espalier_domain::failure::chain;
use espalier_domain::id::{HostedZoneId, SecurityGroupId, TargetId};
use espalier_domain::network::{
    Action, Checkup, DnsEntry, Estate, Left, Observed, SeenIngress, SeenRecord, SeenService, SeenZone, TargetHealth,
    current_zone, drifted, health, left, may_have_leftovers, members, plan,
};
use espalier_domain::plan::{BlockCode, Plan, ReportedStep};
use espalier_domain::record::SightingRecord;
use espalier_domain::spec::{Dns, Select, Spec, State};
use espalier_reconcile::{Clock, World};
use futures::try_join;
use time::OffsetDateTime;

/// One stack's network.
pub(crate) struct Network<'a, C> {
    pub(crate) lattice: &'a Lattice,
    pub(crate) ec2: &'a Ec2,
    pub(crate) route53: &'a Route53,
    pub(crate) scaling: &'a AutoScaling,
    pub(crate) ledger: &'a Ledger,
    pub(crate) clock: &'a C,
    pub(crate) spec: &'a Spec,
    /// What was found changed by others in the looks so far.
    pub(crate) drift: Mutex<Vec<ReportedStep>>,
    /// Whether what is seen is written down (`mode: plan` leaves no trace).
    pub(crate) hands: Hands,
    /// Targets nobody has proven, when what was written down last is news.
    pub(crate) unproven: Mutex<usize>,
    /// What VPC Lattice said of the stack's targets last.
    pub(crate) health: Mutex<Option<TargetHealth>>,
    /// What the stack's teardown has deleted as it was seen last, in this run and in earlier ones.
    pub(crate) gone: Mutex<Vec<String>>,
    /// What a teardown leaves, as it was seen last.
    pub(crate) left: Mutex<Vec<Left>>,
}

/// Whether a look may be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hands {
    Writing,
    Tied,
}

impl<C: Clock> World for Network<'_, C> {
    type Observed = Observed;
    type Action = Action;
    type Error = AwsError;

    async fn observe(&self) -> Result<Observed, AwsError> {
        let looked_at = self.clock.now();
        let (look, estate, (zones, record), sightings) =
            try_join!(self.lattice.look(self.spec), self.estate(), self.dns(), self.sightings())?;
        let (own, former_ingress) = try_join!(self.own_zones(look.service.as_ref()), self.former_ingress(&look))?;
        let (hosted_zone, other_zones, record) = match <[HostedZoneId; 1]>::try_from(zones) {
            Ok([only]) => (Some(only), Vec::new(), record),
            Err(several) => {
                let current = current_zone(self.spec, &own.ours);
                (current.map(|zone| zone.id.clone()), several, current.and_then(|zone| zone.record.clone()))
            }
        };
        let former_records = self.former_records(look.service.as_ref(), hosted_zone.as_ref()).await?;
        let Look { network, vpc_associations, target_groups, service, listeners, service_associations, access_logs } =
            look;
        let observed = Observed {
            looked_at,
            network,
            vpc_associations,
            target_groups,
            service,
            listeners,
            service_associations,
            access_logs,
            record,
            former_records,
            sightings,
            estate: Estate {
                hosted_zone,
                other_zones,
                private_zones: own.ours,
                zones_in_the_way: own.in_the_way,
                former_ingress,
                ..estate
            },
        };
        if let Ok(mut known) = self.health.lock() {
            *known = health(&observed);
        }
        self.write_down(&observed).await?;
        Ok(observed)
    }

    fn plan(&self, observed: &Observed, _: OffsetDateTime) -> Plan<Action> {
        let plan = plan(self.spec, observed);
        self.remember(observed, &plan);
        plan
    }

    async fn apply(&self, action: &Action) -> Result<(), AwsError> {
        if let Some(result) = self.lattice.take(action).await {
            return result;
        }
        if let Some(result) = self.ec2.take(&self.spec.stack, action).await {
            return result;
        }
        if let Some(result) = self.scaling.take(action).await {
            return result;
        }
        if let Some(result) = self.route53.take(action).await {
            return result;
        }
        Err(AwsError::unexpected("provision:apply", format!("nobody takes the step {action}")))
    }

    fn render(&self, action: &Action) -> String {
        action.to_string()
    }
}

impl<C: Clock> Network<'_, C> {
    /// The zones that the spec may mean, and what answers at the name when it is one.
    async fn dns(&self) -> Result<(Vec<HostedZoneId>, Option<SeenRecord>), AwsError> {
        let name = &self.spec.service.domain_name;
        let zones = match &self.spec.service.dns {
            // That a zone does not exist, its records say.
            Dns::HostedZoneId(id) => vec![id.clone()],
            Dns::HostedZoneName(name) => self.route53.zones_of(&self.spec.resolving_vpcs(), name).await?,
            // Of the stack's own zones more is looked at.
            Dns::PrivateZone { .. } => Vec::new(),
        };
        let [only] = zones.as_slice() else { return Ok((zones, None)) };
        match self.route53.records(only, name).await {
            Ok(records) => Ok((vec![only.clone()], record(&records))),
            Err(error) if error.is_not_found() => Ok((Vec::new(), None)),
            Err(error) => Err(error),
        }
    }

    /// Rules of ours in groups that the spec does not name.
    async fn former_ingress(&self, look: &Look) -> Result<Vec<(SecurityGroupId, SeenIngress)>, AwsError> {
        if !may_have_leftovers(self.spec, look.service.as_ref()) {
            return Ok(Vec::new());
        }
        self.ec2.former_ingress(&self.spec.stack, &self.spec.targets.security_group_id).await
    }

    /// What answers at the name in zones of former specs. There are none but while the zone is being changed.
    async fn former_records(
        &self,
        service: Option<&SeenService>,
        current: Option<&HostedZoneId>,
    ) -> Result<Vec<(HostedZoneId, SeenRecord)>, AwsError> {
        let zones = service.filter(|service| service.owned.ours).into_iter().flat_map(|service| &service.record_zones);
        let mut found = Vec::new();
        for zone in zones.filter(|zone| Some(*zone) != current) {
            match self.route53.records(zone, &self.spec.service.domain_name).await {
                Ok(records) => found.extend(record(&records).map(|record| (zone.clone(), record))),
                // With the zone its records are gone.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// What only a diagnosis looks at.
    pub(crate) async fn checkup(&self, observed: &Observed) -> Result<Checkup, AwsError> {
        let zone = async {
            let Some(id) = &observed.estate.hosted_zone else { return Ok(None) };
            let zone = self.route53.zone(id).await?;
            Ok(zone.map(|zone| SeenZone { name: zone.name, is_private: zone.private, vpc_ids: zone.vpcs }))
        };
        let network = observed.network.as_ref().map(|network| network.owned.id.as_str());
        let service = observed.service.as_ref().map(|service| service.owned.id.as_str());
        let (zone, (policies, is_logged)) = try_join!(zone, self.lattice.policies_and_logs(network, service))?;
        Ok(Checkup { zone, policies, is_logged })
    }

    /// What EC2 keeps, and the Auto Scaling groups when the spec selects some.
    async fn estate(&self) -> Result<Estate, AwsError> {
        let Select::AutoScalingGroups(names) = &self.spec.targets.select else {
            return self.ec2.estate(self.spec, &[]).await;
        };
        let groups = self.scaling.groups(&self.spec.stack, names).await?;
        let members: Vec<TargetId> = groups.members.keys().cloned().collect();
        let mut estate = self.ec2.estate(self.spec, &members).await?;
        for instance in &mut estate.instances {
            instance.scaling = groups.members.get(&instance.id).cloned();
        }
        Ok(Estate { hooks: groups.hooks, scaling_groups: groups.names, ..estate })
    }

    async fn sightings(&self) -> Result<BTreeMap<TargetId, SightingRecord>, AwsError> {
        let sightings = self.ledger.sightings(&self.spec.stack).await.map_err(of_ledger)?;
        Ok(sightings.into_iter().map(|sighting| (sighting.target.clone(), sighting)).collect())
    }

    /// Tells `rotate` whom there is to prove, and which of its proofs were seen; and later runs what a teardown has begun.
    async fn write_down(&self, observed: &Observed) -> Result<(), AwsError> {
        // What is refused changes nothing, not even a note.
        let is_refused = self.spec.state == State::Absent && self.spec.deletion_protection;
        if self.hands == Hands::Tied || is_refused {
            return Ok(());
        }
        let members = members(self.spec, observed);
        let noted = self.ledger.record_membership(&self.spec.stack, &members).await.map_err(of_ledger)?;
        if let Ok(mut gone) = self.gone.lock() {
            let still = members.deleting.unwrap_or_default();
            *gone = noted.record.deleting.unwrap_or_default();
            gone.retain(|one| !still.contains(one));
        }
        if let Ok(mut unproven) = self.unproven.lock()
            && noted.is_news
        {
            *unproven = espalier_domain::network::unproven(self.spec, observed);
        }
        Ok(())
    }

    /// Who is selected, when nothing else is ours: of an Auto Scaling group, `rotate` cannot find that out.
    pub(crate) async fn note_members(&self, groups: &[String]) -> Result<(), AwsError> {
        let looked_at = self.clock.now();
        let groups = self.scaling.groups(&self.spec.stack, groups).await?;
        let ids: Vec<TargetId> = groups.members.keys().cloned().collect();
        let (mut instances, sightings) = try_join!(self.ec2.instances(self.spec, &ids), self.sightings())?;
        for instance in &mut instances {
            instance.scaling = groups.members.get(&instance.id).cloned();
        }
        self.write_down(&Observed { sightings, ..Observed::of_instances(looked_at, instances) }).await
    }

    fn remember(&self, observed: &Observed, plan: &Plan<Action>) {
        if let Ok(mut known) = self.left.lock() {
            *known = left(self.spec, observed);
        }
        let Ok(mut known) = self.drift.lock() else { return };
        let undone = drifted(self.spec, observed, plan).into_iter();
        let undone = undone.map(|step| (step.action.to_string(), step.because.clone()));
        let held = plan.blocks.iter().filter(|block| block.code == BlockCode::Drifted);
        let held = held.map(|block| ("nothing".to_owned(), block.because.clone()));
        for (action, because) in undone.chain(held) {
            if !known.iter().any(|one| one.action == action && one.because == because) {
                known.push(ReportedStep { wave: 1, action, because });
            }
        }
    }
}

pub(crate) fn of_ledger(error: LedgerError) -> AwsError {
    match error {
        LedgerError::Aws(error) => error,
        LedgerError::Contended(_) => AwsError::coded("ledger", "ConflictException", chain(&error)),
        LedgerError::Garbled { .. } | LedgerError::Empty(_) => AwsError::unexpected("ledger", chain(&error)),
    }
}

/// What answers an A query at the name: an A record, or a CNAME, which leaves room for nothing else.
pub(crate) fn record(records: &[Record]) -> Option<SeenRecord> {
    let mut answering = records.iter().filter(|record| matches!(record.kind.as_str(), "A" | "CNAME"));
    let first = answering.next()?;
    let entry = |alias: &Alias| DnsEntry {
        domain_name: alias.domain_name.clone(),
        hosted_zone_id: alias.hosted_zone_id.clone(),
    };
    // Several record sets share the name under a routing policy: somebody else's doing.
    let is_single = answering.next().is_none();
    Some(SeenRecord { alias: first.alias.as_ref().filter(|_| is_single && first.kind == "A").map(entry) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(kind: &str, alias: Option<&str>) -> Record {
        let alias = alias.map(|name| Alias { domain_name: name.into(), hosted_zone_id: "Z1".into() });
        Record { kind: kind.into(), alias, shown: String::new() }
    }

    #[test]
    fn only_a_single_simple_alias_can_be_ours() {
        assert_eq!(record(&[]), None);
        assert_eq!(record(&[seen("TXT", None), seen("AAAA", Some("x"))]), None);
        assert_eq!(record(&[seen("CNAME", None)]), Some(SeenRecord { alias: None }));
        assert_eq!(record(&[seen("A", None)]), Some(SeenRecord { alias: None }));
        assert_eq!(record(&[seen("A", Some("x")), seen("A", None)]), Some(SeenRecord { alias: None }));
        let ours = record(&[seen("A", Some("x")), seen("TXT", None)]).unwrap().alias.unwrap();
        assert_eq!((ours.domain_name.as_str(), ours.hosted_zone_id.as_str()), ("x", "Z1"));
    }
}
