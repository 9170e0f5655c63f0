//! The service network and the VPCs that are associated with it.

use std::collections::BTreeSet;

use super::Look;
use super::life::{is_leaving, leave, settled};
use crate::id::{SecurityGroupId, ServiceNetworkRef};
use crate::network::action::Action;
use crate::network::observed::{SeenVpcAssociation, Status};
use crate::network::{SOON_S, network_name};
use crate::plan::{BlockCode, Plan};

impl<'a> Look<'a> {
    pub(super) fn network(&self, plan: &mut Plan<Action>) -> Option<&'a str> {
        if let Some(given) = &self.spec.network.service_network_id {
            return self.given_network(given, plan);
        }
        let name = network_name(&self.spec.stack);
        match &self.observed.network {
            None => {
                let token = self.token("ServiceNetwork", &name);
                plan.step(Action::CreateServiceNetwork { name, tags: self.tags(), token }, "missing");
                None
            }
            Some(network) => {
                let what = format!("service network {name}");
                if !self.accept(&what, &network.owned, plan) {
                    return None;
                }
                Some(network.owned.id.as_str())
            }
        }
    }

    /// Somebody else's network: it is used as it is.
    fn given_network(&self, given: &ServiceNetworkRef, plan: &mut Plan<Action>) -> Option<&'a str> {
        match &self.observed.network {
            Some(network) => Some(network.owned.id.as_str()),
            None => {
                plan.block(
                    BlockCode::NotFound,
                    format!(
                        "network.serviceNetworkId {given} does not exist or is not shared with this account; share it, \
                         accept the share, or correct the spec"
                    ),
                );
                None
            }
        }
    }

    pub(super) fn vpc_associations(&self, network_id: &str, plan: &mut Plan<Action>) {
        let ours = |seen: &&SeenVpcAssociation| seen.network_id == network_id;
        for consumer in &self.spec.network.consumers {
            let vpc_id = &consumer.vpc_id;
            if self.fit.unfit.contains(vpc_id) {
                continue;
            }
            let wanted: BTreeSet<_> = consumer.security_group_ids.iter().cloned().collect();
            let mut of_vpc = self.observed.vpc_associations.iter().filter(|seen| seen.vpc_id == *vpc_id);
            if let Some(seen) = of_vpc.clone().find(ours) {
                self.vpc_association(seen, &wanted, plan);
            } else if let Some(other) = of_vpc.next() {
                if is_leaving(&other.status) {
                    plan.wait(format!("{vpc_id} to leave service network {}", other.network_id), SOON_S);
                    continue;
                }
                plan.block(
                    BlockCode::Foreign,
                    format!(
                        "VPC {vpc_id} is associated with service network {} and can have only one ({})",
                        other.network_id, other.owned.id
                    ),
                );
            } else {
                let action = Action::AssociateVpc {
                    network_id: network_id.to_owned(),
                    vpc_id: vpc_id.clone(),
                    security_group_ids: wanted,
                    tags: self.tags(),
                    token: self.token("VpcAssociation", vpc_id.as_str()),
                };
                plan.step(action, "missing");
            }
        }
        let wanted: BTreeSet<_> = self.spec.network.consumers.iter().map(|consumer| &consumer.vpc_id).collect();
        for seen in self.observed.vpc_associations.iter().filter(ours).filter(|seen| !wanted.contains(&seen.vpc_id)) {
            if seen.owned.ours {
                let what = format!("association of {}", seen.vpc_id);
                let because = "the spec no longer lists this consumer";
                leave(&what, &seen.status, because, plan, delete_vpc_association(seen));
            }
        }
    }

    fn vpc_association(&self, seen: &SeenVpcAssociation, wanted: &BTreeSet<SecurityGroupId>, plan: &mut Plan<Action>) {
        let what = format!("association of {}", seen.vpc_id);
        if !self.accept(&what, &seen.owned, plan) {
            return;
        }
        let ready =
            settled(&what, &seen.status, plan, |plan, because| plan.step(delete_vpc_association(seen), because));
        let failed = match &seen.status {
            // What is in force then is not told: the same update again is harmless, and its end is.
            Status::UpdateFailed(failure) => Some(format!(
                "its last update failed ({failure}): it is tried again; if it fails again, remove what VPC Lattice names"
            )),
            Status::Creating
            | Status::Active
            | Status::Updating
            | Status::Deleting
            | Status::CreateFailed(_)
            | Status::DeleteFailed(_) => None,
        };
        let differs = seen.security_group_ids != *wanted;
        let because = failed.or_else(|| differs.then(|| "its security groups differ from the spec".to_owned()));
        if let Some(because) = because.filter(|_| ready) {
            let action = Action::UpdateVpcAssociation {
                association_id: seen.owned.id.clone(),
                vpc_id: seen.vpc_id.clone(),
                security_group_ids: wanted.clone(),
            };
            plan.step(action, because);
        }
    }
}

pub(in crate::network) fn delete_vpc_association(seen: &SeenVpcAssociation) -> Action {
    Action::DeleteVpcAssociation { association_id: seen.owned.id.clone(), vpc_id: seen.vpc_id.clone() }
}
