//! Certificates that no stack uses and that lapse: told once for each end of validity, whoever hears of it first.

use espalier_domain::record::LapsingRecord;
use time::Duration;

use super::{Condition, EXPIRES, Key, Ledger, LedgerError, Written, encode, number};

/// How long after its end it is remembered that a certificate was told.
const KEPT: Duration = Duration::days(30);

impl Ledger {
    /// Writes down that a certificate is told to lapse; whether nobody has told it before.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn tell_lapsing(&self, told: &LapsingRecord) -> Result<bool, LedgerError> {
        let (arn, end) = (&told.certificate, told.not_after.unix_timestamp());
        let key = Key { pk: "LAPSING".to_owned(), sk: format!("{arn}#{end}") };
        let expires = number((told.not_after + KEPT).unix_timestamp());
        let item = encode(&key, told, [(EXPIRES, expires)])?;
        if self.put(item, Condition::Absent).await? == Written::Yes {
            return Ok(true);
        }
        // Refused may be the repetition of our own call, whose answer got lost.
        Ok(self.get::<LapsingRecord>(&key).await?.is_some_and(|stored| stored.record == *told))
    }
}
