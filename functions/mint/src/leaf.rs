//! One generation, or targets' own leaves of one: made and stored, or found. How they are stored is `espalier_aws::parameters`'
//! business.

use espalier_aws::parameters::BETWEEN_WRITES;
use espalier_aws::parameters::leaves::{Leaves, Place, StoreError};
use espalier_aws::specs::Specs;
use espalier_domain::id::{HostName, Scope, leaf_parameter};
use espalier_domain::plan::{Block, BlockCode};
use espalier_domain::record::{GenerationRecord, LeafRecord, SpecMark};
use espalier_domain::spec::{AllowedDomains, Custody, Manage, Sharing, Spec};
use espalier_domain::work::{MintItem, PAGE, WorkResult};
use espalier_edge::EdgeError;
use espalier_pki::authority::Authority;
use espalier_pki::issue::{Leaf, Signer};
use time::OffsetDateTime;

use crate::authority::{Authorities, Stop};
use crate::request::Requests;
use crate::signing::{Terms, sign, sign_theirs};

/// What a mint works with.
#[derive(Debug)]
pub(crate) struct Minter {
    pub(crate) specs: Specs,
    pub(crate) allowed: AllowedDomains,
    pub(crate) authorities: Authorities,
    pub(crate) leaves: Leaves,
    pub(crate) requests: Requests,
}

