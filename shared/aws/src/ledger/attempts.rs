//! Deliveries: begun before a command is sent, completed by what is learnt of it.

use aws_sdk_dynamodb::types::AttributeValue;
use espalier_domain::id::{Generation, StackName, TargetId};
use espalier_domain::record::{AttemptEnd, AttemptRecord};

use super::{Condition, EXPIRES, Key, Ledger, LedgerError, ROUNDS, Written, encode, number, text};

/// Who may send the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// We: the attempts were written by this call, all of them.
    Ours,
    /// Somebody else: at least one was there before. All that are there, in the order asked for.
    Taken(Vec<AttemptRecord>),
}

impl Ledger {
    /// Every attempt of the stack, by instance, generation and number.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn attempts(&self, stack: &StackName) -> Result<Vec<AttemptRecord>, LedgerError> {
        self.query(&super::partition(stack), "ATTEMPT#").await
    }

    /// One attempt.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn attempt(
        &self,
        stack: &StackName,
        target: &TargetId,
        generation: Generation,
        number: u32,
    ) -> Result<Option<AttemptRecord>, LedgerError> {
        Ok(self.get(&key_of(stack, target, generation, number)).await?.map(|stored| stored.record))
    }

    /// Begins attempts, all or none, *before* the command that carries them is sent: `SendCommand` knows no client
    /// token, so this is what keeps a repeated invocation from sending a second command. At most 100.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn begin_attempts(&self, stack: &StackName, attempts: &[AttemptRecord]) -> Result<Begun, LedgerError> {
        let mut writes = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            let item = encode(&key(stack, attempt), attempt, typed(attempt))?;
            writes.push(self.transact_put(item, Condition::Absent)?);
        }
        match self.transact(writes).await? {
            Written::Yes => Ok(Begun::Ours),
            Written::No => self.taken(stack, attempts).await,
        }
    }

    async fn taken(&self, stack: &StackName, attempts: &[AttemptRecord]) -> Result<Begun, LedgerError> {
        let mut found = Vec::new();
        for attempt in attempts {
            found.extend(self.get(&key(stack, attempt)).await?.map(|stored| stored.record));
        }
        Ok(Begun::Taken(found))
    }

    /// Notes the command that carries these attempts, which are as [`Self::begin_attempts`] wrote them. An attempt that
    /// has a command keeps it.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or one that others keep changing.
    pub async fn note_command(
        &self,
        stack: &StackName,
        attempts: &[AttemptRecord],
        command_id: &str,
    ) -> Result<(), LedgerError> {
        let mut writes = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            let noted = AttemptRecord { command_id: Some(command_id.to_owned()), ..attempt.clone() };
            let (seen, item) =
                (text(&key(stack, attempt), attempt)?, encode(&key(stack, attempt), &noted, typed(&noted))?);
            writes.push(self.transact_put(item, Condition::Unchanged(&seen))?);
        }
        match self.transact(writes).await? {
            Written::Yes => Ok(()),
            // Somebody has learnt more about one of them in the meantime: note the others one by one.
            Written::No => {
                for attempt in attempts {
                    self.note_one(stack, attempt, command_id).await?;
                }
                Ok(())
            }
        }
    }

    async fn note_one(&self, stack: &StackName, attempt: &AttemptRecord, command: &str) -> Result<(), LedgerError> {
        self.amend(stack, attempt, |record| {
            let open = record.command_id.is_none();
            if open {
                record.command_id = Some(command.to_owned());
            }
            open
        })
        .await
    }

    /// Ends an attempt. The first end stands: what is learnt later changes nothing.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or one that others keep changing.
    pub async fn end_attempt(
        &self,
        stack: &StackName,
        attempt: &AttemptRecord,
        end: &AttemptEnd,
    ) -> Result<(), LedgerError> {
        self.amend(stack, attempt, |record| {
            let open = record.ended.is_none();
            if open {
                record.ended = Some(end.clone());
            }
            open
        })
        .await
    }

    /// Takes back that a target was prepared: what it sent cannot be signed. Only of the attempt as it was read: another look at it
    /// may come to another end.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or one that others keep changing.
    pub async fn refuse_request(
        &self,
        stack: &StackName,
        attempt: &AttemptRecord,
        end: &AttemptEnd,
    ) -> Result<(), LedgerError> {
        self.amend(stack, attempt, |record| {
            let stands = record.ended == attempt.ended;
            if stands {
                record.ended = Some(end.clone());
            }
            stands
        })
        .await
    }

    /// Reads an attempt, lets `change` edit it, and writes it back if it is still what was read.
    async fn amend(
        &self,
        stack: &StackName,
        attempt: &AttemptRecord,
        mut change: impl FnMut(&mut AttemptRecord) -> bool,
    ) -> Result<(), LedgerError> {
        let key = key(stack, attempt);
        for _ in 0..ROUNDS {
            let mut stored =
                self.get::<AttemptRecord>(&key).await?.ok_or_else(|| LedgerError::Empty(key.to_string()))?;
            if !change(&mut stored.record) {
                return Ok(());
            }
            let item = encode(&key, &stored.record, typed(&stored.record))?;
            match self.put(item, Condition::Unchanged(&stored.text)).await? {
                Written::Yes => return Ok(()),
                Written::No => {}
            }
        }
        Err(LedgerError::Contended(key.to_string()))
    }
}

fn key(stack: &StackName, attempt: &AttemptRecord) -> Key {
    key_of(stack, &attempt.target, attempt.generation, attempt.attempt)
}

fn key_of(stack: &StackName, target: &TargetId, generation: Generation, number: u32) -> Key {
    Key::of(stack, format!("ATTEMPT#{target}#{:08}#{number:04}", generation.0))
}

fn typed(attempt: &AttemptRecord) -> Vec<(&'static str, AttributeValue)> {
    attempt.kept_until().map(|until| (EXPIRES, number(until.unix_timestamp()))).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::id::Epoch;
    use espalier_domain::work::DeliveryAction;
    use time::{Duration, OffsetDateTime};

    fn attempt() -> AttemptRecord {
        AttemptRecord {
            target: TargetId::parse("i-0abc1234def567890").unwrap(),
            generation: Generation(3),
            attempt: 2,
            epoch: Epoch(1),
            action: DeliveryAction::Install,
            asked: None,
            begun_at: OffsetDateTime::UNIX_EPOCH,
            leaf_ends_at: OffsetDateTime::UNIX_EPOCH + Duration::days(90),
            command_id: None,
            ended: None,
        }
    }

    #[test]
    fn an_attempt_that_ended_expires_a_week_after_its_leaf() {
        let stack = StackName::parse("payments").unwrap();
        assert_eq!(key(&stack, &attempt()).sk, "ATTEMPT#i-0abc1234def567890#00000003#0002");
        assert!(typed(&attempt()).is_empty());
        let at = OffsetDateTime::UNIX_EPOCH;
        let end = AttemptEnd { installed: true, code: "installed".into(), detail: String::new(), at };
        let ended = AttemptRecord { ended: Some(end), ..attempt() };
        assert_eq!(typed(&ended), [(EXPIRES, number(97 * 86_400))]);
    }
}
