"""`bezel evaluate`, `convert` and `verify-adapter` against transformers + PEFT.

evaluate: loss and number of correct tokens of every sample against transformers on the same tokens (2e-5 of the mean,
float32), the interval of the difference against scipy's t. convert: both layouts both ways, and PEFT takes the adapter
back. verify-adapter: what it says of damaged adapters, and that PEFT does what it says. Also runs examples/*.cpp.
"""
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from _reference import ROOT, bezel, check, finish, reference, run

TEST_BIN = Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["BEZEL_TEST_BIN"])


def load(folder):
    from transformers import Gemma4ForConditionalGeneration

    return Gemma4ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def scores(model, row):
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    wanted = labels[0, 1:]
    at = wanted != -100
    losses = torch.nn.functional.cross_entropy(logits[at], wanted[at], reduction="none").double()
    return losses.sum().item(), int((logits[at].argmax(-1) == wanted[at]).sum()), int(at.sum())


def interval(first, second, weight):
    """Of the difference of two ratios of sums, linearized; the t of scipy."""
    from scipy import stats

    n, total = len(weight), sum(weight)
    d = (sum(second) - sum(first)) / total
    rest = [b - a - d * w for a, b, w in zip(first, second, weight)]
    half = stats.t.ppf(0.975, n - 1) * math.sqrt(n / (n - 1) * sum(r * r for r in rest)) / total
    return d, d - half, d + half


def evaluate(root, tmp):
    from peft import PeftModel

    folder, adapter, data = root / "e2b" / "model", root / "e2b" / "adapter", tmp / "data.jsonl"
    words = ["Hi there", "Name three primes.", "2, 3 and 5 are primes; so is 7.", "What is in the image?", "Count from one to nine, slowly"]
    rows = [{"messages": [{"role": "user", "content": words[i % 5] + " " + words[(2 * i + 1) % 5]},
                          {"role": "assistant", "content": words[(i + 2) % 5] * (1 + i % 3)}]} for i in range(9)]
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    common = ("evaluate", "--model", folder, "--data", data, "--dtype", "float32", "--json")
    got = json.loads(bezel(*common, "--adapter", adapter, "--per-sample", tmp / "samples.jsonl").stdout)
    samples = [json.loads(line) for line in (tmp / "samples.jsonl").read_text().splitlines()]
    dumped = [json.loads(line) for line in run(TEST_BIN / "dump_dataset", data, folder / "tokenizer.json", 70).stdout.splitlines()]
    tuned = PeftModel.from_pretrained(load(folder), adapter).eval()
    sums = {"base": [], "adapter": []}
    for i, (sample, row) in enumerate(zip(samples, dumped, strict=True)):
        check(sample["line"] == i + 1 and sample["tokens"] == len(row["input_ids"]), f"evaluate: sample {i}")
        with tuned.disable_adapter():
            sums["base"].append(scores(tuned, row))
        sums["adapter"].append(scores(tuned, row))
        for name, all_sums in sums.items():
            loss, correct, labels = all_sums[-1]
            check(abs(sample[name]["loss"] - loss / labels) <= 2e-5, f"evaluate: loss of {name}, sample {i}")
            check(sample[name]["correct_tokens"] == correct and sample["label_tokens"] == labels, f"evaluate: tokens of {name}, sample {i}")
    total = sum(labels for _, _, labels in sums["base"])
    worst = 0.0
    for name, all_sums in sums.items():
        loss, accuracy = sum(s[0] for s in all_sums) / total, sum(s[1] for s in all_sums) / total
        worst = max(worst, abs(got[name]["loss"] - loss))
        check(abs(got[name]["loss"] - loss) <= 2e-5 and abs(got[name]["perplexity"] / math.exp(loss) - 1) <= 1e-4, f"evaluate: loss of {name}")
        check(abs(got[name]["token_accuracy"] - accuracy) < 1e-9, f"evaluate: accuracy of {name}")
    for key, column in (("loss_difference", 0), ("token_accuracy_difference", 1)):
        wanted = interval([s[column] for s in sums["base"]], [s[column] for s in sums["adapter"]], [s[2] for s in sums["base"]])
        mine = [got[key]["difference"], *got[key]["interval"]]
        check(max(abs(a - b) for a, b in zip(mine, wanted)) <= 1e-4, f"evaluate: {key} {mine} {wanted}")
    alone = json.loads(bezel(*common).stdout)
    check(alone["base"] == got["base"] and "adapter" not in alone, "evaluate: the base alone is the base beside an adapter")
    check(json.loads(bezel(*common, "--limit", 1).stdout)["samples"] == 1, "evaluate --limit")
    check("paired by sample" in bezel(*common[:-1], "--adapter", adapter).stdout, "evaluate: says the method")
    print(f"evaluate: {len(samples)} samples, loss off by {worst:.1e}")


