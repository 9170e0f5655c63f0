//! What ACM may show of a certificate, and what that means to who uses it.

use std::fmt::Write as _;

use espalier_domain::acm::{AcmEvidence, AcmKind, AcmRenewal, AcmStatus, AcmValidation, Act, Meaning, Use, meaning};
use espalier_domain::id::AcmArn;
use espalier_domain::plan::BlockCode;
use espalier_domain::record::GenerationRecord;
use espalier_domain::spec::AllowedDomains;
use serde_json::json;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

pub(crate) const ARN: &str = "arn:aws:acm:eu-west-1:123456789012:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b";

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
/// The serial number of what the newest generation is.
const TAKEN: &str = "0a:01";

/// A state: how it is told in the table, and what ACM shows. Nothing when ACM does not answer.
pub(crate) type State = (&'static str, &'static str, Option<AcmEvidence>);

fn issued() -> AcmEvidence {
    AcmEvidence {
        status: AcmStatus::Issued,
        serial: Some(TAKEN.into()),
        not_after: Some(NOW + Duration::days(150)),
        kind: AcmKind::Public,
        names: vec!["*.example.com".into()],
        export_enabled: true,
        eligible: Some(true),
        ..AcmEvidence::missing(AcmArn::parse(ARN).unwrap())
    }
}

fn renewing(status: &str, reason: Option<&str>) -> Option<AcmRenewal> {
    Some(AcmRenewal { status: status.into(), reason: reason.map(str::to_owned) })
}

/// Every state, by its name in the corpus.
fn states() -> Vec<State> {
    let of = |status| AcmEvidence { status, ..issued() };
    let new = || AcmEvidence { serial: Some("0A:02".into()), ..issued() };
    let private = |from: AcmEvidence| AcmEvidence { kind: AcmKind::Private, export_enabled: false, ..from };
    let failing = |status, reason| AcmEvidence { renewal: renewing(status, reason), ..issued() };
    let ending = |from: AcmEvidence, days| AcmEvidence { not_after: Some(NOW + Duration::days(days)), ..from };
    let without = |word| AcmEvidence { serial: None, not_after: None, ..of(AcmStatus::parse(word)) };
    vec![
        ("taken over", "issued, public, exportable; the newest generation is it", Some(issued())),
        (
            "issued",
            "issued for the first time, public, exportable",
            Some(AcmEvidence { eligible: Some(false), ..new() }),
        ),
        ("renewed", "another serial number than the newest generation's", Some(new())),
        ("private, issued", "issued, from AWS Private CA", Some(private(new()))),
        ("private, renewed", "renewed, from AWS Private CA", Some(private(new()))),
        ("renewing", "`RenewalStatus` `PENDING_AUTO_RENEWAL`", Some(failing("PENDING_AUTO_RENEWAL", None))),
        ("renewed well", "`RenewalStatus` `SUCCESS`", Some(failing("SUCCESS", None))),
        ("expiring", "ends within `renewBeforeHours` (or `expiringDays`), not renewed", Some(ending(issued(), 2))),
        ("renewed late", "renewed, and ends within that time all the same", Some(ending(new(), 2))),
        (
            "not eligible",
            "a day after its export still `INELIGIBLE`",
            Some(AcmEvidence { eligible: Some(false), ..issued() }),
        ),
        (
            "awaits validation",
            "`PENDING_VALIDATION`: validation records gone",
            Some(failing("PENDING_VALIDATION", Some("PENDING_DOMAIN_VALIDATION"))),
        ),
        (
            "awaits an email",
            "`PENDING_VALIDATION`: validated by email, nobody followed the link",
            Some(AcmEvidence {
                validated_by: Some(AcmValidation::Email),
                ..failing("PENDING_VALIDATION", Some("PENDING_DOMAIN_VALIDATION"))
            }),
        ),
        ("CAA forbids", "renewal `FAILED`, `CAA_ERROR`", Some(failing("FAILED", Some("CAA_ERROR")))),
        ("authority denies", "renewal `FAILED`, `PCA_*`", Some(private(failing("FAILED", Some("PCA_ACCESS_DENIED"))))),
        ("fails", "renewal `FAILED`, no reason told", Some(failing("FAILED", None))),
        ("expired", "`EXPIRED`", Some(ending(of(AcmStatus::Expired), -1))),
        ("ended", "`ISSUED`, and its end is over", Some(ending(issued(), -1))),
        ("revoked", "`REVOKED`", Some(of(AcmStatus::Revoked))),
        ("pending", "`PENDING_VALIDATION`, never issued", Some(without("PENDING_VALIDATION"))),
        (
            "pending for long",
            "`PENDING_VALIDATION` an hour after the request",
            Some(AcmEvidence { requested_at: Some(NOW - Duration::hours(1)), ..without("PENDING_VALIDATION") }),
        ),
        ("timed out", "`VALIDATION_TIMED_OUT`", Some(without("VALIDATION_TIMED_OUT"))),
        (
            "failed",
            "`FAILED`, `CAA_ERROR` and others",
            Some(AcmEvidence { failure: Some("CAA_ERROR".into()), ..without("FAILED") }),
        ),
        ("inactive", "`INACTIVE`", Some(without("INACTIVE"))),
        ("new word", "a status ACM added later", Some(without("SOMETHING_NEW"))),
    ]
}

