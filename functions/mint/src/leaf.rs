//! One generation: made, stored, appended; or found, and finished if another mint was killed half-way.
//!
//! The order of the three writes and why it is safe under crashes and concurrency is in `espalier_aws::parameters`.

use espalier_aws::ledger::Ledger;
use espalier_aws::parameters::{LeafStored, Parameters};
use espalier_aws::specs::Specs;
use espalier_domain::failure::chain;
use espalier_domain::id::{Generation, leaf_parameter};
use espalier_domain::record::GenerationRecord;
use espalier_domain::spec::{self, AllowedDomains, Manage, Spec};
use espalier_domain::work::{MintItem, WorkResult};
use espalier_edge::EdgeError;
use espalier_pki::authority::Authority;
use espalier_pki::bundle;
use espalier_pki::issue::{self, IssueError, Leaf};
use espalier_pki::key::{PrivateKey, SecretText};
use espalier_pki::lint::Policy;
use espalier_pki::profile::{LeafRequest, Purpose, Serial};
use time::{Duration, OffsetDateTime};

use crate::authority::Authorities;

/// What a mint works with.
#[derive(Debug)]
pub(crate) struct Minter {
    pub(crate) specs: Specs,
    pub(crate) allowed: AllowedDomains,
    pub(crate) authorities: Authorities,
    pub(crate) ledger: Ledger,
    pub(crate) parameters: Parameters,
    /// The KMS key that seals leaves.
    pub(crate) leaf_key: String,
}

impl Minter {
    /// Makes the item's generation unless it is there.
    pub(crate) async fn mint(&self, item: &MintItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        let generations = self.ledger.generations(&item.stack).await?;
        let record = match place(item, &generations)? {
            Place::Taken(record) => record.clone(),
            Place::Next => self.make(item, now).await?,
        };
        Ok(WorkResult::Minted {
            stack: item.stack.clone(),
            scope: item.scope.clone(),
            generation: item.generation,
            serial: record.serial,
        })
    }

    async fn make(&self, item: &MintItem, now: OffsetDateTime) -> Result<GenerationRecord, EdgeError> {
        let spec = self.spec(item).await?;
        let authority = self.authorities.issuing(&self.allowed, now).await?;
        let (leaf, bundle) = sign(&spec, &self.allowed, &authority, now).await?;
        let record = record(item, &leaf, &authority, now);
        self.ledger.propose(&item.stack, &record, now).await?;
        let stored =
            self.parameters.store_leaf(&record.parameter, &bundle, &record.fingerprint, &self.leaf_key).await?;
        let record = match stored {
            LeafStored::Ours => record,
            LeafStored::Taken(fingerprint) => self.other(item, &fingerprint).await?,
            LeafStored::Foreign => {
                return Err(EdgeError::refused(format!("the parameter {} is not one of ours", record.parameter)));
            }
        };
        let appended = self.ledger.append(&item.stack, &record).await?;
        if appended.fingerprint != record.fingerprint {
            // Nobody but us writes either, and both in this order: a person has.
            return Err(EdgeError::broken(format!(
                "the ledger says {} and the parameter {} holds {}",
                appended.fingerprint, record.parameter, record.fingerprint
            )));
        }
        tracing::info!(
            stack = %item.stack, generation = item.generation.0, serial = record.serial, because = item.because,
            "generation minted"
        );
        Ok(appended)
    }

    async fn spec(&self, item: &MintItem) -> Result<Spec, EdgeError> {
        let text = self
            .specs
            .get(&item.stack)
            .await?
            .ok_or_else(|| EdgeError::refused(format!("the stack {} has no spec", item.stack)))?;
        let spec = spec::parse(&text, &self.allowed)
            .map_err(|errors| EdgeError::refused(format!("the spec of {} is not acceptable: {errors}", item.stack)))?;
        if spec.manage == Manage::Nothing {
            return Err(EdgeError::refused(format!("`manage` of {} is `nothing`: no leaf is minted", item.stack)));
        }
        Ok(spec)
    }

