"""Quantised bases of Bezel against bitsandbytes, compressed-tensors and transformers + PEFT.

Codes, scales and values: bit for bit. Loss and every LoRA gradient: within the float32 bounds of model_parity.py, on a
checkpoint that transformers + bitsandbytes quantised to NF4 (in training mode, where bitsandbytes dequantises), and for
int8 and compressed-tensors against transformers + PEFT on a dense model that holds the dequantised matrices.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # bitsandbytes compiles its portable form anew for every shape

import torch
from safetensors.torch import load_file, save_file

from _reference import forward, reference

TEST_BIN = Path(sys.argv[2])
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAILED", what)


def use_portable_kernel():
    """On AVX-512 machines bitsandbytes 0.50.2 dequantises with a kernel that starts a new block at every row, which its
    own quantiser does not, and that flushes the smallest numbers to zero; its portable form does neither."""
    from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
    from bitsandbytes.backends.utils import _get_4bit_code

    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None

    def portable(A, absmax, blocksize, quant_type, shape, dtype):
        codes = A.view(torch.uint8).reshape(-1)
        return _dequantize_4bit_compute(codes, absmax.float(), _get_4bit_code(quant_type, A.device), blocksize, shape, dtype)

    library = torch.library.Library("bitsandbytes", "IMPL")
    library.impl("dequantize_4bit", portable, "CPU", allow_override=True)
    print("bitsandbytes: portable dequantize_4bit")
    return library  # works for as long as it lives


def matrices():
    g = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=g)
    found = {"random": normal(64, 256), "constant": torch.full((16, 64), 0.37), "zero": torch.zeros(8, 64),
             "huge": normal(16, 128) * 1e30, "tiny": normal(16, 128) * 1e-36, "odd": normal(7, 33), "ragged": normal(5, 50),
             "zero_row": torch.cat([torch.zeros(1, 64), normal(3, 64)]), "large": normal(1500, 1100),
             "spike": torch.cat([normal(1, 100) * 1e-4, torch.full((1, 100), 9.0)])}
    return found | {f"{name}_bf16": value.bfloat16() for name, value in found.items()}


def check_codes(tmp):
    from bitsandbytes import functional as F

    given = matrices()
    save_file(given, tmp / "matrices.safetensors")
    subprocess.run([TEST_BIN / "quantize_tensors", tmp / "matrices.safetensors", tmp / "codes.safetensors"], check=True)
    got = load_file(tmp / "codes.safetensors")

    def equal(name, wanted):
        check(got[name].dtype == wanted.dtype and torch.equal(got[name].flatten(), wanted.flatten()), f"codes: {name}")

    for name, matrix in given.items():
        for kind, nested in (("nf4", False), ("fp4", False), ("nf4x2", True)):
            packed, state = F.quantize_4bit(matrix, blocksize=64, quant_type=kind[:3], compress_statistics=nested)
            equal(f"{name}.{kind}.packed", packed)
            equal(f"{name}.{kind}.absmax", state.absmax)
            equal(f"{name}.{kind}.values", F.dequantize_4bit(packed, state))
            if nested:
                equal(f"{name}.{kind}.map", state.state2.code)
                equal(f"{name}.{kind}.scales", state.state2.absmax)
                equal(f"{name}.{kind}.offset", state.offset)
        codes, absmax, _ = F.int8_vectorwise_quant(matrix.clone())
        equal(f"{name}.int8.codes", codes)
        equal(f"{name}.int8.scales", absmax)
        equal(f"{name}.int8.values", F.int8_vectorwise_dequant(codes, absmax).to(matrix.dtype))
    print(f"codes: {len(given)} matrices in 4 forms")


def peft_answers(model, adapter, case):
    """Loss, logits and gradients of the reference with the preset's adapter, in training mode."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, adapter, is_trainable=True).train()
    inputs = {k.removeprefix("in."): v for k, v in load_file(case).items() if k.startswith("in.")}
    out = model(**inputs, use_cache=False)
    out.loss.backward()
    answers = {"loss": out.loss.detach(), "logits": out.logits.detach(), "mask": inputs["attention_mask"] == 1}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            answers["grad." + name.replace(".default", "")] = parameter.grad
    model.unload()
    return answers


