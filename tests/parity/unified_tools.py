"""The commands on the unified model (12B): inspect on the real one's names and shapes, quantized bases, generation, a GGUF file, a
run of `bezel train`, and what is refused.

    unified_tools.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import math
import resource
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from _reference import ROOT, UNIFIED, bezel, check, finish, forward, portable_bitsandbytes, reference  # before torch

import numpy as np
import soundfile
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

import quantized_parity as quantized

sys.path.insert(0, str(ROOT / "tools"))
import make_reference as made  # noqa: E402

LAYERS = 48
FULL = [i for i in range(LAYERS) if i % 6 == 5]
CONFIG = {
    "architectures": ["Gemma4UnifiedForConditionalGeneration"], "model_type": "gemma4_unified", "dtype": "bfloat16", "tie_word_embeddings": True,
    "image_token_id": 258880, "audio_token_id": 258881, "video_token_id": 258884, "boi_token_id": 255999, "boa_token_id": 256000,
    "eoi_token_id": 258882, "eoa_token_index": 258883, "hidden_act": None, "num_experts": None, "chunk_size_feed_forward": 0,
    "text_config": {
        "model_type": "gemma4_unified_text", "hidden_size": 3840, "intermediate_size": 15360, "num_hidden_layers": LAYERS,
        "num_attention_heads": 16, "num_key_value_heads": 8, "num_global_key_value_heads": 1, "head_dim": 256, "global_head_dim": 512,
        "sliding_window": 1024, "layer_types": ["full_attention" if i in FULL else "sliding_attention" for i in range(LAYERS)],
        "attention_k_eq_v": True, "use_bidirectional_attention": "vision", "num_kv_shared_layers": 0, "vocab_size": 262144,
        "vocab_size_per_layer_input": 0, "hidden_size_per_layer_input": 0, "enable_moe_block": False, "num_experts": None,
        "top_k_experts": None, "moe_intermediate_size": None, "use_double_wide_mlp": False, "final_logit_softcapping": 30.0,
        "max_position_embeddings": 262144, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh", "attention_bias": False,
        "rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
                            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "vision_config": {"patch_size": 16, "pooling_kernel_size": 3, "mm_embed_dim": 3840, "mm_posemb_size": 1120, "output_proj_dims": 3840,
                      "rms_norm_eps": 1e-6, "model_patch_size": 48, "num_soft_tokens": 280},
    "audio_config": {"audio_embed_dim": 640, "audio_samples_per_token": 640, "hidden_size": 640, "output_proj_dims": 640, "rms_norm_eps": 1e-6},
}


def tensors_of_12b():
    """Names and shapes of google/gemma-4-12B: 677 tensors, 11,959,730,224 numbers."""
    text = "model.language_model."
    tensors = {text + "embed_tokens.weight": [262144, 3840], text + "norm.weight": [3840]}
    for i in range(LAYERS):
        layer, full = f"{text}layers.{i}.", i in FULL
        heads, keys, size = (8192, 512, 512) if full else (4096, 2048, 256)
        shapes = {"self_attn.q_proj": [heads, 3840], "self_attn.k_proj": [keys, 3840], "self_attn.o_proj": [3840, heads],
                  "self_attn.q_norm": [size], "self_attn.k_norm": [size], "mlp.gate_proj": [15360, 3840], "mlp.up_proj": [15360, 3840],
                  "mlp.down_proj": [3840, 15360], "input_layernorm": [3840], "post_attention_layernorm": [3840],
                  "pre_feedforward_layernorm": [3840], "post_feedforward_layernorm": [3840]}
        if not full:
            shapes["self_attn.v_proj"] = [keys, 3840]
        tensors |= {f"{layer}{name}.weight": shape for name, shape in shapes.items()} | {layer + "layer_scalar": [1]}
    embedder = "model.vision_embedder."
    for norm, size in (("patch_ln1", 6912), ("patch_ln2", 3840), ("pos_norm", 3840)):
        tensors |= {f"{embedder}{norm}.{part}": [size] for part in ("weight", "bias")}
    tensors |= {embedder + "patch_dense.weight": [3840, 6912], embedder + "patch_dense.bias": [3840], embedder + "pos_embedding": [1120, 2, 3840],
                "model.embed_vision.embedding_projection.weight": [3840, 3840], "model.embed_audio.embedding_projection.weight": [3840, 640]}
    assert len(tensors) == 677 and sum(map(math.prod, tensors.values())) == 11_959_730_224
    return tensors


def write_sparse(folder, tensors):
    folder.mkdir(exist_ok=True)
    header, offset = {}, 0
    for name, shape in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + 2 * math.prod(shape)]}
        offset += 2 * math.prod(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)  # a hole of zeros
    (folder / "config.json").write_text(json.dumps(CONFIG))


def inspect(folder, code=0):
    return json.loads(bezel("inspect", folder, "--json", code=code).stdout)


def real_names(tmp):
    folder, tensors = tmp / "12b", tensors_of_12b()
    write_sparse(folder, tensors)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = inspect(folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # whatever else the machine does
    print(f"inspect of the 12B: {seconds:.2f} s of a core")
    check(seconds < 1, f"inspect of the 12B takes {seconds:.2f} s")
    check(found["loads"] and found["tensors"] == 677 and found["parameters"] == 11_959_730_224, f"12B: {found['tensors']} tensors")
    for kind in ("unexpected_tensors", "missing_tensors", "wrong_shapes", "unused_kv_tensors"):
        check(not found[kind], f"12B: {kind} {found[kind][:3]}")
    targets = found["target_modules"]
    for name in ("all-linear", "default"):
        check(targets[name] == {"language": 328, "vision": 1, "projectors": 2}, f"12B: {name} is {targets[name]}")
    for name, other in (("model.vision_embedder.patch_ln2.bias", None), ("model.embed_vision.embedding_projection.weight", [3840, 3841]),
                        ("model.vision_embedder.pos_embedding", [2, 1120, 3840])):
        write_sparse(folder, {k: other if k == name else v for k, v in tensors.items() if k != name or other})
        damaged = inspect(folder, code=3)
        last = name.removesuffix(".weight").split(".")[-1]
        check(not damaged["loads"] and any(last in item for item in damaged["missing_tensors"] + damaged["wrong_shapes"]), f"12B without {name}")
    write_sparse(folder, {k: v for k, v in tensors.items() if "vision_embedder" not in k})
    stripped = inspect(folder)
    check(stripped["loads"] and any("images" in warning for warning in stripped["warnings"]), f"12B without its embedder: {stripped['warnings']}")
    write_sparse(folder, tensors | {"model.vision_tower.patch_embedder.input_proj.weight": [1, 1]})
    check(len(inspect(folder, code=3)["unexpected_tensors"]) == 1, "12B with a tower")


def load_model(folder, **more):
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, **more).eval()


def quantized_bases(root, tmp):
    """What `bezel quantize` writes, all that bitsandbytes makes where nothing is skipped, and codes made while loading."""
    model, adapter, file = root / "model", root / "adapter", root / "case-mixed.safetensors"
    kept = portable_bitsandbytes()
    stored = tmp / "nf4"
    bezel("quantize", "--model", model, "--type", "nf4", "--output", stored)
    config = json.loads((stored / "config.json").read_text())["quantization_config"]
    dense = {"lm_head", "model.embed_vision.patch_dense", "model.embed_vision.multimodal_embedder.embedding_projection", "model.embed_audio.embedding_projection"}
    check(set(config["llm_int8_skip_modules"]) == dense, f"quantize leaves {config['llm_int8_skip_modules']}")
    quantized.compare("unified, bezel quantize nf4", quantized.ours(stored, file, adapter, tmp),
                      quantized.peft_answers(load_model(stored), adapter, file), 3e-3)
    whole = tmp / "bitsandbytes"
    options = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32)
    load_model(model, quantization_config=options).save_pretrained(whole)
    codes = [name for name in load_file(whole / "model.safetensors") if name.endswith(".absmax")]
    check(any("patch_dense" in name for name in codes) and any("embed_vision.embedding_projection" in name for name in codes), f"codes of all: {codes[:2]}")
    quantized.compare("unified, bitsandbytes nf4 of all", quantized.ours(whole, file, adapter, tmp),
                      quantized.peft_answers(load_model(whole), adapter, file), 3e-3)
    loaded = forward(model, file, tmp / "loaded.safetensors", "--storage", "nf4", "--adapter", adapter)["logits"]
    written = forward(stored, file, tmp / "written.safetensors", "--adapter", adapter)["logits"]
    check((loaded - written).abs().max().item() <= 3e-3, "codes made while loading are those that are written")
    del kept


def compressed(root, tmp):
    """Four bits in groups of 32 with Google's list of what stays: the embedder and the projectors by their names in memory."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams

    ignored = ["lm_head", "model.embed_vision.patch_dense", "model.embed_vision.multimodal_embedder.embedding_projection", "model.embed_audio.embedding_projection"]
    args = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=32, symmetric=True)
    model, stored, dense = load_model(root / "model"), tmp / "w4a16", tmp / "w4a16-dense"
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=args)}, ignore=ignored))
    modules = [m for m in model.modules() if getattr(getattr(m, "quantization_scheme", None), "weights", None) is not None]
    for module in modules:
        groups = module.weight.data.unflatten(1, (-1, 32))
        module.weight_scale.data.copy_(calculate_qparams(groups.amin(-1), groups.amax(-1), args)[0])
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format="pack-quantized")
    compressor.compress_model(model)
    model.save_pretrained(stored)
    compressor.update_config(stored)
    compressor.decompress_model(model)
    values = {k + ".weight": m.weight.data for k, m in model.named_modules() if m in set(modules)}
    shutil.copytree(root / "model", dense)
    tensors = load_file(dense / "model.safetensors")
    check(values.keys() <= tensors.keys() and len(values) == 20, f"w4a16: {len(values)} matrices")
    save_file({k: values.get(k, v).contiguous() for k, v in tensors.items()}, dense / "model.safetensors", metadata={"format": "pt"})
    file, adapter = root / "case-mixed.safetensors", root / "adapter"
    quantized.compare("unified, w4a16", quantized.ours(stored, file, adapter, tmp), quantized.peft_answers(load_model(dense), adapter, file), 3e-3)


