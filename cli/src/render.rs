//! Answers as text for a terminal.

use std::path::Path;

use comfy_table::{Table, presets};
use espalier_domain::id::StackName;
use espalier_domain::plan::{Outcome, OutcomeKind};
use espalier_domain::rotation::status::{Leaf, Progress, Status, TargetStatus};
use espalier_domain::spoken::{ago, count, ends, span};
use time::{Duration, OffsetDateTime};

use crate::answer::Answer;

/// Text without what a terminal would obey: reasons quote servers, and servers say what they like.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|one| *one == '\n' || !one.is_control()).collect()
}

/// A file's mistakes, or that it has none.
pub(crate) fn mistakes(path: &Path, mistakes: &[String]) -> String {
    if mistakes.is_empty() {
        return format!("{}: valid\n", path.display());
    }
    let lines: Vec<String> = mistakes.iter().map(|mistake| format!("  {mistake}\n")).collect();
    format!("{}: {}\n{}", path.display(), count(mistakes.len(), "mistake"), lines.concat())
}

/// What one function would do.
pub(crate) fn plan(function: &str, answer: &Answer) -> String {
    let mut text = format!("{function}: {}", outcome(&answer.outcome));
    if let Some(slack_s) = answer.forecast.as_ref().and_then(|forecast| forecast.min_slack_s) {
        text.push_str(&format!("  the least slack of all targets is {}\n", span(Duration::seconds(slack_s))));
    }
    text
}

/// An outcome with its steps and blocks.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    let word = match outcome.outcome {
        OutcomeKind::Converged => "nothing to do",
        OutcomeKind::Pending if outcome.steps.is_empty() => "something is on its way",
        OutcomeKind::Pending | OutcomeKind::Work => "there is something to do",
        OutcomeKind::Blocked => "somebody is needed",
    };
    let mut text = format!("{word}\n");
    for step in &outcome.steps {
        text.push_str(&format!("  {}  ({})\n", step.action, step.because));
    }
    for block in &outcome.blocks {
        text.push_str(&format!("  ! {block}\n"));
    }
    text
}

/// Where the authorities stand, with what was done or would be.
pub(crate) fn authorities(answer: &Answer) -> String {
    let mut text = outcome(&answer.outcome);
    for wait in &answer.outcome.waits {
        text.push_str(&format!("  ... {wait}\n"));
    }
    for one in &answer.authorities {
        let missing =
            if one.missing.is_empty() { String::new() } else { format!(", not by {}", one.missing.join(", ")) };
        let tainted = if one.tainted { ", declared unsafe" } else { "" };
        text.push_str(&format!(
            "{}  {}{tainted}{missing}, ends on {}\n",
            one.authority,
            one.phase,
            one.not_after.date()
        ));
    }
    if let Some(bundle) = &answer.bundle {
        text.push_str(&format!("/espalier-trust/bundle has SHA-256 {bundle}\n"));
    }
    text
}

/// A stack at a glance.
pub(crate) fn status(stack: &StackName, answer: &Answer, now: OffsetDateTime) -> String {
    let Some(status) = &answer.status else { return format!("{stack}: {}", outcome(&answer.outcome)) };
    let mut text = format!("{stack}\n");
    for line in header(status, now) {
        text.push_str(&format!("  {line}\n"));
    }
    for block in &answer.outcome.blocks {
        text.push_str(&format!("  ! {block}\n"));
    }
    if status.targets.is_empty() {
        text.push_str("  the spec selects no instance\n");
    } else {
        text.push_str(&table(&status.targets, now));
    }
    text
}

fn header(status: &Status, now: OffsetDateTime) -> Vec<String> {
    let none = || status.others.clone().unwrap_or_else(|| "nothing issued yet".to_owned());
    let issued = status.leaf.as_ref().map_or_else(none, |leaf| issued(leaf, now));
    let rotation = status.rotation.as_ref().map(|rotation| progress(rotation, status, now));
    let through = status.through_told(now).map(|told| format!("through the service {told}"));
    let emergency = status.emergency.as_ref().map(|emergency| {
        let (number, caller, reason) = (emergency.through, &emergency.caller, &emergency.reason);
        format!("EMERGENCY: {caller} declared generation {number} unsafe {}: {reason}", ago(emergency.at, now))
    });
    [Some(issued), emergency, rotation, through].into_iter().flatten().collect()
}

fn issued(leaf: &Leaf, now: OffsetDateTime) -> String {
    let (number, names) = (leaf.generation, leaf.dns_names.join(", "));
    let each = if leaf.each { ", one for each target" } else { "" };
    format!("generation {number} for {names}{each}, {} ({})", ends(leaf.not_after, now), leaf.because)
}

fn progress(rotation: &Progress, status: &Status, now: OffsetDateTime) -> String {
    let done = status.current();
    match rotation.ended_at {
        Some(at) => format!("rotation {} ended {}", rotation.epoch, ago(at, now)),
        None => format!(
            "rotation {} in progress since {}: {done} of {}{}",
            rotation.epoch,
            span(now - rotation.begun_at),
            count(status.targets.len(), "target"),
            rotation.advance.as_ref().map(|advance| format!(" ({})", advance.told())).unwrap_or_default()
        ),
    }
}

fn table(targets: &[TargetStatus], now: OffsetDateTime) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(TargetStatus::COLUMNS);
    for target in targets {
        table.add_row(target.cells(now));
    }
    table.lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}

/// Whether there is as much slack as was asked for.
pub(crate) fn check(stack: &StackName, answer: &Answer, min_slack: u32) -> String {
    if answer.outcome.blocks.is_empty() {
        let least = answer.forecast.as_ref().and_then(|forecast| forecast.min_slack_s);
        let least = least.map(|seconds| format!(": {}", span(Duration::seconds(seconds)))).unwrap_or_default();
        return format!("{stack}: at least {} of slack{least}\n", count(min_slack as usize, "day"));
    }
    let lines: Vec<String> = answer.outcome.blocks.iter().map(|block| format!("{stack}: {block}\n")).collect();
    lines.concat()
}

/// What is wrong with a stack, and what no API shows.
pub(crate) fn diagnosis(answer: &Answer) -> String {
    let mut text = String::new();
    for block in &answer.outcome.blocks {
        text.push_str(&format!("! {block}\n"));
    }
    for finding in &answer.findings {
        text.push_str(&format!("{}: {}\n  {}\n", finding.pitfall, finding.problem, finding.remedy));
    }
    if text.is_empty() {
        text.push_str("nothing was found\n");
    }
    if !answer.notes.is_empty() {
        text.push_str("\nnot to be seen from here:\n");
    }
    for note in &answer.notes {
        text.push_str(&format!("  {note}\n"));
    }
    text
}
