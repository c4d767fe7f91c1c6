"""The `mmproj` file that `bezel convert --to gguf` and `bezel merge --to gguf` write beside a model with towers, tensor by tensor against
what llama.cpp's converter makes of the checkpoint: names by PyPI gguf's table, shapes and values as its public source
(conversion/gemma.py: Gemma4VisionAudioModel) says. The npm runtime of llama.cpp has no loader for it: no image was asked here.

    mmproj_out.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _reference import PRESETS, bezel, finish, reference, tell
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFReader, LlamaFileType, get_tensor_name_map
from gguf.quants import quantize
from safetensors.torch import load_file

Type = GGMLQuantizationType
FLOATS = {"f32": (Type.F32, LlamaFileType.ALL_F32), "f16": (Type.F16, LlamaFileType.MOSTLY_F16), "bf16": (Type.BF16, LlamaFileType.MOSTLY_BF16)}
SUFFIXES = (".weight", ".bias", ".input_max", ".input_min", ".output_max", ".output_min")


def is_audio(name: str) -> bool:
    return "audio_tower" in name or "embed_audio" in name


def renamed(name: str) -> str:
    """How the converter calls a tensor before gguf's table."""
    if is_audio(name):
        name = name.replace("model.audio_tower.", "conformer.").replace(".linear.", ".")
        return name + ".weight" if name.endswith("per_dim_scale") else name
    name = name.replace("model.vision_tower.encoder.", "vision_model.model.").replace(".linear.weight", ".weight")
    return name + ".weight" if name.endswith("position_embedding_table") else name


