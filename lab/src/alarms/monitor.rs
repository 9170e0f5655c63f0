//! All alarms of a deployment over the minutes of a clock: how their states change, and who is called for it.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::composite::Composite;
use super::metrics::Metrics;
use super::{Alarm, AlarmError, State};

/// CloudWatch looks at an alarm once a minute.
const LOOK: Duration = Duration::MINUTE;

/// A state that was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The alarm's name in the template.
    pub id: String,
    /// Which state.
    pub state: State,
    /// When.
    pub at: OffsetDateTime,
}

/// Alarms, and what became of them so far.
#[derive(Debug)]
pub struct Monitor {
    alarms: Vec<Alarm>,
    /// Each after those that it needs.
    composites: Vec<Composite>,
    states: BTreeMap<String, State>,
    /// When an alarm was raised last.
    raised: BTreeMap<String, OffsetDateTime>,
    /// When an alarm ended last.
    left: BTreeMap<String, OffsetDateTime>,
    looked: OffsetDateTime,
    /// Every change of a state, in order.
    pub changes: Vec<Change>,
    /// Whenever somebody was called, in order: the alarm, and when.
    pub calls: Vec<(String, OffsetDateTime)>,
}

impl Monitor {
    /// Alarms that nobody has looked at before `now`.
    ///
    /// # Errors
    /// A composite alarm needs one that there is not.
    pub fn new(alarms: Vec<Alarm>, composites: Vec<Composite>, now: OffsetDateTime) -> Result<Self, AlarmError> {
        let unknown = |id: &str| (id.to_owned(), State::InsufficientData);
        let mut states: BTreeMap<String, State> = alarms.iter().map(|alarm| unknown(&alarm.id)).collect();
        let (mut ordered, mut waiting) = (Vec::new(), composites);
        while !waiting.is_empty() {
            let (ready, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|one| one.needs().into_iter().all(|id| states.contains_key(id)));
            if let (true, Some(stuck)) = (ready.is_empty(), others.first()) {
                let problem = format!("it needs {:?}, and not all of them are there", stuck.needs());
                return Err(AlarmError::Rule { id: stuck.id.clone(), problem });
            }
            states.extend(ready.iter().map(|one| unknown(&one.id)));
            ordered.extend(ready);
            waiting = others;
        }
        let (changes, calls) = (Vec::new(), Vec::new());
        let (raised, left) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { alarms, composites: ordered, states, raised, left, looked: now, changes, calls })
    }

    /// The metric alarms.
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    /// The composite alarms, each after those that it needs.
    pub fn composites(&self) -> &[Composite] {
        &self.composites
    }

    /// Every alarm and its state.
    pub fn states(&self) -> &BTreeMap<String, State> {
        &self.states
    }

    /// Looks at every alarm in each minute until then.
    pub fn look(&mut self, metrics: &Metrics, until: OffsetDateTime) {
        while self.looked.saturating_add(LOOK) <= until {
            self.looked = self.looked.saturating_add(LOOK);
            self.minute(metrics, self.looked);
        }
    }

    fn minute(&mut self, metrics: &Metrics, now: OffsetDateTime) {
        let mut ringing = Vec::new();
        for alarm in &self.alarms {
            let before = self.states.get(&alarm.id).copied().unwrap_or(State::InsufficientData);
            let state = alarm.state(metrics, now, before);
            if state == State::Alarm && before != state && alarm.calls {
                ringing.push(alarm.id.clone());
            }
            entered(&mut self.states, &mut self.changes, &mut self.left, (&alarm.id, state, now));
        }
        for composite in &self.composites {
            let state = if composite.rule.is_met(&self.states) { State::Alarm } else { State::Ok };
            if self.states.get(&composite.id) != Some(&State::Alarm) && state == State::Alarm {
                self.raised.insert(composite.id.clone(), now);
            }
            entered(&mut self.states, &mut self.changes, &mut self.left, (&composite.id, state, now));
            let Some(raised_at) = self.raised.get(&composite.id).copied().filter(|_| state == State::Alarm) else {
                continue;
            };
            let has_called = self.calls.iter().any(|(id, at)| *id == composite.id && *at >= raised_at);
            if composite.calls && !has_called && !composite.is_suppressed(&self.states, &self.left, raised_at, now) {
                ringing.push(composite.id.clone());
            }
        }
        self.calls.extend(ringing.into_iter().map(|id| (id, now)));
    }
}

/// Notes a state, and the change if it is one.
fn entered(
    states: &mut BTreeMap<String, State>,
    changes: &mut Vec<Change>,
    left: &mut BTreeMap<String, OffsetDateTime>,
    (id, state, at): (&str, State, OffsetDateTime),
) {
    let before = states.insert(id.to_owned(), state);
    if before != Some(state) {
        changes.push(Change { id: id.to_owned(), state, at });
        if before == Some(State::Alarm) {
            left.insert(id.to_owned(), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alarm(id: &str) -> Alarm {
        let described = json!({"Namespace": "N", "MetricName": id, "Dimensions": [], "Statistic": "Sum", "Period": 60,
            "EvaluationPeriods": 1, "Threshold": 0.0, "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching", "ActionsEnabled": true, "AlarmActions": []});
        Alarm::read(id, &described).unwrap()
    }

    fn composite(id: &str, of: &str, suppressor: Option<&str>) -> Composite {
        let mut properties =
            json!({"AlarmRule": {"Fn::Sub": format!("ALARM(\"${{{of}}}\")")}, "AlarmActions": ["arn"]});
        if let Some(suppressor) = suppressor {
            properties["ActionsSuppressor"] = json!({"Ref": suppressor});
            properties["ActionsSuppressorWaitPeriod"] = json!(120);
            properties["ActionsSuppressorExtensionPeriod"] = json!(60);
        }
        Composite::read(id, &properties).unwrap()
    }

    #[test]
    fn what_follows_from_another_cause_calls_nobody() {
        let at = |minutes: i64| OffsetDateTime::UNIX_EPOCH + Duration::minutes(minutes);
        let composites = || vec![composite("Follows", "Effect", Some("Leads")), composite("Leads", "Cause", None)];
        let mut metrics = Metrics::default();
        let (cause, effect) = (alarm("Cause"), alarm("Effect"));
        // The cause is noticed a minute later, and its effect is over with it; the second effect has no such cause.
        metrics.put(cause.series.clone(), at(3), 1.0);
        metrics.put(effect.series.clone(), at(2), 1.0);
        metrics.put(effect.series.clone(), at(3), 1.0);
        (20..30).for_each(|minute| metrics.put(effect.series.clone(), at(minute), 1.0));
        let mut monitor = Monitor::new(vec![cause, effect.clone()], composites(), at(0)).unwrap();
        monitor.look(&metrics, at(40));
        let states: Vec<State> =
            monitor.changes.iter().filter(|change| change.id == "Follows").map(|change| change.state).collect();
        assert_eq!(states[..4], [State::Ok, State::Alarm, State::Ok, State::Alarm]);
        let called: Vec<(&str, OffsetDateTime)> = monitor.calls.iter().map(|(id, at)| (id.as_str(), *at)).collect();
        assert_eq!(called, [("Leads", at(4)), ("Follows", at(23))]);
        let stuck = Monitor::new(vec![effect], composites(), at(0));
        assert!(matches!(stuck, Err(AlarmError::Rule { .. })));
    }
}
