//! What an execution of the state machine can do with a plan: go on, wait, or leave the rest to the schedule.

use crate::plan::{Block, BlockCode, OutcomeKind, Plan, Step};
use crate::work::{DeliveryAction, WorkItem};

/// The longest time an execution waits, in seconds. Beyond it the execution ends, and the schedule takes the stack up
/// again: a hint is left to a running execution, so none may sleep for long.
pub const LONGEST_WAIT_S: u32 = 30;

/// Items in one pass. Each is about nine events of the execution's history, which may have 25,000 in 200 passes; the
/// next pass takes the next ones.
pub const ITEMS: usize = 10;

/// Sightings in one pass, which the state machine carries back to us in at most 256 KB (about 400 bytes each).
pub const SIGHTINGS: usize = 300;

/// What a plan comes to. A wait that outlasts an execution does not hide a block behind it.
pub fn outcome(plan: &Plan<WorkItem>) -> OutcomeKind {
    if !plan.steps.is_empty() {
        OutcomeKind::Work
    } else if waits_shortly(plan) {
        OutcomeKind::Pending
    } else if !plan.blocks.is_empty() {
        OutcomeKind::Blocked
    } else if !plan.waits.is_empty() {
        OutcomeKind::Pending
    } else {
        OutcomeKind::Converged
    }
}

/// The plan after work of the last pass was blocked: what needs the authority's key is not handed out again in this
/// execution but told, unless there is something else to do before. The schedule's next execution tries again.
#[must_use]
pub fn held(mut plan: Plan<WorkItem>, blocks: Vec<Block>) -> Plan<WorkItem> {
    if blocks.is_empty() {
        return plan;
    }
    // Nobody dials where there is no prober, so nothing more is installed that nobody would prove.
    let is_unprobed = blocks.iter().any(|block| block.code == BlockCode::Unverifiable);
    // Roots in the spec that are none: no handshake can be judged.
    let is_untrusting = blocks.iter().any(|block| block.code == BlockCode::SpecInvalid);
    let is_unsigned = blocks.iter().any(|block| block.code != BlockCode::Unverifiable);
    plan.steps.retain(|step| match &step.action {
        WorkItem::Authority(_) | WorkItem::Mint(_) => !is_unsigned,
        WorkItem::Verify(_) => !is_untrusting && !is_unprobed,
        WorkItem::Deliver(item) => !is_unprobed || item.action == DeliveryAction::Confirm,
        WorkItem::Export(_) | WorkItem::Membership(_) => true,
    });
    plan.blocks.extend(blocks);
    plan
}

/// Whether there is anything for an execution to do: a step; or, in a rotation that was begun and whose execution is
/// gone, something that is on its way now and that nobody would look after until the next sweep.
pub fn is_worth_one(plan: &Plan<WorkItem>, is_begun: bool) -> bool {
    !plan.steps.is_empty() || (waits_shortly(plan) && is_begun)
}

/// The first steps, as many as one pass carries there and back; at least one.
pub fn carried_by_a_pass(steps: Vec<Step<WorkItem>>) -> Vec<Step<WorkItem>> {
    let mut sightings = 0;
    let fits = |(index, step): &(usize, Step<WorkItem>)| {
        sightings += sightings_of(&step.action);
        *index < ITEMS && (*index == 0 || sightings <= SIGHTINGS)
    };
    steps.into_iter().enumerate().take_while(fits).map(|(_, step)| step).collect()
}

fn sightings_of(item: &WorkItem) -> usize {
    match item {
        WorkItem::Authority(_)
        | WorkItem::Mint(_)
        | WorkItem::Export(_)
        | WorkItem::Deliver(_)
        | WorkItem::Membership(_) => 0,
        WorkItem::Verify(item) => {
            let samples = item.through.as_ref().map_or(0, |through| through.samples);
            item.targets.len() + usize::try_from(samples).unwrap_or(usize::MAX)
        }
    }
}

