"""`bezel convert` of checkpoints as large as the released E2B within 1 GB of memory: stand-ins with its arrays' names and shapes.

 - one without any chunk: every value reads as zero, as the format says;
 - one whose largest table, 9.4 GB, is chunks of 100 MB of real zstd, of numbers that do not compress.

Names and shapes here are those of google-deepmind/gemma's modules, written out once more; what comes out has the names and shapes of
google/gemma-4-E2B-it.

    orbax_size.py BEZEL_FOLDER TEST_FOLDER

Skipped without room for 16 GB of files.
"""
import ctypes
import ctypes.util
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _reference import BIN, ROOT, finish, run, tell
from safetensors import safe_open

LAYERS, WIDTH, PER_LAYER, VOCAB = 35, 1536, 256, 262144
# A process that begins as a copy of a large one counts that one's memory too, so a small one starts it.
MEASURED = """import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)"""
GIGABYTE, CHUNK_ROWS = 10**9, 2790  # 2790 * 35 * 256 float32: 100 MB
TABLE = "embedder.per_layer_embeddings"


def text_arrays() -> dict:
    arrays = {"embedder/input_embedding": [VOCAB, WIDTH], "embedder/per_layer_embeddings": [VOCAB, LAYERS, PER_LAYER],
              "embedder/per_layer_model_projection/w": [WIDTH, LAYERS, PER_LAYER], "embedder/per_layer_projection_norm/scale": [PER_LAYER],
              "final_norm/scale": [WIDTH]}
    for i in range(LAYERS):
        head, mlp = (512 if i % 5 == 4 else 256), (6144 if i < 15 else 12288)
        arrays |= {f"layer_{i}/{name}": shape for name, shape in {
            "attn/q_einsum/w": [8, WIDTH, head], "attn/kv_einsum/w": [2, 1, WIDTH, head], "attn/attn_vec_einsum/w": [8, head, WIDTH],
            "attn/query_norm/scale": [head], "attn/key_norm/scale": [head], "skip_scale": [1], "mlp/gating_einsum/w": [2, mlp, WIDTH],
            "mlp/linear/w": [mlp, WIDTH], "per_layer_input_gate/w": [WIDTH, PER_LAYER], "per_layer_projection/w": [PER_LAYER, WIDTH],
            **{f"{norm}/scale": [WIDTH] for norm in ("pre_attention_norm", "post_attention_norm", "pre_ffw_norm", "post_ffw_norm",
                                                     "post_per_layer_input_norm")}}.items()}
    return arrays


def with_bounds(path: str, kernel: str, shape: list, bound: list) -> dict:
    return {f"{path}/{kernel}": shape} | {f"{path}/clip_{end}_{side}": bound for end in ("input", "output") for side in ("min", "max")}


def vision_arrays() -> dict:
    width, layers = 768, 16
    arrays = {"vision_encoder/entry/input_projection/w": [768, width], "vision_encoder/entry/pos_emb": [10240, 2, width],
              "embedder/mm_input_projection/w": [width, WIDTH]}
    block = "vision_encoder/transformer/stacked_layers/block"
    for name, shape in {"attn/q_einsum": [12, width, 64], "attn/kv_einsum": [2, 12, width, 64], "attn/attn_vec_einsum": [12, 64, width],
                        "mlp/gating_einsum": [2, 3072, width], "mlp/linear": [3072, width]}.items():
        arrays |= with_bounds(f"{block}/{name}", "w", [layers, *shape], [layers])
    arrays |= {f"{block}/{norm}/scale": [layers, width] for norm in ("pre_attention_norm", "post_attention_norm", "pre_ffw_norm", "post_ffw_norm")}
    return arrays | {f"{block}/attn/{norm}/scale": [layers, 64] for norm in ("query_norm", "key_norm")}


def audio_arrays() -> dict:
    width = 1024
    arrays = {"audio_encoder/feature/subsampling_0/kernel": [3, 3, 1, 128], "audio_encoder/feature/subsampling_1/kernel": [3, 3, 128, 32],
              "audio_encoder/feature/norm_0/scale": [128], "audio_encoder/feature/norm_1/scale": [32],
              "audio_encoder/feature/input_proj/kernel": [32, 32, width], "audio_encoder/output_projection/kernel": [width, 1536],
              "audio_encoder/output_projection/bias": [1536], "embedder/audio_input_projection/w": [1536, WIDTH]}
    for i in range(12):
        layer = f"audio_encoder/conformer|stacked_layers_{i}"  # a slash inside one segment
        for half in ("fflayer_start", "fflayer_end"):
            arrays |= with_bounds(f"{layer}/{half}/ffn_layer1", "kernel", [width, 4 * width], [])
            arrays |= with_bounds(f"{layer}/{half}/ffn_layer2", "kernel", [4 * width, width], [])
            arrays |= {f"{layer}/{half}/{norm}/scale": [width] for norm in ("pre_layer_norm", "post_layer_norm")}
        for part in ("query", "key", "value"):
            arrays |= with_bounds(f"{layer}/trans_atten/self_atten/{part}", "kernel", [width, width], [])
        arrays |= with_bounds(f"{layer}/trans_atten/post", "kernel", [8, 128, width], [])
        for part, out in (("linear_start", 2 * width), ("linear_end", width)):
            arrays |= with_bounds(f"{layer}/lconv/{part}", "kernel", [width, out], [])
        arrays |= {f"{layer}/trans_atten/self_atten/relative_position_embedding/pos_proj/kernel": [width, 8, 128],
                   f"{layer}/trans_atten/self_atten/per_dim_scale": [128], f"{layer}/lconv/depthwise_conv1d/kernel": [5, 1, width],
                   **{f"{layer}/{norm}/scale": [width] for norm in ("trans_atten/pre_norm", "trans_atten/post_norm", "lconv/ln", "lconv/conv_norm",
                                                                    "final_ln")}}
    return arrays


