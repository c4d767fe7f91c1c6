"""Models that Bezel writes as GGUF files (`bezel convert --to gguf`, `bezel merge --to gguf`), against what PyPI gguf makes of the
same checkpoint and what llama-quantize (npm node-llama-cpp's libllama) makes of the file:

 - every key and every tensor of F32, F16 and BF16 files of each preset, the tokenizer's keys being those of gguf's own LlamaHfVocab
   and SpecialVocab;
 - every tensor of quantized files, type and bytes;
 - merged files: W + s B A rounded as the type says; from a GGUF base everything else byte for byte.

    gguf_out.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import shutil
import sys
import tempfile
from pathlib import Path

import _ggml
import numpy as np
import torch
from _gguf import TEXT, add_config, llama_name
from _reference import PRESETS, bezel, finish, reference, tell
from gguf import (MODEL_ARCH, GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType, LlamaHfVocab, SpecialVocab, TokenType,
                  get_tensor_name_map)
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file

Type = GGMLQuantizationType
VISIBLE = {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>"}
FLOATS = {"f32": (Type.F32, LlamaFileType.ALL_F32), "f16": (Type.F16, LlamaFileType.MOSTLY_F16), "bf16": (Type.BF16, LlamaFileType.MOSTLY_BF16)}
PACKED = {"q8_0": LlamaFileType.MOSTLY_Q8_0, "q4_0": LlamaFileType.MOSTLY_Q4_0, "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M}
TEMPLATE = "{% for message in messages %}<|turn>{{ message.role }}\n{{ message.content }}<turn|>\n{% endfor %}"


def keys_of(reader) -> dict:
    return {name: (field.types, field.contents()) for name, field in reader.fields.items() if not name.startswith("GGUF.")}


def tensors_of(reader) -> dict:
    return {tensor.name: tensor for tensor in reader.tensors}


def same_tensor(a, b) -> bool:
    return a.tensor_type == b.tensor_type and list(a.shape) == list(b.shape) and np.array_equal(a.data.view(np.uint8), b.data.view(np.uint8))


def add_tokenizer(writer, folder: Path, rows: int):
    """As llama.cpp's converter does for Gemma 4, with gguf's own readers of Hugging Face's files."""
    words, scores, kinds = [], [], []
    for text, score, kind in LlamaHfVocab(folder).all_tokens():
        words.append(text)
        scores.append(score)
        kinds.append(TokenType.USER_DEFINED if text.decode() in VISIBLE else kind)
    padding = [f"[PAD{idx}]".encode() for idx in range(len(words), rows)]
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list(words + padding)
    writer.add_token_scores(scores + [-1000.0] * len(padding))
    writer.add_token_types(kinds + [TokenType.UNUSED] * len(padding))
    vocabulary = SpecialVocab(folder, load_merges=True)
    vocabulary.add_special_token.pop("bos", None)  # set below
    vocabulary.add_special_token.pop("sep", None)  # a guess from the template for pairs, which no Gemma has a separator in
    vocabulary.add_to_gguf(writer, quiet=True)
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(True)


def is_wide(name: str, value) -> bool:
    return value.ndim < 2 or name.endswith("_norm.weight") or not name.endswith(".weight") or "ffn_gate_inp" in name


def write_expected(folder: Path, out: Path, kind: str) -> GGUFReader:
    """The language model in `folder`, by PyPI gguf."""
    qtype, file_type = FLOATS[kind]
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    writer = GGUFWriter(out, "gemma4")
    writer.add_type("model")
    writer.add_name(folder.name)
    sampling = json.loads((folder / "generation_config.json").read_text()) if (folder / "generation_config.json").exists() else {}
    for key, add in (("top_k", writer.add_sampling_top_k), ("top_p", writer.add_sampling_top_p), ("temperature", writer.add_sampling_temp)):
        if key in sampling:
            add(sampling[key])
    add_config(writer, text)
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    add_tokenizer(writer, folder, text["vocab_size"])
    names = get_tensor_name_map(MODEL_ARCH.GEMMA4, text["num_hidden_layers"])
    for key, value in load_file(folder / "model.safetensors").items():
        value = value.float().numpy()
        flat = key.replace(TEXT, "model.")
        if any(part in key for part in ("vision", "audio")):
            continue
        name = llama_name(names, flat)
        chosen = Type.F32 if is_wide(name, value) else qtype
        writer.add_tensor(name, quantize(value, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GGUFReader(out)


def compare_files(what: str, got: GGUFReader, want: GGUFReader, but=()):
    ours, theirs = keys_of(got), keys_of(want)
    differ = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)} - set(but)
    tell(not differ, f"{what}: {len(ours)} keys {sorted(differ)[:4]} {[(ours.get(k), theirs.get(k)) for k in sorted(differ)[:2]]}"[:600])
    ours, theirs = tensors_of(got), tensors_of(want)
    differ = [name for name in ours.keys() | theirs.keys() if name not in ours or name not in theirs or not same_tensor(ours[name], theirs[name])]
    tell(not differ, f"{what}: {len(ours)} tensors {sorted(differ)[:4]}")


