//! Who may be given the newest leaf now: canary, then one wave at a time, nothing new past the failure budget, and
//! nothing outside the calendar that can wait for it.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::{Look, healthy, own, seconds};
use crate::id::{Generation, NodeId, TargetId};
use crate::plan::Plan;
use crate::record::{AttemptRecord, GenerationRecord};
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::hold::{Hold, cannot_wait, is_well, may_install_later};
use crate::rotation::membership;
use crate::rotation::pace::{self, window_s};
use crate::rotation::phase::Phase;
use crate::rotation::policy::EMERGENCY_BAKE;
use crate::rotation::rollout::Rollout;
use crate::rotation::settle::{Weight, weigh};
use crate::spec::Confirm;
use crate::work::{DeliverItem, DeliveryAction, PAGE, WorkItem};

/// A target that may be given the newest generation now.
pub(super) struct Candidate<'a> {
    pub(super) target: &'a TargetEvidence,
    attempt: u32,
    /// It was tried before.
    retry: bool,
    /// It had used up its attempts.
    again: bool,
    because: &'a str,
}

impl Candidate<'_> {
    fn is_retry(&self) -> bool {
        self.retry && !self.again
    }
}

/// Plans the deliveries that may begin now; says whether anything is under way or about to be.
pub(super) fn deliver(
    plan: &mut Plan<WorkItem>,
    rollout: &Rollout<'_>,
    newest: &GenerationRecord,
    looks: &[Look<'_>],
    halted: bool,
    hold: Option<&Hold>,
) -> bool {
    let undecided: Vec<&Look<'_>> = looks.iter().filter(|look| look.phase.is_undecided()).collect();
    if rollout.evidence.policy.observes {
        return !undecided.is_empty();
    }
    let mut candidates = candidates(rollout, newest, looks, halted);
    // Who fails clients is taken out of service before it is repaired.
    candidates.retain(|candidate| !membership::is_news(rollout.evidence, candidate.target));
    let has_room = undecided.is_empty() || !halted && may_slide(rollout, &undecided, &candidates);
    if candidates.is_empty() || !has_room {
        return !undecided.is_empty();
    }
    let evidence = rollout.evidence;
    if let Some(hold) = hold {
        candidates = without_the_patient(plan, evidence, newest, candidates, hold);
    }
    let policy = &evidence.policy;
    // What others installed is no proof of ours.
    let ours = || looks.iter().filter(|look| look.target.node.is_some());
    let proven = ours().filter(|look| look.target.has_proven(newest.generation)).count();
    let canary = policy.canary();
    let is_canary = !halted && proven < canary;
    let (stage, size) = if halted {
        ("one at a time, the rollout is halted".to_owned(), 1)
    } else if is_canary {
        (format!("canary, {proven} of {canary} proven"), canary - proven)
    } else {
        let wanted = ours().count();
        if let Some(until) = bakes(rollout, newest, looks, canary).filter(|until| *until > evidence.now) {
            candidates.retain(|candidate| !is_well(evidence, candidate.target));
            if candidates.is_empty() {
                plan.wait("the canary, which is to serve it for a while first", seconds(until - evidence.now));
            }
        }
        (format!("wave, {proven} of {wanted} proven"), policy.wave.of(wanted))
    };
    healthy::leave_enough(plan, evidence, looks, &mut candidates);
    let Some(free) = free(size, undecided.len(), is_canary).filter(|_| !candidates.is_empty()) else {
        return !undecided.is_empty();
    };
    candidates.truncate(free);
    let room = pace::room(evidence.line.as_ref(), evidence.now);
    if room < candidates.len().min(PAGE) {
        plan.wait("a turn to read the leaf", pace::next_s(evidence.line.as_ref(), evidence.now));
        return true;
    }
    candidates.truncate(room);
    let (ready, bare): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| candidate.target.fingerprint(newest).is_some());
    let (asking, keyless): (Vec<_>, Vec<_>) =
        bare.into_iter().partition(|candidate| own::may_be_signed(newest, candidate));
    own::make(plan, evidence, newest, &asking, &stage);
    let make_keys = |candidate: &Candidate<'_>| order(evidence, newest, DeliveryAction::Prepare, candidate.attempt);
    hand_out(plan, evidence, &keyless, make_keys, &stage);
    let install = |candidate: &Candidate<'_>| install(rollout, newest, candidate, is_canary);
    hand_out(plan, evidence, &ready, install, &stage);
    true
}

/// Whether a wave may be filled up while some of it is under way: nobody in it has failed, and nobody is tried again.
fn may_slide(rollout: &Rollout<'_>, undecided: &[&Look<'_>], candidates: &[Candidate<'_>]) -> bool {
    let is_first = |look: &&Look<'_>| {
        matches!(look.phase, Phase::Delivering { .. } | Phase::Presenting { .. })
            && rollout.tally(look.target).tries <= 1
    };
    undecided.iter().all(is_first) && !candidates.iter().any(Candidate::is_retry)
}

