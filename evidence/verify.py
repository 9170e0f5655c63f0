#!/usr/bin/env python3
"""Judges a copy of Espalier's evidence: is it whole, and is it what was sealed?

It shares no code with Espalier and needs nothing but Python's standard library and the openssl command. The layout that it
holds segments to is told in docs/evidence.md. What is wrong is named, one finding a line, and the exit code is 1; 0 means
that nothing was found, 2 that it could not be looked at.

    verify.py DIRECTORY --key sealing-key.pem [--head CHAIN:NUMBER:HASH]... [--newest-within HOURS]

The key has to come from whoever trusts it (aws kms get-public-key), never from the copy. Heads are what was noted elsewhere
at an earlier time: without them, nobody can tell a copy whose newest segments are missing from one that is older.
"""

import argparse
import base64
import binascii
import datetime
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile

FORMAT = 1
NAME = re.compile(r"[0-9]{8}\.jsonl")
HEADER = {"format": int, "chain": str, "number": int, "until": str, "count": int, "rows": str}
HEAD = {"chain": str, "number": int, "hash": str}


class Findings(list):
    def tell(self, word, where, text):
        self.append(f"{word}: {where}: {text}")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def time(text):
    """RFC 3339 with up to nine digits of a second, as Python reads it."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00"))
    text = re.sub(r"\.(\d{1,5})(?=\+)", lambda found: "." + found[1].ljust(6, "0"), text)
    return datetime.datetime.fromisoformat(text)


def is_of(kinds, value):
    """Whether it is an object with these fields of these kinds."""
    return isinstance(value, dict) and all(type(value.get(name)) is kind for name, kind in kinds.items())


def is_header(value):
    try:
        return is_of(HEADER, value) and value["format"] == FORMAT and all(time(value[at]).tzinfo for at in ("until", "from") if at in value)
    except (ValueError, TypeError, AttributeError):
        return False


def is_signed(line, signature, keys):
    with tempfile.TemporaryDirectory() as folder:
        data, seal = pathlib.Path(folder, "data"), pathlib.Path(folder, "seal")
        data.write_bytes(line)
        seal.write_bytes(signature)
        asked = ["openssl", "dgst", "-sha256", "-signature", seal, "-verify"]
        return any(subprocess.run([*asked, key, data], capture_output=True).returncode == 0 for key in keys)


class Segment:
    """A file, taken apart; `header` is None when there is nothing to hold the rest to."""

    def __init__(self, where, path, keys, findings):
        self.where, self.header, self.rows, self.sealed = where, None, [], False
        self.line, _, rest = path.read_bytes().partition(b"\n")
        seal, _, self.body = rest.partition(b"\n")
        self.hash = sha256(self.line)
        try:
            header, seal = json.loads(self.line), json.loads(seal)
            signature = base64.b64decode(seal["signature"], validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error):
            findings.tell("edited", where, "its header or its seal cannot be read")
            return
        self.sealed = is_signed(self.line, signature, keys)
        if not is_header(header):
            findings.tell("edited", where, f"its header is none of format {FORMAT}")
            return
        self.header = header
        if self.line != canonical(header):
            findings.tell("edited", where, "its header is not written as it was sealed")
        self.judge_rows(findings)

    def judge_rows(self, findings):
        try:
            self.rows = [json.loads(line) for line in self.body.split(b"\n")[:-1]]
        except ValueError:
            findings.tell("edited", self.where, "a row cannot be read")
        if sha256(self.body) == self.header["rows"]:
            if len(self.rows) != self.header["count"]:
                findings.tell("edited", self.where, "its header counts other rows than it seals")
            return
        numbers = [row.get("row") for row in self.rows if isinstance(row, dict)]
        wanted = list(range(1, self.header["count"] + 1))
        missing = [number for number in wanted if number not in numbers]
        if self.body and not self.body.endswith(b"\n"):
            findings.tell("truncated", self.where, "it ends within a row")
        elif missing and numbers == wanted[: len(numbers)]:
            findings.tell("truncated", self.where, f"it ends after row {len(numbers)} of {len(wanted)}")
        elif missing:
            findings.tell("deleted", self.where, f"rows {missing} are missing")
        elif len(numbers) > len(wanted):
            findings.tell("added", self.where, f"it has {len(numbers)} rows and {len(wanted)} were sealed")
        elif numbers != wanted:
            moved = [at for at, number in enumerate(numbers, 1) if at != number]
            findings.tell("reordered", self.where, f"rows {moved} are not where they were sealed")
        else:
            findings.tell("edited", self.where, "its rows are other ones than were sealed")


def read_chain(folder, chain, keys, findings):
    """Every segment of a chain by its file's number."""
    segments = {}
    for path in sorted((folder / chain).iterdir()):
        if NAME.fullmatch(path.name):
            segments[int(path.stem)] = Segment(f"{chain} {int(path.stem)}", path, keys, findings)
        else:
            findings.tell("added", chain, f"{path.name} is no segment")
    return segments


