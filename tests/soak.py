"""A long run that is killed again and again: `make soak`, and with fewer steps the test soak.short.

    soak.py BEZEL_FOLDER [--steps 2000] [--every 20] [--kills 50] [--seed 0] [--max-growth 0.02]

One run is left alone; its memory and open files are watched. Another is killed (SIGKILL) `kills` times, a random time
after it has begun to step, and resumed each time. Both must end with the same bytes, metrics and history. Memory at the
end of the first must be within 2 % of that at a tenth of the way (step 200 of 2,000).
"""
import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "parity"))
from _runs import PATIENCE_S, Runs  # noqa: E402

RESUME = "--resume-from-checkpoint=auto"


def resident_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def step_of(line):
    return int(line.split()[1].split("/")[0]) if line.startswith("step ") and "held-out" not in line else None


def undisturbed(runs, steps):
    """Memory in KiB and open files at a tenth of the way and at the end, and the seconds it took."""
    watched = {"early": [], "late": []}
    start = time.monotonic()
    process = runs.start("whole")
    for line in process.stderr:
        step = step_of(line)
        place = step and {steps // 10 // 5 * 5: "early", (steps - 10) // 5 * 5: "late"}.get(step // 5 * 5)
        if place:
            watched[place].append((resident_kib(process.pid), len(list(Path(f"/proc/{process.pid}/fd").iterdir()))))
    assert process.wait(PATIENCE_S) == 0, process.returncode
    # The least of some looks: one may fall into a save, which opens files for a moment.
    early, late = ([min(column) for column in zip(*watched[place])] for place in ("early", "late"))
    return early, late, time.monotonic() - start


def killed_run(runs, kills, chance, session_s):
    """Starts and kills until `kills` kills have hit; then lets the run end. Returns how many steps were done twice."""
    hits, repeated, last = 0, 0, 0
    while True:
        process = runs.start("killed", RESUME)
        timer = None
        stepped = 0
        for line in process.stderr:
            step = step_of(line)
            if step is None:
                continue
            if timer is None:
                repeated += max(0, last - step + 1)
                if hits < kills:
                    timer = threading.Timer(chance.uniform(0, session_s), process.send_signal, [signal.SIGKILL])
                    timer.start()
                else:
                    timer = threading.Timer(0, lambda: None)
            stepped = last = step
        code = process.wait(PATIENCE_S)
        timer and timer.cancel()
        if code == 0:
            assert hits == kills, f"it ended after {hits} of {kills} kills: take more steps or shorter sessions"
            return repeated
        assert code == -signal.SIGKILL and stepped, (code, stepped)
        hits += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bezel", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-growth", type=float, default=0.02)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(options.bezel / "bezel", Path(name), max_steps=options.steps, save_steps=options.every, logging_steps=1,
                    eval_steps=options.steps // 4, learning_rate=0.001)
        (early_kib, early_fds), (late_kib, late_fds), seconds = undisturbed(runs, options.steps)
        growth = late_kib / early_kib - 1
        print(f"{options.steps} steps, a checkpoint every {options.every}: {early_kib / 1024:.1f} MiB at step {options.steps // 10}, "
              f"{late_kib / 1024:.1f} MiB at the end ({100 * growth:+.2f} %); {early_fds} and {late_fds} open files")
        assert abs(growth) <= options.max_growth, f"memory grew by {100 * growth:.2f} %"
        assert late_fds == early_fds, "open files leak"
        # A session saves more than once on average, so that the run moves on.
        repeated = killed_run(runs, options.kills, random.Random(options.seed), 1.5 * seconds / (options.kills + 1))
        runs.same("killed", runs.results("whole"))
        print(f"killed {options.kills} times, {repeated} steps done again: the same adapter, metrics and history")


if __name__ == "__main__":
    main()
