//! Events out: what Espalier tells the account's default event bus, source `espalier`.

use aws_config::SdkConfig;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use espalier_domain::id::{Epoch, Generation, StackName, TargetId};
use espalier_domain::network::Left;
use espalier_domain::plan::{Block, ReportedStep};
use espalier_domain::verdict::Verdict;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{AwsError, during};

/// What this module calls.
pub const ACTIONS: &[&str] = &[PUT];

const PUT: &str = "events:PutEvents";

/// The source of every event of ours.
pub const SOURCE: &str = "espalier";

/// `PutEvents` takes at most this many entries.
const ENTRIES: usize = 10;

/// The most text one entry may hold is 256 KB; a list in a detail is cut to stay far below it.
const LIST: usize = 100;

/// Whom an event is for; part of every detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The stack.
    pub stack: StackName,
    /// The spec's owner; absent when there is no readable spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whom the spec wants notified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
}

/// What happened. The variant is the detail type, its fields join [`About`] in the detail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// `Stack Converged`: something was changed and nothing is left to do.
    StackConverged {
        /// What was done.
        steps: Vec<ReportedStep>,
        /// What a teardown left, because it is not ours.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        left: Vec<Left>,
    },
    /// `Stack Changed`: something was changed, and the rest waits for something: a target's proof, a drain, more time.
    StackChanged {
        /// What was done.
        steps: Vec<ReportedStep>,
    },
    /// `Stack Blocked`: a person is needed.
    StackBlocked {
        /// For what.
        blocks: Vec<Block>,
    },
    /// `Stack Drifted`: somebody else changed what is ours.
    StackDrifted {
        /// Whether it is put right; with `drift: report` it stays.
        repaired: bool,
        /// What undoes it, and what was found.
        found: Vec<ReportedStep>,
    },
    /// `Targets Unproven`: targets came that nobody has seen serving; `rotate` listens.
    TargetsUnproven {
        /// How many.
        unproven: usize,
    },
    /// `Rotation Started`.
    RotationStarted {
        /// The rotation.
        epoch: Epoch,
        /// Why.
        because: String,
    },
    /// `Rotation Completed`: every target serves its newest generation.
    RotationCompleted {
        /// The rotation.
        epoch: Epoch,
    },
    /// `Rotation Halted`: nothing new is started until a person looks.
    RotationHalted {
        /// The rotation.
        epoch: Epoch,
        /// For what.
        blocks: Vec<Block>,
    },
    /// `Certificate Verified`: a handshake proved the generation at a target.
    CertificateVerified {
        /// The target.
        target: TargetId,
        /// The generation.
        generation: Generation,
        /// What was seen.
        verdict: Verdict,
    },
    /// `Verification Failed`: a handshake showed something else.
    VerificationFailed {
        /// The target.
        target: TargetId,
        /// The generation that was expected.
        generation: Generation,
        /// What was seen.
        verdict: Verdict,
    },
}

impl Event {
    /// The detail type rules match on. Stable.
    pub const fn detail_type(&self) -> &'static str {
        match self {
            Self::StackConverged { .. } => "Stack Converged",
            Self::StackChanged { .. } => "Stack Changed",
            Self::StackBlocked { .. } => "Stack Blocked",
            Self::StackDrifted { .. } => "Stack Drifted",
            Self::TargetsUnproven { .. } => "Targets Unproven",
            Self::RotationStarted { .. } => "Rotation Started",
            Self::RotationCompleted { .. } => "Rotation Completed",
            Self::RotationHalted { .. } => "Rotation Halted",
            Self::CertificateVerified { .. } => "Certificate Verified",
            Self::VerificationFailed { .. } => "Verification Failed",
        }
    }
}

/// The account's default event bus.
#[derive(Debug, Clone)]
pub struct Bus {
    client: Client,
}

impl Bus {
    /// Builds the client.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }

    /// Sends events, in order.
    ///
    /// # Errors
    /// When the bus cannot be asked, or refuses an event (`PutEvents` then still answers 200); earlier ones are sent.
    pub async fn put(&self, about: &About, events: &[Event]) -> Result<(), AwsError> {
        for page in events.chunks(ENTRIES) {
            let mut call = self.client.put_events();
            for event in page {
                let entry = PutEventsRequestEntry::builder()
                    .source(SOURCE)
                    .detail_type(event.detail_type())
                    .detail(detail(about, event).to_string());
                call = call.entries(entry.build());
            }
            let answer = call.send().await.map_err(during(PUT))?;
            let refused = answer.entries.unwrap_or_default().into_iter().find_map(|entry| {
                entry.error_code.map(|code| AwsError::coded(PUT, code, entry.error_message.unwrap_or_default()))
            });
            match refused {
                Some(error) => return Err(error),
                None if answer.failed_entry_count != 0 => {
                    return Err(AwsError::unexpected(PUT, "failed entries without an error code"));
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// The event's fields beside those of every event.
fn detail(about: &About, event: &Event) -> Value {
    let object = |value: Value| match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    let mut all = object(serde_json::to_value(about).unwrap_or_default());
    for (name, mut value) in object(serde_json::to_value(event).unwrap_or_default()) {
        if let Value::Array(list) = &mut value {
            list.truncate(LIST);
        }
        all.insert(name, value);
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::plan::BlockCode;
    use serde_json::json;

    #[test]
    fn a_detail_names_the_stack_its_owner_and_what_happened() {
        let about = About {
            stack: StackName::parse("payments").unwrap(),
            owner: Some("platform@example.com".into()),
            notify: vec!["security@example.com".into()],
        };
        let block = Block { code: BlockCode::Foreign, because: "a service payments without our tag".into() };
        let event = Event::StackBlocked { blocks: vec![block] };
        assert_eq!(event.detail_type(), "Stack Blocked");
        assert_eq!(
            detail(&about, &event),
            json!({
                "stack": "payments",
                "owner": "platform@example.com",
                "notify": ["security@example.com"],
                "blocks": [{ "code": "Foreign", "because": "a service payments without our tag" }],
            })
        );
    }

    #[test]
    fn a_long_list_is_cut_below_what_an_event_may_hold() {
        let about = About { stack: StackName::parse("payments").unwrap(), owner: None, notify: Vec::new() };
        let step = ReportedStep { wave: 1, action: "+ Targets i-1".repeat(40), because: "missing".repeat(40) };
        let text = detail(&about, &Event::StackConverged { steps: vec![step; 5_000], left: Vec::new() }).to_string();
        assert!(text.len() < 256 * 1024, "{}", text.len());
    }
}
