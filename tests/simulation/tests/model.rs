//! Every state of the rotation of one target, and of a canary with a second wave: no promise is broken in any of them.

use espalier_domain::spec::Confirm;
use espalier_simulation::model::{Bounds, explore};
use espalier_simulation::report;

#[test]
fn one_target_in_every_state() {
    let found = explore(Bounds { hosts: 1, ticks: 5, faults: 2, confirm: Confirm::Never });
    report(format_args!("one target: {found:?}"));
    assert!(found.is_ok_and(|found| found.states >= 15_000 && found.ends > 100));
}

#[test]
fn a_canary_and_a_second_wave_in_every_state() {
    let found = explore(Bounds { hosts: 2, ticks: 3, faults: 1, confirm: Confirm::Never });
    report(format_args!("a canary and one more: {found:?}"));
    assert!(found.is_ok_and(|found| found.states >= 5_000 && found.ends > 100));
}

#[test]
fn one_target_that_goes_back_unless_it_is_confirmed_in_every_state() {
    let found = explore(Bounds { hosts: 1, ticks: 4, faults: 1, confirm: Confirm::Canary });
    report(format_args!("one target with a deadline: {found:?}"));
    assert!(found.is_ok_and(|found| found.states >= 20_000 && found.ends > 100 && found.gone_back > 5_000));
}

#[test]
fn a_canary_that_goes_back_unless_it_is_confirmed_and_a_second_wave_in_every_state() {
    let found = explore(Bounds { hosts: 2, ticks: 3, faults: 1, confirm: Confirm::Canary });
    report(format_args!("a canary with a deadline and one more: {found:?}"));
    assert!(found.is_ok_and(|found| found.states >= 5_000 && found.ends > 100 && found.gone_back > 1_000));
}
