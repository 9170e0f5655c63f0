//! The spec: the recipe parses, every mistake is reported at once with its path, and the published schema is current.

use espalier_domain::id::TargetId;
use espalier_domain::rotation::policy::{Policy, Wave};
use espalier_domain::spec::{self, AllowedDomains, Custody, Issuer, KeyType, Manage, Select, SpecErrors, TargetKind};
use serde_json::{Value, json};

const RECIPE: &str = include_str!("../../../examples/recipe.json");

fn allowed() -> AllowedDomains {
    AllowedDomains::parse("example.com").unwrap()
}

fn recipe() -> Value {
    serde_json::from_str(RECIPE).unwrap()
}

fn refusals(document: &Value) -> Vec<(String, String)> {
    let Err(SpecErrors(errors)) = spec::parse(&document.to_string(), &allowed()) else { return Vec::new() };
    errors.into_iter().map(|error| (error.path, error.problem)).collect()
}

#[test]
fn the_recipe_parses() {
    let spec = spec::parse(RECIPE, &allowed()).unwrap();
    assert_eq!(spec.stack.as_str(), "api-service");
    assert_eq!(spec.manage, Manage::Stack);
    assert_eq!(spec.certificate.issuer, Issuer::Authority);
    assert!(matches!(&spec.targets.select, Select::Tag { key, .. } if key == "espalier:stack"));
    assert_eq!(spec.hash().len(), 64);
}

#[test]
fn the_hash_is_of_the_content_not_of_the_text() {
    let other = serde_json::to_string_pretty(&recipe()).unwrap();
    let (a, b) = (spec::parse(RECIPE, &allowed()).unwrap(), spec::parse(&other, &allowed()).unwrap());
    assert_eq!(a.hash(), b.hash());
    let mut changed = recipe();
    changed["rollout"]["waveSize"] = json!(5);
    assert_ne!(spec::parse(&changed.to_string(), &allowed()).unwrap().hash(), a.hash());
}

#[test]
fn a_zone_of_its_own_is_one_that_the_name_is_in_and_that_is_allowed() {
    let with = |zone: &str| {
        let mut document = recipe();
        document["service"]["dns"] = json!({"privateZone": {"name": zone}});
        document
    };
    for zone in ["api-service.example.com", "example.com"] {
        assert_eq!(refusals(&with(zone)), []);
    }
    let at = "/service/dns/privateZone/name";
    for (zone, problem) in [
        ("service.example.com", "is not in"),
        ("xample.com", "is not in"),
        ("com", "is not a lower-case DNS host name"),
        ("Example.com", "is not a lower-case DNS host name"),
    ] {
        let found = refusals(&with(zone));
        assert!(found.iter().any(|(path, told)| path == at && told.contains(problem)), "{zone}: {found:?}");
    }
    // A zone of this name would hide names from the VPCs that nobody allowed.
    let narrow = AllowedDomains::parse("api-service.example.com").unwrap();
    let Err(SpecErrors(errors)) = spec::parse(&with("example.com").to_string(), &narrow) else { panic!("accepted") };
    assert!(errors.iter().any(|error| error.path == at && error.problem.contains("AllowedDomains")), "{errors:?}");
    // Where the estate is somebody else's, nothing is made.
    let mut theirs = with("example.com");
    theirs["manage"] = json!("rotation");
    theirs["lattice"] = json!({"serviceId": "svc-0123456789abcdef0", "targetGroupIds": ["tg-0123456789abcdef0"]});
    let found = refusals(&theirs);
    assert!(matches!(&found[..], [(path, _)] if path == "/service/dns/privateZone"), "{found:?}");
}

