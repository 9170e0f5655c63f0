//! The alarms' clock, and what is laid out on it: what the functions wrote and what the services saw, at the moments at which it
//! was. Hours in which nothing is to happen are left out: whatever is seen afterwards lies so much later.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::super::{StoryError, Tale, deploy};
use crate::alarms::composite::Composite;
use crate::alarms::metrics::{Metrics, Series, embedded};
use crate::alarms::monitor::Monitor;
use crate::alarms::{Alarm, State};
use crate::aws::{CallError, Endpoint};
use crate::report::Raised;
use crate::setup::FUNCTIONS;

/// ACM counts the days of a certificate twice a day.
const COUNTED_EVERY: Duration = Duration::hours(12);

/// A clock that leaves hours out.
#[derive(Debug, Clone, Default)]
struct Clock {
    /// When, and how long.
    left_out: Vec<(OffsetDateTime, Duration)>,
}

impl Clock {
    /// What this clock shows at a moment.
    fn at(&self, real: OffsetDateTime) -> OffsetDateTime {
        let before = self.left_out.iter().filter(|(when, _)| *when <= real).map(|(_, long)| *long);
        before.fold(real, OffsetDateTime::saturating_add)
    }
}

/// The deployed alarms, and all that is known of what they watch.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) monitor: Monitor,
    /// The metric alarms' deployed names.
    names: BTreeMap<String, String>,
    composites: Vec<(String, Value)>,
    clock: Clock,
    /// What was seen before is not looked at.
    begun: OffsetDateTime,
    /// What services publish by themselves, laid out already.
    published: Metrics,
    /// When ACM counts next, on the alarms' clock.
    counts_at: OffsetDateTime,
    seen: Metrics,
    /// What invocations that failed said, and when on the alarms' clock.
    failures: Vec<(OffsetDateTime, String)>,
    eyes: Eyes,
    /// What happens, and since when on the alarms' clock, in order.
    causes: Vec<(String, OffsetDateTime)>,
    /// How many calls were accounted for.
    accounted: usize,
}

impl Stage {
    /// The alarms of the deployed template.
    pub(super) async fn set(tale: &Tale) -> Result<Self, StoryError> {
        let (eyes, begun) = (Eyes::new(&tale.world.ministack), OffsetDateTime::now_utc());
        // What other scenarios left unhandled is theirs: whoever operates this would have seen to it.
        eyes.empty(deploy::output(&tale.plane, "DeadLetterQueue")?).await?;
        let (names, alarms) = deployed(tale, &eyes).await?;
        let composites = tale.world.proxy.composites(deploy::CONTROL_PLANE);
        let read: Result<Vec<Composite>, _> =
            composites.iter().map(|(id, properties)| Composite::read(id, properties)).collect();
        let read = read.map_err(StoryError::boxed("reading the composite alarms"))?;
        let monitor = Monitor::new(alarms, read, begun).map_err(StoryError::boxed("ordering the alarms"))?;
        let (clock, published, seen) = (Clock::default(), Metrics::default(), Metrics::default());
        let (causes, failures, accounted) = (Vec::new(), Vec::new(), 0);
        Ok(Self {
            monitor,
            names,
            composites,
            clock,
            begun,
            published,
            counts_at: begun,
            seen,
            failures,
            eyes,
            causes,
            accounted,
        })
    }

    /// From now on this is what happens.
    pub(super) fn because(&mut self, cause: &str) {
        self.causes.push((cause.to_owned(), self.clock.at(OffsetDateTime::now_utc())));
    }

    /// So much time passes in which nothing else happens than what services do by themselves.
    pub(super) async fn passes(&mut self, tale: &Tale, long: Duration) -> Result<(), StoryError> {
        let now = OffsetDateTime::now_utc();
        let from = self.clock.at(now);
        let until = from.saturating_add(long);
        self.publish(tale, from, until).await?;
        self.clock.left_out.push((now, long));
        (self.seen, self.failures) = self.look(tale).await?;
        self.monitor.look(&self.seen, until);
        Ok(())
    }

