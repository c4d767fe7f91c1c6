"""`mpirun bezel train`: 2, 3 and 4 processes against one with the same samples an update: gradients, evaluation, adapters, repeated
runs, and resuming with as many or another number of processes.

    processes.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from _runs import MODEL, PATIENCE_S, ROOT, Runs, copy

RESUME = "--resume-from-checkpoint=auto"
TIMES = {"tokens_per_second", "peak_memory_bytes", "eval_runtime", "train_runtime", "train_steps_per_second", "waited", "ranks"}
# One thread each, whatever this machine has; no attempt at sharing memory that containers refuse and mpirun then warns of.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                            "OMPI_MCA_rmaps_base_oversubscribe": "1",
                            "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMPI_MCA_hwloc_base_binding_policy": "none"}


def write_pairs(path, count=14):
    with open(path, "w") as file:
        for i in range(count):
            file.write(json.dumps({"prompt": f"Number {i}?", "chosen": " a cup of tea" + " and two" * (i % 3), "rejected": " in the rain" + " cats" * (i % 4)}) + "\n")


class Group(Runs):
    """Runs in several processes."""

    def __init__(self, bezel, folder, **flags):
        super().__init__(bezel, folder, **{"threads": 1, "save_steps": 1, "save_total_limit": 0, "logging_steps": 1, "report_to": "jsonl",
                                           "packing": "false", "micro_batch_size": 1, "gradient_accumulation_steps": 4, "eval_steps": 6,
                                           "learning_rate": 2e-3, **flags})
        del self.flags["threads"]
        self.ranks, self.environment = 1, ENVIRONMENT

    def command(self, out, *extra, **flags):
        line = super().command(out, *extra, **flags)
        return line if self.ranks == 1 else ["mpirun", "-n", str(self.ranks), *line]

    def start(self, out, *extra, **flags):
        return subprocess.Popen(self.command(out, *extra, **flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.environment)

    def of(self, ranks):
        """The same runs with so many processes, each with its share of four micro-batches."""
        other = Group.__new__(Group)
        other.__dict__ = {**self.__dict__, "ranks": ranks, "flags": dict(self.flags)}
        del other.flags["gradient-accumulation-steps"]
        if ranks == 3:
            other.flags["global-batch-size"] = 4 * int(self.flags["micro-batch-size"])
        else:
            other.flags["gradient-accumulation-steps"] = 4 // ranks
        return other

    def metrics(self, out):
        rows = [json.loads(line) for line in (self.folder / out / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]

    def tensors(self, out, step, name, prefix):
        tensors = load_file(self.folder / out / f"checkpoint-{step}" / f"{name}.safetensors")
        return {key: value for key, value in tensors.items() if key.startswith(prefix)}


def norm(tensors):
    return math.sqrt(sum(value.double().square().sum().item() for value in tensors))


def distance(a, b):
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    return norm(a[key].double() - b[key].double() for key in a)


def gradient_error(runs, out, wanted):
    """Of the first update: AdamW's first moments are then a tenth of the gradients, which nothing has clipped."""
    got, right = (runs.tensors(name, 1, "optimizer", "exp_avg.") for name in (out, wanted))
    return distance(got, right) / norm(right.values())


def adapter_error(runs, out, wanted):
    """After the last update, relative to what the updates but the first changed."""
    got, right, first = (runs.tensors(name, step, "adapter_model", "") for name, step in ((out, 12), (wanted, 12), (wanted, 1)))
    return distance(got, right) / distance(right, first)


