//! The prober against real TLS servers on loopback: each way of being wrong, and being right.

#![allow(clippy::disallowed_methods, reason = "a test makes the certificates and the clock it needs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mutated;
mod servers;

use std::net::SocketAddr;
use std::time::Instant;

use espalier_domain::id::{Generation, HostName, StackName, TargetId};
use espalier_domain::plan::BlockCode;
use espalier_domain::verdict::{Fault, Verdict};
use espalier_domain::work::{
    Endpoint, OthersItem, SeenTarget, SeenThrough, Through, VerifyItem, VerifyTarget, WorkResult,
};
use espalier_probe::{ProbeError, probe};
use rustls::version::{TLS12, TLS13};
use servers::{Authority, NAME, chatter, nobody, serve, serve_all, serve_apart, serve_at, zone};
use time::{Duration, OffsetDateTime};

fn target(number: u32, address: SocketAddr, fingerprint: &str) -> VerifyTarget {
    VerifyTarget {
        target: TargetId::parse(format!("i-{number:017x}")).unwrap(),
        address: address.into(),
        generation: Generation(3),
        fingerprint: fingerprint.to_owned(),
    }
}

fn item(trust: &str, targets: Vec<VerifyTarget>) -> VerifyItem {
    VerifyItem {
        stack: StackName::parse("api-service").unwrap(),
        server_name: HostName::parse(NAME).unwrap(),
        trust: trust.to_owned(),
        targets,
        through: None,
        resolver: None,
        others: None,
        prober: None,
    }
}

async fn seen(item: &VerifyItem) -> Vec<SeenTarget> {
    match probe(item, OffsetDateTime::now_utc).await.unwrap() {
        WorkResult::Seen { sightings, .. } => sightings,
        other => panic!("{other:?}"),
    }
}

async fn verdict(trust: &str, address: SocketAddr, fingerprint: &str) -> Verdict {
    seen(&item(trust, vec![target(1, address, fingerprint)])).await.remove(0).verdict
}

#[tokio::test]
async fn the_right_certificate_is_good_in_both_protocol_versions() {
    let authority = Authority::new("ours");
    let pair = authority.good_leaf();
    // In the names of IANA's registry.
    for (version, protocol, suites) in [(&TLS12, "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_"), (&TLS13, "TLSv1.3", "TLS_AES_")] {
        let address = serve(&pair.chain, &pair.key, version).await;
        let verdict = verdict(&authority.root_pem, address, &pair.fingerprint()).await;
        assert_eq!(verdict.faults, [], "{version:?}");
        let tls = verdict.tls.unwrap();
        assert_eq!(tls.protocol, protocol);
        assert_eq!(tls.versions, [protocol], "that it refuses the other is no fault");
        assert!(tls.suite.starts_with(suites), "{tls:?}");
        assert_eq!(verdict.fingerprint, Some(pair.fingerprint()));
        assert!(verdict.not_after.unwrap() > OffsetDateTime::now_utc());
        assert!(verdict.serial.is_some_and(|serial| !serial.is_empty() && !serial.starts_with('0')));
    }
}

#[tokio::test]
async fn a_server_that_does_not_hold_the_key_proves_nothing() {
    let authority = Authority::new("ours");
    let (shown, held) = (authority.good_leaf(), authority.good_leaf());
    for version in [&TLS12, &TLS13] {
        let address = serve(&shown.chain, &held.key, version).await;
        let verdict = verdict(&authority.root_pem, address, &shown.fingerprint()).await;
        assert_eq!(verdict.faults, [Fault::HandshakeFailed], "{version:?}");
        assert_eq!(verdict.fingerprint, None);
    }
}

#[tokio::test]
async fn each_fault_of_a_certificate_is_named_and_no_other() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let hour = Duration::hours(1);
    for (pair, fault) in [
        (ours.leaf("www.example.com", -hour, hour), Fault::WrongName),
        (ours.leaf(NAME, -hour * 2, -hour), Fault::Expired),
        (ours.leaf(NAME, hour, hour * 2), Fault::NotYetValid),
        (theirs.good_leaf(), Fault::Untrusted),
    ] {
        let address = serve(&pair.chain, &pair.key, &TLS13).await;
        assert_eq!(verdict(&ours.root_pem, address, &pair.fingerprint()).await.faults, [fault]);
    }
    let pair = ours.good_leaf();
    let address = serve(&pair.chain, &pair.key, &TLS13).await;
    let verdict = verdict(&ours.root_pem, address, &"0".repeat(64)).await;
    assert_eq!(verdict.faults, [Fault::OtherCertificate]);
    assert_eq!(verdict.fingerprint, Some(pair.fingerprint()), "what is served instead is said");
}

