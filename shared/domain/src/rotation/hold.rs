//! What the calendar keeps from happening now, and what not even the calendar keeps.

use time::OffsetDateTime;

use crate::plan::Plan;
use crate::record::GenerationRecord;
use crate::rotation::calendar::{Gate, Why};
use crate::rotation::due::{Due, minute};
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::proof::fails_clients;
use crate::rotation::rollout::awaiting;
use crate::work::WorkItem;

/// How soon to look again when no opening is known, in seconds.
const DAY_S: u32 = 86_400;

/// The calendar is closed.
pub(crate) struct Hold {
    why: Why,
    /// When that ends: the calendar opens, or no longer counts because something served comes to its end.
    ends: Option<(OffsetDateTime, bool)>,
}

impl Hold {
    /// What the calendar says now.
    pub(crate) fn of(evidence: &Evidence) -> Option<Self> {
        let (why, opens) = match evidence.policy.calendar.gate(evidence.now) {
            Gate::Open => return None,
            Gate::Closed { why, opens } => (why, opens),
        };
        let margin = evidence.policy.safety_margin();
        let served =
            evidence.targets.iter().filter(|target| target.wanted).filter_map(|target| served(evidence, target));
        let all = served.chain(evidence.newest()).map(|record| record.not_after.saturating_sub(margin));
        let margin_at = all.filter(|at| *at > evidence.now).min();
        let ends = [opens.map(|at| (at, true)), margin_at.map(|at| (at, false))].into_iter().flatten().min();
        Some(Self { why, ends })
    }

    /// Notes what is kept waiting.
    pub(crate) fn note(&self, what: &str, now: OffsetDateTime, plan: &mut Plan<WorkItem>) {
        let wait_s = |at: OffsetDateTime| u32::try_from((at - now).whole_seconds()).unwrap_or(DAY_S).max(1);
        match self.ends {
            Some((at, true)) => plan.wait(format!("{} at {}: {what}", self.why, minute(at)), wait_s(at)),
            Some((at, false)) => plan.wait(format!("the safety margin at {}: {what}", minute(at)), wait_s(at)),
            None => plan.wait(format!("{}: {what}", self.why), DAY_S),
        }
    }
}

/// Whether a new leaf may wait for the calendar. What is served must not run out over it, nor go on being served once it was
/// declared unsafe; a stack without a leaf serves nobody anyway, and leaves of an authority that is gone are nobody's choice.
pub(crate) fn may_mint_later(evidence: &Evidence, due: &Due) -> bool {
    match due {
        Due::First
        | Due::Tainted(_)
        | Due::AuthorityTainted(_)
        | Due::AuthorityRetired { .. }
        | Due::Failing { .. } => false,
        Due::Names { .. }
        | Due::Acm { .. }
        | Due::Source
        | Due::Scope { .. }
        | Due::Custody(_)
        | Due::AuthoritySuperseded { .. }
        | Due::Age { .. }
        | Due::Reverted { .. }
        | Due::Overdue { .. } => {
            !evidence.newest().is_some_and(|newest| runs_out(evidence, newest.not_after))
                && !evidence
                    .targets
                    .iter()
                    .filter(|target| target.wanted)
                    .any(|target| serves_to_the_end(evidence, target) || target.serves_tainted(evidence))
        }
    }
}

/// Whether a target may wait for the calendar: nothing presses it, and what it serves was not declared unsafe.
pub(crate) fn may_install_later(evidence: &Evidence, target: &TargetEvidence) -> bool {
    is_well(evidence, target) && !target.serves_tainted(evidence)
}

/// Whether nothing presses a target: it serves something good, and that for some time yet. Putting right what is broken is
/// never put off.
pub(crate) fn is_well(evidence: &Evidence, target: &TargetEvidence) -> bool {
    let is_good = target.sighting.as_ref().is_some_and(|sighting| sighting.verdict.is_good());
    // Whoever awaits a confirmation may have gone back by now to a pair that ends sooner.
    let is_settled = awaiting(target, evidence.now).is_none();
    target.floor().is_some() && is_good && is_settled && !serves_to_the_end(evidence, target)
}

/// Whether what a target serves is no good, or no longer for long: it fails clients now, or the safety margin before the end of
/// what it serves has begun.
pub(crate) fn cannot_wait(evidence: &Evidence, target: &TargetEvidence) -> bool {
    serves_to_the_end(evidence, target)
        || target.floor().is_some() && target.sighting.as_ref().is_some_and(fails_clients)
}

/// The safety margin before the end of what it serves has begun.
pub(crate) fn serves_to_the_end(evidence: &Evidence, target: &TargetEvidence) -> bool {
    served(evidence, target).is_some_and(|record| runs_out(evidence, record.not_after))
}

fn served<'a>(evidence: &'a Evidence, target: &TargetEvidence) -> Option<&'a GenerationRecord> {
    target.floor().and_then(|floor| evidence.generation(floor))
}

fn runs_out(evidence: &Evidence, not_after: OffsetDateTime) -> bool {
    evidence.now >= not_after.saturating_sub(evidence.policy.safety_margin())
}
