//! What stands in a certificate, as plain facts.

use espalier_domain::spec::KeyType;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::{TbsCertificate, X509Certificate};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::key::{self, hex};

/// Bytes that are not one DER certificate.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    /// The parser refuses them.
    #[error("not an X.509 certificate")]
    Parse(#[source] x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// Something follows the certificate.
    #[error("{bytes} bytes follow the certificate")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// An extension cannot be parsed, or stands there twice.
    #[error("an extension of the certificate cannot be read")]
    Extension,
    /// A date that no calendar has.
    #[error("the certificate's validity cannot be read")]
    Validity,
}

/// The facts of a certificate that Espalier cares about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The DNS names of the subject alternative name, sorted, as they stand there.
    pub dns_names: Vec<String>,
    /// Other kinds of names there, as text.
    pub other_names: Vec<String>,
    /// The subject, in one line; empty when it is.
    pub subject: String,
    /// The issuer, in one line.
    pub issuer: String,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// The serial number, lower-case hexadecimal without leading zero digits.
    pub serial: String,
    /// SHA-256 of the whole certificate, lower-case hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of the `SubjectPublicKeyInfo`, lower-case hexadecimal.
    pub key_fingerprint: String,
    /// The kind of its key, if it is one that may be certified.
    pub key_type: Option<KeyType>,
    /// Subject key identifier, lower-case hexadecimal.
    pub subject_key_id: Option<String>,
    /// Authority key identifier, lower-case hexadecimal.
    pub authority_key_id: Option<String>,
    /// `cA` of the basic constraints.
    pub is_ca: bool,
    /// `pathLenConstraint` of the basic constraints.
    pub path_length: Option<u32>,
    /// The bits of the key usage, in the order of RFC 5280.
    pub key_usage: Vec<&'static str>,
    /// The extended key usages; the one that matters by name, others by OID.
    pub extended_key_usage: Vec<String>,
    /// The DNS subtrees that the name constraints permit, if there are any name constraints.
    pub permitted_dns: Option<Vec<String>>,
    /// The OIDs of the extensions, sorted.
    pub extensions: Vec<String>,
    /// The OIDs of the critical ones, sorted.
    pub critical: Vec<String>,
}

/// Reads one DER certificate.
pub fn facts(der: &[u8]) -> Result<Facts, BadCertificate> {
    of(&parse(der)?.tbs_certificate, der)
}

/// What stands in a certificate or in one that is to be signed; `der` is all of it.
pub(crate) fn of(certificate: &TbsCertificate<'_>, der: &[u8]) -> Result<Facts, BadCertificate> {
    // The parser leaves two of a kind to whoever asks for one of them, and asking for another does not show it.
    certificate.extensions_map().map_err(|_| BadCertificate::Extension)?;
    let (dns_names, other_names) = names(certificate)?;
    let basic = certificate.basic_constraints().map_err(|_| BadCertificate::Extension)?;
    let oids = |critical_only: bool| {
        let chosen = certificate.extensions().iter().filter(|extension| extension.critical || !critical_only);
        let mut oids: Vec<String> = chosen.map(|extension| extension.oid.to_id_string()).collect();
        oids.sort();
        oids
    };
    let date = |time: &x509_parser::time::ASN1Time| {
        OffsetDateTime::from_unix_timestamp(time.timestamp()).map_err(|_| BadCertificate::Validity)
    };
    Ok(Facts {
        dns_names,
        other_names,
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: date(&certificate.validity().not_before)?,
        not_after: date(&certificate.validity().not_after)?,
        serial: serial_text(certificate.raw_serial()),
        fingerprint: hex(&Sha256::digest(der)),
        key_fingerprint: hex(&Sha256::digest(certificate.public_key().raw)),
        key_type: key::key_type(certificate.public_key()),
        subject_key_id: key_id(certificate, false),
        authority_key_id: key_id(certificate, true),
        is_ca: basic.as_ref().is_some_and(|basic| basic.value.ca),
        path_length: basic.and_then(|basic| basic.value.path_len_constraint),
        key_usage: key_usage(certificate)?,
        extended_key_usage: extended_key_usage(certificate)?,
        permitted_dns: permitted_dns(certificate)?,
        extensions: oids(false),
        critical: oids(true),
    })
}

