//! The tags Espalier sets and reads. Ownership is a tag; nothing without it is ever changed or deleted.

use std::collections::BTreeMap;

use crate::id::StackName;

/// On instances: their owner's consent. On what we create: whose it is.
pub const STACK: &str = "espalier:stack";

/// On what we create: the hash of the spec it answers.
pub const SPEC_HASH: &str = "espalier:spec-hash";

/// The tags of everything created for a stack.
pub fn tags(stack: &StackName, spec_hash: &str) -> BTreeMap<String, String> {
    [(STACK, stack.as_str()), (SPEC_HASH, spec_hash)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
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
        let mut tags = tags(&ours, "abc");
        assert!(is_ours(&ours, &tags));
        assert!(!is_ours(&other, &tags));
        tags.remove(STACK);
        assert!(!is_ours(&ours, &tags));
    }
}
