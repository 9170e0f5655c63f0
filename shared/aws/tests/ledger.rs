//! The ledger against a table that knows the few expressions the ledger uses, and nothing else: an expression it does
//! not know is refused as DynamoDB refuses what it cannot parse.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use espalier_aws::ledger::{Begun, Claim, Ledger, Still, Teller};
use espalier_domain::acm::{AcmEvidence, AcmStatus, Missed, Said};
use espalier_domain::id::{AcmArn, Caller, Epoch, Generation, Reason, Scope, StackName, TargetId};
use espalier_domain::plan::{Block, BlockCode};
use espalier_domain::record::{AttemptEnd, AttemptRecord, EmergencyRecord, GenerationRecord, MembershipRecord};
use espalier_domain::rotation::pace::FETCH_RATE;
use espalier_domain::told::news;
use espalier_domain::verdict::{Fault, Verdict};
use espalier_domain::work::{DeliveryAction, SeenTarget};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use wire::{Seen, Wire};

/// Items a page of a query holds here, so that every query of three or more items needs another page.
const PAGE: usize = 2;

type Items = BTreeMap<(String, String), Value>;

/// A table; `lose_answers` makes writes happen and their answers fail.
#[derive(Default)]
struct Table {
    items: Items,
    lose_answers: bool,
}

fn key(item: &Value) -> (String, String) {
    (item["pk"]["S"].as_str().unwrap().to_owned(), item["sk"]["S"].as_str().unwrap().to_owned())
}

fn holds(items: &Items, put: &Value) -> bool {
    let stored = items.get(&key(&put["Item"]));
    let value = |name: &str| put["ExpressionAttributeValues"][name].clone();
    let same = |name: &str, of: &str| stored.is_some_and(|item| item[of] == value(name));
    match put["ConditionExpression"].as_str().unwrap() {
        "attribute_not_exists(pk)" => stored.is_none(),
        "#record = :seen" => same(":seen", "record"),
        "#record = :seen AND #count = :count" => same(":seen", "record") && same(":count", "count"),
        "#record = :seen AND (attribute_not_exists(#floor) OR #floor <= :floor)" => {
            let number = |value: &Value| value["N"].as_str().map(|digits| digits.parse::<u64>().unwrap());
            same(":seen", "record")
                && number(&stored.unwrap()["floor"]).is_none_or(|floor| floor <= number(&value(":floor")).unwrap())
        }
        other => panic!("an expression that the test's table does not know: {other}"),
    }
}

impl Table {
    fn answer(&mut self, seen: &Seen) -> (u16, Value) {
        let body = seen.json();
        match seen.what().as_str() {
            "GetItem" => {
                assert_eq!(body["ConsistentRead"], json!(true));
                let found = self.items.get(&key(&body["Key"]));
                (200, found.map_or(json!({}), |item| json!({ "Item": item })))
            }
            "Query" => (200, self.query(&body)),
            "PutItem" => match holds(&self.items, &body) {
                true => self.written(vec![body["Item"].clone()]),
                false => (400, json!({ "__type": "ConditionalCheckFailedException" })),
            },
            "TransactWriteItems" => {
                let puts: Vec<&Value> = body["TransactItems"].as_array().unwrap().iter().map(|i| &i["Put"]).collect();
                let reasons: Vec<Value> = puts
                    .iter()
                    .map(|put| json!({ "Code": if holds(&self.items, put) { "None" } else { "ConditionalCheckFailed" } }))
                    .collect();
                if reasons.iter().any(|reason| reason["Code"] != "None") {
                    let body = json!({ "__type": "TransactionCanceledException", "CancellationReasons": reasons });
                    return (400, body);
                }
                self.written(puts.iter().map(|put| put["Item"].clone()).collect())
            }
            other => (400, json!({ "__type": "UnknownOperationException", "message": other })),
        }
    }

    fn written(&mut self, items: Vec<Value>) -> (u16, Value) {
        self.items.extend(items.into_iter().map(|item| (key(&item), item)));
        if self.lose_answers { (500, json!({ "__type": "InternalServerError" })) } else { (200, json!({})) }
    }

