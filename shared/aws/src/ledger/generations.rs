//! Generations and authorities: appended once, never changed.

use aws_sdk_dynamodb::types::AttributeValue;
use espalier_domain::id::{Generation, Scope, StackName};
use espalier_domain::record::{AuthorityRecord, GenerationRecord};
use time::{Duration, OffsetDateTime};

use super::{AUTHORITIES, Condition, EXPIRES, Key, Ledger, LedgerError, Written, encode, number};

/// How long a proposal is kept. It is needed only until its generation is appended.
const PROPOSAL_KEPT: Duration = Duration::days(30);

impl Ledger {
    /// Every generation of the stack, by scope and then oldest first.
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
        scope: &Scope,
        generation: Generation,
    ) -> Result<Option<GenerationRecord>, LedgerError> {
        Ok(self.get(&generation_key(stack, scope, generation)).await?.map(|stored| stored.record))
    }

    /// Notes the public side of a leaf *before* its bundle is stored, under its own fingerprint, so that whoever
    /// finds the bundle without a generation can finish the append. Several mints may propose; none gets in
    /// another's way. `now` dates its expiry.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn propose(
        &self,
        stack: &StackName,
        record: &GenerationRecord,
        now: OffsetDateTime,
    ) -> Result<(), LedgerError> {
        let key = proposal_key(stack, &record.scope, record.generation, &record.fingerprint);
        let expires = (now + PROPOSAL_KEPT).unix_timestamp();
        // Lost means the same proposal is there already: the fingerprint is in its key.
        self.put(encode(&key, record, [(EXPIRES, number(expires))])?, Condition::Absent).await?;
        Ok(())
    }

    /// The proposal with this fingerprint.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn proposal(
        &self,
        stack: &StackName,
        scope: &Scope,
        generation: Generation,
        fingerprint: &str,
    ) -> Result<Option<GenerationRecord>, LedgerError> {
        Ok(self.get(&proposal_key(stack, scope, generation, fingerprint)).await?.map(|stored| stored.record))
    }

    /// Appends a generation unless it is there, and answers the one that is there now.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn append(&self, stack: &StackName, record: &GenerationRecord) -> Result<GenerationRecord, LedgerError> {
        let key = generation_key(stack, &record.scope, record.generation);
        let typed = [("fingerprint", AttributeValue::S(record.fingerprint.clone()))];
        match self.put(encode(&key, record, typed)?, Condition::Absent).await? {
            Written::Yes => Ok(record.clone()),
            Written::No => match self.get(&key).await? {
                Some(stored) => Ok(stored.record),
                None => Err(LedgerError::Contended(key.to_string())),
            },
        }
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

fn generation_key(stack: &StackName, scope: &Scope, generation: Generation) -> Key {
    Key::of(stack, format!("GENERATION#{scope}#{:08}", generation.0))
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
        let sk = |n| generation_key(&stack, &Scope::shared(), Generation(n)).sk;
        assert_eq!(sk(9), "GENERATION#shared#00000009");
        assert!(sk(9) < sk(10));
        assert!(!proposal_key(&stack, &Scope::shared(), Generation(9), "ab").sk.starts_with("GENERATION#"));
    }
}
