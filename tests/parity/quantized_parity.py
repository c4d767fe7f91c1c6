"""Quantized bases of Bezel against bitsandbytes, compressed-tensors and transformers + PEFT.

Codes, scales and values: bit for bit. Loss and every LoRA gradient: within the float32 bounds of model_parity.py, on a
checkpoint that transformers + bitsandbytes quantized to NF4 (in training mode, where bitsandbytes dequantizes), and for
int8 and compressed-tensors against transformers + PEFT on a dense model that holds the dequantized matrices.
What `bezel quantize` writes gives in transformers + bitsandbytes the same bits of logits as what they quantize themselves.
"""
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _reference import BIN, forward, portable_bitsandbytes, reference

import torch
from safetensors.torch import load_file, save_file

TEST_BIN = Path(sys.argv[2])
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAILED", what)


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
    """A checkpoint that transformers + bitsandbytes quantized and saved."""
    from transformers import BitsAndBytesConfig

    some = ["lm_head", "model.vision_tower", "o_proj"]  # left alone, as one would who wants images exact
    for preset, kind, cases, more in (("e2b", "nf4", ("text", "image", "audio", "mixed"), dict(bnb_4bit_use_double_quant=True)),
                                      ("dense", "nf4", ("text", "image"), {}), ("moe", "nf4", ("text",), dict(bnb_4bit_use_double_quant=True)),
                                      ("e2b", "fp4", ("mixed",), dict(bnb_4bit_use_double_quant=True, llm_int8_skip_modules=some))):
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_compute_dtype=torch.float32, **more)
        stored = tmp / f"{kind}-{preset}"
        load_model(root / preset / "model", quantization_config=config).save_pretrained(stored)
        for case in cases:
            file = root / preset / f"case-{case}.safetensors"
            wanted = peft_answers(load_model(stored), root / preset / "adapter", file)
            compare(f"bitsandbytes {kind} {preset}/{case}", ours(stored, file, root / preset / "adapter", tmp), wanted, limit_of(case))


def flat_layout(root, tmp):
    """Codes in the flat key layout mean what they do in the nested one."""
    file, adapter = root / "e2b" / "case-mixed.safetensors", root / "e2b" / "adapter"
    for stored in ("nf4-e2b", "bezel-int8"):
        subprocess.run([BIN / "bezel", "convert", "--model", tmp / stored, "--layout", "flat", "--output", tmp / f"{stored}-flat"], check=True,
                       capture_output=True)
        names = load_file(tmp / f"{stored}-flat" / "model.safetensors").keys()
        check(not any(".linear." in name for name in names), f"{stored}: the flat layout has nested names")
        a, b = ours(tmp / stored, file, adapter, tmp), ours(tmp / f"{stored}-flat", file, adapter, tmp)
        check(torch.equal(a["logits"], b["logits"]), f"{stored}: other logits from the flat layout")
    print("flat layout: the same bits from codes")


def moe_experts(root, tmp):
    """Stacked quantized experts, stored by `bezel quantize --experts`, against a dense model with the values that bitsandbytes makes of
    them. transformers must not take what only Bezel reads for a checkpoint of bitsandbytes."""
    from bitsandbytes import functional as F
    from transformers.quantizers.auto import AutoHfQuantizer

    model, file, adapter = root / "moe" / "model", root / "moe" / "case-text.safetensors", root / "moe" / "adapter"

    def rounded(matrix, kind):
        if kind == "nf4":
            return F.dequantize_4bit(*F.quantize_4bit(matrix, blocksize=64, quant_type="nf4", compress_statistics=True))
        codes, absmax, _ = F.int8_vectorwise_quant(matrix.flatten(0, -2).clone())
        return F.int8_vectorwise_dequant(codes, absmax).view(matrix.shape)

    for kind in ("nf4", "int8"):
        stored, dense = tmp / f"experts-{kind}", tmp / f"experts-{kind}-dense"
        said = subprocess.run([BIN / "bezel", "quantize", "--model", model, "--type", kind, "--experts", "--output", stored], check=True,
                              capture_output=True, text=True).stdout
        check("only Bezel" in said, f"experts {kind}: not said who reads them")
        names = load_file(stored / "model.safetensors")
        stacks = [name.removesuffix(".weight") for name in names if ".experts." in name and name.endswith(".weight")]
        shutil.copytree(model, dense)
        tensors = load_file(dense / "model.safetensors")
        coded = [name.removesuffix("weight") for name, value in names.items() if name.endswith(".weight") and not value.is_floating_point()]
        for name in stacks + [module + "weight" for module in coded if ".experts." not in module]:
            tensors[name] = rounded(tensors[name], kind).contiguous()
        check(len(stacks) > 0, f"experts {kind}: none quantized")
        save_file(tensors, dense / "model.safetensors", metadata={"format": "pt"})
        compare(f"experts {kind}, {len(stacks)} stacks", ours(stored, file, adapter, tmp), peft_answers(load_model(dense), adapter, file), limit_of(file.name))
        config = json.loads((stored / "config.json").read_text())["quantization_config"]
        check(not AutoHfQuantizer.supports_quant_method(config), f"experts {kind}: transformers takes it for its own")


