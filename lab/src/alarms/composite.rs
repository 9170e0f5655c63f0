//! Composite alarms: the rule, and who is called when (API reference, `PutCompositeAlarm`; user guide, "Suppressing composite
//! alarm actions").

use std::collections::BTreeMap;

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::{AlarmError, State};

/// `AlarmRule`, over the alarms' names in the template. `AND` binds tighter than `OR`, `NOT` tightest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// `ALARM(..)`, `OK(..)` or `INSUFFICIENT_DATA(..)`.
    Is(State, String),
    /// All of these.
    All(Vec<Rule>),
    /// Any of these.
    Any(Vec<Rule>),
    /// Not this.
    Not(Box<Rule>),
}

impl Rule {
    /// Reads a rule as `Fn::Sub` has it, with an alarm's name in the template between `${` and `}`.
    ///
    /// # Errors
    /// It is no rule; what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = words.as_slice();
        let rule = any(&mut rest)?;
        if rest.is_empty() { Ok(rule) } else { Err(format!("{rest:?} is left over")) }
    }

    /// Whether it is met. An alarm that nobody knows meets nothing.
    pub fn is_met(&self, states: &BTreeMap<String, State>) -> bool {
        match self {
            Self::Is(state, id) => states.get(id) == Some(state),
            Self::All(rules) => rules.iter().all(|rule| rule.is_met(states)),
            Self::Any(rules) => rules.iter().any(|rule| rule.is_met(states)),
            Self::Not(rule) => !rule.is_met(states),
        }
    }

    /// The alarms it is about.
    pub fn children(&self) -> Vec<&str> {
        match self {
            Self::Is(_, id) => vec![id],
            Self::All(rules) | Self::Any(rules) => rules.iter().flat_map(Self::children).collect(),
            Self::Not(rule) => rule.children(),
        }
    }
}

fn any(rest: &mut &[&str]) -> Result<Rule, String> {
    several(rest, "OR", Rule::Any, |rest| several(rest, "AND", Rule::All, one))
}

fn several(
    rest: &mut &[&str],
    by: &str,
    made: impl Fn(Vec<Rule>) -> Rule,
    part: impl Fn(&mut &[&str]) -> Result<Rule, String>,
) -> Result<Rule, String> {
    let first = part(rest)?;
    let mut rules = vec![first];
    while let Some((_, after)) = rest.split_first().filter(|(word, _)| **word == by) {
        *rest = after;
        rules.push(part(rest)?);
    }
    Ok(if rules.len() == 1 { rules.remove(0) } else { made(rules) })
}

fn one(rest: &mut &[&str]) -> Result<Rule, String> {
    match *rest {
        ["NOT", after @ ..] => {
            *rest = after;
            Ok(Rule::Not(Box::new(one(rest)?)))
        }
        ["(", after @ ..] => {
            *rest = after;
            let inner = any(rest)?;
            match *rest {
                [")", after @ ..] => *rest = after,
                other => return Err(format!("no parenthesis closes before {other:?}")),
            }
            Ok(inner)
        }
        [word, "(", name, ")", after @ ..] => {
            *rest = after;
            let state = match *word {
                "ALARM" => State::Alarm,
                "OK" => State::Ok,
                "INSUFFICIENT_DATA" => State::InsufficientData,
                other => return Err(format!("{other} is no state")),
            };
            let id = name.strip_prefix("\"${").and_then(|name| name.strip_suffix("}\""));
            Ok(Rule::Is(state, id.ok_or_else(|| format!("{name} names no alarm of the template"))?.to_owned()))
        }
        other => Err(format!("{other:?} is no operand")),
    }
}

/// A composite alarm.
#[derive(Debug, Clone)]
pub struct Composite {
    /// Its name in the template.
    pub id: String,
    /// When it is raised.
    pub rule: Rule,
    /// Whether it has an action for `ALARM`.
    pub calls: bool,
    suppressor: Option<Suppressor>,
}

/// While this alarm is raised, its composite alarm calls nobody.
#[derive(Debug, Clone)]
struct Suppressor {
    id: String,
    /// So long it may be raised later.
    wait: Duration,
    /// So much longer than it the composite alarm may last.
    extension: Duration,
}

