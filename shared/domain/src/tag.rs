//! The tags Espalier sets and reads. Ownership is a tag; nothing without it is ever changed or deleted.

use std::collections::BTreeMap;

use crate::id::StackName;

/// On instances: their owner's consent. On what we create: whose it is.
pub const STACK: &str = "espalier:stack";

/// On what is ours: the hash of the spec under which nothing was left to do. Whatever differs from the same spec later is
/// drift.
pub const SPEC_HASH: &str = "espalier:spec-hash";

/// What [`SPEC_HASH`] says while a change is under way.
pub const CHANGING: &str = "changing";

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

/// Whether a resource with these tags is this stack's.
pub fn is_ours(stack: &StackName, tags: &BTreeMap<String, String>) -> bool {
    tags.get(STACK).is_some_and(|owner| owner == stack.as_str())
}

/// What marks a security-group rule as this stack's: rules are told apart by their description.
pub fn rule_description(stack: &StackName) -> String {
    format!("espalier:{stack}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
