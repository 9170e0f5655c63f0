//! A hint: look at the stacks it concerns and start what there is to do. No work is handed out from here.

use espalier_aws::evidence::{Hands, Look, Sources};
use espalier_aws::ledger::EpochSeen;
use espalier_aws::states::StateMachine;
use espalier_domain::id::StackName;
use espalier_domain::plan::OutcomeKind;
use espalier_domain::rotation::evidence::Evidence;
use espalier_domain::rotation::execution;
use espalier_domain::rotation::plan::{is_anybody_arriving, plan};
use espalier_domain::rotation::slack::Assumed;
use espalier_domain::rotation::status::status;
use espalier_domain::work::RotateOutcome;
use espalier_edge::{Direct, EdgeError, Hint, HintKind, Invocation, Mode};
use time::OffsetDateTime;

use crate::answer::{self, Reader};
use crate::concern::{self, Concern};
use crate::forecast::{Answer, Forecast};
use crate::{emergency, heard, start, unused, watch};

/// Answers a hint. One stack's failure keeps no other from being looked at; the first failure is the answer, so that
/// the hint is delivered again.
pub(crate) async fn handle(
    sources: &Sources,
    machine: &StateMachine,
    hint: &Hint,
    now: OffsetDateTime,
) -> Result<RotateOutcome, EdgeError> {
    heard::note(sources, hint, now).await;
    let stacks = match concern::of(hint) {
        Concern::Nobody => Vec::new(),
        Concern::One(stack) => vec![stack],
        Concern::Users(certificates) => unused::users(sources, &certificates, now).await?,
        Concern::Some(filter) => filter.pick(&sources.specs.all().await?, &sources.allowed),
    };
    let mut outcomes = Vec::with_capacity(stacks.len());
    let mut failure = None;
    for stack in &stacks {
        match apply(sources, machine, stack, now).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                tracing::error!(%stack, word = error.word.as_str(), error = error.text, "the stack was not looked at");
                failure.get_or_insert(error);
            }
        }
    }
    // An alarm has everything looked at, too; it must not be what ends the alarm that nobody looks.
    if hint.kind == HintKind::Sweep && hint.source != "aws.cloudwatch" {
        watch::swept(now);
    }
    match failure {
        None => Ok(answer::together(outcomes)),
        Some(error) => Err(error),
    }
}

/// Answers a person or a program.
pub(crate) async fn direct(
    sources: &Sources,
    machine: &StateMachine,
    direct: Direct,
    invocation: &Invocation,
    now: OffsetDateTime,
) -> Result<Answer, EdgeError> {
    let stack = &direct.stack;
    match &direct.mode {
        Mode::Emergency(asked) => emergency::handle(sources, machine, stack, asked, invocation, now).await,
        Mode::Diagnose => Err(EdgeError::invalid("direct request, field `mode`: `diagnose` is for `provision`")),
        Mode::Apply => apply(sources, machine, stack, now).await.map(Answer::from),
        Mode::Verify => {
            // Nothing is written down for a stack that nobody ever specified.
            if sources.specs.get(stack).await?.is_some() {
                sources.ledger.ask_for_a_look(stack, now).await?;
            }
            apply(sources, machine, stack, now).await.map(Answer::from)
        }
        Mode::Plan | Mode::Status | Mode::Check { .. } => {
            Ok(match sources.look(stack, direct.spec.as_ref(), Hands::Tied, now).await? {
                Look::Evidence(evidence, _) => told(stack, &direct.mode, &evidence),
                Look::Nothing => answer::nothing(stack).into(),
                Look::Blocked(block) => answer::blocked(stack, block).into(),
            })
        }
    }
}

/// What a person asked to be told, with nothing done.
fn told(stack: &StackName, mode: &Mode, evidence: &Evidence) -> Answer {
    if let Mode::Check { min_slack_days } = mode {
        return Forecast::of(evidence).check(stack, *min_slack_days);
    }
    let outcome = answer::to_plan(stack, plan(evidence), Reader::Person { started: None });
    if *mode == Mode::Status {
        return Answer { status: Some(status(evidence, &Assumed::default())), ..outcome.into() };
    }
    Answer { forecast: Some(Forecast::of(evidence)), ..outcome.into() }
}

/// Looks at one stack and sees to it that an execution carries what there is to do.
pub(crate) async fn apply(
    sources: &Sources,
    machine: &StateMachine,
    stack: &StackName,
    now: OffsetDateTime,
) -> Result<RotateOutcome, EdgeError> {
    if let Some(execution) = start::hand_over(&sources.ledger, machine, stack).await? {
        tracing::info!(%stack, execution, "handed over to the running execution");
        return Ok(answer::carried(stack, &execution));
    }
    let (evidence, epoch) = match sources.look(stack, None, Hands::Writing, now).await? {
        Look::Evidence(evidence, epoch) => (evidence, epoch),
        Look::Nothing => return Ok(answer::nothing(stack)),
        Look::Blocked(block) => return Ok(watch::counted(answer::blocked(stack, block), stack, now)),
    };
    watch::seen(stack, &evidence, now);
    heard::listen(sources, stack, &evidence, now).await;
    let plan = plan(&evidence);
    watch::blocks(stack, &plan.blocks, now);
    let is_begun = epoch.as_ref().is_some_and(EpochSeen::is_open) || is_anybody_arriving(&evidence);
    if !execution::is_worth_one(&plan, is_begun) {
        let outcome = answer::to_plan(stack, plan, Reader::Person { started: None });
        if let (OutcomeKind::Converged, Some(open)) = (outcome.outcome, epoch.filter(EpochSeen::is_open)) {
            // Its execution died after the last step. A change in between leaves it open for the next look.
            sources.ledger.end_epoch(stack, &open, now).await?;
        }
        return Ok(outcome);
    }
    let execution = start::start(&sources.ledger, machine, stack, epoch, now).await?;
    tracing::info!(%stack, execution, "execution started");
    Ok(answer::to_plan(stack, plan, Reader::Person { started: Some(execution) }))
}
