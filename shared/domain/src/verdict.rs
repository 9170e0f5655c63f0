//! Judging a sighting: every mismatch, not only the first.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::id::HostName;

/// What a handshake proved, or everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// SHA-256 of the served leaf's DER, lower-case hexadecimal; absent when no certificate was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The served leaf's serial number, lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The served leaf's end of validity.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub not_after: Option<time::OffsetDateTime>,
    /// What was negotiated; absent when no handshake was completed, and in records of before this was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Negotiated>,
    /// Empty when all is well.
    pub faults: Vec<Fault>,
}

/// What client and server agreed upon, in the names of IANA's registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Negotiated {
    /// The protocol's version: `TLSv1.2`, `TLSv1.3`.
    pub protocol: String,
    /// The cipher suite: `TLS_AES_128_GCM_SHA256`.
    pub suite: String,
    /// The application's protocol (ALPN): `h2`, `http/1.1`; absent when none was agreed upon, and in records of before this
    /// was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// The versions that the server was seen to speak, each tried alone, sorted; empty in records of before they were tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
}

impl Verdict {
    /// No certificate was seen, for this reason.
    pub fn unseen(fault: Fault) -> Self {
        Self { fingerprint: None, serial: None, not_after: None, tls: None, faults: vec![fault] }
    }

    /// The expected certificate is served, trusted, valid now and for the name asked for.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

/// One thing that is wrong with what was seen. Stable words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// The name did not resolve.
    Unresolved,
    /// The name resolved to something that is not what was expected.
    WrongAddress,
    /// The connection was refused.
    Refused,
    /// No answer in time (connect or handshake).
    TimedOut,
    /// What answers does not speak TLS: plain HTTP, the greeting of an SSH server.
    NotTls,
    /// The connection ended or the peer broke the protocol before a certificate was seen.
    HandshakeFailed,
    /// The chain does not lead to a trusted root.
    Untrusted,
    /// The leaf is not for the name asked for.
    WrongName,
    /// The leaf's validity has ended.
    Expired,
    /// The leaf's validity has not begun.
    NotYetValid,
    /// Another certificate than the expected one is served.
    OtherCertificate,
}

impl Fault {
    /// No certificate was seen: it says nothing about which one is served.
    pub const fn is_about_reaching(self) -> bool {
        match self {
            Self::Unresolved
            | Self::WrongAddress
            | Self::Refused
            | Self::TimedOut
            | Self::NotTls
            | Self::HandshakeFailed => true,
            Self::Untrusted | Self::WrongName | Self::Expired | Self::NotYetValid | Self::OtherCertificate => false,
        }
    }

    /// Clients do not get what they ask for. A certificate that is merely not the newest (every target in the middle of a
    /// rotation) is accepted.
    pub const fn fails_clients(self) -> bool {
        match self {
            Self::OtherCertificate => false,
            Self::Unresolved
            | Self::WrongAddress
            | Self::Refused
            | Self::TimedOut
            | Self::NotTls
            | Self::HandshakeFailed
            | Self::Untrusted
            | Self::WrongName
            | Self::Expired
            | Self::NotYetValid => true,
        }
    }
}

/// A leaf and its chain as a handshake presented them: facts only, taken from the DER by the prober.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The DNS names of the subject alternative name extension, as they stand there. The common name does not count.
    pub names: Vec<String>,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// Serial number, lower-case hexadecimal without leading zeros.
    pub serial: String,
    /// SHA-256 of the leaf's DER, lower-case hexadecimal.
    pub fingerprint: String,
    /// Whether the presented chain leads to a trusted root: signatures, name constraints, usages and the authorities'
    /// own validity. The leaf's dates and names are judged here, not there. The error is one line for a person.
    pub chain: Result<(), String>,
}

/// What a handshake had to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The name that was asked for.
    pub server_name: &'a HostName,
    /// Which certificate.
    pub leaf: Leaf<'a>,
}

/// Which certificate a handshake had to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf<'a> {
    /// One of those with these fingerprints: SHA-256, lower-case hexadecimal.
    OneOf(&'a [String]),
    /// The one with this serial number, lower-case hexadecimal without leading zeros.
    Serial(&'a str),
    /// Whichever others installed.
    Any,
}

impl Leaf<'_> {
    fn is(self, presented: &Presented) -> bool {
        match self {
            Self::OneOf(fingerprints) => fingerprints.contains(&presented.fingerprint),
            Self::Serial(serial) => presented.serial == serial,
            Self::Any => true,
        }
    }
}

