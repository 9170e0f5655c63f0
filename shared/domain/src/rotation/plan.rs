//! What can be done now about a stack's certificates, and why.
//!
//! In this order: is a new leaf due; who has to be looked at; who may be given the newest leaf (canary, then one wave
//! at a time, nothing new past the failure budget); what is awaited; what needs a person.

mod deliver;
mod healthy;
mod own;

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use crate::acm::request::ISSUANCE_POLL_S;
use crate::acm::{Act, Meaning};
use crate::id::{Generation, Scope, TargetId};
use crate::plan::{BlockCode, Plan};
use crate::record::GenerationRecord;
use crate::rotation::due::{self, Due};
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::hold::{Hold, may_install_later, may_mint_later};
use crate::rotation::membership;
use crate::rotation::others;
use crate::rotation::pace;
use crate::rotation::phase::{self, Phase, has_failed, is_short, phase};
use crate::rotation::policy::{ARRIVAL_POLL_S, LOOK_AGAIN, REVERIFY};
use crate::rotation::proof::fails_clients;
use crate::rotation::rollout::{Rollout, renew_at};
use crate::work::{
    AuthorityItem, DeliveryAction, ExportItem, MintItem, PAGE, Through, VerifyItem, VerifyTarget, WorkItem,
};

/// How many instances a sentence names before it only counts them.
const NAMED: usize = 5;

/// How many fingerprints a probe through the service is told, where each target has its own: an execution carries 256 KB.
const FINGERPRINTS: usize = 2 * PAGE;

/// What can be done now. Total: any evidence has an answer. At most [`PAGE`] steps; the rest is found again next time.
pub fn plan(evidence: &Evidence) -> Plan<WorkItem> {
    let mut plan = Plan::default();
    let rollout = Rollout::of(evidence);
    let looks: Vec<Look<'_>> = evidence
        .wanted()
        .into_iter()
        .map(|target| {
            let tally = rollout.tally(target);
            let phase = phase(&rollout, target);
            Look { target, failed: has_failed(evidence, &tally, &phase), phase, retry_at: tally.retry_at() }
        })
        .collect();
    let acm = due::of_acm(evidence);
    if looks.is_empty() {
        let because = format!("the spec of {} selects no instance", evidence.policy.stack);
        plan.block(BlockCode::NoTargets, because);
        return plan;
    }
    let failed = looks.iter().filter(|look| look.failed).count();
    membership::tell(evidence, &mut plan);
    let halted = evidence.policy.halts_at(failed);
    let hold = Hold::of(evidence);
    let minting = mint(&mut plan, &rollout, &looks, acm.as_ref(), halted, hold.as_ref());
    if let Some(acm) = acm {
        if acm.act == Act::Await {
            plan.wait("the certificate that was requested of ACM", ISSUANCE_POLL_S);
        }
        plan.blocks.extend(acm.tell);
    }
    if evidence.policy.others.is_some() {
        if others::can_judge(evidence, &mut plan) {
            verify(&mut plan, evidence, None, &looks, true);
        }
    } else if evidence.policy.observes {
        observe(&mut plan, &rollout, &looks);
    }
    if let Some(newest) = rollout.newest {
        deliver::confirm(&mut plan, evidence, &looks);
        // What was declared unsafe is handed out to nobody, also while nothing can be minted in its place.
        let busy = minting
            || evidence.is_tainted(newest.generation)
            || deliver::deliver(&mut plan, &rollout, newest, &looks, halted, hold.as_ref());
        verify(&mut plan, evidence, Some(newest), &looks, !busy);
    }
    waits(&mut plan, evidence, &looks);
    blocks(&mut plan, evidence, &looks);
    if halted {
        let names = name(looks.iter().filter(|look| look.failed));
        let budget = evidence.policy.failure_budget;
        let because = format!("{failed} failed ({names}), the failure budget is {budget}: nothing new is started");
        plan.block(BlockCode::Halted, because);
    }
    if plan.steps.len() > PAGE {
        let rest = plan.steps.len() - PAGE;
        plan.steps.truncate(PAGE);
        plan.wait(format!("{rest} further steps"), 1);
    }
    plan
}

