"""Training steps with `share_prefixes` beside the same steps without: chats behind one long system prompt, questions about each of some
images with the vision tower adapted, and preference pairs. The checkpoint has the layer geometry of E2B with random weights
(tools/make_bench_model.py) and the demo's tokenizer. Both runs take turns; prints the machine, medians, the ratio, and the ratio of the
products that a step needs with and without (needed_flops.py), which is the ceiling.

    .venv/bin/python3 benchmarks/shared_prefixes.py --bezel build/bezel --work build/bench [--small] [--rounds 3] [--cases chats,images,pairs]

Tokens a second count every sample's own tokens in both runs, so that their ratio is that of the times.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]
from needed_flops import IGNORE, image_flops, text_flops  # noqa: E402

DEMO = ROOT / "demo" / "model"
RANK = 16


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder for checkpoints, samples and runs")
    p.add_argument("--model", type=Path, help="an E2B-shaped checkpoint of make_bench_model.py, if it is elsewhere than in --work")
    p.add_argument("--layers", default=10, type=int, help="of that checkpoint")
    p.add_argument("--rounds", default=3, type=int)
    p.add_argument("--cases", default="chats,images,pairs")
    p.add_argument("--small", action="store_true", help="the demo's own checkpoint and a quarter of everything, to see that it runs; its heads are too "
                   "narrow for the kernel that skips keys, so that its times say nothing")
    return p.parse_args()


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
    kinds = [kind for kind in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if kind in flags]
    return f"{name}, {sum(line.startswith('processor') for line in lines)} threads, {' '.join(kinds)}"


def make_model(options):
    """The checkpoint with a tokenizer, whose ids of placeholders it takes."""
    if options.small:
        return DEMO
    source = options.model or options.work / f"e2b-{options.layers}"
    if not source.exists():
        subprocess.run([sys.executable, ROOT / "tools" / "make_bench_model.py", source, "--layers", str(options.layers)], check=True)
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


def chats(options, model, scale):
    """64 chats of 100 to 300 tokens, of which 40 are learnt, behind one system prompt of 1,200."""
    system, draw = words(options, 1200 * scale, 1), random.Random(2)
    rows = [{"messages": [{"role": "system", "content": system}, {"role": "user", "content": words(options, draw.uniform(60, 260) * scale, 3 + i)},
                          {"role": "assistant", "content": words(options, 40 * scale, 100 + i)}]} for i in range(64)]
    return rows, dict(micro_batch_size=16, gradient_accumulation_steps=4)


def images(options, model, scale):
    """8 questions about each of 8 images."""
    from PIL import Image

    side = int(768 * scale ** 0.5)
    for i in range(8):
        Image.effect_noise((side, side), 60 + i).convert("RGB").save(options.work / f"image{i}.png")
    rows = [{"messages": [{"role": "user", "content": [{"type": "image", "path": f"image{i // 8}.png"}, {"type": "text", "text": words(options, 30 * scale, i)}]},
                          {"role": "assistant", "content": words(options, 30 * scale, 100 + i)}]} for i in range(64)]
    return rows, dict(micro_batch_size=8, gradient_accumulation_steps=8, lora_towers="language,vision", shuffle="false")


def pairs(options, model, scale):
    """Preference pairs of a prompt of 512 tokens and answers of 128."""
    rows = [{"prompt": words(options, 512 * scale, 7 * i), "chosen": words(options, 128 * scale, 7 * i + 1),
             "rejected": words(options, 128 * scale, 7 * i + 2)} for i in range(8)]
    return rows, dict(micro_batch_size=1, gradient_accumulation_steps=8, objective="simpo")


CASES = {"chats": chats, "images": images, "pairs": pairs}


def flops_of(config, rows, labels):
    """Of samples apart, `labels` bool lists of the same lengths."""
    import torch

    longest = max(map(len, rows))
    mask, targets = torch.zeros(len(rows), longest), torch.full((len(rows), longest), IGNORE)
    for i, (ids, learnt) in enumerate(zip(rows, labels)):
        mask[i, :len(ids)] = 1
        targets[i, :len(ids)] = torch.where(torch.tensor(learnt, dtype=torch.bool), torch.tensor(ids), torch.tensor(IGNORE))
    return text_flops(config, dict(attention_mask=mask, labels=targets), RANK)


def tower_flops(config, soft_tokens, adapted):
    import torch

    patches = [torch.zeros(9 * count, 2, dtype=torch.long) for count in soft_tokens]
    return image_flops(config, dict(pixel_values=True, image_position_ids=patches), RANK if adapted else 0) / (1 if adapted else 2)


def ceiling(config, name, samples):
    """How many times the products of a step with sharing those without are. A prefix that n samples share is counted n - 1 times too often."""
    rows, labels = ([sample[key] for sample in samples] for key in ("input_ids", "learnt"))
    groups = {"chats": len(rows), "images": 8, "pairs": 2}[name]
    if name == "pairs":  # the rejected answers are as long as the chosen ones
        rows, labels = ([value for value in values for _ in range(2)] for values in (rows, labels))
    apart = together = flops_of(config, rows, labels)
    for begin in range(0, len(rows), groups):
        some = rows[begin:begin + groups]
        alike = next((i for i, tokens in enumerate(zip(*some)) if len(set(tokens)) > 1), min(map(len, some)))
        alike = min(alike, labels[begin].index(True) - 1)
        together -= (len(some) - 1) * flops_of(config, [some[0][:alike]], [[False] * alike])
    if name == "images":
        soft = [sample["media"][0]["soft_tokens"] for sample in samples]
        apart += tower_flops(config, soft, True)
        together += tower_flops(config, soft[::8], True)
    return apart / together


def train(options, model, data, flags, shares):
    out = options.work / f"run-{shares}"
    shutil.rmtree(out, ignore_errors=True)
    given = {"base-model": model, "train-file": data, "output-dir": out, "max-seq-length": 8192, "packing": "false", "lora-r": RANK, "max-steps": 3, "logging-steps": 1,
             "save-steps": 0, "report-to": "jsonl", "sample-predictions": 0, "share-prefixes": shares, **{key.replace("_", "-"): value for key, value in flags.items()}}
    done = subprocess.run([str(options.bezel), "train", "--quiet", *(f"--{key}={value}" for key, value in given.items())], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    rows = [row for row in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in row]
    return dict(rate=statistics.median(row["tokens_per_second"] for row in rows[1:]), bytes=max(row["peak_memory_bytes"] for row in rows), loss=rows[0]["loss"])


def main():
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    model = make_model(options)
    config = json.loads((model / "config.json").read_text())
    options.tokens_a_word = measure_words(options, model)
    scale = 0.25 if options.small else 1
    print(f"{machine()}\n{model}: {config['text_config']['num_hidden_layers']} layers; {options.rounds} rounds in turn, medians of steps 2 and 3")
    for name in options.cases.split(","):
        rows, flags = CASES[name](options, model, scale)
        data = options.work / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        preference = ("--objective", flags["objective"]) if "objective" in flags else ()
        most = ceiling(config, name, show(options, model, data, *preference))
        runs = {shares: [] for shares in ("false", "true")}
        for _ in range(options.rounds):
            for shares, found in runs.items():
                found.append(train(options, model, data, flags, shares))
        apart, shared = (statistics.median(run["rate"] for run in runs[shares]) for shares in ("false", "true"))
        memory = [max(run["bytes"] for run in found) / 2 ** 20 for found in runs.values()]
        print(f"{name}: {apart:.0f} tokens/s apart, {shared:.0f} shared: {shared / apart:.2f}x, ceiling {most:.2f}x, {shared / apart / most:.2f} of it; "
              f"peak {memory[0]:.0f} and {memory[1]:.0f} MiB; first losses {runs['false'][0]['loss']:.5f} and {runs['true'][0]['loss']:.5f}")


if __name__ == "__main__":
    main()
