"""The world the sequence runs in: moto, winterbaume, a Lambda runtime API for the real function, and a user's estate."""

import contextlib
import json
import logging
import os
import queue
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from moto.server import ThreadedMotoServer

REGION = "eu-west-1"
STACK = "api-service"
DOMAIN = "api-service.example.com"
TABLE = "ledger"
PORT = 8443

# Everything is dummy, and nothing may find its way to AWS.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "dummy",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class World:
    """Both emulators, and the function between them."""

    def __init__(self, lattice: str, function: str):
        os.environ.update(ENVIRONMENT)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.moto.start()
        host, port = self.moto.get_host_and_port()
        self.moto_url = f"http://{host}:{port}"
        self.emulator = subprocess.Popen([lattice, REGION], stdout=subprocess.PIPE, text=True)
        self.mended_url, self.bare_url = (f"http://127.0.0.1:{port}" for port in self.emulator.stdout.readline().split())
        self.function = Function(function, self.moto_url, self.mended_url)

    def client(self, service: str):
        """A client of the emulator that has the service, with what winterbaume loses put back."""
        url = self.mended_url if service == "vpc-lattice" else self.moto_url
        return boto3.client(service, endpoint_url=url)

    def bare(self):
        """A client of winterbaume as it is."""
        return boto3.client("vpc-lattice", endpoint_url=self.bare_url)

    def end(self):
        self.function.end()
        self.emulator.terminate()
        self.emulator.wait()
        self.moto.stop()


class Function:
    """The real `provision`, asked through Lambda's runtime API (Lambda developer guide, runtimes-api)."""

    SECONDS = 300

    def __init__(self, binary: str, moto: str, lattice: str):
        self.asked, self.answered = queue.Queue(), queue.Queue()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        mine = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "provision",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_ENDPOINT_URL": moto,
            "AWS_ENDPOINT_URL_VPC_LATTICE": lattice,
            "ESPALIER_ALLOWED_DOMAINS": "example.com",
            "ESPALIER_LEDGER_TABLE": TABLE,
        }
        log = open("target/emulators/provision.log", "w")  # noqa: SIM115  # it lives as long as the process
        self.process = subprocess.Popen([binary], env={**os.environ, **mine}, stdout=log, stderr=log)

    def ask(self, request: dict) -> dict:
        """One invocation; an error is an answer, too."""
        self.asked.put(json.dumps(request).encode())
        return self.answered.get(timeout=self.SECONDS)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.server.shutdown()

    def handler(self):
        asked, answered, seconds = self.asked, self.answered, self.SECONDS

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = asked.get()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
                arn = f"arn:aws:lambda:{REGION}:123456789012:function:provision"
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", arn)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(deadline_ms(seconds)))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                answered.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def handle(self):
                # The process is killed while it waits for its next request.
                with contextlib.suppress(ConnectionError):
                    super().handle()

            def log_message(self, *_):
                pass

        return Handler


def deadline_ms(seconds: int) -> int:
    return int((time.time() + seconds) * 1000)


def estate(world: World) -> dict:
    """What a user's own infrastructure code makes before a spec is written. Its ids."""
    ec2 = world.client("ec2")
    targets, consumer = vpc(ec2, "10.0.0.0/16"), vpc(ec2, "10.1.0.0/16")
    subnets = [
        ec2.create_subnet(VpcId=targets, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"{REGION}{zone}")["Subnet"]["SubnetId"]
        for n, zone in enumerate("ab")
    ]
    groups = {name: group(ec2, name, where) for name, where in
              {"clients": targets, "others": consumer, "another": consumer, "targets": targets, "prober": targets}.items()}
    ec2.create_tags(Resources=[groups["targets"]], Tags=[{"Key": "espalier:stack", "Value": STACK}])
    instances = ec2.run_instances(
        ImageId=ec2.describe_images()["Images"][0]["ImageId"], MinCount=3, MaxCount=3, SubnetId=subnets[0],
        SecurityGroupIds=[groups["targets"]],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "espalier:stack", "Value": STACK}]}],
    )["Instances"]
    zone = world.client("route53").create_hosted_zone(
        Name="example.com", CallerReference="1", HostedZoneConfig={"PrivateZone": True},
        VPC={"VPCRegion": REGION, "VPCId": targets},
    )["HostedZone"]["Id"].removeprefix("/hostedzone/")
    world.client("dynamodb").create_table(
        TableName=TABLE, BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
    )
    return {
        "targets": targets, "consumer": consumer, "subnets": subnets, "groups": groups, "zone": zone,
        "instances": [one["InstanceId"] for one in instances],
    }


def vpc(ec2, block: str) -> str:
    made = ec2.create_vpc(CidrBlock=block)["Vpc"]["VpcId"]
    for attribute in ("EnableDnsSupport", "EnableDnsHostnames"):
        ec2.modify_vpc_attribute(VpcId=made, **{attribute: {"Value": True}})
    return made


def group(ec2, name: str, where: str) -> str:
    return ec2.create_security_group(GroupName=name, Description=name, VpcId=where)["GroupId"]


def spec(estate: dict) -> dict:
    """The recipe's spec for this estate."""
    groups = estate["groups"]
    return {
        "version": 1, "stack": STACK, "owner": "platform@example.com",
        "network": {
            "vpcId": estate["targets"], "subnetIds": estate["subnets"],
            "consumers": [
                {"vpcId": estate["targets"], "securityGroupIds": [groups["clients"]]},
                {"vpcId": estate["consumer"], "securityGroupIds": [groups["others"]]},
            ],
        },
        "service": {"domainName": DOMAIN, "port": PORT, "idleTimeoutSeconds": 120, "dns": {"hostedZoneId": estate["zone"]}},
        "targets": {
            "port": PORT, "securityGroupId": groups["targets"],
            "select": {"tag": {"key": "espalier:stack", "value": STACK}},
        },
        "certificate": {"dnsNames": [DOMAIN], "validityHours": 168, "renewBeforeHours": 56},
        "prober": {"securityGroupId": groups["prober"]},
    }