fn waits_shortly(plan: &Plan<WorkItem>) -> bool {
    plan.retry_after_s().is_some_and(|wait| wait <= LONGEST_WAIT_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{AuthorityItem, DeliverItem, MembershipItem};

    #[test]
    fn what_was_blocked_ends_the_execution_and_names_why() {
        let item = AuthorityItem { because: "the stack has no leaf yet".into() };
        let mut plan = Plan::default();
        plan.step(WorkItem::Authority(item), "the stack has no leaf yet");
        assert_eq!(outcome(&held(plan.clone(), Vec::new())), OutcomeKind::Work);
        let block = Block { code: BlockCode::AuthorityUnusable, because: "allow it".into() };
        let blocked = held(plan.clone(), vec![block.clone()]);
        assert_eq!((outcome(&blocked), blocked.blocks), (OutcomeKind::Blocked, vec![block.clone()]));
        let (stack, targets) = (stack(), vec![target()]);
        plan.step(WorkItem::Membership(MembershipItem { stack, targets }), "proven");
        assert_eq!(outcome(&held(plan, vec![block])), OutcomeKind::Work, "the rest goes on");
    }

    /// A canary's turn is nobody else's: with its parameter taken the rotation halts and says so. In a wave the others go on.
    #[test]
    fn a_leaf_whose_parameter_is_somebody_elses_ends_the_execution_once_nobody_else_is_to_be_given_theirs() {
        let block = Block { code: BlockCode::Foreign, because: "the parameter is not one of ours".into() };
        let mut plan = Plan::default();
        plan.step(own_leaf(), "canary, 0 of 1 proven");
        let halted = held(plan.clone(), vec![block.clone()]);
        assert_eq!((outcome(&halted), halted.blocks), (OutcomeKind::Blocked, vec![block.clone()]));
        plan.step(deliver(DeliveryAction::Install), "wave, 1 of 9 proven");
        let going_on = held(plan, vec![block]);
        assert!(
            matches!(going_on.steps.as_slice(), [step] if matches!(step.action, WorkItem::Deliver(_))),
            "{going_on:?}"
        );
    }

    #[test]
    fn roots_that_are_none_judge_nothing_in_this_execution() {
        let mut plan = Plan::default();
        plan.step(verify(), "it is only looked at");
        let of = |code| outcome(&held(plan.clone(), vec![Block { code, because: "no root".into() }]));
        assert_eq!(of(BlockCode::SpecInvalid), OutcomeKind::Blocked);
        assert_eq!(of(BlockCode::AuthorityUnusable), OutcomeKind::Work, "somebody else's trouble");
    }

    #[test]
    fn without_a_prober_nobody_is_dialled_nothing_installed_and_what_was_seen_is_confirmed() {
        let block = Block { code: BlockCode::Unverifiable, because: "the prober east does not exist".into() };
        let mut plan = Plan::default();
        plan.step(verify(), "it is due");
        plan.step(deliver(DeliveryAction::Install), "it is next");
        let blocked = held(plan.clone(), vec![block.clone()]);
        assert_eq!((outcome(&blocked), blocked.blocks), (OutcomeKind::Blocked, vec![block.clone()]));
        plan.step(deliver(DeliveryAction::Confirm), "it was seen");
        plan.step(WorkItem::Authority(AuthorityItem { because: "there is none".into() }), "there is none");
        let left: Vec<WorkItem> = held(plan, vec![block]).steps.into_iter().map(|step| step.action).collect();
        assert!(
            matches!(left.as_slice(), [WorkItem::Deliver(item), WorkItem::Authority(_)]
                if item.action == DeliveryAction::Confirm),
            "{left:?}"
        );
    }

    fn own_leaf() -> WorkItem {
        WorkItem::Mint(crate::work::MintItem {
            stack: stack(),
            scope: crate::id::Scope::target(),
            generation: crate::id::Generation(2),
            nodes: crate::id::NodeId::of(&target()).into_iter().collect(),
            requests: Vec::new(),
            follows: None,
            because: "canary, 0 of 1 proven".into(),
        })
    }

    fn deliver(action: DeliveryAction) -> WorkItem {
        WorkItem::Deliver(DeliverItem::sample(action, 1))
    }

    fn stack() -> crate::id::StackName {
        crate::id::StackName::parse("payments").unwrap()
    }

    fn target() -> crate::id::TargetId {
        crate::id::TargetId::parse("i-0123abcd").unwrap()
    }

    fn verify() -> WorkItem {
        WorkItem::Verify(crate::work::VerifyItem {
            stack: stack(),
            server_name: crate::id::HostName::parse("pay.example.com").unwrap(),
            trust: "no root".into(),
            targets: Vec::new(),
            through: None,
            resolver: None,
            others: Some(crate::work::OthersItem::default()),
            prober: None,
        })
    }

    #[test]
    fn an_execution_is_started_for_steps_and_for_what_a_dead_one_left_behind() {
        let mut plan = Plan::default();
        assert!(!is_worth_one(&plan, true));
        plan.wait("another try", LONGEST_WAIT_S + 1);
        assert!(!is_worth_one(&plan, true));
        plan.wait("a command", 2);
        assert!(is_worth_one(&plan, true));
        assert!(!is_worth_one(&plan, false));
    }
}
