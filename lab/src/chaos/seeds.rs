//! Seeds as they are written on a command line: `7`, `1,5,9`, `1..20` (both ends included), or any of these in a list.

use std::str::FromStr;

/// The most seeds of one run: a slip of the finger is not a week.
const MOST: u64 = 10_000;

/// Seeds, in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut seeds = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once("..").unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if last < first || last - first >= MOST {
                return Err(format!("{part}: not a range of at most {MOST} seeds"));
            }
            seeds.extend(first..=last);
        }
        Ok(Self(seeds))
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is no seed: 7, 1,5,9 or 1..20"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_lists_and_ranges() {
        let read = |text: &str| text.parse::<Seeds>().map(|seeds| seeds.0);
        assert_eq!(read("7"), Ok(vec![7]));
        assert_eq!(read("1..3,9"), Ok(vec![1, 2, 3, 9]));
        for wrong in ["", "x", "3..1", "1..", "0..99999999"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
