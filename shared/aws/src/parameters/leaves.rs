//! One leaf, shared or a target's own, stored and appended; or found, and finished if its maker was killed half-way. The order of
//! the three writes and why it is safe under crashes and concurrency is told one level up.

use espalier_domain::failure::{Failure, Word, chain};
use espalier_domain::id::{Generation, Scope, StackName, leaf_parameter};
use espalier_domain::record::{DiscardRecord, GenerationRecord};
use espalier_domain::rotation::discard::discardable;
use espalier_pki::key::SecretText;
use time::OffsetDateTime;

use super::{LeafStored, Parameters};
use crate::error::AwsError;
use crate::ledger::{Ledger, LedgerError, Minted};

/// Where generations are kept.
#[derive(Debug, Clone)]
pub struct Leaves {
    /// Their public side.
    pub ledger: Ledger,
    /// Their bundles.
    pub parameters: Parameters,
    /// The KMS key that seals them.
    pub key_id: String,
}

/// After so many bundles no further generation's are deleted in one go: that takes a third of a second for ten.
const MANY: usize = 500;

/// Where a generation stands.
#[derive(Debug, PartialEq)]
pub enum Place {
    /// It is in the ledger.
    Taken(Box<GenerationRecord>),
    /// It follows the newest one, if there is one.
    Next(Option<Box<GenerationRecord>>),
}

