"""`mpirun bezel train` where something fails: ranks that are killed at random points, stopped for a while or for good, a full disk,
damaged and other files of one rank. Each run ends as docs/CLUSTER.md says, and goes on from its checkpoint without losing a sample
or learning from one twice.

    process_faults.py BEZEL_FOLDER [TEST_FOLDER] [--kills 3] [--stop SECONDS] [--seed N]

`make soak` kills 30 times and stops a rank for two minutes.
"""
import argparse
import collections
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from safetensors.torch import load_file

from _runs import MODEL, PATIENCE_S, check_manifest, copy
from processes import ENVIRONMENT, RESUME, Group, failing, on_one_rank, other_model, png, ranks_of

HOST = os.uname().nodename
SAMPLES = 13


def sample_rows(out):
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


def check_samples(out, updates, each=4):
    """By the log of sample ids: each update once and in order, each epoch every sample once, whoever learned from it."""
    rows = sample_rows(out)
    assert [row["step"] for row in rows] == list(range(1, updates + 1)), [row["step"] for row in rows]
    per_epoch = -(-SAMPLES // each)
    for begin in range(0, updates, per_epoch):
        epoch = [name for row in rows[begin:begin + per_epoch] for rank in row["samples"] for name in rank]
        counts = collections.Counter(epoch)
        assert set(counts.values()) == {1}, (begin, counts)
        if begin + per_epoch <= updates:
            assert len(counts) == SAMPLES, (begin, counts)
    return rows


def union(row):
    return sorted(name for rank in row["samples"] for name in rank)


class Killer:
    """Kills a rank of a run, a random time after the run has begun."""

    def __init__(self, process, ranks, chance, most_s):
        self.process, self.rank, self.hit = process, chance.randrange(ranks), False
        self.timer = threading.Timer(chance.uniform(0, most_s), self.kill)
        self.timer.start()

    def kill(self):
        while self.process.poll() is None and not self.hit:
            found = ranks_of(self.process)
            if self.rank in found:
                os.kill(found[self.rank], signal.SIGKILL)
                self.hit = True
            else:  # mpirun has not started it yet
                time.sleep(0.05)


def timed_run(runs, out, **flags):
    """Seconds until the first update is done, and until the end."""
    begin, first = time.monotonic(), None
    process = runs.start(out, **flags)
    for line in process.stderr:
        if line.startswith("step 1/"):
            first = time.monotonic() - begin
    assert process.wait(PATIENCE_S) == 0
    return first, time.monotonic() - begin


def check_kills(runs, kills, chance):
    """Ranks killed at random points, each time going on with another number of them; the last run is let end."""
    updates = 12 + 2 * kills
    flags = {"max_steps": updates, "save_steps": 2, "save_total_limit": 2, "log_samples": "true", "eval_steps": 1000, "val_set_size": 0}
    start_s, whole_s = timed_run(runs.of(4), "kills-whole", **flags)
    wanted = check_samples(runs.folder / "kills-whole", updates)
    hits, sizes = 0, []
    before = {}
    while True:
        # From 4 to 2, from 4 to 3, and on.
        ranks = (4, 2, 4, 3)[len(sizes) % 4]
        sizes.append(ranks)
        group = runs.of(ranks)
        process = group.start("kills", RESUME, **flags)
        killer = Killer(process, ranks, chance, start_s + 1.5 * (whole_s - start_s) / (kills + 1)) if hits < kills else None
        text = process.communicate(timeout=PATIENCE_S)[1]
        if killer:
            killer.timer.cancel()
            hits += killer.hit
        log = runs.folder / "kills" / "samples.jsonl"
        for row in sample_rows(log.parent) if log.exists() else []:
            # An update that is done again, perhaps by other ranks, has the samples that it had.
            assert before.setdefault(row["step"], union(row)) == union(row), row
        if process.returncode == 0 and killer is None:
            break
        if process.returncode == 0:
            # It ended before it was killed: the kills that are left hit another run.
            shutil.rmtree(runs.folder / "kills")
            before.clear()
            continue
        assert killer and killer.hit, (process.returncode, text)
    rows = check_samples(runs.folder / "kills", updates)
    assert [union(row) for row in rows] == [union(row) for row in wanted]
    error = adapter_error_of(runs, "kills", "kills-whole", updates)
    print(f"{hits} kills, ranks {sizes}: {updates} updates with the same samples, adapters {error:.1e}", flush=True)
    assert error <= 1e-2, error


def adapter_error_of(runs, out, wanted, updates):
    """As adapter_error, relative to what training has changed since the fresh adapter: B begins as zeros."""
    got, right = (load_file(runs.folder / name / f"checkpoint-{updates}" / "adapter_model.safetensors") for name in (out, wanted))
    keys = [key for key in right if "lora_B" in key]
    change = sum(right[key].double().square().sum() for key in keys) ** 0.5
    return float(sum((got[key].double() - right[key].double()).square().sum() for key in keys) ** 0.5 / change)


def check_short_stop(runs):
    """A rank that is stopped for less than the patience goes on as if nothing had been."""
    two = runs.of(2)
    two.environment = {**ENVIRONMENT, "BEZEL_HEARTBEAT_TIMEOUT": "20"}
    two.run("unstopped")

    def stop_a_while(process):
        rank = ranks_of(process)[1]
        os.kill(rank, signal.SIGSTOP)
        threading.Timer(3, lambda: os.kill(rank, signal.SIGCONT)).start()

    process = two.start("stopped")
    for line in process.stderr:
        if "step 3/12" in line:
            stop_a_while(process)
            break
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, process.returncode
    assert runs.adapter("stopped") == runs.adapter("unstopped")
    print("a rank stopped for 3 s: the same bytes", flush=True)


def check_long_stop(runs, seconds):
    """Stopped for good, as far as others can tell; the default patience of 30 s."""
    three = runs.of(3)
    rank, stopped = 1, []

    def stop(process):
        stopped.append(ranks_of(process)[rank])
        os.kill(stopped[0], signal.SIGSTOP)
        stopped.append(time.monotonic())

    code, text = three.run_until("long-stop", "step 2/400", stop, max_steps=400, save_steps=1, save_total_limit=2)
    took = time.monotonic() - stopped[1]
    assert code == 4 and f"rank {rank} on host {HOST} has not answered" in text and took < 60, (code, took, text)
    time.sleep(max(0, seconds - took))
    # By then mpirun has killed it: a stopped process dies of SIGKILL.
    assert not Path(f"/proc/{stopped[0]}").exists()
    text = runs.of(2).run("long-stop", RESUME, max_steps=12, save_steps=1, save_total_limit=2, force_resume="true")
    assert "resumed after step" in text, text
    print(f"a rank stopped for {seconds} s: the run ended after {took:.0f} s", flush=True)


class SmallDisk:
    """A folder with room for a few checkpoints; None where nothing can be mounted."""

    def __init__(self, folder, bytes_):
        self.folder = folder
        folder.mkdir()
        self.mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={bytes_}", "none", folder], capture_output=True).returncode == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", self.folder], check=True)