    /// What SQS and ACM publish meanwhile: neither changes anything in hours that are left out.
    async fn publish(&mut self, tale: &Tale, from: OffsetDateTime, until: OffsetDateTime) -> Result<(), StoryError> {
        let queue = deploy::output(&tale.plane, "DeadLetterQueue")?;
        let waiting = self.eyes.waiting(queue).await?;
        let name = queue.rsplit('/').next().unwrap_or(queue);
        let depth = Series::of("AWS/SQS", "ApproximateNumberOfMessagesVisible", ("QueueName", name));
        let mut at = from;
        while at < until {
            self.published.put(depth.clone(), at, waiting);
            at = at.saturating_add(Duration::MINUTE);
        }
        let watched = Series::of("AWS/CertificateManager", "DaysToExpiry", ("CertificateArn", &tale.watched));
        while self.counts_at < until {
            let left = tale.world.acm.not_after(&tale.watched).map(|end| end - self.counts_at);
            // It stops counting when a certificate has ended.
            if let Some(left) = left.filter(|left| left.is_positive()) {
                #[expect(clippy::cast_precision_loss, reason = "a few hundred days")]
                self.published.put(watched.clone(), self.counts_at, left.whole_days() as f64);
            }
            self.counts_at = self.counts_at.saturating_add(COUNTED_EVERY);
        }
        Ok(())
    }

    /// Every data point and every failure so far.
    async fn look(&self, tale: &Tale) -> Result<(Metrics, Vec<(OffsetDateTime, String)>), StoryError> {
        let (mut metrics, mut failures) = (self.published.clone(), Vec::new());
        for function in FUNCTIONS.map(|name| tale.function(name)) {
            let of_lambda = |name: &str| Series::of("AWS/Lambda", name, ("FunctionName", &function));
            for Invocation { at, failed, points } in self.eyes.invocations(&function, self.begun).await? {
                let at = self.clock.at(at);
                metrics.put(of_lambda("Invocations"), at, 1.0);
                metrics.put(of_lambda("Errors"), at, if failed.is_some() { 1.0 } else { 0.0 });
                failures.extend(failed.map(|said| (at, format!("{function}: {said}"))));
                for (at, series, value) in points.into_iter().filter(|(at, _, _)| *at >= self.begun) {
                    metrics.put(series, self.clock.at(at), value);
                }
            }
        }
        let machine = deploy::output(&tale.plane, "RotationStateMachine")?;
        let failed = Series::of("AWS/States", "ExecutionsFailed", ("StateMachineArn", machine));
        for at in self.eyes.failed(machine).await?.into_iter().filter(|at| *at >= self.begun) {
            metrics.put(failed.clone(), self.clock.at(at), 1.0);
        }
        Ok((metrics, failures))
    }

    /// How often a function was called since then, and how often it failed.
    pub(super) async fn calls(&self, function: &str, since: OffsetDateTime) -> Result<(usize, usize), StoryError> {
        let all = self.eyes.invocations(function, since).await?;
        Ok((all.len(), all.iter().filter(|one| one.failed.is_some()).count()))
    }

    /// Tells CloudWatch's emulator the states of the metric alarms, so that whoever asks it is answered. Composite alarms find
    /// theirs by its own reading of their rules, which has to be ours.
    pub(super) async fn show(&self) -> Result<(), StoryError> {
        for (id, state) in self.monitor.states().iter().filter(|(id, _)| self.names.contains_key(*id)) {
            self.eyes.set_state(&self.names[id], *state).await?;
        }
        for id in self.monitor.composites().iter().map(|composite| &composite.id) {
            let written = self.composites.iter().find(|(written, _)| written == id).map(|(_, properties)| properties);
            let mut rule =
                written.unwrap_or(&Value::Null)["AlarmRule"]["Fn::Sub"].as_str().unwrap_or_default().to_owned();
            for other in self.monitor.states().keys() {
                rule = rule.replace(&format!("${{{other}}}"), &self.name(other));
            }
            let theirs = self.eyes.composite(&self.name(id), &rule).await?;
            let ours = self.monitor.states().get(id).map_or("not there", |state| state.text());
            if theirs != ours {
                return Err(StoryError::Unmet(format!("{id} is {ours} here, and {theirs} to MiniStack")));
            }
        }
        Ok(())
    }

    fn name(&self, id: &str) -> String {
        self.names.get(id).cloned().unwrap_or_else(|| format!("{}-{id}", deploy::CONTROL_PLANE))
    }