def check_parity(runs, name, counts):
    runs.run(f"{name}-1", max_grad_norm=0)
    for ranks in counts:
        out = f"{name}-{ranks}"
        runs.of(ranks).run(out, max_grad_norm=0)
        gradients, adapters = gradient_error(runs, out, f"{name}-1"), adapter_error(runs, out, f"{name}-1")
        losses = [abs(a.get("loss", a.get("eval_loss")) / b.get("loss", b.get("eval_loss")) - 1) for a, b in zip(runs.metrics(out), runs.metrics(f"{name}-1"), strict=True)]
        print(f"{name}, {ranks} processes: gradients {gradients:.1e}, adapters {adapters:.1e}, losses {max(losses):.1e}", flush=True)
        assert gradients <= 1e-6 and adapters <= 1e-2 and max(losses) <= 1e-3, (name, ranks)
        # The first step comes before any rounding of an update: each loss is computed alike, and added in the same order.
        assert losses[0] == 0, (name, ranks, losses)
        state = json.loads((runs.folder / out / "checkpoint-12" / "training_state.json").read_text())
        assert state["facts"]["machine"]["ranks"] == str(ranks), state["facts"]["machine"]


def check_control(runs):
    """Other masks give other gradients: what the parity would not show if dropout were off."""
    runs.run("other-masks", max_grad_norm=0, seed=43, shuffle="false", max_steps=1, save_steps=1)
    runs.run("same-masks", max_grad_norm=0, seed=42, shuffle="false", max_steps=1, save_steps=1)
    runs.run("no-masks", max_grad_norm=0, seed=42, shuffle="false", max_steps=1, save_steps=1, lora_dropout=0)
    assert gradient_error(runs, "no-masks", "same-masks") > 1e-2


def check_repeats(runs, ranks=3):
    """With as many processes: the same bytes, metrics and optimizer."""
    group = runs.of(ranks)
    group.run("again")
    group.run("again-2")
    for name in ("adapter_model.safetensors", "optimizer.safetensors"):
        a, b = ((runs.folder / out / "checkpoint-12" / name).read_bytes() for out in ("again", "again-2"))
        assert a == b, name
    assert runs.metrics("again") == runs.metrics("again-2")