def judge_chain(chain, segments, findings):
    newest = max(segments, default=0)
    if not segments:
        findings.tell("deleted", chain, "it has no segments")
    missing = [number for number in range(1, newest + 1) if number not in segments]
    if missing:
        findings.tell("deleted", chain, f"segments {missing} are missing")
    unsealed = [segment for segment in segments.values() if not segment.sealed]
    if unsealed and len(unsealed) == len(segments):
        findings.tell("rewritten", chain, "none of its segments is sealed by a key that was given")
    else:
        for segment in unsealed:
            findings.tell("edited", segment.where, "its header is not what was sealed")
    for number, segment in sorted(segments.items()):
        if segment.header is None:
            continue
        said = (segment.header["chain"], segment.header["number"])
        if said != (chain, number):
            findings.tell("reordered", segment.where, f"it is segment {said[1]} of {said[0]}")
        judge_link(segment, segments.get(number - 1), number, findings)
    judge_facts(chain, segments, findings)


def judge_link(segment, before, number, findings):
    header = segment.header
    if number == 1:
        if "previous" in header or "from" in header:
            findings.tell("deleted", segment.where, "it follows another one, and is called the first")
    elif before is not None and before.header is not None:
        if header.get("previous") != before.hash:
            findings.tell("reordered", segment.where, "the segment before it is not the one that it follows")
        elif header.get("from") != before.header["until"] or time(header["until"]) < time(header["from"]):
            findings.tell("edited", segment.where, "it does not begin where the one before it ends")


def judge_facts(chain, segments, findings):
    """What is true of the records whatever the seals say: generations are numbered without gaps and said once; so is each
    target's own leaf, and not before its generation."""
    newest, leaves = 0, set()
    for _, segment in sorted(segments.items()):
        for row in segment.rows:
            kind, number = (row.get("kind"), row.get("generation")) if isinstance(row, dict) else (None, None)
            if kind in ("issued", "leaf") and not isinstance(number, int):
                findings.tell("inconsistent", segment.where, f"{number!r} is no generation")
            elif kind == "issued":
                if number != newest + 1:
                    findings.tell("inconsistent", segment.where, f"generation {number} follows generation {newest}")
                newest = number
            elif kind == "leaf":
                leaf = f"{row.get('scope')}'s own leaf of generation {number}"
                if leaf in leaves or number > newest:
                    findings.tell("inconsistent", segment.where, f"{leaf} is there " + ("twice" if leaf in leaves else "before it"))
                leaves.add(leaf)


def judge_heads(chains, noted, findings):
    """What names the newest segments: the control plane's chain, and whoever noted a head elsewhere."""
    plane = chains.get("plane", {})
    if not plane:
        findings.tell("deleted", "plane", "the control plane's own chain is missing, which names all others")
    told = [(f"plane {number}", row["chain"], row["number"], row["hash"])
            for number, segment in sorted(plane.items()) for row in segment.rows
            if is_of(HEAD, row) and row.get("kind") == "head"]
    for who, chain, number, digest in told + noted:
        segments = chains.get(chain)
        if not segments:
            findings.tell("deleted", chain, f"the whole chain is missing, which {who} names")
        elif number > max(segments):
            findings.tell("truncated", chain, f"{who} names segment {number}, and the newest is {max(segments)}")
        elif number in segments and segments[number].hash != digest:
            findings.tell("rewritten", f"{chain} {number}", f"it is not the one that {who} names")
    for chain in chains:
        if chain != "plane" and plane and chain not in {chain for _, chain, _, _ in told}:
            findings.tell("added", chain, "the control plane's chain has never heard of it")


def judge_age(chains, hours, findings):
    if hours is None:
        return
    now = datetime.datetime.now(datetime.timezone.utc)
    for chain, segments in chains.items():
        newest = segments[max(segments)] if segments else None
        if newest is None or newest.header is None or now - time(newest.header["until"]) > datetime.timedelta(hours=hours):
            findings.tell("truncated", chain, f"nothing was sealed in the last {hours:g} hours")


def head(text):
    chain, number, digest = text.rsplit(":", 2)
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise argparse.ArgumentTypeError("CHAIN:NUMBER:HASH, the hash in 64 digits")
    return ("the head noted elsewhere", chain, int(number), digest)


def main():
    parser = argparse.ArgumentParser(description="Judges a copy of Espalier's evidence.")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--key", action="append", required=True, type=pathlib.Path, help="the sealing key's public half, PEM")
    parser.add_argument("--head", action="append", default=[], type=head, help="CHAIN:NUMBER:HASH, noted elsewhere")
    parser.add_argument("--newest-within", type=float, metavar="HOURS", help="every chain was sealed in the last so many hours")
    given = parser.parse_args()
    for path in [given.directory, *given.key]:
        if not path.exists():
            parser.error(f"{path} does not exist")
    findings, stacks = Findings(), given.directory / "stacks"
    names = ["plane"] if (given.directory / "plane").is_dir() else []
    names += sorted(f"stacks/{path.name}" for path in stacks.iterdir() if path.is_dir()) if stacks.is_dir() else []
    chains = {name: read_chain(given.directory, name, given.key, findings) for name in names}
    for name, segments in chains.items():
        judge_chain(name, segments, findings)
    judge_heads(chains, given.head, findings)
    judge_age(chains, given.newest_within, findings)
    for finding in findings:
        print(finding)
    if findings:
        return 1
    for name, segments in chains.items():
        newest = segments[max(segments)]
        rows = sum(len(segment.rows) for segment in segments.values())
        print(f"ok: {name}: {len(segments)} segments, {rows} rows, until {newest.header['until']}")
        print(f"    note this head elsewhere: --head {name}:{max(segments)}:{newest.hash}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