/// Judges what a handshake presented: every fault, sorted.
pub fn judge(presented: &Presented, expected: &Expected<'_>, now: OffsetDateTime) -> Verdict {
    let mut faults = Vec::new();
    if presented.chain.is_err() {
        faults.push(Fault::Untrusted);
    }
    if !presented.names.iter().any(|name| covers(name, expected.server_name.as_str())) {
        faults.push(Fault::WrongName);
    }
    // RFC 5280 section 4.1.2.5: both ends are inclusive.
    if now > presented.not_after {
        faults.push(Fault::Expired);
    }
    if now < presented.not_before {
        faults.push(Fault::NotYetValid);
    }
    if !expected.leaf.is(presented) {
        faults.push(Fault::OtherCertificate);
    }
    faults.sort();
    Verdict {
        fingerprint: Some(presented.fingerprint.clone()),
        serial: Some(presented.serial.clone()),
        not_after: Some(presented.not_after),
        tls: None,
        faults,
    }
}

/// What several connections to one server come to: the worst of them, as it stands, so that its faults are those of the
/// certificate that it names. One worker of many that shows another certificate is found like that. Of those that are
/// equally bad it is the one that ends first: where others install, any certificate that clients accept is good. The
/// versions are those of them all.
pub fn worst(first: Verdict, others: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut versions: Vec<String> = spoken(&first).into_iter().collect();
    let mut worst = first;
    for verdict in others {
        versions.extend(spoken(&verdict));
        if is_worse(&verdict, &worst) {
            worst = verdict;
        }
    }
    versions.sort();
    versions.dedup();
    if let Some(tls) = &mut worst.tls {
        tls.versions = versions;
    }
    worst
}

fn spoken(verdict: &Verdict) -> Option<String> {
    verdict.tls.as_ref().map(|tls| tls.protocol.clone())
}

fn is_worse(verdict: &Verdict, than: &Verdict) -> bool {
    let ends_sooner = || verdict.not_after.is_some_and(|end| than.not_after.is_some_and(|other| end < other));
    match badness(verdict).cmp(&badness(than)) {
        Ordering::Greater => true,
        Ordering::Equal => ends_sooner(),
        Ordering::Less => false,
    }
}

/// A certificate that clients do not accept is worse than no answer, which may pass, and that is worse than a certificate that
/// is merely not the newest; then the number of faults counts.
fn badness(verdict: &Verdict) -> (u8, usize) {
    let of = |fault: &Fault| match (fault.fails_clients(), fault.is_about_reaching()) {
        (false, _) => 1,
        (true, true) => 2,
        (true, false) => 3,
    };
    (verdict.faults.iter().map(of).max().unwrap_or_default(), verdict.faults.len())
}

