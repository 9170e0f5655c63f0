//! What a host asks to be certified: a certification request (PKCS#10, RFC 2986), believed in nothing but its public key.
//!
//! The host has no say in what its certificate holds: names, dates and purpose are the spec's. So a request carries the node's id, the
//! stack and the generation as its subject, the nonce of the command that it answers as its one attribute, and nothing else; and
//! whoever made it holds the private half, which its signature proves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use espalier_domain::id::{Generation, NodeId, Nonce, StackName};
use espalier_domain::spec::KeyType;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{X509Name, X509Version};

use crate::key::{KeyError, PublicKey, hex};
use crate::profile::NoEntropy;

/// `organizationName`, `organizationalUnitName` and `commonName` (RFC 5280 appendix A.1), in the order in which they stand.
const SUBJECT: [&str; 3] = ["2.5.4.10", "2.5.4.11", "2.5.4.3"];

/// What a request has to say to be the answer to one command on one node.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The stack, its organization.
    pub stack: &'a StackName,
    /// The generation, its organizational unit.
    pub generation: Generation,
    /// The node, its common name.
    pub node: &'a NodeId,
    /// The command's nonce, its challenge password (RFC 2985 section 5.4.1).
    pub nonce: &'a Nonce,
    /// The kind of key that the spec wants.
    pub key_type: KeyType,
}

/// Why a request is refused. Quotes nothing of it but short text.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// The text is not base64.
    #[error("it is not base64")]
    Base64,
    /// The bytes are not one request.
    #[error("it is not a certification request (RFC 2986)")]
    Parse,
    /// The subject is another.
    #[error("its subject is {found:?}, and O={stack}, OU={generation}, CN={node} was asked for")]
    Subject {
        /// As it stands there.
        found: String,
        /// What was asked for.
        stack: StackName,
        /// What was asked for.
        generation: Generation,
        /// What was asked for.
        node: NodeId,
    },
    /// It asks for something.
    #[error("it has attributes beside the nonce: what a certificate holds is not the host's to say")]
    Attributes,
    /// It answers another command, or none.
    #[error("its nonce is not this command's")]
    Nonce,
    /// Its key cannot be certified.
    #[error("its key")]
    Key(#[from] KeyError),
    /// Its key is of another kind.
    #[error("its key is of kind {found}, and {asked} was asked for")]
    KeyType {
        /// What it is.
        found: KeyType,
        /// What was asked for.
        asked: KeyType,
    },
    /// Whoever sent it does not hold the key.
    #[error("its signature is not by its key")]
    Signature,
}

/// A nonce for one command, from the CPU's and the operating system's entropy (AWS-LC).
///
/// # Errors
/// The random number generator failed.
pub fn nonce() -> Result<Nonce, NoEntropy> {
    let mut octets = [0; 32];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| NoEntropy)?;
    Ok(Nonce::parse(hex(&octets)).expect("32 octets are 64 hexadecimal digits"))
}

/// The key that a request (DER in base64) asks to be certified, if the request is the answer that was asked for.
///
/// # Errors
/// What is wrong with it.
pub fn accept(request: &str, asked: &Asked<'_>) -> Result<PublicKey, BadRequest> {
    let der = STANDARD.decode(request).map_err(|_| BadRequest::Base64)?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| BadRequest::Parse)?;
    let info = &request.certification_request_info;
    if !rest.is_empty() || info.version != X509Version::V1 {
        return Err(BadRequest::Parse);
    }
    let (stack, generation, node) = (asked.stack, asked.generation, asked.node);
    if subject(&info.subject) != Some([stack.to_string(), generation.to_string(), node.to_string()]) {
        let found = info.subject.to_string().chars().take(100).collect();
        return Err(BadRequest::Subject { found, stack: stack.clone(), generation, node: node.clone() });
    }
    let [attribute] = info.attributes() else { return Err(BadRequest::Attributes) };
    match attribute.parsed_attribute() {
        ParsedCriAttribute::ChallengePassword(said) if said.0 == asked.nonce.as_str() => {}
        ParsedCriAttribute::ChallengePassword(_) => return Err(BadRequest::Nonce),
        ParsedCriAttribute::ExtensionRequest(_) | ParsedCriAttribute::UnsupportedAttribute => {
            return Err(BadRequest::Attributes);
        }
    }
    let key = PublicKey::from_spki(info.subject_pki.raw)?;
    if key.key_type() != asked.key_type {
        return Err(BadRequest::KeyType { found: key.key_type(), asked: asked.key_type });
    }
    request.verify_signature().map_err(|_| BadRequest::Signature)?;
    Ok(key)
}