    /// Demands that these alarms are in this state.
    pub(super) fn expect(&self, state: State, ids: &[&str]) -> Result<(), StoryError> {
        let states = self.monitor.states();
        let others: Vec<String> = ids
            .iter()
            .filter(|id| states.get(**id) != Some(&state))
            .map(|id| (id, states.get(*id).map_or("not deployed", |state| state.text())))
            .map(|(id, state)| format!("{id} is {state} ({:?})", self.watched(id)))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let cause = self.causes.last().map(|(cause, _)| cause.as_str()).unwrap_or_default();
        Err(StoryError::Unmet(format!("{cause}: {} is wanted, and {}", state.text(), others.join(", "))))
    }

    /// Demands that these alarms were raised since the last cause, ended or not.
    pub(super) fn expect_raised(&self, ids: &[&str]) -> Result<(), StoryError> {
        let since = self.causes.last().map(|(_, since)| *since);
        let raised = |id: &str| {
            let mut changes = self.monitor.changes.iter().filter(|change| Some(change.at) >= since);
            changes.any(|change| change.id == id && change.state == State::Alarm)
        };
        let others: Vec<String> =
            ids.iter().filter(|id| !raised(id)).map(|id| format!("{id} ({:?})", self.watched(id))).collect();
        if others.is_empty() { Ok(()) } else { Err(StoryError::Unmet(format!("not raised: {}", others.join(", ")))) }
    }

    /// What a metric alarm has seen since the last cause.
    fn watched(&self, id: &str) -> Vec<f64> {
        let alarm = self.monitor.alarms().iter().find(|alarm| alarm.id == id);
        let since = self.causes.last().map(|(_, since)| *since);
        alarm.zip(since).map(|(alarm, since)| self.seen.since(&alarm.series, since)).unwrap_or_default()
    }

    /// Demands that nobody else called since this was asked last.
    pub(super) fn expect_calls(&mut self, expected: &[&str]) -> Result<(), StoryError> {
        let new = self.monitor.calls.get(self.accounted..).unwrap_or_default();
        let mut called: Vec<&str> = new.iter().map(|(id, _)| id.as_str()).collect();
        called.sort_unstable();
        if called == expected {
            self.accounted = self.monitor.calls.len();
            return Ok(());
        }
        let (cause, since) = self.causes.last().cloned().unwrap_or((String::new(), self.begun));
        let failures: Vec<&str> =
            self.failures.iter().filter(|(at, _)| *at >= since).map(|(_, said)| said.as_str()).collect();
        Err(StoryError::Unmet(format!(
            "{cause}: {expected:?} were to call, and {called:?} did; what failed since then: {failures:?}"
        )))
    }

    /// Each time an alarm was raised. Demands that every alarm was `OK`, raised, and `OK` again, and that each watches something
    /// that is there.
    pub(super) fn told(&self) -> Result<Vec<Raised>, StoryError> {
        let blind: Vec<&str> = self
            .monitor
            .alarms()
            .iter()
            .filter(|alarm| !self.seen.knows(&alarm.series))
            .map(|alarm| alarm.id.as_str())
            .collect();
        if !blind.is_empty() {
            return Err(StoryError::Unmet(format!("nobody publishes what {blind:?} watch")));
        }
        for id in self.monitor.states().keys() {
            let mine = self.monitor.changes.iter().filter(|change| change.id == *id).map(|change| change.state);
            let states: Vec<State> = mine.collect();
            let is_driven = states.len() >= 3
                && states.iter().enumerate().all(|(n, state)| *state == [State::Ok, State::Alarm][n % 2])
                && states.last() == Some(&State::Ok);
            if !is_driven {
                return Err(StoryError::Unmet(format!("{id} was not driven from OK to ALARM and back: {states:?}")));
            }
        }
        Ok(self.raised())
    }

    fn raised(&self) -> Vec<Raised> {
        let changes = &self.monitor.changes;
        let of = |(index, change): (usize, &crate::alarms::monitor::Change)| {
            let cause = self.causes.iter().rev().find(|(_, since)| *since <= change.at);
            let (cause, since) = cause.map_or((String::new(), change.at), |(cause, since)| (cause.clone(), *since));
            let rest = changes.get(index + 1..).unwrap_or_default();
            let end = rest.iter().find(|later| later.id == change.id).map(|end| end.at);
            let calls = self.monitor.calls.iter().filter(|(id, _)| *id == change.id).map(|(_, at)| *at);
            let called = calls.into_iter().find(|at| *at >= change.at && end.is_none_or(|end| *at <= end));
            let minutes = |until: OffsetDateTime, from: OffsetDateTime| (until - from).whole_minutes();
            Raised {
                alarm: change.id.clone(),
                cause,
                after_min: minutes(change.at, since),
                lasted_min: end.map(|end| minutes(end, change.at)),
                called_min: called.map(|at| minutes(at, change.at)),
            }
        };
        changes.iter().enumerate().filter(|(_, change)| change.state == State::Alarm).map(of).collect()
    }
}