/// A serial number as it is written everywhere in Espalier: lower-case hexadecimal without leading zero digits.
pub fn serial_text(bytes: &[u8]) -> String {
    let text = hex(bytes);
    let trimmed = text.trim_start_matches('0');
    if trimmed.is_empty() { "0".into() } else { trimmed.to_owned() }
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, BadCertificate> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(BadCertificate::Parse)?;
    if !rest.is_empty() {
        return Err(BadCertificate::Trailing { bytes: rest.len() });
    }
    Ok(certificate)
}

fn names(certificate: &TbsCertificate<'_>) -> Result<(Vec<String>, Vec<String>), BadCertificate> {
    let (mut dns, mut other) = (Vec::new(), Vec::new());
    if let Some(san) = certificate.subject_alternative_name().map_err(|_| BadCertificate::Extension)? {
        for name in &san.value.general_names {
            if let GeneralName::DNSName(name) = name {
                dns.push((*name).to_owned());
            } else {
                other.push(name.to_string());
            }
        }
    }
    dns.sort();
    Ok((dns, other))
}

fn key_usage(certificate: &TbsCertificate<'_>) -> Result<Vec<&'static str>, BadCertificate> {
    let Some(usage) = certificate.key_usage().map_err(|_| BadCertificate::Extension)? else { return Ok(Vec::new()) };
    let bits = [
        (usage.value.digital_signature(), "digitalSignature"),
        (usage.value.non_repudiation(), "nonRepudiation"),
        (usage.value.key_encipherment(), "keyEncipherment"),
        (usage.value.data_encipherment(), "dataEncipherment"),
        (usage.value.key_agreement(), "keyAgreement"),
        (usage.value.key_cert_sign(), "keyCertSign"),
        (usage.value.crl_sign(), "cRLSign"),
        (usage.value.encipher_only(), "encipherOnly"),
        (usage.value.decipher_only(), "decipherOnly"),
    ];
    Ok(bits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect())
}

fn extended_key_usage(certificate: &TbsCertificate<'_>) -> Result<Vec<String>, BadCertificate> {
    let Some(usage) = certificate.extended_key_usage().map_err(|_| BadCertificate::Extension)? else {
        return Ok(Vec::new());
    };
    let known = [
        (usage.value.any, "any"),
        (usage.value.server_auth, "serverAuth"),
        (usage.value.client_auth, "clientAuth"),
        (usage.value.code_signing, "codeSigning"),
        (usage.value.email_protection, "emailProtection"),
        (usage.value.time_stamping, "timeStamping"),
        (usage.value.ocsp_signing, "ocspSigning"),
    ];
    let named = known.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned());
    Ok(named.chain(usage.value.other.iter().map(|oid| oid.to_id_string())).collect())
}

fn permitted_dns(certificate: &TbsCertificate<'_>) -> Result<Option<Vec<String>>, BadCertificate> {
    let constraints = certificate.name_constraints().map_err(|_| BadCertificate::Extension)?;
    Ok(constraints.map(|constraints| {
        let subtrees = constraints.value.permitted_subtrees.as_deref().unwrap_or_default();
        let dns = subtrees.iter().filter_map(|subtree| {
            if let GeneralName::DNSName(name) = &subtree.base { Some((*name).to_owned()) } else { None }
        });
        dns.collect()
    }))
}

fn key_id(certificate: &TbsCertificate<'_>, authority: bool) -> Option<String> {
    certificate.extensions().iter().find_map(|extension| {
        let parsed = extension.parsed_extension();
        if let (ParsedExtension::SubjectKeyIdentifier(id), false) = (parsed, authority) {
            Some(hex(id.0))
        } else if let (ParsedExtension::AuthorityKeyIdentifier(id), true) = (parsed, authority) {
            id.key_identifier.as_ref().map(|id| hex(id.0))
        } else {
            None
        }
    })
}
