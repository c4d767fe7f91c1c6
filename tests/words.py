"""Holds the sources to tests/words.txt: none of its identifiers occurs in bezel/, cli/, tests/, benchmarks/ or a document.

    words.py ROOT
"""
import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1]).resolve()
FOLDERS = ("bezel", "cli", "tests", "benchmarks", "cmake", "docs", "tools")
SUFFIXES = (".h", ".cpp", ".py", ".md", ".txt", ".cmake", ".sh")


def banned_identifiers() -> dict[str, str]:
    """identifier -> what to write instead, from the first section of words.txt"""
    text = (ROOT / "tests/words.txt").read_text()
    section = text.split("# Identifiers", 1)[1].split("\n# ", 1)[0].split("\n", 1)[1]
    return dict(line.split(None, 1) for line in section.splitlines() if line.strip())


def main():
    banned = banned_identifiers()
    word = re.compile(r"(?<![A-Za-z0-9_])(" + "|".join(map(re.escape, banned)) + r")(?![A-Za-z0-9_])")
    assert len(banned) > 25 and word.search("x.label_rows;"), banned
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    files += sorted(ROOT.glob("*.md")) + [ROOT / "CMakeLists.txt"]
    files = [path for path in files if path.name not in ("words.txt", "words.py")]
    assert len(files) > 500, len(files)
    problems = []
    for path in files:
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            problems += [f"{path.relative_to(ROOT)}:{number}: '{found}': write {banned[found]}" for found in word.findall(line)]
    print("\n".join(problems) or f"{len(files)} files use none of {len(banned)} words")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
