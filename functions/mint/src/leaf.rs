//! One generation: made and stored, or found. How it is stored is `espalier_aws::parameters`' business.

use espalier_aws::kms::KmsError;
use espalier_aws::parameters::leaves::{Leaves, Place};
use espalier_aws::specs::Specs;
use espalier_domain::failure::{Failure as _, chain};
use espalier_domain::id::leaf_parameter;
use espalier_domain::record::{GenerationRecord, SpecMark};
use espalier_domain::spec::{AllowedDomains, Manage, Spec};
use espalier_domain::work::{MintItem, WorkResult};
use espalier_edge::EdgeError;
use espalier_pki::authority::Authority;
use espalier_pki::bundle;
use espalier_pki::issue::{self, IssueError, Leaf, Signer};
use espalier_pki::key::{PrivateKey, SecretText};
use espalier_pki::lint::Policy;
use espalier_pki::profile::{LeafRequest, Purpose, Serial};
use time::{Duration, OffsetDateTime};

use crate::authority::{Authorities, Stop, unusable};

/// What a mint works with.
#[derive(Debug)]
pub(crate) struct Minter {
    pub(crate) specs: Specs,
    pub(crate) allowed: AllowedDomains,
    pub(crate) authorities: Authorities,
    pub(crate) leaves: Leaves,
}

impl Minter {
    /// Makes the item's generation unless it is there.
    pub(crate) async fn mint(&self, item: &MintItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        let record = match self.leaves.place(&item.stack, &item.scope, item.generation).await? {
            Place::Taken(record) => *record,
            Place::Next(_) => match self.make(item, now).await {
                Ok(record) => record,
                Err(Stop::Blocked(block)) => return Ok(WorkResult::Blocked { block }),
                Err(Stop::Failed(error)) => return Err(error),
            },
        };
        Ok(WorkResult::Minted {
            stack: item.stack.clone(),
            scope: item.scope.clone(),
            generation: item.generation,
            serial: record.serial,
        })
    }

    async fn make(&self, item: &MintItem, now: OffsetDateTime) -> Result<GenerationRecord, Stop> {
        let (spec, mark) = self.spec(item).await?;
        let authority = self.authorities.issuing().await?;
        let (leaf, bundle) = sign(&spec, &self.allowed, &authority, now).await?;
        let record = record(item, &leaf, &authority, mark, now);
        let record = self.leaves.store(&item.stack, record, &bundle, now).await?;
        tracing::info!(
            stack = %item.stack, generation = item.generation.0, serial = record.serial, because = item.because,
            "generation minted"
        );
        Ok(record)
    }

    async fn spec(&self, item: &MintItem) -> Result<(Spec, SpecMark), EdgeError> {
        let (spec, mark) = self.specs.needed(&item.stack, &self.allowed).await?;
        if spec.manage == Manage::Nothing {
            return Err(EdgeError::refused(format!("`manage` of {} is `nothing`: no leaf is minted", item.stack)));
        }
        if spec.certificate.source().is_some() {
            let text = format!("`certificate.issuer` of {} is `acm`: no leaf is minted", item.stack);
            return Err(EdgeError::refused(text));
        }
        Ok((spec, mark))
    }
}

async fn sign(
    spec: &Spec,
    allowed: &AllowedDomains,
    authority: &Authority<impl Signer>,
    now: OffsetDateTime,
) -> Result<(Leaf, SecretText), Stop> {
    let broken = |error: &dyn std::error::Error| EdgeError::broken(chain(error));
    let wanted = &spec.certificate;
    let key = PrivateKey::generate(wanted.key_type).map_err(|error| broken(&error))?;
    let request = LeafRequest {
        purpose: Purpose::Server,
        dns_names: wanted.dns_names.clone(),
        now,
        validity: Duration::hours(i64::from(wanted.validity_hours)),
        serial: Serial::random().map_err(|error| broken(&error))?,
    };
    let policy = Policy {
        domains: allowed.clone(),
        names: wanted.dns_names.clone(),
        key_types: vec![wanted.key_type],
        longest: request.validity,
    };
    let leaf = issue::leaf(authority.signer(), authority.issuing_der(), key.public(), &request, &policy)
        .await
        .map_err(|error| unsigned(&error))?;
    if let Some(cut) = leaf.shortened() {
        let by_hours = cut.whole_hours();
        tracing::warn!(stack = %spec.stack, by_hours, "the leaf lives shorter: its issuer ends before it would have");
    }
    let bundle = bundle::assemble(&key, &leaf).map_err(|error| EdgeError::refused(chain(&error)))?;
    Ok((leaf, bundle))
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

fn record(
    item: &MintItem,
    leaf: &Leaf,
    authority: &Authority<impl Signer>,
    spec: SpecMark,
    now: OffsetDateTime,
) -> GenerationRecord {
    let facts = leaf.facts();
    GenerationRecord {
        scope: item.scope.clone(),
        generation: item.generation,
        parameter: leaf_parameter(&item.stack, &item.scope, item.generation),
        serial: facts.serial.clone(),
        fingerprint: facts.fingerprint.clone(),
        dns_names: facts.dns_names.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        minted_at: now,
        authority: authority.id().to_owned(),
        follows: item.follows.clone(),
        export: None,
        spec: Some(spec),
        key_type: facts.key_type,
        because: item.because.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::id::{Generation, Scope, StackName};
    use espalier_domain::spec::KeyType;

    fn item(generation: u32) -> MintItem {
        MintItem {
            stack: StackName::parse("payments").unwrap(),
            scope: Scope::shared(),
            generation: Generation(generation),
            follows: None,
            because: "missing".into(),
        }
    }

    #[tokio::test]
    async fn a_record_is_the_leafs_public_side() {
        let now = OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap();
        let serials = [Serial::random().unwrap(), Serial::random().unwrap()];
        let authority = Authority::ceremony(KeyType::EcPrime256v1, &["example.com"], now, serials).await.unwrap();
        let key = PrivateKey::generate(KeyType::EcPrime256v1).unwrap();
        let request = LeafRequest {
            purpose: Purpose::Server,
            dns_names: vec![espalier_domain::id::HostName::parse("pay.example.com").unwrap()],
            now,
            validity: Duration::hours(168),
            serial: Serial::random().unwrap(),
        };
        let policy = Policy {
            domains: AllowedDomains::parse("example.com").unwrap(),
            names: request.dns_names.clone(),
            key_types: vec![KeyType::EcPrime256v1],
            longest: request.validity,
        };
        let leaf =
            issue::leaf(authority.signer(), authority.issuing_der(), key.public(), &request, &policy).await.unwrap();
        let spec = SpecMark { version: 3, digest: "5a".repeat(32) };
        let record = record(&item(1), &leaf, &authority, spec.clone(), now);
        assert_eq!((record.spec, record.key_type), (Some(spec), Some(KeyType::EcPrime256v1)));
        assert_eq!(record.parameter, "/espalier-leaf/payments/shared/1");
        assert_eq!((record.serial, record.dns_names), (request.serial.text(), vec!["pay.example.com".to_owned()]));
        let bundle = bundle::assemble(&key, &leaf).unwrap();
        assert_eq!(record.fingerprint, bundle::inspect(&bundle).unwrap().fingerprint);
    }
}
