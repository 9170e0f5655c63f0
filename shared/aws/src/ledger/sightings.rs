//! Sightings: the last one per target, under a floor that only rises, and the last probe through the service.
//!
//! What follows from a sighting is `domain`'s to say ([`sighting::after`]); that two writers do not undo each other is
//! this module's.

use espalier_domain::id::{StackName, TargetId};
use espalier_domain::record::{LookRecord, SightingRecord, ThroughRecord};
use espalier_domain::rotation::sighting;
use espalier_domain::work::{SeenTarget, SeenThrough};
use time::OffsetDateTime;

use super::{Condition, Key, Ledger, LedgerError, ROUNDS, Written, encode, number};

impl Ledger {
    /// The last sighting of every target of the stack, by instance.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn sightings(&self, stack: &StackName) -> Result<Vec<SightingRecord>, LedgerError> {
        self.query(&super::partition(stack), "SIGHTING#").await
    }

    /// Records what was seen at a target. The same sighting twice, or two in the wrong order, end in the same record,
    /// and the stored floor is never lowered: the write itself is conditional on that.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or one that others keep changing.
    pub async fn record_sighting(&self, stack: &StackName, seen: &SeenTarget) -> Result<(), LedgerError> {
        let key = key(stack, &seen.target);
        for _ in 0..ROUNDS {
            let stored = self.get::<SightingRecord>(&key).await?;
            let record = sighting::after(stored.as_ref().map(|stored| &stored.record), seen);
            if stored.as_ref().is_some_and(|stored| stored.record == record) {
                return Ok(());
            }
            let floor = record.floor.map_or(0, |generation| generation.0);
            let item = encode(&key, &record, [("floor", number(floor))])?;
            let condition = match &stored {
                Some(stored) => Condition::UnchangedFloor(&stored.text, floor),
                None => Condition::Absent,
            };
            match self.put(item, condition).await? {
                Written::Yes => return Ok(()),
                Written::No => {}
            }
        }
        Err(LedgerError::Contended(key.to_string()))
    }

    /// What was last seen through the stack's service.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn through(&self, stack: &StackName) -> Result<Option<ThroughRecord>, LedgerError> {
        Ok(self.get(&through_key(stack)).await?.map(|stored| stored.record))
    }

    /// Records what was seen through the service; no samples change nothing.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or one that others keep changing.
    pub async fn record_through(&self, stack: &StackName, samples: &[SeenThrough]) -> Result<(), LedgerError> {
        let key = through_key(stack);
        for _ in 0..ROUNDS {
            let stored = self.get::<ThroughRecord>(&key).await?;
            let previous = stored.as_ref().map(|stored| &stored.record);
            let Some(record) = sighting::after_through(previous, samples) else { return Ok(()) };
            if previous == Some(&record) {
                return Ok(());
            }
            let condition = match &stored {
                Some(stored) => Condition::Unchanged(&stored.text),
                None => Condition::Absent,
            };
            match self.put(encode(&key, &record, [])?, condition).await? {
                Written::Yes => return Ok(()),
                Written::No => {}
            }
        }
        Err(LedgerError::Contended(key.to_string()))
    }

    /// When somebody last asked for a fresh look at every target of the stack.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn look_since(&self, stack: &StackName) -> Result<Option<OffsetDateTime>, LedgerError> {
        Ok(self.get::<LookRecord>(&look_key(stack)).await?.map(|stored| stored.record.at))
    }

    /// Asks for a fresh look at every target: what was seen before `at` no longer counts as seen lately. An older
    /// request changes nothing.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or one that others keep changing.
    pub async fn ask_for_a_look(&self, stack: &StackName, at: OffsetDateTime) -> Result<(), LedgerError> {
        let key = look_key(stack);
        for _ in 0..ROUNDS {
            let stored = self.get::<LookRecord>(&key).await?;
            if stored.as_ref().is_some_and(|stored| stored.record.at >= at) {
                return Ok(());
            }
            let condition = match &stored {
                Some(stored) => Condition::Unchanged(&stored.text),
                None => Condition::Absent,
            };
            match self.put(encode(&key, &LookRecord { at }, [])?, condition).await? {
                Written::Yes => return Ok(()),
                Written::No => {}
            }
        }
        Err(LedgerError::Contended(key.to_string()))
    }
}

fn key(stack: &StackName, target: &TargetId) -> Key {
    Key::of(stack, format!("SIGHTING#{target}"))
}

fn look_key(stack: &StackName) -> Key {
    Key::of(stack, "LOOK")
}

fn through_key(stack: &StackName) -> Key {
    Key::of(stack, "THROUGH")
}
