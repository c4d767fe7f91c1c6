"""What may happen around a run: inputs that change under it, losses that are no numbers, memory that runs out, nobody
who reads what it prints.

    run_faults.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from _runs import PATIENCE_S, Runs, check_manifest, contents, copy

RESUME = "--resume-from-checkpoint=auto"
IO, MEMORY, DIVERGED = 4, 5, 6


def paused(change):
    """Does `change` while the process stands still, so that it lies in the middle of the work."""
    def act(process):
        process.send_signal(signal.SIGSTOP)
        change()
        process.send_signal(signal.SIGCONT)
    return act


def truncate(path: Path):
    os.truncate(path, 4096)


def replace(path: Path):
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes())
    new.rename(path)


def write_into(path: Path):
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\n")


def check_changed_inputs(runs):
    """Row 31: the run stops and names the file; no SIGBUS; what was saved stays good. With the file back, it goes on."""
    runs.run("whole")
    wanted = runs.results("whole")
    weights, samples = runs.flags["base-model"] / "model.safetensors", runs.flags["train-file"]
    cases = [(weights, truncate, "model.safetensors: was truncated", "went from"), (weights, replace, "was replaced by another file"),
             (weights, write_into, "was written to"), (weights, Path.unlink, "No such file"),
             (samples, truncate, "train.jsonl"), (samples, replace, "was replaced by another file")]
    for number, (path, change, *parts) in enumerate(cases):
        out, good = f"changed-{number}", path.read_bytes()
        code, text = runs.run_until(out, "saved " + str(runs.folder / out / "checkpoint-3"), paused(lambda: change(path)),
                                    undo=lambda: path.write_bytes(good))
        lines = [line for line in text.splitlines() if line.startswith("bezel: ")]
        assert code == IO and len(lines) == 1, (change, code, text)
        assert str(path) in lines[0] and any(part in lines[0] for part in parts), lines
        if path == weights:
            assert not (runs.folder / out / "adapter_model.safetensors").exists(), "nothing may come of weights that changed"
        path.write_bytes(good)
        check_manifest(runs.folder / out / "checkpoint-3")
        runs.run(out, RESUME)
        runs.same(out, wanted)


def poisoned(runs, name):
    """A base whose norms begin with the largest number of their type: finite, but products of two are not."""
    model = copy(runs.flags["base-model"], runs.folder / name)
    with open(model / "model.safetensors", "r+b") as file:
        header_bytes = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(header_bytes))
        norms = [key for key in header if key.endswith("layernorm.weight") and "language_model.layers" in key]
        assert norms, "this test needs the names of the norms"
        for key in norms:
            assert header[key]["dtype"] == "BF16"
            file.seek(8 + header_bytes + header[key]["data_offsets"][0])
            file.write(struct.pack("<H", 0x7F7F))
    return model


def check_diverged(runs):
    """Row 29: updates without finite numbers are left out and counted; the fifth in a row ends the run with 6."""
    runs.run("good", max_steps=3)
    before = contents(runs.folder / "good" / "checkpoint-3")
    text = runs.run("good", RESUME, "--force-resume", expect=DIVERGED, base_model=poisoned(runs, "poisoned"), logging_steps=1,
                    max_steps=20)
    assert "steps in a row without finite numbers" in text and "learning_rate" in text, text
    rows = [json.loads(line) for line in (runs.folder / "good" / "metrics.jsonl").read_text().splitlines()]
    bad = [row for row in rows if row["step"] > 3 and "loss" in row]
    assert bad and [row["skipped_steps"] for row in bad] == list(range(1, len(bad) + 1)), rows
    assert all(row["loss"] is None for row in bad), rows
    check_manifest(runs.folder / "good" / "checkpoint-3")
    after = contents(runs.folder / "good" / "checkpoint-3")
    for name in ("adapter_model.safetensors", "optimizer.safetensors"):
        assert after[name] == before[name], name


def check_memory(runs):
    """Row 28: an allocation that fails ends the run with 5, its size and what lowers it."""
    limit = 4 << 30
    many = runs.folder / "many.jsonl"  # of 400 such samples a micro-batch needs more than that for its hidden states
    many.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"{i}" + " a cup of tea" * 240},
                                                     {"role": "assistant", "content": "No."}]}) + "\n" for i in range(400)))
    process = subprocess.run(runs.command("memory", train_file=many, max_seq_length=4096, val_set_size=0, micro_batch_size=400, packing="false"),
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S,
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    line = process.stderr.splitlines()[-1]
    assert process.returncode == MEMORY and line.startswith("bezel: out of memory"), (process.returncode, process.stderr)
    assert "max_seq_length" in line and "micro_batch_size" in line, line


def check_nobody_reads(runs):
    """Closed and full outputs stop no run, and nothing that is printed gets into a file."""
    runs.run("read")
    wanted = runs.adapter("read")
    reader, writer = os.pipe()
    os.close(reader)
    for name, out in (("pipe", {"stdout": writer, "stderr": writer}), ("full", {"stdout": open("/dev/full", "w"), "stderr": open("/dev/full", "w")})):
        done = subprocess.run(runs.command(name), timeout=PATIENCE_S, **out)
        assert done.returncode == 0 and runs.adapter(name) == wanted, (name, done.returncode)
    command = " ".join(f"'{part}'" for part in runs.command("closed"))
    done = subprocess.run(["sh", "-c", command + " <&- >&- 2>&-"], timeout=PATIENCE_S)
    assert done.returncode == 0 and runs.adapter("closed") == wanted, done.returncode
    for path, data in contents(runs.folder / "closed").items():
        assert b"tok/s" not in data and b"left 0:" not in data, path


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = Runs(Path(sys.argv[1]) / "bezel", folder, max_steps=6)
        runs.flags["base-model"] = copy(runs.flags["base-model"], folder / "model")
        check_changed_inputs(runs)
        check_diverged(runs)
        check_memory(runs)
        check_nobody_reads(runs)


if __name__ == "__main__":
    main()