/// The template's metric alarms, by the names they have there, as CloudFormation deployed them.
async fn deployed(tale: &Tale, eyes: &Eyes) -> Result<(BTreeMap<String, String>, Vec<Alarm>), StoryError> {
    let ask = ["cloudformation", "describe-stack-resources", "--stack-name", deploy::CONTROL_PLANE, "--output", "json"];
    let resources = tale.world.aws().run(&ask).await?;
    let of_kind = resources["StackResources"].as_array().into_iter().flatten();
    let names: BTreeMap<&str, &str> = of_kind
        .filter(|one| one["ResourceType"] == "AWS::CloudWatch::Alarm")
        .filter_map(|one| Some((one["PhysicalResourceId"].as_str()?, one["LogicalResourceId"].as_str()?)))
        .collect();
    let described = eyes.alarms().await?;
    let alarms: Vec<Alarm> = described
        .iter()
        .filter_map(|one| Some((names.get(one["AlarmName"].as_str()?)?, one)))
        .map(|(id, one)| Alarm::read(id, one))
        .collect::<Result<_, _>>()
        .map_err(StoryError::boxed("reading the alarms"))?;
    if alarms.is_empty() || alarms.len() != names.len() {
        return Err(StoryError::Unmet(format!("{} of {} alarms are deployed", alarms.len(), names.len())));
    }
    Ok((names.into_iter().map(|(name, id)| (id.to_owned(), name.to_owned())).collect(), alarms))
}

/// What the services saw, asked of MiniStack itself so that nobody counts it.
#[derive(Debug, Clone)]
struct Eyes {
    base: String,
    metrics: Endpoint,
    logs: Endpoint,
    states: Endpoint,
    queue: Endpoint,
}

impl Eyes {
    fn new(base: &str) -> Self {
        let endpoint = |service| Endpoint::new(service, base);
        let (metrics, logs) = (endpoint("monitoring"), endpoint("logs"));
        Self { base: base.to_owned(), metrics, logs, states: endpoint("states"), queue: endpoint("sqs") }
    }

    async fn alarms(&self) -> Result<Vec<Value>, StoryError> {
        let ask = json!({"AlarmTypes": ["MetricAlarm"], "MaxRecords": 100});
        let answer = self.metrics.json("GraniteServiceVersion20100801.DescribeAlarms", &ask).await?;
        Ok(answer["MetricAlarms"].as_array().cloned().unwrap_or_default())
    }

    async fn set_state(&self, name: &str, state: State) -> Result<(), StoryError> {
        let set = json!({"AlarmName": name, "StateValue": state.text(), "StateReason": "as evaluated"});
        self.metrics.json("GraniteServiceVersion20100801.SetAlarmState", &set).await?;
        Ok(())
    }

    /// Puts a composite alarm; its state.
    async fn composite(&self, name: &str, rule: &str) -> Result<String, StoryError> {
        let put = json!({"AlarmName": name, "AlarmRule": rule});
        self.metrics.json("GraniteServiceVersion20100801.PutCompositeAlarm", &put).await?;
        let ask = json!({"AlarmNames": [name], "AlarmTypes": ["CompositeAlarm"]});
        let answer = self.metrics.json("GraniteServiceVersion20100801.DescribeAlarms", &ask).await?;
        Ok(answer["CompositeAlarms"][0]["StateValue"].as_str().unwrap_or("nothing").to_owned())
    }

