//! EventBridge envelopes, normalised: which stack, certificate or instance may be worth a look.

use espalier_domain::id::{AcmArn, StackName, TargetId};
use serde::Deserialize;
use serde_json::Value;

use super::{Envelope, instance, strict};
use crate::EdgeError;

/// Why it may be worth looking now. What the event says happened is not kept: what *is* will be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The rough kind.
    pub kind: HintKind,
    /// The event's source, for the log.
    pub source: String,
    /// The event's detail type, for the log.
    pub detail_type: String,
    /// The event's id, for the trace.
    pub event: Option<String>,
    /// The stack it names, if it names one.
    pub stack: Option<StackName>,
    /// The ACM certificates it is about; a notice of AWS Health may name several.
    pub certificates: Vec<AcmArn>,
    /// The instances it is about.
    pub instances: Vec<TargetId>,
    /// The Auto Scaling group it is about.
    pub scaling_group: Option<String>,
    /// The Run Command id it is about.
    pub command_id: Option<String>,
}

/// What a hint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HintKind {
    /// Look at every stack: a schedule, or an event that names nothing.
    Sweep,
    /// A spec changed; `stack` says whose.
    Spec,
    /// Another parameter changed.
    Parameter,
    /// Something about an ACM certificate.
    Certificate,
    /// A command's status changed.
    Command,
    /// An instance came, went or changed.
    Instance,
    /// A notice of AWS Health.
    Health,
    /// An event of our own.
    Own,
}

const SPECS: &str = "/espalier-spec/";

/// Reads an envelope; the source decides how.
pub(super) fn parse(payload: Value) -> Result<Hint, EdgeError> {
    no_emergency(&payload)?;
    let envelope: Envelope = strict(payload, "event")?;
    let mut hint = Hint {
        kind: HintKind::Sweep,
        source: envelope.source.clone(),
        detail_type: envelope.detail_type.clone(),
        event: envelope.id.clone().filter(|id| is_id(id)),
        stack: None,
        certificates: Vec::new(),
        instances: Vec::new(),
        scaling_group: None,
        command_id: None,
    };
    let resources = envelope.resources.unwrap_or_default();
    let detail = envelope.detail.unwrap_or_default();
    match envelope.source.as_str() {
        "aws.events" | "aws.scheduler" => {}
        "aws.ssm" => ssm(&mut hint, detail, &resources)?,
        "aws.acm" => {
            hint.kind = HintKind::Certificate;
            hint.certificates = certificates(resources.iter().map(String::as_str));
        }
        "aws.health" => {
            let detail: Health = strict_detail(detail)?;
            let entities = detail.entities.unwrap_or_default();
            let named = entities
                .iter()
                .filter_map(|entity| entity.value.as_deref())
                .chain(resources.iter().map(String::as_str));
            hint.kind = HintKind::Health;
            hint.certificates = certificates(named);
        }
        "aws.cloudwatch" => {}
        "aws.ec2" => {
            let detail: Ec2 = strict_detail(detail)?;
            hint.kind = HintKind::Instance;
            hint.instances = detail.instance_id.as_deref().and_then(instance).into_iter().collect();
        }
        "aws.autoscaling" => {
            let detail: AutoScaling = strict_detail(detail)?;
            hint.kind = HintKind::Instance;
            hint.scaling_group = detail.group;
            hint.instances = detail.instance_id.as_deref().and_then(instance).into_iter().collect();
        }
        "espalier" => {
            let detail: Own = strict_detail(detail)?;
            hint.kind = HintKind::Own;
            hint.stack = detail.stack;
            hint.instances = detail.target.into_iter().collect();
        }
        other => return Err(EdgeError::invalid(format!("event, field `source`: {other:?} is not one we listen to"))),
    }
    Ok(hint)
}

/// Whether this is an id as EventBridge makes them. Who forges an event shall not write into the trace.
fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Whoever may put an event on the bus could ask for one: that is not ignored as other unknown fields are, but refused.
fn no_emergency(payload: &Value) -> Result<(), EdgeError> {
    let asks = |mode: &Value| mode.as_str() == Some("emergency");
    for (field, mode) in [("mode", &payload["mode"]), ("detail.mode", &payload["detail"]["mode"])] {
        if asks(mode) {
            return Err(EdgeError::invalid(format!(
                "event, field `{field}`: no event declares an emergency; `espalier emergency` and lambda:InvokeFunction do"
            )));
        }
    }
    Ok(())
}

