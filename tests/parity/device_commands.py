"""`bezel forward`, `train`, `evaluate` and `generate` on the simulated device (tests/support/simulated_device.h), which ends a process
that reads a tensor of the device from the host: they give what they give on the CPU. Forward passes are compared with gradients, of
every preset with every medium; trained adapters for each storage and kind of adapter; a run that is killed on the device goes on there
to the same bytes, and goes on on the CPU.

Bounds, in float32. Logits 3e-4 and 3e-3 with images, as in model_parity.py; all gradients together 1e-3. Adapters after four steps of
AdamW, relative to what they moved: 3e-2, since its first steps have the sign of a gradient, which may be a rounding error; bfloat16 2e-1,
where the CPU's fused kernels round in other places.

    device_commands.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from _gguf import write_gguf
from _reference import BIN, PRESETS, check, finish, reference
from _runs import MODEL, Runs, kill

TEST_BIN = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["BEZEL_TEST_BIN"])
LIBRARY = TEST_BIN / "libsimulated_device.so"
DEVICE = "privateuseone"
MOVED = {"float32": 3e-2, "bfloat16": 2e-1}
# What a run changes of: float32, dense, on the demo's checkpoint without dropout, which each device draws for itself.
RUNS = {
    "plain": {},
    "bfloat16": {"dtype": "bfloat16"},
    "nf4": {"storage": "nf4"},
    "int8": {"storage": "int8", "quantize-embeddings": "int8"},
    "dora": {"use-dora": "true"},
    "tables": {"target-modules": "q_proj,embed_tokens", "trainable-token-indices": "262,263"},
    "recomputed": {"gradient-checkpointing": "true", "packing": "false"},
    "on the host": {"embeddings-on": "host"},
}


def run(*arguments, device="cpu", code=0):
    env = dict(os.environ) if device == "cpu" else dict(os.environ, LD_PRELOAD=str(LIBRARY))
    done = subprocess.run([str(a) for a in (BIN / "bezel", *arguments, "--device", device)], capture_output=True, text=True, env=env)
    if done.returncode != code:
        raise SystemExit(f"{' '.join(map(str, arguments))} on {device}\nexit {done.returncode}, wanted {code}\n{done.stdout}{done.stderr}")
    return done.stdout


def both(*arguments):
    return [run(*arguments, device=device) for device in ("cpu", DEVICE)]


def together(got, wanted):
    far = sum((got[key].double() - wanted[key].double()).square().sum() for key in wanted)
    return float((far / sum(value.double().square().sum() for value in wanted.values())).sqrt())


def check_forward(name, model, case, scratch, *extra, bound=1e-3):
    found = []
    for device in ("cpu", DEVICE):
        run("forward", "--model", model, "--inputs", case, "--output", scratch / "out.safetensors", "--dtype", "float32", *extra, device=device)
        found.append(load_file(scratch / "out.safetensors"))
    cpu, ours = found
    gradients = [{key: value for key, value in one.items() if key.startswith("grad.")} for one in found]
    real = load_file(case)["in.attention_mask"].bool()
    logits = float((ours["logits"] - cpu["logits"])[real].abs().max())
    error = together(gradients[1], gradients[0]) if gradients[0] else 0.0
    ok = cpu.keys() == ours.keys() and logits < (3e-3 if "image" in case.name or "mixed" in case.name else 3e-4) and error < bound
    check(ok, f"forward {name} {case.stem}: logits {logits:.1e}, gradients {error:.1e}")
    print(f"forward {name} {case.stem}: logits {logits:.1e}, gradients of {len(gradients[0])} tensors {error:.1e}")


def check_presets(root, scratch):
    for preset, cases in PRESETS.items():
        folder = root / preset
        for case in cases:
            check_forward(preset, folder / "model", folder / f"case-{case}.safetensors", scratch, "--adapter", folder / "adapter", "--grads")
        write_gguf(folder / "model", scratch / f"{preset}.gguf", equivalent=None)
        check_forward(f"{preset} GGUF", scratch / f"{preset}.gguf", folder / "case-text.safetensors", scratch)
    check_forward("e2b dora", root / "e2b" / "model", root / "e2b" / "case-mixed.safetensors", scratch, "--adapter", root / "e2b" / "adapter-dora", "--grads")
    check_forward("moe nf4", root / "moe" / "model", root / "moe" / "case-image.safetensors", scratch, "--adapter", root / "moe" / "adapter", "--grads",
                  "--storage", "nf4")


class DeviceRuns(Runs):
    def start(self, out, *extra, **flags):
        env = dict(os.environ) if flags.get("device", "cpu") == "cpu" else dict(os.environ, LD_PRELOAD=str(LIBRARY))
        return subprocess.Popen(self.command(out, *extra, **flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)


def check_training(runs):
    for name, flags in RUNS.items():
        flags = {"lora-dropout": 0, "max-steps": 4, "eval-steps": 2, "save-steps": 4} | flags
        for device in ("cpu", DEVICE):
            runs.run(f"{name}-{device}", **flags, device=device)
        cpu, ours = (runs.results(f"{name}-{device}") for device in ("cpu", DEVICE))
        adapters = [load_file(runs.folder / f"{name}-{device}" / "adapter_model.safetensors") for device in ("cpu", DEVICE)]
        start = {key: torch.zeros_like(value) for key, value in adapters[0].items()}
        error = together(adapters[1], adapters[0]) if start else 0.0
        losses = max(abs(a["loss"] - b["loss"]) for a, b in zip(cpu["metrics"], ours["metrics"]) if "loss" in a)
        bound = MOVED[flags.get("dtype", "float32")]
        check(adapters[0].keys() == adapters[1].keys() and error < bound and losses < bound, f"train {name}: adapter {error:.1e}, losses {losses:.1e}")
        print(f"train {name}: adapter {error:.1e}, losses {losses:.1e}")


def check_resume(runs):
    """With dropout: random numbers of the device are saved, too."""
    flags = {"lora_dropout": 0.1, "device": DEVICE}
    runs.run("whole", **flags)
    wanted = runs.results("whole")
    code, _ = runs.run_until("killed", "step 8/12", kill, **flags)
    assert code < 0, code
    runs.run("killed", "--resume-from-checkpoint=auto", **flags)
    runs.same("killed", wanted)
    code, _ = runs.run_until("moved", "step 8/12", kill, **flags)
    assert code < 0, code
    text = runs.run("moved", "--resume-from-checkpoint=auto", "--force-resume", lora_dropout=0.1)
    check("resumed after step" in text, "a run of the device goes on on the CPU")


def check_answers(root, scratch):
    folder = root / "e2b"
    samples = scratch / "samples.jsonl"
    samples.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"Number {i}?"}, {"role": "assistant", "content": f"It is {i}."}]}) + "\n"
                               for i in range(4)))
    words = ("--model", folder / "model", "--adapter", folder / "adapter", "--dtype", "float32")
    cpu, ours = (json.loads(text) for text in both("evaluate", *words, "--data", samples, "--generate", "--max-new-tokens", 8, "--json"))
    for who in ("base", "adapter"):
        check(abs(cpu[who]["loss"] - ours[who]["loss"]) < 1e-4, f"evaluate {who}: {cpu[who]} and {ours[who]}")
    for extra in ((), ("--inputs", folder / "case-image.safetensors")):
        prompt = extra or ("--prompt", "Name three primes.")
        cpu, ours = both("generate", *words, *prompt, "--greedy", "--max-new-tokens", 12, "--json")
        check(cpu == ours, f"generate: {cpu} and {ours}")


def main() -> int:
    root = reference(0)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        check_presets(root, scratch)
        check_answers(root, scratch)
        check_training(DeviceRuns(BIN / "bezel", scratch))
        check_resume(DeviceRuns(BIN / "bezel", scratch))
    return finish()


if __name__ == "__main__":
    sys.exit(main())