/// The three parts of a subject that has these parts, one each, and no other.
fn subject(name: &X509Name<'_>) -> Option<[String; 3]> {
    let mut parts = Vec::with_capacity(SUBJECT.len());
    for relative in name.iter() {
        let mut attributes = relative.iter();
        let (attribute, None) = (attributes.next()?, attributes.next()) else { return None };
        let expected = SUBJECT.get(parts.len())?;
        if attribute.attr_type().to_id_string() != *expected {
            return None;
        }
        parts.push(attribute.as_str().ok()?.to_owned());
    }
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{Attribute, CertificateParams, DnType, DnValue, KeyPair, PKCS_ECDSA_P256_SHA256};

    use super::*;

    /// PKCS#9, RFC 2985 section 5.4.1.
    const CHALLENGE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 7];

    /// A request of these parts, and with these attributes: an identifier and a text each.
    fn made(parts: &[(DnType, &str)], attributes: &[(&'static [u64], &str)], names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, text) in parts {
            params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*text).to_owned()));
        }
        let value = |text: &str| {
            // A set of one UTF8String.
            let length = u8::try_from(text.len()).unwrap();
            [&[0x31, length + 2, 0x0c, length], text.as_bytes()].concat()
        };
        let attributes = attributes.iter().map(|(oid, text)| Attribute { oid, values: value(text) }).collect();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        STANDARD.encode(params.serialize_request_with_attributes(&key, attributes).unwrap().der())
    }

    #[test]
    fn only_the_answer_to_this_command_by_this_node_is_accepted() {
        let (stack, node) = (StackName::parse("payments").unwrap(), NodeId::parse("i-0abc1234def567890").unwrap());
        let (nonce, other) = (nonce().unwrap(), nonce().unwrap());
        let asked = Asked {
            stack: &stack,
            generation: Generation(3),
            node: &node,
            nonce: &nonce,
            key_type: KeyType::EcPrime256v1,
        };
        let o = (DnType::OrganizationName, "payments");
        let ou = (DnType::OrganizationalUnitName, "3");
        let cn = (DnType::CommonName, node.as_str());
        let subject = [o.clone(), ou.clone(), cn.clone()];
        let said = [(CHALLENGE, nonce.as_str())];
        let good = made(&subject, &said, &[]);
        assert_eq!(accept(&good, &asked).unwrap().key_type(), KeyType::EcPrime256v1);
        let why = |request: &str, asked: &Asked<'_>| accept(request, asked).unwrap_err().to_string();
        for parts in [
            vec![o.clone(), ou.clone()],
            vec![cn.clone(), ou.clone(), o.clone()],
            vec![o.clone(), ou.clone(), cn.clone(), (DnType::CountryName, "IE")],
            vec![o.clone(), ou.clone(), (DnType::CommonName, "i-0abc1234def567891")],
            vec![o.clone(), (DnType::OrganizationalUnitName, "03"), cn.clone()],
        ] {
            assert!(why(&made(&parts, &said, &[]), &asked).starts_with("its subject is"), "{parts:?}");
        }
        let unstructured: &[u64] = &[1, 2, 840, 113_549, 1, 9, 2];
        for attributes in
            [vec![], vec![(unstructured, "name")], vec![(CHALLENGE, nonce.as_str()), (unstructured, "name")]]
        {
            assert!(why(&made(&subject, &attributes, &[]), &asked).starts_with("it has attributes"), "{attributes:?}");
        }
        assert!(why(&made(&subject, &said, &["bank.example.com"]), &asked).starts_with("it has attributes"));
        assert!(why(&made(&subject, &[(CHALLENGE, other.as_str())], &[]), &asked).starts_with("its nonce"));
        assert!(why(&good, &Asked { key_type: KeyType::Rsa2048, ..asked }).starts_with("its key is of kind"));
        let mut der = STANDARD.decode(&good).unwrap();
        *der.last_mut().unwrap() ^= 1;
        assert!(why(&STANDARD.encode(&der), &asked).starts_with("its signature"));
        der.push(0);
        for nonsense in [STANDARD.encode(&der), STANDARD.encode(b"x"), String::new(), "?".to_owned()] {
            let why = why(&nonsense, &asked);
            assert!(why.starts_with("it is not"), "{nonsense}: {why}");
        }
    }
}
