//! Every place that is searched, read from the services that keep it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::watch::{NOTICES, QUEUE};
use super::super::{StoryError, Tale};
use crate::aws::{CallError, Endpoint};
use crate::gateway::Passed;

/// A way by which a key could leave its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Channel {
    /// A log group.
    Log,
    /// An event of AWS's.
    EventIn,
    /// An event of ours.
    EventOut,
    /// A command and its parameters.
    Command,
    /// What a command printed.
    Output,
    /// An execution's input, history and output.
    History,
    /// A parameter that is not encrypted, in any of its versions.
    Parameter,
    /// A deployed function's environment.
    Environment,
    /// A message in a queue.
    Queue,
    /// What the topic sends out.
    Notification,
    /// An item of a table.
    Ledger,
    /// The request of an API call.
    Request,
    /// The answer to an API call.
    Answer,
    /// What a function answers, errors above all.
    FunctionAnswer,
    /// What is sent to X-Ray.
    Trace,
    /// A file the run writes.
    File,
}

impl Channel {
    /// Every one.
    pub(super) const ALL: [Self; 16] = [
        Self::Log,
        Self::EventIn,
        Self::EventOut,
        Self::Command,
        Self::Output,
        Self::History,
        Self::Parameter,
        Self::Environment,
        Self::Queue,
        Self::Notification,
        Self::Ledger,
        Self::Request,
        Self::Answer,
        Self::FunctionAnswer,
        Self::Trace,
        Self::File,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::EventIn => "event in",
            Self::EventOut => "event out",
            Self::Command => "command",
            Self::Output => "command output",
            Self::History => "history",
            Self::Parameter => "parameter",
            Self::Environment => "environment",
            Self::Queue => "queue",
            Self::Notification => "notification",
            Self::Ledger => "table",
            Self::Request => "request",
            Self::Answer => "answer",
            Self::FunctionAnswer => "function's answer",
            Self::Trace => "trace",
            Self::File => "file",
        }
    }
}

/// Something to look into.
pub(super) struct Place {
    pub(super) channel: Channel,
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.channel.name(), self.name)
    }
}

/// What there is now. It asks the emulator directly: looking leaves no trace among the calls that are searched.
pub(super) async fn all(tale: &Tale) -> Result<Vec<Place>, StoryError> {
    let mut found = Found { base: tale.world.ministack.clone(), places: Vec::new() };
    found.calls(tale.world.gateway.passed());
    found.commands(tale)?;
    for document in tale.world.xray.documents() {
        found.add(Channel::Trace, text(&document["name"]), document.to_string());
    }
    found.heard(tale).await?;
    found.logs(tale).await?;
    found.histories(tale).await?;
    found.parameters().await?;
    found.environments().await?;
    found.queues().await?;
    found.tables().await?;
    for directory in ["logs", "run/stage", "run/commands"] {
        for path in files(&tale.world.run.with_file_name("").join(directory)) {
            found.add(Channel::File, path.display().to_string(), std::fs::read(&path).unwrap_or_default());
        }
    }
    Ok(found.places)
}

/// Every file below a directory.
pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let kind = entry.file_type();
        if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
            files.extend(self::files(&entry.path()));
        } else if kind.is_ok_and(|kind| kind.is_file()) && entry.file_name() != "bootstrap" {
            // The functions' own binaries are not of this run.
            files.push(entry.path());
        }
    }
    files
}

struct Found {
    base: String,
    places: Vec<Place>,
}

impl Found {
    fn add(&mut self, channel: Channel, name: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.places.push(Place { channel, name: name.into(), content: content.into() });
    }

    fn endpoint(&self, service: &'static str) -> Endpoint {
        Endpoint::new(service, &self.base)
    }

    fn calls(&mut self, passed: Vec<Passed>) {
        for passed in passed {
            let operation = passed.operation;
            self.add(Channel::Request, operation.as_str(), without_sealed(&operation, &passed.request));
            let name = format!("{operation} ({})", passed.status);
            self.add(Channel::Answer, name, without_sealed(&operation, &passed.answer));
        }
    }