impl Composite {
    /// A composite alarm as the template has it.
    ///
    /// # Errors
    /// It has something that is not evaluated here.
    pub fn read(id: &str, properties: &Value) -> Result<Self, AlarmError> {
        let wrong = |problem: String| AlarmError::Rule { id: id.to_owned(), problem };
        let rule = properties["AlarmRule"]["Fn::Sub"].as_str().ok_or_else(|| wrong("it is no !Sub".to_owned()))?;
        let seconds = |name: &str| properties[name].as_i64().map(Duration::seconds);
        let periods = (seconds("ActionsSuppressorWaitPeriod"), seconds("ActionsSuppressorExtensionPeriod"));
        let suppressor = match (properties["ActionsSuppressor"]["Ref"].as_str(), periods) {
            (Some(id), (Some(wait), Some(extension))) => Some(Suppressor { id: id.to_owned(), wait, extension }),
            (None, (None, None)) if properties["ActionsSuppressor"].is_null() => None,
            other => return Err(wrong(format!("its suppressor is {other:?}"))),
        };
        let calls = properties["AlarmActions"].as_array().is_some_and(|actions| !actions.is_empty());
        Ok(Self { id: id.to_owned(), rule: Rule::parse(rule).map_err(wrong)?, calls, suppressor })
    }

    /// The alarms whose state has to be known before its own.
    pub fn needs(&self) -> Vec<&str> {
        let mut all = self.rule.children();
        all.extend(self.suppressor.as_ref().map(|suppressor| suppressor.id.as_str()));
        all
    }

    /// Whether its actions are held back at `now`, when it has been raised since `raised_at`.
    pub fn is_suppressed(
        &self,
        states: &BTreeMap<String, State>,
        left: &BTreeMap<String, OffsetDateTime>,
        raised_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> bool {
        let Some(Suppressor { id, wait, extension }) = &self.suppressor else { return false };
        let ended = left.get(id).filter(|ended| **ended >= raised_at);
        match (states.get(id), ended) {
            (Some(State::Alarm), _) => true,
            (_, Some(ended)) => now < ended.saturating_add(*extension),
            (_, None) => now < raised_at.saturating_add(*wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(id: &str) -> Rule {
        Rule::Is(State::Alarm, id.to_owned())
    }

    #[test]
    fn rules_are_read_as_cloudwatch_reads_them() {
        let read = Rule::parse(r#"ALARM("${A}") AND NOT ALARM("${B}") OR (OK("${C}"))"#);
        let both = Rule::All(vec![is("A"), Rule::Not(Box::new(is("B")))]);
        assert_eq!(read, Ok(Rule::Any(vec![both, Rule::Is(State::Ok, "C".to_owned())])));
        for wrong in
            ["", "ALARM", r#"ALARM("A")"#, r#"ALARM("${A}") ALARM("${B}")"#, r#"(ALARM("${A}")"#, r#"RAISED("${A}")"#]
        {
            assert!(Rule::parse(wrong).is_err(), "{wrong}");
        }
        let states = BTreeMap::from([("A".to_owned(), State::Alarm), ("B".to_owned(), State::Alarm)]);
        assert!(!Rule::parse(r#"ALARM("${A}") AND NOT ALARM("${B}")"#).unwrap().is_met(&states));
        assert!(Rule::parse(r#"ALARM("${A}") AND NOT ALARM("${C}")"#).unwrap().is_met(&states));
    }

    #[test]
    fn a_call_waits_for_its_suppressor_and_a_while_after_it() {
        let properties = serde_json::json!({"AlarmRule": {"Fn::Sub": "ALARM(\"${A}\")"}, "AlarmActions": [{"Ref": "T"}],
            "ActionsSuppressor": {"Ref": "S"}, "ActionsSuppressorWaitPeriod": 600, "ActionsSuppressorExtensionPeriod": 300});
        let composite = Composite::read("C", &properties).unwrap();
        let at = |minutes: i64| OffsetDateTime::UNIX_EPOCH + Duration::minutes(minutes);
        let with = |state, left: &[i64], now| {
            let left = left.iter().map(|minute| ("S".to_owned(), at(*minute))).collect();
            composite.is_suppressed(&BTreeMap::from([("S".to_owned(), state)]), &left, at(20), at(now))
        };
        assert!(with(State::Ok, &[], 29) && !with(State::Ok, &[], 30), "it waits ten minutes for it");
        assert!(with(State::Alarm, &[], 90), "for as long as it is raised");
        assert!(with(State::Ok, &[40], 44) && !with(State::Ok, &[40], 45), "and five minutes longer");
        assert!(!with(State::Ok, &[10], 30), "what ended before says nothing");
        let bare = serde_json::json!({"AlarmRule": {"Fn::Sub": "ALARM(\"${A}\")"}, "ActionsSuppressor": {"Ref": "S"}});
        assert!(Composite::read("C", &bare).is_err());
    }
}
