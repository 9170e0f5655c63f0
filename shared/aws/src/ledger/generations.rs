//! Generations, their targets' own leaves, and authorities: appended once, never changed.

use aws_sdk_dynamodb::types::AttributeValue;
use espalier_domain::id::{Generation, Scope, StackName};
use espalier_domain::record::{AuthorityRecord, DiscardRecord, GenerationRecord, LeafRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::{Duration, OffsetDateTime};

use super::{AUTHORITIES, Condition, EXPIRES, Key, Ledger, LedgerError, Written, encode, number};

/// How long a proposal is kept. It is needed only until its generation is appended.
const PROPOSAL_KEPT: Duration = Duration::days(30);

const DISCARDED: &str = "DISCARDED#";

impl Ledger {
    /// Every generation of the stack, oldest first.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn generations(&self, stack: &StackName) -> Result<Vec<GenerationRecord>, LedgerError> {
        self.query(&super::partition(stack), "GENERATION#").await
    }

    /// One generation.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn generation(
        &self,
        stack: &StackName,
        generation: Generation,
    ) -> Result<Option<GenerationRecord>, LedgerError> {
        Ok(self.get(&Key::of(stack, generation_key(generation))).await?.map(|stored| stored.record))
    }

    /// The targets' own leaves of a generation, by node.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn leaves(&self, stack: &StackName, generation: Generation) -> Result<Vec<LeafRecord>, LedgerError> {
        self.query(&super::partition(stack), &leaf_prefix(generation)).await
    }

    /// One target's own leaf of a generation.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn leaf(
        &self,
        stack: &StackName,
        scope: &Scope,
        generation: Generation,
    ) -> Result<Option<LeafRecord>, LedgerError> {
        Ok(self.get(&Key::of(stack, leaf_key(scope, generation))).await?.map(|stored| stored.record))
    }

    /// Notes the public side of a leaf *before* its bundle is stored, under its own fingerprint, so that whoever
    /// finds the bundle without a generation can finish the append. Several mints may propose; none gets in
    /// another's way. `now` dates its expiry.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn propose<R: Minted>(
        &self,
        stack: &StackName,
        record: &R,
        now: OffsetDateTime,
    ) -> Result<(), LedgerError> {
        let (scope, generation, fingerprint) = record.named();
        let key = proposal_key(stack, scope, generation, fingerprint);
        let expires = (now + PROPOSAL_KEPT).unix_timestamp();
        // Lost means the same proposal is there already: the fingerprint is in its key.
        self.put(encode(&key, record, [(EXPIRES, number(expires))])?, Condition::Absent).await?;
        Ok(())
    }

    /// The proposal with this fingerprint.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn proposal<R: Minted>(
        &self,
        stack: &StackName,
        scope: &Scope,
        generation: Generation,
        fingerprint: &str,
    ) -> Result<Option<R>, LedgerError> {
        Ok(self.get(&proposal_key(stack, scope, generation, fingerprint)).await?.map(|stored| stored.record))
    }

    /// Appends a generation or a target's own leaf of one unless it is there, and answers the one that is there now.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn append<R: Minted>(&self, stack: &StackName, record: &R) -> Result<R, LedgerError> {
        let (key, expires) = (Key::of(stack, record.sort_key()), record.expires());
        let (_, _, fingerprint) = record.named();
        let typed = [("fingerprint", AttributeValue::S(fingerprint.to_owned()))];
        let typed = typed.into_iter().chain(expires.map(|at| (EXPIRES, number(at.unix_timestamp()))));
        match self.put(encode(&key, record, typed)?, Condition::Absent).await? {
            Written::Yes => Ok(record.clone()),
            Written::No => match self.get(&key).await? {
                Some(stored) => Ok(stored.record),
                None => Err(LedgerError::Contended(key.to_string())),
            },
        }
    }

    /// The generations whose bundles were discarded.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn discarded(&self, stack: &StackName) -> Result<Vec<DiscardRecord>, LedgerError> {
        self.query(&super::partition(stack), DISCARDED).await
    }

    /// Notes that a generation's bundles were discarded, unless that was noted.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn note_discarded(&self, stack: &StackName, record: &DiscardRecord) -> Result<(), LedgerError> {
        let key = Key::of(stack, format!("{DISCARDED}{:08}", record.generation.0));
        self.put(encode(&key, record, [])?, Condition::Absent).await?;
        Ok(())
    }

    /// Every authority there ever was; their turns say where each stands.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn authorities(&self) -> Result<Vec<AuthorityRecord>, LedgerError> {
        self.query(AUTHORITIES, "AUTHORITY#").await
    }

    /// The authority that was made for this issuing key, published or not.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn founded(&self, issuing_key: &str) -> Result<Option<AuthorityRecord>, LedgerError> {
        Ok(self.get(&founded_key(issuing_key)).await?.map(|stored| stored.record))
    }

    /// Notes the authority that was made for this issuing key unless there is one, and answers the one that is there now:
    /// of several that are made at the same time one is kept, and the others were never published.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn found(&self, issuing_key: &str, record: &AuthorityRecord) -> Result<AuthorityRecord, LedgerError> {
        let key = founded_key(issuing_key);
        match self.put(encode(&key, record, [])?, Condition::Absent).await? {
            Written::Yes => Ok(record.clone()),
            Written::No => match self.get(&key).await? {
                Some(stored) => Ok(stored.record),
                None => Err(LedgerError::Contended(key.to_string())),
            },
        }
    }

    /// Appends an authority unless it is there. Its id is a digest of its root, so the one that is there is the same.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn append_authority(&self, record: &AuthorityRecord) -> Result<(), LedgerError> {
        let key = Key { pk: AUTHORITIES.to_owned(), sk: format!("AUTHORITY#{}", record.authority) };
        self.put(encode(&key, record, [])?, Condition::Absent).await?;
        Ok(())
    }
}

