//! What each certificate looks like: the only place where extensions are chosen.
//!
//! | | root | issuing | leaf |
//! | --- | --- | --- | --- |
//! | subject | CN | CN | empty |
//! | subject alternative name | - | - | DNS names, critical |
//! | basic constraints | CA, path length 1 | CA, path length 0 | not a CA |
//! | key usage | keyCertSign, cRLSign | keyCertSign, cRLSign | digitalSignature |
//! | extended key usage | - | serverAuth | serverAuth |
//! | name constraints | - | critical: the allowed domains, no addresses | - |
//! | lifetime | 5 years | 5 years | as the spec says, never beyond its issuer |

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
    let begin = whole_seconds(request.now - LEAF_BACKDATE);
    let not_before = begin.max(issuer_not_before);
    // Both ends count (RFC 5280 section 4.1.2.5), and the backdate is part of the life: 168 hours are 168 hours.
    let not_after = (begin + request.validity - Duration::SECOND).min(issuer_not_after);
    if not_after <= request.now {
        return Err(ProfileError::IssuerEnded { not_after: issuer_not_after });
    }
    let mut params = blank(request.serial, not_before, not_after);
    let mut names: Vec<&str> = request.dns_names.iter().map(HostName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let name = name.try_into().map_err(|_| ProfileError::Name(name.to_owned()))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The root of an authority whose key this is.
pub(crate) fn root(key: &PublicKey, serial: Serial, now: OffsetDateTime) -> CertificateParams {
    let mut params = authority("root", key, serial, now, 1);
    // A self-signed certificate's authority is itself (RFC 5280 section 4.2.1.1 lets it go unsaid).
    params.use_authority_key_identifier_extension = false;
    params
}

/// The certificate that signs leaves, for these domains and whatever is below them.
pub(crate) fn issuing(
    key: &PublicKey,
    serial: Serial,
    now: OffsetDateTime,
    domains: &[&str],
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
    let mut params = authority("issuing", key, serial, now, 0);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
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

fn authority(role: &str, key: &PublicKey, serial: Serial, now: OffsetDateTime, path_length: u8) -> CertificateParams {
    let begin = whole_seconds(now - AUTHORITY_BACKDATE);
    let mut params = blank(serial, begin, begin + AUTHORITY_LIFE - Duration::SECOND);
    params.distinguished_name.push(DnType::CommonName, format!("Espalier {role} {}", &key.fingerprint()[..16]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn blank(serial: Serial, not_before: OffsetDateTime, not_after: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The default has a common name and reaches the year 4096.
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial.number());
    params.not_before = not_before;
    params.not_after = not_after;
    params
}

/// Certificates count in seconds.
fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).expect("zero is a nanosecond")
}
