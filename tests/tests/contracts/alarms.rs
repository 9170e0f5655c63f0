//! The alarms: what they watch, whom they call, that CloudWatch takes their rules, and that one cause rings once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use espalier_tests::{Template, read, texts};
use regex::Regex;
use serde_json::Value;

const SIMPLE: &str = "AWS::CloudWatch::Alarm";
const COMPOSITE: &str = "AWS::CloudWatch::CompositeAlarm";

static TOKEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"ALARM\("\$\{\w+\}"\)|AND|OR|NOT|\(|\)|\S+"#).unwrap());

/// A composite alarm's rule (API reference, `PutCompositeAlarm`, `AlarmRule`).
#[derive(Debug)]
enum Rule {
    /// `ALARM("...")`, the only one of the functions that the template uses.
    Alarm(String),
    All(Vec<Rule>),
    Any(Vec<Rule>),
    Not(Box<Rule>),
}

impl Rule {
    /// `AND` and `OR` are not mixed without parentheses, so that nobody has to know which binds tighter.
    fn parse(text: &str) -> Self {
        let tokens: Vec<String> = TOKEN.find_iter(text).map(|found| found.as_str().to_owned()).collect();
        let mut rest = tokens.as_slice();
        let rule = Self::several(&mut rest);
        assert!(rest.is_empty(), "{text}: {rest:?} is left over");
        rule
    }

    fn several(rest: &mut &[String]) -> Self {
        let mut rules = vec![Self::one(rest)];
        let mut by = None;
        while let Some((word @ ("AND" | "OR"), after)) = rest.split_first().map(|(word, after)| (word.as_str(), after))
        {
            assert_eq!(*by.get_or_insert(word), word, "AND and OR beside each other");
            *rest = after;
            rules.push(Self::one(rest));
        }
        if by == Some("OR") { Self::Any(rules) } else { Self::All(rules) }
    }

    fn one(rest: &mut &[String]) -> Self {
        let (first, after) = rest.split_first().expect("a rule ends with an operand");
        *rest = after;
        match first.as_str() {
            "NOT" => Self::Not(Box::new(Self::one(rest))),
            "(" => {
                let inner = Self::several(rest);
                let (close, after) = rest.split_first().expect("a parenthesis closes");
                assert_eq!(close, ")");
                *rest = after;
                inner
            }
            word => {
                let name = word.strip_prefix("ALARM(\"${").and_then(|name| name.strip_suffix("}\")"));
                Self::Alarm(name.unwrap_or_else(|| std::panic::panic_any(format!("{word} is no operand"))).to_owned())
            }
        }
    }

    fn children(&self) -> Vec<&str> {
        match self {
            Self::Alarm(name) => vec![name],
            Self::All(rules) | Self::Any(rules) => rules.iter().flat_map(Self::children).collect(),
            Self::Not(rule) => rule.children(),
        }
    }

    fn is_met(&self, raised: &BTreeSet<String>) -> bool {
        match self {
            Self::Alarm(name) => raised.contains(name),
            Self::All(rules) => rules.iter().all(|rule| rule.is_met(raised)),
            Self::Any(rules) => rules.iter().any(|rule| rule.is_met(raised)),
            Self::Not(rule) => !rule.is_met(raised),
        }
    }
}

fn rule(properties: &Value) -> Rule {
    Rule::parse(properties["AlarmRule"]["Fn::Sub"].as_str().expect("a rule names alarms by `!Sub`"))
}

fn ids(template: &Template, kind: &str) -> BTreeSet<String> {
    template.resources(kind).map(|(id, _)| id.to_owned()).collect()
}

fn suppressor(properties: &Value) -> Option<&str> {
    properties["ActionsSuppressor"]["Ref"].as_str()
}

fn calls(properties: &Value) -> bool {
    properties["AlarmActions"][0]["Ref"] == "Notifications"
}