def compare(name, got, wanted, limit):
    relative = lambda a, b: ((a - b).norm() / b.norm().clamp_min(1e-30)).item()
    loss = abs(got["loss"].item() - wanted["loss"].item())
    logits = (got["logits"] - wanted["logits"])[wanted["mask"]].abs().max().item()
    keys = {k for k in wanted if k.startswith("grad.")}
    check({k for k in got if k.startswith("grad.")} == keys, f"{name}: other tensors have gradients")
    errors = [relative(got[k], wanted[k]) for k in keys if k in got]
    check(loss <= 2e-5, f"{name}: loss {loss:.1e}")
    check(logits <= limit, f"{name}: logits {logits:.1e}")
    check(max(errors) <= 1e-2, f"{name}: gradient {max(errors):.1e}")
    check(statistics.median(errors) <= 1e-3, f"{name}: median gradient {statistics.median(errors):.1e}")
    print(f"{name}: loss {loss:.1e}, logits {logits:.1e}, gradients median {statistics.median(errors):.1e}, worst {max(errors):.1e}")


def ours(model, case, adapter, tmp, *extra):
    return forward(model, case, tmp / "out.safetensors", "--dtype", "float32", "--adapter", adapter, "--grads", *extra)


def limit_of(case):
    return 3e-3 if "image" in case or "mixed" in case else 3e-4


def load_model(folder, **more):
    from transformers import Gemma4ForConditionalGeneration

    return Gemma4ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, **more).eval()


def bitsandbytes_nf4(root, tmp):
    """A checkpoint that transformers + bitsandbytes quantised and saved."""
    from transformers import BitsAndBytesConfig

    for preset, cases, double in (("e2b", ("text", "image", "audio", "mixed"), True), ("dense", ("text", "image"), False),
                                  ("moe", ("text",), True)):
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
                                    bnb_4bit_compute_dtype=torch.float32)
        stored = tmp / f"nf4-{preset}"
        load_model(root / preset / "model", quantization_config=config).save_pretrained(stored)
        for case in cases:
            file = root / preset / f"case-{case}.safetensors"
            wanted = peft_answers(load_model(stored), root / preset / "adapter", file)
            compare(f"bitsandbytes nf4 {preset}/{case}", ours(stored, file, root / preset / "adapter", tmp), wanted, limit_of(case))


def dense_copy(model, folder, change, named=False, takes=lambda value: True):
    """The checkpoint `model` with every matrix that quantisers take replaced by change(matrix), or change(matrix, name)."""
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    done = 0
    for name, value in tensors.items():
        matrix = name.endswith(".weight") and value.dim() == 2 and "embed_tokens" not in name and "router" not in name
        if matrix and takes(value) and "norm" not in name and "conv" not in name.replace("lconv1d.linear", "").replace("conv_projection.input", ""):
            tensors[name] = (change(value, name) if named else change(value)).contiguous()
            done += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return done


def int8(root, tmp):
    from bitsandbytes import functional as F

    def rounded(matrix):
        codes, absmax, _ = F.int8_vectorwise_quant(matrix.clone())
        return F.int8_vectorwise_dequant(codes, absmax)

    for preset, cases in (("e2b", ("text", "mixed")), ("dense", ("image",))):
        dense = tmp / f"int8-{preset}"
        print(f"int8 {preset}: {dense_copy(root / preset / 'model', dense, rounded)} matrices")
        for case in cases:
            file = root / preset / f"case-{case}.safetensors"
            wanted = peft_answers(load_model(dense), root / preset / "adapter", file)
            got = ours(root / preset / "model", file, root / preset / "adapter", tmp, "--storage", "int8")
            compare(f"int8 {preset}/{case}", got, wanted, limit_of(case))


def main():
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        kept = use_portable_kernel()
        check_codes(tmp)
        root = reference(0)
        bitsandbytes_nf4(root, tmp)
        int8(root, tmp)
        del kept
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