#[tokio::test]
async fn all_faults_are_reported_at_once() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let pair = theirs.leaf("www.example.com", Duration::hours(-2), Duration::hours(-1));
    let address = serve(&pair.chain, &pair.key, &TLS13).await;
    let verdict = verdict(&ours.root_pem, address, &"0".repeat(64)).await;
    let all = [Fault::Untrusted, Fault::WrongName, Fault::Expired, Fault::OtherCertificate];
    assert_eq!(verdict.faults, all);
}

#[tokio::test]
async fn a_leaf_without_its_issuer_is_untrusted_though_we_know_the_root() {
    let authority = Authority::new("ours");
    let pair = authority.good_leaf();
    let address = serve(&pair.chain[..1], &pair.key, &TLS13).await;
    assert_eq!(verdict(&authority.root_pem, address, &pair.fingerprint()).await.faults, [Fault::Untrusted]);
}

#[tokio::test]
async fn whoever_does_not_shake_hands_is_told_apart() {
    let trust = Authority::new("ours").root_pem;
    let begun = Instant::now();
    let sightings = seen(&item(
        &trust,
        vec![
            target(1, nobody().await, "00"),
            target(2, chatter(b"").await, "00"),
            target(3, chatter(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, "00"),
            target(4, chatter(b"SSH-2.0-OpenSSH_9.6\r\n").await, "00"),
            // A fatal alert, `internal_error`.
            target(5, chatter(&[21, 3, 3, 0, 2, 2, 80]).await, "00"),
        ],
    ))
    .await;
    let faults: Vec<_> = sightings.iter().map(|seen| (seen.target.as_str(), seen.verdict.faults.as_slice())).collect();
    assert_eq!(
        faults,
        [
            ("i-00000000000000001", &[Fault::Refused][..]),
            ("i-00000000000000002", &[Fault::TimedOut]),
            ("i-00000000000000003", &[Fault::NotTls]),
            ("i-00000000000000004", &[Fault::NotTls]),
            ("i-00000000000000005", &[Fault::HandshakeFailed]),
        ]
    );
    assert!(begun.elapsed().as_secs() < 10, "a silent server does not hold the tour up");
}

#[tokio::test]
async fn a_worker_that_serves_another_certificate_is_noticed_though_the_first_does_not() {
    let authority = Authority::new("ours");
    let (newest, former) = (authority.good_leaf(), authority.good_leaf());
    for turns in [[&newest, &former], [&former, &newest]] {
        let address = serve_all(&turns, &[]).await;
        let verdict = verdict(&authority.root_pem, address, &newest.fingerprint()).await;
        assert_eq!(verdict.faults, [Fault::OtherCertificate]);
        assert_eq!(verdict.fingerprint, Some(former.fingerprint()), "the one that should not be there is named");
    }
}

#[tokio::test]
async fn what_is_wrong_under_one_version_alone_is_found() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = ours.good_leaf();
    for (shown, fault) in [(ours.good_leaf(), Fault::OtherCertificate), (theirs.good_leaf(), Fault::Untrusted)] {
        let address = serve_apart(&good, &shown).await;
        let verdict = verdict(&ours.root_pem, address, &good.fingerprint()).await;
        assert!(verdict.faults.contains(&fault), "{verdict:?}");
        let tls = verdict.tls.unwrap();
        assert_eq!((tls.protocol.as_str(), tls.versions.len()), ("TLSv1.2", 2));
    }
}

#[tokio::test]
async fn what_clients_offer_is_negotiated_and_a_server_that_wants_something_else_is_dialled_again() {
    let authority = Authority::new("ours");
    let pair = authority.good_leaf();
    for (known, agreed) in
        [(&["http/1.1", "h2"][..], Some("http/1.1")), (&["h2"], Some("h2")), (&["imap"], None), (&[], None)]
    {
        let address = serve_all(&[&pair], known).await;
        let item = item(&authority.root_pem, vec![target(1, address, &pair.fingerprint())]);
        let seen = seen(&item).await.remove(0);
        assert!(seen.verdict.is_good(), "{known:?}: {seen:?}");
        assert!(seen.connect_ms.is_some_and(|ms| ms > 0.0) && seen.handshake_ms > 0.0, "{seen:?}");
        let tls = seen.verdict.tls.unwrap();
        assert_eq!(tls.alpn.as_deref(), agreed);
        assert_eq!(
            (tls.protocol.as_str(), tls.versions),
            ("TLSv1.3", vec!["TLSv1.2".to_owned(), "TLSv1.3".to_owned()])
        );
    }
}

