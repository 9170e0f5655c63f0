//! From a plan to an answer: four words, and no more work than a pass can carry.

use espalier_domain::id::StackName;
use espalier_domain::plan::{Block, OutcomeKind, Plan, ReportedStep, Step};
use espalier_domain::rotation::execution::{self, LONGEST_WAIT_S};
use espalier_domain::rotation::render::action;
use espalier_domain::work::{RotateOutcome, WorkItem};

/// Blocks in one answer; the rest is counted.
const BLOCKS: usize = 20;

/// How long to wait, in seconds, before work that failed is handed out again. The functions have retried it themselves.
const FAILED_RETRY_S: u32 = 5;

/// How long to wait when something has changed while we looked, in seconds.
const CHANGED_RETRY_S: u32 = 1;

/// Who reads the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The state machine, at this pass; whether any of the last pass's work failed.
    Machine { wave: u32, failed: bool },
    /// A person or a log; the execution that does it, if one was started.
    Person { started: Option<String> },
}

/// The answer to a plan.
pub(crate) fn to_plan(stack: &StackName, plan: Plan<WorkItem>, reader: Reader) -> RotateOutcome {
    let retry_after_s = plan.retry_after_s();
    let kind = execution::outcome(&plan);
    let outcome = RotateOutcome { retry_after_s, blocks: first_blocks(plan.blocks), ..empty(stack, kind) };
    match reader {
        // What failed would fail again at once; a pause is what the state machine cannot decide upon by itself.
        Reader::Machine { failed: true, .. } if kind == OutcomeKind::Work => {
            let retry_after_s = Some(retry_after_s.map_or(FAILED_RETRY_S, |wait| wait.clamp(1, FAILED_RETRY_S)));
            RotateOutcome { outcome: OutcomeKind::Pending, retry_after_s, ..outcome }
        }
        Reader::Machine { wave, failed: _ } => {
            let steps = execution::carried_by_a_pass(plan.steps);
            let reported = steps.iter().map(|step| reported(wave, step)).collect();
            // Without a time to wait the state machine ends.
            let retry_after_s = retry_after_s.filter(|wait| *wait <= LONGEST_WAIT_S).map(|wait| wait.max(1));
            let work = steps.into_iter().map(|step| step.action).collect();
            RotateOutcome { steps: reported, work, retry_after_s, ..outcome }
        }
        Reader::Person { started } => {
            let mut steps: Vec<ReportedStep> = started.iter().map(|name| started_step(name)).collect();
            steps.extend(plan.steps.iter().map(|step| reported(1, step)));
            RotateOutcome { steps, ..outcome }
        }
    }
}

/// There is nothing to rotate.
pub(crate) fn nothing(stack: &StackName) -> RotateOutcome {
    empty(stack, OutcomeKind::Converged)
}

/// No plan can be made.
pub(crate) fn blocked(stack: &StackName, block: Block) -> RotateOutcome {
    RotateOutcome { blocks: vec![block], ..empty(stack, OutcomeKind::Blocked) }
}

/// Another look is due before this can be called converged.
pub(crate) fn once_more(stack: &StackName) -> RotateOutcome {
    RotateOutcome { retry_after_s: Some(CHANGED_RETRY_S), ..empty(stack, OutcomeKind::Pending) }
}

/// A running execution has taken the hint over.
pub(crate) fn carried(stack: &StackName, execution: &str) -> RotateOutcome {
    let because = "it carries this stack's rotation and will look again before it ends".to_owned();
    let step = ReportedStep { wave: 1, action: format!("hand over to execution {execution}"), because };
    RotateOutcome { retry_after_s: Some(LONGEST_WAIT_S), steps: vec![step], ..empty(stack, OutcomeKind::Pending) }
}

/// One answer about several stacks: the word that asks for most, all steps and all blocks.
pub(crate) fn together(outcomes: Vec<RotateOutcome>) -> RotateOutcome {
    let weight = |kind| match kind {
        OutcomeKind::Converged => 0,
        OutcomeKind::Pending => 1,
        OutcomeKind::Work => 2,
        OutcomeKind::Blocked => 3,
    };
    let several = outcomes.len() > 1;
    let mut whole = RotateOutcome::bare(OutcomeKind::Converged, None);
    for one in outcomes {
        if weight(one.outcome) > weight(whole.outcome) {
            whole.outcome = one.outcome;
        }
        let name = one.stack.clone().unwrap_or_default();
        if !several {
            whole.stack = one.stack;
        }
        whole.retry_after_s = [whole.retry_after_s, one.retry_after_s].into_iter().flatten().min();
        whole.steps.extend(one.steps.into_iter().map(|step| {
            let action = if several { format!("{name}: {}", step.action) } else { step.action };
            ReportedStep { action, ..step }
        }));
        whole.blocks.extend(one.blocks);
    }
    whole
}

pub(crate) fn empty(stack: &StackName, outcome: OutcomeKind) -> RotateOutcome {
    RotateOutcome::bare(outcome, Some(stack.to_string()))
}

fn first_blocks(mut blocks: Vec<Block>) -> Vec<Block> {
    let more = blocks.len().saturating_sub(BLOCKS);
    blocks.truncate(BLOCKS);
    if let (Some(last), true) = (blocks.last_mut(), more > 0) {
        last.because = format!("{} (and {more} more)", last.because);
    }
    blocks
}

fn started_step(name: &str) -> ReportedStep {
    let because = "there is something to do and no execution carries it".to_owned();
    ReportedStep { wave: 1, action: format!("start execution {name}"), because }
}

