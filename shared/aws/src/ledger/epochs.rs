//! Epochs: which rotation of a stack is in progress and which execution carries it.

use espalier_domain::id::{Epoch, StackName};
use espalier_domain::record::EpochRecord;
use time::OffsetDateTime;

use super::{COUNT, Condition, Key, Ledger, LedgerError, Written, encode, number, text};

/// An epoch as it was read.
///
/// `nudges` counts the hints that found its execution running and left it the look they were for. It stands beside the
/// record because it says nothing about the rotation: it only makes [`Ledger::end_epoch`] fail when a hint came in
/// after the evidence of the last look was gathered. Without it such a hint would be lost until the next sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochSeen {
    /// The record.
    pub record: EpochRecord,
    /// The record as it was stored: what another version wrote may not come back as the same text.
    text: String,
    nudges: u64,
}

/// Who may start the execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// We: the epoch (or the next attempt at it) is ours to start. Two claims of the same further attempt write the
    /// same record and may both be told this: the execution's name is the same, and it is taken once.
    Ours(EpochSeen),
    /// Somebody else was faster.
    Taken,
}

/// Whether an epoch is still as it was seen when it was to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Still {
    /// It was, and has been changed.
    Unchanged,
    /// It was not, and has been left alone.
    Changed,
}

impl EpochSeen {
    /// Whether its rotation has not converged yet.
    pub fn is_open(&self) -> bool {
        self.record.ended_at.is_none()
    }
}

impl Ledger {
    /// The stack's rotation in progress, or its last one.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn epoch(&self, stack: &StackName) -> Result<Option<EpochSeen>, LedgerError> {
        let stored = self.get::<EpochRecord>(&key(stack)).await?;
        Ok(stored.map(|stored| EpochSeen { record: stored.record, text: stored.text, nudges: stored.count }))
    }

    /// Claims the right to start an execution: the next attempt at the open epoch, or the next epoch's first. Only if
    /// the ledger still says what the caller decided upon (`seen`).
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn claim(
        &self,
        stack: &StackName,
        seen: Option<&EpochSeen>,
        now: OffsetDateTime,
    ) -> Result<Claim, LedgerError> {
        let record = following(stack, seen.map(|seen| &seen.record), now);
        let claimed = EpochSeen { text: text(&key(stack), &record)?, record, nudges: 0 };
        match self.replace(stack, seen, &claimed).await? {
            Still::Unchanged => Ok(Claim::Ours(claimed)),
            Still::Changed => Ok(Claim::Taken),
        }
    }

    /// Tells the execution that carries an epoch to look once more before it ends it.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn nudge(&self, stack: &StackName, seen: &EpochSeen) -> Result<Still, LedgerError> {
        let nudged = EpochSeen { nudges: seen.nudges + 1, ..seen.clone() };
        self.replace(stack, Some(seen), &nudged).await
    }

    /// Ends an epoch: the look that began with reading `seen` found nothing left to do.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn end_epoch(
        &self,
        stack: &StackName,
        seen: &EpochSeen,
        now: OffsetDateTime,
    ) -> Result<Still, LedgerError> {
        let record = EpochRecord { ended_at: Some(now), ..seen.record.clone() };
        let ended = EpochSeen { text: text(&key(stack), &record)?, record, nudges: seen.nudges };
        self.replace(stack, Some(seen), &ended).await
    }

    async fn replace(
        &self,
        stack: &StackName,
        seen: Option<&EpochSeen>,
        wanted: &EpochSeen,
    ) -> Result<Still, LedgerError> {
        let item = encode(&key(stack), &wanted.record, [(COUNT, number(wanted.nudges))])?;
        let condition = match seen {
            Some(seen) => Condition::UnchangedCounted(&seen.text, seen.nudges),
            None => Condition::Absent,
        };
        match self.put(item, condition).await? {
            Written::Yes => Ok(Still::Unchanged),
            Written::No => match self.epoch(stack).await? {
                // A repetition of our own write, whose first answer got lost, leaves exactly what we wanted.
                Some(now) if now.record == wanted.record && now.nudges == wanted.nudges => Ok(Still::Unchanged),
                Some(_) | None => Ok(Still::Changed),
            },
        }
    }
}

/// The record after `seen`: the next attempt at an open epoch, else the next epoch.
fn following(stack: &StackName, seen: Option<&EpochRecord>, now: OffsetDateTime) -> EpochRecord {
    let (epoch, attempt, begun_at) = match seen {
        Some(open) if open.ended_at.is_none() => (open.epoch, open.attempt + 1, open.begun_at),
        Some(ended) => (Epoch(ended.epoch.0 + 1), 1, now),
        None => (Epoch(1), 1, now),
    };
    EpochRecord { epoch, attempt, begun_at, ended_at: None, execution: format!("{stack}-{epoch}-{attempt}") }
}

fn key(stack: &StackName) -> Key {
    Key::of(stack, "EPOCH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_epoch_is_attempted_again_and_an_ended_one_followed() {
        let stack = StackName::parse("abcdefghijklmnopqrstuvwx").unwrap();
        let start = OffsetDateTime::UNIX_EPOCH;
        let first = following(&stack, None, start);
        assert_eq!((first.epoch, first.attempt), (Epoch(1), 1));
        assert_eq!(first.execution, "abcdefghijklmnopqrstuvwx-1-1");
        let again = following(&stack, Some(&first), start + time::Duration::hours(1));
        assert_eq!((again.epoch, again.attempt, again.begun_at), (Epoch(1), 2, start));
        let ended = EpochRecord { ended_at: Some(start), ..again };
        let next = following(&stack, Some(&ended), start + time::Duration::hours(2));
        assert_eq!((next.epoch, next.attempt), (Epoch(2), 1));
        let last = EpochRecord { epoch: Epoch(u32::MAX), attempt: u32::MAX - 1, ..first };
        assert!(following(&stack, Some(&last), start).execution.len() <= 80);
    }
}
