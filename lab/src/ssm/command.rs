//! Run Command's operations: what a command is, and what callers are told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use super::documents::Parsed;
use super::parameters::{page, strings, text};
use super::rules::{Fault, Rule};
use super::{Answer, CommandOutput, Ssm, State};

/// Characters that `GetCommandInvocation` shows of standard output, and of standard error.
const OUTPUT_CHARS: (usize, usize) = (24_000, 8_000);
/// Characters that `ListCommandInvocations` shows of both.
const PLUGIN_CHARS: usize = 2_500;

/// A status that an invocation or a command can have (UG monitor-commands.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    InProgress,
    Success,
    Cancelled,
    Failed,
    TimedOut,
    Cancelling,
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "InProgress",
            Self::Success => "Success",
            Self::Cancelled => "Cancelled",
            Self::Failed => "Failed",
            Self::TimedOut => "TimedOut",
            Self::Cancelling => "Cancelling",
        }
    }

    /// As events spell it; `None`: nobody is told.
    pub(super) const fn event(self) -> Option<&'static str> {
        match self {
            Self::Pending | Self::Cancelling => None,
            Self::Cancelled => Some("Canceled"),
            Self::InProgress | Self::Success | Self::Failed | Self::TimedOut => Some(self.name()),
        }
    }

    pub(super) const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::InProgress | Self::Cancelling => false,
            Self::Success | Self::Cancelled | Self::Failed | Self::TimedOut => true,
        }
    }
}

/// One step on one instance.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) details: &'static str,
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) started: Option<OffsetDateTime>,
    pub(super) ended: Option<OffsetDateTime>,
}

/// A command on one instance.
#[derive(Debug, Clone)]
pub(super) struct Invocation {
    pub(super) status: Status,
    pub(super) details: &'static str,
    pub(super) plugins: Vec<Plugin>,
}

/// A command.
pub(super) struct Command {
    pub(super) id: String,
    pub(super) document: String,
    pub(super) version: usize,
    pub(super) parsed: Parsed,
    pub(super) values: BTreeMap<String, Vec<String>>,
    pub(super) requested: OffsetDateTime,
    pub(super) sent: Instant,
    /// Seconds an instance may take to pick it up.
    pub(super) delivery_s: u64,
    pub(super) concurrency: usize,
    pub(super) errors_max: usize,
    pub(super) invocations: BTreeMap<String, Invocation>,
    pub(super) cancel: watch::Sender<bool>,
    /// What events last said of the whole.
    pub(super) announced: Option<Status>,
    given: Value,
}

impl Command {
    /// What it printed, whole.
    pub(super) fn outputs(&self) -> Vec<CommandOutput> {
        let of = |instance: &String, plugin: &Plugin| CommandOutput {
            command_id: self.id.clone(),
            instance_id: instance.clone(),
            stdout: plugin.stdout.clone(),
            stderr: plugin.stderr.clone(),
        };
        self.invocations.iter().flat_map(|(id, seen)| seen.plugins.iter().map(|plugin| of(id, plugin))).collect()
    }

    /// Failures that count: not being delivered does not (UG send-commands-multiple.html).
    pub(super) fn errors(&self) -> usize {
        let counts = |seen: &&Invocation| {
            matches!(seen.status, Status::Failed | Status::TimedOut)
                && !matches!(seen.details, "Delivery Timed Out" | "Undeliverable")
        };
        self.invocations.values().filter(counts).count()
    }

    /// The status of the whole, and its details.
    pub(super) fn status(&self) -> (Status, &'static str) {
        let all = |status: Status| self.invocations.values().all(|seen| seen.status == status);
        let cancelled = *self.cancel.borrow();
        if !self.invocations.values().all(|seen| seen.status.is_final()) {
            return match (cancelled, all(Status::Pending)) {
                (true, _) => (Status::Cancelling, "Cancelling"),
                (false, true) => (Status::Pending, "Pending"),
                (false, false) => (Status::InProgress, "InProgress"),
            };
        }
        if cancelled && !all(Status::Success) {
            return (Status::Cancelled, "Cancelled");
        }
        if self.errors() > self.errors_max {
            return (Status::Failed, "Failed");
        }
        if self.invocations.values().any(|seen| seen.status == Status::Failed && seen.details == "Failed") {
            return (Status::Failed, "Incomplete");
        }
        if !self.invocations.is_empty() && self.invocations.values().all(|seen| seen.details == "Delivery Timed Out") {
            return (Status::TimedOut, "Delivery Timed Out");
        }
        (Status::Success, "Success")
    }

