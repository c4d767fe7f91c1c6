"""Values of every packed type that Bezel reads equal those of PyPI gguf bit for bit: random blocks, blocks of the
smallest and largest codes and scales, and real weights.

    gguf_values.py BEZEL_FOLDER TEST_FOLDER
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / ".venv" / "models" / "gemma-3-270m-q4_k_m.gguf"
# Where the float16 scales of a block lie.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "Q2_K": [80, 82], "Q3_K": [108], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}
ELEMENTS = 1 << 18
SMALLEST, LARGEST = 0x0001, 0x7BFF


def blocks(name: str, rng) -> np.ndarray:
    """Rows of four blocks; scales are any finite float16, of either sign."""
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    made = rng.integers(0, 256, (ELEMENTS // elements, size), dtype=np.uint8)
    for place in SCALES[name]:
        scale = rng.integers(0, 1 << 16, len(made)).astype(np.uint16)
        scale[(scale >> 10 & 31) == 31] &= 0x83FF
        made[:, place:place + 2] = scale.reshape(-1, 1).view(np.uint8)
    for i, byte in enumerate((0x00, 0xFF, 0x7F, 0x80)):
        made[2 * i:2 * i + 2] = byte
        for place in SCALES[name]:
            made[2 * i, place:place + 2] = np.array([SMALLEST], np.uint16).view(np.uint8)
            made[2 * i + 1, place:place + 2] = np.array([LARGEST | 0x8000], np.uint16).view(np.uint8)
    if name == "MXFP4":  # a power of two, at most the one whose values float32 holds
        made[:, 0] = np.clip(made[:, 0], 0, 252)
    return made.reshape(-1, 4 * size)


def write(path: Path) -> dict:
    """A file with a tensor of each type; returns what gguf makes of them."""
    rng = np.random.default_rng(0)
    writer = GGUFWriter(path, "gemma4")
    wanted = {}
    for name in SCALES:
        raw = blocks(name, rng)
        writer.add_tensor(name, raw, raw_dtype=GGMLQuantizationType[name])
        wanted[name] = dequantize(raw, GGMLQuantizationType[name])
    plain = rng.standard_normal((8, 40)).astype(np.float32)
    writer.add_tensor("F32", plain)
    writer.add_tensor("F16", plain.astype(np.float16))
    wanted |= {"F32": plain, "F16": plain.astype(np.float16).astype(np.float32)}
    bf16 = (plain.view(np.uint32) >> 16).astype(np.uint16)
    writer.add_tensor("BF16", bf16.view(np.uint8), raw_dtype=GGMLQuantizationType.BF16)
    wanted["BF16"] = dequantize(bf16.view(np.uint8), GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return wanted


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 -> the nearest bfloat16, ties to even, in float32."""
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


def unpacked(path: Path, scratch: Path) -> dict:
    out = scratch / "out.safetensors"
    subprocess.run([str(Path(sys.argv[2]) / "unpack_gguf"), str(path), str(out)], check=True)
    return load_file(out)


def differing(got: np.ndarray, want: np.ndarray) -> int:
    assert got.shape == want.shape and got.dtype == want.dtype == np.float32, (got.shape, want.shape)
    return int((got.view(np.uint32) != want.view(np.uint32)).sum())


def compare(got: dict, wanted: dict) -> int:
    failures = 0
    for name, want in wanted.items():
        forms = {"values": want, "plain": want, "bf16": rounded(want), "bf16_plain": rounded(want)}
        wrong = {form: differing(got[f"{name}.{form}"], value) for form, value in forms.items() if f"{name}.{form}" in got}
        failures += any(wrong.values())
        print(f"{name}: {want.size} values, differing {wrong}")
    return failures


def main():
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        wanted = write(scratch / "made.gguf")
        failures = compare(unpacked(scratch / "made.gguf", scratch), wanted)
        if MODEL.exists():
            few = write_real(scratch / "real.gguf")
            failures += compare(unpacked(scratch / "real.gguf", scratch), few)
        else:
            print(f"{MODEL} is not there, so real weights were left out")
    sys.exit(f"{failures} tensors differ" if failures else 0)


def write_real(path: Path) -> dict:
    """The first layer and a part of the embeddings of a trained model, as they are stored there."""
    writer, wanted = GGUFWriter(path, "gemma3"), {}
    for tensor in GGUFReader(MODEL).tensors:
        if not tensor.name.startswith("blk.0.") and tensor.name != "token_embd.weight":
            continue
        data = np.ascontiguousarray(tensor.data[:512])
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
        wanted[tensor.name] = dequantize(data, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return wanted


if __name__ == "__main__":
    main()
