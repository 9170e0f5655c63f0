//! The line in which hosts wait to read their leaf: one item for all stacks, since they share one rate.

use espalier_domain::rotation::pace::{self, LineRecord};
use time::OffsetDateTime;

use super::{Condition, Key, Ledger, LedgerError, ROUNDS, Written, encode};

fn key() -> Key {
    Key { pk: "LINE".to_owned(), sk: "FETCHES".to_owned() }
}

impl Ledger {
    /// The line; absent before the first stood in it.
    ///
    /// # Errors
    /// DynamoDB's, or an item that cannot be read.
    pub async fn line(&self) -> Result<Option<LineRecord>, LedgerError> {
        Ok(self.get(&key()).await?.map(|stored| stored.record))
    }

    /// Takes so many places at the end of the line, and answers when the first one's turn is. Places whose answer got
    /// lost stay empty: that costs seconds and harms nobody.
    ///
    /// # Errors
    /// DynamoDB's, an item that cannot be read, or others who were faster each time.
    pub async fn join(&self, places: usize, now: OffsetDateTime) -> Result<OffsetDateTime, LedgerError> {
        let key = key();
        for _ in 0..ROUNDS {
            let stored = self.get::<LineRecord>(&key).await?;
            let (first, line) = pace::join(stored.as_ref().map(|stored| &stored.record), now, places);
            let condition = stored.as_ref().map_or(Condition::Absent, |stored| Condition::Unchanged(&stored.text));
            if self.put(encode(&key, &line, [])?, condition).await? == Written::Yes {
                return Ok(first);
            }
        }
        Err(LedgerError::Contended(key.to_string()))
    }
}
