"""Writes a Gemma 4 checkpoint folder's language model as a GGUF file, as llama.cpp's conversion does: names from PyPI
gguf's own table, keys of conversion/gemma.py."""
import json
from pathlib import Path

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file, save_file

TEXT = "model.language_model."
F32 = GGMLQuantizationType.F32


def llama_name(names, hf: str) -> str:
    """The name that llama.cpp gives a tensor of transformers; `hf` without `language_model.`."""
    if hf.endswith("router.scale"):
        return f"blk.{hf.split('.')[2]}.ffn_gate_inp.scale"
    if hf.endswith("router.per_expert_scale"):
        return f"blk.{hf.split('.')[2]}.ffn_down_exps.scale"
    module = hf.removesuffix(".weight")
    name = names.get_name(module, try_suffixes=())
    assert name is not None, f"gguf has no name for {hf}"
    return name + ".weight"


def add_config(writer: GGUFWriter, text: dict):
    layers, shared = text["num_hidden_layers"], text["num_kv_shared_layers"]
    slides = [kind == "sliding_attention" for kind in text["layer_types"]]
    writer.add_block_count(layers)
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    width = text["intermediate_size"]
    if text.get("use_double_wide_mlp"):
        writer.add_feed_forward_length([width if i < layers - shared else 2 * width for i in range(layers)])
    else:
        writer.add_feed_forward_length(width)
    writer.add_head_count(text["num_attention_heads"])
    full_heads = text.get("num_global_key_value_heads")
    heads = text["num_key_value_heads"]
    writer.add_head_count_kv(heads if full_heads is None else [heads if s else full_heads for s in slides])
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_sliding_window(text["sliding_window"])
    writer.add_sliding_window_pattern(slides)
    writer.add_shared_kv_layers(shared)
    writer.add_embedding_length_per_layer_input(text.get("hidden_size_per_layer_input") or 0)
    writer.add_final_logit_softcapping(text["final_logit_softcapping"])
    writer.add_key_length(text["global_head_dim"])
    writer.add_value_length(text["global_head_dim"])
    writer.add_key_length_swa(text["head_dim"])
    writer.add_value_length_swa(text["head_dim"])
    writer.add_rope_dimension_count(text["global_head_dim"])
    writer.add_rope_dimension_count_swa(text["head_dim"])
    rope = text["rope_parameters"]
    writer.add_rope_freq_base(rope["full_attention"]["rope_theta"])
    writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
    if text.get("num_experts"):
        writer.add_expert_count(text["num_experts"])
        writer.add_expert_used_count(text["top_k_experts"])
        writer.add_expert_feed_forward_length(text["moe_intermediate_size"])
    half = text["global_head_dim"] // 2
    turning = int(text["global_head_dim"] * rope["full_attention"]["partial_rotary_factor"] / 2)
    writer.add_tensor("rope_freqs.weight", np.array([1.0] * turning + [1e30] * (half - turning), np.float32))


def add_tokenizer(writer: GGUFWriter, folder: Path, rows: int):
    """Words as tokenizer.json has them, and unused ones up to the number of rows of the embeddings."""
    document = json.loads((folder / "tokenizer.json").read_text())
    words = sorted(document["model"]["vocab"], key=document["model"]["vocab"].get)
    special = {token["content"] for token in document["added_tokens"] if token["special"]}
    is_byte = lambda word: len(word) == 6 and word.startswith("<0x")
    types = [TokenType.BYTE if is_byte(w) else TokenType.CONTROL if w in special else TokenType.NORMAL for w in words]
    padding = [f"[PAD{idx}]" for idx in range(len(words), rows)]
    words, types = words + padding, types + [TokenType.UNUSED] * len(padding)
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list(words)
    writer.add_token_scores([-1000.0] * len(words))
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in document["model"]["merges"]])
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(True)
    for add, word in ((writer.add_bos_token_id, "<bos>"), (writer.add_eos_token_id, "<eos>"), (writer.add_pad_token_id, "<pad>"),
                      (writer.add_unk_token_id, "<unk>"), (writer.add_eot_token_id, "<turn|>")):
        add(words.index(word))


def write_gguf(folder: Path, out: Path, kind=F32, equivalent: Path = None):
    """Writes the language model in `folder` to `out`; matrices whose rows are whole blocks as `kind`. With `equivalent`,
    that folder gets the same model as safetensors, with the values that the file holds."""
    config = json.loads((folder / "config.json").read_text())
    writer = GGUFWriter(out, "gemma4")
    writer.add_name("tiny")
    add_config(writer, config["text_config"])
    add_tokenizer(writer, folder, config["text_config"]["vocab_size"])
    names = get_tensor_name_map(MODEL_ARCH.GEMMA4, config["text_config"]["num_hidden_layers"])
    stored = load_file(folder / "model.safetensors")
    for key, value in stored.items():
        if not key.startswith(TEXT):
            continue
        value = value.astype(np.float32)
        packs = kind != F32 and value.ndim >= 2 and value.shape[-1] % 32 == 0 and "router" not in key
        data = quantize(value, kind) if packs else value
        writer.add_tensor(llama_name(names, "model." + key.removeprefix(TEXT)), data, raw_dtype=kind if packs else None)
        stored[key] = dequantize(data, kind).reshape(value.shape) if packs else value
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if equivalent is not None:
        equivalent.mkdir()
        for path in folder.iterdir():
            if path.suffix == ".json" or path.suffix == ".jinja":
                (equivalent / path.name).write_bytes(path.read_bytes())
        save_file(stored, equivalent / "model.safetensors")
