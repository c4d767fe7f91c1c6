"""Trained weights that Bezel wrote, in llama.cpp (npm node-llama-cpp): Gemma 3 270M, whose GGUF file `bezel convert --to gguf` turns into
every type, and a Gemma 4 with rows of 256. llama.cpp loads each and goes on with texts as Bezel does from the same file (_llama.py says
how that is judged); floating types may part nowhere. Few texts, unless --full.

    gguf_llama.py BEZEL_FOLDER TEST_FOLDER [--full]
"""
import sys
import tempfile
from pathlib import Path

from _llama import compare_texts, greedy, margins_where_apart
from _reference import ROOT, bezel, finish, reference, tell
from gemma3_270m import TEXTS
from gguf_out import prepared, wide_model
from tokenizers import Tokenizer

MODEL = ROOT / ".venv" / "models" / "gemma-3-270m-q4_k_m.gguf"
KINDS = ("f16", "bf16", "q8_0", "q4_0", "q4_k_m")
FLOATING = ("f16", "bf16")


def tokens_of_texts(model: Path) -> list:
    """By llama.cpp's own tokenizer, whose words are those of the file."""
    import json
    import subprocess

    run = subprocess.run(["node", ROOT / "tests" / "parity" / "_llama_tokens.mjs"], input=json.dumps(dict(model=str(model), texts=TEXTS)),
                         capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def gemma3(tmp: Path, count: int):
    prompts = tokens_of_texts(MODEL)[:count]
    for kind in KINDS:
        file = tmp / f"gemma3-{kind}.gguf"
        bezel("convert", "--model", MODEL, "--to", "gguf", "--type", kind, "--output", file)
        texts = greedy(file, prompts)
        if kind in FLOATING:
            margins = margins_where_apart(file, prompts, texts, tmp)
            tell(not margins, f"Gemma 3 270M {kind}: {count - len(margins)} of {count} texts of llama.cpp are Bezel's {margins}")
        else:
            compare_texts(f"Gemma 3 270M {kind}", file, prompts, texts, tmp)
        file.unlink()


def rows_of_256(tmp: Path):
    """Random weights, which part where anything rounds: the file loads, and the first words are Bezel's."""
    wide = wide_model(prepared(reference(0) / "e2b" / "model", tmp / "e2b"), tmp / "wide")
    tokenizer = Tokenizer.from_file(str(wide / "tokenizer.json"))
    prompts = [tokenizer.encode(f"<bos>{text}", add_special_tokens=False).ids for text in ("Count from one to nine", "A bezel is", "item 3: value", "cafe")]
    for kind in ("bf16", "q8_0", "q4_0", "q4_k_m"):
        file = tmp / f"wide-{kind}.gguf"
        bezel("convert", "--model", wide, "--to", "gguf", "--type", kind, "--output", file)
        texts = greedy(file, prompts)
        margins = margins_where_apart(file, prompts, [text[:1] for text in texts], tmp)
        tell(all(margin < 0.3 for margin in margins), f"rows of 256 {kind}: {len(prompts) - len(margins)} of {len(prompts)} next words are Bezel's, margins at others {margins}")


def main():
    if not (ROOT / "node_modules" / "node-llama-cpp").exists():
        print("npm node-llama-cpp is not installed")
        return 77
    with tempfile.TemporaryDirectory() as name:
        rows_of_256(Path(name))
        if MODEL.exists():
            gemma3(Path(name), 20 if "--full" in sys.argv else 4)
        else:
            print(f"{MODEL} is not there, so trained weights were left out")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
