//! Where one target stands: a total function of evidence and time, never stored.

use time::{Duration, OffsetDateTime};

use crate::id::Generation;
use crate::record::SightingRecord;
use crate::rotation::agent::AgentVersion;
use crate::rotation::due::minute;
use crate::rotation::evidence::{Evidence, Managed, TargetEvidence};
use crate::rotation::others;
use crate::rotation::policy::{ARRIVAL, BACKOFF_CAP, LOOK_AGAIN, PROOF_GRACE, REVERIFY};
use crate::rotation::proof::{failing_clients, is_about};
use crate::rotation::rollout::{Awaiting, Rollout, Tally, awaiting, ended};
use crate::rotation::settle::Weight;
use crate::rotation::shown::{self, Shown};

/// Where a target stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The spec does not select it.
    Unwanted,
    /// Its owner has not opted in, by tag or by `host.conf`.
    NotOptedIn {
        /// Which of the two, for a person.
        because: String,
    },
    /// Nobody installs on it: it is looked at, and what is wrong with it is told.
    Observed {
        /// When to look next; at once if that is past.
        look_at: OffsetDateTime,
        /// Clients accept what it was last seen to serve.
        serves: bool,
        /// What its owner has to mend.
        because: Option<String>,
    },
    /// Systems Manager does not know it, not as online, or with an agent that is too old.
    Unmanaged {
        /// Which of the three, for a person.
        because: String,
    },
    /// It was started a short while ago, and Systems Manager does not know it yet.
    Arriving,
    /// Nobody can tell the prober where to dial it.
    Unverifiable,
    /// No generation exists that it could be given.
    Due,
    /// The newest generation can be delivered.
    Issued {
        /// The number the delivery would have.
        attempt: u32,
        /// It was tried before.
        retry: bool,
        /// It has used up its attempts before and is tried again after a long pause.
        again: bool,
        /// Why now, for a person.
        because: String,
    },
    /// A delivery is under way.
    Delivering {
        /// Since when.
        since: OffsetDateTime,
    },
    /// The installer says that the newest generation is served; it has not been seen yet.
    Presenting {
        /// When to look; at once if that is past.
        look_at: OffsetDateTime,
    },
    /// It was seen to serve what it was given, and goes back by itself unless it is told to keep it.
    Unconfirmed {
        /// What it was given.
        generation: Generation,
        /// The number the confirmation would have.
        attempt: u32,
        /// When it may be sent; at once if that is past.
        at: OffsetDateTime,
    },
    /// The newest generation was proven here, and the latest look shows something else.
    Drifted {
        /// When to look again; at once if that is past.
        look_at: OffsetDateTime,
    },
    /// The last delivery did not succeed; the next one is some way off.
    Pausing {
        /// When it may begin.
        until: OffsetDateTime,
        /// What went wrong, for a person.
        because: String,
        /// The pause is a short one.
        short: bool,
        /// Its server is broken, and not by us.
        broken: bool,
    },
    /// The target has used up its attempts.
    Stuck {
        /// When it is tried again.
        until: OffsetDateTime,
        /// What went wrong last, for a person.
        because: String,
        /// The prober never reached it: nothing can be proven.
        unreachable: bool,
    },
    /// The newest generation is served.
    Current {
        /// When it was last seen.
        at: OffsetDateTime,
        /// That is long ago.
        stale: bool,
    },
}

impl Phase {
    /// Whether it is being worked on, and shows soon how that went. Between two attempts that is as open as during one.
    pub(crate) const fn is_undecided(&self) -> bool {
        matches!(
            self,
            Self::Delivering { .. }
                | Self::Presenting { .. }
                | Self::Unconfirmed { .. }
                | Self::Pausing { short: true, .. }
        )
    }

    /// The phase's name, without what it carries. Stable.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Unwanted => "unwanted",
            Self::NotOptedIn { .. } => "not opted in",
            Self::Observed { .. } => "observed",
            Self::Unmanaged { .. } => "unmanaged",
            Self::Arriving => "arriving",
            Self::Unverifiable => "unverifiable",
            Self::Due => "due",
            Self::Issued { .. } => "issued",
            Self::Delivering { .. } => "delivering",
            Self::Presenting { .. } => "presenting",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::Drifted { .. } => "drifted",
            Self::Pausing { .. } => "pausing",
            Self::Stuck { .. } => "stuck",
            Self::Current { .. } => "current",
        }
    }
}

