"""What the control plane costs a month, from counts: reads the template, the workflow and the code, and writes the tables of docs/cost.md.

    python3 docs/cost.py            compares the page with what follows from the counts; exit code 1 if they differ
    python3 docs/cost.py --write    writes the page's tables

Everything a figure rests on is one of three: COUNTED from the sources by a pattern that has to match, a PRICE, or ASSUMED with a
name. Change one and run it again.
"""

import math
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/cost.md"
FLEETS = (10, 100, 1_000, 10_000)
HOURS = 730


def counted(path: str, pattern: str) -> list[str]:
    found = re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE)
    if not found:
        sys.exit(f"docs/cost.py: {path}: nothing matches {pattern}; the page's figures rest on it")
    return found


def number(path: str, pattern: str) -> int:
    return int(counted(path, pattern)[0].replace("_", "").replace(",", ""))


COUNTED = {
    "minutes between sweeps": number("template.yaml", r"Default: rate\((\d+) minutes\)"),
    "functions that a sweep calls": len(counted("template.yaml", r"^        Sweep:$")),
    "functions": len(counted("template.yaml", r"^    Type: AWS::Serverless::Function$")),
    "MB of memory of a function": number("template.yaml", r"^    MemorySize: (\d+)$"),
    "alarms": len(counted("template.yaml", r"^    Type: AWS::CloudWatch::Alarm\n(?!    Condition)")),
    "composite alarms": len(counted("template.yaml", r"^    Type: AWS::CloudWatch::CompositeAlarm$")),
    "metrics of a stack, and of all together": len(counted("functions/rotate/src/watch.rs", r"metric::emit\(now, &\[dimension\]")),
    "metrics of how long connections take, of each of two ways": len(counted("functions/rotate/src/watch.rs", r"metric::emit\(at, &dimensions")),
    "metrics of a stack's registrations": len(counted("functions/provision/src/lib.rs", r'\("Targets\w+", Unit::Count')),
    "KMS keys": len(counted("template.yaml", r"^    Type: AWS::KMS::Key$\n(?!    Condition: SecondKeys)")),
    "hours between proofs of a target": number("shared/domain/src/rotation/policy.rs", r"const REVERIFY: Duration = Duration::hours\((\d+)\)"),
    "seconds between looks at a command": number("shared/domain/src/rotation/pace.rs", r"const COMMAND_POLL_S: u32 = (\d+)"),
    "targets in one item of work": number("shared/domain/src/work.rs", r"const PAGE: usize = (\d+)"),
    "days that an attempt is kept after its leaf has ended": number("shared/domain/src/record.rs", r"const KEPT: Duration = Duration::days\((\d+)\)"),
    "targets of a stack, at most": number("README.md", r"up to ([\d,]+), in the control plane's"),
    "calls of a look of `provision`": number("docs/benchmarks.md", r"nothing left to do makes (\d+) calls"),
    "records that a look of `rotate` asks for": len(counted("shared/aws/src/evidence.rs", r"^                self\.ledger\.\w+\(")) + 1,
}

# US East (N. Virginia), on demand, without the free tier, as AWS's pricing pages had them in 2026. Dollars.
PRICE = {
    "Lambda, GB-second on arm64": 0.0000133334,
    "Lambda, request": 0.20 / 1e6,
    "Step Functions, state transition": 0.025 / 1e3,
    "DynamoDB, read request unit": 0.125 / 1e6,
    "DynamoDB, write request unit": 0.625 / 1e6,
    "DynamoDB, GB-month": 0.25,
    "KMS, key-month": 1.0,
    "KMS, ECC signature": 0.15 / 1e4,
    "KMS, other request": 0.03 / 1e4,
    "CloudWatch, alarm-month": 0.10,
    "CloudWatch, composite alarm-month": 0.50,
    "CloudWatch, metric-month": 0.30,
    "CloudWatch Logs, GB taken in": 0.50,
    "X-Ray, trace": 5.0 / 1e6,
    "EventBridge, event of ours": 1.0 / 1e6,
}

