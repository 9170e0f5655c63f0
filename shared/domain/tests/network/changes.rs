//! Every field of the spec, changed once: the table says what becomes of it, and the planner does that.

use espalier_domain::network::{Action, plan, render};
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::{self, AllowedDomains, CHANGES, Change, Select, Spec};
use serde_json::{Value, json};

use crate::strangers::stranger;
use crate::world::World;
use crate::{ONE, TWO, instance_in, run, settled};

const OTHER_VPC: &str = "vpc-2a1b2c3d4e5f60718";
const OTHER_NETWORK: &str = "sn-0123456789abcdef0";
const OTHER_GROUP: &str = "sg-0a1b2c3d4e5f6071f";

/// Another value for a field.
fn other(field: &str) -> Value {
    match field {
        "/$schema" | "/owner" => json!("someone else"),
        "/version" => json!(2),
        "/stack" => json!("other-service"),
        "/notify" => json!(["someone@example.com"]),
        "/manage" => json!("nothing"),
        "/lattice/serviceId" => json!("svc-0123456789abcdef0"),
        "/lattice/targetGroupIds" => json!(["tg-0123456789abcdef0"]),
        "/network/serviceNetworkId" => json!(OTHER_NETWORK),
        "/state" => json!("absent"),
        "/drift" => json!("report"),
        "/deletionProtection" => json!(false),
        "/network/vpcId" | "/network/consumers/*/vpcId" => json!(OTHER_VPC),
        "/network/subnetIds" => json!(["subnet-0a1b2c3d4e5f60718"]),
        "/network/consumers/*/securityGroupIds" => json!([OTHER_GROUP]),
        "/service/domainName" => json!("other.example.com"),
        "/service/port" | "/targets/port" | "/healthCheck/port" => json!(8443),
        "/service/idleTimeoutSeconds" => json!(300),
        "/service/authPolicy" => json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
            "Action": "vpc-lattice-svcs:Invoke", "Resource": "*"}]}),
        "/service/accessLogs/destinationArn" => json!("arn:aws:s3:::access-logs"),
        "/service/dns/hostedZoneName" => json!("example.com"),
        "/service/dns/hostedZoneId" => json!("Z0FFFFFFFFFFFF"),
        "/service/dns/privateZone/name" => json!("example.com"),
        "/targets/rulesPerGroup" => json!(100),
        "/targets/targetsPerGroup" => json!(2),
        "/targets/securityGroupId" | "/prober/securityGroupId" => json!(OTHER_GROUP),
        "/targets/select/instanceIds" => json!([ONE]),
        "/targets/select/tag/key" => json!("role"),
        "/targets/select/tag/value" => json!("other"),
        "/targets/select/autoScalingGroups" => json!(["api-service-targets"]),
        "/targets/select/addresses/*/address" => json!("10.0.2.6"),
        "/targets/select/addresses/*/node" => json!("mi-0a1b2c3d4e5f60711"),
        "/targets/select/hosts" => json!(["internal-a-1.eu-west-1.elb.amazonaws.com"]),
        "/targets/minimumInService" => json!(2),
        "/certificate/issuer/kind" => json!("acm"),
        "/certificate/issuer/request/hostedZoneId" => json!("Z0PUBLIC"),
        "/certificate/issuer/trust" => json!("public"),
        "/certificate/custody/kind" => json!("parameterStore"),
        "/certificate/scope" => json!("target"),
        "/certificate/dnsNames" => json!(["api-service.example.com", "more.example.com"]),
        "/certificate/keyType" => json!("EC_secp384r1"),
        "/certificate/validityHours" => json!(120),
        "/certificate/renewBeforeHours" => json!(40),
        "/certificate/issuer/certificateArn" | "/certificate/follow/certificateArn" => {
            json!("arn:aws:acm:eu-west-1:111122223333:certificate/71f50cd4-45b9-4259-b049-d0a53682fa4b")
        }
        "/certificate/follow/expiringDays" => json!(30),
        "/certificate/renewSpreadPercent" => json!(0),
        "/rollout/canary" | "/rollout/waveSize" | "/rollout/wavePercent" | "/rollout/failureBudget" => json!(2),
        "/rollout/minimumHealthyPercent" => json!(50),
        "/rollout/bakeMinutes" => json!(30),
        "/rollout/confirm" => json!("all"),
        "/rollout/confirmSeconds" => json!(600),
        "/rollout/windows/*/days" => json!(["sat"]),
        "/rollout/windows/*/from" | "/rollout/windows/*/to" => json!("12:00"),
        "/rollout/freezes/*/from" => json!("2026-12-21T00:00:00Z"),
        "/rollout/freezes/*/to" => json!("2027-01-05T00:00:00Z"),
        "/rollout/safetyMarginHours" => json!(12),
        "/healthCheck/enabled" => json!(false),
        "/healthCheck/protocol" => json!("HTTP"),
        "/healthCheck/protocolVersion" => json!("HTTP2"),
        "/healthCheck/path" => json!("/other"),
        "/healthCheck/intervalSeconds" => json!(60),
        "/healthCheck/timeoutSeconds" => json!(10),
        "/healthCheck/healthyThreshold" => json!(3),
        "/healthCheck/unhealthyThreshold" => json!(3),
        "/healthCheck/codes" => json!("204"),
        "/prober/name" => json!("east"),
        "/prober/samples" => json!(1),
        "/prober/resolver" => json!("10.0.0.2:53"),
        field => panic!("{field} is new: write down in spec/change.rs what its change becomes, and another value here"),
    }
}

