//! What `provision` answers: one outcome, and with a sweep one per stack.

use espalier_aws::bus::Event;
use espalier_domain::acm::request;
use espalier_domain::failure::Word;
use espalier_domain::id::StackName;
use espalier_domain::network::{Action, Finding, Left, PITFALLS, PitfallAnswer, deleted, render};
use espalier_domain::plan::{Block, BlockCode, Outcome, OutcomeKind, Plan, ReportedStep, Step};
use espalier_edge::EdgeError;
use espalier_reconcile::{FailedStep, Report};
use serde::Serialize;

/// The function's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The outcome; of several stacks the one that needs most attention.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The plan as text, with `mode: plan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// What is wrong, with `mode: diagnose`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// What no API shows, with `mode: diagnose`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What went and what stayed, when the stack is to be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teardown: Option<Teardown>,
    /// Each stack's outcome, after a look at several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<Outcome>,
}

/// What went and what stayed of a stack that is to be absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Teardown {
    /// What was deleted since the stack was last wanted, in this run and in earlier ones.
    pub deleted: Vec<String>,
    /// What is not ours and stays.
    pub left: Vec<Left>,
}

/// What came of one stack.
#[derive(Debug, Clone, PartialEq)]
pub struct StackAnswer {
    /// Its outcome.
    pub outcome: Outcome,
    /// The plan as text, with `mode: plan`.
    pub plan: Option<String>,
    /// What is wrong, with `mode: diagnose`.
    pub findings: Option<Vec<Finding>>,
    /// What went and what stayed, when the stack is to be absent.
    pub teardown: Option<Teardown>,
    /// Steps that failed and will fail again.
    pub failures: Vec<FailedStep>,
}

impl Answer {
    /// The answer about one stack, or its lasting failure as an error, so that whoever watches errors hears of it.
    pub(crate) fn one(stack: StackAnswer) -> Result<Self, EdgeError> {
        match failure(std::slice::from_ref(&stack)) {
            Some(error) => Err(error),
            None => {
                let told = PITFALLS.iter().filter(|row| stack.findings.is_some() && row.answer == PitfallAnswer::Told);
                let notes = told.map(|row| format!("{}: {}", row.what, row.how)).collect();
                let findings = stack.findings.unwrap_or_default();
                let StackAnswer { outcome, plan, teardown, .. } = stack;
                Ok(Self { outcome, plan, findings, notes, teardown, stacks: Vec::new() })
            }
        }
    }

    /// The answer about several stacks, or their lasting failures as one error.
    pub(crate) fn several(stacks: Vec<StackAnswer>) -> Result<Self, EdgeError> {
        if let Some(error) = failure(&stacks) {
            return Err(error);
        }
        let stacks: Vec<Outcome> = stacks.into_iter().map(|stack| stack.outcome).collect();
        let has = |kind| stacks.iter().any(|stack| stack.outcome == kind);
        let kind = if has(OutcomeKind::Blocked) {
            OutcomeKind::Blocked
        } else if has(OutcomeKind::Pending) {
            OutcomeKind::Pending
        } else {
            OutcomeKind::Converged
        };
        let retry_after_s = stacks.iter().filter_map(|stack| stack.retry_after_s).min();
        Ok(Self {
            outcome: Outcome { retry_after_s, ..Outcome::bare(kind, None) },
            plan: None,
            findings: Vec::new(),
            notes: Vec::new(),
            teardown: None,
            stacks,
        })
    }
}

impl StackAnswer {
    /// What a run of the loop came to; `teardown` is what its last look saw of one.
    pub(crate) fn of(stack: &StackName, report: Report, teardown: Option<Teardown>) -> Self {
        let outcome = Outcome { stack: Some(stack.to_string()), ..report.outcome };
        let teardown = teardown.map(|seen| Teardown { deleted: with_last(seen.deleted, &outcome), ..seen });
        Self { teardown, failures: report.failures, ..Self::bare(outcome) }
    }

    fn bare(outcome: Outcome) -> Self {
        Self { outcome, plan: None, findings: None, teardown: None, failures: Vec::new() }
    }

    /// What there is to tell: what was changed, and for what a person is needed.
    pub(crate) fn events(&self) -> Vec<Event> {
        let (kind, steps) = (self.outcome.outcome, self.outcome.steps.clone());
        let left = self.teardown.as_ref().map(|teardown| teardown.left.clone()).unwrap_or_default();
        let mut events = Vec::new();
        if !steps.is_empty() {
            events.push(match kind {
                OutcomeKind::Converged => Event::StackConverged { steps, left },
                OutcomeKind::Pending | OutcomeKind::Work | OutcomeKind::Blocked => Event::StackChanged { steps },
            });
        }
        if kind == OutcomeKind::Blocked {
            events.push(Event::StackBlocked { blocks: self.outcome.blocks.clone() });
        }
        events
    }