ASSUMED = {
    "hours a leaf lives (`validityHours`)": 168,
    "hours before its end it is renewed (`renewBeforeHours`)": 56,
    "percent of the targets in a wave, 10 targets at least (`wavePercent`)": 10,
    "seconds that a command takes": 10,
    "seconds that a call of AWS takes, one after the other": 0.05,
    "seconds that a function takes beside its calls": 0.1,
    "MB of records that `rotate` reads in a second": 10,
    "bytes of a record in the ledger": 600,
    "bytes of log that an invocation writes": 2_000,
    "days until DynamoDB has deleted what has expired": 2,
}

# The states that each pass of workflows/rotation.asl.yaml goes through, and each item of work.
STATES = {
    "begin": ["AnnounceStarted", "Begin"],
    "work": ["Rotate", "Answer", "Work", "NextPass"],
    "item": ["Kind", "Deliver"],
    "wait": ["Rotate", "Answer", "Wait", "Rested", "NextPass"],
    "end": ["Rotate", "Answer", "AnnounceCompleted", "Converged"],
}
for state in sorted({state for states in STATES.values() for state in states}):
    counted("workflows/rotation.asl.yaml", rf"^ +{state}:$")


def shape(passes: list[int], waits: int) -> dict[str, int]:
    """An execution with these numbers of items in its passes of work, and so many waits."""
    states = len(STATES["begin"]) + len(STATES["end"]) + waits * len(STATES["wait"])
    states += sum(len(STATES["work"]) + items * len(STATES["item"]) for items in passes)
    return {"transitions": states, "looks": len(passes) + waits + 1, "items": sum(passes)}


def pages(targets: float) -> int:
    return math.ceil(targets / COUNTED["targets in one item of work"])


def month(fleet: int) -> dict[str, float]:
    """What is counted in a month of a fleet where nothing goes wrong."""
    stacks = math.ceil(fleet / COUNTED["targets of a stack, at most"])
    targets = fleet / stacks
    sweeps = HOURS * 60 / COUNTED["minutes between sweeps"]
    lives, before = ASSUMED["hours a leaf lives (`validityHours`)"], ASSUMED["hours before its end it is renewed (`renewBeforeHours`)"]
    rotations = HOURS / (lives - before)
    proofs = HOURS / COUNTED["hours between proofs of a target"]

    wave = max(10, targets * ASSUMED["percent of the targets in a wave, 10 targets at least (`wavePercent`)"] / 100)
    waves = math.ceil((targets - 1) / wave)
    polls = math.ceil(ASSUMED["seconds that a command takes"] / COUNTED["seconds between looks at a command"])
    # Mint; the canary's delivery, proof and confirmation; each wave's delivery and proof.
    rotation = shape([1, 1, 1, 1] + [pages(wave)] * (2 * waves), polls * (2 + waves))
    proof = shape([pages(targets)], 0)

    looks = stacks * (sweeps + rotations * rotation["looks"] + proofs * proof["looks"])
    items = stacks * (rotations * rotation["items"] + proofs * proof["items"])
    invocations = sweeps * COUNTED["functions that a sweep calls"] + looks - stacks * sweeps + items

    kept = COUNTED["days that an attempt is kept after its leaf has ended"] + ASSUMED["days until DynamoDB has deleted what has expired"]
    attempts = (lives + kept * 24) / (lives - before)
    record = ASSUMED["bytes of a record in the ledger"]
    read = targets * (1 + attempts) * record
    units = COUNTED["records that a look of `rotate` asks for"] + read / 4096
    call, rest = ASSUMED["seconds that a call of AWS takes, one after the other"], ASSUMED["seconds that a function takes beside its calls"]
    looking = COUNTED["records that a look of `rotate` asks for"] * call + rest
    looking += read / 1e6 / ASSUMED["MB of records that `rotate` reads in a second"]
    seconds = looks * looking + stacks * sweeps * COUNTED["calls of a look of `provision`"] * call
    seconds += items * (10 * call + rest)

    return {
        "stacks": stacks,
        "executions": stacks * (rotations + proofs),
        "state transitions": stacks * (rotations * rotation["transitions"] + proofs * proof["transitions"]),
        "Lambda invocations": invocations,
        "Lambda GB-seconds": seconds * COUNTED["MB of memory of a function"] / 1024,
        "DynamoDB read units": looks * units,
        # Begun and given its command in transactions, which count twice; ended; seen.
        "DynamoDB write units": fleet * (rotations * 6 + proofs),
        "DynamoDB GB": fleet * (1 + attempts) * record / 1e9,
        "signatures": stacks * rotations,
        "leaves fetched by targets": fleet * rotations,
        # Two of each function, what `authority` counts, and the dead man's.
        "custom metrics": 2 * COUNTED["functions"] + 1 + 1
        + COUNTED["metrics of a stack, and of all together"] * (stacks + 1) + (COUNTED["metrics of a stack's registrations"] + 2 * COUNTED["metrics of how long connections take, of each of two ways"]) * stacks,
    }


