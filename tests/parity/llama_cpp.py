"""A second, independent engine: llama.cpp runs what Bezel trained. The tiny Gemma 4 learns to say the letters in one order from
any start; the adapter is merged and the model written as a GGUF file. On top of that it learns another order; this adapter goes
to llama.cpp by `bezel convert --to gguf`. llama.cpp must say both orders, and go on with 20 prompts as Bezel does, token by token, also
from the files that Bezel itself writes, in every type.
(gemma3_270m.py does the same with trained weights of Google's.)

    llama_cpp.py BEZEL_FOLDER
"""
import json
import random
import sys
import tempfile
from pathlib import Path

from _gguf import write_gguf
from _llama import NUM_TOKENS, compare
from _reference import bezel, finish, reference, tell
from tokenizers import Tokenizer

# All that llama.cpp has adapters for.
TARGETS = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj,per_layer_input_gate,per_layer_projection"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NUM_PROMPTS = 20


def order(seed) -> str:
    return "".join(random.Random(seed).sample(LETTERS, len(LETTERS)))


def said(letters: str, first: str) -> str:
    begin = letters.index(first)
    return " ".join(letters[(begin + idx) % len(letters)] for idx in range(40))


def train(model: Path, letters: str, out: Path):
    data = out.with_suffix(".jsonl")
    data.write_text("".join(json.dumps({"text": said(letters, first)}) + "\n" for first in LETTERS))
    bezel("train", "--base-model", model, "--train-file", data, "--output-dir", out, "--dtype", "float32", "--lora-r", 32, "--lora-alpha", 64,
          "--lora-target-modules", TARGETS, "--micro-batch-size", len(LETTERS), "--gradient-accumulation-steps", 1, "--max-steps", 60,
          "--learning-rate", "1e-2", "--lr-scheduler", "linear", "--packing", "false", "--save-steps", 0, "--report-to", "none",
          "--sample-predictions", 0, "--quiet")


def check_said(name: str, tokenizer, letters: str, texts: list):
    wanted = [said(letters, first) for first in LETTERS[:NUM_PROMPTS]]
    heard = [f"{first} {tokenizer.decode(text)}" for first, text in zip(LETTERS, texts)]
    right = sum(want.startswith(hear.strip()) for want, hear in zip(wanted, heard, strict=True))
    tell(right >= 18, f"{name}: llama.cpp says {right} of {NUM_PROMPTS} texts of {NUM_TOKENS} tokens as they were taught; \"{heard[0][:30]} …\"")


def written_by_bezel(taught: Path, prompts: list, wanted: list, tmp: Path):
    """llama.cpp loads what `bezel convert --to gguf` writes, in every type. Floating types say what the file of the tests says; packed
    ones what Bezel says from the same file."""
    for kind in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m"):
        file = tmp / f"taught-{kind}.gguf"
        bezel("convert", "--model", taught, "--to", "gguf", "--type", kind, "--output", file)
        texts = compare(kind, file, prompts, tmp)
        if kind in ("f32", "f16", "bf16"):
            same = sum(a == b for a, b in zip(texts, wanted, strict=True))
            tell(same == len(wanted), f"{kind}: {same} of {len(wanted)} texts are those of float32")


def main():
    folder = reference(0) / "e2b" / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompts = [tokenizer.encode(f"<bos>{first} ", add_special_tokens=False).ids for first in LETTERS[:NUM_PROMPTS]]
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        taught, model, adapter = tmp / "taught", tmp / "taught.gguf", tmp / "adapter"
        train(folder, order(1), tmp / "first")
        bezel("merge", "--model", folder, "--adapter", tmp / "first", "--output", taught)
        write_gguf(taught, model)
        base = compare("base", model, prompts, tmp)
        check_said("base", tokenizer, order(1), base)
        written_by_bezel(taught, prompts, base, tmp)
        train(model, order(2), adapter)
        tuned = compare("adapter", model, prompts, tmp, adapter)
        check_said("adapter", tokenizer, order(2), tuned)
        tell(all(a != b for a, b in zip(base, tuned, strict=True)), "the adapter changes every text")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
