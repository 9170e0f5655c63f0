//! Who may connect: the service's auth policy, and what other policies make of it.

use super::Look;
use crate::network::action::Action;
use crate::network::observed::{SeenNetwork, SeenService};
use crate::network::policy::{Passthrough, passthrough, same};
use crate::network::service_name;
use crate::plan::{BlockCode, Plan};

impl Look<'_> {
    /// Brings the service's policy into force, or out of it. Whether what is in force is what the spec wants; until then a
    /// service that is in no network stays out of it. The policy is written before it comes into force and goes after it is
    /// out of force: without one, the auth type `AWS_IAM` denies everything.
    pub(super) fn auth(&self, service: &SeenService, plan: &mut Plan<Action>) -> bool {
        let (service_id, name) = (service.owned.id.clone(), service_name(&self.spec.stack));
        match &self.spec.service.auth_policy {
            None if service.is_iam => {
                plan.step(
                    Action::DropAuth { service_id, name },
                    "it asks for authorization and the spec has no authPolicy",
                );
                false
            }
            None => true,
            Some(wanted) => {
                let is_written = service.auth_policy.as_deref().is_some_and(|seen| same(seen, wanted.text()));
                if !is_written {
                    let because =
                        if service.auth_policy.is_none() { "missing" } else { "it differs from the spec's authPolicy" };
                    let policy = wanted.text().to_owned();
                    plan.step(Action::PutAuthPolicy { service_id, name, policy }, because);
                } else if !service.is_iam {
                    plan.step(
                        Action::RequireAuth { service_id, name },
                        "its auth type is NONE: the policy is not in force",
                    );
                }
                is_written && service.is_iam
            }
        }
    }
}

/// A policy on the network under which no connection through TLS passthrough can pass, whatever the service allows.
pub(in crate::network) fn network_policy<A>(network: &SeenNetwork, plan: &mut Plan<A>) {
    let Some(policy) = &network.auth_policy else { return };
    if let Passthrough::Cut(why) = passthrough(policy) {
        let id = &network.owned.id;
        plan.block(
            BlockCode::CutOff,
            format!(
                "the auth policy of service network {id} cuts off every TLS passthrough connection: {why}. Test \
                 vpc-lattice-svcs:SourceVpc or SourceVpcOwnerAccount there, or use a network without such a policy"
            ),
        );
    }
}

/// The same of a service that is somebody else's.
pub(in crate::network) fn service_policy<A>(service: &SeenService, plan: &mut Plan<A>) {
    if !service.is_iam {
        return;
    }
    if let Passthrough::Cut(why) = passthrough(service.auth_policy.as_deref().unwrap_or_default()) {
        let id = &service.owned.id;
        plan.block(
            BlockCode::CutOff,
            format!("the auth policy of service {id} cuts off every TLS passthrough connection: {why}"),
        );
    }
}
