//! Whose turn it is to read a leaf: one line for all hosts of the Region, since they share Parameter Store's rate.
//!
//! Each delivery takes places at the end of the line before it is handed out and tells its hosts how long to wait for
//! them. So neither one large fleet nor several stacks that rotate at once ask for more than the quota allows.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::rotation::execution::LONGEST_WAIT_S;
use crate::work::{DeliveryAction, PAGE, WorkItem};

/// Parameter Store's default rate of reads per second, shared by `GetParameter`, `GetParameters` and
/// `GetParametersByPath` of an account in a Region (AWS General Reference, Systems Manager endpoints and quotas).
pub const FETCH_QUOTA: u32 = 40;

/// How many of them installers are let in for: a tenth is left to everybody else in the account.
pub const FETCH_RATE: u32 = FETCH_QUOTA * 9 / 10;

/// The longest a host waits for its turn, in seconds. With it, the fetch's own deadline and the reload, an installer stays
/// well below the document's `executionTimeout` (600 s); and nobody who comes later waits for longer than that.
pub const LINE_S: u32 = 120;

/// How soon to look at commands on their way, at the least.
pub const COMMAND_POLL_S: u32 = 2;

/// The end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LineRecord {
    /// When the last place that was taken will have had its turn.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
}

/// When whoever comes now has their turn. A line that nobody can have made so long was written by a clock that was off.
fn begins(line: Option<&LineRecord>, now: OffsetDateTime) -> OffsetDateTime {
    let longest = now.saturating_add(Duration::seconds(2 * i64::from(LINE_S)));
    line.map(|line| line.until).filter(|until| *until > now && *until <= longest).unwrap_or(now)
}

/// How long the line is.
pub fn backlog(line: Option<&LineRecord>, now: OffsetDateTime) -> Duration {
    begins(line, now) - now
}

/// How many more can be taken into the line now.
pub fn room(line: Option<&LineRecord>, now: OffsetDateTime) -> usize {
    let left = Duration::seconds(i64::from(LINE_S)) - backlog(line, now);
    let places = left.whole_milliseconds().max(0) * i128::from(FETCH_RATE) / 1_000;
    usize::try_from(places).unwrap_or_default()
}

/// Takes places for so many: when the first one's turn is, and the line as it is then.
pub fn join(line: Option<&LineRecord>, now: OffsetDateTime, places: usize) -> (OffsetDateTime, LineRecord) {
    let first = begins(line, now);
    (first, LineRecord { until: first.saturating_add(lasts(places)) })
}

/// How long so many take.
fn lasts(places: usize) -> Duration {
    let places = i64::try_from(places).unwrap_or(i64::MAX / 1_000);
    Duration::milliseconds(places.saturating_mul(1_000) / i64::from(FETCH_RATE))
}

/// The seconds over which the hosts of one command spread, each at the one its name comes to.
pub fn window_s(targets: usize) -> u32 {
    u32::try_from(targets).unwrap_or(u32::MAX).div_ceil(FETCH_RATE)
}

/// How many hosts will read a leaf if these items are handed out.
pub fn readers(items: &[WorkItem]) -> usize {
    items.iter().map(readers_of).sum()
}

fn readers_of(item: &WorkItem) -> usize {
    match item {
        WorkItem::Deliver(item) => match item.action {
            DeliveryAction::Install => item.targets.len(),
            DeliveryAction::Confirm | DeliveryAction::Prepare => 0,
        },
        WorkItem::Authority(_)
        | WorkItem::Mint(_)
        | WorkItem::Export(_)
        | WorkItem::Verify(_)
        | WorkItem::Membership(_) => 0,
    }
}

/// Tells the hosts of each item how long to wait, from the first one's turn on.
pub fn line_up(items: &mut [WorkItem], first: OffsetDateTime, now: OffsetDateTime) {
    let mut before = 0;
    for item in items {
        let readers = readers_of(item);
        if let (WorkItem::Deliver(item), true) = (item, readers > 0) {
            let wait = (first - now).max(Duration::ZERO).saturating_add(lasts(before));
            item.start_s = u32::try_from(wait.whole_seconds()).unwrap_or(LINE_S);
            before += readers;
        }
    }
}