def names_of(folder, name="model.safetensors"):
    return load_file(folder / name)


def convert_models(root, tmp):
    nested, flat = root / "e2b" / "model", root / "e2b" / "model-flat"
    said = bezel("convert", "--model", nested, "--layout", "flat", "--output", tmp / "flat").stderr
    check("released transformers does not" in said, f"convert to flat warns: {said}")
    got, wanted, source = names_of(tmp / "flat"), names_of(flat), names_of(nested)
    check(wanted.keys() <= got.keys() and len(got) == len(source), "convert to flat: names")
    check(all(torch.equal(got[k], v) for k, v in wanted.items()), "convert to flat: values")
    said = bezel("convert", "--model", tmp / "flat", "--layout", "nested", "--output", tmp / "nested").stderr
    back = names_of(tmp / "nested")
    check(not said and back.keys() == source.keys() and all(torch.equal(back[k], v) for k, v in source.items()), "convert there and back")
    print(f"convert: {len(source)} tensors there and back")


def adapter_logits(root, folder):
    """Logits of PEFT with an adapter on the mixed case, and of the base."""
    from peft import PeftModel

    case = load_file(root / "e2b" / "case-mixed.safetensors")
    inputs = {k.removeprefix("in."): v for k, v in case.items() if k.startswith("in.") and k != "in.labels"}
    model = PeftModel.from_pretrained(load(root / "e2b" / "model"), folder).eval()
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits, case


def convert_adapters(root, tmp):
    source = root / "e2b" / "adapter"
    said = bezel("convert", "--adapter", source, "--layout", "flat", "--output", tmp / "adapter-flat").stderr
    check("without `.linear`" in said, f"convert of an adapter to flat warns: {said}")
    names = names_of(tmp / "adapter-flat", "adapter_model.safetensors")
    check(not any(".linear." in k for k in names), "flat adapter: names")
    bezel("convert", "--adapter", tmp / "adapter-flat", "--layout", "nested", "--output", tmp / "adapter-nested")
    back, first = (names_of(f, "adapter_model.safetensors") for f in (tmp / "adapter-nested", source))
    check(back.keys() == first.keys() and all(torch.equal(back[k], v) for k, v in first.items()), "adapter there and back")
    logits, case = adapter_logits(root, tmp / "adapter-nested")
    error = (logits - case["adapter_logits"])[case["in.attention_mask"] == 1].abs().max().item()
    check(error <= 3e-3, f"converted adapter in PEFT: logits {error:.1e}")
    print(f"convert: adapter there and back, {len(first)} tensors, logits in PEFT {error:.1e}")


def spoilt(source, to, tensors=None, **config):
    """A copy of an adapter with other tensors or config keys."""
    shutil.copytree(source, to)
    if tensors:
        save_file({k: v.contiguous() for k, v in tensors(load_file(to / "adapter_model.safetensors")).items()}, to / "adapter_model.safetensors")
    file = to / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return to


def verify(root, folder, code, *extra):
    done = bezel("verify-adapter", "--model", root / "e2b" / "model", "--adapter", folder, "--json", *extra, code=code)
    return json.loads(done.stdout) if done.stdout else done.stderr


