//! The inventory: every fact is sealed once, whatever is written late or deleted, and what it says is what an assessor asks.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use espalier_domain::id::{Generation, StackName, TargetId};
use espalier_domain::inventory::{
    Author, Carried, Chain, Draft, Facts, Filter, Head, Row, Seal, Segment, Standing, View, Word, csv, json,
    with_new_leaves,
};
use espalier_domain::record::{
    AttemptRecord, DiscardRecord, EmergencyRecord, GenerationRecord, LeafRecord, SightingRecord, TurnRecord,
};
use proptest::prelude::*;
use serde_json::json;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOON: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

fn chain() -> Chain {
    Chain::Stack(StackName::parse("payments").unwrap())
}

fn issued(scope: &str, generation: u32) -> GenerationRecord {
    serde_json::from_value(json!({
        "scope": scope, "generation": generation, "parameter": format!("/espalier-leaf/payments/{scope}/{generation}"),
        "serial": format!("{generation:x}"), "fingerprint": format!("{generation:064x}"), "dnsNames": ["pay.example.com"],
        "notBefore": "2026-11-22T11:55:00Z", "notAfter": "2026-11-29T12:00:00Z",
        "mintedAt": (NOON + Duration::hours(i64::from(generation))).format(&time::format_description::well_known::Rfc3339).unwrap(),
        "authority": "a0", "spec": { "version": 3, "digest": "5a" }, "keyType": "EC_prime256v1",
        "because": "the stack has no leaf yet"
    }))
    .unwrap()
}

/// One target's own leaf of a generation.
fn own(target: u32, generation: u32) -> LeafRecord {
    serde_json::from_value(json!({
        "scope": format!("i-{target:017x}"), "generation": generation, "serial": format!("{target:x}{generation:x}"),
        "fingerprint": format!("{target:x}{generation:063x}"), "mintedAt": "2026-11-22T12:30:00Z",
        "notAfter": "2026-11-29T12:00:00Z"
    }))
    .unwrap()
}

fn attempt(target: u32, generation: u32, attempt: u32, ended: bool) -> AttemptRecord {
    let end = json!({ "installed": true, "code": "installed", "at": "2026-11-22T12:01:00Z" });
    let mut record = json!({
        "target": format!("i-{target:017x}"), "generation": generation, "attempt": attempt, "epoch": 1, "action": "Install",
        "begunAt": "2026-11-22T12:00:00Z", "leafEndsAt": "2026-11-29T12:00:00Z"
    });
    if ended {
        record["ended"] = end;
    }
    serde_json::from_value(record).unwrap()
}

fn sighting(target: u32, generation: u32) -> SightingRecord {
    serde_json::from_value(json!({
        "target": format!("i-{target:017x}"), "generation": generation, "at": "2026-11-22T18:00:00Z", "port": 8443,
        "floor": generation,
        "verdict": {
            "fingerprint": format!("{generation:064x}"), "serial": format!("{generation:x}"),
            "notAfter": "2026-11-29T12:00:00Z", "faults": [],
            "tls": {
                "protocol": "TLSv1.3", "suite": "TLS_AES_256_GCM_SHA384", "alpn": "h2", "versions": ["TLSv1.2", "TLSv1.3"]
            }
        }
    }))
    .unwrap()
}

fn emergency(through: u32) -> EmergencyRecord {
    serde_json::from_value(json!({
        "through": through, "at": (NOON + Duration::minutes(60 * i64::from(through) + 30)).format(&time::format_description::well_known::Rfc3339).unwrap(),
        "caller": "arn:aws:iam::111122223333:user/jane", "reason": "it was stolen", "request": "8f5c", "epoch": 2
    }))
    .unwrap()
}

fn taint() -> TurnRecord {
    serde_json::from_value(json!({
        "number": 2, "authority": "a0", "turn": "tainted", "at": "2026-11-22T16:30:00Z", "because": "it leaked",
        "caller": "arn:aws:iam::111122223333:user/joe"
    }))
    .unwrap()
}

fn author() -> Author {
    Author { version: 3, caller: "arn:aws:iam::111122223333:user/ops".to_owned(), at: Some(NOON) }
}

