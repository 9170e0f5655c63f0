//! ACM on the wire: what is asked for an export, and that no answer puts the passphrase into an error.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod wire;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use espalier_aws::acm::{Certificates, Elsewhere, Role};
use espalier_aws::error::Kind;
use espalier_domain::acm::request::Wish;
use espalier_domain::acm::{AcmKind, AcmStatus, AcmValidation};
use espalier_domain::failure::{Failure, Word, chain};
use espalier_domain::id::{AcmArn, HostName};
use espalier_domain::spec::KeyType;
use espalier_pki::export::Passphrase;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
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
        let said = chain(&error);
        assert_eq!(error.word(), word);
        assert!(said.starts_with(&format!("acm:ExportCertificate failed: {code}")) && !said.contains("four"), "{said}");
    }
    let half = json!({"Certificate": "leaf", "CertificateChain": "chain"});
    let wire = Wire::table(vec![("ExportCertificate", 200, half)]).await;
    let error = Certificates::new(&wire.sdk()).export(&arn(), &Passphrase::new("four".to_owned())).await.err().unwrap();
    assert_eq!((error.kind, error.message()), (Kind::Broken, "the answer has no key"));
}

#[tokio::test]
async fn a_description_tells_what_the_table_asks_for() {
    let detail = json!({"Certificate": {
        "CertificateArn": ARN, "Status": "ISSUED", "Type": "AMAZON_ISSUED", "Serial": "0a:0b", "NotAfter": 1_795_000_000, "CreatedAt": 1_778_000_000,
        "SubjectAlternativeNames": ["api.example.com", "*.example.com"], "Options": {"Export": "ENABLED"},
        "DomainValidationOptions": [{"DomainName": "api.example.com", "ValidationMethod": "DNS"},
            {"DomainName": "*.example.com", "ValidationMethod": "EMAIL"}],
        "RenewalEligibility": "INELIGIBLE", "RenewalSummary": {"RenewalStatus": "FAILED",
            "RenewalStatusReason": "CAA_ERROR", "UpdatedAt": 1_795_000_000, "DomainValidationOptions": []},
    }});
    let wire = Wire::table(vec![("DescribeCertificate", 200, detail)]).await;
    let seen = Certificates::new(&wire.sdk()).describe(&arn()).await.unwrap();
    assert_eq!((seen.status, seen.kind, seen.export_enabled), (AcmStatus::Issued, AcmKind::Public, true));
    assert_eq!((seen.eligible, seen.names.len()), (Some(false), 2));
    assert_eq!(seen.validated_by, Some(AcmValidation::Email));
    assert_eq!(seen.requested_at, OffsetDateTime::from_unix_timestamp(1_778_000_000).ok());
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

/// An endpoint at which STS takes one external id, and ACM answers whoever comes; each session has keys of its own.
async fn accounts(ends_in_s: i64) -> (Wire, SdkConfig) {
    let mut begun = 0;
    let wire = Wire::answering(move |seen: &Seen| {
        if seen.what() == "DescribeCertificate" {
            return (200, json!({"Certificate": {"Status": "ISSUED"}}).to_string());
        }
        if !seen.body.contains("ExternalId=orchard") {
            let refused = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>is not authorized</Message></Error></ErrorResponse>";
            return (403, refused.to_owned());
        }
        begun += 1;
        let end = (OffsetDateTime::now_utc() + time::Duration::seconds(ends_in_s)).format(&Rfc3339).unwrap();
        let answer = format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA{begun}</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>token-{begun}</SessionToken><Expiration>{end}</Expiration>\
             </Credentials></AssumeRoleResult></AssumeRoleResponse>"
        );
        (200, answer)
    })
    .await;
    let keys = aws_sdk_ssm::config::Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    // Loaded, so that it has a clock.
    let sdk =
        aws_config::defaults(BehaviorVersion::latest()).region(Region::new("eu-west-1")).credentials_provider(keys);
    let sdk = sdk.retry_config(aws_config::retry::RetryConfig::disabled()).endpoint_url(wire.url()).load().await;
    (wire, sdk)
}

