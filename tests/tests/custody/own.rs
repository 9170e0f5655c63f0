//! Leaves that are each target's own: one for each, whoever asks and how often, and all of a generation of the same dates.

use std::collections::BTreeSet;
use std::sync::Arc;

use espalier_domain::failure::Word;
use espalier_domain::id::{Generation, NodeId, Scope, StackName, leaf_parameter};
use espalier_domain::record::{GenerationRecord, LeafRecord};
use espalier_domain::work::MintItem;
use espalier_pki::bundle;
use espalier_pki::key::SecretText;
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;

use super::{Answered, Custody, activate, found, id, mint_item, minted, prepared, say};
use crate::account::{STACK, World};

pub(crate) fn node(n: u32) -> NodeId {
    NodeId::parse(format!("i-{n:017x}")).unwrap()
}

pub(crate) fn item(generation: u32, nodes: &[u32]) -> MintItem {
    MintItem {
        stack: StackName::parse(STACK).unwrap(),
        scope: Scope::target(),
        generation: Generation(generation),
        nodes: nodes.iter().map(|n| node(*n)).collect(),
        requests: Vec::new(),
        follows: None,
        because: "the stack has no leaf yet".into(),
    }
}

pub(crate) async fn ask(world: &World, item: MintItem, now: OffsetDateTime) -> Answered {
    mint_item(world, Custody::Both, item, now).await
}

/// A control plane with its authority, and a stack whose targets each have their own.
pub(crate) async fn world() -> World {
    let world = World::new().await;
    world.with(|account| account.spec["certificate"]["scope"] = json!("target"));
    id(found(&world, Custody::Both).await);
    world
}

pub(crate) fn texts(world: &World, prefix: &str) -> Vec<String> {
    world.with(|account| {
        let found = account.items.iter().filter(|((_, sk), _)| sk.starts_with(prefix));
        found.map(|(_, item)| item["record"]["S"].as_str().unwrap().to_owned()).collect()
    })
}