/// Fifty silent targets cost two rounds of patience, not fifty; sightings keep the order of the item.
#[tokio::test]
async fn dead_targets_are_dialled_side_by_side() {
    let authority = Authority::new("ours");
    let pair = authority.good_leaf();
    let silent = chatter(b"").await;
    let alive = serve(&pair.chain, &pair.key, &TLS13).await;
    let mut targets: Vec<_> = (1..50).map(|number| target(number, silent, "00")).collect();
    targets.push(target(50, alive, &pair.fingerprint()));
    let begun = Instant::now();
    let sightings = seen(&item(&authority.root_pem, targets.clone())).await;
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    let order: Vec<_> = sightings.iter().map(|seen| &seen.target).collect();
    assert_eq!(order, targets.iter().map(|target| &target.target).collect::<Vec<_>>());
    assert!(sightings[..49].iter().all(|seen| seen.verdict.faults == [Fault::TimedOut]));
    assert!(sightings[49].verdict.is_good());
}

#[tokio::test]
async fn trust_that_cannot_be_read_is_the_callers_mistake() {
    for trust in ["", "hello", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"] {
        let answer = probe(&item(trust, Vec::new()), OffsetDateTime::now_utc).await;
        assert!(matches!(answer, Err(ProbeError::Trust { .. })), "{trust:?}: {answer:?}");
    }
}

#[tokio::test]
async fn what_others_install_is_judged_by_chain_name_dates_and_acms_serial() {
    let (theirs, strangers) = (Authority::new("theirs"), Authority::new("strangers"));
    let judged = async |trust: &str, serial: Option<String>, address: SocketAddr| {
        let others = OthersItem { public: false, serial };
        let target = VerifyTarget { generation: Generation::NONE, ..target(1, address, "") };
        let item = VerifyItem { others: Some(others), ..item(trust, vec![target]) };
        seen(&item).await.remove(0).verdict
    };
    let pair = theirs.good_leaf();
    let address = serve(&pair.chain, &pair.key, &TLS13).await;
    let any = judged(&theirs.root_pem, None, address).await;
    assert_eq!(any.faults, []);
    assert_eq!(judged(&theirs.root_pem, any.serial.clone(), address).await.faults, []);
    assert_eq!(judged(&theirs.root_pem, Some("0a".into()), address).await.faults, [Fault::OtherCertificate]);
    assert_eq!(judged(&strangers.root_pem, any.serial, address).await.faults, [Fault::Untrusted]);
    let wrong = theirs.leaf("www.example.com", Duration::hours(-2), Duration::hours(-1));
    let address = serve(&wrong.chain, &wrong.key, &TLS13).await;
    assert_eq!(judged(&theirs.root_pem, None, address).await.faults, [Fault::WrongName, Fault::Expired]);
}

/// The platform's store is read, and nobody who is not in it is trusted; roots given beside it count, too.
#[tokio::test]
async fn a_public_authority_is_one_that_the_platform_trusts() {
    let authority = Authority::new("private");
    let pair = authority.good_leaf();
    let address = serve(&pair.chain, &pair.key, &TLS13).await;
    for (roots, faults) in [("", &[Fault::Untrusted][..]), (authority.root_pem.as_str(), &[])] {
        let others = OthersItem { public: true, serial: None };
        let item = VerifyItem { others: Some(others), ..item(roots, vec![target(1, address, "")]) };
        assert_eq!(seen(&item).await[0].verdict.faults, faults);
    }
}

#[tokio::test]
async fn roots_of_a_spec_that_are_none_are_a_block() {
    let trust = "-----BEGIN CERTIFICATE-----\nMIIhbGxv\n-----END CERTIFICATE-----\n";
    let item = VerifyItem { others: Some(OthersItem::default()), ..item(trust, Vec::new()) };
    match probe(&item, OffsetDateTime::now_utc).await.unwrap() {
        WorkResult::Blocked { block } => assert_eq!(block.code, BlockCode::SpecInvalid),
        other => panic!("{other:?}"),
    }
}

