"""Blocks that Bezel packs are ggml's bit for bit (ggml_quantize_chunk of npm node-llama-cpp): each type, over values of many
kinds, and over trained weights.

    gguf_pack.py BEZEL_FOLDER TEST_FOLDER
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import _ggml
import numpy as np
from _reference import ROOT
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import load_file, save_file

MODEL = ROOT / ".venv" / "models" / "gemma-3-270m-q4_k_m.gguf"
KINDS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
SHAPE = (192, 1024)


def values() -> dict:
    rng = np.random.default_rng(0)
    normal = lambda: rng.standard_normal(SHAPE)
    groups = np.repeat(10.0 ** rng.integers(-20, 4, (SHAPE[0], SHAPE[1] // 16)), 16, axis=1)
    made = {"normal": normal(), "small": 1e-3 * normal(), "heavy tails": rng.standard_t(2, SHAPE), "many scales": groups * normal(),
            "half zeros": normal() * rng.integers(0, 2, SHAPE), "zeros": np.zeros(SHAPE), "whole": rng.integers(-9, 10, SHAPE),
            "positive": 5 + np.abs(normal()), "negative": -np.abs(normal()), "runs": np.repeat(normal()[:, :16], 64, axis=1),
            "ties": rng.integers(-64, 65, SHAPE) / 8, "one spike": 1e-4 * normal()}
    made["one spike"][:, ::256] = 100
    made["tiny"] = 1e-36 * normal()  # scales that float16 rounds to 0; of denormals 1 / scale would be no number
    return {name: value.astype(np.float32) for name, value in made.items()}


def trained() -> dict:
    if not MODEL.exists():
        print(f"{MODEL} is not there, so trained weights were left out")
        return {}
    tensors = {tensor.name: tensor for tensor in GGUFReader(MODEL).tensors}
    rows = {"blk.3.ffn_down.weight": 64, "token_embd.weight": 256}  # rows of 2048, and of 640, which is no whole Q4_K
    return {name: dequantize(tensors[name].data[:count], tensors[name].tensor_type) for name, count in rows.items()}


def main():
    if not _ggml.is_there():
        print("npm node-llama-cpp is not installed")
        return 77
    failures, tensors = 0, {**values(), **trained()}
    with tempfile.TemporaryDirectory() as name:
        given, made = Path(name) / "in.safetensors", Path(name) / "out.safetensors"
        for kind in KINDS:
            number = GGMLQuantizationType[kind]
            fit = {key: value for key, value in tensors.items() if value.shape[1] % GGML_QUANT_SIZES[number][0] == 0}
            save_file(fit, given)
            subprocess.run([Path(sys.argv[2]) / "pack_tensors", given, kind, made], check=True)
            packed = load_file(made)
            differ = [key for key, value in fit.items() if not np.array_equal(packed[key], _ggml.quantize_rows(value, number))]
            failures += len(differ)
            print(f"{kind}: {len(fit)} tensors, differing {differ}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
