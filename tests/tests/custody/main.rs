//! Where the authority's keys are kept: `authority` and `mint`, the functions themselves, against an account that signs as
//! KMS does and refuses what KMS refuses. The issuing key in Secrets Manager is held to the same.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

mod account;
#[path = "../../../shared/aws/tests/wire/mod.rs"]
mod wire;

use account::{ISSUING, ROOT, SECRET, STACK, World, openssl};
use authority::Authority;
use espalier_domain::failure::Word;
use espalier_domain::id::{Generation, Scope, StackName};
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{AuthorityItem, MintItem, WorkItem, WorkResult};
use espalier_edge::EdgeError;
use mint::Mint;
use time::OffsetDateTime;
use tokio::task::JoinSet;

#[derive(Clone, Copy)]
enum Custody {
    Kms,
    SecretsManager,
}

type Answered = Result<WorkResult, EdgeError>;

/// A sandbox of its own, asked once.
async fn found(world: &World, custody: Custody, beside: Option<&str>) -> Answered {
    let keeps = match custody {
        Custody::Kms => authority::Keeps::Keys { root: ROOT, issuing: ISSUING },
        Custody::SecretsManager => authority::Keeps::Secret(SECRET),
    };
    let item = AuthorityItem { beside: beside.map(str::to_owned), because: "the stack has no leaf yet".into() };
    let function = Authority::new(&world.authority(), allowed(), "ledger", keeps);
    function.answer(WorkItem::Authority(item), OffsetDateTime::now_utc()).await
}

async fn mint(world: &World, custody: Custody, generation: u32) -> Answered {
    let keeps = match custody {
        Custody::Kms => mint::Keeps::Key(ISSUING),
        Custody::SecretsManager => mint::Keeps::Secret(SECRET),
    };
    let item = MintItem {
        stack: StackName::parse(STACK).unwrap(),
        scope: Scope::shared(),
        generation: Generation(generation),
        follows: None,
        because: "the stack has no leaf yet".into(),
    };
    let function = Mint::new(&world.mint(), allowed(), "ledger", "leaf-key", keeps);
    function.answer(WorkItem::Mint(item), OffsetDateTime::now_utc()).await
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
        running.spawn(async move { id(found(&world, custody, None).await) });
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
    for (place, noted) in [("FOUNDED#", 0), ("/espalier-trust/", 1), ("AUTHORITY#", 1)] {
        world.with(|account| account.dies_at = Some(place));
        let died = found(&world, Custody::Kms, None).await.unwrap_err();
        assert_eq!(died.word, Word::Refused, "{place}");
        let early = mint(&world, Custody::Kms, 1).await.unwrap_err();
        assert_eq!(early.word, Word::Conflict, "{place}: {early}");
        world.with(|account| assert_eq!(account.items.len(), noted, "{place}"));
    }
    let before = world.with(|account| {
        account.dies_at = None;
        account.signed.clone()
    });
    let founded = id(found(&world, Custody::Kms, None).await);
    world.with(|account| assert_eq!(account.signed, before, "what was noted is taken up"));
    minted(&mint(&world, Custody::Kms, 1).await);
    verifies(&world, &founded);
    assert_eq!(id(found(&world, Custody::Kms, None).await), founded, "asked again");
}

#[tokio::test]
async fn a_key_that_will_not_sign_is_named_with_what_would_end_it() {
    let world = World::new().await;
    let refuse = |arn: &str, code, message| {
        world.with(|account| account.refusals.insert(arn.to_owned(), (code, message)));
    };
    refuse(ROOT, "AccessDeniedException", "not authorized to perform: kms:Sign");
    let because = blocked(found(&world, Custody::Kms, None).await);
    assert!(because.contains(ROOT) && because.contains("in the key's policy and in the role's"), "{because}");
    world.with(|account| account.refusals.clear());
    id(found(&world, Custody::Kms, None).await);
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
    let crossed = authority::Keeps::Keys { root: ISSUING, issuing: ROOT };
    let item = WorkItem::Authority(AuthorityItem { beside: None, because: "crossed".into() });
    let function = Authority::new(&world.authority(), allowed(), "ledger", crossed);
    let because = blocked(function.answer(item, OffsetDateTime::now_utc()).await);
    assert!(because.contains(ISSUING) && because.contains("AccessDeniedException"), "{because}");
    world.with(|account| assert!(account.items.is_empty() && account.signed.is_empty()));
}

#[tokio::test]
async fn another_custody_makes_no_second_authority_by_itself() {
    let world = World::new().await;
    let first = id(found(&world, Custody::SecretsManager, None).await);
    let because = blocked(found(&world, Custody::Kms, None).await);
    assert!(because.contains(&first) && because.contains("CustodyOfAuthority"), "{because}");
    let because = blocked(mint(&world, Custody::Kms, 1).await);
    assert!(because.contains(&first) && because.contains(ISSUING), "{because}");
    world.with(|account| assert!(account.signed.is_empty() && account.authorities().len() == 1));

    let unknown = found(&world, Custody::Kms, Some("0123456789abcdef")).await.unwrap_err();
    assert_eq!(unknown.word, Word::Invalid);
    assert!(unknown.text.contains("`beside`") && unknown.text.contains(&first), "{unknown}");
    let second = id(found(&world, Custody::Kms, Some(&first)).await);
    assert_eq!(id(found(&world, Custody::Kms, Some(&first)).await), second, "asked again");
    assert_ne!(first, second);
    world.with(|account| assert_eq!(account.authorities().len(), 2));
    minted(&mint(&world, Custody::Kms, 1).await);
}

#[tokio::test]
async fn a_secret_that_is_lost_is_named_and_made_anew_only_on_purpose() {
    let world = World::new().await;
    let first = id(found(&world, Custody::SecretsManager, None).await);
    world.with(|account| account.secrets.clear());
    let because = blocked(mint(&world, Custody::SecretsManager, 1).await);
    assert!(because.contains(SECRET) && because.contains("restore the secret"), "{because}");
    assert_eq!(id(found(&world, Custody::SecretsManager, None).await), first);
    world.with(|account| assert!(account.secrets.is_empty(), "rotate never asks for another one"));
    let second = id(found(&world, Custody::SecretsManager, Some(&first)).await);
    assert_ne!(first, second);
    minted(&mint(&world, Custody::SecretsManager, 1).await);
}
