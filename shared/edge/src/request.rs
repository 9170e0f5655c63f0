//! What a function may be asked, parsed strictly: an error names the field.
//!
//! An EventBridge envelope is only ever a [`Hint`] to look now; whatever it claims, decisions are made from freshly read
//! state. So every field AWS may leave out is optional and every field we do not know is ignored, while our own
//! requests ([`Direct`], [`Pass`], [`WorkItem`]) refuse what they do not know.

use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use espalier_domain::id::{Caller, Generation, Reason, StackName, TargetId};
use espalier_domain::work::{Pass, WorkItem};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::EdgeError;

mod hint;
mod subject;
pub use hint::{Hint, HintKind};
pub use subject::Subject;

/// A request that can be parsed out of an invocation's payload.
pub trait Request: Sized {
    /// Parses the payload; `Invalid`, naming the field, when it is not one.
    fn parse(payload: Value) -> Result<Self, EdgeError>;

    /// What it is about, for the trace and the log.
    fn subject(&self) -> Subject;
}

impl Request for WorkItem {
    /// The kind first: what follows is read as that kind, so that an error names the field (through serde's tagged enums
    /// no path is told, and unknown fields are taken).
    fn parse(payload: Value) -> Result<Self, EdgeError> {
        let mut item = payload;
        let kind = item.as_object_mut().and_then(|fields| fields.remove("kind")).unwrap_or_default();
        if !item.is_object() {
            return Err(EdgeError::invalid("the work item is not a JSON object"));
        }
        match kind.as_str() {
            Some("authority") => strict(item, "work item").map(Self::Authority),
            Some("mint") => strict(item, "work item").map(Self::Mint),
            Some("export") => strict(item, "work item").map(Self::Export),
            Some("deliver") => strict(item, "work item").map(Self::Deliver),
            Some("verify") => strict(item, "work item").map(Self::Verify),
            Some("membership") => strict(item, "work item").map(Self::Membership),
            Some(_) | None => Err(EdgeError::invalid(format!(
                "work item, field `kind`: {kind} is none of \"authority\", \"mint\", \"export\", \"deliver\", \"verify\" and \"membership\""
            ))),
        }
    }

    fn subject(&self) -> Subject {
        self.into()
    }
}

impl Request for Pass {
    fn parse(payload: Value) -> Result<Self, EdgeError> {
        strict(payload, "pass")
    }

    fn subject(&self) -> Subject {
        self.into()
    }
}

/// Anything a function that is invoked from several sides may be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// An event or a schedule: look now.
    Hint(Hint),
    /// A person or a program asks for one stack.
    Direct(Direct),
    /// The state machine comes round.
    Pass(Pass),
    /// The state machine hands out work.
    Work(WorkItem),
}

/// A request for one stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Direct {
    /// The stack.
    pub stack: StackName,
    /// Whether to act.
    pub mode: Mode,
    /// A spec to plan with in place of the stored one; only with [`Mode::Plan`].
    pub spec: Option<Value>,
}

/// Whether to act or only to say what would be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Do it.
    Apply,
    /// Say what would be done and why; change nothing.
    Plan,
    /// Compare a running stack with known pitfalls; change nothing (`provision` only).
    Diagnose,
    /// Do it, and take nothing for seen: dial every target now (`rotate` only).
    Verify,
    /// Say what is issued, what each target serves and how long that lasts; change nothing (`rotate` only).
    Status,
    /// Say whether there is at least so much slack (`rotate` only).
    Check {
        /// In days.
        min_slack_days: u32,
    },
    /// What was issued so far is unsafe: replace it now (`rotate` only). Never an event's.
    Emergency(Emergency),
}

/// Who declares what unsafe, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emergency {
    /// The newest generation that is unsafe; the newest one there is if it is not named.
    pub generation: Option<Generation>,
    /// Who asks, by their own word: Lambda does not tell a function who invokes it.
    pub caller: Caller,
    /// Why.
    pub reason: Reason,
}

