"""Adapters in both directions: what Bezel writes is taken by PEFT unmodified and gives the same logits, and for the same
targets both have the same keys.

Bounds on logits as in model_parity.py: 3e-4 (text, audio), 3e-3 (images), where attention_mask is 1. That PEFT's
adapters load in Bezel is part of model_parity.py.
"""
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Gemma4ForCausalLM

from _reference import CASES, PRESETS, forward, reference

TEST_BIN = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["BEZEL_TEST_BIN"])
INPUTS = ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_position_ids", "input_features", "input_features_mask")
TOWERS = {"e2b": "language,vision,audio,projectors", "dense": "language,vision,projectors", "moe": "language,vision,projectors",
          "unified": "language,vision,projectors"}

# (towers, Bezel's targets, Bezel's exclusion, PEFT's target_modules, PEFT's exclude_modules), on e2b
TARGETS = [
    ("language", "default", "", r".*language_model.*\.(q|k|v|o|gate|up|down)_proj", None),
    ("language,vision,audio", "q_proj", "", r".*language_model.*\.q_proj|.*tower.*\.q_proj\.linear", None),
    ("language", "q_proj,v_proj", r"re:.*layers\.[02468]\..*", ["language_model.layers.%d.self_attn.%s_proj" % (i, p)
                                                               for i in range(8) for p in "qv"], r".*layers\.[02468]\..*"),
    ("vision,audio", r"re:.*tower.*\.(q_proj|post|ffw_layer_1|up_proj)\.linear", "", r".*tower.*\.(q_proj|post|ffw_layer_1|up_proj)\.linear", None),
    ("language,vision,audio,projectors", "all-linear", "", "all-linear", None),
    ("language,vision,audio,projectors", "all-linear", "q_proj,relative_k_proj", "all-linear",
     ["q_proj.linear", "q_proj", "relative_k_proj"]),
]

failures = []


def check(ok, what):
    print("ok" if ok else "FAILED", what)
    if not ok:
        failures.append(what)


def fresh(model, out, towers, targets, excluded=""):
    run = subprocess.run([TEST_BIN / "fresh_adapter", model, out, towers, targets, *([excluded] if excluded else [])],
                         capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"fresh_adapter {towers} {targets}: {run.stderr}")
    return load_file(out / "adapter_model.safetensors")