/// How many more a wave takes while so many of it are undecided, if any. A wave of up to a page ends before the next one
/// begins; a larger one is filled up by the page, for its hosts read their leaf one after the other
/// (decision 22).
fn free(size: usize, undecided: usize, is_canary: bool) -> Option<usize> {
    let free = size.saturating_sub(undecided);
    (undecided == 0 || !is_canary && free >= size.min(PAGE)).then_some(free)
}

/// One command for those who are told the same, a page of targets each.
fn hand_out(
    plan: &mut Plan<WorkItem>,
    evidence: &Evidence,
    candidates: &[Candidate<'_>],
    told: impl Fn(&Candidate<'_>) -> DeliverItem,
    stage: &str,
) {
    let mut commands: BTreeMap<(u32, &str, u32), DeliverItem> = BTreeMap::new();
    for candidate in candidates {
        let item = told(candidate);
        let key = (item.attempt, candidate.because, item.confirm_s);
        commands.entry(key).or_insert(item).targets.push(candidate.target.target.clone());
    }
    for ((_, because, _), item) in commands {
        by_the_page(plan, evidence, item, &format!("{stage}; {because}"));
    }
}

/// The command by which this target is given the newest generation.
fn install(
    rollout: &Rollout<'_>,
    newest: &GenerationRecord,
    candidate: &Candidate<'_>,
    is_canary: bool,
) -> DeliverItem {
    let evidence = rollout.evidence;
    let install = order(evidence, newest, DeliveryAction::Install, candidate.attempt);
    if !is_to_be_confirmed(evidence, newest, candidate.target, is_canary) {
        return install;
    }
    let policy = &evidence.policy;
    DeliverItem { confirm_s: policy.confirm_s, margin_hours: policy.safety_margin_hours, ..install }
}

/// A command about this generation, to nobody yet.
fn order(evidence: &Evidence, of: &GenerationRecord, action: DeliveryAction, attempt: u32) -> DeliverItem {
    DeliverItem {
        stack: evidence.policy.stack.clone(),
        epoch: evidence.epoch_number(),
        action,
        scope: of.scope.clone(),
        generation: of.generation,
        targets: Vec::new(),
        nodes: Vec::new(),
        attempt,
        start_s: 0,
        window_s: 0,
        confirm_s: 0,
        margin_hours: 0,
    }
}

/// A step for each page of the item's targets.
fn by_the_page(plan: &mut Plan<WorkItem>, evidence: &Evidence, mut item: DeliverItem, because: &str) {
    let mut targets = std::mem::take(&mut item.targets);
    targets.sort();
    // Of an instance its id says all; a fleet of them is not searched.
    let is_known = targets.iter().all(|target| target.address().is_none());
    let named = evidence.targets.iter().filter(|_| !is_known);
    let nodes: BTreeMap<&TargetId, &NodeId> =
        named.filter_map(|known| Some((&known.target, known.node.as_ref()?))).collect();
    for page in targets.chunks(PAGE) {
        let nodes = page.iter().filter_map(|target| nodes.get(target).map(|node| (*node).clone())).collect();
        let window_s = match item.action {
            DeliveryAction::Install => window_s(page.len()),
            DeliveryAction::Confirm | DeliveryAction::Prepare => 0,
        };
        let item = DeliverItem { targets: page.to_vec(), nodes, window_s, ..item.clone() };
        plan.step(WorkItem::Deliver(item), because);
    }
}

/// Plans the confirmations of what was seen. Nothing keeps them waiting: they change nothing that is served.
pub(super) fn confirm(plan: &mut Plan<WorkItem>, evidence: &Evidence, looks: &[Look<'_>]) {
    let mut commands: BTreeMap<(Generation, u32), Vec<TargetId>> = BTreeMap::new();
    for look in looks {
        if let Phase::Unconfirmed { generation, attempt, at } = look.phase
            && at <= evidence.now
        {
            commands.entry((generation, attempt)).or_default().push(look.target.target.clone());
        }
    }
    for ((generation, attempt), targets) in commands {
        let Some(record) = evidence.generation(generation) else { continue };
        let item = DeliverItem { targets, ..order(evidence, record, DeliveryAction::Confirm, attempt) };
        by_the_page(plan, evidence, item, "it was seen, and is to stay");
    }
}

/// Whether the target goes back by itself unless it is told that this generation was seen: as the policy says, and only
/// where what it would go back to is no worse. The host looks once more.
fn is_to_be_confirmed(
    evidence: &Evidence,
    newest: &GenerationRecord,
    target: &TargetEvidence,
    is_canary: bool,
) -> bool {
    let policy = &evidence.policy;
    let wanted = match policy.confirm {
        Confirm::Canary => is_canary,
        Confirm::All => true,
        Confirm::Never => false,
    };
    let before = target.floor().and_then(|floor| evidence.generation(floor));
    wanted
        && before.is_some_and(|before| {
            let until = evidence.now.saturating_add(Duration::seconds(i64::from(policy.confirm_s)));
            let is_trusted = before.export.is_some()
                || evidence.authorities.iter().any(|authority| authority.authority == before.authority);
            // What was proven there once is not taken back for want of a confirmation.
            let is_new = before.generation < newest.generation;
            let is_safe = !evidence.is_tainted(before.generation);
            is_new && is_safe && is_trusted && before.not_after > until.saturating_add(policy.safety_margin())
        })
}

/// Those whom the calendar does not keep waiting; the others are noted.
fn without_the_patient<'a>(
    plan: &mut Plan<WorkItem>,
    evidence: &Evidence,
    newest: &GenerationRecord,
    candidates: Vec<Candidate<'a>>,
    hold: &Hold,
) -> Vec<Candidate<'a>> {
    let (patient, urgent): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| may_install_later(evidence, candidate.target));
    if !patient.is_empty() {
        let what = format!("generation {} on {} more", newest.generation, patient.len());
        hold.note(&what, evidence.now, plan);
    }
    urgent
}

