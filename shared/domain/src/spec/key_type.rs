//! The kinds of keys a certificate may have.

use serde::{Deserialize, Serialize};

/// The kind of a key, in ACM's words (API reference, `KeyAlgorithm`) as far as it has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyType {
    /// NIST P-256.
    #[default]
    #[serde(rename = "EC_prime256v1")]
    EcPrime256v1,
    /// NIST P-384.
    #[serde(rename = "EC_secp384r1")]
    EcSecp384r1,
    /// RSA with a modulus of 2048 bits.
    #[serde(rename = "RSA_2048")]
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    #[serde(rename = "RSA_3072")]
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    #[serde(rename = "RSA_4096")]
    Rsa4096,
    /// Ed25519 (RFC 8410), which ACM does not issue and browsers do not accept.
    #[serde(rename = "Ed25519")]
    Ed25519,
}

impl KeyType {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::EcPrime256v1, Self::EcSecp384r1, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::Ed25519];

    /// Those that ACM makes for a certificate that is requested (API reference, `RequestCertificate`, `KeyAlgorithm`).
    pub const REQUESTABLE: [Self; 3] = [Self::EcPrime256v1, Self::EcSecp384r1, Self::Rsa2048];

    /// As it is written in a spec.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcPrime256v1 => "EC_prime256v1",
            Self::EcSecp384r1 => "EC_secp384r1",
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl std::fmt::Display for KeyType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
