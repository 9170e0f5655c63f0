//! Keys that targets made themselves: which of them `mint` certifies, and what becomes of a request that is not the answer which was
//! asked for.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use espalier_domain::failure::Word;
use espalier_domain::id::{Generation, NodeId, StackName, TargetId};
use espalier_domain::record::{AskedRecord, AttemptEnd, AttemptRecord, GenerationRecord};
use espalier_domain::spec::{Custody as Made, KeyType};
use espalier_domain::work::{DeliveryAction, KeyRequest, MintItem};
use serde_json::json;
use time::OffsetDateTime;

use super::minted;
use super::own::{ask, item, leaves, node, texts, world};
use crate::account::{STACK, World, openssl};

const NONCE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What a host says when it was told to make a key.
#[derive(Clone)]
struct Says {
    stack: String,
    generation: u32,
    node: NodeId,
    nonce: String,
    key: &'static str,
    /// More lines of the request's configuration, in its main section.
    more: &'static str,
    /// In place of all of its output.
    instead: Option<&'static str>,
}

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

fn says(n: u32) -> Says {
    let (stack, nonce) = (STACK.to_owned(), NONCE.to_owned());
    Says { stack, generation: 1, node: node(n), nonce, key: P256, more: "", instead: None }
}

/// A request as OpenSSL makes it, in base64.
fn request(folder: &Path, says: &Says) -> String {
    let Says { stack, generation, node, nonce, key, more, .. } = says;
    let configuration = format!(
        "[req]\nprompt = no\nstring_mask = utf8only\ndistinguished_name = subject\nattributes = attributes\n{more}\n\
         [subject]\n0.O = {stack}\nOU = {generation}\nCN = {node}\n[attributes]\nchallengePassword = {nonce}\n\
         [names]\nsubjectAltName = DNS:bank.example.com\n"
    );
    std::fs::write(folder.join("request.cnf"), configuration).unwrap();
    openssl(folder, &format!("genpkey {key} -out host.key"));
    let der = openssl(folder, "req -new -config request.cnf -key host.key -outform DER");
    STANDARD.encode(der)
}

/// The host's words, as Run Command keeps them, and the delivery in the ledger that they answer.
fn told(world: &World, n: u32, attempt: u32, says: &Says) -> KeyRequest {
    let target = TargetId::parse(node(n).as_str()).unwrap();
    world.with(|account| {
        let request = request(account.folder.path(), says);
        let line = format!(
            "{{\"espalier\":1,\"code\":\"prepared\",\"stack\":\"{STACK}\",\"generation\":1,\"fingerprint\":\"\",\"serial\":\"\",\
             \"detail\":\"\",\"request\":\"{request}\"}}\n"
        );
        let output = says.instead.map_or(line, str::to_owned);
        account.said.insert((format!("c-{attempt}"), node(n).to_string()), output);
        account.online.insert(node(n).to_string());
        let end = AttemptEnd { installed: false, code: "prepared".into(), detail: String::new(), at: at() };
        let record = AttemptRecord {
            target: target.clone(),
            generation: Generation(1),
            attempt,
            epoch: espalier_domain::id::Epoch(1),
            action: DeliveryAction::Prepare,
            asked: Some(AskedRecord { node: node(n), nonce: espalier_domain::id::Nonce::parse(NONCE).unwrap() }),
            begun_at: at(),
            leaf_ends_at: at(),
            command_id: Some(format!("c-{attempt}")),
            ended: Some(end),
        };
        keep(account, &record);
    });
    KeyRequest { target, attempt }
}

fn keep(account: &mut crate::account::Account, record: &AttemptRecord) {
    let sk = format!("ATTEMPT#{}#{:08}#{:04}", record.target, record.generation.0, record.attempt);
    let text = serde_json::to_string(record).unwrap();
    let item = json!({"pk": {"S": format!("STACK#{STACK}")}, "sk": {"S": sk.as_str()}, "record": {"S": text}});
    account.items.insert((format!("STACK#{STACK}"), sk), item);
}

fn at() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap()
}

/// A control plane, and a stack whose first generation is begun: its targets make their keys.
async fn begun(key_type: KeyType) -> World {
    let world = world().await;
    world.with(|account| {
        account.spec["certificate"]["custody"] = json!({"kind": "target"});
        account.spec["certificate"]["keyType"] = json!(key_type.name());
    });
    minted(&ask(&world, item(1, &[]), OffsetDateTime::now_utc()).await);
    world
}

fn asks(nodes: &[u32], requests: Vec<KeyRequest>) -> MintItem {
    MintItem { requests, ..item(1, nodes) }
}

