//! Faults as a pure function of a seed: which calls, events, functions and installers suffer, and when.
//!
//! A fault is placed by counting (the n-th call of an operation, the n-th event) and never by the clock, so that a seed
//! means the same on a fast and on a slow machine, as far as the world allows. [`Chaos`] meets the schedule where calls
//! and events pass; [`kill`] finds the processes.

mod armed;
pub mod kill;
mod seeds;

pub use armed::Chaos;
pub use seeds::Seeds;

use std::fmt;

/// Operations with effects, each with how often a quiet rotation of two targets calls it.
const EFFECTS: [(&str, u64); 5] = [
    ("dynamodb.PutItem", 8),
    ("dynamodb.TransactWriteItems", 3),
    ("ssm.SendCommand", 2),
    ("ssm.PutParameter", 2),
    ("sfn.StartExecution", 1),
];

/// Operations that only look; drawn as often as those with effects.
const READINGS: [(&str, u64); 7] = [
    ("dynamodb.Query", 20),
    ("dynamodb.GetItem", 20),
    ("ssm.GetParameter", 8),
    ("ssm.DescribeInstanceInformation", 5),
    ("ssm.ListCommandInvocations", 4),
    ("acm.DescribeCertificate", 5),
    ("kms.Sign", 1),
];

/// Functions that take part in a rotation.
const FUNCTIONS: [&str; 4] = ["rotate", "mint", "distribute", "verify"];

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFault {
    /// Passed on only after so many milliseconds.
    Delay(u64),
    /// Answered 503, without effect.
    Unavailable,
    /// Answered `ThrottlingException`, without effect.
    Throttle,
    /// Answered `AccessDeniedException`, without effect: a policy is in the way.
    Deny,
    /// The connection is closed, without effect.
    Refuse,
    /// The call has its effect, then the connection is closed.
    LoseAnswer,
    /// The call is performed twice; the caller gets the second answer.
    Twice,
    /// The function that calls is killed before the call has an effect.
    KillBefore,
    /// The function that calls is killed when the call had its effect and is not answered yet.
    KillAfter,
}

/// What happens to one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFault {
    /// Delivered after so many milliseconds.
    Delay(u64),
    /// Never delivered.
    Drop,
    /// Delivered twice.
    Twice,
    /// Delivered after the one that follows it.
    Overtaken,
}

/// One fault. Ordinals count from 1, from the moment the schedule is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The calls `first ..= last` of an operation.
    Call {
        /// `<service>.<Operation>`, as the gateway names it.
        operation: &'static str,
        /// The first call that is hit.
        first: u32,
        /// The last one.
        last: u32,
        /// In which way.
        what: CallFault,
    },
    /// The events `first ..= last` on the bus.
    Event {
        /// The first event that is hit.
        first: u32,
        /// The last one.
        last: u32,
        /// In which way.
        what: EventFault,
    },
    /// Every process of a function is killed, busy or not.
    KillFunction {
        /// The function.
        function: &'static str,
        /// The call, of whatever operation, that sets it off.
        call: u32,
        /// So many milliseconds later.
        after_ms: u64,
    },
    /// The process group of every running installer is killed.
    KillInstaller {
        /// The `SendCommand` that sets it off.
        command: u32,
        /// So many milliseconds later.
        after_ms: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { operation, first, last, what } if first == last => {
                write!(out, "{operation} {first}: {what:?}")
            }
            Self::Call { operation, first, last, what } => write!(out, "{operation} {first} to {last}: {what:?}"),
            Self::Event { first, last, what } if first == last => write!(out, "event {first}: {what:?}"),
            Self::Event { first, last, what } => write!(out, "event {first} to {last}: {what:?}"),
            Self::KillFunction { function, call, after_ms } => {
                write!(out, "{function} killed {after_ms} ms after call {call}")
            }
            Self::KillInstaller { command, after_ms } => {
                write!(out, "installer killed {after_ms} ms after SendCommand {command}")
            }
        }
    }
}

