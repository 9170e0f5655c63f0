//! Time as an argument.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use time::OffsetDateTime;

/// Where the loop gets its time from.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> OffsetDateTime;

    /// Waits.
    fn sleep(&self, wait: Duration) -> impl Future<Output = ()> + Send;
}

/// The machine's clock and tokio's timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the loop's time comes from")]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn sleep(&self, wait: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(wait)
    }
}

/// A number in `0.0..1.0` to spread waits with, so that several loops do not come back together. Not for secrets: it
/// comes from the standard library's hash seed.
pub fn jitter() -> f64 {
    // 53 bits fill a double's mantissa exactly.
    let bits = RandomState::new().hash_one(()) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let (bits, range) = (bits as f64, (1_u64 << 53) as f64);
    bits / range
}

#[cfg(test)]
mod tests {
    #[test]
    fn jitter_is_a_fraction_and_varies() {
        let some: Vec<f64> = (0..100).map(|_| super::jitter()).collect();
        assert!(some.iter().all(|j| (0.0..1.0).contains(j)));
        assert!(some.iter().any(|j| *j < 0.5) && some.iter().any(|j| *j > 0.5));
    }
}
