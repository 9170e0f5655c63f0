"""What the emulators get wrong, each shown by a call: a row of README.md that is not true any more fails the run.

A function here is a row: its name is the row's, and it raises unless the emulator still does what the row says.
"""

import re
import time
from pathlib import Path

from botocore.exceptions import ClientError

from world import World

GROUP = {"type": "INSTANCE", "config": {"protocol": "TCP", "port": 443, "vpcIdentifier": "vpc-0123456789abcdef0"}}
FORWARD = "tg-00000000000000000"


def winterbaume_custom_domain(bare):
    made = bare.create_service(name="row", customDomainName="row.example.com")
    return "customDomainName" not in bare.get_service(serviceIdentifier=made["id"])


def winterbaume_generated_name(bare):
    return "dnsEntry" not in bare.get_service(serviceIdentifier=service(bare))


def winterbaume_idle_timeout(bare):
    made = bare.create_service(name="row", idleTimeoutSeconds=120)
    return "idleTimeoutSeconds" not in bare.get_service(serviceIdentifier=made["id"])


def winterbaume_health_check(bare):
    config = {**GROUP["config"], "healthCheck": {"enabled": True, "protocol": "HTTPS"}}
    made = bare.create_target_group(name="row", type="INSTANCE", config=config)
    return "healthCheck" not in bare.get_target_group(targetGroupIdentifier=made["id"])["config"]


def winterbaume_ids(bare):
    return re.fullmatch(r"svc-[0-9a-z]{17}", service(bare)) is None


def winterbaume_asynchrony(bare):
    return bare.create_service(name="row")["status"] == "ACTIVE"


def winterbaume_client_token(bare):
    bare.create_service(name="row", clientToken="once")
    return refused(lambda: bare.create_service(name="row", clientToken="once"))


def winterbaume_target_states(bare):
    made = group(bare)
    bare.register_targets(targetGroupIdentifier=made, targets=[{"id": "i-00000000000000000"}])
    (target,) = bare.list_targets(targetGroupIdentifier=made)["items"]
    return target["status"] == "HEALTHY"


def winterbaume_target_ports(bare):
    made = group(bare)
    bare.register_targets(targetGroupIdentifier=made, targets=[{"id": "i-00000000000000000"}])
    (target,) = bare.list_targets(targetGroupIdentifier=made)["items"]
    return "port" not in target


def winterbaume_draining(bare):
    made = group(bare)
    target = [{"id": "i-00000000000000000", "port": 443}]
    bare.register_targets(targetGroupIdentifier=made, targets=target)
    bare.deregister_targets(targetGroupIdentifier=made, targets=target)
    return bare.list_targets(targetGroupIdentifier=made)["items"] == []


def winterbaume_pages(bare):
    made = [group(bare, "one"), group(bare, "two")]
    return len(bare.list_target_groups(maxResults=1)["items"]) >= len(made)


def winterbaume_names(bare):
    return not refused(lambda: bare.create_service(name="svc-Row_"))


def winterbaume_passthrough_without_domain(bare):
    return not refused(lambda: listener(bare, service(bare), group(bare)))


def winterbaume_fixed_response(bare):
    made = service(bare)
    action = {"fixedResponse": {"statusCode": 404}}
    return not refused(lambda: bare.create_listener(
        serviceIdentifier=made, name="row", protocol="TLS_PASSTHROUGH", port=443, defaultAction=action))


def winterbaume_unknown_group(bare):
    return not refused(lambda: listener(bare, service(bare), FORWARD))


def winterbaume_port_twice(bare):
    made, to = service(bare), group(bare)
    listener(bare, made, to, "one")
    return not refused(lambda: listener(bare, made, to, "two"))


def winterbaume_group_in_use(bare):
    to = group(bare)
    listener(bare, service(bare), to)
    return not refused(lambda: bare.delete_target_group(targetGroupIdentifier=to))


def winterbaume_service_in_use(bare):
    network, made = bare.create_service_network(name="row")["id"], service(bare)
    bare.create_service_network_service_association(serviceNetworkIdentifier=network, serviceIdentifier=made)
    return not refused(lambda: bare.delete_service(serviceIdentifier=made))


def winterbaume_network_in_use(bare):
    network = bare.create_service_network(name="row")["id"]
    bare.create_service_network_vpc_association(serviceNetworkIdentifier=network, vpcIdentifier="vpc-0123456789abcdef0")
    return not refused(lambda: bare.delete_service_network(serviceNetworkIdentifier=network))


def winterbaume_two_networks(bare):
    for name in ("one", "two"):
        network = bare.create_service_network(name=name)["id"]
        associate = {"serviceNetworkIdentifier": network, "vpcIdentifier": "vpc-0123456789abcdef0"}
        if refused(lambda associate=associate: bare.create_service_network_vpc_association(**associate)):
            return False
    return True


