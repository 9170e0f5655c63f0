//! The inventory of certificates as evidence: what the ledger remembers, sealed segment by segment into chains.
//!
//! There is a chain for each stack and one for the control plane itself, which holds the authorities and the newest head of
//! every stack's chain. A segment holds what the ledger knows and no earlier segment holds, and what each target was last
//! seen to serve. It names the hash of the segment before it; its own header is what is signed. Nothing here signs, and
//! nothing here proves anything to somebody else: `evidence/verify.py` does, and shares no code with this.
//!
//! Which facts are new is decided by what the last segment says it leaves behind ([`Carried`]), and never by the clock: a
//! fact that is written late is in the next segment, and one that is deleted later was in an earlier one.

mod export;
mod segment;
mod view;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::id::{Generation, StackName};
use crate::record::{
    AcknowledgementRecord, AttemptRecord, AuthorityRecord, DiscardRecord, EmergencyRecord, GenerationRecord,
    LeafRecord, SightingRecord, Turn, TurnRecord,
};

pub use export::{csv, json};
pub use segment::{Damage, Draft, Header, Place, Seal, Segment};
pub use view::{Certificate, Filter, Handshake, Standing, Trusted, View};

/// One line of a segment: a record as the ledger has it, and what kind it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Row {
    /// A certificate was issued, or exported from ACM, and stored; or a generation was begun, in which each target has its own.
    Issued(Box<Issued>),
    /// A target got its own leaf of a generation.
    Leaf(LeafRecord),
    /// A generation's bundles were deleted from Parameter Store.
    Discarded(DiscardRecord),
    /// A delivery to a target ended.
    Delivered(AttemptRecord),
    /// What a target was last seen to serve.
    Seen(SightingRecord),
    /// A person declared what was issued so far unsafe.
    Unsafe(EmergencyRecord),
    /// An authority came to be.
    Authority(AuthorityRecord),
    /// An authority's life took a turn.
    Turn(TurnRecord),
    /// Somebody said that a verifier accepts an authority.
    Acknowledged(AcknowledgementRecord),
    /// The newest segment of a stack's chain.
    Head(Head),
    /// What all segments up to this one hold; always the last line.
    Carried(Carried),
}

/// A generation, and what led to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issued {
    /// The ledger's record.
    #[serde(flatten)]
    pub record: GenerationRecord,
    /// The generation that it took the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<Generation>,
    /// Whose word it goes back to.
    pub asked: Asked,
}

/// Whose word a certificate goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// What kind of word.
    pub by: Word,
    /// The principal; absent where nobody wrote it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// When it was given.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub at: Option<OffsetDateTime>,
    /// The request, by which CloudTrail knows who it really was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// Kinds of words that certificates go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Word {
    /// The spec, which has its certificates renewed: whoever wrote that version.
    Spec,
    /// An emergency.
    Emergency,
    /// An authority that was declared unsafe.
    Taint,
}

/// The newest segment of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The chain.
    pub chain: Chain,
    /// The segment's number.
    pub number: u32,
    /// The SHA-256 of its header, lower-case hexadecimal.
    pub hash: String,
}

/// What all segments of a chain so far hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Carried {
    /// The newest generation: they are numbered without gaps, and appended in that order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Generation>,
    /// Everything else, as far as the ledger still had it.
    pub known: BTreeSet<String>,
}

/// Which chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    /// The control plane's own: authorities, and the other chains' heads.
    Plane,
    /// A stack's.
    Stack(StackName),
}

const STACKS: &str = "stacks/";

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plane => f.write_str("plane"),
            Self::Stack(stack) => write!(f, "{STACKS}{stack}"),
        }
    }
}

impl std::str::FromStr for Chain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix(STACKS) {
            None if text == "plane" => Ok(Self::Plane),
            None => Err(format!("{text:?} is no chain")),
            Some(stack) => StackName::parse(stack).map(Self::Stack).map_err(|error| error.to_string()),
        }
    }
}

impl Serialize for Chain {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The schedule seals no chain again before this time: an event may be delivered twice.
const AGAIN: Duration = Duration::HOUR;

/// Whether the schedule is to seal a chain now.
pub fn is_due(last: Option<&Segment>, now: OffsetDateTime) -> bool {
    last.is_none_or(|last| now - last.header.until >= AGAIN)
}

/// How long after a leaf's end it may still be written down: clocks differ, and a killed function's work is finished later.
const LATE: Duration = Duration::DAY;

/// The generations of which a target may have got its own leaf since the last segment. All leaves of one end together, and nobody is
/// given one that has ended: the others' were all sealed.
pub fn with_new_leaves(generations: &[GenerationRecord], last: Option<&Segment>) -> impl Iterator<Item = Generation> {
    let until = last.map(|last| last.header.until);
    let may_be_new = move |record: &&GenerationRecord| {
        record.scope.is_each() && until.is_none_or(|until| record.not_after.saturating_add(LATE) > until)
    };
    generations.iter().filter(may_be_new).map(|record| record.generation)
}

/// All that the ledger knows and a chain is to hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Every generation of the stack.
    pub generations: Vec<GenerationRecord>,
    /// Targets' own leaves, at least of the generations [`with_new_leaves`].
    pub leaves: Vec<LeafRecord>,
    /// The generations whose bundles were deleted.
    pub discarded: Vec<DiscardRecord>,
    /// Every attempt.
    pub attempts: Vec<AttemptRecord>,
    /// The last sighting of each target.
    pub sightings: Vec<SightingRecord>,
    /// Every emergency.
    pub emergencies: Vec<EmergencyRecord>,
    /// Every authority's turn: in the control plane's chain, and for who led to a certificate.
    pub turns: Vec<TurnRecord>,
    /// Who wrote the spec's versions, as far as Parameter Store remembers.
    pub authors: Vec<Author>,
    /// Every authority.
    pub authorities: Vec<AuthorityRecord>,
    /// Every acknowledgement.
    pub acknowledgements: Vec<AcknowledgementRecord>,
    /// The other chains' heads.
    pub heads: Vec<Head>,
}

