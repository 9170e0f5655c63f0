//! The authorities' life: look, do what can be done now, look again; and what a person says about it.

use espalier_aws::ledger::Still;
use espalier_domain::authority::{Action, Facts, Phase, Rules, Ruling, Word, digest, plan, rule, tainted};
use espalier_domain::failure::chain;
use espalier_domain::id::Caller;
use espalier_domain::plan::{Block, Outcome, OutcomeKind, Plan, ReportedStep};
use espalier_domain::record::AuthorityRecord;
use espalier_edge::metric::{self, Unit};
use espalier_edge::{EdgeError, Invocation};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::founding::{Founder, Stop};

/// Looks of one invocation. Publish, activate and publish again is the longest there is; others may interfere.
const ROUNDS: u32 = 6;

/// What a life is lived with.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) founder: Founder,
    pub(crate) rules: Rules,
}

/// How the authorities stand.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    #[serde(flatten)]
    outcome: Outcome<Value>,
    /// Every authority, the newest last.
    authorities: Vec<Standing>,
    /// SHA-256 of the published bundle, lower-case hexadecimal; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
}

/// One authority.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    authority: String,
    phase: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
    /// Whether what it signed was declared unsafe.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tainted: bool,
    /// Registered verifiers that have not acknowledged it, while it is prepared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

impl Life {
    /// Says how things stand, and what would be done.
    pub(crate) async fn status(&self, now: OffsetDateTime) -> Result<Told, EdgeError> {
        let facts = self.look(now).await?;
        let plan = plan(&facts);
        let steps = plan.steps.iter().map(|step| reported(&step.action, &step.because)).collect();
        Ok(told(&facts, plan, steps))
    }

    /// Does what can be done now, and looks again after each step.
    pub(crate) async fn apply(&self, now: OffsetDateTime) -> Result<Told, EdgeError> {
        let mut done = Vec::new();
        for _ in 0..ROUNDS {
            let facts = self.look(now).await?;
            let mut plan = plan(&facts);
            let Some(step) = plan.steps.first().cloned() else {
                counted(&plan.blocks, now);
                return Ok(told(&facts, plan, done));
            };
            match self.take(&facts, &step.action, now).await {
                Ok(Still::Unchanged) => {
                    tracing::info!(action = action(&step.action), because = step.because, "authority");
                    done.push(reported(&step.action, &step.because));
                }
                // Somebody else decided meanwhile.
                Ok(Still::Changed) => {}
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Blocked(block)) => {
                    plan.blocks.push(block);
                    plan.steps.clear();
                    counted(&plan.blocks, now);
                    return Ok(told(&facts, plan, done));
                }
            }
        }
        Err(EdgeError::conflict("the authorities are being changed by others"))
    }

    /// Writes a person's word down, and does what follows from it.
    pub(crate) async fn said(
        &self,
        word: &Word,
        caller: &Caller,
        invocation: &Invocation,
        now: OffsetDateTime,
    ) -> Result<Told, EdgeError> {
        let facts = self.look(now).await?;
        let ruling = rule(&facts, word, caller, &invocation.request_id);
        tracing::warn!(?word, %caller, request = invocation.request_id, ?ruling, "a person's word");
        let step = match ruling {
            Ruling::Refused(block) => {
                return Ok(told(&facts, Plan { blocks: vec![block], ..Plan::default() }, Vec::new()));
            }
            Ruling::Known(because) => ReportedStep { wave: 1, action: "= nothing".to_owned(), because },
            Ruling::Prepare => match self.founder.prepare(&facts.authorities, now).await {
                Ok(record) => reported(&Action::Prepare, &format!("authority {}, for {caller}", record.authority)),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Blocked(block)) => {
                    return Ok(told(&facts, Plan { blocks: vec![block], ..Plan::default() }, Vec::new()));
                }
            },
            Ruling::Acknowledge(record) => {
                self.founder.ledger.acknowledge(&record).await?;
                let action = format!("! {} acknowledges authority {}", record.verifier, record.authority);
                ReportedStep { wave: 1, action, because: format!("{caller} says so, until {}", record.until) }
            }
            Ruling::Turn(record) => match self.founder.ledger.take_turn(&record).await? {
                Still::Unchanged => reported(&Action::Turn(record.clone()), &record.because),
                Still::Changed => {
                    return Err(EdgeError::conflict("something was decided about an authority meanwhile: look again"));
                }
            },
        };
        let mut told = self.apply(now).await?;
        told.outcome.steps.insert(0, step);
        Ok(told)
    }

    async fn look(&self, now: OffsetDateTime) -> Result<Facts, EdgeError> {
        let ledger = &self.founder.ledger;
        // The turns before what they are about: an authority that was appended since has none.
        let turns = ledger.turns().await?;
        let authorities = ledger.authorities().await?;
        let acknowledgements = ledger.acknowledgements().await?;
        let bundle = self.founder.published.bundle().await?;
        let has_keys = self.founder.has_keys(&authorities).await?;
        let damaged = damaged(&authorities);
        Ok(Facts { now, rules: self.rules.clone(), authorities, turns, acknowledgements, bundle, damaged, has_keys })
    }

    async fn take(&self, facts: &Facts, action: &Action, now: OffsetDateTime) -> Result<Still, Stop> {
        match action {
            Action::Prepare => {
                self.founder.prepare(&facts.authorities, now).await?;
                Ok(Still::Unchanged)
            }
            Action::Publish { bundle } => {
                self.founder.published.publish(bundle).await?;
                Ok(Still::Unchanged)
            }
            Action::Turn(record) => Ok(self.founder.ledger.take_turn(record).await?),
        }
    }
}

