//! What the spec gives by id: somebody else's service network, and whole estates of somebody else's.

use espalier_domain::id::VpcId;
use espalier_domain::network::{Checkup, Observed, SeenZone, Status, TargetStatus, diagnose, plan};
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::Spec;
use serde_json::{Value, json};

use crate::strangers::stranger;
use crate::world::{World, dns_entry, failure};
use crate::{Keep, ONE, THREE, TWO, run, settled, spec};

const NETWORK: &str = "sn-0123456789abcdef0";
const SERVICE: &str = "svc-0123456789abcdef0";
const GROUP: &str = "tg-0123456789abcdef0";

/// An estate that somebody else made, exactly as the recipe would be.
fn theirs() -> World {
    let mut world = settled(&spec(|_| {}), &[ONE, TWO]);
    world.services[0].id = SERVICE.into();
    world.groups[0].id = GROUP.into();
    world.networks[0].id = NETWORK.into();
    world.listeners[0].of.service = SERVICE.into();
    world.listeners[0].of.forwards[0].0 = GROUP.into();
    world.associations[0].of = (NETWORK.into(), SERVICE.into());
    world.vpcs.iter_mut().for_each(|one| one.of.0 = NETWORK.into());
    world.record.as_mut().unwrap().alias = Some(dns_entry(&world.services[0]));
    let all = world.networks.iter_mut().map(|one| &mut one.tags);
    let all = all.chain(world.services.iter_mut().map(|one| &mut one.tags));
    let all = all.chain(world.groups.iter_mut().map(|one| &mut one.tags));
    let all = all.chain(world.listeners.iter_mut().map(|one| &mut one.tags));
    let all = all.chain(world.associations.iter_mut().map(|one| &mut one.tags));
    let all = all.chain(world.vpcs.iter_mut().map(|one| &mut one.tags));
    all.for_each(|tags| tags.clear());
    world
}

fn rotation(change: impl FnOnce(&mut Value)) -> Spec {
    spec(|it| {
        it["manage"] = json!("rotation");
        it["lattice"] = json!({"serviceId": SERVICE, "targetGroupIds": [GROUP]});
        change(it);
    })
}

/// Whatever breaks in an estate of somebody else's is found, too, and nobody is sent to `provision`, which changes nothing
/// there.
#[test]
fn an_estate_of_others_is_diagnosed_with_remedies_for_its_owner() {
    let plain = rotation(|_| {});
    let by_id = rotation(|it| it["network"]["serviceNetworkId"] = json!(NETWORK));
    let found = |spec: &Spec, change: fn(&mut Observed)| {
        let mut observed = theirs().look(spec);
        // Whoever made it has names of their own.
        "payments-tls".clone_into(&mut observed.target_groups[0].name);
        change(&mut observed);
        let vpc_ids = spec.network.consumers.iter().map(|one| one.vpc_id.to_string()).collect();
        let zone = Some(SeenZone { name: "example.com".into(), is_private: true, vpc_ids });
        let found = diagnose(spec, &observed, &Checkup { zone, policies: Vec::new(), is_logged: true });
        assert!(found.iter().all(|one| !one.remedy.contains("provision")), "{found:?}");
        found.into_iter().map(|one| one.pitfall).collect::<Vec<_>>()
    };
    let unhealthy: fn(&mut Observed) = |seen| seen.target_groups[0].targets[0].status = TargetStatus::Unhealthy;
    for spec in [&plain, &by_id] {
        assert_eq!(found(spec, |_| {}), Vec::<&str>::new());
        assert_eq!(found(spec, |seen| seen.target_groups[0].targets.clear()), ["no-targets"]);
        assert_eq!(found(spec, unhealthy), ["health-check-fails"]);
        assert_eq!(
            found(spec, |seen| seen.target_groups[0]
                .targets
                .iter_mut()
                .for_each(|one| one.status = TargetStatus::Unused)),
            ["no-healthy-target"]
        );
        assert_eq!(found(spec, |seen| seen.vpc_associations.truncate(1)), ["vpc-not-associated"]);
        assert_eq!(found(spec, |seen| seen.listeners.clear()), ["connection-times-out"]);
        assert_eq!(found(spec, |seen| seen.record.as_mut().unwrap().alias = None), Vec::<&str>::new(), "a CNAME");
        assert_eq!(found(spec, |seen| seen.record = None), ["name-does-not-resolve"]);
        assert_eq!(found(spec, |seen| seen.estate.ingress.clear())[0], "targets-security-group");
    }
}

