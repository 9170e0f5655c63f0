//! A private key encrypted under a passphrase, as ACM exports it: PKCS#8 (RFC 5958) under PBES2 (RFC 8018).
//!
//! PBKDF2 with any of its common digests and AES in CBC mode; nothing weaker is read. Decryption is AWS-LC's, the few
//! DER structures around it are read here.

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// Rounds of PBKDF2 beyond which a key is not opened: somebody would keep a processor busy.
const ROUNDS: u64 = 10_000_000;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;

// RFC 8018, appendix A: pkcs-5 13 and 12; RFC 8018 appendix B.1.2 and C: digests and AES.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2];
const AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1];

/// Why an encrypted key was not opened. Never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSealed {
    /// It is no such structure.
    #[error("not an EncryptedPrivateKeyInfo")]
    Structure,
    /// It is encrypted in a way that is not read here.
    #[error("encrypted otherwise than with PBES2, PBKDF2 and AES in CBC mode")]
    Algorithm,
    /// The passphrase is another one, or the content was changed.
    #[error("the passphrase does not open it")]
    Passphrase,
}

/// The PKCS#8 private key inside.
pub(crate) fn open(der: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, BadSealed> {
    let mut outer = Der(der);
    let mut info = outer.inside(SEQUENCE)?;
    outer.end()?;
    let mut scheme = info.inside(SEQUENCE)?;
    let content = info.take(OCTETS)?;
    info.end()?;
    if scheme.take(OID)? != PBES2 {
        return Err(BadSealed::Algorithm);
    }
    let mut parameters = scheme.inside(SEQUENCE)?;
    let derivation = derivation(parameters.inside(SEQUENCE)?)?;
    let mut encryption = parameters.inside(SEQUENCE)?;
    let cipher = match encryption.take(OID)?.strip_prefix(AES) {
        Some([2]) => (&AES_128, 16),
        Some([22]) => (&AES_192, 24),
        Some([42]) => (&AES_256, 32),
        Some(_) | None => return Err(BadSealed::Algorithm),
    };
    let iv: &[u8; 16] = encryption.take(OCTETS)?.try_into().map_err(|_| BadSealed::Structure)?;
    let (algorithm, length) = cipher;
    if derivation.length.is_some_and(|asked| asked != length as u64) {
        return Err(BadSealed::Structure);
    }
    let mut key = Zeroizing::new(vec![0; length]);
    pbkdf2::derive(derivation.digest, derivation.rounds, derivation.salt, passphrase, &mut key);
    let key = UnboundCipherKey::new(algorithm, &key).map_err(|_| BadSealed::Algorithm)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| BadSealed::Algorithm)?;
    let mut plain = Zeroizing::new(content.to_vec());
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let length = key.decrypt(&mut plain, context).map_err(|_| BadSealed::Passphrase)?.len();
    plain.truncate(length);
    Ok(plain)
}

struct Derivation<'a> {
    salt: &'a [u8],
    rounds: NonZeroU32,
    length: Option<u64>,
    digest: pbkdf2::Algorithm,
}

fn derivation(mut function: Der<'_>) -> Result<Derivation<'_>, BadSealed> {
    if function.take(OID)? != PBKDF2 {
        return Err(BadSealed::Algorithm);
    }
    let mut parameters = function.inside(SEQUENCE)?;
    let salt = parameters.take(OCTETS)?;
    let rounds = number(parameters.take(INTEGER)?)?;
    let rounds =
        u32::try_from(rounds).ok().and_then(NonZeroU32::new).filter(|rounds| u64::from(rounds.get()) <= ROUNDS);
    let length = parameters.is_next(INTEGER).then(|| parameters.take(INTEGER).and_then(number)).transpose()?;
    // Left out, it is HMAC with SHA-1 (RFC 8018, appendix A.2).
    let digest = match parameters.is_next(SEQUENCE) {
        false => pbkdf2::PBKDF2_HMAC_SHA1,
        true => match parameters.inside(SEQUENCE)?.take(OID)?.strip_prefix(DIGEST) {
            Some([7]) => pbkdf2::PBKDF2_HMAC_SHA1,
            Some([9]) => pbkdf2::PBKDF2_HMAC_SHA256,
            Some([10]) => pbkdf2::PBKDF2_HMAC_SHA384,
            Some([11]) => pbkdf2::PBKDF2_HMAC_SHA512,
            Some(_) | None => return Err(BadSealed::Algorithm),
        },
    };
    Ok(Derivation { salt, rounds: rounds.ok_or(BadSealed::Structure)?, length, digest })
}

fn number(octets: &[u8]) -> Result<u64, BadSealed> {
    if octets.is_empty() || octets.len() > 8 || octets[0] & 0x80 != 0 {
        return Err(BadSealed::Structure);
    }
    Ok(octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)))
}

/// DER that is read from its beginning: a tag, a length of up to four octets, the content.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn is_next(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    fn take(&mut self, tag: u8) -> Result<&'a [u8], BadSealed> {
        let [first, length, rest @ ..] = self.0 else { return Err(BadSealed::Structure) };
        if *first != tag {
            return Err(BadSealed::Structure);
        }
        let (length, rest) = match *length {
            short @ 0..=0x7f => (usize::from(short), rest),
            long @ 0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(long & 0x7f)).ok_or(BadSealed::Structure)?;
                (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
            }
            _ => return Err(BadSealed::Structure),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(BadSealed::Structure)?;
        self.0 = rest;
        Ok(content)
    }

    fn inside(&mut self, tag: u8) -> Result<Self, BadSealed> {
        self.take(tag).map(Self)
    }

    fn end(&self) -> Result<(), BadSealed> {
        if self.0.is_empty() { Ok(()) } else { Err(BadSealed::Structure) }
    }
}
