"""Runs with `share_prefixes` against the same runs without: losses and gradients (which Adam with a large epsilon leaves in
B) of every preset, storage and way to collate, of preference pairs too; what `preprocess` says against a count made here; resuming. The
same of evaluations: `bezel evaluate` sample by sample, and those of a run.

    shared_prefixes.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image
from safetensors.torch import load_file

from _reference import BIN, PRESETS, bezel, check, finish, reference
from _runs import Runs, kill

# The first update of Adam with epsilon 1 is lr * g / (|g| + 1): B, which begins at zero, is then the gradient, but for the denominator,
# which is alike in all runs.
LINEAR = {"learning-rate": 0.05, "adam-epsilon": 1, "lr-scheduler": "constant", "max-grad-norm": 0, "max-steps": 1, "logging-steps": 1,
          "sample-predictions": 0, "save-steps": 0, "report-to": "jsonl", "threads": 1, "lora-r": 4, "shuffle": "false",
          "micro-batch-size": 3, "gradient-accumulation-steps": 4, "max-soft-tokens": 70}
CONTROL = {"micro-batch-size": 1, "gradient-accumulation-steps": 12, "share-prefixes": "false"}
# Relative errors of the loss. Gradients of these models of random weights depend on rounding by more; how much is measured by the same
# samples apart, one at a time. What several samples share is rounded once for all of them, so that their errors add up instead of
# averaging: a few times the control. A key too many or too few is a thousand times that.
FLOAT32 = 5e-6
TIMES_CONTROL = 20
WORDS = "a cup of tea on the sofa and two cats in the rain".split()


def chat(system, question, answer, image=None):
    user = [{"type": "image", "path": image}] if image else []
    head = [{"role": "system", "content": system}] if system else []
    return {"messages": [*head, {"role": "user", "content": [*user, {"type": "text", "text": question}]}, {"role": "assistant", "content": answer}]}


def system(family, count=14):
    return " ".join(f"Rule {i}: {WORDS[(i * family) % len(WORDS)]} and {WORDS[(i + family) % len(WORDS)]}." for i in range(count))


def answer(i):
    return " ".join(WORDS[(i + k) % len(WORDS)] for k in range(2 + i % 4))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def text_rows(count=24):
    return [chat(system(1 + i % 2), f"Number {i}?", answer(i)) for i in range(count)]


def long_rows(count=12):
    """More than 4,096 tokens in a row together."""
    return [chat(system(1, 40), system(2 + i, 36), answer(i)) for i in range(count)]


def image_rows(folder, count=24):
    for i in range(3):
        Image.effect_noise((60 + 40 * i, 50), 80).convert("RGB").save(folder / f"{i}.png")
    return [chat("", f"What is in it, question {i}?", answer(i), f"{i % 3}.png") for i in range(count)]


def pair_rows(count=24):
    return [{"prompt": [{"role": "user", "content": system(3 + i) + f" Number {i}?"}], "chosen": [{"role": "assistant", "content": answer(i)}],
             "rejected": [{"role": "assistant", "content": answer(i + 5)}]} for i in range(count)]


def train(folder, name, model, data, **flags):
    given = {**LINEAR, "base-model": model, "train-file": data, "output-dir": folder / name}
    given |= {key.replace("_", "-"): value for key, value in flags.items()}
    bezel("train", "--quiet", *(f"--{key}={value}" for key, value in given.items()))
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row], load_file(folder / name / "adapter_model.safetensors")


def error_of(found, wanted):
    """Of all of B together, relative."""
    keys = [key for key in wanted if "lora_B" in key]
    square = lambda difference: sum(float(difference(key).double().square().sum()) for key in keys)
    return (square(lambda key: found[key] - wanted[key]) / square(lambda key: wanted[key])) ** 0.5


def compare(folder, name, model, data, **flags):
    flags = {"dtype": "float32", "packing": "false"} | flags
    apart, wanted = train(folder, f"{name}-apart", model, data, share_prefixes="false", **flags)
    shared, found = train(folder, f"{name}-shared", model, data, share_prefixes="true", **flags)
    # ORPO takes a mean over the micro-batch: one pair at a time is another loss, and pairs of DPO are the control of both.
    _, ones = train(folder, f"{name}-ones", model, data, **flags, **CONTROL) if flags.get("objective") != "orpo" else (None, None)
    loss = abs(apart[0]["loss"] - shared[0]["loss"]) / abs(apart[0]["loss"])
    error, control = error_of(found, wanted), error_of(ones, wanted) if ones else FLOAT32
    print(f"{name}: loss {loss:.1e}, gradients {error:.1e}, between samples apart {control:.1e}", flush=True)
    check(error > 0, f"{name}: rounding differs where the work does")
    check(loss <= FLOAT32 and error <= TIMES_CONTROL * control, f"{name}: loss {loss}, gradients {error}, control {control}")


def compare_in_bfloat16(folder, model, data):
    """Both ways are as far from float32."""
    _, exact = train(folder, "exact", model, data, share_prefixes="false", dtype="float32", packing="false")
    apart, shared = (error_of(train(folder, f"bfloat16-{shares}", model, data, share_prefixes=shares, packing="false")[1], exact) for shares in ("false", "true"))
    print(f"bfloat16: gradients {shared:.1e} from those of float32, samples apart {apart:.1e}", flush=True)
    check(shared <= 1.5 * apart, f"bfloat16: {shared}, samples apart {apart}")


def check_presets(folder, root):
    for preset in PRESETS:
        model = root / preset / "model"
        text, image = write(folder / "text.jsonl", text_rows()), write(folder / "image.jsonl", image_rows(folder))
        towers = {"lora_towers": "language,vision"}
        compare(folder, f"{preset}-text", model, text)
        compare(folder, f"{preset}-image", model, image, **towers)
        if preset != "e2b":
            continue
        compare(folder, "packed", model, text, packing="true", max_seq_length=512)
        compare(folder, "packed-image", model, image, packing="true", max_seq_length=512, **towers)
        compare(folder, "recomputed", model, image, gradient_checkpointing="true", **towers)
        compare(folder, "long", model, write(folder / "long.jsonl", long_rows()), micro_batch_size=12, gradient_accumulation_steps=1)
        compare(folder, "everything-learnt", model, text, train_on_inputs="true")
        for storage in ("nf4", "int8"):
            compare(folder, storage, model, text, storage=storage)
        compare_in_bfloat16(folder, model, text)
        pairs = write(folder / "pairs.jsonl", pair_rows())
        for objective in ("dpo", "orpo"):
            compare(folder, objective, model, pairs, objective=objective)


# Of a sample's loss beside that of the sample apart, in float32.
LOSS = 1e-6


def evaluate(folder, model, data, shares, *flags, dtype="float32"):
    """The summary, and what it says of each sample, by line."""
    lines = folder / "samples.jsonl"
    done = bezel("evaluate", "--model", model, "--data", data, "--share-prefixes", shares, "--dtype", dtype, "--threads", 1, "--json", "--max-soft-tokens", 70,
                 "--per-sample", lines, *flags)
    return json.loads(done.stdout), {row["line"]: row for row in map(json.loads, lines.read_text().splitlines())}


def evaluate_both(folder, name, model, data, *flags):
    """Samples together and apart; returns the summaries."""
    apart, wanted = evaluate(folder, model, data, "false", *flags)
    shared, found = evaluate(folder, model, data, "true", *flags)
    check(list(found) == list(wanted), f"{name}: samples {list(found)}, apart {list(wanted)}")
    worst = 0
    for line, row in wanted.items():
        counts = [key for key in row if key.endswith("tokens")]
        check(counts and all(found[line][key] == row[key] for key in counts), f"{name}: line {line} has {found[line]}, apart {row}")
        for side in ("base", "adapter"):
            for key in ("loss", "chosen", "rejected"):
                if key in row[side]:
                    worst = max(worst, abs(found[line][side][key] - row[side][key]) / abs(row[side][key]))
            check(found[line][side].get("correct_tokens") == row[side].get("correct_tokens"), f"{name}: line {line}: correct {found[line]}, apart {row}")
    print(f"evaluate {name}: {100 * shared['shared_tokens']:.1f} % of the tokens spared, losses {worst:.1e}", flush=True)
    check(worst <= LOSS, f"{name}: losses {worst}")
    check(shared["shares_prefixes"] and not apart["shares_prefixes"] and apart["shared_tokens"] == 0, f"{name}: {shared}, apart {apart}")
    return apart, shared


def check_evaluate(folder, root):
    for preset in PRESETS:
        model, adapter = root / preset / "model", folder / f"{preset}-image-shared"
        _, shared = evaluate_both(folder, f"{preset} text", model, folder / "text.jsonl", "--adapter", adapter)
        check(shared["shared_tokens"] > 0.5, f"{preset}: {shared}")
        _, shared = evaluate_both(folder, f"{preset} image", model, folder / "image.jsonl", "--adapter", adapter)
        check(shared["shared_tokens"] > 0.5, f"{preset}: {shared}")
    model = root / "e2b" / "model"
    adapter = folder / "e2b-image-shared"
    _, shared = evaluate_both(folder, "pairs", model, folder / "pairs.jsonl", "--adapter", adapter, "--pairs")
    check(shared["shared_tokens"] > 0.3, f"the prompt of a pair is shared: {shared}")
    evaluate_both(folder, "everything scored", model, folder / "text.jsonl", "--adapter", adapter, "--train-on-inputs")
    check_evaluate_auto(folder, model)
    check_evaluate_bad_image(folder, model, adapter)
    check_evaluate_in_bfloat16(folder, model)


def check_evaluate_auto(folder, model):
    """Shares where that pays, and says so; samples with nothing in common go through one at a time, to the bit."""
    _, wanted = evaluate(folder, model, folder / "text.jsonl", "true")
    summary, found = evaluate(folder, model, folder / "text.jsonl", "auto")
    check(summary["shares_prefixes"] and found == wanted, f"auto shares: {summary}")
    text = bezel("evaluate", "--model", model, "--data", folder / "text.jsonl", "--threads", 1).stdout
    check(f"share_prefixes: {100 * summary['shared_tokens']:.1f} %" in text, f"evaluate says so: {text}")
    strangers = write(folder / "strangers.jsonl", [{"messages": chat("", f"{answer(i)} {i}?", answer(i + 3))["messages"]} for i in range(5)])
    _, wanted = evaluate(folder, model, strangers, "false")
    summary, found = evaluate(folder, model, strangers, "auto")
    check(not summary["shares_prefixes"] and found == wanted, f"auto leaves strangers apart: {summary}")


def check_evaluate_bad_image(folder, model, adapter):
    """One that cannot be decoded takes no other with it."""
    whole = (folder / "0.png").read_bytes()
    (folder / "bad.png").write_bytes(whole[: len(whole) // 2])
    rows = image_rows(folder, 9)
    rows.insert(4, chat("", "What is in it, question 4?", "nothing", "bad.png"))
    data = write(folder / "bad.jsonl", rows)
    flags = ("--adapter", adapter, "--skip-bad-samples")
    apart, shared = evaluate_both(folder, "with a damaged image", model, data, *flags)
    check(shared["samples"] == apart["samples"] == 9 and shared["samples_left_out"] == 1, f"left out: {shared}, apart {apart}")
    text = bezel("evaluate", "--model", model, "--data", data, "--share-prefixes", "true", "--max-soft-tokens", 70, code=3).stderr
    check("bad.jsonl:5" in text, f"without --skip-bad-samples: {text}")


def check_evaluate_in_bfloat16(folder, model):
    """Both ways are as far from float32."""
    _, exact = evaluate(folder, model, folder / "text.jsonl", "false")
    off = lambda found: (sum((found[line]["base"]["loss"] / exact[line]["base"]["loss"] - 1) ** 2 for line in exact) / len(exact)) ** 0.5
    apart, shared = (off(evaluate(folder, model, folder / "text.jsonl", shares, dtype="bfloat16")[1]) for shares in ("false", "true"))
    print(f"evaluate in bfloat16: {shared:.1e} from float32, samples apart {apart:.1e}", flush=True)
    check(shared <= 1.5 * apart, f"evaluate in bfloat16: {shared}, samples apart {apart}")


def eval_rows(folder, name, model, **flags):
    train(folder, name, model, folder / "text.jsonl", **flags, dtype="float32", max_steps=2, eval_steps=1, lora_dropout=0.1)
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "eval_loss" in row]


def check_evaluations_of_a_run(folder, model):
    """Dropout keeps the updates from sharing, so that they are the same to the bit, and the evaluations share."""
    held_out = text_rows(30)[1::2] + text_rows(30)[::2]
    for name, rows, flags in (("text", held_out, {"packing": "false"}), ("packed", held_out, {"packing": "true", "max_seq_length": 512}),
                              ("dpo", pair_rows(9), {"objective": "dpo"}), ("orpo", pair_rows(9), {"objective": "orpo"})):
        data = write(folder / f"held-out-{name}.jsonl", rows)
        if "objective" in flags:
            write(folder / "text.jsonl", pair_rows())
        apart = eval_rows(folder, f"eval-{name}-apart", model, eval_file=data, share_prefixes="false", **flags)
        shared = eval_rows(folder, f"eval-{name}-shared", model, eval_file=data, share_prefixes="auto", **flags)
        check(len(apart) == len(shared) == 2, f"evaluations: {apart}, {shared}")
        for one, other in zip(shared, apart):
            error = abs(one["eval_loss"] / other["eval_loss"] - 1)
            print(f"evaluation of a run, {name}: loss {error:.1e}", flush=True)
            check(error <= LOSS, f"{name}: {one}, apart {other}")
            check(one.get("eval_mean_token_accuracy") == other.get("eval_mean_token_accuracy"), f"{name}: {one}, apart {other}")
        said = bezel("preprocess", "--base-model", model, "--train-file", folder / "text.jsonl", "--eval-file", data, "--output-dir", folder / "out", "--dry-run",
                     "--objective", flags.get("objective", "sft")).stdout
        check("of the tokens of an evaluation" in said, f"{name}: preprocess: {said}")


def check_bench(folder, root):
    """Rows that begin alike through `bezel bench`: the same first loss, and the tokens that are spared."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    model = root / "e2b" / "model"
    ids = torch.randint(30, 200, (6, 80))  # below 30 are placeholders
    ids[:, :60] = ids[0, :60]
    labels = ids.clone()
    labels[:, :70] = -100
    save_file({"in.input_ids": ids, "in.labels": labels}, folder / "rows.safetensors")
    flags = ("bench", "--model", model, "--inputs", folder / "rows.safetensors", "--dtype", "float32", "--steps", 1, "--threads", 1, "--json")
    packed, shared = (json.loads(bezel(*flags, *more).stdout) for more in (("--packing",), ("--share-prefixes",)))
    error = abs(shared["losses"][0] / packed["losses"][0] - 1)
    print(f"bench: {100 * shared['shared_tokens']:.1f} % of the tokens spared, loss {error:.1e}")
    check(shared["tokens"] == packed["tokens"] == 480 and shared["label_tokens"] == packed["label_tokens"] == 60, f"bench: {shared}, packed {packed}")
    check(abs(shared["shared_tokens"] - 5 * 60 / 480) < 1e-9 and error <= LOSS, f"bench: {shared}, packed {packed}")
    twice = {key: torch.cat([tensor, tensor]) for key, tensor in load_file(root / "e2b" / "case-image.safetensors").items() if key.startswith("in.")}
    save_file(twice, folder / "rows.safetensors")  # an image each
    packed, shared = (json.loads(bezel(*flags, *more).stdout) for more in (("--packing",), ("--share-prefixes",)))
    error = abs(shared["losses"][0] / packed["losses"][0] - 1)
    print(f"bench of images: {100 * shared['shared_tokens']:.1f} % of the tokens spared, loss {error:.1e}")
    check(shared["label_tokens"] == packed["label_tokens"] > 0 and abs(shared["shared_tokens"] - 0.5) < 1e-9 and error <= LOSS, f"bench of images: {shared}, packed {packed}")
    text = bezel("bench", "--model", model, "--share-prefixes", code=2).stderr
    check("--inputs" in text, f"bench without inputs: {text}")
    text = bezel(*flags, "--share-prefixes", "--decode", 3, code=2).stderr
    check("--share-prefixes" in text, f"bench of decoding: {text}")


