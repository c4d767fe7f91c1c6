"""Greedy texts of llama.cpp (npm node-llama-cpp, prebuilt), and whether Bezel would write the same."""
import json
import os
import subprocess

import torch
from safetensors.torch import save_file

from _reference import BIN, ROOT, forward, tell

NUM_TOKENS = 48
MOST_APART, MARGIN = 2, 0.1


def greedy(model, prompts, adapter=None) -> list:
    """The likeliest tokens behind each of `prompts` (lists of tokens), with an adapter in a GGUF file."""
    request = dict(model=str(model), prompts=prompts, tokens=NUM_TOKENS, threads=int(os.environ.get("OMP_NUM_THREADS", 2)))
    if adapter:
        request["adapter"] = str(adapter)
    run = subprocess.run(["node", ROOT / "tests" / "parity" / "_llama.mjs"], input=json.dumps(request), capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"llama.cpp on {model}: exit {run.returncode}\n{run.stderr[-2000:]}")
    return json.loads(run.stdout)["texts"]


def margins_where_apart(model, prompts, texts, tmp, *extra) -> list:
    """For each text that is not Bezel's: how far apart the logits of Bezel's two likeliest tokens are where the first token
    differs. What Bezel would write is read off its logits behind the text itself: the likeliest token at each place."""
    margins = []
    for prompt, text in zip(prompts, texts, strict=True):
        save_file({"in.input_ids": torch.tensor([prompt + text[:-1]])}, tmp / "text.safetensors")
        out = forward(model, tmp / "text.safetensors", tmp / "logits.safetensors", "--dtype", "float32", *extra)
        logits = out["logits"][0, len(prompt) - 1:]
        differ = (logits.argmax(-1) != torch.tensor(text)).nonzero().flatten()
        if len(differ):
            first, second = logits[differ[0]].topk(2).values
            margins.append((first - second).item())
    return margins


def compare(name, model, prompts, tmp, adapter=None) -> list:
    """Texts of llama.cpp, held against Bezel. `adapter` is a PEFT folder; llama.cpp reads what `bezel convert --to gguf` makes of
    it."""
    texts = greedy(model, prompts, adapter and as_gguf(adapter))
    compare_texts(name, model, prompts, texts, tmp, *(["--adapter", adapter] if adapter else []))
    return texts


def as_gguf(adapter):
    """The GGUF file beside an adapter's folder, made once."""
    converted = adapter.with_suffix(".gguf")
    if not converted.exists():
        subprocess.run([BIN / "bezel", "convert", "--adapter", adapter, "--to", "gguf", "--output", converted], check=True, capture_output=True)
    return converted


def compare_texts(name, model, prompts, texts, tmp, *extra):
    """The same for `texts` that llama.cpp wrote already: at most MOST_APART may part, where two tokens are within MARGIN."""
    margins = margins_where_apart(model, prompts, texts, tmp, *extra)
    tell(len(margins) <= MOST_APART and all(m < MARGIN for m in margins),
         f"{name}: {len(prompts) - len(margins)} of {len(prompts)} texts of llama.cpp are Bezel's; margins at the others "
         f"[{', '.join(f'{m:.3f}' for m in margins)}]")