/// Seals as the function does, with a signature that nobody looks at here.
fn seal(chain: &Chain, last: Option<&Segment>, facts: &Facts, now: OffsetDateTime) -> Segment {
    let draft = Draft::new(chain, last, facts, now).unwrap();
    let seal = Seal { algorithm: "ECDSA_SHA_256".into(), key: "arn".into(), signature: "AA==".into() };
    let segment = Segment::parse(&draft.place(), &draft.sealed(&seal).unwrap()).unwrap();
    assert_eq!(segment.head(), draft.head());
    segment
}

/// What happens to a ledger between two seals.
#[derive(Debug, Clone, Copy)]
enum Event {
    Issue(bool),
    /// A target gets its own leaf of the newest generation.
    Own(u32),
    Begin(u32),
    /// The oldest that is under way, or the newest.
    End(bool),
    Declare,
    /// The bundles of the newest but one before are deleted.
    Discard,
    /// DynamoDB takes an attempt away that ended: its leaf's end is long past, so it was sealed.
    Expire,
    Seal,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<bool>().prop_map(Event::Issue),
        (0..3_u32).prop_map(Event::Own),
        (0..3_u32).prop_map(Event::Begin),
        any::<bool>().prop_map(Event::End),
        Just(Event::Declare),
        Just(Event::Discard),
        Just(Event::Expire),
        Just(Event::Seal),
    ]
}