#[test]
fn ten_mistakes_are_ten_errors_with_paths() {
    let mut bad = recipe();
    bad["version"] = json!(2);
    bad["stack"] = json!("Svc_Payments");
    bad["colour"] = json!("green");
    bad["network"]["vpcId"] = json!("vpc-xyz");
    bad["network"]["consumers"][0]["securityGroupIds"] = json!([]);
    bad["service"]["port"] = json!(70_000);
    bad["service"]["idleTimeoutSeconds"] = json!("60");
    bad["certificate"]["dnsNames"] = json!(["api.evil.net"]);
    bad["certificate"]["renewBeforeHours"] = json!(168);
    bad["healthCheck"] = json!({"enabled": true, "protocol": "TCP"});
    bad.as_object_mut().unwrap().remove("prober");
    let paths: Vec<String> = refusals(&bad).into_iter().map(|(path, _)| path).collect();
    let expected = [
        "/certificate/dnsNames",
        "/certificate/dnsNames/0",
        "/certificate/renewBeforeHours",
        "/colour",
        "/healthCheck/protocol",
        "/network/consumers/0/securityGroupIds",
        "/network/vpcId",
        "/prober",
        "/service/idleTimeoutSeconds",
        "/service/port",
        "/stack",
        "/version",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn a_prober_is_named_by_what_a_functions_name_can_be_made_of() {
    let with = |name: &str| {
        let mut document = recipe();
        document["prober"]["name"] = json!(name);
        refusals(&document).into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    for name in ["e", "east", "eu-west-1a", "abcdefghijklmnopqrstuvwx"] {
        assert!(with(name).is_empty(), "{name}");
    }
    for name in ["", "East", "1st", "-a", "a-", "a--b", "a.b", "a*", "a:1", "abcdefghijklmnopqrstuvwxy"] {
        assert_eq!(with(name), ["/prober/name"], "{name}");
    }
}

#[test]
fn what_comes_later_says_so() {
    for value in ["kms", "privateCa"] {
        let mut later = recipe();
        later["certificate"]["issuer"]["kind"] = json!(value);
        let found = refusals(&later);
        let problem = format!("{value:?} is not supported by this version");
        assert_eq!(found, [("/certificate/issuer/kind".to_owned(), problem)]);
    }
}

#[test]
fn the_estate_of_somebody_else_is_given_exactly_with_rotation() {
    let given = json!({"serviceId": "svc-0123456789abcdef0", "targetGroupIds": ["tg-0123456789abcdef0"]});
    let with = |manage: &str, lattice: Option<&Value>| {
        let mut document = recipe();
        document["manage"] = json!(manage);
        if let Some(lattice) = lattice {
            document["lattice"] = lattice.clone();
        }
        refusals(&document)
    };
    assert_eq!(with("rotation", Some(&given)), []);
    assert_eq!(with("nothing", None), []);
    assert_eq!(with("rotation", None), [("/lattice".to_owned(), "is missing".to_owned())]);
    for manage in ["stack", "nothing"] {
        assert_eq!(with(manage, Some(&given))[0].0, "/lattice");
    }
}

#[test]
fn only_with_a_network_of_somebody_else_there_may_be_no_consumers() {
    let mut document = recipe();
    document["network"].as_object_mut().unwrap().remove("consumers");
    assert_eq!(refusals(&document), [("/network/consumers".to_owned(), "is missing".to_owned())]);
    document["network"]["consumers"] = json!([]);
    assert_eq!(refusals(&document), [("/network/consumers".to_owned(), "has 0 entries".to_owned())]);
    for good in
        ["sn-0123456789abcdef0", "arn:aws:vpc-lattice:eu-west-1:111122223333:servicenetwork/sn-0123456789abcdef0"]
    {
        document["network"]["serviceNetworkId"] = json!(good);
        assert_eq!(refusals(&document), [], "{good}");
    }
    for bad in ["sn-1", "tg-0123456789abcdef0", "arn:aws:vpc-lattice:eu-west-1:1:servicenetwork/sn-0123456789abcdef0"] {
        document["network"]["serviceNetworkId"] = json!(bad);
        assert_eq!(refusals(&document)[0].0, "/network/serviceNetworkId", "{bad}");
    }
}

fn policy(change: impl FnOnce(&mut Value)) -> Vec<(String, String)> {
    let mut document = recipe();
    document["service"]["authPolicy"] = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": "vpc-lattice-svcs:Invoke", "Resource": "*",
        "Condition": {"StringEquals": {"vpc-lattice-svcs:SourceVpc": ["vpc-0a1b2c3d4e5f60718"]}}}]});
    change(&mut document["service"]["authPolicy"]);
    refusals(&document)
}

