"""What `--quantize-embeddings int8` costs in loss and in greedy tokens: Gemma 3 270M, its weights made dense, reads this project's
own pages with the token embeddings, to which its head is tied, in bfloat16 and in int8.

    .venv/bin/python3 tools/int8_embeddings.py [--bezel build/bezel] [--pieces 60]

Loss: of every token of the pieces, by `bezel evaluate`. Same next token: places at which both find the same token most probable,
behind the same text (`bezel forward`). Same answers: of --pieces answers of 64 greedy tokens, how many are alike to the end, and
the share of tokens before the first that differs.
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / ".venv" / "models" / "gemma-3-270m-q4_k_m.gguf"
INT8 = ("--quantize-embeddings", "int8")
PIECE = 1600  # characters
NEW = 64


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--pieces", default=60, type=int)
    return p.parse_args()


def bezel(options, *rest):
    return subprocess.run([options.bezel, *map(str, rest)], check=True, stdout=subprocess.PIPE, text=True).stdout


def dense_model(folder):
    """transformers expands the file but saves no such model itself."""
    model = AutoModelForCausalLM.from_pretrained(MODEL.parent, gguf_file=MODEL.name, dtype=torch.bfloat16)
    folder.mkdir()
    config = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    (folder / "config.json").write_text(json.dumps(config, default=str))
    save_file({name: value.contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"},
              folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = AutoTokenizer.from_pretrained(MODEL.parent, gguf_file=MODEL.name)
    tokenizer.save_pretrained(folder)
    return tokenizer


def pieces(count):
    """Evenly spread over the pages."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]))
    starts = range(0, len(text) - PIECE, (len(text) - PIECE) // count)
    return [text[start : start + PIECE] for start in list(starts)[:count]]


def same_next_tokens(options, folder, ids, tmp):
    save_file({"in.input_ids": ids}, tmp / "in.safetensors")
    best = []
    for extra in ((), INT8):
        bezel(options, "forward", "--model", folder, "--inputs", tmp / "in.safetensors", "--output", tmp / "out.safetensors", "--dtype", "bfloat16", *extra)
        best.append(load_file(tmp / "out.safetensors")["logits"][0].float().argmax(-1))
    return (best[0] == best[1]).sum().item(), len(best[0])


def answers(options, folder, prompt):
    ask = ("generate", "--model", folder, "--raw", "--greedy", "--ignore-eos", "--max-new-tokens", NEW, "--json", "--prompt", prompt)
    one, other = (json.loads(bezel(options, *ask, *extra))["tokens"] for extra in ((), INT8))
    return next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), NEW)


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        folder = tmp / "model"
        tokenizer = dense_model(folder)
        texts = pieces(options.pieces)
        (tmp / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        for label, extra in (("bfloat16", ()), ("int8", INT8)):
            found = json.loads(bezel(options, "evaluate", "--model", folder, "--data", tmp / "text.jsonl", "--json", *extra))
            print(f"{label:10} loss {found['base']['loss']:.4f}, token accuracy {100 * found['base']['token_accuracy']:.2f} %, {found['label_tokens']} tokens", flush=True)
        same = places = 0
        for text in texts:
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            found = same_next_tokens(options, folder, ids, tmp)
            same, places = same + found[0], places + found[1]
        print(f"same next token at {same} of {places} places, {100 * same / places:.2f} %", flush=True)
        agreed = [answers(options, folder, text[:300]) for text in texts]
        print(f"{sum(n == NEW for n in agreed)} of {len(agreed)} answers of {NEW} greedy tokens alike; {100 * sum(agreed) / len(agreed) / NEW:.1f} % of tokens before a difference")


if __name__ == "__main__":
    main()
