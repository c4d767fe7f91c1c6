"""The unified model (12B) against transformers + PEFT: what model_parity.py, adapter_parity.py, merge_parity.py and
trajectory_parity.py check for the other sizes, by the same bounds, and what only it has.

Every image is longer than the sliding window; one audio clip lasts 31 s, beyond where the other sizes cut.

    unified_parity.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import Gemma4UnifiedForCausalLM, Gemma4UnifiedForConditionalGeneration

import adapter_parity
import merge_parity
import model_parity
import trajectory_parity
from _reference import UNIFIED, bezel, check, finish, forward, inputs_of, reference

PRESET = tuple(UNIFIED)
DISK = (("embed_vision.patch_dense", "vision_embedder.patch_dense"),
        ("embed_vision.multimodal_embedder.embedding_projection", "embed_vision.embedding_projection"))
# Bezel's targets in all towers, and PEFT's target_modules
TARGETS = (("all-linear", "all-linear"),
           ("q_proj,v_proj,patch_dense,embedding_projection", ["q_proj", "v_proj", "patch_dense", "embedding_projection"]),
           (r"re:.*\.embed_vision\.\w+_dense|.*\.o_proj|.*\.embed_audio\.\w+_projection", r".*\.embed_vision\.\w+_dense|.*\.o_proj|.*\.embed_audio\.\w+_projection"))


def numbers(tmp):
    """Loss, logits, soft tokens, gradients, in both forms of config.json; bfloat16; twelve steps."""
    ours, theirs = [], []
    for seed in (0, 1):
        root = reference(seed, PRESET)
        for case in UNIFIED["unified"]:
            model_parity.float32_case(root, "unified", case, tmp)
        mine, other = model_parity.bfloat16_errors(root, "unified", tmp)
        ours, theirs = ours + mine, theirs + other
        check(trajectory_parity.compare(root / "unified", tmp / f"steps-{seed}"), f"twelve steps, seed {seed}")
    ratio = sum(ours) / sum(theirs)
    print(f"bfloat16: {ratio:.2f} times the loss error of transformers")
    check(ratio <= 1.5, f"bfloat16: {ratio:.2f} times the error of transformers")


def targets(root, tmp):
    """The same layers by the same names as PEFT: those of the modules in memory, not those on disk."""
    folder = root / "unified" / "model"
    for i, (mine, theirs) in enumerate(TARGETS):
        got = adapter_parity.fresh(folder, tmp / f"targets-{i}", "language,vision,projectors", mine)
        model = get_peft_model(adapter_parity.load_base(folder),
                               LoraConfig(r=4, lora_alpha=8, target_modules=theirs))
        wanted = get_peft_model_state_dict(model)
        check(got.keys() == wanted.keys(), f"targets {mine}: {sorted(got.keys() ^ wanted.keys())[:4]}")
        check(mine != "all-linear" or len(got) == 2 * (2 * 7 + 6 + 3), f"all-linear: {len(got)} tensors")
    for tower, name, there in (("vision", r"re:model\.vision_embedder\.patch_dense", "patch_dense"),
                               ("projectors", r"re:model\.embed_vision\.embedding_projection", "embedding_projection")):
        try:
            adapter_parity.fresh(folder, tmp / f"disk-{tower}", tower, name)
            check(False, f"{name}, a name on disk, is no target in PEFT")
        except SystemExit as refused:
            check(f"nearest: {there}" in str(refused), f"the refusal names what is there: {refused}")


def disk_names(root, tmp):
    """An adapter whose keys spell the embedder as a checkpoint does is the same adapter."""
    source, renamed = root / "unified" / "adapter", tmp / "disk-named"
    shutil.copytree(source, renamed)
    tensors = {}
    for key, value in load_file(source / "adapter_model.safetensors").items():
        for memory, disk in DISK:
            key = key.replace(memory, disk)
        tensors[key] = value
    check(sum("vision_embedder" in key for key in tensors) == 2, "the embedder is among the keys")
    save_file(tensors, renamed / "adapter_model.safetensors", metadata={"format": "pt"})
    case = root / "unified" / "case-mixed.safetensors"
    a, b = (forward(root / "unified" / "model", case, tmp / "out.safetensors", "--adapter", folder, "--grads") for folder in (source, renamed))
    check(a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), "names on disk: the same logits and gradients")
    told = json.loads(bezel("verify-adapter", "--model", root / "unified" / "model", "--adapter", renamed, "--json").stdout)
    check(not told["problems"] and not told["elsewhere"][0]["problems"], f"verify-adapter: {told['problems']} {told['elsewhere'][0]}")


def memory_names(root, tmp):
    """A checkpoint in the names of the modules, which transformers reads too."""
    folder = tmp / "memory-named"
    shutil.copytree(root / "unified" / "model", folder)
    tensors = load_file(folder / "model.safetensors")
    renamed = {k.replace("embed_vision.embedding_projection", "embed_vision.multimodal_embedder.embedding_projection")
                .replace("vision_embedder.", "embed_vision."): v for k, v in tensors.items()}
    check(renamed.keys() != tensors.keys(), "names differ")
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    case = root / "unified" / "case-mixed.safetensors"
    a, b = (forward(m, case, tmp / "out.safetensors")["logits"] for m in (root / "unified" / "model", folder))
    check(torch.equal(a, b), "a checkpoint in the names of the modules")


def text_only(root, tmp):
    """Gemma4UnifiedForCausalLM: `model.layers…`, as a checkpoint and as the base of an adapter."""
    folder, adapter = tmp / "text-model", tmp / "text-adapter"
    whole = adapter_parity.load_base(root / "unified" / "model")
    text = Gemma4UnifiedForCausalLM(whole.config.text_config)
    text.model.load_state_dict(whole.model.language_model.state_dict())
    text.tie_weights()
    text.save_pretrained(folder)
    check(json.loads((folder / "config.json").read_text())["model_type"] == "gemma4_unified_text", "the text model's own type")
    tensors = adapter_parity.fresh(folder, adapter, "language", "default")
    model, said = adapter_parity.load_in_peft(adapter_parity.load_base(folder, Gemma4UnifiedForCausalLM), adapter)
    check(not said and get_peft_model_state_dict(model).keys() == tensors.keys(), f"text only: {len(tensors)} keys are PEFT's own {said}")
    case = load_file(root / "unified" / "case-text.safetensors")
    save_file({k: case[k] for k in ("in.input_ids", "in.attention_mask", "in.labels")}, tmp / "text-case.safetensors")
    adapter_parity.compare_logits("text only", model, folder, adapter, tmp / "text-case.safetensors", tmp)


@contextmanager
def sliding_rule():
    """The masks of the other sizes in the unified model: what image_attention: sliding_layers stands for."""
    from transformers.models.gemma4 import modeling_gemma4 as family
    from transformers.models.gemma4_unified import modeling_gemma4_unified as unified

    whole = unified.create_masks_for_generate

    def masks(block_sequence_ids=None, **inputs):
        if block_sequence_ids is None:
            return whole(**inputs)
        return family.create_masks_for_vision_model(block_sequence_ids=block_sequence_ids, **inputs)

    unified.create_masks_for_generate = masks
    try:
        yield
    finally:
        unified.create_masks_for_generate = whole


def image_attention(root, tmp):
    """An adapter says by which rule it was trained, and is run by it."""
    folder, adapter = root / "unified", tmp / "sliding"
    shutil.copytree(folder / "adapter", adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["auto_mapping"]["image_attention"] = "sliding_layers"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    model, said = adapter_parity.load_in_peft(adapter_parity.load_base(folder / "model"), adapter)
    check(not said, f"PEFT takes the record without a word {said}")
    for name in ("image", "images", "mixed"):
        file = folder / f"case-{name}.safetensors"
        case = load_file(file)
        with sliding_rule(), torch.no_grad():
            wanted = model(**inputs_of(case), use_cache=False).logits
        got = forward(folder / "model", file, tmp / "out.safetensors", "--adapter", adapter)["logits"]
        error, apart = ((a - b).abs().max().item() for a, b in ((got, wanted), (wanted, case["adapter_logits"])))
        check(error <= 3e-3, f"sliding_layers, {name}: logits {error:.1e}")
        check(apart > 3e-2, f"sliding_layers, {name}: the rules are only {apart:.1e} apart")
        print(f"sliding_layers, {name}: logits {error:.1e}, {apart:.1e} away from all_layers")
    told = bezel("verify-adapter", "--model", folder / "model", "--adapter", adapter).stdout
    check("image_attention: sliding_layers" in told, f"verify-adapter says the rule: {told}")
    bezel("convert", "--adapter", adapter, "--to", "vllm", "--output", tmp / "served")
    mapping = json.loads((tmp / "served" / "adapter_config.json").read_text())["auto_mapping"]
    check((mapping["base_model_class"], mapping["image_attention"]) == ("Gemma4UnifiedForConditionalGeneration", "sliding_layers"), f"--to vllm: {mapping}")
    config["auto_mapping"]["image_attention"] = "some_layers"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    told = bezel("verify-adapter", "--model", folder / "model", "--adapter", adapter, code=3).stderr
    check("some_layers" in told and "adapter_config.json" in told, f"a rule that is none: {told}")
    merged = bezel("merge", "--model", folder / "model", "--adapter", tmp / "unified-adapter", "--output", tmp / "merged")
    check("image_attention" not in merged.stderr, "merge has nothing to warn of")


def main() -> int:
    root = reference(0, PRESET)
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        numbers(tmp)
        adapter_parity.written_by_bezel(root, "unified", tmp)
        targets(root, tmp)
        disk_names(root, tmp)
        memory_names(root, tmp)
        text_only(root, tmp)
        merge_parity.float32(root, "unified", tmp)
        image_attention(root, tmp)
    for program in (model_parity, adapter_parity, merge_parity):
        for what in program.failures:
            check(False, f"{program.__name__}: {what}")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
