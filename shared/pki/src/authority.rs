//! An authority of our own: a root and an issuing certificate, and the key that signs leaves, wherever that is.
//!
//! [`Authority::ceremony`] makes one whose keys are in memory: the root's is thrown away, the issuing one is kept as a
//! secret. [`certificates`] makes the two certificates of one whose keys are elsewhere, which [`Authority::of`] then
//! takes from its record.

use espalier_domain::record::AuthorityRecord;
use espalier_domain::spec::KeyType;
use time::OffsetDateTime;

use crate::inspect::{self, BadCertificate, Facts};
use crate::issue::{self, Above, IssueError, MemorySigner, Signer};
use crate::key::{KeyError, PrivateKey, PublicKey, SecretText};
use crate::lint::{Order, Parties};
use crate::pem::{self, BadPem};
use crate::profile::{self, Serial};

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key could not be made or read.
    #[error("the authority's key")]
    Key(#[from] KeyError),
    /// A certificate could not be issued.
    #[error("issuing the authority's certificates")]
    Issue(#[from] IssueError),
    /// What was stored is not the text it should be.
    #[error("what is stored of the authority is not the PEM it should be")]
    Pem(#[from] BadPem),
    /// One of the certificates cannot be read.
    #[error("a certificate of the authority")]
    Certificate(#[from] BadCertificate),
    /// The parts do not belong together.
    #[error("what is stored of the authority does not fit together: {0}")]
    Mismatch(&'static str),
}

/// An authority: the key that signs leaves, its certificate and the root above it.
pub struct Authority<S = MemorySigner> {
    signer: S,
    issuing: Vec<u8>,
    root: Vec<u8>,
    facts: Facts,
    id: String,
}

impl Authority<MemorySigner> {
    /// Makes a new authority for these domains, with keys of this kind (P-256 or P-384). The root's key signs once and
    /// is dropped before this returns.
    pub async fn ceremony(
        key_type: KeyType,
        domains: &[&str],
        now: OffsetDateTime,
        serials: [Serial; 2],
    ) -> Result<Self, AuthorityError> {
        let key = PrivateKey::generate(key_type)?;
        let root = MemorySigner::new(PrivateKey::generate(key_type)?)?;
        certificates(&root, MemorySigner::new(key)?, domains, now, serials).await
    }

    /// Reads what [`Authority::to_secret`] wrote, and believes nothing of it unchecked.
    pub fn from_secret(secret: &SecretText) -> Result<Self, AuthorityError> {
        let blocks = pem::decode(secret.expose())?;
        match blocks.as_slice() {
            [key, issuing, root]
                if key.label == pem::PRIVATE_KEY
                    && issuing.label == pem::CERTIFICATE
                    && root.label == pem::CERTIFICATE =>
            {
                let signer = MemorySigner::new(PrivateKey::from_pkcs8(&key.der)?)?;
                Self::assemble(signer, issuing.der.to_vec(), root.der.to_vec())
            }
            _ => Err(BadPem::Labels { expected: "a private key and two certificates" }.into()),
        }
    }

    /// The issuing key, its certificate and the root, concatenated PEM.
    pub fn to_secret(&self) -> SecretText {
        let key = self.signer.key().to_pem();
        SecretText::join(&[&key, &self.issuing_pem(), &self.root_pem()])
    }
}

impl<S: Signer> Authority<S> {
    /// The authority of this record, whose issuing key is elsewhere: `signer` makes it from the public half that the
    /// issuing certificate holds. Whether the key is that one shows when it signs: nothing is handed out whose signature
    /// does not verify.
    pub fn of(record: &AuthorityRecord, signer: impl FnOnce(PublicKey) -> S) -> Result<Self, AuthorityError> {
        let issuing = one_certificate(&record.issuing_pem)?;
        let public = PublicKey::from_spki(inspect::parse(&issuing)?.public_key().raw)?;
        let authority = Self::assemble(signer(public), issuing, one_certificate(&record.root_pem)?)?;
        if authority.id != record.authority {
            return Err(AuthorityError::Mismatch("its id is not its root's"));
        }
        Ok(authority)
    }

    fn assemble(signer: S, issuing: Vec<u8>, root: Vec<u8>) -> Result<Self, AuthorityError> {
        let (facts, id) = fitting(&issuing, &root)?;
        if facts.key_fingerprint != signer.public_key().fingerprint() {
            return Err(AuthorityError::Mismatch("the key is not the issuing certificate's"));
        }
        Ok(Self { signer, issuing, root, facts, id })
    }

    /// The first 16 hexadecimal digits of the root's SHA-256.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same with its key in another coat.
    pub fn signing_with<T: Signer>(self, coat: impl FnOnce(S) -> T) -> Authority<T> {
        let Self { signer, issuing, root, facts, id } = self;
        Authority { signer: coat(signer), issuing, root, facts, id }
    }

    /// The key that signs leaves.
    pub fn signer(&self) -> &S {
        &self.signer
    }

    /// The issuing certificate, DER.
    pub fn issuing_der(&self) -> &[u8] {
        &self.issuing
    }

    /// What stands in the issuing certificate.
    pub fn issuing_facts(&self) -> &Facts {
        &self.facts
    }

    /// The issuing certificate, PEM.
    pub fn issuing_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.issuing).to_string()
    }

    /// The root, DER.
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// The root, PEM: what clients and probers trust.
    pub fn root_pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.root).to_string()
    }

    /// The domains it may certify, and whatever is below them.
    pub fn domains(&self) -> &[String] {
        self.facts.permitted_dns.as_deref().unwrap_or_default()
    }

    /// Its public side, for the ledger; `issuing_key` names the key, if it is in AWS KMS.
    pub fn record(&self, issuing_key: Option<String>) -> AuthorityRecord {
        AuthorityRecord {
            authority: self.id.clone(),
            root_pem: self.root_pem(),
            issuing_pem: self.issuing_pem(),
            issuing_key,
            not_after: self.facts.not_after,
            published_at: None,
        }
    }
}

