"""LoRA on the stacked experts of a mixture, as PEFT's target_parameters, in both directions.

Goldens are made here, with transformers + PEFT in float32 on the `moe` checkpoint of the reference. Bounds as in model_parity.py: loss
2e-5; logits 3e-4 (text) and 3e-3 (images) where attention_mask is 1; each gradient 1e-2 relative, their median 1e-3; in bfloat16 the
mean error of the loss is at most 1.5 times that of transformers + PEFT, which rounds W + s·B·A to bfloat16. Twelve AdamW steps: losses
5e-3, (final - initial) 5e-2, as in trajectory_parity.py. Merged matrices: those of merge_and_unload within a rounding of float32.

    experts_parity.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from _reference import PRESETS, bezel, check, finish, forward, inputs_of, portable_bitsandbytes, reference, relative, run

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import Gemma4ForCausalLM, Gemma4ForConditionalGeneration

TEST_BIN = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["BEZEL_TEST_BIN"])
BOTH = ["experts.gate_up_proj", "experts.down_proj"]
LINEAR = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
# What is adapted, in PEFT's words.
ADAPTERS = {
    "both": dict(target_modules=LINEAR, target_parameters=BOTH),
    "experts alone": dict(target_modules=[], target_parameters=BOTH),
    "gate_up": dict(target_modules=LINEAR, target_parameters=["experts.gate_up_proj"]),
    "down": dict(target_modules=[], target_parameters=["experts.down_proj"]),
    "some layers": dict(target_modules=["q_proj"], exclude_modules=r".*vision.*", target_parameters=["layers.1.experts.down_proj", "layers.4.experts.gate_up_proj",
                        "layers.4.experts.down_proj"]),
    "patterns": dict(target_modules=LINEAR, target_parameters=BOTH, use_rslora=True, rank_pattern={r"experts\.down_proj": 2, r"layers\.2\.experts\.gate_up_proj": 3},
                     alpha_pattern={"gate_up_proj": 3.5}),
}


def load_base(folder, kind=Gemma4ForConditionalGeneration, dtype=torch.float32):
    return kind.from_pretrained(folder, attn_implementation="eager", dtype=dtype).eval()


def by_peft(base, out, seed=1, **config):
    """An adapter of PEFT whose tensors are all far from zero."""
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, **config)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                rows = 16 if ".experts." in name and "lora_B" in name else p.shape[1]
                p.copy_((0.3 if "lora_B" in name else 1.0) * torch.randn(p.shape, generator=generator) * rows ** -0.5)
    model.save_pretrained(out)
    return model


def limit_of(case):
    return 3e-3 if "in.pixel_values" in case else 3e-4


def logits_error(case, got, wanted):
    return (got.float() - wanted.float())[case["in.attention_mask"] == 1].abs().max().item()


def answers(model, case, grads):
    model.zero_grad()
    with torch.set_grad_enabled(grads):
        out = model(**inputs_of(case, labels=True), use_cache=False)
    if not grads:
        return out.logits, out.loss, {}
    out.loss.backward()
    return out.logits.detach(), out.loss.detach(), {n.replace(".default", ""): p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def one_case(name, folder, adapter, model, file, tmp):
    case = load_file(file)
    logits, loss, grads = answers(model, case, True)
    got = forward(folder, file, tmp / "out.safetensors", "--dtype", "float32", "--adapter", adapter, "--grads")
    error, loss_error = logits_error(case, got["logits"], logits), abs(got["loss"].item() - loss.item())
    check(error <= limit_of(case), f"{name}: logits {error:.1e}")
    check(loss_error <= 2e-5, f"{name}: loss {loss_error:.1e}")
    ours = {k.removeprefix("grad."): v for k, v in got.items() if k.startswith("grad.")}
    check(ours.keys() == grads.keys(), f"{name}: other tensors have gradients {sorted(ours.keys() ^ grads.keys())[:3]}")
    check(sum(".experts." in k for k in grads) > 0, f"{name}: no gradient of experts")
    errors = {k: relative(ours[k], grads[k]) for k in grads if k in ours}
    worst = max(errors, key=errors.get)
    check(errors[worst] <= 1e-2, f"{name}: gradient {errors[worst]:.1e} of {worst}")
    check(statistics.median(errors.values()) <= 1e-3, f"{name}: median gradient {statistics.median(errors.values()):.1e}")
    print(f"{name}: logits {error:.1e}, loss {loss_error:.1e}, gradients median {statistics.median(errors.values()):.1e}, worst {errors[worst]:.1e}")


def read_from_peft(root, tmp):
    folder = root / "moe" / "model"
    for kind, config in ADAPTERS.items():
        adapter = tmp / f"{root.name}-{kind}"
        model = by_peft(load_base(folder), adapter, **config)
        for case in PRESETS["moe"] if kind == "both" else PRESETS["moe"][:1]:
            one_case(f"{root.name} {kind}/{case}", folder, adapter, model, root / "moe" / f"case-{case}.safetensors", tmp)


def bfloat16_errors(root, tmp):
    folder, adapter = root / "moe" / "model", tmp / f"{root.name}-both"
    wide = PeftModel.from_pretrained(load_base(folder), adapter).eval()
    narrow = PeftModel.from_pretrained(load_base(folder, dtype=torch.bfloat16), adapter).eval()
    ours, theirs = [], []
    for name in PRESETS["moe"]:
        file = root / "moe" / f"case-{name}.safetensors"
        case = load_file(file)
        wanted = answers(wide, case, False)[1].item()
        theirs.append(abs(answers(narrow, case, False)[1].item() - wanted))
        ours.append(abs(forward(folder, file, tmp / "bf16.safetensors", "--dtype", "bfloat16", "--adapter", adapter)["loss"].item() - wanted))
    return ours, theirs


def steps(root, tmp):
    """AdamW with decay: experts without rows in a step have a gradient of zero, not none."""
    folder, adapter, out = root / "moe" / "model", tmp / f"{root.name}-both", tmp / "steps"
    files = [root / "moe" / f"case-{name}.safetensors" for name in PRESETS["moe"]]
    model = PeftModel.from_pretrained(load_base(folder), adapter, is_trainable=True).eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-5, weight_decay=0.01)
    start, losses = load_file(adapter / "adapter_model.safetensors"), []
    for step in range(12):
        loss = model(**inputs_of(load_file(files[step % len(files)]), labels=True), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step(), optimizer.zero_grad()
        losses.append(loss.item())
    told = run(TEST_BIN / "train_steps", folder, adapter, out, 12, 2e-5, 0.01, *files).stdout
    error = max(abs(float(line.split()[0]) - loss) for line, loss in zip(told.splitlines(), losses, strict=True))
    got, wanted = load_file(out / "adapter_model.safetensors"), get_peft_model_state_dict(model)
    moved = lambda state: torch.cat([(state[k] - start[k]).flatten() for k in sorted(start)])
    update = relative(moved(got), moved(wanted))
    check(got.keys() == wanted.keys() == start.keys(), "12 steps: keys")
    check(error <= 5e-3 and update <= 5e-2, f"12 steps: losses {error:.1e}, update {update:.1e}")
    print(f"{root.name} 12 steps: losses {error:.1e}, update {update:.1e}")


def load_in_peft(base, adapter):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base, adapter).eval()
    said = [str(w.message) for w in said if "adapter" in str(w.message) or "key" in str(w.message) or "match" in str(w.message)]
    # PEFT 0.21.2 counts modules only when it looks for patterns without use, and warns of its own adapters over parameters, too.
    return model, [text for text in said if not text.startswith(("The following rank_pattern", "The following alpha_pattern"))]


def written_for_peft(root, tmp):
    folder, file = root / "moe" / "model", root / "moe" / "case-text.safetensors"
    case = load_file(file)
    for name, *arguments in (("linear and experts", "language,experts", "all-linear"), ("experts alone", "experts", "default"),
                             ("gate_up", "language", "default", "default", "experts.gate_up_proj"),
                             ("down of a layer", "language", "q_proj", "default", "layers.3.experts.down_proj")):
        adapter = tmp / f"written-{name}"
        run(TEST_BIN / "fresh_adapter", folder, adapter, *arguments)
        model, said = load_in_peft(load_base(folder), adapter)
        check(not said, f"{name}: PEFT takes the folder without a word {said}")
        state, tensors = get_peft_model_state_dict(model), load_file(adapter / "adapter_model.safetensors")
        check(state.keys() == tensors.keys(), f"{name}: keys are PEFT's own {sorted(state.keys() ^ tensors.keys())[:4]}")
        check(all(torch.equal(state[k], tensors[k]) for k in tensors if k in state), f"{name}: PEFT holds Bezel's values")
        logits = answers(model, case, False)[0]
        error = logits_error(case, forward(folder, file, tmp / "out.safetensors", "--dtype", "float32", "--adapter", adapter)["logits"], logits)
        base = logits_error(case, case["logits"], logits)
        check(error <= limit_of(case) < base, f"{name}: logits {error:.1e}, {base:.1e} from the base's")
        print(f"written: {name}: {len(tensors)} tensors, logits {error:.1e}")


def text_only(root, tmp):
    """Gemma4ForCausalLM: names without language_model, in both directions; `convert --names` turns one into the other."""
    whole, folder = load_base(root / "moe" / "model"), tmp / "text-model"
    text = Gemma4ForCausalLM(whole.config.text_config)
    text.model.load_state_dict(whole.model.language_model.state_dict())
    text.tie_weights()
    text.save_pretrained(folder)
    case = load_file(root / "moe" / "case-text.safetensors")
    file = tmp / "text-case.safetensors"
    save_file({k: case[k] for k in ("in.input_ids", "in.attention_mask", "in.labels")}, file)
    case = load_file(file)
    base = lambda: load_base(folder, Gemma4ForCausalLM)
    one_case("text only", folder, tmp / "text-peft", by_peft(base(), tmp / "text-peft", target_modules=["q_proj"], target_parameters=BOTH,
                                                             rank_pattern={r"experts\.down_proj": 2}), file, tmp)
    run(TEST_BIN / "fresh_adapter", folder, tmp / "text-written", "language,experts", "default")
    model, said = load_in_peft(base(), tmp / "text-written")
    check(not said, f"text only: PEFT takes it without a word {said}")
    logits = answers(model, case, False)[0]
    error = logits_error(case, forward(folder, file, tmp / "out.safetensors", "--dtype", "float32", "--adapter", tmp / "text-written")["logits"], logits)
    check(error <= 3e-4, f"text only: logits {error:.1e}")
    bezel("convert", "--adapter", tmp / "text-peft", "--names", "multimodal", "--output", tmp / "text-as-multimodal")
    model, said = load_in_peft(load_base(root / "moe" / "model"), tmp / "text-as-multimodal")
    there = answers(model, case, False)[0]
    error = logits_error(case, answers(load_in_peft(base(), tmp / "text-peft")[0], case, False)[0], there)
    check(not said and error <= 3e-4, f"convert --names: logits {error:.1e} {said}")


def tensors_of(folder):
    return {k: v for file in sorted(folder.glob("model*.safetensors")) for k, v in load_file(file).items()}


def merged(root, tmp):
    folder, file = root / "moe" / "model", root / "moe" / "case-image.safetensors"
    case = load_file(file)
    for kind in ("both", "down", "patterns"):
        adapter, out = tmp / f"{root.name}-{kind}", tmp / f"merged-{kind}"
        bezel("merge", "--model", folder, "--adapter", adapter, "--output", out)
        PeftModel.from_pretrained(load_base(folder), adapter).merge_and_unload().save_pretrained(tmp / f"peft-{kind}")
        ours, theirs, base = tensors_of(out), tensors_of(tmp / f"peft-{kind}"), tensors_of(folder)
        check(ours.keys() == base.keys(), f"merge {kind}: keys")
        errors = {k: (v - ours[k]).abs().max().item() / v.abs().max().item() for k, v in theirs.items()}
        check(max(errors.values()) <= 5e-7, f"merge {kind}: {max(errors.values()):.1e} from merge_and_unload in {max(errors, key=errors.get)}")
        changed = sum(not torch.equal(ours[k], base[k]) for k in base if ".experts." in k)
        check(changed == (12 if kind != "down" else 6), f"merge {kind}: {changed} stacks changed")
        wanted = answers(PeftModel.from_pretrained(load_base(folder), adapter).eval(), case, False)[0]
        again = answers(load_base(out), case, False)[0]
        here = forward(out, file, tmp / "out.safetensors", "--dtype", "float32")["logits"]
        error = max(logits_error(case, x, wanted) for x in (again, here))
        check(error <= limit_of(case), f"merge {kind}: logits {error:.1e}")
        print(f"merge {kind}: matrices {max(errors.values()):.1e}, logits {error:.1e}")
    narrow, out = tmp / "bf16-model", tmp / "bf16-merged"
    shutil.copytree(folder, narrow)
    base = {k: v.bfloat16() for k, v in tensors_of(folder).items()}
    save_file(base, narrow / "model.safetensors", metadata={"format": "pt"})
    bezel("merge", "--model", narrow, "--adapter", tmp / f"{root.name}-down", "--output", out)
    lora, got = load_file(tmp / f"{root.name}-down" / "adapter_model.safetensors"), tensors_of(out)
    for i in range(6):
        key = f"model.language_model.layers.{i}.experts"
        a, b = (lora[f"base_model.model.{key}.lora_{x}.weight"] for x in "AB")
        wanted = base[key + ".down_proj"].float() + 2 * torch.einsum("ore,eri->eoi", b.view(64, 4, 8), a.view(8, 4, 32))
        distance = (got[key + ".down_proj"].float() - wanted).abs()
        check(bool((distance <= wanted.abs() / 256 + 1e-6).all()), f"merge bfloat16: layer {i} is not rounded once")


def peft_logits(dense, adapter, case):
    return answers(PeftModel.from_pretrained(load_base(dense), adapter).eval(), case, False)[0]


def in_codes(root, tmp):
    """Experts quantized, stored and made while loading, under adapters: against a dense model of what the codes stand for."""
    from bitsandbytes import functional as F

    folder, file, adapter = root / "moe" / "model", root / "moe" / "case-text.safetensors", tmp / f"{root.name}-both"
    case = load_file(file)

    def rounded(matrix, kind):
        if kind == "nf4":
            return F.dequantize_4bit(*F.quantize_4bit(matrix, blocksize=64, quant_type="nf4", compress_statistics=True))
        codes, absmax, _ = F.int8_vectorwise_quant(matrix.flatten(0, -2).clone())
        return F.int8_vectorwise_dequant(codes, absmax).view(matrix.shape)

    for kind in ("nf4", "int8"):
        stored, dense, out = tmp / f"codes-{kind}", tmp / f"codes-{kind}-dense", tmp / f"codes-{kind}-merged"
        bezel("quantize", "--model", folder, "--type", kind, "--experts", "--output", stored)
        names = load_file(stored / "model.safetensors")
        shutil.copytree(folder, dense)
        tensors = load_file(dense / "model.safetensors")
        for name, value in names.items():
            if name.endswith(".weight") and not value.is_floating_point():
                plain = name.removesuffix(".weight") if ".experts." in name else name
                tensors[plain] = rounded(tensors[plain], kind).contiguous()
        save_file(tensors, dense / "model.safetensors", metadata={"format": "pt"})
        model = PeftModel.from_pretrained(load_base(dense), adapter, is_trainable=True).eval()
        one_case(f"{kind}", stored, adapter, model, file, tmp)
        bezel("merge", "--model", stored, "--adapter", adapter, "--output", out)
        error = logits_error(case, answers(load_base(out), case, False)[0], peft_logits(dense, adapter, case))
        check(error <= 3e-4, f"{kind}: merged from codes: logits {error:.1e}")
        bezel("merge", "--model", stored, "--adapter", adapter, "--output", tmp / f"codes-{kind}-again", "--requantize")
        check(tensors_of(tmp / f"codes-{kind}-again").keys() == names.keys(), f"{kind}: keys after --requantize")
        again = forward(tmp / f"codes-{kind}-again", file, tmp / "out.safetensors", "--dtype", "float32")["logits"]
        base = logits_error(case, peft_logits(dense, adapter, case), case["logits"])
        error = logits_error(case, again, peft_logits(dense, adapter, case))
        check(error < base, f"{kind}: quantized again: logits {error:.1e}, the base is {base:.1e} away")


def gguf(root, tmp):
    """Experts of a GGUF file under adapters that a text-only model names; merged into a file."""
    from gguf import GGMLQuantizationType as Type

    from _gguf import write_gguf

    case = load_file(root / "moe" / "case-text.safetensors")
    file = tmp / "gguf-case.safetensors"
    save_file({k: case[k] for k in ("in.input_ids", "in.attention_mask", "in.labels")}, file)
    for kind in (Type.F32, Type.Q8_0):
        model, dense = tmp / f"moe-{kind.name}.gguf", tmp / f"moe-{kind.name}"
        write_gguf(root / "moe" / "model", model, kind, equivalent=dense)
        run(TEST_BIN / "fresh_adapter", model, tmp / f"gguf-{kind.name}", "language,experts", "default")
        adapter = tmp / f"gguf-{kind.name}"
        one, other = (forward(base, file, tmp / f"out-{i}.safetensors", "--dtype", "float32", "--adapter", adapter, "--grads")
                      for i, base in enumerate((model, dense)))
        strip = lambda grads: {k.replace(".language_model.", "."): v for k, v in grads.items() if k.startswith("grad.")}
        a, b = strip(one), strip(other)
        check(a.keys() == b.keys() and any(".experts." in k for k in a), f"GGUF {kind.name}: gradients of other tensors")
        worst = max(relative(a[k], b[k]) for k in a if k in b)
        check(worst <= 1e-4 and logits_error(case, one["logits"], other["logits"]) <= 2e-5, f"GGUF {kind.name}: gradients {worst:.1e}")
        out = tmp / f"merged-{kind.name}.gguf"
        bezel("merge", "--to", "gguf", "--model", model, "--adapter", adapter, "--type", "f32", "--output", out)
        error = logits_error(case, forward(out, file, tmp / "out.safetensors", "--dtype", "float32")["logits"], one["logits"])
        check(error <= 3e-4, f"GGUF {kind.name}: merged: logits {error:.1e}")
        print(f"GGUF {kind.name}: gradients {worst:.1e}, merged logits {error:.1e}")


def samples(tmp):
    file = tmp / "samples.jsonl"
    rows = [("Name three primes.", "2, 3 and 5."), ("Is 91 prime?", "No, it is 7 times 13."), ("Count to three.", "1, 2, 3."), ("Hi", "Hello there, friend")]
    file.write_text("".join(json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) + "\n" for q, a in rows))
    return file


def train(model, tmp, out, *extra, code=0):
    done = subprocess.run([str(x) for x in (Path(sys.argv[1]) / "bezel", "train", "--base-model", model, "--train-file", samples(tmp), "--output-dir", out, "--max-steps", 6,
                           "--lora-r", 4, "--learning-rate", "1e-2", "--micro-batch-size", 2, "--gradient-accumulation-steps", 1, *extra)], capture_output=True, text=True)
    check(done.returncode == code, f"train {extra}: exit {done.returncode}: {done.stderr[-400:]}")
    return done.stdout + done.stderr


def runs(root, tmp):
    folder = root / "moe" / "model"
    out = tmp / "run"
    said = train(folder, tmp, out, "--lora-towers", "[language, experts]", "--save-steps", 3, "--dtype", "float32")
    check("experts" in said and "stay frozen" not in said, f"the table has the experts: {said[:300]}")
    state = json.loads((out / "trainer_state.json").read_text())
    losses = [row["loss"] for row in state["log_history"] if "loss" in row]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    loads = [(row["step"], row["expert_load"]) for row in rows if "expert_load" in row]
    check([step for step, _ in loads] == [1, 3, 6], f"load of the experts at steps {[step for step, _ in loads]}")
    for step, layers in loads:
        check(len(layers) == 6 and all(len(shares) == 8 and abs(sum(shares) - 1) < 1e-5 for shares in layers.values()), f"load at step {step}: {layers}")
    page = (out / "report.html").read_text()
    check("Load of the experts" in page and page.count("<title>layer ") == 2 * 6 * 8, "report.html draws the load")
    check(losses[-1] < losses[0], f"losses fall: {losses}")
    again = tmp / "resumed"
    shutil.copytree(out, again)
    for step in again.glob("checkpoint-6*"):
        shutil.rmtree(step)
    (again / "adapter_model.safetensors").unlink()
    train(folder, tmp, again, "--lora-towers", "[language, experts]", "--save-steps", 3, "--dtype", "float32", "--resume-from-checkpoint", "auto")
    check((out / "adapter_model.safetensors").read_bytes() == (again / "adapter_model.safetensors").read_bytes(), "a resumed run ends with the same bytes")
    check("up to step 1<" in page and "up to step 1<" in (again / "report.html").read_text(), "a resumed run's page has the load from before")
    model, said = load_in_peft(load_base(folder), out)
    check(not said, f"PEFT takes what was trained {said}")
    for tool in ("peft", "vllm"):
        told = bezel("verify-adapter", "--model", folder, "--adapter", out, "--for", tool).stdout
        check("experts" in told, f"verify-adapter: {told[:300]}")
    check("experts" in bezel("inspect", out).stdout, "inspect names the experts of an adapter")
    said = train(folder, tmp, tmp / "go-on", "--init-adapter", out, "--dtype", "float32")
    check("stay frozen" not in said, "init_adapter: the experts learn on")
    for storage in ("nf4", "int8"):
        train(folder, tmp, tmp / f"run-{storage}", "--target-parameters", "[experts.gate_up_proj, experts.down_proj]", "--storage", storage)
        tensors = load_file(tmp / f"run-{storage}" / "adapter_model.safetensors")
        check(sum(".experts.base_layer.lora_B" in k and bool(v.any()) for k, v in tensors.items()) == 6, f"{storage}: experts learn")
    for extra in ((), ("--target-modules", "all-linear")):
        said = train(folder, tmp, tmp / f"frozen-{len(extra)}", *extra)
        check("the experts stay frozen (8 in each layer)" in said, f"a run says that experts stay frozen {extra}")
        check(any(line.split()[:1] == ["experts"] and "stay frozen" in line for line in said.splitlines()), f"and its table does {extra}")
    said = bezel("preprocess", "--base-model", folder, "--train-file", samples(tmp), "--output-dir", tmp / "dry", "--dry-run").stdout
    check("frozen" in said and "experts" in said, "so does preprocess --dry-run")


def bad(root, tmp):
    folder = root / "moe" / "model"
    case = root / "moe" / "case-text.safetensors"
    good = tmp / f"{root.name}-experts alone"

    def refused(what, adapter, *words):
        done = subprocess.run([str(Path(sys.argv[1]) / "bezel"), "forward", "--model", folder, "--inputs", case, "--output", tmp / "bad.safetensors", "--adapter", adapter],
                              capture_output=True, text=True)
        check(done.returncode not in (0, 1) and all(word in done.stderr for word in words), f"{what}: exit {done.returncode}: {done.stderr}")

    def variant(name, change=lambda tensors: tensors, **config):
        out = tmp / f"bad-{name}"
        out.mkdir()
        save_file({k: v.contiguous() for k, v in change(load_file(good / "adapter_model.safetensors")).items()}, out / "adapter_model.safetensors")
        (out / "adapter_config.json").write_text(json.dumps({**json.loads((good / "adapter_config.json").read_text()), **config}))
        return out

    refused("another number of experts", variant("experts", lambda tensors: {k: (v[:24] if "lora_A" in k else v[:, :24]) for k, v in tensors.items()}), "8 experts", "experts.lora_A")
    refused("no target_parameters", variant("unnamed", target_parameters=None), "target_parameters", "experts")
    refused("one target_parameter for two stacks", variant("one", target_parameters=["experts.down_proj"]), "base_layer", "target_parameters")
    refused("dropout", variant("dropout", lora_dropout=0.1), "lora_dropout")
    refused("no lora_B", variant("half", lambda tensors: {k: v for k, v in tensors.items() if "layers.2.experts.lora_B" not in k}), "lora_B")
    for extra, word in ((("--lora-towers", "[language, experts]", "--lora-dropout", 0.1), "lora_dropout"),
                        (("--target-parameters", "[experts.up_proj]"), "experts.gate_up_proj"),
                        (("--target-modules", "[q_proj, experts.down_proj]"), "target_parameters"),
                        (("--lora-towers", "[experts]", "--layers-to-transform", "[17]"), "17")):
        said = train(folder, tmp, tmp / "never", *extra, code=2)
        check(word in said, f"train {extra}: {said[-300:]}")
    said = train(root / "dense" / "model", tmp, tmp / "never", "--lora-towers", "[language, experts]", code=2)
    check("'experts' is not in this model" in said, f"a model without experts: {said[-300:]}")
    said = train(root / "dense" / "model", tmp, tmp / "never", "--target-parameters", "[experts.down_proj]", code=2)
    check("no experts" in said, f"a model without experts: {said[-300:]}")


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        ours, theirs, kept = [], [], portable_bitsandbytes()
        for seed in (0, 1):
            read_from_peft(reference(seed), tmp)
            steps(reference(seed), tmp)
            mine, other = bfloat16_errors(reference(seed), tmp)
            ours, theirs = ours + mine, theirs + other
        a, b = statistics.mean(ours), statistics.mean(theirs)
        print(f"bfloat16: mean loss error {a:.4f}, transformers + PEFT {b:.4f}, ratio {a / b:.2f}")
        check(a <= 1.5 * b, f"bfloat16: {a / b:.2f} times the error of transformers + PEFT")
        root = reference(0)
        for part in (written_for_peft, text_only, merged, in_codes, gguf, runs, bad):
            part(root, tmp)
        del kept
    return finish()


if __name__ == "__main__":
    sys.exit(main())