#[test]
fn an_auth_policy_tests_only_what_passthrough_shows_and_each_refusal_says_why() {
    assert_eq!(policy(|_| {}), []);
    let says = |change: &dyn Fn(&mut Value), place: &str, why: &str| {
        let found = policy(|it| change(it));
        let at = |path: &str| path == format!("/service/authPolicy{place}");
        assert!(found.iter().any(|(path, problem)| at(path) && problem.contains(why)), "{place}: {found:?}");
    };
    says(
        &|it| it["Statement"][0]["Principal"] = json!("arn:aws:iam::111122223333:root"),
        "/Statement/0/Principal",
        "anonymous",
    );
    says(&|it| it["Statement"][0]["Resource"] = json!("*/admin"), "/Statement/0/Resource", "paths are not seen");
    for (key, why) in [
        ("aws:PrincipalOrgID", "every caller is anonymous"),
        ("vpc-lattice-svcs:RequestMethod", "inside the TLS connection"),
        ("vpc-lattice-svcs:RequestHeader~1x-tenant", "inside the TLS connection"),
        ("aws:SourceVpc", "write vpc-lattice-svcs:SourceVpc"),
        ("aws:SourceIp", "is unknown"),
    ] {
        let name = key.replace("~1", "/");
        let place = format!("/Statement/0/Condition/StringEquals/{key}");
        says(&|it| it["Statement"][0]["Condition"] = json!({"StringEquals": {name.clone(): ["x"]}}), &place, why);
    }
    says(&|it| it["Statement"][0]["Effect"] = json!("Deny"), "", "lets no connection through: no statement allows");
}

#[test]
fn every_kind_of_key_is_written_as_it_is_named() {
    for key_type in KeyType::ALL {
        let mut document = recipe();
        document["certificate"]["keyType"] = json!(key_type.name());
        assert_eq!(spec::parse(&document.to_string(), &allowed()).unwrap().certificate.key_type, key_type);
    }
    let mut weak = recipe();
    weak["certificate"]["keyType"] = json!("RSA_1024");
    assert_eq!(refusals(&weak)[0].0, "/certificate/keyType");
}

#[test]
fn of_very_many_mistakes_the_first_are_told_and_the_rest_counted() {
    let mut bad = recipe();
    for number in 0..500 {
        bad[format!("x{number}")] = json!(1);
    }
    let errors = spec::parse(&bad.to_string(), &allowed()).unwrap_err();
    assert_eq!(errors.0.len(), 500);
    let text = errors.to_string();
    assert!(text.starts_with("the spec has 500 mistake(s): /x0: is unknown; "), "{text}");
    assert!(text.ends_with(" | and 460 more") && text.len() < 20_000, "{}", text.len());
}

#[test]
fn not_json_is_one_error() {
    assert!(spec::parse("{", &allowed()).unwrap_err().0[0].problem.starts_with("is not JSON"));
    assert_eq!(refusals(&json!([]))[0].1, "a list is not an object");
}

/// Regenerate with `EXPECTORATE=overwrite`.
#[test]
fn the_published_schema_is_the_table() {
    let text = serde_json::to_string_pretty(&spec::schema()).unwrap() + "\n";
    expectorate::assert_contents("../../schemas/stack.schema.json", &text);
}

