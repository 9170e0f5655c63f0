#!/usr/bin/env python3
"""The same calls of ACM to an endpoint and to moto, and what each made of them.

`acm.py ENDPOINT EXPORTABLE PLAIN`: the endpoint, and two of its certificates that are issued: one that may be exported and one
that may not. One line of JSON for each question: its name and both outcomes. An outcome is an error's code, or the facts that
the question asks for. Run by lab/tests/acm_emulator.rs with the Python that `tests/run` prepares.
"""

import json
import os
import re
import sys

os.environ.update(
    AWS_ACCESS_KEY_ID="judge",
    AWS_SECRET_ACCESS_KEY="judge",
    AWS_DEFAULT_REGION="eu-west-1",
    MOTO_ACM_VALIDATION_WAIT="0",
    AWS_EC2_METADATA_DISABLED="true",
)

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from moto import mock_aws

PASSPHRASE = b"correct-horse_battery"
NAME = "a.example.com"


def wish(**changes):
    """A request that ACM takes."""
    body = {
        "DomainName": NAME,
        "SubjectAlternativeNames": ["b.example.com"],
        "ValidationMethod": "DNS",
        "KeyAlgorithm": "RSA_2048",
        "Options": {"Export": "ENABLED"},
        "IdempotencyToken": "one",
        "Tags": [{"Key": "espalier:stack", "Value": "a"}],
    }
    body.update(changes)
    return {key: value for key, value in body.items() if value is not None}


def public(key):
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class Judged:
    """One of the two, with certificates of its own."""

    def __init__(self, client, exportable, plain):
        self.client, self.exportable, self.plain = client, exportable, plain

    def request(self, **changes):
        return self.client.request_certificate(**wish(**changes))["CertificateArn"]

    def describe(self, arn):
        return self.client.describe_certificate(CertificateArn=arn)["Certificate"]

    def export(self, arn, passphrase=PASSPHRASE):
        return self.client.export_certificate(CertificateArn=arn, Passphrase=passphrase)

    def listed(self, **filters):
        listed = self.client.list_certificates(**filters)["CertificateSummaryList"]
        return any(one["CertificateArn"] == self.request() for one in listed)

    def opens(self):
        answer = self.export(self.exportable)
        leaf = x509.load_pem_x509_certificate(answer["Certificate"].encode())
        key = load_pem_private_key(answer["PrivateKey"].encode(), PASSPHRASE)
        return public(key.public_key()) == public(leaf.public_key())

    def chain(self):
        return self.export(self.exportable)["CertificateChain"].count("BEGIN CERTIFICATE") > 0

    def records(self):
        options = self.describe(self.request(IdempotencyToken="fresh"))["DomainValidationOptions"]
        return all("ResourceRecord" in option for option in options)


def arn_of(arn):
    return arn.rsplit("/", 1)[0] + "/00000000-0000-4000-8000-00000000ffff"