    fn query(&self, body: &Value) -> Value {
        assert_eq!(body["ConsistentRead"], json!(true));
        assert_eq!(body["KeyConditionExpression"], "pk = :pk AND begins_with(sk, :prefix)");
        let text = |name: &str| body["ExpressionAttributeValues"][name]["S"].as_str().unwrap().to_owned();
        let (pk, prefix) = (text(":pk"), text(":prefix"));
        let after = body["ExclusiveStartKey"].as_object().map(|_| key(&body["ExclusiveStartKey"]));
        let found: Vec<&Value> = self
            .items
            .iter()
            .filter(|((p, s), _)| *p == pk && s.starts_with(&prefix))
            .filter(|(k, _)| after.as_ref().is_none_or(|after| *k > after))
            .map(|(_, item)| item)
            .take(PAGE)
            .collect();
        match found.last() {
            Some(last) if found.len() == PAGE => {
                json!({ "Items": found, "LastEvaluatedKey": { "pk": last["pk"], "sk": last["sk"] } })
            }
            _ => json!({ "Items": found }),
        }
    }
}

struct World {
    table: Arc<Mutex<Table>>,
    ledger: Ledger,
    wire: Wire,
}

async fn world() -> World {
    let table = Arc::new(Mutex::new(Table::default()));
    let answering = Arc::clone(&table);
    let wire = Wire::answering(move |seen| {
        let (status, body) = answering.lock().unwrap().answer(seen);
        (status, body.to_string())
    })
    .await;
    // Retries on, as in production: a lost answer is repeated.
    let retries = aws_config::retry::RetryConfig::standard().with_initial_backoff(std::time::Duration::from_millis(1));
    let sdk = wire.sdk().into_builder().retry_config(retries).sleep_impl(aws_smithy_sleep()).build();
    World { table, ledger: Ledger::new(&sdk, "ledger"), wire }
}

fn aws_smithy_sleep() -> aws_sdk_dynamodb::config::SharedAsyncSleep {
    #[derive(Debug)]
    struct Tokio;
    impl aws_sdk_dynamodb::config::AsyncSleep for Tokio {
        fn sleep(&self, duration: std::time::Duration) -> aws_sdk_dynamodb::config::Sleep {
            aws_sdk_dynamodb::config::Sleep::new(Box::pin(tokio::time::sleep(duration)))
        }
    }
    aws_sdk_dynamodb::config::SharedAsyncSleep::new(Tokio)
}

fn stack() -> StackName {
    StackName::parse("payments").unwrap()
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap() + Duration::seconds(seconds)
}

fn generation(number: u32, fingerprint: &str) -> GenerationRecord {
    GenerationRecord {
        scope: Scope::shared(),
        generation: Generation(number),
        parameter: format!("/espalier-leaf/payments/shared/{number}"),
        serial: "0a".into(),
        fingerprint: fingerprint.into(),
        dns_names: vec!["pay.example.com".into()],
        not_before: at(0),
        not_after: at(600),
        minted_at: at(0),
        authority: "a".into(),
        follows: None,
        export: None,
        spec: None,
        key_type: None,
        custody: espalier_domain::spec::Custody::default(),
        because: "missing".into(),
    }
}

fn attempt(last: u32) -> AttemptRecord {
    AttemptRecord {
        target: TargetId::parse(format!("i-{last:017x}")).unwrap(),
        generation: Generation(1),
        attempt: 1,
        epoch: Epoch(1),
        action: DeliveryAction::Install,
        asked: None,
        begun_at: at(0),
        leaf_ends_at: at(7_776_000),
        command_id: None,
        ended: None,
    }
}

fn seen(generation: u32, after_s: i64, faults: Vec<Fault>) -> SeenTarget {
    SeenTarget {
        target: attempt(1).target,
        generation: Generation(generation),
        at: at(after_s),
        port: Some(8443),
        verdict: Verdict { fingerprint: None, serial: None, not_after: None, tls: None, faults },
        connect_ms: None,
        handshake_ms: 1.0,
    }
}

#[tokio::test]
async fn an_emergency_is_written_down_once_and_the_one_that_reaches_furthest_counts() {
    let world = world().await;
    assert_eq!(world.ledger.emergency(&stack()).await.unwrap(), None);
    let emergency = |through: u32, name: &str| EmergencyRecord {
        through: Generation(through),
        at: at(0),
        caller: Caller::parse(format!("arn:aws:iam::123456789012:user/{name}")).unwrap(),
        reason: Reason::parse("leaked").unwrap(),
        request: name.into(),
        epoch: Epoch(1),
    };
    let jane = emergency(2, "jane");
    assert_eq!(world.ledger.declare(&stack(), &jane).await.unwrap(), jane);
    assert_eq!(world.ledger.declare(&stack(), &emergency(2, "john")).await.unwrap(), jane, "who was first stays");
    for through in [10, 3, 1] {
        world.ledger.declare(&stack(), &emergency(through, "jane")).await.unwrap();
    }
    assert_eq!(world.ledger.emergency(&stack()).await.unwrap(), Some(emergency(10, "jane")));
    // The write happens, its answer is lost, and its repetition is refused by its own condition.
    world.table.lock().unwrap().lose_answers = true;
    let last = world.ledger.declare(&stack(), &emergency(11, "jane")).await.unwrap();
    assert_eq!(last, emergency(11, "jane"));
}

