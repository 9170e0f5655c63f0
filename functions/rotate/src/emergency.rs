//! An emergency: written down first, with who asks and why; then it is a look as any other, which finds what is unsafe due.

use espalier_aws::evidence::{Hands, Look, Sources};
use espalier_aws::states::StateMachine;
use espalier_domain::id::StackName;
use espalier_domain::plan::ReportedStep;
use espalier_domain::record::EmergencyRecord;
use espalier_domain::rotation::emergency::{Declaration, Ruling, rule, told};
use espalier_edge::{EdgeError, Emergency, Invocation};
use time::OffsetDateTime;

use crate::answer;
use crate::forecast::Answer;
use crate::hint;

/// Answers somebody who declares what was issued unsafe.
pub(crate) async fn handle(
    sources: &Sources,
    machine: &StateMachine,
    stack: &StackName,
    asked: &Emergency,
    invocation: &Invocation,
    now: OffsetDateTime,
) -> Result<Answer, EdgeError> {
    let evidence = match sources.look(stack, None, Hands::Tied, now).await? {
        Look::Evidence(evidence, _) => evidence,
        Look::Nothing => return Ok(answer::nothing(stack).into()),
        Look::Blocked(block) => return Ok(answer::blocked(stack, block).into()),
    };
    let declaration = Declaration {
        through: asked.generation,
        caller: asked.caller.clone(),
        reason: asked.reason.clone(),
        request: invocation.request_id.clone(),
    };
    let (record, step) = match rule(&evidence, &declaration) {
        Ruling::Refused(block) => return Ok(answer::blocked(stack, block).into()),
        Ruling::Known(known) => {
            let step = step(&known, "=", told(&known));
            (known, step)
        }
        Ruling::Declare(record) => {
            let record = sources.ledger.declare(stack, &record).await?;
            let because = format!("{}: {}", record.caller, record.reason);
            let step = step(&record, "!", because);
            (record, step)
        }
    };
    let EmergencyRecord { through, caller, reason, request, .. } = &record;
    tracing::warn!(%stack, through = through.0, %caller, %reason, request, asker = %asked.caller, "an emergency");
    let mut outcome = hint::apply(sources, machine, stack, now).await?;
    outcome.steps.insert(0, step);
    Ok(Answer { emergency: Some(record), ..outcome.into() })
}

/// With `!` it was written down now, with `=` before.
fn step(record: &EmergencyRecord, mark: &str, because: String) -> ReportedStep {
    ReportedStep { wave: 1, action: format!("{mark} Emergency, generation {} and before", record.through), because }
}
