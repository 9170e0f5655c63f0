//! Every state of one authority taking over from another: nobody rejects what is served in any of them.

use espalier_simulation::report;
use espalier_simulation::succession::{Bounds, explore};

#[test]
fn with_one_verifier_and_whatever_goes_wrong() {
    let found = explore(Bounds { verifiers: 1, leaps: 3, hours: 2, faults: 1, words: 1, taints: 0 });
    report(format_args!("one verifier: {found:?}"));
    assert!(found.is_ok_and(|found| found.states >= 10_000 && found.ends > 100));
}

#[test]
fn with_two_verifiers() {
    let found = explore(Bounds { verifiers: 2, leaps: 3, hours: 2, faults: 0, words: 0, taints: 0 });
    report(format_args!("two verifiers: {found:?}"));
    assert!(found.is_ok_and(|found| found.states >= 10_000 && found.ends > 100));
}

#[test]
fn with_somebody_who_declares_it_unsafe_and_ends_it() {
    let found = explore(Bounds { verifiers: 1, leaps: 3, hours: 1, faults: 0, words: 1, taints: 1 });
    report(format_args!("one verifier and a taint: {found:?}"));
    assert!(found.is_ok_and(|found| found.states >= 10_000 && found.ends > 100));
}
