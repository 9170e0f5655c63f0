//! Planning for a fleet: how long, and whether twice the targets take more than twice as long.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use espalier_domain::id::{Epoch, Generation, HostName, NodeId, Scope, StackName, TargetId};
use espalier_domain::record::{AttemptEnd, AttemptRecord, AuthorityRecord, GenerationRecord, SightingRecord};
use espalier_domain::rotation::calendar::Calendar;
use espalier_domain::rotation::evidence::{Evidence, Managed, TargetEvidence};
use espalier_domain::rotation::plan::plan;
use espalier_domain::rotation::policy::{Policy, Wave};
use espalier_domain::spec::Confirm;
use espalier_domain::verdict::Verdict;
use espalier_domain::work::DeliveryAction;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

fn generation(number: u32) -> GenerationRecord {
    GenerationRecord {
        scope: Scope::shared(),
        generation: Generation(number),
        parameter: String::new(),
        serial: format!("{number:x}"),
        fingerprint: format!("{number:064x}"),
        dns_names: vec!["pay.example.com".into()],
        not_before: NOW,
        not_after: NOW + Duration::days(7),
        minted_at: NOW,
        authority: "a".into(),
        follows: None,
        export: None,
        spec: None,
        key_type: None,
        custody: espalier_domain::spec::Custody::default(),
        because: String::new(),
    }
}

/// A third is proven, a third is on its way, a third waits.
fn target(number: u32) -> TargetEvidence {
    let target = TargetId::parse(format!("i-{number:08x}")).unwrap();
    let good = Verdict { fingerprint: None, serial: None, not_after: None, tls: None, faults: Vec::new() };
    let served = if number.is_multiple_of(3) { 2 } else { 1 };
    let sighting = SightingRecord {
        target: target.clone(),
        generation: Generation(served),
        at: NOW,
        port: Some(443),
        verdict: good,
        floor: Some(Generation(served)),
        failing_since: None,
    };
    let attempt = |generation, ended: bool| AttemptRecord {
        target: target.clone(),
        generation: Generation(generation),
        attempt: 1,
        epoch: Epoch(1),
        action: DeliveryAction::Install,
        asked: None,
        begun_at: NOW,
        leaf_ends_at: NOW,
        command_id: Some("c".into()),
        ended: ended.then(|| AttemptEnd { installed: true, code: "installed".into(), detail: String::new(), at: NOW }),
    };
    let attempts = match number % 3 {
        0 => vec![attempt(1, true), attempt(2, true)],
        1 => vec![attempt(1, true), attempt(2, false)],
        _ => vec![attempt(1, true)],
    };
    let managed = Some(Managed { online: true, address: Some([10, 0, 0, 1].into()), agent: None });
    TargetEvidence {
        node: NodeId::of(&target),
        target,
        wanted: true,
        opted_in: true,
        managed,
        attempts,
        leaves: Vec::new(),
        sighting: Some(sighting),
    }
}

fn evidence(targets: u32) -> Evidence {
    let name = HostName::parse("pay.example.com").unwrap();
    Evidence {
        now: NOW,
        policy: Policy {
            custody: espalier_domain::spec::Custody::default(),
            stack: StackName::parse("payments").unwrap(),
            server_name: name.clone(),
            service_port: 443,
            target_port: 443,
            dns_names: vec![name],
            validity_hours: 168,
            renew_before_hours: 56,
            renew_spread_percent: 0,
            scope: Scope::shared(),
            source: None,
            follow: None,
            canary: 1,
            bake_minutes: 0,
            wave: Wave::Targets(50),
            calendar: Calendar::default(),
            safety_margin_hours: 28,
            failure_budget: 0,
            minimum_healthy_percent: None,
            confirm: Confirm::Never,
            confirm_s: 1_800,
            samples: 6,
            observes: false,
            others: None,
            prober: None,
            resolver: None,
        },
        generations: vec![generation(1), generation(2)],
        targets: (1..=targets).map(target).collect(),
        authorities: vec![AuthorityRecord {
            authority: "a".into(),
            root_pem: String::new(),
            issuing_pem: String::new(),
            issuing_key: None,
            not_after: NOW + Duration::days(365),
            published_at: None,
        }],
        turns: Vec::new(),
        acm: None,
        through: None,
        membership: None,
        look_since: None,
        emergency: None,
        line: None,
        epoch: None,
    }
}

fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for targets in [1_000, 3_000, 10_000, 20_000] {
        let evidence = evidence(targets);
        group.throughput(Throughput::Elements(targets.into()));
        group.bench_with_input(BenchmarkId::from_parameter(targets), &evidence, |bench, evidence| {
            bench.iter(|| plan(black_box(evidence)));
        });
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