#[tokio::test]
async fn a_generation_is_appended_once_and_the_first_stays() {
    let world = world().await;
    let first = world.ledger.append(&stack(), &generation(1, "aa")).await.unwrap();
    assert_eq!(first.fingerprint, "aa");
    let second = world.ledger.append(&stack(), &generation(1, "bb")).await.unwrap();
    assert_eq!(second.fingerprint, "aa");
    for number in 2..=5 {
        world.ledger.append(&stack(), &generation(number, "cc")).await.unwrap();
    }
    world.ledger.propose(&stack(), &generation(6, "dd"), at(0)).await.unwrap();
    let numbers: Vec<u32> =
        world.ledger.generations(&stack()).await.unwrap().iter().map(|record| record.generation.0).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "every page is read, and a proposal is no generation");
    let proposal = |fingerprint: &'static str| {
        let ledger = world.ledger.clone();
        async move { ledger.proposal(&stack(), &Scope::shared(), Generation(6), fingerprint).await.unwrap() }
    };
    assert_eq!(proposal("dd").await, Some(generation(6, "dd")));
    assert_eq!(proposal("ee").await, None);
}

#[tokio::test]
async fn attempts_are_begun_all_or_none() {
    let world = world().await;
    let both = [attempt(1), attempt(2)];
    assert_eq!(world.ledger.begin_attempts(&stack(), &both).await.unwrap(), Begun::Ours);
    let overlapping = [attempt(2), attempt(3)];
    let begun = world.ledger.begin_attempts(&stack(), &overlapping).await.unwrap();
    assert_eq!(begun, Begun::Taken(vec![attempt(2)]));
    assert_eq!(world.ledger.attempts(&stack()).await.unwrap(), both);
}

#[tokio::test]
async fn a_command_is_noted_on_all_and_an_end_learnt_meanwhile_is_kept() {
    let world = world().await;
    let attempts = [attempt(1), attempt(2), attempt(3)];
    world.ledger.begin_attempts(&stack(), &attempts).await.unwrap();
    let end = |code: &str| AttemptEnd { installed: false, code: code.into(), detail: String::new(), at: at(1) };
    world.ledger.end_attempt(&stack(), &attempts[1], &end("Lost")).await.unwrap();
    world.ledger.note_command(&stack(), &attempts, "c-1").await.unwrap();
    world.ledger.note_command(&stack(), &attempts, "c-2").await.unwrap();
    world.ledger.end_attempt(&stack(), &attempts[1], &end("installed")).await.unwrap();
    let stored = world.ledger.attempts(&stack()).await.unwrap();
    assert!(stored.iter().all(|attempt| attempt.command_id.as_deref() == Some("c-1")), "{stored:?}");
    let ends: Vec<Option<&str>> = stored.iter().map(|a| a.ended.as_ref().map(|end| end.code.as_str())).collect();
    assert_eq!(ends, [None, Some("Lost"), None]);
}

#[tokio::test]
async fn a_floor_never_goes_down_whatever_the_order() {
    let world = world().await;
    let floor = || async {
        let sightings = world.ledger.sightings(&stack()).await.unwrap();
        (sightings[0].generation.0, sightings[0].floor.map(|floor| floor.0))
    };
    world.ledger.record_sighting(&stack(), &seen(3, 10, vec![])).await.unwrap();
    assert_eq!(floor().await, (3, Some(3)));
    world.ledger.record_sighting(&stack(), &seen(2, 20, vec![])).await.unwrap();
    assert_eq!(floor().await, (2, Some(3)));
    world.ledger.record_sighting(&stack(), &seen(5, 5, vec![])).await.unwrap();
    assert_eq!(floor().await, (2, Some(5)), "a late sighting raises the floor and changes nothing else");
    world.ledger.record_sighting(&stack(), &seen(6, 30, vec![Fault::TimedOut])).await.unwrap();
    assert_eq!(floor().await, (6, Some(5)));
    let before = world.wire.asked().len();
    world.ledger.record_sighting(&stack(), &seen(6, 30, vec![Fault::TimedOut])).await.unwrap();
    assert_eq!(world.wire.asked()[before..], ["GetItem"], "the same sighting again writes nothing");
}