def check_preprocess(folder, model):
    rows = [chat(system(1), f"{i} is the number", answer(i)) for i in range(8)]
    data = write(folder / "alike.jsonl", rows)
    flags = ("--base-model", model, "--train-file", data, "--output-dir", folder / "out", "--packing", "false", "--micro-batch-size", 8,
             "--gradient-accumulation-steps", 1, "--shuffle", "false")
    report = json.loads(bezel("preprocess", *flags, "--show", 8, "--dry-run", "--json").stdout)
    ids = [sample["input_ids"] for sample in report["samples"]]
    alike = next(i for i, tokens in enumerate(zip(*ids)) if len(set(tokens)) > 1)
    wanted = 7 * alike / sum(map(len, ids))
    said = report["run"]["shared_tokens"]
    check(report["run"]["shares_prefixes"] and wanted - 7 * max(16, alike / 8) / sum(map(len, ids)) <= said <= wanted, f"preprocess says {said}, counted {wanted}")
    text = bezel("preprocess", *flags, "--dry-run").stdout
    check(f"{100 * said:.1f} % of the tokens" in text, f"preprocess: {text}")
    text = bezel("preprocess", *flags, "--lora-dropout", 0.1, "--dry-run").stdout
    check("lora_dropout" in text and "computed by itself" in text, f"preprocess with dropout: {text}")
    print(f"preprocess: {said:.3f} of the tokens, counted {wanted:.3f}")