    fn expires(&self) -> OffsetDateTime {
        self.requested + Duration::from_secs(self.delivery_s)
    }

    fn describe(&self) -> Value {
        let (status, details) = self.status();
        let count = |test: fn(&Invocation) -> bool| self.invocations.values().filter(|seen| test(seen)).count();
        json!({
            "CommandId": self.id, "DocumentName": self.document, "DocumentVersion": self.version.to_string(),
            "Comment": self.given["Comment"].as_str().unwrap_or_default(), "ExpiresAfter": seconds(self.expires()),
            "Parameters": self.values, "InstanceIds": self.given["InstanceIds"].as_array().cloned().unwrap_or_default(),
            "Targets": self.given["Targets"].as_array().cloned().unwrap_or_default(),
            "RequestedDateTime": seconds(self.requested), "Status": status.name(), "StatusDetails": details,
            "MaxConcurrency": self.given["MaxConcurrency"].as_str().unwrap_or("50"),
            "MaxErrors": self.given["MaxErrors"].as_str().unwrap_or("0"),
            "TargetCount": self.invocations.len(), "CompletedCount": count(|seen| seen.status.is_final()),
            "ErrorCount": self.errors(),
            "DeliveryTimedOutCount": count(|seen| seen.details == "Delivery Timed Out"),
            "TimeoutSeconds": self.delivery_s, "OutputS3BucketName": "", "OutputS3KeyPrefix": "", "ServiceRole": "",
        })
    }

    fn invocation(&self, instance: &str, seen: &Invocation, details: bool) -> Value {
        let plugins: Vec<Value> = if details { seen.plugins.iter().map(plugin).collect() } else { Vec::new() };
        json!({
            "CommandId": self.id, "InstanceId": instance, "InstanceName": "", "DocumentName": self.document,
            "Comment": self.given["Comment"].as_str().unwrap_or_default(), "DocumentVersion": self.version.to_string(),
            "RequestedDateTime": seconds(self.requested), "Status": seen.status.name(), "StatusDetails": seen.details,
            "CommandPlugins": plugins, "ServiceRole": "",
        })
    }

    /// The detail of an event about the whole.
    pub(super) fn event(&self, status: &str) -> Value {
        json!({"command-id": self.id, "document-name": self.document, "expire-after": stamp(self.expires()),
            "parameters": self.values, "requested-date-time": stamp(self.requested), "status": status})
    }
}

fn plugin(plugin: &Plugin) -> Value {
    let mut output = plugin.stdout.clone();
    if !plugin.stderr.is_empty() {
        output.push_str("\n----------ERROR-------\n");
        output.push_str(&plugin.stderr);
    }
    json!({
        "Name": plugin.name, "Status": plugin.status.name(), "StatusDetails": plugin.details,
        "ResponseCode": plugin.code, "ResponseStartDateTime": plugin.started.map(seconds),
        "ResponseFinishDateTime": plugin.ended.map(seconds), "Output": cut(&output, PLUGIN_CHARS),
    })
}

/// Epoch seconds, as the JSON protocol has them.
fn seconds(at: OffsetDateTime) -> Value {
    json!(at.unix_timestamp_nanos() / 1_000_000).as_f64().map_or(Value::Null, |millis| json!(millis / 1000.0))
}

