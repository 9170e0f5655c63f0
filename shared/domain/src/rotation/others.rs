//! What others install: nothing is minted, delivered or registered; targets are dialled and judged by the trust that the
//! spec names, and by ACM's newest serial number where it names a certificate (docs/decisions/0023).

use time::OffsetDateTime;

use crate::plan::{BlockCode, Plan};
use crate::record::SightingRecord;
use crate::rotation::due::minute;
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::phase::Phase;
use crate::rotation::policy::OTHERS_PATIENCE;
use crate::spec::Trust;
use crate::work::{OthersItem, WorkItem};

/// A certificate that clients accept, and that is not ACM's newest.
pub(crate) struct Former {
    /// The newest's serial number.
    serial: String,
    /// Since when another one was seen; absent while it was not looked at since ACM renewed.
    since: Option<OffsetDateTime>,
}

impl Former {
    /// What its owner is told when whoever installs had time enough.
    pub(crate) fn overdue(&self, now: OffsetDateTime) -> Option<String> {
        let since = self.since.filter(|since| now - *since >= OTHERS_PATIENCE)?;
        Some(format!("it has not served ACM's newest certificate, serial {}, since {}", self.serial, minute(since)))
    }
}

/// Whether what was seen is not ACM's newest, as far as it is known which that is.
pub(crate) fn former(evidence: &Evidence, sighting: &SightingRecord) -> Option<Former> {
    let serial = evidence.others_serial()?;
    let is_other = sighting.verdict.serial.as_ref().is_some_and(|seen| *seen != serial);
    is_other.then_some(Former { serial, since: sighting.failing_since })
}

/// What is told of a target that serves a former certificate while nobody is called for it yet.
pub(crate) fn awaits(evidence: &Evidence, target: &TargetEvidence, phase: &Phase) -> Option<String> {
    if !matches!(phase, Phase::Observed { serves: true, because: None, .. }) {
        return None;
    }
    let former = former(evidence, target.sighting.as_ref()?)?;
    Some(format!("its owner has not installed ACM's newest certificate yet, serial {}", former.serial))
}

/// What targets are judged by: the roots, and what else a handshake has to show. Nothing where Espalier installs.
pub(crate) fn judged_by(evidence: &Evidence) -> Option<(String, OthersItem)> {
    let others = evidence.policy.others.as_ref()?;
    let item = OthersItem { public: others.trust == Trust::Public, serial: evidence.others_serial() };
    let roots = match &others.trust {
        Trust::Public => String::new(),
        Trust::Authority => evidence.trust(),
        Trust::Roots(pem) => pem.clone(),
    };
    Some((roots, item))
}

/// What certificates are judged by, for a person. Nothing where Espalier installs.
pub(crate) fn told(evidence: &Evidence) -> Option<String> {
    let others = evidence.policy.others.as_ref()?;
    let trust = match others.trust {
        Trust::Public => "a public authority",
        Trust::Authority => "the control plane's authority",
        Trust::Roots(_) => "the roots in the spec",
    };
    let newest = match (&others.certificate_arn, evidence.others_serial()) {
        (None, _) => String::new(),
        (Some(_), Some(serial)) => format!("; ACM's newest has serial {serial}"),
        (Some(_), None) => "; ACM's newest is not known".to_owned(),
    };
    Some(format!("installed by others, under {trust}{newest}"))
}

/// Whether there is anything to judge by; says so if not.
pub(crate) fn can_judge(evidence: &Evidence, plan: &mut Plan<WorkItem>) -> bool {
    let Some((roots, item)) = judged_by(evidence) else { return false };
    if roots.is_empty() && !item.public {
        let because = "certificate.issuer.trust is `authority`, and this control plane has none yet: write public, or the \
                       roots as PEM";
        plan.block(BlockCode::Unverifiable, because);
        return false;
    }
    true
}
