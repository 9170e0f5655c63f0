//! What was heard of the ACM certificates that stacks use, to know what was not.

use espalier_domain::acm::{AcmEvidence, HeardRecord, Missed, Said, heard};
use espalier_domain::id::AcmArn;
use time::{Duration, OffsetDateTime};

use super::{Condition, EXPIRES, Key, Ledger, LedgerError, ROUNDS, Written, encode, number};

/// How long after the last news it is kept: longer than any certificate of ACM's lives. What is forgotten begins anew.
const KEPT: Duration = Duration::days(400);

impl Ledger {
    /// Notes that an event came about a certificate. One that no stack uses is not listened for: nothing is noted of it.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or others who were faster each time.
    pub async fn hear(&self, certificate: &AcmArn, said: Said, now: OffsetDateTime) -> Result<(), LedgerError> {
        let key = key(certificate);
        for _ in 0..ROUNDS {
            let Some(known) = self.get::<HeardRecord>(&key).await? else { return Ok(()) };
            let record = heard::hear(&known.record, said, now);
            if self.keep(&key, &record, Condition::Unchanged(&known.text), now).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(LedgerError::Contended(key.to_string()))
    }

    /// Compares what is read of a certificate with what was heard of it: the events that should have come, each for one
    /// caller only.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn listen(&self, seen: &AcmEvidence, now: OffsetDateTime) -> Result<Vec<Missed>, LedgerError> {
        let key = key(&seen.certificate);
        let known = self.get::<HeardRecord>(&key).await?;
        let (record, missed) = heard::look(known.as_ref().map(|known| &known.record), seen, now);
        if known.as_ref().is_some_and(|known| known.record == record) {
            return Ok(missed);
        }
        let condition = known.as_ref().map_or(Condition::Absent, |known| Condition::Unchanged(&known.text));
        match self.keep(&key, &record, condition, now).await? {
            Written::Yes => Ok(missed),
            // Somebody else looked or heard meanwhile: the next look compares again.
            Written::No => Ok(Vec::new()),
        }
    }

    async fn keep(
        &self,
        key: &Key,
        record: &HeardRecord,
        condition: Condition<'_>,
        now: OffsetDateTime,
    ) -> Result<Written, LedgerError> {
        let expires = number((now + KEPT).unix_timestamp());
        self.put(encode(key, record, [(EXPIRES, expires)])?, condition).await
    }
}

fn key(certificate: &AcmArn) -> Key {
    Key { pk: "HEARD".to_owned(), sk: certificate.to_string() }
}
