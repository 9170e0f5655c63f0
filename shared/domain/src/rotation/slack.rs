//! Slack: for every target, how long is left between the moment at which a replacement would be done and the moment at
//! which what it serves ends, given the policy, its calendar, and some failures. And what lies ahead.
//!
//! A forecast, never an input of a decision.

use serde::Serialize;
use time::{Duration, OffsetDateTime};

use crate::id::{Generation, TargetId};
use crate::record::GenerationRecord;
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::policy::{ATTEMPTS, COMMAND_DEADLINE, STUCK_RETRY};
use crate::rotation::proof::fails_clients;
use crate::rotation::rollout::{backoff, renew_at};

/// How far ahead is told.
const AHEAD: Duration = Duration::days(90);

/// The most renewals that are told.
const TOLD: usize = 100;

/// What a forecast assumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Assumed {
    /// Deliveries to each target that fail before one succeeds, each only when its time is up.
    pub failures: u32,
    /// How long until the sweep notices, if no event does, in seconds.
    pub sweep_s: u32,
    /// How long a wave takes that goes well, in seconds.
    pub wave_s: u32,
}

impl Default for Assumed {
    /// Two failures; the template's sweep; a minute for each wave.
    fn default() -> Self {
        Self { failures: 2, sweep_s: 900, wave_s: 60 }
    }
}

/// A target's slack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slack {
    /// The target.
    pub target: TargetId,
    /// What it was last proven to serve; nothing if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// When that ends.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub breaks_at: Option<OffsetDateTime>,
    /// When a replacement would be done.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub done_at: Option<OffsetDateTime>,
    /// From the one to the other, in seconds; negative when it would be too late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack_s: Option<i64>,
}

/// A renewal that lies ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Renewal {
    /// The generation that is replaced.
    pub generation: Generation,
    /// When it comes due.
    #[serde(with = "time::serde::rfc3339")]
    pub due_at: OffsetDateTime,
    /// When its replacement begins: then, or when the calendar lets it.
    #[serde(with = "time::serde::rfc3339")]
    pub begins_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub ends_at: OffsetDateTime,
}

/// The slack of every wanted target, least first; whoever serves nothing that was proven comes before all.
pub fn slack(evidence: &Evidence, assumed: &Assumed) -> Vec<Slack> {
    let wanted = evidence.wanted();
    let last_wave = waves(evidence, wanted.len());
    let mut all: Vec<Slack> = wanted.into_iter().map(|target| one(evidence, assumed, last_wave, target)).collect();
    all.sort_by(|a, b| (a.slack_s, &a.target).cmp(&(b.slack_s, &b.target)));
    all
}

fn one(evidence: &Evidence, assumed: &Assumed, last_wave: usize, target: &TargetEvidence) -> Slack {
    if target.node.is_none() || evidence.policy.others.is_some() {
        return observed(evidence, target);
    }
    // What a target no longer shows was proven, but is not served.
    let shown = target.floor().filter(|_| target.sighting.as_ref().is_some_and(|one| one.verdict.is_good()));
    let Some(record) = shown.and_then(|floor| evidence.generation(floor)) else {
        return Slack {
            target: target.target.clone(),
            generation: None,
            breaks_at: None,
            done_at: None,
            slack_s: None,
        };
    };
    let done_at = done_at(evidence, assumed, last_wave, record);
    Slack {
        target: target.target.clone(),
        generation: Some(record.generation),
        breaks_at: Some(record.not_after),
        done_at: Some(done_at),
        slack_s: Some((record.not_after - done_at).whole_seconds()),
    }
}

/// Of whom somebody else installs on, nobody knows when they will: what is left is theirs.
fn observed(evidence: &Evidence, target: &TargetEvidence) -> Slack {
    let seen = target.sighting.as_ref().filter(|sighting| !fails_clients(sighting));
    let breaks_at = seen.and_then(|sighting| sighting.verdict.not_after);
    Slack {
        target: target.target.clone(),
        generation: seen
            .filter(|sighting| sighting.verdict.is_good() && sighting.generation != Generation::NONE)
            .map(|sighting| sighting.generation),
        breaks_at,
        done_at: breaks_at.map(|_| evidence.now),
        slack_s: breaks_at.map(|at| (at - evidence.now).whole_seconds()),
    }
}

/// When the last target would have been given what replaces this generation.
fn done_at(evidence: &Evidence, assumed: &Assumed, last_wave: usize, record: &GenerationRecord) -> OffsetDateTime {
    let begins_at = begins_at(evidence, record, evidence.now.max(known_at(evidence, assumed, record)));
    let failures = (1..=assumed.failures)
        .map(|times| COMMAND_DEADLINE + if times >= ATTEMPTS { STUCK_RETRY } else { backoff(times) })
        .fold(Duration::ZERO, Duration::saturating_add);
    let waves =
        Duration::seconds(i64::from(assumed.wave_s)).saturating_mul(i32::try_from(last_wave).unwrap_or(i32::MAX));
    let bake = Duration::minutes(i64::from(evidence.policy.bake_minutes));
    begins_at.saturating_add(failures).saturating_add(waves).saturating_add(bake)
}

/// When it would be known that this generation has to be replaced.
fn known_at(evidence: &Evidence, assumed: &Assumed, record: &GenerationRecord) -> OffsetDateTime {
    if evidence.newest().is_some_and(|newest| newest.generation > record.generation) {
        return evidence.now;
    }
    renew_at(&evidence.policy, record).saturating_add(Duration::seconds(i64::from(assumed.sweep_s)))
}

/// When its replacement begins once it is known: as soon as the calendar opens or no longer counts.
fn begins_at(evidence: &Evidence, record: &GenerationRecord, known_at: OffsetDateTime) -> OffsetDateTime {
    let margin_at = record.not_after.saturating_sub(evidence.policy.safety_margin());
    let opens = evidence.policy.calendar.opens(known_at).unwrap_or(margin_at);
    opens.min(margin_at).max(known_at)
}

/// Waves after the canary.
fn waves(evidence: &Evidence, targets: usize) -> usize {
    let canary = usize::try_from(evidence.policy.canary).unwrap_or(usize::MAX);
    let rest = targets.saturating_sub(canary);
    1 + rest.div_ceil(evidence.policy.wave.of(targets))
}

/// The renewals of the next 90 days, if nothing but age makes leaves due; each leaf lives as long as the policy says.
pub fn ahead(evidence: &Evidence) -> Vec<Renewal> {
    let Some(newest) = evidence.newest() else { return Vec::new() };
    let mut record = newest.clone();
    let end = evidence.now.saturating_add(AHEAD);
    let mut renewals = Vec::new();
    while renewals.len() < TOLD {
        let due_at = evidence.now.max(renew_at(&evidence.policy, &record));
        let begins_at = begins_at(evidence, &record, due_at);
        if begins_at > end {
            break;
        }
        renewals.push(Renewal { generation: record.generation, due_at, begins_at, ends_at: record.not_after });
        record.generation = Generation(record.generation.0.saturating_add(1));
        (record.not_before, record.not_after) = (begins_at, begins_at.saturating_add(evidence.policy.validity()));
    }
    renewals
}
