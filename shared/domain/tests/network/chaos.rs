//! Cut off anywhere, repeated, out of date, out of order, failing: it still converges, and to the same end.

use std::collections::BTreeSet;

use espalier_domain::network::plan;
use espalier_domain::spec::Spec;
use serde_json::json;

use crate::shape::{Dice, shape};
use crate::tables::cut_after;
use crate::world::World;
use crate::{Keep, ONE, THREE, TWO, run, settled, spec};

fn goals() -> Vec<Spec> {
    vec![
        spec(|_| {}),
        spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false))),
        spec(|it| it["targets"]["port"] = json!(8443)),
        spec(|it| {
            it["network"]["consumers"].as_array_mut().unwrap().remove(1);
            it["healthCheck"] = json!({"enabled": true, "port": 8080});
        }),
        spec(|it| it["targets"]["select"] = json!({"instanceIds": [ONE, THREE]})),
    ]
}

/// A run by hands that forget, repeat, and act on what they saw some time ago.
fn stumble(world: &mut World, spec: &Spec, dice: &mut Dice) {
    let mut seen = world.look(spec);
    for _ in 0..dice.roll(24) {
        if dice.roll(3) > 0 {
            seen = world.look(spec);
        }
        world.bad_creations = u32::from(dice.roll(12) == 0);
        world.bad_deletions = u32::from(dice.roll(12) == 0);
        let steps = plan(spec, &seen).steps;
        for _ in 0..dice.roll(2 * steps.len() + 1) {
            // Refusals are what a second run beside this one gets; touching a stranger's resource panics.
            let _ = world.call(&steps[dice.roll(steps.len())].action);
        }
        if dice.roll(2) == 0 {
            world.tick();
        }
    }
    (world.bad_creations, world.bad_deletions) = (0, 0);
}

#[test]
fn it_converges_from_wherever_it_was_left() {
    let goals = goals();
    let ends: Vec<BTreeSet<String>> = goals
        .iter()
        .map(|goal| {
            let mut world = World::new(goal, &[ONE, TWO, THREE]);
            run(&mut world, goal, Keep::Nothing);
            world.tick();
            shape(&world)
        })
        .collect();
    for seed in 1..=600_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut world = World::new(&goals[0], &[ONE, TWO, THREE]);
        for _ in 0..3 {
            stumble(&mut world, &goals[dice.roll(goals.len())], &mut dice);
        }
        let goal = dice.roll(goals.len());
        // Calls that were under way when the last run was cut off come to their end before a new one looks.
        let text = run(&mut world, &goals[goal], Keep::Nothing);
        assert!(text.ends_with("converged\n"), "seed {seed}: {text}");
        world.tick();
        assert_eq!(shape(&world), ends[goal], "seed {seed} came to another end\n{text}");
        assert!(plan(&goals[goal], &world.look(&goals[goal])).is_converged(), "seed {seed}");
    }
}

#[test]
fn a_run_cut_off_after_any_call_is_taken_up_again() {
    let goals = goals();
    for from in &goals {
        for to in &goals {
            let start = {
                let mut world = World::new(&goals[0], &[ONE, TWO, THREE]);
                run(&mut world, from, Keep::Nothing);
                world.tick();
                world
            };
            for calls in 0.. {
                let mut world = start.clone();
                if !cut_after(&mut world, to, calls) {
                    break;
                }
                let text = run(&mut world, to, Keep::Nothing);
                assert!(text.ends_with("converged\n"), "after {calls} calls: {text}");
            }
        }
    }
}

#[test]
fn no_order_of_changes_interrupts_the_service() {
    let present: Vec<Spec> = goals().into_iter().enumerate().filter(|(n, _)| *n != 1).map(|(_, goal)| goal).collect();
    for seed in 1..=200_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut world = settled(&present[0], &[ONE, TWO, THREE]);
        for _ in 0..4 {
            let goal = &present[dice.roll(present.len())];
            for _ in 0..dice.roll(5) {
                let steps = plan(goal, &world.look(goal)).steps;
                for step in steps.iter().take(dice.roll(steps.len() + 1)) {
                    let _ = world.call(&step.action);
                    assert!(world.serves(), "seed {seed}: {} broke the service", step.action);
                }
                world.tick();
                assert!(world.serves(), "seed {seed}: time broke the service");
            }
        }
    }
}
