//! A clock that jumps from one event to the next, and a rate that refuses what is beyond it.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use crate::world::START;

/// What is to happen, in the order of time.
#[derive(Debug)]
pub(super) struct Clock<E> {
    pub(super) now_ms: u64,
    count: u64,
    events: BTreeMap<(u64, u64), E>,
}

impl<E> Default for Clock<E> {
    fn default() -> Self {
        Self { now_ms: 0, count: 0, events: BTreeMap::new() }
    }
}

impl<E> Clock<E> {
    pub(super) fn after(&mut self, ms: u64, event: E) {
        self.count += 1;
        self.events.insert((self.now_ms + ms, self.count), event);
    }

    pub(super) fn next(&mut self) -> Option<E> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now_ms = at;
        Some(event)
    }

    /// The moment, so many milliseconds from now.
    pub(super) fn moment(&self, ms: u64) -> OffsetDateTime {
        START + Duration::milliseconds(i64::try_from(self.now_ms + ms).unwrap_or(i64::MAX))
    }
}

/// A rate that holds: a second's worth of tokens at the most, and who finds none is refused.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u64,
    /// Thousandths of a token.
    left: u64,
    at_ms: u64,
}

impl Bucket {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate: u64::from(rate), left: u64::from(rate) * 1_000, at_ms: 0 }
    }

    pub(super) fn take(&mut self, now_ms: u64) -> bool {
        let gained = now_ms.saturating_sub(self.at_ms) * self.rate;
        self.left = (self.left + gained).min(self.rate * 1_000);
        self.at_ms = self.at_ms.max(now_ms);
        let has = self.left >= 1_000;
        if has {
            self.left -= 1_000;
        }
        has
    }
}
