"""Bezel with and without one busy process beside it, in turn: a step of text on the checkpoint of `make bench`, and eight steps of
the demo's capitals.

    .venv/bin/python3 benchmarks/shared_machine.py                       # as the command runs
    .venv/bin/python3 benchmarks/shared_machine.py --waits 1000,300000   # beside other limits of spinning; 300000 is libgomp's own

A wait is what an OpenMP thread does until its next work: `own` leaves it to the command, `passive` sleeps at once, a number is
GOMP_SPINCOUNT. The neighbor keeps one core busy. Medians of the rounds; of a run, the median of its steps after the first
(text), or the time of its training loop (capitals).
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]

import bench_inputs  # noqa: E402
import bench_page  # noqa: E402

AIMS = {"text": 2.0, "capitals": 2.2}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder of the checkpoint and its inputs")
    p.add_argument("--model", type=Path, help="the checkpoint, if it is elsewhere than in --work")
    p.add_argument("--waits", default="own", help="comma separated: own, passive, or numbers")
    p.add_argument("--works", default=",".join(AIMS), help="comma separated: " + ", ".join(AIMS))
    p.add_argument("--rounds", default=3, type=int)
    p.add_argument("--steps", default=4, type=int, help="of text; the first is left out")
    options = p.parse_args()
    options.model = options.model or options.work / "e2b10"
    return options


def environment(wait):
    """Without the settings of whoever calls this."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    if wait == "passive":
        return own | {"OMP_WAIT_POLICY": "passive"}
    return own if wait == "own" else own | {"GOMP_SPINCOUNT": wait}


def run(command, wait):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=ROOT, env=environment(wait))
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def text(options, wait):
    inputs = bench_inputs.file(options.work, task="text")
    command = [options.bezel, "bench", "--model", options.model, "--inputs", inputs, "--steps", options.steps, "--json"]
    return statistics.median(json.loads(run(command, wait))["step_s"][1:])


def capitals(options, wait):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "adapter"
        run([options.bezel, "train", "demo/capitals.yaml", "--max-steps", 8, "--eval-file", "", "--sample-predictions", 0, "--output-dir", out, "--quiet"], wait)
        history = json.loads((out / "trainer_state.json").read_text())["log_history"]
        return next(entry["train_runtime"] for entry in history if "train_runtime" in entry)


@contextlib.contextmanager
def neighbor():
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(options, work, waits):
    """{wait: (quiet, busy)}, medians of rounds."""
    once = {"text": text, "capitals": capitals}[work]
    found = {wait: ([], []) for wait in waits}
    for _ in range(options.rounds):
        for wait, (quiet, busy) in found.items():
            quiet.append(once(options, wait))
            with neighbor():
                busy.append(once(options, wait))
    return {wait: tuple(map(statistics.median, times)) for wait, times in found.items()}


def main():
    options = arguments()
    print(f"{bench_page.machine()}; medians of {options.rounds} rounds\n")
    print("| work | wait | alone | beside a busy process | times |\n|---|---|---|---|---|")
    for work in options.works.split(","):
        for wait, (quiet, busy) in measure(options, work, options.waits.split(",")).items():
            aim = AIMS[work] if wait == "own" else None
            print(f"| {work} | {wait} | {quiet:.2f} s | {busy:.2f} s | {bench_page.aimed(busy / quiet, aim, at_least=False)} |", flush=True)


if __name__ == "__main__":
    main()
