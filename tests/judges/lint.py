#!/usr/bin/env python3
"""What pkilint says to the certificates of a folder: one line of JSON for each finding above INFO.

Every `*.pem` is linted as RFC 5280 and as the CA/Browser Forum's TLS baseline want it, and with its issuer as a link of a
chain: `issuing.pem` below `root.pem`, all others below `issuing.pem`. Run by tests/tests/judges with the Python that
`tests/run` prepares.
"""

import contextlib
import io
import json
import pathlib
import sys

from pkilint.bin import lint_cabf_serverauth_cert, lint_pkix_cert, lint_pkix_signer_signee_cert_chain


def findings(linter, *files):
    """Severity and code of what a linter finds, each once."""
    printed = io.StringIO()
    detect = ["-d"] if linter is lint_cabf_serverauth_cert else []
    with contextlib.redirect_stdout(printed):
        linter.main(["lint", *detect, "-f", "JSON", "-s", "NOTICE", *map(str, files)])
    for result in json.loads(printed.getvalue())["results"]:
        for finding in result["finding_descriptions"]:
            yield finding["severity"], finding["code"]


def main():
    folder = pathlib.Path(sys.argv[1])
    print(json.dumps(["", "pkilint", "", ""]))
    for file in sorted(folder.glob("*.pem")):
        said = [("PKIX", *one) for one in findings(lint_pkix_cert, file)]
        said += [("CA/B TLS", *one) for one in findings(lint_cabf_serverauth_cert, file)]
        above = {"root.pem": "root.pem", "issuing.pem": "root.pem"}.get(file.name, "issuing.pem")
        said += [("chain", *one) for one in findings(lint_pkix_signer_signee_cert_chain, folder / above, file)]
        for judge, severity, code in sorted(set(said)):
            print(json.dumps([file.name.removesuffix(".pem"), judge, severity, code]))


if __name__ == "__main__":
    main()
