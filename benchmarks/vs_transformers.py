"""Bezel beside transformers + PEFT: the same tensors, targets, rank, dtype and threads, in turn (A B A B), in one run.

    make bench                                                        # every row, two rounds: about two hours on two cores
    .venv/bin/python3 benchmarks/vs_transformers.py --quick           # few steps, one round: about 20 minutes
    .venv/bin/python3 benchmarks/vs_transformers.py --rows text,nf4   # some rows; the others stay as they were measured

Two peers: `stock`, as the documentation shows, and `tuned`, as an expert runs it (tools/hf_peft_bench.py says how), with explicit
masks or eager attention, whichever a first run finds faster. Each row's figures are kept in results.json in --work, so that rows
can be measured one at a time; docs/BENCHMARKS.md is written from all of them. The checkpoint has E2B's geometry and random
weights, cut to ten text layers (tools/make_bench_model.py), and is made in --work if it is not there.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]

import bench_inputs  # noqa: E402
import bench_page  # noqa: E402
from needed_flops import needed_flops  # noqa: E402

PEER = ROOT / "tools" / "hf_peft_bench.py"
AVX2 = dict(ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2", MKL_ENABLE_INSTRUCTIONS="AVX2")


@dataclass(frozen=True)
class Row:
    inputs: dict  # of bench_inputs.make
    to_peer: tuple = ()
    to_us: tuple = ()
    towers: tuple = ("language",)
    environment: dict = None
    decode: bool = False
    codes: bool = False  # Bezel reads a checkpoint in NF4
    peers: tuple = ("tuned", "stock")
    most_steps: int = 1000  # steps that take minutes are not repeated


TEXT = dict(task="text")
ROWS = {
    "text": Row(TEXT),
    "image": Row(dict(task="image"), towers=("language", "vision")),
    "audio": Row(dict(task="audio"), towers=("language", "audio")),
    "text2048": Row(dict(task="text", tokens=2048, label_tokens=512)),
    "scattered": Row(dict(task="scattered"), peers=("tuned", "index", "stock")),
    "chats": Row(dict(task="chats"), to_us=("--packing",), peers=("tuned",), most_steps=1),  # stock needs more memory than most machines have
    "text8192": Row(dict(task="text", tokens=8192, label_tokens=2048), peers=()),
    "avx2": Row(TEXT, to_peer=("--dtype", "float32"), environment=AVX2),
    "nf4": Row(TEXT, to_peer=("--nf4",), codes=True),
    "nf4-while-loading": Row(TEXT, to_us=("--storage", "nf4"), peers=()),
    "decode": Row(TEXT, decode=True, peers=("stock",)),
    "decode-nf4": Row(TEXT, decode=True, codes=True, peers=("stock",)),
    "decode-nf4-int8-head": Row(TEXT, decode=True, codes=True, to_us=("--quantize-embeddings", "int8"), peers=("stock",)),
}
SHARES = (10, 25, 50, 100)
LENGTHS = (512, 1024, 2048, 4096, 8192)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder for checkpoints, inputs and results.json")
    p.add_argument("--model", type=Path, help="the checkpoint, if it is elsewhere than in --work")
    p.add_argument("--rows", default=",".join([*ROWS, "shares", "lengths", "threads"]), help="comma separated: " + ", ".join(ROWS) + ", shares, lengths, threads")
    p.add_argument("--rounds", default=2, type=int, help="times that each engine runs a row")
    p.add_argument("--steps", default=4, type=int, help="steps of a run; the first is left out of medians")
    p.add_argument("--tokens", default=48, type=int, help="tokens that the decoding rows write")
    p.add_argument("--quick", action="store_true", help="one round of two steps, 16 tokens, the stock peer where a ratio to it is aimed at, no trial of both attentions")
    p.add_argument("--no-stock", action="store_true", help="leave the stock peer out")
    p.add_argument("--output", default=ROOT / "docs" / "BENCHMARKS.md", type=Path)
    options = p.parse_args()
    if options.quick:
        options.rounds, options.steps, options.tokens = 1, 2, 16
    options.model = options.model or options.work / "e2b10"
    return options


def run(command, environment=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else {}


class Bench:
    def __init__(self, options):
        self.options = options
        self.store = options.work / "results.json"
        self.results = json.loads(self.store.read_text()) if self.store.exists() else {}
        self.config = json.loads((options.model / "config.json").read_text())

    def keep(self, name, value):
        self.results[name] = value
        self.store.write_text(json.dumps(self.results, indent=1))

    def inputs(self, **made):
        return bench_inputs.file(self.options.work, **made)

    def codes(self):
        """The checkpoint in NF4, as `bezel quantize` writes it."""
        folder = self.options.work / (self.options.model.name + "-nf4")
        if not folder.exists():
            subprocess.run([self.options.bezel, "quantize", "--model", self.options.model, "--type", "nf4", "--output", folder], check=True, stdout=subprocess.DEVNULL)
        return folder

    def amount(self, row):
        return ["--decode", self.options.tokens] if row.decode else ["--steps", min(self.options.steps, row.most_steps)]

    def ours(self, row, inputs, *extra):
        towers = ["--lora-towers", ",".join(row.towers)]
        out = run([self.options.bezel, "bench", "--model", self.codes() if row.codes else self.options.model, "--inputs", inputs, "--json", *self.amount(row), *towers,
                   *row.to_us, *extra], row.environment)
        return out["decode"] if row.decode else dict(tokens_per_s=out["tokens_per_s"], bytes=out["peak_bytes"], start_s=out["start_s"], loss=out["losses"][0],
                                                     step_s=statistics.median(out["step_s"][1:] or out["step_s"]))

    def peer(self, row, inputs, *extra):
        out = run([sys.executable, PEER, self.options.model, "--inputs", inputs, "--task", row.inputs["task"], *self.amount(row), *row.to_peer, *extra], row.environment)
        if row.decode:
            return dict(median_s=out["median_s"], tokens=out["tokens"])
        return dict(tokens_per_s=out["tokens_per_s"], bytes=out["peak_bytes"], start_s=out["start_s"], loss=out["losses"][0],
                    step_s=statistics.median(out["step_s"][1:] or out["step_s"]))

    def attention(self, name, row, inputs):
        """Arguments of the faster attention of the tuned peer, found once for each row."""
        found = self.results.setdefault("attention", {})
        if name not in found and (self.options.quick or row.most_steps == 1):
            return []
        if name not in found:
            speeds = {kind: run([sys.executable, PEER, self.options.model, "--inputs", inputs, "--task", row.inputs["task"], "--steps", 2, "--tuned", *row.to_peer,
                                 *(["--attn", "eager"] if kind == "eager" else [])], row.environment)["tokens_per_s"] for kind in ("masks", "eager")}
            self.keep("attention", found | {name: max(speeds, key=speeds.get)})
        return ["--attn", "eager"] if self.results["attention"][name] == "eager" else []

    def measure(self, name):
        row, inputs = ROWS[name], self.inputs(**ROWS[name].inputs)
        stock = row.decode or not self.options.no_stock and (not self.options.quick or bench_page.AIMS.get(name, (None, None))[1])
        peers = [peer for peer in row.peers if peer != "stock" or stock]
        tuned = self.attention(name, row, inputs) if "tuned" in peers else []
        extra = {"stock": [], "tuned": ["--tuned", *tuned], "index": ["--tuned", "--index", *tuned]}
        found = {engine: [] for engine in ("bezel", *peers)}
        rates = []
        for _ in range(self.options.rounds):
            if row.environment is None and not row.decode:
                rates.append(product_rate())
            found["bezel"].append(self.ours(row, inputs))
            for peer in peers:
                found[peer].append(self.peer(row, inputs, *extra[peer]))
        result = {engine: medians(runs) for engine, runs in found.items()}
        if not row.decode:
            for engine, runs in found.items():
                speeds = [run["tokens_per_s"] for run in runs]
                result[engine]["slowest"], result[engine]["fastest"] = min(speeds), max(speeds)
            same_work(name, result)
            result["flops"] = needed_flops(self.config, bench_inputs.load(inputs), towers=row.towers)
            result["product_rate"] = statistics.median(rates) if rates else None
        self.keep(name, result | self.about())

    def about(self):
        return dict(steps=self.options.steps, rounds=self.options.rounds, day=time.strftime("%Y-%m-%d"))

    def shares(self):
        found = {}
        for share in SHARES:
            for task, where in (("text", "suffix"), ("scattered", "scattered")):
                if share < 100 or task == "text":
                    made = Row(dict(task=task, tokens=512, label_tokens=512 * share // 100))
                    found[f"{share} {where}"] = self.ours(made, self.inputs(**made.inputs))
        self.keep("shares", found)

    def lengths(self):
        found = {}
        for tokens in LENGTHS:
            row = Row(dict(task="text", tokens=tokens, label_tokens=tokens // 4))
            inputs = self.inputs(**row.inputs)
            found[tokens] = self.ours(row, inputs) | dict(flops=needed_flops(self.config, bench_inputs.load(inputs)))
        self.keep("lengths", found)

    def threads(self):
        row = ROWS["text"]
        found = {threads: self.ours(row, self.inputs(**row.inputs), "--threads", threads) for threads in sorted({1, os.cpu_count()})}
        self.keep("threads", found)


def medians(runs):
    return {key: statistics.median(run[key] for run in runs) if isinstance(value, (int, float)) else value for key, value in runs[0].items()}


def same_work(name, result):
    """First losses of random weights: bfloat16 engines differ by their rounding, not by what they were asked."""
    losses = {engine: run["loss"] for engine, run in result.items()}
    if max(losses.values()) - min(losses.values()) > 0.25:
        raise SystemExit(f"{name}: first losses are not of the same work: {losses}")


def product_rate():
    """FLOP/s of a bfloat16 product of the size that a step is made of, in this run."""
    import torch

    x, w = torch.randn(512, 1536).bfloat16(), torch.randn(6144, 1536).bfloat16()
    times = []
    for _ in range(40):
        begin = time.perf_counter()
        x @ w.T
        times.append(time.perf_counter() - begin)
    return 2 * 512 * 1536 * 6144 / statistics.median(times)


def main():
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    if not (options.model / "config.json").exists():
        subprocess.run([sys.executable, ROOT / "tools" / "make_bench_model.py", options.model, "--layers", "10"], check=True)
    bench = Bench(options)
    for name in options.rows.split(","):
        if name in ("shares", "lengths", "threads"):
            getattr(bench, name)()
        else:
            bench.measure(name)
        for line in bench_page.lines_of(name, bench.results):
            print(line, flush=True)
    old = options.output.read_text() if options.output.exists() else ""
    options.output.write_text(bench_page.with_other_sections(bench_page.page(bench.results), old))
    return 0


if __name__ == "__main__":
    sys.exit(main())
