//! The answers below were recorded from moto 5.2.5 and shortened.
use super::*;

const GROUPS: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<DescribeSecurityGroupsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15"><securityGroupInfo><item><groupId>sg-51cf12518d8baf0fa</groupId><ipPermissionsEgress><item><ipProtocol>-1</ipProtocol><groups/><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges><ipv6Ranges/><prefixListIds/></item></ipPermissionsEgress><tagSet/><vpcId>vpc-3dc8f1d4cf20d1331</vpcId><groupName>targets</groupName><ipPermissions><item><ipProtocol>tcp</ipProtocol><fromPort>8443</fromPort><toPort>8444</toPort><groups><item><userId>123456789012</userId><groupId>sg-2</groupId></item></groups><ipRanges/><ipv6Ranges/><prefixListIds><item><prefixListId>pl-1</prefixListId></item></prefixListIds></item><item><ipProtocol>icmp</ipProtocol><fromPort>-1</fromPort><toPort>-1</toPort><groups/><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges><ipv6Ranges/><prefixListIds/></item></ipPermissions></item></securityGroupInfo><requestId>request-id</requestId></DescribeSecurityGroupsResponse>"#;

const INSTANCES: &str = r#"<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15"><reservationSet><item><groupSet/><instancesSet><item><networkInterfaceSet><item><groupSet><item><groupId>sg-5</groupId><groupName>targets</groupName></item></groupSet><privateIpAddress>127.0.1.11</privateIpAddress></item></networkInterfaceSet><groupSet><item><groupId>sg-other</groupId></item></groupSet><tagSet><item><key>espalier:stack</key><value>x</value></item><item><key>empty</key><value/></item></tagSet><instanceId>i-1</instanceId><instanceState><code>16</code><name>running</name></instanceState><vpcId>vpc-1</vpcId><privateIpAddress>127.0.1.11</privateIpAddress></item></instancesSet></item><item><instancesSet><item><instanceId>i-gone</instanceId><instanceState><code>48</code><name>terminated</name></instanceState></item></instancesSet></item></reservationSet></DescribeInstancesResponse>"#;

#[test]
fn security_groups_keep_what_opens_tcp_connections() {
    let groups = parse("DescribeSecurityGroups", GROUPS, read_groups).unwrap();
    let group = &groups["sg-51cf12518d8baf0fa"];
    assert_eq!(group.vpc, "vpc-3dc8f1d4cf20d1331");
    let peers = vec![Peer::Group("sg-2".into()), Peer::PrefixList("pl-1".into())];
    assert_eq!(group.ingress, [Permission { ports: (8443, 8444), peers }]);
    let everywhere = Peer::Block("0.0.0.0/0".parse().unwrap());
    assert_eq!(group.egress, [Permission { ports: (0, u16::MAX), peers: vec![everywhere] }]);
    assert!(is_named(&groups, "pl-1") && !is_named(&groups, "pl-2"));
}

#[test]
fn instances_keep_their_first_interface_and_terminated_ones_have_none() {
    let instances = parse("DescribeInstances", INSTANCES, read_instances).unwrap();
    assert_eq!(instances.keys().collect::<Vec<_>>(), ["i-1"]);
    let instance = &instances["i-1"];
    assert_eq!(instance.groups, ["sg-5"]);
    assert_eq!(instance.state, "running");
    assert_eq!(instance.address.to_string(), "127.0.1.11");
    assert_eq!(instance.tags["espalier:stack"], "x");
    assert_eq!(instance.tags["empty"], "");
}

#[test]
fn an_answer_without_what_was_promised_names_it() {
    let text = "<R><vpcSet><item><vpcId>vpc-1</vpcId><cidrBlock>nonsense</cidrBlock></item></vpcSet></R>";
    let refused = parse("DescribeVpcs", text, read_vpcs).unwrap_err().to_string();
    assert_eq!(refused, "EC2 DescribeVpcs answered \"nonsense\" where cidrBlock belongs");
}
