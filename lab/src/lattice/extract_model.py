"""Writes model.json: the request and response constraints of the VPC Lattice operations the stand-in serves.

Usage: python3 extract_model.py <botocore>/data/vpc-lattice/<date>/service-2.json.gz > model.json
Only names, bounds, patterns and enumerations are kept; the service model's prose is not.
"""

import gzip
import json
import sys

OPERATIONS = """
CreateListener CreateRule CreateService CreateServiceNetwork CreateServiceNetworkServiceAssociation
CreateServiceNetworkVpcAssociation CreateTargetGroup DeleteListener DeleteService DeleteServiceNetwork
DeleteServiceNetworkServiceAssociation DeleteServiceNetworkVpcAssociation DeleteTargetGroup DeregisterTargets
GetListener GetService GetServiceNetwork GetServiceNetworkServiceAssociation GetServiceNetworkVpcAssociation
GetTargetGroup ListListeners ListRules ListServiceNetworkServiceAssociations ListServiceNetworkVpcAssociations
ListServiceNetworks ListServices ListTagsForResource ListTargetGroups ListTargets RegisterTargets TagResource
UntagResource CreateAccessLogSubscription DeleteAccessLogSubscription ListAccessLogSubscriptions
UpdateAccessLogSubscription DeleteAuthPolicy GetAuthPolicy PutAuthPolicy UpdateListener UpdateService UpdateServiceNetwork UpdateServiceNetworkVpcAssociation UpdateTargetGroup
""".split()
KEPT = ("type", "required", "min", "max", "pattern", "enum", "union")


def main(path):
    with gzip.open(path) as file:
        model = json.load(file)
    shapes = {}

    def keep(name):
        if name in shapes:
            return
        source = model["shapes"][name]
        shape = shapes[name] = {key: source[key] for key in KEPT if key in source}
        for member, reference in source.get("members", {}).items():
            kept = {"shape": reference["shape"]}
            if "location" in reference:
                kept["location"] = reference["location"]
                kept["name"] = reference["locationName"]
            shape.setdefault("members", {})[member] = kept
            keep(reference["shape"])
        for part in ("member", "key", "value"):
            if part in source:
                shape[part] = source[part]["shape"]
                keep(source[part]["shape"])

    operations = {}
    for name in OPERATIONS:
        source = model["operations"][name]
        operations[name] = {
            "method": source["http"]["method"],
            "uri": source["http"]["requestUri"],
            "status": source["http"]["responseCode"],
            "input": source["input"]["shape"],
            "output": source["output"]["shape"],
        }
        keep(operations[name]["input"])
        keep(operations[name]["output"])
    lines = ['{', f' "apiVersion": {json.dumps(model["metadata"]["apiVersion"])},', ' "operations": {']
    lines.append(",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in operations.items()))
    lines += [' },', ' "shapes": {']
    lines.append(",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(shapes.items())))
    lines += [' }', '}']
    print("\n".join(lines))


main(sys.argv[1])
