//! A segment as text: the header, the seal over it, and a line for each row.
//!
//! Each line is JSON without blanks, keys sorted, ended by a line feed; each row has its number. The hash of a segment is the SHA-256 of its first line
//! without the line feed; the header holds the hash of everything behind the second line. So the seal over one line holds all
//! of the segment, and all segments before it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Carried, Chain, Facts, Head, Row};
use crate::token::sha256;

/// The layout that this version writes.
const FORMAT: u32 = 1;

/// What is signed of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// The layout's number.
    pub format: u32,
    /// The chain.
    pub chain: Chain,
    /// The segment's number in its chain, from 1.
    pub number: u32,
    /// The hash of the segment before it; absent of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// When the segment before it was made; absent of the first, which holds all that there was.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub from: Option<OffsetDateTime>,
    /// When the ledger was read for it.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// How many rows there are.
    pub count: usize,
    /// SHA-256 of the rows, each with its line feed.
    pub rows: String,
}

/// The signature over a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seal {
    /// KMS's word for it.
    pub algorithm: String,
    /// The key, by ARN: says where to look for it, and proves nothing.
    pub key: String,
    /// DER, base64.
    pub signature: String,
}

/// Where a segment is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The chain.
    pub chain: Chain,
    /// The segment's number.
    pub number: u32,
}

impl Place {
    /// What the names of a chain's segments begin with.
    pub fn prefix(chain: &Chain) -> String {
        format!("{chain}/")
    }

    /// The name of the object; names of a chain sort by number.
    pub fn name(&self) -> String {
        format!("{}/{:08}.jsonl", self.chain, self.number)
    }

    /// The place that a name stands for, if it is a segment's.
    pub fn parse(name: &str) -> Option<Self> {
        let (chain, file) = name.rsplit_once('/')?;
        let number = file.strip_suffix(".jsonl")?.parse().ok()?;
        let place = Self { chain: chain.parse().ok()?, number };
        (place.name() == name).then_some(place)
    }
}

/// A segment that is not sealed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    header: Header,
    line: String,
    body: String,
}

impl Draft {
    /// The segment that follows `last`.
    ///
    /// # Errors
    /// When a row cannot be written as JSON.
    pub fn new(
        chain: &Chain,
        last: Option<&Segment>,
        facts: &Facts,
        now: OffsetDateTime,
    ) -> Result<Self, serde_json::Error> {
        let rows = facts.rows(chain, last.map_or(&Carried::default(), |last| &last.carried));
        let mut body = String::new();
        for (at, row) in rows.iter().enumerate() {
            body.push_str(&numbered(at + 1, row)?);
            body.push('\n');
        }
        let header = Header {
            format: FORMAT,
            chain: chain.clone(),
            number: last.map_or(1, |last| last.header.number + 1),
            previous: last.map(|last| last.hash.clone()),
            from: last.map(|last| last.header.until),
            // Of two that overlap, one began before the other and ends after it.
            until: last.map_or(now, |last| now.max(last.header.until)),
            count: rows.len(),
            rows: sha256(&body),
        };
        Ok(Self { line: canonical(&header)?, header, body })
    }

    /// Where it belongs.
    pub fn place(&self) -> Place {
        Place { chain: self.header.chain.clone(), number: self.header.number }
    }

    /// How many rows it has.
    pub fn count(&self) -> usize {
        self.header.count
    }

    /// What is signed.
    pub fn signed(&self) -> &str {
        &self.line
    }

    /// What the next segment names.
    pub fn head(&self) -> Head {
        Head { chain: self.header.chain.clone(), number: self.header.number, hash: sha256(&self.line) }
    }

    /// The segment as it is stored.
    ///
    /// # Errors
    /// When the seal cannot be written as JSON.
    pub fn sealed(&self, seal: &Seal) -> Result<String, serde_json::Error> {
        Ok(format!("{}\n{}\n{}", self.line, canonical(seal)?, self.body))
    }
}

/// A stored segment whose rows are those that its header names. Whose the seal is has not been looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Its header.
    pub header: Header,
    /// The SHA-256 of the header's line.
    pub hash: String,
    /// What was signed: the header's line.
    pub signed: String,
    /// The signature.
    pub seal: Seal,
    /// Its rows, without the last.
    pub rows: Vec<Row>,
    /// The last row: what the segments up to this one hold.
    pub carried: Carried,
}

/// Why a stored segment is not what it says.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It does not have a header, a seal and rows, or it is not where its header says.
    #[error("{name} {problem}")]
    Shape {
        /// The object.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// One of its lines is no JSON of the kind that belongs there.
    #[error("line {line} of {name} cannot be read")]
    Line {
        /// The object.
        name: String,
        /// From 1.
        line: usize,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl Segment {
    /// Reads the segment that was stored at a place.
    ///
    /// # Errors
    /// When it is not what its header says, or the header is not of this place.
    pub fn parse(place: &Place, text: &str) -> Result<Self, Damage> {
        let name = place.name();
        let shape = |problem| Damage::Shape { name: name.clone(), problem };
        let unreadable = |line| {
            let name = name.clone();
            move |source| Damage::Line { name, line, source }
        };
        let (signed, rest) = text.split_once('\n').ok_or_else(|| shape("has no seal"))?;
        let (seal, body) = rest.split_once('\n').ok_or_else(|| shape("has no rows"))?;
        let header: Header = serde_json::from_str(signed).map_err(unreadable(1))?;
        if header.format != FORMAT {
            return Err(shape("is of another format than this version reads"));
        }
        if (&header.chain, header.number) != (&place.chain, place.number) {
            return Err(shape("is another segment than its name says"));
        }
        if header.rows != sha256(body) {
            return Err(shape("holds other rows than were sealed"));
        }
        let mut rows = Vec::new();
        for (at, line) in body.lines().enumerate() {
            rows.push(serde_json::from_str(line).map_err(unreadable(at + 3))?);
        }
        let Some(Row::Carried(carried)) = rows.pop() else {
            return Err(shape("does not end with what it carries on"));
        };
        let seal = serde_json::from_str(seal).map_err(unreadable(2))?;
        Ok(Self { hash: sha256(signed), signed: signed.to_owned(), header, seal, rows, carried })
    }

    /// What the next segment names.
    pub fn head(&self) -> Head {
        Head { chain: self.header.chain.clone(), number: self.header.number, hash: self.hash.clone() }
    }
}

/// JSON without blanks, keys sorted: a map of `serde_json` keeps its keys in order.
fn canonical<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_value(value).map(|value| value.to_string())
}

/// A row with its number, so that whoever finds other rows than were sealed can say what became of them.
fn numbered(number: usize, row: &Row) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(row)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("row".to_owned(), number.into());
    }
    Ok(value.to_string())
}
