"""What several processes of one machine have in memory: one copy of a mapped checkpoint, and one of the matrices that are quantized
while loading, by the proportional set sizes of /proc.

    shared_pages.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from memory import RETURNS_FREED_MEMORY, write_model
from processes import ENVIRONMENT, ranks_of

RANKS = 3
CODES = "/memfd:bezel codes"


def sizes(pid, name):
    """(Rss, Pss) in bytes of the mappings of a process whose name has `name` in it."""
    found = {"Rss": 0, "Pss": 0}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = name in line
        elif inside and line.split(":")[0] in found:
            found[line.split(":")[0]] += int(line.split()[1]) << 10
    return found["Rss"], found["Pss"]


def rolled_up(pid):
    """Pss of a process by kind, in bytes."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    return {row[0].rstrip(":"): int(row[1]) << 10 for row in rows if row[0].startswith("Pss")}


class Look:
    """A run, seen once all ranks have made an update."""

    def __init__(self, bezel, folder, model, ranks, storage):
        out = folder / f"{storage}-{ranks}"
        command = [bezel / "bezel", "train", f"--base-model={model}", f"--train-file={folder / 'train.jsonl'}", f"--output-dir={out}", "--threads=1", "--max-steps=40",
                   f"--storage={storage}", f"--global-batch-size={RANKS}", "--micro-batch-size=1", "--lora-r=2", "--packing=false", "--sample-predictions=0",
                   "--save-steps=0", "--logging-steps=1", "--val-set-size=0", "--report-to=jsonl", "--dataloader-num-workers=0"]
        command = [str(part) for part in command]
        process = subprocess.Popen(["mpirun", "-n", str(ranks), *command] if ranks > 1 else command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                                   env=ENVIRONMENT | RETURNS_FREED_MEMORY)
        lines = []
        try:
            for line in process.stderr:
                lines.append(line)
                if line.startswith("step 2/"):
                    break
            assert lines and lines[-1].startswith("step 2/"), lines
            pids = list(ranks_of(process).values()) if ranks > 1 else [process.pid]
            assert len(pids) == ranks, pids
            for pid in pids:  # so that all are seen at one moment
                os.kill(pid, signal.SIGSTOP)
            self.codes = [sizes(pid, CODES) for pid in pids]
            self.file = [sizes(pid, "model.safetensors") for pid in pids]
            self.pss = [rolled_up(pid) for pid in pids]
        finally:
            for pid in ranks_of(process).values():
                os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait()
            process.stderr.close()
        shutil.rmtree(out, ignore_errors=True)

    def total(self, kind="Pss"):
        return sum(pss[kind] for pss in self.pss)


def code_bytes(mapped, storage):
    """Of matrices that take `mapped` bytes in bfloat16, about: a scale for each row of int8 is left out."""
    elements = mapped // 2
    blocks = elements // 64
    return {"nf4": elements // 2 + blocks + blocks // 256 * 4, "int8": elements}[storage]


def mib(value):
    return f"{value / (1 << 20):.0f} MiB"


def main():
    bezel = Path(sys.argv[1])
    if shutil.which("mpirun") is None or not (bezel / "libbezel_mpi.so").exists():
        print("skipped: no mpirun, or bezel was built without MPI")
        return 77
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mapped = write_model(folder / "model")
        with open(folder / "train.jsonl", "w") as file:
            for i in range(6):
                file.write(json.dumps({"prompt": f"Number {i}?", "completion": " a cup of tea"}) + "\n")
        for storage in ("dense", "nf4", "int8"):
            one, three = (Look(bezel, folder, folder / "model", ranks, storage) for ranks in (1, RANKS))
            print(f"{storage}: sum of Pss {mib(one.total())} in one process, {mib(three.total())} in {RANKS}; anonymous {mib(one.total('Pss_Anon'))}, "
                  f"{mib(three.total('Pss_Anon'))}; checkpoint's pages {mib(sum(rss for rss, _ in three.file))} mapped, {mib(sum(pss for _, pss in three.file))} there", flush=True)
            # Beside what they share, processes have what each needs for itself: everything of one that is no weight.
            weights = mapped if storage == "dense" else code_bytes(mapped, storage)
            if storage == "dense":
                # No process has a copy of its own, and of what several have mapped each counts its part alone.
                assert three.total("Pss_Anon") <= RANKS * one.total("Pss_Anon") + 0.25 * weights, (three.pss, one.pss)
                assert sum(pss for _, pss in three.file) <= 1.02 * (folder / "model" / "model.safetensors").stat().st_size, three.file
                continue
            rss, pss = (sum(column) for column in zip(*three.codes))
            print(f"  codes: {mib(weights)} expected; {mib(rss)} mapped by {RANKS} processes, {mib(pss)} in memory", flush=True)
            assert abs(pss / weights - 1) <= 0.03, (pss, weights)
            assert rss >= 0.95 * RANKS * weights, (rss, weights)
            assert not any(sum(one.codes, ())), one.codes
            own = one.total("Pss_Anon") - weights
            assert three.total("Pss_Anon") <= RANKS * own + 0.5 * weights, (three.pss, own, weights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
