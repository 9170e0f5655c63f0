//! One pass of the state machine: write down what came back, look, say what can be done now.

use espalier_aws::evidence::{Hands, Look, Sources};
use espalier_aws::ledger::{EpochSeen, LedgerError, Still, Teller};
use espalier_domain::failure::chain;
use espalier_domain::id::StackName;
use espalier_domain::plan::{Block, OutcomeKind};
use espalier_domain::rotation::execution::held;
use espalier_domain::rotation::pace;
use espalier_domain::rotation::plan::plan;
use espalier_domain::rotation::prober;
use espalier_domain::told;
use espalier_domain::work::{Pass, RotateOutcome, WorkResult};
use espalier_edge::EdgeError;
use time::OffsetDateTime;

use crate::answer::{self, Reader};
use crate::watch;

/// Answers a pass.
pub(crate) async fn handle(sources: &Sources, pass: &Pass, now: OffsetDateTime) -> Result<RotateOutcome, EdgeError> {
    let Came { failed, blocks } = record(sources, pass).await?;
    let (evidence, epoch) = match sources.look(&pass.stack, None, Hands::Writing, now).await? {
        Look::Evidence(evidence, epoch) => (evidence, current(pass, epoch)?),
        Look::Nothing => return Ok(answer::nothing(&pass.stack)),
        Look::Blocked(block) => {
            return Ok(announced(sources, answer::blocked(&pass.stack, block), &pass.stack, now).await);
        }
    };
    // While an execution carries the stack, the sweep looks at nothing: a rotation that hangs would hide what runs out meanwhile.
    watch::seen(&pass.stack, &evidence, now);
    let plan = held(plan(&evidence), blocks);
    let mut outcome = answer::to_plan(&pass.stack, plan, Reader::Machine { wave: pass.wave, failed });
    let readers = pace::readers(&outcome.work);
    if readers > 0 {
        // A large fleet is looked at for seconds: what its hosts wait is counted from now on, or all of them would read that much late.
        let handed_out = espalier_edge::now();
        let first = sources.ledger.join(readers, handed_out).await?;
        pace::line_up(&mut outcome.work, first, handed_out);
    }
    match outcome.outcome {
        OutcomeKind::Converged if epoch.is_open() => {
            match sources.ledger.end_epoch(&pass.stack, &epoch, now).await? {
                Still::Unchanged => Ok(outcome),
                // A hint came in after we had looked: look again.
                Still::Changed => Ok(answer::once_more(&pass.stack)),
            }
        }
        // The execution ends here. What was blocked only when it was tried (a key that may not be used) no look would count.
        OutcomeKind::Blocked => Ok(announced(sources, outcome, &pass.stack, now).await),
        OutcomeKind::Converged | OutcomeKind::Pending | OutcomeKind::Work => Ok(outcome),
    }
}

/// The answer with its blocks counted, and with whether somebody was told of them before: the state machine ends here, and
/// tells them if not.
async fn announced(sources: &Sources, outcome: RotateOutcome, stack: &StackName, now: OffsetDateTime) -> RotateOutcome {
    let repeated = is_told(sources, &outcome.blocks, stack, now).await.unwrap_or_else(|error| {
        tracing::warn!(%stack, error = chain(&error), "it is not known what was told, so that it is told");
        false
    });
    watch::counted(RotateOutcome { repeated, ..outcome }, stack, now)
}

/// Noted before the state machine tells it, which is repeated when this pass is: so the execution is noted, too.
async fn is_told(
    sources: &Sources,
    blocks: &[Block],
    stack: &StackName,
    now: OffsetDateTime,
) -> Result<bool, LedgerError> {
    let execution = sources.ledger.epoch(stack).await?.map(|epoch| epoch.record.execution);
    let told = sources.ledger.told(Teller::Rotate, stack).await?;
    let news = told::news(told.record(), blocks, execution.as_deref(), now);
    sources.ledger.note_told(Teller::Rotate, stack, &told, &news.record).await?;
    Ok(news.repeated)
}

/// The epoch, if it is still this execution's.
fn current(pass: &Pass, epoch: Option<EpochSeen>) -> Result<EpochSeen, EdgeError> {
    epoch
        .filter(|seen| seen.record.epoch == pass.epoch)
        .ok_or_else(|| EdgeError::refused(format!("epoch {} of {} is not the current one", pass.epoch, pass.stack)))
}

/// What came of the last pass's work.
#[derive(Debug, Default)]
struct Came {
    /// Whether any of it failed.
    failed: bool,
    /// What of it a person has to see to.
    blocks: Vec<Block>,
}

/// Writes sightings down. Mints and deliveries are in the ledger already, by the hands of those who made them.
async fn record(sources: &Sources, pass: &Pass) -> Result<Came, EdgeError> {
    let mut came = Came::default();
    for result in &pass.results {
        match result {
            WorkResult::Seen { stack, sightings, through } => {
                if *stack != pass.stack {
                    return Err(EdgeError::invalid(format!("a result for {stack} came back to {}", pass.stack)));
                }
                for seen in sightings {
                    if !seen.verdict.is_good() {
                        let faults = &seen.verdict.faults;
                        tracing::warn!(%stack, target_id = %seen.target, ?faults, "the target does not serve what it should");
                    }
                    sources.ledger.record_sighting(stack, seen).await?;
                }
                sources.ledger.record_through(stack, through).await?;
                watch::latency(stack, sightings, through);
            }
            WorkResult::Founded { .. }
            | WorkResult::Minted { .. }
            | WorkResult::Sent { .. }
            | WorkResult::Joined { .. } => {}
            WorkResult::Blocked { block } => {
                tracing::warn!(stack = %pass.stack, %block, "a part of the last pass's work needs a person");
                came.blocks.push(block.clone());
            }
            WorkResult::Failed { error, cause, function } => {
                tracing::warn!(stack = %pass.stack, error, cause, function, "a part of the last pass's work failed");
                match function.as_deref().and_then(|function| prober::uncalled(function, error, cause)) {
                    // Each item of the tour met the same.
                    Some(block) if came.blocks.contains(&block) => {}
                    Some(block) => came.blocks.push(block),
                    None => came.failed = true,
                }
            }
        }
    }
    Ok(came)
}
