"""A model in two GGUF files, language model and `mmproj`, as Bezel writes them, computes what its checkpoint does: logits, soft tokens
and every LoRA gradient over texts, images and audio clips, within the rounding of float32. It trains on images and audio clips,
and PEFT loads the adapter on the checkpoint.

    mmproj_in.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from _reference import PRESETS, ROOT, bezel, finish, forward, reference, relative, tell
from safetensors.torch import load_file

# Clip bounds, vectors and matrices are the same bits; per_dim_scale goes through softplus and back, and float32 matrices are
# aligned otherwise in their file, which alone moves last bits.
LOGITS, GRADIENT = 2e-4, 1e-3


def compare(preset: str, root: Path, gguf: Path, tmp: Path):
    folder = root / preset
    for case in PRESETS[preset]:
        inputs = folder / f"case-{case}.safetensors"
        want, got = (forward(model, inputs, tmp / "out.safetensors", "--adapter", folder / "adapter", "--grads") for model in (folder / "model", gguf))
        real = load_file(inputs)["in.attention_mask"] == 1
        logits = (got["logits"] - want["logits"])[real].abs().max().item()
        soft = max((relative(got[key], want[key]) for key in ("image_features", "audio_features") if key in want), default=0.0)
        gradients = [relative(got[key], value) for key, value in want.items() if key.startswith("grad.") and key in got]
        ok = got.keys() == want.keys() and logits <= LOGITS and soft <= 1e-5 and max(gradients) <= GRADIENT
        tell(ok, f"{preset} {case}: {len(gradients)} gradients, worst {max(gradients):.1e}; logits {logits:.1e}, soft tokens {soft:.1e}")


def train(base: Path, out: Path) -> dict:
    bezel("train", "--base-model", base, "--train-file", ROOT / "demo" / "train.jsonl", "--media-root", ROOT / "demo" / "assets", "--output-dir", out,
          "--max-steps", 2, "--dtype", "float32", "--lora-towers", "language,vision,audio,projectors", "--lora-target-modules", "all-linear", "--lora-r", 4,
          "--learning-rate", "1e-3", "--micro-batch-size", 1, "--gradient-accumulation-steps", 2, "--report-to", "none", "--save-steps", 0,
          "--max-soft-tokens", 70, "--sample-predictions", 0, "--quiet")
    return load_file(out / "adapter_model.safetensors")


def trains(tmp: Path):
    subprocess.run([sys.executable, ROOT / "demo" / "prepare.py"], check=True, stdout=subprocess.DEVNULL)
    base = tmp / "demo" / "tiny.gguf"
    base.parent.mkdir()
    bezel("convert", "--model", ROOT / "demo" / "model", "--to", "gguf", "--output", base)
    wanted, got = train(ROOT / "demo" / "model", tmp / "from-folder"), train(base, tmp / "from-gguf")
    far = max(relative(got[key], value) for key, value in wanted.items()) if got.keys() == wanted.keys() else float("inf")
    # AdamW's first steps have the sign of gradients that may be rounding.
    tell(far <= 5e-2, f"two steps over images and audio clips: {len(got)} tensors, the names of the checkpoint's adapter, differing by {far:.1e}")
    from peft import PeftModel
    from transformers import Gemma4ForConditionalGeneration

    model = PeftModel.from_pretrained(Gemma4ForConditionalGeneration.from_pretrained(ROOT / "demo" / "model", dtype=torch.float32), tmp / "from-gguf")
    loaded = sum(bool(parameter.abs().max() > 0) for name, parameter in model.named_parameters() if "lora_B" in name)
    tell(loaded == len(got) // 2, f"PEFT loads {loaded} layers of it on the checkpoint")


def finds_only_its_own(root: Path, tmp: Path):
    """A file for towers of another width is passed over: text alone, as before."""
    folder = tmp / "other"
    folder.mkdir()
    shutil.copy(tmp / "e2b" / "m.gguf", folder)
    architecture = lambda: json.loads(bezel("inspect", folder / "m.gguf", "--json").stdout)["architecture"]
    tell(architecture() == "Gemma4ForCausalLM", "without towers beside it: a language model")
    shutil.copy(other_width(tmp), folder / "mmproj-wide.gguf")
    tell(architecture() == "Gemma4ForCausalLM", "another model's towers are not taken")
    (folder / "mmproj-wide.gguf").unlink()
    shutil.copy(tmp / "e2b" / "mmproj-m.gguf", folder / "mmproj-F32.gguf")
    tell(architecture() == "Gemma4ForConditionalGeneration", "the only towers in the folder are")


def other_width(tmp: Path) -> Path:
    """The towers, said to be for a model of 72 numbers a token."""
    towers = (tmp / "e2b" / "mmproj-m.gguf").read_bytes()
    for tower in (b"vision", b"audio"):  # behind the key: the type of its value, uint32, and the value
        at = towers.index(b"clip." + tower + b".projection_dim") + len(b"clip..projection_dim") + len(tower) + 4
        towers = towers[:at] + struct.pack("<I", 72) + towers[at + 4:]
    (tmp / "wide.gguf").write_bytes(towers)
    return tmp / "wide.gguf"


def takes_the_named_one(root: Path, tmp: Path):
    """`mmproj` names the file where it does not lie beside the model: the same bits as beside it, in every command that reads it."""
    folder, towers = tmp / "apart", tmp / "towers"
    folder.mkdir()
    towers.mkdir()
    base, named = folder / "m.gguf", towers / "any-name.gguf"
    shutil.copy(tmp / "e2b" / "m.gguf", base)
    shutil.copy(tmp / "e2b" / "mmproj-m.gguf", named)
    inputs = root / "e2b" / "case-mixed.safetensors"
    want = forward(tmp / "e2b" / "m.gguf", inputs, tmp / "out.safetensors")
    got = forward(base, inputs, tmp / "out.safetensors", "--mmproj", named)
    tell(got.keys() == want.keys() and all(torch.equal(got[key], want[key]) for key in want), "a named file gives the bits of one beside the model")
    said = json.loads(bezel("inspect", base, "--mmproj", named, "--json").stdout)
    tell(said["architecture"] == "Gemma4ForConditionalGeneration" and said["loads"], "inspect --mmproj: the whole model")
    bezel("merge", "--model", base, "--mmproj", named, "--adapter", root / "e2b" / "adapter", "--to", "gguf", "--output", tmp / "apart" / "tuned.gguf")
    tell((tmp / "apart" / "mmproj-tuned.gguf").exists(), "merge --mmproj: towers in a file of their own")
    bezel("verify-adapter", "--model", base, "--mmproj", named, "--adapter", root / "e2b" / "adapter")
    lines = [line for line in (ROOT / "demo" / "train.jsonl").read_text().splitlines() if "image" in line][:2]
    (tmp / "few.jsonl").write_text("\n".join(lines) + "\n")
    demo = tmp / "demo-apart.gguf"
    shutil.copy(tmp / "demo" / "tiny.gguf", demo)
    recipe = tmp / "recipe.yaml"
    recipe.write_text(f"base_model: {demo}\nmmproj: {tmp}/demo/mmproj-tiny.gguf\ntrain_file: {tmp}/few.jsonl\nmedia_root: {ROOT}/demo/assets\n"
                      f"output_dir: {tmp}/by-recipe\nmax_steps: 1\nlora_towers: [language, vision]\nreport_to: none\nsave_steps: 0\nsample_predictions: 0\n")
    bezel("preprocess", recipe)
    bezel("train", recipe, "--quiet")
    keys = load_file(tmp / "by-recipe" / "adapter_model.safetensors")
    tell(any("vision_tower" in key for key in keys) and f"mmproj: {tmp}/demo/mmproj-tiny.gguf" in (tmp / "by-recipe" / "config.resolved.yaml").read_text().replace('"', ""),
         "a recipe with mmproj trains the vision tower")
    evaluated = bezel("evaluate", "--model", demo, "--mmproj", tmp / "demo" / "mmproj-tiny.gguf", "--adapter", tmp / "by-recipe", "--data", tmp / "few.jsonl",
                      "--media-root", ROOT / "demo" / "assets", "--json")
    tell(json.loads(evaluated.stdout)["base"]["loss"] > 0, "evaluate --mmproj scores images")
    image = next(path for path in sorted((ROOT / "demo" / "assets").rglob("*")) if path.suffix in (".jpg", ".png"))
    asked = bezel("generate", "--model", demo, "--mmproj", tmp / "demo" / "mmproj-tiny.gguf", "--image", image, "--prompt", "What?", "--greedy", "--max-new-tokens", 4)
    tell(asked.returncode == 0, "generate --mmproj takes an image")

    def refused(what, words, *arguments, code=2):
        done = bezel(*arguments, code=code)
        tell(all(word in done.stderr for word in words), f"refused: {what}{'' if all(word in done.stderr for word in words) else done.stderr}")

    refused("mmproj beside a checkpoint folder", ["a checkpoint folder", str(named)], "inspect", root / "e2b" / "model", "--mmproj", named)
    refused("another model as mmproj", ["not the towers of", str(base)], "inspect", base, "--mmproj", base)
    refused("towers of another width", ["not the towers of", "expected", "72"], "inspect", base, "--mmproj", other_width(tmp))
    refused("a file that is not there", ["nowhere.gguf"], "inspect", base, "--mmproj", tmp / "nowhere.gguf", code=4)
    refused("--mmproj without --to gguf", ["only with --to gguf"], "merge", "--model", root / "e2b" / "model", "--mmproj", named, "--adapter",
            root / "e2b" / "adapter", "--output", tmp / "no")


def main():
    with tempfile.TemporaryDirectory() as name:
        tmp, root = Path(name), reference(0)
        for preset in PRESETS:
            (tmp / preset).mkdir()
            bezel("convert", "--model", root / preset / "model", "--to", "gguf", "--output", tmp / preset / "m.gguf")
            compare(preset, root, tmp / preset / "m.gguf", tmp)
        finds_only_its_own(root, tmp)
        trains(tmp)
        takes_the_named_one(root, tmp)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
