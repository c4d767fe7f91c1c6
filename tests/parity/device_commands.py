"""Every command on the simulated device (tests/support/simulated_device.h): forward passes and gradients of all families beside
transformers + PEFT; GGUF files, codes, training of all kinds, `evaluate` and `generate` beside the CPU. A host access to a tensor of
the device ends a process, so these are also runs without one.

    device_commands.py BEZEL_FOLDER TEST_FOLDER

Bounds in float32 beside transformers + PEFT are those of model_parity.py. Beside the CPU they are those of rounding: attention and sums
are other kernels there, and these models of random weights make 1e-7 large.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file

import shared_prefixes as shared
from _reference import BIN, check, finish, reference, relative, run

PLUGIN = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["BEZEL_TESTS"]) / "libsimulated_device.so"
ON = {"cpu": {}, "privateuseone": {"LD_PRELOAD": str(PLUGIN)}}
LOGITS, LOGITS_WITH_MEDIA, GRADIENTS = 3e-4, 3e-3, 1e-2
LOSS = 2e-5
# Of all of B after a first step, which is the gradient (see shared_prefixes.LINEAR).
ROUNDING = 5e-3


def bezel(device, *words):
    done = subprocess.run([str(word) for word in (BIN / "bezel", *words)] + [f"--device={device}"], capture_output=True, text=True,
                          env=dict(os.environ, **ON[device]))
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))} on {device}\nexit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def forward(device, model, inputs, output, *extra):
    bezel(device, "forward", "--model", model, "--inputs", inputs, "--output", output, "--dtype", "float32", *extra)
    return load_file(output)


def beside_transformers(root, preset, case, tmp):
    folder = root / preset
    file = folder / f"case-{case}.safetensors"
    wanted = load_file(file)
    got = forward("privateuseone", folder / "model", file, tmp / "out.safetensors", "--adapter", folder / "adapter", "--grads")
    logits = (got["logits"] - wanted["adapter_logits"])[wanted["in.attention_mask"].bool()].abs().max().item()
    loss = abs(got["loss"].item() - wanted["adapter_loss"].item())
    worst = max(relative(got[key], value) for key, value in wanted.items() if key.startswith("grad."))
    print(f"{preset} {case} beside transformers + PEFT: logits {logits:.1e}, loss {loss:.1e}, worst gradient {worst:.1e}", flush=True)
    check(logits <= (LOGITS_WITH_MEDIA if "in.pixel_values" in wanted else LOGITS), f"{preset} {case}: logits {logits}")
    check(loss <= LOSS and worst <= GRADIENTS, f"{preset} {case}: loss {loss}, gradients {worst}")


def beside_cpu(name, model, file, tmp, *extra):
    """The base alone: adapters fit codes as they fit anything."""
    cpu, device = (forward(where, model, file, tmp / f"{where}.safetensors", *extra) for where in ON)
    logits, loss = (device["logits"] - cpu["logits"]).abs().max().item(), abs(device["loss"].item() - cpu["loss"].item())
    print(f"{name} beside the CPU: logits {logits:.1e}, loss {loss:.1e}", flush=True)
    check(logits <= LOGITS and loss <= LOSS, f"{name}: logits {logits}, loss {loss}")


def train(device, folder, name, model, data, flags):
    given = {**shared.LINEAR, "dtype": "float32", "base-model": model, "train-file": data, "output-dir": folder / f"{name}-{device}"}
    given |= {key.replace("_", "-"): value for key, value in flags.items()}
    bezel(device, "train", "--quiet", *(f"--{key}={value}" for key, value in given.items()))
    out = given["output-dir"]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row], load_file(out / "adapter_model.safetensors")


def change(found, wanted, start):
    """Of everything trained, relative to how far it came from `start`; without one, of B, which starts at zero."""
    check(found.keys() == wanted.keys(), "the same tensors")
    keys = [key for key in wanted if start is not None or "lora_B" in key]
    square = lambda of: sum(float(of(key).double().square().sum()) for key in keys)
    came = square(lambda key: wanted[key] - start[key] if start else wanted[key])
    return (square(lambda key: found[key] - wanted[key]) / came) ** 0.5


def trains_alike(folder, name, model, data, has_start=False, **flags):
    (cpu, wanted), (device, found) = (train(where, folder, name, model, data, flags) for where in ON)
    start = train("cpu", folder, f"{name}-start", model, data, flags | {"learning_rate": 1e-30})[1] if has_start else None
    loss = max(abs(a - b) for a, b in zip(cpu, device))
    error = change(found, wanted, start)
    print(f"{name}: loss {loss:.1e}, gradients {error:.1e} from the CPU's", flush=True)
    check(len(cpu) == len(device) > 0 and loss <= 1e-4 and error <= ROUNDING, f"{name}: losses {cpu} and {device}, gradients {error}")


def recomputes_alike(folder, model, data):
    """What runs again in the backward pass multiplies the same roundings of the adapters."""
    flags = {"dtype": "bfloat16", "share_prefixes": "false", "packing": "false", "lora_towers": "language,vision"}
    kept, again = (train("privateuseone", folder, f"again-{word}", model, data, flags | {"gradient_checkpointing": word})[1] for word in ("false", "true"))
    error = change(again, kept, None)
    print(f"recomputed in bfloat16: {error:.1e} from what is kept", flush=True)
    check(error <= 1e-6, f"recomputed in bfloat16: {error}")


def labelled_rows(count=24):
    return [{"prompt": row["prompt"], "completion": row["chosen"], "label": i % 2 == 0} for i, row in enumerate(shared.pair_rows(count))]


def check_training(folder, root, unified, gguf):
    e2b, moe = root / "e2b" / "model", root / "moe" / "model"
    text = shared.write(folder / "text.jsonl", shared.text_rows(12))
    image = shared.write(folder / "image.jsonl", shared.image_rows(folder, 6))
    pairs = shared.write(folder / "pairs.jsonl", shared.pair_rows(12))
    labelled = shared.write(folder / "labelled.jsonl", labelled_rows(12))
    apart, towers = {"share_prefixes": "false", "packing": "false"}, {"lora_towers": "language,vision"}
    trains_alike(folder, "gguf", gguf, text, **apart)
    trains_alike(folder, "gguf-packed-recomputed", gguf, text, packing="true", max_seq_length=512, gradient_checkpointing="true")
    trains_alike(folder, "unified", unified / "unified" / "model", image, **apart)
    trains_alike(folder, "image", e2b, image, **towers, **apart)
    recomputes_alike(folder, e2b, image)
    for objective, data in (("dpo", pairs), ("orpo", pairs), ("simpo", pairs), ("kto", labelled)):
        trains_alike(folder, objective, e2b, data, objective=objective, **apart)
    trains_alike(folder, "dpo-experts", moe, pairs, objective="dpo", **apart)
    trains_alike(folder, "experts", moe, text, target_parameters="experts.gate_up_proj,experts.down_proj", **apart)
    trains_alike(folder, "experts-int8", moe, text, storage="int8", **apart)
    trains_alike(folder, "shared", e2b, text, share_prefixes="true", packing="false")
    trains_alike(folder, "shared-packed-image", e2b, image, share_prefixes="true", packing="true", max_seq_length=512, **towers)
    trains_alike(folder, "shared-dpo-recomputed", e2b, pairs, share_prefixes="true", packing="false", objective="dpo", gradient_checkpointing="true")
    trains_alike(folder, "norms", e2b, text, has_start=True, modules_to_save="input_layernorm,norm", **apart)
    trains_alike(folder, "dora-tables", e2b, text, has_start=True, use_dora="true", modules_to_save="embed_tokens", **apart)


def check_reading(folder, root):
    """`evaluate` with answers, of samples and of pairs, and `generate`."""
    model, adapter = root / "e2b" / "model", root / "e2b" / "adapter"
    text = shared.write(folder / "text.jsonl", shared.text_rows(4))
    pairs = shared.write(folder / "pairs.jsonl", shared.pair_rows(4))
    asked = ["--model", model, "--adapter", adapter, "--dtype", "float32", "--json"]
    for name, words in (("evaluate", ["--data", text, "--generate", "--max-new-tokens", 8]), ("evaluate --pairs", ["--data", pairs, "--pairs"])):
        cpu, device = (json.loads(bezel(where, "evaluate", *asked, *words)) for where in ON)
        worst = compare_json(cpu, device)
        print(f"{name}: {worst:.1e} from the CPU's", flush=True)
        check(worst <= 1e-3, f"{name}: {cpu} and {device}")
    cpu, device = (bezel(where, "generate", *asked, "--prompt", "Number 7?", "--max-new-tokens", 12) for where in ON)
    check(json.loads(cpu)["text"] == json.loads(device)["text"], f"generate: {cpu} and {device}")


def check_plan(folder, model):
    """`preprocess --dry-run` for a GPU, on a machine without one: what is resident, and what stays on the host."""
    text = shared.write(folder / "text.jsonl", shared.text_rows(4))
    words = ["preprocess", "--base-model", model, "--train-file", text, "--output-dir", folder / "plan", "--dry-run", "--device", "cuda"]
    host, device = (json.loads(run(BIN / "bezel", *words, "--json", "--embeddings-on", where).stdout)["run"]["memory"] for where in ("host", "device"))
    config = json.loads((model / "config.json").read_text())["text_config"]
    table = 2 * config["vocab_size_per_layer_input"] * config["num_hidden_layers"] * config["hidden_size_per_layer_input"]
    check(host["host_tables"] == table and device["host_tables"] == 0, f"{host} and {device}, a table of {table} bytes")
    check(host["device"] + table == device["device"], f"{host} and {device}, a table of {table} bytes")
    said = run(BIN / "bezel", *words, "--embeddings-on", "host").stdout
    check("resident there" in said and "stay in the host's memory" in said and "not estimated" in said, said)
    check("stay in the host's memory" not in run(BIN / "bezel", *words, "--embeddings-on", "device").stdout, "nothing stays")


def compare_json(a, b):
    """The largest difference of numbers, relative above 1; all else is equal."""
    if isinstance(a, dict):
        check(a.keys() == b.keys(), f"{a.keys()} and {b.keys()}")
        return max((compare_json(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list):
        check(len(a) == len(b), f"{a} and {b}")
        return max((compare_json(x, y) for x, y in zip(a, b)), default=0.0)
    if isinstance(a, (int, float)) and not isinstance(a, bool):
        return abs(a - b) / max(1.0, abs(a))
    check(a == b, f"{a} and {b}")
    return 0.0


def main():
    root, unified = reference(0), reference(0, ("unified",))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for where, preset, case in ((root, "e2b", "mixed"), (root, "e2b", "batch"), (root, "dense", "images"), (root, "moe", "image"),
                                    (unified, "unified", "mixed"), (unified, "unified", "long")):
            beside_transformers(where, preset, case, folder)
        model, file = root / "e2b" / "model", root / "e2b" / "case-text.safetensors"
        for storage in ("nf4", "int8"):
            beside_cpu(storage, model, file, folder, "--storage", storage)
        for kind in ("q4_k_m", "q8_0"):
            gguf = folder / f"{kind}.gguf"
            subprocess.run([BIN / "bezel", "convert", "--model", model, "--to", "gguf", "--type", kind, "--output", gguf], check=True, capture_output=True)
            beside_cpu(kind, gguf, file, folder)
        check_training(folder, root, unified, folder / "q4_k_m.gguf")
        check_reading(folder, root)
        check_plan(folder, root / "e2b" / "model")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