    /// The invocations that ended since then. MiniStack counts none that it makes by itself (repetitions of an asynchronous one,
    /// those of an execution), but each has a log stream of its own here.
    async fn invocations(&self, function: &str, since: OffsetDateTime) -> Result<Vec<Invocation>, StoryError> {
        let from = millis(since);
        let mut ask = json!({"logGroupName": format!("/aws/lambda/{function}"), "startTime": from});
        let mut streams: BTreeMap<String, (i64, Vec<String>)> = BTreeMap::new();
        loop {
            let answer = match self.logs.json("Logs_20140328.FilterLogEvents", &ask).await {
                // A function that was never called has no log.
                Err(CallError::Refused { body, .. }) if body.contains("ResourceNotFound") => return Ok(Vec::new()),
                answer => answer?,
            };
            for event in answer["events"].as_array().into_iter().flatten() {
                let stream = event["logStreamName"].as_str().unwrap_or_default().to_owned();
                let (at, lines) = streams.entry(stream).or_default();
                *at = event["timestamp"].as_i64().unwrap_or_default();
                lines.extend(event["message"].as_str().map(str::to_owned));
            }
            if !answer["nextToken"].is_string() || answer["nextToken"] == ask["nextToken"] {
                return streams
                    .into_values()
                    .filter_map(|(at, lines)| Invocation::of(at, &lines).transpose())
                    .collect();
            }
            ask["nextToken"] = answer["nextToken"].clone();
        }
    }

    /// When executions failed.
    async fn failed(&self, machine: &str) -> Result<Vec<OffsetDateTime>, StoryError> {
        let ask = json!({"stateMachineArn": machine, "statusFilter": "FAILED"});
        let answer = self.states.json("AWSStepFunctions.ListExecutions", &ask).await?;
        let ends = answer["executions"].as_array().into_iter().flatten().filter_map(|one| one["stopDate"].as_f64());
        Ok(ends.map(|end| OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::seconds_f64(end))).collect())
    }

    /// Where a queue answers here.
    fn url(&self, queue: &str) -> String {
        format!("{}/{}/{}", self.base, crate::aws::ACCOUNT, queue.rsplit('/').next().unwrap_or(queue))
    }

    async fn empty(&self, queue: &str) -> Result<(), StoryError> {
        self.queue.json("AmazonSQS.PurgeQueue", &json!({"QueueUrl": self.url(queue)})).await?;
        Ok(())
    }

    /// How many messages wait in a queue.
    async fn waiting(&self, queue: &str) -> Result<f64, StoryError> {
        let ask = json!({"QueueUrl": self.url(queue), "AttributeNames": ["ApproximateNumberOfMessages"]});
        let answer = self.queue.json("AmazonSQS.GetQueueAttributes", &ask).await?;
        let count = answer["Attributes"]["ApproximateNumberOfMessages"].as_str().and_then(|text| text.parse().ok());
        count.ok_or_else(|| StoryError::Unmet(format!("the dead letters cannot be counted: {answer}")))
    }
}

/// An invocation that has ended.
#[derive(Debug)]
struct Invocation {
    at: OffsetDateTime,
    /// What it said when it failed, if it did.
    failed: Option<String>,
    points: Vec<(OffsetDateTime, Series, f64)>,
}

impl Invocation {
    /// What its log tells, if it has ended. A function says itself whether it failed; one that says nothing was killed.
    fn of(millis: i64, lines: &[String]) -> Result<Option<Self>, StoryError> {
        if !lines.iter().any(|line| line.starts_with("REPORT ")) {
            return Ok(None);
        }
        let points: Result<Vec<_>, String> = lines.iter().map(|line| embedded(line)).collect();
        let points: Vec<_> = points.map_err(StoryError::Unmet)?.into_iter().flatten().collect();
        let is_well = points.iter().any(|(_, series, value)| series.name == "Failed" && *value == 0.0);
        let said = lines.iter().find(|line| line.contains("invocation failed"));
        let failed = (!is_well).then(|| said.map_or("it said nothing of its end", String::as_str).to_owned());
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
        let at = at.map_err(|_| StoryError::Unmet(format!("{millis} is no time of a log")))?;
        Ok(Some(Self { at, failed, points }))
    }
}

fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_hours_that_were_left_out_lies_so_much_later() {
        let at = |seconds: i64| OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds);
        let clock = Clock { left_out: vec![(at(10), Duration::hours(1)), (at(20), Duration::hours(2))] };
        assert_eq!(clock.at(at(9)), at(9));
        assert_eq!(clock.at(at(15)), at(3_615));
        assert_eq!(clock.at(at(25)), at(10_825));
    }
}
