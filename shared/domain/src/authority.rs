//! The life of an authority, from its two certificates until nobody needs its root any more.
//!
//! | phase | signs | its root in the bundle | ends when |
//! | --- | --- | --- | --- |
//! | prepared | nothing | yes | every registered verifier has acknowledged it, and all others had time |
//! | active | every new leaf | yes | another one is activated |
//! | retiring | nothing | yes | the last leaf that it can have signed has ended |
//! | retired | nothing | no | never |
//!
//! No phase is stored. The facts are the authorities, who acknowledged which, and the *turns*: numbered, each appended only
//! if none has its number. So two decisions that did not know of one another are never both taken: who retires an authority
//! that a person has just activated again finds the number used up, and looks anew. One that a person declared unsafe, when
//! another signs, is *tainted*: it goes on retiring, never signs again, and what it signed is replaced without waiting.

mod plan;
mod word;

use time::{Duration, OffsetDateTime};

use crate::id::VerifierName;
use crate::record::{AcknowledgementRecord, AuthorityRecord, Turn, TurnRecord};

pub use plan::{Action, plan};
pub use word::{Ruling, Word, rule};

/// How late a decision may be carried out, and how far clocks differ, together. A function runs for fifteen minutes at most.
pub const LATE: Duration = Duration::HOUR;

/// The longest that a leaf lives: the most that a spec may ask for.
pub const LONGEST_LEAF: Duration = Duration::days(30);

/// What people are given to have clients trust the next authority, beyond the wait and the longest leaf.
pub const ROOM: Duration = Duration::days(90);

/// All that a decision about authorities may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The moment.
    pub now: OffsetDateTime,
    /// What was configured.
    pub rules: Rules,
    /// Every authority there ever was, in any order.
    pub authorities: Vec<AuthorityRecord>,
    /// Every turn, in any order.
    pub turns: Vec<TurnRecord>,
    /// Every acknowledgement, in any order.
    pub acknowledgements: Vec<AcknowledgementRecord>,
    /// The bundle that is published; absent while there is none.
    pub bundle: Option<String>,
    /// Those among them whose certificates are not what they were: they do not parse, do not fit together, or are another's.
    pub damaged: Vec<String>,
    /// Whether there are keys of which no authority was made yet.
    pub has_keys: bool,
}

/// What was configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Those who have to acknowledge an authority before it signs.
    pub verifiers: Vec<VerifierName>,
    /// How long clients that nobody registered are given to take the bundle.
    pub wait: Duration,
}

/// Where an authority stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Published, and signs nothing.
    Prepared,
    /// Signs every new leaf.
    Active,
    /// Signed until another one was activated.
    Retiring {
        /// When; absent of one that was replaced before turns were written down.
        since: Option<OffsetDateTime>,
    },
    /// Trusted no more.
    Retired,
}

impl Phase {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retiring { .. } => "retiring",
            Self::Retired => "retired",
        }
    }
}

/// The authority that signs leaves: the one that was activated last. While none was, the first one; of those from before
/// turns were written down, the one that ends last.
pub fn active<'a>(authorities: &'a [AuthorityRecord], turns: &[TurnRecord]) -> Option<&'a AuthorityRecord> {
    match activations(turns).last() {
        Some(turn) => authorities.iter().find(|record| record.authority == turn.authority),
        None => first(authorities),
    }
}

/// Where this authority stands.
pub fn phase(record: &AuthorityRecord, authorities: &[AuthorityRecord], turns: &[TurnRecord]) -> Phase {
    let is_it = |turn: &&TurnRecord| turn.authority == record.authority;
    if turned(Turn::Retired, &record.authority, turns).is_some() {
        return Phase::Retired;
    }
    let mut signs = first(authorities).is_some_and(|first| first.authority == record.authority);
    let mut since = None;
    for turn in activations(turns) {
        if signs && !is_it(&turn) {
            since = Some(turn.at);
        }
        signs = is_it(&turn);
    }
    match (signs, since, record.published_at) {
        (true, _, _) => Phase::Active,
        (false, Some(_), _) | (false, None, None) => Phase::Retiring { since },
        (false, None, Some(_)) => Phase::Prepared,
    }
}

/// The word that what this authority signed is unsafe, if somebody said it.
pub fn tainted<'a>(authority: &str, turns: &'a [TurnRecord]) -> Option<&'a TurnRecord> {
    turned(Turn::Tainted, authority, turns)
}

