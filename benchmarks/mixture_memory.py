"""Training of a mixture of experts as users run it: the geometry of 26B-A4B cut to two layers (one sliding, one full), with its whole vocabulary,
adapters on attention, the dense MLP and the experts, the base dense in bfloat16 and as NF4. Checks that the losses fall and that what
`bezel preprocess --dry-run` says of the memory is within a tenth of the peak; prints both, and where it goes.

    .venv/bin/python3 benchmarks/mixture_memory.py --bezel build/bezel --work build/bench [--steps 6] [--vocab 262144]

The checkpoint has random weights (4.8 GB on disk) and the demo's tokenizer; it is made once.
"""
import argparse
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import experts

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "demo" / "model"
WORDS = "a cup of tea on the sofa and two cats in the rain near a blue door with bread".split()
GIB = 2**30


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path)
    p.add_argument("--vocab", default=262_144, type=int)
    p.add_argument("--steps", default=6, type=int)
    p.add_argument("--rank", default=8, type=int)
    p.add_argument("--storages", default="dense,nf4")
    return p.parse_args()


def checkpoint(folder, vocab):
    if (folder / "tokenizer.json").exists():
        return
    experts.make_model(folder, vocab)
    config, demo = (json.loads((path / "config.json").read_text()) for path in (folder, MODEL))
    for key in config:
        if key.endswith(("_token_id", "_token_index")) and key in demo:
            config[key] = demo[key]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("processor_config.json", "tokenizer_config.json", "tokenizer.json"):  # the last one marks what is whole
        shutil.copy(MODEL / name, folder / name)


def samples(file):
    """About 400 tokens each; answers repeat their questions, which a few steps begin to learn."""
    words = random.Random(0)
    with open(file, "w") as out:
        for _ in range(24):
            said = " ".join(words.choice(WORDS) for _ in range(100))
            out.write(json.dumps({"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": said}]}) + "\n")
    return file


def bezel(options, verb, storage, *more):
    flags = {"base-model": options.work / f"moe2-chat-{options.vocab}", "train-file": options.work / "moe2-chat.jsonl", "output-dir": options.work / f"moe2-run-{storage}",
             "storage": storage, "lora-towers": "[language, experts]", "lora-r": options.rank, "max-seq-length": 512, "gradient-accumulation-steps": 1,
             "max-steps": options.steps, "learning-rate": 1e-3, "warmup-ratio": 0, "lr-scheduler": "constant", "logging-steps": 1, "sample-predictions": 0, "save-steps": 0,
             "report-to": "jsonl"}
    done = subprocess.run([str(options.bezel), verb, *(f"--{key}={value}" for key, value in flags.items()), *more], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bezel {verb}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return flags, done.stdout


def measured(options, storage):
    shutil.rmtree(options.work / f"moe2-run-{storage}", ignore_errors=True)
    flags, _ = bezel(options, "train", storage)
    rows = [json.loads(line) for line in (flags["output-dir"] / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "learning_rate" in row]
    return [row["loss"] for row in rows], max(row["peak_memory_bytes"] for row in rows)


def main():
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    checkpoint(options.work / f"moe2-chat-{options.vocab}", options.vocab)
    samples(options.work / "moe2-chat.jsonl")
    print(experts.machine())
    failed = False
    for storage in options.storages.split(","):
        need = json.loads(bezel(options, "preprocess", storage, "--dry-run", "--json")[1])["run"]["memory"]
        losses, peak = measured(options, storage)
        error = need["total"] / peak - 1
        falls = losses[-1] < losses[0]
        failed |= abs(error) > 0.1 or not falls
        parts = ", ".join(f"{name} {value / GIB:.2f}" for name, value in need.items() if name != "total")
        print(f"{storage}: said {need['total'] / GIB:.2f} GiB ({parts}), peak {peak / GIB:.2f} GiB, {error:+.1%}; losses {losses[0]:.3f} to {losses[-1]:.3f}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