def check_refusals(folder, model):
    data = write(folder / "alike.jsonl", text_rows(4))
    flags = ("--base-model", model, "--train-file", data, "--output-dir", folder / "refused", "--share-prefixes", "true")
    for key, value in (("lora-dropout", 0.1), ("neftune-noise-alpha", 5)):
        text = bezel("train", *flags, f"--{key}", value, code=2).stderr
        check("share_prefixes" in text and key.replace("-", "_") in text, f"{key}: {text}")


def check_resume(folder):
    folder = folder / "resume"
    folder.mkdir()
    runs = Runs(BIN / "bezel", folder, lora_dropout=0, packing="false", max_seq_length=512)
    write(folder / "train.jsonl", [chat(system(1 + i % 5), f"Number {i}?", answer(i)) for i in range(22)])
    text = runs.run("whole")
    check("need not be computed" in text and "stay together" in text, f"the run says so: {text}")
    wanted = runs.results("whole")
    code, _ = runs.run_until("stopped", "saved " + str(folder / "stopped" / "checkpoint-6"), kill)
    check(code != 0, "the run was killed")
    text = runs.run("stopped", "--resume-from-checkpoint=auto", share_prefixes="false", expect=2)
    check("share_prefixes: was auto, is false" in text, f"another way to share is another run: {text}")
    runs.run("stopped", "--resume-from-checkpoint=auto")
    runs.same("stopped", wanted)
    print("resume: the same bytes")


def main():
    root = reference(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_presets(folder, root)
        check_evaluate(folder, root)
        check_evaluations_of_a_run(folder, root / "e2b" / "model")
        check_bench(folder, root)
        check_preprocess(folder, root / "e2b" / "model")
        check_refusals(folder, root / "e2b" / "model")
        check_resume(folder)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
