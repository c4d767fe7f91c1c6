"""The real E2B, name for name: a sparse file with the 2,011 tensors of google/gemma-4-E2B-it. `bezel inspect` must find
every tensor in its place, only the k/v tensors of KV-sharing layers left over, all 232 clipped layers, within a second
and 200 MB; one tensor taken away, renamed or reshaped must show.

    inspect_e2b.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import math
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"
BEZEL = Path(sys.argv[1]) / "bezel"
LAYERS = 35

CONFIG = {
    "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4", "dtype": "bfloat16", "tie_word_embeddings": True,
    "image_token_id": 258880, "audio_token_id": 258881, "video_token_id": 258884, "boi_token_id": 255999, "eoi_token_id": 258882,
    "text_config": {
        "model_type": "gemma4_text", "hidden_size": 1536, "num_hidden_layers": LAYERS, "num_attention_heads": 8,
        "num_key_value_heads": 1, "num_global_key_value_heads": None, "head_dim": 256, "global_head_dim": 512,
        "intermediate_size": 6144, "use_double_wide_mlp": True, "sliding_window": 512, "num_kv_shared_layers": 20,
        "hidden_size_per_layer_input": 256, "vocab_size": 262144, "vocab_size_per_layer_input": 262144, "rms_norm_eps": 1e-6,
        "final_logit_softcapping": 30.0, "attention_k_eq_v": False, "enable_moe_block": False, "pad_token_id": 0,
        "layer_types": ["full_attention" if i % 5 == 4 else "sliding_attention" for i in range(LAYERS)],
        "rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
                            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "vision_config": {
        "model_type": "gemma4_vision", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16,
        "num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64, "global_head_dim": 64, "patch_size": 16,
        "pooling_kernel_size": 3, "position_embedding_size": 10240, "use_clipped_linears": True, "standardize": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
    "audio_config": {
        "model_type": "gemma4_audio", "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 8,
        "subsampling_conv_channels": [128, 32], "conv_kernel_size": 5, "attention_chunk_size": 12, "attention_context_left": 13,
        "attention_context_right": 0, "output_proj_dims": 1536, "use_clipped_linears": True},
}


def read_tensors():
    rows = [line.split("\t") for line in (DATA / "e2b_tensors.tsv").read_text().splitlines() if not line.startswith("#")]
    return {row[0]: [int(size) for size in row[1].replace("x", ",").split(",") if size] for row in rows}


def write_checkpoint(folder: Path, tensors):
    header, offset = {}, 0
    for name, shape in tensors.items():
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)  # a hole of zeros
    (folder / "config.json").write_text(json.dumps(CONFIG))


def inspect(folder: Path, *flags):
    done = subprocess.run([BEZEL, "inspect", folder, *flags], capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    return done


def report(folder: Path):
    return json.loads(inspect(folder, "--json").stdout)


def check_whole(folder: Path, tensors):
    found = report(folder)
    assert found["tensors"] == len(tensors) == 2011, found["tensors"]
    assert found["parameters"] == 5_123_178_979, found["parameters"]
    assert found["layout"] == "nested"
    for kind in ("unexpected_tensors", "missing_tensors", "wrong_shapes"):
        assert not found[kind], (kind, found[kind][:5])
    unused = found["unused_kv_tensors"]
    expected = {f"model.language_model.layers.{i}.self_attn.{part}.weight" for i in range(15, 35) for part in ("k_proj", "v_proj", "k_norm")}
    assert set(unused) == expected & set(tensors) and len(unused) == 60, len(unused)
    clipped = {name: tower.get("clipped_layers", 0) for name, tower in found["towers"].items()}
    assert clipped["vision"] == 112 and clipped["audio"] == 120 and clipped["language"] == 0, clipped
    assert found["clip"]["bounds"] == 928 and found["clip"]["missing"] == 0
    assert found["loads"]


def check_cost(folder: Path):
    """Memory is held to its bound; the time is printed, since it depends on what else the machine does."""
    start = time.monotonic()
    assert inspect(folder).returncode == 0
    seconds = time.monotonic() - start
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"inspect: {seconds:.2f} s, peak {peak_mb:.0f} MB")
    assert peak_mb < 200, peak_mb


def check_damage(folder: Path, tensors):
    name = "model.vision_tower.encoder.layers.3.mlp.gate_proj.linear.weight"
    write_checkpoint(folder, {key: shape for key, shape in tensors.items() if key != name})
    assert any("layers.3.mlp.gate_proj" in item for item in report(folder)["missing_tensors"])
    decoy = "model.language_model.layers.0.mlp.gate_proj.linear.weight"  # `.linear` has no place in the decoder
    write_checkpoint(folder, {key if "layers.0.mlp.gate_proj" not in key or "language" not in key else decoy: shape for key, shape in tensors.items()})
    damaged = report(folder)
    assert damaged["unexpected_tensors"] == [decoy] and not damaged["loads"], damaged["unexpected_tensors"]
    write_checkpoint(folder, {**tensors, name: [3072, 769]})
    assert name in report(folder)["wrong_shapes"][0]
    assert inspect(folder).returncode == 3


def main():
    tensors = read_tensors()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_checkpoint(folder, tensors)
        check_whole(folder, tensors)
        check_cost(folder)
        check_damage(folder, tensors)


if __name__ == "__main__":
    main()