/// `{"espalier": "sweep"}`, for a schedule that sends a constant.
pub(super) fn sweep(payload: Value) -> Result<Hint, EdgeError> {
    super::sweep(payload)?;
    Ok(Hint {
        kind: HintKind::Sweep,
        source: "espalier".into(),
        detail_type: "sweep".into(),
        event: None,
        stack: None,
        certificates: Vec::new(),
        instances: Vec::new(),
        scaling_group: None,
        command_id: None,
    })
}

/// The certificates among these names, each once, in their order.
fn certificates<'a>(named: impl Iterator<Item = &'a str>) -> Vec<AcmArn> {
    let mut found = Vec::new();
    for arn in named.filter_map(|name| AcmArn::parse(name).ok()) {
        if !found.contains(&arn) {
            found.push(arn);
        }
    }
    found
}

/// Parameter changes and command statuses come from the same source.
fn ssm(hint: &mut Hint, detail: Value, resources: &[String]) -> Result<(), EdgeError> {
    let detail: Ssm = strict_detail(detail)?;
    if hint.detail_type.starts_with("EC2 Command") {
        hint.kind = HintKind::Command;
        hint.command_id = detail.command_id;
        let named = detail.instance_id.iter().map(String::as_str);
        let listed = resources.iter().filter_map(|arn| arn.rsplit_once("instance/")).map(|(_, id)| id);
        hint.instances = named.chain(listed).filter_map(instance).collect();
        hint.instances.dedup();
        let stack = detail.parameters.and_then(|parameters| parameters.stack).unwrap_or_default();
        hint.stack = stack.first().and_then(|name| StackName::parse(name.as_str()).ok());
        return Ok(());
    }
    hint.kind = HintKind::Parameter;
    let Some(name) = detail.name else {
        hint.kind = HintKind::Sweep;
        return Ok(());
    };
    if let Some(stack) = name.strip_prefix(SPECS) {
        let stack = StackName::parse(stack)
            .map_err(|error| EdgeError::invalid(format!("event, field `detail.name`: {name:?}: {error}")))?;
        hint.kind = HintKind::Spec;
        hint.stack = Some(stack);
    }
    Ok(())
}

/// A detail that is absent is an empty one; one that is not an object is refused.
fn strict_detail<T: serde::de::DeserializeOwned>(detail: Value) -> Result<T, EdgeError> {
    let detail = if detail.is_null() { Value::Object(serde_json::Map::new()) } else { detail };
    if !detail.is_object() {
        return Err(EdgeError::invalid("event, field `detail`: not a JSON object"));
    }
    strict(serde_json::json!({ "detail": detail }), "event").map(|Within { detail }| detail)
}

/// Puts `detail.` in front of the path an error names.
#[derive(Deserialize)]
struct Within<T> {
    detail: T,
}

#[derive(Deserialize)]
struct Ssm {
    name: Option<String>,
    #[serde(rename = "command-id")]
    command_id: Option<String>,
    #[serde(rename = "instance-id")]
    instance_id: Option<String>,
    parameters: Option<SsmParameters>,
}

#[derive(Deserialize)]
struct SsmParameters {
    #[serde(rename = "Stack")]
    stack: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Ec2 {
    #[serde(rename = "instance-id")]
    instance_id: Option<String>,
}

#[derive(Deserialize)]
struct AutoScaling {
    #[serde(rename = "EC2InstanceId")]
    instance_id: Option<String>,
    #[serde(rename = "AutoScalingGroupName")]
    group: Option<String>,
}

#[derive(Deserialize)]
struct Health {
    #[serde(rename = "affectedEntities")]
    entities: Option<Vec<Entity>>,
}

#[derive(Deserialize)]
struct Entity {
    #[serde(rename = "entityValue")]
    value: Option<String>,
}

#[derive(Deserialize)]
struct Own {
    stack: Option<StackName>,
    target: Option<TargetId>,
}