fn document() -> Value {
    let mut document: Value = serde_json::from_str(include_str!("../../../../examples/recipe.json")).unwrap();
    document["healthCheck"] = json!({"enabled": true});
    let window = json!({"from": "02:00", "to": "04:00"});
    document["rollout"]["windows"] = json!([window, window]);
    let freeze = json!({"from": "2026-12-20T00:00:00Z", "to": "2027-01-04T00:00:00Z"});
    document["rollout"]["freezes"] = json!([freeze, freeze]);
    document
}

fn parsed(document: &Value) -> Result<Spec, spec::SpecErrors> {
    spec::parse(&document.to_string(), &AllowedDomains::parse("example.com").unwrap())
}

/// The recipe, or where a field is about addresses, with targets that are some.
fn before(field: &str) -> Value {
    let mut document = document();
    if field.starts_with("/targets/select/addresses/") {
        document["targets"]["select"] = json!({"addresses": [{"address": "10.0.1.5"}, {"address": "10.0.1.6"}]});
    }
    document
}

/// The same with this field changed.
fn changed(field: &str) -> Value {
    let mut document = before(field);
    match field {
        "/targets/select/instanceIds" | "/targets/select/autoScalingGroups" => {
            document["targets"]["select"] = json!({});
        }
        "/lattice/serviceId" | "/lattice/targetGroupIds" => {
            document["manage"] = json!("rotation");
            document["lattice"] =
                json!({"serviceId": other("/lattice/serviceId"), "targetGroupIds": other("/lattice/targetGroupIds")});
        }
        // A domain is one of the certificate's names.
        "/service/domainName" => document["certificate"]["dnsNames"] = json!(["other.example.com"]),
        "/certificate/issuer/kind" => {
            document["certificate"] = json!({"renewBeforeHours": 56, "dnsNames": document["certificate"]["dnsNames"],
                "issuer": {"kind": "authority", "certificateArn": other("/certificate/issuer/certificateArn")}});
        }
        "/certificate/issuer/certificateArn" => {
            document["certificate"] = json!({"issuer": {"kind": "acm"}, "renewBeforeHours": 56,
                "dnsNames": document["certificate"]["dnsNames"]});
        }
        "/certificate/issuer/request/hostedZoneId" => {
            document["certificate"] = json!({"issuer": {"kind": "acm", "request": {}}, "renewBeforeHours": 56,
                "dnsNames": document["certificate"]["dnsNames"]});
        }
        "/certificate/issuer/trust" | "/targets/select/hosts" => {
            document["manage"] = json!("nothing");
            document["certificate"] = json!({"issuer": {"kind": "others", "trust": "public"}, "renewBeforeHours": 56,
                "dnsNames": document["certificate"]["dnsNames"]});
            if field == "/targets/select/hosts" {
                document["targets"]["select"] = json!({});
            }
        }
        "/service/dns/hostedZoneName" => document["service"]["dns"] = json!({}),
        "/service/dns/privateZone/name" => document["service"]["dns"] = json!({"privateZone": {}}),
        "/service/accessLogs/destinationArn" => document["service"]["accessLogs"] = json!({}),
        "/rollout/wavePercent" => drop(document["rollout"].as_object_mut().unwrap().remove("waveSize")),
        _ => {}
    }
    // The second consumer: the first is the targets' own VPC.
    let path = field.replace('*', "1");
    let (parent, name) = path.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[name] = other(field);
    document
}

