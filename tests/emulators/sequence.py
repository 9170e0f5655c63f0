"""`provision`'s whole sequence against emulators that nobody here wrote: recipe, converged, drift, change, teardown.

    python sequence.py LATTICE PROVISION    the binaries of the emulator and of the function

What the emulators get wrong is in README.md, each row held by `differences.py`.
"""

import json
import sys
import time

import differences
from world import DOMAIN, PORT, STACK, TABLE, World, estate, spec


class Story:
    def __init__(self, world: World):
        self.world = world
        self.ec2, self.lattice = world.client("ec2"), world.client("vpc-lattice")
        self.route53, self.ssm = world.client("route53"), world.client("ssm")
        self.estate = estate(world)
        self.spec = spec(self.estate)
        self.foreign = self.strangers()

    # ---------------------------------------------------------------------------------------------------- asking --

    def write(self, **changed):
        self.spec.update(changed)
        name, value = f"/espalier-spec/{STACK}", json.dumps(self.spec)
        self.ssm.put_parameter(Name=name, Type="String", Value=value, Overwrite=True)

    def look(self, mode="apply") -> dict:
        answer = self.world.function.ask({"stack": STACK, "mode": mode})
        assert "outcome" in answer, answer
        return answer

    def until(self, wanted: str) -> dict:
        """Looks until the outcome is as wanted; a look ends early when all that is left is waiting."""
        for _ in range(10):
            answer = self.look()
            if answer["outcome"] == wanted:
                return answer
            time.sleep(1)
        raise AssertionError(f"{wanted} was not reached: {json.dumps(answer, indent=1)}")

    def settled(self) -> dict:
        """Converged, planning again plans nothing, and what is not ours is as it was."""
        answer = self.until("converged")
        again = self.look("plan")
        assert (again["outcome"], again.get("steps", [])) == ("converged", []), again
        self.untouched()
        return answer

    # ------------------------------------------------------------------------------------------------- the sequence --

    def strangers(self) -> dict:
        """What belongs to somebody else, beside ours in every list."""
        make = {"type": "INSTANCE", "config": {"protocol": "TCP", "port": 1, "vpcIdentifier": self.estate["targets"]}}
        group = self.lattice.create_target_group(name=f"{STACK}-others", **make)["id"]
        network = self.lattice.create_service_network(name="others")["id"]
        rule = self.ec2.authorize_security_group_ingress(
            GroupId=self.estate["groups"]["targets"], IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="10.0.0.0/24",
        )["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        return {"group": group, "network": network, "rule": rule}

    def untouched(self):
        self.lattice.get_target_group(targetGroupIdentifier=self.foreign["group"])
        self.lattice.get_service_network(serviceNetworkIdentifier=self.foreign["network"])
        assert self.foreign["rule"] in {rule["SecurityGroupRuleId"] for rule in self.rules()}

    def recipe(self):
        self.write()
        planned = self.look("plan")
        assert planned["steps"] and self.lattice.list_services()["items"] == [], "a plan does nothing"
        self.until("pending")
        assert not self.targets(), "nobody is registered before it was seen serving"
        for instance in self.estate["instances"]:
            self.prove(instance)
        self.settled()
        assert set(self.targets()) == set(self.estate["instances"])
        assert self.record()["AliasTarget"]["DNSName"].rstrip(".") == self.service()["dnsEntry"]["domainName"]
        assert len(self.rules()) == 1 + 3, "the stranger's, two prefix lists of VPC Lattice and the prober"

    def prove(self, instance: str):
        """What `rotate` writes down when `verify` saw a target serve."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
        record = {"target": instance, "generation": 1, "at": now, "port": PORT, "verdict": {"faults": []}, "floor": 1}
        item = {"pk": {"S": f"STACK#{STACK}"}, "sk": {"S": f"SIGHTING#{instance}"}, "floor": {"N": "1"},
                "record": {"S": json.dumps(record)}}
        self.world.client("dynamodb").put_item(TableName=TABLE, Item=item)

    def drift(self):
        """Others change what is ours, one property at a time, and each is as it was after one look."""
        for name, break_it in [
            ("idle timeout", lambda: self.lattice.update_service(serviceIdentifier=self.service()["id"], idleTimeoutSeconds=300)),
            ("health check", lambda: self.lattice.update_target_group(
                targetGroupIdentifier=self.group()["id"], healthCheck={"enabled": True, "protocol": "HTTPS"})),
            ("target", lambda: self.lattice.deregister_targets(
                targetGroupIdentifier=self.group()["id"], targets=[{"id": self.estate["instances"][0], "port": PORT}])),
            ("forward", lambda: self.lattice.update_listener(
                serviceIdentifier=self.service()["id"], listenerIdentifier=self.listener()["id"],
                defaultAction={"forward": {"targetGroups": [{"targetGroupIdentifier": self.foreign["group"], "weight": 1}]}})),
            ("listener", lambda: self.lattice.delete_listener(
                serviceIdentifier=self.service()["id"], listenerIdentifier=self.listener()["id"])),
            ("service association", lambda: self.lattice.delete_service_network_service_association(
                serviceNetworkServiceAssociationIdentifier=self.service_association()["id"])),
            ("VPC association", lambda: self.lattice.delete_service_network_vpc_association(
                serviceNetworkVpcAssociationIdentifier=self.vpc_association()["id"])),
            ("security group", lambda: self.lattice.update_service_network_vpc_association(
                serviceNetworkVpcAssociationIdentifier=self.vpc_association()["id"],
                securityGroupIds=[self.estate["groups"]["another"]])),
            ("record", lambda: self.change_record("DELETE", self.record())),
            ("rules", lambda: self.ec2.revoke_security_group_ingress(
                GroupId=self.estate["groups"]["targets"], SecurityGroupRuleIds=self.our_rules())),
        ]:
            before = self.shown()
            break_it()
            assert self.shown() != before, f"{name}: nothing was broken"
            answer = self.settled()
            assert answer.get("steps"), f"{name}: converged without a step"
            assert self.shown() == before, f"{name}: is {self.shown()}, was {before}"
            print(f"  drift, {name}: {'; '.join(step['action'] for step in answer['steps'])}")

    def not_ours(self):
        """A group that lost its tag is somebody else's: a block that names it, and nothing is changed."""
        arn = self.group()["arn"]
        tags = self.lattice.list_tags_for_resource(resourceArn=arn)["tags"]
        self.lattice.untag_resource(resourceArn=arn, tagKeys=["espalier:stack"])
        before, answer = self.shown(), self.look()
        assert answer["outcome"] == "blocked" and answer["blocks"][0]["code"] == "Foreign", answer
        assert self.shown() == before
        self.lattice.tag_resource(resourceArn=arn, tags=tags)
        self.settled()

    def changed(self):
        """What can be changed in place is."""
        self.write(service={**self.spec["service"], "idleTimeoutSeconds": 240})
        self.settled()
        assert self.service()["idleTimeoutSeconds"] == 240
        self.write(healthCheck={"enabled": True, "path": "/healthz"})
        self.settled()
        check = self.group()["config"]["healthCheck"]
        assert (check["enabled"], check["path"], check["protocol"]) == (True, "/healthz", "HTTPS"), check
        self.ec2.terminate_instances(InstanceIds=[self.estate["instances"][0]])
        self.settled()
        assert set(self.targets()) == set(self.estate["instances"][1:])

    def guarded(self):
        """A policy comes into force, is exchanged, taken out of force by others and by the spec."""
        name = {"resourceIdentifier": self.service()["id"]}
        for vpcs in ([self.estate["targets"]], [self.estate["targets"], self.estate["consumer"]]):
            self.write(service={**self.spec["service"], "authPolicy": policy(vpcs)})
            self.settled()
            written = json.loads(self.lattice.get_auth_policy(**name)["policy"])
            assert written == policy(vpcs) and self.service()["authType"] == "AWS_IAM", written
        self.lattice.update_service(serviceIdentifier=name["resourceIdentifier"], authType="NONE")
        self.settled()
        assert self.service()["authType"] == "AWS_IAM"
        self.write(service={key: value for key, value in self.spec["service"].items() if key != "authPolicy"})
        self.settled()
        assert self.service()["authType"] == "NONE" and not self.policy_of(name)

    def logged(self):
        """Access logs: subscribed to, led elsewhere, ended by others and by the spec."""
        logs = "arn:aws:logs:eu-west-1:123456789012:log-group"
        here = {"resourceIdentifier": self.service()["id"]}
        subscriptions = lambda: self.lattice.list_access_log_subscriptions(**here)["items"]  # noqa: E731  # asked again
        ids = set()
        for name in (f"{logs}:one", f"{logs}:two"):
            self.write(service={**self.spec["service"], "accessLogs": {"destinationArn": name}})
            self.settled()
            (only,) = subscriptions()
            assert only["destinationArn"].removesuffix(":*") == name, only
            ids.add(only["id"])
        assert len(ids) == 1, "it was changed in place"
        self.lattice.delete_access_log_subscription(accessLogSubscriptionIdentifier=only["id"])
        self.settled()
        assert len(subscriptions()) == 1
        self.write(service={key: value for key, value in self.spec["service"].items() if key != "accessLogs"})
        self.settled()
        assert subscriptions() == []

    def zoned(self):
        """A private zone of the stack's own is made, kept in the VPCs, and given up for the former one."""
        former = self.spec["service"]["dns"]
        self.write(service={**self.spec["service"], "dns": {"privateZone": {"name": DOMAIN}}})
        self.settled()
        (own,) = [one for one in self.zones() if one["Name"].rstrip(".") == DOMAIN]
        assert own["Config"]["PrivateZone"], own
        zone = self.route53.get_hosted_zone(Id=own["Id"])
        vpcs = {one["VPCId"] for one in zone["VPCs"]}
        assert vpcs == {self.estate["targets"], self.estate["consumer"]}, vpcs
        assert self.record() is None and self.record(own["Id"]), "the record is in the zone that was made"
        where = {"VPCRegion": "eu-west-1", "VPCId": self.estate["consumer"]}
        self.route53.disassociate_vpc_from_hosted_zone(HostedZoneId=own["Id"], VPC=where)
        self.settled()
        assert len(self.route53.get_hosted_zone(Id=own["Id"])["VPCs"]) == 2
        self.write(service={**self.spec["service"], "dns": former})
        self.settled()
        assert self.record() and own["Id"] not in {one["Id"] for one in self.zones()}

    def by_address(self):
        """The same stack made anew of addresses: a target group of the type IP."""
        addresses = ["10.0.0.200", "10.0.1.200"]
        targets = {**self.spec["targets"], "select": {"addresses": [{"address": one} for one in addresses]}}
        self.write(state="present", targets=targets)
        for address in addresses:
            self.prove(address)
        self.settled()
        assert (self.group()["type"], self.targets()) == ("IP", addresses), self.group()
        self.write(targets={**targets, "select": {"addresses": [{"address": addresses[0]}]}})
        self.settled()
        assert self.targets() == addresses[:1]
        self.write(state="absent")
        answer = self.settled()
        deleted = answer["teardown"]["deleted"]
        assert len(deleted) >= 8 and not any(self.estate["instances"][1] in one for one in deleted), "of this life alone"
        self.gone()

    def teardown(self):
        self.write(state="absent")
        answer = self.look()
        assert answer["blocks"][0]["code"] == "DeletionProtected" and self.targets(), answer
        self.write(deletionProtection=False)
        # Somebody else hangs on our network: the first runs stop there.
        (ours,) = [one["id"] for one in self.lattice.list_service_networks()["items"] if one["id"] != self.foreign["network"]]
        theirs = self.lattice.create_service(name="theirs")["id"]
        guest = self.lattice.create_service_network_service_association(
            serviceNetworkIdentifier=ours, serviceIdentifier=theirs)["id"]
        answer = self.until("blocked")
        assert {one["code"] for one in answer["blocks"]} == {"Foreign"} and guest in str(answer["blocks"]), answer
        before = set(answer["teardown"]["deleted"])
        assert self.vpc_association(), "their clients come by it"
        self.lattice.delete_service_network_service_association(serviceNetworkServiceAssociationIdentifier=guest)
        self.lattice.delete_service(serviceIdentifier=theirs)
        answer = self.settled()
        deleted = answer["teardown"]["deleted"]
        assert len(deleted) >= 8 and before < set(deleted), "the last run tells of what the first ones deleted, too"
        self.gone()

    def gone(self):
        assert self.lattice.list_services()["items"] == []
        assert {one["id"] for one in self.lattice.list_target_groups()["items"]} == {self.foreign["group"]}
        assert {one["id"] for one in self.lattice.list_service_networks()["items"]} == {self.foreign["network"]}
        assert self.record() is None and [rule["SecurityGroupRuleId"] for rule in self.rules()] == [self.foreign["rule"]]

    # ------------------------------------------------------------------------------------------------------ looking --

    def service(self):
        return self.lattice.get_service(serviceIdentifier=self.lattice.list_services()["items"][0]["id"])

    def group(self):
        ours = [one for one in self.lattice.list_target_groups()["items"] if one["id"] != self.foreign["group"]]
        return self.lattice.get_target_group(targetGroupIdentifier=ours[0]["id"])

    def listener(self):
        (only,) = self.lattice.list_listeners(serviceIdentifier=self.service()["id"])["items"]
        return only

    def service_association(self):
        (only,) = self.lattice.list_service_network_service_associations(serviceIdentifier=self.service()["id"])["items"]
        return only

    def vpc_association(self):
        (only,) = self.lattice.list_service_network_vpc_associations(vpcIdentifier=self.estate["consumer"])["items"]
        return only

    def targets(self):
        return sorted(one["id"] for one in self.lattice.list_targets(targetGroupIdentifier=self.group()["id"])["items"])

    def rules(self):
        filters = [{"Name": "group-id", "Values": [self.estate["groups"]["targets"]]}]
        found = self.ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
        return [rule for rule in found if not rule["IsEgress"]]

    def our_rules(self):
        return [rule["SecurityGroupRuleId"] for rule in self.rules() if rule["SecurityGroupRuleId"] != self.foreign["rule"]]

    def policy_of(self, name) -> str:
        try:
            return self.lattice.get_auth_policy(**name).get("policy", "")
        except self.lattice.exceptions.ResourceNotFoundException:
            return ""

    def zones(self):
        return self.route53.list_hosted_zones()["HostedZones"]

    def record(self, zone=None):
        found = self.route53.list_resource_record_sets(HostedZoneId=zone or self.estate["zone"])["ResourceRecordSets"]
        return next((one for one in found if one["Name"].rstrip(".") == DOMAIN), None)

    def change_record(self, action, record):
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": record}]}
        self.route53.change_resource_record_sets(HostedZoneId=self.estate["zone"], ChangeBatch=batch)

    def shown(self) -> dict:
        """Everything that drifts, without what a replacement changes (ids, times)."""
        service, group = self.service(), self.group()
        listeners = self.lattice.list_listeners(serviceIdentifier=service["id"])["items"]
        actions = [self.lattice.get_listener(serviceIdentifier=service["id"], listenerIdentifier=one["id"]) for one in listeners]
        here = {"serviceIdentifier": service["id"]}
        vpcs = self.lattice.list_service_network_vpc_associations(vpcIdentifier=self.estate["consumer"])["items"]
        details = [self.lattice.get_service_network_vpc_association(serviceNetworkVpcAssociationIdentifier=one["id"]) for one in vpcs]
        return {
            "service": (service["customDomainName"], service["idleTimeoutSeconds"]),
            "check": group["config"].get("healthCheck", {}).get("enabled", False),
            "targets": self.targets(),
            "listeners": [(one["port"], one["protocol"], str(one["defaultAction"])) for one in actions],
            "services": len(self.lattice.list_service_network_service_associations(**here)["items"]),
            "vpcs": [sorted(one["securityGroupIds"]) for one in details],
            "record": str(self.record()),
            "rules": sorted((rule["FromPort"], str(rule.get("PrefixListId") or rule.get("ReferencedGroupInfo"))) for rule in self.rules()),
        }


def policy(vpcs: list) -> dict:
    only = {"StringEquals": {"vpc-lattice-svcs:SourceVpc": vpcs}}
    allow = {"Effect": "Allow", "Principal": "*", "Action": "vpc-lattice-svcs:Invoke", "Resource": "*", "Condition": only}
    return {"Version": "2012-10-17", "Statement": [allow]}


def main() -> int:
    lattice, function = sys.argv[1:]
    world = World(lattice, function)
    try:
        differences.check(world)
        story = Story(world)
        steps = (story.recipe, story.drift, story.not_ours, story.changed, story.guarded, story.logged, story.zoned,
                 story.teardown, story.by_address)
        for step in steps:
            begun = time.monotonic()
            step()
            print(f"{step.__name__}: {time.monotonic() - begun:.0f} s")
    finally:
        world.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