/// The composite alarms, each after those that it depends on.
fn in_order(template: &Template) -> Vec<(&str, &Value)> {
    let mut known = ids(template, SIMPLE);
    let mut left: Vec<_> = template.resources(COMPOSITE).collect();
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let is_ready = |(_, given): &(&str, &Value)| {
            rule(given).children().into_iter().chain(suppressor(given)).all(|name| known.contains(name))
        };
        let (ready, others): (Vec<_>, Vec<_>) = left.into_iter().partition(is_ready);
        let stuck: Vec<_> = others.iter().map(|(id, _)| id).collect();
        assert!(
            !ready.is_empty(),
            "{stuck:?} refer to each other, or to what is no alarm: CloudWatch stops evaluating cycles"
        );
        known.extend(ready.iter().map(|(id, _)| (*id).to_owned()));
        ordered.extend(ready);
        left = others;
    }
    ordered
}

#[test]
fn cloudwatch_takes_the_composite_alarms() {
    let template = Template::read("template.yaml");
    for (id, given) in in_order(&template) {
        let text = given["AlarmRule"]["Fn::Sub"].as_str().unwrap();
        // A deployed name has 255 characters at most.
        let children = rule(given).children().len();
        assert!(children <= 100 && text.len() + children * 255 <= 10_240, "{id}: the rule is too long");
        assert!(given["AlarmDescription"].as_str().is_some_and(|text| text.len() <= 1024), "{id}");
        let periods =
            ["ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod"].map(|name| given[name].as_u64());
        assert_eq!(
            periods.map(|given| given.is_some()),
            [suppressor(given).is_some(); 2],
            "{id}: both, or no suppressor"
        );
        assert!(suppressor(given).is_none_or(|name| name != id && !rule(given).children().contains(&name)), "{id}");
    }
    for (id, given) in template.resources(SIMPLE) {
        let [period, periods] = ["Period", "EvaluationPeriods"].map(|name| given[name].as_u64().unwrap());
        assert!(period * periods <= 86_400, "{id} looks back further than a day");
        assert!(given["DatapointsToAlarm"].as_u64().is_none_or(|needed| (1..=periods).contains(&needed)), "{id}");
    }
}

#[test]
fn the_alarms_watch_every_function_the_state_machine_and_the_dead_letters_and_each_reaches_a_person_one_way() {
    let template = Template::read("template.yaml");
    let composites = in_order(&template);
    let mut watched = BTreeSet::new();
    for (id, alarm) in template.resources(SIMPLE) {
        assert!(alarm["AlarmDescription"].is_string(), "{id} does not say what it means");
        let over: Vec<_> = composites
            .iter()
            .filter(|(_, over)| calls(over) && rule(over).is_met(&BTreeSet::from([id.to_owned()])))
            .map(|(over, _)| over)
            .collect();
        assert_eq!(usize::from(calls(alarm)) + over.len(), 1, "{id} calls by itself: {}; by {over:?}", calls(alarm));
        let value = &alarm["Dimensions"][0]["Value"];
        let of = value["Ref"].as_str().or(value["Fn::GetAtt"][0].as_str()).unwrap_or_default();
        watched.insert(of.to_owned());
    }
    // A view that fails is seen by whoever looks at it; nobody is called for that.
    let acting = template.functions().map(|(id, _)| id.to_owned()).filter(|id| id != "Fleet");
    let mut needed: BTreeSet<String> = acting.collect();
    needed.extend(["Rotation".to_owned(), "DeadLetters".to_owned()]);
    let unwatched: Vec<_> = needed.difference(&watched).collect();
    assert!(unwatched.is_empty(), "no alarm watches {unwatched:?}");
}

/// Who calls while these alarms are raised, waits and extensions past.
fn rings(template: &Template, raised: &[&str]) -> BTreeSet<String> {
    let known = ids(template, SIMPLE);
    let mut raised: BTreeSet<String> = raised.iter().map(|name| (*name).to_owned()).collect();
    assert!(raised.is_subset(&known), "{raised:?}");
    let mut ringing: BTreeSet<String> = template
        .resources(SIMPLE)
        .filter(|(id, given)| raised.contains(*id) && calls(given))
        .map(|(id, _)| id.to_owned())
        .collect();
    for (id, given) in in_order(template) {
        if rule(given).is_met(&raised) {
            raised.insert(id.to_owned());
            if calls(given) && suppressor(given).is_none_or(|name| !raised.contains(name)) {
                ringing.insert(id.to_owned());
            }
        }
    }
    ringing
}

