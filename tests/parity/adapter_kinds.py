"""Every kind of adapter against PEFT in float32: DoRA, LoRA on the embeddings and the head, modules_to_save, and
trainable_token_indices, over tied and untied tables; norms in modules_to_save; PiSSA; and LoRA+ against PEFT's optimizer.

For each kind: PEFT makes an adapter, saves it, and gives logits, loss and gradients; Bezel reads the folder and must give the
same within the bounds of model_parity.py. Bezel writes it anew, which PEFT must take without a word and hold the same tensors
of; and merges it, which must give the logits of base + adapter, in transformers and in Bezel.

    adapter_kinds.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file, save_file
from transformers import Gemma4ForConditionalGeneration

from _reference import PRESETS, bezel, check, finish, forward, inputs_of, reference, relative

TEST_BIN = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["BEZEL_TEST_BIN"])
EMBEDDINGS, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"
DECODER = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
TOWERS = DECODER + r"|.*tower.*\.(q|k|v|o|gate|up|down)_proj\.linear|.*tower.*\.(ffw_layer_[12]|linear_start)\.linear"
RATE, RATIO = 1e-5, 8.0
TOKENS = [262, 301, 17, 5, 400]  # of them <|turn> and letters, which the cases hold
# Of the decoder; shorter ones would reach the towers' too.
NORMS = [rf"language_model.layers.{i}.{name}" for i in range(8) for name in ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")]
NORMS += ["post_per_layer_input_norm", "per_layer_projection_norm", "language_model.norm"]

KINDS = {
    "dora": dict(use_dora=True, target_modules=TOWERS),
    "dora, rsLoRA and patterns": dict(use_dora=True, use_rslora=True, target_modules=DECODER, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 3}),
    "embeddings": dict(target_modules=DECODER + r"|.*embed_tokens"),
    "head": dict(target_modules=r"lm_head|.*language_model\.layers\.1\.self_attn\.q_proj"),
    "embeddings and head": dict(target_modules=DECODER + r"|.*embed_tokens|lm_head", rank_pattern={"lm_head": 2}, use_rslora=True),
    "saved embeddings": dict(target_modules=DECODER, modules_to_save=["embed_tokens"]),
    "saved head": dict(target_modules=DECODER, modules_to_save=["lm_head"]),
    "saved embeddings and head": dict(target_modules=DECODER, modules_to_save=["embed_tokens", "lm_head"]),
    "norms": dict(target_modules=DECODER, modules_to_save=NORMS),
    "tokens": dict(target_modules=DECODER, trainable_token_indices=TOKENS),
    "tokens of both": dict(target_modules=DECODER, trainable_token_indices={"embed_tokens": TOKENS, "lm_head": TOKENS}),
}


def load(folder, **more):
    return Gemma4ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more).eval()


def quiet(action):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = action()
    # What PEFT says of tied tables it says of its own folders too.
    return made, [str(w.message) for w in said if ("adapter" in str(w.message) or "key" in str(w.message)) and "tie" not in str(w.message)]


def tuned(folder, config, seed):
    """A PEFT model whose every trained tensor is away from where it began."""
    model, _ = quiet(lambda: get_peft_model(load(folder), LoraConfig(**{"r": 4, "lora_alpha": 8} | config)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if not tensor.requires_grad:
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if "lora_embedding_A" in name:
                tensor.copy_(0.3 * noise)
            elif "lora_embedding_B" in name:
                tensor.copy_(0.1 * noise)
            elif "magnitude" in name:
                tensor.mul_(1 + 0.2 * noise)
            elif "lora_A" in name:
                tensor.copy_(noise * tensor.shape[1] ** -0.5)
            elif "lora_B" in name:
                tensor.copy_(0.3 * noise * tensor.shape[1] ** -0.5)
            else:  # rows and whole tables
                tensor.add_(0.02 * noise)
    return model.eval()


def key_of(name):
    return name.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector").replace(".modules_to_save.", ".")


def golden(model, case):
    model.zero_grad()
    out = model(**inputs_of(case, labels=True), use_cache=False)
    out.loss.backward()
    grads = {key_of(n): p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return out.logits.detach(), out.loss.item(), grads


def limit_of(case):
    return 3e-3 if "in.pixel_values" in case else 3e-4


def error_of(case, got, wanted):
    return (got - wanted)[case["in.attention_mask"] == 1].abs().max().item()


def same_as_peft(name, folder, adapter, model, file, tmp):
    case = load_file(file)
    logits, loss, grads = golden(model, case)
    got = forward(folder, file, tmp / "out.safetensors", "--dtype", "float32", "--adapter", adapter, "--grads")
    errors = {"logits": error_of(case, got["logits"], logits), "loss": abs(got["loss"].item() - loss)}
    check(errors["logits"] <= limit_of(case), f"{name}: logits {errors['logits']:.1e}")
    check(errors["loss"] <= 2e-5, f"{name}: loss {errors['loss']:.1e}")
    found = {k.removeprefix("grad."): v for k, v in got.items() if k.startswith("grad.")}
    check(found.keys() == grads.keys(), f"{name}: other tensors have gradients {sorted(found.keys() ^ grads.keys())[:4]}")
    each = {k: relative(found[k], v) for k, v in grads.items() if k in found}
    worst = max(each, key=each.get)
    median = statistics.median(each.values())
    check(each[worst] <= 1e-2, f"{name}: gradient {each[worst]:.1e} of {worst}")
    check(median <= 1e-3, f"{name}: median gradient {median:.1e}")
    return f"logits {errors['logits']:.1e}, loss {errors['loss']:.1e}, {len(each)} gradients median {median:.1e}, worst {each[worst]:.1e}"


def train_steps(*arguments):
    run = subprocess.run([str(a) for a in (TEST_BIN / "train_steps", *arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"train_steps {arguments}: {run.stderr}")
    return [tuple(map(float, line.split())) for line in run.stdout.splitlines()]


def written_anew(name, folder, adapter, model, file, tmp):
    """As Bezel saves it: PEFT takes it without a word, and holds what it held."""
    again = tmp / "again"
    train_steps(folder, adapter, again, 1, 0, 0, file)
    loaded, said = quiet(lambda: PeftModel.from_pretrained(load(folder), again).eval())
    check(not said, f"{name}: PEFT takes the folder without a word {said}")
    wanted, state = (get_peft_model_state_dict(m, save_embedding_layers=False) for m in (model, loaded))
    check(state.keys() == wanted.keys(), f"{name}: keys {sorted(state.keys() ^ wanted.keys())[:4]}")
    check(all(torch.equal(state[k], wanted[k]) for k in state.keys() & wanted.keys()), f"{name}: other values")
    check(load_file(again / "adapter_model.safetensors").keys() == wanted.keys(), f"{name}: the file's keys")
    case = load_file(file)
    with torch.no_grad():
        error = error_of(case, loaded(**inputs_of(case), use_cache=False).logits, model(**inputs_of(case), use_cache=False).logits)
    check(error == 0, f"{name}: PEFT's logits of Bezel's folder {error:.1e}")


def tensors_of(folder):
    return {k: v for file in sorted(folder.glob("model*.safetensors")) for k, v in load_file(file).items()}


def merged(name, folder, adapter, model, file, tmp, wanted_by_peft):
    out = tmp / "merged"
    bezel("merge", "--model", folder, "--adapter", adapter, "--output", out)
    case = load_file(file)
    with torch.no_grad():
        wanted = model(**inputs_of(case), use_cache=False).logits
        theirs = load(out)(**inputs_of(case), use_cache=False).logits
    ours = forward(out, file, tmp / "out.safetensors", "--dtype", "float32")["logits"]
    error = max(error_of(case, x, wanted) for x in (theirs, ours))
    check(error <= limit_of(case), f"{name}: merged, logits {error:.1e}")
    if not wanted_by_peft:
        return f"merged {error:.1e}"
    state, got = quiet(model.merge_and_unload)[0].state_dict(), tensors_of(out)
    worst = max(relative(got[k], v) for k, v in state.items() if k in got)
    check(worst <= 1e-6, f"{name}: merge_and_unload gives other tensors {worst:.1e}")
    return f"merged {error:.1e}, beside merge_and_unload {worst:.1e}"


def untied(folder, out):
    model = load(folder)
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
    generator = torch.Generator().manual_seed(11)
    shape = model.lm_head.weight.shape
    model.lm_head.weight = torch.nn.Parameter(0.05 * torch.randn(shape, generator=generator))
    model.save_pretrained(out)
    for file in folder.iterdir():
        if not (out / file.name).exists():
            (out / file.name).write_bytes(file.read_bytes())
    return out


def kind(name, config, folder, file, root, tmp, tied):
    model = tuned(folder, config, seed=3)
    quiet(lambda: model.save_pretrained(tmp / "adapter", save_embedding_layers=False))
    label = f"{name} ({'tied' if tied else 'untied'}, {file.stem.removeprefix('case-')})"
    told = same_as_peft(label, folder, tmp / "adapter", model, file, tmp)
    written_anew(label, folder, tmp / "adapter", model, file, tmp)
    # Where embeddings and head are tied, PEFT merges LoRA on one of them into both: a model that was not trained.
    parts = tied and any(word in name for word in ("embeddings", "head"))
    print(f"{label}: {told}; {merged(label, folder, tmp / 'adapter', model, file, tmp, not parts)}", flush=True)


def dora_of_the_reference(root, tmp):
    """All presets and cases: towers with clamps, experts, images and audio."""
    for preset, cases in PRESETS.items():
        medians, worst, logits_worst = [], 0.0, 0.0
        for case_name in cases:
            file = root / preset / f"case-{case_name}.safetensors"
            case = load_file(file)
            got = forward(root / preset / "model", file, tmp / "out.safetensors", "--dtype", "float32", "--adapter",
                          root / preset / "adapter-dora", "--grads")
            logits = error_of(case, got["logits"], case["dora_logits"])
            loss = abs(got["loss"].item() - case["dora_loss"].item())
            name = f"dora {preset}/{case_name}"
            check(logits <= limit_of(case), f"{name}: logits {logits:.1e}")
            check(loss <= 2e-5, f"{name}: loss {loss:.1e}")
            grads = {key_of(k.removeprefix("dora_grad.")): v for k, v in case.items() if k.startswith("dora_grad.")}
            found = {k.removeprefix("grad."): v for k, v in got.items() if k.startswith("grad.")}
            check(found.keys() == grads.keys(), f"{name}: other tensors have gradients")
            each = {k: relative(found[k], v) for k, v in grads.items() if k in found}
            check(max(each.values()) <= 1e-2, f"{name}: gradient {max(each.values()):.1e} of {max(each, key=each.get)}")
            check(statistics.median(each.values()) <= 1e-3, f"{name}: median gradient {statistics.median(each.values()):.1e}")
            medians.append(statistics.median(each.values()))
            worst, logits_worst = max(worst, max(each.values())), max(logits_worst, logits)
        print(f"dora {preset}: logits {logits_worst:.1e}, gradients median {max(medians):.1e}, worst {worst:.1e}", flush=True)


def peft_steps(model, parameters, optimizer, files):
    """Eight steps of PEFT's model; their losses."""
    losses = []
    for step in range(8):
        out = model(**inputs_of(load_file(files[step % len(files)]), labels=True), use_cache=False)
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(out.loss.item())
    return losses