#[test]
fn windows_and_freezes_are_read_and_their_mistakes_named() {
    let mut good = recipe();
    good["rollout"] = json!({"canary": 1, "wavePercent": 25, "bakeMinutes": 30, "safetyMarginHours": 24,
        "windows": [{"days": ["sat", "sun"], "from": "22:00", "to": "04:00"}, {"from": "02:00", "to": "02:30"}],
        "freezes": [{"from": "2026-12-20T00:00:00Z", "to": "2027-01-04T00:00:00Z"}]});
    let spec = spec::parse(&good.to_string(), &allowed()).unwrap();
    assert_eq!((spec.rollout.windows.len(), spec.rollout.freezes.len()), (2, 1));
    let policy = Policy::from_spec(&spec, &allowed());
    assert_eq!((policy.wave, policy.bake_minutes, policy.safety_margin_hours), (Wave::Percent(25), 30, 24));
    assert_eq!(Policy::from_spec(&spec::parse(RECIPE, &allowed()).unwrap(), &allowed()).safety_margin_hours, 28);

    let mut bad = good;
    bad["rollout"]["waveSize"] = json!(5);
    bad["rollout"]["safetyMarginHours"] = json!(56);
    bad["rollout"]["windows"] = json!([{"days": ["monday"], "from": "24:00", "to": "2:00"}, {"from": "01:00"}]);
    bad["rollout"]["freezes"] = json!([{"from": "2026-12-20T00:00:00Z", "to": "2026-12-20T00:00:00Z"},
        {"from": "2026-02-30T00:00:00Z", "to": "2027-01-04T00:00:00+01:00"}]);
    let paths: Vec<String> = refusals(&bad).into_iter().map(|(path, _)| path).collect();
    let expected = [
        "/rollout/freezes/0/to",
        "/rollout/freezes/1/from",
        "/rollout/freezes/1/to",
        "/rollout/safetyMarginHours",
        "/rollout/wavePercent",
        "/rollout/windows/0/days/0",
        "/rollout/windows/0/from",
        "/rollout/windows/0/to",
        "/rollout/windows/1/to",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn a_certificate_out_of_acm_is_named_and_nothing_is_said_that_acm_decides() {
    let good: Value = serde_json::from_str(include_str!("../../../examples/acm.json")).unwrap();
    let spec = spec::parse(&good.to_string(), &allowed()).unwrap();
    let policy = Policy::from_spec(&spec, &allowed());
    let source = policy.source.unwrap();
    assert!(source.certificate.is_some_and(|arn| spec.certificate.names(&arn)) && policy.follow.is_none());
    assert!(!source.is_requested && spec.certificate.request().is_none());

    let mut bad = good.clone();
    bad["certificate"]["issuer"] = json!({"kind": "acm"});
    bad["certificate"]["validityHours"] = json!(168);
    bad["certificate"]["renewBeforeHours"] = json!(56);
    bad["certificate"]["keyType"] = json!("RSA_2048");
    bad["certificate"]["follow"] = json!({"certificateArn": good["certificate"]["issuer"]["certificateArn"]});
    let paths: Vec<String> = refusals(&bad).into_iter().map(|(path, _)| path).collect();
    let expected = ["follow", "issuer/certificateArn", "keyType", "validityHours"];
    assert_eq!(paths, expected.map(|field| format!("/certificate/{field}")));

    let mut ours = good;
    ours["certificate"]["issuer"]["kind"] = json!("authority");
    let paths: Vec<String> = refusals(&ours).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/certificate/issuer/certificateArn", "/certificate/validityHours"]);
}

#[test]
fn each_target_may_have_a_certificate_of_its_own_where_we_sign_and_install() {
    let mut document: Value = serde_json::from_str(RECIPE).unwrap();
    let scope = |document: &Value| {
        Policy::from_spec(&spec::parse(&document.to_string(), &allowed()).unwrap(), &allowed()).scope
    };
    assert!(!scope(&document).is_each(), "shared if left out");
    for (word, each) in [("shared", false), ("target", true)] {
        document["certificate"]["scope"] = json!(word);
        assert_eq!(scope(&document).is_each(), each);
    }
    document["targets"]["select"] =
        json!({"addresses": [{"address": "10.0.1.5", "node": "mi-0a1b2c3d4e5f60711"}, {"address": "10.0.1.6"}]});
    let paths = |bad: &Value| refusals(bad).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(paths(&document), ["/targets/select/addresses/1/node"]);
    document["certificate"]["scope"] = json!("everybody");
    assert_eq!(paths(&document), ["/certificate/scope"]);
    document["certificate"]["custody"] = json!({"kind": "target"});
    assert_eq!(paths(&document), ["/certificate/custody/kind", "/certificate/scope"], "a key of all is made on none");
    document["certificate"].as_object_mut().unwrap().remove("scope");
    assert_eq!(paths(&document), ["/certificate/custody/kind"], "shared if left out");
    document["targets"]["select"] = json!({"tag": {"key": "app", "value": "pay"}});
    let custody = |document: &Value| {
        Policy::from_spec(&spec::parse(&document.to_string(), &allowed()).unwrap(), &allowed()).custody
    };
    for (scope, kind, custody_of) in [
        ("shared", None, Custody::ParameterStore),
        ("target", None, Custody::Target),
        ("target", Some("target"), Custody::Target),
        ("target", Some("parameterStore"), Custody::ParameterStore),
    ] {
        document["certificate"]["scope"] = json!(scope);
        document["certificate"].as_object_mut().unwrap().remove("custody");
        if let Some(kind) = kind {
            document["certificate"]["custody"] = json!({"kind": kind});
        }
        assert_eq!(custody(&document), custody_of, "{scope} {kind:?}");
    }
    let mut exported: Value = serde_json::from_str(include_str!("../../../examples/acm.json")).unwrap();
    exported["certificate"]["scope"] = json!("target");
    assert_eq!(paths(&exported), ["/certificate/scope"]);
    let mut observed: Value = serde_json::from_str(include_str!("../../../examples/observe.json")).unwrap();
    observed["certificate"]["scope"] = json!("target");
    assert!(paths(&observed).contains(&"/certificate/scope".to_owned()));
    observed["certificate"]["scope"] = json!("shared");
    exported["certificate"]["scope"] = json!("shared");
    assert!(refusals(&observed).is_empty() && refusals(&exported).is_empty(), "what is so in any case may be said");
}

#[test]
fn a_certificate_may_be_requested_with_what_acm_takes() {
    let mut good: Value = serde_json::from_str(include_str!("../../../examples/acm.json")).unwrap();
    good["certificate"]["issuer"] = json!({"kind": "acm", "request": {"hostedZoneId": "Z0PUBLIC"}});
    for key in [Value::Null, json!("EC_secp384r1"), json!("RSA_2048")] {
        good["certificate"]["keyType"] = key.clone();
        if key.is_null() {
            good["certificate"].as_object_mut().unwrap().remove("keyType");
        }
        let spec = spec::parse(&good.to_string(), &allowed()).unwrap();
        assert_eq!(spec.certificate.request().unwrap().hosted_zone_id.as_str(), "Z0PUBLIC");
        let source = Policy::from_spec(&spec, &allowed()).source.unwrap();
        assert!(source.is_requested && source.certificate.is_none());
    }
    let paths = |bad: &Value| refusals(bad).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    for key in ["RSA_3072", "RSA_4096", "Ed25519"] {
        good["certificate"]["keyType"] = json!(key);
        assert_eq!(paths(&good), ["/certificate/keyType"], "{key}");
    }
    good["certificate"]["keyType"] = json!("RSA_2048");
    let mut both = good.clone();
    both["certificate"]["issuer"]["certificateArn"] =
        json!("arn:aws:acm:eu-west-1:111122223333:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b");
    assert_eq!(paths(&both), ["/certificate/issuer/request"]);
    let mut ours = good.clone();
    ours["certificate"]["issuer"]["kind"] = json!("authority");
    assert_eq!(paths(&ours), ["/certificate/issuer/request", "/certificate/validityHours"]);
    let mut long = good;
    let name = format!("{}.example.com", "a".repeat(60));
    long["service"]["domainName"] = json!(name);
    long["certificate"]["dnsNames"] = json!([name]);
    assert_eq!(paths(&long), ["/service/domainName"]);
}

#[test]
fn load_balancers_are_refused_with_the_reason_and_addresses_under_other_names_with_theirs() {
    for (field, reason) in [("ipAddresses", "\"addresses\""), ("loadBalancerArn", "ends TLS itself")] {
        let mut document = recipe();
        document["targets"]["select"] = json!({ field: ["10.0.0.1"] });
        let errors = spec::parse(&document.to_string(), &allowed()).unwrap_err().0;
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!(error.path, format!("/targets/select/{field}"));
        assert!(error.problem.contains(reason) && error.remedy.contains("instanceIds"), "{error}");
    }
}

#[test]
fn addresses_are_of_one_family_each_written_once_and_each_with_a_node_of_its_own() {
    let with = |addresses: Value| {
        let mut document = recipe();
        document["targets"]["select"] = json!({ "addresses": addresses });
        document
    };
    let node = "mi-0a1b2c3d4e5f60711";
    let good = with(json!([{"address": "10.0.1.5", "node": node}, {"address": "10.0.1.6"}]));
    let spec = spec::parse(&good.to_string(), &allowed()).unwrap();
    let of = |address: &str| spec.targets.select.node(&TargetId::parse(address).unwrap());
    assert_eq!(of("10.0.1.5").map(|node| node.to_string()).as_deref(), Some(node));
    assert_eq!((of("10.0.1.6"), of("10.0.1.7"), spec.targets.select.kind()), (None, None, TargetKind::Ipv4));
    for (bad, path, problem) in [
        (json!([{"address": "10.0.1.5"}, {"address": "fd12::5"}]), "1/address", "one family"),
        (json!([{"address": "fd12::5"}, {"address": "10.0.1.5"}]), "1/address", "one family"),
        (json!([{"address": "10.0.1.5"}, {"address": "10.0.1.5"}]), "1/address", "listed twice"),
        (
            json!([{"address": "10.0.1.5", "node": node}, {"address": "10.0.1.6", "node": node}]),
            "1/node",
            "listed twice",
        ),
        (json!([{"address": "10.0.1"}]), "0/address", "is not an IPv4 or IPv6 address"),
        (json!([{"address": "10.0.1.05"}]), "0/address", "as it is usually written"),
        (json!([{"address": "FD12::5"}]), "0/address", "as it is usually written"),
        (json!([{"address": "i-0a1b2c3d4e5f60711"}]), "0/address", "is not an IPv4 or IPv6 address"),
        (json!([{"address": "10.0.1.5", "node": "10.0.1.5"}]), "0/node", "is not a managed node's id"),
        (json!([{"node": node}]), "0/address", "is missing"),
        (json!([{"address": "10.0.1.5", "port": 443}]), "0/port", "is unknown"),
    ] {
        let errors = spec::parse(&with(bad.clone()).to_string(), &allowed()).unwrap_err().0;
        let [error] = errors.as_slice() else { panic!("{bad}: {errors:?}") };
        assert_eq!(error.path, format!("/targets/select/addresses/{path}"), "{bad}");
        assert!(error.problem.contains(problem) && !error.remedy.is_empty(), "{bad}: {error}");
    }
    assert_eq!(spec::parse(&with(json!([])).to_string(), &allowed()).unwrap_err().0.len(), 1);
    // An address is no instance.
    let mut document = recipe();
    document["targets"]["select"] = json!({"instanceIds": ["10.0.1.5"]});
    assert_eq!(spec::parse(&document.to_string(), &allowed()).unwrap_err().0[0].path, "/targets/select/instanceIds/0");
}

#[test]
fn what_others_install_is_judged_by_a_trust_that_is_named() {
    let good: Value = serde_json::from_str(include_str!("../../../examples/observe.json")).unwrap();
    assert_eq!(refusals(&good), []);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        refusals(&document).into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    let pem = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n";
    let key = pem.replace("CERTIFICATE", "PRIVATE KEY");
    let trust = |text: String| with(&move |it: &mut Value| it["certificate"]["issuer"]["trust"] = json!(text));
    for accepted in ["public", "authority", pem, pem.trim_end(), &pem.repeat(2), &pem.replace('\n', "\r\n")] {
        assert_eq!(trust(accepted.to_owned()), Vec::<String>::new(), "{accepted:?}");
    }
    let text_after = format!("{pem}and more");
    let other = pem.replace("MII", "aGV");
    for refused in ["", "Public", "root.pem", &key, &format!("{pem}{key}"), &text_after, &other] {
        assert_eq!(trust(refused.to_owned()), ["/certificate/issuer/trust"], "{refused:?}");
    }
    let without = with(&|it| drop(it["certificate"]["issuer"].as_object_mut().unwrap().remove("trust")));
    assert_eq!(without, ["/certificate/issuer/trust"]);
    assert_eq!(with(&|it| it["manage"] = json!("stack")), ["/certificate/issuer/kind"]);
    assert_eq!(with(&|it| it["certificate"]["validityHours"] = json!(720)), ["/certificate/validityHours"]);
    assert_eq!(with(&|it| it["certificate"]["keyType"] = json!("RSA_2048")), ["/certificate/keyType"]);
    let request = json!({"hostedZoneId": "Z0PUBLIC"});
    assert_eq!(with(&|it| it["certificate"]["issuer"]["request"] = request.clone()), ["/certificate/issuer/request"]);
    let ours = with(&|it| it["certificate"]["issuer"]["kind"] = json!("authority"));
    assert!(ours.contains(&"/certificate/issuer/trust".to_owned()), "{ours:?}");
    let hosts = |names: Value| with(&move |it: &mut Value| it["targets"]["select"] = json!({ "hosts": names }));
    let name = "internal-a-1.eu-west-1.elb.amazonaws.com";
    assert_eq!(hosts(json!([name, "payments.example.com"])), Vec::<String>::new());
    for refused in ["10.0.1.5", "10.0.1", "internal-A-1.elb.amazonaws.com", "alb", "a.example.com:443", "*.example.com"]
    {
        assert_eq!(hosts(json!([name, refused])), ["/targets/select/hosts/1"], "{refused}");
    }
    assert_eq!(hosts(json!([name, name])), ["/targets/select/hosts/1"]);
    assert_eq!(hosts(json!([])), ["/targets/select/hosts"]);
    let mut document = recipe();
    document["targets"]["select"] = json!({"hosts": [name]});
    let registered: Vec<_> = refusals(&document).into_iter().map(|(path, _)| path).collect();
    assert_eq!(registered, ["/targets/select/hosts"], "a name is in no target group");
    // Nobody certifies anything by it.
    let elsewhere = with(&|it| {
        it["service"]["domainName"] = json!("www.example.org");
        it["certificate"]["dnsNames"] = json!(["www.example.org"]);
    });
    assert_eq!(elsewhere, Vec::<String>::new());
}
