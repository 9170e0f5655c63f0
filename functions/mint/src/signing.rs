//! A leaf signed: for how long, for which key, and why not.

use espalier_aws::kms::KmsError;
use espalier_domain::failure::{Failure as _, chain};
use espalier_domain::record::GenerationRecord;
use espalier_domain::spec::{AllowedDomains, KeyType, Spec};
use espalier_edge::EdgeError;
use espalier_pki::authority::Authority;
use espalier_pki::bundle;
use espalier_pki::issue::{self, IssueError, Leaf, Signer};
use espalier_pki::key::{PrivateKey, PublicKey, SecretText};
use espalier_pki::lint::Policy;
use espalier_pki::profile::{LeafRequest, Purpose, Serial};
use time::{Duration, OffsetDateTime};

use crate::authority::{Stop, unusable};

/// What is settled for all leaves of a generation when it begins: a spec that is changed meanwhile counts from the next one on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// As of when it is made.
    now: OffsetDateTime,
    validity: Duration,
    /// The kind of key.
    pub(crate) key_type: KeyType,
}

impl Terms {
    /// As the spec says, from now on.
    pub(crate) fn of(spec: &Spec, now: OffsetDateTime) -> Self {
        let validity = Duration::hours(i64::from(spec.certificate.validity_hours));
        Self { now, validity, key_type: spec.certificate.key_type }
    }

    /// As the others of its generation.
    pub(crate) fn in_common(generation: &GenerationRecord, spec: &Spec) -> Self {
        // Both ends count.
        let validity = generation.not_after - generation.not_before + Duration::SECOND;
        let key_type = generation.key_type.unwrap_or(spec.certificate.key_type);
        Self { now: generation.minted_at, validity, key_type }
    }
}

/// A leaf for a key that is made here, and what the target fetches: both.
pub(crate) async fn sign(
    spec: &Spec,
    allowed: &AllowedDomains,
    authority: &Authority<impl Signer>,
    terms: Terms,
) -> Result<(Leaf, SecretText), Stop> {
    let key = PrivateKey::generate(terms.key_type).map_err(|error| EdgeError::broken(chain(&error)))?;
    let leaf = certify(spec, allowed, authority, terms, key.public()).await?;
    let bundle = bundle::assemble(&key, &leaf).map_err(|error| EdgeError::refused(chain(&error)))?;
    Ok((leaf, bundle))
}

/// A leaf for a key that was made on its target, and what the target fetches.
pub(crate) async fn sign_theirs(
    spec: &Spec,
    allowed: &AllowedDomains,
    authority: &Authority<impl Signer>,
    terms: Terms,
    theirs: &PublicKey,
) -> Result<(Leaf, SecretText), Stop> {
    let leaf = certify(spec, allowed, authority, terms, theirs).await?;
    let bundle = bundle::without_key(&leaf).map_err(|error| EdgeError::refused(chain(&error)))?;
    Ok((leaf, bundle))
}

async fn certify(
    spec: &Spec,
    allowed: &AllowedDomains,
    authority: &Authority<impl Signer>,
    terms: Terms,
    subject: &PublicKey,
) -> Result<Leaf, Stop> {
    let wanted = &spec.certificate;
    let request = LeafRequest {
        purpose: Purpose::Server,
        dns_names: wanted.dns_names.clone(),
        now: terms.now,
        validity: terms.validity,
        serial: Serial::random().map_err(|error| EdgeError::broken(chain(&error)))?,
    };
    let policy = Policy {
        domains: allowed.clone(),
        names: wanted.dns_names.clone(),
        key_types: vec![terms.key_type],
        longest: request.validity,
    };
    let leaf = issue::leaf(authority.signer(), authority.issuing_der(), subject, &request, &policy)
        .await
        .map_err(|error| unsigned(&error))?;
    if let Some(cut) = leaf.shortened() {
        let by_hours = cut.whole_hours();
        tracing::warn!(stack = %spec.stack, by_hours, "the leaf lives shorter: its issuer ends before it would have");
    }
    Ok(leaf)
}

/// Why a leaf was not signed, for whoever has to do something about it.
fn unsigned(error: &IssueError) -> Stop {
    let text = chain(error);
    match error {
        IssueError::Profile(_) | IssueError::Refused(_) => EdgeError::refused(text).into(),
        // What the key in use signs does not verify with the certificate's: they are not a pair.
        IssueError::Signature => unusable(text),
        IssueError::Sign(_) => match KmsError::of(error) {
            Some(key) if key.needs_a_person() => unusable(text),
            Some(key) => Stop::Failed(EdgeError { word: key.word(), text }),
            None => EdgeError::broken(text).into(),
        },
        IssueError::Encode(_) | IssueError::Read(_) | IssueError::Other => EdgeError::broken(text).into(),
    }
}
