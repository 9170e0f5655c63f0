//! What is not ours: it blocks with a reason and is never touched (the world panics if it is).

use espalier_domain::id::VpcId;
use espalier_domain::network::{DnsEntry, IngressSource, SeenIngress, SeenRecord, Status, left, plan};
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::TargetKind;
use serde_json::json;

use crate::world::{Group, PREFIX_LIST, Service, Tags, Thing, World, dns_entry, rule};
use crate::{Keep, ONE, THREE, TWO, instance_in, run, settled, spec};

fn codes(world: &World, spec: &espalier_domain::spec::Spec) -> Vec<BlockCode> {
    plan(spec, &world.look(spec)).blocks.into_iter().map(|block| block.code).collect()
}

#[test]
fn a_resource_with_our_name_blocks_and_stays() {
    let spec = spec(|_| {});
    let mut world = World::new(&spec, &[ONE]);
    world.networks.push(stranger("sn-0aaa", "api-service-network".to_owned()));
    let of = Service::new("api-service", "api-service.example.com");
    world.services.push(stranger("svc-0bbb", of));
    let text = run(&mut world, &spec, Keep::Nothing);
    assert!(text.ends_with(
        "! Foreign: service network api-service-network (sn-0aaa) exists without our tag espalier:stack=api-service; \
         rename or remove it\n\
         ! Foreign: service api-service (svc-0bbb) exists without our tag espalier:stack=api-service; rename or remove \
         it\n"
    ));
}

#[test]
fn teardown_leaves_a_strangers_record_and_service() {
    let absent = spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
    let mut world = World::new(&absent, &[ONE]);
    let of = Service::new("api-service", "api-service.example.com");
    world.services.push(stranger("svc-0bbb", of));
    world.record = Some(SeenRecord { alias: Some(dns_entry(&world.services[0])) });
    assert_eq!(run(&mut world, &absent, Keep::Nothing), "converged\n");
    assert!(world.record.is_some());
}

#[test]
fn the_record_of_a_stack_whose_name_begins_with_ours_is_not_ours() {
    let absent = spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
    let mut world = World::new(&absent, &[ONE]);
    let domain_name = "api-service-v2-0abc.7d67968.vpc-lattice-svcs.eu-west-1.on.aws".to_owned();
    world.record = Some(SeenRecord { alias: Some(DnsEntry { domain_name, hosted_zone_id: "ZLATTICE".into() }) });
    assert_eq!(run(&mut world, &absent, Keep::Nothing), "converged\n");
    assert_eq!(codes(&settled_with_record(&world), &spec(|_| {})), [BlockCode::Foreign]);
}

#[test]
fn the_record_of_the_same_stack_in_another_region_is_not_ours() {
    let absent = spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
    let theirs = |region: &str| {
        let domain_name = format!("api-service-0abc.7d67968.vpc-lattice-svcs.{region}.on.aws");
        Some(SeenRecord { alias: Some(DnsEntry { domain_name, hosted_zone_id: "ZLATTICE".into() }) })
    };
    for region in ["eu-west-2", "eu-west-10", "us-east-1"] {
        let mut world = World::new(&absent, &[ONE]);
        world.record = theirs(region);
        assert_eq!(run(&mut world, &absent, Keep::Nothing), "converged\n", "{region}");
        assert_eq!(codes(&settled_with_record(&world), &spec(|_| {})), [BlockCode::Foreign], "{region}");
    }
    // A former service of ours left one here: it is taken over.
    let mut world = World::new(&absent, &[ONE]);
    world.record = theirs("eu-west-1");
    let mut world = settled_with_record(&world);
    let text = run(&mut world, &spec(|_| {}), Keep::Nothing);
    assert!(text.contains("(it points to a former service of ours)") && text.ends_with("converged\n"), "{text}");
}

fn settled_with_record(other: &World) -> World {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    world.record.clone_from(&other.record);
    world
}

#[test]
fn a_vpc_of_another_network_blocks_until_it_leaves() {
    let spec = spec(|_| {});
    let mut world = World::new(&spec, &[ONE]);
    let vpc = spec.network.consumers[1].vpc_id.clone();
    let groups = spec.network.consumers[1].security_group_ids.iter().cloned().collect();
    world.vpcs.push(stranger("snva-0ccc", ("sn-0other".to_owned(), vpc, groups)));
    run(&mut world, &spec, Keep::Nothing);
    assert_eq!(codes(&world, &spec), [BlockCode::Foreign]);
    world.vpcs.iter_mut().find(|one| one.id == "snva-0ccc").unwrap().status = Status::Deleting;
    assert!(run(&mut world, &spec, Keep::Nothing).ends_with("converged\n"));
}