async fn sampled(trust: &str, port: u16, fingerprints: &[String], resolver: SocketAddr) -> Vec<SeenThrough> {
    let through = Through { port, samples: 3, fingerprints: fingerprints.to_vec() };
    let item = VerifyItem { through: Some(through), resolver: Some(resolver), ..item(trust, Vec::new()) };
    match probe(&item, OffsetDateTime::now_utc).await.unwrap() {
        WorkResult::Seen { through, .. } => through,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn through_the_service_is_what_the_given_resolver_says() {
    let authority = Authority::new("ours");
    let pair = authority.good_leaf();
    let address = serve(&pair.chain, &pair.key, &TLS13).await;
    let fingerprints = ["00".to_owned(), pair.fingerprint()];
    let resolver = zone(&[[127, 0, 0, 1]]).await;
    let samples = sampled(&authority.root_pem, address.port(), &fingerprints, resolver).await;
    assert_eq!(samples.len(), 3);
    for sample in samples {
        assert!(sample.verdict.is_good(), "{:?}", sample.verdict);
        assert_eq!(sample.address, Some(address.ip()));
    }
}

/// A fleet in which each target has its own is larger than a list of them: chain, name and dates count.
#[tokio::test]
async fn where_no_fingerprint_is_named_any_of_ours_will_do_and_nobody_elses() {
    let authority = Authority::new("ours");
    let pair = authority.good_leaf();
    let address = serve(&pair.chain, &pair.key, &TLS13).await;
    for (trust, faults) in [(&authority.root_pem, vec![]), (&Authority::new("theirs").root_pem, vec![Fault::Untrusted])]
    {
        let samples = sampled(trust, address.port(), &[], zone(&[[127, 0, 0, 1]]).await).await;
        assert!(samples.len() == 3 && samples.iter().all(|sample| sample.verdict.faults == faults), "{samples:?}");
    }
    let another = sampled(&authority.root_pem, address.port(), &["00".to_owned()], zone(&[[127, 0, 0, 1]]).await).await;
    assert!(another.iter().all(|sample| sample.verdict.faults == [Fault::OtherCertificate]), "{another:?}");
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_told_from_a_service_that_does_not_answer() {
    let trust = Authority::new("ours").root_pem;
    let closed = nobody().await.port();
    for (resolver, address, fault) in [
        (zone(&[]).await, None, Fault::Unresolved),
        (zone(&[[0, 0, 0, 0]]).await, Some("0.0.0.0"), Fault::WrongAddress),
        (zone(&[[224, 0, 0, 1]]).await, Some("224.0.0.1"), Fault::WrongAddress),
        (zone(&[[127, 0, 0, 1]]).await, Some("127.0.0.1"), Fault::Refused),
    ] {
        for sample in sampled(&trust, closed, &[], resolver).await {
            assert_eq!(sample.verdict.faults, [fault]);
            assert_eq!(sample.address, address.map(|address| address.parse().unwrap()));
        }
    }
}

/// What a name in place of a target comes to, when it leads to these addresses.
async fn named(trust: &str, port: u16, addresses: &'static [[u8; 4]]) -> SeenTarget {
    let name = HostName::parse("internal-payments-1.eu-west-1.elb.amazonaws.com").unwrap();
    let target = VerifyTarget {
        target: TargetId::named(&name),
        address: Endpoint::Host { name, port },
        generation: Generation::NONE,
        fingerprint: String::new(),
    };
    let item = VerifyItem {
        others: Some(OthersItem::default()),
        resolver: Some(zone(addresses).await),
        ..item(trust, vec![target])
    };
    seen(&item).await.remove(0)
}

#[tokio::test]
async fn of_a_name_every_address_is_dialled_and_the_worst_counts() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = ours.good_leaf();
    let port = serve(&good.chain, &good.key, &TLS13).await.port();
    serve_at(([127, 0, 0, 2], port).into(), &good).await;
    serve_at(([127, 0, 0, 3], port).into(), &theirs.good_leaf()).await;
    let well = named(&ours.root_pem, port, &[[127, 0, 0, 1], [127, 0, 0, 2]]).await;
    assert!(well.verdict.is_good() && well.connect_ms.is_some(), "{well:?}");
    assert_eq!((well.target.as_str(), well.port), ("internal-payments-1.eu-west-1.elb.amazonaws.com", Some(port)));
    for addresses in [&[[127, 0, 0, 1], [127, 0, 0, 3]], &[[127, 0, 0, 3], [127, 0, 0, 2]]] {
        assert_eq!(named(&ours.root_pem, port, addresses).await.verdict.faults, [Fault::Untrusted]);
    }
    // A node that is gone fails those clients that come to it.
    assert_eq!(named(&ours.root_pem, port, &[[127, 0, 0, 1], [127, 0, 0, 4]]).await.verdict.faults, [Fault::Refused]);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_told_of_the_target() {
    let trust = Authority::new("ours").root_pem;
    assert_eq!(named(&trust, 443, &[]).await.verdict.faults, [Fault::Unresolved]);
    assert_eq!(named(&trust, 443, &[[224, 0, 0, 1]]).await.verdict.faults, [Fault::WrongAddress]);
}
