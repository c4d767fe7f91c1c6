"""Training steps on each size of Gemma 4 beside transformers + PEFT: all 35 layers of E2B, in bfloat16 and from NF4, and two layers
(one sliding, one full) of E4B, 12B, 26B-A4B and 31B, whose steps are scaled to all of their layers. Random weights (tools/make_bench_model.py).

    .venv/bin/python3 benchmarks/whole_model.py --bezel build/bezel --work build/bench [--rows e2b,31b] [--rounds 3] [--output docs/BENCHMARKS.md]

A step of all layers is predicted as the measured one times the FLOPs that it needs with all layers beside those with two (needed_flops.py):
as if the other layers ran at the rate that these reached, embeddings and head included. So is the peer's, by the FLOPs that it needs: it
computes all rows of the last layer, which is half of two layers and little of sixty. The peer is the tuned one of tools/hf_peft_bench.py
with explicit masks. Checkpoints of two layers are removed once they are measured (--keep: not).
"""
import argparse
import json
import shutil
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
import make_bench_model  # noqa: E402
import vs_transformers  # noqa: E402
from needed_flops import text_flops  # noqa: E402


@dataclass(frozen=True)
class Step:
    shape: str
    layers: int
    tokens: int = 512
    nf4: bool = False

    def folder(self):
        return f"e2b{self.layers}" if self.shape == "e2b" else f"{self.shape}-{self.layers}"

    def whole(self):
        return make_bench_model.WHOLE_LAYERS[self.shape]


ROWS = {
    "e2b": Step("e2b", 35),
    "e2b, 2,048 tokens": Step("e2b", 35, tokens=2048),
    "e2b, NF4": Step("e2b", 35, nf4=True),
    "e2b, NF4, 2,048 tokens": Step("e2b", 35, tokens=2048, nf4=True),
    "e4b": Step("e4b", 2),
    "12b": Step("12b", 2),
    "26b-a4b": Step("26b-a4b", 2),
    "31b": Step("31b", 2),
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder for checkpoints, inputs and results.json")
    p.add_argument("--rows", default=";".join(ROWS), help="semicolons between: " + "; ".join(ROWS))
    p.add_argument("--rounds", default=3, type=int)
    p.add_argument("--steps", default=3, type=int, help="of a run; the first is left out of medians")
    p.add_argument("--no-peer", action="store_true")
    p.add_argument("--keep", action="store_true", help="keep checkpoints of two layers")
    p.add_argument("--output", type=Path, help="the page to write the section of; none: only prints")
    return p.parse_args()


def checkpoint(options, step):
    folder = options.work / step.folder()
    if not (folder / "config.json").exists():
        subprocess.run([sys.executable, ROOT / "tools" / "make_bench_model.py", folder, "--shape", step.shape, "--layers", str(step.layers)], check=True)
    return folder


def scale(config, step, inputs):
    """FLOPs that a step needs, and how many times as many with all layers: of Bezel, of the peer."""
    text = make_bench_model.text(step.shape, step.whole(), config["text_config"]["vocab_size"])
    both = [[text_flops(about, inputs, 16, prunes_last_own=prunes) for about in (config, {"text_config": text})] for prunes in (True, False)]
    return both[0][0], *(whole / part for part, whole in both)


def measure(options, step):
    model = checkpoint(options, step)
    bench = vs_transformers.Bench(argparse.Namespace(**{**vars(options), "model": model}))
    row = vs_transformers.Row(dict(task="text", tokens=step.tokens, label_tokens=step.tokens // 4), to_peer=("--nf4",) if step.nf4 else (), codes=step.nf4)
    inputs = bench.inputs(**row.inputs)
    ours, theirs, rates = [], [], []
    for _ in range(options.rounds):
        rates.append(vs_transformers.product_rate())
        ours.append(bench.ours(row, inputs))
        print(f"  Bezel {ours[-1]['tokens_per_s']:.0f} tokens/s, {ours[-1]['bytes'] / 1e9:.2f} GB, loss {ours[-1]['loss']:.4f}", flush=True)
        if not options.no_peer:
            theirs.append(bench.peer(row, inputs, "--tuned"))
            print(f"  peer {theirs[-1]['tokens_per_s']:.0f} tokens/s, {theirs[-1]['bytes'] / 1e9:.2f} GB, loss {theirs[-1]['loss']:.4f}", flush=True)
    engines = {"bezel": vs_transformers.medians(ours)} | ({"peer": vs_transformers.medians(theirs)} if theirs else {})
    vs_transformers.same_work(step.folder(), engines)
    flops, times, peer_times = scale(bench.config, step, bench_inputs.load(inputs))
    return engines | dict(flops=flops, share=flops / engines["bezel"]["step_s"] / statistics.median(rates), layers=step.layers, whole=step.whole(), times=times, peer_times=peer_times,
                          rounds=options.rounds, steps=options.steps, day=time.strftime("%Y-%m-%d"), machine=bench_page.machine())


def main():
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    print(bench_page.machine())
    store = options.work / "results.json"
    for name in options.rows.split(";"):
        step = ROWS[name.strip()]
        found = measure(options, step)
        results = json.loads(store.read_text()) if store.exists() else {}
        results.setdefault("whole_model", {})[name.strip()] = found
        store.write_text(json.dumps(results, indent=1))
        print(bench_page.whole_line(name.strip(), found), flush=True)
        if step.layers < step.whole() and not options.keep:
            shutil.rmtree(options.work / step.folder())
    if options.output:
        bench_page.replace_section(options.output, bench_page.whole_model(results))


if __name__ == "__main__":
    main()