def dense_copy(model, folder, change, named=False, takes=lambda value: True):
    """The checkpoint `model` with every matrix that quantizers take replaced by change(matrix), or change(matrix, name)."""
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


def logits_of(model, case, training):
    inputs = {k.removeprefix("in."): v for k, v in load_file(case).items() if k.startswith("in.") and k != "in.labels"}
    with torch.no_grad():
        return model.train(training)(**inputs, use_cache=False).logits


def take_codes_of_float32(model, matrices):
    """Linear8bitLt rounds to float16 before it quantizes; here the codes are those of the matrices themselves."""
    from bitsandbytes import functional as F
    from bitsandbytes.nn import Linear8bitLt

    for name, module in model.named_modules():
        if isinstance(module, Linear8bitLt):
            codes, absmax, _ = F.int8_vectorwise_quant(matrices[name + ".weight"].clone())
            module.weight.data, module.weight.CB, module.weight.SCB = codes, codes, absmax


def stored_int8(stored, model, folder):
    """A dense copy of `model` with the matrices that the int8 codes of checkpoint `stored` stand for."""
    from bitsandbytes import functional as F

    shutil.copytree(model, folder)
    tensors, codes = load_file(folder / "model.safetensors"), load_file(stored / "model.safetensors")
    for name in codes:
        if name.endswith(".SCB"):
            weight = name.removesuffix("SCB") + "weight"
            tensors[weight] = F.int8_vectorwise_dequant(codes[weight], codes[name])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def written_by_bezel(root, tmp, kind):
    """What `bezel quantize` writes, in transformers + bitsandbytes; and what those two write of the same model."""
    from transformers import BitsAndBytesConfig

    stored = tmp / f"bezel-{kind}"
    subprocess.run([BIN / "bezel", "quantize", "--model", root / "e2b" / "model", "--type", kind, "--output", stored], check=True,
                   stdout=subprocess.DEVNULL)
    dense = json.loads((stored / "config.json").read_text())["quantization_config"]["llm_int8_skip_modules"]
    options = {"nf4": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32),
               "int8": dict(load_in_8bit=True)}[kind]
    theirs = load_model(root / "e2b" / "model", quantization_config=BitsAndBytesConfig(llm_int8_skip_modules=dense, **options))
    theirs.save_pretrained(tmp / f"hf-{kind}")
    if kind == "int8":
        take_codes_of_float32(theirs, load_file(root / "e2b" / "model" / "model.safetensors"))
    ours = load_model(stored)
    for case in ("text", "mixed"):
        file = root / "e2b" / f"case-{case}.safetensors"
        # In training mode bitsandbytes dequantizes 4 bits; its inference path refuses small layers.
        training = kind == "nf4"
        same = torch.equal(logits_of(ours, file, training), logits_of(theirs, file, training))
        check(same, f"bezel quantize {kind}/{case}: other logits in transformers + bitsandbytes")
    print(f"bezel quantize {kind}: compared in transformers + bitsandbytes, bit for bit")


def nf4_of_bezel(root, tmp):
    file, stored, adapter = root / "e2b" / "case-mixed.safetensors", tmp / "bezel-nf4", root / "e2b" / "adapter"
    wanted = peft_answers(load_model(stored), adapter, file)
    compare("bezel quantize nf4, e2b/mixed", ours(stored, file, adapter, tmp), wanted, limit_of("mixed"))
    a = ours(stored, file, adapter, tmp)["logits"]
    check(torch.equal(a, ours(tmp / "hf-nf4", file, adapter, tmp)["logits"]), "nf4: Bezel reads other values from what transformers saved")