/// Whether a target has used up its attempts in this rollout and does not serve the newest generation. Where others install, what
/// was once delivered is nobody's failure.
pub(crate) fn has_failed(evidence: &Evidence, tally: &Tally<'_>, phase: &Phase) -> bool {
    evidence.policy.others.is_none()
        && tally.is_failed()
        && !matches!(phase, Phase::Current { .. } | Phase::Observed { .. })
}

/// Where the target stands in this rollout.
pub fn phase(rollout: &Rollout<'_>, target: &TargetEvidence) -> Phase {
    let now = rollout.evidence.now;
    if !target.wanted {
        return Phase::Unwanted;
    }
    // Two installers on one host would race: whatever the delivery is about, it has to end first.
    let open = target.attempts.iter().filter(|attempt| ended(attempt, now).is_none()).map(|attempt| attempt.begun_at);
    if let Some(since) = open.max() {
        return Phase::Delivering { since };
    }
    if rollout.evidence.policy.others.is_some() && !target.can_be_dialled() {
        return Phase::Unverifiable;
    }
    if target.node.is_none() || rollout.evidence.policy.others.is_some() {
        return observed(rollout, target);
    }
    let Some(newest) = rollout.newest else { return blocked(rollout, target).unwrap_or(Phase::Due) };
    if let Some(unconfirmed) = unconfirmed(rollout, target) {
        return blocked(rollout, target).unwrap_or(unconfirmed);
    }
    let tally = rollout.tally(target);
    let seen = target.sighting.as_ref().filter(|sighting| sighting.generation == newest.generation);
    // Not that of the last delivery: a command that was never sent takes nothing back of what the host said before.
    let deliveries = target.attempts.iter().filter(|attempt| attempt.generation == newest.generation);
    let told = deliveries.filter_map(|one| Some((one.attempt, one.ended.as_ref()?)));
    let last_end = told.max_by_key(|(attempt, _)| *attempt).map(|(_, end)| end);
    if let Some(sighting) = seen
        && sighting.verdict.is_good()
        && last_end.is_none_or(|end| end.is_before(sighting.at))
    {
        let launched_at = rollout.evidence.member(&target.target).and_then(|member| member.launched_at);
        let stale = rollout.evidence.is_stale(sighting.at)
            || !is_about(sighting, rollout.evidence.policy.target_port, launched_at);
        // What was proven once and cannot be looked at any more is not known to be so.
        let unknown = if stale { blocked(rollout, target) } else { None };
        return unknown.unwrap_or(Phase::Current { at: sighting.at, stale });
    }
    if let Some(blocked) = blocked(rollout, target) {
        return blocked;
    }
    if let Some(phase) = after_delivery(rollout, target, &tally, seen) {
        return phase;
    }
    if rollout.newest_reverted_by(&target.target) {
        return Phase::Due;
    }
    if let Some(sighting) = seen
        && !sighting.verdict.is_good()
        && sighting.floor.is_some_and(|floor| floor >= newest.generation)
    {
        return drifted(sighting, &tally, Shown::of(rollout.evidence, target));
    }
    let because = match target.floor() {
        None => "nothing was proven on it yet".into(),
        Some(floor) if floor < newest.generation => format!("it serves generation {floor}"),
        Some(floor) => format!("it no longer shows generation {floor}"),
    };
    issued(&tally, because)
}

