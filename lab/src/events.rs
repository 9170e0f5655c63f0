//! The default event bus, as far as AWS's own services put events on it.
//!
//! No emulator lets anybody put an event of an `aws.*` source on its bus, nor retries a failed delivery. So the lab
//! reads the rules that were *deployed*, has their patterns matched by the emulator (`TestEventPattern`, a matcher that
//! is not ours), and calls the targets as EventBridge does: Lambda functions asynchronously.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::aws::{ACCOUNT, CallError, Endpoint, REGION};
use crate::chaos::{Chaos, EventFault};
use crate::ssm::EventSink;

/// An event to put on the bus.
#[derive(Debug, Clone)]
pub struct Event {
    /// `source`.
    pub source: String,
    /// `detail-type`.
    pub detail_type: String,
    /// `resources`.
    pub resources: Vec<String>,
    /// `detail`.
    pub detail: Value,
}

/// An event and where it went.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The whole envelope.
    pub event: Value,
    /// The rule that matched.
    pub rule: String,
    /// The target's ARN.
    pub target: String,
    /// Why it could not be delivered.
    pub failure: Option<String>,
}

/// The bus.
#[derive(Debug, Clone)]
pub struct EventRouter {
    events: Endpoint,
    lambda: Endpoint,
    record: Arc<Mutex<Record>>,
    /// Whose events the bus takes beside its own account's.
    policy: Arc<Mutex<Value>>,
    chaos: Chaos,
}

#[derive(Debug, Default)]
struct Record {
    events: Vec<Value>,
    deliveries: Vec<Delivery>,
}

impl EventRouter {
    /// A bus with the rules that are deployed in the MiniStack at `base`.
    pub fn new(base: &str) -> Self {
        let (events, lambda) = (Endpoint::new("events", base), Endpoint::new("lambda", base));
        Self { events, lambda, record: Arc::default(), policy: Arc::default(), chaos: Chaos::default() }
    }

    /// The same bus, with events at the mercy of `chaos`.
    pub fn under(self, chaos: &Chaos) -> Self {
        Self { chaos: chaos.clone(), ..self }
    }

