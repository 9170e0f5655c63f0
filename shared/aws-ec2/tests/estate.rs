//! EC2 on the wire: the query protocol out, XML in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "../../aws/tests/wire/mod.rs"]
mod wire;

use espalier_aws::error::Kind;
use espalier_aws_ec2::Ec2;
use espalier_domain::id::{SecurityGroupId, StackName, VpcId};
use espalier_domain::network::{Action, IngressSource, IpBlock};
use espalier_domain::spec::{AllowedDomains, Spec, parse};
use serde_json::json;
use wire::{Seen, Wire};

const VPC: &str = "vpc-0123456789abcdef0";
const SUBNET: &str = "subnet-0123456789abcdef0";
const GROUP: &str = "sg-0123456789abcdef0";
const PROBER: &str = "sg-0123456789abcdef1";
const ONE: &str = "i-0123456789abcdef0";
const TWO: &str = "i-0123456789abcdef1";

fn spec(select: &serde_json::Value) -> Spec {
    let document = json!({
        "version": 1, "stack": "payments", "owner": "o@example.com",
        "network": { "vpcId": VPC, "subnetIds": [SUBNET], "consumers": [{ "vpcId": VPC, "securityGroupIds": [GROUP] }] },
        "service": { "domainName": "pay.example.com", "port": 443, "dns": { "hostedZoneId": "Z0123456789" } },
        "targets": { "port": 8443, "securityGroupId": GROUP, "select": select },
        "certificate": { "dnsNames": ["pay.example.com"], "validityHours": 168, "renewBeforeHours": 56 },
        "prober": { "securityGroupId": PROBER },
    });
    parse(&document.to_string(), &AllowedDomains::parse("example.com").unwrap()).unwrap()
}

fn stack() -> StackName {
    StackName::parse("payments").unwrap()
}

