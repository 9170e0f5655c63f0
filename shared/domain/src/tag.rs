//! The tags Espalier sets and reads. Ownership is a tag; nothing without it is ever changed or deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{HostedZoneId, StackName};

/// On instances: their owner's consent. On what we create: whose it is.
pub const STACK: &str = "espalier:stack";

/// On what is ours: the hash of the spec under which nothing was left to do. Whatever differs from the same spec later is
/// drift.
pub const SPEC_HASH: &str = "espalier:spec-hash";

/// On a certificate that was requested of ACM: what was wished for.
pub const REQUEST: &str = "espalier:request";

/// What [`SPEC_HASH`] says while a change is under way.
pub const CHANGING: &str = "changing";

/// On the service: the hosted zones in which there may be a record of ours, separated by spaces. Records carry no tags, and
/// the spec knows only the zone of now.
pub const ZONES: &str = "espalier:hosted-zones";

/// A tag's value has at most 256 characters (VPC Lattice API reference, `TagResource`), a zone's id 32.
const ZONES_MAX: usize = 7;

/// The tags of everything created for a stack.
pub fn tags(stack: &StackName) -> BTreeMap<String, String> {
    BTreeMap::from([(STACK.to_owned(), stack.to_string())])
}

/// The tags of what is as the spec with this hash wants it.
pub fn settled(stack: &StackName, spec_hash: &str) -> BTreeMap<String, String> {
    let mut all = tags(stack);
    all.insert(SPEC_HASH.to_owned(), spec_hash.to_owned());
    all
}

/// The tags of a service with records in these zones.
pub fn in_zones(stack: &StackName, zones: &BTreeSet<HostedZoneId>) -> BTreeMap<String, String> {
    let mut all = tags(stack);
    if zones.is_empty() {
        return all;
    }
    let zones: Vec<&str> = zones.iter().map(HostedZoneId::as_str).take(ZONES_MAX).collect();
    all.insert(ZONES.to_owned(), zones.join(" "));
    all
}

/// The zones that a service's tags name.
pub fn zones(tags: &BTreeMap<String, String>) -> BTreeSet<HostedZoneId> {
    let named = tags.get(ZONES).into_iter().flat_map(|value| value.split(' '));
    named.filter_map(|zone| HostedZoneId::parse(zone).ok()).collect()
}

/// Whether a resource with these tags is this stack's.
pub fn is_ours(stack: &StackName, tags: &BTreeMap<String, String>) -> bool {
    tags.get(STACK).is_some_and(|owner| owner == stack.as_str())
}

/// What marks a hosted zone as this stack's: its comment. A zone is made with a comment and tagged only afterwards, so that
/// a tag may be missing where somebody was cut off in between (Route 53 API reference, `CreateHostedZone`). Zones belong to
/// no Region, and a stack does: the comment says which.
pub fn zone_comment(stack: &StackName, region: &str) -> String {
    format!("espalier:{stack} in {region}")
}

/// What marks a security-group rule as this stack's: rules are told apart by their description.
pub fn rule_description(stack: &StackName) -> String {
    format!("espalier:{stack}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_remembered_as_text() {
        let stack = StackName::parse("payments").unwrap();
        let some: BTreeSet<_> = ["Z2", "Z1"].map(|zone| HostedZoneId::parse(zone).unwrap()).into();
        let tags = in_zones(&stack, &some);
        assert_eq!((tags[ZONES].as_str(), zones(&tags)), ("Z1 Z2", some));
        assert!(is_ours(&stack, &tags) && zones(&settled(&stack, "abc")).is_empty());
        let many = (0..20).map(|n| HostedZoneId::parse(format!("Z{n:031}")).unwrap()).collect();
        assert!(in_zones(&stack, &many)[ZONES].len() <= 256);
    }

    #[test]
    fn only_the_stack_s_own_tag_makes_a_resource_ours() {
        let (ours, other) = (StackName::parse("payments").unwrap(), StackName::parse("payroll").unwrap());
        let mut tags = settled(&ours, "abc");
        assert!(is_ours(&ours, &tags));
        assert!(!is_ours(&other, &tags));
        tags.remove(STACK);
        assert!(!is_ours(&ours, &tags));
    }
}