/// Those of certificates that do not fit, whoever made them.
fn unfit() -> Vec<State> {
    let new = || AcmEvidence { serial: Some("0A:02".into()), ..issued() };
    let ending = |from: AcmEvidence, days| AcmEvidence { not_after: Some(NOW + Duration::days(days)), ..from };
    vec![
        ("missing", "no such certificate", Some(AcmEvidence::missing(AcmArn::parse(ARN).unwrap()))),
        ("not exportable", "public, requested without `Export`", Some(AcmEvidence { export_enabled: false, ..new() })),
        (
            "imported",
            "imported (or from ACM's ACME endpoint)",
            Some(AcmEvidence { kind: AcmKind::Imported, export_enabled: false, ..new() }),
        ),
        (
            "imported, ending",
            "imported, and ends within 45 days",
            Some(ending(AcmEvidence { kind: AcmKind::Imported, export_enabled: false, ..new() }, 40)),
        ),
        (
            "not eligible, ending",
            "neither in use nor exported, and ends within 45 days",
            Some(ending(AcmEvidence { eligible: Some(false), ..issued() }, 40)),
        ),
        (
            "foreign name",
            "for a name outside `AllowedDomains`, too",
            Some(AcmEvidence { names: vec!["*.example.com".into(), "www.example.org".into()], ..new() }),
        ),
        (
            "other names",
            "not for a name in `dnsNames`",
            Some(AcmEvidence { names: vec!["www.example.org".into()], ..new() }),
        ),
        ("no serial", "`ISSUED`, without a serial number", Some(AcmEvidence { serial: None, ..issued() })),
        (
            "role refused",
            "another account's, whose role cannot be assumed; or ACM refuses",
            Some(AcmEvidence::unread(AcmArn::parse(ARN).unwrap(), "sts:AssumeRole failed: AccessDenied")),
        ),
        ("unread", "ACM does not answer", None),
    ]
}

/// A state by its name; any of them may be a private certificate's.
pub(crate) fn state(name: &str) -> State {
    let find = |name: &str| states().into_iter().chain(unfit()).find(|(known, ..)| *known == name);
    let private = || {
        let (name, shows, seen) = find(name.strip_prefix("private, ")?)?;
        let seen = seen.map(|seen| AcmEvidence { kind: AcmKind::Private, export_enabled: false, ..seen });
        Some((name, shows, seen))
    };
    find(name).or_else(private).unwrap_or_else(|| panic!("{name:?} is no state"))
}

/// Where it comes from, in the table.
pub(crate) fn kind(seen: &Option<AcmEvidence>) -> &'static str {
    match seen.as_ref().map(|seen| &seen.kind) {
        Some(AcmKind::Public) => "public",
        Some(AcmKind::Private) => "private",
        Some(AcmKind::Imported) => "imported",
        None | Some(AcmKind::Other(_)) => "-",
    }
}

/// The newest generation: exported two days ago, or minted in answer to the certificate.
fn newest(is_export: bool) -> GenerationRecord {
    let mut record = json!({
        "scope": "shared", "generation": 1, "parameter": "/espalier-leaf/payments/shared/1", "serial": "a01",
        "fingerprint": "ab".repeat(32), "dnsNames": ["*.example.com"], "notBefore": "2026-10-21T00:00:00Z",
        "notAfter": "2027-04-20T12:00:00Z", "mintedAt": "2026-11-19T12:00:00Z", "authority": "a", "because": "none yet",
    });
    if is_export {
        record["export"] = json!({"certificate": ARN, "trustPem": ""});
    } else {
        record["follows"] = json!({"serial": TAKEN, "expiring": false});
    }
    serde_json::from_value(record).unwrap()
}

/// What it means to a stack that serves the certificate.
pub(crate) fn serves(seen: &Option<AcmEvidence>) -> String {
    serving(seen, false)
}

/// The same, and Espalier requested it for the stack.
fn requested(seen: &Option<AcmEvidence>) -> String {
    serving(seen, true)
}

fn serving(seen: &Option<AcmEvidence>, is_requested: bool) -> String {
    let (certificate, newest, names) = (AcmArn::parse(ARN).unwrap(), newest(true), ["api.example.com".to_owned()]);
    let used = Use::Serves {
        certificate: &certificate,
        newest: Some(&newest),
        names: &names,
        renew_before: Duration::hours(72),
        allowed: &AllowedDomains::parse("example.com").unwrap(),
        is_requested,
    };
    told(&meaning(Some(used), seen.as_ref(), NOW))
}

