"""Judges the templates with checkers that none of us wrote: checkov, parliament and AWS CloudFormation Guard.

    python tests/template/judge.py TEMPLATE ...

A finding is mended, or excused where it stands: checkov's in the resource's Metadata, parliament's in EXCUSED below. An
excuse that excuses nothing is a finding, too. Each of our own Guard rules is first shown to fail.
"""

import copy
import fnmatch
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import cfnlint.decode
import parliament

HERE = pathlib.Path(__file__).parent
INLINE_LIMIT = 10_240  # characters of a role's inline policies together, white space not counted (IAM quotas)

# (role, parliament's issue, what its detail holds, why it stands)
EXCUSED = [
    ("ProvisionRole", "RESOURCE_MISMATCH", "ServiceAssociation", "the calls name two resources; SIDs MakeLatticeTagged and JoinSharedNetworks each allow one"),
    ("ProvisionRole", "RESOURCE_MISMATCH", "AuthorizeSecurityGroupIngress", "the call names group and rule; AdmitOnOptedInGroups and AdmitByTaggedRules each allow one"),
    ("RotateRole", "RESOURCE_MISMATCH", "DescribeExecution", "the machine is STANDARD: there are no express executions to read"),
    ("DistributeRole", "RESOURCE_MISMATCH", "SendCommand", "the call names document and nodes; OurDocument, OptedInInstances and OptedInNodes each allow one"),
    ("VerifyRole", "RESOURCE_STAR", "CreateNetworkInterface", "Lambda asks for these on every resource to place a function in a VPC; the code itself is denied them"),
    ("VerifyRole", "UNKNOWN_CONDITION_FOR_ACTION", "lambda:SourceFunctionArn", "a global key that the Lambda service sets; parliament knows keys by service"),
    ("TargetPolicy", "RESOURCE_MISMATCH", "ssm:GetParameter", "parliament counts the colons of IAM's variable as the ARN's; the resource is a parameter below espalier-leaf"),
    ("TargetRole", "UNKNOWN_CONDITION_FOR_ACTION", "kms:ResourceAliases", "in the service authorization reference since 2021; parliament's copy is older"),
]

# What a reference comes to, as far as a policy is judged by it.
KNOWN = {"AWS::AccountId": "123456789012", "AWS::Region": "eu-west-1", "AWS::Partition": "aws", "AWS::StackName": "espalier"}
ARNS = {
    "AWS::DynamoDB::Table": "arn:aws:dynamodb:eu-west-1:123456789012:table/ledger",
    "AWS::KMS::Key": "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-4000-8000-000000000000",
    "AWS::Logs::LogGroup": "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/x:*",
    "AWS::S3::Bucket": "arn:aws:s3:::evidence",
    "AWS::SNS::Topic": "arn:aws:sns:eu-west-1:123456789012:topic",
    "AWS::SQS::Queue": "arn:aws:sqs:eu-west-1:123456789012:queue",
    "AWS::Serverless::Function": "arn:aws:lambda:eu-west-1:123456789012:function:x",
}
ZONES = ["arn:aws:route53:::hostedzone/Z0000000000000"]
PARAMETERS = {
    "HostedZoneArns": ZONES,
    "ValidationZoneArns": ZONES,
    "AuthoritySecretName": "espalier-authority",
    "TrustObject": "clients/pki/bundle.pem",
    "CertificateRegion": "eu-central-1",
    "CertificateAccountIds": "210987654321,321098765432",
    "ControlPlaneAccountId": "123456789012",
    "ControlPlaneRegion": "eu-west-1",
}


def main(paths):
    problems = [*guard_can_fail(), *checkov(paths)]
    excused = set()
    for path in paths:
        template, matches = cfnlint.decode.decode(path)
        if matches:
            problems.append(f"{path}: {matches}")
            continue
        problems += [f"{path}: {finding}" for finding in (*policies(template, excused), *broken_rules(template))]
    problems += [f"excuse without a finding: {EXCUSED[one][:3]}" for one in range(len(EXCUSED)) if one not in excused]
    for problem in problems:
        print(problem)
    print(f"{len(paths)} templates, {len(problems)} findings, {len(excused)} of parliament's excused")
    return 1 if problems else 0


# ------------------------------------------------------------------------------------------------------- checkov --