/// Whether an authority's record still is what was founded: two certificates that fit together, and an id that is the root's.
///
/// # Errors
/// What is wrong with it.
pub fn check(record: &AuthorityRecord) -> Result<(), AuthorityError> {
    let (_, id) = fitting(&one_certificate(&record.issuing_pem)?, &one_certificate(&record.root_pem)?)?;
    if id == record.authority { Ok(()) } else { Err(AuthorityError::Mismatch("its id is not its root's")) }
}

/// What stands in an issuing certificate that this root signed, and the root's id.
fn fitting(issuing: &[u8], root: &[u8]) -> Result<(Facts, String), AuthorityError> {
    let (facts, above) = (inspect::facts(issuing)?, inspect::facts(root)?);
    let root_key = inspect::parse(root)?;
    let signed = |der: &[u8]| -> Result<bool, BadCertificate> {
        Ok(inspect::parse(der)?.verify_signature(Some(root_key.public_key())).is_ok())
    };
    let rules = [
        (facts.is_ca && facts.path_length == Some(0), "the issuing certificate may not sign leaves, or too much"),
        (facts.key_usage.contains(&"keyCertSign"), "the issuing certificate may not sign"),
        (
            facts.permitted_dns.as_ref().is_some_and(|dns| !dns.is_empty()),
            "the issuing certificate has no name constraints",
        ),
        (above.is_ca && above.subject == above.issuer, "the root is not a root"),
        (facts.issuer == above.subject && signed(issuing)?, "the root did not sign the issuing certificate"),
        (signed(root)?, "the root did not sign itself"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, what)) => Err(AuthorityError::Mismatch(what)),
        None => Ok((facts, above.fingerprint[..16].to_owned())),
    }
}

fn one_certificate(text: &str) -> Result<Vec<u8>, AuthorityError> {
    match pem::decode(text)?.as_slice() {
        [one] if one.label == pem::CERTIFICATE => Ok(one.der.to_vec()),
        _ => Err(BadPem::Labels { expected: "one certificate" }.into()),
    }
}

/// The root and the issuing certificate of an authority whose keys are elsewhere: two signatures, both by the root's key.
/// Answers the authority with `signer`, which is not asked for any.
pub async fn certificates<S: Signer>(
    root: &impl Signer,
    signer: S,
    domains: &[&str],
    now: OffsetDateTime,
    serials: [Serial; 2],
) -> Result<Authority<S>, AuthorityError> {
    let [root_serial, issuing_serial] = serials;
    let top = root_certificate(root, root_serial, now).await?;
    let issuing = issuing_certificate(root, &top, signer.public_key(), issuing_serial, now, domains).await?;
    Authority::assemble(signer, issuing, top)
}

/// A root, DER, signed by its own key.
pub async fn root_certificate(
    signer: &impl Signer,
    serial: Serial,
    now: OffsetDateTime,
) -> Result<Vec<u8>, IssueError> {
    let key = signer.public_key();
    let params = profile::root(key, serial, now);
    let parties = Parties { subject: key, signer: key, serial, now };
    Ok(issue::sign(&params, &Order::Root, &parties, Above::Itself, signer).await?.0)
}

/// The certificate, DER, with which `subject` signs leaves for these domains, below `root` (DER) whose key signs it.
pub async fn issuing_certificate(
    signer: &impl Signer,
    root: &[u8],
    subject: &PublicKey,
    serial: Serial,
    now: OffsetDateTime,
    domains: &[&str],
) -> Result<Vec<u8>, IssueError> {
    let above = inspect::facts(root)?;
    let params = profile::issuing(subject, serial, now, domains, above.not_after)?;
    let order = Order::Issuing { domains, above: &above };
    let parties = Parties { subject, signer: signer.public_key(), serial, now };
    Ok(issue::sign(&params, &order, &parties, Above::Certificate(root), signer).await?.0)
}