/// What a row is about, without what is a snapshot.
fn about(row: &Row) -> Option<String> {
    match row {
        Row::Issued(one) => Some(format!("{} {}", one.record.scope, one.record.generation)),
        Row::Discarded(one) => Some(format!("discarded {}", one.generation)),
        Row::Leaf(one) => Some(format!("{} {}", one.scope, one.generation)),
        // Sealed while it was under way, its end would be lost.
        Row::Delivered(one) if one.ended.is_none() => Some("under way".to_owned()),
        Row::Delivered(one) => Some(format!("{} {} {}", one.target, one.generation, one.attempt)),
        Row::Unsafe(one) => Some(format!("unsafe {}", one.through)),
        Row::Authority(one) => Some(one.authority.clone()),
        Row::Turn(one) => Some(one.number.to_string()),
        Row::Acknowledged(one) => Some(one.request.clone()),
        Row::Seen(_) | Row::Head(_) | Row::Carried(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn every_fact_is_sealed_once_however_late_it_is_written(events in prop::collection::vec(event(), 0..60)) {
        let (mut facts, mut all, mut chain_of) = (Facts::default(), Vec::new(), Vec::<Segment>::new());
        let mut leaves: Vec<LeafRecord> = Vec::new();
        let at = |step: usize| NOON + Duration::hours(6 * i64::try_from(step).unwrap());
        for (step, event) in events.into_iter().chain([Event::End(true); 60]).chain([Event::Seal]).enumerate() {
            let count = u32::try_from(facts.generations.len()).unwrap();
            match event {
                Event::Issue(shared) => {
                    let scope = if shared { "shared" } else { "target" };
                    facts.generations.push(issued(scope, count + 1));
                    all.push(format!("{scope} {}", count + 1));
                }
                Event::Own(target) => {
                    let leaf = own(target, count);
                    // What was begun in time may be written down hours after the end.
                    let may_be = |newest: &GenerationRecord| newest.scope.is_each() && at(step) < newest.not_after + Duration::DAY;
                    if facts.generations.last().is_some_and(may_be) && !leaves.contains(&leaf) {
                        all.push(format!("{} {count}", leaf.scope));
                        leaves.push(leaf);
                    }
                }
                Event::Begin(target) => {
                    let begun = attempt(target, count, u32::try_from(step).unwrap() + 1, false);
                    all.push(format!("{} {} {}", begun.target, begun.generation, begun.attempt));
                    facts.attempts.push(begun);
                }
                Event::End(oldest) => {
                    let mut open = facts.attempts.iter_mut().filter(|one| one.ended.is_none());
                    let ended = if oldest { open.next() } else { open.next_back() };
                    if let Some(one) = ended {
                        one.ended = attempt(0, 1, 1, true).ended;
                    }
                }
                Event::Declare => {
                    if facts.emergencies.iter().all(|one| one.through.0 != count) {
                        facts.emergencies.push(emergency(count));
                        all.push(format!("unsafe {count}"));
                    }
                }
                Event::Discard => {
                    let generation = Generation(count.saturating_sub(2));
                    if generation >= Generation::FIRST && facts.discarded.iter().all(|one| one.generation != generation) {
                        facts.discarded.push(DiscardRecord { generation, at: at(step) });
                        all.push(format!("discarded {generation}"));
                    }
                }
                Event::Expire => {
                    let sealed: Vec<String> = chain_of.iter().flat_map(|one| one.rows.iter().filter_map(about)).collect();
                    facts.attempts.retain(|one| {
                        !sealed.contains(&format!("{} {} {}", one.target, one.generation, one.attempt))
                    });
                }
                Event::Seal => {
                    let wanted: Vec<_> = with_new_leaves(&facts.generations, chain_of.last()).collect();
                    facts.leaves = leaves.iter().filter(|leaf| wanted.contains(&leaf.generation)).cloned().collect();
                    chain_of.push(seal(&chain(), chain_of.last(), &facts, at(step)));
                }
            }
        }
        let mut sealed: Vec<String> = chain_of.iter().flat_map(|one| one.rows.iter().filter_map(about)).collect();
        sealed.sort();
        all.sort();
        prop_assert_eq!(sealed, all);
    }
}

/// Two segments of a stack, and one of the control plane.
fn sealed() -> Vec<Segment> {
    let mut facts = Facts {
        generations: vec![issued("shared", 1), issued("shared", 2)],
        attempts: vec![attempt(1, 1, 1, true), attempt(2, 1, 1, true), attempt(1, 2, 1, true), attempt(2, 2, 1, false)],
        sightings: vec![sighting(1, 2), sighting(2, 1)],
        emergencies: vec![emergency(1)],
        authors: vec![author()],
        turns: vec![taint()],
        ..Facts::default()
    };
    let first = seal(&chain(), None, &facts, NOON + Duration::hours(3));
    facts.generations.extend([issued("shared", 3), issued("shared", 4), issued("shared", 5)]);
    facts.attempts[3].ended = attempt(2, 2, 1, true).ended;
    facts.sightings = vec![sighting(1, 5), sighting(2, 5)];
    let second = seal(&chain(), Some(&first), &facts, NOON + Duration::hours(6));
    let authorities = vec![
        serde_json::from_value(json!({
            "authority": "a0", "rootPem": "ROOT", "issuingPem": "ISSUING", "issuingKey": "arn:aws:kms:eu-west-1:1:key/1",
            "notAfter": "2031-11-22T12:00:00Z", "publishedAt": "2026-11-22T11:00:00Z"
        }))
        .unwrap(),
    ];
    let facts = Facts { authorities, turns: vec![taint()], heads: vec![second.head()], ..Facts::default() };
    let plane = seal(&Chain::Plane, None, &facts, NOON + Duration::hours(6));
    vec![plane, first, second]
}

#[test]
fn segments_are_lines_that_anybody_can_read() {
    let facts = Facts {
        generations: vec![issued("shared", 1)],
        attempts: vec![attempt(1, 1, 1, true)],
        sightings: vec![sighting(1, 1)],
        authors: vec![author()],
        ..Facts::default()
    };
    let draft = Draft::new(&chain(), None, &facts, NOON).unwrap();
    assert_eq!(draft.place().name(), "stacks/payments/00000001.jsonl");
    let seal = Seal { algorithm: "ECDSA_SHA_256".into(), key: "arn".into(), signature: "AA==".into() };
    expectorate::assert_contents("tests/golden/inventory/segment.jsonl", &draft.sealed(&seal).unwrap());
}

#[test]
fn a_segment_that_is_not_what_it_says_is_not_built_upon() {
    let draft = Draft::new(&chain(), None, &Facts::default(), NOON).unwrap();
    let seal = Seal { algorithm: "ECDSA_SHA_256".into(), key: "arn".into(), signature: "AA==".into() };
    let text = draft.sealed(&seal).unwrap();
    let refused = |text: &str| Segment::parse(&draft.place(), text).unwrap_err().to_string();
    assert!(Segment::parse(&draft.place(), &text).is_ok());
    assert!(refused(&text.replace("\"row\":1", "\"row\":2")).contains("other rows than were sealed"));
    assert!(refused(&text.replace("\"number\":1", "\"number\":2")).contains("another segment than its name says"));
    assert!(refused(&text.replace("\"format\":1", "\"format\":2")).contains("another format"));
    assert!(refused("{}").contains("has no seal"));
    assert!(refused("{}\n{}\n").contains("line 1"));
}

#[test]
fn an_assessor_sees_every_certificate_with_where_it_stands_and_whose_word_it_goes_back_to() {
    let view = View::of(&sealed());
    let standing: Vec<_> = view.certificates.iter().map(|one| (one.generation.0, one.standing, one.asked_by)).collect();
    // The authority was declared unsafe after the fourth: whatever it signed is.
    assert_eq!(
        standing,
        [
            (1, Standing::Unsafe, Word::Spec),
            (2, Standing::Unsafe, Word::Emergency),
            (3, Standing::Unsafe, Word::Spec),
            (4, Standing::Unsafe, Word::Spec),
            (5, Standing::Unsafe, Word::Taint),
        ]
    );
    let callers: Vec<_> =
        view.certificates.iter().map(|one| one.caller.as_deref().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(callers, ["ops", "jane", "ops", "ops", "joe"]);
    let second = &view.certificates[1];
    assert_eq!(second.delivered_to.len(), 2, "one of the deliveries ended after the first seal");
    assert!(second.served_by.is_empty() && second.last_served_at.is_some(), "{second:?}");
    assert_eq!(view.certificates[4].served_by.len(), 2);
    assert_eq!(view.handshakes[0].suite.as_deref(), Some("TLS_AES_256_GCM_SHA384"));
    assert!(view.authorities[0].tainted);
    expectorate::assert_contents("tests/golden/inventory/inventory.json", &json(&view).unwrap());
    expectorate::assert_contents("tests/golden/inventory/certificates.csv", &csv(&view.certificates));
    expectorate::assert_contents("tests/golden/inventory/handshakes.csv", &csv(&view.handshakes));
    expectorate::assert_contents("tests/golden/inventory/authorities.csv", &csv(&view.authorities));
}

#[test]
fn each_targets_own_leaf_is_a_certificate_and_their_generation_is_none() {
    let seen = |target: u32| {
        let mut seen = sighting(target, 2);
        seen.verdict.fingerprint = Some(own(target, 2).fingerprint);
        seen
    };
    let facts = Facts {
        generations: vec![issued("shared", 1), issued("target", 2)],
        leaves: vec![own(1, 2), own(2, 2)],
        discarded: vec![DiscardRecord { generation: Generation(1), at: NOON }],
        attempts: vec![attempt(1, 2, 1, true), attempt(2, 2, 1, true)],
        sightings: vec![seen(1), seen(2)],
        ..Facts::default()
    };
    let view = View::of(&[seal(&chain(), None, &facts, NOON + Duration::hours(3))]);
    let told: Vec<_> =
        view.certificates.iter().map(|one| (one.scope.as_str(), one.stored_in.as_str(), one.standing)).collect();
    assert_eq!(
        told,
        [
            ("shared", "/espalier-leaf/payments/shared/1", Standing::Superseded),
            ("i-00000000000000001", "/espalier-leaf/payments/i-00000000000000001/2", Standing::Current),
            ("i-00000000000000002", "/espalier-leaf/payments/i-00000000000000002/2", Standing::Current),
        ]
    );
    let there: Vec<_> = view.certificates.iter().map(|one| one.discarded_at.is_none()).collect();
    assert_eq!(there, [false, true, true]);
    for (at, target) in [(1, 1), (2, 2)] {
        let one = &view.certificates[at];
        let its = vec![TargetId::parse(format!("i-{target:017x}")).unwrap()];
        assert_eq!((&one.delivered_to, &one.served_by), (&its, &its));
        assert_eq!((&one.serial, one.issued_at), (&own(target, 2).serial, NOON + Duration::minutes(30)));
        assert!(view.handshakes[at - 1].key_type.is_some());
    }
}

#[test]
fn without_anybodys_word_against_it_a_certificate_is_current_until_it_is_replaced_or_ends() {
    let facts = Facts { generations: vec![issued("shared", 1), issued("shared", 2)], ..Facts::default() };
    let standing = |days| {
        let segments = [seal(&chain(), None, &facts, NOON + Duration::days(days))];
        View::of(&segments).certificates.iter().map(|one| one.standing).collect::<Vec<_>>()
    };
    assert_eq!(standing(1), [Standing::Superseded, Standing::Current]);
    assert_eq!(standing(8), [Standing::Expired, Standing::Expired]);
}

#[test]
fn certificates_are_found_by_expiry_target_issuer_and_name() {
    let found = |filter: Filter| -> Vec<u32> {
        View::of(&sealed()).filtered(&filter).certificates.iter().map(|one| one.generation.0).collect()
    };
    let none = Filter::default;
    assert_eq!(found(none()), [1, 2, 3, 4, 5]);
    let ends = datetime!(2026-11-29 12:00 UTC);
    assert_eq!(found(Filter { expires_before: Some(ends), ..none() }), [0_u32; 0]);
    assert_eq!(found(Filter { expires_before: Some(ends + Duration::SECOND), ..none() }), [1, 2, 3, 4, 5]);
    let target = |number: u32| TargetId::parse(format!("i-{number:017x}")).unwrap();
    assert_eq!(found(Filter { target: Some(target(1)), ..none() }), [1, 2, 5]);
    assert_eq!(found(Filter { target: Some(target(3)), ..none() }), [0_u32; 0]);
    assert_eq!(found(Filter { issuer: Some("a0".into()), ..none() }).len(), 5);
    assert_eq!(found(Filter { issuer: Some("a1".into()), ..none() }), [0_u32; 0]);
    assert_eq!(found(Filter { name: Some("PAY.example.com".into()), ..none() }).len(), 5);
    assert_eq!(found(Filter { name: Some("other.example.com".into()), ..none() }), [0_u32; 0]);
    let stacks = |name: &str| vec![StackName::parse(name).unwrap()];
    assert_eq!(found(Filter { stacks: stacks("payments"), ..none() }).len(), 5);
    assert_eq!(found(Filter { stacks: stacks("shop"), ..none() }), [0_u32; 0]);
}

#[test]
fn a_reason_is_no_formula() {
    let mut record = issued("shared", 1);
    record.because = "=HYPERLINK(\"http://example.com\"), and more".into();
    let segments = [seal(&chain(), None, &Facts { generations: vec![record], ..Facts::default() }, NOON)];
    let table = csv(&View::of(&segments).certificates);
    assert!(table.contains("\"'=HYPERLINK(\"\"http://example.com\"\"), and more\""), "{table}");
}

#[test]
fn a_name_stands_for_one_place() {
    use espalier_domain::inventory::Place;
    let place = Place::parse("stacks/payments/00000012.jsonl").unwrap();
    assert_eq!((place.number, place.chain == chain()), (12, true));
    assert_eq!(Place::parse("plane/00000001.jsonl").unwrap().chain, Chain::Plane);
    for name in
        ["plane/1.jsonl", "plane/00000001.json", "stacks/A/00000001.jsonl", "00000001.jsonl", "stacks/payments/x"]
    {
        assert_eq!(Place::parse(name), None, "{name}");
    }
    let head = Head { chain: chain(), number: 1, hash: "5a".into() };
    let carried = Carried { newest: Some(Generation(2)), ..Carried::default() };
    let rows = Facts { heads: vec![head], ..Facts::default() }.rows(&Chain::Plane, &carried);
    assert!(matches!(rows.as_slice(), [Row::Head(_), Row::Carried(kept)] if kept.newest == carried.newest), "{rows:?}");
}