fn elsewhere(external_id: Option<&str>) -> Option<Elsewhere> {
    Elsewhere::parse(Some("210987654321,321098765432"), external_id, "espalier-rotate", Role::Reader).unwrap()
}

/// Whose keys and which token each call of ACM came with.
fn sessions(wire: &Wire) -> Vec<(String, Option<String>)> {
    let header =
        |seen: &Seen, name: &str| seen.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone());
    let keys = |seen: &Seen| {
        let signed = header(seen, "authorization").unwrap_or_default();
        signed.split("Credential=").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned()
    };
    let asked = wire.seen().into_iter().filter(|seen| seen.what() == "DescribeCertificate");
    asked.map(|seen| (keys(&seen), header(&seen, "x-amz-security-token"))).collect()
}

#[tokio::test]
async fn a_certificate_of_another_account_is_read_in_a_session_of_its_accounts_role() {
    let (wire, sdk) = accounts(900).await;
    let certificates = Certificates::new(&sdk).and_elsewhere(&sdk, elsewhere(Some("orchard")));
    let of = |account: &str| AcmArn::parse(ARN.replace("123456789012", account)).unwrap();
    for arn in [arn(), of("210987654321"), of("210987654321"), of("321098765432")] {
        certificates.describe(&arn).await.unwrap();
    }
    let session = |n: u32| (format!("ASIA{n}"), Some(format!("token-{n}")));
    assert_eq!(sessions(&wire), [("AKIDEXAMPLE".to_owned(), None), session(1), session(1), session(2)]);
    let assumed = wire.seen().into_iter().find(|seen| seen.what() != "DescribeCertificate").unwrap().body;
    for said in [
        "Action=AssumeRole",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A210987654321%3Arole%2Fespalier-certificate-reader",
        "RoleSessionName=espalier-rotate",
        "DurationSeconds=900",
    ] {
        assert!(assumed.contains(said), "{said} in {assumed}");
    }
}

#[tokio::test]
async fn a_session_that_nears_its_end_is_begun_anew() {
    let (wire, sdk) = accounts(60).await;
    let certificates = Certificates::new(&sdk).and_elsewhere(&sdk, elsewhere(Some("orchard")));
    let arn = AcmArn::parse(ARN.replace("123456789012", "210987654321")).unwrap();
    for _ in 0..2 {
        certificates.describe(&arn).await.unwrap();
    }
    let keys: Vec<String> = sessions(&wire).into_iter().map(|(keys, _)| keys).collect();
    assert_eq!(keys, ["ASIA1", "ASIA2"]);
}

#[tokio::test]
async fn a_role_that_cannot_be_assumed_is_named_with_the_remedy_and_acm_is_not_asked() {
    let arn = AcmArn::parse(ARN.replace("123456789012", "210987654321")).unwrap();
    for (external_id, said) in [
        (
            Some("another"),
            "is not authorized; let account 210987654321 have arn:aws:iam::210987654321:role/espalier-certificate-reader (examples/certificate-account.yaml)",
        ),
        (
            None,
            "arn:aws:iam::210987654321:role/espalier-certificate-reader is assumed under an external id only: set the template's CertificateExternalId",
        ),
    ] {
        let (wire, sdk) = accounts(900).await;
        let certificates = Certificates::new(&sdk).and_elsewhere(&sdk, elsewhere(external_id));
        let error = certificates.describe(&arn).await.unwrap_err();
        assert_eq!(error.word(), Word::Refused);
        assert!(chain(&error).starts_with("sts:AssumeRole failed: AccessDenied: "), "{}", chain(&error));
        assert!(chain(&error).contains(said), "{}", chain(&error));
        assert!(sessions(&wire).is_empty());
    }
}

#[tokio::test]
async fn whoever_acm_refuses_is_told_what_lets_him_in() {
    let refused = json!({"__type": "AccessDeniedException", "message": "User is not authorized"});
    let wire = Wire::table(vec![("DescribeCertificate", 400, refused)]).await;
    let error = Certificates::new(&wire.sdk()).describe(&arn()).await.unwrap_err();
    assert!(
        chain(&error).contains("is not authorized; a certificate of another account or Region needs"),
        "{}",
        chain(&error)
    );
}