pub(crate) fn leaves(world: &World) -> Vec<LeafRecord> {
    texts(world, "LEAF#").iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

/// What is stored of each leaf is what the ledger says of it; the dates of all, each once, and the private keys.
fn stored(world: &World) -> (BTreeSet<(OffsetDateTime, OffsetDateTime)>, BTreeSet<String>) {
    let (mut dates, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for leaf in leaves(world) {
        let name = leaf_parameter(&StackName::parse(STACK).unwrap(), &leaf.scope, leaf.generation);
        let value = world.with(|account| account.parameters[&name]["Value"].as_str().unwrap().to_owned());
        keys.insert(value.split_once("-----BEGIN CERTIFICATE").unwrap().0.to_owned());
        let facts = bundle::inspect(&SecretText::new(value)).unwrap();
        assert_eq!((facts.fingerprint, facts.serial), (leaf.fingerprint.clone(), leaf.serial.clone()), "{name}");
        assert_eq!(facts.not_after, leaf.not_after);
        dates.insert((facts.not_before, facts.not_after));
    }
    (dates, keys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_at_once_make_one_leaf_for_each_target() {
    let world = Arc::new(world().await);
    let now = OffsetDateTime::now_utc();
    let mut running = JoinSet::new();
    for second in 0..6 {
        let world = Arc::clone(&world);
        // Each thinks that the generation is its own to begin, at another second.
        running.spawn(async move { ask(&world, item(1, &[1, 2, 3]), now + Duration::seconds(second)).await });
    }
    for answered in running.join_all().await {
        minted(&answered);
    }
    let generations = texts(&world, "GENERATION#");
    let [only] = generations.as_slice() else { panic!("{generations:?}") };
    let only: GenerationRecord = serde_json::from_str(only).unwrap();
    assert_eq!((only.scope.clone(), only.parameter.as_str()), (Scope::target(), "/espalier-leaf/api-service/target/1"));
    assert!(only.fingerprint.is_empty() && only.serial.is_empty(), "no leaf is everybody's");
    assert_eq!(leaves(&world).len(), 3);
    let (dates, keys) = stored(&world);
    assert_eq!(dates, [(only.not_before, only.not_after)].into());
    assert_eq!(keys.len(), 3, "a key of its own for each");
    let leaves = world.with(|account| {
        account.parameters.keys().filter(|name| name.starts_with("/espalier-leaf/")).cloned().collect::<Vec<_>>()
    });
    assert_eq!(leaves, [1, 2, 3].map(|n| format!("/espalier-leaf/{STACK}/{}/1", node(n))));
}

#[tokio::test]
async fn who_joins_weeks_later_has_the_dates_of_the_others_and_what_is_there_is_not_made_anew() {
    let world = world().await;
    let now = OffsetDateTime::now_utc();
    minted(&ask(&world, item(1, &[]), now).await);
    assert!(leaves(&world).is_empty());
    minted(&ask(&world, item(1, &[1]), now + Duration::seconds(3)).await);
    let signed = world.with(|account| account.signed.clone());
    minted(&ask(&world, item(1, &[1]), now + Duration::hours(1)).await);
    world.with(|account| assert_eq!(account.signed, signed, "nothing is signed for what is there"));
    // The spec's word on lifetimes counts from the next generation on.
    world.with(|account| account.spec["certificate"]["validityHours"] = json!(300));
    minted(&ask(&world, item(1, &[1, 7]), now + Duration::hours(100)).await);
    let (dates, keys) = stored(&world);
    assert_eq!((dates.len(), keys.len()), (1, 2), "{dates:?}");
}

#[tokio::test]
async fn a_mint_that_dies_anywhere_is_finished_by_the_next() {
    let world = world().await;
    let now = OffsetDateTime::now_utc();
    for place in ["GENERATION#", "PROPOSAL#", "/espalier-leaf/", "LEAF#"] {
        world.with(|account| account.dies_at = Some(place));
        assert_eq!(ask(&world, item(1, &[1, 2]), now).await.unwrap_err().word, Word::Refused, "{place}");
    }
    world.with(|account| account.dies_at = None);
    minted(&ask(&world, item(1, &[1, 2]), now + Duration::minutes(1)).await);
    let (dates, keys) = stored(&world);
    assert_eq!((dates.len(), keys.len()), (1, 2));
}

#[tokio::test]
async fn what_is_due_for_replacement_is_given_no_further_leaf() {
    let world = world().await;
    let now = OffsetDateTime::now_utc();
    minted(&ask(&world, item(1, &[1]), now).await);
    let refused = |answered: Answered| answered.unwrap_err().word;
    let names = world.with(|account| account.spec["certificate"]["dnsNames"].clone());
    world.with(|account| {
        account.spec["certificate"]["dnsNames"] = json!(["api-service.example.com", "more.example.com"]);
    });
    assert_eq!(refused(ask(&world, item(1, &[2]), now).await), Word::Conflict);
    world.with(|account| account.spec["certificate"]["dnsNames"] = names);
    world.with(|account| account.spec["certificate"]["scope"] = json!("shared"));
    assert_eq!(refused(ask(&world, item(1, &[2]), now).await), Word::Conflict);
    world.with(|account| account.spec["certificate"]["scope"] = json!("target"));
    // Numbers are the stack's: what was begun as one for each is not made as one for all.
    let shared = MintItem { scope: Scope::shared(), ..item(1, &[]) };
    assert_eq!(refused(ask(&world, shared, now).await), Word::Conflict);
    let second = prepared(&world, Custody::Both).await;
    say(&world, Custody::Both, activate(&second)).await;
    assert_eq!(refused(ask(&world, item(1, &[2]), now).await), Word::Conflict);
    minted(&ask(&world, item(1, &[1]), now).await);
    minted(&ask(&world, item(2, &[2]), now).await);
    assert_eq!(leaves(&world).len(), 2);
}

#[tokio::test]
async fn what_is_not_one_item_is_refused_before_anything_is_signed() {
    let world = world().await;
    let now = OffsetDateTime::now_utc();
    let signed = world.with(|account| account.signed.clone());
    let many: Vec<u32> = (1..=51).collect();
    let own = MintItem { scope: Scope::of(&node(1)), ..item(1, &[]) };
    let shared = MintItem { scope: Scope::shared(), ..item(1, &[1]) };
    for bad in [item(1, &many), item(1, &[2, 1]), item(1, &[1, 1]), own, shared] {
        assert_eq!(ask(&world, bad.clone(), now).await.unwrap_err().word, Word::Invalid, "{bad:?}");
    }
    world.with(|account| assert_eq!(account.signed, signed));
}

#[tokio::test]
async fn no_bundle_lies_in_parameter_store_for_nobody() {
    let world = world().await;
    let now = OffsetDateTime::now_utc();
    let twelve: Vec<u32> = (1..=12).collect();
    let bundles = || {
        world.with(|account| {
            let names = account.parameters.keys().filter(|name| name.starts_with("/espalier-leaf/"));
            names.map(|name| name.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>().join("")
        })
    };
    for generation in 1..=2 {
        minted(&ask(&world, item(generation, &twelve), now).await);
    }
    assert_eq!(bundles(), "12".repeat(12));
    // The newest one and the one before stay, whoever shares them; whoever asks late for a former one stores nothing.
    assert_eq!(ask(&world, item(1, &[13]), now).await.unwrap_err().word, Word::Conflict);
    minted(&ask(&world, item(3, &[1]), now).await);
    assert_eq!(bundles(), format!("23{}", "2".repeat(11)));
    world.with(|account| account.spec["certificate"]["scope"] = json!("shared"));
    let shared = MintItem { scope: Scope::shared(), ..item(4, &[]) };
    // What cannot be deleted is nobody's concern who waits for the leaf, and is made up for.
    world.with(|account| account.dies_at = Some("DISCARDED#"));
    minted(&ask(&world, shared.clone(), now).await);
    assert_eq!(texts(&world, "DISCARDED#").len(), 1);
    world.with(|account| account.dies_at = None);
    minted(&ask(&world, MintItem { generation: Generation(5), ..shared }, now).await);
    assert_eq!((texts(&world, "DISCARDED#").len(), bundles()), (3, "45".to_owned()));
}
