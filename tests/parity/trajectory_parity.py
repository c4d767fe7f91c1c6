"""Twelve AdamW steps of Bezel against PyTorch's on transformers + PEFT (train.json, train-final/ of the reference).

Bounds: losses within 5e-3; (final - initial) adapter within 5e-2 relative error over all tensors together. The
reference's own noise between thread counts and attention kernels is 1.1e-3 and 1e-2.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from _reference import PRESETS, reference

TEST_BIN = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["BEZEL_TEST_BIN"])


def moved(folder, start):
    return {k: v - start[k] for k, v in load_file(folder / "adapter_model.safetensors").items()}


def compare(folder: Path, out: Path) -> bool:
    told = json.loads((folder / "train.json").read_text())
    cases = [folder / f"case-{case}.safetensors" for case in told["cases"]]
    steps = len(told["losses"])
    run = subprocess.run([TEST_BIN / "train_steps", folder / "model", folder / "adapter", out, str(steps),
                          str(told["lr"]), str(told["weight_decay"]), *cases], capture_output=True, text=True)
    if run.returncode != 0:
        print("FAILED", folder.name, run.stderr.strip())
        return False
    losses, norms = zip(*(map(float, line.split()) for line in run.stdout.splitlines()))
    loss_error = max(abs(a - b) for a, b in zip(losses, told["losses"], strict=True))
    norm_error = max(abs(a - b) / b for a, b in zip(norms, told["grad_norms"], strict=True))
    start = load_file(folder / "adapter" / "adapter_model.safetensors")
    got, wanted = moved(out, start), moved(folder / "train-final", start)
    same_keys = got.keys() == wanted.keys()
    difference = torch.cat([(got[k] - wanted[k]).flatten() for k in wanted])
    update_error = (difference.norm() / torch.cat([v.flatten() for v in wanted.values()]).norm()).item()
    ok = loss_error <= 5e-3 and update_error <= 5e-2 and same_keys
    print("ok" if ok else "FAILED", folder.name, f"{steps} steps: losses {loss_error:.1e}, gradient norms {norm_error:.1e},"
          f" update {update_error:.1e}", "" if same_keys else "other keys")
    return ok


def main() -> int:
    with tempfile.TemporaryDirectory() as tmp:
        results = [compare(reference(seed) / preset, Path(tmp) / f"{preset}-{seed}") for seed in (0, 1) for preset in PRESETS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
