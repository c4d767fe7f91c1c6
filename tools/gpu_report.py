"""The checks behind tools/gpu_check.sh, with torch alone: doctor, forward passes and gradients beside goldens, timed steps beside
transformers + PEFT where they are installed. Writes gpu-check.json and gpu-check.md; the exit code is 1 where something differs.

    gpu_report.py --bezel BEZEL --device DEVICE --goldens FOLDER --out FOLDER [--plugin LIBRARY]
    gpu_report.py --pack REFERENCE GOLDENS      # leaves of each case what is compared
"""
import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PRESETS = {"e2b": ["text", "batch", "image", "audio", "mixed"], "dense": ["text", "image"], "moe": ["text", "image"]}
ROWS = {"text": ("e2b", "text", "language"), "image": ("e2b", "image", "language,vision"), "audio": ("e2b", "audio", "language,audio"),
        "mixture": ("moe", "text", "language")}
# As in tests/parity/model_parity.py: float32 beside float32. A GPU may multiply float32 in TF32 only where it is told to.
LOGITS, LOGITS_WITH_MEDIA, GRADIENTS = 3e-4, 3e-3, 1e-2
STEPS = 6
DTYPES = {"F32": "float32", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "BOOL": "bool", "U8": "uint8", "F16": "float16"}


def load(path):
    """A safetensors file, read without its package."""
    import torch

    data = bytearray(Path(path).read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    tensors = {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + at for at in about["data_offsets"])
        dtype = getattr(torch, DTYPES[about["dtype"]])
        raw = torch.frombuffer(data[begin:end], dtype=dtype) if end > begin else torch.empty(0, dtype=dtype)
        tensors[name] = raw.view(about["shape"])
    return tensors


def pack(reference, goldens):
    from safetensors.torch import load_file, save_file

    for preset, cases in PRESETS.items():
        for case in cases:
            kept = {key: value for key, value in load_file(reference / preset / f"case-{case}.safetensors").items()
                    if key.startswith(("in.", "grad.")) or key in ("adapter_logits", "adapter_loss")}
            save_file(kept, goldens / preset / f"case-{case}.safetensors")


class Check:
    def __init__(self, options):
        self.options, self.results = options, []
        self.env = dict(os.environ, HF_HUB_OFFLINE="1")
        if options.plugin:
            self.env["LD_PRELOAD"] = str(options.plugin)

    def bezel(self, *words):
        return subprocess.run([str(word) for word in (self.options.bezel, *words, "--device", self.options.device)], capture_output=True, text=True, env=self.env)

    def tell(self, name, error, limit, note=""):
        good = error is not None and error <= limit
        self.results.append({"name": name, "error": error, "limit": limit, "good": good, "note": note})
        print("ok   " if good else "WRONG", name, note if error is None else f"{error:.1e}, at most {limit:.0e}", flush=True)

    def doctor(self):
        done = self.bezel("doctor", "--json")
        try:
            report = json.loads(done.stdout)
        except json.JSONDecodeError:
            self.tell("doctor", None, 0, f"exit {done.returncode}: {done.stderr[-500:]}")
            return None
        for check in report["checks"]:
            self.tell(f"doctor: {check['name']}", check["error"], check["limit"])
        return report["machine"]

    def case(self, preset, case, scratch):
        folder, name = self.options.goldens / preset, f"{preset} {case}"
        golden = folder / f"case-{case}.safetensors"
        done = self.bezel("forward", "--model", folder / "model", "--adapter", folder / "adapter", "--inputs", golden, "--output", scratch / "out.safetensors",
                          "--dtype", "float32", "--grads")
        if done.returncode != 0:
            return self.tell(name, None, 0, f"exit {done.returncode}: {done.stderr[-500:]}")
        wanted, got = load(golden), load(scratch / "out.safetensors")
        real = wanted["in.attention_mask"].bool()
        logits = float((got["logits"] - wanted["adapter_logits"])[real].abs().max())
        self.tell(f"{name}: logits", logits, LOGITS if case in ("text", "batch") else LOGITS_WITH_MEDIA)
        worst = max(float((got[key] - value).norm() / value.norm().clamp_min(1e-30)) for key, value in wanted.items() if key.startswith("grad."))
        self.tell(f"{name}: gradients", worst, GRADIENTS)

    def steps(self, preset, case, towers):
        folder = self.options.goldens / preset
        done = self.bezel("bench", "--model", folder / "model", "--inputs", folder / f"case-{case}.safetensors", "--lora-towers", towers, "--steps", STEPS, "--json")
        if done.returncode != 0:
            self.tell(f"steps of {preset} {case}", None, 0, f"exit {done.returncode}: {done.stderr[-500:]}")
            return None
        return statistics.median(json.loads(done.stdout)["step_s"][1:])

    def peer_steps(self, preset, case):
        done = subprocess.run([sys.executable, __file__, "--peer", self.options.goldens / preset, "--case", case, "--device", self.options.device]
                              + (["--plugin", self.options.plugin] if self.options.plugin else []), capture_output=True, text=True, env=dict(os.environ, HF_HUB_OFFLINE="1"))
        return float(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def peer(folder, case, device, plugin):
    """The median second of a step of transformers + PEFT, with linear layers of the language model adapted."""
    import torch

    if plugin:
        torch.ops.load_library(str(plugin))
    from peft import LoraConfig, get_peft_model
    from transformers import Gemma4ForConditionalGeneration

    model = Gemma4ForConditionalGeneration.from_pretrained(folder / "model", dtype=torch.bfloat16)
    targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets)).train().to(device)
    batch = {key.removeprefix("in."): value.to(device) for key, value in load(folder / f"case-{case}.safetensors").items() if key.startswith("in.")}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    seconds = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())
        seconds.append(time.perf_counter() - begin)
    print(statistics.median(seconds[1:]))


