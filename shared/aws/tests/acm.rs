//! ACM on the wire: what is asked for an export, and that no answer puts the passphrase into an error.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod wire;

use espalier_aws::acm::Certificates;
use espalier_aws::error::Kind;
use espalier_domain::acm::request::Wish;
use espalier_domain::acm::{AcmKind, AcmStatus};
use espalier_domain::failure::{Failure, Word, chain};
use espalier_domain::id::{AcmArn, HostName};
use espalier_domain::spec::KeyType;
use espalier_pki::export::Passphrase;
use serde_json::{Value, json};
use wire::{Seen, Wire};

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
async fn a_certificate_of_another_region_is_asked_for_there() {
    let there = AcmArn::parse(ARN.replace("eu-west-1", "us-east-1")).unwrap();
    let answer = json!({"Certificate": {"CertificateArn": there.as_str(), "Status": "ISSUED"}});
    let wire = Wire::table(vec![("DescribeCertificate", 200, answer)]).await;
    let certificates = Certificates::new(&wire.sdk());
    certificates.describe(&there).await.unwrap();
    certificates.describe(&arn()).await.unwrap();
    let signed_for: Vec<bool> = ["us-east-1", "eu-west-1"]
        .iter()
        .zip(wire.seen())
        .map(|(region, seen)| {
            seen.headers
                .iter()
                .any(|(name, value)| name == "authorization" && value.contains(&format!("/{region}/acm/")))
        })
        .collect();
    assert_eq!(signed_for, [true, true], "the signature names the Region");
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

fn wish() -> Wish {
    Wish {
        domain_name: HostName::parse("a.example.com").unwrap(),
        other_names: vec![HostName::parse("b.example.com").unwrap()],
        key_type: KeyType::EcPrime256v1,
        tags: [("espalier:stack".to_owned(), "a".to_owned()), ("espalier:request".to_owned(), "f0".to_owned())].into(),
        token: "0123456789abcdef0123456789abcdef".to_owned(),
    }
}

#[tokio::test]
async fn a_request_is_for_an_exportable_certificate_validated_by_dns() {
    let wire = Wire::table(vec![("RequestCertificate", 200, json!({"CertificateArn": ARN}))]).await;
    let certificates = Certificates::new(&wire.sdk());
    assert_eq!(certificates.request(&wish()).await.unwrap(), arn());
    let tags = json!([{"Key": "espalier:request", "Value": "f0"}, {"Key": "espalier:stack", "Value": "a"}]);
    let sent = json!({"DomainName": "a.example.com", "SubjectAlternativeNames": ["b.example.com"], "ValidationMethod": "DNS",
        "KeyAlgorithm": "EC_prime256v1", "Options": {"Export": "ENABLED"}, "Tags": tags,
        "IdempotencyToken": "0123456789abcdef0123456789abcdef"});
    assert_eq!(wire.seen()[0].json(), sent);
    // ACM refuses an empty list.
    certificates.request(&Wish { other_names: Vec::new(), ..wish() }).await.unwrap();
    assert!(wire.seen()[1].json()["SubjectAlternativeNames"].is_null());
}

/// Page by page, and only what carries every tag: another stack's certificate may have the same name.
#[tokio::test]
async fn a_certificate_is_found_by_its_tags() {
    let other = format!("{ARN}0");
    let page = |arn: &str, next: Value| {
        json!({"CertificateSummaryList": [{"CertificateArn": arn, "DomainName": "a.example.com"},
            {"CertificateArn": format!("{arn}9"), "DomainName": "z.example.com"}], "NextToken": next})
    };
    let pages = [page(&other, json!("more")), page(ARN, Value::Null)];
    let wire = Wire::answering(move |seen: &Seen| {
        let body = seen.json();
        let answer = match seen.what().as_str() {
            "ListCertificates" => pages[usize::from(body["NextToken"] == "more")].clone(),
            "ListTagsForCertificate" => {
                let stack = if body["CertificateArn"] == ARN { "a" } else { "b" };
                json!({"Tags": [{"Key": "espalier:stack", "Value": stack}, {"Key": "espalier:request", "Value": "f0"}]})
            }
            "DescribeCertificate" => json!({"Certificate": {"CertificateArn": ARN, "Status": "PENDING_VALIDATION",
                "DomainValidationOptions": [
                    {"DomainName": "b.example.com", "ResourceRecord": {"Name": "_B.example.com.", "Type": "CNAME", "Value": "_y.aws."}},
                    {"DomainName": "a.example.com", "ResourceRecord": {"Name": "_a.example.com.", "Type": "CNAME", "Value": "_x.aws."}},
                    {"DomainName": "*.a.example.com", "ResourceRecord": {"Name": "_a.example.com.", "Type": "CNAME", "Value": "_x.aws."}},
                    {"DomainName": "c.example.com"}]}}),
            other => panic!("nobody should ask for {other}"),
        };
        (200, answer.to_string())
    })
    .await;
    let found = Certificates::new(&wire.sdk()).tagged(&wish()).await.unwrap();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(one.certificate, arn());
    let records: Vec<_> = one.validation.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
    assert_eq!(records, [("_a.example.com", "_x.aws"), ("_b.example.com", "_y.aws")]);
    let asked = wire.seen()[0].json();
    assert_eq!(asked["Includes"], json!({"keyTypes": ["EC_prime256v1"], "exportOption": "ENABLED"}));
}
