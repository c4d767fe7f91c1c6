"""Runs of `bezel train` on the demo's checkpoint that are stopped, killed and resumed, and what they leave behind."""
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "demo" / "model"
PATIENCE_S = 300
# Dropout, packing (six rows), accumulation, shuffling, epochs that end within a step, reports and evaluations out of step with
# checkpoints.
FLAGS = {"base-model": MODEL, "dtype": "float32", "threads": 1, "lora-r": 4, "lora-dropout": 0.1, "target-modules": "q_proj,o_proj",
         "packing": "true", "max-seq-length": 72, "micro-batch-size": 2, "gradient-accumulation-steps": 2, "max-steps": 12, "save-steps": 3, "save-total-limit": 2,
         "logging-steps": 2, "sample-predictions": 0, "val-set-size": 2, "eval-steps": 5, "learning-rate": 0.01}
TIMES = {"tokens_per_second", "peak_memory_bytes", "eval_runtime", "train_runtime", "train_steps_per_second"}


def write_samples(path: Path, count=13):
    words = "a cup of tea on the sofa and two cats in the rain".split()
    with open(path, "w") as file:
        for i in range(count):
            answer = " ".join(words[i % 5:i % 5 + 2 + i % 7])
            file.write(json.dumps({"messages": [{"role": "user", "content": f"Number {i}?"}, {"role": "assistant", "content": answer}]}) + "\n")


class Runs:
    """A folder with samples, and output folders in it."""

    def __init__(self, bezel: Path, folder: Path, **flags):
        self.bezel, self.folder = bezel, folder
        self.flags = {**FLAGS, "train-file": folder / "train.jsonl", **{key.replace("_", "-"): value for key, value in flags.items()}}
        write_samples(folder / "train.jsonl")

    def command(self, out: str, *extra, **flags):
        flags = {**self.flags, "output-dir": self.folder / out, **{key.replace("_", "-"): value for key, value in flags.items()}}
        return [str(self.bezel), "train", *(f"--{key}={value}" for key, value in flags.items()), *extra]

    def start(self, out, *extra, **flags):
        return subprocess.Popen(self.command(out, *extra, **flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def run(self, out, *extra, expect=0, **flags):
        """Runs to the end; returns what it wrote to stderr."""
        process = self.start(out, *extra, **flags)
        text = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == expect, (out, extra, flags, process.returncode, text)
        return text

    def run_until(self, out, line, act, *extra, undo=lambda: None, **flags):
        """Calls act(process) when stderr has a line with `line` in it. Returns exit code and what came to stderr. A run
        that ends before it notices is put back (undo() too) and tried again: this machine may be busy."""
        folder, backup = self.folder / out, self.folder / "backup"
        if folder.exists():
            copy(folder, backup)
        for _ in range(10):
            process = self.start(out, *extra, **flags)
            seen = []
            for text in process.stderr:
                seen.append(text)
                if line in text:
                    act(process)
                    break
            rest = process.communicate(timeout=PATIENCE_S)[1]
            assert seen and line in seen[-1], (line, seen, process.returncode)
            if process.returncode != 0:
                break
            undo()
            shutil.rmtree(folder)
            if backup.exists():
                copy(backup, folder)
        shutil.rmtree(backup, ignore_errors=True)
        return process.returncode, "".join(seen) + rest

    def adapter(self, out) -> bytes:
        return (self.folder / out / "adapter_model.safetensors").read_bytes()

    def results(self, out):
        """Adapter, metrics and trainer_state.json without what depends on time and on the folder's name."""
        folder = self.folder / out
        metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        state = json.loads((folder / "trainer_state.json").read_text())
        if state["best_model_checkpoint"]:
            state["best_model_checkpoint"] = Path(state["best_model_checkpoint"]).relative_to(folder).name
        for row in metrics + state["log_history"]:
            for key in TIMES & row.keys():
                del row[key]
        return {"adapter": self.adapter(out), "metrics": metrics, "state": state}

    def same(self, out, wanted):
        found = self.results(out)
        for key, value in wanted.items():
            assert found[key] == value, (out, key, "differs from the run that was not stopped", found[key] if key != "adapter" else "")

    def checkpoints(self, out):
        """Steps, oldest first."""
        return sorted(int(path.name.split("-")[1]) for path in (self.folder / out).glob("checkpoint-*") if path.suffix != ".tmp")


def signals(*numbers):
    def act(process):
        for number in numbers:
            process.send_signal(number)
    return act


def kill(process):
    process.send_signal(signal.SIGKILL)


def check_manifest(checkpoint: Path):
    """As anybody could: sizes and SHA-256 by hashlib; every file but the manifest itself is listed."""
    listed = json.loads((checkpoint / "MANIFEST.json").read_text())["files"]
    assert set(listed) == {path.name for path in checkpoint.iterdir()} - {"MANIFEST.json"}, listed
    for name, entry in listed.items():
        data = (checkpoint / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}, name


def write_manifest(checkpoint: Path):
    """For a checkpoint that was edited on purpose."""
    files = {path.name: path.read_bytes() for path in sorted(checkpoint.iterdir()) if path.name != "MANIFEST.json"}
    listed = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest | {"files": listed}))


def contents(folder: Path):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def copy(source: Path, target: Path):
    shutil.copytree(source, target)
    return target
