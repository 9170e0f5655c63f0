//! Kinds of stacks that ask for more than the recipe, in worlds with others' things beside them that look like theirs.

use std::collections::BTreeSet;

use espalier_domain::id::{HostedZoneId, VpcId};
use espalier_domain::network::{IngressSource, Life, Scaling, SeenHook, SeenInstance, SeenRecord, Status};
use espalier_domain::spec::{Spec, TargetKind};
use espalier_domain::tag;
use serde_json::{Value, json};

use crate::strangers::stranger;
use crate::world::{Group, PREFIX_LIST, Service, Tags, Thing, World, instance, rule};
use crate::zones::Zone;
use crate::{Keep, run, spec};

const THEIR_NETWORK: &str = "sn-0123456789abcdef0";
const SCALING_GROUP: &str = "api-service-targets";
const OTHER_VPC: &str = "vpc-0fffffffffffffff1";

type Change = fn(&mut Value);

/// A kind of stack: what it asks for, what a person may ask for next, and what its teardown leaves.
pub(crate) struct Kind {
    pub(crate) what: &'static str,
    asks: Change,
    pub(crate) changes: &'static [(&'static str, Change)],
    /// How what is left begins.
    pub(crate) leaves: &'static [&'static str],
}

/// Health checks on a port of their own, where a rule of somebody else's admits VPC Lattice already.
pub(crate) const EVERYTHING: Kind = Kind {
    what: "everything",
    asks: |it| {
        it["network"]["consumers"].as_array_mut().unwrap().push(further("vpc-2a1b2c3d4e5f60718"));
        it["targets"]["targetsPerGroup"] = json!(2);
        it["healthCheck"] = json!({"enabled": true, "port": 8080});
        it["service"]["authPolicy"] = policy("vpc-1a1b2c3d4e5f60718");
        it["service"]["accessLogs"] = json!({"destinationArn": "arn:aws:s3:::access-logs"});
        it["service"]["dns"] = json!({"privateZone": {"name": "api-service.example.com"}});
    },
    changes: &[
        ("the targets' port", |it| it["targets"]["port"] = json!(8443)),
        ("the listener's port", |it| it["service"]["port"] = json!(8443)),
        ("targets in a group", |it| it["targets"]["targetsPerGroup"] = json!(3)),
        ("addresses", |it| it["targets"]["select"] = json!({"addresses": [{"address": "10.0.1.5"}]})),
        ("another private zone", |it| it["service"]["dns"] = json!({"privateZone": {"name": "example.com"}})),
        ("a hosted zone by its id", |it| it["service"]["dns"] = json!({"hostedZoneId": "Z0A1B2C3D4E5F6"})),
        ("another policy, other logs", |it| {
            it["service"]["authPolicy"] = policy("vpc-2a1b2c3d4e5f60718");
            it["service"]["accessLogs"] = json!({"destinationArn": "arn:aws:logs:eu-west-1:111122223333:log-group:a"});
        }),
        ("no policy, no logs", |it| {
            drop(it["service"].as_object_mut().unwrap().remove("authPolicy"));
            drop(it["service"].as_object_mut().unwrap().remove("accessLogs"));
        }),
        ("other consumers", |it| {
            let consumers = it["network"]["consumers"].as_array_mut().unwrap();
            consumers.remove(1);
            consumers.push(further("vpc-3a1b2c3d4e5f60718"));
        }),
    ],
    leaves: &["ingress rule of sg-0a1b2c3d4e5f60713 for port 8080 (sgr-0theirs)"],
};

const ADDRESSES: Kind = Kind {
    what: "addresses",
    asks: |it| {
        let all = ["10.0.1.5", "10.0.1.6", "10.0.2.7"].map(|address| json!({ "address": address }));
        it["targets"]["select"] = json!({ "addresses": all });
        it["targets"]["targetsPerGroup"] = json!(2);
    },
    changes: &[("instances", |it| {
        it["targets"]["select"] = json!({"tag": {"key": "espalier:stack", "value": "api-service"}});
    })],
    leaves: &[],
};

