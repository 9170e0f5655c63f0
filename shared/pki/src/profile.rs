//! What each certificate looks like, as data: the only place where extensions are chosen.
//!
//! | | root | issuing | server | client |
//! | --- | --- | --- | --- | --- |
//! | subject | CN | CN | empty | empty |
//! | subject alternative name | - | - | DNS names, critical | DNS names, critical |
//! | basic constraints | CA, path length 1 | CA, path length 0 | not a CA | not a CA |
//! | key usage | keyCertSign, cRLSign | keyCertSign, cRLSign | digitalSignature | digitalSignature |
//! | extended key usage | - | serverAuth, clientAuth | serverAuth | clientAuth |
//! | name constraints | - | critical: the allowed domains, no addresses | - | - |
//! | lifetime | 5 years | 5 years | as the spec says, up to 30 days, never beyond its issuer | the same |
//!
//! What is built from this is judged by [`crate::lint`], which has its own list of what must and must not be there.

use espalier_domain::id::HostName;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::key::PublicKey;

/// How far back a leaf's validity begins: a target's or a client's clock may be behind.
pub const LEAF_BACKDATE: Duration = Duration::minutes(5);

/// How far back an authority's validity begins, so that no leaf begins before its issuer.
pub const AUTHORITY_BACKDATE: Duration = Duration::hours(1);

/// How long a root and its issuing certificate live. The root's key is thrown away after the ceremony, so neither can
/// be renewed: a new authority takes over.
pub const AUTHORITY_LIFE: Duration = Duration::days(5 * 365);

/// What a certificate looks like whatever it is for.
struct Profile {
    /// `pathLenConstraint` of an authority, nothing for a leaf.
    path_length: Option<u8>,
    key_usage: &'static [KeyUsagePurpose],
    extended_key_usage: &'static [ExtendedKeyUsagePurpose],
    /// A self-signed certificate's authority is itself (RFC 5280 section 4.2.1.1 lets it go unsaid).
    authority_key_id: bool,
}

const ROOT: Profile = Profile {
    path_length: Some(1),
    key_usage: &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
    extended_key_usage: &[],
    authority_key_id: false,
};

const ISSUING: Profile = Profile {
    path_length: Some(0),
    key_usage: &[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
    extended_key_usage: &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    authority_key_id: true,
};

const SERVER: Profile = Profile {
    path_length: None,
    // All that TLS 1.3 and the ephemeral suites of TLS 1.2 need, of any key; RSA key transport is not wanted.
    key_usage: &[KeyUsagePurpose::DigitalSignature],
    extended_key_usage: &[ExtendedKeyUsagePurpose::ServerAuth],
    authority_key_id: true,
};

const CLIENT: Profile = Profile { extended_key_usage: &[ExtendedKeyUsagePurpose::ClientAuth], ..SERVER };

/// What a leaf proves: one thing each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// That a server has its names.
    Server,
    /// That a client has its names, in mutual TLS.
    Client,
}

/// A certificate that must not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A leaf without names.
    #[error("a leaf needs at least one DNS name")]
    NoNames,
    /// An authority without domains: deny by default.
    #[error("an authority needs at least one domain it may certify")]
    NoDomains,
    /// A domain that cannot stand in a name constraint.
    #[error("{0:?} cannot stand in a name constraint")]
    Domain(String),
    /// A name that cannot stand in a certificate.
    #[error("{0:?} cannot stand in a certificate")]
    Name(String),
    /// The issuer ends before the leaf could begin.
    #[error("the issuing certificate ends on {not_after}: nothing can be signed with it any more")]
    IssuerEnded {
        /// When.
        not_after: OffsetDateTime,
    },
}

/// A serial number: 16 octets, positive, never short, 126 bits of entropy (RFC 5280 allows 20 octets, CA/B asks for
/// 64 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial([u8; 16]);

impl Serial {
    /// From 16 octets of entropy.
    pub fn from_entropy(mut octets: [u8; 16]) -> Self {
        // The top bit would make it negative; the next one keeps all 16 octets significant.
        octets[0] = (octets[0] & 0x7f) | 0x40;
        Self(octets)
    }

    /// From the CPU's and the operating system's entropy (AWS-LC).
    pub fn random() -> Result<Self, NoEntropy> {
        let mut octets = [0; 16];
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| NoEntropy)?;
        Ok(Self::from_entropy(octets))
    }

    /// Lower-case hexadecimal.
    pub fn text(&self) -> String {
        crate::key::hex(&self.0)
    }

    fn number(self) -> SerialNumber {
        SerialNumber::from_slice(&self.0)
    }
}

