"""Language models of Gemma 4 in GGUF files, written with PyPI gguf under llama.cpp's names, against the same weights as
safetensors: logits, trained adapters and generated text, for each shape of the model and plain and packed values. They
are the same bit for bit, except where experts multiply a single row: LibTorch's product of one row rounds as the matrix
happens to be aligned in its file (two safetensors files of one model differ alike), in float32 and in bfloat16.

    gguf_parity.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import load_file

from _gguf import write_gguf
from _reference import BIN, PRESETS, forward, reference

SAMPLES = [{"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
           for question, answer in (("Name three primes.", "2, 3 and 5."), ("Is 91 prime?", "No, it is 7 times 13."),
                                    ("Count to three.", "1, 2, 3.\n\n"), ("café?", "日本語, ελληνικά"))]


LOGITS_ERROR = 2e-5   # of logits about 2, measured 2.2e-6
# Of an adapter's norm after 3 steps; measured 7e-7 in float32, and in bfloat16 1.6e-4 with AVX-512 bf16, 4e-4 with AVX-512
# and 1.6e-2 with AVX2. AdamW's first updates have the sign of the gradient, which may be that of a rounding error.
UPDATE_ERROR = {"float32": 2e-2, "bfloat16": 6e-2}


def same(got: dict, want: dict) -> bool:
    return got.keys() == want.keys() and all(np.array_equal(got[key], want[key]) for key in got)


def close(got: dict, want: dict) -> bool:
    return got.keys() == want.keys() and all(np.abs(got[key] - want[key]).max() < LOGITS_ERROR for key in got)


def close_as_a_whole(got: dict, want: dict, dtype: str) -> bool:
    far = np.sqrt(sum(np.square(got[key] - want[key]).sum() for key in want))
    return got.keys() == want.keys() and far < UPDATE_ERROR[dtype] * np.sqrt(sum(np.square(value).sum() for value in want.values()))


def bezel(*words) -> str:
    done = subprocess.run([str(BIN / "bezel"), *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def logits_agree(model: Path, gguf: Path, folder: Path, scratch: Path, agree) -> bool:
    outputs = []
    for base in (model, gguf):
        made = forward(base, folder / "case-text.safetensors", scratch / "out.safetensors")
        outputs.append({key: made[key].numpy() for key in ("logits", "loss")})
    return agree(*outputs)


def trained_adapter(base: Path, samples: Path, out: Path, dtype: str) -> dict:
    bezel("train", f"--base-model={base}", f"--train-file={samples}", f"--output-dir={out}", "--max-steps=3", "--seed=1",
          f"--dtype={dtype}", "--lora-r=4", "--learning-rate=1e-2", "--micro-batch-size=2", "--gradient-accumulation-steps=1",
          "--report-to=none", "--save-steps=0", "--quiet")
    # The file's model is text only, so its adapter names the decoder's layers as a text-only model does.
    return {key.replace(".language_model.", "."): value for key, value in load_file(out / "adapter_model.safetensors").items()}


def check_preset(name: str, folder: Path, kind: Type, scratch: Path) -> int:
    gguf, model = scratch / f"{name}-{kind.name}.gguf", scratch / f"{name}-{kind.name}"
    write_gguf(folder / "model", gguf, kind, equivalent=model)
    samples = scratch / "samples.jsonl"
    samples.write_text("".join(json.dumps(sample) + "\n" for sample in SAMPLES))
    rounds = name == "moe"  # experts multiply single rows
    results = {"logits": logits_agree(model, gguf, folder, scratch, close if rounds else same)}
    for dtype in ("float32", "bfloat16"):
        adapters = [trained_adapter(base, samples, scratch / f"out-{base.name}-{dtype}", dtype) for base in (model, gguf)]
        results[f"adapter in {dtype}"] = close_as_a_whole(*adapters, dtype) if rounds else same(*adapters)
    # Token by token: words that only pad the file's vocabulary have another spelling there.
    written = [json.loads(bezel("generate", "--model", base, "--dtype", "float32", "--max-new-tokens", 12, "--json", "--prompt",
                                "Name three primes."))["tokens"] for base in (model, gguf)]
    results["tokens"] = written[0] == written[1]
    report = json.loads(bezel("inspect", gguf, "--json", "--check"))
    results["inspect"] = report["loads"] and report["storage"].get(kind.name, {}).get("tensors", 0) > 0 and not report["bad_values"]
    print(f"{name} {kind.name}: " + ", ".join(f"{what} {'same' if good else 'DIFFERS'}" for what, good in results.items()))
    return sum(not good for good in results.values())


def main():
    failures = 0
    seed = reference(0)
    with tempfile.TemporaryDirectory() as name:
        for preset in PRESETS:
            failures += check_preset(preset, seed / preset, Type.F32, Path(name))
        for kind in (Type.Q8_0, Type.Q4_0, Type.BF16):
            failures += check_preset("e2b", seed / "e2b", kind, Path(name))
        failures += check_preset("moe", seed / "moe", Type.Q5_0, Path(name))
    sys.exit(f"{failures} comparisons failed" if failures else 0)


if __name__ == "__main__":
    main()
