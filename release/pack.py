"""Packs built functions: a zip for each, always the same bytes for the same binary, and the templates that name the zips.

    python3 release/pack.py --binaries 'target/lambda/{}/bootstrap' --architecture arm64 --out DIR FUNCTION...

The templates are written when all functions are packed. They are `template.yaml` and `prober.yaml`, comments and all, but that each
function has a `CodeUri` of its own and that nothing is left to build.
"""

import argparse
import pathlib
import re
import shutil
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The least time a zip can hold. Lambda does not look at it.
NEVER = (1980, 1, 1, 0, 0, 0)

FUNCTION = re.compile(r"^  (\w+):\n    Type: AWS::Serverless::Function\n(?:(?:    .*)?\n)+", re.MULTILINE)


def pack(binary: pathlib.Path, to: pathlib.Path) -> None:
    """One executable named `bootstrap`: what the runtime `provided.al2023` starts."""
    entry = zipfile.ZipInfo("bootstrap", NEVER)
    entry.create_system = 3  # Unix, or the mode below would mean nothing
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr(entry, binary.read_bytes(), compresslevel=9)


def functions(template: str) -> dict[str, str]:
    """The binary and the text of each function of the template."""
    found = {}
    for match in FUNCTION.finditer(template):
        binary = re.search(r"^      BuildProperties: \{ Binary: (\w+) \}\n", match[0], re.MULTILINE)
        if binary is None:
            sys.exit(f"release/pack.py: template.yaml: {match[1]} does not say which binary it is")
        found[binary[1]] = match[0]
    return found


def packed(template: str, architecture: str) -> str:
    """The template with zips in place of sources."""
    for name, text in functions(template).items():
        built = re.sub(r"^      Build(Method|Properties): .*\n", "", text, flags=re.MULTILINE)
        built = built.replace("    Properties:\n", f"    Properties:\n      CodeUri: {name}.zip\n", 1)
        template = template.replace(text, built, 1)
    template = template.replace("    CodeUri: .\n", "", 1)
    return template.replace("    Default: arm64\n", f"    Default: {architecture}\n", 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", required=True, help="where a function's binary is; {} stands for its name")
    parser.add_argument("--architecture", required=True, choices=["arm64", "x86_64"])
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("functions", nargs="+")
    asked = parser.parse_args()
    template = (ROOT / "template.yaml").read_text()
    there = functions(template)
    if unknown := sorted(set(asked.functions) - there.keys()):
        sys.exit(f"release/pack.py: {', '.join(unknown)}: no function of template.yaml; there are: {', '.join(sorted(there))}")
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.functions:
        binary = pathlib.Path(asked.binaries.replace("{}", name))
        if not binary.is_file():
            sys.exit(f"release/pack.py: {binary}: not there; build {name} first")
        pack(binary, asked.out / f"{name}.zip")
    if set(asked.functions) == there.keys():
        (asked.out / "template.yaml").write_text(packed(template, asked.architecture))
        (asked.out / "prober.yaml").write_text(packed((ROOT / "prober.yaml").read_text(), asked.architecture))
        workflows = asked.out / "workflows"
        workflows.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "workflows/rotation.asl.yaml", workflows / "rotation.asl.yaml")


if __name__ == "__main__":
    main()
