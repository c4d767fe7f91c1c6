"""Adapters for other tools: `bezel convert --adapter A --to mlx|vllm|sglang|peft`.

--to mlx: mlx-lm itself (its CPU build, on the tiny model) loads what Bezel wrote with load_adapters, and its logits are
those of transformers + PEFT with the adapter, as near as mlx-lm's are without one. The adapter has two ranks, two alphas
and rsLoRA, which mlx-lm's format has no place for. --to peft: the same adapter back, and one that mlx-lm made. --to vllm:
PEFT loads the folder, whose config has no patterns, and gives the same logits. --to sglang: the same without layers that SGLang
would take for others. Tables that are trained beside LoRA change their names with it. What has no place there is refused.

    mlx_adapters.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from _reference import ROOT, bezel, check, finish, forward, reference

WHEELS = ROOT / ".venv" / "mlx-wheels"
SCRIPT = r"""
import json, sys
from pathlib import Path
import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import gemma4
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters

model_folder, adapter, ids, output, made = sys.argv[1:]
folder = Path(model_folder)
config = json.loads((folder / "config.json").read_text())
config["vocab_size"] = config["text_config"]["vocab_size"]
model = gemma4.Model(gemma4.ModelArgs.from_dict(config))
weights = {}
for file in sorted(folder.glob("*.safetensors")):
    weights.update(mx.load(str(file)))
model.load_weights([(k, v.astype(mx.float32)) for k, v in model.sanitize(weights).items()], strict=True)
if adapter != "-":
    load_adapters(model, adapter)