/// Rules of others may be wider than ours would be, and for every protocol.
#[test]
fn a_wider_rule_of_theirs_lets_in() {
    let (spec, checkup) = (rotation(|_| {}), Checkup::default());
    let finds = |ports, is_tcp| {
        let mut seen = theirs().look(&spec);
        seen.estate.ingress.iter_mut().for_each(|rule| (rule.ports, rule.is_tcp) = (ports, is_tcp));
        diagnose(&spec, &seen, &checkup).iter().any(|one| one.pitfall == "targets-security-group")
    };
    assert!(!finds((1, 65_535), true) && !finds((0, u16::MAX), false));
    assert!(finds((444, 65_535), true) && finds((443, 443), false));
}

/// The one block there is, for a spec and an estate of theirs in which something is otherwise; nothing is ever done.
fn block(spec: &Spec, change: impl FnOnce(&mut World)) -> (BlockCode, String) {
    let mut world = theirs();
    change(&mut world);
    one_block(spec, &world.look(spec))
}

fn one_block(spec: &Spec, observed: &Observed) -> (BlockCode, String) {
    let mut plan = plan(spec, observed);
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert_eq!(plan.blocks.len(), 1, "{:#?}", plan.blocks);
    let block = plan.blocks.remove(0);
    (block.code, block.because)
}

