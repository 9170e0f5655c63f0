//! The ledger: one DynamoDB table that remembers generations, authorities, attempts, sightings and epochs.
//!
//! Facts only; phases are derived from them elsewhere. Each item is the record as JSON in `record`, and beside it the
//! few typed attributes its conditions compare. Every write is conditional, every read is consistent, and every effect
//! is idempotent: correctness rests on this module and on no reserved concurrency anywhere.
//!
//! | `pk` | `sk` | record |
//! | --- | --- | --- |
//! | `STACK#<stack>` | `GENERATION#shared#<%08d>` | [`GenerationRecord`](espalier_domain::record::GenerationRecord) |
//! | `STACK#<stack>` | `LEAF#<%08d>#<node>` | [`LeafRecord`](espalier_domain::record::LeafRecord), where each target has its own; until a month after its end |
//! | `STACK#<stack>` | `DISCARDED#<%08d>` | [`DiscardRecord`](espalier_domain::record::DiscardRecord) |
//! | `STACK#<stack>` | `PROPOSAL#<scope>#<%08d>#<fingerprint>` | either, before it is known which mint won |
//! | `STACK#<stack>` | `ATTEMPT#<instance>#<%08d>#<%04d>` | [`AttemptRecord`](espalier_domain::record::AttemptRecord) |
//! | `STACK#<stack>` | `SIGHTING#<instance>` | [`SightingRecord`](espalier_domain::record::SightingRecord) |
//! | `STACK#<stack>` | `THROUGH` | [`ThroughRecord`](espalier_domain::record::ThroughRecord) |
//! | `STACK#<stack>` | `EMERGENCY#<%08d>` | [`EmergencyRecord`](espalier_domain::record::EmergencyRecord) |
//! | `STACK#<stack>` | `EPOCH` | [`EpochRecord`](espalier_domain::record::EpochRecord) |
//! | `MEMBERS#<stack>` | `MEMBERSHIP` | [`MembershipRecord`](espalier_domain::record::MembershipRecord) |
//! | `MEMBERS#<stack>` | `CERTIFICATE` | [`RequestedRecord`](espalier_domain::record::RequestedRecord) |
//! | `STACK#<stack>`, `MEMBERS#<stack>` | `TOLD` | [`ToldRecord`](espalier_domain::told::ToldRecord), of `rotate` and of `provision` |
//! | `LAPSING` | `<certificate ARN>#<end>` | [`LapsingRecord`](espalier_domain::record::LapsingRecord) |
//! | `HEARD` | `<certificate ARN>` | [`HeardRecord`](espalier_domain::acm::HeardRecord), until 400 days after the last news |
//! | `LINE` | `FETCHES` | [`LineRecord`](espalier_domain::rotation::pace::LineRecord) |
//! | `AUTHORITIES` | `AUTHORITY#<id>` | [`AuthorityRecord`](espalier_domain::record::AuthorityRecord) |
//! | `AUTHORITIES` | `FOUNDED#<issuing key>` | the same, before it is published: of a key in AWS KMS |
//! | `AUTHORITIES` | `TURN#<%08d>` | [`TurnRecord`](espalier_domain::record::TurnRecord) |
//! | `AUTHORITIES` | `ACKNOWLEDGED#<id>#<verifier>#<%012d>` | [`AcknowledgementRecord`](espalier_domain::record::AcknowledgementRecord) |
//!
//! A lost answer does not lie: the SDK repeats a call whose answer got lost, and the repetition then fails on the
//! condition that the first one fulfilled. So a refused condition is never taken at its word; the stored record is read
//! back, and one that is exactly what we wrote is ours.

mod attempts;
mod emergencies;
mod epochs;
mod generations;
mod heard;
mod lapsing;
mod line;
mod membership;
mod sightings;
mod told;
mod turns;

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use espalier_domain::failure::{Failure, Word};
use espalier_domain::id::StackName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{AwsError, during};

pub use attempts::Begun;
pub use epochs::{Claim, EpochSeen, Still};
pub use generations::Minted;
pub use membership::Noted;
pub use told::{Teller, Told};

/// What a function that only reads the ledger needs.
pub const READ: &[&str] = &["dynamodb:GetItem", "dynamodb:Query"];

/// What a function that also writes needs (a transaction of puts is authorised as puts).
pub const WRITE: &[&str] = &["dynamodb:PutItem"];

/// What the partitions begin with that `provision` alone writes: its role names them (`dynamodb:LeadingKeys`).
pub const MEMBERS: &str = "MEMBERS#";

