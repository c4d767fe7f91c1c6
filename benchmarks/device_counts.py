"""What one update asks of a device, Bezel beside transformers + PEFT: kernels launched, copies to the device, times that the host waits,
bytes kept for the backward pass. Counted on a simulated device (tests/support/simulated_device.h), the same library for both: these are
counts, and say nothing of speed.

    make device-counts
    .venv/bin/python3 benchmarks/device_counts.py --tests build-dev/tests

The models are those of the parity tests (tools/make_reference.py): the families' layers with narrow widths, which counts do not depend
on, stored in bfloat16 as Gemma's are. Both engines compute in bfloat16, train the same adapter on the same tensors, and are counted at
their third update. The peer is stock (logits of every token, adapters in float32) or tuned (adapters in bfloat16, logits from the first
label on).
"""
import argparse
import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- device counts -->", "<!-- end of device counts -->"
ROWS = {"text": ("e2b", "text"), "image": ("e2b", "image"), "audio": ("e2b", "audio"), "text, image and audio": ("e2b", "mixed"),
        "text, mixture of experts": ("moe", "text")}
UPDATES = 3


def ours(tests: Path, folder: Path, case: str) -> dict:
    done = subprocess.run([tests / "count_steps", folder / "model", folder / "adapter", "bfloat16", "dense", folder / f"case-{case}.safetensors"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"count_steps: {done.stderr}")
    return json.loads(done.stdout)


class Simulated:
    """The library in this process, and its counts."""

    def __init__(self, tests: Path):
        import types

        import torch

        path = str(tests / "libsimulated_device.so")
        torch.ops.load_library(path)
        self.library = ctypes.CDLL(path)
        self.library.bezel_simulated_counts.restype = ctypes.c_char_p
        module = types.ModuleType("torch.simulated")
        module.is_available, module.device_count, module.current_device = lambda: True, lambda: 1, lambda: 0
        module._is_in_bad_fork, module.manual_seed_all = lambda: False, lambda seed: None
        torch._register_device_module("simulated", module)

    def reset(self):
        self.library.bezel_simulated_reset()

    def counts(self) -> dict:
        return json.loads(self.library.bezel_simulated_counts())


def peer(tests: Path, folder: Path, case: str, tuned: bool) -> dict:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import Gemma4ForConditionalGeneration

    device = Simulated(tests)
    model = Gemma4ForConditionalGeneration.from_pretrained(folder / "model", dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True, autocast_adapter_dtype=not tuned).train().to("simulated")
    batch = {key.removeprefix("in."): value for key, value in load_file(folder / f"case-{case}.safetensors").items() if key.startswith("in.")}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    places = (batch["labels"] != -100).any(0).nonzero().flatten()
    keep = int(batch["labels"].shape[1] - places[0] + 1)
    for _ in range(UPDATES):
        before = device.counts()["bytes"]
        device.reset()
        inputs = {key: value.to("simulated") for key, value in batch.items()}
        if tuned:
            labels = inputs.pop("labels")
            logits = model(**inputs, use_cache=False, logits_to_keep=keep).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels[:, -keep + 1:].flatten(), ignore_index=-100)
        else:
            loss = model(**inputs, use_cache=False).loss
        kept = device.counts()["bytes"] - before
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()
    return device.counts() | {"kept_bytes": kept, "loss": value}


def in_bfloat16(folder: Path, out: Path) -> Path:
    """The same model, adapter and cases, the model in bfloat16."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder, out)
    path = out / "model" / "model.safetensors"
    save_file({name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    return out


def in_own_process(tests: Path, folder: Path, case: str, kind: str) -> dict:
    done = subprocess.run([sys.executable, __file__, "--tests", tests, "--peer", f"{folder},{case},{kind}"], capture_output=True, text=True,
                          env=dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", OMP_WAIT_POLICY="passive"))
    if done.returncode != 0:
        raise SystemExit(f"{case}, {kind} peer: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(results: dict) -> str:
    lines = ["| update on | | launches | copies to the device | waits | bytes kept |", "| --- | --- | --- | --- | --- | --- |"]
    for row, engines in results.items():
        least = min(engines[kind]["launches"] for kind in engines if kind != "Bezel")
        for kind, counts in engines.items():
            share = f" ({counts['launches'] / least:.2f}x)" if kind == "Bezel" else ""
            lines.append(f"| {row} | {kind} | {counts['launches']:,}{share} | {counts['host_to_device']:,} of {counts['host_to_device_bytes']:,} bytes | "
                         f"{counts['synchronizations']:,} | {counts['kept_bytes']:,} |")
    return "\n".join(lines)


def write(page: Path, results: dict):
    text = page.read_text()
    section = f"""{BEGIN}
## What an update asks of a device

Counts on a simulated device (`make device-counts`, benchmarks/device_counts.py), one library for both engines. They are no measure of
speed, and nothing here ran on a GPU. Models of the parity tests in bfloat16; x: beside the peer with the fewest launches.

{table(results)}
{END}"""
    if BEGIN in text:
        text = text[:text.index(BEGIN)] + section + text[text.index(END) + len(END):]
    else:
        text = text.rstrip("\n") + "\n\n" + section + "\n"
    page.write_text(text)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tests", type=Path, default=ROOT / "build-dev" / "tests")
    p.add_argument("--peer", help=argparse.SUPPRESS)
    p.add_argument("--rows", default=";".join(ROWS), help="separated by semicolons; the others stay as they were counted")
    p.add_argument("--json", type=Path, default=ROOT / "build-dev" / "device-counts.json", help="all counts, by operator, of all rows")
    p.add_argument("--output", type=Path, default=ROOT / "docs" / "BENCHMARKS.md")
    options = p.parse_args()
    if options.peer:
        folder, case, kind = options.peer.split(",")
        print(json.dumps(peer(options.tests, Path(folder), case, kind == "tuned")))
        return
    sys.path.insert(0, str(ROOT / "tests" / "parity"))
    sys.argv[1:] = [str(options.tests.parent), str(options.tests)]
    from _reference import reference

    results = json.loads(options.json.read_text()) if options.json.exists() else {}
    for row in options.rows.split(";"):
        preset, case = ROWS[row]
        folder = in_bfloat16(reference(0) / preset, options.json.parent / "device-counts" / preset)
        results[row] = {"Bezel": ours(options.tests, folder, case)} | {kind: in_own_process(options.tests, folder, case, kind) for kind in ("stock", "tuned")}
        options.json.write_text(json.dumps(results, indent=1))
        print(row, {kind: (counts["launches"], counts["synchronizations"], counts["loss"]) for kind, counts in results[row].items()}, flush=True)
    write(options.output, {row: results[row] for row in ROWS if row in results})


if __name__ == "__main__":
    main()
