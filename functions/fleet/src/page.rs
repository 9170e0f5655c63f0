//! The fleet, and one stack, as HTML for a dashboard. Every value is escaped: reasons quote servers, and servers say what
//! they like.

use espalier_domain::plan::Block;
use espalier_domain::rotation::status::{Progress, Status, TargetStatus};
use espalier_domain::spoken::{ago, count, ends, span};
use maud::{Markup, PreEscaped, html};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::question::Theme;

/// For the editor of the dashboard.
pub(crate) const DESCRIPTION: &str = "\
## Espalier: the fleet\n\
Every stack with what is issued, what its targets serve, until when, and how much slack is left. It changes nothing.\n\n\
``` yaml\n\
# One stack with its targets; without it, all stacks.\n\
stack: payments\n\
```\n";

const STYLE: &str = include_str!("page.css");

/// A stack and what could be learnt of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stack {
    pub(crate) name: String,
    /// Else why there is no answer.
    pub(crate) found: Result<Known, String>,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) blocks: Vec<Block>,
    /// Absent while there is nothing to tell of: the spec cannot be used, or the stack is to be absent.
    pub(crate) status: Option<Status>,
}

/// Who looks, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) now: OffsetDateTime,
    pub(crate) theme: Theme,
    /// Where a click asks for more: this function's ARN.
    pub(crate) endpoint: &'a str,
}

/// How a stack fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Rotating,
    Attention,
}

/// Every stack.
pub(crate) fn fleet(stacks: &[Stack], view: &View<'_>) -> String {
    let statuses: Vec<&Status> = stacks.iter().filter_map(Stack::status).collect();
    let targets = || statuses.iter().flat_map(|status| &status.targets);
    let served: usize = statuses.iter().map(|status| status.current()).sum();
    let least = targets().filter_map(|target| target.slack_s).min();
    let attention = stacks.iter().filter(|stack| stack.state(view.now) == State::Attention).count();
    framed(
        view,
        &html! {
            div class="tiles" {
                (tile("stacks", &stacks.len().to_string(), State::Good))
                (tile("targets on the newest", &format!("{served} of {}", targets().count()), State::Good))
                (tile("least slack", &or_dash(least.map(seconds)), judged(least.is_some_and(|least| least <= 0))))
                (tile("need somebody", &attention.to_string(), judged(attention > 0)))
            }
            @if stacks.is_empty() {
                p { "No stack has a spec yet." }
            } @else {
                table {
                    thead { tr { th {} th { "stack" } th { "leaf" } th { "life" } th { "served" } th { "least slack" } th { "goes on" } } }
                    tbody { @for stack in stacks { (line(stack, view)) } }
                }
            }
        },
    )
}

/// One stack with its targets.
pub(crate) fn stack(stack: &Stack, view: &View<'_>) -> String {
    framed(
        view,
        &html! {
            p { (link("all stacks", &json!({}), view)) }
            h2 { (badge(stack.state(view.now))) (stack.name) }
            @match &stack.found {
                Err(problem) => p class="attention" { (problem) },
                Ok(known) => {
                    (blocks(&known.blocks))
                    @if let Some(status) = &known.status { (details(status, view.now)) }
                }
            }
        },
    )
}

fn line(stack: &Stack, view: &View<'_>) -> Markup {
    let name = link(&stack.name, &json!({ "stack": stack.name }), view);
    let blocked = stack.found.as_ref().map(|known| known.blocks.as_slice()).unwrap_or_default();
    html! {
        tr {
            td { (badge(stack.state(view.now))) }
            td { (name) }
            @if let Some(status) = stack.status() {
                td { (leaf(status)) }
                td { (life(status, view.now)) }
                td { (served(status)) }
                td class="short" { (or_dash(status.targets.iter().filter_map(|target| target.slack_s).min().map(seconds))) }
                td {
                    @if let Some(rotation) = &status.rotation { (progress(rotation, view.now)) }
                    @for block in blocked { div class="attention" { (block) } }
                }
            } @else {
                td colspan="5" class="attention" { (unanswered(stack)) }
            }
        }
    }
}

