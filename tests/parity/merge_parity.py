"""`bezel merge` and `bezel convert` against PEFT's merge_and_unload, the reference's merged.safetensors, and the logits
of base + adapter.

Merged float32 matrices: bit for bit those of the reference. bfloat16 output: W + s·B·A in float32, rounded once. Logits
of a merged checkpoint, in transformers and in Bezel, against those of base + adapter: the bounds of model_parity.py.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from _reference import BIN, CASES, PRESETS, forward, inputs_of, portable_bitsandbytes, reference

import torch
from safetensors.torch import load_file, save_file

failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAILED", what)


def bezel(*arguments, code=0):
    run = subprocess.run([str(a) for a in (BIN / "bezel", *arguments)], capture_output=True, text=True)
    if run.returncode != code:
        raise SystemExit(f"{arguments}\nexit {run.returncode}, wanted {code}\n{run.stdout}{run.stderr}")
    return run.stdout + run.stderr


def tensors_of(folder):
    files = sorted(folder.glob("model*.safetensors"))
    return {k: v for file in files for k, v in load_file(file).items()}


def others_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if "model" not in p.name and p.name != "config.json"}


def load(folder, **more):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more).eval()


def logits_error(case, logits, wanted):
    return (logits - wanted)[case["in.attention_mask"] == 1].abs().max().item()


def limit_of(case):
    return 3e-3 if "in.pixel_values" in case else 3e-4


def adapters_inside(model, adapter):
    """W + s·B·A in float32 of every layer that `adapter` has, by checkpoint key."""
    lora = load_file(adapter / "adapter_model.safetensors")
    scale = json.loads((adapter / "adapter_config.json").read_text())
    scale = scale["lora_alpha"] / scale["r"]
    made = {}
    for key, a in lora.items():
        if ".lora_A." in key:
            name = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            made[name] = model[name].float() + scale * (lora[key.replace("lora_A", "lora_B")] @ a)
    return made


def float32(root, preset, tmp):
    folder, out = root / preset / "model", tmp / f"{preset}-merged"
    bezel("merge", "--model", folder, "--adapter", root / preset / "adapter", "--output", out)
    got, base, wanted = tensors_of(out), tensors_of(folder), load_file(root / preset / "merged.safetensors")
    check(got.keys() == base.keys(), f"{preset}: keys")
    check(all(torch.equal(got[k], wanted.get(k, base[k])) for k in base), f"{preset}: tensors are the reference's")
    check(json.loads((out / "config.json").read_text()) == json.loads((folder / "config.json").read_text()), f"{preset}: config.json")
    check(others_of(out) == others_of(folder), f"{preset}: tokenizer and processor files")
    model = load(out)
    errors = []
    for name in CASES[preset]:
        file = root / preset / f"case-{name}.safetensors"
        case = load_file(file)
        with torch.no_grad():
            theirs = model(**inputs_of(case), use_cache=False).logits
        ours = forward(out, file, tmp / "out.safetensors", "--dtype", "float32")["logits"]
        errors.append(max(logits_error(case, x, case["adapter_logits"]) for x in (theirs, ours)))
        check(errors[-1] <= limit_of(case), f"{preset}/{name}: logits {errors[-1]:.1e}")
    print(f"{preset}: {len(wanted)} merged matrices bit for bit, logits {max(errors):.1e}")


def peft_merges_the_same(root, tmp):
    from peft import PeftModel

    PeftModel.from_pretrained(load(root / "e2b" / "model"), root / "e2b" / "adapter").merge_and_unload().save_pretrained(tmp / "peft")
    theirs, ours = tensors_of(tmp / "peft"), tensors_of(tmp / "e2b-merged")
    check(theirs.keys() <= ours.keys(), f"PEFT: other keys {sorted(theirs.keys() - ours.keys())[:3]}")
    check(all(torch.equal(v, ours[k]) for k, v in theirs.items()), "PEFT: merge_and_unload gives other tensors")
    print(f"merge_and_unload + save_pretrained: {len(theirs)} tensors bit for bit")


def bfloat16_and_shards(root, tmp):
    folder, adapter, out = tmp / "bf16", root / "e2b" / "adapter", tmp / "bf16-merged"
    shutil.copytree(root / "e2b" / "model", folder)
    base = {k: v.bfloat16() for k, v in tensors_of(folder).items()}
    save_file(base, folder / "model.safetensors", metadata={"format": "pt"})
    said = bezel("merge", "--model", folder, "--adapter", adapter, "--output", out, "--max-shard-size", "300 KB")
    got, inside = tensors_of(out), adapters_inside(base, adapter)
    check(got.keys() == base.keys(), "bfloat16: keys")
    check(all(torch.equal(got[k], inside[k].bfloat16() if k in inside else base[k]) for k in base), "bfloat16: rounded once")
    shards = sorted(out.glob("model-*.safetensors"))
    index = json.loads((out / "model.safetensors.index.json").read_text())
    check(len(shards) > 2 and f"in {len(shards)} file(s)" in said, f"shards: {len(shards)} {said}")
    for shard in shards:
        held = load_file(shard)
        size = sum(v.nbytes for v in held.values())
        check(size <= 300_000 or len(held) == 1, f"{shard.name}: {size} bytes")
        check(all(index["weight_map"][k] == shard.name for k in held), f"{shard.name}: index")
    check(index["metadata"]["total_size"] == sum(v.nbytes for v in base.values()), "shards: total_size")
    state = load(out).state_dict()
    check(all(torch.equal(state[k], v.float()) for k, v in got.items() if k in state), "shards: transformers reads other values")
    wide = tmp / "bf16-wide"
    bezel("merge", "--model", folder, "--adapter", adapter, "--output", wide, "--dtype", "float32")
    check(all(torch.equal(v, inside.get(k, base[k].float())) for k, v in tensors_of(wide).items()), "--dtype float32 of a bfloat16 base")
    before = others_of(out)
    said = bezel("merge", "--model", folder, "--adapter", adapter, "--output", out, code=2)
    check("takes a new folder" in said and others_of(out) == before, f"an existing folder: {said}")


def dequantized(tensors):
    """Every matrix of a bitsandbytes checkpoint, by the name of its weight, by bitsandbytes itself."""
    from bitsandbytes import functional as F

    made = {}
    for name, value in tensors.items():
        state = {k.removeprefix(name + "."): v for k, v in tensors.items() if k.startswith(name + ".")}
        scales = tensors.get(name.removesuffix("weight") + "SCB")
        if state:
            made[name] = F.dequantize_4bit(value, F.QuantState.from_dict(dict(state), device="cpu")).float()
        elif scales is not None:
            made[name] = F.int8_vectorwise_dequant(value, scales)
    return made


def quantized_base(root, tmp, kind):
    from bitsandbytes import functional as F

    folder, adapter, out, again = tmp / kind, root / "e2b" / "adapter", tmp / f"{kind}-merged", tmp / f"{kind}-again"
    bezel("quantize", "--model", root / "e2b" / "model", "--type", kind, "--output", folder)
    stored = tensors_of(folder)
    codes = dequantized(stored)
    inside = adapters_inside({**stored, **codes}, adapter)
    bezel("merge", "--model", folder, "--adapter", adapter, "--output", out)
    got = tensors_of(out)
    check("quantization_config" not in json.loads((out / "config.json").read_text()), f"{kind}: quantization_config is gone")
    check(got.keys() == tensors_of(root / "e2b" / "model").keys(), f"{kind}: keys of a dense checkpoint")
    check(all(torch.equal(v, inside.get(k, codes.get(k, stored[k]))) for k, v in got.items()), f"{kind}: dense = dequantized + s·B·A")
    file = root / "e2b" / "case-mixed.safetensors"
    case, model = load_file(file), load(out)
    with torch.no_grad():
        theirs = model(**inputs_of(case), use_cache=False).logits
    ours = forward(folder, file, tmp / "out.safetensors", "--dtype", "float32", "--adapter", adapter)["logits"]
    error = logits_error(case, ours, theirs)
    check(error <= limit_of(case), f"{kind}: merged logits {error:.1e}")

    said = bezel("merge", "--model", folder, "--adapter", adapter, "--output", again, "--requantize")
    new = tensors_of(again)
    check(new.keys() == stored.keys(), f"{kind}: keys after --requantize")
    decoded = dequantized(new)
    for name, matrix in inside.items():
        if kind == "nf4":
            packed, _ = F.quantize_4bit(matrix, blocksize=64, quant_type="nf4", compress_statistics=True)
        else:
            packed = F.int8_vectorwise_quant(matrix.clone())[0]
        check(torch.equal(new[name], packed), f"{kind}: codes of {name}")
    touched = tuple(name.removesuffix("weight") for name in inside)
    check(all(torch.equal(v, stored[k]) for k, v in new.items() if not k.startswith(touched)), f"{kind}: untouched codes stay")
    norm = lambda parts: sum(p.double().square().sum() for p in parts).sqrt().item()
    added = norm(decoded[k] - v for k, v in inside.items()) / norm(inside.values())
    check(f"the error this adds is {100 * added:.2f}% of the weights' norm" in said, f"{kind}: {100 * added:.2f}%: {said}")
    print(f"{kind} base: merged dense, logits {error:.1e}; quantized again, error {100 * added:.2f}%")


def main():
    with tempfile.TemporaryDirectory() as name:
        tmp, root, kept = Path(name), reference(0), portable_bitsandbytes()
        for preset in PRESETS:
            float32(root, preset, tmp)
        peft_merges_the_same(root, tmp)
        bfloat16_and_shards(root, tmp)
        for kind in ("nf4", "int8"):
            quantized_base(root, tmp, kind)
        del kept
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