def moto_rule_description(world):
    ec2 = world.client("ec2")
    made = ec2.create_security_group(GroupName="row", Description="row", VpcId=ec2.describe_vpcs()["Vpcs"][0]["VpcId"])["GroupId"]
    lists = ec2.describe_managed_prefix_lists()["PrefixLists"]
    source = {"PrefixListIds": [{"PrefixListId": lists[0]["PrefixListId"], "Description": "why"}]}
    (rule,) = ec2.authorize_security_group_ingress(
        GroupId=made, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, **source}])["SecurityGroupRules"]
    filters = [{"Name": "group-id", "Values": [made]}]
    seen = ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
    (seen,) = [one for one in seen if one["SecurityGroupRuleId"] == rule["SecurityGroupRuleId"]]
    ec2.delete_security_group(GroupId=made)
    return not seen.get("Description")


def moto_zone_of_no_vpc(world):
    return not refused(lambda: zone(world, "vpc-0123456789abcdef0"))


def moto_alias_to_nowhere(world):
    ec2 = world.client("ec2")
    alias = {"DNSName": "nowhere.example.com.", "HostedZoneId": "Z0000000000000", "EvaluateTargetHealth": False}
    record = {"Name": "row.example.com", "Type": "A", "AliasTarget": alias}
    batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    made = zone(world, ec2.describe_vpcs()["Vpcs"][0]["VpcId"])
    return not refused(lambda: world.client("route53").change_resource_record_sets(HostedZoneId=made, ChangeBatch=batch))


def moto_quota_of_rules(world):
    """A prefix list of VPC Lattice counts 10 of 60 (VPC user guide, AWS-managed prefix lists)."""
    ec2 = world.client("ec2")
    made = ec2.create_security_group(GroupName="row", Description="row", VpcId=ec2.describe_vpcs()["Vpcs"][0]["VpcId"])["GroupId"]
    lists = [one["PrefixListId"] for one in ec2.describe_managed_prefix_lists()["PrefixLists"] if "vpc-lattice" in one["PrefixListName"]]
    source = {"PrefixListIds": [{"PrefixListId": next(iter(lists))}]}
    permissions = [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **source} for port in range(1, 8)]
    is_accepted = not refused(lambda: ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=permissions))
    ec2.delete_security_group(GroupId=made)
    return is_accepted


# ------------------------------------------------------------------------------------------------------- the making --


def zone(world, vpc: str) -> str:
    where = {"VPCRegion": "eu-west-1", "VPCId": vpc}
    made = world.client("route53").create_hosted_zone(
        Name="row.example.com", CallerReference=str(time.time_ns()), HostedZoneConfig={"PrivateZone": True}, VPC=where)
    return made["HostedZone"]["Id"]


def service(bare) -> str:
    return bare.create_service(name="row")["id"]


def group(bare, name="row") -> str:
    return bare.create_target_group(name=name, **GROUP)["id"]


def listener(bare, made: str, to: str, name="row"):
    action = {"forward": {"targetGroups": [{"targetGroupIdentifier": to, "weight": 1}]}}
    return bare.create_listener(
        serviceIdentifier=made, name=name, protocol="TLS_PASSTHROUGH", port=443, defaultAction=action)


def refused(call) -> bool:
    try:
        call()
    except ClientError:
        return True
    return False


def sweep(bare):
    """Every row begins in an empty account. Nothing in use is refused, so the order does not matter."""
    for one in bare.list_services()["items"]:
        for association in bare.list_service_network_service_associations(serviceIdentifier=one["id"])["items"]:
            bare.delete_service_network_service_association(serviceNetworkServiceAssociationIdentifier=association["id"])
        bare.delete_service(serviceIdentifier=one["id"])
    for one in bare.list_target_groups()["items"]:
        bare.delete_target_group(targetGroupIdentifier=one["id"])
    for association in bare.list_service_network_vpc_associations(vpcIdentifier="vpc-0123456789abcdef0")["items"]:
        bare.delete_service_network_vpc_association(serviceNetworkVpcAssociationIdentifier=association["id"])
    for one in bare.list_service_networks()["items"]:
        bare.delete_service_network(serviceNetworkIdentifier=one["id"])


def check(world: World):
    """Each row of README.md is true, and none is missing there."""
    emulators = ("winterbaume_", "moto_")
    rows = {name.replace("_", "-", 1).replace("_", " "): row for name, row in globals().items() if name.startswith(emulators)}
    page = Path(__file__).with_name("README.md").read_text()
    told = set(re.findall(r"^\| `((?:winterbaume|moto)-[a-z ]+)` \|", page, re.MULTILINE))
    assert told == set(rows), f"README.md lists other rows: {sorted(told ^ set(rows))}"
    stale, bare = [], world.bare()
    for name, row in rows.items():
        if not row(world if name.startswith("moto") else bare):
            stale.append(name)
        sweep(bare)
    assert not stale, f"not true any more, take them out of README.md and of differences.py: {stale}"
    print(f"{len(rows)} differences from AWS, each as listed")