fn answer(operation: &str, inside: &str) -> String {
    format!("<{operation}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">{inside}</{operation}Response>")
}

fn rule(id: &str, source: &str, description: &str, tag: &str) -> String {
    format!(
        "<item><securityGroupRuleId>{id}</securityGroupRuleId><groupId>{GROUP}</groupId><isEgress>false</isEgress>\
         <ipProtocol>tcp</ipProtocol><fromPort>8443</fromPort><toPort>8443</toPort>{source}\
         <description>{description}</description><tagSet>{tag}</tagSet></item>"
    )
}

const LATTICE: &str = "<prefixListId>pl-0a</prefixListId>";

fn rules() -> String {
    let tag = "<item><key>espalier:stack</key><value>payments</value></item>";
    let group = format!("<referencedGroupInfo><groupId>{PROBER}</groupId></referencedGroupInfo>");
    let egress = "<item><securityGroupRuleId>sgr-e</securityGroupRuleId><isEgress>true</isEgress></item>";
    [
        rule("sgr-3", LATTICE, "espalier:payments", ""),
        rule("sgr-1", &group, "somebody retyped this", tag),
        rule("sgr-2", "<cidrIpv4>10.0.0.0/8</cidrIpv4>", "espalier:payroll", ""),
        rule("sgr-4", LATTICE, "every protocol", "").replace(">tcp<", ">-1<").replace(">8443<", ">-1<"),
        egress.to_owned(),
    ]
    .concat()
}

/// Answers every call of a look; `operation=` is the form field that names it.
fn respond(seen: &Seen) -> (u16, String) {
    let asked = seen.body.split('&').find_map(|field| field.strip_prefix("Action=")).unwrap_or_default().to_owned();
    let vpc = format!("<vpcSet><item><vpcId>{VPC}</vpcId></item></vpcSet>");
    let subnet = format!(
        "<subnetSet><item><subnetId>{SUBNET}</subnetId><vpcId>{VPC}</vpcId><availabilityZoneId>euw1-az1</availabilityZoneId>\
         <cidrBlock>10.0.1.0/24</cidrBlock><ipv6CidrBlockAssociationSet><item><ipv6CidrBlock>fd12:0:0:1::/64</ipv6CidrBlock>\
         <ipv6CidrBlockState><state>associated</state></ipv6CidrBlockState></item><item><ipv6CidrBlock>fd12:0:0:2::/64\
         </ipv6CidrBlock><ipv6CidrBlockState><state>disassociated</state></ipv6CidrBlockState></item>\
         </ipv6CidrBlockAssociationSet></item></subnetSet>"
    );
    let group = format!(
        "<securityGroupInfo><item><groupId>{GROUP}</groupId><vpcId>{VPC}</vpcId><ipPermissions><item>\
                 <ipProtocol>tcp</ipProtocol><fromPort>443</fromPort><toPort>443</toPort></item><item><ipProtocol>udp\
                 </ipProtocol></item></ipPermissions><tagSet><item><key>Name</key><value>targets</value></item><item>\
                 <key>espalier:stack</key><value>payroll</value></item></tagSet></item></securityGroupInfo>"
    );
    let lists = "<prefixListSet><item><prefixListId>pl-0b</prefixListId><prefixListName>com.amazonaws.eu-west-1.ipv6.vpc-lattice\
                 </prefixListName></item><item><prefixListId>pl-0a</prefixListId><prefixListName>\
                 com.amazonaws.eu-west-1.vpc-lattice</prefixListName></item></prefixListSet>";
    let instance = |id: &str, state: &str, rest: &str| {
        format!(
            "<item><instancesSet><item><instanceId>{id}</instanceId><instanceState><name>{state}</name></instanceState>{rest}\
             </item></instancesSet></item>"
        )
    };
    let running = format!(
        "<vpcId>{VPC}</vpcId><privateIpAddress>10.0.1.7</privateIpAddress><tagSet><item><key>espalier:stack</key>\
         <value>payments</value></item></tagSet>"
    );
    let inside = match asked.as_str() {
        "DescribeVpcs" => vpc,
        "DescribeVpcAttribute" if seen.body.contains("enableDnsSupport") => {
            "<enableDnsSupport><value>true</value></enableDnsSupport>".into()
        }
        "DescribeVpcAttribute" => "<enableDnsHostnames><value>false</value></enableDnsHostnames>".into(),
        "DescribeSubnets" => subnet,
        "DescribeSecurityGroups" => group,
        "DescribeManagedPrefixLists" => lists.into(),
        "DescribeSecurityGroupRules" if seen.body.contains("tag%3Aespalier") => {
            let tag = "<item><key>espalier:stack</key><value>payments</value></item>";
            let former = rule("sgr-9", LATTICE, "", tag).replace(GROUP, PROBER);
            // One of the group itself, and one whose tag does not say what was asked for.
            let others = rule("sgr-1", LATTICE, "", tag) + &rule("sgr-8", LATTICE, "", "").replace(GROUP, PROBER);
            format!("<securityGroupRuleSet>{former}{others}</securityGroupRuleSet>")
        }
        "DescribeSecurityGroupRules" => format!("<securityGroupRuleSet>{}</securityGroupRuleSet>", rules()),
        "DescribeInstances" => {
            let both = instance(TWO, "terminated", "") + &instance(ONE, "running", &running);
            format!("<reservationSet>{both}</reservationSet>")
        }
        _ => return (400, String::new()),
    };
    (200, answer(&asked, &inside))
}

#[tokio::test]
async fn a_look_takes_what_exists_and_sorts_the_rules() {
    let wire = Wire::answering(respond).await;
    let spec = spec(&json!({ "instanceIds": [ONE, TWO] }));
    let estate = Ec2::new(&wire.sdk()).estate(&spec, &[]).await.unwrap();

    assert_eq!((estate.vpcs.len(), estate.vpcs[0].resolves_private_zones), (1, false));
    assert_eq!(estate.subnets[0].zone_id, "euw1-az1");
    let blocks = ["10.0.1.0/24", "fd12:0:0:1::/64"].map(|block| IpBlock::parse(block).unwrap());
    assert_eq!(estate.subnets[0].blocks, blocks);
    let groups: Vec<_> = estate.groups.iter().map(|one| (one.id.as_str(), one.open_ports.clone())).collect();
    assert_eq!(groups, [(GROUP, vec![(443, 443)])]);
    assert_eq!(estate.groups[0].stack.as_deref(), Some("payroll"), "whoever it is whom its owner lets in");
    assert_eq!(wire.seen().iter().filter(|seen| seen.body.contains("DescribeSecurityGroupRules")).count(), 1);
    let former = Ec2::new(&wire.sdk()).former_ingress(&stack(), &SecurityGroupId::parse(GROUP).unwrap()).await.unwrap();
    let former: Vec<_> = former.iter().map(|(id, one)| (id.as_str(), one.rule_id.as_str())).collect();
    assert_eq!(former, [(PROBER, "sgr-9")], "what is ours in a group that the spec does not name");
    assert_eq!(estate.ipv6_prefix_list_id.as_deref(), Some("pl-0b"));
    assert_eq!(estate.prefix_list_id.as_deref(), Some("pl-0a"));
    let ours: Vec<(&str, Option<IngressSource>)> =
        estate.ingress.iter().map(|rule| (rule.rule_id.as_str(), rule.source.clone())).collect();
    let prober = IngressSource::Group(SecurityGroupId::parse(PROBER).unwrap());
    assert_eq!(ours, [("sgr-1", Some(prober)), ("sgr-3", Some(IngressSource::PrefixList("pl-0a".into())))]);
    let others: Vec<(&str, bool, bool, (u16, u16))> = estate
        .other_ingress
        .iter()
        .map(|rule| (rule.rule_id.as_str(), rule.source.is_some(), rule.is_tcp, rule.ports))
        .collect();
    let expected = [("sgr-2", false, true, (8443, 8443)), ("sgr-4", true, false, (0, u16::MAX))];
    assert_eq!(others, expected, "the other stack's rule, one for every protocol, and no egress rule");
    let [one, two] = estate.instances.as_slice() else { panic!("{:?}", estate.instances) };
    assert_eq!((one.is_running, one.opted_in, one.private_ip.unwrap().to_string().as_str()), (true, true, "10.0.1.7"));
    assert_eq!((two.is_running, two.opted_in, two.state.as_str(), &two.vpc_id), (false, false, "terminated", &None));
}

#[tokio::test]
async fn what_is_selected_by_address_is_not_asked_for() {
    let wire = Wire::answering(respond).await;
    let spec = spec(
        &json!({ "addresses": [{ "address": "10.0.1.5", "node": "mi-0123456789abcdef0" }, { "address": "10.0.1.6" }] }),
    );
    let estate = Ec2::new(&wire.sdk()).estate(&spec, &[]).await.unwrap();
    let found: Vec<&str> = estate.instances.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(found, ["10.0.1.5", "10.0.1.6"]);
    assert!(estate.instances.iter().all(|one| one.is_running && one.opted_in && one.launched_at.is_none()));
    assert!(!wire.seen().iter().any(|seen| seen.body.contains("Action=DescribeInstances")));
}

#[tokio::test]
async fn instances_are_asked_for_by_filter_so_that_a_missing_one_fails_nothing() {
    for (select, field) in [
        (json!({ "instanceIds": [ONE] }), format!("Filter.1.Name=instance-id&Filter.1.Value.1={ONE}")),
        (json!({ "tag": { "key": "role", "value": "web" } }), "Filter.1.Name=tag%3Arole&Filter.1.Value.1=web".into()),
    ] {
        let wire = Wire::answering(respond).await;
        Ec2::new(&wire.sdk()).estate(&spec(&select), &[]).await.unwrap();
        let bodies: Vec<String> = wire.seen().into_iter().map(|seen| seen.body).collect();
        assert!(bodies.iter().any(|body| body.contains("DescribeInstances") && body.contains(&field)), "{bodies:?}");
        assert!(bodies.iter().all(|body| !body.contains("InstanceId.1")), "{bodies:?}");
    }
}

fn authorize() -> Action {
    Action::AuthorizeIngress {
        security_group_id: SecurityGroupId::parse(GROUP).unwrap(),
        source: IngressSource::PrefixList("pl-0a".into()),
        port: 8443,
        description: "espalier:payments".into(),
    }
}

fn error(code: &str) -> serde_json::Value {
    json!(format!("<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>"))
}

#[tokio::test]
async fn a_rule_is_opened_with_its_description_and_its_tag() {
    let done = answer("AuthorizeSecurityGroupIngress", "<return>true</return>");
    let wire = Wire::table(vec![("POST", 200, json!(done))]).await;
    Ec2::new(&wire.sdk()).take(&stack(), &authorize()).await.unwrap().unwrap();
    let body = &wire.seen()[0].body;
    for part in [
        "Action=AuthorizeSecurityGroupIngress",
        "IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=8443&IpPermissions.1.ToPort=8443",
        "IpPermissions.1.PrefixListIds.1.PrefixListId=pl-0a",
        "Description=espalier%3Apayments",
        "TagSpecification.1.ResourceType=security-group-rule",
        "Key=espalier%3Astack",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
}

#[tokio::test]
async fn open_already_and_closed_already_are_done_and_a_full_group_is_not() {
    let revoke =
        Action::RevokeIngress { security_group_id: SecurityGroupId::parse(GROUP).unwrap(), rule_id: "sgr-1".into() };
    for (action, code, expected) in [
        (authorize(), "InvalidPermission.Duplicate", None),
        (authorize(), "RulesPerSecurityGroupLimitExceeded", Some(Kind::Quota)),
        (authorize(), "InvalidGroup.NotFound", Some(Kind::NotFound)),
        (authorize(), "UnauthorizedOperation", Some(Kind::Denied)),
        (revoke.clone(), "InvalidSecurityGroupRuleId.NotFound", None),
        (revoke, "RequestLimitExceeded", Some(Kind::Throttled)),
    ] {
        let wire = Wire::table(vec![("POST", 400, error(code))]).await;
        let result = Ec2::new(&wire.sdk()).take(&stack(), &action).await.unwrap();
        assert_eq!(result.err().map(|error| error.kind), expected, "{code}");
    }
}

#[tokio::test]
async fn what_is_not_ec2s_is_left_alone() {
    let wire = Wire::table(vec![]).await;
    let action = Action::DeleteService { service_id: "svc-1".into(), name: "payments".into() };
    assert!(Ec2::new(&wire.sdk()).take(&stack(), &action).await.is_none());
    assert!(wire.seen().is_empty());
}

#[tokio::test]
async fn whose_vpcs_they_are_their_owner_says() {
    let vpcs = ["vpc-0123456789abcdef0", "vpc-0123456789abcdef1", "vpc-0123456789abcdef2"];
    let wire = Wire::answering(move |_| {
        let item = |id: &str, owner: &str| format!("<item><vpcId>{id}</vpcId><ownerId>{owner}</ownerId></item>");
        let set = item(vpcs[0], "111122223333") + &item(vpcs[1], "111122223333") + &item(vpcs[2], "444455556666");
        (200, answer("DescribeVpcs", &format!("<vpcSet>{set}</vpcSet>")))
    })
    .await;
    let [one, same, shared] = vpcs.map(|id| VpcId::parse(id).unwrap());
    let found = Ec2::new(&wire.sdk()).of_the_owner_of(&one, &[same.clone(), shared]).await.unwrap();
    assert_eq!(found, [same], "a VPC that another account shares is seen, too");
}
