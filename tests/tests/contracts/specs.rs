//! The spec's published schema: it accepts every example, refuses what the parser refuses, and is in the pages.

use espalier_tests::{read, root};
use serde_json::{Value, json};

const SCHEMA: &str = "schemas/stack.schema.json";

fn schema() -> Value {
    serde_json::from_str(&read(SCHEMA)).unwrap()
}

fn examples() -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = std::fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .map(|name| (name.clone(), serde_json::from_str(&read(&format!("examples/{name}"))).unwrap()))
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

#[test]
fn the_schema_accepts_every_example() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let examples = examples();
    assert!(examples.iter().any(|(name, _)| name == "recipe.json"), "the recipe is there");
    for (name, example) in examples {
        let mistakes: Vec<String> =
            validator.iter_errors(&example).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(mistakes.is_empty(), "{name}: {mistakes:#?}");
    }
}

#[test]
fn the_schema_refuses_what_is_not_a_spec() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let good = examples().into_iter().find(|(name, _)| name == "recipe.json").unwrap().1;
    let broken: [(&str, Value); 6] = [
        ("/version", json!(2)),
        ("/stack", json!("Not A Name")),
        ("/network/vpcId", json!("10.0.0.0/16")),
        ("/service/port", json!("443")),
        ("/certificate/keyType", json!("RSA_1024")),
        ("/healthCheck", json!({ "enabled": true, "protocol": "TCP" })),
    ];
    for (pointer, value) in broken {
        let mut spec = good.clone();
        *spec.pointer_mut(pointer).unwrap_or_else(|| std::panic::panic_any(pointer.to_owned())) = value;
        assert!(!validator.is_valid(&spec), "{pointer}");
    }
    let requested = json!({"kind": "acm", "request": {"hostedZoneId": "Z0PUBLIC"}});
    let others = json!({"kind": "others", "trust": "public"});
    for (issuer, manage, accepted) in [
        (&requested, "stack", true),
        (&others, "nothing", true),
        (&others, "stack", false),
        (&json!({"kind": "others"}), "nothing", false),
        (&json!({"kind": "acm", "trust": "public"}), "nothing", false),
    ] {
        let mut spec = good.clone();
        spec["manage"] = json!(manage);
        spec["certificate"] =
            json!({"issuer": issuer, "dnsNames": ["api-service.example.com"], "renewBeforeHours": 56});
        assert_eq!(validator.is_valid(&spec), accepted, "{issuer} {manage}");
    }
    let mut spec = good;
    spec["surprise"] = json!(true);
    assert!(!validator.is_valid(&spec), "an unknown field");
}

#[test]
fn the_recipes_network_gives_what_the_recipes_spec_asks_for() {
    let network = espalier_tests::Template::read("examples/recipe-network.yaml");
    let outputs = network.at("/Outputs").as_object().unwrap();
    for (output, field) in [
        ("VpcId", "network.vpcId"),
        ("SubnetIds", "network.subnetIds"),
        ("TargetGroupId", "targets.securityGroupId"),
        ("ProberGroupId", "prober.securityGroupId"),
        ("ZoneId", "service.dns.hostedZoneId"),
        ("InstanceIds", "targets.select.instanceIds"),
    ] {
        let description = outputs[output]["Description"].as_str().unwrap();
        assert!(description.contains(field), "{output}: {description}");
    }
}

#[test]
fn the_recipes_subnets_are_in_zones_that_vpc_lattice_serves_in_each_region() {
    let network = espalier_tests::Template::read("examples/recipe-network.yaml");
    let regions = network.at("/Mappings/Zones").as_object().unwrap();
    for (region, zones) in regions {
        let [first, second] = ["A", "B"].map(|which| zones[which].as_str().unwrap());
        let is_served = |zone: &str| !espalier_domain::network::UNSUPPORTED_ZONES.contains(&zone);
        let is_id = |zone: &str| zone.rsplit_once("-az").is_some_and(|(_, number)| number.parse::<u8>().is_ok());
        assert!([first, second].into_iter().all(|zone| is_id(zone) && is_served(zone)), "{region}: {first}, {second}");
        assert!(first != second && first.split('-').next() == second.split('-').next(), "{region}: {first}, {second}");
    }
    assert!(regions.len() > 25, "{regions:?}");
}
