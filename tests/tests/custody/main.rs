//! Where the authority's keys are kept: `authority` and `mint`, the functions themselves, against an account that signs as
//! KMS does and refuses what KMS refuses. The issuing key in Secrets Manager is held to the same. What `seal` seals of it is in
//! `sealing.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

mod account;
mod own;
mod requests;
mod sealing;
#[path = "../../../shared/aws/tests/wire/mod.rs"]
mod wire;

use account::{ISSUING, NEXT_ISSUING, NEXT_ROOT, ROOT, SECRET, STACK, World, openssl};
use authority::{Answer, Asked, Authority};
use espalier_domain::authority::{Rules, Word as Said};
use espalier_domain::failure::Word;
use espalier_domain::id::{Caller, Generation, Reason, Scope, StackName, VerifierName};
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{AuthorityItem, MintItem, WorkItem, WorkResult};
use espalier_edge::{EdgeError, Invocation};
use mint::Mint;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;

#[derive(Clone, Copy)]
enum Custody {
    Kms,
    /// The keys of two authorities.
    Both,
    SecretsManager,
}

type Answered = Result<WorkResult, EdgeError>;

/// A sandbox of its own, asked once.
async fn found(world: &World, custody: Custody) -> Answered {
    let item = WorkItem::Authority(AuthorityItem { because: "the stack has no leaf yet".into() });
    match asked(world, custody, Asked::Work(item), OffsetDateTime::now_utc()).await? {
        Answer::Work(result) => Ok(result),
        Answer::Told(told) => panic!("{told:?}"),
    }
}

/// A sandbox of its own, asked once.
async fn asked(world: &World, custody: Custody, request: Asked, now: OffsetDateTime) -> Result<Answer, EdgeError> {
    let keeps = match custody {
        Custody::Kms => authority::Keeps::Keys(&[(ROOT, ISSUING)]),
        Custody::Both => authority::Keeps::Keys(&[(ROOT, ISSUING), (NEXT_ROOT, NEXT_ISSUING)]),
        Custody::SecretsManager => authority::Keeps::Secret(SECRET),
    };
    let rules = Rules { verifiers: vec![VerifierName::parse("batch").unwrap()], wait: Duration::hours(1) };
    let function = Authority::new(&world.authority(), allowed(), "ledger", keeps, rules, None);
    let (request_id, function_arn) = ("9c95e8e4".to_owned(), "arn".to_owned());
    function.answer(request, &Invocation { request_id, function_arn, deadline: now }, now).await
}

async fn mint(world: &World, custody: Custody, generation: u32) -> Answered {
    let item = MintItem {
        stack: StackName::parse(STACK).unwrap(),
        scope: Scope::shared(),
        generation: Generation(generation),
        nodes: Vec::new(),
        requests: Vec::new(),
        follows: None,
        because: "the stack has no leaf yet".into(),
    };
    mint_item(world, custody, item, OffsetDateTime::now_utc()).await
}

async fn mint_item(world: &World, custody: Custody, item: MintItem, now: OffsetDateTime) -> Answered {
    let keeps = match custody {
        Custody::Kms => mint::Keeps::Keys(&[ISSUING]),
        Custody::Both => mint::Keeps::Keys(&[ISSUING, NEXT_ISSUING]),
        Custody::SecretsManager => mint::Keeps::Secret(SECRET),
    };
    let function = Mint::new(&world.mint(), allowed(), "ledger", "leaf-key", keeps);
    function.answer(WorkItem::Mint(item), now).await
}

fn allowed() -> AllowedDomains {
    AllowedDomains::parse("example.com").unwrap()
}

fn id(answered: Answered) -> String {
    match answered {
        Ok(WorkResult::Founded { authority }) => authority,
        other => panic!("{other:?}"),
    }
}

/// What a block says, which has to be about the authority.
fn blocked(answered: Answered) -> String {
    match answered {
        Ok(WorkResult::Blocked { block }) => {
            assert_eq!(block.code, BlockCode::AuthorityUnusable);
            block.because
        }
        other => panic!("{other:?}"),
    }
}

fn minted(answered: &Answered) {
    assert!(matches!(answered, Ok(WorkResult::Minted { .. })), "{answered:?}");
}

