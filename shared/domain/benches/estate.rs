//! Planning the network: how long a look at a converged estate takes to be judged, with 1,000 targets,
//! with 3,000 in three target groups, and for 50 services.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

// The simulated AWS of the planner's tests makes what is looked at.
#[allow(dead_code, clippy::wildcard_enum_match_arm, reason = "the planner's tests use all of it")]
#[path = "../tests/network/calls.rs"]
mod calls;
#[allow(dead_code, clippy::wildcard_enum_match_arm, reason = "the planner's tests use all of it")]
#[path = "../tests/network/estate.rs"]
mod estate;
#[allow(dead_code, clippy::wildcard_enum_match_arm, reason = "the planner's tests use all of it")]
#[path = "../tests/network/world.rs"]
mod world;
#[allow(dead_code, clippy::wildcard_enum_match_arm, reason = "the planner's tests use all of it")]
#[path = "../tests/network/zones.rs"]
mod zones;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use espalier_domain::network::{Observed, plan};
use espalier_domain::spec::{self, AllowedDomains, Spec};
use serde_json::Value;

use world::World;

/// The recipe's spec for the stack of that number, and what is seen when it has converged on so many targets.
fn converged(stack: usize, targets: usize) -> (Spec, Observed) {
    let mut document: Value = serde_json::from_str(include_str!("../../../examples/recipe.json")).unwrap();
    document["stack"] = format!("service-{stack}").into();
    let spec = spec::parse(&document.to_string(), &AllowedDomains::parse("example.com").unwrap()).unwrap();
    let ids: Vec<String> = (0..targets).map(|n| format!("i-{n:017x}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut world = World::new(&spec, &ids);
    loop {
        let seen = world.look(&spec);
        let next = plan(&spec, &seen);
        if next.is_converged() {
            return (spec, seen);
        }
        assert!(next.blocks.is_empty(), "{:?}", next.blocks);
        next.steps.iter().for_each(|step| world.call(&step.action).unwrap());
        world.tick();
    }
}

fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("estate");
    group.sample_size(20);
    for (services, targets) in [(1, 1_000), (1, 3_000), (50, 2), (50, 1_000)] {
        let estates: Vec<_> = (0..services).map(|stack| converged(stack, targets)).collect();
        let name = format!("{services} services of {targets} targets");
        group.bench_with_input(BenchmarkId::from_parameter(name), &estates, |bench, estates| {
            bench.iter(|| estates.iter().all(|(spec, seen)| plan(black_box(spec), black_box(seen)).is_converged()));
        });
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