/// How the delivery stands in the ledger.
fn ended(world: &World, n: u32) -> AttemptEnd {
    let text = texts(world, &format!("ATTEMPT#{}", node(n))).pop().unwrap();
    serde_json::from_str::<AttemptRecord>(&text).unwrap().ended.unwrap()
}

#[tokio::test]
async fn a_key_of_every_kind_that_a_target_made_is_certified_and_what_is_stored_holds_none() {
    let kinds = [
        P256,
        "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        "-algorithm RSA -pkeyopt rsa_keygen_bits:3072",
        "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
        "-algorithm ED25519",
    ];
    for (key_type, key) in KeyType::ALL.into_iter().zip(kinds) {
        let world = begun(key_type).await;
        let request = told(&world, 1, 1, &Says { key, ..says(1) });
        minted(&ask(&world, asks(&[1], vec![request]), OffsetDateTime::now_utc()).await);
        let [generation] = &texts(&world, "GENERATION#")[..] else { panic!() };
        let generation: GenerationRecord = serde_json::from_str(generation).unwrap();
        assert_eq!((generation.custody, generation.key_type), (Made::Target, Some(key_type)));
        world.with(|account| {
            let stored =
                account.parameters[&format!("/espalier-leaf/{STACK}/{}/1", node(1))]["Value"].as_str().unwrap();
            assert!(!stored.contains("PRIVATE"), "{key_type}: {stored}");
            assert_eq!(stored.matches("BEGIN CERTIFICATE").count(), 2);
            let folder = account.folder.path();
            std::fs::write(folder.join("leaf.pem"), stored).unwrap();
            let [theirs, certified] = ["pkey -in host.key -pubout", "x509 -in leaf.pem -noout -pubkey"];
            assert_eq!(openssl(folder, theirs), openssl(folder, certified), "{key_type}");
        });
        assert_eq!(leaves(&world).len(), 1);
    }
}

#[tokio::test]
async fn what_is_not_the_answer_that_was_asked_for_is_not_signed_and_keeps_nobody_else_from_a_leaf() {
    let other = "f".repeat(64);
    let all = [
        ("another node", Says { node: node(9), ..says(1) }, "its subject is"),
        ("another stack", Says { stack: "payments".into(), ..says(1) }, "its subject is"),
        ("another generation", Says { generation: 2, ..says(1) }, "its subject is"),
        ("another nonce, or one that was used before", Says { nonce: other, ..says(1) }, "its nonce"),
        ("a name", Says { more: "req_extensions = names", ..says(1) }, "attributes beside the nonce"),
        ("another kind of key", Says { key: "-algorithm ED25519", ..says(1) }, "its key is of kind Ed25519"),
        ("a curve for nobody", Says { key: "-algorithm EC -pkeyopt ec_paramgen_curve:P-521", ..says(1) }, "its key"),
        ("another last line", Says { instead: Some("{\"espalier\":1,\"code\":\"prepared\"}"), ..says(1) }, "last line"),
        ("nothing", Says { instead: Some(""), ..says(1) }, "no output"),
    ];
    for (what, said, why) in all {
        let world = begun(KeyType::EcPrime256v1).await;
        let signed = world.with(|account| account.signed.values().sum::<u32>());
        let requests = vec![told(&world, 1, 1, &said), told(&world, 2, 1, &says(2))];
        minted(&ask(&world, asks(&[1, 2], requests), OffsetDateTime::now_utc()).await);
        assert_eq!(world.with(|account| account.signed.values().sum::<u32>()), signed + 1, "{what}");
        let given: BTreeSet<_> = leaves(&world).into_iter().map(|leaf| leaf.scope.to_string()).collect();
        assert_eq!(given, [node(2).to_string()].into(), "{what}");
        let end = ended(&world, 1);
        assert_eq!(end.code, "RequestRefused", "{what}");
        assert!(end.detail.contains(why), "{what}: {}", end.detail);
        assert_eq!(ended(&world, 2).code, "prepared");
    }
}

#[tokio::test]
async fn whoever_cannot_prove_that_it_holds_the_key_is_refused() {
    let world = begun(KeyType::EcPrime256v1).await;
    let request = told(&world, 1, 1, &says(1));
    world.with(|account| {
        let said = account.said.get_mut(&("c-1".to_owned(), node(1).to_string())).unwrap();
        let (head, rest) = said.split_once("\"request\":\"").unwrap();
        let mut der = STANDARD.decode(rest.split_once('"').unwrap().0).unwrap();
        *der.last_mut().unwrap() ^= 1;
        *said = format!("{head}\"request\":\"{}\"}}\n", STANDARD.encode(der));
    });
    minted(&ask(&world, asks(&[1], vec![request]), OffsetDateTime::now_utc()).await);
    assert_eq!((ended(&world, 1).code.as_str(), leaves(&world).len()), ("RequestRefused", 0));
    assert_eq!(ended(&world, 1).detail, "its signature is not by its key");
}

