//! The life of an authority: told phase by phase, and in the words that an operator reads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use espalier_domain::authority::{
    Action, Facts, LATE, LONGEST_LEAF, Phase, ROOM, Rules, Ruling, Word, active, bundle, digest, phase, plan, rule,
};
use espalier_domain::id::{Caller, Reason, VerifierName};
use espalier_domain::plan::{BlockCode, Plan};
use espalier_domain::record::{AcknowledgementRecord, AuthorityRecord, Turn, TurnRecord};
use time::{Duration, OffsetDateTime};

const START: OffsetDateTime = time::macros::datetime!(2026-11-22 06:00 UTC);
const LIFE: Duration = Duration::days(5 * 365);
const WAIT: Duration = Duration::days(7);

fn record(id: &str, published_at: Option<OffsetDateTime>) -> AuthorityRecord {
    AuthorityRecord {
        authority: id.to_owned(),
        root_pem: format!("root {id}"),
        issuing_pem: String::new(),
        issuing_key: None,
        not_after: published_at.unwrap_or(START) + LIFE,
        published_at,
    }
}

fn verifier(name: &str) -> VerifierName {
    VerifierName::parse(name).unwrap()
}

fn operator() -> Caller {
    Caller::parse("arn:aws:iam::111122223333:user/operator").unwrap()
}

fn reason() -> Reason {
    Reason::parse("its key was seen elsewhere").unwrap()
}

/// One authority, and two who have to acknowledge the next.
fn world() -> Facts {
    let authorities = vec![record("a", Some(START))];
    Facts {
        now: START,
        rules: Rules { verifiers: vec![verifier("batch"), verifier("partner")], wait: WAIT },
        bundle: Some(bundle(&authorities, &[])),
        authorities,
        turns: Vec::new(),
        acknowledgements: Vec::new(),
        damaged: Vec::new(),
        has_keys: true,
    }
}

/// `b` is prepared, too, and was just published.
fn with_next() -> Facts {
    let mut facts = world();
    facts.authorities.push(record("b", Some(START)));
    facts.authorities[0].published_at = Some(START - Duration::days(1000));
    facts.bundle = Some(bundle(&facts.authorities, &[]));
    facts.has_keys = false;
    facts
}

fn said(facts: &Facts, name: &str, until: OffsetDateTime) -> AcknowledgementRecord {
    AcknowledgementRecord {
        authority: "b".into(),
        verifier: verifier(name),
        bundle: digest(facts.bundle.as_ref().unwrap()),
        at: facts.now,
        until,
        caller: operator(),
        request: "r".into(),
    }
}

