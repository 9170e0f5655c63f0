"""Writes what each function is made of, as CycloneDX 1.5: the crates that are linked into it, with versions, licences, where they
come from, their checksums from Cargo.lock, and who needs whom.

    python3 release/bom.py --architecture arm64 --out DIR FUNCTION...

Cargo itself says which they are (`cargo tree`, normal dependencies for the function's processor): no build dependency, no test's.
There is no time and no random number in it, so the same lock file makes the same bytes.
"""

import argparse
import json
import pathlib
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def tree(function: str, target: str) -> list[tuple[int, str, str, str]]:
    """Each line of cargo's tree: depth, name, version, licence."""
    command = ["cargo", "tree", "--locked", "--package", function, "--edges", "normal", "--target", target,
               "--prefix", "depth", "--no-dedupe", "--format", " {p}|{l}"]
    lines = []
    for line in subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        depth, rest = line.split(" ", 1)
        package, licence = rest.split("|")
        name, version, *what = package.split(" ")
        # A procedural macro runs in the compiler; neither it nor what it needs is in the binary.
        lines.append((int(depth), name, version.removeprefix("v"), "(proc-macro)" if "(proc-macro)" in what else licence))
    return lines


def linked(lines: list[tuple[int, str, str, str]]) -> tuple[dict[str, tuple[str, str, str]], dict[str, set[str]]]:
    """The crates by reference, and what each needs."""
    crates, needs, path, skipped = {}, {}, [], None
    for depth, name, version, licence in lines:
        if skipped is not None and depth > skipped:
            continue
        skipped = depth if licence == "(proc-macro)" else None
        if skipped is not None:
            continue
        reference = f"pkg:cargo/{name}@{version}"
        crates[reference] = (name, version, licence)
        needs.setdefault(reference, set())
        del path[depth:]
        if path:
            needs[path[-1]].add(reference)
        path.append(reference)
    return crates, needs


def document(function: str, target: str, locked: dict[tuple[str, str], dict]) -> dict:
    crates, needs = linked(tree(function, target))

    def component(reference: str) -> dict:
        name, version, licence = crates[reference]
        package = locked[(name, version)]
        told = {"type": "library", "bom-ref": reference, "name": name, "version": version}
        if "checksum" in package:
            told["hashes"] = [{"alg": "SHA-256", "content": package["checksum"]}]
        # Before SPDX expressions were asked for, a stroke meant "or".
        told["licenses"] = [{"expression": licence.replace("/", " OR ") if " OR " not in licence else licence}]
        if package.get("source") == REGISTRY:
            told["purl"] = reference
        return told

    own = next(reference for reference, (name, _, _) in crates.items() if name == function)
    subject = component(own) | {"type": "application"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": subject, "properties": [{"name": "espalier:target", "value": target}]},
        "components": [component(reference) for reference in sorted(crates) if reference != own],
        "dependencies": [{"ref": one, "dependsOn": sorted(needs[one])} for one in sorted(needs)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", required=True, choices=sorted(TARGETS))
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("functions", nargs="+")
    asked = parser.parse_args()
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    locked = {(package["name"], package["version"]): package for package in packages}
    asked.out.mkdir(parents=True, exist_ok=True)
    for function in asked.functions:
        text = json.dumps(document(function, TARGETS[asked.architecture], locked), indent=1, sort_keys=True)
        (asked.out / f"{function}.cdx.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