impl Minter {
    /// Makes the item's generation unless it is there.
    pub(crate) async fn mint(&self, item: &MintItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        check(item)?;
        let known = match self.leaves.place(&item.stack, &item.scope, item.generation).await? {
            Place::Taken(record) => Some(*record),
            Place::Next(_) => None,
        };
        let made = match (known, item.scope.is_each()) {
            (Some(record), false) => Ok(record.serial),
            (None, false) => self.make(item, now).await,
            // They have a serial each, and no common one.
            (known, true) => self.make_own(item, known, now).await.map(|()| String::new()),
        };
        match made {
            Ok(serial) => Ok(WorkResult::Minted {
                stack: item.stack.clone(),
                scope: item.scope.clone(),
                generation: item.generation,
                serial,
            }),
            Err(Stop::Blocked(block)) => Ok(WorkResult::Blocked { block }),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// The one leaf of a generation that is shared.
    async fn make(&self, item: &MintItem, now: OffsetDateTime) -> Result<String, Stop> {
        let (spec, mark) = self.spec(item).await?;
        let authority = self.authorities.issuing().await?;
        let (leaf, bundle) = sign(&spec, &self.allowed, &authority, Terms::of(&spec, now)).await?;
        let record = record(item, &leaf, &authority, Asked::by(&spec, mark), now);
        let record = self.leaves.store(&item.stack, record, &bundle, now).await.map_err(unstored)?;
        tracing::info!(
            stack = %item.stack, generation = item.generation.0, serial = record.serial, because = item.because,
            "generation minted"
        );
        self.leaves.tidy(&item.stack, now).await;
        Ok(record.serial)
    }

    /// The leaves that are asked for of a generation in which each target has its own. Whoever comes first settles what they have in
    /// common; whoever comes later, perhaps in weeks, signs for the same dates.
    async fn make_own(
        &self,
        item: &MintItem,
        generation: Option<GenerationRecord>,
        now: OffsetDateTime,
    ) -> Result<(), Stop> {
        let mut missing = Vec::new();
        for scope in item.nodes.iter().map(Scope::of) {
            if self.leaves.ledger.leaf(&item.stack, &scope, item.generation).await?.is_none() {
                missing.push(scope);
            }
        }
        if generation.is_some() && missing.is_empty() {
            return Ok(());
        }
        let (spec, mark) = self.spec(item).await?;
        let authority = self.authorities.issuing().await?;
        let generation = match generation {
            // Nobody is ever given another one than the newest, and what is stored now would lie there for good.
            Some(_) if self.leaves.ledger.generation(&item.stack, item.generation.next()).await?.is_some() => {
                let text = format!("generation {} of {} is not the newest any more", item.generation, item.stack);
                return Err(EdgeError::conflict(text).into());
            }
            Some(generation) => generation,
            None => self.open(item, &spec, mark, &authority, now).await?,
        };
        takes_more(&generation, &spec, authority.id(), now)?;
        let terms = Terms::in_common(&generation, &spec);
        let keys = match generation.custody {
            Custody::ParameterStore => missing.into_iter().map(|scope| (scope, None)).collect(),
            Custody::Target => self.requests.accepted(item, &missing, terms.key_type, now).await?,
        };
        let mut failed = None;
        for (at, (scope, theirs)) in keys.into_iter().enumerate() {
            if at > 0 {
                tokio::time::sleep(BETWEEN_WRITES).await;
            }
            let (leaf, bundle) = match theirs {
                None => sign(&spec, &self.allowed, &authority, terms).await?,
                Some(theirs) => sign_theirs(&spec, &self.allowed, &authority, terms, &theirs).await?,
            };
            let own = own(&generation, scope, &leaf, now);
            match self.leaves.store(&item.stack, own, &bundle, now).await {
                Ok(own) => tracing::info!(
                    stack = %item.stack, generation = item.generation.0, node = %own.scope, serial = own.serial,
                    because = item.because, "leaf minted"
                ),
                // What is wrong with one target's parameter keeps no other from its leaf.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), |error| Err(unstored(error)))
    }

    /// Begins a generation in which each target has its own leaf. One is signed and thrown away: a generation of which nothing can
    /// be signed is not written down.
    async fn open(
        &self,
        item: &MintItem,
        spec: &Spec,
        mark: SpecMark,
        authority: &Authority<impl Signer>,
        now: OffsetDateTime,
    ) -> Result<GenerationRecord, Stop> {
        let (leaf, _) = sign(spec, &self.allowed, authority, Terms::of(spec, now)).await?;
        let in_common = GenerationRecord {
            serial: String::new(),
            fingerprint: String::new(),
            ..record(item, &leaf, authority, Asked::by(spec, mark), now)
        };
        let generation = self.leaves.open(&item.stack, &in_common).await?;
        tracing::info!(
            stack = %item.stack, generation = item.generation.0, because = item.because,
            "generation begun, of one leaf for each target"
        );
        self.leaves.tidy(&item.stack, now).await;
        Ok(generation)
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
        if (spec.certificate.scope == Sharing::Target) != item.scope.is_each() {
            let text = format!("`certificate.scope` of {} was changed since this was planned", item.stack);
            return Err(EdgeError::conflict(text));
        }
        Ok((spec, mark))
    }
}

/// Whether the item is one that can be done in one go.
fn check(item: &MintItem) -> Result<(), EdgeError> {
    let is_known = item.scope == Scope::shared() && item.nodes.is_empty() || item.scope.is_each();
    if !is_known {
        return Err(EdgeError::invalid("`scope`: `shared`, or `target` with `nodes`, is minted"));
    }
    if item.nodes.len() > PAGE || item.nodes.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(EdgeError::invalid(format!("`nodes`: up to {PAGE} go in one item, sorted, each once")));
    }
    if !item.requests.is_empty() && item.requests.len() != item.nodes.len() {
        return Err(EdgeError::invalid("`requests`: one for each of `nodes`, or none"));
    }
    Ok(())
}

/// Whether the generation may have a further leaf: one that differs in nothing but its key.
fn takes_more(
    generation: &GenerationRecord,
    spec: &Spec,
    authority: &str,
    now: OffsetDateTime,
) -> Result<(), EdgeError> {
    let mut names: Vec<&str> = spec.certificate.dns_names.iter().map(HostName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let (number, stack) = (generation.generation, &spec.stack);
    if generation.not_after <= now {
        return Err(EdgeError::conflict(format!("generation {number} of {stack} has ended")));
    }
    if generation.custody != spec.certificate.custody() {
        return Err(EdgeError::conflict(format!(
            "`certificate.custody` of {stack} is not that of generation {number}"
        )));
    }
    if generation.authority != authority {
        let text =
            format!("generation {number} of {stack} was signed by {}, and {authority} signs now", generation.authority);
        return Err(EdgeError::conflict(text));
    }
    if !generation.dns_names.iter().eq(&names) {
        return Err(EdgeError::conflict(format!("generation {number} of {stack} is for other names than the spec's")));
    }
    Ok(())
}

/// What a generation's record says of the spec that asked for it.
struct Asked {
    mark: SpecMark,
    custody: Custody,
}

impl Asked {
    fn by(spec: &Spec, mark: SpecMark) -> Self {
        Self { mark, custody: spec.certificate.custody() }
    }
}

/// Why a leaf was not stored. Who wrote what is under its name, and whether a host was meant to take it for ours, is a person's to find
/// out: it is never written over, and trying again changes nothing.
fn unstored(error: StoreError) -> Stop {
    match &error {
        StoreError::Foreign(parameter) | StoreError::Unproposed(parameter) => {
            let because = format!(
                "{error}: find out who wrote it, then `aws ssm delete-parameter --name {parameter}`, and the leaf is made"
            );
            Stop::Blocked(Block { code: BlockCode::Foreign, because })
        }
        StoreError::Aws(_)
        | StoreError::Ledger(_)
        | StoreError::Gap { .. }
        | StoreError::OtherScope { .. }
        | StoreError::Differ { .. } => Stop::Failed(error.into()),
    }
}

fn record(
    item: &MintItem,
    leaf: &Leaf,
    authority: &Authority<impl Signer>,
    asked: Asked,
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
        spec: Some(asked.mark),
        key_type: facts.key_type,
        custody: asked.custody,
        because: item.because.clone(),
    }
}

fn own(generation: &GenerationRecord, scope: Scope, leaf: &Leaf, now: OffsetDateTime) -> LeafRecord {
    let facts = leaf.facts();
    LeafRecord {
        scope,
        generation: generation.generation,
        serial: facts.serial.clone(),
        fingerprint: facts.fingerprint.clone(),
        minted_at: now,
        not_after: facts.not_after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::id::{Generation, StackName};
    use espalier_domain::spec::KeyType;
    use espalier_pki::key::PrivateKey;
    use espalier_pki::lint::Policy;
    use espalier_pki::profile::{LeafRequest, Purpose, Serial};
    use espalier_pki::{bundle, issue};
    use time::Duration;

    fn item(generation: u32) -> MintItem {
        MintItem {
            stack: StackName::parse("payments").unwrap(),
            scope: Scope::shared(),
            generation: Generation(generation),
            nodes: Vec::new(),
            requests: Vec::new(),
            follows: None,
            because: "missing".into(),
        }
    }

    #[test]
    fn what_is_not_ours_under_a_leafs_name_needs_a_person_and_is_named() {
        let parameter = "/espalier-leaf/payments/i-0000000000000000a/2";
        for error in [StoreError::Foreign(parameter.into()), StoreError::Unproposed(parameter.into())] {
            let Stop::Blocked(block) = unstored(error) else { panic!("it would be tried again for ever") };
            assert_eq!(block.code, BlockCode::Foreign);
            assert!(block.because.contains(&format!("delete-parameter --name {parameter}`")), "{block:?}");
        }
        let gap = StoreError::Gap { stack: item(4).stack, next: Generation(2), asked: Generation(4) };
        assert!(matches!(unstored(gap), Stop::Failed(_)), "somebody else was quicker: the next look knows");
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
        let asked = Asked { mark: spec.clone(), custody: Custody::ParameterStore };
        let record = record(&item(1), &leaf, &authority, asked, now);
        assert_eq!((record.spec, record.key_type), (Some(spec), Some(KeyType::EcPrime256v1)));
        assert_eq!(record.parameter, "/espalier-leaf/payments/shared/1");
        assert_eq!((record.serial, record.dns_names), (request.serial.text(), vec!["pay.example.com".to_owned()]));
        let bundle = bundle::assemble(&key, &leaf).unwrap();
        assert_eq!(record.fingerprint, bundle::inspect(&bundle).unwrap().fingerprint);
    }
}