def changed(name: str, value: torch.Tensor) -> torch.Tensor:
    if value.ndim == 0:
        return value.reshape(1)
    if name.endswith("per_dim_scale"):
        return torch.nn.functional.softplus(value)
    if "depthwise_conv1d" in name:
        return value.reshape(value.shape[0], value.shape[2])
    if name.endswith("patch_embedder.input_proj.weight"):
        side = int((value.shape[1] // 3) ** 0.5)
        return value.reshape(value.shape[0], side, side, 3).permute(0, 3, 1, 2).contiguous()
    return value


def type_of(name: str, stored: str, value: torch.Tensor, kind: Type) -> Type:
    if value.ndim <= 1 or stored.endswith("_norm.weight") or not stored.endswith(".weight") or "position_embedding_table" in name:
        return Type.F32
    if is_audio(name) and (".conv" in name or "_conv" in name):
        return Type.F32
    if stored == "v.patch_embd.weight":
        return Type.F16 if kind == Type.F16 else Type.F32
    return kind


def expected(tensors: dict, kind: Type) -> dict:
    names, made = get_tensor_name_map(MODEL_ARCH.MMPROJ, 128), {}
    for name, value in tensors.items():
        if "language_model" in name or name.startswith("lm_head"):
            continue
        stored = names.get_name(renamed(name), try_suffixes=SUFFIXES)
        assert stored, f"gguf has no name for {name}"
        value = changed(name, value.float())
        chosen = type_of(name, stored, value, kind)
        made[stored] = (chosen, quantize(value.numpy(), chosen))
    return made


# Of the 12B, by llama.cpp's conversion/gemma.py (Gemma4UnifiedVisionAudioModel) and its table of names; PyPI gguf 0.19 has none of them yet.
UNIFIED_NAMES = {"model.vision_embedder.patch_dense": "v.patch_embd", "model.vision_embedder.patch_ln1": "v.patch_norm.1",
                 "model.vision_embedder.patch_ln2": "v.patch_norm.2", "model.vision_embedder.pos_norm": "v.patch_norm.3",
                 "model.embed_vision.embedding_projection": "mm.input_projection", "model.embed_audio.embedding_projection": "mm.a.input_projection"}


def expected_unified(tensors: dict, kind: Type, side: int) -> dict:
    made = {}
    for name, value in tensors.items():
        if "language_model" in name or name.startswith("lm_head"):
            continue
        module, part = name.rsplit(".", 1)
        value = value.float()
        if part == "pos_embedding":
            stored, value = "v.position_embd.weight", value.permute(1, 0, 2).contiguous()
        else:
            stored = f"{UNIFIED_NAMES[module]}.{part}"
        if "patch_ln1" in name or name.endswith("patch_dense.weight"):  # columns [row, column, channel] -> [channel, row, column]
            value = value.reshape(*value.shape[:-1], side, side, 3).moveaxis(-1, -3).reshape(value.shape).contiguous()
        wide = value.ndim <= 1 or part != "weight" or stored == "v.position_embd.weight"
        chosen = Type.F32 if wide else (Type.F16 if kind == Type.F16 else Type.F32) if stored == "v.patch_embd.weight" else kind
        made[stored] = (chosen, quantize(value.numpy(), chosen))
    return made


def expected_unified_keys(config: dict, folder: Path, file_type: int) -> dict:
    images = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    vision, width = config["vision_config"], config["text_config"]["hidden_size"]
    keys = {"general.architecture": "clip", "general.type": "mmproj", "general.name": folder.name, "general.file_type": file_type,
            "general.quantization_version": 2, "clip.vision.projector_type": "gemma4uv", "clip.vision.image_size": 224,
            "clip.vision.patch_size": vision["patch_size"], "clip.vision.embedding_length": vision["mm_embed_dim"],
            "clip.vision.image_mean": images.get("image_mean", [0, 0, 0]), "clip.vision.image_std": images.get("image_std", [1, 1, 1]),
            "clip.audio.projector_type": "gemma4ua", "clip.audio.embedding_length": config["audio_config"]["audio_embed_dim"],
            "clip.audio.num_mel_bins": 128}
    if vision["pooling_kernel_size"] != 3:
        keys["clip.vision.projector.scale_factor"] = vision["pooling_kernel_size"]
    for tower in ("vision", "audio"):
        keys |= {f"clip.has_{tower}_encoder": True, f"clip.{tower}.projection_dim": width, f"clip.{tower}.feed_forward_length": 0,
                 f"clip.{tower}.block_count": 0, f"clip.{tower}.attention.head_count": 0, f"clip.{tower}.attention.layer_norm_epsilon": 1e-6}
    return keys


def expected_keys(config: dict, folder: Path, file_type: int) -> dict:
    text, vision, audio = config["text_config"], config["vision_config"], config.get("audio_config")
    images = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    keys = {"general.architecture": "clip", "general.type": "mmproj", "general.name": folder.name, "general.file_type": file_type,
            "general.quantization_version": 2, "clip.has_vision_encoder": True, "clip.vision.projector_type": "gemma4v",
            "clip.vision.projection_dim": text["hidden_size"], "clip.vision.image_size": 224, "clip.vision.patch_size": vision["patch_size"],
            "clip.vision.embedding_length": vision["hidden_size"], "clip.vision.feed_forward_length": vision["intermediate_size"],
            "clip.vision.block_count": vision["num_hidden_layers"], "clip.vision.attention.head_count": vision["num_attention_heads"],
            "clip.vision.image_mean": images["image_mean"], "clip.vision.image_std": images["image_std"],
            "clip.vision.attention.layer_norm_epsilon": 1e-6}
    if audio:
        keys |= {"clip.has_audio_encoder": True, "clip.audio.projector_type": "gemma4a", "clip.audio.projection_dim": text["hidden_size"],
                 "clip.audio.embedding_length": audio["hidden_size"], "clip.audio.feed_forward_length": 4 * audio["hidden_size"],
                 "clip.audio.block_count": audio["num_hidden_layers"], "clip.audio.attention.head_count": audio["num_attention_heads"],
                 "clip.audio.num_mel_bins": 128, "clip.audio.attention.layer_norm_epsilon": 1e-6}
    return keys


def same(a, b) -> bool:
    return np.allclose(a, b, rtol=1e-6, atol=0) if isinstance(a, float) else a == b


def compare(what: str, path: Path, tensors: dict, kind: str, config: dict, folder: Path):
    qtype, file_type = FLOATS[kind]
    unified = config["model_type"] == "gemma4_unified"
    side = config["vision_config"]["patch_size"] * config["vision_config"]["pooling_kernel_size"]
    reader, want = GGUFReader(path), expected_unified(tensors, qtype, side) if unified else expected(tensors, qtype)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    wanted = (expected_unified_keys if unified else expected_keys)(config, folder, file_type)
    differ = [key for key in keys.keys() | wanted.keys() if key not in keys or key not in wanted or not same(keys[key], wanted[key])]
    tell(not differ, f"{what}: {len(keys)} keys {differ[:3]}")
    got = {tensor.name: tensor for tensor in reader.tensors}
    differ = sorted(got.keys() ^ want.keys())
    for name in got.keys() & want.keys():
        chosen, value = want[name]
        shape = list(reversed(value.shape if chosen != Type.BF16 else (*value.shape[:-1], value.shape[-1] // 2)))
        if got[name].tensor_type != chosen or list(got[name].shape) != shape:
            differ.append(f"{name} {got[name].tensor_type.name} {list(got[name].shape)}, not {chosen.name} {shape}")
        elif not close(name, got[name].data, value):
            differ.append(name)
    bounds = sum(bool(re.search(r"_(min|max)$", name)) for name in got)
    tell(not differ, f"{what}: {len(got)} tensors, {bounds} of them clip bounds {differ[:3]}")


def close(name: str, got, want) -> bool:
    got, want = np.ascontiguousarray(got).view(np.uint8).ravel(), np.ascontiguousarray(want).view(np.uint8).ravel()
    if "per_dim_scale" in name:  # an exponential and a logarithm
        return np.allclose(got.view(np.float32), want.view(np.float32), rtol=1e-6)
    return np.array_equal(got, want)


def main():
    with tempfile.TemporaryDirectory() as name:
        tmp, root = Path(name), reference(0)
        for preset in PRESETS:
            folder = root / preset / "model"
            config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
            for kind in FLOATS if preset == "e2b" else ["bf16"]:
                bezel("convert", "--model", folder, "--to", "gguf", "--type", kind, "--output", tmp / f"{preset}-{kind}.gguf")
                compare(f"{preset} {kind}", tmp / f"mmproj-{preset}-{kind}.gguf", tensors, kind, config, folder)
            # An adapter over every layer of every tower; the same matrices as PEFT merges them.
            merged = tensors | load_file(root / preset / "merged.safetensors")
            bezel("merge", "--model", folder, "--adapter", root / preset / "adapter", "--to", "gguf", "--output", tmp / f"{preset}-merged.gguf")
            compare(f"{preset} merged", tmp / f"mmproj-{preset}-merged.gguf", merged, "f32", config, folder)
        root = reference(0, ("unified",)) / "unified"
        folder = root / "model"
        config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
        for kind in FLOATS:
            bezel("convert", "--model", folder, "--to", "gguf", "--type", kind, "--output", tmp / f"unified-{kind}.gguf")
            compare(f"unified {kind}", tmp / f"mmproj-unified-{kind}.gguf", tensors, kind, config, folder)
        bezel("merge", "--model", folder, "--adapter", root / "adapter", "--output", tmp / "unified-merged")
        merged = load_file(tmp / "unified-merged" / "model.safetensors")
        tell(any(not torch.equal(merged[name], tensors[name]) for name in merged if "vision_embedder" in name), "the adapter is on the embedders too")
        bezel("merge", "--model", folder, "--adapter", root / "adapter", "--to", "gguf", "--output", tmp / "unified-merged.gguf")
        compare("unified merged", tmp / "mmproj-unified-merged.gguf", merged, "f32", config, folder)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
