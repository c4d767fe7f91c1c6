"""Who may write to an output folder: one run at a time, and only where it can be written. What is refused is refused
before the model is loaded, which a checkpoint that lacks a tensor shows: loading it would be another error.

    output_folder.py BEZEL_FOLDER TEST_FOLDER
"""
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEZEL = Path(sys.argv[1]) / "bezel"
MODEL = ROOT / "demo" / "model"
SAMPLE = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A cup."}]}\n'
PATIENCE_S = 120


def command(model: Path, samples: Path, out: Path, *extra):
    flags = {"base-model": model, "train-file": samples, "output-dir": out, "dtype": "float32", "save-steps": 0,
             "threads": 1, "report-to": "none", "sample-predictions": 0}
    return [str(BEZEL), "train", *(f"--{key}={value}" for key, value in flags.items()), *extra]


def refused(arguments, code, *parts):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == code, (arguments, done.returncode, done.stderr)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in parts:
        assert str(part) in done.stderr, (part, done.stderr)


LOST = "model.language_model.layers.0.input_layernorm.weight"


def model_that_does_not_load(scratch: Path) -> Path:
    """Its config and headers can be read; that a tensor is missing shows when the weights are loaded."""
    model = scratch / "unloadable"
    shutil.copytree(MODEL, model)
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    assert content.count(LOST.encode()) == 1
    weights.write_bytes(content.replace(LOST.encode(), LOST.replace("norm", "nomr").encode()))
    return model


def contents(folder: Path):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_two_runs(samples: Path, unloadable: Path, out: Path):
    first = subprocess.Popen(command(MODEL, samples, out, "--max-steps=1000000"),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (out / "config.resolved.yaml").exists():
            assert first.poll() is None and time.monotonic() < deadline, "the first run did not start"
            time.sleep(0.05)
        before = contents(out)
        refused(command(unloadable, samples, out), 4, out, "another run writes to this folder; choose another output_dir")
        assert contents(out) == before, "the run that was refused changed the folder"
        assert first.poll() is None, "the first run ended"
        first.send_signal(signal.SIGINT)
        assert first.wait(PATIENCE_S) == 130
    finally:
        first.kill()
        first.wait()
    assert (out / "adapter_model.safetensors").exists()
    # The lock went with its run, and a killed one would leave none either: it belongs to the process, not to the file.
    subprocess.run(command(MODEL, samples, out, "--max-steps=1"), check=True, capture_output=True, timeout=PATIENCE_S)


def check_folders(samples: Path, unloadable: Path, scratch: Path):
    file = scratch / "file"
    file.write_text("not a folder")
    refused(command(unloadable, samples, file), 4, file, "cannot be made a folder")
    refused(command(unloadable, samples, file / "below"), 4, file / "below", "cannot be made a folder")
    # Nobody can write there, root included, whom no mode bits stop.
    refused(command(unloadable, samples, Path("/proc/self/bezel")), 4, "/proc/self/bezel", "cannot be made a folder")
    refused(command(unloadable, samples, Path("/proc/self")), 4, "/proc/self", "cannot be written")
    refused(command(MODEL, samples, MODEL), 2, MODEL, "the checkpoint's own folder")
    assert file.read_text() == "not a folder"

    refused(command(unloadable, samples, scratch / "a" / "b" / "out"), 3, LOST, "missing")
    assert {path.name for path in (scratch / "a" / "b" / "out").iterdir()} == {".bezel.lock"}
    missing = scratch / "c" / "d" / "out"
    subprocess.run(command(MODEL, samples, missing, "--max-steps=1"), check=True, capture_output=True, timeout=PATIENCE_S)
    assert (missing / "adapter_model.safetensors").exists(), "missing parents are made"


def main():
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        samples = scratch / "train.jsonl"
        samples.write_text(SAMPLE)
        unloadable = model_that_does_not_load(scratch)
        check_two_runs(samples, unloadable, scratch / "out")
        check_folders(samples, unloadable, scratch)


if __name__ == "__main__":
    main()
