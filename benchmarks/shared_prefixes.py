"""Training steps with `share_prefixes` beside the same steps without and beside transformers + PEFT: chats behind one long system prompt,
questions about each of some images with the vision tower adapted, and preference pairs. Checkpoints have the layer geometry of E2B or, of
`pairs-31b`, two layers of 31B, random weights (tools/make_bench_model.py) and the demo's tokenizer.

    .venv/bin/python3 benchmarks/shared_prefixes.py --bezel build/bezel --work build/bench [--small] [--rounds 3] [--cases chats,images,pairs,pairs-31b]

The ceiling is the ratio of the products that a step needs apart and shared (needed_flops.py). Tokens a second count every sample's own
tokens, whoever computes them, so that their ratio is that of the times. Engines take turns; those without sharing time a part of the
samples, which says as much, since each costs them the same. The peer is the tuned one of tools/hf_peft_bench.py, for pairs with TRL's loss.
Runs are added to those in results.json (--fresh: but for the case's own), so that rounds and engines may be measured one at a time;
docs/BENCHMARKS.md takes their medians.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]
import bench_page  # noqa: E402
from needed_flops import IGNORE, image_flops, text_flops  # noqa: E402

DEMO = ROOT / "demo" / "model"
RANK = 16
ENGINES = ("apart", "shared", "peer")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder for checkpoints, samples, runs and results.json")
    p.add_argument("--layers", default=10, type=int, help="of the checkpoint of E2B's geometry")
    p.add_argument("--rounds", default=3, type=int)
    p.add_argument("--steps", default=3, type=int, help="of a run; the first is left out")
    p.add_argument("--cases", default=",".join(CASES))
    p.add_argument("--engines", default=",".join(ENGINES))
    p.add_argument("--fresh", action="store_true", help="drop earlier runs of these cases")
    p.add_argument("--output", type=Path, help="the page to write the section of; none: only prints")
    p.add_argument("--small", action="store_true", help="the demo's own checkpoint and a quarter of everything, to see that it runs; its heads are too "
                   "narrow for the kernel that skips keys, so that its times say nothing")
    return p.parse_args()


def make_model(options, shape):
    """The checkpoint with a tokenizer, whose ids of placeholders it takes."""
    if options.small:
        return DEMO
    layers = options.layers if shape == "e2b" else 2
    source = options.work / (f"e2b{layers}" if shape == "e2b" else f"{shape}-{layers}")
    if not source.exists():
        subprocess.run([sys.executable, ROOT / "tools" / "make_bench_model.py", source, "--layers", str(layers), "--shape", shape], check=True)
    out = options.work / (source.name + "-tokenizer")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for path in source.glob("*.safetensors*"):
        os.link(path.resolve(), out / path.name)  # a link that leads out of the folder would be refused
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        shutil.copy(DEMO / name, out / name)
    config, demo = (json.loads((folder / "config.json").read_text()) for folder in (source, DEMO))
    config |= {key: value for key, value in demo.items() if key.endswith(("_token_id", "_token_index"))}
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if key in demo["text_config"]:
            config["text_config"][key] = demo["text_config"][key]
    (out / "config.json").write_text(json.dumps(config))
    return out


def show(options, model, data, *flags):
    """The samples as the model sees them: ids, labels, images."""
    command = [options.bezel, "preprocess", "--base-model", model, "--train-file", data, "--output-dir", options.work / "none", "--show", 100_000,
               "--max-seq-length", 8192, "--json", *flags]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["samples"]


def words(options, count, seed):
    """Text of about `count` tokens."""
    draw = random.Random(seed)
    vocabulary = "the of and rain sofa tea cup cat two three small green house answer question rule number write read see".split()
    return " ".join(draw.choice(vocabulary) for _ in range(max(1, round(count / options.tokens_a_word))))


def measure_words(options, model):
    options.tokens_a_word = 1
    path = options.work / "measure.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": words(options, 1000, 0)}, {"role": "assistant", "content": "A"}]}) + "\n")
    return len(show(options, model, path)[0]["input_ids"]) / 1000


def chats(options, scale):
    """64 chats of 100 to 300 tokens, of which 40 are learnt, behind one system prompt of 1,200."""
    system, draw = words(options, 1200 * scale, 1), random.Random(2)
    return [{"messages": [{"role": "system", "content": system}, {"role": "user", "content": words(options, draw.uniform(60, 260) * scale, 3 + i)},
                          {"role": "assistant", "content": words(options, 40 * scale, 100 + i)}]} for i in range(64)]


def images(options, scale):
    """8 questions about each of 8 images."""
    from PIL import Image

    side = int(768 * scale ** 0.5)
    for i in range(8):
        Image.effect_noise((side, side), 60 + i).convert("RGB").save(options.work / f"image{i}.png")
    return [{"messages": [{"role": "user", "content": [{"type": "image", "path": f"image{i // 8}.png"}, {"type": "text", "text": words(options, 30 * scale, i)}]},
                          {"role": "assistant", "content": words(options, 30 * scale, 100 + i)}]} for i in range(64)]


def pairs(options, scale):
    """Preference pairs of a prompt of 512 tokens and answers of 128."""
    return [{"prompt": words(options, 512 * scale, 7 * i), "chosen": words(options, 128 * scale, 7 * i + 1),
             "rejected": words(options, 128 * scale, 7 * i + 2)} for i in range(8)]


@dataclass(frozen=True)
class Case:
    make: Callable
    alike: int  # samples, or answers, that share a prefix
    rows: int  # of a micro-batch
    samples: int  # of a step with sharing
    apart: int  # samples of a step without
    peer: tuple  # numbers of the samples that the peer is timed on
    shape: str = "e2b"
    flags: tuple = ()

    def is_pairs(self):
        return self.make is pairs


SIMPO = (("objective", "simpo"),)
CASES = {"chats": Case(chats, 64, 16, 64, 16, (0, 1, 2, 3)),
         "images": Case(images, 8, 8, 64, 8, (0,), flags=(("lora_towers", "language,vision"), ("shuffle", "false"))),
         "pairs": Case(pairs, 2, 1, 8, 8, (0,), flags=SIMPO),
         "pairs-31b": Case(pairs, 2, 1, 2, 2, (0,), shape="31b", flags=SIMPO)}


def flops_of(config, rows, labels):
    """Of samples apart, `labels` bool lists of the same lengths."""
    import torch

    longest = max(map(len, rows))
    mask, targets = torch.zeros(len(rows), longest), torch.full((len(rows), longest), IGNORE)
    for i, (ids, learnt) in enumerate(zip(rows, labels)):
        mask[i, :len(ids)] = 1
        targets[i, :len(ids)] = torch.where(torch.tensor(learnt, dtype=torch.bool), torch.tensor(ids), torch.tensor(IGNORE))
    return text_flops(config, dict(attention_mask=mask, labels=targets), RANK)


def tower_flops(config, soft_tokens):
    import torch

    return image_flops(config, dict(pixel_values=True, image_position_ids=[torch.zeros(9 * count, 2, dtype=torch.long) for count in soft_tokens]), RANK)


def needed(config, case, samples):
    """Products of a step apart and shared. A prefix that n samples share is counted n - 1 times too often."""
    rows, labels = ([sample[key] for sample in samples] for key in ("input_ids", "learnt"))
    if case.is_pairs():  # the rejected answers are as long as the chosen ones
        rows, labels = ([value for value in values for _ in range(2)] for values in (rows, labels))
    apart = together = flops_of(config, rows, labels)
    for begin in range(0, len(rows), case.alike):
        some = rows[begin:begin + case.alike]
        alike = next((i for i, tokens in enumerate(zip(*some)) if len(set(tokens)) > 1), min(map(len, some)))
        alike = min(alike, labels[begin].index(True) - 1)
        together -= (len(some) - 1) * flops_of(config, [some[0][:alike]], [[False] * alike])
    if case.make is images:
        soft = [sample["media"][0]["soft_tokens"] for sample in samples]
        apart += tower_flops(config, soft)
        together += tower_flops(config, soft[::case.alike])
    return apart, together


def train(options, model, data, case, samples, shares):
    """Of the first `samples` of the file."""
    out, part = options.work / f"run-{shares}", data.with_suffix(f".{samples}.jsonl")
    part.write_text("".join(data.read_text().splitlines(keepends=True)[:samples]))
    shutil.rmtree(out, ignore_errors=True)
    given = {"base-model": model, "train-file": part, "output-dir": out, "max-seq-length": 8192, "packing": "false", "lora-r": RANK,
             "max-steps": options.steps, "logging-steps": 1, "save-steps": 0, "report-to": "jsonl", "sample-predictions": 0, "share-prefixes": shares,
             "micro-batch-size": case.rows, "gradient-accumulation-steps": samples // case.rows, **{key.replace("_", "-"): value for key, value in case.flags}}
    done = subprocess.run([str(options.bezel), "train", "--quiet", *(f"--{key}={value}" for key, value in given.items())], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    rows = [row for row in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in row]
    return dict(rate=statistics.median(row["tokens_per_second"] for row in rows[1:] or rows), bytes=max(row["peak_memory_bytes"] for row in rows), loss=rows[0]["loss"])


def peer_inputs(case, config, samples):
    """Tensors of the samples, padded on the right; of a pair both answers, the second one's tokens made up."""
    import torch

    some = [samples[i] for i in case.peer for _ in range(2 if case.is_pairs() else 1)]
    longest = max(len(sample["input_ids"]) for sample in some)
    ids, labels, mask = torch.zeros(len(some), longest, dtype=torch.long), torch.full((len(some), longest), IGNORE), torch.zeros(len(some), longest, dtype=torch.long)
    for i, sample in enumerate(some):
        tokens, learnt = torch.tensor(sample["input_ids"]), torch.tensor(sample["learnt"], dtype=torch.bool)
        if i % 2 == 1 and case.is_pairs():
            tokens = torch.where(learnt, tokens.roll(1), tokens)
        ids[i, :len(tokens)], mask[i, :len(tokens)] = tokens, 1
        labels[i, :len(tokens)] = torch.where(learnt, tokens, torch.tensor(IGNORE))
    made = dict(input_ids=ids, labels=labels, attention_mask=mask, mm_token_type_ids=torch.zeros_like(ids))
    if case.make is images:
        made["mm_token_type_ids"] = (ids == config["image_token_id"]).long()
        side = round((9 * some[0]["media"][0]["soft_tokens"]) ** 0.5)
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        made |= dict(pixel_values=torch.rand(1, side * side, 768), image_position_ids=torch.stack([x, y], -1).reshape(1, -1, 2))
    return made


