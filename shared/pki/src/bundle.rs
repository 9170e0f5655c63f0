//! The one value a target fetches: private key, leaf and issuing certificate, concatenated PEM. The root is not in it, and no key
//! where the target made its own.

use crate::inspect::{self, BadCertificate, Facts};
use crate::issue::Leaf;
use crate::key::{KeyError, PrivateKey, SecretText};
use crate::pem::{self, BadPem};

/// The most that an advanced Parameter Store value holds, in bytes. A standard one holds half of it, which is enough
/// for every kind of key but RSA.
pub const ADVANCED_TIER: usize = 8192;

/// A bundle that must not be stored or cannot be read. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It does not fit the advanced tier.
    #[error("the bundle has {bytes} bytes, a parameter holds at most 8192")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// Parameter Store refuses values with a nested parameter reference.
    #[error("the bundle contains two opening braces in a row")]
    Braces,
    /// The text is not three blocks.
    #[error("the bundle is not a private key, the leaf and the issuing certificate in PEM")]
    Pem(#[from] BadPem),
    /// The key cannot be read.
    #[error("the bundle's key")]
    Key(#[from] KeyError),
    /// A certificate cannot be read.
    #[error("a certificate in the bundle")]
    Certificate(#[from] BadCertificate),
    /// The parts do not belong together.
    #[error("the bundle does not fit together: {0}")]
    Mismatch(&'static str),
}

/// Puts a bundle together: a leaf was verified against its issuer when it came to be, so only the key can be wrong.
pub fn assemble(key: &PrivateKey, leaf: &Leaf) -> Result<SecretText, BundleError> {
    if key.public().fingerprint() != leaf.facts().key_fingerprint {
        return Err(BundleError::Mismatch("the key is not the leaf's"));
    }
    join(Some(key), leaf.der(), &[leaf.issuing().to_vec()])
}

/// Puts the bundle of a leaf together whose key is on the target.
pub fn without_key(leaf: &Leaf) -> Result<SecretText, BundleError> {
    join(None, leaf.der(), &[leaf.issuing().to_vec()])
}

/// The parts as one text, if a parameter takes it.
pub(crate) fn join(key: Option<&PrivateKey>, leaf: &[u8], above: &[Vec<u8>]) -> Result<SecretText, BundleError> {
    let key = key.map(PrivateKey::to_pem);
    let public: Vec<_> = std::iter::once(leaf)
        .chain(above.iter().map(Vec::as_slice))
        .map(|der| pem::encode(pem::CERTIFICATE, der))
        .collect();
    let parts: Vec<&str> = key.iter().chain(&public).map(|part| part.as_str()).collect();
    let bundle = SecretText::join(&parts);
    let bytes = bundle.expose().len();
    if bytes > ADVANCED_TIER {
        return Err(BundleError::TooLong { bytes });
    }
    if bundle.expose().contains("{{") {
        return Err(BundleError::Braces);
    }
    Ok(bundle)
}

/// What stands in the leaf of a bundle whose parts belong together.
pub fn inspect(bundle: &SecretText) -> Result<Facts, BundleError> {
    let blocks = pem::decode(bundle.expose())?;
    let [key, leaf, issuing] = blocks.as_slice() else {
        return Err(BadPem::Labels { expected: "a private key and two certificates" }.into());
    };
    if key.label != pem::PRIVATE_KEY || leaf.label != pem::CERTIFICATE || issuing.label != pem::CERTIFICATE {
        return Err(BadPem::Labels { expected: "a private key and two certificates" }.into());
    }
    let key = PrivateKey::from_pkcs8(&key.der)?;
    let facts = inspect::facts(&leaf.der)?;
    if facts.key_fingerprint != key.public().fingerprint() {
        return Err(BundleError::Mismatch("the key is not the leaf's"));
    }
    let above = inspect::parse(&issuing.der)?;
    if inspect::parse(&leaf.der)?.verify_signature(Some(above.public_key())).is_err() {
        return Err(BundleError::Mismatch("the issuing certificate did not sign the leaf"));
    }
    Ok(facts)
}