/// Several stacks begin in the same second, each with its own first pass.
async fn together(world: World, custody: Custody) -> (World, String) {
    let world = std::sync::Arc::new(world);
    let mut running = JoinSet::new();
    for _ in 0..8 {
        let world = std::sync::Arc::clone(&world);
        running.spawn(async move { id(found(&world, custody).await) });
    }
    let ids: std::collections::BTreeSet<String> = running.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1, "one authority, whoever asks: {ids:?}");
    (std::sync::Arc::into_inner(world).unwrap(), ids.into_iter().next().unwrap())
}

/// The one authority is in the ledger, its root is published, and OpenSSL takes leaf and issuing certificate for good.
fn verifies(world: &World, id: &str) {
    world.with(|account| {
        let known = account.authorities();
        let [only] = known.as_slice() else { panic!("{known:?}") };
        assert_eq!(only.authority, id);
        let published = &account.parameters[&format!("/espalier-trust/{id}")];
        assert_eq!(published["Value"], only.root_pem.as_str());
        let at = account.folder.path();
        std::fs::write(at.join("root.pem"), &only.root_pem).unwrap();
        std::fs::write(at.join("issuing.pem"), &only.issuing_pem).unwrap();
        openssl(at, "verify -x509_strict -CAfile root.pem issuing.pem");
        let leaf = account.parameters[&format!("/espalier-leaf/{STACK}/shared/1")]["Value"].as_str().unwrap();
        let leaf = &leaf[leaf.find("-----BEGIN CERTIFICATE").unwrap()..];
        std::fs::write(at.join("leaf.pem"), leaf).unwrap();
        let verify = "verify -x509_strict -purpose sslserver -CAfile root.pem -untrusted issuing.pem leaf.pem";
        openssl(at, verify);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_passes_at_once_make_one_authority_in_kms_and_each_key_signs_its_own() {
    let (world, id) = together(World::new().await, Custody::Kms).await;
    world.with(|account| {
        assert_eq!(account.signed.keys().collect::<Vec<_>>(), [ROOT], "the issuing key signs leaves only");
        assert_eq!(account.authorities()[0].issuing_key.as_deref(), Some(ISSUING));
        assert!(account.secrets.is_empty());
        account.signed.clear();
    });
    minted(&mint(&world, Custody::Kms, 1).await);
    verifies(&world, &id);
    world.with(|account| assert_eq!(account.signed, [(ISSUING.to_owned(), 1)].into(), "one signature for one leaf"));
    assert!(!world.asked_by_mint().contains(&"GetPublicKey".to_owned()), "its certificate says what the key is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_passes_at_once_make_one_authority_in_one_secret() {
    let (world, id) = together(World::new().await, Custody::SecretsManager).await;
    minted(&mint(&world, Custody::SecretsManager, 1).await);
    verifies(&world, &id);
    world.with(|account| assert!(account.signed.is_empty() && account.secrets.len() == 1));
}

#[tokio::test]
async fn a_founding_that_dies_anywhere_is_taken_up_and_nothing_is_signed_before_its_root_is_known() {
    let world = World::new().await;
    // Before anything is noted, before the root is published, before the ledger knows.
    for (place, noted) in [("FOUNDED#", 0), ("/espalier-trust/", 1), ("/espalier-trust/bundle", 1), ("AUTHORITY#", 1)] {
        world.with(|account| account.dies_at = Some(place));
        let died = found(&world, Custody::Kms).await.unwrap_err();
        assert_eq!(died.word, Word::Refused, "{place}");
        let early = mint(&world, Custody::Kms, 1).await.unwrap_err();
        assert_eq!(early.word, Word::Conflict, "{place}: {early}");
        world.with(|account| assert_eq!(account.items.len(), noted, "{place}"));
    }
    let before = world.with(|account| {
        account.dies_at = None;
        account.signed.clone()
    });
    let founded = id(found(&world, Custody::Kms).await);
    world.with(|account| assert_eq!(account.signed, before, "what was noted is taken up"));
    minted(&mint(&world, Custody::Kms, 1).await);
    verifies(&world, &founded);
    assert_eq!(id(found(&world, Custody::Kms).await), founded, "asked again");
}

#[tokio::test]
async fn a_key_that_will_not_sign_is_named_with_what_would_end_it() {
    let world = World::new().await;
    let refuse = |arn: &str, code, message| {
        world.with(|account| account.refusals.insert(arn.to_owned(), (code, message)));
    };
    refuse(ROOT, "AccessDeniedException", "not authorized to perform: kms:Sign");
    let because = blocked(found(&world, Custody::Kms).await);
    assert!(because.contains(ROOT) && because.contains("in the key's policy and in the role's"), "{because}");
    world.with(|account| account.refusals.clear());
    id(found(&world, Custody::Kms).await);
    for (code, remedy) in [
        ("AccessDeniedException", "in the key's policy and in the role's"),
        ("DisabledException", "aws kms enable-key"),
        ("KMSInvalidStateException", "aws kms cancel-key-deletion"),
        ("NotFoundException", "deploy the template again"),
        ("InvalidKeyUsageException", "deploy the template again"),
    ] {
        refuse(ISSUING, code, "as KMS says it");
        let because = blocked(mint(&world, Custody::Kms, 1).await);
        let all = [ISSUING, remedy, code, "as KMS says it"];
        assert!(all.iter().all(|part| because.contains(part)), "{because}");
    }
    for code in ["ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"]
    {
        refuse(ISSUING, code, "later");
        let error = mint(&world, Custody::Kms, 1).await.unwrap_err();
        assert_eq!(error.word, Word::Busy, "{code}");
        assert!(error.text.contains(ISSUING), "{error}");
    }
    world.with(|account| {
        account.refusals.clear();
        account.swap(ISSUING);
    });
    let because = blocked(mint(&world, Custody::Kms, 1).await);
    assert!(because.contains("does not verify"), "{because}");
    world.with(|account| assert!(!account.parameters.keys().any(|name| name.starts_with("/espalier-leaf/"))));
}

#[tokio::test]
async fn mint_may_not_sign_with_the_roots_key_nor_authority_with_the_issuing_one() {
    let world = World::new().await;
    let crossed = authority::Keeps::Keys(&[(ISSUING, ROOT)]);
    let item = Asked::Work(WorkItem::Authority(AuthorityItem { because: "crossed".into() }));
    let function = Authority::new(&world.authority(), allowed(), "ledger", crossed, Rules::default(), None);
    let now = OffsetDateTime::now_utc();
    let invocation = Invocation { request_id: String::new(), function_arn: String::new(), deadline: now };
    let Answer::Work(answer) = function.answer(item, &invocation, now).await.unwrap() else { panic!("no work") };
    let because = blocked(Ok(answer));
    assert!(because.contains(ISSUING) && because.contains("AccessDeniedException"), "{because}");
    world.with(|account| assert!(account.items.is_empty() && account.signed.is_empty()));
}

#[tokio::test]
async fn another_custody_makes_no_second_authority_by_itself() {
    let world = World::new().await;
    let first = id(found(&world, Custody::SecretsManager).await);
    let because = blocked(found(&world, Custody::Kms).await);
    assert!(because.contains(&first) && because.contains("CustodyOfAuthority"), "{because}");
    let because = blocked(mint(&world, Custody::Kms, 1).await);
    assert!(because.contains(&first) && because.contains(ISSUING), "{because}");
    world.with(|account| assert!(account.signed.is_empty() && account.authorities().len() == 1));

    let second = prepared(&world, Custody::Kms).await;
    assert_ne!(first, second);
    world.with(|account| assert_eq!(account.authorities().len(), 2));
    let because = blocked(mint(&world, Custody::Kms, 1).await);
    assert!(because.contains(&first), "nothing is signed below a root that nobody acknowledged: {because}");
    say(&world, Custody::Kms, activate(&second)).await;
    minted(&mint(&world, Custody::Kms, 1).await);
}

#[tokio::test]
async fn a_secret_that_is_lost_is_named_and_made_anew_only_on_purpose() {
    let world = World::new().await;
    let first = id(found(&world, Custody::SecretsManager).await);
    world.with(|account| account.secrets.clear());
    let because = blocked(mint(&world, Custody::SecretsManager, 1).await);
    assert!(because.contains(SECRET) && because.contains("restore the secret"), "{because}");
    assert_eq!(id(found(&world, Custody::SecretsManager).await), first);
    world.with(|account| assert!(account.secrets.is_empty(), "rotate never asks for another one"));
    let second = prepared(&world, Custody::SecretsManager).await;
    assert_ne!(first, second);
    say(&world, Custody::SecretsManager, activate(&second)).await;
    minted(&mint(&world, Custody::SecretsManager, 1).await);
}

fn operator() -> Caller {
    Caller::parse("arn:aws:iam::111122223333:user/operator").unwrap()
}

async fn look(world: &World, request: Asked, now: OffsetDateTime) -> Value {
    serde_json::to_value(asked(world, Custody::Both, request, now).await.unwrap()).unwrap()
}

async fn say(world: &World, custody: Custody, word: Said) -> Value {
    let said = Asked::Said { word, caller: operator() };
    let told = serde_json::to_value(asked(world, custody, said, OffsetDateTime::now_utc()).await.unwrap()).unwrap();
    assert!(!told["steps"].as_array().is_none_or(Vec::is_empty), "{told}");
    told
}

fn activate(authority: &str) -> Said {
    Said::Activate { authority: authority.to_owned(), reason: Reason::parse("the other key is lost").unwrap() }
}

/// Has the next authority made; its id.
async fn prepared(world: &World, custody: Custody) -> String {
    let told = say(world, custody, Said::Prepare).await;
    let all = told["authorities"].as_array().unwrap();
    let found = all.iter().find(|one| one["phase"] == "prepared").unwrap_or_else(|| panic!("{told}"));
    found["authority"].as_str().unwrap().to_owned()
}

/// Whose root the newest leaf's generation names.
fn signed_by(world: &World, generation: u32) -> String {
    world.with(|account| {
        let key = (format!("STACK#{STACK}"), format!("GENERATION#shared#{generation:08}"));
        let record: Value = serde_json::from_str(account.items[&key]["record"]["S"].as_str().unwrap()).unwrap();
        record["authority"].as_str().unwrap().to_owned()
    })
}

#[tokio::test]
async fn an_authority_takes_over_when_it_is_acknowledged_and_the_former_one_goes_after_its_last_leaf() {
    let world = World::new().await;
    let first = id(found(&world, Custody::Both).await);
    minted(&mint(&world, Custody::Both, 1).await);
    let second = prepared(&world, Custody::Both).await;
    world.with(|account| assert_eq!(account.signed[NEXT_ROOT], 2, "the second root's key signs its own two"));
    let now = OffsetDateTime::now_utc();
    // The wait is over; one verifier has not said anything.
    let later = now + Duration::hours(2);
    let told = look(&world, Asked::Look, later).await;
    assert_eq!((&told["outcome"], &told["blocks"][0]["code"]), (&"blocked".into(), &"Unacknowledged".into()), "{told}");
    assert!(told["blocks"][0]["because"].as_str().unwrap().contains("batch"), "{told}");
    minted(&mint(&world, Custody::Both, 2).await);
    assert_eq!(signed_by(&world, 2), first);
    let bundle = told["bundle"].as_str().unwrap().to_owned();
    let said = Said::Acknowledge {
        authority: second.clone(),
        verifier: VerifierName::parse("batch").unwrap(),
        bundle: bundle.clone(),
        holds: Duration::days(30),
    };
    say(&world, Custody::Both, said).await;
    minted(&mint(&world, Custody::Both, 3).await);
    assert_eq!(signed_by(&world, 3), first, "the wait is not over");
    // A look that dies before its turn is written changes nothing; the next one goes on.
    world.with(|account| account.dies_at = Some("TURN#"));
    asked(&world, Custody::Both, Asked::Look, later).await.unwrap_err();
    world.with(|account| account.dies_at = None);
    look(&world, Asked::Look, later).await;
    minted(&mint(&world, Custody::Both, 4).await);
    assert_eq!(signed_by(&world, 4), second);
    // Back, as long as it is not retired.
    say(&world, Custody::Both, activate(&first)).await;
    minted(&mint(&world, Custody::Both, 5).await);
    assert_eq!(signed_by(&world, 5), first);
    say(&world, Custody::Both, activate(&second)).await;
    let told = look(&world, Asked::Look, now + Duration::days(29)).await;
    assert_eq!((&told["outcome"], &told["bundle"]), (&"pending".into(), &bundle.into()), "{told}");
    let told = look(&world, Asked::Look, now + Duration::days(31)).await;
    assert_eq!(told["outcome"], "converged", "{told}");
    let phases: Vec<&Value> = told["authorities"].as_array().unwrap().iter().map(|one| &one["phase"]).collect();
    assert_eq!(phases, ["retired", "active"]);
    world.with(|account| {
        let root = account.authorities().into_iter().find(|one| one.authority == second).unwrap().root_pem;
        assert_eq!(account.parameters["/espalier-trust/bundle"]["Value"], root.as_str(), "and no other root");
    });
}
