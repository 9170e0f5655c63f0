//! Looking at what the product did, from outside: its events, its ledger, its executions, its logs.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::aws::{ACCOUNT, CallError, Endpoint, REGION};
use crate::report::Lambda;

/// The queue on which the lab hears Espalier's own events.
pub const QUEUE: &str = "lab-observer";

/// The queue that gets what a person would be mailed.
pub const NOTICES: &str = "lab-notices";

/// The lab's eyes. It asks MiniStack directly, so that looking is not counted among the product's calls.
#[derive(Debug, Clone)]
pub struct Watch {
    base: String,
    events: Endpoint,
    queue: Endpoint,
    ledger: Endpoint,
    states: Endpoint,
    lambda: Endpoint,
    logs: Endpoint,
    topics: Endpoint,
    record: Arc<Mutex<Record>>,
    /// What came together with an event that was waited for, and after it.
    put_back: Arc<Mutex<Vec<Heard>>>,
}

/// What came to the lab's ears, for the leak check.
#[derive(Debug, Default, Clone)]
pub struct Record {
    /// Espalier's own events, as they came.
    pub events: Vec<String>,
    /// Notifications, as they came.
    pub notices: Vec<String>,
    /// What functions answered when the lab asked them: the function and the answer.
    pub answers: Vec<(String, Value)>,
}

/// One of Espalier's own events, as a consumer receives it.
#[derive(Debug, Clone)]
pub struct Heard {
    /// `detail-type`.
    pub kind: String,
    /// `detail`.
    pub detail: Value,
}

/// A leaf as the ledger tells it.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerGeneration {
    /// Its number.
    pub generation: u32,
    /// Where its bundle is.
    pub parameter: String,
    /// SHA-256 of the leaf; empty of what leaves that are each target's own have in common.
    #[serde(default)]
    pub fingerprint: String,
    /// Serial number, hexadecimal.
    #[serde(default)]
    pub serial: String,
    /// Why it was minted.
    pub because: String,
}

impl Watch {
    /// Watches the MiniStack at `base`.
    pub fn new(base: &str) -> Self {
        let endpoint = |service| Endpoint::new(service, base);
        Self {
            base: base.to_owned(),
            events: endpoint("events"),
            queue: endpoint("sqs"),
            ledger: endpoint("dynamodb"),
            states: endpoint("states"),
            lambda: endpoint("lambda"),
            logs: endpoint("logs"),
            topics: endpoint("sns"),
            record: Arc::default(),
            put_back: Arc::default(),
        }
    }

