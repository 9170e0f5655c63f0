//! A stack as a person asks about it: what is issued, what each target serves, how long that lasts, what goes on.
//!
//! Told, never decided upon.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::id::{Epoch, Generation, TargetId};
use crate::record::{EmergencyRecord, EpochRecord, GenerationRecord, SightingRecord, ThroughRecord};
use crate::rotation::emergency;
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::others;
use crate::rotation::phase::{Phase, has_failed, phase};
use crate::rotation::proof::fails_clients;
use crate::rotation::rollout::Rollout;
use crate::rotation::shown::{self, Shown};
use crate::rotation::slack::{Assumed, slack};
use crate::spoken::{ago, span};
use crate::verdict::{Fault, Negotiated};

/// Where a stack stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The newest leaf; absent before the first one, and where others install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<Leaf>,
    /// Others install what is served: what it is judged by, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<String>,
    /// The rotation in progress, or the last one; absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Progress>,
    /// The emergency that is under way: a target still serves what was declared unsafe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencyRecord>,
    /// What was last seen through the service; absent while nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<ThroughRecord>,
    /// Whether the service's name leads to somebody else: certificates were seen through it that are not what they should be, and
    /// every target by itself was seen to show what it should.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub misrouted: bool,
    /// The targets that the spec selects, by instance id.
    pub targets: Vec<TargetStatus>,
}

/// The newest leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaf {
    /// Its number.
    pub generation: Generation,
    /// Its serial number, lower-case hexadecimal; empty where each target has a leaf of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Where it is stored with its key: the Parameter Store parameter that targets fetch, with `target` in place of a node's id
    /// where each has its own.
    #[serde(default)]
    pub parameter: String,
    /// Whether each target has a leaf of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub each: bool,
    /// The names in it.
    pub dns_names: Vec<String>,
    /// When it was minted.
    #[serde(with = "time::serde::rfc3339")]
    pub minted_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// Why it was minted.
    pub because: String,
}

/// A rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Its number.
    pub epoch: Epoch,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub begun_at: OffsetDateTime,
    /// When it converged; absent while it has not.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<OffsetDateTime>,
    /// How far it has come; absent when it has ended, and while there is no leaf to give to anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advance: Option<Advance>,
}

/// How far the newest leaf has come among the targets that it is installed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advance {
    /// Who is given it now.
    pub stage: Stage,
    /// Targets that were seen to serve it.
    pub proven: u32,
    /// Targets that are being worked on, in the wave under way.
    pub under_way: u32,
    /// Targets that have used up their attempts.
    pub failed: u32,
    /// All others, which wait for a later wave or for something else.
    pub waiting: u32,
}

/// Who is given the newest leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The canary, and nobody else before it is proven.
    Canary,
    /// One wave after the other.
    Waves,
    /// Nobody: more have failed than the budget allows.
    Halted,
}

/// Where one target stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// The instance.
    pub target: TargetId,
    /// Its phase: a word of [`Phase::word`].
    pub phase: String,
    /// Why, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The newest generation that was ever proven here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// When the certificate ends that was last seen here.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<OffsetDateTime>,
    /// When it was last looked at.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<OffsetDateTime>,
    /// What was negotiated with it then; absent when no certificate was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Negotiated>,
    /// What was wrong with it then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Whose certificate it showed then in place of the one that was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
    /// Whether clients are sent to it, as far as `provision` has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<bool>,
    /// How much time a replacement that goes badly would leave, in seconds ([`slack`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_s: Option<i64>,
}

impl Status {
    /// How many targets serve the newest generation, proven.
    pub fn current(&self) -> usize {
        self.targets.iter().filter(|target| target.phase == "current").count()
    }

    /// What was last seen through the service, for a terminal as for a page; nothing while nothing was.
    pub fn through_told(&self, now: OffsetDateTime) -> Option<String> {
        let ThroughRecord { at, samples, good, faults, .. } = self.through.as_ref()?;
        let mut told = format!("{good} of {samples} good, {}", ago(*at, now));
        if !faults.is_empty() {
            told.push_str(&format!(": {}", shown::told(faults, None)));
        }
        if self.misrouted {
            told.push_str("; the name leads to somebody else: every target by itself shows what it should");
        }
        Some(told)
    }
}

