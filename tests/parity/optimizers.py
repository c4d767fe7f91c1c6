"""Twelve steps of each optimizer, and of a loss with smoothed labels or noisy embeddings, against their sources on transformers +
PEFT: torch.optim.AdamW and Muon, transformers' Adafactor, LabelSmoother and NEFTune hook, bitsandbytes' AdamW8bit and Lion.

Bounds: losses within 5e-3; (final - initial) adapter within 5e-2 relative error over all tensors together, as for AdamW in
trajectory_parity.py; gradients of the first step within 1e-2. Weight decay is so strong that it is a large part of what changes.
A run of each, with noise and smoothed labels, that is killed and resumed ends with the same bytes.

    optimizers.py BEZEL_FOLDER TEST_FOLDER
"""
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
from _reference import BIN, PRESETS, check, finish, reference, run
from _runs import Runs, kill

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import Gemma4ForConditionalGeneration
from transformers.integrations.neftune import activate_neftune
from transformers.optimization import Adafactor
from transformers.trainer_pt_utils import LabelSmoother

TEST_BIN = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["BEZEL_TEST_BIN"])
STEPS, SEED, DECAY = 12, 42, 2.0


def nearest_codes():
    """bitsandbytes 0.50.2's compiled quantizer for the CPU picks codes up to seven away from the nearest one (0 becomes 1e-5); its
    portable form, and that for GPUs, takes the nearest."""
    import bitsandbytes  # noqa: F401 registers the operators

    operator = torch.ops.bitsandbytes.quantize_blockwise.default
    library = torch.library.Library("bitsandbytes", "IMPL")
    library.impl("quantize_blockwise", lambda *arguments: operator._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *arguments),
                 "CPU", allow_override=True)
    return library  # works for as long as it lives


MASK = (1 << 64) - 1


def mix64(z):
    """The finalizer of splitmix64."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def combined(first, second):
    return mix64(mix64(first + 0x9E3779B97F4A7C15 & MASK) ^ second)


def name_key(name):
    """FNV-1a, mixed."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    return mix64(value)