if made != "-":  # an adapter as mlx_lm.lora makes it: the last two layers, its own default keys
    parameters = {"rank": 3, "scale": 5.0, "dropout": 0.0, "keys": ["self_attn.q_proj", "mlp.down_proj"]}
    model.freeze()
    linear_to_lora_layers(model, 2, parameters)
    mx.random.seed(3)
    new = [(k, mx.random.normal(v.shape) * 0.05) for k, v in tree_flatten(model.trainable_parameters())]
    model.load_weights(new, strict=False)
    Path(made).mkdir()
    mx.save_safetensors(str(Path(made) / "adapters.safetensors"), dict(new))
    (Path(made) / "adapter_config.json").write_text(json.dumps(
        {"model": model_folder, "fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}))
model.eval()
mx.save_safetensors(output, {"logits": model(mx.array([json.loads(ids)]))})
"""


def in_mlx(site, model, ids, tmp, adapter="-", made="-"):
    """Logits [T, V] of mlx-lm, float32."""
    output = tmp / "mlx.safetensors"
    done = subprocess.run([sys.executable, "-c", SCRIPT, model, adapter, json.dumps(ids), output, made], text=True, capture_output=True,
                          env=dict(os.environ, PYTHONPATH=str(site)))
    assert done.returncode == 0, done.stdout + done.stderr
    return load_file(output)["logits"][0].float()


def in_peft(model, ids, adapter=None):
    from peft import PeftModel
    from transformers import Gemma4ForConditionalGeneration

    base = Gemma4ForConditionalGeneration.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
    if adapter:
        base = PeftModel.from_pretrained(base, adapter).eval()
    with torch.no_grad():
        return base(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def mixed_adapter(model, folder):
    """Language layers of two ranks and alphas under rsLoRA, as PEFT saves them."""
    from peft import LoraConfig, get_peft_model
    from transformers import Gemma4ForConditionalGeneration

    base = Gemma4ForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    layers = r"model\.language_model\.layers\.\d+\.(self_attn\.(q|o)_proj|mlp\.(gate|down)_proj)"
    config = LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=layers, rank_pattern={"down_proj": 7}, alpha_pattern={"q_proj": 11})
    tuned = get_peft_model(base, config)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    tuned.save_pretrained(folder)
    return folder


def unpack(tmp):
    site = tmp / "site"
    for wheel in sorted(WHEELS.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    return site


def distance(a, b):
    return (a - b).abs().max().item()


def check_mlx(site, model, ids, adapter, tmp):
    base = distance(in_mlx(site, model, ids, tmp), in_peft(model, ids))
    wanted = in_peft(model, ids, adapter)
    bezel("convert", "--adapter", adapter, "--to", "mlx", "--output", tmp / "mlx")
    got = in_mlx(site, model, ids, tmp, adapter=tmp / "mlx")
    error, moved = distance(got, wanted), distance(wanted, in_peft(model, ids))
    check(error <= 2 * base + 1e-4 and moved > 100 * error, f"mlx-lm with the adapter: off by {error:.1e}, without {base:.1e}, adapter moves {moved:.1e}")
    bezel("convert", "--adapter", tmp / "mlx", "--to", "peft", "--output", tmp / "back")
    again = distance(in_peft(model, ids, tmp / "back"), wanted)
    check(again <= 1e-4, f"the adapter back from mlx-lm's form: off by {again:.1e}")
    print(f"to mlx: {error:.1e} beside {base:.1e} of the base; back: {again:.1e}; the adapter moves logits by {moved:.1e}")


def check_from_mlx(site, model, ids, tmp):
    wanted = in_mlx(site, model, ids, tmp, made=tmp / "made")
    bezel("convert", "--adapter", tmp / "made", "--to", "peft", "--output", tmp / "made-peft")
    error = distance(in_peft(model, ids, tmp / "made-peft"), wanted)
    inputs = tmp / "inputs.safetensors"
    save_file({"in.input_ids": torch.tensor([ids]), "in.attention_mask": torch.ones(1, len(ids), dtype=torch.long)}, inputs)
    own = forward(model, inputs, tmp / "out.safetensors", "--adapter", tmp / "made-peft", "--dtype", "float32")["logits"].float()
    check(error <= 1e-3 and distance(own.view(len(ids), -1), wanted) <= 1e-3, f"an adapter that mlx-lm made: off by {error:.1e}")
    print(f"from mlx: {error:.1e} in PEFT, {distance(own.view(len(ids), -1), wanted):.1e} in Bezel")


def check_vllm(model, ids, adapter, tmp):
    bezel("convert", "--adapter", adapter, "--to", "vllm", "--output", tmp / "vllm")
    config = json.loads((tmp / "vllm" / "adapter_config.json").read_text())
    check(not config["rank_pattern"] and not config["alpha_pattern"] and not config["use_rslora"], "--to vllm: one rank, one alpha")
    ranks = {t.shape[0] for name, t in load_file(tmp / "vllm" / "adapter_model.safetensors").items() if "lora_A" in name}
    check(ranks == {config["r"]}, f"--to vllm: ranks {ranks}, r {config['r']}")
    error = distance(in_peft(model, ids, tmp / "vllm"), in_peft(model, ids, adapter))
    check(error <= 1e-4, f"--to vllm: off by {error:.1e}")
    print(f"to vllm: {error:.1e}")


def saved_by_peft(model, folder, **settings):
    """An adapter of PEFT whose B are not zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import Gemma4ForConditionalGeneration

    tuned = get_peft_model(Gemma4ForConditionalGeneration.from_pretrained(model, dtype=torch.float32), LoraConfig(r=4, lora_alpha=8, **settings))
    torch.manual_seed(6)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if any(part in name for part in ("lora_B", "modules_to_save", "trainable_tokens_delta")):
                parameter.add_(torch.randn_like(parameter) * 0.05)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    return folder


def check_sglang(model, adapter, tmp):
    kinds = r"(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
    mixed = saved_by_peft(model, tmp / "with-towers", target_modules=rf"model\.(language_model\.layers\.0\.({kinds}|per_layer_input_gate)|"
                                                                     rf"vision_tower\.encoder\.layers\.0\.{kinds}\.linear)")
    said = bezel("convert", "--adapter", mixed, "--to", "sglang", "--output", tmp / "sglang").stderr
    whole, got = (load_file(folder / "adapter_model.safetensors") for folder in (mixed, tmp / "sglang"))
    wanted = {name for name in whole if "language_model.layers.0." in name and "per_layer" not in name}
    check(got.keys() == wanted and len(wanted) == 14, f"--to sglang: {sorted(got.keys() ^ wanted)[:3]}")
    check(all(torch.equal(got[name], whole[name]) for name in wanted), "--to sglang: values")
    stay = {name.split("base_model.model.")[1].rsplit(".lora_", 1)[0] for name in whole if name not in wanted}
    check(all(name in said for name in stay) and said.count("stays behind") == len(stay) == 8, f"--to sglang names what stays behind: {said}")
    said = bezel("convert", "--adapter", adapter, "--to", "sglang", "--output", tmp / "none", code=3).stderr
    check("but not" in said and "SGLang puts into one matrix" in said, f"--to sglang without all of a product: {said}")


def check_tables(model, ids, tmp):
    """Whole embeddings, and rows of them, through both spellings of their names."""
    save_file({"in.input_ids": torch.tensor([ids]), "in.attention_mask": torch.ones(1, len(ids), dtype=torch.long)}, tmp / "ids.safetensors")
    logits = lambda folder: forward(model, tmp / "ids.safetensors", tmp / "out.safetensors", "--adapter", folder, "--dtype", "float32")["logits"]
    kinds = {"whole": dict(modules_to_save=["embed_tokens"]), "rows": dict(trainable_token_indices={"embed_tokens": sorted({*ids[:3], 5})})}
    for kind, settings in kinds.items():
        folder = saved_by_peft(model, tmp / kind, target_modules=r".*language_model.*q_proj", **settings)
        bezel("convert", "--adapter", folder, "--names", "text", "--output", tmp / f"{kind}-text")
        bezel("convert", "--adapter", tmp / f"{kind}-text", "--names", "multimodal", "--output", tmp / f"{kind}-back")
        bezel("convert", "--adapter", folder, "--to", "peft", "--output", tmp / f"{kind}-peft")
        first, text, back, same = (load_file(tmp / name / "adapter_model.safetensors") for name in (kind, f"{kind}-text", f"{kind}-back", f"{kind}-peft"))
        check(all("language_model" not in name for name in text) and len(text) == len(first), f"{kind}: text names {sorted(text)[:2]}")
        check(back.keys() == same.keys() and all(torch.equal(back[name], same[name]) for name in same), f"{kind}: there and back")
        want = logits(folder)
        check(all(torch.equal(logits(tmp / f"{kind}-{other}"), want) for other in ("text", "back", "peft")), f"{kind}: the same logits under every name")
        for to, words in (("vllm", ["embed_tokens", "bezel merge"]), ("sglang", ["embed_tokens"]), ("mlx", ["embed_tokens"]), ("gguf", ["embed_tokens"])):
            key = "modules_to_save" if kind == "whole" else "trainable_token_indices"
            output = tmp / ("none.gguf" if to == "gguf" else "none")
            said = bezel("convert", "--adapter", folder, "--to", to, "--output", output, code=3).stderr
            check(all(word in said for word in [key, *words]) and not output.exists(), f"--to {to} with {key}: {said}")
    from peft import PeftModel
    from transformers import Gemma4ForConditionalGeneration

    loaded = PeftModel.from_pretrained(Gemma4ForConditionalGeneration.from_pretrained(model, dtype=torch.float32), tmp / "rows-back").eval()
    with torch.no_grad():
        error = distance(loaded(input_ids=torch.tensor([ids]), use_cache=False).logits, logits(tmp / "rows-back"))
    check(error <= 1e-4, f"PEFT loads rows that changed their names twice: off by {error:.1e}")


def check_class(tmp):
    """An adapter of MLX gets the class of its base."""
    for kind, wanted in (("gemma4_unified", "Gemma4UnifiedForConditionalGeneration"), ("gemma4", "Gemma4ForConditionalGeneration")):
        base = tmp / f"base-{kind}"
        base.mkdir()
        (base / "config.json").write_text(json.dumps({"model_type": kind}))
        bezel("convert", "--adapter", tmp / "made", "--model", base, "--to", "peft", "--output", tmp / f"of-{kind}")
        config = json.loads((tmp / f"of-{kind}" / "adapter_config.json").read_text())
        check(config["auto_mapping"]["base_model_class"] == wanted, f"{kind}: {config['auto_mapping']}")
    shutil.copytree(tmp / "made", tmp / "of-unknown")
    config = json.loads((tmp / "of-unknown" / "adapter_config.json").read_text())
    (tmp / "of-unknown" / "adapter_config.json").write_text(json.dumps({**config, "model": "somebody/somewhere"}))
    said = bezel("convert", "--adapter", tmp / "of-unknown", "--to", "peft", "--output", tmp / "unknown").stderr
    check("not on this machine" in said, f"an unknown base is said: {said}")


def check_refusals(adapter, tmp):
    def refused(folder, *words, to="peft"):
        said = bezel("convert", "--adapter", folder, "--to", to, "--output", tmp / "none", code=3).stderr
        check(all(word in said for word in words) and not (tmp / "none").exists(), f"{words}: {said}")

    def changed(name, config=(), tensors=None):
        folder = tmp / name
        shutil.copytree(tmp / "made", folder)
        json_file = folder / "adapter_config.json"
        json_file.write_text(json.dumps({**json.loads(json_file.read_text()), **dict(config)}))
        if tensors is not None:
            save_file(tensors, folder / "adapters.safetensors")
        return folder

    made = load_file(tmp / "made" / "adapters.safetensors")
    refused(changed("full", {"fine_tune_type": "full"}), "fine_tune_type", "mlx_lm.fuse")
    refused(changed("dora", {"fine_tune_type": "dora"}), "fine_tune_type", "mlx_lm.fuse")
    key = next(iter(made))
    refused(changed("half", tensors={k: v for k, v in made.items() if k != key}), "has no lora_")
    refused(changed("nan", tensors={**made, key: made[key] * float("nan")}), key, "NaN")
    refused(changed("rank", {"lora_parameters": {"rank": 2, "scale": 5.0}}), "by rank in")
    refused(changed("name", tensors={k.replace("language_model.model.", "encoder."): v for k, v in made.items()}), "is no layer of Gemma's decoder")
    said = bezel("convert", "--adapter", adapter, "--to", "mlx", "--names", "text", "--output", tmp / "none", code=2).stderr
    check("--names" in said, said)


def main():
    if not list(WHEELS.glob("mlx_lm-*.whl")):
        print("mlx-lm's wheels are not there: tools/setup.sh test downloads them")
        sys.exit(77)
    preset = reference(0) / "e2b"
    model = preset / "model"
    ids = load_file(preset / "case-text.safetensors")["in.input_ids"][0].tolist()
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        site = unpack(tmp)
        adapter = mixed_adapter(model, tmp / "adapter")
        check_mlx(site, model, ids, adapter, tmp)
        check_from_mlx(site, model, ids, tmp)
        check_vllm(model, ids, adapter, tmp)
        check_sglang(model, adapter, tmp)
        check_tables(model, ids, tmp)
        check_class(tmp)
        check_refusals(adapter, tmp)
    sys.exit(finish())


if __name__ == "__main__":
    main()
