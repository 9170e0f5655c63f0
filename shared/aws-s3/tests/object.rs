//! The copy of the trust bundle on the wire.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "../../aws/tests/wire/mod.rs"]
mod wire;

use espalier_aws::error::Kind;
use espalier_aws_s3::object::{Object, ObjectName};
use wire::Wire;

const BUNDLE: &str = "-----BEGIN CERTIFICATE-----\nroots\n-----END CERTIFICATE-----\n";

fn object(wire: &Wire) -> Object {
    Object::new(&wire.sdk(), ObjectName::parse("acme-clients/pki/espalier.pem").unwrap())
}

fn refused(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>said S3</Message></Error>")
}

#[tokio::test]
async fn it_holds_a_bundle_or_something_else_whatever_that_is() {
    let as_long = BUNDLE.replace("roots", "rooks");
    for (status, body, holds) in [
        (200, BUNDLE.to_owned(), true),
        (200, as_long, false),
        (200, format!("{BUNDLE}{BUNDLE}"), false),
        (200, String::new(), false),
        (404, refused("NoSuchKey"), false),
        (403, refused("AccessDenied"), false),
    ] {
        let wire = Wire::answering(move |_| (status, body.clone())).await;
        assert_eq!(object(&wire).holds(BUNDLE).await.unwrap(), holds, "{status}");
        let what: Vec<String> = wire.seen().iter().map(wire::Seen::what).collect();
        assert_eq!(what, ["GET /acme-clients/pki/espalier.pem?x-id=GetObject"]);
    }
}

#[tokio::test]
async fn what_s3_does_not_say_is_not_taken_for_absence() {
    for (status, code, kind) in [(404, "NoSuchBucket", Kind::NotFound), (503, "SlowDown", Kind::Throttled)] {
        let wire = Wire::answering(move |_| (status, refused(code))).await;
        assert_eq!(object(&wire).holds(BUNDLE).await.unwrap_err().kind, kind);
    }
}

#[tokio::test]
async fn it_is_written_as_clients_fetch_it() {
    let wire = Wire::answering(|_| (200, String::new())).await;
    object(&wire).write(BUNDLE).await.unwrap();
    let [seen] = &wire.seen()[..] else { panic!("one call") };
    assert_eq!(seen.what(), "PUT /acme-clients/pki/espalier.pem?x-id=PutObject");
    assert!(seen.body.contains(BUNDLE), "{}", seen.body);
    let header = |wanted: &str| seen.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    assert_eq!(header("content-type"), Some("application/x-pem-file"));
    assert_eq!(header("cache-control"), Some("max-age=300"));
    assert_eq!(header("if-none-match"), None, "it replaces what is there");
}
