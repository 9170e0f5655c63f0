//! ACM on the wire: what is asked for an export, and that no answer puts the passphrase into an error.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod wire;

use espalier_aws::acm::Certificates;
use espalier_aws::error::Kind;
use espalier_domain::acm::{AcmKind, AcmStatus};
use espalier_domain::failure::{Failure, Word, chain};
use espalier_domain::id::AcmArn;
use espalier_pki::export::Passphrase;
use serde_json::json;
use wire::Wire;

const ARN: &str = "arn:aws:acm:eu-west-1:123456789012:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b";

fn arn() -> AcmArn {
    AcmArn::parse(ARN).unwrap()
}

#[tokio::test]
async fn an_export_names_the_certificate_and_carries_the_passphrase_as_a_blob() {
    let answer = json!({"Certificate": "leaf", "CertificateChain": "chain", "PrivateKey": "key"});
    let wire = Wire::table(vec![("ExportCertificate", 200, answer)]).await;
    let passphrase = Passphrase::new("four".to_owned());
    let sealed = Certificates::new(&wire.sdk()).export(&arn(), &passphrase).await.unwrap();
    assert_eq!((sealed.certificate.as_str(), sealed.chain.as_str(), sealed.key.expose()), ("leaf", "chain", "key"));
    // `four` in base64.
    assert_eq!(wire.seen()[0].json(), json!({"CertificateArn": ARN, "Passphrase": "Zm91cg=="}));
}

#[tokio::test]
async fn a_refusal_says_its_code_and_never_what_it_quotes() {
    for (code, word) in [
        ("ValidationException", Word::Refused),
        ("AccessDeniedException", Word::Refused),
        ("RequestInProgressException", Word::Conflict),
        ("ThrottlingException", Word::Busy),
    ] {
        let refused = json!({"__type": code, "message": "Value 'four' at 'passphrase' failed"});
        let wire = Wire::table(vec![("ExportCertificate", 400, refused)]).await;
        let error =
            Certificates::new(&wire.sdk()).export(&arn(), &Passphrase::new("four".to_owned())).await.err().unwrap();
        assert_eq!((error.word(), chain(&error)), (word, format!("acm:ExportCertificate failed: {code}")));
    }
    let half = json!({"Certificate": "leaf", "CertificateChain": "chain"});
    let wire = Wire::table(vec![("ExportCertificate", 200, half)]).await;
    let error = Certificates::new(&wire.sdk()).export(&arn(), &Passphrase::new("four".to_owned())).await.err().unwrap();
    assert_eq!((error.kind, error.message()), (Kind::Broken, "the answer has no key"));
}

#[tokio::test]
async fn a_description_tells_what_the_table_asks_for() {
    let detail = json!({"Certificate": {
        "CertificateArn": ARN, "Status": "ISSUED", "Type": "AMAZON_ISSUED", "Serial": "0a:0b", "NotAfter": 1_795_000_000,
        "SubjectAlternativeNames": ["api.example.com", "*.example.com"], "Options": {"Export": "ENABLED"},
        "RenewalEligibility": "INELIGIBLE", "RenewalSummary": {"RenewalStatus": "FAILED",
            "RenewalStatusReason": "CAA_ERROR", "UpdatedAt": 1_795_000_000, "DomainValidationOptions": []},
    }});
    let wire = Wire::table(vec![("DescribeCertificate", 200, detail)]).await;
    let seen = Certificates::new(&wire.sdk()).describe(&arn()).await.unwrap();
    assert_eq!((seen.status, seen.kind, seen.export_enabled), (AcmStatus::Issued, AcmKind::Public, true));
    assert_eq!((seen.eligible, seen.names.len()), (Some(false), 2));
    let renewal = seen.renewal.unwrap();
    assert_eq!((renewal.status.as_str(), renewal.reason.as_deref()), ("FAILED", Some("CAA_ERROR")));

    let wire = Wire::table(vec![("DescribeCertificate", 400, json!({"__type": "ResourceNotFoundException"}))]).await;
    let seen = Certificates::new(&wire.sdk()).describe(&arn()).await.unwrap();
    assert_eq!(seen.status, AcmStatus::Missing);
}