/// The random number generator failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the random number generator failed")]
pub struct NoEntropy;

/// What is asked of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRequest {
    /// What for.
    pub purpose: Purpose,
    /// Its names, in any order.
    pub dns_names: Vec<HostName>,
    /// The moment.
    pub now: OffsetDateTime,
    /// How long it lives, the backdate included, if its issuer lives as long.
    pub validity: Duration,
    /// Its serial number.
    pub serial: Serial,
}

/// A leaf below an issuer with this validity.
pub(crate) fn leaf(
    request: &LeafRequest,
    issuer_not_before: OffsetDateTime,
    issuer_not_after: OffsetDateTime,
) -> Result<CertificateParams, ProfileError> {
    if request.dns_names.is_empty() {
        return Err(ProfileError::NoNames);
    }
    let not_before = leaf_begin(request).max(issuer_not_before);
    let not_after = leaf_end(request).min(issuer_not_after);
    if not_after <= request.now {
        return Err(ProfileError::IssuerEnded { not_after: issuer_not_after });
    }
    let profile = match request.purpose {
        Purpose::Server => &SERVER,
        Purpose::Client => &CLIENT,
    };
    let mut params = blank(profile, request.serial, not_before, not_after);
    let mut names: Vec<&str> = request.dns_names.iter().map(HostName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let name = name.try_into().map_err(|_| ProfileError::Name(name.to_owned()))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    Ok(params)
}

fn leaf_begin(request: &LeafRequest) -> OffsetDateTime {
    whole_seconds(request.now - LEAF_BACKDATE)
}

/// When a leaf ends unless its issuer ends before.
pub(crate) fn leaf_end(request: &LeafRequest) -> OffsetDateTime {
    // Both ends count (RFC 5280 section 4.1.2.5), and the backdate is part of the life: 168 hours are 168 hours.
    leaf_begin(request) + request.validity - Duration::SECOND
}

/// The root of an authority whose key this is.
pub(crate) fn root(key: &PublicKey, serial: Serial, now: OffsetDateTime) -> CertificateParams {
    authority("root", &ROOT, key, serial, now)
}

/// The certificate that signs leaves, for these domains and whatever is below them.
pub(crate) fn issuing(
    key: &PublicKey,
    serial: Serial,
    now: OffsetDateTime,
    domains: &[&str],
    root_not_after: OffsetDateTime,
) -> Result<CertificateParams, ProfileError> {
    if domains.is_empty() {
        return Err(ProfileError::NoDomains);
    }
    let mut permitted = Vec::new();
    for domain in domains {
        let ok = !domain.is_empty()
            && domain.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            });
        if !ok {
            return Err(ProfileError::Domain((*domain).to_owned()));
        }
        permitted.push(GeneralSubtree::DnsName((*domain).to_owned()));
    }
    let mut params = authority("issuing", &ISSUING, key, serial, now);
    params.not_after = params.not_after.min(root_not_after);
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted,
        // A constraint binds only the kinds of names it lists: without these, any address could be certified.
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)),
        ],
    });
    Ok(params)
}

fn authority(role: &str, profile: &Profile, key: &PublicKey, serial: Serial, now: OffsetDateTime) -> CertificateParams {
    let begin = whole_seconds(now - AUTHORITY_BACKDATE);
    let mut params = blank(profile, serial, begin, begin + AUTHORITY_LIFE - Duration::SECOND);
    params.distinguished_name.push(DnType::CommonName, format!("Espalier {role} {}", &key.fingerprint()[..16]));
    params
}

fn blank(
    profile: &Profile,
    serial: Serial,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The default has a common name and reaches the year 4096.
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial.number());
    params.not_before = not_before;
    params.not_after = not_after;
    params.is_ca = match profile.path_length {
        Some(length) => IsCa::Ca(BasicConstraints::Constrained(length)),
        None => IsCa::ExplicitNoCa,
    };
    params.key_usages = profile.key_usage.to_vec();
    params.extended_key_usages = profile.extended_key_usage.to_vec();
    params.use_authority_key_identifier_extension = profile.authority_key_id;
    params
}

/// Certificates count in seconds.
fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).expect("zero is a nanosecond")
}
