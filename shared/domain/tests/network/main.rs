//! The network planner against a small strict simulated AWS: whole histories as golden files, and convergence from
//! wherever a run was cut off.

mod access_logs;
mod addresses;
mod auth;
mod calls;
mod changes;
mod chaos;
mod diagnose;
mod drift;
mod estate;
mod fleet;
mod given;
mod histories;
mod private_zone;
mod rich;
mod shape;
mod sharing;
mod strangers;
mod tables;
mod teardown;
mod world;
mod zones;

use espalier_domain::network::{plan, render};
use espalier_domain::spec::{self, AllowedDomains, Spec};
use serde_json::Value;

use world::{World, instance as instance_in};

const ONE: &str = "i-0a1b2c3d4e5f60711";
const TWO: &str = "i-0a1b2c3d4e5f60712";
const THREE: &str = "i-0a1b2c3d4e5f60713";

/// The recipe's spec after `change`.
fn spec(change: impl FnOnce(&mut Value)) -> Spec {
    let mut document: Value = serde_json::from_str(include_str!("../../../../examples/recipe.json")).unwrap();
    change(&mut document);
    spec::parse(&document.to_string(), &AllowedDomains::parse("example.com").unwrap()).unwrap()
}

/// What a run has to keep up while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Clients reach a target after every single call.
    Serving,
    /// Nothing.
    Nothing,
}

/// Looks, plans and calls until nothing is left to do or only a person can go on; no call may be refused.
fn run(world: &mut World, spec: &Spec, keep: Keep) -> String {
    let mut text = String::new();
    let mut wave = 0;
    for _ in 0..60 {
        let plan = plan(spec, &world.look(spec));
        if plan.steps.is_empty() && plan.waits.is_empty() {
            text.push_str(&render(&plan));
            return text;
        }
        if !plan.steps.is_empty() {
            wave += 1;
            text.push_str(&format!("wave {wave}:\n"));
        }
        render(&plan).lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        for step in &plan.steps {
            world.call(&step.action).unwrap_or_else(|why| panic!("{} was refused: {why}\n{text}", step.action));
            assert!(keep == Keep::Nothing || world.serves(), "{} broke the service\n{text}", step.action);
        }
        world.pass(if plan.steps.is_empty() { plan.retry_after_s().unwrap_or(1) } else { 1 });
        assert!(keep == Keep::Nothing || world.serves(), "waiting broke the service\n{text}");
    }
    panic!("no end in sight\n{text}");
}

/// A world in which the recipe has converged on these instances.
fn settled(spec: &Spec, instances: &[&str]) -> World {
    let mut world = World::new(spec, instances);
    let text = run(&mut world, spec, Keep::Nothing);
    assert!(text.ends_with("converged\n"), "{text}");
    world.tick();
    assert!(world.serves());
    world
}
