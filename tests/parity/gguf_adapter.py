"""`bezel convert --to gguf` as PyPI `gguf` reads it: metadata, names, orientation, values and scales, of adapters by PEFT
over Gemma 4 and Gemma 3. That llama.cpp does the same with one as Bezel does is part of llama_cpp.py.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from gguf import GGUFReader
from gguf.constants import MODEL_ARCH, MODEL_TENSORS, TENSOR_NAMES
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Gemma4ForConditionalGeneration

from _reference import BIN, reference

PEFT_NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
              "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "inp_gate": "per_layer_input_gate",
              "proj": "per_layer_projection"}
failures = []


def check(ok, what):
    print("ok" if ok else "FAILED", what)
    if not ok:
        failures.append(what)


def convert(adapter, output, *extra):
    return subprocess.run([BIN / "bezel", "convert", "--adapter", adapter, "--to", "gguf", "--output", output, *extra],
                          capture_output=True, text=True)


def text_of(field):
    return bytes(field.parts[field.data[0]]).decode()


def compare(name, model, folder, tmp, architecture, prefix):
    """`model` with its PEFT adapter, saved in `folder`; `prefix` stands before a layer's number."""
    run = convert(folder, tmp / "a.gguf")
    check(run.returncode == 0, f"{name}: converts {run.stderr if run.returncode else ''}")
    reader = GGUFReader(tmp / "a.gguf")
    fields = {key: text_of(reader.fields[key]) for key in ("general.type", "general.architecture", "adapter.type")}
    check(fields == {"general.type": "adapter", "general.architecture": architecture, "adapter.type": "lora"}, f"{name}: {fields}")
    alpha = float(reader.fields["adapter.lora.alpha"].parts[-1][0])
    state = get_peft_model_state_dict(model)
    scales = {layer.removeprefix("base_model.model."): module.scaling["default"] for layer, module in model.named_modules()
              if hasattr(module, "lora_A")}
    known = {TENSOR_NAMES[t] for t in MODEL_TENSORS[getattr(MODEL_ARCH, architecture.upper())]}
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    used, worst = set(), 0.0
    for stored in sorted(n for n in tensors if n.endswith(".lora_a")):
        base = stored.removesuffix(".weight.lora_a")
        _, layer, short = base.split(".")
        if f"blk.{{bid}}.{short}" not in known:
            check(False, f"{name}: {architecture} has no tensor {base}")
        module = f"{prefix}{layer}.{PEFT_NAMES[short]}"
        key = f"base_model.model.{module}.lora_A.weight"
        used |= {key, key.replace("lora_A", "lora_B")}
        a, b = tensors[stored], tensors[stored.replace("lora_a", "lora_b")]
        wanted = scales[module] * state[key.replace("lora_A", "lora_B")] @ state[key]
        # llama.cpp: alpha over the rank, which it reads off the tensor.
        worst = max(worst, ((alpha / a.shape[0] * b @ a - wanted).norm() / wanted.norm()).item())
        if a.shape != state[key].shape:
            check(False, f"{name}: {stored} is {tuple(a.shape)}, not {tuple(state[key].shape)}")
    language = {key for key in state if key.startswith(f"base_model.model.{prefix}")}
    check(used == language and len(tensors) == len(language), f"{name}: {len(tensors)} tensors, all of the language layers {sorted(used ^ language)[:3]}")
    check(worst <= 1e-6, f"{name}: scaled products differ by {worst:.1e}")
    behind = {key.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for key in state.keys() - language}
    said = {line.removeprefix("warning: ").split(" ")[0] for line in run.stderr.splitlines() if line.startswith("warning: ")}
    check(said == behind, f"{name}: {len(said)} layers left behind, by name {sorted(said ^ behind)[:3]}")


def randomised(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def gemma4(tmp):
    base = Gemma4ForConditionalGeneration.from_pretrained(reference(0) / "e2b" / "model", dtype=torch.float32)
    targets = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj|per_layer_input_gate|per_layer_projection)|model\.vision_tower\..*q_proj\.linear"
    model = randomised(get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets)))
    model.save_pretrained(tmp / "gemma4")
    compare("gemma4", model, tmp / "gemma4", tmp, "gemma4", "model.language_model.layers.")


def gemma3(tmp):
    base = Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
                                              num_key_value_heads=1, head_dim=16))
    config = LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "o_proj", "down_proj"],
                        rank_pattern={r"layers\.1\.mlp\.down_proj": 2}, alpha_pattern={"o_proj": 3.5})
    model = randomised(get_peft_model(base, config))
    model.save_pretrained(tmp / "gemma3")
    compare("gemma3, rsLoRA and patterns", model, tmp / "gemma3", tmp, "gemma3", "model.layers.")
    for arguments in (("--layout", "flat"), ("--model", tmp / "nowhere")):
        (tmp / "none.gguf").unlink(missing_ok=True)
        run = convert(tmp / "gemma3", tmp / "none.gguf", *arguments)
        check(run.returncode != 0 and not (tmp / "none.gguf").exists(), f"refused with {arguments[0]}: {run.stderr.strip()}")


def experts(tmp):
    """Stacks of experts: each expert's product is PEFT's; those of the down projections, which llama.cpp adds elsewhere, stay behind."""
    base = Gemma4ForConditionalGeneration.from_pretrained(reference(0) / "moe" / "model", dtype=torch.float32)
    layers = base.config.text_config.num_hidden_layers
    config = LoraConfig(r=3, lora_alpha=6, use_rslora=True, target_modules=["self_attn.o_proj"], exclude_modules=r".*vision.*",
                        target_parameters=["experts.gate_up_proj", "experts.down_proj"])
    model = randomised(get_peft_model(base, config))
    model.save_pretrained(tmp / "moe")
    run = convert(tmp / "moe", tmp / "moe.gguf")
    check(run.returncode == 0 and run.stderr.count("experts.down_proj stays behind") == layers == run.stderr.count("warning"), f"experts: {run.stderr}")
    reader = GGUFReader(tmp / "moe.gguf")
    alpha = float(reader.fields["adapter.lora.alpha"].parts[-1][0])
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    merged = {name.replace(".base_layer", ""): value.clone() for name, value in model.merge_and_unload().named_parameters()}
    plain = dict(Gemma4ForConditionalGeneration.from_pretrained(reference(0) / "moe" / "model", dtype=torch.float32).named_parameters())
    worst = 0.0
    for layer in range(layers):
        for short, name in (("ffn_gate_up_exps", "gate_up_proj"),):
            a, b = (tensors[f"blk.{layer}.{short}.weight.lora_{part}"] for part in "ab")
            parameter = f"model.language_model.layers.{layer}.experts.{name}"
            wanted = merged[parameter] - plain[parameter]
            got = alpha / a.shape[1] * torch.bmm(b, a)  # llama.cpp: alpha over the rank
            worst = max(worst, ((got - wanted).norm() / wanted.norm()).item() if got.shape == wanted.shape else float("inf"))
    check(worst <= 1e-5, f"experts: updates of {layers} stacks differ by {worst:.1e}")
    check(len(tensors) == 4 * layers, f"experts: {len(tensors)} tensors")


def main():
    with tempfile.TemporaryDirectory() as name:
        gemma4(Path(name))
        gemma3(Path(name))
        experts(Path(name))
    print(len(failures), "failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
