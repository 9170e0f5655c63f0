"""Holds requests to botocore's service models: members, required ones, enumerations, patterns, lengths, ranges.

Reads one JSON object per line from standard input: service (as in AWS_ENDPOINT_URL_<SERVICE>), operation, method, path,
body, and planted where the request is a wrong one that has to be found. Prints one JSON object: how many requests of which
service were checked, each problem with how often it was seen, and what was found in planted ones. Values are never printed:
a request may hold a key.
"""

import json
import re
import sys
import xml.etree.ElementTree as xml
from functools import cache
from urllib.parse import parse_qsl, unquote

from botocore.loaders import Loader
from botocore.model import ServiceModel

NAMES = {
    "acm": "acm",
    "auto_scaling": "autoscaling",
    "cloudformation": "cloudformation",
    "cloudwatch_logs": "logs",
    "dynamodb": "dynamodb",
    "ec2": "ec2",
    "eventbridge": "events",
    "iam": "iam",
    "kms": "kms",
    "lambda": "lambda",
    "route_53": "route53",
    "s3": "s3",
    "secrets_manager": "secretsmanager",
    "sfn": "stepfunctions",
    "sns": "sns",
    "sqs": "sqs",
    "ssm": "ssm",
    "sts": "sts",
    "vpc_lattice": "vpc-lattice",
}


class Api:
    """A service's published model."""

    def __init__(self, name):
        self.model = ServiceModel(Loader().load_service_model(name, "service-2"))
        self.protocol = self.model.metadata["protocol"]
        self.routes = []
        if self.protocol.startswith("rest"):
            for operation in self.model.operation_names:
                http = self.model.operation_model(operation).http
                template, _, fixed = http["requestUri"].partition("?")
                path = re.sub(r"\{(\w+)\+?\}", wildcard, template.rstrip("/"))
                # What the query has to say for it to be this operation: S3 tells many apart so.
                fixed = dict(parse_qsl(fixed, keep_blank_values=True))
                demanded = self.demanded(operation)
                self.routes.append((operation, http["method"], re.compile(path + "/?"), fixed, demanded))

    def demanded(self, operation):
        """What has to stand in its query or in a header: by this alone S3 tells a part of an upload, or a copy, from a whole one.
        Headers are not looked at: who needs one comes last."""
        shape = self.model.operation_model(operation).input_shape
        required = shape.required_members if shape else ()
        members = (shape.members[name].serialization | {"member": name} for name in required)
        return {one.get("name", one["member"]) for one in members if one.get("location") in ("querystring", "header")}

    def read(self, request):
        """The operation, the input as the model describes it, and what the model does not know."""
        if self.protocol == "json":
            return self.model.operation_model(request["operation"]), json.loads(request["body"] or "{}"), []
        if self.protocol in ("ec2", "query"):
            fields = dict(parse_qsl(request["body"], keep_blank_values=True))
            operation = self.model.operation_model(fields.pop("Action"))
            fields.pop("Version")
            unknown = []
            return operation, from_form(operation.input_shape, fields, "", self.protocol, unknown), unknown
        return self.read_rest(request)

    def read_rest(self, request):
        path, _, query = request["path"].partition("?")
        query = parse_qsl(query, keep_blank_values=True)
        found = []
        for name, method, route, fixed, demanded in self.routes:
            match = route.fullmatch(path) if method == request["method"] else None
            if match and fixed.items() <= dict(query).items():
                lacking = demanded - dict(query).keys()
                words = len(fixed) + len(demanded - lacking)
                found.append(((-words, len(lacking), len(match.groupdict())), name, match, fixed))
        if not found:
            raise KeyError(f"no operation for {request['method']}")
        # The one with the most words, in its query and in its path, and with the fewest that are missing.
        _, name, match, fixed = min(found, key=lambda one: one[0])
        operation = self.model.operation_model(name)
        shape, value, unknown = operation.input_shape, {}, []
        places = {}
        for member, inner in (shape.members if shape else {}).items():
            where = inner.serialization.get("location", "body")
            places[where, inner.serialization.get("name", member)] = member
        for key, text in match.groupdict().items():
            value[places["uri", key]] = unquote(text)
        for key, text in query:
            # The SDK names the operation beside: that is in AWS's own models, and not in botocore's.
            if key in fixed or (key, text) == ("x-id", name):
                continue
            member = places.get(("querystring", key))
            # A list in a query is its key again and again.
            if member and shape.members[member].type_name == "list":
                value.setdefault(member, []).append(text)
            elif member:
                value[member] = text
            else:
                unknown.append(key)
        payload = shape.serialization.get("payload") if shape else None
        if payload and shape.members[payload].type_name == "blob":
            # Bytes of any kind: an archive, a function's event.
            value[payload] = request["body"]
        elif request["body"] and self.protocol == "rest-json":
            for key, inner in json.loads(request["body"]).items():
                member = places.get(("body", key))
                if member:
                    value[member] = inner
                else:
                    unknown.append(key)
        elif request["body"]:
            value.update(from_xml(shape, xml.fromstring(request["body"]), "", unknown))
        return operation, value, unknown


def wildcard(part):
    # An ARN in a path may come with its slashes.
    is_greedy = part[0].endswith("+}") or part[1] == "resourceArn"
    return f"(?P<{part[1]}>{'.+' if is_greedy else '[^/]+'})"