def dollars(of: dict[str, float]) -> dict[str, float]:
    alarms = COUNTED["alarms"] * PRICE["CloudWatch, alarm-month"]
    alarms += COUNTED["composite alarms"] * PRICE["CloudWatch, composite alarm-month"]
    logs = of["Lambda invocations"] * ASSUMED["bytes of log that an invocation writes"] / 1e9
    return {
        "KMS": COUNTED["KMS keys"] * PRICE["KMS, key-month"] + of["signatures"] * PRICE["KMS, ECC signature"]
        + (of["signatures"] + of["leaves fetched by targets"]) * PRICE["KMS, other request"],
        "CloudWatch": alarms + of["custom metrics"] * PRICE["CloudWatch, metric-month"] + logs * PRICE["CloudWatch Logs, GB taken in"],
        "Lambda": of["Lambda invocations"] * PRICE["Lambda, request"] + of["Lambda GB-seconds"] * PRICE["Lambda, GB-second on arm64"],
        "Step Functions": of["state transitions"] * PRICE["Step Functions, state transition"],
        "DynamoDB": of["DynamoDB read units"] * PRICE["DynamoDB, read request unit"]
        + of["DynamoDB write units"] * PRICE["DynamoDB, write request unit"] + of["DynamoDB GB"] * PRICE["DynamoDB, GB-month"],
        "X-Ray": of["Lambda invocations"] * PRICE["X-Ray, trace"],
        "EventBridge": 2 * of["executions"] * PRICE["EventBridge, event of ours"],
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:,.2g}"


def tables() -> dict[str, str]:
    months = [month(fleet) for fleet in FLEETS]
    bills = [dollars(of) for of in months]
    fleets = [f"{fleet:,}" for fleet in FLEETS]
    costs = [[name, *(f"{bill[name]:.2f}" for bill in bills)] for name in bills[0]]
    sums = [sum(bill.values()) for bill in bills]
    costs.append(["**together**", *(f"**{total:.2f}**" for total in sums)])
    costs.append(["for each target", *(f"{total / fleet:.3f}" for total, fleet in zip(sums, FLEETS))])
    return {
        "dollars": table(["dollars a month, targets", *fleets], costs),
        "counts": table(["in a month, targets", *fleets], [[name, *(figure(of[name]) for of in months)] for name in months[0]]),
        "counted": table(["counted", ""], [[name, f"{value:,}"] for name, value in COUNTED.items()]),
        "assumed": table(["assumed", ""], [[name, f"{value:,}"] for name, value in ASSUMED.items()]),
        "prices": table(["price", "dollars"], [[name, f"{value:.10f}".rstrip("0").rstrip(".")] for name, value in PRICE.items()]),
    }


def main() -> None:
    text = PAGE.read_text()
    for name, made in tables().items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if begin not in text or end not in text:
            sys.exit(f"docs/cost.py: docs/cost.md has no place for {name}")
        text = text[: text.index(begin) + len(begin)] + made + text[text.index(end) :]
    if "--write" in sys.argv[1:]:
        PAGE.write_text(text)
    elif text != PAGE.read_text():
        sys.exit("docs/cost.py: docs/cost.md is not what follows from the counts; write it with: python3 docs/cost.py --write")


if __name__ == "__main__":
    main()