impl Advance {
    /// For a terminal as for a page; who is not there is not mentioned.
    pub fn told(&self) -> String {
        let stage = match self.stage {
            Stage::Canary => "canary",
            Stage::Waves => "waves",
            Stage::Halted => "halted",
        };
        let numbers = [
            (self.proven, "proven"),
            (self.under_way, "under way"),
            (self.failed, "failed"),
            (self.waiting, "waiting"),
        ];
        let numbers = numbers.iter().filter(|(number, _)| *number > 0).map(|(number, of)| format!("{number} {of}"));
        format!("{stage}, {}", numbers.collect::<Vec<_>>().join(", "))
    }
}

impl TargetStatus {
    /// What [`TargetStatus::cells`] are about; the last column tells what is wrong and has no heading.
    pub const COLUMNS: [&str; 8] = ["target", "phase", "serves", "ends", "slack", "seen", "clients", ""];

    /// A line of a table, for a terminal as for a page.
    pub fn cells(&self, now: OffsetDateTime) -> [String; 8] {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let faults = (!self.faults.is_empty()).then(|| shown::told(&self.faults, self.shown));
        let wrong = [self.because.clone(), faults];
        [
            self.target.to_string(),
            self.phase.clone(),
            or_dash(self.generation.map(|generation| generation.to_string())),
            or_dash(self.ends_at.map(|at| if at > now { span(at - now) } else { "ended".to_owned() })),
            or_dash(self.slack_s.map(|seconds| span(Duration::seconds(seconds)))),
            or_dash(self.seen_at.map(|at| ago(at, now))),
            or_dash(self.registered.map(|is| if is { "yes" } else { "no" }.to_owned())),
            wrong.into_iter().flatten().collect::<Vec<_>>().join("; "),
        ]
    }
}

/// What wanted targets were last seen to serve, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Whole days to the end of what ends first; negative when it is over. Absent when no certificate was seen.
    pub days_to_expiry: Option<i32>,
    /// Targets that fail clients.
    pub failing: u32,
    /// Targets that show another certificate than the newest, one that clients accept.
    pub stale: u32,
}

impl Served {
    /// Counts; nothing while no target was ever seen.
    pub fn of(evidence: &Evidence) -> Option<Self> {
        let wanted = evidence.wanted();
        let seen: Vec<&SightingRecord> = wanted.iter().filter_map(|target| target.sighting.as_ref()).collect();
        if seen.is_empty() {
            return None;
        }
        let ends_at = seen.iter().filter_map(|sighting| sighting.verdict.not_after).min();
        let (failing, served): (Vec<_>, Vec<_>) = seen.into_iter().partition(|sighting| fails_clients(sighting));
        let count = |some: usize| u32::try_from(some).unwrap_or(u32::MAX);
        Some(Self {
            days_to_expiry: ends_at
                .map(|end| i32::try_from((end - evidence.now).whole_seconds().div_euclid(86_400)).unwrap_or(i32::MAX)),
            failing: count(failing.len()),
            stale: count(served.iter().filter(|sighting| !sighting.verdict.is_good()).count()),
        })
    }
}

/// The stack as the evidence shows it.
pub fn status(evidence: &Evidence, assumed: &Assumed) -> Status {
    let rollout = Rollout::of(evidence);
    let slack_of: BTreeMap<TargetId, Option<i64>> =
        slack(evidence, assumed).into_iter().map(|one| (one.target, one.slack_s)).collect();
    let targets = evidence.wanted().into_iter().map(|target| {
        let slack_s = slack_of.get(&target.target).copied().flatten();
        TargetStatus { slack_s, ..of_target(evidence, &rollout, target) }
    });
    Status {
        leaf: evidence.newest().map(leaf),
        others: others::told(evidence),
        rotation: evidence.epoch.as_ref().map(|epoch| progress(&rollout, epoch)),
        emergency: evidence
            .emergency
            .clone()
            .filter(|_| !evidence.policy.observes && emergency::is_under_way(evidence)),
        through: evidence.through.clone(),
        misrouted: shown::is_misrouted(evidence),
        targets: targets.collect(),
    }
}

