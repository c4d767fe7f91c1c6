"""Checkpoints and adapters as people have them, row by row of the findings (C01 to C87): each is made from the reference's small
checkpoints, and what `bezel` does with it is held against transformers + PEFT on the same files, or against the name that it
must give the thing. Prints row, expected and found; fails if one does not hold.

    door_checkpoints.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from safetensors.torch import load_file, save_file

from _reference import BIN, check, finish, reference

L = "model.language_model."
HEAD, EMBEDDINGS = "lm_head.weight", L + "embed_tokens.weight"
# Of float32 logits of some 10: two engines, other orders of sums.
LOGITS = 5e-4
BASE = "base_model.model."


class Door:
    def __init__(self, root: Path, tmp: Path):
        self.root, self.tmp, self.count = root, tmp, 0
        self.model, self.adapter = root / "e2b" / "model", root / "e2b" / "adapter"
        self.tensors = load_file(self.model / "model.safetensors")
        self.config = json.loads((self.model / "config.json").read_text())
        self.case = root / "e2b" / "case-text.safetensors"
        self.inputs = {k[3:]: v for k, v in load_file(self.case).items() if k.startswith("in.") and k != "in.labels"}
        self.lora = {k: v for k, v in load_file(self.adapter / "adapter_model.safetensors").items() if ".language_model." in k}
        self.modules = sorted({k.removeprefix(BASE).split(".lora_")[0] for k in self.lora})

    def folder(self) -> Path:
        self.count += 1
        return self.tmp / f"case{self.count}"

    def checkpoint(self, tensors, config=None, source=None) -> Path:
        """A copy of a checkpoint with other weights and config."""
        out = self.folder()
        shutil.copytree(source or self.model, out)
        save_file({k: v.clone().contiguous() for k, v in tensors.items()}, out / "model.safetensors", metadata={"format": "pt"})
        if config is not None:
            (out / "config.json").write_text(json.dumps(config))
        return out

    def adapted(self, tensors, **config) -> Path:
        out = self.folder()
        out.mkdir()
        save_file({k: v.clone().contiguous() for k, v in tensors.items()}, out / "adapter_model.safetensors", metadata={"format": "pt"})
        was = json.loads((self.adapter / "adapter_config.json").read_text())
        (out / "adapter_config.json").write_text(json.dumps({**was, "target_modules": self.modules, **config}))
        return out

    def bezel(self, *arguments):
        """Exit code and all that is said."""
        done = subprocess.run([str(BIN / "bezel"), *map(str, arguments)], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def logits(self, model, adapter=None, inputs=None):
        out = self.folder()
        extra = ("--adapter", adapter) if adapter else ()
        code, said = self.bezel("forward", "--model", model, "--inputs", inputs or self.case, "--output", out, *extra)
        return (load_file(out)["logits"] if code == 0 else None), said

    def wanted(self, model, adapter=None):
        """What transformers makes of the same folder, with PEFT over it."""
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, Gemma4ForConditionalGeneration

        text = json.loads((model / "config.json").read_text())["model_type"] == "gemma4_text"
        cls = AutoModelForCausalLM if text else Gemma4ForConditionalGeneration
        module = cls.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
        if adapter:
            module = PeftModel.from_pretrained(module, adapter).eval()
        with torch.no_grad():
            return module(**self.inputs, use_cache=False).logits

    def tell(self, row, expected, ok, found):
        found = " ".join(str(found).split())
        print(f"{row:8} expected: {expected}; found: {found[:160]}")
        check(ok, f"{row}: expected {expected}; found {found[:600]}")

    def same(self, row, what, got, wanted, says=""):
        """Logits, and words that must have been said."""
        logits, said = got
        error = (logits - wanted).abs().max().item() if logits is not None and logits.shape == wanted.shape else None
        ok = error is not None and error <= LOGITS and says in said
        self.tell(row, what + (f", saying '{says}'" if says else ""), ok, f"logits off by {error}; {said}")

    def refused(self, row, what, got, *words, codes=(2, 3, 4)):
        code, said = got
        missing = [word for word in words if word not in said]
        self.tell(row, f"{what}: refused with {words}", code in codes and not missing, f"exit {code}, lacks {missing}: {said}")

    def run(self, model, data, *extra):
        return self.bezel("train", "--base-model", model, "--train-file", data, "--output-dir", self.folder(), "--dtype", "float32", "--max-steps", 1,
                          "--save-steps", 0, "--sample-predictions", 0, "--lora-r", 2, "--report-to", "none", *extra)

    def samples(self, text="Name three primes.", **more):
        path = self.folder()
        rows = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "2, 3 and 5 are primes."}]},
                {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "So is 7."}], **more}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path


def heads(d: Door):
    own = torch.randn(d.tensors[EMBEDDINGS].shape, generator=torch.Generator().manual_seed(3)) * 0.05
    model = d.checkpoint({**d.tensors, HEAD: own})
    wanted = d.wanted(model)
    d.same("C20", "a head of its own is used, as transformers does", d.logits(model), wanted, "lm_head.weight differs")
    report = json.loads(d.bezel("inspect", model, "--json")[1])
    d.tell("C20", "inspect says so", report["loads"] and "lm_head.weight differs" in str(report["warnings"]), report["warnings"])
    for command, extra in (("merge", ("--adapter", d.adapter)), ("quantize", ("--type", "int8"))):
        out = d.folder()
        code, said = d.bezel(command, "--model", model, "--output", out, *extra)
        config = json.loads((out / "config.json").read_text()) if code == 0 else {}
        kept = code == 0 and torch.equal(load_file(out / "model.safetensors")[HEAD], own)
        d.tell("C20", f"{command} keeps the head and unties it", kept and config["tie_word_embeddings"] is False, said)
    equal = d.checkpoint({**d.tensors, HEAD: d.tensors[EMBEDDINGS]})
    d.same("C20", "a head that equals the embeddings", d.logits(equal), d.wanted(equal))
    alone = {k: v for k, v in d.tensors.items() if k != EMBEDDINGS}
    model = d.checkpoint({**alone, HEAD: own})
    d.same("C21", "a head without embeddings stands for them", d.logits(model), d.wanted(model))
    d.refused("C21", "neither head nor embeddings", d.bezel("forward", "--model", d.checkpoint(alone), "--inputs", d.case, "--output", d.folder()), "embed_tokens.weight", "missing")


def tokens(d: Door):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(d.model / "tokenizer.json"))
    size = tokenizer.get_vocab_size()  # fewer than the tables have rows
    per_layer = L + "embed_tokens_per_layer.weight"
    cut = {**d.tensors, EMBEDDINGS: d.tensors[EMBEDDINGS][:size], per_layer: d.tensors[per_layer][:size]}
    config = json.loads(json.dumps(d.config))
    config["text_config"].update(vocab_size=size, vocab_size_per_layer_input=size)
    model = d.checkpoint(cut, config)
    spec = json.loads((model / "tokenizer.json").read_text())
    spec["added_tokens"].append({**spec["added_tokens"][-1], "id": size, "content": "<new>"})
    (model / "tokenizer.json").write_text(json.dumps(spec))
    data = d.samples("What is <new>?")
    key = f"vocab_size: {size}"
    for command in ("train", "preprocess"):
        got = d.run(model, data) if command == "train" else d.bezel("preprocess", "--base-model", model, "--train-file", data, "--output-dir", d.folder(), "--dry-run")
        d.refused("C29", f"{command} with an added token", got, "<new>", str(size), ":2", key, codes=(3,))
    d.refused("C29", "generate", d.bezel("generate", "--model", model, "--prompt", "What is <new>?"), "<new>", key, codes=(3,))
    code, said = d.bezel("inspect", model)
    d.tell("C29", "inspect names the token", "<new>" in said and key in said, said[-300:])
    inputs = d.folder()
    save_file({"in.input_ids": torch.tensor([[2, size]])}, inputs)
    d.refused("C29", "forward", d.bezel("forward", "--model", model, "--inputs", inputs, "--output", d.folder()), str(size), key, codes=(3,))
    rows = size - 60
    config["text_config"].update(vocab_size_per_layer_input=rows)
    model = d.checkpoint({**cut, per_layer: d.tensors[per_layer][:rows]}, config)
    texts = ("Say" + tokenizer.id_to_token(i).replace("▁", " ") + " now" for i in range(rows, size))
    word = next(text for text in texts if max(tokenizer.encode(text).ids) >= rows)
    d.refused("C27", "a token beyond the per-layer embeddings", d.run(model, d.samples(word)), ":2", f"vocab_size_per_layer_input: {rows}", codes=(3,))


def text_checkpoint(d: Door, prefix="model.") -> Path:
    config = {**d.config["text_config"], "model_type": "gemma4_text", "architectures": ["Gemma4ForCausalLM"]}
    return d.checkpoint({prefix + k.removeprefix(L): v for k, v in d.tensors.items() if k.startswith(L)}, config)


def classes(d: Door):
    text_model = text_checkpoint(d)
    as_text = {k.replace(L, "model."): v for k, v in d.lora.items()}
    names = [m.replace(L, "model.") for m in d.modules]
    multimodal, text = d.adapted(d.lora), d.adapted(as_text, target_modules=names)
    wanted = d.wanted(d.model, multimodal)
    d.same("C83", "a text-only adapter on the checkpoint with towers", d.logits(d.model, text), wanted)
    d.same("C82", "an adapter with towers' names on a text-only base", d.logits(text_model, multimodal), d.wanted(text_model, text))
    leaves = sorted({m.split(".")[-1] for m in d.modules})
    d.same("C83", "the same with short names", d.logits(d.model, d.adapted(as_text, target_modules=leaves)), wanted)
    for model, adapter, words, names in ((d.model, text, "Gemma4ForCausalLM", "multimodal"), (text_model, multimodal, "Gemma4ForConditionalGeneration", "text")):
        code, said = d.bezel("verify-adapter", "--model", model, "--adapter", adapter)
        d.tell("C83", f"verify-adapter says that PEFT refuses it, and --names {names}", code == 3 and words in said and f"--names {names}" in said and "PEFT refuses" in said, said[-600:])
        out = d.folder()
        code, said = d.bezel("convert", "--adapter", adapter, "--names", names, "--output", out)
        ok = code == 0 and torch.allclose(d.wanted(model, out), d.wanted(model, multimodal if model == d.model else text), atol=1e-5)
        d.tell("C83", f"convert --names {names} makes one that PEFT takes", ok, said)
        d.tell("C83", "and verify-adapter takes it", d.bezel("verify-adapter", "--model", model, "--adapter", out)[0] == 0, said)
    d.tell("C83", "merge of a text-only adapter", d.bezel("merge", "--model", d.model, "--adapter", text, "--output", d.folder())[0] == 0, "exit code")


def layers(d: Door):
    leaves = sorted({m.split(".")[-1] for m in d.modules})
    some = {k: v for k, v in d.lora.items() if ".layers.1." in k or ".layers.2." in k}
    adapter = d.adapted(some, target_modules=leaves, exclude_modules=r".*_tower\..*", layers_to_transform=[1, 2], layers_pattern="layers")
    wanted = d.wanted(d.model, adapter)
    d.same("C02", "layers_to_transform in an adapter", d.logits(d.model, adapter), wanted)
    single = d.adapted({k: v for k, v in some.items() if ".layers.1." in k}, target_modules=leaves, exclude_modules=r".*_tower\..*", layers_to_transform=1)
    d.same("C02", "one number, no pattern", d.logits(d.model, single), d.wanted(d.model, single))
    out = d.folder()
    code, said = d.bezel("train", "--base-model", d.model, "--train-file", d.samples(), "--output-dir", out, "--max-steps", 1, "--save-steps", 0, "--sample-predictions", 0,
                         "--target-modules", "q_proj,v_proj", "--layers-to-transform", "1,2", "--layers-pattern", "layers", "--report-to", "none")
    found = {k.split(".layers.")[1].split(".")[0] for k in load_file(out / "adapter_model.safetensors")} if code == 0 else said
    d.tell("C02", "layers_to_transform in a recipe", found == {"1", "2"}, found)
    d.refused("C02", "a layer that is not there", d.run(d.model, d.samples(), "--layers-to-transform", "1,99"), "layers_to_transform", "99", codes=(2,))
    half = d.adapted({k: v for k, v in d.lora.items() if ".layers.0." not in k})
    d.same("C77", "an adapter without some layers", d.logits(d.model, half), d.wanted(d.model, half), "no tensors for")
    more = dict(d.lora)
    for part in ("lora_A", "lora_B"):
        more[f"{BASE}{L}layers.7.self_attn.k_proj.{part}.weight"] = d.lora[f"{BASE}{L}layers.4.self_attn.k_proj.{part}.weight"] + 1
    shared = d.adapted(more, target_modules=d.modules + [L + "layers.7.self_attn.k_proj"])
    d.same("C01", "LoRA on keys of a layer that reads another's", d.logits(d.model, shared), d.wanted(d.model, shared), "passed over")


def keys_are_values(d: Door):
    model = d.root / "dense" / "model"
    tensors, name = load_file(model / "model.safetensors"), L + "layers.5.self_attn."
    more = d.checkpoint({**tensors, name + "v_proj.weight": tensors[name + "k_proj.weight"] + 1}, source=model)
    case = d.root / "dense" / "case-text.safetensors"
    wanted = load_file(case)["logits"]
    d.same("C87", "v_proj in a layer whose keys are its values is passed over", d.logits(more, inputs=case), wanted)
    lora = load_file(d.root / "dense" / "adapter" / "adapter_model.safetensors")
    for part in ("lora_A", "lora_B"):
        lora[f"{BASE}{name}v_proj.{part}.weight"] = lora[f"{BASE}{name}k_proj.{part}.weight"]
    adapter = d.adapted(lora, **{k: v for k, v in json.loads((d.root / "dense" / "adapter" / "adapter_config.json").read_text()).items() if k == "target_modules"})
    d.same("C87", "and so is LoRA on it", d.logits(model, adapter, case), load_file(case)["adapter_logits"], "passed over")


def prefixes(d: Door):
    wanted = d.wanted(d.model)
    inner = lambda p: {(p + k.removeprefix(L) if k.startswith(L) else k): v for k, v in d.tensors.items()}
    for what, tensors in (("keys without model.", {k.removeprefix("model."): v for k, v in d.tensors.items()}),
                          ("model.language_model.model.", inner(L + "model.")),
                          ("a model. too many", {"model." + k: v for k, v in d.tensors.items()})):
        model = d.checkpoint(tensors)
        check(torch.equal(d.wanted(model), wanted), f"C23: transformers reads {what}")
        d.same("C23", what, d.logits(model), wanted)
    d.same("C23", "a save of Gemma4TextModel", d.logits(text_checkpoint(d, "")), wanted)
    refused = {"_orig_mod.": "torch.compile", "module.": "'module.'", "base_model.model.": "merge_and_unload", "transformer.": "'transformer.'", "_fsdp_wrapped_module.": "FSDP"}
    for prefix, word in refused.items():
        model = d.checkpoint({prefix + k: v for k, v in d.tensors.items()})
        d.refused("C23", f"the prefix {prefix}", d.bezel("forward", "--model", model, "--inputs", d.case, "--output", d.folder()), word, codes=(3,))
        d.refused("C23", f"inspect, {prefix}", d.bezel("inspect", model), word, codes=(3,))
    base_layer = d.checkpoint({k.replace("q_proj.weight", "q_proj.base_layer.weight"): v for k, v in d.tensors.items()})
    d.refused("C23", "base_layer", d.bezel("forward", "--model", base_layer, "--inputs", d.case, "--output", d.folder()), "base_layer", "merge_and_unload", codes=(3,))
    d.same("C61", "a text-only extraction", d.logits(text_checkpoint(d)), wanted)
    d.same("C61", "with the names of the whole model", d.logits(text_checkpoint(d, L)), wanted)
    stripped = d.checkpoint({k: v for k, v in d.tensors.items() if k.startswith(L)})
    check(torch.equal(d.wanted(stripped), wanted), "C26: transformers reads text with stripped towers")
    d.same("C26", "towers stripped, config kept", d.logits(stripped), wanted, "vision_config")
    image = d.tmp / "red.png"
    from PIL import Image
    Image.new("RGB", (32, 32), "red").save(image)
    data = d.tmp / "image.jsonl"
    data.write_text(json.dumps({"text": "<|image|>a red square", "images": ["red.png"]}) + "\n")
    d.refused("C26", "images over stripped towers", d.run(stripped, data), "no vision tower", codes=(3,))


def features(d: Door):
    saved = {BASE + EMBEDDINGS: d.tensors[EMBEDDINGS], BASE + HEAD: d.tensors[EMBEDDINGS]}
    same = d.adapted({**d.lora, **saved})
    d.same("C04", "embeddings saved beside LoRA that are the base's", d.logits(d.model, same), d.wanted(d.model, d.adapted(d.lora)), "equals the base's")
    d.same("C03", "modules_to_save that was not trained", d.logits(d.model, d.adapted({**d.lora, **saved}, modules_to_save=["embed_tokens", "lm_head"])),
           d.wanted(d.model, d.adapted(d.lora)), "equals the base's")
    other = {BASE + HEAD: d.tensors[EMBEDDINGS] * 1.25}
    embedding = {f"{BASE}{L}embed_tokens.lora_embedding_A": 0.01 * torch.ones(4, 1536), f"{BASE}{L}embed_tokens.lora_embedding_B": 0.01 * torch.ones(64, 4)}
    head = {f"{BASE}lm_head.lora_A.weight": 0.1 * torch.randn(4, 64), f"{BASE}lm_head.lora_B.weight": 0.1 * torch.randn(1536, 4)}
    delta = {f"{BASE}{L}embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(1, 64)}
    experts = {f"{BASE}{L}layers.0.experts.lora_A.weight": torch.ones(32, 64), f"{BASE}{L}layers.0.experts.lora_B.weight": torch.ones(64, 32)}
    norm = {f"{BASE}{L}norm.weight": torch.full((64,), 1.25)}
    for row, what, tensors, config in (("C03", "modules_to_save that was trained", other, {"modules_to_save": ["lm_head"]}),
                                       ("C03", "a norm in modules_to_save", norm, {"modules_to_save": ["language_model.norm"]}),
                                       ("C05", "trainable tokens", delta, {"trainable_token_indices": [301]}),
                                       ("C06", "LoRA on the head", head, {"target_modules": [*d.modules, "lm_head"]}),
                                       ("C07", "LoRA on the embeddings", embedding, {"target_modules": [*d.modules, L + "embed_tokens"]})):
        adapter = d.adapted({**d.lora, **tensors}, **config)
        d.same(row, what, d.logits(d.model, adapter), d.wanted(d.model, adapter))
        code, said = d.bezel("inspect", adapter)
        d.tell(row, f"inspect reads it: {what}", code == 0 and "Bezel can load it." in said, f"exit {code}: {said[-300:]}")
    rows = f"{L}embed_tokens_per_layer.weight"
    cases = [("C03", "modules_to_save of a module that stays frozen", {BASE + rows: 1.25 * d.tensors[rows]}, {"modules_to_save": ["embed_tokens_per_layer"]}, "embed_tokens_per_layer", None),
             ("C04", "a head saved beside LoRA that was trained", other, {}, "lm_head.weight", None),
             ("C05", "trainable tokens that nothing names", delta, {}, "trainable_token_indices", None),
             ("C06", "LoRA on the head that target_modules leaves out", head, {}, "does not select", None),
             ("C07", "LoRA on the embeddings that target_modules leaves out", embedding, {}, "does not select", None),
             ("C15", "LoRA on experts of another base", experts, {"target_parameters": ["experts.down_proj"]}, "this model has none", "experts"),
             ("C15", "LoRA on experts, of which matrix is not said", experts, {}, "target_parameters", None),
             ("C77", "DoRA without magnitudes", {}, {"use_dora": True}, "lora_magnitude_vector", "DoRA")]
    for row, what, tensors, config, word, named in cases:
        adapter = d.adapted({**d.lora, **tensors}, **config)
        d.refused(row, what, d.bezel("forward", "--model", d.model, "--adapter", adapter, "--inputs", d.case, "--output", d.folder()), word, codes=(3,))
        code, said = d.bezel("inspect", adapter)
        d.tell(row, f"inspect reads it: {what}", "alpha" in said and (named is None or named in said), f"exit {code}: {said[-300:]}")


def experts(d: Door):
    model = d.root / "moe" / "model"
    for extra in ((), ("--target-modules", "all-linear")):
        code, said = d.run(model, d.samples(), *extra)
        d.tell("C72", f"the run says that experts stay frozen {extra}", "experts stay frozen" in said, f"exit {code}: {said[:300]}")
    code, said = d.bezel("preprocess", "--base-model", model, "--train-file", d.samples(), "--output-dir", d.folder(), "--dry-run")
    d.tell("C72", "so does preprocess --dry-run", "experts stay frozen" in said, said[-300:])
    d.refused("C15", "target_parameters that are no experts", d.run(model, d.samples(), "--target-parameters", "q_proj.weight"), "target_parameters", codes=(2,))


def other_weights(d: Door):
    quantized = d.folder()
    d.bezel("quantize", "--model", d.model, "--type", "nf4", "--output", quantized)
    tensors = load_file(quantized / "model.safetensors")
    config = json.loads((quantized / "config.json").read_text())
    config["quantization_config"]["bnb_4bit_quant_storage"] = "bfloat16"
    wanted, said = d.logits(quantized)
    as_bf16 = {k: (v.flatten().view(torch.bfloat16).unsqueeze(1) if k + ".absmax" in tensors else v) for k, v in tensors.items()}
    model = d.checkpoint(as_bf16, config)
    d.same("C31", "NF4 codes stored as bfloat16", d.logits(model), wanted)
    d.tell("C31", "inspect reads it", d.bezel("inspect", model)[0] == 0, "exit code")
    d.tell("C31", "inspect reads bitsandbytes", d.bezel("inspect", quantized)[0] == 0, "exit code")
    layer = L + "layers.0.self_attn."
    more = {layer + "rotary_emb.inv_freq": torch.ones(8), L + "rotary_emb.full_attention_inv_freq": torch.ones(8)}
    d.same("C24", "inv_freq is passed over", d.logits(d.checkpoint({**d.tensors, **more})), d.wanted(d.model))
    more = {layer + name: torch.ones(1) for name in ("k_scale", "v_scale", "k_proj.output_scale", "kv_scale")}
    d.same("C25", "scales of the KV cache are passed over", d.logits(d.checkpoint({**d.tensors, **more})), d.wanted(d.model))
    grouped(d)
    config = json.loads(json.dumps(d.config))
    for part in ("full_attention", "sliding_attention"):
        config["text_config"]["rope_parameters"][part].pop("rope_type")
    model = d.checkpoint(d.tensors, config)
    d.same("C62", "rope_parameters without rope_type", d.logits(model), d.wanted(model))
    lost = {k: (torch.full_like(v, float("inf") if k.endswith("max") else -float("inf")) if k.endswith(("_min", "_max")) else v) for k, v in d.tensors.items()}
    code, said = d.run(d.checkpoint(lost), d.samples())
    d.tell("C75", "train says that all clip bounds are infinite", "all clip bounds of the vision tower" in said, f"exit {code}: {said[:300]}")


def grouped(d: Door):
    """compressed-tensors with weight_g_idx."""
    name, size = L + "layers.0.mlp.up_proj", 32
    weight = d.tensors[name + ".weight"]
    groups = weight.unflatten(1, (-1, size))
    scale = groups.abs().amax(-1, keepdim=True) / 7
    codes = (groups / scale).round().clamp(-8, 7)
    dense = d.checkpoint({**d.tensors, name + ".weight": (codes * scale).flatten(1)})
    words = (codes.flatten(1).long() + 8).unflatten(1, (-1, 8)) * (16 ** torch.arange(8))
    words = words.sum(-1)
    words = torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
    parts = {name + ".weight_packed": words, name + ".weight_scale": scale.squeeze(-1), name + ".weight_shape": torch.tensor(weight.shape),
             name + ".weight_g_idx": torch.randperm(weight.shape[1]).to(torch.int32) // size}
    tensors = {**{k: v for k, v in d.tensors.items() if k != name + ".weight"}, **parts}
    for order in ("weight", None, "group"):
        scheme = {"targets": ["Linear"], "input_activations": None, "weights": {"num_bits": 4, "type": "int", "symmetric": True, "group_size": size, "actorder": order}}
        model = d.checkpoint(tensors, {**d.config, "quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": scheme}}})
        if order == "group":
            d.refused("C42", "actorder group", d.bezel("inspect", model), "actorder", "take the checkpoint", codes=(3,))
        else:
            d.same("C42", f"weight_g_idx is passed over, actorder {order}", d.logits(model), d.wanted(dense))


def folders(d: Door):
    def only(**files):
        out = d.folder()
        out.mkdir()
        shutil.copy(d.model / "config.json", out)
        for name, content in files.items():
            (out / name.replace("__", ".").replace("_of_", "-of-")).write_bytes(content)
        return out

    weights = (d.model / "model.safetensors").read_bytes()
    inspect = lambda path: d.bezel("inspect", path)
    d.refused("C50", "shards without an index", inspect(only(**{"model-00001_of_00002__safetensors": weights, "model-00002_of_00002__safetensors": weights})), "model.safetensors.index.json", "download")
    d.refused("C50", "a stray file", inspect(only(**{"gemma__safetensors": weights})), "gemma.safetensors", "rename")
    index = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode()
    d.refused("C85", "an index of shards that are gone", inspect(only(**{"model__safetensors__index__json": index})), "model-00001-of-00002.safetensors", "index")
    d.refused("C85", "an index of another save", inspect(only(**{"model__safetensors__index__json": index, "model-00001_of_00002__safetensors": weights})), "of different saves")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9000\n"
    d.refused("C86", "a Git LFS pointer as weights", inspect(only(**{"model__safetensors": pointer})), "Git LFS pointer", "git lfs pull")
    lfs = d.checkpoint(d.tensors)
    (lfs / "tokenizer.json").write_bytes(pointer)
    d.refused("C86", "a Git LFS pointer as tokenizer", d.run(lfs, d.samples()), "tokenizer.json", "Git LFS pointer")
    (d.tmp / "pointer.gguf").write_bytes(pointer)
    d.refused("C86", "a Git LFS pointer as GGUF", inspect(d.tmp / "pointer.gguf"), "Git LFS pointer")
    trainer = d.tmp / "outputs" / "checkpoint-10"
    shutil.copytree(d.adapter, trainer)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (trainer / name).write_bytes(b"\x80\x02")
    (trainer / "trainer_state.json").write_text("{}")
    for path in (trainer, trainer.parent):
        d.refused("C53", "a Trainer's checkpoint with --resume", d.run(d.model, d.samples(), "--resume-from-checkpoint", path), "another trainer", "init_adapter")
    mlx = d.folder()
    mlx.mkdir()
    (mlx / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 8, "scale": 20.0}}))
    save_file({"model.layers.0.self_attn.q_proj.lora_a": torch.ones(64, 8)}, mlx / "adapters.safetensors")
    for command in (("inspect", mlx), ("merge", "--model", d.model, "--adapter", mlx, "--output", d.folder())):
        d.refused("C56", "an adapter of MLX", d.bezel(*command), "MLX", "--to peft")
    d.refused("C56", "a file where a folder belongs", d.bezel("inspect", d.model / "model.safetensors"), "not a folder")
    for kind, architecture, word in (("mmproj", "clip", "mmproj"), ("adapter", "gemma4", "LoRA adapter for llama.cpp"), ("model", "gemma4-assistant", "drafter")):
        path = gguf(d, kind, architecture)
        d.refused("C56", f"a GGUF file of kind {kind}, {architecture}", inspect(path), word, "GGUF file of the language model")


def gguf(d: Door, kind, architecture, tensor_type=0, base="") -> Path:
    """A GGUF file with one tensor of 256 values, written byte by byte after the format's text."""
    text = lambda value: struct.pack("<Q", len(value)) + value.encode()
    keys = {"general.type": kind, "general.architecture": architecture, **({"general.base_model.0.repo_url": base} if base else {})}
    out = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys))
    for key, value in keys.items():
        out += text(key) + struct.pack("<I", 8) + text(value)
    out += text("token_embd.weight") + struct.pack("<IQIQ", 1, 256, tensor_type, 0)
    out += bytes(-len(out) % 32) + bytes(1024)
    path = d.tmp / f"{kind}-{architecture}-{tensor_type}.gguf"
    path.write_bytes(out)
    return path