/// The partition that `authority` alone writes: its role names it.
pub const AUTHORITIES: &str = "AUTHORITIES";

/// The attribute the table's time-to-live setting names, in seconds since 1970. Only items whose loss changes nothing
/// but history carry it.
pub const EXPIRES: &str = "expires";

/// The attribute that counts what happened to an item without changing its record.
const COUNT: &str = "count";

/// Times a read, decide, write-if-unchanged round is tried before the item counts as contended.
const ROUNDS: u32 = 5;

/// The table. Cheap to clone; holds no state of its own.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    table: String,
}

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// DynamoDB refused or did not answer.
    #[error("the ledger is not available")]
    Aws(#[from] AwsError),
    /// An item is not what this version writes.
    #[error("the ledger's item {key} cannot be read")]
    Garbled {
        /// `pk` and `sk`.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An item has no `record`, or a record cannot be written as JSON.
    #[error("the ledger's item {0} has no record")]
    Empty(String),
    /// An item was changed by others each time we looked.
    #[error("the ledger's item {0} is being changed by others")]
    Contended(String),
}

impl Failure for LedgerError {
    fn word(&self) -> Word {
        match self {
            Self::Aws(error) => error.word(),
            Self::Garbled { .. } | Self::Empty(_) => Word::Broken,
            Self::Contended(_) => Word::Conflict,
        }
    }

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Aws(error) => error.retry_after_s(),
            Self::Garbled { .. } | Self::Empty(_) | Self::Contended(_) => None,
        }
    }
}

type Item = HashMap<String, AttributeValue>;

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    pk: String,
    sk: String,
}

impl Key {
    fn of(stack: &StackName, sk: impl Into<String>) -> Self {
        Self { pk: partition(stack), sk: sk.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pk, self.sk)
    }
}

fn partition(stack: &StackName) -> String {
    format!("STACK#{stack}")
}

/// What must be true of the stored item for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition<'a> {
    /// There is none.
    Absent,
    /// It still holds the text that was read.
    Unchanged(&'a str),
    /// It still holds the text that was read, and its floor is not above ours: even a bug above cannot lower a floor.
    UnchangedFloor(&'a str, u32),
    /// It still holds the text that was read, and nothing was counted since.
    UnchangedCounted(&'a str, u64),
}

/// Whether a conditional write happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    /// The condition did not hold (or this is the repetition of a call whose answer got lost).
    No,
}

/// An item as it was read: the text for the next condition, and what it says.
#[derive(Debug, Clone)]
struct Stored<R> {
    text: String,
    record: R,
    count: u64,
}

impl Ledger {
    /// A ledger in the named table.
    pub fn new(sdk: &SdkConfig, table: impl Into<String>) -> Self {
        Self { client: Client::new(sdk), table: table.into() }
    }

    async fn get<R: DeserializeOwned>(&self, key: &Key) -> Result<Option<Stored<R>>, LedgerError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(key.pk.clone()))
            .key("sk", AttributeValue::S(key.sk.clone()))
            .consistent_read(true)
            .send()
            .await
            .map_err(during("dynamodb:GetItem"))?;
        answer.item.map(|item| decode(&item)).transpose()
    }

    /// Every record whose sort key begins with `prefix`, in the order of the keys.
    async fn query<R: DeserializeOwned>(&self, pk: &str, prefix: &str) -> Result<Vec<R>, LedgerError> {
        let mut records = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
            .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()))
            .consistent_read(true)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            for item in page.map_err(during("dynamodb:Query"))?.items() {
                records.push(decode(item)?.record);
            }
        }
        Ok(records)
    }

    async fn put(&self, item: Item, condition: Condition<'_>) -> Result<Written, LedgerError> {
        let (expression, names, values) = condition.parts();
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(expression)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values);
        match put.send().await {
            Ok(_) => Ok(Written::Yes),
            Err(error) if error.as_service_error().is_some_and(PutItemError::is_conditional_check_failed_exception) => {
                Ok(Written::No)
            }
            Err(error) => Err(during("dynamodb:PutItem")(error).into()),
        }
    }

    /// A put as a part of a transaction.
    fn transact_put(&self, item: Item, condition: Condition<'_>) -> Result<TransactWriteItem, LedgerError> {
        let (expression, names, values) = condition.parts();
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(expression)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .build()
            .map_err(|error| AwsError::unexpected("dynamodb:PutItem", error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Writes all or none. The SDK adds a client request token, so that the repetition of a call whose answer got lost
    /// is not refused.
    async fn transact(&self, writes: Vec<TransactWriteItem>) -> Result<Written, LedgerError> {
        match self.client.transact_write_items().set_transact_items(Some(writes)).send().await {
            Ok(_) => Ok(Written::Yes),
            Err(error) if error.as_service_error().is_some_and(is_refused_condition) => Ok(Written::No),
            Err(error) => Err(during("dynamodb:PutItem")(error).into()),
        }
    }
}

type Names = Option<HashMap<String, String>>;
type Values = Option<Item>;

impl Condition<'_> {
    /// The expression, and what its placeholders stand for.
    fn parts(self) -> (&'static str, Names, Values) {
        let name = |name: &str| (format!("#{name}"), name.to_owned());
        match self {
            Self::Absent => ("attribute_not_exists(pk)", None, None),
            Self::Unchanged(text) => (
                "#record = :seen",
                Some(HashMap::from([name("record")])),
                Some(Item::from([(":seen".to_owned(), AttributeValue::S(text.to_owned()))])),
            ),
            Self::UnchangedFloor(text, floor) => (
                "#record = :seen AND (attribute_not_exists(#floor) OR #floor <= :floor)",
                Some(HashMap::from([name("record"), name("floor")])),
                Some(Item::from([
                    (":seen".to_owned(), AttributeValue::S(text.to_owned())),
                    (":floor".to_owned(), number(floor)),
                ])),
            ),
            Self::UnchangedCounted(text, count) => (
                "#record = :seen AND #count = :count",
                Some(HashMap::from([name("record"), name(COUNT)])),
                Some(Item::from([
                    (":seen".to_owned(), AttributeValue::S(text.to_owned())),
                    (":count".to_owned(), number(count)),
                ])),
            ),
        }
    }
}

/// Whether a transaction was refused by a condition, and not because of a passing collision.
fn is_refused_condition(error: &TransactWriteItemsError) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else { return false };
    cancelled.cancellation_reasons().iter().any(|reason| reason.code() == Some("ConditionalCheckFailed"))
}