/// Whether a target was just started and has to be waited for: nothing tells when its agent has registered.
pub fn is_anybody_arriving(evidence: &Evidence) -> bool {
    let rollout = Rollout::of(evidence);
    evidence.wanted().into_iter().any(|target| phase(&rollout, target) == Phase::Arriving)
}

/// One wanted target and where it stands.
struct Look<'a> {
    target: &'a TargetEvidence,
    phase: Phase,
    /// [`has_failed`].
    failed: bool,
    retry_at: Option<OffsetDateTime>,
}

/// Plans a new generation if one is due; says whether the newest one is done for.
fn mint(
    plan: &mut Plan<WorkItem>,
    rollout: &Rollout<'_>,
    looks: &[Look<'_>],
    acm: Option<&Meaning>,
    halted: bool,
    hold: Option<&Hold>,
) -> bool {
    let evidence = rollout.evidence;
    if evidence.policy.others.is_some() {
        return false;
    }
    // ACM has one certificate at a time: a further copy of it helps a host that failed, and makes nothing end later.
    let is_ours = evidence.policy.source.is_none();
    let reverted = || (is_ours || due::is_exportable(acm)).then(|| reverted(rollout, looks, halted)).flatten();
    let overdue = || is_ours.then(|| overdue(rollout, looks, halted).or_else(|| failing(rollout, looks))).flatten();
    let Some(due) = due::due(evidence, acm).or_else(reverted).or_else(overdue) else { return false };
    if let Some(block) = due::unmintable(evidence, &due) {
        plan.blocks.push(block);
        return false;
    }
    if let Some(hold) = hold
        && may_mint_later(evidence, &due)
        && !awaits_own_leaf(rollout, looks)
    {
        hold.note(&due.because(rollout.newest), evidence.now, plan);
        return false;
    }
    let because = due.because(rollout.newest);
    if evidence.policy.observes {
        if rollout.newest.is_some() {
            plan.block(BlockCode::Drifted, format!("a new leaf is due ({because}) and manage is `nothing`"));
        }
        return false;
    }
    if is_ours && evidence.authorities.is_empty() {
        // Its root is published before anything below it exists; the next pass mints.
        plan.step(WorkItem::Authority(AuthorityItem { because: because.clone() }), because);
        return true;
    }
    plan.step(next(evidence, acm, because.clone()), because);
    true
}

/// Whether somebody who cannot wait has no leaf of its own yet: what is due for replacement is given no further ones, so that
/// it would wait for the calendar with nothing to serve.
fn awaits_own_leaf(rollout: &Rollout<'_>, looks: &[Look<'_>]) -> bool {
    let Some(newest) = rollout.newest else { return false };
    looks.iter().any(|look| {
        matches!(look.phase, Phase::Issued { .. })
            && look.target.fingerprint(newest).is_none()
            && !may_install_later(rollout.evidence, look.target)
    })
}

/// What makes the next generation. Where each target has its own leaf, whoever is about to be given it has it made.
fn next(evidence: &Evidence, acm: Option<&Meaning>, because: String) -> WorkItem {
    let (stack, scope) = (evidence.policy.stack.clone(), evidence.policy.scope.clone());
    let generation = evidence.next_generation();
    let newest = evidence.newest();
    if evidence.policy.source.is_some() {
        let serial = match acm.map(|acm| &acm.act) {
            Some(Act::Export(serial)) => serial.clone(),
            // The same once more, for those who could not install it.
            None | Some(Act::Ignore | Act::Keep | Act::Hold | Act::Await | Act::Mint(_)) => {
                newest.map(|newest| newest.serial.clone()).unwrap_or_default()
            }
        };
        return WorkItem::Export(ExportItem { stack, scope: Scope::shared(), generation, serial, because });
    }
    let follows = match acm.map(|acm| &acm.act) {
        None => None,
        Some(Act::Mint(mark)) => Some(mark.clone()),
        Some(Act::Ignore | Act::Keep | Act::Hold | Act::Await | Act::Export(_)) => {
            newest.and_then(|newest| newest.follows.clone())
        }
    };
    WorkItem::Mint(MintItem { stack, scope, generation, nodes: Vec::new(), requests: Vec::new(), follows, because })
}