def quantized(d: Door):
    def refused(row, what, section, *words):
        model = d.checkpoint({"a": torch.ones(1)}, {**d.config, **section})
        (model / "README.md").write_text("---\nbase_model: google/gemma-4-E2B-it\n---\n")
        for command in (("inspect", model), ("train", "--base-model", model, "--train-file", d.samples(), "--output-dir", d.folder())):
            d.refused(row, what, d.bezel(*command), "take the checkpoint in bfloat16", "google/gemma-4-E2B-it", *words, codes=(3,))

    method = lambda name, **more: {"quantization_config": {"quant_method": name, **more}}
    group = lambda bits, kind="int": {"input_activations": None, "weights": {"num_bits": bits, "type": kind}}
    compressed = lambda form, *groups: method("compressed-tensors", format=form, config_groups={f"g{i}": g for i, g in enumerate(groups)})
    refused("C41", "AWQ", method("awq", bits=4), "AWQ")
    refused("C43", "FP8", method("fp8"), "FP8")
    refused("C43", "FP8 in compressed-tensors", compressed("float-quantized", group(8, "float")), "FP8")
    refused("C44", "NVFP4 of ModelOpt", method("modelopt", quant_algo="NVFP4"), "NVFP4")
    refused("C44", "NVFP4 in compressed-tensors", compressed("nvfp4-pack-quantized", group(4, "float")), "NVFP4")
    refused("C45", "GPTQ", method("gptq", bits=4), "GPTQ")
    refused("C46", "MXFP4", method("mxfp4"), "MXFP4")
    refused("C46", "MLX", {"quantization": {"group_size": 64, "bits": 4}}, "MLX")
    refused("C55", "4 and 8 bits mixed", compressed("pack-quantized", group(4), group(8)), "mixed")
    for number, name in ((16, "IQ2_XXS"), (21, "IQ3_S"), (34, "TQ1_0")):
        path = gguf(d, "model", "gemma4", number, "https://example.org/gemma-4-E2B-it")
        d.refused("C55", f"GGUF with {name}", d.bezel("inspect", path), name, "Q4_K_M", "https://example.org/gemma-4-E2B-it", codes=(3,))


def main():
    with tempfile.TemporaryDirectory() as name:
        door = Door(reference(0), Path(name))
        for part in (heads, tokens, classes, layers, keys_are_values, prefixes, features, experts, other_weights, folders, quantized):
            part(door)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