/// The world in which the former spec has converged, and what the latter one refers to is there, too.
fn prepared(before: &Spec, after: &Spec) -> World {
    let mut world = settled(before, &[ONE, TWO]);
    world.estate.vpcs.push(espalier_domain::network::SeenVpc {
        id: espalier_domain::id::VpcId::parse(OTHER_VPC).unwrap(),
        resolves_private_zones: true,
    });
    world.estate.groups = crate::world::groups(after);
    if after.network.vpc_id != before.network.vpc_id {
        world.estate.subnets.iter_mut().for_each(|subnet| subnet.vpc_id = after.network.vpc_id.clone());
        // The instances of the new VPC are others.
        world.estate.instances = vec![instance_in(after, "i-0a1b2c3d4e5f60714")];
    }
    // One of them is what the other tag selects, too.
    if let Select::Tag { key, value } = &after.targets.select {
        world.tagged.insert(TWO.into(), (key.clone(), value.clone()));
    }
    world.networks.push(stranger(OTHER_NETWORK, "shared".to_owned()));
    world
}

/// What the planner makes of it, until it has nothing more to do.
fn outcome(before: &Spec, after: &Spec) -> Change {
    let mut world = prepared(before, after);
    let ids = |world: &World| {
        let groups = world.groups.iter().map(|one| one.id.clone());
        let services = world.services.iter().map(|one| one.id.clone());
        let listeners = world.listeners.iter().map(|one| one.id.clone());
        let networks = world.networks.iter().map(|one| one.id.clone());
        groups.chain(services).chain(listeners).chain(networks).collect::<Vec<_>>()
    };
    let former = ids(&world);
    let is_refused = |world: &World| {
        let plan = plan(after, &world.look(after));
        plan.blocks.iter().any(|block| block.code == BlockCode::Immutable)
    };
    if is_refused(&world) {
        let steps = plan(after, &world.look(after)).steps;
        assert!(steps.iter().all(|step| matches!(step.action, Action::Tag { .. })), "refused, and yet {steps:?}");
        return Change::Refused;
    }
    run(&mut world, after, crate::Keep::Nothing);
    if ids(&world) == former { Change::InPlace } else { Change::Replaced }
}

#[test]
fn every_field_is_in_the_table_and_nothing_else() {
    let table: Vec<&str> = CHANGES.iter().map(|row| row.field).collect();
    assert_eq!(table, spec::fields());
}

#[test]
fn each_field_changed_once_becomes_what_the_table_says() {
    for row in CHANGES {
        let before = parsed(&before(row.field)).unwrap();
        let became = match parsed(&changed(row.field)) {
            Err(_) => Change::Refused,
            // `provision` compares the spec's stack with the parameter's name.
            Ok(after) if after.stack != before.stack => Change::Refused,
            Ok(after) => outcome(&before, &after),
        };
        assert_eq!(became, row.change, "{}", row.field);
    }
}

/// What is done first about each change, or why nothing is.
#[test]
fn each_field_changed_once_is_planned_so() {
    let mut text = String::new();
    for row in CHANGES {
        let before = parsed(&before(row.field)).unwrap();
        let first = match parsed(&changed(row.field)) {
            Err(errors) => errors.0.iter().fold(String::new(), |all, error| format!("{all}! SpecInvalid: {error}\n")),
            Ok(after) if after.stack != before.stack => {
                "! SpecInvalid: the parameter's name is another stack's\n".into()
            }
            Ok(after) => {
                let mut world = prepared(&before, &after);
                let forget = plan(&after, &world.look(&after));
                // That the former spec is no longer settled is written down before anything else.
                let is_memory = |it: &Action| matches!(it, Action::Tag { .. });
                if forget.steps.iter().all(|step| is_memory(&step.action) && step.because == "the spec has changed") {
                    forget.steps.iter().for_each(|step| world.call(&step.action).unwrap());
                }
                render(&plan(&after, &world.look(&after)))
            }
        };
        text.push_str(row.field);
        text.push('\n');
        first.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    expectorate::assert_contents("tests/golden/network/each-field.txt", &text);
}

#[test]
fn the_page_is_printed_from_the_table() {
    expectorate::assert_contents("../../docs/changes.md", &spec::changes_page());
}