pub(crate) const SCALED: Kind = Kind {
    what: "an Auto Scaling group",
    asks: |it| it["targets"]["select"] = json!({"autoScalingGroups": [SCALING_GROUP]}),
    changes: &[("the targets' port", |it| it["targets"]["port"] = json!(8443))],
    leaves: &[],
};

/// In a network of somebody else's, which several services use.
const GUEST: Kind = Kind {
    what: "a guest",
    asks: |it| {
        let arn = format!("arn:aws:vpc-lattice:eu-west-1:111122223333:servicenetwork/{THEIR_NETWORK}");
        it["network"]["serviceNetworkId"] = json!(arn);
        it["network"]["consumers"].as_array_mut().unwrap().remove(0);
    },
    changes: &[("other consumers", |it| it["network"]["consumers"] = json!([further("vpc-2a1b2c3d4e5f60718")]))],
    leaves: &[
        "service network, which the spec only uses (sn-0123456789abcdef0)",
        "association of vpc-0fffffffffffffff1 (snva-0theirs)",
    ],
};

pub(crate) const KINDS: [Kind; 4] = [EVERYTHING, ADDRESSES, SCALED, GUEST];

impl Kind {
    pub(crate) fn wanted(&self, change: Change) -> Spec {
        spec(|it| {
            (self.asks)(it);
            change(it);
        })
    }

    pub(crate) fn absent(&self, change: Change) -> Spec {
        spec(|it| {
            (self.asks)(it);
            change(it);
            (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false));
        })
    }

    /// Nothing of ours yet, everything that it and its changes refer to, and others' things beside it, which look like ours.
    pub(crate) fn world(&self) -> World {
        let wanted = self.wanted(as_it_is);
        let mut world = World::new(&wanted, &[]);
        for (_, change) in self.changes {
            let other = World::new(&self.wanted(*change), &[]);
            let known: BTreeSet<_> = world.estate.vpcs.iter().map(|one| one.id.clone()).collect();
            world.estate.vpcs.extend(other.estate.vpcs.into_iter().filter(|one| !known.contains(&one.id)));
            world.estate.groups.extend(other.estate.groups);
        }
        let scaled = |id: &str, life: Life| SeenInstance {
            scaling: Some(Scaling { group: SCALING_GROUP.into(), life }),
            ..instance(&wanted, id)
        };
        let hook = |name: &str, is_for_launch: bool| SeenHook {
            group: SCALING_GROUP.into(),
            name: name.into(),
            is_for_launch,
            ours: true,
        };
        let plain = (1..=5).map(|n| instance(&wanted, &format!("i-{n:017x}")));
        let of_group =
            [(6, Life::InService), (7, Life::ComingWaits)].map(|(n, life)| scaled(&format!("i-{n:017x}"), life));
        world.estate.instances = plain.chain(of_group).collect();
        world.estate.scaling_groups.insert(SCALING_GROUP.into());
        world.estate.hooks = vec![hook("come", true), hook("go", false)];
        others(&mut world);
        world
    }

    pub(crate) fn settled(&self) -> World {
        let mut world = self.world();
        let text = run(&mut world, &self.wanted(as_it_is), Keep::Nothing);
        assert!(text.ends_with("converged\n"), "{}: {text}", self.what);
        world.tick();
        assert!(world.serves(), "{}", self.what);
        world
    }
}

pub(crate) fn as_it_is(_: &mut Value) {}

fn policy(vpc: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "vpc-lattice-svcs:Invoke",
        "Resource": "*", "Condition": {"StringEquals": {"vpc-lattice-svcs:SourceVpc": [vpc]}}}]})
}

fn further(vpc: &str) -> Value {
    json!({"vpcId": vpc, "securityGroupIds": [vpc.replace("vpc-", "sg-")]})
}