fn of_target(evidence: &Evidence, rollout: &Rollout<'_>, target: &TargetEvidence) -> TargetStatus {
    let phase = phase(rollout, target);
    let seen = target.sighting.as_ref();
    TargetStatus {
        target: target.target.clone(),
        phase: phase.word().to_owned(),
        because: others::awaits(evidence, target, &phase).or_else(|| because(&phase)),
        generation: target.floor().filter(|_| evidence.policy.others.is_none()),
        ends_at: seen.and_then(|sighting| sighting.verdict.not_after),
        seen_at: seen.map(|sighting| sighting.at),
        tls: seen.and_then(|sighting| sighting.verdict.tls.clone()),
        faults: seen.map(|sighting| sighting.verdict.faults.clone()).unwrap_or_default(),
        shown: Shown::of(evidence, target),
        registered: evidence.member(&target.target).map(|member| member.registered),
        slack_s: None,
    }
}

fn because(phase: &Phase) -> Option<String> {
    match phase {
        Phase::NotOptedIn { because }
        | Phase::Unmanaged { because }
        | Phase::Issued { because, .. }
        | Phase::Pausing { because, .. }
        | Phase::Stuck { because, .. } => Some(because.clone()),
        Phase::Observed { because, .. } => {
            Some(because.clone().unwrap_or_else(|| "its owner installs the certificate".to_owned()))
        }
        Phase::Unconfirmed { .. } => Some("it goes back by itself unless it is told to keep what was seen".to_owned()),
        Phase::Unverifiable => Some("Systems Manager reports no address to dial".to_owned()),
        Phase::Unwanted
        | Phase::Arriving
        | Phase::Due
        | Phase::Delivering { .. }
        | Phase::Presenting { .. }
        | Phase::Drifted { .. }
        | Phase::Current { .. } => None,
    }
}

fn leaf(record: &GenerationRecord) -> Leaf {
    Leaf {
        generation: record.generation,
        serial: record.serial.clone(),
        parameter: record.parameter.clone(),
        each: record.scope.is_each(),
        dns_names: record.dns_names.clone(),
        minted_at: record.minted_at,
        not_after: record.not_after,
        because: record.because.clone(),
    }
}

fn progress(rollout: &Rollout<'_>, record: &EpochRecord) -> Progress {
    let advance = if record.ended_at.is_none() { advance(rollout) } else { None };
    Progress { epoch: record.epoch, begun_at: record.begun_at, ended_at: record.ended_at, advance }
}

fn advance(rollout: &Rollout<'_>) -> Option<Advance> {
    let (evidence, newest) = (rollout.evidence, rollout.newest?.generation);
    let wanted: Vec<&TargetEvidence> = evidence.wanted().into_iter().filter(|target| target.node.is_some()).collect();
    let (mut proven, mut under_way, mut failed) = (0_usize, 0_usize, 0_usize);
    for target in &wanted {
        let phase = phase(rollout, target);
        if phase.is_undecided() {
            under_way += 1;
        } else if target.has_proven(newest) {
            proven += 1;
        } else if has_failed(evidence, &rollout.tally(target), &phase) {
            failed += 1;
        }
    }
    let seen = wanted.iter().filter(|target| target.has_proven(newest)).count();
    let stage = if evidence.policy.halts_at(failed) {
        Stage::Halted
    } else if seen < evidence.policy.canary() {
        Stage::Canary
    } else {
        Stage::Waves
    };
    let count = |some: usize| u32::try_from(some).unwrap_or(u32::MAX);
    let waiting = count(wanted.len() - proven - under_way - failed);
    Some(Advance { stage, proven: count(proven), under_way: count(under_way), failed: count(failed), waiting })
}
