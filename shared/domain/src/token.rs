//! Idempotency tokens, derived and never random.
//!
//! A token is a function of what is created and of the look that found it missing. A request that is repeated because
//! its answer was lost carries the same token; a resource that is created again after a teardown carries another one,
//! for how long VPC Lattice remembers a token is not documented. Two concurrent invocations are not told apart by
//! tokens but by names and associations, which exist once.

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::id::StackName;

/// A client token of 40 hexadecimal digits (VPC Lattice takes 1 to 64 characters).
pub fn token(stack: &StackName, kind: &str, name: &str, looked_at: OffsetDateTime) -> String {
    short_hash(&[stack.as_str(), kind, name, &looked_at.unix_timestamp_nanos().to_string()], 40)
}

/// The first `digits` hexadecimal digits of the SHA-256 of `parts`; parts cannot run into each other.
pub(crate) fn short_hash(parts: &[&str], digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex(hash).take(digits).collect()
}

/// SHA-256 of a text, lower-case hexadecimal.
pub fn sha256(text: &str) -> String {
    hex(Sha256::new_with_prefix(text)).collect()
}

/// The same, the 32 octets.
pub fn sha256_octets(text: &str) -> Vec<u8> {
    Sha256::digest(text).to_vec()
}

fn hex(hash: Sha256) -> impl Iterator<Item = char> {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16);
    hash.finalize().into_iter().flat_map(move |byte| [digit(byte >> 4), digit(byte & 15)]).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_the_thing_and_the_look() {
        let stack = StackName::parse("payments").unwrap();
        let at = |s| OffsetDateTime::from_unix_timestamp(s).unwrap();
        let one = token(&stack, "Service", "payments", at(1));
        assert_eq!(one.len(), 40);
        assert_eq!(one, token(&stack, "Service", "payments", at(1)));
        assert_ne!(one, token(&stack, "Service", "payments", at(2)));
        assert_ne!(one, token(&stack, "TargetGroup", "payments", at(1)));
        assert_ne!(short_hash(&["ab", "c"], 8), short_hash(&["a", "bc"], 8));
    }
}