def ranks_of(process):
    """Process ids of the ranks under an mpirun, by rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "stat").read_text().rsplit(")", 1)[1].split()[1] != str(process.pid):
                continue
            environment = dict(item.split("=", 1) for item in (path / "environ").read_text().split("\0") if "=" in item)
        except (OSError, UnicodeDecodeError):
            continue
        if "OMPI_COMM_WORLD_RANK" in environment:
            found[int(environment["OMPI_COMM_WORLD_RANK"])] = int(path.name)
    return found


def check_resume(runs):
    """A rank that is killed ends the run; it goes on with as many processes to the same bytes, and with others to the same samples."""
    four = runs.of(4)
    four.run("whole-4")
    wanted = (runs.folder / "whole-4" / "adapter_model.safetensors").read_bytes()
    line = f"step {random.randint(3, 8)}/12"
    code, text = four.run_until("killed", line, lambda process: os.kill(ranks_of(process)[random.randint(0, 3)], signal.SIGKILL))
    assert code not in (0, None), (code, text)
    for ranks in (4, 2, 3, 1):
        out = f"killed-{ranks}"
        copy(runs.folder / "killed", runs.folder / out)
        flags = {"resume-from-checkpoint": "auto"}
        text = runs.of(ranks).run(out, **flags)
        assert "resumed after step" in text, text
        if ranks == 4:
            assert (runs.folder / out / "adapter_model.safetensors").read_bytes() == wanted
            assert runs.metrics(out) == runs.metrics("whole-4")
        assert adapter_error(runs, out, "whole-4") <= 1e-2, ranks
        losses = [abs(a.get("loss", a.get("eval_loss")) / b.get("loss", b.get("eval_loss")) - 1)
                  for a, b in zip(runs.metrics(out), runs.metrics("whole-4"), strict=True)]
        assert max(losses) <= 1e-3, (ranks, losses)
    print(f"resume after {line}: ok", flush=True)


def check_signal(runs):
    """A signal to mpirun leaves a checkpoint, SIGUSR1 the adapter too, and the run goes on to the same bytes."""
    two = runs.of(2)
    flags = {"save_steps": 0, "max_steps": 120}  # mpirun passes signals on after a second
    two.run("long-2", **flags)
    wanted = (runs.folder / "long-2" / "adapter_model.safetensors").read_bytes()
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        out = f"stopped-{int(number)}"
        code, text = two.run_until(out, "step 3/120", lambda process: process.send_signal(number), **flags)
        assert code != 0 and runs.checkpoints(out), (code, text)
        if number == signal.SIGUSR1:
            assert code == 128 + number and (runs.folder / out / "adapter_model.safetensors").exists(), (code, text)
        two.run(out, RESUME, **flags)
        assert (runs.folder / out / "adapter_model.safetensors").read_bytes() == wanted


def failing(runs, ranks, expect, *extra, command=None, **flags):
    """What a run that fails says of itself: one line, whatever mpirun adds."""
    group = runs.of(ranks)
    line = group.command("failing", *extra, **flags) if command is None else command(group)
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_S, env=runs.environment)
    own = [text for text in done.stderr.splitlines() if text.startswith("bezel: ")]
    assert done.returncode == expect and len(own) == 1, (done.returncode, own, done.stderr)
    return own[0]


def other_model(folder):
    """The checkpoint with one weight of one matrix changed."""
    shutil.copytree(MODEL, folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if name.endswith("q_proj.weight"))
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] += 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def on_one_rank(rank, flag, value, out="failing", *extra, **flags):
    """A command in which one rank has another value of a flag."""
    def command(group):
        usual = group.command(out, *extra, **flags)[3:]
        other = [f"--{flag}={value}" if item.startswith(f"--{flag}=") else item for item in usual]
        choose = f'if [ "$OMPI_COMM_WORLD_RANK" = {rank} ]; then shift {len(usual)}; exec "$@"; fi; exec "${{@:1:{len(usual)}}}"'
        return ["mpirun", "-n", str(group.ranks), "bash", "-c", choose, "bash", *usual, *other]
    return command


def check_faults(runs, bezel):
    host = os.uname().nodename
    text = failing(runs, 3, 2, "--lora-rr=3")
    assert "lora-rr" in text or "lora_rr" in text, text
    shutil.copy(runs.folder / "train.jsonl", runs.folder / "other.jsonl")
    with open(runs.folder / "other.jsonl", "a") as file:
        file.write(json.dumps({"messages": [{"role": "user", "content": "One more?"}, {"role": "assistant", "content": "Yes."}]}) + "\n")
    text = failing(runs, 3, 3, command=on_one_rank(1, "train-file", runs.folder / "other.jsonl"))
    assert f"rank 1 on host {host}" in text and "train_file" in text, text
    text = failing(runs, 2, 3, command=on_one_rank(1, "learning-rate", 0.5))
    assert f"rank 1 on host {host}" in text and "learning_rate" in text, text
    text = failing(runs, 4, 2, global_batch_size=3)
    assert "global_batch_size" in text, text
    # Other subcommands would do their work once for each process.
    done = subprocess.run(["mpirun", "-n", "2", bezel / "bezel", "inspect", MODEL], capture_output=True, text=True, env=runs.environment)
    assert done.returncode == 2 and "only train and doctor" in done.stderr, done
    # The command without its library.
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(shutil.copy(bezel / "bezel", folder))
        done = subprocess.run(["mpirun", "-n", "2", alone, *runs.of(2).command("failing")[4:]], capture_output=True, text=True, env=runs.environment)
        assert done.returncode == 2 and "libbezel_mpi.so" in done.stderr and "BEZEL_MPI=ON" in done.stderr, done
        done = subprocess.run([alone, "--version"], capture_output=True, text=True)
        assert done.returncode == 0, done


def png(width, height, rows):
    """A gray image of which only some rows are there: what is missing shows when it is decoded."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows * (width + 1)))) + chunk(b"IEND", b"")