def peer(options, model, config, name, samples):
    import bench_inputs

    case, path = CASES[name], options.work / f"peer-{name}.safetensors"
    bench_inputs.save(peer_inputs(case, config, samples), path)
    task = "pairs" if case.is_pairs() else "image" if case.make is images else "chats"
    command = [sys.executable, ROOT / "tools" / "hf_peft_bench.py", model, "--inputs", path, "--task", task, "--tuned", "--steps", options.steps]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    out = json.loads(done.stdout.strip().splitlines()[-1])
    return dict(rate=out["tokens_per_s"], bytes=out["peak_bytes"], loss=out["losses"][0])


def measure(options, name, found, keep):
    """Adds runs to `found`, and calls keep() after each."""
    from vs_transformers import product_rate

    case = CASES[name]
    model = make_model(options, case.shape)
    config = json.loads((model / "config.json").read_text())
    options.tokens_a_word = measure_words(options, model)
    data = options.work / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in case.make(options, 0.25 if options.small else 1)[:case.samples]))
    samples = show(options, model, data, *(("--objective", "simpo") if case.is_pairs() else ()))
    apart, shared = needed(config, case, samples)
    tokens = sum(len(sample["input_ids"]) * (2 if case.is_pairs() else 1) for sample in samples)
    found |= dict(ceiling=apart / shared, flops=shared, tokens=tokens, day=time.strftime("%Y-%m-%d"), machine=bench_page.machine())
    runs = found.setdefault("runs", {})
    for _ in range(options.rounds):
        runs.setdefault("product_rate", []).append(product_rate())
        for engine in options.engines.split(","):
            if engine == "peer":
                run = peer(options, model, config, name, samples)
            else:
                run = train(options, model, data, case, case.samples if engine == "shared" else case.apart, "true" if engine == "shared" else "false")
            runs.setdefault(engine, []).append(run | dict(steps=options.steps, waits=os.environ.get("OMP_WAIT_POLICY", "")))
            keep()
            print(f"{name}: {engine} {run['rate']:.0f} tokens/s, {run['bytes'] / 1e9:.2f} GB, first loss {run['loss']:.4f}", flush=True)


def main():
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    store = options.work / ("results-small.json" if options.small else "results.json")
    results = json.loads(store.read_text()) if store.exists() else {}
    kept = results.setdefault("shared_prefixes", {})
    print(bench_page.machine())
    for name in options.cases.split(","):
        found = kept[name] = {} if options.fresh else kept.get(name, {})
        measure(options, name, found, lambda: store.write_text(json.dumps(results, indent=1)))
        if {"apart", "shared"} <= found["runs"].keys():
            print(bench_page.shared_line(name, found), flush=True)
    if options.output:
        bench_page.replace_section(options.output, bench_page.shared_prefixes(results))


if __name__ == "__main__":
    main()
