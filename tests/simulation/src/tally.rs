//! What was met in a life: every kind of trouble, phase, fault, word and block, counted, so that a test can demand that
//! none is missing.

use std::collections::BTreeMap;

use espalier_domain::plan::BlockCode;
use espalier_domain::rotation::phase::Phase;
use espalier_domain::verdict::Fault;

use crate::trouble::Trouble;

/// What was met, and how often.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// What went wrong.
    pub troubles: BTreeMap<Trouble, u32>,
    /// Where targets stood, by the phase's name.
    pub phases: BTreeMap<&'static str, u32>,
    /// What handshakes showed.
    pub faults: BTreeMap<Fault, u32>,
    /// Good handshakes.
    pub good: u32,
    /// How deliveries ended: the installer's words and Run Command's.
    pub codes: BTreeMap<String, u32>,
    /// What needed a person.
    pub blocks: BTreeMap<BlockCode, u32>,
    /// Plans made.
    pub plans: u32,
    /// Leaves minted.
    pub leaves: u32,
    /// Hosts that went back by themselves.
    pub went_back: u32,
    /// Keys that hosts made.
    pub keys: u32,
    /// Commands sent.
    pub commands: u32,
    /// Simulated hours.
    pub hours: u64,
}

/// The names of every phase but `Observed`: every host that is simulated is installed on.
pub const PHASES: [&str; 14] = [
    "Arriving",
    "Current",
    "Delivering",
    "Drifted",
    "Due",
    "Issued",
    "NotOptedIn",
    "Pausing",
    "Presenting",
    "Stuck",
    "Unconfirmed",
    "Unmanaged",
    "Unverifiable",
    "Unwanted",
];

/// Every fault a handshake can have.
pub const FAULTS: [Fault; 11] = [
    Fault::Unresolved,
    Fault::WrongAddress,
    Fault::Refused,
    Fault::TimedOut,
    Fault::NotTls,
    Fault::HandshakeFailed,
    Fault::Untrusted,
    Fault::WrongName,
    Fault::Expired,
    Fault::NotYetValid,
    Fault::OtherCertificate,
];

/// A phase's name.
pub(crate) fn name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Unwanted => "Unwanted",
        Phase::NotOptedIn { .. } => "NotOptedIn",
        Phase::Observed { .. } => "Observed",
        Phase::Unmanaged { .. } => "Unmanaged",
        Phase::Arriving => "Arriving",
        Phase::Unverifiable => "Unverifiable",
        Phase::Due => "Due",
        Phase::Issued { .. } => "Issued",
        Phase::Delivering { .. } => "Delivering",
        Phase::Presenting { .. } => "Presenting",
        Phase::Unconfirmed { .. } => "Unconfirmed",
        Phase::Drifted { .. } => "Drifted",
        Phase::Pausing { .. } => "Pausing",
        Phase::Stuck { .. } => "Stuck",
        Phase::Current { .. } => "Current",
    }
}

impl Tally {
    pub(crate) fn meet(&mut self, trouble: Trouble) {
        *self.troubles.entry(trouble).or_default() += 1;
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        fn sum<K: Ord + Clone>(into: &mut BTreeMap<K, u32>, from: &BTreeMap<K, u32>) {
            for (key, count) in from {
                *into.entry(key.clone()).or_default() += count;
            }
        }
        sum(&mut self.troubles, &other.troubles);
        sum(&mut self.phases, &other.phases);
        sum(&mut self.faults, &other.faults);
        sum(&mut self.codes, &other.codes);
        sum(&mut self.blocks, &other.blocks);
        self.good += other.good;
        self.plans += other.plans;
        self.leaves += other.leaves;
        self.keys += other.keys;
        self.commands += other.commands;
        self.went_back += other.went_back;
        self.hours += other.hours;
    }
}