def check_bad_sample(runs):
    """A file that one rank cannot read ends all, after what was learned until then is saved."""
    host = os.uname().nodename
    folder = runs.folder / "images"
    folder.mkdir()
    with open(folder / "train.jsonl", "w") as file:
        for i in range(12):
            (folder / f"{i}.png").write_bytes(png(48, 32, 32 if i != 9 else 20))
            parts = [{"type": "image", "path": f"{i}.png"}, {"type": "text", "text": f"Number {i}?"}]
            file.write(json.dumps({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": f"{i} coins."}]}) + "\n")
    # Unshuffled, sample 9 is in the third update, and of rank 1.
    text = failing(runs, 2, 3, train_file=folder / "train.jsonl", shuffle="false", val_set_size=0, max_soft_tokens=70, max_seq_length=256)
    assert f"rank 1 on host {host}" in text and "9.png" in text, text
    assert runs.checkpoints("failing")[-1] == 2 and (runs.folder / "failing" / "adapter_model.safetensors").exists()


def check_doctor(runs, bezel):
    done = subprocess.run(["mpirun", "-n", "3", bezel / "bezel", "doctor", "--json"], capture_output=True, text=True, timeout=PATIENCE_S, env=runs.environment)
    assert done.returncode == 0, done
    report = json.loads(done.stdout)
    ranks = report["processes"]["ranks"]
    assert report["good"] and len(ranks) == 3 and all(rank["host"] == os.uname().nodename and rank["threads"] == 1 for rank in ranks), ranks
    assert all(row["seconds"] > 0 for row in report["processes"]["sums"]) and "MPI" in report["processes"]["mpi"], report["processes"]


def check_stopped_rank(runs, rank):
    """A process that does not answer is named, and ends the run."""
    group = runs.of(3)
    group.environment = {**ENVIRONMENT, "BEZEL_HEARTBEAT_TIMEOUT": "5"}
    begin = time.monotonic()
    code, text = group.run_until(f"hung-{rank}", "step 2/200", lambda process: os.kill(ranks_of(process)[rank], signal.SIGSTOP), max_steps=200, save_steps=0)
    assert code == 4 and f"rank {rank} on host {os.uname().nodename} has not answered" in text, (code, text)
    assert time.monotonic() - begin < 60


def main():
    bezel = Path(sys.argv[1])
    if shutil.which("mpirun") is None or not (bezel / "libbezel_mpi.so").exists():
        print("skipped: no mpirun, or bezel was built without MPI")
        return 77
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        def runs(name, **flags):
            folder = Path(temporary) / name
            folder.mkdir()
            return Group(bezel / "bezel", folder, **flags)
        text = runs("text")
        check_parity(text, "text", (2, 3, 4))
        check_control(text)
        check_repeats(text)
        check_resume(text)
        check_signal(text)
        check_faults(text, bezel)
        check_bad_sample(text)
        check_doctor(text, bezel)
        for rank in (2, 0):
            check_stopped_rank(text, rank)
        check_parity(runs("packed", packing="true"), "packed", (2, 3))
        check_parity(runs("nf4", storage="nf4"), "nf4", (2,))
        media = {"train_file": ROOT / "demo" / "train.jsonl", "media_root": ROOT / "demo" / "assets", "lora_towers": "language,vision,audio,projectors",
                 "target_modules": "all-linear", "max_seq_length": 512, "learning_rate": 3e-4}
        check_parity(runs("media", **media), "media", (2, 4))
        check_parity(runs("media-packed", **media, packing="true", max_soft_tokens=70), "media-packed", (3,))
        pairs = runs("dpo", objective="dpo", micro_batch_size=2)
        write_pairs(pairs.folder / "train.jsonl")
        check_parity(pairs, "dpo", (2, 3))
    return 0


if __name__ == "__main__":
    sys.exit(main())