/// What is settled when a generation begins is so for all of its leaves, whoever joins later and whatever the spec says by then.
#[tokio::test]
async fn another_kind_of_key_in_the_spec_counts_from_the_next_generation_on() {
    let world = begun(KeyType::EcPrime256v1).await;
    world.with(|account| account.spec["certificate"]["keyType"] = json!("Ed25519"));
    let request = told(&world, 1, 1, &says(1));
    minted(&ask(&world, asks(&[1], vec![request]), OffsetDateTime::now_utc()).await);
    assert_eq!((ended(&world, 1).code.as_str(), leaves(&world).len()), ("prepared", 1));
}

/// Another node may answer at an address by now: it is left out, and the others have theirs.
#[tokio::test]
async fn whoever_was_not_asked_keeps_nobody_else_from_a_leaf() {
    let world = begun(KeyType::EcPrime256v1).await;
    let (first, second) = (told(&world, 1, 1, &says(1)), told(&world, 2, 1, &says(2)));
    // The third is told to be what the first was asked.
    minted(&ask(&world, asks(&[2, 3], vec![second, first]), OffsetDateTime::now_utc()).await);
    let given: Vec<_> = leaves(&world).into_iter().map(|leaf| leaf.scope.to_string()).collect();
    assert_eq!(given, [node(2).to_string()]);
}

/// The host is asked again, and it has not failed: nobody can be blamed for what Run Command forgot, or for being away.
#[tokio::test]
async fn what_run_command_does_not_know_and_who_is_away_is_asked_again() {
    let gone: [fn(&World); 2] =
        [|world| world.with(|account| account.said.clear()), |world| world.with(|account| account.online.clear())];
    for away in gone {
        let world = begun(KeyType::EcPrime256v1).await;
        let request = told(&world, 1, 1, &says(1));
        away(&world);
        minted(&ask(&world, asks(&[1], vec![request]), OffsetDateTime::now_utc()).await);
        assert_eq!((ended(&world, 1).code.as_str(), leaves(&world).len()), ("RequestLost", 0));
    }
}

#[tokio::test]
async fn a_request_that_no_delivery_of_ours_asked_for_is_not_even_read() {
    let world = begun(KeyType::EcPrime256v1).await;
    let (first, second) = (told(&world, 1, 1, &says(1)), told(&world, 2, 1, &says(2)));
    let unknown = KeyRequest { attempt: 7, ..first.clone() };
    let now = OffsetDateTime::now_utc();
    let word = |answered: super::Answered| answered.unwrap_err().word;
    for (what, item) in [
        ("another's delivery", asks(&[1], vec![second.clone()])),
        ("a delivery that nobody made", asks(&[1], vec![unknown])),
        ("none at all", asks(&[1], Vec::new())),
    ] {
        assert_eq!(word(ask(&world, item, now).await), Word::Conflict, "{what}");
    }
    assert_eq!(word(ask(&world, asks(&[1, 2], vec![first.clone()]), now).await), Word::Invalid);
    // An installation that succeeded is no preparation, and one that is under way has said nothing.
    let stack = StackName::parse(STACK).unwrap();
    for spoil in [
        |record: &mut AttemptRecord| record.action = DeliveryAction::Install,
        |record: &mut AttemptRecord| record.ended = None,
        |record: &mut AttemptRecord| record.asked = None,
    ] {
        world.with(|account| {
            let key = account.items.keys().find(|(_, sk)| sk.starts_with(&format!("ATTEMPT#{}", node(1)))).cloned();
            let text = account.items[&key.unwrap()]["record"]["S"].as_str().unwrap().to_owned();
            let mut record: AttemptRecord = serde_json::from_str(&text).unwrap();
            let whole = record.clone();
            spoil(&mut record);
            keep(account, &record);
            whole
        });
        assert_eq!(word(ask(&world, asks(&[1], vec![first.clone()]), now).await), Word::Conflict, "{stack}");
        told(&world, 1, 1, &says(1));
    }
    assert!(leaves(&world).is_empty());
    assert!(!world.asked_by_mint().iter().any(|what| what == "GetCommandInvocation"));
}