/// Those whose roots clients and probers trust: all that are not retired.
pub fn trusted(authorities: Vec<AuthorityRecord>, turns: &[TurnRecord]) -> Vec<AuthorityRecord> {
    authorities.into_iter().filter(|record| turned(Turn::Retired, &record.authority, turns).is_none()).collect()
}

/// The first turn of this kind that an authority took.
fn turned<'a>(what: Turn, authority: &str, turns: &'a [TurnRecord]) -> Option<&'a TurnRecord> {
    turns.iter().find(|turn| turn.turn == what && turn.authority == authority)
}

/// Their roots, concatenated PEM in a fixed order: what clients are to have.
pub fn bundle(authorities: &[AuthorityRecord], turns: &[TurnRecord]) -> String {
    let mut trusted = trusted(authorities.to_vec(), turns);
    trusted.sort_by(|a, b| a.authority.cmp(&b.authority));
    trusted.iter().map(|record| format!("{}\n", record.root_pem.trim_end())).collect()
}

/// SHA-256 of a bundle, lower-case hexadecimal, as `sha256sum` prints it.
pub fn digest(bundle: &str) -> String {
    crate::token::sha256(bundle)
}

/// The one that was published first: with no turn, whoever comes later waits for its own.
fn first(authorities: &[AuthorityRecord]) -> Option<&AuthorityRecord> {
    let before = authorities.iter().filter(|record| record.published_at.is_none());
    let ends_last = before.max_by(|a, b| (a.not_after, &a.authority).cmp(&(b.not_after, &b.authority)));
    ends_last.or_else(|| {
        authorities.iter().min_by(|a, b| (a.published_at, &a.authority).cmp(&(b.published_at, &b.authority)))
    })
}

/// In the order of their numbers.
fn activations(turns: &[TurnRecord]) -> impl Iterator<Item = &TurnRecord> {
    let mut all: Vec<&TurnRecord> = turns.iter().filter(|turn| turn.turn == Turn::Activated).collect();
    all.sort_by_key(|turn| turn.number);
    all.into_iter()
}

impl Facts {
    /// The authority that signs leaves.
    pub fn active(&self) -> Option<&AuthorityRecord> {
        active(&self.authorities, &self.turns)
    }

    /// Where each stands, the newest last.
    pub fn phases(&self) -> Vec<(&AuthorityRecord, Phase)> {
        let mut all: Vec<_> = self.authorities.iter().collect();
        all.sort_by(|a, b| (a.published_at, &a.authority).cmp(&(b.published_at, &b.authority)));
        all.into_iter().map(|record| (record, phase(record, &self.authorities, &self.turns))).collect()
    }

    /// Why no bundle can be made of what there is: somebody's root belongs into it, and is not what it was.
    fn damage(&self) -> Option<String> {
        let is_trusted = |authority: &&String| turned(Turn::Retired, authority, &self.turns).is_none();
        let damaged: Vec<&str> = self.damaged.iter().filter(is_trusted).map(String::as_str).collect();
        (!damaged.is_empty()).then(|| {
            format!(
                "in the ledger, the certificates of {} are damaged: restore them (docs/disasters.md); nothing is published until then",
                damaged.join(", ")
            )
        })
    }

    /// The next one that was made, while it signs nothing yet.
    fn prepared(&self) -> Option<&AuthorityRecord> {
        self.phases().into_iter().find_map(|(record, phase)| (phase == Phase::Prepared).then_some(record))
    }

    /// What the next turn is numbered.
    fn next_number(&self) -> u32 {
        self.turns.iter().map(|turn| turn.number).max().unwrap_or_default().saturating_add(1)
    }

    /// Those who have not acknowledged this authority, or not for long enough: what is decided now is carried out later.
    pub fn missing(&self, authority: &str) -> Vec<&VerifierName> {
        let holds = |verifier: &VerifierName| {
            self.acknowledgements.iter().any(|said| {
                said.authority == authority && said.verifier == *verifier && said.until > self.now.saturating_add(LATE)
            })
        };
        self.rules.verifiers.iter().filter(|verifier| !holds(verifier)).collect()
    }
}

/// When the last leaf has ended that an authority can have signed which another one took over from then: the turn may have been
/// written down late, and whoever read the ledger just before that may have signed late, too.
fn last_leaf_ends(since: OffsetDateTime) -> OffsetDateTime {
    since.saturating_add(LONGEST_LEAF).saturating_add(LATE).saturating_add(LATE)
}