def prepared(source: Path, out: Path) -> Path:
    """A copy of a checkpoint with a chat template and sampling settings, as released ones have them."""
    shutil.copytree(source, out)
    (out / "chat_template.jinja").write_text(TEMPLATE)
    settings = json.loads((out / "generation_config.json").read_text())
    (out / "generation_config.json").write_text(json.dumps(settings | {"top_k": 64, "top_p": 0.95, "temperature": 1.0, "do_sample": True}))
    return out


def floats(folder: Path, tmp: Path, preset: str):
    for kind in FLOATS:
        out = tmp / f"{preset}-{kind}.gguf"
        bezel("convert", "--model", folder, "--to", "gguf", "--type", kind, "--output", out)
        compare_files(f"{preset} {kind}", GGUFReader(out), write_expected(folder, tmp / "expected.gguf", kind))
    bezel("convert", "--model", folder, "--to", "gguf", "--output", tmp / f"{preset}-as-stored.gguf")
    compare_files(f"{preset} without a type", GGUFReader(tmp / f"{preset}-as-stored.gguf"), GGUFReader(tmp / f"{preset}-f32.gguf"))


def wide_model(source: Path, out: Path) -> Path:
    """The language model alone with rows of 256, random weights, in bfloat16."""
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    text = json.loads((source / "config.json").read_text())["text_config"]
    text |= {"hidden_size": 256, "intermediate_size": 512, "hidden_size_per_layer_input": 32, "dtype": "bfloat16", "head_dim": 32, "global_head_dim": 64}
    torch.manual_seed(0)
    model = Gemma4ForCausalLM(Gemma4TextConfig(**{key: value for key, value in text.items() if key != "model_type"})).bfloat16()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(0, 0.05)
    model.save_pretrained(out)
    (out / "config.json").write_text(json.dumps(text | {"architectures": ["Gemma4ForCausalLM"], "model_type": "gemma4_text"}))
    for path in source.iterdir():
        if "token" in path.name or path.suffix == ".jinja":
            shutil.copy(path, out)
    return out


def packed(folder: Path, floating: Path, tmp: Path, preset: str, kinds):
    """llama-quantize makes the same of the floating file as Bezel of the checkpoint."""
    for kind in kinds:
        out, want = tmp / f"{preset}-{kind}.gguf", tmp / "quantized.gguf"
        said = bezel("convert", "--model", folder, "--to", "gguf", "--type", kind, "--output", out).stdout
        _ggml.quantize_file(floating, want, PACKED[kind])
        compare_files(f"{preset} {kind}", GGUFReader(out), GGUFReader(want))
        used = sorted({tensor.tensor_type.name for tensor in GGUFReader(out).tensors})
        tell("the error this adds is" in said, f"{preset} {kind}: {' '.join(used)}; {said.splitlines()[-1]}")
        again = tmp / f"{preset}-{kind}-again.gguf"
        bezel("convert", "--model", floating, "--to", "gguf", "--type", kind, "--output", again)
        compare_files(f"{preset} {kind} from the GGUF file", GGUFReader(again), GGUFReader(want))


def write_adapter(folder: Path, modules: dict, prefix: str):
    """A PEFT adapter with random A and B: module -> (out, in)."""
    folder.mkdir()
    torch.manual_seed(1)
    tensors = {}
    for module, (rows, columns) in modules.items():
        tensors[f"base_model.model.{prefix}{module}.lora_A.weight"] = torch.randn(4, columns) / columns**0.5
        tensors[f"base_model.model.{prefix}{module}.lora_B.weight"] = 0.1 * torch.randn(rows, 4)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none",
                                                            "target_modules": [prefix + module for module in modules]}))
    return tensors


