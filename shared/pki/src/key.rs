//! Keys. A private key has no `Clone`, no `Debug`, no `Serialize`, and is wiped when it is dropped.

use espalier_domain::spec::KeyType;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
    SigningKey, SubjectPublicKeyInfo,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer as _;
use zeroize::{Zeroize, Zeroizing};

use crate::pem;

/// Why a key cannot be made or read. Never quotes key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The random number generator or the key generation failed.
    #[error("generating a key of kind {key_type}")]
    Generate {
        /// Of which kind.
        key_type: KeyType,
        /// The cause.
        #[source]
        cause: rcgen::Error,
    },
    /// The text or the bytes are not a key.
    #[error("not a PKCS#8 private key")]
    Private,
    /// The bytes are not a public key.
    #[error("not a subject public key info")]
    Public(#[source] rcgen::Error),
    /// A key of a kind that is never certified: a short RSA modulus, an odd exponent, another curve.
    #[error("not a key of a kind that may be certified: P-256, P-384, RSA of 2048, 3072 or 4096 bits, Ed25519")]
    Kind,
    /// A key that does not sign certificates.
    #[error("an authority's key is on P-256 or P-384, this one is of kind {0}")]
    NotAnAuthoritys(KeyType),
    /// The signature could not be made.
    #[error("signing with a key held in memory")]
    Sign(#[source] rcgen::Error),
}

/// Text that holds key material: a leaf bundle, an authority's secret. Wiped when dropped.
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes over text that was read from a store.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub(crate) fn join(parts: &[&str]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
        for part in parts {
            text.push_str(part);
        }
        Self(text)
    }

    /// The text itself. Every use of this word is a place where key material leaves its type.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A private key of one of the kinds that may be certified.
pub struct PrivateKey {
    pair: KeyPair,
    public: PublicKey,
}

impl PrivateKey {
    /// A new key from the operating system's and the CPU's entropy (AWS-LC). RSA takes its time: primes are searched.
    pub fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size);
        let pair = match key_type {
            KeyType::EcPrime256v1 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            KeyType::EcSecp384r1 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            KeyType::Rsa2048 => rsa(RsaKeySize::_2048),
            KeyType::Rsa3072 => rsa(RsaKeySize::_3072),
            KeyType::Rsa4096 => rsa(RsaKeySize::_4096),
            KeyType::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
        };
        Self::new(pair.map_err(|cause| KeyError::Generate { key_type, cause })?)
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        // The library's reason may describe the input; it is dropped on purpose.
        Self::new(KeyPair::try_from(der).map_err(|_| KeyError::Private)?)
    }

    fn new(pair: KeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::from_spki(&pair.subject_public_key_info())?;
        Ok(Self { pair, public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        let der = self.pair.serialized_der();
        match self.public.key_type {
            KeyType::Ed25519 => pem::encode(pem::PRIVATE_KEY, &without_public_half(der)),
            KeyType::EcPrime256v1 | KeyType::EcSecp384r1 | KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => {
                pem::encode(pem::PRIVATE_KEY, der)
            }
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.pair.sign(message).map_err(KeyError::Sign)
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.pair.zeroize();
    }
}

/// An Ed25519 key in the older of the two forms of PKCS#8 (RFC 5958: version 0, nothing after the key), because the
/// OpenSSL of many hosts cannot read the other one, which AWS-LC writes.
fn without_public_half(der: &[u8]) -> Zeroizing<Vec<u8>> {
    // RFC 8410 section 7: SEQUENCE { version, SEQUENCE { OID }, OCTET STRING { OCTET STRING { 32 octets } } ... }.
    const HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let begin = der.windows(11).position(|window| window == &HEAD[5..]).expect("AWS-LC writes RFC 8410") + 11;
    let mut plain = Zeroizing::new(Vec::with_capacity(HEAD.len() + 32));
    plain.extend_from_slice(&HEAD);
    plain.extend_from_slice(&der[begin..begin + 32]);
    plain
}

/// A public key of one of the kinds that may be certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    info: SubjectPublicKeyInfo,
    key_type: KeyType,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`, as `kms:GetPublicKey` returns it.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfo::from_der(der).map_err(KeyError::Public)?;
        let (_, parsed) = x509_parser::x509::SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Kind)?;
        let key_type = key_type(&parsed).ok_or(KeyError::Kind)?;
        Ok(Self { info, key_type })
    }

    /// Of which kind it is.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The `SubjectPublicKeyInfo`, DER.
    pub fn spki(&self) -> Vec<u8> {
        self.info.subject_public_key_info()
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`, lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.spki()))
    }

    pub(crate) fn info(&self) -> &SubjectPublicKeyInfo {
        &self.info
    }
}