/// The newest generation was reverted, and a new one would be of use to somebody now.
fn reverted(rollout: &Rollout<'_>, looks: &[Look<'_>], halted: bool) -> Option<Due> {
    let now = rollout.evidence.now;
    let reverters = || {
        looks.iter().filter(|look| {
            rollout.newest_reverted_by(&look.target.target)
                && !matches!(look.phase, Phase::Current { .. } | Phase::Observed { .. })
        })
    };
    let first = reverters().next()?;
    // Only a target in phase `Due` is reachable and past its pause.
    let retry = reverters().find(|look| look.phase == Phase::Due && look.retry_at.is_none_or(|at| at <= now));
    let others_wait = !halted
        && reverters().all(|look| look.phase != Phase::Due && !matches!(look.phase, Phase::Pausing { .. }))
        && looks.iter().any(|look| matches!(look.phase, Phase::Issued { .. }));
    match retry {
        Some(look) => Some(Due::Reverted { target: look.target.target.clone() }),
        None if others_wait => Some(Due::Reverted { target: first.target.target.clone() }),
        None => None,
    }
}

/// A halted rollout, or one whose generation was reverted, must not let what healthy targets serve run out.
fn overdue(rollout: &Rollout<'_>, looks: &[Look<'_>], halted: bool) -> Option<Due> {
    let newest = rollout.newest?;
    let quarantined = is_quarantined(rollout, looks);
    if !halted && !quarantined {
        return None;
    }
    healthy(looks).find_map(|look| {
        let served = rollout.evidence.generation(look.target.floor()?)?;
        let policy = &rollout.evidence.policy;
        // A newest one that was reverted is given to nobody who serves something else: the last chance is another one.
        let margin_at = served.not_after.saturating_sub(policy.safety_margin());
        let runs_out = served.generation < newest.generation
            && (is_due_since(rollout, newest, renew_at(policy, served))
                || quarantined && is_due_since(rollout, newest, margin_at));
        runs_out.then(|| Due::Overdue {
            generation: served.generation,
            not_after: served.not_after,
            target: look.target.target.clone(),
        })
    })
}

/// Nor may it leave what fails clients as it is. Once for as long as that lasts: whoever fails them is given what is minted now
/// before whoever reverts it again.
fn failing(rollout: &Rollout<'_>, looks: &[Look<'_>]) -> Option<Due> {
    let newest = rollout.newest.filter(|_| is_quarantined(rollout, looks))?;
    let waits =
        |look: &&Look<'_>| matches!(look.phase, Phase::Issued { .. }) && look.target.floor() < Some(newest.generation);
    let lasts = |look: &&Look<'_>| {
        let failing = look.target.sighting.as_ref().filter(|sighting| fails_clients(sighting));
        let since = failing.and_then(|sighting| sighting.failing_since);
        since.is_some_and(|since| is_due_since(rollout, newest, since.saturating_add(LOOK_AGAIN.0)))
    };
    let found = healthy(looks).filter(waits).find(lasts);
    found.map(|look| Due::Failing { target: look.target.target.clone() })
}

fn is_quarantined(rollout: &Rollout<'_>, looks: &[Look<'_>]) -> bool {
    looks.iter().any(|look| rollout.newest_reverted_by(&look.target.target))
}

/// Those who have not failed in this rollout. Nothing that is minted reaches whom nobody installs on.
fn healthy<'l, 'a>(looks: &'l [Look<'a>]) -> impl Iterator<Item = &'l Look<'a>> {
    looks.iter().filter(|look| !look.failed && look.target.node.is_some())
}

/// Whether that moment has come, and the newest generation was made before it.
fn is_due_since(rollout: &Rollout<'_>, newest: &GenerationRecord, at: OffsetDateTime) -> bool {
    rollout.evidence.now >= at && newest.minted_at < at
}