    /// The record of the leaf another mint stored under our generation's name.
    async fn other(&self, item: &MintItem, fingerprint: &str) -> Result<GenerationRecord, EdgeError> {
        let proposal = self.ledger.proposal(&item.stack, &item.scope, item.generation, fingerprint).await?;
        proposal.ok_or_else(|| {
            let parameter = leaf_parameter(&item.stack, &item.scope, item.generation);
            EdgeError::refused(format!("the parameter {parameter} holds a leaf that was never proposed"))
        })
    }
}

/// Where a generation stands.
#[derive(Debug, PartialEq)]
enum Place<'a> {
    /// It is in the ledger.
    Taken(&'a GenerationRecord),
    /// It follows the newest one.
    Next,
}

/// Finds the item's place. A number that leaves a gap comes from an old look or from nowhere.
fn place<'a>(item: &MintItem, generations: &'a [GenerationRecord]) -> Result<Place<'a>, EdgeError> {
    let mut ours = generations.iter().filter(|record| record.scope == item.scope);
    if let Some(record) = ours.clone().find(|record| record.generation == item.generation) {
        return Ok(Place::Taken(record));
    }
    let next = ours.next_back().map_or(Generation::FIRST, |record| record.generation.next());
    if item.generation == next {
        Ok(Place::Next)
    } else {
        Err(EdgeError::conflict(format!("the next generation of {} is {next}, not {}", item.stack, item.generation)))
    }
}

async fn sign(
    spec: &Spec,
    allowed: &AllowedDomains,
    authority: &Authority,
    now: OffsetDateTime,
) -> Result<(Leaf, SecretText), EdgeError> {
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
        .map_err(|error| match &error {
            IssueError::Profile(_) | IssueError::Refused(_) => EdgeError::refused(chain(&error)),
            IssueError::Encode(_)
            | IssueError::Sign(_)
            | IssueError::Read(_)
            | IssueError::Signature
            | IssueError::Other => broken(&error),
        })?;
    if let Some(cut) = leaf.shortened() {
        let by_hours = cut.whole_hours();
        tracing::warn!(stack = %spec.stack, by_hours, "the leaf lives shorter: its issuer ends before it would have");
    }
    let bundle = bundle::assemble(&key, &leaf).map_err(|error| EdgeError::refused(chain(&error)))?;
    Ok((leaf, bundle))
}

fn record(item: &MintItem, leaf: &Leaf, authority: &Authority, now: OffsetDateTime) -> GenerationRecord {
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
        because: item.because.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::failure::Word;
    use espalier_domain::id::{Scope, StackName};
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

    fn known(scope: &str, generation: u32) -> GenerationRecord {
        serde_json::from_value(serde_json::json!({
            "scope": scope, "generation": generation, "parameter": "/espalier-leaf/payments/shared/1", "serial": "0a",
            "fingerprint": "ab".repeat(32), "dnsNames": ["pay.example.com"], "notBefore": "2026-11-21T00:00:00Z",
            "notAfter": "2026-11-28T00:00:00Z", "mintedAt": "2026-11-21T00:00:00Z", "authority": "a", "because": "missing",
        }))
        .unwrap()
    }

    #[test]
    fn only_the_next_generation_is_made() {
        let ledger = [known("i-0000000000000000a", 7), known("shared", 1), known("shared", 2)];
        assert_eq!(place(&item(3), &ledger), Ok(Place::Next));
        assert_eq!(place(&item(2), &ledger), Ok(Place::Taken(&ledger[2])));
        assert_eq!(place(&item(4), &ledger).unwrap_err().word, Word::Conflict);
        assert_eq!(place(&item(1), &[]), Ok(Place::Next));
        assert_eq!(place(&item(2), &[]).unwrap_err().word, Word::Conflict);
        assert_eq!(place(&item(8), &ledger).unwrap_err().word, Word::Conflict);
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
        let record = record(&item(1), &leaf, &authority, now);
        assert_eq!(record.parameter, "/espalier-leaf/payments/shared/1");
        assert_eq!((record.serial, record.dns_names), (request.serial.text(), vec!["pay.example.com".to_owned()]));
        let bundle = bundle::assemble(&key, &leaf).unwrap();
        assert_eq!(record.fingerprint, bundle::inspect(&bundle).unwrap().fingerprint);
    }
}
