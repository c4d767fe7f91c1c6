"""A second, independent engine: llama.cpp reads the tiny Gemma 4 as a GGUF file, and an adapter over all the layers that it has
adapters for, as `bezel convert --to gguf` writes it, and goes on with 20 texts as Bezel does. llama.cpp looks GELU up in a table
of float16, and random weights are seldom sure of a token: up to 8 texts may part, all where two tokens are within 0.02.
(tests/gemma3_270m.py does the same with trained weights.)

    llama_cpp.py BEZEL_FOLDER TEST_FOLDER
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parent / "parity"))
from _gguf import write_gguf
from _llama import compare
from _reference import reference

TEST_BIN = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["BEZEL_TEST_BIN"])
TARGETS = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj,per_layer_input_gate,per_layer_projection"
failures = []


def check(ok, what):
    print("ok" if ok else "FAILED", what, flush=True)
    if not ok:
        failures.append(what)


def main():
    folder = reference(0) / "e2b" / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompts = [tokenizer.encode(f"<bos>item {n}: value", add_special_tokens=False).ids for n in range(20)]
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        model, adapter = tmp / "e2b.gguf", tmp / "adapter"
        write_gguf(folder, model)
        subprocess.run([TEST_BIN / "fresh_adapter", model, adapter, "language", TARGETS], check=True, capture_output=True)
        base = compare("base", model, prompts, tmp, check, None, 8, 0.02)
        tuned = compare("adapter", model, prompts, tmp, check, adapter, 8, 0.02)
        check(all(a != b for a, b in zip(base, tuned)), "the adapter changes every text")
    print(len(failures), "failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