/// Why a generation has no place, or was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Parameter Store did not do what it was asked.
    #[error("storing the leaf")]
    Aws(#[from] AwsError),
    /// The ledger did not.
    #[error("writing the leaf down")]
    Ledger(#[from] LedgerError),
    /// The number leaves a gap: it comes from an old look or from nowhere.
    #[error("the next generation of {stack} is {next}, not {asked}")]
    Gap {
        /// The stack.
        stack: StackName,
        /// The number that would be next.
        next: Generation,
        /// The number that was asked for.
        asked: Generation,
    },
    /// The number was given to another kind of generation: the spec was changed meanwhile.
    #[error("generation {generation} of {stack} is of scope {is}, not {asked}")]
    OtherScope {
        /// The stack.
        stack: StackName,
        /// The generation.
        generation: Generation,
        /// What it is.
        is: Scope,
        /// What was asked for.
        asked: Scope,
    },
    /// Something that we have not made is under the leaf's name.
    #[error("the parameter {0} is not one of ours")]
    Foreign(String),
    /// A leaf of ours is under the name, and the ledger never heard of it.
    #[error("the parameter {0} holds a leaf that was never proposed")]
    Unproposed(String),
    /// Nobody but us writes either, and both in one order: a person has.
    #[error("the ledger says {ledger} and the parameter {parameter} holds {stored}")]
    Differ {
        /// The fingerprint in the ledger.
        ledger: String,
        /// The parameter.
        parameter: String,
        /// The fingerprint of what it holds.
        stored: String,
    },
}

impl Failure for StoreError {
    fn word(&self) -> Word {
        match self {
            Self::Aws(error) => error.word(),
            Self::Ledger(error) => error.word(),
            Self::Gap { .. } | Self::OtherScope { .. } => Word::Conflict,
            Self::Foreign(_) | Self::Unproposed(_) => Word::Refused,
            Self::Differ { .. } => Word::Broken,
        }
    }
}

impl Leaves {
    /// Finds a generation's place.
    ///
    /// # Errors
    /// The ledger's, or that the number leaves a gap.
    pub async fn place(&self, stack: &StackName, scope: &Scope, asked: Generation) -> Result<Place, StoreError> {
        place(stack, scope, asked, self.ledger.generations(stack).await?)
    }

    /// Proposes the record, stores its bundle and appends it. Answers the one that is there now: this one, or the one that
    /// somebody else stored first.
    ///
    /// # Errors
    /// Parameter Store's and the ledger's, or what they hold cannot come from us.
    pub async fn store<R: Minted>(
        &self,
        stack: &StackName,
        record: R,
        bundle: &SecretText,
        now: OffsetDateTime,
    ) -> Result<R, StoreError> {
        self.ledger.propose(stack, &record, now).await?;
        let (scope, generation, fingerprint) = record.named();
        let parameter = leaf_parameter(stack, scope, generation);
        let stored = self.parameters.store_leaf(&parameter, bundle, fingerprint, &self.key_id).await?;
        let record = match stored {
            LeafStored::Ours => record,
            LeafStored::Taken(fingerprint) => {
                let other = self.ledger.proposal(stack, scope, generation, &fingerprint).await?;
                other.ok_or_else(|| StoreError::Unproposed(parameter.clone()))?
            }
            LeafStored::Foreign => return Err(StoreError::Foreign(parameter)),
        };
        let appended = self.ledger.append(stack, &record).await?;
        let ((asked, _, stored), (is, generation, ledger)) = (record.named(), appended.named());
        if is != asked {
            return Err(other_scope(stack, generation, is, asked));
        }
        if ledger != stored {
            return Err(StoreError::Differ { ledger: ledger.to_owned(), parameter, stored: stored.to_owned() });
        }
        Ok(appended)
    }

    /// Discards the bundles that nobody will fetch any more, now that there is a newer generation: a key is to lie nowhere for
    /// nothing, and Parameter Store is finite. What fails is told in the log and done when the next one is made: no leaf
    /// fails because of a former one.
    pub async fn tidy(&self, stack: &StackName, now: OffsetDateTime) {
        if let Err(error) = self.discard(stack, now).await {
            tracing::warn!(%stack, error = chain(&error), "bundles that nobody needs are still in Parameter Store");
        }
    }

    async fn discard(&self, stack: &StackName, now: OffsetDateTime) -> Result<(), StoreError> {
        let (generations, attempts) = (self.ledger.generations(stack).await?, self.ledger.attempts(stack).await?);
        let discarded = self.ledger.discarded(stack).await?;
        for generation in discardable(&generations, &discarded, &attempts, now) {
            let own = self.ledger.leaves(stack, generation).await?;
            let scopes = own.into_iter().map(|leaf| leaf.scope).chain([Scope::shared()]);
            let names: Vec<String> = scopes.map(|scope| leaf_parameter(stack, &scope, generation)).collect();
            self.parameters.delete_leaves(&names).await?;
            self.ledger.note_discarded(stack, &DiscardRecord { generation, at: now }).await?;
            tracing::info!(%stack, generation = generation.0, parameters = names.len(), "bundles discarded");
            if names.len() > MANY {
                break;
            }
        }
        Ok(())
    }

    /// Appends what the leaves of a generation have in common, in which each target has its own. Answers what they have in
    /// common now: this, or what somebody else appended first.
    ///
    /// # Errors
    /// The ledger's, or that the number was given to a generation of one leaf for all.
    pub async fn open(&self, stack: &StackName, record: &GenerationRecord) -> Result<GenerationRecord, StoreError> {
        let appended = self.ledger.append(stack, record).await?;
        if appended.scope != record.scope {
            return Err(other_scope(stack, record.generation, &appended.scope, &record.scope));
        }
        Ok(appended)
    }
}

fn other_scope(stack: &StackName, generation: Generation, is: &Scope, asked: &Scope) -> StoreError {
    StoreError::OtherScope { stack: stack.clone(), generation, is: is.clone(), asked: asked.clone() }
}

fn place(
    stack: &StackName,
    scope: &Scope,
    asked: Generation,
    generations: Vec<GenerationRecord>,
) -> Result<Place, StoreError> {
    let mut newest = None;
    for record in generations {
        if record.generation == asked {
            if record.scope != *scope {
                return Err(other_scope(stack, asked, &record.scope, scope));
            }
            return Ok(Place::Taken(Box::new(record)));
        }
        newest = Some(Box::new(record));
    }
    let next = newest.as_ref().map_or(Generation::FIRST, |record| record.generation.next());
    if asked == next {
        return Ok(Place::Next(newest));
    }
    Err(StoreError::Gap { stack: stack.clone(), next, asked })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let stack = StackName::parse("payments").unwrap();
        let ledger = || vec![known("target", 1), known("shared", 2)];
        let of = |asked, known| place(&stack, &Scope::shared(), Generation(asked), known);
        let boxed = |generation| Some(Box::new(known("shared", generation)));
        assert_eq!(of(3, ledger()).unwrap(), Place::Next(boxed(2)));
        assert_eq!(of(2, ledger()).unwrap(), Place::Taken(Box::new(known("shared", 2))));
        assert_eq!(of(1, Vec::new()).unwrap(), Place::Next(None));
        // Numbers are the stack's: what was one leaf for each target is not made anew as one for all.
        for (asked, known) in [(4, ledger()), (1, ledger()), (8, ledger()), (2, Vec::new())] {
            assert_eq!(of(asked, known).unwrap_err().word(), Word::Conflict);
        }
    }
}
