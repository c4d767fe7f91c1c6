"""Gemma 3's text models on the decoder of Gemma 4: logits, loss and every LoRA gradient against transformers + PEFT, and
adapters in both directions.

Tiny random Gemma3ForCausalLM, made here: texts longer than the window, more layers than one period of the pattern, so
that the last one is a sliding layer. Bounds as in model_parity.py.
"""
import json
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from _reference import forward
from adapter_parity import compare_logits as compare_with_peft, failures as adapter_failures, fresh, load_base, load_in_peft
from model_parity import check, compare_gradients, compare_logits, failures

BASE = dict(vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=1,
            head_dim=16, query_pre_attn_scalar=16, sliding_window=12, max_position_embeddings=4096, pad_token_id=0, eos_token_id=1,
            bos_token_id=2)
LINEAR = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
          "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}}
SHAPES = {"270m": {},
          # What the larger models do: linear RoPE, two key heads, a scale that is no power of two; and a head of its own.
          "1b": dict(num_key_value_heads=2, query_pre_attn_scalar=24, rope_parameters=LINEAR, tie_word_embeddings=False,
                     num_hidden_layers=7)}
SEEDS = (0, 1, 2)


def make_model(shape, seed):
    torch.manual_seed(seed)
    config = Gemma3TextConfig(**{**BASE, **SHAPES[shape]})
    config._attn_implementation = "eager"
    model = Gemma3ForCausalLM(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.2 if parameter.ndim == 1 else 0.05 if "embed" in name else parameter.shape[-1] ** -0.5
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    return model


def released_form(folder):
    """config.json as the released checkpoints spell it, before rope_parameters and layer_types."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config.pop("layer_types")
    full = rope["full_attention"]
    config |= {"rope_theta": full["rope_theta"], "rope_local_base_freq": rope["sliding_attention"]["rope_theta"],
               "rope_scaling": None if full["rope_type"] == "default" else {"rope_type": "linear", "factor": full["factor"]},
               "sliding_window_pattern": 6}
    path.write_text(json.dumps(config))


def batch(seed):
    generator = torch.Generator().manual_seed(seed + 50)
    ids = torch.randint(3, BASE["vocab_size"], (2, 41), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 29:] = 0
    ids[mask == 0] = 0
    labels = ids.clone()
    labels[:, :20] = -100
    labels[mask == 0] = -100
    return dict(input_ids=ids, attention_mask=mask, labels=labels)


def golden(model, folder, inputs, seed):
    """What transformers + PEFT say, as model_parity.py reads it."""
    saved = {f"in.{key}": value for key, value in inputs.items()}
    with torch.no_grad():
        out = model(**inputs, use_cache=False)
    saved |= {"logits": out.logits, "loss": out.loss}
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj",
                                                                                 "up_proj", "down_proj"]))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                spread = 0.3 if "lora_B" in name else 1.0
                parameter.copy_(spread * parameter.shape[1] ** -0.5 * torch.randn(parameter.shape, generator=generator))
    tuned.save_pretrained(folder / "adapter")
    out = tuned(**inputs, use_cache=False)
    out.loss.backward()
    saved |= {"adapter_logits": out.logits.detach(), "adapter_loss": out.loss.detach()}
    saved |= {"grad." + name.replace(".default", ""): parameter.grad for name, parameter in tuned.named_parameters()
              if parameter.grad is not None}
    save_file({key: value.contiguous() for key, value in saved.items()}, folder / "case.safetensors")
    return load_file(folder / "case.safetensors")


def float32_case(shape, seed, folder):
    name = f"{shape}, seed {seed}"
    model = make_model(shape, seed)
    model.save_pretrained(folder / "model")
    if seed == 1:
        released_form(folder / "model")
    wanted = golden(model, folder, batch(seed), seed)
    case = folder / "case.safetensors"
    base = forward(folder / "model", case, folder / "base.safetensors", "--dtype", "float32")
    tuned = forward(folder / "model", case, folder / "tuned.safetensors", "--dtype", "float32", "--adapter", folder / "adapter", "--grads")
    errors = [compare_logits(name, base, wanted, "", 3e-4), compare_logits(name, tuned, wanted, "adapter_", 3e-4)]
    moved = (wanted["adapter_logits"] - wanted["logits"]).abs().max().item()
    check(moved > 1e-2, f"{name}: the adapter moves logits by {moved:.1e} only")
    print(f"{name}: logits {max(e[0] for e in errors):.1e}, loss {max(e[1] for e in errors):.1e}, {compare_gradients(name, tuned, wanted)}")


def written_by_bezel(folder):
    model_folder, adapter = folder / "model", folder / "fresh"
    tensors = fresh(model_folder, adapter, "language", "default")
    model, said = load_in_peft(load_base(model_folder, Gemma3ForCausalLM), adapter)
    check(not said, f"PEFT takes the folder without a word {said}")
    state = get_peft_model_state_dict(model)
    check(state.keys() == tensors.keys() and all(torch.equal(state[k], tensors[k]) for k in tensors), "PEFT holds Bezel's tensors")
    check(all(k.startswith("base_model.model.model.layers.") for k in tensors), "keys of Gemma3ForCausalLM")
    compare_with_peft("written by Bezel", model, model_folder, adapter, folder / "case.safetensors", folder)


def bfloat16_errors(shape, seed, folder):
    """Loss errors of Bezel and of transformers in bfloat16, over weights that are bfloat16 themselves."""
    weights = folder / "bf16"
    make_model(shape, seed).to(torch.bfloat16).save_pretrained(weights)
    inputs = batch(seed)
    kept = Gemma3ForCausalLM.from_pretrained(weights, attn_implementation="eager", dtype=torch.float32).eval()
    rounded = Gemma3ForCausalLM.from_pretrained(weights, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        wanted = kept(**inputs, use_cache=False).loss.item()
        theirs = abs(rounded(**inputs, use_cache=False).loss.item() - wanted)
    ours = abs(forward(weights, folder / "case.safetensors", folder / "bf16.safetensors", "--dtype", "bfloat16")["loss"].item() - wanted)
    return ours, theirs


def main():
    pairs = []
    for shape in SHAPES:
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                float32_case(shape, seed, folder)
                pairs.append(bfloat16_errors(shape, seed, folder))
                if seed == 0:
                    written_by_bezel(folder)
    ours, theirs = (sum(pair[i] for pair in pairs) / len(pairs) for i in (0, 1))
    print(f"bfloat16: mean loss error {ours:.4f}, transformers {theirs:.4f}")
    check(ours <= 1.5 * theirs + 1e-4, f"bfloat16: loss error {ours:.4f}, transformers {theirs:.4f}")
    print(len(failures + adapter_failures), "failures")
    return 1 if failures + adapter_failures else 0


if __name__ == "__main__":
    sys.exit(main())
