"""Holds every #include of bezel/ and cli/ to the list in ARCHITECTURE.md, "Layers".

    include_order.py ROOT
"""
import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1]).resolve()
INCLUDE = re.compile(r'^\s*#include "((?:bezel|cli)/[^"]+)"', re.MULTILINE)


def allowed_includes() -> dict[str, set[str]]:
    """part -> the parts and single headers that it may include."""
    section = (ROOT / "ARCHITECTURE.md").read_text().split("## Layers", 1)[1].split("\n## ", 1)[0]
    rows = [line.split() for line in section.splitlines() if line.startswith("    ")]
    return {row[0]: set(row[1:]) for row in rows}


def part_of(path: str) -> str:
    """bezel/nn/linear.h -> nn, bezel/error.h -> error, cli/train.cpp -> cli"""
    parts = path.split("/")
    return "cli" if parts[0] == "cli" else parts[1].split(".")[0]


def main():
    allowed = allowed_includes()
    files = [path for folder in ("bezel", "cli") for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".h", ".cpp")]
    assert len(files) > 100 and "train" in allowed, (len(files), allowed)
    problems, seen = [], set()
    for path in files:
        name = str(path.relative_to(ROOT))
        part = part_of(name)
        seen.add(part)
        if part not in allowed:
            problems.append(f"{name}: the part '{part}' is not in ARCHITECTURE.md")
            continue
        for header in INCLUDE.findall(path.read_text()):
            to = part_of(header)
            single = header.removeprefix("bezel/").removesuffix(".h")
            if to != part and to not in allowed[part] and single not in allowed[part]:
                problems.append(f"{name}: includes {header}; ARCHITECTURE.md allows {part} only: {' '.join(sorted(allowed[part]))}")
    problems += [f"ARCHITECTURE.md lists '{part}', which has no file" for part in set(allowed) - seen]
    print("\n".join(problems) or f"{len(files)} files keep the order of {len(allowed)} parts")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
