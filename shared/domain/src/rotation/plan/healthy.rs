//! How many targets have to be well, untouched, while others are changed.

use super::deliver::Candidate;
use super::{Look, seconds};
use crate::plan::Plan;
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::hold::cannot_wait;
use crate::rotation::policy::LOOK_AGAIN;
use crate::rotation::proof::{Proof, proof};
use crate::work::{PAGE, WorkItem};

/// Takes well targets out of what is handed out until enough of them are left. Who fails clients is repaired all the same, and
/// nothing runs out, nor is served on that was declared unsafe, because others are not well; but they count first.
pub(super) fn leave_enough(
    plan: &mut Plan<WorkItem>,
    evidence: &Evidence,
    looks: &[Look<'_>],
    candidates: &mut Vec<Candidate<'_>>,
) {
    let Some(minimum) = evidence.policy.minimum_healthy(looks.len()) else { return };
    let undecided = looks.iter().filter(|look| look.phase.is_undecided()).count();
    let untouched = looks.iter().filter(|look| !look.phase.is_undecided());
    let well = untouched.filter(|look| serves_clients(evidence, look.target)).count();
    let is_urgent = |candidate: &Candidate<'_>| cannot_be_spared(evidence, candidate.target);
    let urgent = candidates.iter().filter(|one| is_urgent(one) && serves_clients(evidence, one.target)).count();
    let mut spare = well.saturating_sub(minimum).saturating_sub(urgent);
    let patient = candidates.iter().filter(|one| !is_urgent(one)).count();
    // A large wave is filled up by the page, and not by each target that has come through.
    if undecided > 0 && spare < patient.min(PAGE) {
        spare = 0;
    }
    candidates.retain(|candidate| {
        if is_urgent(candidate) {
            return true;
        }
        let is_spared = spare == 0;
        spare = spare.saturating_sub(1);
        !is_spared
    });
    if candidates.is_empty() && patient > 0 && undecided == 0 {
        let what = format!(
            "more targets that are well: {well} of {} are, and {minimum} have to be beside those that are changed \
             (rollout.minimumHealthyPercent)",
            looks.len()
        );
        plan.wait(what, seconds(LOOK_AGAIN.1));
    }
}

/// It serves nothing of ours yet, fails clients, comes to the end of what it serves, or serves what was declared unsafe.
fn cannot_be_spared(evidence: &Evidence, target: &TargetEvidence) -> bool {
    target.floor().is_none() || cannot_wait(evidence, target) || target.serves_tainted(evidence)
}

/// As far as anybody knows: of a host that Systems Manager has lost, what was seen before says nothing.
fn serves_clients(evidence: &Evidence, target: &TargetEvidence) -> bool {
    let is_there = target.node.is_none() || target.managed.as_ref().is_some_and(|managed| managed.online);
    let launched_at = evidence.member(&target.target).and_then(|member| member.launched_at);
    let proof = proof(target.sighting.as_ref(), evidence.policy.target_port, launched_at, evidence.now);
    is_there && proof == Proof::Good
}