def generation(root, tmp):
    """Greedy answers, token by token, with and without tokens that generation_config.json suppresses."""
    import generate_parity as generate

    generate.load_model = None  # of the other family
    folder = tmp / "suppressing"
    shutil.copytree(root / "model", folder)
    for case in ("text", "image", "mixed"):
        inputs = {k.removeprefix("in."): v for k, v in load_file(root / f"case-{case}.safetensors").items() if k.startswith("in.") and k != "in.labels"}
        with torch.no_grad():
            model = AutoModelForImageTextToText.from_pretrained(root / "model", attn_implementation="eager", dtype=torch.float32).eval()
            model.generation_config.eos_token_id = None
            ties = generate.compare(f"unified/{case}", model, root / "model", inputs, tmp)
            banned = generate.greedy(root / "model", inputs, tmp, 3)
            (folder / "generation_config.json").write_text(json.dumps({"suppress_tokens": banned, "do_sample": False}))
            model.generation_config.suppress_tokens = banned
            ties += generate.compare(f"unified/{case}, suppressed", model, folder, inputs, tmp)
            check(not set(banned) & set(generate.greedy(folder, inputs, tmp, 64)), f"{case}: a suppressed token came")
            model.generation_config.suppress_tokens = None
            tuned = PeftModel.from_pretrained(model, root / "adapter").eval()
            ties += generate.compare(f"unified/{case}, adapter", tuned, root / "model", inputs, tmp, "--adapter", root / "adapter")
        print(f"generate {case}: 3 x 64 tokens, {ties} near ties")
    whole = generate.greedy(root / "model", inputs, tmp, 64)
    for size in (1, 5, 50):
        check(generate.greedy(root / "model", inputs, tmp, 64, "--prefill-tokens", size) == whole, f"read {size} at a time")


