//! Keys in KMS on the wire: what is asked for, what is believed of the answers, and how much at once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod wire;

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use espalier_aws::kms::{Kms, KmsError};
use espalier_domain::spec::KeyType;
use espalier_pki::authority::root_certificate;
use espalier_pki::issue::IssueError;
use espalier_pki::key::PrivateKey;
use espalier_pki::profile::Serial;
use futures::future::join_all;
use serde_json::json;
use time::OffsetDateTime;
use wire::Wire;

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1";

async fn root(kms: &Kms, key_type: KeyType) -> Result<Vec<u8>, IssueError> {
    let public = PrivateKey::generate(key_type).unwrap().public().clone();
    root_certificate(&kms.signer(KEY, public), Serial::random().unwrap(), OffsetDateTime::now_utc()).await
}

#[tokio::test]
async fn a_key_is_asked_for_a_digest_of_its_curves_length_and_its_signature_is_not_believed() {
    for (key_type, algorithm, octets) in
        [(KeyType::EcPrime256v1, "ECDSA_SHA_256", 32), (KeyType::EcSecp384r1, "ECDSA_SHA_384", 48)]
    {
        // A signature, but not this key's.
        let wire = Wire::table(vec![("Sign", 200, json!({"Signature": "MAYCAQECAQE="}))]).await;
        let refused = root(&Kms::new(&wire.sdk()), key_type).await;
        assert!(matches!(refused, Err(IssueError::Signature)), "{refused:?}");
        let asked = wire.seen()[0].json();
        let digest = STANDARD.decode(asked["Message"].as_str().unwrap()).unwrap();
        assert_eq!((asked["KeyId"].as_str(), asked["SigningAlgorithm"].as_str()), (Some(KEY), Some(algorithm)));
        assert_eq!((asked["MessageType"].as_str(), digest.len()), (Some("DIGEST"), octets));
    }
}

#[tokio::test]
async fn only_a_key_that_signs_certificates_is_taken() {
    let spki = |key_type| STANDARD.encode(PrivateKey::generate(key_type).unwrap().public().spki());
    for (usage, key_type, is_taken) in [
        ("SIGN_VERIFY", KeyType::EcPrime256v1, true),
        ("SIGN_VERIFY", KeyType::EcSecp384r1, true),
        ("KEY_AGREEMENT", KeyType::EcPrime256v1, false),
        ("SIGN_VERIFY", KeyType::Rsa2048, false),
        ("SIGN_VERIFY", KeyType::Ed25519, false),
    ] {
        let answer = json!({"KeyId": KEY, "KeyUsage": usage, "PublicKey": spki(key_type)});
        let wire = Wire::table(vec![("GetPublicKey", 200, answer)]).await;
        let read = Kms::new(&wire.sdk()).public_key(KEY).await;
        match read {
            Ok(public) => assert!(is_taken && public.key_type() == key_type, "{usage} {key_type}"),
            Err(error) => {
                assert!(!is_taken && matches!(error, KmsError::OtherKind { .. }), "{usage} {key_type}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn no_more_than_four_signatures_are_under_way_in_a_process() {
    let (wire, most) = Wire::holding(Duration::from_millis(20), (200, json!({"Signature": "AA=="}).to_string())).await;
    let kms = Kms::new(&wire.sdk());
    let made = join_all((0..24).map(|_| root(&kms, KeyType::EcPrime256v1))).await;
    assert!(made.iter().all(|one| matches!(one, Err(IssueError::Signature))));
    let most = most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at once");
}