/// With `manage: nothing`, says what would have been done about targets.
fn observe(plan: &mut Plan<WorkItem>, rollout: &Rollout<'_>, looks: &[Look<'_>]) {
    let Some(newest) = rollout.newest else {
        let because = "manage is `nothing` and nothing was ever issued for this stack: there is nothing to compare with. If \
                       others install the certificate, write \"kind\": \"others\" and its \"trust\" in certificate.issuer";
        plan.block(BlockCode::Unverifiable, because);
        return;
    };
    let behind: Vec<&Look<'_>> =
        looks.iter().filter(|look| matches!(look.phase, Phase::Due | Phase::Issued { .. })).collect();
    if !behind.is_empty() {
        let (names, generation) = (name(behind.into_iter()), newest.generation);
        plan.block(
            BlockCode::Drifted,
            format!("{names}: generation {generation} is not served and manage is `nothing`"),
        );
    }
}

/// Plans the handshakes that are worth making now: for the newest generation, or for what others install.
fn verify(
    plan: &mut Plan<WorkItem>,
    evidence: &Evidence,
    newest: Option<&GenerationRecord>,
    looks: &[Look<'_>],
    at_rest: bool,
) {
    let mut tours: BTreeMap<&'static str, Vec<&Look<'_>>> = BTreeMap::new();
    for look in looks.iter().filter(|look| look.target.can_be_dialled()) {
        let Some(reason) = reason(evidence, look, at_rest) else { continue };
        tours.entry(reason).or_default().push(look);
    }
    let dialled: BTreeSet<&TargetId> = tours.values().flatten().map(|look| &look.target.target).collect();
    let mut through = through(evidence, newest, looks, &dialled, at_rest);
    if let (Some((_, because)), true) = (&through, tours.is_empty()) {
        // An item dials at least one target: the one that was seen longest ago.
        let seen = |look: &&Look<'_>| look.target.sighting.as_ref().filter(|_| serves(look)).map(|seen| seen.at);
        let oldest = looks.iter().filter(|l| seen(l).is_some() && l.target.can_be_dialled()).min_by_key(|l| seen(l));
        if let Some(look) = oldest {
            tours.insert(because, vec![look]);
        }
    }
    let (trust, others) = match others::judged_by(evidence) {
        Some((trust, others)) => (trust, Some(others)),
        None => (evidence.trust(), None),
    };
    for (because, tour) in tours {
        for page in tour.chunks(PAGE) {
            let item = VerifyItem {
                stack: evidence.policy.stack.clone(),
                server_name: evidence.policy.server_name.clone(),
                trust: trust.clone(),
                targets: page.iter().filter_map(|look| dial(evidence, newest, look)).collect(),
                through: through.take().map(|(through, _)| through),
                resolver: evidence.policy.resolver,
                others: others.clone(),
                prober: evidence.policy.prober.clone(),
            };
            plan.step(WorkItem::Verify(item), because);
        }
    }
}

/// Why a target is dialled now, if it is.
fn reason(evidence: &Evidence, look: &Look<'_>, at_rest: bool) -> Option<&'static str> {
    let now = evidence.now;
    // Nobody works for now on who waits for the next leaf: it is looked at as one that serves the newest is.
    let rests = at_rest && look.target.floor().is_some();
    let is_stale = look.target.sighting.as_ref().is_some_and(|sighting| evidence.is_stale(sighting.at));
    Some(match &look.phase {
        Phase::Presenting { look_at } if *look_at <= now => "the installer says it is served",
        Phase::Drifted { look_at } if *look_at <= now => "it was proven and then not seen",
        Phase::Observed { look_at, .. } if *look_at <= now => "nobody installs on it: it is only looked at",
        Phase::Drifted { .. } | Phase::Current { .. } | Phase::Stuck { .. } if is_asked_again(evidence, look) => {
            "a fresh look was asked for"
        }
        Phase::Current { stale: true, .. } => "it was last seen long ago",
        Phase::Stuck { .. } if stale_look(look, now) => "a person may have repaired it",
        Phase::Pausing { broken: true, .. } if look.target.floor().is_some() && stale_look(look, now) => {
            "its server is broken, and may end"
        }
        Phase::Unconfirmed { .. } if stale_look(look, now) => "it may have gone back by itself",
        Phase::Issued { .. } if rests && is_asked_again(evidence, look) => "a fresh look was asked for",
        Phase::Issued { .. } if rests && is_stale => "it waits for the next leaf, and was last seen long ago",
        Phase::Presenting { .. }
        | Phase::Unconfirmed { .. }
        | Phase::Drifted { .. }
        | Phase::Observed { .. }
        | Phase::Current { .. }
        | Phase::Stuck { .. }
        | Phase::Unwanted
        | Phase::NotOptedIn { .. }
        | Phase::Unmanaged { .. }
        | Phase::Arriving
        | Phase::Unverifiable
        | Phase::Due
        | Phase::Issued { .. }
        | Phase::Delivering { .. }
        | Phase::Pausing { .. } => return None,
    })
}

/// What is expected there: the newest leaf, or while a target waits for that the one it was last proven to serve.
fn dial(evidence: &Evidence, newest: Option<&GenerationRecord>, look: &Look<'_>) -> Option<VerifyTarget> {
    let target = look.target;
    let waits = matches!(look.phase, Phase::Issued { .. } | Phase::Pausing { broken: true, .. });
    let expected = if waits { target.floor().and_then(|floor| evidence.generation(floor)) } else { newest };
    Some(VerifyTarget {
        target: target.target.clone(),
        address: target.endpoint(evidence.policy.target_port)?,
        generation: expected.map_or(Generation::NONE, |record| record.generation),
        fingerprint: expected.and_then(|record| target.fingerprint(record)).unwrap_or_default().to_owned(),
    })
}

fn is_asked_again(evidence: &Evidence, look: &Look<'_>) -> bool {
    look.target.sighting.as_ref().is_some_and(|sighting| evidence.is_asked_again(sighting.at))
}

fn stale_look(look: &Look<'_>, now: OffsetDateTime) -> bool {
    look.target.sighting.as_ref().is_none_or(|sighting| now - sighting.at >= LOOK_AGAIN.1)
}

/// The probe through the service, if it is worth making now: nothing is under way, and what was last seen is bad, old,
/// or older than the latest delivery.
fn through(
    evidence: &Evidence,
    newest: Option<&GenerationRecord>,
    looks: &[Look<'_>],
    dialled: &BTreeSet<&TargetId>,
    at_rest: bool,
) -> Option<(Through, &'static str)> {
    if evidence.policy.samples == 0 || evidence.serves_nobody() || !at_rest && !all_presenting(looks) {
        return None;
    }
    if !looks.iter().any(|look| serves(look) || matches!(look.phase, Phase::Presenting { .. })) {
        return None;
    }
    let because = through_reason(evidence, looks)?;
    let through = Through {
        port: evidence.policy.service_port,
        samples: evidence.policy.samples.min(20),
        // Of others, the judge goes by none.
        fingerprints: newest.map(|newest| acceptable(evidence, newest, looks, dialled)).unwrap_or_default(),
    };
    Some((through, because))
}

/// The fingerprints that whoever answers for the service may show; none where there are too many.
fn acceptable(
    evidence: &Evidence,
    newest: &GenerationRecord,
    looks: &[Look<'_>],
    dialled: &BTreeSet<&TargetId>,
) -> Vec<String> {
    let mut fingerprints: BTreeSet<&str> = looks.iter().filter_map(|look| look.target.fingerprint(newest)).collect();
    // Whoever does not serve the newest generation may still answer with the one it was last proven to serve.
    for look in
        looks.iter().filter(|l| !matches!(l.phase, Phase::Current { .. }) && !dialled.contains(&l.target.target))
    {
        let served = look.target.floor().and_then(|floor| evidence.generation(floor));
        fingerprints.extend(served.and_then(|served| look.target.fingerprint(served)));
    }
    // What others installed stays there however often it is dialled, and may be no generation of ours.
    for look in looks.iter().filter(|look| matches!(look.phase, Phase::Observed { serves: true, .. })) {
        let shown = look.target.sighting.as_ref().and_then(|sighting| sighting.verdict.fingerprint.as_deref());
        fingerprints.extend(shown);
    }
    // Only where targets have, or had, leaves of their own there are so many.
    if fingerprints.len() > FINGERPRINTS {
        return Vec::new();
    }
    fingerprints.into_iter().map(str::to_owned).collect()
}

/// Whether clients were seen to be served there, or may be taken to be.
fn serves(look: &Look<'_>) -> bool {
    matches!(look.phase, Phase::Current { .. } | Phase::Observed { serves: true, .. })
}

/// Every target is proven or waits for nothing but its proof: the probe may go along with that.
fn all_presenting(looks: &[Look<'_>]) -> bool {
    looks.iter().all(|look| matches!(look.phase, Phase::Current { .. } | Phase::Presenting { .. }))
}

fn through_reason(evidence: &Evidence, looks: &[Look<'_>]) -> Option<&'static str> {
    let Some(record) = &evidence.through else { return Some("the way through the service was never proven") };
    if record.at < last_installed(looks).unwrap_or(record.at) {
        return Some("targets changed since the way through the service was proven");
    }
    if evidence.is_asked_again(record.at) {
        return Some("a fresh look was asked for");
    }
    match record.failing_since {
        Some(since) if phase::look_again(record.at, since) <= evidence.now => {
            Some("the way through the service did not work")
        }
        Some(_) => None,
        None if evidence.now - record.at > REVERIFY => Some("the way through the service was proven long ago"),
        None => None,
    }
}

fn last_installed(looks: &[Look<'_>]) -> Option<OffsetDateTime> {
    let attempts = looks.iter().flat_map(|look| &look.target.attempts);
    // A confirmation changes nothing that is served.
    let installations = attempts.filter(|attempt| attempt.action == DeliveryAction::Install);
    let ends = installations.filter_map(|attempt| attempt.ended.as_ref());
    ends.filter(|end| end.installed).map(|end| end.at).max()
}

/// What is on its way and worth an early look.
fn waits(plan: &mut Plan<WorkItem>, evidence: &Evidence, looks: &[Look<'_>]) {
    let now = evidence.now;
    let arriving: Vec<_> = looks.iter().filter(|look| look.phase == Phase::Arriving).collect();
    if !arriving.is_empty() {
        plan.wait(format!("{} to register with Systems Manager", name(arriving.into_iter())), ARRIVAL_POLL_S);
    }
    let under_way: Vec<_> = looks.iter().filter(|look| matches!(look.phase, Phase::Delivering { .. })).collect();
    if !under_way.is_empty() {
        // Whoever waits for a confirmation is to be seen in time.
        let in_time_s = (evidence.policy.confirm_s / 4).max(pace::COMMAND_POLL_S);
        let wait_s = pace::poll_s(under_way.len(), evidence.line.as_ref(), now).min(in_time_s);
        plan.wait(format!("deliveries to {}", name(under_way.into_iter())), wait_s);
    }
    let mut pauses: BTreeMap<&str, Vec<(OffsetDateTime, &Look<'_>)>> = BTreeMap::new();
    for look in looks {
        let (on, until) = match &look.phase {
            Phase::Presenting { look_at } | Phase::Drifted { look_at } => ("another look at", look_at),
            // What lasts is told, and looked at by the sweep.
            Phase::Observed { look_at, serves: false, because: None } => ("another look at", look_at),
            Phase::Unconfirmed { at, .. } => ("another confirmation of", at),
            Phase::Pausing { until, short: true, .. } => ("another attempt on", until),
            Phase::Unwanted
            | Phase::Observed { .. }
            | Phase::NotOptedIn { .. }
            | Phase::Unmanaged { .. }
            | Phase::Arriving
            | Phase::Unverifiable
            | Phase::Due
            | Phase::Issued { .. }
            | Phase::Delivering { .. }
            | Phase::Pausing { short: false, .. }
            | Phase::Stuck { .. }
            | Phase::Current { .. } => continue,
        };
        if *until > now {
            pauses.entry(on).or_default().push((*until, look));
        }
    }
    for (on, pauses) in pauses {
        if let Some(first) = pauses.iter().map(|(until, _)| *until).min() {
            plan.wait(format!("{on} {}", name(pauses.into_iter().map(|(_, look)| look))), seconds(first - now));
        }
    }
    wait_for_through(plan, evidence);
}

/// A probe through the service that was bad: looked at again for a while, then told to a person.
fn wait_for_through(plan: &mut Plan<WorkItem>, evidence: &Evidence) {
    let Some(record) = evidence.through.as_ref().filter(|_| evidence.policy.samples > 0) else { return };
    let Some(since) = record.failing_since else { return };
    let until = phase::look_again(record.at, since);
    if is_short(record.at - since) {
        if until > evidence.now {
            plan.wait("another probe through the service", seconds(until - evidence.now));
        }
        return;
    }
    let faults: Vec<String> = record.faults.iter().map(|fault| format!("{fault:?}")).collect();
    let (good, samples, server) = (record.good, record.samples, &evidence.policy.server_name);
    let because = format!("{good} of {samples} connections to {server} were good, the others {}", faults.join(", "));
    plan.block(BlockCode::Unverifiable, because);
}

fn seconds(duration: time::Duration) -> u32 {
    u32::try_from(duration.whole_seconds()).unwrap_or(u32::MAX).saturating_add(1)
}

/// What ends it that a server is broken without us.
const MEND_SERVER: &str = "mend the server, then ask for a fresh look";

/// What needs a person: one block per reason, naming the first few instances.
fn blocks(plan: &mut Plan<WorkItem>, evidence: &Evidence, looks: &[Look<'_>]) {
    let remedy = match evidence.policy.others {
        Some(_) => "somebody else installs the certificate: tell them",
        None => "nobody installs on it but its owner: tell them, or name its node",
    };
    let mut reasons: BTreeMap<(BlockCode, String), Vec<&Look<'_>>> = BTreeMap::new();
    for look in looks {
        let (code, because) = match &look.phase {
            Phase::NotOptedIn { because } => (BlockCode::NotOptedIn, because.clone()),
            Phase::Unmanaged { because } => (BlockCode::Unmanaged, because.clone()),
            Phase::Observed { because: Some(because), .. } => (BlockCode::Differs, format!("{because}, and {remedy}")),
            Phase::Arriving => continue,
            Phase::Unverifiable => {
                (BlockCode::Unverifiable, "its address is not known: Systems Manager does not tell it".into())
            }
            Phase::Stuck { because, unreachable: true, .. } => (BlockCode::Unverifiable, because.clone()),
            Phase::Stuck { because, unreachable: false, .. } => (BlockCode::Stuck, because.clone()),
            Phase::Pausing { because, broken: true, .. } => {
                (BlockCode::ServerBroken, format!("{because}; {MEND_SERVER}"))
            }
            Phase::Pausing { because, short: false, broken: false, .. } => (BlockCode::Unmanaged, because.clone()),
            Phase::Unwanted
            | Phase::Observed { because: None, .. }
            | Phase::Due
            | Phase::Issued { .. }
            | Phase::Delivering { .. }
            | Phase::Presenting { .. }
            | Phase::Unconfirmed { .. }
            | Phase::Drifted { .. }
            | Phase::Pausing { short: true, broken: false, .. }
            | Phase::Current { .. } => continue,
        };
        reasons.entry((code, because)).or_default().push(look);
    }
    for ((code, because), looks) in reasons {
        plan.block(code, format!("{}: {because}", name(looks.into_iter())));
    }
}

fn name<'a, 'b: 'a>(looks: impl Iterator<Item = &'a Look<'b>>) -> String {
    let all: Vec<&str> = looks.map(|look| look.target.target.as_str()).collect();
    match all.get(..NAMED) {
        Some(first) if all.len() > NAMED => format!("{} and {} more", first.join(", "), all.len() - NAMED),
        _ => all.join(", "),
    }
}