def room_for(out, checkpoints):
    used = sum(-(-path.stat().st_size // 4096) * 4096 + 4096 for path in (out / "checkpoint-4").iterdir())
    return (checkpoints + 1) * (used + 8192) + used // 2


def check_full_disk(runs):
    """Checkpoints that fit stay whole, the run says what it lacks, and goes on elsewhere to the same bytes."""
    two = runs.of(2)
    two.run("roomy", save_total_limit=0)
    with SmallDisk(runs.folder / "small", room_for(runs.folder / "roomy", 5)) as disk:
        limit = {} if disk.mounted else {"preexec_fn": lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384)))}
        done = subprocess.run(two.command("small", save_total_limit=0), capture_output=True, text=True, timeout=PATIENCE_S, env=ENVIRONMENT, **limit)
        own = [line for line in done.stderr.splitlines() if line.startswith("bezel: ")]
        assert done.returncode == 4 and len(own) == 1 and f"rank 0 on host {HOST}" in own[0], (done.returncode, own, done.stderr)
        assert ("No space left" if disk.mounted else "File too large") in own[0], own
        if not disk.mounted:
            print("a full disk: tmpfs cannot be mounted here, files were limited instead", flush=True)
            return
        steps = runs.checkpoints("small")
        assert 2 <= len(steps) < 12, steps
        for step in steps:
            check_manifest(disk.folder / f"checkpoint-{step}")
        copy(disk.folder, runs.folder / "larger")
    text = two.run("larger", RESUME, save_total_limit=0)
    assert f"resumed after step {steps[-1]}" in text, text
    assert runs.adapter("larger") == runs.adapter("roomy")
    print(f"a full disk: {len(steps)} of 12 checkpoints fit, the same bytes elsewhere", flush=True)