# What is asked, and what answers it.
QUESTIONS = [
    ("`RequestCertificate`: the answer", lambda one: bool(re.match(r"arn:aws:acm:eu-west-1:\d{12}:certificate/", one.request()))),
    ("... again with the same token: the same certificate", lambda one: one.request() == one.request()),
    ("... with another token: another certificate", lambda one: one.request() != one.request(IdempotencyToken="two")),
    ("... a token with a hyphen", lambda one: one.request(IdempotencyToken="with-hyphen") and "taken"),
    ("... a token of 33 characters", lambda one: one.request(IdempotencyToken="x" * 33) and "taken"),
    ("... `KeyAlgorithm` `RSA_4096`", lambda one: one.request(KeyAlgorithm="RSA_4096", IdempotencyToken="k") and "taken"),
    ("... a common name of 72 characters", lambda one: one.request(DomainName="a" * 60 + ".example.com", IdempotencyToken="n") and "taken"),
    ("... 12 names", lambda one: one.request(SubjectAlternativeNames=[f"n{n}.example.com" for n in range(11)], IdempotencyToken="m") and "taken"),
    ("... a tag key `aws:a`", lambda one: one.request(Tags=[{"Key": "aws:a", "Value": "b"}], IdempotencyToken="t") and "taken"),
    ("`DescribeCertificate` at once: status", lambda one: one.describe(one.request(IdempotencyToken="at_once"))["Status"]),
    ("... at once: a serial number", lambda one: "Serial" in one.describe(one.request(IdempotencyToken="at_once"))),
    ("... at once: validation records", lambda one: one.records()),
    ("... the names", lambda one: sorted(one.describe(one.request())["SubjectAlternativeNames"])),
    ("... `Options.Export`", lambda one: one.describe(one.request())["Options"]["Export"]),
    ("... `Type`", lambda one: one.describe(one.request())["Type"]),
    ("... `RenewalEligibility` before any export", lambda one: one.describe(one.request())["RenewalEligibility"]),
    ("... `RenewalEligibility` after an export", lambda one: (one.opens(), one.describe(one.exportable)["RenewalEligibility"])[1]),
    ("... `KeyAlgorithm` of an issued one", lambda one: one.describe(one.exportable)["KeyAlgorithm"].replace("-", "_")),
    ("... the serial number: pairs of hexadecimal digits", lambda one: bool(re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2})*", one.describe(one.exportable)["Serial"]))),
    ("... nobody's ARN", lambda one: one.describe(arn_of(one.exportable))["Status"]),
    ("`ListTagsForCertificate`", lambda one: one.client.list_tags_for_certificate(CertificateArn=one.request())["Tags"]),
    ("... nobody's ARN", lambda one: one.client.list_tags_for_certificate(CertificateArn=arn_of(one.exportable))["Tags"]),
    ("`ListCertificates`: an RSA certificate, unasked", lambda one: one.listed()),
    ("... by its kind of key", lambda one: one.listed(Includes={"keyTypes": ["RSA_2048"]})),
    ("... by another kind of key", lambda one: one.listed(Includes={"keyTypes": ["EC_secp384r1"]})),
    ("... by `exportOption` `ENABLED`", lambda one: one.listed(Includes={"exportOption": "ENABLED"})),
    ("... by `exportOption` `DISABLED`", lambda one: one.listed(Includes={"exportOption": "DISABLED"})),
    ("`ExportCertificate`: the key opens and is the certificate's", lambda one: one.opens()),
    ("... a chain", lambda one: one.chain()),
    ("... requested without `Export`", lambda one: one.export(one.plain) and "taken"),
    ("... before it is issued", lambda one: one.export(one.request(IdempotencyToken="early")) and "taken"),
    ("... a passphrase of 3 characters", lambda one: one.export(one.exportable, b"abc") and "taken"),
    ("... a passphrase with `#`", lambda one: one.export(one.exportable, b"with#hash") and "taken"),
    ("... nobody's ARN", lambda one: one.export(arn_of(one.exportable)) and "taken"),
]


def outcome(question, one):
    try:
        return question(one)
    except ClientError as error:
        return error.response["Error"]["Code"]
    except ValueError:
        # moto's own failure: it makes a certificate of whatever it is asked for.
        return "fails"


def client(**options):
    # What is refused shall be refused by the judged, and not by boto3.
    config = Config(parameter_validation=False, retries={"max_attempts": 1})
    return boto3.client("acm", region_name="eu-west-1", config=config, **options)


def main():
    endpoint, exportable, plain = sys.argv[1:]
    ours = Judged(client(endpoint_url=endpoint), exportable, plain)
    first = [outcome(question, ours) for _, question in QUESTIONS]
    with mock_aws():
        moto = Judged(client(), None, None)
        moto.exportable = moto.request(IdempotencyToken="exportable", SubjectAlternativeNames=None)
        moto.plain = moto.request(IdempotencyToken="plain", Options=None)
        second = [outcome(question, moto) for _, question in QUESTIONS]
    for (name, _), here, there in zip(QUESTIONS, first, second):
        print(json.dumps({"question": name, "lab": here, "moto": there}))


if __name__ == "__main__":
    main()