/// Where a target stands that somebody else installs on. Where all are such, it is judged without any generation. That it
/// does not serve the newest generation is its owner's affair as long as clients accept what it serves; that it fails them,
/// or will within the safety margin, is told.
fn observed(rollout: &Rollout<'_>, target: &TargetEvidence) -> Phase {
    let (now, policy) = (rollout.evidence.now, &rollout.evidence.policy);
    let launched_at = rollout.evidence.member(&target.target).and_then(|member| member.launched_at);
    let expected = match &policy.others {
        Some(_) => Some(Generation::NONE),
        None => rollout.newest.map(|newest| newest.generation),
    };
    let known = target.sighting.as_ref().filter(|sighting| {
        // What was judged as one of ours was judged by other roots.
        let is_judged_so = policy.others.is_none() || sighting.generation == Generation::NONE;
        is_judged_so && is_about(sighting, policy.target_port, launched_at)
    });
    let (Some(expected), Some(sighting)) = (expected, known) else {
        return Phase::Observed { look_at: now, serves: false, because: None };
    };
    let former = others::former(rollout.evidence, sighting);
    let was_newest = former.is_some() && sighting.verdict.is_good();
    let stale = rollout.evidence.is_stale(sighting.at) || was_newest;
    let ends_at = sighting.verdict.not_after;
    let is_ending = ends_at.is_some_and(|end| now >= end.saturating_sub(policy.safety_margin()));
    // Ours are renewed by us.
    let is_settled = policy.others.is_none() || former.is_none() && !is_ending;
    if sighting.generation == expected && sighting.verdict.is_good() && is_settled {
        return Phase::Current { at: sighting.at, stale };
    }
    let faults: Vec<String> = failing_clients(sighting).map(|fault| format!("{fault:?}")).collect();
    let serves = faults.is_empty() && ends_at.is_some_and(|end| end > now);
    let is_lasting = !is_short(sighting.at - sighting.failing_since.unwrap_or(sighting.at));
    let because = match ends_at {
        _ if !faults.is_empty() => is_lasting.then(|| format!("it fails clients ({})", faults.join(", "))),
        Some(end) if is_ending => Some(format!("what it serves ends at {}", minute(end))),
        Some(_) | None => former.and_then(|former| former.overdue(now)),
    };
    let look_at = match (stale, faults.is_empty()) {
        (true, _) => now,
        // It was told, and lasts until its owner does something about it.
        (false, true) if policy.others.is_some() && because.is_some() => sighting.at.saturating_add(REVERIFY),
        (false, true) => sighting.at.saturating_add(LOOK_AGAIN.1),
        (false, false) => look_again(sighting.at, sighting.failing_since.unwrap_or(sighting.at)),
    };
    Phase::Observed { look_at, serves, because }
}

/// What keeps a target from being worked on at all.
fn blocked(rollout: &Rollout<'_>, target: &TargetEvidence) -> Option<Phase> {
    let launched_at = rollout.evidence.member(&target.target).and_then(|member| member.launched_at);
    let is_new = launched_at.is_some_and(|at| {
        rollout.evidence.now - at < ARRIVAL && target.sighting.as_ref().is_none_or(|sighting| sighting.at < at)
    });
    if is_new && target.managed.as_ref().is_none_or(|managed| !managed.online) {
        return Some(Phase::Arriving);
    }
    if !target.opted_in {
        let because = format!("it lacks the tag espalier:stack={}", rollout.evidence.policy.stack);
        return Some(Phase::NotOptedIn { because });
    }
    match &target.managed {
        None => Some(unmanaged("it never registered with Systems Manager")),
        Some(managed) if !managed.online => Some(unmanaged("Systems Manager does not reach it")),
        Some(Managed { agent: Some(agent), .. }) if *agent < AgentVersion::OLDEST => Some(unmanaged(format!(
            "its SSM Agent is {agent}, and the installer needs {} or later: update it (AWS-UpdateSSMAgent)",
            AgentVersion::OLDEST
        ))),
        Some(_) if !target.can_be_dialled() => Some(Phase::Unverifiable),
        Some(_) => None,
    }
}

fn unmanaged(because: impl Into<String>) -> Phase {
    Phase::Unmanaged { because: because.into() }
}