/// Writes a record as an item, with the typed attributes its conditions need.
fn encode<R: Serialize>(
    key: &Key,
    record: &R,
    typed: impl IntoIterator<Item = (&'static str, AttributeValue)>,
) -> Result<Item, LedgerError> {
    let text = text(key, record)?;
    let mut item = Item::from([
        ("pk".to_owned(), AttributeValue::S(key.pk.clone())),
        ("sk".to_owned(), AttributeValue::S(key.sk.clone())),
        ("record".to_owned(), AttributeValue::S(text)),
    ]);
    item.extend(typed.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Ok(item)
}

/// A record as it stands in its item.
fn text<R: Serialize>(key: &Key, record: &R) -> Result<String, LedgerError> {
    serde_json::to_string(record).map_err(|source| LedgerError::Garbled { key: key.to_string(), source })
}

fn decode<R: DeserializeOwned>(item: &Item) -> Result<Stored<R>, LedgerError> {
    let word = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    let key = || format!("{} {}", word("pk").map_or("?", |v| v), word("sk").map_or("?", |v| v));
    let text = word("record").ok_or_else(|| LedgerError::Empty(key()))?;
    let record = serde_json::from_str(text).map_err(|source| LedgerError::Garbled { key: key(), source })?;
    let count = item.get(COUNT).and_then(|value| value.as_n().ok()).and_then(|digits| digits.parse().ok());
    Ok(Stored { text: text.clone(), record, count: count.unwrap_or_default() })
}

#[expect(clippy::needless_pass_by_value, reason = "numbers are as cheap as references to them")]
fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_holds_the_record_and_its_typed_attributes() {
        let key = Key { pk: "A".into(), sk: "B".into() };
        let item = encode(&key, &7_u32, [("floor", number(3))]).unwrap();
        assert_eq!(item["record"], AttributeValue::S("7".into()));
        assert_eq!(item["floor"], AttributeValue::N("3".into()));
        assert_eq!(decode::<u32>(&item).unwrap().record, 7);
    }

    #[test]
    fn a_garbled_item_is_named() {
        let key = Key { pk: "A".into(), sk: "B".into() };
        let item = encode(&key, &"text", []).unwrap();
        let error = decode::<u32>(&item).unwrap_err();
        assert_eq!(error.to_string(), "the ledger's item A B cannot be read");
        assert_eq!(error.word(), Word::Broken);
        assert!(matches!(decode::<u32>(&Item::new()), Err(LedgerError::Empty(_))));
    }
}