fn only_turn(plan: &Plan<Action>) -> TurnRecord {
    match plan.steps.as_slice() {
        [step] => match &step.action {
            Action::Turn(turn) => turn.clone(),
            other @ (Action::Prepare | Action::Publish { .. }) => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn stands(facts: &Facts, id: &str) -> Phase {
    let found = facts.authorities.iter().find(|record| record.authority == id).unwrap();
    phase(found, &facts.authorities, &facts.turns)
}

fn take(facts: &mut Facts, turn: TurnRecord) {
    facts.turns.push(turn);
    facts.bundle = Some(bundle(&facts.authorities, &facts.turns));
}

#[test]
fn the_next_one_is_prepared_while_there_is_time_for_everybody() {
    let mut facts = world();
    let from = facts.authorities[0].not_after - WAIT - LONGEST_LEAF - ROOM;
    facts.now = from - Duration::SECOND;
    assert!(plan(&facts).is_converged());
    facts.now = from;
    assert_eq!(plan(&facts).steps[0].action, Action::Prepare);
    facts.has_keys = false;
    let blocks = plan(&facts).blocks;
    assert!(blocks[0].code == BlockCode::AuthorityExpiring && blocks[0].because.contains("KeysOfAuthority=both"));
}

#[test]
fn nothing_is_activated_before_everybody_can_have_it() {
    let mut facts = with_next();
    let late = START + Duration::days(60);
    assert_eq!((plan(&facts).steps.len(), plan(&facts).waits.len()), (0, 1));
    facts.now = START + WAIT + LATE - Duration::SECOND;
    facts.acknowledgements = vec![said(&facts, "batch", late), said(&facts, "partner", late)];
    assert!(plan(&facts).steps.is_empty(), "unregistered clients had less than the wait");
    facts.now = START + WAIT + LATE;
    let partner = facts.acknowledgements.pop().unwrap();
    let blocks = plan(&facts).blocks;
    assert!(blocks[0].code == BlockCode::Unacknowledged && blocks[0].because.contains("partner"), "{blocks:?}");
    assert!(!blocks[0].because.contains("batch"));
    // Of another authority, or not for as long as it may take to carry the decision out.
    facts.acknowledgements.push(AcknowledgementRecord { authority: "a".into(), ..partner.clone() });
    facts.acknowledgements.push(AcknowledgementRecord { until: facts.now + LATE, ..partner.clone() });
    assert_eq!(plan(&facts).blocks[0].code, BlockCode::Unacknowledged);
    facts.acknowledgements.push(partner);
    assert_eq!(only_turn(&plan(&facts)).turn, Turn::Activated);
    assert_eq!((stands(&facts, "a"), stands(&facts, "b")), (Phase::Active, Phase::Prepared));
}

#[test]
fn nothing_happens_while_clients_find_another_bundle() {
    let mut facts = with_next();
    facts.now = START + WAIT + LATE;
    let late = START + Duration::days(60);
    facts.acknowledgements = vec![said(&facts, "batch", late), said(&facts, "partner", late)];
    for stale in [None, Some("root a\n".to_owned())] {
        facts.bundle = stale;
        let steps = plan(&facts).steps;
        let wanted = "root a\nroot b\n".to_owned();
        assert_eq!(steps.into_iter().map(|step| step.action).collect::<Vec<_>>(), [Action::Publish { bundle: wanted }]);
    }
}

#[test]
fn the_former_one_goes_when_its_last_leaf_has_ended_and_may_come_back_until_then() {
    let mut facts = with_next();
    let word = |authority: &str| Word::Activate { authority: authority.into(), reason: reason() };
    let Ruling::Turn(turn) = rule(&facts, &word("b"), &operator(), "r") else { panic!("it is refused") };
    assert_eq!((turn.number, turn.caller.clone()), (1, Some(operator())));
    take(&mut facts, turn);
    assert_eq!(active(&facts.authorities, &facts.turns).unwrap().authority, "b");
    assert_eq!(stands(&facts, "a"), Phase::Retiring { since: Some(START) });
    // Back, and forward again: the time begins anew.
    facts.now = START + Duration::days(20);
    let Ruling::Turn(back) = rule(&facts, &word("a"), &operator(), "r") else { panic!("it is refused") };
    take(&mut facts, back);
    assert_eq!((stands(&facts, "a"), stands(&facts, "b")), (Phase::Active, Phase::Retiring { since: Some(facts.now) }));
    assert!(plan(&facts).steps.is_empty(), "nobody overrules a person");
    let Ruling::Turn(again) = rule(&facts, &word("b"), &operator(), "r") else { panic!("it is refused") };
    take(&mut facts, again);
    facts.now = START + Duration::days(20) + LONGEST_LEAF + LATE + LATE - Duration::SECOND;
    assert_eq!((plan(&facts).steps.len(), plan(&facts).waits.len()), (0, 1));
    facts.now += Duration::SECOND;
    let turn = only_turn(&plan(&facts));
    assert_eq!((turn.number, turn.turn, turn.authority.as_str()), (4, Turn::Retired, "a"));
    take(&mut facts, turn);
    assert_eq!(facts.bundle.as_deref(), Some("root b\n"));
    let Ruling::Refused(block) = rule(&facts, &word("a"), &operator(), "r") else { panic!("it comes back") };
    assert!(block.because.contains("for good"));
    assert!(plan(&facts).is_converged(), "{:?}", plan(&facts));
}

/// What was declared unsafe goes on being trusted until a person says that nobody serves it, and that is asked for.
#[test]
fn one_that_was_declared_unsafe_never_signs_again() {
    let mut facts = with_next();
    let taint = |authority: &str| Word::Taint { authority: authority.into(), reason: reason() };
    let activate = |authority: &str| Word::Activate { authority: authority.into(), reason: reason() };
    let retire = |authority: &str| Word::Retire { authority: authority.into(), reason: reason() };
    for (authority, why) in [("a", "activate another one first"), ("b", "has signed nothing"), ("c", "there are: a, b")]
    {
        let Ruling::Refused(block) = rule(&facts, &taint(authority), &operator(), "r") else { panic!("{authority}") };
        assert!(block.because.contains(why), "{block}");
    }
    let Ruling::Turn(turn) = rule(&facts, &activate("b"), &operator(), "r") else { panic!("it is refused") };
    take(&mut facts, turn);
    let Ruling::Turn(turn) = rule(&facts, &taint("a"), &operator(), "r") else { panic!("it is refused") };
    assert_eq!((turn.number, turn.turn, turn.caller.clone()), (2, Turn::Tainted, Some(operator())));
    take(&mut facts, turn);
    assert_eq!((stands(&facts, "a"), stands(&facts, "b")), (Phase::Retiring { since: Some(START) }, Phase::Active));
    assert_eq!(facts.bundle.as_deref(), Some("root a\nroot b\n"), "its leaves are served until they are replaced");
    assert!(matches!(rule(&facts, &taint("a"), &operator(), "r"), Ruling::Known(_)));
    let Ruling::Refused(block) = rule(&facts, &activate("a"), &operator(), "r") else { panic!("it signs again") };
    assert!(block.because.contains("never signs again"), "{block}");
    let blocks = plan(&facts).blocks;
    assert!(
        blocks[0].code == BlockCode::AuthorityUnusable && blocks[0].because.contains("retire it when"),
        "{blocks:?}"
    );
    let Ruling::Turn(turn) = rule(&facts, &retire("a"), &operator(), "r") else { panic!("it is refused") };
    take(&mut facts, turn);
    assert_eq!(facts.bundle.as_deref(), Some("root b\n"));
    assert!(plan(&facts).is_converged(), "{:?}", plan(&facts));
    assert!(matches!(rule(&facts, &taint("a"), &operator(), "r"), Ruling::Known(_)));
}

/// Clients are never given a root that is not what was founded, nor a bundle without it.
#[test]
fn of_a_damaged_ledger_nothing_is_published() {
    let mut facts = with_next();
    facts.bundle = Some("root a\n".into());
    facts.damaged = vec!["b".into()];
    let told = plan(&facts);
    assert!(told.steps.is_empty() && told.blocks[0].code == BlockCode::AuthorityUnusable, "{told:?}");
    assert!(told.blocks[0].because.contains("certificates of b are damaged"), "{told:?}");
    facts.authorities.pop();
    facts.has_keys = true;
    facts.damaged = vec!["a".into()];
    let Ruling::Refused(block) = rule(&facts, &Word::Prepare, &operator(), "r") else { panic!("one is made") };
    assert_eq!(block.code, BlockCode::AuthorityUnusable);
    // Whose root is in no bundle any more may be what it likes.
    let mut facts = with_next();
    for word in [
        Word::Activate { authority: "b".into(), reason: reason() },
        Word::Retire { authority: "a".into(), reason: reason() },
    ] {
        let Ruling::Turn(turn) = rule(&facts, &word, &operator(), "r") else { panic!("it is refused") };
        take(&mut facts, turn);
    }
    facts.damaged = vec!["a".into()];
    assert!(plan(&facts).is_converged(), "{:?}", plan(&facts));
}

#[test]
fn the_active_one_is_not_retired() {
    let facts = with_next();
    let retire = |authority: &str| Word::Retire { authority: authority.into(), reason: reason() };
    assert!(matches!(rule(&facts, &retire("a"), &operator(), "r"), Ruling::Refused(_)));
    assert!(matches!(rule(&facts, &retire("b"), &operator(), "r"), Ruling::Turn(_)));
    assert!(matches!(rule(&facts, &retire("c"), &operator(), "r"), Ruling::Refused(_)));
}

#[test]
fn who_acknowledges_is_registered_and_has_the_bundle() {
    let facts = with_next();
    let word = |name: &str, bundle: String| Word::Acknowledge {
        authority: "b".into(),
        verifier: verifier(name),
        bundle,
        holds: Duration::days(30),
    };
    let right = digest(facts.bundle.as_ref().unwrap());
    let Ruling::Acknowledge(record) = rule(&facts, &word("batch", right.clone()), &operator(), "r") else {
        panic!("it is refused")
    };
    assert_eq!((record.until, record.caller), (START + Duration::days(30), operator()));
    let code = |ruling: Ruling| match ruling {
        Ruling::Refused(block) => block.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(rule(&facts, &word("stranger", right), &operator(), "r")), BlockCode::NotFound);
    assert_eq!(code(rule(&facts, &word("batch", digest("root a\n")), &operator(), "r")), BlockCode::Differs);
    let stale = Facts { bundle: Some("root a\n".into()), ..facts };
    assert_eq!(code(rule(&stale, &word("batch", digest("root a\n")), &operator(), "r")), BlockCode::Differs);
}

#[test]
fn those_from_before_turns_were_written_down_go_on_as_they_did() {
    let mut facts = world();
    facts.authorities = vec![record("a", None), AuthorityRecord { not_after: START + LIFE * 2, ..record("b", None) }];
    assert_eq!((stands(&facts, "a"), stands(&facts, "b")), (Phase::Retiring { since: None }, Phase::Active));
    facts.authorities.push(AuthorityRecord { not_after: START + LIFE * 3, ..record("c", Some(START)) });
    assert_eq!((stands(&facts, "b"), stands(&facts, "c")), (Phase::Active, Phase::Prepared));
}

/// What an operator reads, from the first look to the end.
#[test]
fn in_an_operators_words() {
    let mut facts = world();
    let mut text = String::new();
    let mut tell = |facts: &Facts| {
        let plan = plan(facts);
        text.push_str(&format!("{}\n", facts.now));
        plan.steps.iter().for_each(|step| text.push_str(&format!("  {}\n", step.because)));
        plan.waits.iter().for_each(|wait| text.push_str(&format!("  ... {}\n", wait.on)));
        plan.blocks.iter().for_each(|block| text.push_str(&format!("  ! {block}\n")));
        plan
    };
    tell(&facts);
    facts.now = START + LIFE - Duration::days(100);
    tell(&facts);
    facts.authorities.push(record("b", Some(facts.now)));
    facts.has_keys = false;
    tell(&facts);
    facts.bundle = Some(bundle(&facts.authorities, &facts.turns));
    tell(&facts);
    facts.now += WAIT + LATE;
    facts.acknowledgements.push(said(&facts, "batch", facts.now + Duration::days(30)));
    tell(&facts);
    facts.acknowledgements.push(said(&facts, "partner", facts.now + Duration::days(30)));
    let turn = only_turn(&tell(&facts));
    take(&mut facts, turn);
    tell(&facts);
    facts.now += LONGEST_LEAF + LATE + LATE;
    let turn = only_turn(&tell(&facts));
    facts.turns.push(turn);
    tell(&facts);
    facts.bundle = Some(bundle(&facts.authorities, &facts.turns));
    tell(&facts);
    expectorate::assert_contents("tests/golden/authority.txt", &text);
}