def from_form(shape, fields, path, protocol, unknown):
    """`Filter.1.Value.2=x` of EC2's protocol, `Tags.member.1.Key=x` of the query protocol."""
    value, names = {}, {}
    for member, inner in (shape.members if shape else {}).items():
        name = inner.serialization.get("name", member)
        if protocol == "ec2":
            name = inner.serialization.get("queryName", name[0].upper() + name[1:])
        names[name] = (member, inner)
    for head, rest in grouped(fields).items():
        if head not in names:
            unknown.append(path + head)
            continue
        member, inner = names[head]
        value[member] = form_value(inner, rest, f"{path}{member}.", protocol, unknown)
    return value


def form_value(shape, fields, path, protocol, unknown):
    if shape.type_name == "structure":
        return from_form(shape, fields, path, protocol, unknown)
    if shape.type_name == "list":
        if protocol == "query" and not shape.serialization.get("flattened"):
            fields = grouped(fields).get(shape.member.serialization.get("name", "member"), {})
        groups = {int(index): rest for index, rest in grouped(fields).items() if index}
        return [form_value(shape.member, groups[index], path, protocol, unknown) for index in sorted(groups)]
    if shape.type_name == "map":
        entries = [grouped(rest) for rest in grouped(grouped(fields).get("entry", {})).values()]
        inner = lambda entry: form_value(shape.value, entry.get("value", {}), path, protocol, unknown)
        return {entry["key"][""]: inner(entry) for entry in entries}
    return fields.get("", "")


def grouped(fields):
    """Keys by what stands before their first full stop."""
    groups = {}
    for key, text in fields.items():
        head, _, rest = key.partition(".")
        groups.setdefault(head, {})[rest] = text
    return groups


def from_xml(shape, node, path, unknown):
    value = {}
    names = {inner.serialization.get("name", member): (member, inner) for member, inner in shape.members.items()}
    for child in node:
        tag = child.tag.split("}")[-1]
        if tag not in names:
            unknown.append(path + tag)
            continue
        member, inner = names[tag]
        value[member] = xml_value(inner, child, f"{path}{member}.", unknown)
    return value


def xml_value(shape, node, path, unknown):
    if shape.type_name == "structure":
        return from_xml(shape, node, path, unknown)
    if shape.type_name == "list":
        return [xml_value(shape.member, child, path, unknown) for child in node]
    return node.text or ""


def check(shape, value, path, problems):
    """Everything that is wrong with a value."""
    kind, rule = shape.type_name, shape.metadata
    say = lambda problem: problems.append(f"{path or 'the input'} {problem}")
    if kind == "structure":
        check_structure(shape, value, path, problems, say)
    elif kind in ("list", "map"):
        check_many(shape, value, path, problems, say)
    elif kind == "string":
        if not isinstance(value, str):
            return say("is not a string")
        within(rule, len(value), "characters", say)
        if rule.get("enum") and value not in rule["enum"]:
            say("is not one of its enumeration")
        if rule.get("pattern") and not pattern(rule["pattern"]).fullmatch(value):
            say(f"does not match {rule['pattern']}")
    elif kind in ("integer", "long"):
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
            return say("is not a whole number")
        within(rule, int(value), "", say)
    elif kind == "boolean" and str(value).lower() not in ("true", "false"):
        say("is not a truth value")


def check_structure(shape, value, path, problems, say):
    if not isinstance(value, dict):
        return say("is not an object")
    for name in shape.required_members:
        # Headers are not looked at.
        if name not in value and not shape.members[name].serialization.get("location", "").startswith("header"):
            say(f"lacks {name}")
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        say("has not exactly one member")
    for name, inner in value.items():
        if name in shape.members:
            check(shape.members[name], inner, f"{path}.{name}".lstrip("."), problems)
        else:
            say(f"has no member {name}")


def check_many(shape, value, path, problems, say):
    is_list = shape.type_name == "list"
    if not isinstance(value, list if is_list else dict):
        return say(f"is not a {shape.type_name}")
    within(shape.metadata, len(value), "entries", say)
    for inner in value if is_list else value.values():
        check(shape.member if is_list else shape.value, inner, path + "[]", problems)
    for key in () if is_list else value:
        check(shape.key, key, path + "{}", problems)


@cache
def pattern(text):
    # What Java's patterns have and Python's lack: classes of Unicode (wider here), and pairs that stand for one character.
    text = re.sub(r"\\[pP]\{\w+\}", r"\\w", text)
    text = text.replace(r"\uD800\uDC00-\uDBFF\uDFFF", "\U00010000-\U0010FFFF")
    return re.compile(text, re.DOTALL)


def within(rule, size, unit, say):
    if size < rule.get("min", size) or size > rule.get("max", size):
        say(f"has {size} {unit}".rstrip() + f", not {rule.get('min', '')}..{rule.get('max', '')}")


def judged(api, request):
    """What is wrong with a request."""
    found = []
    try:
        operation, value, unknown = api.read(request)
        found += [f"the input has no member {key}" for key in unknown]
        if operation.input_shape:
            check(operation.input_shape, value, "", found)
    except (KeyError, ValueError, TypeError, AttributeError, xml.ParseError) as error:
        found.append(f"cannot be read: {type(error).__name__}")
    except Exception as error:  # botocore's own: an operation it does not know
        found.append(f"is not in the model: {type(error).__name__}")
    return found


def main():
    apis, checked, problems, planted = cache(Api), {}, {}, {}
    for line in sys.stdin:
        request = json.loads(line)
        name = NAMES.get(request["service"])
        found = judged(apis(name), request) if name else ["there is no model to hold it to"]
        if "planted" in request:
            planted[request["planted"]] = found
            continue
        checked[name] = checked.get(name, 0) + 1
        for problem in found:
            told = f"{request['service']}.{request['operation']}: {problem}"
            problems[told] = problems.get(told, 0) + 1
    print(json.dumps({"checked": checked, "problems": problems, "planted": planted}))


if __name__ == "__main__":
    main()
