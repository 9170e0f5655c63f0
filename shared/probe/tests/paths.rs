//! Chains that must not be believed, each wrong in one way and served by a real TLS server: RFC 5280 section 6 as the
//! prober sees it.

#![allow(clippy::disallowed_methods, reason = "a test makes the certificates and the clock it needs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test file uses its own part")]
mod servers;

use espalier_domain::id::{Generation, HostName, StackName, TargetId};
use espalier_domain::verdict::Fault;
use espalier_domain::work::{VerifyItem, VerifyTarget, WorkResult};
use espalier_probe::probe;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::version::TLS13;
use servers::{NAME, Pair, serve};
use time::{Duration, OffsetDateTime};

/// A chain of root, issuing certificate and leaf, before it is signed; and what else may be wrong with it.
struct Chain {
    root: CertificateParams,
    issuing: CertificateParams,
    leaf: CertificateParams,
    /// An authority between the issuing certificate and the leaf.
    between: Option<CertificateParams>,
    /// The leaf is signed with another key than the one in the certificate above it.
    forged: bool,
}

fn authority(name: &str, path_length: u8) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Chain {
    fn good() -> Self {
        let mut leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
        leaf.not_after = OffsetDateTime::now_utc() + Duration::hours(1);
        Self { root: authority("root", 1), issuing: authority("issuing", 0), leaf, between: None, forged: false }
    }

    /// The root in PEM, and what a server shows.
    fn signed(self) -> (String, Pair) {
        let key = || KeyPair::generate().unwrap();
        let root_key = key();
        let root = self.root.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(self.root, root_key);
        let issuing_key = key();
        let mut chain = vec![self.issuing.signed_by(&issuing_key, &root_issuer).unwrap().der().clone()];
        let mut above = Issuer::new(self.issuing.clone(), issuing_key);
        if let Some(params) = self.between {
            let key = key();
            chain.insert(0, params.signed_by(&key, &above).unwrap().der().clone());
            above = Issuer::new(params, key);
        }
        if self.forged {
            above = Issuer::new(self.issuing, key());
        }
        let key = key();
        chain.insert(0, self.leaf.signed_by(&key, &above).unwrap().der().clone());
        (root.pem(), Pair { chain, key })
    }
}

async fn faults(chain: Chain) -> Vec<Fault> {
    let (trust, pair) = chain.signed();
    let target = VerifyTarget {
        target: TargetId::parse("i-00000000000000001").unwrap(),
        address: serve(&pair.chain, &pair.key, &TLS13).await.into(),
        generation: Generation(1),
        fingerprint: pair.fingerprint(),
    };
    let item = VerifyItem {
        stack: StackName::parse("api-service").unwrap(),
        server_name: HostName::parse(NAME).unwrap(),
        trust,
        targets: vec![target],
        through: None,
        resolver: None,
        others: None,
        prober: None,
    };
    match probe(&item, OffsetDateTime::now_utc).await.unwrap() {
        WorkResult::Seen { mut sightings, .. } => sightings.remove(0).verdict.faults,
        other => panic!("{other:?}"),
    }
}

fn subtrees(permitted: &[&str], excluded: &[&str]) -> Option<NameConstraints> {
    let list = |names: &[&str]| names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect();
    Some(NameConstraints { permitted_subtrees: list(permitted), excluded_subtrees: list(excluded) })
}

type Break = fn(&mut Chain);

/// One sentence of RFC 5280 each.
const BROKEN: [(&str, Break); 11] = [
    ("4.2.1.9: the issuer is no authority", |chain| chain.issuing.is_ca = IsCa::ExplicitNoCa),
    ("4.2.1.9: the issuer does not say whether it is one", |chain| chain.issuing.is_ca = IsCa::NoCa),
    ("4.2.1.9: the path is longer than allowed", |chain| chain.between = Some(authority("between", 0))),
    ("4.2.1.9: an authority as a server", |chain| chain.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
    ("4.2.1.10: no permitted name", |chain| chain.issuing.name_constraints = subtrees(&["example.org"], &[])),
    ("4.2.1.10: an excluded name", |chain| chain.issuing.name_constraints = subtrees(&[], &["example.com"])),
    ("4.2.1.12: a client's leaf", |chain| {
        chain.leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }),
    ("4.2.1.12: an issuer for clients only", |chain| {
        chain.issuing.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }),
    ("6.1.3: the issuer has expired", |chain| {
        chain.issuing.not_after = OffsetDateTime::now_utc() - Duration::hours(2);
    }),
    ("6.1.3: the issuer is not valid yet", |chain| {
        chain.issuing.not_before = OffsetDateTime::now_utc() + Duration::hours(2);
    }),
    ("6.1.3: another key under the issuer's name", |chain| chain.forged = true),
];

#[tokio::test]
async fn a_chain_that_is_wrong_in_one_way_is_not_trusted() {
    assert_eq!(faults(Chain::good()).await, [], "nothing is wrong with it");
    let mut constrained = Chain::good();
    constrained.issuing.name_constraints = subtrees(&["example.com"], &[]);
    assert_eq!(faults(constrained).await, [], "a name within the constraint");
    for (what, spoil) in BROKEN {
        let mut chain = Chain::good();
        spoil(&mut chain);
        assert_eq!(faults(chain).await, [Fault::Untrusted], "{what}");
    }
}

/// Such a leaf is not even parsed: the handshake's signature cannot be checked with it.
#[tokio::test]
async fn a_leaf_with_an_unknown_critical_extension_ends_the_handshake() {
    let mut chain = Chain::good();
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    unknown.set_criticality(true);
    chain.leaf.custom_extensions = vec![unknown];
    assert_eq!(faults(chain).await, [Fault::HandshakeFailed]);
}

/// What rustls-webpki does not look at: our lint does, before anything is signed.
#[tokio::test]
async fn what_webpki_does_not_look_at_is_known() {
    for (what, spoil) in [
        (
            "4.2.1.3: an issuer that may not sign certificates",
            (|chain| {
                chain.issuing.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            }) as Break,
        ),
        ("4.2.1.3: a leaf that may sign certificates", |chain| {
            chain.leaf.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        }),
    ] {
        let mut chain = Chain::good();
        spoil(&mut chain);
        assert_eq!(faults(chain).await, [], "{what}: it looks now, say so in docs/certificates.md");
    }
}