def trajectory(name, folder, config, files, tmp, optimizer_of, *flags):
    """Some steps of Bezel's trainer beside PyTorch's, as trajectory_parity.py, at a rate at which both stay close."""
    model = tuned(folder, config, seed=4)
    quiet(lambda: model.save_pretrained(tmp / "start", save_embedding_layers=False))
    before = get_peft_model_state_dict(model, save_embedding_layers=False)
    before = {k: v.clone() for k, v in before.items()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses = peft_steps(model, parameters, optimizer_of(model, parameters), files)
    told = train_steps(*flags, folder, tmp / "start", tmp / "end", 8, RATE, 0.01, *files)
    error = max(abs(a - b) for (a, _), b in zip(told, losses, strict=True))
    after = get_peft_model_state_dict(model, save_embedding_layers=False)
    got = load_file(tmp / "end" / "adapter_model.safetensors")
    check(got.keys() == after.keys(), f"{name}: keys")
    moved = torch.cat([(after[k] - before[k]).flatten() for k in sorted(after)])
    off = torch.cat([(got[k] - after[k]).flatten() for k in sorted(after)])
    update = (off.norm() / moved.norm()).item()
    check(error <= 5e-3, f"{name}: losses {error:.1e}")
    check(update <= 5e-2, f"{name}: update {update:.1e}")
    for part in ("lora_A", "lora_B", "lora_embedding", "magnitude"):
        keys = [k for k in after if part in k]
        if keys:
            each = (torch.cat([(got[k] - after[k]).flatten() for k in keys]).norm() / torch.cat([(after[k] - before[k]).flatten() for k in keys]).norm()).item()
            check(each <= 5e-2, f"{name}: update of {part} {each:.1e}")
    print(f"{name}: 8 steps, losses {error:.1e}, update {update:.1e}", flush=True)


def adam(model, parameters):
    return torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)