/// The faults of a seed: three to eight.
///
/// At most one kills installers: three failed attempts on a target call for a person (`rotation::policy::ATTEMPTS`),
/// which is right, and no convergence.
pub fn schedule(seed: u64) -> Vec<Fault> {
    let mut dice = Dice(seed);
    let mut faults: Vec<Fault> = (0..dice.within(3, 7)).map(|_| fault(&mut dice)).collect();
    if dice.below(4) == 0 {
        let command = narrow(dice.within(1, 2));
        faults.push(Fault::KillInstaller { command, after_ms: dice.below(1_500) });
    }
    faults
}

fn fault(dice: &mut Dice) -> Fault {
    match dice.below(10) {
        0..=5 => call(dice),
        6 | 7 => {
            let nth = narrow(dice.within(1, 8));
            Fault::Event { first: nth, last: nth, what: event(dice) }
        }
        _ => Fault::KillFunction {
            function: dice.of(&FUNCTIONS),
            call: narrow(dice.within(1, 120)),
            after_ms: dice.below(300),
        },
    }
}

fn call(dice: &mut Dice) -> Fault {
    let (operation, often) = if dice.below(2) == 0 { dice.of(&EFFECTS) } else { dice.of(&READINGS) };
    let first = narrow(dice.within(1, often));
    let what = match dice.below(8) {
        0 => CallFault::Delay(dice.within(50, 2_000)),
        1 => CallFault::Unavailable,
        2 => CallFault::Throttle,
        3 => CallFault::Refuse,
        4 => CallFault::LoseAnswer,
        5 => CallFault::Twice,
        6 => CallFault::KillBefore,
        _ => CallFault::KillAfter,
    };
    // The SDK tries three times: four in a row reach the product.
    let run = match what {
        CallFault::Unavailable | CallFault::Throttle | CallFault::Refuse | CallFault::LoseAnswer => dice.below(4),
        CallFault::Delay(_) | CallFault::Deny | CallFault::Twice | CallFault::KillBefore | CallFault::KillAfter => 0,
    };
    Fault::Call { operation, first, last: first.saturating_add(narrow(run)), what }
}

fn event(dice: &mut Dice) -> EventFault {
    match dice.below(4) {
        0 => EventFault::Delay(dice.within(100, 3_000)),
        1 => EventFault::Drop,
        2 => EventFault::Twice,
        _ => EventFault::Overtaken,
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// splitmix64: small, and every seed is a good one.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn of<T: Copy + Default>(&mut self, all: &[T]) -> T {
        let index = usize::try_from(self.below(all.len() as u64)).unwrap_or_default();
        all.get(index).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_is_its_schedule() {
        for seed in 0..200 {
            assert_eq!(schedule(seed), schedule(seed));
        }
        let told: Vec<String> = schedule(7).iter().map(ToString::to_string).collect();
        assert_ne!(told, schedule(8).iter().map(ToString::to_string).collect::<Vec<_>>());
    }

    #[test]
    fn twenty_seeds_meet_every_kind_of_fault() {
        let mut seen = BTreeSet::new();
        for fault in (1..=20).flat_map(schedule) {
            let text = match fault {
                Fault::Call { what, .. } => format!("call {what:?}"),
                Fault::Event { what, .. } => format!("event {what:?}"),
                Fault::KillFunction { .. } => "function".to_owned(),
                Fault::KillInstaller { .. } => "installer".to_owned(),
            };
            seen.insert(text.split('(').next().unwrap().to_owned());
        }
        assert_eq!(seen.len(), 8 + 4 + 2, "{seen:?}");
    }

    #[test]
    fn installers_are_killed_once_at_most() {
        for seed in 0..1_000 {
            let kills = schedule(seed).iter().filter(|fault| matches!(fault, Fault::KillInstaller { .. })).count();
            assert!(kills <= 1, "seed {seed}");
        }
    }
}