/// Another stack's, and a person's by hand: names that begin with ours, our instances, our ports, our zone's name.
fn others(world: &mut World) {
    let payments = |id: &str| Tags::from([(tag::STACK.to_owned(), format!("payments-{id}"))]);
    let vpc = VpcId::parse(OTHER_VPC).unwrap();
    world.networks.push(stranger(THEIR_NETWORK, "shared".to_owned()));
    world.vpcs.push(stranger("snva-0theirs", (THEIR_NETWORK.into(), vpc.clone(), Default::default())));
    let service = Service::new("api-service-v2", "v2.example.com");
    world.services.push(Thing { tags: payments("service"), ..stranger("svc-0theirs", service) });
    let of = (THEIR_NETWORK.to_owned(), "svc-0theirs".to_owned());
    world.associations.push(Thing { tags: payments("association"), ..stranger("snsa-0theirs", of) });
    world.logs.push(stranger("als-0theirs", ("svc-0theirs".to_owned(), "arn:aws:s3:::access-logs".to_owned())));
    let name = "api-service-0000ff".to_owned();
    let of = Group {
        name,
        vpc: vpc.clone(),
        kind: TargetKind::Instance,
        port: 443,
        check: None,
        targets: Default::default(),
    };
    world.groups.push(Thing { tags: payments("group"), ..stranger("tg-0theirs", of) });
    let id = HostedZoneId::parse("ZTHEIRS").unwrap();
    world.other_records.insert(id.clone(), SeenRecord { alias: None });
    let (name, comment) = ("api-service.example.com".to_owned(), "espalier:payments in eu-west-1".to_owned());
    world.zones.push(Zone { id, name, comment, vpcs: [vpc].into(), theirs: None });
    let list = || IngressSource::PrefixList(PREFIX_LIST.into());
    world.estate.other_ingress = vec![rule("sgr-0theirs".into(), list(), 8080), rule("sgr-0ssh".into(), list(), 22)];
}

/// All that is not this stack's, in words.
pub(crate) fn theirs(world: &World) -> BTreeSet<String> {
    fn of<T: std::fmt::Debug>(things: &[Thing<T>]) -> impl Iterator<Item = String> {
        things.iter().filter(|one| !is_ours(&one.tags)).map(|one| format!("{one:?}"))
    }
    let lattice = of(&world.networks).chain(of(&world.vpcs)).chain(of(&world.services)).chain(of(&world.associations));
    let more = lattice.chain(of(&world.groups)).chain(of(&world.listeners)).chain(of(&world.logs));
    let rules = world.estate.other_ingress.iter().map(|one| format!("{one:?}"));
    let zones = world.zones.iter().filter(|one| one.id.as_str() == "ZTHEIRS").map(|one| format!("{one:?}"));
    let records = world.other_records.iter().filter(|(zone, _)| zone.as_str() == "ZTHEIRS");
    more.chain(rules).chain(zones).chain(records.map(|one| format!("{one:?}"))).collect()
}

pub(crate) fn is_ours(tags: &Tags) -> bool {
    tags.get(tag::STACK).is_some_and(|stack| stack == "api-service")
}

/// All that is this stack's and has a deletion of its own ahead, in the answer's words. (Listeners and subscriptions go with
/// the service; what a change is deleting already is the change's to tell.)
pub(crate) fn ours(world: &World, absent: &Spec) -> BTreeSet<String> {
    fn of<T>(things: &[Thing<T>]) -> impl Iterator<Item = &Thing<T>> {
        things.iter().filter(|one| is_ours(&one.tags) && one.status != Status::Deleting)
    }
    let name = &absent.service.domain_name;
    let records = world.record.iter().map(|_| &world.home).chain(world.other_records.keys());
    let records = records.filter(|zone| zone.as_str() != "ZTHEIRS").map(|zone| format!("Record {name} in {zone}"));
    let zones = world.zones.iter().filter(|zone| zone.id.as_str() != "ZTHEIRS");
    let group = &absent.targets.security_group_id;
    records
        .chain(zones.map(|zone| format!("HostedZone {} ({})", zone.name, zone.id)))
        .chain(of(&world.associations).map(|one| format!("ServiceAssociation {}", one.id)))
        .chain(of(&world.services).map(|one| format!("Service {}", one.of.name)))
        .chain(of(&world.groups).map(|one| format!("TargetGroup {}", one.of.name)))
        .chain(of(&world.vpcs).map(|one| format!("VpcAssociation {}", one.of.1)))
        .chain(of(&world.networks).map(|one| format!("ServiceNetwork {}", one.of)))
        .chain(world.estate.ingress.iter().map(|rule| format!("Ingress {group} {}", rule.rule_id)))
        .collect()
}