def write(folder: Path, arrays: dict, chunks=None):
    """A checkpoint of plain files; `chunks`: of the table, whose files are all there."""
    tree = {}
    for path, shape in arrays.items():
        segments = [segment.replace("|", "/") for segment in path.split("/")]
        name = ".".join(segments)
        tree[str(tuple(segments))] = {"key_metadata": [{"key": segment, "key_type": 2} for segment in segments]}
        described = {"zarr_format": 2, "order": "C", "dtype": "<f4", "shape": shape, "chunks": chunks if chunks and name == TABLE else shape,
                     "compressor": {"id": "zstd", "level": 1}, "fill_value": None, "filters": None, "dimension_separator": "."}
        (folder / name).mkdir(parents=True)
        (folder / name / ".zarray").write_text(json.dumps(described))
    (folder / "_METADATA").write_text(json.dumps({"use_ocdbt": False, "use_zarr3": False, "tree_metadata": tree}))


def zstd(data: bytes) -> bytes:
    library = ctypes.CDLL(ctypes.util.find_library("zstd"))
    library.ZSTD_compressBound.restype = library.ZSTD_compress.restype = ctypes.c_size_t
    library.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
    library.ZSTD_compress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    out = ctypes.create_string_buffer(library.ZSTD_compressBound(len(data)))
    size = library.ZSTD_compress(out, len(out), data, len(data), 1)
    return out.raw[:size]


def write_table(folder: Path) -> np.ndarray:
    """All chunks of the table are one file, by many names; returns its rows."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((CHUNK_ROWS, LAYERS * PER_LAYER), dtype=np.float32)
    frame = zstd(rows.tobytes())
    first = folder / TABLE / "0.0.0"
    first.write_bytes(frame)
    for idx in range(1, math.ceil(VOCAB / CHUNK_ROWS)):
        os.link(first, folder / TABLE / f"{idx}.0.0")
    print(f"{math.ceil(VOCAB / CHUNK_ROWS)} chunks of {rows.nbytes / 1e6:.0f} MB, {len(frame) / 1e6:.0f} MB each in zstd")
    return rows


def released() -> dict:
    rows = [line.split("\t") for line in (ROOT / "tests" / "data" / "e2b_tensors.tsv").read_text().splitlines() if not line.startswith("#")]
    return {row[0]: [int(size) for size in row[1].replace("x", ",").split(",") if size] for row in rows}


def convert(what: str, source: Path, tokenizer: Path, out: Path):
    shutil.rmtree(out, ignore_errors=True)
    done = run(sys.executable, "-c", MEASURED, BIN / "bezel", "convert", "--model", source, "--tokenizer", tokenizer, "--output", out)
    peak = int(done.stderr.split()[-1]) * 1024
    tell(peak < GIGABYTE, f"{what}: converted with at most {peak / 1e6:.0f} MB of memory")


def tensors(folder: Path):
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                yield name, file


def bits(values: np.ndarray) -> np.ndarray:
    """float32 -> the nearest bfloat16, ties to even, as 16 bits."""
    wide = values.view(np.uint32).astype(np.uint64)
    return ((wide + 0x7FFF + (wide >> 16 & 1)) >> 16).astype(np.uint16)


def main():
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        if shutil.disk_usage(tmp).free < 16 * GIGABYTE:
            print("skipped: less than 16 GB of room")
            return 77
        tokenizer = tmp / "tokenizer"
        tokenizer.mkdir()
        (tokenizer / "tokenizer.json").write_text("{}")
        arrays = text_arrays() | vision_arrays() | audio_arrays()
        write(tmp / "empty", arrays)
        report = json.loads(run(BIN / "bezel", "inspect", tmp / "empty", "--json").stdout)
        tell(report["size"] == "E2B" and report["converts"] is True and report["store"] == "files", "inspect knows the size by the shapes")
        tell(report["arrays"] == len(arrays) and report["tensors"] == len(released()), f"inspect: {report['arrays']} arrays, {report['tensors']} tensors")
        convert("no chunk", tmp / "empty", tokenizer, tmp / "out")
        got = {key: list(file.get_slice(key).get_shape()) for key, file in tensors(tmp / "out")}
        tell(got == released(), f"{len(got)} tensors with the released names and shapes {sorted(got.keys() ^ released().keys())[:3]}")
        write(tmp / "table", arrays, [CHUNK_ROWS, LAYERS, PER_LAYER])
        rows = bits(write_table(tmp / "table"))
        convert("chunks of 100 MB", tmp / "table", tokenizer, tmp / "out")
        for key, file in tensors(tmp / "out"):
            if key != "model.language_model.embed_tokens_per_layer.weight":
                continue
            table, wrong = file.get_slice(key), 0
            for first in range(0, VOCAB, 7 * CHUNK_ROWS + 13):
                piece = table[first:first + 20].view(torch.int16).numpy().view(np.uint16)
                wrong += sum(not np.array_equal(row, rows[(first + at) % CHUNK_ROWS]) for at, row in enumerate(piece))
            tell(wrong == 0, "the table's rows are those of the chunks, rounded")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