#[test]
fn an_estate_as_the_spec_says_is_converged_and_is_never_torn_down() {
    let mut world = theirs();
    assert_eq!(run(&mut world, &rotation(|_| {}), Keep::Serving), "converged\n");
    let absent = rotation(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
    assert_eq!(run(&mut world, &absent, Keep::Serving), "converged\n");
}

#[test]
fn each_difference_is_named_with_its_remedy_and_left_alone() {
    let differs = |spec: &Spec, change: &dyn Fn(&mut World), says: &str| {
        let (code, because) = block(spec, |world| change(world));
        assert_eq!(code, BlockCode::Differs, "{because}");
        assert!(because.contains(says), "{because}");
    };
    let as_is = rotation(|_| {});
    differs(&as_is, &|it| it.services[0].of.domain = "other.example.com".into(), "\"other.example.com\"");
    differs(&as_is, &|it| it.associations.clear(), "no service network");
    differs(&as_is, &|it| drop(it.vpcs.pop()), "VPC vpc-1a1b2c3d4e5f60718 is a consumer");
    differs(&as_is, &|it| it.record = None, "has no A record");
    differs(&as_is, &|it| it.services[0].of.name = "renamed".into(), "which is not the service's name");
    differs(&as_is, &|it| it.listeners[0].of.forwards.push(("tg-0000000000000new1".into(), 1)), "tg-0000000000000new1");
    differs(&as_is, &|it| it.listeners[0].of.forwards[0].1 = 0, "does not forward to it");
    differs(&as_is, &|it| it.groups[0].of.targets.retain(|(id, _), _| id != TWO), "not registered on port 443");
    let three = || ((THREE.to_owned(), 443), TargetStatus::Unavailable);
    differs(
        &as_is,
        &|it| it.groups[0].of.targets.extend([three()]),
        "registered and not selected: i-0a1b2c3d4e5f60713",
    );
    let elsewhere = rotation(|it| it["network"]["serviceNetworkId"] = json!("sn-0123456789abcdef9"));
    differs(&elsewhere, &|_| {}, "not associated with sn-0123456789abcdef9");
}

#[test]
fn what_is_missing_or_unfit_is_named() {
    let as_is = rotation(|_| {});
    let (code, because) = block(&as_is, |it| it.listeners[0].of.port = 8443);
    assert!(code == BlockCode::NotFound && because.starts_with("a listener on port 443"), "{because}");
    let (code, because) = block(&as_is, |it| it.groups[0].status = Status::CreateFailed(failure("no room")));
    assert!(code == BlockCode::Failed && because.contains("no room"), "{because}");

    let mut seen = theirs().look(&as_is);
    seen.listeners[0].is_tls_passthrough = false;
    assert_eq!(one_block(&as_is, &seen).0, BlockCode::Unsupported);
    let mut seen = theirs().look(&as_is);
    seen.target_groups[0].is_tcp = false;
    assert_eq!(one_block(&as_is, &seen).0, BlockCode::Unsupported);
    let mut seen = theirs().look(&as_is);
    seen.service = None;
    assert!(one_block(&as_is, &seen).1.starts_with(&format!("lattice.serviceId {SERVICE} does not exist")));
}

#[test]
fn what_somebody_else_is_changing_is_awaited() {
    let mut world = theirs();
    world.associations[0].status = Status::Creating;
    let spec = rotation(|_| {});
    let plan = plan(&spec, &world.look(&spec));
    assert!(plan.steps.is_empty() && plan.blocks.is_empty());
    assert_eq!(plan.waits.len(), 1);
}

#[test]
fn nothing_means_nothing() {
    let spec = spec(|it| it["manage"] = json!("nothing"));
    assert!(plan(&spec, &World::new(&spec, &[]).look(&spec)).is_converged());
}

/// A spec that uses a network of somebody else's.
fn in_theirs(change: impl FnOnce(&mut Value)) -> Spec {
    let arn = format!("arn:aws:vpc-lattice:eu-west-1:111122223333:servicenetwork/{NETWORK}");
    spec(|it| {
        it["network"]["serviceNetworkId"] = json!(arn);
        it["network"].as_object_mut().unwrap().remove("consumers");
        change(it);
    })
}

#[test]
fn somebody_elses_network_is_used_and_stays_as_it_is() {
    let spec = in_theirs(|_| {});
    let mut world = World::new(&spec, &[ONE]);
    assert_eq!(one_block_of_first_wave(&world, &spec), BlockCode::NotFound);
    world.networks.push(stranger(NETWORK, "shared".to_owned()));
    let vpc = VpcId::parse("vpc-0a1b2c3d4e5f60718").unwrap();
    world.vpcs.push(stranger("snva-0ccc", (NETWORK.to_owned(), vpc, Default::default())));
    let text = run(&mut world, &spec, Keep::Nothing);
    assert!(text.ends_with("converged\n") && !text.contains("ServiceNetwork") && !text.contains("VpcAss"), "{text}");
    assert!(world.serves());
    let absent = in_theirs(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
    assert!(run(&mut world, &absent, Keep::Nothing).ends_with("converged\n"));
    assert_eq!(world.leftovers(&absent), Vec::<String>::new());
    assert_eq!((world.networks.len(), world.vpcs.len()), (1, 1), "theirs stay");
}

#[test]
fn a_consumer_joins_and_leaves_somebody_elses_network_when_asked_for() {
    let consumer = json!([{"vpcId": "vpc-1a1b2c3d4e5f60718", "securityGroupIds": ["sg-0a1b2c3d4e5f60712"]}]);
    let spec = in_theirs(|it| it["network"]["consumers"] = consumer.clone());
    let mut world = World::new(&spec, &[ONE]);
    world.networks.push(stranger(NETWORK, "shared".to_owned()));
    assert!(run(&mut world, &spec, Keep::Nothing).ends_with("converged\n"));
    assert_eq!(world.vpcs.len(), 1);
    let absent = in_theirs(|it| {
        it["network"]["consumers"] = consumer;
        (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false));
    });
    assert!(run(&mut world, &absent, Keep::Nothing).ends_with("converged\n"));
    assert_eq!((world.networks.len(), world.vpcs.len()), (1, 0));
}

#[test]
fn a_service_does_not_move_to_another_network() {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    world.networks.push(stranger(NETWORK, "shared".to_owned()));
    let plan = plan(&in_theirs(|_| {}), &world.look(&in_theirs(|_| {})));
    assert!(plan.blocks.iter().any(|block| block.code == BlockCode::Immutable), "{plan:?}");
}

fn one_block_of_first_wave(world: &World, spec: &Spec) -> BlockCode {
    let blocks = plan(spec, &world.look(spec)).blocks;
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    blocks[0].code
}
