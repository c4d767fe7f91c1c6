"""Bezel beside transformers + PEFT: the same tensors, targets, rank, dtype and threads, in turn (A B A B), in one run.

    make bench                          # all rows that this machine can do
    .venv/bin/python3 benchmarks/vs_transformers.py --rows text,image --rounds 2

Two peers: `stock`, as the documentation shows, and `tuned`, as an expert runs it (tools/hf_peft_bench.py says how). Prints
one line a row with the ratios of the medians and writes docs/BENCHMARKS.md. The checkpoint has E2B's geometry and random
weights, cut to ten text layers (tools/make_bench_model.py), and is made in --work if it is not there.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# row: arguments that make the inputs and run the peer, arguments of `bezel bench`, [tokens/s, memory, start] wanted of tuned
ROWS = {
    "text": ([], [], (1.6, 0.65, 0.1)),
    "image": (["--task", "image"], ["--lora-towers", "language,vision"], (2.0, 0.45, 0.1)),
    "audio": (["--task", "audio"], ["--lora-towers", "language,audio"], (1.6, 0.6, 0.1)),
    "text2048": (["--tokens", "2048", "--label-tokens", "512"], [], (1.7, 0.45, None)),
    "nf4": (["--nf4"], ["--storage", "nf4"], (1.6, None, None)),
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder for the checkpoint and the inputs")
    p.add_argument("--rows", default=",".join(ROWS), help="comma separated: " + ", ".join(ROWS))
    p.add_argument("--rounds", default=2, type=int, help="times that each engine runs a row")
    p.add_argument("--steps", default=4, type=int, help="steps of a run; the first is left out of medians")
    p.add_argument("--stock", action="store_true", help="run the stock peer too")
    p.add_argument("--output", default=ROOT / "docs" / "BENCHMARKS.md", type=Path)
    return p.parse_args()


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip().splitlines()


def peer(options, model, given, *extra):
    out = json.loads(run([sys.executable, ROOT / "tools" / "hf_peft_bench.py", model, *given, "--steps", options.steps, *extra])[-1])
    return dict(tokens_per_s=out["tokens_per_s"], bytes=out["peak_rss_gb"] * 2**30, start_s=out["import_and_load_s"], loss=out["losses"][0])


def ours(options, model, inputs, given):
    out = json.loads(run([options.bezel, "bench", "--model", model, "--inputs", inputs, "--steps", options.steps, "--json", *given])[-1])
    return dict(tokens_per_s=out["tokens_per_s"], bytes=out["peak_bytes"], start_s=out["start_s"], loss=out["losses"][0])


def medians(results):
    return {key: statistics.median(r[key] for r in results) for key in results[0]}


def product_rate():
    """GFLOP/s of a bfloat16 product of the size that a step is made of, in this run."""
    import time

    import torch

    x, w = torch.randn(512, 1536).bfloat16(), torch.randn(6144, 1536).bfloat16()
    times = []
    for _ in range(30):
        begin = time.perf_counter()
        x @ w.T
        times.append(time.perf_counter() - begin)
    return 2 * 512 * 1536 * 6144 / statistics.median(times) / 1e9


def measure(options, name, model):
    to_peer, to_us, wanted = ROWS[name]
    inputs = options.work / f"{name}.safetensors"
    if not inputs.exists():
        run([sys.executable, ROOT / "tools" / "hf_peft_bench.py", model, *to_peer, "--only-inputs", "--save-inputs", inputs])
    found = {"bezel": [], "tuned": [], "stock": []}
    for _ in range(options.rounds):
        found["bezel"].append(ours(options, model, inputs, to_us))
        found["tuned"].append(peer(options, model, to_peer, "--tuned"))
        if options.stock:
            found["stock"].append(peer(options, model, to_peer))
    result = {engine: medians(runs) for engine, runs in found.items() if runs}
    if abs(result["bezel"]["loss"] - result["tuned"]["loss"]) > 0.25:
        raise SystemExit(f"{name}: first losses {result['bezel']['loss']} and {result['tuned']['loss']} are not of the same work")
    return result, wanted


def line(name, result, wanted):
    b, t = result["bezel"], result["tuned"]
    ratios = (b["tokens_per_s"] / t["tokens_per_s"], b["bytes"] / t["bytes"], b["start_s"] / t["start_s"])
    cells = [f"{r:.2f}x" + ("" if w is None else f" ({'>=' if i == 0 else '<='} {w}{'' if (r >= w if i == 0 else r <= w) else ', missed'})")
             for i, (r, w) in enumerate(zip(ratios, wanted))]
    gib = lambda r: f"{r['tokens_per_s']:.0f} tokens/s, {r['bytes'] / 2**30:.2f} GiB, {r['start_s']:.1f} s"
    stock = gib(result["stock"]) if "stock" in result else "not run"
    return f"| {name} | {gib(b)} | {gib(t)} | {stock} | {cells[0]} | {cells[1]} | {cells[2]} |"


def machine():
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    flags = next((l for l in open("/proc/cpuinfo") if l.startswith("flags")), "")
    has = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    return f"{cpu}, {os.cpu_count()} cores, {', '.join(has)}"


def main():
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    model = options.work / "e2b10"
    if not (model / "config.json").exists():
        run([sys.executable, ROOT / "tools" / "make_bench_model.py", model, "--layers", "10"])
    rate = product_rate()
    lines = []
    for name in options.rows.split(","):
        result, wanted = measure(options, name, model)
        lines.append(line(name, result, wanted))
        print(lines[-1], flush=True)
    import peft
    import torch
    import transformers

    options.output.write_text(f"""# Benchmarks

Made by `make bench` (benchmarks/vs_transformers.py): training steps of LoRA of rank 16, batch 1, bfloat16, on a checkpoint with
E2B's geometry and random weights cut to ten text layers; 512 tokens of which the last 128 carry labels, unless the row says
otherwise. Engines ran in turn, {options.rounds} times each; medians over {options.steps - 1} steps after the first. In brackets what
is aimed at beside the tuned peer. Start: from the start of the process until the first forward begins.

Machine: {machine()}. torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}. A bfloat16 product of
512 x 1,536 by 1,536 x 6,144 ran at {rate:.0f} GFLOP/s in the same run.

| work | Bezel | tuned peer | stock peer | tokens/s | peak memory | start |
|---|---|---|---|---|---|---|
""" + "\n".join(lines) + f"""

Not measured: any GPU; machines with AVX2 only; labels scattered over the sequence; packed chats; 8,192 tokens{"".join("; " + row for row in ROWS if row not in options.rows.split(","))}.
""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