/// The kind of a key in a certificate, if it is one that may be there at all.
pub(crate) fn key_type(info: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Option<KeyType> {
    let point = &*info.subject_public_key.data;
    match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.2.1" => {
            let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
            // RFC 5480 sections 2.1.1 and 2.2: named curves, points uncompressed, as every TLS implementation reads them.
            match (curve.as_str(), point.len(), point.first()?) {
                ("1.2.840.10045.3.1.7", 65, 4) => Some(KeyType::EcPrime256v1),
                ("1.3.132.0.34", 97, 4) => Some(KeyType::EcSecp384r1),
                _ => None,
            }
        }
        "1.2.840.113549.1.1.1" => rsa(info),
        // RFC 8410 section 3: no parameters.
        "1.3.101.112" if info.algorithm.parameters.is_none() && point.len() == 32 => Some(KeyType::Ed25519),
        _ => None,
    }
}

fn rsa(info: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Option<KeyType> {
    let Ok(x509_parser::public_key::PublicKey::RSA(key)) = info.parsed() else { return None };
    // FIPS 186-5 section A.1.1 asks for an odd exponent above 2^16; everybody's is this one.
    if key.try_exponent().ok()? != 65_537 {
        return None;
    }
    let leading = key.modulus.iter().take_while(|octet| **octet == 0).count();
    let modulus = &key.modulus[leading..];
    match (modulus.len(), modulus.first()? & 0x80, modulus.last()? & 1) {
        (256, 0x80, 1) => Some(KeyType::Rsa2048),
        (384, 0x80, 1) => Some(KeyType::Rsa3072),
        (512, 0x80, 1) => Some(KeyType::Rsa4096),
        _ => None,
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_every_kind_survives_its_pem_and_says_what_it_is() {
        for key_type in KeyType::ALL {
            let key = PrivateKey::generate(key_type).unwrap();
            let text = key.to_pem();
            let again = PrivateKey::from_pkcs8(&pem::decode(&text).unwrap()[0].der).unwrap();
            assert_eq!((key.public(), key.public().key_type()), (again.public(), key_type));
            assert_eq!(PublicKey::from_spki(&key.public().spki()).unwrap(), *key.public());
        }
        assert!(matches!(PrivateKey::from_pkcs8(b"no key"), Err(KeyError::Private)));
    }

    #[test]
    fn other_kinds_of_keys_are_refused() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        assert!(matches!(PrivateKey::from_pkcs8(other.serialized_der()), Err(KeyError::Kind)));
        assert!(matches!(PublicKey::from_spki(&other.subject_public_key_info()), Err(KeyError::Kind)));
        let good = PrivateKey::generate(KeyType::Rsa2048).unwrap().public().spki();
        let spoiled = |at: usize, octet: u8| {
            let mut der = good.clone();
            let at = der.len() - at;
            der[at] = octet;
            matches!(PublicKey::from_spki(&der), Err(KeyError::Kind))
        };
        assert!(spoiled(1, 3), "an exponent of 65539");
        assert!(spoiled(6, 0), "an even modulus");
        assert!(spoiled(5 + 256, 0x7f), "a modulus of 2047 bits");
        assert!(!spoiled(6, good[good.len() - 6]), "unchanged");
    }

    #[test]
    fn a_secret_is_wiped() {
        let mut key = PrivateKey::generate(KeyType::EcPrime256v1).unwrap();
        assert!(!key.pair.serialized_der().is_empty());
        key.pair.zeroize();
        assert!(key.pair.serialized_der().iter().all(|byte| *byte == 0));
    }
}