def merged_from_gguf(base: Path, tmp: Path):
    """Adapted matrices are W + s B A packed again in their own type, everything else is copied."""
    adapted = {"layers.0.self_attn.q_proj": "blk.0.attn_q.weight", "layers.2.mlp.down_proj": "blk.2.ffn_down.weight",
               "layers.3.mlp.up_proj": "blk.3.ffn_up.weight", "layers.1.per_layer_projection": "blk.1.proj.weight"}
    before = tensors_of(GGUFReader(base))
    shapes = {module: tuple(reversed(before[name].shape.tolist())) for module, name in adapted.items()}
    adapter = tmp / f"adapter-{base.stem}"
    pairs = write_adapter(adapter, shapes, "model.")
    out = tmp / f"{base.stem}-merged.gguf"
    said = bezel("merge", "--model", base, "--adapter", adapter, "--to", "gguf", "--output", out).stdout
    after = tensors_of(GGUFReader(out))
    ours, theirs = keys_of(GGUFReader(out)), keys_of(GGUFReader(base))
    tell(ours == theirs, f"merged into {base.name}: {len(ours)} keys as they were")
    kept = [name for name in before if name not in adapted.values()]
    tell(before.keys() == after.keys() and all(same_tensor(before[name], after[name]) for name in kept), f"merged into {base.name}: {len(kept)} tensors byte for byte")
    differ, errors, norms = [], 0.0, 0.0
    for module, name in adapted.items():
        kind, key = before[name].tensor_type, f"base_model.model.model.{module}.lora_"
        weight = torch.from_numpy(dequantize(before[name].data, kind).copy())
        inside = (pairs[key + "B.weight"].mm(pairs[key + "A.weight"]).mul_(2.0).add_(weight)).numpy()
        want = _ggml.quantize_rows(inside, kind) if kind not in (Type.F32, Type.F16, Type.BF16) else quantize(inside, kind)
        if after[name].tensor_type != kind or not np.array_equal(after[name].data.view(np.uint8).ravel(), want.view(np.uint8).ravel()):
            differ.append(f"{name} {kind.name}")
        if kind not in (Type.F32, Type.F16, Type.BF16):
            errors += np.square(dequantize(want, kind).astype(np.float64) - inside).sum()
            norms += np.square(inside.astype(np.float64)).sum()
    kinds = sorted({before[name].tensor_type.name for name in adapted.values()})
    tell(not differ, f"merged into {base.name}: {len(adapted)} matrices in {' '.join(kinds)} {differ}")
    if norms:
        tell(f"it is {100 * (errors / norms) ** 0.5:.2f}% of the weights' norm" in said, f"merged into {base.name}: {said.splitlines()[-3]}")


def merged_from_checkpoint(folder: Path, root: Path, tmp: Path):
    """Every adapted matrix is PEFT's merged one, rounded as the type says."""
    wanted = load_file(root / "merged.safetensors")
    names = get_tensor_name_map(MODEL_ARCH.GEMMA4, 64)
    for kind in ("f32", "bf16"):
        out = tmp / f"merged-{kind}.gguf"
        bezel("merge", "--model", folder, "--adapter", root / "adapter", "--to", "gguf", "--type", kind, "--output", out)
        plain, got = tensors_of(GGUFReader(tmp / f"e2b-{kind}.gguf")), tensors_of(GGUFReader(out))
        differ, adapted = [], set()
        for key, value in wanted.items():
            if key.startswith(TEXT):
                name = llama_name(names, key.replace(TEXT, "model."))
                adapted.add(name)
                want = quantize(value.numpy(), FLOATS[kind][0])
                if not np.array_equal(got[name].data.view(np.uint8).ravel(), want.view(np.uint8).ravel()):
                    differ.append(name)
        rest = [name for name in plain if name not in adapted and not same_tensor(plain[name], got[name])]
        tell(not differ and not rest and plain.keys() == got.keys(), f"e2b merged as {kind}: {len(adapted)} matrices are PEFT's {differ[:3]} {rest[:3]}")


def main():
    if not _ggml.is_there():
        print("npm node-llama-cpp is not installed")
        return 77
    with tempfile.TemporaryDirectory() as name:
        tmp, root = Path(name), reference(0)
        for preset in PRESETS:
            folder = prepared(root / preset / "model", tmp / preset)
            floats(folder, tmp, preset)
            packed(folder, tmp / f"{preset}-f32.gguf", tmp, preset, ["q4_k_m"])
        merged_from_checkpoint(tmp / "e2b", root / "e2b", tmp)
        wide = wide_model(tmp / "e2b", tmp / "wide")
        bezel("convert", "--model", wide, "--to", "gguf", "--output", tmp / "wide-bf16.gguf")
        compare_files("wide bf16", GGUFReader(tmp / "wide-bf16.gguf"), write_expected(wide, tmp / "expected.gguf", "bf16"))
        packed(wide, tmp / "wide-bf16.gguf", tmp, "wide", PACKED)
        for kind in ("bf16", *PACKED):
            merged_from_gguf(tmp / f"wide-{kind}.gguf", tmp)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
