//! What the ledger remembers, sealed by `seal` itself: in an account whose bucket overwrites nothing and whose sealing key signs
//! for one role, judged by `evidence/verify.py`.

use std::collections::BTreeSet;
use std::process::Command;

use espalier_domain::failure::Word;
use espalier_domain::inventory::{Chain, Place, Row, Segment, View};
use espalier_domain::record::GenerationRecord;
use espalier_edge::EdgeError;
use espalier_pki::bundle;
use espalier_pki::key::SecretText;
use seal::{Asked, Seal, Told};
use serde_json::Value;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;

use super::account::{AUTHOR, BUCKET, ISSUING, SEALING, STACK, World, openssl};
use super::{Custody, found, mint};

/// Mints of one stack that are under way at once.
const FORTY: u32 = 40;

async fn asked(world: &World, asked: Asked, now: OffsetDateTime) -> Result<Told, EdgeError> {
    Seal::new(&world.seal(), "ledger", BUCKET, SEALING).answer(asked, now).await
}

fn objects(world: &World) -> Vec<String> {
    world.with(|account| account.objects.keys().cloned().collect())
}

fn segments(world: &World) -> Vec<Segment> {
    let of = |(name, text): (&String, &String)| Segment::parse(&Place::parse(name).unwrap(), text).unwrap();
    world.with(|account| account.objects.iter().map(of).collect())
}