/// Who wrote a version of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The parameter's version.
    pub version: i64,
    /// The principal, as Parameter Store names it.
    pub caller: String,
    /// When.
    pub at: Option<OffsetDateTime>,
}

impl Facts {
    /// Whether these are the facts of an earlier time than was sealed: of a ledger that was restored or begun anew. What it numbers
    /// next was sealed before, as something else.
    pub fn is_behind(&self, carried: &Carried) -> bool {
        self.generations.iter().map(|record| record.generation).max() < carried.newest
    }

    /// Whether a chain would have nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self { authors: self.authors.clone(), turns: self.turns.clone(), ..Self::default() }
    }

    /// What a chain holds next; the last row says what it has held then.
    pub fn rows(&self, chain: &Chain, carried: &Carried) -> Vec<Row> {
        let mut now = Carried { newest: carried.newest, known: BTreeSet::new() };
        let mut rows = match chain {
            Chain::Stack(_) => self.of_stack(carried, &mut now),
            Chain::Plane => self.of_plane(carried, &mut now),
        };
        rows.push(Row::Carried(now));
        rows
    }

    fn of_stack(&self, carried: &Carried, now: &mut Carried) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut all: Vec<&GenerationRecord> = self.generations.iter().collect();
        all.sort_by_key(|record| record.generation);
        let mut before: Option<&GenerationRecord> = None;
        for record in all {
            if carried.newest.is_none_or(|newest| record.generation > newest) {
                now.newest = Some(record.generation);
                let (supersedes, asked) = (before.map(|before| before.generation), self.asked(record, before));
                rows.push(Row::Issued(Box::new(Issued { record: record.clone(), supersedes, asked })));
            }
            before = Some(record);
        }
        let mut fact = |id: String, row: Row| {
            if !carried.known.contains(&id) {
                rows.push(row);
            }
            now.known.insert(id);
        };
        for record in &self.leaves {
            fact(format!("leaf/{}/{}", record.generation, record.scope), Row::Leaf(record.clone()));
        }
        for record in &self.discarded {
            fact(format!("discarded/{}", record.generation), Row::Discarded(record.clone()));
        }
        for record in &self.emergencies {
            fact(format!("unsafe/{}", record.through), Row::Unsafe(record.clone()));
        }
        // One that is under way is not forgotten before it has ended.
        for record in self.attempts.iter().filter(|record| record.ended.is_some()) {
            let AttemptRecord { target, generation, attempt, .. } = record;
            fact(format!("delivered/{target}/{generation}/{attempt}"), Row::Delivered(record.clone()));
        }
        rows.extend(self.sightings.iter().cloned().map(Row::Seen));
        rows
    }

    fn of_plane(&self, carried: &Carried, now: &mut Carried) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut fact = |id: String, row: Row| {
            if !carried.known.contains(&id) {
                rows.push(row);
            }
            now.known.insert(id);
        };
        for record in &self.authorities {
            fact(format!("authority/{}", record.authority), Row::Authority(record.clone()));
        }
        for record in &self.turns {
            fact(format!("turn/{}", record.number), Row::Turn(record.clone()));
        }
        for record in &self.acknowledgements {
            let (authority, verifier, until) = (&record.authority, &record.verifier, record.until.unix_timestamp());
            fact(format!("acknowledged/{authority}/{verifier}/{until}"), Row::Acknowledged(record.clone()));
        }
        rows.extend(self.heads.iter().cloned().map(Row::Head));
        rows
    }

    /// Whose word a certificate goes back to: a person's who declared the one before it unsafe, or the spec's.
    fn asked(&self, record: &GenerationRecord, before: Option<&GenerationRecord>) -> Asked {
        let emergency = before.and_then(|before| {
            let reaches = |one: &&EmergencyRecord| one.through >= before.generation && one.at <= record.minted_at;
            self.emergencies.iter().filter(reaches).min_by_key(|one| one.at)
        });
        if let Some(one) = emergency {
            let (caller, request) = (Some(one.caller.to_string()), Some(one.request.clone()));
            return Asked { by: Word::Emergency, caller, at: Some(one.at), request };
        }
        let taint = before.and_then(|before| {
            let reaches = |one: &&TurnRecord| {
                one.turn == Turn::Tainted && one.authority == before.authority && one.at <= record.minted_at
            };
            self.turns.iter().find(reaches)
        });
        if let Some(one) = taint {
            let caller = one.caller.as_ref().map(ToString::to_string);
            return Asked { by: Word::Taint, caller, at: Some(one.at), request: None };
        }
        let author = record.spec.as_ref().and_then(|spec| self.authors.iter().find(|one| one.version == spec.version));
        let (caller, at) = (author.map(|one| one.caller.clone()), author.and_then(|one| one.at));
        Asked { by: Word::Spec, caller, at, request: None }
    }
}