/// Until when the canary is to serve the newest generation before others follow.
fn bakes(
    rollout: &Rollout<'_>,
    newest: &GenerationRecord,
    looks: &[Look<'_>],
    canary: usize,
) -> Option<OffsetDateTime> {
    let mut bake = Duration::minutes(i64::from(rollout.evidence.policy.bake_minutes));
    if looks.iter().any(|look| look.target.serves_tainted(rollout.evidence)) {
        bake = bake.min(EMERGENCY_BAKE);
    }
    let proven = looks.iter().filter(|look| look.target.has_proven(newest.generation));
    // Whom a person gave it has no delivery and proves nothing about ours.
    let installed =
        |look: &Look<'_>| rollout.tally(look.target).last.and_then(|last| last.ended.as_ref()).map(|end| end.at);
    let mut since: Vec<OffsetDateTime> = proven.filter_map(installed).collect();
    since.sort();
    let begun = since.get(canary.checked_sub(1)?)?;
    Some(begun.saturating_add(bake))
}

/// Who may be given the newest generation now, in the order in which they should be.
fn candidates<'a>(
    rollout: &Rollout<'_>,
    newest: &GenerationRecord,
    looks: &'a [Look<'_>],
    halted: bool,
) -> Vec<Candidate<'a>> {
    let quarantined = looks
        .iter()
        .filter(|look| !matches!(look.phase, Phase::Current { .. } | Phase::Observed { .. }))
        .any(|look| rollout.newest_reverted_by(&look.target.target));
    let mut candidates: Vec<Candidate<'a>> = looks
        .iter()
        .filter_map(|look| match &look.phase {
            // A generation that was reverted is still taken back to where it was proven, never to a new target.
            Phase::Issued { .. } if quarantined && look.target.floor() < Some(newest.generation) => None,
            // What was proven there and is gone is put back: that is nothing new.
            // And what healthy targets serve must not run out, nor go on failing clients, over somebody else's failure.
            Phase::Issued { again: false, .. }
                if halted
                    && look.target.floor() < Some(newest.generation)
                    && !cannot_wait(rollout.evidence, look.target) =>
            {
                None
            }
            Phase::Issued { attempt, retry, again, because } => {
                Some(Candidate { target: look.target, attempt: *attempt, retry: *retry, again: *again, because })
            }
            Phase::Unwanted
            | Phase::Observed { .. }
            | Phase::NotOptedIn { .. }
            | Phase::Unmanaged { .. }
            | Phase::Arriving
            | Phase::Unverifiable
            | Phase::Due
            | Phase::Delivering { .. }
            | Phase::Presenting { .. }
            | Phase::Unconfirmed { .. }
            | Phase::Drifted { .. }
            | Phase::Pausing { .. }
            | Phase::Stuck { .. }
            | Phase::Current { .. } => None,
        })
        .collect();
    // Second attempts come before anybody's first: whether the generation is any good is still open.
    if candidates.iter().any(Candidate::is_retry) {
        candidates.retain(Candidate::is_retry);
    }
    candidates.sort_by_cached_key(|candidate| (precedence(rollout, candidate.target), &candidate.target.target));
    candidates
}

/// Who goes first. In a replacement the target that reverted its predecessor, because only there is it put to the
/// test; but before it whoever cannot wait, or one host that reverts them all would let everybody else's leaf run out.
/// Otherwise those whose latest delivery failed go last, so that a broken host is never the canary for others.
fn precedence(rollout: &Rollout<'_>, target: &TargetEvidence) -> u8 {
    if rollout.reverted_by(&target.target) {
        return 1;
    }
    let weight = |attempt: &AttemptRecord| attempt.ended.as_ref().map(weigh);
    // That a key was made says nothing about the server.
    let deliveries = target.attempts.iter().filter(|attempt| weight(attempt) != Some(Weight::Prepared));
    let latest = deliveries.max_by_key(|a| (a.generation, a.attempt));
    let weight = latest.and_then(weight);
    let cannot_wait = rollout.is_replacement() && cannot_wait(rollout.evidence, target);
    match weight {
        // Whoever was not tried has shown nothing about its server.
        None | Some(Weight::Installed | Weight::Prepared | Weight::Missed | Weight::NotOptedIn) if cannot_wait => 0,
        None | Some(Weight::Installed | Weight::Prepared) => 2,
        Some(Weight::Missed | Weight::NotOptedIn | Weight::ServerBroken | Weight::Reverted | Weight::Failed) => 3,
    }
}