/// Those that are not what they were when they were founded.
fn damaged(authorities: &[AuthorityRecord]) -> Vec<String> {
    let why = |record: &AuthorityRecord| espalier_pki::authority::check(record).err();
    let damaged = authorities.iter().filter_map(|record| Some((&record.authority, why(record)?)));
    damaged
        .map(|(authority, error)| {
            tracing::error!(authority, error = chain(&error), "the authority's record is damaged");
            authority.clone()
        })
        .collect()
}

fn told(facts: &Facts, plan: Plan<Action>, steps: Vec<ReportedStep>) -> Told {
    let kind = match (plan.steps.is_empty(), plan.blocks.is_empty(), plan.waits.is_empty()) {
        (false, _, _) => OutcomeKind::Work,
        (true, false, _) => OutcomeKind::Blocked,
        (true, true, false) => OutcomeKind::Pending,
        (true, true, true) => OutcomeKind::Converged,
    };
    let (retry_after_s, waits) = (plan.retry_after_s(), plan.waits.into_iter().map(|wait| wait.on).collect());
    let outcome = Outcome { retry_after_s, steps, blocks: plan.blocks, waits, ..Outcome::bare(kind, None) };
    let standing = |(record, phase): (&AuthorityRecord, Phase)| Standing {
        authority: record.authority.clone(),
        phase: phase.word(),
        not_after: record.not_after,
        tainted: tainted(&record.authority, &facts.turns).is_some(),
        missing: match phase {
            Phase::Prepared => facts.missing(&record.authority).into_iter().map(ToString::to_string).collect(),
            Phase::Active | Phase::Retiring { .. } | Phase::Retired => Vec::new(),
        },
    };
    let authorities = facts.phases().into_iter().map(standing).collect();
    Told { outcome, authorities, bundle: facts.bundle.as_deref().map(digest) }
}

fn reported(what: &Action, because: &str) -> ReportedStep {
    ReportedStep { wave: 1, action: action(what), because: because.to_owned() }
}

fn action(action: &Action) -> String {
    match action {
        Action::Prepare => "+ Authority".to_owned(),
        Action::Publish { bundle } => format!("~ Bundle {}", digest(bundle)),
        Action::Turn(turn) => format!("! Authority {} {:?}", turn.authority, turn.turn),
    }
}

/// What needs a person is counted, for an alarm.
fn counted(blocks: &[Block], now: OffsetDateTime) {
    for Block { code, because } in blocks {
        tracing::warn!(?code, because, "a person is needed");
    }
    let count = f64::from(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
    metric::emit(now, &[("Function", "authority")], &[("Blocked", Unit::Count, count)]);
}
