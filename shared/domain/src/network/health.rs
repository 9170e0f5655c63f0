//! How many registrations VPC Lattice sends connections to, which it has no metric for.

use super::observed::{Observed, TargetStatus};

/// The registrations of a stack's targets, counted by what their state means for clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetHealth {
    /// `HEALTHY`; or `UNAVAILABLE`, which is the steady state where health checks are off (VPC Lattice user guide, "Health checks").
    pub serving: u32,
    /// `UNHEALTHY`: no connections, unless none is better ("fails open").
    pub unhealthy: u32,
    /// `INITIAL`, `DRAINING` or `UNUSED`: on its way in or out, or in a group that no service uses.
    pub in_transit: u32,
}

/// Counts the registrations in the stack's own target groups; nothing of a stack that has none.
pub fn health(observed: &Observed) -> Option<TargetHealth> {
    let mut groups = observed.target_groups.iter().filter(|group| group.owned.ours).peekable();
    groups.peek()?;
    let mut health = TargetHealth::default();
    for target in groups.flat_map(|group| &group.targets) {
        let counted = match target.status {
            TargetStatus::Healthy | TargetStatus::Unavailable => &mut health.serving,
            TargetStatus::Unhealthy => &mut health.unhealthy,
            TargetStatus::Initial | TargetStatus::Draining | TargetStatus::Unused => &mut health.in_transit,
        };
        *counted = counted.saturating_add(1);
    }
    Some(health)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::network::{Owned, SeenTarget, SeenTargetGroup, Status};

    fn group(ours: bool, states: &[TargetStatus]) -> SeenTargetGroup {
        let target = |status: &TargetStatus| SeenTarget { id: "i-0000000a".into(), port: 443, status: *status };
        SeenTargetGroup {
            owned: Owned { id: "tg-1".into(), arn: String::new(), ours, spec_hash: None },
            name: "payments".into(),
            status: Status::Active,
            is_tcp: true,
            health_check: None,
            service_arns: Vec::new(),
            targets: states.iter().map(target).collect(),
        }
    }

    #[test]
    fn each_state_counts_once_and_others_groups_do_not() {
        use TargetStatus::{Draining, Healthy, Initial, Unavailable, Unhealthy, Unused};
        let mut observed = Observed::of_instances(OffsetDateTime::UNIX_EPOCH, Vec::new());
        assert_eq!(health(&observed), None);
        observed.target_groups = vec![group(false, &[Unhealthy])];
        assert_eq!(health(&observed), None, "somebody else's");
        observed.target_groups.push(group(true, &[Healthy, Unavailable, Unhealthy, Initial]));
        observed.target_groups.push(group(true, &[Draining, Unused, Healthy]));
        assert_eq!(health(&observed), Some(TargetHealth { serving: 3, unhealthy: 1, in_transit: 3 }));
        observed.target_groups = vec![group(true, &[])];
        assert_eq!(health(&observed), Some(TargetHealth::default()), "a group without targets is news, too");
    }
}
