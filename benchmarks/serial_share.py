"""What keeps threads from making a step as many times as fast, three things apart: the serial share (time in which no OpenMP region runs,
so that one thread works at most), imbalance (what threads of a region wait for the slowest of it), and the slowdown of a core while the
other works (caches, memory, clock: as many processes of one thread as there are cores, beside one alone). From all three it predicts more cores.

    .venv/bin/python3 benchmarks/serial_share.py --bezel build/bezel --work build/bench [--works text,audio] [--rounds 3] [--places]

Regions are recorded by parallel_regions.c, which is compiled with cc and preloaded: libgomp is told apart from the program that way
without a change in either. A step of n threads is predicted as

    serial + (step of one thread - serial) * slowdown * (1 + imbalance) / n

where all three are those of this machine: of a machine with n cores the slowdown is another one, since it has other memory. What the
formula gives for the threads at hand is printed beside what was measured. --places lists the regions that serial time lies between.
--works samples takes four samples of 300 tokens in a row, an update each; of the whole model (--model, of make_bench_model.py --layers 35)
that gives the minutes for 1,000 samples.
"""
import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]

import bench_inputs  # noqa: E402
import bench_page  # noqa: E402

TOWERS = {"text": "language", "image": "language,vision", "audio": "language,audio", "text2048": "language", "samples": "language"}
INPUTS = {"text2048": dict(task="text", tokens=2048, label_tokens=512)}
FLAGS = {"samples": ("--packing", "--max-seq-length", 1200)}  # four samples of 300 tokens in a row
PREDICTED = (8, 16, 64)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder of the checkpoint, its inputs and results.json")
    p.add_argument("--model", type=Path, help="the checkpoint, if it is elsewhere than in --work")
    p.add_argument("--works", default="text,audio", help="comma separated: " + ", ".join(TOWERS))
    p.add_argument("--rounds", default=3, type=int)
    p.add_argument("--steps", default=4, type=int, help="of a run; the first is left out")
    p.add_argument("--places", action="store_true", help="list where serial time lies")
    p.add_argument("--output", type=Path, help="the page to write the section of; none: only prints")
    options = p.parse_args()
    options.model = options.model or options.work / "e2b10"
    return options


def recorder(options):
    """The library to preload."""
    out = options.work / "parallel_regions.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", out, ROOT / "benchmarks" / "parallel_regions.c", "-ldl"], check=True)
    return out


def start(options, work, threads, environment=None):
    inputs = bench_inputs.file(options.work, **INPUTS.get(work, dict(task=work)))
    command = [options.bezel, "bench", "--model", options.model, "--inputs", inputs, "--lora-towers", TOWERS[work], "--steps", options.steps, "--threads", threads, "--json",
               *FLAGS.get(work, ())]
    return subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})


def result(process):
    out, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(process.args)}\nexit {process.returncode}")
    return json.loads(out)


def step_s(run):
    return statistics.median(run["step_s"][1:])


def read_regions(path, run):
    """(begin, end, worked, threads, place) of the regions of all steps but the first, of the thread that makes steps, and the seconds of these
    steps."""
    rows = [line.split() for line in path.read_text().splitlines()]
    thread = collections.Counter(row[0] for row in rows).most_common(1)[0][0]
    begin = run["start_s"] + run["step_s"][0]
    end = run["start_s"] + sum(run["step_s"])
    regions = [(float(row[1]), float(row[2]), float(row[3]), int(row[4]), (row[5], row[6])) for row in rows if row[0] == thread]
    return sorted(r for r in regions if r[0] >= begin and r[1] <= end and r[3] > 1), begin, end


def split(options, work, threads):
    """Serial seconds of a step, and what the threads of regions wait as a share of their work."""
    path = options.work / "regions.txt"
    run = result(start(options, work, threads, dict(LD_PRELOAD=str(options.recorder), REGIONS_OUT=str(path))))
    regions, begin, end = read_regions(path, run)
    inside, worked = (sum(value) for value in zip(*((r[1] - r[0], r[2]) for r in regions)))
    if options.places:
        print_places(regions, begin, end, len(run["step_s"]) - 1)
    return dict(serial_s=(end - begin - inside) / (len(run["step_s"]) - 1), imbalance=threads * inside / worked - 1, step_s=step_s(run),
                regions=len(regions) / (len(run["step_s"]) - 1))


def names_of(file, offsets):
    """Functions at offsets of a file."""
    done = subprocess.run(["addr2line", "-f", "-C", "-e", file, *("0x" + o for o in offsets)], capture_output=True, text=True)
    return dict(zip(offsets, (line[:110] for line in done.stdout.splitlines()[::2])))


def print_places(regions, begin, end, steps):
    """Serial time by the regions before and behind it, and the time that threads wait by region."""
    serial, waited = collections.Counter(), collections.Counter()
    last_end, last = begin, None
    for first, until, worked, threads, place in regions:
        serial[last, place] += first - last_end
        waited[place] += until - first - worked / threads
        last_end, last = until, place
    serial[last, None] += end - last_end
    places = {place for pair in serial for place in pair if place} | set(waited)
    names = {}
    for file in {file for file, _ in places}:
        offsets = sorted(offset for other, offset in places if other == file)
        names |= {(file, offset): name for offset, name in names_of(file, offsets).items()}
    for (before, after), seconds in serial.most_common(25):
        print(f"  serial {1e3 * seconds / steps:7.2f} ms a step between {names.get(before, '-')} and {names.get(after, '-')}")
    for place, seconds in waited.most_common(12):
        print(f"  waits  {1e3 * seconds / steps:7.2f} ms a step in {names.get(place, '?')}")


def measure(options, work):
    threads = os.cpu_count()
    runs = collections.defaultdict(list)
    for _ in range(options.rounds):
        runs["alone"].append(step_s(result(start(options, work, 1))))
        runs["beside"].append(statistics.mean(step_s(result(p)) for p in [start(options, work, 1) for _ in range(threads)]))
        runs["all"].append(step_s(result(start(options, work, threads))))
        runs["split"].append(split(options, work, threads))
    median = {key: statistics.median(runs[key]) for key in ("alone", "beside", "all")}
    parts = {key: statistics.median(part[key] for part in runs["split"]) for key in runs["split"][0]}
    found = dict(threads=threads, one_s=median["alone"], all_s=median["all"], slowdown=median["beside"] / median["alone"], serial_s=parts["serial_s"],
                 imbalance=parts["imbalance"], regions=parts["regions"], recorded_s=parts["step_s"], rounds=options.rounds, day=time.strftime("%Y-%m-%d"),
                 machine=bench_page.machine())
    found["predicted_s"] = {n: predicted(found, n) for n in (threads, *PREDICTED)}
    return found


def predicted(found, n):
    return found["serial_s"] + (found["one_s"] - found["serial_s"]) * found["slowdown"] * (1 + found["imbalance"]) / n


def main():
    options = arguments()
    options.recorder = recorder(options)
    store = options.work / "results.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    kept = results.setdefault("serial_share", {})
    print(bench_page.machine())
    for work in options.works.split(","):
        name = work if options.model.name == "e2b10" else f"{work}, {options.model.name}"
        kept[name] = measure(options, work)
        store.write_text(json.dumps(results, indent=1))
        print(bench_page.serial_line(name, kept[name]), flush=True)
        if work == "samples":
            print(bench_page.minutes_text(kept[name]))
    if options.output:
        bench_page.replace_section(options.output, bench_page.serial_share(results))


if __name__ == "__main__":
    main()
