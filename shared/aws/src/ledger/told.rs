//! What a person was told of a stack's blocks, by `provision` and by `rotate`, each in a partition that it writes.

use espalier_domain::id::StackName;
use espalier_domain::told::ToldRecord;
use time::Duration;

use super::{Condition, EXPIRES, Key, Ledger, LedgerError, Stored, encode, number};

/// How long it is kept after it was last found.
const KEPT: Duration = Duration::days(7);

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// About the network.
    Provision,
    /// About certificates.
    Rotate,
}

/// What was told last, as it was read.
#[derive(Debug, Clone)]
pub struct Told(Option<Stored<ToldRecord>>);

impl Told {
    /// The record; absent when nothing was told yet, or long ago.
    pub fn record(&self) -> Option<&ToldRecord> {
        self.0.as_ref().map(|stored| &stored.record)
    }
}

impl Ledger {
    /// What was told last.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn told(&self, teller: Teller, stack: &StackName) -> Result<Told, LedgerError> {
        Ok(Told(self.get(&key(teller, stack)).await?))
    }

    /// Notes what is told now. When somebody else noted something since the look, that stands: the worst is that both tell.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn note_told(
        &self,
        teller: Teller,
        stack: &StackName,
        seen: &Told,
        record: &ToldRecord,
    ) -> Result<(), LedgerError> {
        let condition = seen.0.as_ref().map_or(Condition::Absent, |stored| Condition::Unchanged(&stored.text));
        let expires = number((record.found_at + KEPT).unix_timestamp());
        self.put(encode(&key(teller, stack), record, [(EXPIRES, expires)])?, condition).await?;
        Ok(())
    }
}

fn key(teller: Teller, stack: &StackName) -> Key {
    match teller {
        Teller::Provision => Key { pk: format!("{}{stack}", super::MEMBERS), sk: "TOLD".to_owned() },
        Teller::Rotate => Key::of(stack, "TOLD"),
    }
}
