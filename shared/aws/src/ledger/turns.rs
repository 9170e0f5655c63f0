//! The authorities' turns and who acknowledged them: appended, never changed.

use espalier_domain::record::{AcknowledgementRecord, TurnRecord};

use super::{AUTHORITIES, Condition, Key, Ledger, LedgerError, Still, Written, encode, text};

impl Ledger {
    /// Every turn, in the order of their numbers.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn turns(&self) -> Result<Vec<TurnRecord>, LedgerError> {
        self.query(AUTHORITIES, "TURN#").await
    }

    /// Appends a turn unless one has its number: then something was decided that whoever planned it did not know.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn take_turn(&self, record: &TurnRecord) -> Result<Still, LedgerError> {
        let key = Key { pk: AUTHORITIES.to_owned(), sk: format!("TURN#{:08}", record.number) };
        match self.put(encode(&key, record, [])?, Condition::Absent).await? {
            Written::Yes => Ok(Still::Unchanged),
            Written::No => {
                let there = self.get::<TurnRecord>(&key).await?;
                let is_ours = there.is_some_and(|there| text(&key, record).is_ok_and(|ours| there.text == ours));
                Ok(if is_ours { Still::Unchanged } else { Still::Changed })
            }
        }
    }

    /// Every acknowledgement.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn acknowledgements(&self) -> Result<Vec<AcknowledgementRecord>, LedgerError> {
        self.query(AUTHORITIES, "ACKNOWLEDGED#").await
    }

    /// Appends an acknowledgement. One that holds as long is there already, or it is the same: in either case it holds.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn acknowledge(&self, record: &AcknowledgementRecord) -> Result<(), LedgerError> {
        let (authority, verifier, until) = (&record.authority, &record.verifier, record.until.unix_timestamp());
        let key = Key { pk: AUTHORITIES.to_owned(), sk: format!("ACKNOWLEDGED#{authority}#{verifier}#{until:012}") };
        self.put(encode(&key, record, [])?, Condition::Absent).await?;
        Ok(())
    }
}