def checkov(paths):
    command = ["checkov", "-f", *paths, "--framework", "cloudformation", "--skip-download", "--quiet", "-o", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if not answer.stdout.strip():
        yield f"checkov said nothing: {answer.stderr[-400:]}"
        return
    report = json.loads(answer.stdout)
    # Without a resource that it has a check for, it prints the summary alone.
    if report.get("summary", report)["parsing_errors"]:
        yield f"checkov cannot read one of {paths}"
    for one in report.get("results", {}).get("failed_checks", []):
        yield f"{one['file_path']}: checkov {one['check_id']} {one['resource']}: {one['check_name']}"


# ---------------------------------------------------------------------------------------------------- parliament --


def policies(template, excused):
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            yield from judged(name, value(template, resource["Properties"]["PolicyDocument"]), excused)
        if resource["Type"] != "AWS::IAM::Role":
            continue
        documents = [policy["PolicyDocument"] for policy in resource["Properties"].get("Policies", [])]
        documents += [one["Properties"]["PolicyDocument"] for one in template["Resources"].values()
                      if one["Type"] == "AWS::IAM::Policy" and {"Ref": name} in one["Properties"]["Roles"]]
        written = [value(template, document) for document in documents]
        size = sum(len(re.sub(r"\s", "", json.dumps(one))) for one in written)
        if size > INLINE_LIMIT:
            yield f"{name}: inline policies of {size} characters; IAM takes {INLINE_LIMIT}"
        for policy in written:
            yield from judged(name, policy, excused)


def judged(name, policy, excused):
    for finding in parliament.analyze_policy_string(json.dumps(policy)).findings:
        detail = str(finding.detail)
        reasons = [at for at, one in enumerate(EXCUSED) if one[:2] == (name, finding.issue) and one[2] in detail]
        excused.update(reasons)
        if not reasons:
            yield f"parliament {finding.issue} {name}: {detail}"


def value(template, node):
    """The node with references put in their place, and with everything that is optional."""
    if isinstance(node, list):
        return [value(template, one) for one in node]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        (key, inner), = node.items()
        if key == "Ref":
            return KNOWN.get(inner) or PARAMETERS.get(inner) or attribute(template, inner)
        if key == "Fn::GetAtt":
            return attribute(template, inner if isinstance(inner, str) else inner[0])
        if key == "Fn::If":
            return value(template, inner[1])
        if key == "Fn::Split":
            return value(template, inner[1]).split(inner[0])
        if key == "Fn::Join":
            return inner[0].join(value(template, inner[1]))
        if key == "Fn::Sub" and isinstance(inner, list):
            own = value(template, inner[1])
            return re.sub(r"\$\{(.*?)\}", lambda match: own.get(match[1]) or substituted(template, match[1]), inner[0])
        if key == "Fn::Sub":
            return re.sub(r"\$\{(.*?)\}", lambda match: substituted(template, match[1]), inner)
    return {key: value(template, inner) for key, inner in node.items()}


def substituted(template, name):
    if name.startswith("!"):  # IAM's own variable, which CloudFormation leaves as it is
        return "${" + name[1:] + "}"
    known = KNOWN.get(name) or PARAMETERS.get(name)
    return known if isinstance(known, str) else attribute(template, name.split(".")[0])


def attribute(template, name):
    if name in template.get("Parameters", {}):
        return "x"
    return ARNS[template["Resources"][name]["Type"]]


# --------------------------------------------------------------------------------------------------------- guard --


def broken_rules(template):
    yield from (f"guard {rule}" for rule in guard({"template": plain(template)})["template"])


def guard(templates):
    """For each template, by its name: the rules that it breaks."""
    with tempfile.TemporaryDirectory() as data:
        for name, template in templates.items():
            pathlib.Path(data, f"{name}.json").write_text(json.dumps(template))
        command = ["cfn-guard", "validate", "--rules", str(HERE / "espalier.guard"), "--data", data]
        command += ["--structured", "--output-format", "json", "--show-summary", "none"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    # 19: some template broke some rule.
    if answer.returncode not in (0, 19):
        raise RuntimeError(f"cfn-guard: {answer.stderr[-400:]}")
    reports = {pathlib.Path(one["name"]).stem: one for one in json.loads(answer.stdout)}
    return {name: sorted(one["Rule"]["name"] for one in reports[name]["not_compliant"]) for name in templates}


def guard_can_fail():
    """Every rule fails for a template that breaks what it is about, and no other rule does."""
    whole = plain(cfnlint.decode.decode("template.yaml")[0])
    broken = {}
    for at, (_, where, wrong) in enumerate(BROKEN):
        broken[str(at)] = node = copy.deepcopy(whole)
        for step in where[:-1]:
            node = node[step]
        if wrong is None:
            del node[where[-1]]
        else:
            node[where[-1]] = wrong
    found = guard(broken)
    for at, (rule, where, _) in enumerate(BROKEN):
        if found[str(at)] != [rule]:
            yield f"guard: {'/'.join(map(str, where))} broken: {found[str(at)]} failed and not {rule}"
    rules = set(re.findall(r"^rule (\w+)", (HERE / "espalier.guard").read_text(), re.MULTILINE))
    untried = sorted(rules - {one[0] for one in BROKEN})
    if untried:
        yield f"guard: never seen to fail: {untried}"


def plain(template):
    """Without the marks that cfn-lint leaves on every node."""
    return json.loads(json.dumps(template))


def statement(role, index=0):
    return ["Resources", role, "Properties", "Policies", 0, "PolicyDocument", "Statement", index]


def events(function, name):
    return ["Resources", function, "Properties", "Events", name, "Properties"]


TOPIC = ["Resources", "NotificationsPolicy", "Properties", "PolicyDocument", "Statement", 0]
BUS = ["Resources", "AdmitCertificateEvents", "Properties", "Statement"]
BROKEN = [
    ("callers_are_named", [*TOPIC, "Principal"], "*"),
    ("callers_are_named", [*TOPIC, "Principal"], {"AWS": "*"}),
    ("callers_are_named", [*TOPIC, "Condition"], None),
    ("roles_are_for_one_service", ["Resources", "MintRole", "Properties", "AssumeRolePolicyDocument", "Statement", 0, "Principal"], {"AWS": "210987654321"}),
    ("roles_are_for_one_service", ["Resources", "MintRole", "Properties", "AssumeRolePolicyDocument", "Statement", 0, "Condition"], None),
    ("roles_can_be_bounded", ["Resources", "MintRole", "Properties", "PermissionsBoundary"], None),
    ("leaves_are_opened_in_parameter_store", ["Resources", "LeafKey", "Properties", "KeyPolicy", "Statement", 0, "Action"], "kms:*"),
    ("leaves_are_opened_in_parameter_store", ["Resources", "LeafKey", "Properties", "KeyPolicy", "Statement", 1, "Condition"], None),
    ("actions_are_written_out_apart", ["Resources", "TargetPolicy", "Properties", "PolicyDocument", "Statement", 1, "Action"], "ssm:*"),
    ("actions_are_written_out", [*statement("MintRole"), "Action"], "ssm:*"),
    ("actions_are_written_out", [*statement("MintRole"), "Action"], ["ssm:GetParameter", "kms:*"]),
    ("actions_are_written_out_apart", ["Resources", "MintSigns", "Properties", "PolicyDocument", "Statement", 0, "Action"], "kms:*"),
    ("keys_sign_for_one_role", ["Resources", "RootKey", "Properties", "KeyPolicy", "Statement", 1, "Principal"], {"AWS": "*"}),
    ("keys_sign_for_one_role", ["Resources", "IssuingKey", "Properties", "KeyPolicy", "Statement", 0, "Action"], "kms:*"),
    ("keys_sign_for_one_role", ["Resources", "IssuingKey", "Properties", "KeyPolicy", "Statement", 1, "Condition"], None),
    ("commands_go_to_tagged_instances", [*statement("DistributeRole", -1), "Condition"], None),
    ("commands_go_to_tagged_instances", [*statement("DistributeRole", -1), "Resource"], "*"),
    ("memory_outlives_the_stack", ["Resources", "Ledger", "DeletionPolicy"], "Delete"),
    ("memory_outlives_the_stack", ["Resources", "LeafKey", "UpdateReplacePolicy"], None),
    ("no_secret_in_the_template", ["Resources", "Leaf"], {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": "x"}}),
    ("failures_are_kept", [*events("Rotate", "Sweep"), "DeadLetterConfig"], None),
    ("failures_are_kept", ["Resources", "Rotate", "Properties", "EventInvokeConfig"], None),
    ("events_are_this_accounts", [*events("Rotate", "RotateRequested"), "Pattern", "account"], None),
    ("events_are_this_accounts", [*events("Rotate", "RotateRequested"), "Pattern", "source"], None),
    ("events_are_this_accounts", [*events("Rotate", "CertificateChanged"), "Pattern", "source"], ["aws.acm", "espalier"]),
    ("buses_take_events_of_services", [*BUS, "Condition"], None),
    ("buses_take_events_of_services", [*BUS, "Principal"], "*"),
    ("buses_take_events_of_services", [*BUS, "Condition", "ForAllValues:StringEquals", "events:source"], "espalier"),
    ("actions_are_written_out", [*statement("ExportRole", -1), "Fn::If", 1, "Action"], "sts:*"),
]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
