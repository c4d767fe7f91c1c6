"""Training steps of a mixture of experts beside transformers + PEFT: the geometry of 26B-A4B cut to two layers (one sliding, one full),
random weights in bfloat16, 512 tokens of which 128 are labelled, rank 16. The peer is the tuned one of tools/hf_peft_bench.py with
transformers' own choice for experts on a CPU (grouped_mm). Both engines run in turn; prints medians, ratios and the machine.

    .venv/bin/python3 benchmarks/experts.py --bezel build/bezel --work build/bench [--rounds 3] [--no-peer]

Two settings: experts frozen (attention and the dense MLP adapted) and experts adapted too. The share of the product rate sets the
products that a step cannot do without beside one large product of LibTorch in the same dtype and threads.
"""
import argparse
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
from needed_flops import needed_flops  # noqa: E402


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder for the checkpoint and the inputs")
    p.add_argument("--vocab", default=262_144, type=int, help="rows of the embeddings; fewer where memory is short, which is printed")
    p.add_argument("--tokens", default=512, type=int)
    p.add_argument("--rounds", default=3, type=int)
    p.add_argument("--steps", default=4, type=int, help="of a run; the first is left out of medians")
    p.add_argument("--storage", default="dense", help="of Bezel's frozen weights")
    p.add_argument("--no-peer", action="store_true")
    p.add_argument("--settings", default="frozen,adapted")
    p.add_argument("--output", type=Path, help="the page to write the section of; none: only prints")
    return p.parse_args()


def make_inputs(path: Path, vocab: int, tokens: int):
    import torch

    ids = torch.randint(11, min(vocab, 250_000), (1, tokens), generator=torch.Generator().manual_seed(0))
    bench_inputs.save(dict(input_ids=ids, mm_token_type_ids=torch.zeros_like(ids), attention_mask=torch.ones_like(ids), labels=bench_inputs.suffix(ids, tokens // 4)), path)


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def step_s(result):
    return statistics.median(result["step_s"][1:] or result["step_s"])


def product_rate(threads):
    """flops a second of one large product of LibTorch."""
    import torch

    torch.set_num_threads(threads)
    x, w = torch.randn(512, 2048).bfloat16(), torch.randn(4096, 2048).bfloat16()
    x @ w.t()
    begin, times = time.perf_counter(), 0
    while time.perf_counter() - begin < 1:
        x @ w.t()
        times += 1
    return 2 * 512 * 2048 * 4096 * times / (time.perf_counter() - begin)


def main():
    options = arguments()
    model, inputs = options.work / f"moe2-{options.vocab}", options.work / f"moe2-{options.vocab}-{options.tokens}.safetensors"
    if not (model / "config.json").exists():
        subprocess.run([sys.executable, ROOT / "tools" / "make_bench_model.py", model, "--shape", "26b-a4b", "--vocab", str(options.vocab)], check=True)
    if not inputs.exists():
        make_inputs(inputs, options.vocab, options.tokens)
    store = options.work / "results.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    kept = results.setdefault("experts", {})
    print(f"{bench_page.machine()}; {options.tokens} tokens, vocabulary {options.vocab}, bfloat16, storage {options.storage}")
    for setting in options.settings.split(","):
        name = f"experts {setting}" + ("" if options.storage == "dense" else f", {options.storage}")
        kept[name] = measure(options, model, inputs, setting == "adapted")
        store.write_text(json.dumps(results, indent=1))
        print(bench_page.experts_line(name, kept[name]), flush=True)
    if options.output:
        bench_page.replace_section(options.output, bench_page.experts(results))


def measure(options, model, inputs, adapts):
    towers, extra = ("language,experts", ("--experts",)) if adapts else ("language", ())
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(run(options.bezel, "bench", "--model", model, "--inputs", inputs, "--steps", options.steps, "--lora-towers", towers, "--storage", options.storage, "--json"))
        print(f"  Bezel {step_s(ours[-1]):.2f} s, loss {ours[-1]['losses'][0]:.4f}", flush=True)
        if not options.no_peer:
            theirs.append(run(sys.executable, ROOT / "tools" / "hf_peft_bench.py", model, "--inputs", inputs, "--tuned", "--steps", options.steps, *extra))
            print(f"  peer {step_s(theirs[-1]):.2f} s, loss {theirs[-1]['losses'][0]:.4f}", flush=True)
    figures = lambda runs: dict(step_s=statistics.median(map(step_s, runs)), bytes=max(r["peak_bytes"] for r in runs))
    found = dict(bezel=figures(ours), tokens=options.tokens, vocab=options.vocab, rounds=options.rounds, day=time.strftime("%Y-%m-%d"), machine=bench_page.machine(),
                 waits=os.environ.get("OMP_WAIT_POLICY", ""))
    config = json.loads((model / "config.json").read_text())
    found["share"] = needed_flops(config, bench_inputs.load(inputs), towers=towers.split(",")) / found["bezel"]["step_s"] / product_rate(ours[0]["threads"])
    return found | (dict(peer=figures(theirs)) if theirs else {})


if __name__ == "__main__":
    main()