def loraplus(model, parameters):
    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=RATIO, loraplus_lr_embedding=3 * RATE,
                                     loraplus_weight_decay=0.01)


def pissa(folder, files, tmp):
    """PiSSA from the same base: Bezel's steps beside PEFT's, whose base has lost what A and B begin with; each reads what the other saved."""
    config = dict(r=4, lora_alpha=8, init_lora_weights="pissa", target_modules=DECODER)
    model, _ = quiet(lambda: get_peft_model(load(folder), LoraConfig(**config)))
    case, rate = load_file(files[0]), 1e-3
    with torch.no_grad():
        start = error_of(case, model(**inputs_of(case), use_cache=False).logits, load(folder)(**inputs_of(case), use_cache=False).logits)
    check(start <= 3e-4, f"pissa: PEFT begins as its base {start:.1e}")
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses = peft_steps(model, parameters, torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01), files)
    yaml = f"config={{lora_r: 4, lora_alpha: 8, init_lora_weights: pissa, target_modules: '{DECODER}'}}"
    told = train_steps(folder, "-", tmp / "ours", 8, rate, 0.01, yaml, *files)
    error = max(abs(a - b) for (a, _), b in zip(told, losses, strict=True))
    check(error <= 5e-3, f"pissa: losses {error:.1e}")
    quiet(lambda: model.save_pretrained(tmp / "theirs", save_embedding_layers=False))
    ours, said = quiet(lambda: PeftModel.from_pretrained(load(folder), tmp / "ours").eval())
    check(not said, f"pissa: PEFT takes the folder without a word {said}")
    base = load(folder).state_dict()
    ours, theirs = (quiet(m.merge_and_unload)[0].state_dict() for m in (ours, model))
    moved = torch.cat([(theirs[k] - v).flatten() for k, v in base.items()])
    update = (torch.cat([(ours[k] - theirs[k]).flatten() for k in base]).norm() / moved.norm()).item()
    check(update <= 5e-2, f"pissa: update {update:.1e}")
    # PEFT's own folder is over a base that PEFT changes when it loads it.
    with torch.no_grad():
        again, _ = quiet(lambda: PeftModel.from_pretrained(load(folder), tmp / "theirs").eval())
        wanted = again(**inputs_of(case), use_cache=False).logits
    got = forward(folder, files[0], tmp / "out.safetensors", "--dtype", "float32", "--adapter", tmp / "theirs")["logits"]
    read = error_of(case, got, wanted)
    check(read <= 3e-4, f"pissa: PEFT's folder, logits {read:.1e}")
    bezel("merge", "--model", folder, "--adapter", tmp / "theirs", "--output", tmp / "merged")
    worst = max(relative(v, theirs[k]) for k, v in tensors_of(tmp / "merged").items() if k in theirs)
    check(worst <= 1e-5, f"pissa: merged beside merge_and_unload {worst:.1e}")
    niter = f"config={{lora_r: 4, lora_alpha: 8, init_lora_weights: pissa_niter_8, target_modules: '{DECODER}'}}"
    begun = train_steps(folder, "-", tmp / "niter", 8, rate, 0.01, niter, *files)
    # Random matrices have no few strongest directions: iterations find others, from which training goes as well.
    niter = [loss for loss, _ in begun]
    check(abs(niter[0] - losses[0]) <= 1e-3 and niter[6] < niter[0], f"pissa_niter_8: begins as the base and learns {niter}")
    print(f"pissa: begins {start:.1e}, 8 steps losses {error:.1e}, update {update:.1e}; PEFT's folder {read:.1e}, merged {worst:.1e}", flush=True)