#[test]
fn one_cause_rings_once() {
    let template = Template::read("template.yaml");
    let causes: BTreeMap<&str, (&[&str], &[&str])> = BTreeMap::from([
        (
            "the ledger denies everybody",
            (
                &[
                    "RotateErrors",
                    "ProvisionErrors",
                    "MintErrors",
                    "DistributeErrors",
                    "RotationFailed",
                    "LettersWaiting",
                ][..],
                &["LookingFails"][..],
            ),
        ),
        (
            "the sweep is disabled, and verify has lost its subnets",
            (&["SweepSilent", "VerifyErrors"], &["LookingFails"]),
        ),
        ("rotate cannot read one stack's records", (&["RotateErrors", "LettersWaiting"], &["LookingFails"])),
        ("the issuing key denies mint", (&["RotateBlocked"], &["RotateBlocked"])),
        ("a verifier does not acknowledge the next authority", (&["AuthorityBlocked"], &["AuthorityBlocked"])),
        ("a target's group shuts everybody out", (&["VerificationFailing"], &["VerificationFailing"])),
        ("a CAA record forbids ACM", (&["AcmBlocked"], &["AcmBlocked"])),
        ("the leaf key denies mint", (&["MintErrors"], &["WorkFails"])),
        ("provision may not call VPC Lattice", (&["ProvisionErrors", "LettersWaiting"], &["WorkFails"])),
        ("a rule may not call its function", (&["LettersWaiting"], &["LettersLeft"])),
        // Two causes, or one that has come close to an outage.
        ("one stack halted while mint fails", (&["RotateBlocked", "MintErrors"], &["RotateBlocked", "WorkFails"])),
        ("nobody looked for days", (&["SweepSilent", "SlackShort"], &["LookingFails", "SlackShort"])),
    ]);
    for (cause, (raised, expected)) in causes {
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(rings(&template, raised), expected, "{cause}");
    }
    // What comes before an outage is never suppressed.
    let all: Vec<String> = ids(&template, SIMPLE).into_iter().collect();
    let everything = rings(&template, &all.iter().map(String::as_str).collect::<Vec<_>>());
    let never = [
        "SlackShort",
        "VerificationFailing",
        "RotateBlocked",
        "AuthorityBlocked",
        "AcmBlocked",
        "CertificateEnding",
        "LookingFails",
    ];
    for name in never {
        assert!(everything.contains(name), "{name} is suppressed");
    }
}

#[test]
fn every_alarm_has_its_section_in_the_runbook() {
    let template = Template::read("template.yaml");
    let alarms: BTreeSet<String> = ids(&template, SIMPLE).union(&ids(&template, COMPOSITE)).cloned().collect();
    let page = read("docs/runbook.md");
    let page = page.split("\n## Alarms").nth(1).unwrap().split("\n## ").next().unwrap();
    let sections: Vec<(&str, &str)> = page.split("\n### ").skip(1).filter_map(|one| one.split_once('\n')).collect();
    for (name, text) in &sections {
        let told = ["**Means**", "**Done already**", "**Do**", "**Verify**"];
        assert!(told.iter().all(|part| text.contains(part)), "{name} does not say {told:?}");
    }
    let sections: BTreeSet<String> = sections.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(sections, alarms);
    // Who is called finds at once what it is about.
    for (id, given) in template.resources(COMPOSITE) {
        let section = page.split(&format!("### {id}\n")).nth(1).unwrap().split("\n### ").next().unwrap();
        let children = rule(given);
        let unnamed: Vec<_> =
            children.children().into_iter().filter(|name| !section.contains(&format!("`{name}`"))).collect();
        assert!(unnamed.is_empty(), "{id}: its section does not name {unnamed:?}");
    }
}

#[test]
fn an_alarm_tells_its_end_to_whom_it_told_its_beginning() {
    let template = Template::read("template.yaml");
    for (id, given) in template.resources(SIMPLE).chain(template.resources(COMPOSITE)) {
        // Told once, for good.
        if calls(given) && id != "CertificateLapsing" {
            assert_eq!(texts(&given["OKActions"]), texts(&given["AlarmActions"]), "{id}");
            assert_eq!(given["OKActions"], given["AlarmActions"], "{id}");
        }
    }
}
