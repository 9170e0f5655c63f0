//! Whose life is lived.

use espalier_domain::id::AcmArn;
use espalier_domain::rotation::policy::{FollowPolicy, Policy};

use crate::world::ACM;

/// So many targets are simulated at most.
const TARGETS_MAX: u32 = 200;

/// A fleet and what is asked of its rotation.
#[derive(Debug, Clone)]
pub enum Fleet {
    /// The seed draws both.
    Drawn,
    /// The same, but each target has a leaf of its own, unless the spec is changed; and people take one for another.
    Each,
    /// The same, and each target makes its key itself, unless the spec is changed; and keys get lost.
    OwnKeys,
    /// A spec's policy for so many targets; made by [`Fleet::given`].
    Given {
        /// What the spec asks.
        policy: Box<Policy>,
        /// How many targets.
        targets: u32,
    },
}

/// What cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSimulated {
    /// Exports are not simulated.
    #[error(
        "`certificate.issuer`: certificates out of ACM are not simulated; leave it out, and the leaves are our own authority's"
    )]
    Acm,
    /// There is nothing to simulate.
    #[error("`manage`: with \"nothing\" no leaf is ever delivered, and there is nothing to simulate")]
    Observes,
    /// Too few or too many.
    #[error("{0} targets: 1 to {TARGETS_MAX} are simulated")]
    Targets(u32),
}

impl Fleet {
    /// A spec's policy for so many targets. What it says of times and shares counts; a certificate it follows is the
    /// world's own.
    ///
    /// # Errors
    /// [`NotSimulated`]: the world has nothing of the kind.
    pub fn given(mut policy: Policy, targets: u32) -> Result<Self, NotSimulated> {
        if policy.source.is_some() {
            return Err(NotSimulated::Acm);
        }
        if policy.observes {
            return Err(NotSimulated::Observes);
        }
        if !(1..=TARGETS_MAX).contains(&targets) {
            return Err(NotSimulated::Targets(targets));
        }
        let certificate = AcmArn::parse(ACM).expect("an ARN");
        policy.follow = policy.follow.map(|follow| FollowPolicy { certificate, ..follow });
        policy.resolver = None;
        Ok(Self::Given { policy: Box::new(policy), targets })
    }
}
