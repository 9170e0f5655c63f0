//! A rotation of a large fleet, in virtual time: nobody's read fails, and it takes little longer than it has to.

use espalier_simulation::report;
use espalier_simulation::scale::{Assumptions, rotate};

/// Up to as many targets in one stack as a spec may select, and more in several. What they are held to is told in
/// `docs/decisions/0032-what-a-fleet-is-measured-by.md`.
#[test]
fn nobody_fails_to_read_and_it_takes_little_longer_than_the_quota_asks_for() {
    for (targets, stacks) in [(10, 1), (1_000, 1), (1_000, 4), (3_000, 1), (10_000, 4), (100_000, 10)] {
        let scale = rotate(targets, stacks, 100, Assumptions::default());
        report(&scale);
        assert_eq!(scale.failed, 0, "{scale}");
        assert!(scale.ratio_to_reachable() <= 1.2, "{scale}");
        assert!(scale.proven_s.is_finite() && scale.proven_s < 2.0 * scale.served_s + 30.0, "{scale}");
        // A page of instances each, and the canary's.
        let least = u64::try_from(targets / 50).unwrap();
        assert!(scale.calls["SendCommand"] > least, "{scale}");
    }
}