def towers_norms(folder, file, tmp):
    """PEFT's short names reach the towers: norms that nothing trained are passed over, trained ones refused by name."""
    model, _ = quiet(lambda: get_peft_model(load(folder), LoraConfig(r=4, target_modules=DECODER, modules_to_save=["input_layernorm"])))
    quiet(lambda: model.save_pretrained(tmp / "still", save_embedding_layers=False))
    forward(folder, file, tmp / "out.safetensors", "--dtype", "float32", "--adapter", tmp / "still")
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "vision_tower" in name and "modules_to_save" in name:
                tensor.add_(0.1)
    quiet(lambda: model.save_pretrained(tmp / "moved", save_embedding_layers=False))
    done = bezel("verify-adapter", "--model", folder, "--adapter", tmp / "moved", code=3)
    said = done.stdout + done.stderr
    check("vision_tower" in said and "outside the decoder" in said, f"trained norms of towers are refused: {said}")


def main():
    root = reference(0)
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)

        def fresh():
            return Path(tempfile.mkdtemp(dir=tmp))

        dora_of_the_reference(root, fresh())
        tied, apart = root / "e2b" / "model", untied(root / "e2b" / "model", tmp / "untied")
        files = [root / "e2b" / f"case-{case}.safetensors" for case in ("batch", "mixed")]
        for name, config in KINDS.items():
            kind(name, config, tied, files[0], root, fresh(), True)
            if "dora" in name:
                continue
            kind(name, config, apart, files[0], root, fresh(), False)
        for name in ("embeddings and head", "tokens"):
            kind(name, KINDS[name], tied, files[1], root, fresh(), True)
        pissa(tied, files, fresh())
        towers_norms(tied, files[0], fresh())
        trajectory("dora", tied, KINDS["dora"], files, fresh(), adam)
        trajectory("norms", tied, KINDS["norms"], files, fresh(), adam)
        trajectory("embeddings and head", tied, KINDS["embeddings and head"], files, fresh(), adam)
        trajectory("tokens", tied, KINDS["tokens"], files, fresh(), adam)
        trajectory("LoRA+", tied, KINDS["embeddings and head"], files, fresh(), loraplus, "--loraplus", RATIO, 3 * RATE)
        trajectory("LoRA+ and DoRA", tied, KINDS["dora"], files, fresh(), loraplus, "--loraplus", RATIO, 3 * RATE)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
