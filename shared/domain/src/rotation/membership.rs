//! What `provision` has to hear of: proofs that change who is registered.
//!
//! `provision` alone plans registration. It reads the same sightings, and writes down which of them it decided upon; a
//! membership item is handed out for those that it has not seen, once.

use crate::id::TargetId;
use crate::plan::Plan;
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::proof;
use crate::work::{MembershipItem, PAGE, WorkItem};

/// Whether `provision` has not seen the target's sighting and has to.
pub(super) fn is_news(evidence: &Evidence, target: &TargetEvidence) -> bool {
    // Where nothing is Espalier's, nobody registers: what an earlier spec left in the ledger asks for nothing.
    let member = evidence.member(&target.target).filter(|_| !evidence.policy.observes);
    let known = target.sighting.as_ref().zip(member);
    known.is_some_and(|(sighting, member)| proof::is_news(sighting, member, evidence.policy.target_port, evidence.now))
}

/// Plans one item for all of them: `provision` looks at the whole stack in any case.
pub(super) fn tell(evidence: &Evidence, plan: &mut Plan<WorkItem>) {
    let news = evidence.wanted().into_iter().filter(|target| is_news(evidence, target));
    let targets: Vec<TargetId> = news.take(PAGE).map(|target| target.target.clone()).collect();
    if !targets.is_empty() {
        let item = MembershipItem { stack: evidence.policy.stack.clone(), targets };
        plan.step(WorkItem::Membership(item), "what was seen of them changes whether clients are sent there");
    }
}
