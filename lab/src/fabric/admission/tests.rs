use super::*;
use crate::fabric::{Cidr, Instance, PrefixList, SecurityGroup};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn block(text: &str) -> Peer {
    Peer::Block(text.parse::<Cidr>().unwrap())
}

fn group(vpc: &str, ingress: Vec<Permission>) -> SecurityGroup {
    let everywhere = Permission { ports: (0, u16::MAX), peers: vec![block("0.0.0.0/0")] };
    SecurityGroup { vpc: vpc.into(), ingress, egress: vec![everywhere] }
}

/// A target whose group admits the Lattice prefix list on 8443 and the probers' group on 8443, nobody else.
fn world() -> Network {
    let rule = |peer| Permission { ports: (8443, 8443), peers: vec![peer] };
    let mut network = Network::default();
    network.vpcs.insert("vpc-targets".into(), vec!["127.0.0.0/16".parse().unwrap()]);
    network.vpcs.insert("vpc-clients".into(), vec!["127.1.0.0/16".parse().unwrap()]);
    let lists = vec![rule(Peer::PrefixList("pl-lattice".into())), rule(Peer::Group("sg-probers".into()))];
    network.groups.insert("sg-targets".into(), group("vpc-targets", lists));
    network.groups.insert("sg-probers".into(), group("vpc-targets", vec![]));
    network.groups.insert("sg-mute".into(), SecurityGroup { egress: vec![], ..group("vpc-targets", vec![]) });
    network.groups.insert("sg-door".into(), group("vpc-clients", vec![rule(block("127.1.0.10/32"))]));
    let lattice = PrefixList {
        name: "com.amazonaws.eu-west-1.vpc-lattice".into(),
        blocks: vec!["169.254.171.0/24".parse().unwrap()],
    };
    network.prefix_lists.insert("pl-lattice".into(), lattice);
    let target = Instance {
        vpc: "vpc-targets".into(),
        address: ip("127.0.1.11"),
        groups: vec!["sg-targets".into()],
        state: "running".into(),
        tags: Default::default(),
    };
    network.instances.insert("i-1".into(), target);
    network
}

fn attached(address: &str, vpc: &str, groups: &[&str]) -> Party {
    let groups = groups.iter().map(ToString::to_string).collect();
    let attachment = Attachment { address: ip(address), vpc: vpc.into(), groups };
    party(&world(), Some(&attachment), ip(address))
}

#[test]
fn lattice_reaches_a_target_by_the_prefix_list_and_only_on_the_rule_s_port() {
    let lattice = party(&world(), None, ip("127.171.0.1"));
    assert_eq!(lattice, Party::Lattice(ip("127.171.0.1")));
    assert_eq!(to_instance(&world(), &lattice, "i-1", 8443), Ok(()));
    assert!(matches!(to_instance(&world(), &lattice, "i-1", 9443), Err(Refusal::Ingress { port: 9443, .. })));
}

#[test]
fn lattice_is_not_admitted_by_the_vpc_s_own_block() {
    let mut network = world();
    let rules = &mut network.groups.get_mut("sg-targets").unwrap().ingress;
    *rules = vec![Permission { ports: (8443, 8443), peers: vec![block("127.0.0.0/8"), block("10.0.0.0/8")] }];
    let lattice = party(&network, None, ip("127.171.0.1"));
    assert!(matches!(to_instance(&network, &lattice, "i-1", 8443), Err(Refusal::Ingress { .. })));
}

#[test]
fn the_prober_passes_by_its_group_and_a_neighbour_without_it_does_not() {
    let prober = attached("127.0.0.1", "vpc-targets", &["sg-probers"]);
    assert_eq!(to_instance(&world(), &prober, "i-1", 8443), Ok(()));
    let neighbour = party(&world(), None, ip("127.0.0.2"));
    assert!(matches!(to_instance(&world(), &neighbour, "i-1", 8443), Err(Refusal::Ingress { .. })));
}

#[test]
fn a_party_that_may_not_go_out_reaches_nobody() {
    let mute = attached("127.0.0.3", "vpc-targets", &["sg-mute"]);
    assert!(matches!(to_instance(&world(), &mute, "i-1", 8443), Err(Refusal::Egress { .. })));
}

#[test]
fn another_vpc_has_no_route_whatever_the_rules_say() {
    let mut network = world();
    let rules = &mut network.groups.get_mut("sg-targets").unwrap().ingress;
    rules.push(Permission { ports: (0, u16::MAX), peers: vec![block("0.0.0.0/0")] });
    let client = party(&network, None, ip("127.1.0.10"));
    assert!(matches!(to_instance(&network, &client, "i-1", 8443), Err(Refusal::NoRoute { .. })));
    let stray = party(&network, None, ip("127.9.0.1"));
    assert_eq!(to_instance(&network, &stray, "i-1", 8443), Err(Refusal::Nowhere(ip("127.9.0.1"))));
}

#[test]
fn the_groups_of_an_association_are_read_like_an_interface_s() {
    let groups = vec!["sg-door".to_string()];
    assert_eq!(into(&world(), &party(&world(), None, ip("127.1.0.10")), &groups, 8443), Ok(()));
    assert!(into(&world(), &party(&world(), None, ip("127.1.0.11")), &groups, 8443).is_err());
    assert!(into(&world(), &party(&world(), None, ip("127.1.0.10")), &["sg-gone".to_string()], 8443).is_err());
}

#[test]
fn a_stopped_or_missing_instance_admits_nobody() {
    let mut network = world();
    network.instances.get_mut("i-1").unwrap().state = "stopped".into();
    let lattice = party(&network, None, ip("127.171.0.1"));
    assert!(matches!(to_instance(&network, &lattice, "i-1", 8443), Err(Refusal::NotRunning { .. })));
    assert_eq!(to_instance(&network, &lattice, "i-2", 8443), Err(Refusal::NoInstance("i-2".into())));
}

#[test]
fn an_instance_s_address_carries_its_groups() {
    let network = world();
    let Party::Interface { groups, .. } = party(&network, None, ip("127.0.1.11")) else { unreachable!() };
    assert_eq!(groups, Some(vec!["sg-targets".to_string()]));
}