def keyed_uniform(update, shape):
    """The numbers in [0, 1) that Bezel draws for the noise of an update, float32: a hash of seed, update, site, row and column."""
    key = combined(combined(SEED, update), name_key("neftune"))
    rows = torch.tensor([[mix64(row ^ key) & 0xFFFFFFFF, mix64(row ^ key) >> 32] for row in range(shape[0] * shape[1])])
    x = torch.arange(shape[2]) * 0x9E3779B1 + rows[:, :1] & 0xFFFFFFFF
    x = (x ^ x >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    x = ((x ^ x >> 13) + rows[:, 1:] & 0xFFFFFFFF) * 0xC2B2AE35 & 0xFFFFFFFF
    return ((x ^ x >> 16) >> 8).float().mul(2.0**-24).view(shape)


@contextlib.contextmanager
def keyed_noise(update):
    """Lets transformers' NEFTune hook draw what Bezel draws in an update."""
    drawn = torch.Tensor.uniform_

    def uniform_(tensor, low, high):
        return tensor.copy_(keyed_uniform(update, tensor.shape) * (high - low) + low)

    torch.Tensor.uniform_ = uniform_
    try:
        yield
    finally:
        torch.Tensor.uniform_ = drawn


def groups_by_name(named, rates):
    """AdamW's groups as axolotl's lr_groups make them: the first whose part is in the name."""
    groups = {}
    for name, parameter in named:
        rate = next((rate for part, rate in rates.items() if part in name), None)
        groups.setdefault(rate, []).append(parameter)
    return [{"params": parameters} | ({} if rate is None else {"lr": rate}) for rate, parameters in groups.items()]


def adamw(named, lr):
    return torch.optim.AdamW([p for _, p in named], lr=lr, weight_decay=DECAY)


def eight_bit(named, lr):
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit([p for _, p in named], lr=lr, weight_decay=DECAY, min_8bit_size=300)


def lion(named, lr):
    from bitsandbytes.optim import Lion

    return Lion([p for _, p in named], lr=lr, betas=(0.9, 0.99), weight_decay=DECAY)


def muon(adjust, **extra):
    return lambda named, lr: torch.optim.Muon([p for _, p in named], lr=lr, weight_decay=DECAY, adjust_lr_fn=adjust, **extra)


def adafactor(**extra):
    return lambda named, lr: Adafactor([p for _, p in named], lr=lr, weight_decay=DECAY, scale_parameter=False, relative_step=False, **extra)


# name: learning rate, Bezel's config, the source's optimizer
RUNS = {
    "adamw_torch": (2e-5, {}, adamw),
    "lr_groups": (1e-5, {"lr_groups": [{"name": "b", "modules": ["lora_B"], "lr": 2e-5}, {"modules": ["v_proj", "q_proj"], "lr": 2e-6}]},
                  lambda named, lr: torch.optim.AdamW(groups_by_name(named, {"lora_B": 2e-5, "v_proj": 2e-6, "q_proj": 2e-6}), lr=lr, weight_decay=DECAY)),
    "adamw_bnb_8bit": (2e-5, {"optim_args": {"min_8bit_size": 300}}, eight_bit),
    "adafactor": (2e-5, {}, adafactor()),
    "adafactor, first moment": (2e-5, {"optim": "adafactor", "optim_args": {"beta1": 0.8, "clip_threshold": 0.5, "decay_rate": -0.6}},
                                adafactor(beta1=0.8, clip_threshold=0.5, decay_rate=-0.6)),
    "lion_32bit": (2e-6, {"adam_beta2": 0.99}, lion),
    "muon": (2e-5, {}, muon("match_rms_adamw")),
    "muon, original": (5e-5, {"optim": "muon", "optim_args": {"adjust_lr_fn": "original", "momentum": 0.9, "nesterov": False, "ns_steps": 4}},
                       muon("original", momentum=0.9, nesterov=False, ns_steps=4)),
    "label smoothing": (2e-5, {"label_smoothing_factor": 0.3}, adamw),
    "NEFTune": (2e-5, {"neftune_noise_alpha": 20.0}, adamw),
}


class Reference:
    """transformers + PEFT on the cases of a preset."""

    def __init__(self, folder: Path):
        self.folder = folder
        base = Gemma4ForConditionalGeneration.from_pretrained(folder / "model", attn_implementation="eager").float()
        self.model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)
        self.named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        self.start = {name: p.detach().clone() for name, p in self.named}
        self.cases = []
        for case in json.loads((folder / "train.json").read_text())["cases"]:
            tensors = load_file(folder / f"case-{case}.safetensors")
            inputs = {name[3:]: value for name, value in tensors.items() if name.startswith("in.")}
            self.cases.append((inputs, inputs.pop("labels")))

    def loss(self, step, config):
        inputs, labels = self.cases[step % len(self.cases)]
        out = self.model(**inputs, labels=labels, use_cache=False)
        if factor := config.get("label_smoothing_factor"):
            return LabelSmoother(epsilon=factor)(out, labels, shift_labels=True)
        return out.loss

    def train(self, lr, config, make_optimizer):
        """Losses, first gradients and final adapter."""
        with torch.no_grad():
            for name, parameter in self.named:
                parameter.copy_(self.start[name])
        self.model.train()
        hook = activate_neftune(self.model, config["neftune_noise_alpha"]) if "neftune_noise_alpha" in config else None
        optimizer = make_optimizer(self.named, lr)
        losses, gradients = [], {}
        for step in range(STEPS):
            with keyed_noise(step):
                loss = self.loss(step, config)
            loss.backward()
            if step == 0:
                gradients = {file_name(name): p.grad.clone() for name, p in self.named if p.grad is not None}
            torch.nn.utils.clip_grad_norm_([p for _, p in self.named], 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        if hook:
            hook.remove()
        return losses, gradients, {file_name(name): p.detach().clone() for name, p in self.named}


def file_name(name):
    return name.replace(".default", "")


def relative(got, wanted):
    difference = torch.cat([(got[name] - wanted[name]).flatten() for name in wanted])
    return (difference.norm() / torch.cat([value.flatten() for value in wanted.values()]).norm()).item()


def bezel_run(source, out, lr, config):
    cases = [source.folder / f"case-{case}.safetensors" for case in json.loads((source.folder / "train.json").read_text())["cases"]]
    done = run(TEST_BIN / "train_steps", source.folder / "model", source.folder / "adapter", out, STEPS, lr, DECAY,
               "config=" + json.dumps({"seed": SEED, **config}), *cases)
    losses = [float(line.split()[0]) for line in done.stdout.splitlines()]
    return losses, load_file(out / "gradients.safetensors"), load_file(out / "adapter_model.safetensors")


def compare(source, preset, name, out):
    lr, config, make_optimizer = RUNS[name]
    plain = "label_smoothing_factor" in config or "neftune_noise_alpha" in config or "lr_groups" in config
    config = {"optim": "adamw_torch" if plain else name} | config
    losses, gradients, final = source.train(lr, config, make_optimizer)
    got_losses, got_gradients, got_final = bezel_run(source, out, lr, config)
    start = {file_name(n): value for n, value in source.start.items()}
    moved = {n: value - start[n] for n, value in final.items()}
    got_moved = {n: value - start[n] for n, value in got_final.items()}
    loss_error = max(abs(a - b) for a, b in zip(losses, got_losses, strict=True))
    gradient_error, update_error = relative(got_gradients, gradients), relative(got_moved, moved)
    print(f"{preset} {name}: losses {loss_error:.1e}, gradients {gradient_error:.1e}, update {update_error:.1e}", flush=True)
    check(got_gradients.keys() == gradients.keys(), f"{preset} {name}: other gradients")
    check(loss_error <= 5e-3 and gradient_error <= 1e-2 and update_error <= 5e-2, f"{preset} {name}")
    return moved, gradients, update_error


def check_resumed():
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(BIN / "bezel", Path(name), neftune_noise_alpha=5, label_smoothing_factor=0.1, weight_decay=0.1)
        adapters = set()
        for optimizer in ("adamw", "adamw_8bit", "adafactor", "lion", "muon"):
            flags = {"optim": optimizer} | ({"optim_args": "min_8bit_size=200"} if optimizer == "adamw_8bit" else {})
            runs.run(optimizer, **flags)
            code, _ = runs.run_until(f"{optimizer}-killed", "step 8/12", kill, **flags)
            check(code == -9, f"{optimizer}: not killed")
            check("resumed after step" in runs.run(f"{optimizer}-killed", "--resume-from-checkpoint=auto", **flags), f"{optimizer}: not resumed")
            runs.same(f"{optimizer}-killed", runs.results(optimizer))
            adapters.add(runs.adapter(optimizer))
        check(len(adapters) == 5, "two optimizers do the same")
        text = runs.run("lion-killed", "--resume-from-checkpoint=auto", expect=2, optim="muon")
        check("optimizer: was lion, is muon" in text, text)
        print("killed and resumed runs of", len(adapters), "optimizers end with the same bytes", flush=True)


def main() -> int:
    check_resumed()
    library = nearest_codes()
    for preset in PRESETS:
        source = Reference(reference(0) / preset)
        with tempfile.TemporaryDirectory() as tmp:
            results = {name: compare(source, preset, name, Path(tmp) / str(i)) for i, name in enumerate(RUNS)}
        plain = results["adamw_torch"]
        # Controls: each run is another than plain AdamW's, and 8-bit moments cost something, but little.
        for name, (moved, gradients, _) in results.items():
            if name not in ("adamw_torch", "adamw_bnb_8bit"):
                check(max(relative(moved, plain[0]), relative(gradients, plain[1])) > 0.1, f"{preset} {name}: no other than plain AdamW")
        moved, _, update_error = results["adamw_bnb_8bit"]
        lost = relative(moved, plain[0])
        print(f"{preset}: 8-bit moments move the adapter {lost:.1e} away from what float32 moments make")
        check(1e-4 < lost < 0.3 and update_error < lost / 2, f"{preset}: 8-bit moments")
    del library
    return finish()


if __name__ == "__main__":
    sys.exit(main())