/// How long until as many as a pass hands out find room, in seconds.
pub(crate) fn next_s(line: Option<&LineRecord>, now: OffsetDateTime) -> u32 {
    let until = backlog(line, now) + lasts(10 * PAGE) - Duration::seconds(i64::from(LINE_S));
    u32::try_from(until.whole_seconds()).unwrap_or_default().clamp(COMMAND_POLL_S, LONGEST_WAIT_S)
}

/// How soon to look at deliveries to so many targets. Those who wait have nothing to tell; and while many are under way
/// a quarter of them, or of the line, may as well have had its turn.
pub(crate) fn poll_s(under_way: usize, line: Option<&LineRecord>, now: OffsetDateTime) -> u32 {
    let quarter = lasts(under_way).max(if under_way > PAGE { backlog(line, now) } else { Duration::ZERO }) / 4_i32;
    u32::try_from(quarter.whole_seconds()).unwrap_or_default().clamp(COMMAND_POLL_S, LONGEST_WAIT_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::DeliverItem;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

    fn after(seconds: i64) -> LineRecord {
        LineRecord { until: NOW + Duration::seconds(seconds) }
    }

    fn deliver(action: DeliveryAction, targets: u32) -> WorkItem {
        WorkItem::Deliver(DeliverItem::sample(action, targets))
    }

    #[test]
    fn a_place_is_taken_at_the_end_of_the_line_and_never_before_now() {
        let (first, line) = join(None, NOW, 72);
        assert_eq!((first, line), (NOW, after(2)));
        assert_eq!(join(Some(&line), NOW, 36), (NOW + Duration::seconds(2), after(3)));
        assert_eq!(join(Some(&after(-60)), NOW, 36), (NOW, after(1)));
        assert_eq!(join(Some(&after(86_400)), NOW, 36), (NOW, after(1)), "a clock that was off keeps nobody waiting");
    }

    #[test]
    fn the_line_has_room_for_two_minutes() {
        assert_eq!([0, 60, 119, 120, 200].map(|s| room(Some(&after(s)), NOW)), [4_320, 2_160, 36, 0, 0]);
        assert_eq!(room(None, NOW), 4_320);
    }

    #[test]
    fn hosts_wait_for_whoever_is_before_them_and_only_those_who_read() {
        let mut items = vec![
            deliver(DeliveryAction::Confirm, 50),
            deliver(DeliveryAction::Install, 50),
            deliver(DeliveryAction::Install, 50),
            deliver(DeliveryAction::Install, 10),
        ];
        assert_eq!(readers(&items), 110);
        line_up(&mut items, NOW + Duration::seconds(7), NOW);
        let starts: Vec<u32> =
            items.iter().map(|item| if let WorkItem::Deliver(item) = item { item.start_s } else { u32::MAX }).collect();
        assert_eq!(starts, [0, 7, 8, 9]);
        assert_eq!([0, 1, 36, 37, 50].map(window_s), [0, 1, 1, 2, 2]);
    }

    #[test]
    fn the_more_are_under_way_the_longer_until_the_next_look_but_never_longer_than_an_execution_waits() {
        assert_eq!([1, 50, 288, 1_000, 10_000].map(|n| poll_s(n, None, NOW)), [2, 2, 2, 6, 30]);
        assert_eq!(
            poll_s(51, Some(&after(80)), NOW),
            20,
            "those who are at the end of a long line have nothing to tell"
        );
        assert_eq!(poll_s(2, Some(&after(80)), NOW), 2, "a small fleet is looked at as it always was");
        assert_eq!([100, 115, 120].map(|s| next_s(Some(&after(s)), NOW)), [2, 8, 13]);
    }
}
