//! The patterns in the template, judged by moto's matcher, which shares no code with anything here.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use espalier_tests::{Template, root};
use serde_json::{Value, json};

use crate::corpus;

const ACCOUNT: &str = "123456789012";

/// The patterns of a function's rules, by name, as they are deployed with these other accounts named.
fn patterns(function: &str, accounts: &str) -> BTreeMap<String, Value> {
    let template = Template::read("template.yaml");
    let values = BTreeMap::from([("AWS::AccountId", ACCOUNT), ("CertificateAccountIds", accounts)]);
    let events = template.at(&format!("/Resources/{function}/Properties/Events")).as_object().unwrap();
    let rules = events.iter().filter(|(_, event)| event["Type"] == "EventBridgeRule");
    rules.map(|(name, event)| (name.clone(), template.deployed(&event["Properties"]["Pattern"], &values))).collect()
}

/// The patterns of all rules of an example, as it is deployed in an account.
fn forwarding(example: &str, account: &str) -> BTreeMap<String, Value> {
    let template = Template::read(example);
    let values = BTreeMap::from([("AWS::AccountId", account)]);
    let resources = template.at("/Resources").as_object().unwrap();
    let rules = resources.iter().filter(|(_, resource)| resource["Type"] == "AWS::Events::Rule");
    rules.map(|(name, rule)| (name.clone(), template.deployed(&rule["Properties"]["EventPattern"], &values))).collect()
}

/// For each event, the rules whose patterns match it.
fn judged(patterns: &BTreeMap<String, Value>, events: &[&Value]) -> Vec<Vec<String>> {
    let python = root().join("target/judges/bin/python");
    let mut judge = Command::new(&python)
        .arg(root().join("tests/judges/match.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|_| panic!("{} is missing: bash tests/run --tools", python.display()));
    let question = json!({"patterns": patterns, "events": events}).to_string();
    judge.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success(), "bash tests/run --tools installs moto");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_rules_match_exactly_the_events_that_are_meant() {
    let corpus = corpus();
    let events: Vec<&Value> = corpus.iter().map(|case| &case.event).collect();
    for named in ["", "999999999999", "777777777777,999999999999"] {
        for (case, rules) in corpus.iter().zip(judged(&patterns("Rotate", named), &events)) {
            let rule = if case.event["source"] == "aws.health" { "CertificateNotice" } else { "CertificateChanged" };
            let meant: Vec<&str> = case.is_matched(named).then_some(rule).into_iter().collect();
            assert_eq!(rules, meant, "{}, with {named:?} named", case.name);
        }
    }
}

#[test]
fn another_account_is_heard_for_what_acm_says_and_for_nothing_else() {
    let corpus = corpus();
    let moved = |event: &Value| {
        let mut event = event.clone();
        event["account"] = "999999999999".into();
        event
    };
    let own = |detail_type| json!({"source": "espalier", "detail-type": detail_type, "account": ACCOUNT, "detail": {}});
    let mut events = vec![own("Rotate Requested"), own("Targets Unproven")];
    events.extend(corpus.iter().map(|case| case.event.clone()));
    let events: Vec<Value> = events.iter().map(moved).collect();
    let acm = |event: &Value| event["source"] == "aws.acm";
    for (event, rules) in
        events.iter().zip(judged(&patterns("Rotate", "999999999999"), &events.iter().collect::<Vec<_>>()))
    {
        assert!(rules.is_empty() || (rules == ["CertificateChanged"] && acm(event)), "{event}: {rules:?}");
    }
}

/// `provision` mends validation records, which are in its own account and nobody else's.
#[test]
fn provision_hears_of_acm_only_that_a_renewal_needs_somebody() {
    let here: Vec<Value> = corpus().into_iter().map(|case| case.event).collect();
    let there = here.iter().cloned().map(|mut event| {
        event["account"] = "999999999999".into();
        event
    });
    let events: Vec<Value> = here.iter().cloned().chain(there).collect();
    let mut heard = 0;
    for named in ["", "999999999999"] {
        for (event, rules) in
            events.iter().zip(judged(&patterns("Provision", named), &events.iter().collect::<Vec<_>>()))
        {
            let is_stuck = event["source"] == "aws.acm"
                && event["detail-type"] == "ACM Certificate Renewal Action Required"
                && event["account"] == ACCOUNT;
            let meant: Vec<&str> = is_stuck.then_some("RenewalStuck").into_iter().collect();
            assert_eq!(rules, meant, "{event}, with {named:?} named");
            heard += meant.len();
        }
    }
    assert!(heard >= 10, "only {heard} of these events are in the corpus");
}

/// What is forwarded is all that ACM says in the account itself: no event comes back, none of somebody else's goes on.
#[test]
fn the_forwarding_rules_match_what_acm_says_there_and_nothing_else() {
    let corpus = corpus();
    let own = json!({"source": "espalier", "detail-type": "Rotate Requested", "account": ACCOUNT, "detail": {}});
    let events: Vec<&Value> = corpus.iter().map(|case| &case.event).chain([&own]).collect();
    for example in ["examples/certificate-events.yaml", "examples/certificate-account.yaml"] {
        for account in [ACCOUNT, "999999999999"] {
            let rules = forwarding(example, account);
            let mut forwarded = 0;
            for (event, matched) in events.iter().zip(judged(&rules, &events)) {
                let is_meant = event["source"] == "aws.acm" && event["account"] == account;
                let meant: Vec<&str> = is_meant.then_some("Forward").into_iter().collect();
                assert_eq!(matched, meant, "{example} in {account}: {event}");
                forwarded += meant.len();
            }
            assert!(forwarded > 0, "nothing of {account} is in the corpus");
        }
    }
}
