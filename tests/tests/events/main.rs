//! The corpus in `tests/events`: every documented ACM and AWS Health event in every shape, and what nobody should send.
//! What each leads to, which of them the deployed rules match, and the table in `docs/acm.md`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests set up their own world")]

mod rules;
mod states;

use std::collections::BTreeSet;

use espalier_edge::{HintKind, Request as _, Trigger};
use espalier_tests::{read, root};
use serde_json::Value;
use states::{ARN, serves, state, unused};

/// One event and what is expected of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) event: Value,
    expected: Value,
}

impl Case {
    /// Whether a rule of `rotate` has to match it where these other accounts are named.
    pub(crate) fn is_matched(&self, named: &str) -> bool {
        let of_named = self.expected["matchedIfNamed"].as_str().is_some_and(|account| named.contains(account));
        self.expected["matched"].as_bool().unwrap() || of_named
    }
}

/// The whole corpus.
pub(crate) fn corpus() -> Vec<Case> {
    let mut cases = Vec::new();
    for file in ["acm", "health", "odd"] {
        let listed: Vec<Value> = serde_json::from_str(&read(&format!("tests/events/{file}.json"))).unwrap();
        cases.extend(listed.into_iter().map(|one| Case {
            name: format!("{file}: {}", one["name"].as_str().unwrap()),
            event: one["event"].clone(),
            expected: one,
        }));
    }
    cases
}

#[test]
fn each_event_leads_to_the_intent_that_the_corpus_expects() {
    for Case { name, event, expected } in corpus() {
        let hint = match Trigger::parse(event) {
            Ok(Trigger::Hint(hint)) => hint,
            Ok(other) => panic!("{name}: {other:?}"),
            Err(error) => {
                let named = expected["invalid"].as_str().unwrap_or_else(|| panic!("{name}: {error}"));
                assert!(
                    error.to_string().starts_with("Invalid: ") && error.to_string().contains(named),
                    "{name}: {error}"
                );
                continue;
            }
        };
        assert!(expected["invalid"].is_null(), "{name} was understood");
        assert!(matches!(hint.kind, HintKind::Certificate | HintKind::Health), "{name}");
        let named: Vec<String> = hint.certificates.into_iter().map(String::from).collect();
        let wanted: Vec<&str> = match &expected["certificate"] {
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        assert_eq!(named, wanted, "{name}");
        let certificate = named.first();
        let Some(seen) = expected["state"].as_str() else { continue };
        assert_eq!(certificate.map(String::as_str), Some(ARN), "{name}");
        let (_, _, seen) = state(seen);
        for (used, intent) in [("serves", serves(&seen)), ("follows", states::follows(&seen))] {
            assert_eq!(Some(intent.as_str()), expected[used].as_str(), "{name}, by a stack that {used} it");
        }
        let ignored = unused(&seen);
        assert!(["Ignore", "Ignore AcmLapsing"].contains(&ignored.as_str()), "{name}, by nobody: {ignored}");
    }
}

#[test]
fn the_corpus_has_every_documented_event_more_than_once() {
    let corpus = corpus();
    let count = |detail_type: &str| corpus.iter().filter(|case| case.event["detail-type"] == detail_type).count();
    for detail_type in
        ["Available", "Approaching Expiration", "Expired", "Renewal Action Required", "Revoked", "Rotated"]
    {
        assert!(count(&format!("ACM Certificate {detail_type}")) > 1, "{detail_type}");
    }
    assert!(count("AWS Health Event") > 5 && corpus.len() > 60);
    for action in ["ISSUANCE", "RENEWAL", "IMPORT", "REIMPORT"] {
        assert!(corpus.iter().any(|case| case.event["detail"]["Action"] == action), "{action}");
    }
    assert!(root().join("tests/events").read_dir().unwrap().count() == 3, "a file that is not read");
}

/// What an event is, in a word: its type and what in it tells one from another of the same type.
fn shown(event: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (kind, detail) = (text(&event["detail-type"]).unwrap_or_default(), &event["detail"]);
    let [action, reason, code] = ["Action", "RenewalStatusReason", "eventTypeCode"].map(|field| text(&detail[field]));
    let kind = kind.strip_prefix("ACM Certificate ").unwrap_or("Health").to_owned();
    match action.or(reason).or(code) {
        Some(word) => format!("{kind}, `{word}`"),
        None => kind,
    }
}

/// The table of events in `docs/acm.md`: every event of the corpus that says something, with what ACM shows when it is read.
fn events() -> String {
    let mut lines = BTreeSet::new();
    for Case { event, expected, .. } in corpus() {
        let (Some(name), Some(true)) = (expected["state"].as_str(), expected["matched"].as_bool()) else { continue };
        if !event["detail"].is_object() {
            continue;
        }
        let (_, shows, seen) = state(name);
        let answers = [serves(&seen), states::follows(&seen), unused(&seen)].map(states::cell).join(" | ");
        lines.insert(format!("| {} | {} | {shows} | {answers} |\n", shown(&event), states::kind(&seen)));
    }
    let head = "| event | certificate | what ACM shows | a stack serves it | a stack follows it | no stack uses it |\n";
    format!("{head}| --- | --- | --- | --- | --- | --- |\n{}", lines.into_iter().collect::<String>())
}

/// Written into the page with `EXPECTORATE=overwrite`.
#[test]
fn the_page_shows_the_tables_as_they_are() {
    let mut page = read("docs/acm.md");
    for (mark, table) in [("<!-- states -->", states::table()), ("<!-- events -->", events())] {
        let [before, _, after] = page.split(mark).collect::<Vec<_>>()[..] else {
            panic!("two of {mark} in docs/acm.md")
        };
        page = format!("{before}{mark}\n{table}{mark}{after}");
    }
    expectorate::assert_contents("../docs/acm.md", &page);
}

/// The three dimensions: no kind of certificate is left out of an event that ACM sends about it.
#[test]
fn each_kind_of_certificate_is_in_the_events_that_acm_sends_about_it() {
    let table = events();
    for (event, kinds) in [
        ("Available, `ISSUANCE`", &["public", "private"][..]),
        ("Available, `RENEWAL`", &["public", "private"]),
        ("Available, `IMPORT`", &["imported"]),
        ("Available, `REIMPORT`", &["imported"]),
        ("Approaching Expiration", &["public", "private", "imported"]),
        ("Expired", &["public", "private"]),
        ("Renewal Action Required, `CAA_ERROR`", &["public"]),
        ("Renewal Action Required, `PENDING_DOMAIN_VALIDATION`", &["public"]),
        ("Renewal Action Required, `PCA_ACCESS_DENIED`", &["private"]),
        ("Revoked", &["public", "private"]),
        ("Rotated", &["public", "private"]),
    ] {
        for kind in kinds {
            assert!(table.contains(&format!("| {event} | {kind} |")), "{event} x {kind}");
        }
    }
}