fn unanswered(stack: &Stack) -> String {
    match &stack.found {
        Err(problem) => problem.clone(),
        Ok(known) if known.blocks.is_empty() => "to be absent".to_owned(),
        Ok(known) => known.blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

fn details(status: &Status, now: OffsetDateTime) -> Markup {
    html! {
        dl {
            dt { "leaf" }
            dd {
                (leaf(status))
                @if let Some(leaf) = &status.leaf { ", " (ends(leaf.not_after, now)) " (" (leaf.because) ")" }
            }
            @if let Some(leaf) = &status.leaf { dt { "stored" } dd { (leaf.parameter) } }
            dt { "life" } dd { (life(status, now)) }
            dt { "served" } dd { (served(status)) }
            @if let Some(rotation) = &status.rotation { dt { "rotation" } dd { (progress(rotation, now)) } }
            @if let Some(through) = status.through_told(now) { dt { "through the service" } dd { (through) } }
        }
        @if status.targets.is_empty() {
            p { "The spec selects no instance." }
        } @else {
            table {
                thead { tr { @for column in TargetStatus::COLUMNS { th { (column) } } } }
                tbody { @for one in &status.targets { (target(one, now)) } }
            }
        }
    }
}

fn target(target: &TargetStatus, now: OffsetDateTime) -> Markup {
    html! {
        tr class=[needs_somebody(target, now).then_some("attention")] {
            @for cell in target.cells(now) { td { (cell) } }
        }
    }
}

fn leaf(status: &Status) -> Markup {
    html! {
        @if let Some(leaf) = &status.leaf {
            "generation " (leaf.generation) " for " (leaf.dns_names.join(", "))
            @if leaf.each { ", one for each target" }
        } @else if let Some(others) = &status.others {
            (others)
        } @else {
            "nothing issued yet"
        }
    }
}

/// How much of its life the newest leaf has before it.
fn life(status: &Status, now: OffsetDateTime) -> Markup {
    let Some(leaf) = &status.leaf else { return html! { "-" } };
    let whole = (leaf.not_after - leaf.minted_at).whole_seconds().max(1);
    let left = (leaf.not_after - now).whole_seconds().clamp(0, whole);
    html! { (bar(left, whole)) " " (ends(leaf.not_after, now)) }
}

fn served(status: &Status) -> Markup {
    let current = status.current();
    let (some, all) =
        (i64::try_from(current).unwrap_or(i64::MAX), i64::try_from(status.targets.len()).unwrap_or(i64::MAX));
    html! { (bar(some, all.max(1))) " " (current) " of " (count(status.targets.len(), "target")) }
}

fn bar(some: i64, whole: i64) -> Markup {
    html! { span class="bar" { span style=(format!("width:{}%", some.saturating_mul(100) / whole)) {} } }
}

fn progress(rotation: &Progress, now: OffsetDateTime) -> Markup {
    html! {
        "rotation " (rotation.epoch)
        @match rotation.ended_at {
            Some(at) => { " ended " (ago(at, now)) }
            None => {
                " since " (span(now - rotation.begun_at))
                @if let Some(advance) = &rotation.advance { ": " (advance.told()) }
            }
        }
    }
}

fn blocks(blocks: &[Block]) -> Markup {
    html! { @for block in blocks { p class="attention" { (block) } } }
}

fn tile(label: &str, value: &str, state: State) -> Markup {
    html! { div class=(format!("tile {}", state.class())) { strong { (value) } span { (label) } } }
}

fn badge(state: State) -> Markup {
    html! { span class=(format!("badge {}", state.class())) title=(state.word()) {} }
}

/// What CloudWatch makes of the element before a `cwdb-action`: something that asks this function when it is clicked.
fn link(text: &str, question: &serde_json::Value, view: &View<'_>) -> Markup {
    html! {
        a { (text) }
        cwdb-action action="call" display="widget" endpoint=(view.endpoint) { (question.to_string()) }
    }
}

fn framed(view: &View<'_>, content: &Markup) -> String {
    let theme = match view.theme {
        Theme::Light => "light",
        Theme::Dark => "dark",
    };
    html! { style { (PreEscaped(STYLE)) } div class=(format!("espalier {theme}")) { (content) } }.into_string()
}

impl Stack {
    fn status(&self) -> Option<&Status> {
        self.found.as_ref().ok().and_then(|known| known.status.as_ref())
    }

    fn state(&self, now: OffsetDateTime) -> State {
        let Ok(known) = &self.found else { return State::Attention };
        let Some(status) = &known.status else { return judged(!known.blocks.is_empty()) };
        if !known.blocks.is_empty() || status.targets.iter().any(|target| needs_somebody(target, now)) {
            return State::Attention;
        }
        let rotating = status.rotation.as_ref().is_some_and(|rotation| rotation.ended_at.is_none());
        if rotating { State::Rotating } else { State::Good }
    }
}

impl State {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Rotating => "rotating",
            Self::Attention => "attention",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Good => "as it should be",
            Self::Rotating => "a rotation is in progress",
            Self::Attention => "somebody is needed",
        }
    }
}

/// Whether something is wrong with it, or soon will be, that is not being put right.
fn needs_somebody(target: &TargetStatus, now: OffsetDateTime) -> bool {
    !target.faults.is_empty()
        || target.slack_s.is_some_and(|slack_s| slack_s <= 0)
        || target.ends_at.is_some_and(|ends_at| ends_at <= now)
}

fn judged(bad: bool) -> State {
    if bad { State::Attention } else { State::Good }
}

fn seconds(seconds: i64) -> String {
    span(Duration::seconds(seconds))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}
