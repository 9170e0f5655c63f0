//! Keys. A private key has no `Clone`, no `Debug`, no `Serialize`, and is wiped when it is dropped.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey, SubjectPublicKeyInfo};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::pem;

/// Why a key cannot be made or read. Never quotes key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The random number generator or the key generation failed.
    #[error("generating a P-256 key")]
    Generate(#[source] rcgen::Error),
    /// The text or the bytes are not a key.
    #[error("not a PKCS#8 private key")]
    Private,
    /// The bytes are not a public key.
    #[error("not a subject public key info")]
    Public(#[source] rcgen::Error),
    /// A key of another kind than the one this version signs with.
    #[error("not a key on the curve P-256")]
    NotP256,
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

/// A P-256 private key.
pub struct PrivateKey(KeyPair);

impl PrivateKey {
    /// A new key from the operating system's and the CPU's entropy (AWS-LC).
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(KeyError::Generate)
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        // The library's reason may describe the input; it is dropped on purpose.
        let key = Self(KeyPair::try_from(der).map_err(|_| KeyError::Private)?);
        if key.0.algorithm() == &PKCS_ECDSA_P256_SHA256 { Ok(key) } else { Err(KeyError::NotP256) }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(
            SubjectPublicKeyInfo::from_der(&self.0.subject_public_key_info()).expect("a key pair has a public half"),
        )
    }

    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        pem::encode(pem::PRIVATE_KEY, self.0.serialized_der())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.0.sign(message).map_err(KeyError::Sign)
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A P-256 public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(SubjectPublicKeyInfo);

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`, as `kms:GetPublicKey` returns it.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfo::from_der(der).map_err(KeyError::Public)?;
        if info.algorithm() == &PKCS_ECDSA_P256_SHA256 { Ok(Self(info)) } else { Err(KeyError::NotP256) }
    }

    /// The `SubjectPublicKeyInfo`, DER.
    pub fn spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`, lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.spki()))
    }

    pub(crate) fn info(&self) -> &SubjectPublicKeyInfo {
        &self.0
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
    fn a_key_survives_its_pem_and_only_a_p256_key_does() {
        let key = PrivateKey::generate().unwrap();
        let text = key.to_pem();
        let again = PrivateKey::from_pkcs8(&pem::decode(&text).unwrap()[0].der).unwrap();
        assert_eq!(key.public(), again.public());
        assert_eq!(PublicKey::from_spki(&key.public().spki()).unwrap(), key.public());

        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(matches!(PrivateKey::from_pkcs8(other.serialized_der()), Err(KeyError::NotP256)));
        assert!(matches!(PublicKey::from_spki(&other.subject_public_key_info()), Err(KeyError::NotP256)));
        assert!(matches!(PrivateKey::from_pkcs8(b"no key"), Err(KeyError::Private)));
    }

    #[test]
    fn a_secret_is_wiped() {
        let mut key = PrivateKey::generate().unwrap();
        assert!(!key.0.serialized_der().is_empty());
        key.0.zeroize();
        assert!(key.0.serialized_der().iter().all(|byte| *byte == 0));
    }
}