#[test]
fn teardown_stops_at_what_strangers_hung_on_ours() {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    let (network, service) = (world.networks[0].id.clone(), world.services[0].id.clone());
    let vpc = VpcId::parse("vpc-0fffffffffffffff0").unwrap();
    world.vpcs.push(stranger("snva-0ccc", (network.clone(), vpc, Default::default())));
    world.associations.push(stranger("snsa-0ddd", (network, "svc-0other".to_owned())));
    world.associations.push(stranger("snsa-0eee", ("sn-0other".to_owned(), service)));
    let absent = spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
    run(&mut world, &absent, Keep::Nothing);
    assert_eq!(codes(&world, &absent), [BlockCode::Foreign; 3]);
    assert_eq!(world.vpcs.len(), 3, "clients of the other service come by ours");
    world.vpcs.clear();
    world.associations.clear();
    assert_eq!(run(&mut world, &absent, Keep::Nothing).lines().last(), Some("converged"));
    assert_eq!(world.leftovers(&absent), Vec::<String>::new());
}

#[test]
fn a_teardown_says_what_it_leaves_and_why() {
    let absent = spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
    let mut text = String::new();
    let mut tell = |what: &str, world: &World, spec: &espalier_domain::spec::Spec| {
        text.push_str(&format!("{what}\n"));
        for one in left(spec, &world.look(spec)) {
            text.push_str(&format!("  {}: {}\n", one.what, one.because));
        }
    };
    let mut world = settled(&spec(|_| {}), &[ONE]);
    tell("wanted", &world, &spec(|_| {}));
    tell("protected", &world, &spec(|it| it["state"] = json!("absent")));
    tell("all ours", &world, &absent);
    run(&mut world, &absent, Keep::Nothing);
    tell("all gone", &world, &absent);
    world.networks.push(stranger("sn-0aaa", "api-service-network".to_owned()));
    let vpc = VpcId::parse("vpc-0fffffffffffffff0").unwrap();
    world.vpcs.push(stranger("snva-0bbb", ("sn-0aaa".to_owned(), vpc.clone(), Default::default())));
    world.vpcs.push(stranger("snva-0ccc", ("sn-0other".to_owned(), vpc.clone(), Default::default())));
    world.services.push(stranger("svc-0ddd", Service::new("api-service", "theirs.example.com")));
    world.associations.push(stranger("snsa-0eee", ("sn-0aaa".to_owned(), "svc-0ddd".to_owned())));
    let name = espalier_domain::network::target_group_name(&absent);
    let of = Group { name, vpc, kind: TargetKind::Instance, port: 443, check: None, targets: Default::default() };
    world.groups.push(stranger("tg-0fff", of));
    world.record = Some(SeenRecord { alias: Some(dns_entry(&world.services[0])) });
    let list = IngressSource::PrefixList(PREFIX_LIST.into());
    world.estate.other_ingress.push(rule("sgr-0same".into(), list.clone(), 443));
    world.estate.other_ingress.push(rule("sgr-0other".into(), list, 22));
    tell("strangers", &world, &absent);
    let rotation = spec(|it| {
        (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false));
        it["manage"] = json!("rotation");
        it["lattice"] = json!({"serviceId": "svc-0123456789abcdef0", "targetGroupIds": ["tg-0123456789abcdef0"]});
    });
    world.services.push(stranger("svc-0123456789abcdef0", Service::new("x", "theirs.example.com")));
    tell("manage: rotation", &world, &rotation);
    expectorate::assert_contents("tests/golden/network/left.txt", &text);
}