def load_base(folder, kind=AutoModelForImageTextToText):
    return kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def load_in_peft(base, adapter):
    """The model, and whatever PEFT had to say about it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base, adapter).eval()
    return model, [str(w.message) for w in said if "adapter" in str(w.message) or "key" in str(w.message)]


def compare_logits(name, model, folder, adapter, file, tmp):
    wanted = load_file(file)
    inputs = {k: wanted[f"in.{k}"] for k in INPUTS if f"in.{k}" in wanted}
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits
    got = forward(folder, file, tmp / "out.safetensors", "--dtype", "float32", "--adapter", adapter)["logits"]
    error = (got - logits)[wanted["in.attention_mask"] == 1].abs().max().item()
    check(error <= (3e-3 if "in.pixel_values" in wanted else 3e-4), f"{name}: logits {error:.1e}")


def written_by_bezel(root, preset, tmp):
    folder, adapter = root / preset / "model", tmp / f"{preset}-adapter"
    tensors = fresh(folder, adapter, TOWERS[preset], "all-linear")
    model, said = load_in_peft(load_base(folder), adapter)
    check(not said, f"{preset}: PEFT takes the folder without a word {said}")
    state = get_peft_model_state_dict(model)
    check(state.keys() == tensors.keys(), f"{preset}: {len(tensors)} keys are PEFT's own")
    check(all(torch.equal(state[k], tensors[k]) for k in tensors), f"{preset}: PEFT holds Bezel's values")
    for case in CASES[preset]:
        compare_logits(f"{preset}/{case}", model, folder, adapter, root / preset / f"case-{case}.safetensors", tmp)


def same_targets(root, tmp):
    folder = root / "e2b" / "model"
    for i, (towers, targets, excluded, peft_targets, peft_excluded) in enumerate(TARGETS):
        got = fresh(folder, tmp / f"targets-{i}", towers, targets, excluded)
        model = get_peft_model(load_base(folder), LoraConfig(r=4, lora_alpha=8, target_modules=peft_targets, exclude_modules=peft_excluded))
        wanted = get_peft_model_state_dict(model)
        check(got.keys() == wanted.keys(), f"targets {targets} in {towers} without {excluded or 'nothing'}: {len(got)} keys, PEFT {len(wanted)}"
              + "".join(f"\n    {k}" for k in sorted(got.keys() ^ wanted.keys())[:6]))
        check(all(got[k].shape == wanted[k].shape for k in got.keys() & wanted.keys()), "  shapes")


def patterns(root, tmp):
    """rank_pattern, alpha_pattern and rsLoRA of an adapter by PEFT mean the same here, also after Bezel wrote it anew."""
    folder, source, again = root / "e2b" / "model", tmp / "patterns", tmp / "patterns-again"
    config = LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=r".*language_model.*\.[qv]_proj|.*vision.*\.q_proj\.linear",
                        rank_pattern={r"layers\.1\.self_attn\.q_proj": 2, r"vision_tower.*q_proj\.linear": 3},
                        alpha_pattern={r"v_proj": 3.5})
    model = get_peft_model(load_base(folder), config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(source)
    case = root / "e2b" / "case-image.safetensors"
    compare_logits("patterns, read", model.eval(), folder, source, case, tmp)
    run = subprocess.run([TEST_BIN / "train_steps", folder, source, again, "1", "0", "0", case], capture_output=True, text=True)
    check(run.returncode == 0, f"patterns, rewritten {run.stderr.strip()}")
    if run.returncode != 0:
        return
    written, _ = load_in_peft(load_base(folder), again)
    compare_logits("patterns, written", written, folder, source, case, tmp)


def text_only(root, tmp):
    """A checkpoint without towers: PEFT's keys begin with base_model.model.model.layers."""
    folder, adapter = tmp / "text-model", tmp / "text-adapter"
    whole = load_base(root / "e2b" / "model")
    text = Gemma4ForCausalLM(whole.config.text_config)
    text.model.load_state_dict(whole.model.language_model.state_dict())
    text.tie_weights()
    text.save_pretrained(folder)
    tensors = fresh(folder, adapter, "language", "default")
    model, said = load_in_peft(load_base(folder, Gemma4ForCausalLM), adapter)
    check(not said and get_peft_model_state_dict(model).keys() == tensors.keys(), f"text only: {len(tensors)} keys are PEFT's own {said}")
    case = load_file(root / "e2b" / "case-text.safetensors")
    inputs = {k: case[k] for k in ("in.input_ids", "in.attention_mask", "in.labels")}
    save_file(inputs, tmp / "text-case.safetensors")
    compare_logits("text only", model, folder, adapter, tmp / "text-case.safetensors", tmp)


def config_is_clean(root, tmp):
    adapter = json.loads((tmp / "e2b-adapter" / "adapter_config.json").read_text())
    by_peft = json.loads((root / "e2b" / "adapter" / "adapter_config.json").read_text())
    check(adapter.keys() == by_peft.keys(), f"adapter_config.json has PEFT's keys {sorted(adapter.keys() ^ by_peft.keys())}")
    check(all("." in name for name in adapter["target_modules"]), "target_modules lists full names")


def main() -> int:
    root = reference(0)
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        for preset in PRESETS:
            written_by_bezel(root, preset, tmp)
        config_is_clean(root, tmp)
        same_targets(root, tmp)
        patterns(root, tmp)
        text_only(root, tmp)
    print(len(failures), "failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