/// A time as text.
pub(super) fn stamp(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_default()
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

impl Ssm {
    pub(super) fn send_command(&self, request: &Value) -> Answer {
        check_members(request)?;
        let mut state = self.state();
        let name = text(request, "DocumentName")?;
        let document = state.documents.get(name).ok_or_else(|| Fault::new(Rule::DocumentUnknown, name))?;
        let (version, parsed) = document.version(request["DocumentVersion"].as_str())?;
        let parsed = parsed.clone();
        let values = parsed.values(&request["Parameters"])?;
        let targets = targets(&state, request)?;
        let delivery_s = match &request["TimeoutSeconds"] {
            Value::Null => 3_600,
            given => match given.as_u64() {
                Some(seconds @ 30..=2_592_000) => seconds,
                _ => return Err(Fault::new(Rule::Shape, "TimeoutSeconds is 30 to 2592000")),
            },
        };
        let concurrency = share(request, "MaxConcurrency", "50", targets.len())?.max(1);
        let errors_max = share(request, "MaxErrors", "0", targets.len())?;
        state.next += 1;
        let id = format!("00000000-0000-4000-8000-{:012x}", state.next);
        let pending = Invocation { status: Status::Pending, details: "Pending", plugins: Vec::new() };
        let command = Command {
            id: id.clone(),
            document: name.to_owned(),
            version,
            parsed,
            values,
            requested: OffsetDateTime::now_utc(),
            sent: Instant::now(),
            delivery_s,
            concurrency,
            errors_max,
            invocations: targets.into_iter().map(|target| (target, pending.clone())).collect(),
            cancel: watch::Sender::new(false),
            announced: None,
            given: request.clone(),
        };
        let described = command.describe();
        state.order.push(id.clone());
        state.commands.insert(id.clone(), command);
        drop(state);
        self.drive(&id);
        Ok(json!({ "Command": described }))
    }

    pub(super) fn get_command_invocation(&self, request: &Value) -> Answer {
        let (id, instance) = (text(request, "CommandId")?, text(request, "InstanceId")?);
        let state = self.state();
        let unknown = || Fault::new(Rule::InvocationUnknown, format!("{id} on {instance}"));
        let command = state.commands.get(id).ok_or_else(unknown)?;
        if command.sent.elapsed() < self.inner.options.hidden {
            return Err(unknown());
        }
        let seen = command.invocations.get(instance).ok_or_else(unknown)?;
        let wanted = request["PluginName"].as_str();
        if let Some(name) = wanted.filter(|name| !command.parsed.steps.iter().any(|step| step.name == **name)) {
            return Err(Fault::new(Rule::PluginUnknown, name));
        }
        let plugin = seen.plugins.iter().find(|plugin| wanted.is_none_or(|name| name == plugin.name));
        let mut answer = json!({
            "CommandId": id, "InstanceId": instance, "DocumentName": command.document,
            "DocumentVersion": command.version.to_string(), "Status": seen.status.name(),
            "Comment": command.given["Comment"].as_str().unwrap_or_default(),
            "StatusDetails": seen.details, "ResponseCode": -1, "PluginName": wanted.unwrap_or_default(),
            "StandardOutputContent": "", "StandardErrorContent": "",
        });
        if let Some(plugin) = plugin {
            answer["PluginName"] = plugin.name.clone().into();
            answer["ResponseCode"] = plugin.code.into();
            answer["StandardOutputContent"] = cut(&plugin.stdout, OUTPUT_CHARS.0).into();
            answer["StandardErrorContent"] = cut(&plugin.stderr, OUTPUT_CHARS.1).into();
            answer["ExecutionStartDateTime"] = plugin.started.map(stamp).into();
            answer["ExecutionEndDateTime"] = plugin.ended.map(stamp).into();
        }
        Ok(answer)
    }

    pub(super) fn list_command_invocations(&self, request: &Value) -> Answer {
        let state = self.state();
        let details = request["Details"].as_bool().unwrap_or(false);
        if !request["Filters"].is_null() {
            return Err(Fault::new(Rule::FilterKey, "Filters are not served"));
        }
        let commands = chosen(&state, request)?;
        let wanted = request["InstanceId"].as_str();
        let mut list = Vec::new();
        for command in commands {
            let seen = command.invocations.iter().filter(|(id, _)| wanted.is_none_or(|wanted| wanted == *id));
            list.extend(seen.map(|(id, seen)| command.invocation(id, seen, details)));
        }
        page(request, "CommandInvocations", list, (1, 50))
    }

    pub(super) fn list_commands(&self, request: &Value) -> Answer {
        let state = self.state();
        if !request["Filters"].is_null() {
            return Err(Fault::new(Rule::FilterKey, "Filters are not served"));
        }
        let wanted = request["InstanceId"].as_str();
        let commands = chosen(&state, request)?.into_iter();
        let on = commands.filter(|command| wanted.is_none_or(|id| command.invocations.contains_key(id)));
        page(request, "Commands", on.map(Command::describe).collect(), (1, 50))
    }

    pub(super) fn cancel_command(&self, request: &Value) -> Answer {
        let id = text(request, "CommandId")?;
        let state = self.state();
        let command = state.commands.get(id).ok_or_else(|| Fault::new(Rule::CommandUnknown, id))?;
        command.cancel.send_replace(true);
        Ok(json!({}))
    }
}

/// The command named, or all, newest first.
fn chosen<'a>(state: &'a State, request: &Value) -> Result<Vec<&'a Command>, Fault> {
    match request["CommandId"].as_str() {
        Some(id) => Ok(vec![state.commands.get(id).ok_or_else(|| Fault::new(Rule::CommandUnknown, id))?]),
        None => Ok(state.order.iter().rev().filter_map(|id| state.commands.get(id)).collect()),
    }
}

