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
from _reference import PRESETS, ROOT, bezel, check, finish, forward, reference
from safetensors.torch import load_file

# Clip bounds, vectors and matrices are the same bits; per_dim_scale goes through softplus and back, and float32 matrices are
# aligned otherwise in their file, which alone moves last bits.
LOGITS, GRADIENT = 2e-4, 1e-3


def tell(ok, what):
    if ok:
        print("ok", what, flush=True)
    check(ok, what)


def relative(got, wanted) -> float:
    return ((got - wanted).norm() / wanted.norm().clamp_min(1e-30)).item()


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
    towers = (tmp / "e2b" / "mmproj-m.gguf").read_bytes()
    for tower in (b"vision", b"audio"):  # behind the key: the type of its value, uint32, and the value
        at = towers.index(b"clip." + tower + b".projection_dim") + len(b"clip..projection_dim") + len(tower) + 4
        towers = towers[:at] + struct.pack("<I", 72) + towers[at + 4:]
    (folder / "mmproj-wide.gguf").write_bytes(towers)
    tell(architecture() == "Gemma4ForCausalLM", "another model's towers are not taken")
    (folder / "mmproj-wide.gguf").unlink()
    shutil.copy(tmp / "e2b" / "mmproj-m.gguf", folder / "mmproj-F32.gguf")
    tell(architecture() == "Gemma4ForConditionalGeneration", "the only towers in the folder are")


def main():
    with tempfile.TemporaryDirectory() as name:
        tmp, root = Path(name), reference(0)
        for preset in PRESETS:
            (tmp / preset).mkdir()
            bezel("convert", "--model", root / preset / "model", "--to", "gguf", "--output", tmp / preset / "m.gguf")
            compare(preset, root, tmp / preset / "m.gguf", tmp)
        finds_only_its_own(root, tmp)
        trains(tmp)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
