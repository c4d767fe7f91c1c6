"""Gemma 3 270M from its GGUF file: the demo's training beside transformers + PEFT, and decoding beside llama.cpp, in one run.

    .venv/bin/python3 benchmarks/gemma3_270m.py [--bezel build/bezel] [--rounds 1] [--work build/bench]

Its figures go into --work/results.json too, from where `make bench` takes them into docs/BENCHMARKS.md. Both learn the same 134 samples in the same order, batches of 8, three epochs, bfloat16, rank 16 on all seven projections, and
answer the 40 held-out questions then. Seconds are of the training loop, memory is the peak of the whole process.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / ".venv" / "models" / "gemma-3-270m-q4_k_m.gguf"
DATA = ROOT / "demo" / "capitals"


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder for results.json")
    p.add_argument("--rounds", default=1, type=int, help="times that each engine trains")
    p.add_argument("--tokens", default=128, type=int, help="tokens that are decoded")
    return p.parse_args()


def run(command, **kw):
    """Standard output of a command and the peak of its memory in bytes."""
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True, cwd=ROOT, **kw)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {process.returncode}\n{out}")
    return out, usage.ru_maxrss * 1024


def ours(options, tmp):
    out = tmp / "adapter"
    _, peak = run([options.bezel, "train", "demo/capitals.yaml", "--shuffle", "false", "--sample-predictions", "0", "--eval-file", "",
                   "--output-dir", out, "--quiet"])
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    seconds = next(entry["train_runtime"] for entry in history if "train_runtime" in entry)
    scores = json.loads(run([options.bezel, "evaluate", "--model", MODEL, "--data", DATA / "heldout.jsonl", "--adapter", out, "--generate",
                             "--max-new-tokens", "16", "--json"])[0])
    return dict(seconds=seconds, bytes=peak, right=round(40 * scores["adapter"]["exact_match"]), base=round(40 * scores["base"]["exact_match"]))


def theirs():
    script = [sys.executable, ROOT / "tools" / "hf_peft_capitals.py", MODEL, DATA / "train.jsonl"]
    out, peak = run(script)
    right = json.loads(run([*script, "--heldout", DATA / "heldout.jsonl"])[0].splitlines()[-1])["exact_matches"]
    return dict(seconds=json.loads(out.splitlines()[-1])["train_s"], bytes=peak, right=right)


def training(options):
    found = {"bezel": [], "transformers + PEFT": []}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(options.rounds):
            found["bezel"].append(ours(options, Path(name)))
            found["transformers + PEFT"].append(theirs())
            subprocess.run(["rm", "-rf", Path(name) / "adapter"], check=True)
    medians = {engine: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for engine, runs in found.items()}
    for engine, r in medians.items():
        print(f"{engine:20} {r['seconds']:6.1f} s training, {r['bytes'] / 2**30:5.2f} GiB, {r['right']:.0f} of 40 right")
    b, t = medians.values()
    print(f"base {b['base']:.0f} of 40 right; time {b['seconds'] / t['seconds']:.2f}x (<= 0.5), memory {b['bytes'] / t['bytes']:.2f}x (<= 0.4)")
    return dict(bezel=b, tuned=t)


def decoding(options):
    threads = os.cpu_count()
    bench = json.loads(run([options.bezel, "bench", "--model", MODEL, "--decode", options.tokens, "--json"])[0])
    request = dict(model=str(MODEL), prompts=[[2, *range(1000, 1032)]], tokens=options.tokens, threads=threads)
    done = subprocess.run(["node", ROOT / "tests" / "parity" / "_llama.mjs"], input=json.dumps(request), capture_output=True, text=True, check=True)
    ours, theirs = bench["decode"]["tokens_per_s"], json.loads(done.stdout)["tokens_per_s"]
    print(f"decoding, {threads} threads: Bezel {ours:.1f} tokens/s, llama.cpp {theirs:.1f}")
    return dict(threads=threads, bezel=ours, llama_cpp=theirs)


def main():
    options = arguments()
    if not DATA.exists():
        subprocess.run([sys.executable, ROOT / "demo" / "capitals.py"], check=True)
    found = dict(training=training(options), decoding=decoding(options), day=time.strftime("%Y-%m-%d"))
    results = options.work / "results.json"
    options.work.mkdir(parents=True, exist_ok=True)
    all_found = json.loads(results.read_text()) if results.exists() else {}
    results.write_text(json.dumps(all_found | {"gemma3_270m": found}))


if __name__ == "__main__":
    main()
