//! What `provision` writes down, in a partition of its own: it writes nothing else, and its role can be held to that by
//! the partition's name. The stack's targets as it last saw them, and the certificate it requested for the stack. One
//! record of each per stack; the last look wins, since what is not in it is looked at again.

use espalier_domain::id::StackName;
use espalier_domain::record::{MembershipRecord, RequestedRecord};

use super::{Condition, Key, Ledger, LedgerError, ROUNDS, Written, encode};

/// What is recorded after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The record.
    pub record: MembershipRecord,
    /// Whether it differs from the one before.
    pub is_news: bool,
}

impl Ledger {
    /// The stack's targets as they were last seen; absent before the first look.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn membership(&self, stack: &StackName) -> Result<Option<MembershipRecord>, LedgerError> {
        Ok(self.get(&key(stack)).await?.map(|stored| stored.record))
    }

    /// Records what was seen; what is recorded now, and whether that differs from what was recorded before.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or one that others keep changing.
    pub async fn record_membership(&self, stack: &StackName, seen: &MembershipRecord) -> Result<Noted, LedgerError> {
        let key = key(stack);
        for _ in 0..ROUNDS {
            let stored = self.get::<MembershipRecord>(&key).await?;
            let record = seen.clone().after(stored.as_ref().map(|stored| &stored.record));
            // Of a stack that never had anything there is nothing to note.
            if stored.as_ref().map_or(record.is_empty(), |stored| stored.record == record) {
                return Ok(Noted { record, is_news: false });
            }
            let condition = match &stored {
                Some(stored) => Condition::Unchanged(&stored.text),
                None => Condition::Absent,
            };
            match self.put(encode(&key, &record, [])?, condition).await? {
                Written::Yes => return Ok(Noted { record, is_news: true }),
                Written::No => {}
            }
        }
        Err(LedgerError::Contended(key.to_string()))
    }
}

impl Ledger {
    /// The certificate that was requested for the stack, if one was.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn requested(&self, stack: &StackName) -> Result<Option<RequestedRecord>, LedgerError> {
        Ok(self.get(&certificate_key(stack)).await?.map(|stored| stored.record))
    }

    /// Writes down which certificate was requested for the stack.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or one that others keep changing.
    pub async fn record_requested(&self, stack: &StackName, made: &RequestedRecord) -> Result<(), LedgerError> {
        let key = certificate_key(stack);
        for _ in 0..ROUNDS {
            let stored = self.get::<RequestedRecord>(&key).await?;
            let condition = match &stored {
                Some(stored) if stored.record == *made => return Ok(()),
                Some(stored) => Condition::Unchanged(&stored.text),
                None => Condition::Absent,
            };
            if self.put(encode(&key, made, [])?, condition).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(LedgerError::Contended(key.to_string()))
    }
}

fn key(stack: &StackName) -> Key {
    Key { pk: format!("{}{stack}", super::MEMBERS), sk: "MEMBERSHIP".to_owned() }
}

fn certificate_key(stack: &StackName) -> Key {
    Key { pk: format!("{}{stack}", super::MEMBERS), sk: "CERTIFICATE".to_owned() }
}
