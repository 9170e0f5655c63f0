//! Plans as text: for `mode: plan`, for logs and for the golden files.

use std::fmt::Write as _;

use crate::plan::Plan;
use crate::work::{DeliveryAction, WorkItem};

/// How many instances a line names before it only counts them.
const NAMED: usize = 5;

/// A plan, one line per step, wait and block; `converged` when there is none.
pub fn render(plan: &Plan<WorkItem>) -> String {
    if plan.is_converged() {
        return "converged\n".into();
    }
    let mut text = String::new();
    let mut line = |parts: std::fmt::Arguments<'_>| writeln!(text, "{parts}").expect("writing to a string cannot fail");
    for step in &plan.steps {
        line(format_args!("{} ({})", action(&step.action), step.because));
    }
    for wait in &plan.waits {
        line(format_args!(". {} ({} s)", wait.on, wait.retry_after_s));
    }
    for block in &plan.blocks {
        line(format_args!("! {block}"));
    }
    text
}

/// A step without its reason, for example `> Install generation 2 on i-0aaaaaaa`.
pub fn action(item: &WorkItem) -> String {
    match item {
        WorkItem::Authority(_) => "+ Authority".to_owned(),
        WorkItem::Mint(mint) if mint.nodes.is_empty() => format!("+ Leaf generation {}", mint.generation),
        WorkItem::Mint(mint) => {
            format!(
                "+ Leaf generation {} for {}",
                mint.generation,
                list(mint.nodes.iter().map(crate::id::NodeId::as_str))
            )
        }
        WorkItem::Export(export) => format!("+ Leaf generation {} from ACM", export.generation),
        WorkItem::Deliver(deliver) => {
            let verb = match deliver.action {
                DeliveryAction::Install => "Install",
                DeliveryAction::Confirm => "Confirm",
                DeliveryAction::Prepare => "Prepare",
            };
            let attempt = if deliver.attempt > 1 { format!(", attempt {}", deliver.attempt) } else { String::new() };
            let targets = list(deliver.targets.iter().map(crate::id::TargetId::as_str));
            let confirm = match deliver.confirm_s {
                0 => String::new(),
                seconds => format!(", to be confirmed within {seconds} s"),
            };
            format!("> {verb} generation {} on {targets}{attempt}{confirm}", deliver.generation)
        }
        WorkItem::Verify(verify) => {
            let targets = list(verify.targets.iter().map(|target| target.target.as_str()));
            let through = match &verify.through {
                None => String::new(),
                Some(through) => format!(" and {} connections through {}", through.samples, verify.server_name),
            };
            let by = verify.prober.as_ref().map_or_else(String::new, |name| format!(", by the prober {name}"));
            format!("? Verify {targets}{through}{by}")
        }
        WorkItem::Membership(item) => {
            format!("= Membership of {}", list(item.targets.iter().map(crate::id::TargetId::as_str)))
        }
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.get(..NAMED) {
        Some(first) if names.len() > NAMED => format!("{} and {} more", first.join(", "), names.len() - NAMED),
        _ => names.join(", "),
    }
}