def int8(root, tmp):
    """int8 made while loading, stored by `bezel quantize`, and stored by transformers + bitsandbytes."""
    from bitsandbytes import functional as F

    def rounded(matrix):
        codes, absmax, _ = F.int8_vectorwise_quant(matrix.clone())
        return F.int8_vectorwise_dequant(codes, absmax)

    for preset, cases in (("e2b", ("text", "mixed")), ("dense", ("image",))):
        dense, adapter = tmp / f"int8-{preset}", root / preset / "adapter"
        print(f"int8 {preset}: {dense_copy(root / preset / 'model', dense, rounded)} matrices")
        for case in cases:
            file = root / preset / f"case-{case}.safetensors"
            wanted = peft_answers(load_model(dense), adapter, file)
            compare(f"int8 {preset}/{case}", ours(root / preset / "model", file, adapter, tmp, "--storage", "int8"), wanted, limit_of(case))
            if preset == "e2b" and case == "mixed":
                compare(f"int8 stored by bezel {preset}/{case}", ours(tmp / "bezel-int8", file, adapter, tmp), wanted, limit_of(case))
                hf = stored_int8(tmp / "hf-int8", root / preset / "model", tmp / "hf-int8-dense")
                compare(f"int8 stored by transformers {preset}/{case}", ours(tmp / "hf-int8", file, adapter, tmp),
                        peft_answers(load_model(hf), adapter, file), limit_of(case))


def compressed_tensors(root, tmp):
    """Checkpoints that the package compressed-tensors wrote, and dense ones with the matrices that it makes of them."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams
    from loguru import logger

    logger.disable("compressed_tensors")  # a line for each layer where 8 bits are not packed
    # Google's checkpoints leave the towers and the embedders alone; rows of 8 have no groups of 32.
    outside = ["re:.*vision_tower.*", "re:.*audio_tower.*", "re:.*embed_vision.*", "re:.*embed_audio.*", "re:.*per_layer_projection"]
    int4 = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=32, symmetric=True)
    int8 = QuantizationArgs(num_bits=8, type="int", strategy="channel", symmetric=True)
    for name, args, ignored, form in (("int4", int4, outside, "pack-quantized"), ("int8", int8, [], "pack-quantized"),
                                      ("int8 unpacked", int8, [], "int-quantized")):
        model, stored, dense = load_model(root / "e2b" / "model"), tmp / f"ct-{name}", tmp / f"ct-dense-{name}"
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head", *ignored]))
        quantized = [m for m in model.modules() if getattr(getattr(m, "quantization_scheme", None), "weights", None) is not None]
        for module in quantized:
            groups = module.weight.data.unflatten(1, (-1, args.group_size or module.weight.shape[1]))
            module.weight_scale.data.copy_(calculate_qparams(groups.amin(-1), groups.amax(-1), args)[0])
        compressor = ModelCompressor.from_pretrained_model(model, quantization_format=form)
        compressor.compress_model(model)
        model.save_pretrained(stored)
        compressor.update_config(stored)
        check(json.loads((stored / "config.json").read_text())["quantization_config"]["format"] == form, f"compressed-tensors {name}: format")
        compressor.decompress_model(model)
        values = {k + ".weight": m.weight.data for k, m in model.named_modules() if m in set(quantized)}
        shutil.copytree(root / "e2b" / "model", dense)
        tensors = load_file(dense / "model.safetensors")
        check(values.keys() <= tensors.keys() and len(values) == len(quantized), f"compressed-tensors {name}: keys")
        save_file({k: values.get(k, v).contiguous() for k, v in tensors.items()}, dense / "model.safetensors", metadata={"format": "pt"})
        file, adapter = root / "e2b" / "case-mixed.safetensors", root / "e2b" / "adapter"
        wanted = peft_answers(load_model(dense), adapter, file)
        compare(f"compressed-tensors {name}, {len(values)} matrices", ours(stored, file, adapter, tmp), wanted, limit_of("mixed"))


def main():
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        kept = portable_bitsandbytes()
        check_codes(tmp)
        root = reference(0)
        bitsandbytes_nf4(root, tmp)
        for kind in ("nf4", "int8"):
            written_by_bezel(root, tmp, kind)
        nf4_of_bezel(root, tmp)
        int8(root, tmp)
        flat_layout(root, tmp)
        moe_experts(root, tmp)
        compressed_tensors(root, tmp)
        del kept
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
