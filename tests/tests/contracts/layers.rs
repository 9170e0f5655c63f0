//! Who may use whom, read from cargo's own metadata.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use espalier_tests::root;

const FUNCTIONS: [&str; 9] =
    ["provision", "rotate", "authority", "mint", "export", "distribute", "verify", "fleet", "seal"];

/// Ships nothing: tests and commands play with it.
const SIMULATION: &str = "espalier-simulation";

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap()
}

/// The names of a package's dependencies of one kind.
fn uses(package: &Package, kind: DependencyKind) -> BTreeSet<&str> {
    package.dependencies.iter().filter(|one| one.kind == kind).map(|one| one.name.as_str()).collect()
}

#[test]
fn the_layers_point_one_way() {
    let may: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("espalier-domain", &[] as &[&str]),
        ("espalier-pki", &["espalier-domain"]),
        ("espalier-reconcile", &["espalier-domain"]),
        ("espalier-probe", &["espalier-domain"]),
        ("espalier-edge", &["espalier-domain"]),
        // The operator's command: it asks the functions, and decides nothing.
        ("espalier", &["espalier-domain"]),
        ("espalier-aws", &["espalier-domain", "espalier-pki", "espalier-reconcile"]),
        ("espalier-aws-autoscaling", &["espalier-domain", "espalier-aws"]),
        ("espalier-aws-ec2", &["espalier-domain", "espalier-aws"]),
        ("espalier-aws-s3", &["espalier-domain", "espalier-aws"]),
        (SIMULATION, &["espalier-domain"]),
    ]);
    let metadata = metadata();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let shared: BTreeSet<&str> = may.keys().copied().filter(|name| *name != SIMULATION).collect();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let used: BTreeSet<&str> = uses(package, DependencyKind::Normal).intersection(&ours).copied().collect();
        let allowed: BTreeSet<&str> = match may.get(name) {
            Some(list) => list.iter().copied().collect(),
            None if FUNCTIONS.contains(&name) => shared.clone(),
            None => {
                assert!(["espalier-lab", "espalier-tests"].contains(&name), "{name} belongs to no layer");
                ours.difference(&BTreeSet::from(["espalier-tests"])).copied().collect()
            }
        };
        let wrong: Vec<_> = used.difference(&allowed).collect();
        assert!(wrong.is_empty(), "{name} uses {wrong:?}");
    }
}

#[test]
fn only_these_crates_name_the_sdk_open_a_socket_or_sign() {
    for package in metadata().packages {
        let name = package.name.as_str();
        // The tests ship nothing and judge everything, with whatever it takes.
        if name == "espalier-tests" {
            continue;
        }
        for used in uses(&package, DependencyKind::Normal) {
            let allowed: &[&str] = match used {
                "aws-sdk-autoscaling" => &["espalier-aws-autoscaling"],
                "aws-sdk-ec2" => &["espalier-aws-ec2"],
                "aws-sdk-s3" => &["espalier-aws-s3"],
                sdk if sdk.starts_with("aws-sdk-") => &["espalier-aws"],
                "rcgen" => &["espalier-pki"],
                "tracing-opentelemetry" => &["espalier-edge"],
                traces if traces.starts_with("opentelemetry") => &["espalier-edge"],
                "rustls" | "tokio-rustls" | "hickory-resolver" => &["espalier-probe", "espalier-lab"],
                "lambda_runtime" => &[
                    "espalier-edge",
                    "provision",
                    "rotate",
                    "authority",
                    "mint",
                    "export",
                    "distribute",
                    "verify",
                    "fleet",
                    "seal",
                ],
                _ => continue,
            };
            assert!(allowed.contains(&name), "{name} uses {used}; only {allowed:?} may");
        }
    }
}

#[test]
fn the_domain_stays_pure() {
    let metadata = metadata();
    let domain = metadata.packages.iter().find(|package| package.name.as_str() == "espalier-domain").unwrap();
    let pure = BTreeSet::from(["schemars", "serde", "serde_json", "sha2", "thiserror", "time"]);
    let wrong: Vec<_> = uses(domain, DependencyKind::Normal).difference(&pure).copied().collect();
    assert!(wrong.is_empty(), "the domain uses {wrong:?}: no runtime, SDK, environment, clock or log belongs there");
}

#[test]
fn every_version_stands_in_the_workspace_and_every_crate_obeys_the_one_lint_table() {
    for package in metadata().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} has lints of its own", package.name);
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let about = !section.ends_with("dependencies]") || line.starts_with(['[', '#']) || line.trim().is_empty();
            let inherits = about || line.contains("workspace = true");
            assert!(inherits, "{}: {line:?} does not inherit the workspace's version", package.name);
        }
    }
}

/// What only tests ask for would make `cargo test` resolve other features than `cargo build`, and so compile the AWS SDK
/// a second time. Tests' own crates are plain dependencies of this one, for the same reason.
#[test]
fn tests_ask_for_nothing_that_the_workspace_does_not() {
    let metadata = metadata();
    let all =
        || metadata.packages.iter().flat_map(|package| package.dependencies.iter().map(move |one| (package, one)));
    let mut asked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, dependency) in all().filter(|(_, one)| one.kind == DependencyKind::Normal) {
        asked.entry(&dependency.name).or_default().extend(dependency.features.iter().map(String::as_str));
    }
    for (package, dependency) in all().filter(|(_, one)| one.kind == DependencyKind::Development) {
        let features = asked.get(dependency.name.as_str());
        assert!(features.is_some(), "{}: {} is there for tests only", package.name, dependency.name);
        for feature in &dependency.features {
            let known = features.is_some_and(|features| features.contains(feature.as_str()));
            assert!(known, "{}: the feature {feature:?} of {} is there for tests only", package.name, dependency.name);
        }
    }
}
