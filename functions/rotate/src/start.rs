//! Starts the execution that carries a rotation, once, under a name taken by conditional write.

use espalier_aws::ledger::{Claim, EpochSeen, Ledger, Still};
use espalier_aws::states::{Execution, StateMachine};
use espalier_domain::id::StackName;
use espalier_domain::record::EpochRecord;
use espalier_domain::work::Pass;
use espalier_edge::EdgeError;
use time::OffsetDateTime;

/// Times the ledger may be changed under our hands before we give way.
const ROUNDS: u32 = 4;

/// Leaves a hint to the execution that carries the stack already, if one runs: it will look once more before it ends.
/// Answers that execution's name.
pub(crate) async fn hand_over(
    ledger: &Ledger,
    machine: &StateMachine,
    stack: &StackName,
) -> Result<Option<String>, EdgeError> {
    for _ in 0..ROUNDS {
        let Some(epoch) = ledger.epoch(stack).await?.filter(EpochSeen::is_open) else { return Ok(None) };
        if machine.look(&epoch.record.execution).await? != Execution::Running {
            return Ok(None);
        }
        match ledger.nudge(stack, &epoch).await? {
            Still::Unchanged => return Ok(Some(epoch.record.execution)),
            // It has ended, or another hint came: look again.
            Still::Changed => {}
        }
    }
    Err(busy(stack))
}

/// Claims the stack's next execution and starts it; or finds that another invocation has. Answers its name.
pub(crate) async fn start(
    ledger: &Ledger,
    machine: &StateMachine,
    stack: &StackName,
    seen: Option<EpochSeen>,
    now: OffsetDateTime,
) -> Result<String, EdgeError> {
    let mut epoch = seen;
    for _ in 0..ROUNDS {
        if let Some(open) = epoch.as_ref().filter(|epoch| epoch.is_open()) {
            let name = open.record.execution.clone();
            match machine.look(&name).await? {
                Execution::Running => return Ok(name),
                // Claimed, and its claimant was killed (or is about to start it): its name is still free.
                Execution::Missing => {
                    if machine.start(&name, &input(stack, &open.record)?).await? == Execution::Running {
                        return Ok(name);
                    }
                }
                Execution::Ended => {}
            }
        }
        match ledger.claim(stack, epoch.as_ref(), now).await? {
            Claim::Ours(claimed) => {
                let name = claimed.record.execution.clone();
                if machine.start(&name, &input(stack, &claimed.record)?).await? == Execution::Running {
                    return Ok(name);
                }
                // The name was used up before (a restored table, another control plane): the next one is free.
                epoch = Some(claimed);
            }
            Claim::Taken => epoch = ledger.epoch(stack).await?,
        }
    }
    Err(busy(stack))
}

/// The state machine's input: identifiers and a pass counter.
fn input(stack: &StackName, epoch: &EpochRecord) -> Result<String, EdgeError> {
    let pass = Pass { stack: stack.clone(), epoch: epoch.epoch, wave: 1, results: Vec::new() };
    serde_json::to_string(&pass).map_err(|error| EdgeError::broken(format!("writing the execution's input: {error}")))
}

fn busy(stack: &StackName) -> EdgeError {
    EdgeError::conflict(format!("the epoch of {stack} is being changed by others"))
}
