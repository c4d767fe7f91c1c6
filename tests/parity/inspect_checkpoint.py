"""`bezel inspect` of the reference's checkpoints against their files as safetensors reads them, and PEFT's choice of layers:
tree, storage, clip bounds of each layer, layers by target_modules, memory of the weights.

    inspect_checkpoint.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import math
import re
import sys

from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import Gemma4ForConditionalGeneration

from _reference import PRESETS, bezel, check, finish, reference

BOUNDS = ("input_min", "input_max", "output_min", "output_max")
TOWERS = {"language": ".language_model.", "vision": ".vision_tower.", "audio": ".audio_tower.", "projectors": ".embed_"}


def inspect(folder, *flags, code=0):
    done = bezel("inspect", folder, *flags, code=code)
    return done.stdout if code == 0 else done.stderr


def tower_of(name):
    return next(tower for tower, part in TOWERS.items() if part in name)


def check_tree(name, report, tensors):
    for tower in TOWERS:
        mine = {key: value for key, value in tensors.items() if tower_of(key) == tower}
        rows = report["tree"].get(tower, [])
        check(sum(row["count"] for row in rows) == len(mine), f"{name}: tensors of {tower}")
        check(sum(row["bytes"] for row in rows) == sum(t.numel() * t.element_size() for t in mine.values()), f"{name}: bytes of {tower}")
        for row in rows:
            if row["name"] == "clip bounds":
                check(row["count"] == sum(key.endswith(BOUNDS) for key in mine), f"{name}: bounds of {tower}")
                continue
            pattern = re.compile(".*\\." + re.escape(row["name"]).replace(r"\*", r"(\d+)"))
            found = {int(m[1]) if m.groups() else -1: tensors[key] for key in mine
                     if (m := pattern.fullmatch(key.replace(".linear.weight", ".weight"))) and list(mine[key].shape) == row["shape"]}
            check(len(found) == row["count"], f"{name}: {tower} {row['name']}: {len(found)}, not {row['count']}")
            layers = {n for part in row["layers"].split(", ") if part for n in range(int(part.split("-")[0]), int(part.split("-")[-1]) + 1)}
            check(layers == set(found) - {-1}, f"{name}: layers of {row['name']}: {row['layers']}")


def check_clips(name, report, tensors):
    wanted = {}
    for key, value in tensors.items():
        if key.endswith(BOUNDS):
            layer, bound = key.rsplit(".", 1)
            wanted.setdefault(layer, {})[bound] = value.item()
    check(report["clip"]["layers"] == wanted, f"{name}: clip bounds by layer")
    return len(wanted)


def peft_layers(folder, targets):
    """What PEFT adapts, given full names: by tower, in the spelling without `.linear`."""
    model = Gemma4ForConditionalGeneration.from_pretrained(folder)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
    out = {}
    for key, _ in tuned.named_parameters():
        if "lora_A" in key:
            module = key.removeprefix("base_model.model.").split(".lora_A")[0].removesuffix(".linear")
            out.setdefault(tower_of(module), []).append(module)
    return out


def check_targets(name, folder, report):
    regex = r".*\.(q_proj|down_proj)"
    # PEFT refuses the towers' wrappers, and takes the layers inside them.
    wanted = peft_layers(folder, r".*language_model\..*\.(q_proj|down_proj)|.*_tower\..*\.(q_proj|down_proj)\.linear")
    got = json.loads(inspect(folder, "--target-modules", regex, "--json"))
    in_order = lambda layers: {tower: sorted(names) for tower, names in layers.items()}
    check(in_order(got) == in_order(wanted), f"{name}: layers of {regex}")
    by_names = json.loads(inspect(folder, "--target-modules", "q_proj,down_proj", "--json"))
    check(in_order(by_names) == in_order(got), f"{name}: the same by names")
    for tower, modules in wanted.items():
        for leaf in ("q_proj", "down_proj"):
            count = sum(module.endswith(leaf) for module in modules)
            check(report["target_modules"][leaf].get(tower, 0) == count, f"{name}: {leaf} in {tower}")
    check("nearest" in inspect(folder, "--target-modules", "qproj", code=2), f"{name}: a name of nothing")
    return sum(map(len, wanted.values()))


def check_memory(name, report, tensors):
    """Dense weights in bfloat16: every matrix of the decoder that is read as a whole."""
    used = {key: value for key, value in tensors.items() if ".language_model." in key and value.dim() >= 2
            and "embed_tokens_per_layer" not in key and key not in report["unused_kv_tensors"]}
    dense = sum(2 * math.prod(value.shape) for value in used.values())
    memory = report["training_memory"]
    check(memory["dense"]["weights"] == dense, f"{name}: dense weights {memory['dense']['weights']}, not {dense}")
    check(memory["nf4"]["weights"] < memory["int8"]["weights"] < dense, f"{name}: codes take less")
    for storage in ("dense", "int8", "nf4"):
        parts = memory[storage]
        check(parts["total"] == sum(parts[k] for k in ("process", "weights", "adapters", "activations", "loss")), f"{name}: {storage} sums up")
        check(parts["total_recomputed"] < parts["total"], f"{name}: recomputing takes less")


def main():
    root = reference(0)
    for name in PRESETS:
        folder = root / name / "model"
        report, tensors = json.loads(inspect(folder, "--json")), load_file(folder / "model.safetensors")
        check_tree(name, report, tensors)
        clipped = check_clips(name, report, tensors)
        layers = check_targets(name, folder, report)
        check_memory(name, report, tensors)
        text = inspect(folder, "--clips")
        for words in ("layers.*.self_attn.q_proj.weight", "all-linear", "with gradient_checkpointing", "key layout"):
            check(words in text, f"{name}: does not print {words}")
        print(f"{name}: {len(tensors)} tensors, {clipped} clipped layers, {layers} layers as PEFT chooses them")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