fn founded_key(issuing_key: &str) -> Key {
    Key { pk: AUTHORITIES.to_owned(), sk: format!("FOUNDED#{issuing_key}") }
}

/// What a mint proposes, stores and appends: one leaf for all, or one target's own.
pub trait Minted: Clone + Serialize + DeserializeOwned {
    /// Whose it is, its generation and its fingerprint.
    fn named(&self) -> (&Scope, Generation, &str);

    /// Where in its stack's partition it is kept.
    fn sort_key(&self) -> String;

    /// Until when it is, if not for good.
    fn expires(&self) -> Option<OffsetDateTime>;
}

impl Minted for GenerationRecord {
    fn named(&self) -> (&Scope, Generation, &str) {
        (&self.scope, self.generation, &self.fingerprint)
    }

    fn sort_key(&self) -> String {
        generation_key(self.generation)
    }

    fn expires(&self) -> Option<OffsetDateTime> {
        None
    }
}

impl Minted for LeafRecord {
    fn named(&self) -> (&Scope, Generation, &str) {
        (&self.scope, self.generation, &self.fingerprint)
    }

    fn sort_key(&self) -> String {
        leaf_key(&self.scope, self.generation)
    }

    fn expires(&self) -> Option<OffsetDateTime> {
        Some(Self::kept_until(self.not_after))
    }
}

/// Numbers are the stack's, whoever shares the leaf: `shared` stands in every key, so that none is given out twice.
fn generation_key(generation: Generation) -> String {
    format!("GENERATION#shared#{:08}", generation.0)
}

fn leaf_prefix(generation: Generation) -> String {
    format!("LEAF#{:08}#", generation.0)
}

fn leaf_key(scope: &Scope, generation: Generation) -> String {
    format!("{}{scope}", leaf_prefix(generation))
}

fn proposal_key(stack: &StackName, scope: &Scope, generation: Generation, fingerprint: &str) -> Key {
    Key::of(stack, format!("PROPOSAL#{scope}#{:08}#{fingerprint}", generation.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_sort_by_number() {
        let stack = StackName::parse("payments").unwrap();
        let sk = |n| generation_key(Generation(n));
        assert_eq!(sk(9), "GENERATION#shared#00000009");
        assert!(sk(9) < sk(10));
        assert!(!proposal_key(&stack, &Scope::shared(), Generation(9), "ab").sk.starts_with("GENERATION#"));
        let own = leaf_key(&Scope::parse("i-0000000000000000a").unwrap(), Generation(9));
        assert_eq!(own, "LEAF#00000009#i-0000000000000000a");
        assert!(own.starts_with(&leaf_prefix(Generation(9))) && !own.starts_with(&leaf_prefix(Generation(90))));
    }
}
