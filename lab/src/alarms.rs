//! CloudWatch's alarms, as far as the template uses them: what a metric alarm says of the data points that there are. No
//! emulator looks at its alarms but when somebody puts a metric, and none keeps the time in which data is missing.
//!
//! Strict: a definition that holds anything else than is evaluated here is an error, and so an alarm is never passed over.
//! What it rests on: CloudWatch user guide, "Alarm evaluation" and "Configuring how CloudWatch alarms treat missing data".

pub mod composite;
pub mod metrics;
pub mod monitor;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use metrics::{Metrics, Series, Statistic};

/// So many data points beyond the evaluation periods are retrieved, for where some are missing. The guide's examples have
/// two; of how many there are in truth it says only that it depends on the period.
const FURTHER: usize = 2;

/// An alarm's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Within the threshold.
    Ok,
    /// Outside it.
    Alarm,
    /// Nobody knows yet.
    InsufficientData,
}

impl State {
    /// As CloudWatch writes it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }
}

/// Why a definition is not evaluated.
#[derive(Debug, thiserror::Error)]
pub enum AlarmError {
    /// It has a member or a word that nothing here evaluates.
    #[error("alarm {id} is not understood")]
    Definition {
        /// The alarm's name in the template.
        id: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// It has a member that would change what it means.
    #[error("alarm {id} has {member}, which is not evaluated here")]
    Member {
        /// The alarm's name in the template.
        id: String,
        /// The member.
        member: &'static str,
    },
    /// A composite alarm's rule.
    #[error("the rule of {id}: {problem}")]
    Rule {
        /// The alarm's name in the template.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// How a value is held against the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Comparison {
    #[serde(rename = "GreaterThanThreshold")]
    Above,
    #[serde(rename = "GreaterThanOrEqualToThreshold")]
    AtLeast,
    #[serde(rename = "LessThanThreshold")]
    Below,
    #[serde(rename = "LessThanOrEqualToThreshold")]
    AtMost,
}

impl Comparison {
    fn is_breached(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::AtLeast => value >= threshold,
            Self::Below => value < threshold,
            Self::AtMost => value <= threshold,
        }
    }
}

/// What a data point that is missing counts as. The template leaves none at `missing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Missing {
    Breaching,
    NotBreaching,
    Ignore,
}

/// A metric alarm.
#[derive(Debug, Clone)]
pub struct Alarm {
    /// Its name in the template.
    pub id: String,
    /// What it watches.
    pub series: Series,
    /// Whether it has an action for `ALARM`.
    pub calls: bool,
    statistic: Statistic,
    period: Duration,
    periods: usize,
    datapoints: usize,
    threshold: f64,
    comparison: Comparison,
    missing: Missing,
}

/// As `DescribeAlarms` answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    namespace: String,
    metric_name: String,
    dimensions: Vec<Dimension>,
    statistic: Statistic,
    period: i64,
    evaluation_periods: usize,
    datapoints_to_alarm: Option<usize>,
    threshold: f64,
    comparison_operator: Comparison,
    treat_missing_data: Missing,
    actions_enabled: bool,
    alarm_actions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dimension {
    name: String,
    value: String,
}

impl Alarm {
    /// An alarm as it was deployed.
    ///
    /// # Errors
    /// It has something that is not evaluated here.
    pub fn read(id: &str, described: &Value) -> Result<Self, AlarmError> {
        for member in ["Metrics", "ExtendedStatistic", "Unit", "EvaluationWindow", "EvaluateLowSampleCountPercentile"] {
            if !described[member].is_null() {
                return Err(AlarmError::Member { id: id.to_owned(), member });
            }
        }
        let given = Described::deserialize(described);
        let given = given.map_err(|source| AlarmError::Definition { id: id.to_owned(), source })?;
        let dimensions = given.dimensions.into_iter().map(|one| (one.name, one.value)).collect();
        Ok(Self {
            id: id.to_owned(),
            series: Series { namespace: given.namespace, name: given.metric_name, dimensions },
            calls: given.actions_enabled && !given.alarm_actions.is_empty(),
            statistic: given.statistic,
            period: Duration::seconds(given.period),
            periods: given.evaluation_periods,
            datapoints: given.datapoints_to_alarm.unwrap_or(given.evaluation_periods),
            threshold: given.threshold,
            comparison: given.comparison_operator,
            missing: given.treat_missing_data,
        })
    }