    /// Subscribes to everything of source `espalier`, as any consumer of the product's events would.
    pub async fn subscribe(&self) -> Result<(), CallError> {
        self.queue.json("AmazonSQS.CreateQueue", &json!({"QueueName": QUEUE})).await?;
        let pattern = json!({"source": ["espalier"]}).to_string();
        self.events.json("AWSEvents.PutRule", &json!({"Name": QUEUE, "EventPattern": pattern})).await?;
        let arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}");
        let targets = json!({"Rule": QUEUE, "Targets": [{"Id": "lab", "Arn": arn}]});
        self.events.json("AWSEvents.PutTargets", &targets).await?;
        Ok(())
    }

    /// Reads along what is sent to a topic.
    pub async fn read_along(&self, topic: &str) -> Result<(), CallError> {
        self.queue.json("AmazonSQS.CreateQueue", &json!({"QueueName": NOTICES})).await?;
        let queue = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{NOTICES}");
        self.topics.form("Subscribe", &[("TopicArn", topic), ("Protocol", "sqs"), ("Endpoint", &queue)]).await
    }

    /// The events since the last call.
    pub async fn hear(&self) -> Result<Vec<Heard>, CallError> {
        let bodies = self.take(QUEUE).await?;
        let mut heard = self.put_back.lock().map(|mut put_back| mem::take(&mut *put_back)).unwrap_or_default();
        heard.extend(bodies.iter().map(|body| {
            let body: Value = serde_json::from_str(body).unwrap_or_default();
            Heard { kind: text(&body["detail-type"]), detail: body["detail"].clone() }
        }));
        self.remember(|record| record.events.extend(bodies));
        Ok(heard)
    }

    /// The next call of [`Self::hear`] hears these once more.
    pub fn put_back(&self, heard: impl IntoIterator<Item = Heard>) {
        if let Ok(mut put_back) = self.put_back.lock() {
            put_back.extend(heard);
        }
    }

    /// Everything that came to the lab's ears so far, what still waits in its queues included.
    pub async fn record(&self) -> Result<Record, CallError> {
        while !self.hear().await?.is_empty() {}
        loop {
            let notices = self.take(NOTICES).await?;
            if notices.is_empty() {
                return Ok(self.record.lock().map(|record| record.clone()).unwrap_or_default());
            }
            self.remember(|record| record.notices.extend(notices));
        }
    }

    /// The next messages of one of the lab's own queues, which then holds them no more.
    async fn take(&self, queue: &str) -> Result<Vec<String>, CallError> {
        let url = format!("{}/{ACCOUNT}/{queue}", self.base);
        let receive = json!({"QueueUrl": url, "MaxNumberOfMessages": 10});
        let answer = self.queue.json("AmazonSQS.ReceiveMessage", &receive).await?;
        let mut bodies = Vec::new();
        for message in answer["Messages"].as_array().into_iter().flatten() {
            let delete = json!({"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]});
            self.queue.json("AmazonSQS.DeleteMessage", &delete).await?;
            bodies.push(text(&message["Body"]));
        }
        Ok(bodies)
    }

    fn remember(&self, note: impl FnOnce(&mut Record)) {
        if let Ok(mut record) = self.record.lock() {
            note(&mut record);
        }
    }

    /// Invokes a function and waits for its answer.
    pub async fn invoke(&self, function: &str, payload: &Value) -> Result<Value, CallError> {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let answer = self.lambda.post("Invoke", &path, payload).await?;
        self.remember(|record| record.answers.push((function.to_owned(), answer.clone())));
        Ok(answer)
    }

    /// Every record of the ledger under `prefix` of a stack, in the order of their keys.
    pub async fn records(&self, table: &str, stack: &str, prefix: &str) -> Result<Vec<Value>, CallError> {
        self.partition(table, &format!("STACK#{stack}"), prefix).await
    }

    /// The same of any partition.
    pub async fn partition(&self, table: &str, pk: &str, prefix: &str) -> Result<Vec<Value>, CallError> {
        let mut query = json!({
            "TableName": table,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": pk}},
        });
        // A key condition takes no empty prefix.
        if !prefix.is_empty() {
            query["KeyConditionExpression"] = "pk = :pk AND begins_with(sk, :sk)".into();
            query["ExpressionAttributeValues"][":sk"] = json!({"S": prefix});
        }
        let answer = self.ledger.json("DynamoDB_20120810.Query", &query).await?;
        let items = answer["Items"].as_array().into_iter().flatten();
        Ok(items
            .filter_map(|item| item["record"]["S"].as_str())
            .filter_map(|record| serde_json::from_str(record).ok())
            .collect())
    }

    /// Writes a record into the ledger, as nobody but the lab does.
    pub async fn write(&self, table: &str, pk: &str, sk: &str, record: &Value) -> Result<(), CallError> {
        let item = json!({"pk": {"S": pk}, "sk": {"S": sk}, "record": {"S": record.to_string()}});
        self.ledger.json("DynamoDB_20120810.PutItem", &json!({"TableName": table, "Item": item})).await?;
        Ok(())
    }

    /// Takes a record out of the ledger.
    pub async fn forget(&self, table: &str, pk: &str, sk: &str) -> Result<(), CallError> {
        let key = json!({"pk": {"S": pk}, "sk": {"S": sk}});
        self.ledger.json("DynamoDB_20120810.DeleteItem", &json!({"TableName": table, "Key": key})).await?;
        Ok(())
    }

    /// The leaves of a stack, oldest first.
    pub async fn generations(&self, table: &str, stack: &str) -> Result<Vec<LedgerGeneration>, CallError> {
        let records = self.records(table, stack, "GENERATION#").await?;
        let generations = records.into_iter().filter_map(|record| serde_json::from_value(record).ok());
        let generations: Vec<LedgerGeneration> = generations.collect();
        if generations.iter().all(|one| !one.fingerprint.is_empty()) {
            return Ok(generations);
        }
        // Each of them before what they have in common, which stays the last of its number.
        let leaves = self.records(table, stack, "LEAF#").await?;
        let mut all = Vec::new();
        for generation in generations {
            for leaf in leaves.iter().filter(|leaf| leaf["generation"] == generation.generation) {
                let (fingerprint, serial) = (text(&leaf["fingerprint"]), text(&leaf["serial"]));
                all.push(LedgerGeneration { fingerprint, serial, ..generation.clone() });
            }
            all.push(generation);
        }
        Ok(all)
    }

    /// The executions of a state machine: name and status.
    pub async fn executions(&self, machine: &str) -> Result<Vec<(String, String, String)>, CallError> {
        let answer = self.states.json("AWSStepFunctions.ListExecutions", &json!({"stateMachineArn": machine})).await?;
        let executions = answer["executions"].as_array().into_iter().flatten();
        Ok(executions.map(|one| (text(&one["name"]), text(&one["status"]), text(&one["executionArn"]))).collect())
    }

    /// How many executions of a state machine are under way.
    pub async fn running(&self, machine: &str) -> Result<usize, CallError> {
        let ask = json!({"stateMachineArn": machine, "statusFilter": "RUNNING"});
        let answer = self.states.json("AWSStepFunctions.ListExecutions", &ask).await?;
        Ok(answer["executions"].as_array().map_or(0, Vec::len))
    }

    /// An execution's whole history, as text.
    pub async fn history(&self, execution: &str) -> Result<String, CallError> {
        let mut ask = json!({"executionArn": execution, "maxResults": 1000, "includeExecutionData": true});
        let mut history = String::new();
        loop {
            let answer = self.states.json("AWSStepFunctions.GetExecutionHistory", &ask).await?;
            history.push_str(&answer.to_string());
            if !answer["nextToken"].is_string() {
                return Ok(history);
            }
            ask["nextToken"] = answer["nextToken"].clone();
        }
    }

    /// Everything a function ever logged, a message a line.
    pub async fn log(&self, function: &str) -> Result<Vec<String>, CallError> {
        self.log_group(&format!("/aws/lambda/{function}")).await
    }

    /// Everything in a log group, a message a line.
    pub async fn log_group(&self, group: &str) -> Result<Vec<String>, CallError> {
        let mut lines = Vec::new();
        let mut token = Value::Null;
        loop {
            let mut ask = json!({"logGroupName": group});
            if token.is_string() {
                ask["nextToken"] = token.clone();
            }
            let answer = match self.logs.json("Logs_20140328.FilterLogEvents", &ask).await {
                Ok(answer) => answer,
                // A function that was never called has no group.
                Err(CallError::Refused { body, .. }) if body.contains("ResourceNotFound") => return Ok(lines),
                Err(error) => return Err(error),
            };
            lines.extend(answer["events"].as_array().into_iter().flatten().map(|event| text(&event["message"])));
            if answer["nextToken"].is_null() || answer["nextToken"] == token {
                return Ok(lines);
            }
            token = answer["nextToken"].clone();
        }
    }

    /// What the Lambda host reports of each function, keyed by its short name.
    pub async fn lambda(&self, functions: &BTreeMap<String, String>) -> Result<BTreeMap<String, Lambda>, CallError> {
        let mut report = BTreeMap::new();
        for (short, name) in functions {
            report.insert(short.clone(), lambda_of(&self.log(name).await?));
        }
        Ok(report)
    }
}

/// Counts `REPORT` lines for invocations and the functions' own error lines for errors.
fn lambda_of(lines: &[String]) -> Lambda {
    let mut durations: Vec<f64> = lines.iter().filter_map(|line| duration_ms(line)).collect();
    durations.sort_by(f64::total_cmp);
    let errors = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["level"] == "ERROR")
        .count();
    Lambda {
        invocations: durations.len() as u64,
        errors: errors as u64,
        p50_ms: durations.get(durations.len() / 2).copied().unwrap_or_default(),
    }
}

fn duration_ms(line: &str) -> Option<f64> {
    let rest = line.strip_prefix("REPORT ")?.split("Duration: ").nth(1)?;
    rest.split(' ').next()?.parse().ok()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Asks again every `pause` until `look` finds something or `limit` is over.
pub async fn until<T, E, F>(limit: Duration, pause: Duration, mut look: F) -> Result<Option<T>, E>
where
    F: AsyncFnMut() -> Result<Option<T>, E>,
{
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = look().await? {
            return Ok(Some(found));
        }
        if tokio::time::Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_report_line() {
        let lines = [
            "START RequestId: 1 Version: $LATEST".to_owned(),
            r#"{"level":"ERROR","fields":{"message":"no"}}"#.to_owned(),
            "REPORT RequestId: 1\tDuration: 12.5 ms\tBilled Duration: 13 ms".to_owned(),
            "REPORT RequestId: 2\tDuration: 3.5 ms\tBilled Duration: 4 ms".to_owned(),
        ];
        let lambda = lambda_of(&lines);
        assert_eq!((lambda.invocations, lambda.errors), (2, 1));
        assert!((lambda.p50_ms - 12.5).abs() < 1e-9);
    }
}