#[tokio::test]
async fn concurrent_sightings_all_count() {
    let world = world().await;
    let record = |generation: u32| {
        let ledger = world.ledger.clone();
        tokio::spawn(async move { ledger.record_sighting(&stack(), &seen(generation, 0, vec![])).await })
    };
    let mut tasks = vec![record(1), record(4), record(3)];
    for task in tasks.drain(..) {
        task.await.unwrap().unwrap();
    }
    assert_eq!(world.ledger.sightings(&stack()).await.unwrap()[0].floor, Some(Generation(4)));
}

#[tokio::test]
async fn each_place_in_the_line_is_given_to_one() {
    let world = world().await;
    assert_eq!(world.ledger.line().await.unwrap(), None);
    let second = usize::try_from(FETCH_RATE).unwrap();
    let join = || world.ledger.join(second, at(0));
    let (a, b, c) = tokio::join!(join(), join(), join());
    let turns = BTreeSet::from([a.unwrap(), b.unwrap(), c.unwrap()]);
    assert_eq!(turns, BTreeSet::from([at(0), at(1), at(2)]));
    assert_eq!(world.ledger.line().await.unwrap().unwrap().until, at(3));
    // Nobody waits behind those who have had their turn.
    assert_eq!(world.ledger.join(1, at(60)).await.unwrap(), at(60));
}

#[tokio::test]
async fn the_last_request_for_a_look_is_the_one_that_counts() {
    let world = world().await;
    assert_eq!(world.ledger.look_since(&stack()).await.unwrap(), None);
    for asked in [at(20), at(10), at(20)] {
        world.ledger.ask_for_a_look(&stack(), asked).await.unwrap();
        assert_eq!(world.ledger.look_since(&stack()).await.unwrap(), Some(at(20)));
    }
    assert_eq!(world.wire.asked().iter().filter(|call| *call == "PutItem").count(), 1);
}

#[tokio::test]
async fn of_many_claims_one_is_ours_and_a_nudge_keeps_an_epoch_open() {
    let world = world().await;
    let claim = |after_s| {
        let ledger = world.ledger.clone();
        tokio::spawn(async move { ledger.claim(&stack(), None, at(after_s)).await.unwrap() })
    };
    let mut ours = 0;
    for task in (0..8).map(claim).collect::<Vec<_>>() {
        ours += u32::from(matches!(task.await.unwrap(), Claim::Ours(_)));
    }
    assert_eq!(ours, 1);
    let looked = world.ledger.epoch(&stack()).await.unwrap().unwrap();
    assert_eq!(looked.record.execution, "payments-1-1");
    assert_eq!(world.ledger.nudge(&stack(), &looked).await.unwrap(), Still::Unchanged);
    assert_eq!(world.ledger.end_epoch(&stack(), &looked, at(60)).await.unwrap(), Still::Changed);
    let looked = world.ledger.epoch(&stack()).await.unwrap().unwrap();
    assert!(looked.is_open());
    assert_eq!(world.ledger.end_epoch(&stack(), &looked, at(60)).await.unwrap(), Still::Unchanged);
    assert_eq!(world.ledger.nudge(&stack(), &looked).await.unwrap(), Still::Changed, "an ended epoch takes no hint");
    let ended = world.ledger.epoch(&stack()).await.unwrap().unwrap();
    let Claim::Ours(next) = world.ledger.claim(&stack(), Some(&ended), at(90)).await.unwrap() else {
        panic!("nobody else has claimed it");
    };
    assert_eq!((next.record.epoch, next.record.attempt), (Epoch(2), 1));
    let Claim::Ours(again) = world.ledger.claim(&stack(), Some(&next), at(120)).await.unwrap() else {
        panic!("nobody else has claimed it");
    };
    assert_eq!((again.record.epoch, again.record.attempt, again.record.begun_at), (Epoch(2), 2, at(90)));
    let same = world.ledger.claim(&stack(), Some(&next), at(130)).await.unwrap();
    assert!(
        matches!(same, Claim::Ours(same) if same.record.execution == "payments-2-2"),
        "one name, however many claim it"
    );
    assert!(matches!(world.ledger.claim(&stack(), Some(&ended), at(140)).await.unwrap(), Claim::Taken));
}

