//! What an answer to a person holds beside the outcome: where the targets stand, how much slack there is, which renewals come.

use espalier_domain::id::StackName;
use espalier_domain::plan::{Block, BlockCode, OutcomeKind};
use espalier_domain::record::EmergencyRecord;
use espalier_domain::rotation::evidence::Evidence;
use espalier_domain::rotation::slack::{Assumed, Renewal, Slack, ahead, slack};
use espalier_domain::rotation::status::Status;
use espalier_domain::work::RotateOutcome;
use serde::Serialize;

/// Targets that are told one by one, least slack first.
const TOLD: usize = 20;

/// Seconds in a day.
const DAY_S: i64 = 86_400;

/// `rotate`'s answer: an outcome, and for a person a forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Answer {
    #[serde(flatten)]
    pub(crate) outcome: RotateOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) forecast: Option<Forecast>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<Status>,
    /// The emergency as it is written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) emergency: Option<EmergencyRecord>,
}

impl From<RotateOutcome> for Answer {
    fn from(outcome: RotateOutcome) -> Self {
        Self { outcome, forecast: None, status: None, emergency: None }
    }
}

/// What lies ahead of a stack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Forecast {
    /// The least slack of all targets, in seconds; absent while one of them serves nothing that was proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_slack_s: Option<i64>,
    /// Those with the least slack.
    targets: Vec<Slack>,
    /// How many targets there are.
    of: usize,
    /// The renewals of the next 90 days.
    renewals: Vec<Renewal>,
    /// What was assumed.
    assumed: Assumed,
}

impl Forecast {
    pub(crate) fn of(evidence: &Evidence) -> Self {
        let assumed = Assumed::default();
        let mut targets = slack(evidence, &assumed);
        let of = targets.len();
        let min_slack_s = targets.first().and_then(|least| least.slack_s);
        targets.truncate(TOLD);
        Self { min_slack_s, targets, of, renewals: ahead(evidence), assumed }
    }

    /// Whether there is at least so much slack, said as an answer.
    pub(crate) fn check(self, stack: &StackName, min_slack_days: u32) -> Answer {
        let block = match (self.targets.first(), self.min_slack_s) {
            (None, _) => Some(format!("the spec of {stack} selects no instance")),
            (Some(least), None) => Some(format!("{} serves nothing that was proven", least.target)),
            (Some(least), Some(slack_s)) => (slack_s < i64::from(min_slack_days).saturating_mul(DAY_S)).then(|| {
                let hours = slack_s.div_euclid(3_600);
                format!("{} has {hours} hours of slack, less than {min_slack_days} days", least.target)
            }),
        };
        let blocks: Vec<Block> =
            block.into_iter().map(|because| Block { code: BlockCode::SlackTooShort, because }).collect();
        let kind = if blocks.is_empty() { OutcomeKind::Converged } else { OutcomeKind::Blocked };
        let outcome = RotateOutcome { blocks, ..crate::answer::empty(stack, kind) };
        Answer { forecast: Some(self), ..outcome.into() }
    }
}