#[test]
fn in_the_group_of_another_stack_nothing_is_admitted_and_none_of_its_rules_is_counted_upon() {
    let spec = spec(|_| {});
    for (stack, remedy) in
        [(Some("payments"), "of its own"), (None, "has not opted in; tag it espalier:stack=api-service")]
    {
        let mut world = World::new(&spec, &[ONE]);
        let list = IngressSource::PrefixList(PREFIX_LIST.into());
        world.estate.other_ingress.push(rule("sgr-0theirs".into(), list, 443));
        let ours = spec.targets.security_group_id.clone();
        let group = world.estate.groups.iter_mut().find(|group| group.id == ours).unwrap();
        group.stack = stack.map(str::to_owned);
        let seen = plan(&spec, &world.look(&spec));
        assert!(seen.steps.is_empty(), "{seen:?}");
        let [block] = seen.blocks.as_slice() else { panic!("{:?}", seen.blocks) };
        assert!(block.code == BlockCode::NotOptedIn && block.because.contains(remedy), "{block}");
    }
    // The rules of others' infrastructure are not ours to write.
    let rotation = crate::spec(|it| {
        it["manage"] = json!("rotation");
        it["lattice"] = json!({"serviceId": "svc-0123456789abcdef0", "targetGroupIds": ["tg-0123456789abcdef0"]});
    });
    let mut world = World::new(&rotation, &[ONE]);
    world.estate.groups.iter_mut().for_each(|group| group.stack = None);
    assert!(!codes(&world, &rotation).contains(&BlockCode::NotOptedIn));
}

#[test]
fn somebody_elses_rule_is_as_good_and_stays() {
    let spec = spec(|_| {});
    let mut world = World::new(&spec, &[ONE]);
    world.estate.other_ingress.push(rule("sgr-0other".into(), IngressSource::PrefixList(PREFIX_LIST.into()), 443));
    assert!(run(&mut world, &spec, Keep::Nothing).ends_with("converged\n"));
    assert_eq!(world.estate.ingress.len(), 2, "the prober's and that of the other prefix list");
    // For another protocol it admits nobody.
    let mut world = World::new(&spec, &[ONE]);
    let udp = rule("sgr-0udp".into(), IngressSource::PrefixList(PREFIX_LIST.into()), 443);
    world.estate.other_ingress.push(SeenIngress { is_tcp: false, ..udp });
    assert!(run(&mut world, &spec, Keep::Nothing).ends_with("converged\n"));
    assert_eq!(world.estate.ingress.len(), 3);
}

#[test]
fn what_the_spec_refers_to_and_is_missing_blocks_before_anything_is_made() {
    let spec = spec(|_| {});
    let mut world = World::new(&spec, &[ONE]);
    world.estate.vpcs[0].resolves_private_zones = false;
    world.estate.vpcs.pop();
    world.estate.subnets[0].zone_id = "euw1-az4".into();
    world.estate.subnets.pop();
    world.estate.groups.remove(0);
    world.estate.hosted_zone = None;
    world.estate.prefix_list_id = None;
    let plan = plan(&spec, &world.look(&spec));
    assert!(plan.steps.is_empty());
    assert_eq!(plan.blocks.len(), 7, "{:#?}", plan.blocks);
}

/// Whom a missing reference does not concern is served on: targets come and go, and lifecycle hooks are answered.
#[test]
fn what_goes_missing_under_a_running_stack_stops_only_what_depends_on_it() {
    type Lose = fn(&mut World);
    let spec = spec(|_| {});
    let lost: [(&str, Lose); 6] = [
        ("a consumer's group", |world| drop(world.estate.groups.pop())),
        ("a consumer's VPC", |world| drop(world.estate.vpcs.pop())),
        ("the targets' group", |world| drop(world.estate.groups.remove(0))),
        ("a subnet", |world| drop(world.estate.subnets.pop())),
        ("the zone", |world| world.estate.hosted_zone = None),
        ("the prefix list", |world| world.estate.prefix_list_id = None),
    ];
    for (what, lose) in lost {
        let mut world = settled(&spec, &[ONE, TWO]);
        world.estate.instances.push(instance_in(&spec, THREE));
        world.estate.instances[0].is_running = false;
        lose(&mut world);
        let text = run(&mut world, &spec, Keep::Nothing);
        assert!(text.contains(&format!("+ Targets {THREE}")), "{what}: {text}");
        assert!(text.contains(&format!("- Targets {ONE}")), "{what}: {text}");
        let steps = text.lines().filter(|line| line.starts_with("  +") || line.starts_with("  -")).count();
        assert_eq!(steps, 2, "{what}: {text}");
        assert_eq!(codes(&world, &spec), [BlockCode::NotFound], "{what}");
    }
}

pub(crate) fn stranger<T>(id: &str, of: T) -> Thing<T> {
    Thing { id: id.to_owned(), tags: Tags::new(), status: Status::Active, of }
}