#[tokio::test]
async fn an_answer_that_got_lost_does_not_make_our_own_write_somebody_elses() {
    let world = world().await;
    let lose = |lose: bool| world.table.lock().unwrap().lose_answers = lose;
    lose(true);
    let task = {
        let ledger = world.ledger.clone();
        tokio::spawn(async move { ledger.claim(&stack(), None, at(0)).await })
    };
    let claim = task.await.unwrap().unwrap();
    assert!(matches!(claim, Claim::Ours(_)), "{claim:?}");
    assert_eq!(world.wire.asked(), ["PutItem", "PutItem", "GetItem"]);
    let appended = world.ledger.append(&stack(), &generation(1, "aa")).await.unwrap();
    assert_eq!(appended.fingerprint, "aa");
    lose(false);
    assert_eq!(world.ledger.generations(&stack()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_told_is_noted_by_each_teller_and_a_later_note_stands() {
    let world = world().await;
    let blocks = [Block { code: BlockCode::Foreign, because: "a service exists".into() }];
    for teller in [Teller::Provision, Teller::Rotate] {
        let nothing = world.ledger.told(teller, &stack()).await.unwrap();
        assert_eq!(nothing.record(), None);
        let first = news(None, &blocks, None, at(0)).record;
        world.ledger.note_told(teller, &stack(), &nothing, &first).await.unwrap();
        // Who looked before that notes nothing, and is told of no failure.
        let late = news(None, &[], None, at(1)).record;
        world.ledger.note_told(teller, &stack(), &nothing, &late).await.unwrap();
        let told = world.ledger.told(teller, &stack()).await.unwrap();
        assert_eq!(told.record(), Some(&first));
        let again = news(told.record(), &blocks, None, at(900)).record;
        world.ledger.note_told(teller, &stack(), &told, &again).await.unwrap();
        assert_eq!(world.ledger.told(teller, &stack()).await.unwrap().record(), Some(&again));
    }
}

#[tokio::test]
async fn what_a_teardown_has_begun_is_kept_until_the_stack_is_wanted_again() {
    let world = world().await;
    let note = async |deleting: Option<&[&str]>| {
        let deleting = deleting.map(|all| all.iter().map(ToString::to_string).collect());
        let seen = MembershipRecord { deleting, ..MembershipRecord::default() };
        let noted = world.ledger.record_membership(&stack(), &seen).await.unwrap();
        (noted.is_news, noted.record.deleting)
    };
    let all = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(note(Some(&[])).await, (false, all(&[])), "nothing was there");
    assert_eq!(note(Some(&["Record x", "Service y"])).await, (true, all(&["Record x", "Service y"])));
    // Another run, which sees less, and something it had to wait for.
    assert_eq!(
        note(Some(&["Service y", "TargetGroup z"])).await,
        (true, all(&["Record x", "Service y", "TargetGroup z"]))
    );
    assert_eq!(note(Some(&[])).await, (false, all(&["Record x", "Service y", "TargetGroup z"])));
    // Wanted again, and taken down once more.
    assert_eq!(note(None).await, (true, None));
    assert_eq!(note(Some(&["Record x"])).await, (true, all(&["Record x"])));
}

#[tokio::test]
async fn an_event_that_acm_did_not_send_is_counted_by_one_caller_and_one_that_came_by_nobody() {
    let world = world().await;
    let arn = AcmArn::parse("arn:aws:acm:eu-west-1:000000000000:certificate/61f50cd4").unwrap();
    let seen = |serial: &str| AcmEvidence {
        status: AcmStatus::Issued,
        serial: Some(serial.into()),
        ..AcmEvidence::missing(arn.clone())
    };
    world.ledger.hear(&arn, Said::Available, at(0)).await.unwrap();
    assert!(world.table.lock().unwrap().items.is_empty(), "nobody uses it");
    world.ledger.listen(&seen("01"), at(0)).await.unwrap();
    // It is renewed, and each of two copies of its event is noted.
    let (one, other) = tokio::join!(
        world.ledger.hear(&arn, Said::Available, at(10)),
        world.ledger.hear(&arn, Said::Available, at(11))
    );
    one.and(other).unwrap();
    for look in [at(20), at(7_200)] {
        assert_eq!(world.ledger.listen(&seen("02"), look).await.unwrap(), []);
    }
    // It is renewed again, and nobody says so.
    let later = |seconds: i64| at(10 * 86_400 + seconds);
    assert_eq!(world.ledger.listen(&seen("03"), later(0)).await.unwrap(), []);
    let third = seen("03");
    let look = || world.ledger.listen(&third, later(3_600));
    let (a, b, c) = tokio::join!(look(), look(), look());
    let missed: Vec<Missed> = [a, b, c].into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(missed, [Missed::Available { serial: "03".into() }]);
}
