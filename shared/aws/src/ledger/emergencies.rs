//! Emergencies: appended once for each generation they reach up to, never changed and never forgotten. Who was first stays.

use espalier_domain::id::StackName;
use espalier_domain::record::EmergencyRecord;

use super::{Condition, Key, Ledger, LedgerError, Written, encode};

const PREFIX: &str = "EMERGENCY#";

impl Ledger {
    /// The emergency that reaches furthest; absent while there was none.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn emergency(&self, stack: &StackName) -> Result<Option<EmergencyRecord>, LedgerError> {
        // The keys sort by generation.
        Ok(self.emergencies(stack).await?.pop())
    }

    /// Every emergency there was, by how far it reaches.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn emergencies(&self, stack: &StackName) -> Result<Vec<EmergencyRecord>, LedgerError> {
        self.query(&super::partition(stack), PREFIX).await
    }

    /// Writes an emergency down unless one that reaches as far is there, and answers the one that is there now.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn declare(&self, stack: &StackName, record: &EmergencyRecord) -> Result<EmergencyRecord, LedgerError> {
        let key = Key::of(stack, format!("{PREFIX}{:08}", record.through.0));
        match self.put(encode(&key, record, [])?, Condition::Absent).await? {
            Written::Yes => Ok(record.clone()),
            Written::No => match self.get(&key).await? {
                Some(stored) => Ok(stored.record),
                None => Err(LedgerError::Contended(key.to_string())),
            },
        }
    }
}