fn reported(wave: u32, step: &Step<WorkItem>) -> ReportedStep {
    ReportedStep { wave, action: action(&step.action), because: step.because.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::id::{Generation, Scope, TargetId};
    use espalier_domain::plan::BlockCode;
    use espalier_domain::rotation::execution::{ITEMS, SIGHTINGS};
    use espalier_domain::work::{MintItem, VerifyItem, VerifyTarget};

    const MACHINE: Reader = Reader::Machine { wave: 7, failed: false };

    fn stack() -> StackName {
        StackName::parse("payments").unwrap()
    }

    fn mint() -> WorkItem {
        WorkItem::Mint(MintItem {
            stack: stack(),
            scope: Scope::shared(),
            generation: Generation(2),
            nodes: Vec::new(),
            requests: Vec::new(),
            follows: None,
            because: "the ACM certificate was renewed".into(),
        })
    }

    fn verify(targets: usize) -> WorkItem {
        let target = VerifyTarget {
            target: TargetId::parse("i-0000000000000000a").unwrap(),
            address: "10.0.0.7:443".parse().unwrap(),
            generation: Generation(2),
            fingerprint: "ab".repeat(32),
        };
        WorkItem::Verify(VerifyItem {
            stack: stack(),
            server_name: espalier_domain::id::HostName::parse("pay.example.com").unwrap(),
            trust: String::new(),
            targets: vec![target; targets],
            through: None,
            resolver: None,
            others: None,
            prober: None,
        })
    }

    fn plan_of(items: Vec<WorkItem>) -> Plan<WorkItem> {
        let mut plan = Plan::default();
        for item in items {
            plan.step(item, "because");
        }
        plan
    }

    #[test]
    fn the_word_is_the_most_that_can_be_done() {
        let word = |plan| to_plan(&stack(), plan, MACHINE).outcome;
        assert_eq!(word(Plan::default()), OutcomeKind::Converged);
        let mut plan = Plan::default();
        plan.block(BlockCode::Halted, "two failed");
        assert_eq!(word(plan.clone()), OutcomeKind::Blocked);
        plan.wait("another try", LONGEST_WAIT_S + 1);
        assert_eq!(word(plan.clone()), OutcomeKind::Blocked);
        plan.wait("a command", 2);
        assert_eq!(word(plan.clone()), OutcomeKind::Pending);
        plan.step(mint(), "due");
        assert_eq!(word(plan), OutcomeKind::Work);
    }

    #[test]
    fn a_wait_is_at_least_a_second_and_a_long_one_ends_the_execution() {
        let wait = |seconds| {
            let mut plan = Plan::default();
            plan.wait("something", seconds);
            to_plan(&stack(), plan, MACHINE)
        };
        assert_eq!((wait(0).outcome, wait(0).retry_after_s), (OutcomeKind::Pending, Some(1)));
        assert_eq!(wait(LONGEST_WAIT_S).retry_after_s, Some(LONGEST_WAIT_S));
        let long = wait(LONGEST_WAIT_S + 1);
        assert_eq!((long.outcome, long.retry_after_s), (OutcomeKind::Pending, None));
    }

    #[test]
    fn a_pass_carries_no_more_than_fits() {
        let items = |plan| to_plan(&stack(), plan, MACHINE).work.len();
        assert_eq!(items(plan_of(vec![mint(); 50])), ITEMS);
        assert_eq!(items(plan_of(vec![verify(50); 10])), SIGHTINGS / 50);
        assert_eq!(items(plan_of(vec![verify(SIGHTINGS + 1), mint()])), 1);
    }

    #[test]
    fn a_person_gets_no_work_and_sees_the_execution() {
        let started = Reader::Person { started: Some("payments-3-1".into()) };
        let outcome = to_plan(&stack(), plan_of(vec![mint()]), started);
        assert!(outcome.work.is_empty());
        let actions: Vec<&str> = outcome.steps.iter().map(|step| step.action.as_str()).collect();
        assert_eq!(actions, ["start execution payments-3-1", "+ Leaf generation 2"]);
    }

    #[test]
    fn work_that_failed_pauses() {
        let failed = Reader::Machine { wave: 7, failed: true };
        let outcome = to_plan(&stack(), plan_of(vec![mint()]), failed.clone());
        assert_eq!((outcome.outcome, outcome.retry_after_s), (OutcomeKind::Pending, Some(FAILED_RETRY_S)));
        assert!(outcome.work.is_empty());
        assert_eq!(to_plan(&stack(), Plan::default(), failed).outcome, OutcomeKind::Converged);
    }

    #[test]
    fn several_stacks_make_one_answer() {
        let mut blocks = Plan::default();
        for n in 0..25 {
            blocks.block(BlockCode::NotOptedIn, format!("instance {n}"));
        }
        let person = || Reader::Person { started: None };
        let blocked = to_plan(&stack(), blocks, person());
        assert_eq!(blocked.blocks.len(), BLOCKS);
        assert_eq!(blocked.blocks[BLOCKS - 1].because, "instance 19 (and 5 more)");
        let busy = to_plan(&stack(), plan_of(vec![mint()]), person());
        let both = together(vec![busy.clone(), blocked]);
        assert_eq!((both.outcome, both.stack), (OutcomeKind::Blocked, None));
        assert_eq!(both.steps[0].action, "payments: + Leaf generation 2");
        assert_eq!(together(vec![busy.clone()]), busy);
        assert_eq!(together(Vec::new()).outcome, OutcomeKind::Converged);
    }
}
