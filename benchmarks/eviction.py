"""What each piece of eviction saves at the peak of a training step, and what it costs in time.

    .venv/bin/python3 benchmarks/eviction.py                 # text, image and audio, three rounds in turn
    .venv/bin/python3 benchmarks/eviction.py --works text --rounds 1

Runs `bezel bench --evict` on the checkpoint of `make bench` with all pieces, with none, and with all but one: what a piece saves is
the peak without it less the peak with all, and what it costs is the step with all less the step without it. Figures are kept in
results.json in --work, and the section "Eviction" of docs/BENCHMARKS.md is written from them.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]

import bench_inputs  # noqa: E402
import bench_page  # noqa: E402

TOWERS = {"text": "language", "image": "language,vision", "audio": "language,audio"}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder of the checkpoint, its inputs and results.json")
    p.add_argument("--model", type=Path, help="the checkpoint, if it is elsewhere than in --work")
    p.add_argument("--works", default=",".join(TOWERS), help="comma separated: " + ", ".join(TOWERS))
    p.add_argument("--frozen-towers", action="store_true", help="adapters in the language model alone, so that no backward pass reads a tower")
    p.add_argument("--rounds", default=3, type=int)
    p.add_argument("--steps", default=4, type=int, help="the first is left out")
    p.add_argument("--output", default=ROOT / "docs" / "BENCHMARKS.md", type=Path)
    options = p.parse_args()
    options.model = options.model or options.work / "e2b10"
    return options


def choices(work):
    """{name: pieces that are evicted}"""
    pieces = ["decoder", "head"] if work == "text" else ["encoders", "decoder", "head"]
    return {"all": pieces, "none": ["none"], **{piece: [other for other in pieces if other != piece] for piece in pieces}}


def step(options, work, evicted):
    inputs = bench_inputs.file(options.work, task=work)
    towers = "language" if options.frozen_towers else TOWERS[work]
    command = [options.bezel, "bench", "--model", options.model, "--inputs", inputs, "--lora-towers", towers, "--evict", ",".join(evicted), "--steps", options.steps, "--json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {done.returncode}\n{done.stderr}")
    out = json.loads(done.stdout)
    return dict(step_s=statistics.median(out["step_s"][1:]), bytes=out["peak_bytes"])


def measure(options, work):
    found = {name: [] for name in choices(work)}
    for _ in range(options.rounds):
        for name, evicted in choices(work).items():
            found[name].append(step(options, work, evicted))
    return {name: {key: statistics.median(run[key] for run in runs) for key in ("step_s", "bytes")} for name, runs in found.items()}


def main():
    options = arguments()
    store = options.work / "results.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    eviction = results.setdefault("eviction", {})
    for work in options.works.split(","):
        name = work + (", tower frozen" if options.frozen_towers else "")
        eviction[name] = measure(options, work) | dict(rounds=options.rounds, day=time.strftime("%Y-%m-%d"), machine=bench_page.machine())
        store.write_text(json.dumps(results, indent=1))
        print("\n".join(bench_page.eviction_lines(name, eviction[name])), flush=True)
    bench_page.replace_section(options.output, bench_page.eviction(results))


if __name__ == "__main__":
    main()
