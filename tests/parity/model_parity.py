"""Loss, logits, soft tokens and every LoRA gradient of Bezel against transformers + PEFT, in float32 and in bfloat16.

Bounds, float32 (the reference's own error against float64 is 4e-5 and 6e-4 for logits, 3e-4 and 2e-3 for the worst
gradient): loss 2e-5; logits 3e-4 (text, audio) and 3e-3 (images) where attention_mask is 1; each gradient 1e-2
relative, their median 1e-3; soft tokens 1e-4 relative. Flat and nested checkpoints give the same bytes.
bfloat16: the mean absolute error of the loss is at most 1.5 times that of transformers in bfloat16.
"""
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from _reference import CASES, PRESETS, forward, reference, relative

failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAILED", what)


def compare_features(name, got, wanted):
    for key in ("image_features", "audio_features"):
        check((key in wanted) == (key in got), f"{name}: {key} present on one side only")
        if key in wanted:
            error = relative(got[key].float(), wanted[key])
            check(error <= 1e-4, f"{name}: {key} {error:.1e}")


def compare_logits(name, got, wanted, prefix, limit):
    real = wanted["in.attention_mask"] == 1
    error = (got["logits"].float() - wanted[prefix + "logits"])[real].abs().max().item()
    loss = abs(got["loss"].item() - wanted[prefix + "loss"].item())
    check(loss <= 2e-5, f"{name}: {prefix}loss {loss:.1e}")
    check(error <= limit, f"{name}: {prefix}logits {error:.1e}")
    return error, loss


def compare_gradients(name, got, wanted):
    keys = {k for k in wanted if k.startswith("grad.")}
    check({k for k in got if k.startswith("grad.")} == keys, f"{name}: other tensors have gradients")
    errors = {k: relative(got[k], wanted[k]) for k in keys if k in got}
    worst = max(errors, key=errors.get)
    median = statistics.median(errors.values())
    check(errors[worst] <= 1e-2, f"{name}: gradient {errors[worst]:.1e} of {worst}")
    check(median <= 1e-3, f"{name}: median gradient {median:.1e}")
    return f"gradients median {median:.1e}, worst {errors[worst]:.1e}"


def float32_case(root, preset, case, tmp):
    name = f"{preset}/{case}"
    file, model = root / preset / f"case-{case}.safetensors", root / preset / "model"
    wanted = load_file(file)
    limit = 3e-3 if "in.pixel_values" in wanted else 3e-4
    base = forward(model, file, tmp / "base.safetensors", "--dtype", "float32")
    compare_features(name, base, wanted)
    e0, l0 = compare_logits(name, base, wanted, "", limit)
    tuned = forward(model, file, tmp / "tuned.safetensors", "--dtype", "float32", "--adapter", root / preset / "adapter", "--grads")
    e1, l1 = compare_logits(name, tuned, wanted, "adapter_", limit)
    flat = tmp / "flat.safetensors"
    forward(root / preset / "model-flat", file, flat, "--dtype", "float32")
    check(flat.read_bytes() == (tmp / "base.safetensors").read_bytes(), f"{name}: flat and nested differ")
    print(f"{root.name} {name}: logits {max(e0, e1):.1e}, loss {max(l0, l1):.1e}, {compare_gradients(name, tuned, wanted)}")


def check_repeats(root, tmp, runs=16):
    """Every process gives the same bytes: what runs first on several threads must not depend on who comes first."""
    file, model = root / "e2b" / "case-image.safetensors", root / "e2b" / "model"
    seen = set()
    for _ in range(runs):
        forward(model, file, tmp / "again.safetensors", "--dtype", "float32")
        seen.add((tmp / "again.safetensors").read_bytes())
    check(len(seen) == 1, f"{runs} runs gave {len(seen)} different results")


def bfloat16_errors(root, preset, tmp):
    """Absolute loss errors of Bezel and of transformers over the cases of a preset, base and adapter."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    folder = root / preset
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.bfloat16).eval()
    model = PeftModel.from_pretrained(model, folder / "adapter")
    ours, theirs = [], []
    for case in CASES[preset]:
        file = folder / f"case-{case}.safetensors"
        wanted = load_file(file)
        inputs = {k.removeprefix("in."): v for k, v in wanted.items() if k.startswith("in.")}
        with torch.no_grad():
            with model.disable_adapter():
                theirs.append(abs(model(**inputs, use_cache=False).loss.item() - wanted["loss"].item()))
            theirs.append(abs(model(**inputs, use_cache=False).loss.item() - wanted["adapter_loss"].item()))
        for extra, key in (((), "loss"), (("--adapter", folder / "adapter"), "adapter_loss")):
            got = forward(folder / "model", file, tmp / "bf16.safetensors", "--dtype", "bfloat16", *extra)
            ours.append(abs(got["loss"].item() - wanted[key].item()))
    return ours, theirs


def main():
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        ours, theirs = [], []
        for seed in (0, 1):
            root = reference(seed)
            for preset, cases in PRESETS.items():
                for case in cases:
                    float32_case(root, preset, case, tmp)
                mine, other = bfloat16_errors(root, preset, tmp)
                ours += mine
                theirs += other
        check_repeats(reference(0), tmp)
        a, b = statistics.mean(ours), statistics.mean(theirs)
        print(f"bfloat16: mean loss error {a:.4f}, transformers {b:.4f}, ratio {a / b:.2f}")
        check(a <= 1.5 * b, f"bfloat16: {a / b:.2f} times the error of transformers")
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