impl Request for Trigger {
    fn parse(payload: Value) -> Result<Self, EdgeError> {
        let Some(object) = payload.as_object() else {
            return Err(EdgeError::invalid("the request is not a JSON object"));
        };
        let has = |field: &str| object.contains_key(field);
        if has("source") || has("detail-type") {
            return hint::parse(payload).map(Self::Hint);
        }
        if has("espalier") {
            return hint::sweep(payload).map(Self::Hint);
        }
        if has("kind") {
            return WorkItem::parse(payload).map(Self::Work);
        }
        if has("epoch") || has("wave") {
            return Pass::parse(payload).map(Self::Pass);
        }
        direct(strict(payload, "direct request")?).map(Self::Direct)
    }

    fn subject(&self) -> Subject {
        self.into()
    }
}

/// A direct request as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    stack: StackName,
    #[serde(default)]
    mode: Word,
    #[serde(default)]
    spec: Option<Value>,
    #[serde(default)]
    min_slack_days: Option<u32>,
    #[serde(default)]
    generation: Option<Generation>,
    #[serde(default)]
    caller: Option<Caller>,
    #[serde(default)]
    reason: Option<Reason>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    #[default]
    Apply,
    Plan,
    Diagnose,
    Verify,
    Status,
    Check,
    Emergency,
}

fn direct(written: Written) -> Result<Direct, EdgeError> {
    let invalid = |text: &str| Err(EdgeError::invalid(format!("direct request, {text}")));
    if written.spec.is_some() && written.mode != Word::Plan {
        return invalid("field `spec`: an inline spec is accepted only with mode `plan`");
    }
    let emergency = emergency(&written)?;
    let mode = match (written.mode, written.min_slack_days) {
        (Word::Check, Some(min_slack_days)) => Mode::Check { min_slack_days },
        (Word::Check, None) => return invalid("field `min_slack_days` is missing: mode `check` compares with it"),
        (_, Some(_)) => return invalid("field `min_slack_days`: it is accepted only with mode `check`"),
        (Word::Apply, None) => Mode::Apply,
        (Word::Plan, None) => Mode::Plan,
        (Word::Diagnose, None) => Mode::Diagnose,
        (Word::Verify, None) => Mode::Verify,
        (Word::Status, None) => Mode::Status,
        (Word::Emergency, None) => match emergency {
            Some(emergency) => Mode::Emergency(emergency),
            None => return invalid("fields `caller` and `reason`: mode `emergency` records who asks, and why"),
        },
    };
    Ok(Direct { stack: written.stack, mode, spec: written.spec })
}

/// What belongs to an emergency and to nothing else.
fn emergency(written: &Written) -> Result<Option<Emergency>, EdgeError> {
    let named = [
        ("generation", written.generation.is_some()),
        ("caller", written.caller.is_some()),
        ("reason", written.reason.is_some()),
    ];
    let stray = named.iter().find(|(_, is_there)| *is_there && written.mode != Word::Emergency);
    if let Some((field, _)) = stray {
        let text = format!("direct request, field `{field}`: it is accepted only with mode `emergency`");
        return Err(EdgeError::invalid(text));
    }
    let asked = written.caller.clone().zip(written.reason.clone());
    Ok(asked.map(|(caller, reason)| Emergency { generation: written.generation, caller, reason }))
}

/// Takes `{"espalier": "sweep"}`, what a schedule sends, and nothing else.
///
/// # Errors
/// `Invalid`, as of [`strict`].
pub fn sweep(payload: Value) -> Result<(), EdgeError> {
    strict(payload, "sweep").map(|Sweep { espalier: SweepWord::Sweep }| ())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sweep {
    espalier: SweepWord,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum SweepWord {
    Sweep,
}

/// Deserialises what `what` calls, and names the field that is wrong.
///
/// # Errors
/// `Invalid`, when it is no object or one of its fields is not what it has to be.
pub fn strict<T: DeserializeOwned>(payload: Value, what: &str) -> Result<T, EdgeError> {
    // serde would take a list for the fields of a structure in their order.
    if !payload.is_object() {
        return Err(EdgeError::invalid(format!("the {what} is not a JSON object")));
    }
    serde_path_to_error::deserialize(payload).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!(", field `{path}`") };
        EdgeError::invalid(format!("{what}{place}: {}", error.inner()))
    })
}

/// The envelope with everything optional that AWS may leave out.
pub(crate) type Envelope = EventBridgeEvent<Option<Value>>;

/// An instance id if it is one; a hint is not worth an error.
pub(crate) fn instance(text: &str) -> Option<TargetId> {
    TargetId::parse(text).ok()
}

#[cfg(test)]
mod tests;