/// Whether a name in a certificate is good for the lower-case name asked for. RFC 6125 section 6.4: equal without
/// regard to case, or a wildcard that is the whole leftmost label.
pub fn covers(presented: &str, asked: &str) -> bool {
    let presented = presented.to_ascii_lowercase();
    match presented.strip_prefix("*.") {
        None => presented == asked,
        Some(parent) => parent.contains('.') && asked.split_once('.').is_some_and(|(_, rest)| rest == parent),
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    fn presented() -> Presented {
        Presented {
            names: vec!["api.example.com".into()],
            not_before: NOW - Duration::hours(1),
            not_after: NOW + Duration::hours(1),
            serial: "0a".into(),
            fingerprint: "f1".into(),
            chain: Ok(()),
        }
    }

    fn faults(presented: &Presented, now: OffsetDateTime) -> Vec<Fault> {
        let name = HostName::parse("api.example.com").unwrap();
        let fingerprints = ["f0".to_owned(), "f1".to_owned()];
        judge(presented, &Expected { server_name: &name, leaf: Leaf::OneOf(&fingerprints) }, now).faults
    }

    #[test]
    fn what_is_in_order_has_no_fault_and_both_ends_of_validity_count() {
        for now in [NOW, NOW - Duration::hours(1), NOW + Duration::hours(1)] {
            assert_eq!(faults(&presented(), now), []);
        }
        assert_eq!(faults(&presented(), NOW + Duration::hours(1) + Duration::NANOSECOND), [Fault::Expired]);
        assert_eq!(faults(&presented(), NOW - Duration::hours(1) - Duration::NANOSECOND), [Fault::NotYetValid]);
    }

    #[test]
    fn every_fault_is_named_not_only_the_first() {
        let wrong = Presented {
            names: vec!["other.example.com".into()],
            fingerprint: "f2".into(),
            chain: Err("unknown issuer".into()),
            ..presented()
        };
        let all = [Fault::Untrusted, Fault::WrongName, Fault::Expired, Fault::OtherCertificate];
        assert_eq!(faults(&wrong, NOW + Duration::hours(2)), all);
        let name = HostName::parse("api.example.com").unwrap();
        let verdict = judge(&wrong, &Expected { server_name: &name, leaf: Leaf::OneOf(&[]) }, NOW);
        assert!(!verdict.is_good());
        assert_eq!((verdict.serial.as_deref(), verdict.fingerprint.as_deref()), (Some("0a"), Some("f2")));
    }

    #[test]
    fn what_others_installed_is_judged_by_all_but_its_fingerprint() {
        let name = HostName::parse("api.example.com").unwrap();
        let of = |presented: &Presented, leaf| judge(presented, &Expected { server_name: &name, leaf }, NOW).faults;
        assert_eq!(of(&presented(), Leaf::Any), []);
        assert_eq!(of(&presented(), Leaf::Serial("0a")), []);
        assert_eq!(of(&presented(), Leaf::Serial("0b")), [Fault::OtherCertificate]);
        let wrong = Presented { names: Vec::new(), chain: Err("unknown issuer".into()), ..presented() };
        assert_eq!(of(&wrong, Leaf::Any), [Fault::Untrusted, Fault::WrongName]);
    }

    fn on(protocol: &str, fingerprint: &str, faults: &[Fault]) -> Verdict {
        let tls = Negotiated { protocol: protocol.into(), suite: "S".into(), alpn: None, versions: Vec::new() };
        Verdict {
            fingerprint: Some(fingerprint.into()),
            tls: Some(tls),
            faults: faults.to_vec(),
            ..Verdict::unseen(Fault::TimedOut)
        }
    }

    #[test]
    fn the_worst_of_several_connections_counts_whichever_it_is() {
        let ascending = [
            on("TLSv1.3", "good", &[]),
            on("TLSv1.3", "former", &[Fault::OtherCertificate]),
            Verdict::unseen(Fault::TimedOut),
            on("TLSv1.3", "ended", &[Fault::Expired]),
            on("TLSv1.3", "both", &[Fault::Expired, Fault::OtherCertificate]),
        ];
        for (index, worse) in ascending.iter().enumerate() {
            for better in &ascending[..=index] {
                for verdict in [worst(better.clone(), [worse.clone()]), worst(worse.clone(), [better.clone()])] {
                    assert_eq!((&verdict.faults, &verdict.fingerprint), (&worse.faults, &worse.fingerprint));
                }
            }
        }
    }

    #[test]
    fn of_equally_good_connections_the_first_is_told_and_the_versions_of_all() {
        let verdict = worst(on("TLSv1.3", "a", &[]), [on("TLSv1.2", "a", &[]), on("TLSv1.3", "a", &[])]);
        let tls = verdict.tls.unwrap();
        assert_eq!(
            (tls.protocol.as_str(), tls.versions),
            ("TLSv1.3", vec!["TLSv1.2".to_owned(), "TLSv1.3".to_owned()])
        );
    }

    #[test]
    fn of_equally_good_certificates_the_one_that_ends_first_is_told() {
        let until = |day, fingerprint| Verdict {
            not_after: Some(NOW + Duration::days(day)),
            ..on("TLSv1.3", fingerprint, &[])
        };
        let (late, soon) = (until(40, "late"), until(3, "soon"));
        for verdict in [worst(late.clone(), [soon.clone()]), worst(soon, [late])] {
            assert_eq!(
                (verdict.fingerprint.as_deref(), verdict.not_after),
                (Some("soon"), Some(NOW + Duration::days(3)))
            );
        }
    }

    #[test]
    fn what_was_written_down_before_there_were_alpn_and_versions_is_still_read() {
        let tls: Negotiated =
            serde_json::from_str(r#"{"protocol":"TLSv1.3","suite":"TLS_AES_128_GCM_SHA256"}"#).unwrap();
        assert_eq!((tls.alpn, tls.versions), (None, Vec::new()));
    }

    #[test]
    fn a_wildcard_is_one_whole_leftmost_label() {
        for (name, good) in [
            ("API.example.com", true),
            ("*.example.com", true),
            ("*.com", false),
            ("*.api.example.com", false),
            ("a*.example.com", false),
            ("example.com", false),
            ("*", false),
            ("", false),
            ("xapi.example.com", false),
        ] {
            let verdict = faults(&Presented { names: vec![name.into()], ..presented() }, NOW);
            assert_eq!(verdict.is_empty(), good, "{name}: {verdict:?}");
        }
        assert_eq!(faults(&Presented { names: Vec::new(), ..presented() }, NOW), [Fault::WrongName]);
    }
}