    /// A stack that cannot be looked at.
    pub(crate) fn blocked(stack: String, code: BlockCode, because: String) -> Self {
        let mut outcome = Outcome::bare(OutcomeKind::Blocked, Some(stack));
        outcome.blocks.push(Block { code, because });
        Self::bare(outcome)
    }

    /// What is wrong.
    pub(crate) fn diagnosed(stack: &StackName, findings: Vec<Finding>) -> Self {
        let kind = if findings.is_empty() { OutcomeKind::Converged } else { OutcomeKind::Blocked };
        let outcome = Outcome::bare(kind, Some(stack.to_string()));
        Self { findings: Some(findings), ..Self::bare(outcome) }
    }

    /// A stack of which nothing is ours: nobody looks, and nothing is done.
    pub(crate) fn untouched(stack: &StackName) -> Self {
        Self::bare(Outcome::bare(OutcomeKind::Converged, Some(stack.to_string())))
    }

    /// What would be done, about the network and about the certificate that is requested.
    pub(crate) fn planned(stack: &StackName, network: &Plan<Action>, certificate: &Plan<request::Action>) -> Self {
        let plan = together(network, certificate);
        let kind = if plan.is_converged() {
            OutcomeKind::Converged
        } else if plan.blocks.is_empty() {
            OutcomeKind::Pending
        } else {
            OutcomeKind::Blocked
        };
        let reported =
            |step: &Step<String>| ReportedStep { wave: 1, action: step.action.clone(), because: step.because.clone() };
        let outcome = Outcome {
            steps: plan.steps.iter().map(reported).collect(),
            blocks: plan.blocks.clone(),
            retry_after_s: plan.retry_after_s(),
            ..Outcome::bare(kind, Some(stack.to_string()))
        };
        let mut text = render(&plan);
        if !plan.steps.is_empty() {
            text.push_str("this is the first wave; later ones depend on what it makes and cannot be told before\n");
        }
        Self { plan: Some(text), ..Self::bare(outcome) }
    }
}

/// Two plans as one, their actions in words.
fn together(network: &Plan<Action>, certificate: &Plan<request::Action>) -> Plan<String> {
    fn in_words<A: ToString>(plan: &Plan<A>) -> impl Iterator<Item = Step<String>> {
        plan.steps.iter().map(|step| Step { action: step.action.to_string(), because: step.because.clone() })
    }
    Plan {
        steps: in_words(network).chain(in_words(certificate)).collect(),
        waits: network.waits.iter().chain(&certificate.waits).cloned().collect(),
        blocks: network.blocks.iter().chain(&certificate.blocks).cloned().collect(),
    }
}

/// What the two loops came to, as one: what needs a person comes before what needs time.
pub(crate) fn both(network: Report, certificate: Report) -> Report {
    let of = [network.outcome.outcome, certificate.outcome.outcome];
    let kind =
        [OutcomeKind::Blocked, OutcomeKind::Work, OutcomeKind::Pending].into_iter().find(|kind| of.contains(kind));
    let retries = [network.outcome.retry_after_s, certificate.outcome.retry_after_s];
    let outcome = Outcome {
        outcome: kind.unwrap_or(OutcomeKind::Converged),
        retry_after_s: retries.into_iter().flatten().min(),
        steps: [network.outcome.steps, certificate.outcome.steps].concat(),
        blocks: [network.outcome.blocks, certificate.outcome.blocks].concat(),
        waits: [network.outcome.waits, certificate.outcome.waits].concat(),
        ..network.outcome
    };
    Report { outcome, failures: [network.failures, certificate.failures].concat() }
}

/// With what this run deleted after its last look, or could not look at again.
fn with_last(mut gone: Vec<String>, outcome: &Outcome) -> Vec<String> {
    for one in outcome.steps.iter().filter_map(|step| deleted(&step.action)) {
        if gone.iter().all(|known| known != one) {
            gone.push(one.to_owned());
        }
    }
    gone
}

