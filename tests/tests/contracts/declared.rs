//! Each module of a service declares the actions of the calls it makes; both ways, and nothing else calls the SDK.

use std::collections::BTreeSet;

use espalier_aws::{
    acm, bus, command, inventory, kms, lattice, ledger, parameters, route53, sealing, secrets, specs, states,
};
use espalier_tests::{product_sources, read, root};
use regex::Regex;

/// A module of `shared/aws` (with the files below it) and the actions it declares.
fn modules() -> Vec<(&'static str, Vec<&'static [&'static str]>)> {
    vec![
        ("shared/aws/src/acm", vec![acm::ACTIONS, acm::EXPORT, acm::REQUEST, acm::ELSEWHERE]),
        ("shared/aws/src/bus", vec![bus::ACTIONS]),
        ("shared/aws/src/command", vec![command::SEND, command::READ, command::READ_ONE]),
        ("shared/aws/src/inventory", vec![inventory::ACTIONS]),
        ("shared/aws/src/kms", vec![kms::SIGN, kms::READ]),
        ("shared/aws/src/lattice", vec![lattice::ACTIONS]),
        ("shared/aws/src/ledger", vec![ledger::READ, ledger::WRITE]),
        (
            "shared/aws/src/parameters",
            vec![parameters::LEAF_WRITE, parameters::LEAF_KEY, parameters::TRUST_WRITE, parameters::TRUST_READ],
        ),
        ("shared/aws/src/route53", vec![route53::ACTIONS]),
        ("shared/aws/src/sealing", vec![sealing::ACTIONS]),
        ("shared/aws/src/secrets", vec![secrets::READ, secrets::CREATE]),
        ("shared/aws/src/specs", vec![specs::ACTIONS, specs::AUTHORS]),
        ("shared/aws/src/states", vec![states::ACTIONS]),
        ("shared/aws-ec2/src/", vec![espalier_aws_ec2::ACTIONS]),
        ("shared/aws-autoscaling/src/", vec![espalier_aws_autoscaling::ACTIONS]),
        ("shared/aws-s3/src/", vec![espalier_aws_s3::ACTIONS, espalier_aws_s3::object::ACTIONS]),
    ]
}

/// Declared, and called by AWS on the caller's behalf: the module and the action (KMS user guide, how Parameter Store
/// encrypts; Service Authorization Reference, VPC Lattice's dependent actions and EC2's tags at creation).
const ON_BEHALF: [(&str, &str); 14] = [
    ("shared/aws/src/parameters", "kms:Encrypt"),
    ("shared/aws/src/parameters", "kms:GenerateDataKey"),
    ("shared/aws/src/acm", "acm:AddTagsToCertificate"),
    ("shared/aws/src/lattice", "iam:CreateServiceLinkedRole"),
    ("shared/aws/src/lattice", "ec2:DescribeInstances"),
    ("shared/aws/src/lattice", "ec2:DescribeSecurityGroups"),
    ("shared/aws/src/lattice", "ec2:DescribeSubnets"),
    ("shared/aws/src/lattice", "ec2:DescribeVpcs"),
    ("shared/aws/src/lattice", "logs:CreateLogDelivery"),
    ("shared/aws/src/lattice", "logs:DeleteLogDelivery"),
    ("shared/aws/src/lattice", "logs:GetLogDelivery"),
    ("shared/aws/src/lattice", "logs:UpdateLogDelivery"),
    ("shared/aws/src/route53", "ec2:DescribeVpcs"),
    ("shared/aws-ec2/src/", "ec2:CreateTags"),
];

/// Calls whose action has another name: a transaction needs the actions of its parts (DynamoDB developer guide), objects are
/// listed by the bucket's (Amazon S3 user guide), and the SDK's methods keep no abbreviations.
const OTHER_NAME: [(&str, &str); 5] = [
    ("ListObjectsV2", "ListBucket"),
    ("TransactWriteItems", "PutItem"),
    ("ListHostedZonesByVpc", "ListHostedZonesByVPC"),
    ("AssociateVpcWithHostedZone", "AssociateVPCWithHostedZone"),
    ("DisassociateVpcFromHostedZone", "DisassociateVPCFromHostedZone"),
];

/// The operations of the SDK: the methods of its clients.
fn called(folder: &str) -> BTreeSet<String> {
    let verbs = "get|put|list|describe|create|delete|update|send|start|stop|scan|change|register|deregister|tag|untag\
                 |authorize|export|request|revoke|transact|batch|add|label|cancel|execute|encrypt|decrypt|sign|invoke|modify|attach|associate|disassociate|complete|assume";
    let method = Regex::new(&format!(r"\.(query|sign|verify|(?:{verbs})(?:_[a-z0-9]+)+)\(\)")).unwrap();
    let mut operations = BTreeSet::new();
    for file in product_sources().into_iter().filter(|file| is_of(&file.path, folder)) {
        // The SDK's builders only: our own methods without arguments are not sent.
        for found in method.captures_iter(&file.text) {
            let rest = &file.text[found.get(0).unwrap().end()..];
            let end = rest.find(';').unwrap_or(rest.len());
            let is_built_in_steps = file.text[..found.get(0).unwrap().start()].trim_end().ends_with("client");
            if is_built_in_steps || rest[..end].contains(".send()") || rest[..end].contains(".into_paginator()") {
                operations.insert(camel(&found[1]));
            }
        }
    }
    operations
}

fn is_of(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest == ".rs" || rest.starts_with('/') || folder.ends_with('/'))
}

fn camel(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

#[test]
fn a_module_declares_what_it_calls() {
    let mut calls = 0;
    for (module, lists) in modules() {
        let declared: BTreeSet<String> = lists
            .concat()
            .iter()
            .filter(|action| !ON_BEHALF.contains(&(module, action)))
            .map(|action| action.split_once(':').unwrap().1.to_owned())
            .collect();
        let called: BTreeSet<String> = called(module)
            .into_iter()
            .map(|call| {
                OTHER_NAME.iter().find(|(name, _)| *name == call).map_or(call, |(_, needs)| (*needs).to_owned())
            })
            .collect();
        calls += called.len();
        let missing: Vec<_> = called.difference(&declared).collect();
        let idle: Vec<_> = declared.difference(&called).collect();
        assert!(missing.is_empty(), "{module} calls {missing:?} and does not declare it");
        assert!(idle.is_empty(), "{module} declares {idle:?} and never calls it");
    }
    assert!(calls > 50, "only {calls} calls were found");
}

#[test]
fn every_module_that_sends_is_in_the_table() {
    for file in product_sources().into_iter().filter(|file| !file.path.contains("/tests")) {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        // Channels send, too, but with an argument.
        if code.contains(".send()") {
            assert!(modules().iter().any(|(module, _)| is_of(&file.path, module)), "{} calls AWS", file.path);
        }
    }
    for (module, _) in modules() {
        let is_there = module.ends_with('/') || root().join(format!("{module}.rs")).exists();
        assert!(is_there, "{module} is no module any more");
    }
}

#[test]
fn what_lambda_needs_is_declared_by_edge_and_by_nobody_else() {
    let text = read("shared/edge/src/actions.rs");
    let action = Regex::new("\"([a-z0-9-]+):[A-Z][A-Za-z]+\"").unwrap();
    let services: BTreeSet<String> = action.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    let fixed = ["ec2", "logs", "sqs", "xray"].map(str::to_owned);
    assert_eq!(services, BTreeSet::from(fixed), "logs, interfaces, dead letters and traces are all there is");
}
