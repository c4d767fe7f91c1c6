"""The wheel of tools/make_wheel.py in a fresh virtual environment: pip installs it, `bezel` is the program itself, takes
LibTorch from the torch wheel beside it and every other library from the wheel, and trains.

    wheel.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(sys.argv[1]).resolve()
MEDIA = ("libyaml-cpp", "libjpeg", "libpng16", "libwebp", "libwebpdemux", "libtiff", "libsndfile", "libsoxr")


def run(*command, **kw):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **kw)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def make_environment(folder: Path, wheel: Path) -> Path:
    venv.create(folder, with_pip=False)
    site = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    # In place of `pip install torch`, 200 MB.
    (site / "torch").symlink_to(Path(sysconfig.get_path("purelib")) / "torch")
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python3", "install",
        "--no-deps", "--no-index", wheel)
    return folder / "bin" / "bezel"


def check_libraries(bezel: Path, environment: Path):
    assert bezel.read_bytes()[:4] == b"\x7fELF", "bezel is a script"
    rows = dict(re.findall(r"^\s*(\S+) => (.+?) \(0x", run("ldd", bezel), re.M))
    for name, path in rows.items():
        # Links are not followed: torch stands for the wheel that pip would have put there.
        inside = Path(os.path.normpath(path)).is_relative_to(environment)
        is_torch = name.split(".so")[0] in ("libtorch", "libtorch_cpu", "libc10")
        assert inside or not (is_torch or name.startswith(MEDIA)), f"{name} comes from {path}"
    assert all(any(name.startswith(media) for name in rows) for media in MEDIA), rows
    print(f"{sum('bezel.libs' in path for path in rows.values())} libraries come from the wheel")


def check_train(bezel: Path, scratch: Path):
    data = scratch / "my.jsonl"
    data.write_text('{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A cup."}]}\n' * 2)
    # Nothing of this shell's: no LD_LIBRARY_PATH, no Python.
    run(bezel, "train", "--base-model", ROOT / "demo" / "model", "--train-file", data, "--output-dir", scratch / "out",
        "--max-steps", "2", "--quiet", env={"PATH": "/usr/bin:/bin", "OMP_WAIT_POLICY": "passive"})
    state = json.loads((scratch / "out" / "trainer_state.json").read_text())
    assert state["global_step"] == 2 and (scratch / "out" / "adapter_model.safetensors").exists()


def main():
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name).resolve()
        print(run(sys.executable, ROOT / "tools" / "make_wheel.py", BUILD, scratch / "dist").strip())
        wheel, = (scratch / "dist").glob("bezel-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            meta = next(archive.read(n).decode() for n in archive.namelist() if n.endswith("METADATA"))
        import torch
        assert f"Requires-Dist: torch=={torch.__version__.split('+')[0]}\n" in meta, meta[:400]
        bezel = make_environment(scratch / "environment", wheel)
        version = run(bezel, "version", env={})
        assert version == run(BUILD / "bezel", "version"), version
        check_libraries(bezel, scratch / "environment")
        check_train(bezel, scratch)
        print(version.strip())


if __name__ == "__main__":
    main()
