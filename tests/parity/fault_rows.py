"""docs/FAULTS.md names tests for each kind of bad input, and SECURITY.md for each promise; every one of them must exist, and
no row of FAULTS.md may be left out.

    fault_rows.py BEZEL_FOLDER TEST_FOLDER

A test exists when the sources have it, and when `ctest -N` lists it or its suite, whose program lists the test: a source that the
build forgets has no tests.
"""
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = set(range(1, 50))
PROGRAMS = ("parser_tests", "bezel_tests", "device_tests")


def named_tests():
    """Row number -> names of tests."""
    rows = {}
    for line in (ROOT / "docs" / "FAULTS.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 5 and cells[1].isdigit():
            assert int(cells[1]) not in rows, f"row {cells[1]} comes twice"
            rows[int(cells[1])] = cells[4].replace("`", "").split()
    return rows


def promised_tests():
    """Promise -> names of tests, from SECURITY.md."""
    rows = [[cell.strip() for cell in line.split("|")] for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("|")]
    return {cells[1]: cells[3].replace("`", "").split() for cells in rows[2:]}


def tests_of_the_sources():
    names = {"soak.short"} | {f"parity.{path.stem}" for path in (ROOT / "tests" / "parity").glob("*.py") if not path.name.startswith("_")}
    for path in (ROOT / "tests").rglob("*_test.cpp"):
        names.update(".".join(found) for found in re.findall(r"^TEST(?:_F)?\((\w+),\s*(\w+)\)", path.read_text(), re.M))
    return names


def tests_of_the_build():
    listing = subprocess.run(["ctest", "-N", "--test-dir", sys.argv[1]], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"^\s*Test\s+#\d+: (\S+)$", listing, re.M))
    for program in PROGRAMS:
        if f"{program}_NOT_BUILT" in names:
            continue
        tests = subprocess.run([str(Path(sys.argv[2]) / program), "--gtest_list_tests"], capture_output=True, text=True, check=True).stdout
        suite = ""
        for line in tests.splitlines():
            if not line.startswith(" "):
                suite = line.split("#")[0].strip().removesuffix(".")
            elif suite in names:
                names.add(f"{suite}.{line.split('#')[0].strip()}")
    return names


def main():
    rows, built, written = named_tests(), tests_of_the_build(), tests_of_the_sources()
    assert set(rows) == ROWS, f"rows {sorted(set(rows) ^ ROWS)} are missing or not known"
    unbuilt = {name.removesuffix("_NOT_BUILT") for name in built if name.endswith("_NOT_BUILT")}
    if unbuilt:
        print(f"not built, so looked up in the sources only: {', '.join(sorted(unbuilt))}")
    promises = promised_tests()
    assert len(promises) >= 8, promises
    for row, names in [*sorted(rows.items()), *promises.items()]:
        assert names, f"row {row} names no test"
        for name in names:
            assert name in written, f"row {row}: no source has the test {name}"
            assert name in built or unbuilt, f"row {row}: ctest does not list the test {name}"
    print(f"{len(rows)} rows, {len(set().union(*rows.values()))} tests; {len(promises)} promises, "
          f"{len(set().union(*promises.values()))} tests")


if __name__ == "__main__":
    main()