    fn commands(&mut self, tale: &Tale) -> Result<(), StoryError> {
        let mut ask = json!({"MaxResults": 50});
        loop {
            let listed = tale.world.ssm.call("ListCommands", &ask);
            let listed = listed.map_err(|fault| StoryError::Unmet(format!("ListCommands: {}", fault.message())))?;
            for command in listed["Commands"].as_array().into_iter().flatten() {
                self.add(Channel::Command, text(&command["CommandId"]), command.to_string());
            }
            if !listed["NextToken"].is_string() {
                break;
            }
            ask["NextToken"] = listed["NextToken"].clone();
        }
        for output in tale.world.ssm.command_outputs() {
            let name = format!("of {} on {}", output.command_id, output.instance_id);
            self.add(Channel::Output, name, format!("{}\n{}", output.stdout, output.stderr));
        }
        Ok(())
    }

    async fn heard(&mut self, tale: &Tale) -> Result<(), CallError> {
        for event in tale.world.router.events() {
            self.add(Channel::EventIn, text(&event["detail-type"]), event.to_string());
        }
        let record = tale.watch.record().await?;
        for (number, event) in record.events.into_iter().enumerate() {
            self.add(Channel::EventOut, (number + 1).to_string(), event);
        }
        for (number, notice) in record.notices.into_iter().enumerate() {
            self.add(Channel::Notification, (number + 1).to_string(), notice);
        }
        for (function, answer) in record.answers {
            self.add(Channel::FunctionAnswer, function, answer.to_string());
        }
        Ok(())
    }

    async fn logs(&mut self, tale: &Tale) -> Result<(), CallError> {
        let groups = self.pages("logs", "Logs_20140328.DescribeLogGroups", ("nextToken", "logGroups")).await?;
        for group in groups {
            let name = text(&group["logGroupName"]);
            let lines = tale.watch.log_group(&name).await?;
            self.add(Channel::Log, name, lines.join("\n"));
        }
        Ok(())
    }

    async fn histories(&mut self, tale: &Tale) -> Result<(), CallError> {
        let machines =
            self.pages("states", "AWSStepFunctions.ListStateMachines", ("nextToken", "stateMachines")).await?;
        for machine in machines {
            for (name, _, arn) in tale.watch.executions(&text(&machine["stateMachineArn"])).await? {
                self.add(Channel::History, name, tale.watch.history(&arn).await?);
            }
        }
        Ok(())
    }

    async fn parameters(&mut self) -> Result<(), CallError> {
        let all = self.pages("ssm", "AmazonSSM.DescribeParameters", ("NextToken", "Parameters")).await?;
        for parameter in all {
            // What describes a parameter is never encrypted.
            let name = text(&parameter["Name"]);
            let ask = json!({"Name": name});
            let history = self.endpoint("ssm").json("AmazonSSM.GetParameterHistory", &ask).await?;
            let open = without_sealed("ssm.GetParameterHistory", history.to_string().as_bytes());
            self.add(Channel::Parameter, name, [parameter.to_string().into_bytes(), open].concat());
        }
        Ok(())
    }

    async fn environments(&mut self) -> Result<(), CallError> {
        let lambda = self.endpoint("lambda");
        let mut marker = String::new();
        loop {
            let listed = lambda.get("ListFunctions", &format!("/2015-03-31/functions/?Marker={marker}")).await?;
            for function in listed["Functions"].as_array().into_iter().flatten() {
                let name = text(&function["FunctionName"]);
                let path = format!("/2015-03-31/functions/{name}/configuration");
                let configuration = lambda.get("GetFunctionConfiguration", &path).await?;
                self.add(Channel::Environment, name, configuration.to_string());
            }
            marker = text(&listed["NextMarker"]);
            if marker.is_empty() {
                return Ok(());
            }
        }
    }