/// What it means to a stack whose leaves follow it.
pub(crate) fn follows(seen: &Option<AcmEvidence>) -> String {
    let (certificate, newest) = (AcmArn::parse(ARN).unwrap(), newest(false));
    let used = Use::Follows { certificate: &certificate, newest: Some(&newest), expiring_days: 45 };
    told(&meaning(Some(used), seen.as_ref(), NOW))
}

/// What it means to a stack on whose targets others install it.
fn watched(seen: &Option<AcmEvidence>) -> String {
    let certificate = AcmArn::parse(ARN).unwrap();
    let used = Use::Watches { certificate: &certificate, renew_before: Duration::hours(72) };
    told(&meaning(Some(used), seen.as_ref(), NOW))
}

/// What it means when no stack uses it.
pub(crate) fn unused(seen: &Option<AcmEvidence>) -> String {
    told(&meaning(None, seen.as_ref(), NOW))
}

fn told(meaning: &Meaning) -> String {
    let act = match &meaning.act {
        Act::Ignore => "Ignore",
        Act::Keep => "Keep",
        Act::Hold => "Hold",
        Act::Await => "Await",
        Act::Export(_) => "Export",
        Act::Mint(_) => "Mint",
    };
    let Some(block) = &meaning.tell else { return act.to_owned() };
    assert!(block.because.contains(ARN) && block.because.len() > ARN.len() + 20, "{block}");
    format!("{act} {:?}", block.code)
}

/// An answer in a table.
pub(crate) fn cell(told: String) -> String {
    match told.split_once(' ') {
        Some((act, code)) => format!("{act}, `{code}`"),
        None => told,
    }
}

/// The table of states in `docs/acm.md`.
pub(crate) fn table() -> String {
    let mut table = String::from(
        "| what ACM shows | the stack serves it | the same, requested for it | the stack follows it | others install it | no stack uses it |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for (_, shows, seen) in states().into_iter().chain(unfit()) {
        let cells = [serves(&seen), requested(&seen), follows(&seen), watched(&seen), unused(&seen)].map(cell);
        writeln!(table, "| {shows} | {} |", cells.join(" | ")).unwrap();
    }
    table
}

/// What one state tells a stack that serves the certificate, and one that follows it.
fn texts(name: &str) -> [String; 2] {
    let (_, _, seen) = state(name);
    let (certificate, leaf, export) = (AcmArn::parse(ARN).unwrap(), newest(false), newest(true));
    let follows = Use::Follows { certificate: &certificate, newest: Some(&leaf), expiring_days: 45 };
    let serves = Use::Serves {
        certificate: &certificate,
        newest: Some(&export),
        names: &["api.example.com".to_owned()],
        renew_before: Duration::hours(72),
        allowed: &AllowedDomains::parse("example.com").unwrap(),
        is_requested: false,
    };
    [serves, follows].map(|used| meaning(Some(used), seen.as_ref(), NOW).tell.unwrap().because)
}

#[test]
fn a_remedy_is_the_one_of_how_the_domain_is_validated() {
    for text in texts("awaits an email") {
        assert!(text.contains("resend-validation-email") && !text.contains("CNAME"), "{text}");
    }
    for text in texts("awaits validation") {
        assert!(text.contains("CNAME") && !text.contains("mail"), "{text}");
    }
}

/// The targets' own leaves do not end, so nobody else notices that the certificate does.
#[test]
fn a_followed_certificate_that_lapses_is_told_with_its_reason() {
    for (name, words) in [
        ("imported, ending", "imported"),
        ("not eligible, ending", "neither in use nor exported"),
        ("not eligible", "INELIGIBLE"),
        ("CAA forbids", "amazon.com"),
        ("authority denies", "private authority"),
        ("expiring", "no newer certificate"),
    ] {
        let [_, text] = texts(name);
        assert!(text.contains(words) && text.contains(ARN), "{name}: {text}");
    }
    let (_, _, mut fresh) = state("not eligible");
    let answer = GenerationRecord { minted_at: NOW - Duration::hours(47), ..newest(false) };
    let certificate = AcmArn::parse(ARN).unwrap();
    let mut told = |days: i64| {
        fresh.as_mut().unwrap().not_after = Some(NOW + Duration::days(days));
        let follows = Use::Follows { certificate: &certificate, newest: Some(&answer), expiring_days: 1 };
        meaning(Some(follows), fresh.as_ref(), NOW).tell.map(|block| block.code)
    };
    assert_eq!(told(46), None, "whoever uses it has two days to export what ACM renewed");
    assert_eq!(told(45), Some(BlockCode::AcmLapsing));
}