def verify_good(root, tmp):
    source = root / "e2b" / "adapter"
    report, tensors = verify(root, source, 0), load_file(source / "adapter_model.safetensors")
    check(not report["problems"] and not report["elsewhere"][0]["problems"], f"verify: {report['problems']}")
    parts = {"language": ".language_model.", "vision": ".vision_tower.", "audio": ".audio_tower.", "projectors": ".embed_"}
    for tower, part in parts.items():
        found, keys = report["towers"][tower], [k for k in tensors if part in k and ".lora_A." in k]
        update = sum((2.0 * tensors[k.replace("lora_A", "lora_B")] @ tensors[k]).double().square().sum() for k in keys).sqrt().item()
        check(found["layers"] == len(keys) and found["layers_by_rank"] == {"4": len(keys)}, f"verify: layers of {tower}")
        check(abs(found["norm_update"] / update - 1) < 1e-5, f"verify: norm of {tower}")
        check(found["zero_layers"] == 0 and found["logit_change"] > 1e-3, f"verify: {tower} moves the logits")
    check(any("--enable-tower-connector-lora" in n for n in report["elsewhere"][1]["notes"]), "verify: vLLM's towers")
    check(any("outside the language model" in p for p in report["elsewhere"][2]["problems"]), "verify: llama.cpp's towers")
    verify(root, source, 3, "--for", "llama.cpp")
    language = {k: v for k, v in tensors.items() if ".language_model." in k}
    targets = sorted({k.removeprefix("base_model.model.").split(".lora_")[0] for k in language})
    text = spoilt(source, tmp / "v-text", lambda _: language, target_modules=targets)
    report = verify(root, text, 0, "--for", "peft,vllm,llama.cpp")
    check(all(not place["problems"] for place in report["elsewhere"]), f"verify: a language adapter loads everywhere: {report['elsewhere']}")
    report = verify(root, spoilt(text, tmp / "v-rslora", use_rslora=True), 3, "--for", "llama.cpp")
    check("use_rslora" in report["problems"][0], "verify: rsLoRA in llama.cpp")


def verify_bad(root, tmp):
    source = root / "e2b" / "adapter"
    flat = spoilt(source, tmp / "v-flat", lambda t: {k.replace(".linear.lora_", ".lora_"): v for k, v in t.items()})
    report = verify(root, flat, 3)
    check("spelt without '.linear'" in report["problems"][0], f"verify: flat keys: {report['problems']}")
    # It is true: PEFT leaves the towers as they are.
    quiet, case = adapter_logits(root, flat)
    towers_off = spoilt(source, tmp / "v-off", lambda t: {k: v * (0 if "lora_B" in k and "_tower." in k else 1) for k, v in t.items()})
    check(torch.equal(quiet, adapter_logits(root, towers_off)[0]) and not torch.allclose(quiet, case["adapter_logits"], atol=1e-2),
          "PEFT passes over keys without .linear")
    report = verify(root, towers_off, 3)
    check([p.split(":")[0] for p in report["problems"]] == ["vision", "audio"] and "every B is zero" in report["problems"][0],
          f"verify: zero B: {report['problems']}")
    report = verify(root, tmp / "adapter-flat", 3)
    check(any("wrapper" in p for p in report["problems"]), f"verify: converted to flat: {report['problems']}")
    try:
        adapter_logits(root, tmp / "adapter-flat")
        check(False, "PEFT takes target_modules without .linear")
    except ValueError as error:
        check("Gemma4ClippableLinear" in str(error), f"PEFT refuses the wrapper: {error}")
    rank = 4
    cases = {"names": (lambda t: {k.replace("layers.0.", "layers.90."): v for k, v in t.items()}, {}, "fits no linear layer of this model"),
             "rank": (None, {"r": 2 * rank}, "another rank"),
             "half": (lambda t: {k: v for k, v in t.items() if "layers.0.self_attn.q_proj.lora_B" not in k}, {}, "has no lora_B"),
             "prefix": (lambda t: {k.removeprefix("base_model.model."): v for k, v in t.items()}, {}, "is not supported")}
    for name, (tensors, config, words) in cases.items():
        said = verify(root, spoilt(source, tmp / f"v-{name}", tensors, **config), 3)
        check(words in str(said), f"verify: {name}: {said}")
    print(f"verify-adapter: good and {len(cases) + 3} damaged adapters")


def examples(tmp):
    data, model = tmp / "text.jsonl", ROOT / "demo" / "model"
    data.write_text('{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}\n' * 4)
    said = run(TEST_BIN / "example_train", model, data, tmp / "trained").stdout
    check(said.count("step ") == 3, f"example train: {said}")
    said = run(TEST_BIN / "example_merge", model, tmp / "trained", tmp / "example-merged").stdout
    check("matrices merged" in said and (tmp / "example-merged" / "model.safetensors").exists(), f"example merge: {said}")


def main():
    with tempfile.TemporaryDirectory() as name:
        tmp, root = Path(name), reference(0)
        evaluate(root, tmp)
        convert_models(root, tmp)
        convert_adapters(root, tmp)
        verify_good(root, tmp)
        verify_bad(root, tmp)
        examples(tmp)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