    /// Puts an event on the bus; returns once every matching target was called, or chaos had its way.
    pub async fn put(&self, event: Event) {
        let envelope = self.envelope(ACCOUNT, &event);
        let (number, fault) = self.chaos.on_event();
        match fault {
            None => {}
            Some(EventFault::Delay(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Some(EventFault::Drop) => return,
            Some(EventFault::Twice) => self.match_rules(envelope.clone()).await,
            Some(EventFault::Overtaken) => self.chaos.overtaken(number).await,
        }
        self.match_rules(envelope).await;
    }

    /// The statement of the bus's policy that was deployed.
    pub fn set_policy(&self, statement: Value) {
        if let Ok(mut policy) = self.policy.lock() {
            *policy = statement;
        }
    }

    /// Puts an event of another account, which a rule there sends to this bus, if the bus's policy admits it (EventBridge user
    /// guide, sending and receiving events between accounts). Whose it is, EventBridge says.
    pub async fn forward(&self, account: &str, event: Event) {
        let envelope = self.envelope(account, &event);
        if self.admits(account, &event.source) {
            self.match_rules(envelope).await;
        } else {
            self.note(&envelope, "the bus's policy", "", Some(format!("{account} may not put {}", event.source)));
        }
    }

    fn admits(&self, account: &str, source: &str) -> bool {
        let Ok(policy) = self.policy.lock() else { return false };
        let has = |value: &Value, wanted: &str| {
            value == wanted || value.as_array().is_some_and(|all| all.iter().any(|one| one == wanted))
        };
        let condition = &policy["Condition"]["ForAllValues:StringEquals"]["events:source"];
        policy["Effect"] == "Allow"
            && has(&policy["Action"], "events:PutEvents")
            && has(&policy["Principal"]["AWS"], account)
            && (condition.is_null() || has(condition, source))
    }

    async fn match_rules(&self, envelope: Value) {
        let rules = match self.list_rules().await {
            Ok(rules) => rules,
            Err(error) => return self.note(&envelope, "ListRules", "", Some(error.to_string())),
        };
        for rule in rules.iter().filter(|rule| rule["State"] != "DISABLED") {
            let (name, pattern) = (text(&rule["Name"]), text(&rule["EventPattern"]));
            if !pattern.is_empty() && self.matches(&pattern, &envelope).await {
                self.deliver(&name, &envelope).await;
            }
        }
    }

    /// Fires every deployed rule that has a schedule and is not disabled, now. Returns how many targets were called.
    pub async fn fire_schedules(&self) -> Result<usize, CallError> {
        let mut called = 0;
        for rule in self.list_rules().await? {
            if !text(&rule["ScheduleExpression"]).is_empty() && rule["State"] != "DISABLED" {
                let resources = vec![text(&rule["Arn"])];
                let (source, detail_type) = ("aws.events".to_owned(), "Scheduled Event".to_owned());
                let envelope = self.envelope(ACCOUNT, &Event { source, detail_type, resources, detail: json!({}) });
                called += self.deliver(&text(&rule["Name"]), &envelope).await;
            }
        }
        Ok(called)
    }

    /// Every event that was put.
    pub fn events(&self) -> Vec<Value> {
        self.record.lock().map(|record| record.events.clone()).unwrap_or_default()
    }

    /// Every delivery that was tried.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.record.lock().map(|record| record.deliveries.clone()).unwrap_or_default()
    }

    /// The envelope AWS puts around an event (EventBridge user guide, event structure).
    fn envelope(&self, account: &str, event: &Event) -> Value {
        let now = OffsetDateTime::now_utc();
        let mut envelope = json!({
            "version": "0",
            "detail-type": event.detail_type,
            "source": event.source,
            "account": account,
            "time": now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default(),
            "region": REGION,
            "resources": event.resources,
            "detail": event.detail,
        });
        if let Ok(mut record) = self.record.lock() {
            envelope["id"] = format!("00000000-0000-4000-8000-{:012x}", record.events.len()).into();
            record.events.push(envelope.clone());
        }
        envelope
    }

    async fn list_rules(&self) -> Result<Vec<Value>, CallError> {
        let mut rules = Vec::new();
        let mut ask = json!({});
        loop {
            let answer = self.events.json("AWSEvents.ListRules", &ask).await?;
            rules.extend(answer["Rules"].as_array().cloned().unwrap_or_default());
            if answer["NextToken"].is_null() {
                return Ok(rules);
            }
            ask = json!({"NextToken": answer["NextToken"]});
        }
    }

    async fn matches(&self, pattern: &str, envelope: &Value) -> bool {
        let ask = json!({"EventPattern": pattern, "Event": envelope.to_string()});
        match self.events.json("AWSEvents.TestEventPattern", &ask).await {
            Ok(answer) => answer["Result"] == true,
            Err(error) => {
                self.note(envelope, "TestEventPattern", "", Some(error.to_string()));
                false
            }
        }
    }

    /// Calls every target of a rule; how many were called.
    async fn deliver(&self, rule: &str, envelope: &Value) -> usize {
        let targets = match self.events.json("AWSEvents.ListTargetsByRule", &json!({"Rule": rule})).await {
            Ok(answer) => answer["Targets"].as_array().cloned().unwrap_or_default(),
            Err(error) => {
                self.note(envelope, rule, "", Some(error.to_string()));
                return 0;
            }
        };
        for target in &targets {
            let constant = target["Input"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
            let arn = text(&target["Arn"]);
            let failure = self.call(&arn, constant.as_ref().unwrap_or(envelope)).await.err();
            self.note(envelope, rule, &arn, failure);
        }
        targets.len()
    }

    async fn call(&self, arn: &str, payload: &Value) -> Result<(), String> {
        let Some((_, function)) = arn.split_once(":function:") else {
            return Err(format!("the lab delivers AWS's own events to functions only, not to {arn}"));
        };
        let path = format!("/2015-03-31/functions/{function}/invocations");
        self.lambda.post_event(&path, payload).await.map(|_| ()).map_err(|error| error.to_string())
    }

    fn note(&self, event: &Value, rule: &str, target: &str, failure: Option<String>) {
        if let Ok(mut record) = self.record.lock() {
            let (rule, target) = (rule.to_owned(), target.to_owned());
            record.deliveries.push(Delivery { event: event.clone(), rule, target, failure });
        }
    }
}

impl EventSink for EventRouter {
    fn emit(&self, source: &str, detail_type: &str, resources: Vec<String>, detail: Value) {
        let (source, detail_type) = (source.to_owned(), detail_type.to_owned());
        let router = self.clone();
        // The service that emits goes on: delivery is not its business.
        tokio::spawn(async move { router.put(Event { source, detail_type, resources, detail }).await });
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_accounts_event_is_admitted_by_the_buss_policy_alone() {
        let router = EventRouter::new("http://127.0.0.1:9");
        assert!(!router.admits("210987654321", "aws.acm"), "without a policy");
        let condition = json!({"ForAllValues:StringEquals": {"events:source": "aws.acm"}});
        router.set_policy(json!({"Effect": "Allow", "Action": "events:PutEvents", "Condition": condition,
            "Principal": {"AWS": ["210987654321", "000000000001"]}}));
        assert!(router.admits("210987654321", "aws.acm"));
        assert!(!router.admits("321098765432", "aws.acm") && !router.admits("210987654321", "espalier"));
    }
}
