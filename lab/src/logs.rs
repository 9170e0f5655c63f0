//! Logs, read to their end. MiniStack answers with a log group's oldest ten thousand events and names no token for those that
//! follow, so whoever wants all of them asks again from the last one on.

use serde_json::{Value, json};

use crate::aws::{CallError, Endpoint};

/// As many events as one answer holds.
const PAGE: usize = 10_000;

/// An event of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The log stream.
    pub stream: String,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What it says.
    pub message: String,
}

impl Line {
    fn of(event: &Value) -> Self {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        Self {
            stream: text("logStreamName"),
            at: event["timestamp"].as_i64().unwrap_or_default(),
            message: text("message"),
        }
    }
}

/// Everything in a log group since then, oldest first; nothing where nobody ever wrote to it.
///
/// # Errors
/// The service's.
pub async fn read(logs: &Endpoint, group: &str, since: i64) -> Result<Vec<Line>, CallError> {
    let (mut lines, mut from) = (Vec::new(), Some(since));
    while let Some(start) = from {
        let ask = json!({"logGroupName": group, "startTime": start, "limit": PAGE});
        let answer = match logs.json("Logs_20140328.FilterLogEvents", &ask).await {
            Err(CallError::Refused { body, .. }) if body.contains("ResourceNotFound") => break,
            answer => answer?,
        };
        let page: Vec<Line> = answer["events"].as_array().into_iter().flatten().map(Line::of).collect();
        from = taken(&mut lines, page, PAGE);
    }
    Ok(lines)
}

/// Adds what is new of an answer; from when on there may be more.
fn taken(lines: &mut Vec<Line>, page: Vec<Line>, size: usize) -> Option<i64> {
    let is_full = page.len() == size;
    // What was read before of the same millisecond comes first again.
    let from = page.first().map(|first| first.at);
    let again = lines.iter().rev().take_while(|line| Some(line.at) == from).count();
    let known = lines.len();
    lines.extend(page.into_iter().skip(again));
    let last = lines.last().map(|line| line.at);
    last.filter(|_| is_full && lines.len() > known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_full_is_followed_by_another_and_nothing_is_read_twice() {
        let all: Vec<Line> = [1, 2, 2, 2, 3, 4, 4, 5]
            .into_iter()
            .enumerate()
            .map(|(at, ms)| Line { stream: "s".to_owned(), at: ms, message: at.to_string() })
            .collect();
        for size in [4, 5, 7, 8, 9] {
            let (mut lines, mut from, mut asked) = (Vec::new(), Some(0), 0);
            while let Some(start) = from {
                asked += 1;
                let page = all.iter().filter(|line| line.at >= start).take(size).cloned().collect();
                from = taken(&mut lines, page, size);
            }
            assert_eq!(lines, all, "{size}");
            assert!(asked <= 4, "{size}: {asked}");
        }
    }
}
