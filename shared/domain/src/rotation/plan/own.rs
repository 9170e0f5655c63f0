//! Leaves that are each target's own: made for those whose turn it is, and, where targets make their keys themselves, once they have.

use super::deliver::Candidate;
use crate::id::NodeId;
use crate::plan::Plan;
use crate::record::{AttemptRecord, GenerationRecord};
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::settle::{Weight, weigh};
use crate::spec::Custody;
use crate::work::{KeyRequest, MintItem, PAGE, WorkItem};

/// Whether the target's own leaf can be made now: where the key is made on the target, it has to be there first.
pub(super) fn may_be_signed(newest: &GenerationRecord, candidate: &Candidate<'_>) -> bool {
    newest.custody == Custody::ParameterStore || prepared(newest, candidate.target).is_some()
}

/// The command in which the target's node was told to make its key of this generation, if it has said since that it did. Another node
/// may answer at an address since.
fn prepared<'a>(newest: &GenerationRecord, target: &'a TargetEvidence) -> Option<&'a AttemptRecord> {
    let attempts = target.attempts.iter().filter(|attempt| attempt.generation == newest.generation);
    let is_prepared = |attempt: &&AttemptRecord| {
        let was_asked = attempt.asked.as_ref().map(|asked| &asked.node) == target.node.as_ref();
        was_asked && attempt.ended.as_ref().map(weigh) == Some(Weight::Prepared)
    };
    attempts.max_by_key(|attempt| attempt.attempt).filter(is_prepared)
}

/// Where each target has a leaf of its own: makes those of the targets whose turn it is, one page of them, since Parameter Store takes
/// three writes a second of an account. The next look finds them, delivers, and has the others made.
pub(super) fn make(
    plan: &mut Plan<WorkItem>,
    evidence: &Evidence,
    newest: &GenerationRecord,
    asking: &[Candidate<'_>],
    stage: &str,
) {
    let mut those: Vec<(NodeId, Option<KeyRequest>)> = asking
        .iter()
        .filter_map(|candidate| Some((candidate.target.node.clone()?, requested(newest, candidate))))
        .collect();
    those.sort();
    those.truncate(PAGE);
    if those.is_empty() {
        return;
    }
    let because = format!("{stage}; each target has a leaf of its own");
    let (nodes, requests): (Vec<_>, Vec<_>) = those.into_iter().unzip();
    let item = MintItem {
        stack: evidence.policy.stack.clone(),
        scope: newest.scope.clone(),
        generation: newest.generation,
        nodes,
        requests: requests.into_iter().flatten().collect(),
        follows: newest.follows.clone(),
        because: because.clone(),
    };
    plan.step(WorkItem::Mint(item), because);
}

/// Where the target's request for its certificate is found, if its key is its own.
fn requested(newest: &GenerationRecord, candidate: &Candidate<'_>) -> Option<KeyRequest> {
    if newest.custody == Custody::ParameterStore {
        return None;
    }
    let prepared = prepared(newest, candidate.target)?;
    Some(KeyRequest { target: prepared.target.clone(), attempt: prepared.attempt })
}