/// The exit code of the judge, and what it says of the bucket.
fn judged(world: &World) -> (i32, String) {
    let copy: TempDir = tempfile::tempdir().unwrap();
    let key = SEALING.rsplit('/').next().unwrap();
    world.with(|account| {
        openssl(account.folder.path(), &format!("pkey -in {key}.key -pubout -out sealing.pem"));
        for (name, text) in &account.objects {
            let path = copy.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let script = espalier_tests::root().join("evidence/verify.py");
        let pem = account.folder.path().join("sealing.pem");
        let output = Command::new("python3").arg(script).arg(copy.path()).arg("--key").arg(pem).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    })
}

fn records(world: &World) -> Vec<GenerationRecord> {
    let of = |(key, item): (&(String, String), &Value)| {
        key.1.starts_with("GENERATION#").then(|| serde_json::from_str(item["record"]["S"].as_str().unwrap()).unwrap())
    };
    world.with(|account| account.items.iter().filter_map(of).collect())
}

/// A stack with so many generations, all of which were minted at once.
async fn minted(count: u32) -> World {
    let world = World::new().await;
    found(&world, Custody::Kms).await.unwrap();
    let world = std::sync::Arc::new(world);
    let mut running = JoinSet::new();
    for generation in 1..=count {
        let world = std::sync::Arc::clone(&world);
        running.spawn(async move {
            // Its turn comes when the one before it is there.
            loop {
                match mint(&world, Custody::Kms, generation).await {
                    Err(error) if error.word == Word::Conflict => {
                        // Those that come last ask seldom.
                        tokio::time::sleep(std::time::Duration::from_millis(4 * u64::from(generation))).await;
                    }
                    done => break done.map(drop).unwrap(),
                }
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    drop(running);
    std::sync::Arc::into_inner(world).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_mints_of_one_stack_at_once_are_forty_records_and_are_sealed_as_such() {
    let world = minted(FORTY).await;
    let records = records(&world);
    let numbers: Vec<u32> = records.iter().map(|record| record.generation.0).collect();
    assert_eq!(numbers, (1..=FORTY).collect::<Vec<_>>());
    assert_eq!(world.with(|account| account.signed[ISSUING]), FORTY, "one signature for each");
    let serials: BTreeSet<&str> = records.iter().map(|record| record.serial.as_str()).collect();
    assert_eq!(serials.len(), records.len());
    for record in &records {
        // Wherever it is by now.
        let stored = world.with(|account| {
            let found = account.parameters.get(&record.parameter).or(account.deleted.get(&record.parameter));
            found.unwrap()["Value"].as_str().unwrap().to_owned()
        });
        let facts = bundle::inspect(&SecretText::new(stored)).unwrap();
        assert_eq!((&facts.fingerprint, &facts.serial), (&record.fingerprint, &record.serial), "{}", record.parameter);
        assert_eq!(record.spec.as_ref().map(|spec| spec.version), Some(3));
    }

    asked(&world, Asked::Sweep, OffsetDateTime::now_utc()).await.unwrap();
    assert_eq!(objects(&world), ["plane/00000001.jsonl", "stacks/api-service/00000001.jsonl"]);
    let (code, said) = judged(&world);
    assert_eq!(code, 0, "{said}");
    let view = View::of(&segments(&world));
    let sealed: Vec<(u32, &str, Option<&str>)> =
        view.certificates.iter().map(|one| (one.generation.0, one.serial.as_str(), one.caller.as_deref())).collect();
    let written: Vec<_> = records.iter().map(|one| (one.generation.0, one.serial.as_str(), Some(AUTHOR))).collect();
    assert_eq!(sealed, written);
    assert_eq!(view.authorities.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_seals_at_once_one_is_kept_and_a_repeated_event_adds_nothing() {
    let world = std::sync::Arc::new(minted(1).await);
    let start = OffsetDateTime::now_utc();
    let mut running = JoinSet::new();
    for nth in 0..5_i64 {
        let world = std::sync::Arc::clone(&world);
        running.spawn(async move { asked(&world, Asked::Sweep, start + Duration::milliseconds(nth)).await.map(drop) });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(objects(&world).len(), 2, "{:?}", objects(&world));
    // EventBridge delivers at least once; a person is not told that it was done already.
    asked(&world, Asked::Sweep, start + Duration::minutes(59)).await.unwrap();
    asked(&world, Asked::Status, start + Duration::days(1)).await.unwrap();
    assert_eq!(objects(&world).len(), 2);
    asked(&world, Asked::Seal, start + Duration::minutes(59)).await.unwrap();
    let told = asked(&world, Asked::Sweep, start + Duration::days(1)).await.unwrap();
    assert_eq!(objects(&world).len(), 6);
    assert_eq!(judged(&world).0, 0, "{}", judged(&world).1);
    // What is new is said once, and what the function tells is what is there.
    let issued = |row: &&Row| matches!(row, Row::Issued(_));
    assert_eq!(segments(&world).iter().map(|one| one.rows.iter().filter(issued).count()).sum::<usize>(), 1);
    let told = serde_json::to_value(told).unwrap();
    assert_eq!(told["heads"][0]["chain"], format!("stacks/{STACK}"));
    assert_eq!(told["heads"][1], serde_json::to_value(segments(&world)[2].head()).unwrap());
    assert_eq!((&told["bucket"], &told["key"]), (&BUCKET.into(), &SEALING.into()));
}

#[tokio::test]
async fn nothing_is_built_upon_what_is_not_sealed_and_what_is_whole_is_sealed_all_the_same() {
    let world = minted(1).await;
    let start = OffsetDateTime::now_utc();
    asked(&world, Asked::Sweep, start).await.unwrap();
    let name = "stacks/api-service/00000001.jsonl";
    for (from, to, says) in [
        ("\"row\":1", "\"row\":2", "holds other rows than were sealed"),
        // The header itself, so that its seal is of another one.
        ("\"format\":1,", "\"format\":1, ", "is not sealed by"),
    ] {
        let whole = world.with(|account| account.objects[name].clone());
        world.with(|account| account.objects.insert(name.into(), whole.replacen(from, to, 1)));
        let before = objects(&world).len();
        let error = asked(&world, Asked::Seal, start + Duration::days(1)).await.unwrap_err();
        assert_eq!(error.word, Word::Broken);
        assert!(error.text.starts_with("stacks/api-service: ") && error.text.contains(says), "{}", error.text);
        // The control plane's chain goes on, and still names what was there.
        assert_eq!(objects(&world).len(), before + 1);
        assert_eq!(judged(&world).0, 1);
        world.with(|account| account.objects.insert(name.into(), whole));
        assert_eq!(judged(&world).0, 0, "{}", judged(&world).1);
    }
    // Not even damage to the chain that names the others keeps them from being sealed.
    let (before, newest) = (objects(&world).len(), Place { chain: Chain::Plane, number: 3 }.name());
    world.with(|account| account.objects.insert(newest, "{}".into()));
    let error = asked(&world, Asked::Seal, start + Duration::days(2)).await.unwrap_err();
    assert!(error.text.starts_with("plane: the evidence is damaged"), "{}", error.text);
    assert_eq!(objects(&world).len(), before + 1);
}

#[tokio::test]
async fn segments_that_are_hidden_are_missed_and_not_sealed_anew() {
    let world = minted(1).await;
    let start = OffsetDateTime::now_utc();
    for day in 0..2 {
        asked(&world, Asked::Seal, start + Duration::days(day)).await.unwrap();
    }
    // What a delete marker does to the newest one, under which the lock keeps the version.
    let hidden = world.with(|account| account.objects.remove("stacks/api-service/00000002.jsonl").unwrap());
    let error = asked(&world, Asked::Seal, start + Duration::days(2)).await.unwrap_err();
    assert!(error.text.contains("ends with segment 1, and 2 was sealed as"), "{}", error.text);
    assert!(!objects(&world).contains(&"stacks/api-service/00000002.jsonl".to_owned()));
    world.with(|account| account.objects.insert("stacks/api-service/00000002.jsonl".into(), hidden));
    asked(&world, Asked::Seal, start + Duration::days(3)).await.unwrap();
    assert_eq!(judged(&world).0, 0, "{}", judged(&world).1);
}

#[tokio::test]
async fn a_ledger_of_former_times_is_not_sealed_after_what_it_does_not_know() {
    let world = minted(2).await;
    let start = OffsetDateTime::now_utc();
    asked(&world, Asked::Seal, start).await.unwrap();
    world.with(|account| account.items.retain(|(_, sk), _| !sk.starts_with("GENERATION#shared#00000002")));
    let error = asked(&world, Asked::Seal, start + Duration::days(1)).await.unwrap_err();
    assert!(error.text.contains("fewer generations than were sealed"), "{}", error.text);
}

#[tokio::test]
async fn of_two_seals_that_overlap_the_later_one_ends_later() {
    let world = minted(1).await;
    let start = OffsetDateTime::now_utc();
    for now in [start, start - Duration::minutes(3)] {
        asked(&world, Asked::Seal, now).await.unwrap();
    }
    assert_eq!(judged(&world).0, 0, "{}", judged(&world).1);
}

#[tokio::test]
async fn only_seal_uses_the_sealing_key() {
    let world = minted(1).await;
    let start = OffsetDateTime::now_utc();
    for sdk in [world.mint(), world.authority()] {
        let error = Seal::new(&sdk, "ledger", BUCKET, SEALING).answer(Asked::Seal, start).await.unwrap_err();
        assert_eq!(error.word, Word::Refused);
        assert!(error.text.contains("kms:Sign"), "{}", error.text);
    }
    assert!(objects(&world).is_empty());
    let wrong = Seal::new(&world.seal(), "ledger", BUCKET, ISSUING).answer(Asked::Seal, start).await;
    assert_eq!(wrong.unwrap_err().word, Word::Refused, "and it signs with nothing else");
}