/// It awaits confirmation, and what it awaits it for was seen. Whoever only observes confirms nothing, and what was declared
/// unsafe is not confirmed any more: it is replaced.
fn unconfirmed(rollout: &Rollout<'_>, target: &TargetEvidence) -> Option<Phase> {
    let awaiting = awaiting(target, rollout.evidence.now).filter(|_| !rollout.evidence.policy.observes)?;
    if rollout.evidence.is_tainted(awaiting.generation) {
        return None;
    }
    let sighting = target.sighting.as_ref()?;
    let seen =
        sighting.generation == awaiting.generation && sighting.verdict.is_good() && sighting.at >= awaiting.since;
    let Awaiting { generation, attempt, at, since: _ } = awaiting;
    seen.then_some(Phase::Unconfirmed { generation, attempt, at })
}

/// What the latest delivery leaves to wait for, if anything.
fn after_delivery(
    rollout: &Rollout<'_>,
    target: &TargetEvidence,
    tally: &Tally<'_>,
    seen: Option<&SightingRecord>,
) -> Option<Phase> {
    let now = rollout.evidence.now;
    let end = tally.end.as_ref()?;
    if end.weight == Weight::Installed {
        // An older generation of this rollout was installed; nobody waits for its proof any more.
        tally.last?;
        let look_at = match seen {
            Some(sighting) if sighting.at >= end.at => sighting.at.saturating_add(LOOK_AGAIN.0),
            _ => now,
        };
        return Some(Phase::Presenting { look_at });
    }
    let until = tally.retry_at()?;
    if until <= now {
        return None;
    }
    let because = end.word.clone();
    Some(match end.weight {
        Weight::NotOptedIn => {
            Phase::NotOptedIn { because: format!("its host.conf does not name this stack ({because})") }
        }
        Weight::Failed | Weight::Reverted if tally.is_failed() => {
            let unreachable = end.unseen
                && target.sighting.as_ref().is_some_and(|sighting| {
                    !sighting.verdict.is_good() && sighting.verdict.faults.iter().all(|fault| fault.is_about_reaching())
                });
            Phase::Stuck { until, because, unreachable }
        }
        Weight::Installed | Weight::Prepared | Weight::Failed | Weight::Reverted | Weight::Missed => {
            Phase::Pausing { until, because, short: is_short(until - end.at), broken: false }
        }
        // Nobody waits for it: its owner is told.
        Weight::ServerBroken => Phase::Pausing { until, because, short: false, broken: true },
    })
}

/// A proven target that shows something else: look again, for a while; then deliver anew.
fn drifted(sighting: &SightingRecord, tally: &Tally<'_>, shown: Option<Shown>) -> Phase {
    let since = sighting.failing_since.unwrap_or(sighting.at);
    let lasted = (sighting.at - since).max(Duration::ZERO);
    // A host that does not answer may be rebooting; one that shows another certificate will not stop by itself.
    let silent = sighting.verdict.faults.iter().all(|fault| fault.is_about_reaching());
    if lasted >= if silent { PROOF_GRACE } else { LOOK_AGAIN.0 } {
        return issued(tally, format!("it was proven and now shows {}", shown::told(&sighting.verdict.faults, shown)));
    }
    Phase::Drifted { look_at: look_again(sighting.at, since) }
}

/// When to look again at something that is wrong since `since` and was seen to be at `at`.
pub(crate) fn look_again(at: OffsetDateTime, since: OffsetDateTime) -> OffsetDateTime {
    let (shortest, longest) = LOOK_AGAIN;
    at.saturating_add(((at - since) / 2_i32).clamp(shortest, longest))
}

fn issued(tally: &Tally<'_>, because: String) -> Phase {
    let because = match &tally.end {
        Some(end) if !matches!(end.weight, Weight::Installed | Weight::Prepared) => {
            format!("{because}; last time: {}", end.word)
        }
        _ => because,
    };
    // Nobody's first attempt waits for a server that its owner has to mend.
    let is_broken = tally.end.as_ref().is_some_and(|end| end.weight == Weight::ServerBroken);
    let retry = tally.tries > 0 && !is_broken;
    Phase::Issued { attempt: tally.next_attempt, retry, again: tally.is_failed(), because }
}

/// A pause that is worth keeping an execution alive for. Anything longer is told to a person.
pub(crate) fn is_short(pause: Duration) -> bool {
    pause < BACKOFF_CAP
}