fn check_members(request: &Value) -> Result<(), Fault> {
    let known = [
        "DocumentName",
        "DocumentVersion",
        "InstanceIds",
        "Targets",
        "Parameters",
        "MaxConcurrency",
        "MaxErrors",
        "TimeoutSeconds",
        "Comment",
    ];
    let unknown = request.as_object().into_iter().flatten().find(|(key, _)| !known.contains(&key.as_str()));
    if let Some((key, _)) = unknown {
        return Err(Fault::new(Rule::Shape, format!("{key} is not served")));
    }
    if request["Comment"].as_str().is_some_and(|comment| comment.chars().count() > 100) {
        return Err(Fault::new(Rule::Shape, "Comment is longer than 100 characters"));
    }
    Ok(())
}

fn targets(state: &State, request: &Value) -> Result<BTreeSet<String>, Fault> {
    let ids = strings(&request["InstanceIds"]);
    if ids.len() > 50 {
        return Err(Fault::new(Rule::Shape, "InstanceIds holds at most 50"));
    }
    if let Some(id) = ids.iter().find(|id| !state.instances.contains_key(*id)) {
        return Err(Fault::new(Rule::InstanceUnknown, id.clone()));
    }
    let filters: Vec<&Value> = request["Targets"].as_array().into_iter().flatten().collect();
    if filters.len() > 5 || ids.is_empty() == filters.is_empty() {
        return Err(Fault::new(Rule::Shape, "either InstanceIds or 1 to 5 Targets"));
    }
    if filters.is_empty() {
        return Ok(ids.into_iter().collect());
    }
    let mut found: BTreeSet<String> = state.instances.keys().cloned().collect();
    for filter in filters {
        let (key, values) = (text(filter, "Key")?, strings(&filter["Values"]));
        match (key, key.strip_prefix("tag:")) {
            ("InstanceIds", _) => found.retain(|id| values.contains(id)),
            (_, Some(tag)) => found.retain(|id| {
                let instance = state.instances.get(id);
                instance.and_then(|instance| instance.tags.get(tag)).is_some_and(|value| values.contains(value))
            }),
            _ => return Err(Fault::new(Rule::Shape, format!("Targets.Key {key}"))),
        }
    }
    Ok(found)
}

/// A count, or a percentage of `total`.
fn share(request: &Value, member: &str, default: &str, total: usize) -> Result<usize, Fault> {
    let given = request[member].as_str().unwrap_or(default);
    let bad = || Fault::new(Rule::Shape, format!("{member} {given:?}"));
    let pattern = if member == "MaxErrors" {
        "^(0|[1-9][0-9]*|[0]|[1-9][0-9]%|[0-9]%|100%)$"
    } else {
        "^([1-9][0-9]*|[1-9][0-9]%|[1-9]%|100%)$"
    };
    let fits = Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(given));
    if !fits || given.len() > 7 {
        return Err(bad());
    }
    match given.strip_suffix('%') {
        Some(percent) => percent.parse::<usize>().map(|percent| total * percent / 100).map_err(|_| bad()),
        None => given.parse().map_err(|_| bad()),
    }
}