def check_damaged_file(runs):
    """A file that one host has damaged: named with the host, and the run goes on once it is whole."""
    folder = runs.folder / "media"
    whole, broken = folder / "whole", folder / "broken"
    whole.mkdir(parents=True)
    with open(folder / "train.jsonl", "w") as file:
        for i in range(SAMPLES):
            (whole / f"{i}.png").write_bytes(png(48, 32, 32))
            parts = [{"type": "image", "path": f"{i}.png"}, {"type": "text", "text": f"Number {i}?"}]
            file.write(json.dumps({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": f"{i} coins."}]}) + "\n")
    copy(whole, broken)
    (broken / "9.png").write_bytes(png(48, 32, 20))
    flags = dict(train_file=folder / "train.jsonl", media_root=whole, shuffle="false", val_set_size=0, max_soft_tokens=70, max_seq_length=256,
                 save_steps=1, log_samples="true", max_steps=8)
    runs.of(2).run("images", **flags)
    # Media count as data: refused before the run begins.
    text = failing(runs, 2, 3, command=on_one_rank(1, "media-root", broken, **flags))
    assert f"rank 1 on host {HOST}" in text and "train_file" in text and not runs.checkpoints("failing"), text
    # Damaged on the way, in the second epoch; what has been learned until then is saved.
    (broken / "9.png").write_bytes(png(48, 32, 32))
    process = subprocess.Popen(on_one_rank(1, "media-root", broken, **flags)(runs.of(2)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    for line in process.stderr:
        if "step 1/" in line:
            (broken / "9.png").write_bytes(png(48, 32, 20))
    code = process.wait(PATIENCE_S)
    assert code == 3, code
    steps = runs.checkpoints("failing")
    runs.of(2).run("failing", RESUME, **flags)
    assert runs.adapter("failing") == runs.adapter("images")
    check_samples(runs.folder / "failing", 8)
    # Samples are read before the run begins.
    lines = (runs.folder / "train.jsonl").read_text().splitlines()
    (runs.folder / "damaged.jsonl").write_text("\n".join([*lines[:4], lines[4][:30], *lines[5:]]) + "\n")
    text = failing(runs, 2, 3, command=on_one_rank(1, "train-file", runs.folder / "damaged.jsonl"))
    assert f"rank 1 on host {HOST}" in text and "damaged.jsonl:5" in text, text
    print(f"a damaged file of one rank: named; damaged after {len(steps)} updates, and resumed to the same bytes", flush=True)


def check_other_checkpoints(runs):
    """Other weights, and other checkpoints to go on from."""
    other = other_model(runs.folder / "model")
    text = failing(runs, 3, 3, command=on_one_rank(2, "base-model", other))
    assert f"rank 2 on host {HOST}" in text and "model" in text, text
    flags = dict(max_steps=4, save_steps=2)
    runs.of(2).run("one", **flags)
    runs.of(2).run("two", **flags)  # its checkpoint-4 has another run's name
    shutil.rmtree(copy(runs.folder / "one", runs.folder / "older") / "checkpoint-4")
    wanted = runs.adapter("one")
    for found in ("older", "two"):
        text = failing(runs, 2, 4, command=on_one_rank(1, "output-dir", runs.folder / found, "one", RESUME, **flags))
        assert f"rank 1 on host {HOST}" in text and "checkpoint-4" in text, text
        assert runs.adapter("one") == wanted
    print("other checkpoints of one rank: refused", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bezel", type=Path)
    parser.add_argument("tests", nargs="?")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--stop", type=float, default=0, help="seconds that a rank is stopped for, with the default patience; 0: not")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    if shutil.which("mpirun") is None or not (options.bezel / "libbezel_mpi.so").exists():
        print("skipped: no mpirun, or bezel was built without MPI")
        return 77
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        runs = Group(options.bezel / "bezel", Path(folder))
        check_other_checkpoints(runs)
        check_damaged_file(runs)
        check_full_disk(runs)
        check_short_stop(runs)
        check_kills(runs, options.kills, random.Random(seed))
        if options.stop > 0:
            check_long_stop(runs, options.stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