/// All lasting failures in one error; the gravest word stands for all, since a caller may retry on a lighter one.
fn failure(stacks: &[StackAnswer]) -> Option<EdgeError> {
    let mut word: Option<Word> = None;
    let mut texts = Vec::new();
    for stack in stacks {
        for failure in &stack.failures {
            word = word.max(Some(failure.word));
            let name = stack.outcome.stack.as_deref().unwrap_or("?");
            texts.push(format!("{name}: {}: {}", failure.action, failure.text));
        }
    }
    word.map(|word| EdgeError { word, text: texts.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, kind: OutcomeKind, retry_after_s: Option<u32>) -> StackAnswer {
        StackAnswer::bare(Outcome { retry_after_s, ..Outcome::bare(kind, Some(name.into())) })
    }

    #[test]
    fn several_stacks_answer_with_what_needs_most_attention() {
        let answer = Answer::several(vec![
            of("ant", OutcomeKind::Converged, None),
            of("bee", OutcomeKind::Pending, Some(9)),
            of("cat", OutcomeKind::Pending, Some(4)),
        ]);
        let answer = answer.unwrap();
        assert_eq!((answer.outcome.outcome, answer.outcome.retry_after_s), (OutcomeKind::Pending, Some(4)));
        let value = serde_json::to_value(&answer).unwrap();
        assert_eq!(value["outcome"], "pending");
        assert_eq!(value["stacks"][2]["stack"], "cat");
        assert_eq!(Answer::several(Vec::new()).unwrap().outcome.outcome, OutcomeKind::Converged);
    }

    #[test]
    fn lasting_failures_become_one_error_with_the_gravest_word() {
        let failed = |name: &str, word| StackAnswer {
            failures: vec![FailedStep { wave: 1, action: "+ Service x".into(), word, text: "because".into() }],
            ..of(name, OutcomeKind::Pending, None)
        };
        let error = Answer::several(vec![
            failed("ant", Word::Broken),
            of("bee", OutcomeKind::Converged, None),
            failed("cat", Word::Refused),
        ])
        .unwrap_err();
        assert_eq!(error.word, Word::Broken);
        assert_eq!(error.text, "ant: + Service x: because; cat: + Service x: because");
    }

    #[test]
    fn a_teardown_tells_what_went_and_what_stayed() {
        let step = |action: &str| ReportedStep { wave: 1, action: action.into(), because: "state is absent".into() };
        let steps = vec![step("~ Listener x"), step("- Service payments")];
        let ended = Outcome { steps, ..Outcome::bare(OutcomeKind::Converged, None) };
        let left = Left { what: "service network sn-1".into(), because: "theirs".into() };
        let report = || Report { outcome: ended.clone(), failures: Vec::new() };
        let stack = StackName::parse("payments").unwrap();
        let before = vec!["Record pay.example.com in Z1".into(), "Service payments".into()];
        let seen = Teardown { deleted: before, left: vec![left] };
        let answer = Answer::one(StackAnswer::of(&stack, report(), Some(seen))).unwrap();
        let told = serde_json::to_value(&answer).unwrap()["teardown"].clone();
        let left = serde_json::json!([{"what": "service network sn-1", "because": "theirs"}]);
        assert_eq!(
            told,
            serde_json::json!({"deleted": ["Record pay.example.com in Z1", "Service payments"], "left": left})
        );
        assert_eq!(Answer::one(StackAnswer::of(&stack, report(), None)).unwrap().teardown, None);
    }

    #[test]
    fn a_diagnosis_tells_what_no_api_shows_and_nothing_else_does() {
        let stack = StackName::parse("payments").unwrap();
        let answer = Answer::one(StackAnswer::diagnosed(&stack, Vec::new())).unwrap();
        let told: Vec<_> = PITFALLS.iter().filter(|row| row.answer == PitfallAnswer::Told).collect();
        assert_eq!(answer.notes.len(), told.len());
        for (row, note) in told.into_iter().zip(&answer.notes) {
            let words = match row.id {
                "link-local-routes" => ["169.254.171.0/24", "route tables"],
                "clients-outside" => ["transit gateway", "service-network endpoint"],
                other => panic!("{other} is new: what must its note say?"),
            };
            assert!(words.iter().all(|word| note.contains(word)), "{}: {note}", row.id);
        }
        assert!(Answer::one(StackAnswer::untouched(&stack)).unwrap().notes.is_empty());
    }

    #[test]
    fn whatever_was_changed_is_told_also_before_a_block() {
        let told = |kind, steps: usize| {
            let step = ReportedStep { wave: 1, action: "+ Service x".into(), because: "missing".into() };
            let mut answer = of("ant", kind, None);
            answer.outcome.steps = vec![step; steps];
            answer.events().iter().map(Event::detail_type).collect::<Vec<_>>()
        };
        assert_eq!(told(OutcomeKind::Blocked, 1), ["Stack Changed", "Stack Blocked"]);
        assert_eq!(told(OutcomeKind::Blocked, 0), ["Stack Blocked"]);
        assert_eq!(told(OutcomeKind::Pending, 1), ["Stack Changed"]);
        assert_eq!(told(OutcomeKind::Converged, 1), ["Stack Converged"]);
        assert!(told(OutcomeKind::Converged, 0).is_empty() && told(OutcomeKind::Pending, 0).is_empty());
    }

    #[test]
    fn a_plan_says_that_it_is_only_the_first_wave() {
        let stack = StackName::parse("payments").unwrap();
        let mut plan = Plan::default();
        let action = Action::DeleteService { service_id: "svc-1".into(), name: "payments".into() };
        plan.step(action, "state is absent");
        let planned = StackAnswer::planned(&stack, &plan, &Plan::default());
        assert_eq!(planned.outcome.outcome, OutcomeKind::Pending);
        assert_eq!(planned.outcome.steps[0].wave, 1);
        let text = planned.plan.unwrap();
        assert!(text.contains("- Service payments (state is absent)") && text.contains("first wave"), "{text}");
        assert_eq!(
            StackAnswer::planned(&stack, &Plan::default(), &Plan::default()).outcome.outcome,
            OutcomeKind::Converged
        );
    }
}