    /// What waits in queues, the lab's own apart: those it has emptied itself.
    async fn queues(&mut self) -> Result<(), CallError> {
        let queues = self.endpoint("sqs");
        let listed = queues.json("AmazonSQS.ListQueues", &json!({})).await?;
        for url in listed["QueueUrls"].as_array().into_iter().flatten().map(text) {
            let name = url.rsplit('/').next().unwrap_or_default().to_owned();
            if [QUEUE, NOTICES].contains(&name.as_str()) {
                continue;
            }
            loop {
                // They come back after a while, for whoever they are meant for.
                let receive = json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 5,
                    "AttributeNames": ["All"], "MessageAttributeNames": ["All"]});
                let answer = queues.json("AmazonSQS.ReceiveMessage", &receive).await?;
                let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
                if messages.is_empty() {
                    break;
                }
                self.add(Channel::Queue, name.as_str(), Value::from(messages).to_string());
            }
        }
        Ok(())
    }

    async fn tables(&mut self) -> Result<(), CallError> {
        let tables = self.endpoint("dynamodb");
        let listed = tables.json("DynamoDB_20120810.ListTables", &json!({})).await?;
        for name in listed["TableNames"].as_array().into_iter().flatten().map(text) {
            let mut ask = json!({"TableName": name});
            loop {
                let scanned = tables.json("DynamoDB_20120810.Scan", &ask).await?;
                self.add(Channel::Ledger, name.as_str(), scanned["Items"].to_string());
                if !scanned["LastEvaluatedKey"].is_object() {
                    break;
                }
                ask["ExclusiveStartKey"] = scanned["LastEvaluatedKey"].clone();
            }
        }
        Ok(())
    }

    /// Everything a call lists, page by page.
    async fn pages(
        &self,
        service: &'static str,
        target: &str,
        (token, list): (&str, &str),
    ) -> Result<Vec<Value>, CallError> {
        let (endpoint, mut ask, mut all) = (self.endpoint(service), json!({}), Vec::new());
        loop {
            let answer = endpoint.json(target, &ask).await?;
            all.extend(answer[list].as_array().cloned().unwrap_or_default());
            if !answer[token].is_string() {
                return Ok(all);
            }
            ask[token] = answer[token].clone();
        }
    }
}

/// A call's body without the values that are meant to be secret: of a SecureString, and of Secrets Manager.
fn without_sealed(operation: &str, body: &[u8]) -> Vec<u8> {
    let is_store = operation.starts_with("secrets_manager.");
    if operation == "acm.ExportCertificate" {
        return without_export(body);
    }
    if !is_store && !operation.starts_with("ssm.") {
        return body.to_vec();
    }
    let Ok(mut document) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    unseal(&mut document, is_store);
    document.to_string().into_bytes()
}

/// An export without the passphrase that is sent and the key that comes back under it: they belong to ACM and to `export`.
fn without_export(body: &[u8]) -> Vec<u8> {
    let Ok(mut document) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    if let Some(fields) = document.as_object_mut() {
        fields.remove("Passphrase");
        fields.remove("PrivateKey");
    }
    document.to_string().into_bytes()
}

fn unseal(value: &mut Value, is_store: bool) {
    match value {
        Value::Object(fields) => {
            if fields.get("Type").is_some_and(|kind| kind == "SecureString") {
                fields.remove("Value");
            }
            if is_store {
                fields.remove("SecretString");
                fields.remove("SecretBinary");
            }
            fields.values_mut().for_each(|value| unseal(value, is_store));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| unseal(value, is_store)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_to_be_secret_is_left_out() {
        let left = |operation: &str, body: Value| {
            serde_json::from_slice::<Value>(&without_sealed(operation, body.to_string().as_bytes())).unwrap()
        };
        let sealed = json!({"Name": "a", "Type": "SecureString", "Value": "k"});
        let open = json!({"Name": "a", "Type": "String", "Value": "k"});
        assert_eq!(left("ssm.PutParameter", sealed.clone()), json!({"Name": "a", "Type": "SecureString"}));
        assert_eq!(left("ssm.PutParameter", open.clone()), open);
        let both = left("ssm.GetParametersByPath", json!({"Parameters": [&sealed, &open]}));
        assert_eq!(both, json!({"Parameters": [{"Name": "a", "Type": "SecureString"}, open]}));
        assert_eq!(left("dynamodb.PutItem", sealed.clone()), sealed);
        let secret = json!({"Name": "a", "SecretString": "k", "Description": "d"});
        assert_eq!(left("secrets_manager.CreateSecret", secret), json!({"Name": "a", "Description": "d"}));
        assert_eq!(without_sealed("ssm.PutParameter", b"no json"), b"no json");
    }
}