    /// Its state at `now`; `before` is what it was a minute ago. The window slides, as it does by default.
    pub fn state(&self, metrics: &Metrics, now: OffsetDateTime, before: State) -> State {
        let points: Vec<Option<bool>> = (0..self.periods + FURTHER)
            .map(|back| {
                let back = i32::try_from(back).unwrap_or(i32::MAX);
                let until = now.saturating_sub(self.period.saturating_mul(back));
                let value = metrics.value(&self.series, self.statistic, until.saturating_sub(self.period), until);
                value.map(|value| self.comparison.is_breached(value, self.threshold))
            })
            .collect();
        self.judge(&points, before)
    }

    /// What the data points of the evaluation range come to, the newest first: whether each is breaching, if it is there.
    fn judge(&self, points: &[Option<bool>], before: State) -> State {
        let there: Vec<bool> = points.iter().copied().flatten().take(self.periods).collect();
        let breaching = there.iter().filter(|breaching| **breaching).count();
        let filled = match self.missing {
            Missing::Breaching => self.periods - there.len(),
            Missing::NotBreaching | Missing::Ignore => 0,
        };
        let is_known = there.len() >= self.periods || self.missing != Missing::Ignore;
        if breaching + filled >= self.datapoints {
            State::Alarm
        } else if is_known || there.contains(&false) {
            State::Ok
        } else {
            before
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn described(missing: &str, datapoints: usize) -> Value {
        json!({"Namespace": "N", "MetricName": "M", "Dimensions": [{"Name": "D", "Value": "v"}], "Statistic": "Sum",
            "Period": 300, "EvaluationPeriods": 3, "DatapointsToAlarm": datapoints, "Threshold": 0.0,
            "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": missing, "ActionsEnabled": true,
            "AlarmActions": ["arn"]})
    }

    /// The guide's two tables, of an alarm of three periods: the points with the newest on the right, and what comes of them
    /// where what is missing is ignored, breaching, not breaching. `-` retains the state.
    const TOLD: [(usize, &str, &str); 10] = [
        (3, "0-X-X", "OOO"),
        (3, "0----", "OOO"),
        (3, "-----", "-AO"),
        (3, "0XX-X", "AAA"),
        (3, "--X--", "-AO"),
        (2, "0-X-X", "AAA"),
        (2, "00X0X", "AAA"),
        (2, "0-X--", "OAO"),
        (2, "----0", "OAO"),
        (2, "---X-", "-AO"),
    ];

    #[test]
    fn missing_data_is_treated_as_the_guide_says() {
        for (datapoints, points, expected) in TOLD {
            let seen: Vec<Option<bool>> =
                points.chars().rev().map(|point| (point != '-').then_some(point == 'X')).collect();
            for (missing, expected) in ["ignore", "breaching", "notBreaching"].into_iter().zip(expected.chars()) {
                let alarm = Alarm::read("A", &described(missing, datapoints)).unwrap();
                for before in [State::Ok, State::Alarm] {
                    let expected = match expected {
                        'A' => State::Alarm,
                        'O' => State::Ok,
                        _ => before,
                    };
                    assert_eq!(alarm.judge(&seen, before), expected, "{datapoints} of 3, {missing}: {points}");
                }
            }
        }
    }

    #[test]
    fn a_window_slides_by_the_minute_and_other_dimensions_are_another_metric() {
        let alarm = Alarm::read("A", &described("notBreaching", 1)).unwrap();
        let at = |minutes: i64| OffsetDateTime::UNIX_EPOCH + Duration::minutes(minutes);
        let mut metrics = Metrics::default();
        let mut other = alarm.series.clone();
        other.dimensions.insert("E".to_owned(), "w".to_owned());
        metrics.put(other, at(30), 1.0);
        assert_eq!(alarm.state(&metrics, at(31), State::Ok), State::Ok);
        metrics.put(alarm.series.clone(), at(30), 1.0);
        let states: Vec<State> = [30, 31, 55, 56].map(|now| alarm.state(&metrics, at(now), State::Ok)).to_vec();
        assert_eq!(states, [State::Ok, State::Alarm, State::Alarm, State::Ok]);
    }

    #[test]
    fn what_is_not_evaluated_is_refused() {
        for (member, value) in [("Metrics", json!([])), ("Unit", json!("Count")), ("EvaluationWindow", json!({}))] {
            let mut given = described("ignore", 3);
            given[member] = value;
            assert!(matches!(Alarm::read("A", &given), Err(AlarmError::Member { .. })), "{member}");
        }
        for (member, value) in [("TreatMissingData", "missing"), ("Statistic", "Average")] {
            let mut given = described("ignore", 3);
            given[member] = json!(value);
            assert!(matches!(Alarm::read("A", &given), Err(AlarmError::Definition { .. })), "{member}");
        }
    }
}
