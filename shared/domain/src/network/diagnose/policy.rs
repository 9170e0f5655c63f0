//! Auth policies under TLS passthrough. VPC Lattice sees no request and no signature: every caller is anonymous, and only
//! the keys of layer 4 have a value (user guide, TLS listeners and auth policies). The policies of network and service
//! both have to allow. The planner judges by the same rules.

use super::super::policy::{Cause, cut};
use super::{Finding, SeenPolicy, found};

const REMEDY: &str = "test vpc-lattice-svcs:SourceVpc, :SourceVpcOwnerAccount, :Port, :ServiceArn or :ServiceNetworkArn \
                      instead, or move passthrough services to a network of their own";

pub(super) fn check(policies: &[SeenPolicy], all: &mut Vec<Finding>) {
    for policy in policies.iter().filter(|policy| policy.is_in_force) {
        let Some((cause, why)) = cut(policy.text.as_deref().unwrap_or_default()) else { continue };
        let (pitfall, remedy) = match cause {
            Cause::NothingAllowed => (
                "auth-policy-inverted",
                "set its authorization type to NONE, or put a policy that allows vpc-lattice-svcs:Invoke to everybody, or by \
                 what passthrough can test",
            ),
            Cause::Denied => ("network-policy-denies", REMEDY),
            Cause::Named => ("no-signature", REMEDY),
            Cause::Tested => ("condition-keys", REMEDY),
        };
        found(all, pitfall, format!("{}: {why}: no client gets through", policy.resource), remedy);
    }
}