def write(options, machine, checks, times):
    import torch

    good = all(check["good"] for check in checks)
    report = {"device": options.device, "plugin": str(options.plugin or ""), "torch": torch.__version__, "machine": machine, "good": good, "checks": checks, "step_s": times}
    if options.device.startswith("cuda"):
        report["gpu"] = torch.cuda.get_device_name(0)
    (options.out / "gpu-check.json").write_text(json.dumps(report, indent=1))
    lines = [f"# Bezel on {report.get('gpu', options.device)}", "", f"torch {torch.__version__}; {sum(c['good'] for c in checks)} of {len(checks)} checks hold.", ""]
    if options.plugin:
        lines += ["This is the simulated device of the tests, the CPU's kernels: its seconds say nothing of any accelerator.", ""]
    lines += ["| check | error | at most | |", "| --- | --- | --- | --- |"]
    lines += [f"| {c['name']} | {'' if c['error'] is None else format(c['error'], '.1e')} | {c['limit']:.0e} | {'ok' if c['good'] else 'WRONG ' + c['note'][:200]} |" for c in checks]
    lines += ["", "| step of (tiny models, bfloat16) | Bezel, s | transformers + PEFT, s |", "| --- | --- | --- |"]
    lines += [f"| {row} | {'' if ours is None else format(ours, '.4f')} | {'not measured' if theirs is None else format(theirs, '.4f')} |" for row, (ours, theirs) in times.items()]
    (options.out / "gpu-check.md").write_text("\n".join(lines) + "\n")
    print(f"{options.out / 'gpu-check.json'}, {options.out / 'gpu-check.md'}: {'good' if good else 'NOT good'}")
    return 0 if good else 1


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", type=Path)
    p.add_argument("--device", default="cuda")
    p.add_argument("--goldens", type=Path)
    p.add_argument("--out", type=Path)
    p.add_argument("--plugin", type=Path)
    p.add_argument("--pack", nargs=2, type=Path)
    p.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    p.add_argument("--case", help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.pack:
        return pack(*options.pack)
    if options.peer:
        return peer(options.peer, options.case, options.device, options.plugin)
    check = Check(options)
    machine = check.doctor()
    with tempfile.TemporaryDirectory() as scratch:
        for preset, cases in PRESETS.items():
            for case in cases:
                check.case(preset, case, Path(scratch))
    times = {row: (check.steps(preset, case, towers), check.peer_steps(preset, case)) for row, (preset, case, towers) in ROWS.items()}
    return write(options, machine, check.results, times)


if __name__ == "__main__":
    sys.exit(main())