def gguf(root, tmp):
    """The model as two GGUF files: text here, unified_mmproj.py has the rest."""
    bezel("convert", "--model", root / "model", "--to", "gguf", "--output", tmp / "text.gguf")
    check((tmp / "mmproj-text.gguf").exists(), "the embedders have a file of their own")
    file = root / "case-text.safetensors"
    a, b = (forward(model, file, tmp / "out.safetensors")["logits"] for model in (root / "model", tmp / "text.gguf"))
    error = (a - b).abs().max().item()
    check(error <= 3e-4, f"GGUF: logits {error:.1e}")
    bezel("merge", "--model", root / "model", "--adapter", root / "adapter", "--to", "gguf", "--output", tmp / "merged.gguf")
    check((tmp / "merged.gguf").exists() and (tmp / "mmproj-merged.gguf").exists(), "an adapter on the embedders goes into their file")


def training(root, tmp):
    """An image, an audio clip of 40 s and a text: nothing is cut, the loss falls, and the adapter says how images were read."""
    made.test_image(220, 150, 1).save(tmp / "a.png")
    soundfile.write(tmp / "b.wav", made.test_audio(40.0, 2), 16000)
    chat = lambda parts, answer: {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]}
    samples = [chat([{"type": "image", "path": "a.png"}, {"type": "text", "text": "What is it?"}], "Waves."),
               chat([{"type": "audio", "path": "b.wav"}, {"type": "text", "text": "And this?"}], "A long tone."), chat("Name a prime.", "2.")]
    (tmp / "train.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))
    options = ("--base_model", root / "model", "--train_file", tmp / "train.jsonl", "--dtype", "float32", "--max_seq_length", 1200,
               "--lora_towers", "[language, vision, projectors]", "--target_modules", "all-linear", "--num_train_epochs", 6, "--learning_rate", 2e-3,
               "--gradient_accumulation_steps", 1, "--sample_predictions", 0, "--report_to", "jsonl")
    for rule in (None, "sliding_layers"):
        out = tmp / f"run-{rule}"
        bezel("train", *options, "--output_dir", out, *(() if rule is None else ("--image_attention", rule)))
        metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        losses = [row["loss"] for row in metrics if "loss" in row]
        check(len(losses) == 18 and np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.3, f"{rule}: losses {losses[:3]} … {losses[-3:]}")
        wanted = rule or "all_layers"
        config = json.loads((out / "adapter_config.json").read_text())
        check(config["auto_mapping"]["image_attention"] == wanted and f"image_attention: {wanted}" in (out / "README.md").read_text(), f"{rule}: recorded")
        keys = load_file(out / "adapter_model.safetensors").keys()
        check(sum("embed_vision" in key or "embed_audio" in key for key in keys) == 6, "the embedders are adapted")
        model = PeftModel.from_pretrained(load_model(root / "model"), out)
        check(model is not None and f"image_attention: {wanted}" in bezel("verify-adapter", "--model", root / "model", "--adapter", out).stdout,
              f"{rule}: verify-adapter says it")
    told = bezel("merge", "--model", root / "model", "--adapter", tmp / "run-sliding_layers", "--output", tmp / "merged").stderr
    check("sliding_layers" in told, f"merge says that no checkpoint can say it: {told}")
    told = bezel("evaluate", "--model", root / "model", "--data", tmp / "train.jsonl", "--adapter", tmp / "run-sliding_layers", "--json")
    check(json.loads(told.stdout), "evaluate")


def refusals(root, tmp):
    other = reference(0) / "dense" / "model"
    common = ("--train_file", tmp / "train.jsonl", "--output_dir", tmp / "none")
    told = bezel("train", "--base_model", other, *common, "--image_attention", "all_layers", code=2).stderr
    check("image_attention" in told and "gemma4_unified" in told, f"all_layers for the 31B: {told}")
    told = bezel("train", "--base_model", root / "model", *common, "--image_attention", "no_layers", code=2).stderr
    check("all_layers, sliding_layers" in told, f"no such rule: {told}")
    told = bezel("train", "--base_model", root / "model", *common, "--lora_towers", "[audio]", code=2).stderr
    check("audio" in told, f"there is no audio tower: {told}")
    check(not (tmp / "none").exists() or not list((tmp / "none").glob("adapter*")), "nothing was written")


def main() -> int:
    root = reference(0, tuple(UNIFIED)) / "unified"
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        real_names(tmp)
        quantized_bases(root, tmp)
        compressed(root, tmp)
        generation(root, tmp)
        gguf(root, tmp)
        training(root, tmp)
        refusals(root, tmp)
    for what in quantized.failures:
        check(False, f"quantized: {what}")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
