"""Training by preference against TRL 1.16.0 on transformers + PEFT: losses, metrics and gradients of one batch, the losses of
six steps with pictures, and the reference that is kept beside the run; then the forms of pairs, resumed runs, what is shown
of them, and what is refused.

    preferences.py BEZEL_FOLDER TEST_FOLDER

Bounds in float32: loss and metrics of a batch 2e-5 (relative above 1), gradients 1e-2 of their norm, losses of six steps
5e-3. Gradients are read off one step of AdamW with an epsilon of 1, lr 10 and no clipping: u = lr g / (|g| + 1).
"""
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import Gemma4ForConditionalGeneration

import _trl
from _reference import BIN, ROOT, bezel, check, finish, reference
from _runs import Runs, kill

sys.path.insert(0, str(ROOT / "tools"))
import make_reference  # noqa: E402

LANGUAGE = r"model\.language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
VISION = LANGUAGE + r"|model\.vision_tower\.encoder\.layers\.\d+\.self_attn\.(q|v)_proj\.linear"
PAIRS = [("Name three primes.", "2, 3 and 5 are primes; so is 7.", "9."),
         ("Is 91 prime?", "No, it is 7 times 13.", "Yes, it is a prime, and a large one."),
         ("Count from one to nine, slowly.", "1, 2, 3, 4, 5, 6, 7, 8, 9.", "nine eight one")]
ONE_BATCH = ["--dtype", "float32", "--max-steps", "1", "--learning-rate", "10", "--lr-scheduler", "constant", "--adam-epsilon", "1",
             "--max-grad-norm", "0", "--gradient-accumulation-steps", "1", "--shuffle", "false", "--sample-predictions", "0",
             "--save-steps", "0", "--report-to", "jsonl"]
REFERENCE = "reference_logps.safetensors"
RESUME = "--resume-from-checkpoint=auto"


def chat(prompt, answer):
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_pairs(path, pairs=PAIRS):
    return write_lines(path, [{"prompt": chat(p, "")[:1], "chosen": chat(p, c)[1:], "rejected": chat(p, r)[1:]} for p, c, r in pairs])


class Reference:
    """A tiny checkpoint, an adapter with B != 0, and their log probabilities by transformers."""

    def __init__(self, folder, targets=LANGUAGE):
        self.base = reference(0) / "e2b" / "model"
        self.tokenizer = Tokenizer.from_file(str(self.base / "tokenizer.json"))
        self.adapter = folder / "adapter"
        model = Gemma4ForConditionalGeneration.from_pretrained(self.base, attn_implementation="eager", dtype=torch.float32).eval()
        peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, tensor in peft.named_parameters():
                if "lora_" in name:
                    tensor.copy_((0.1 if "lora_B" in name else 1) * torch.randn(tensor.shape, generator=generator) * tensor.shape[1] ** -0.5)
        peft.save_pretrained(self.adapter)
        self.model = peft

    def row(self, prompt, answer):
        """Ids, and 1 where the answer is: up to the token that ends its turn, without the line's end behind it."""
        asked = self.tokenizer.encode(f"<bos><|turn>user\n{prompt}<turn|>\n<|turn>model\n", add_special_tokens=False).ids
        whole = self.tokenizer.encode(f"<bos><|turn>user\n{prompt}<turn|>\n<|turn>model\n{answer}<turn|>\n", add_special_tokens=False).ids
        assert whole[:len(asked)] == asked
        return whole, [0] * len(asked) + [1] * (len(whole) - len(asked) - 1) + [0]

    def rows(self, texts):
        rows = [self.row(*text) for text in texts]
        width = max(len(ids) for ids, _ in rows)
        pad = lambda lists: torch.tensor([values + [0] * (width - len(values)) for values in lists])
        return {"input_ids": pad([ids for ids, _ in rows]), "attention_mask": pad([[1] * len(ids) for ids, _ in rows]),
                "completion_mask": pad([mask for _, mask in rows])}

    def logits(self, rows, **media):
        types = media.pop("mm_token_type_ids", torch.zeros_like(rows["input_ids"]))
        return self.model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], mm_token_type_ids=types, use_cache=False,
                          **media).logits

    def base_logps(self, rows, **media):
        with torch.no_grad(), self.model.disable_adapter():
            return log_probs(self.logits(rows, **media), rows).sum(1)

    def gradients(self, loss):
        self.model.zero_grad()
        loss.backward()
        return {name.replace(".default", ""): tensor.grad.clone() for name, tensor in self.model.named_parameters() if tensor.grad is not None}


def log_probs(logits, rows):
    """Of the answers' tokens, 0 elsewhere: [B, T - 1]."""
    picked = logits[:, :-1].log_softmax(-1).gather(2, rows["input_ids"][:, 1:, None])[..., 0]
    return picked * rows["completion_mask"][:, 1:]


def metrics_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def train(out, base, data, adapter, *extra, code=0):
    done = bezel("train", "--base-model", base, "--train-file", data, "--output-dir", out, *(["--init-adapter", adapter] if adapter else []),
                 *extra, code=code)
    return done.stderr


def edit_reference(out, logps):
    """Puts other log probabilities into the file that a run has left, as if another model were the reference."""
    path = out / REFERENCE
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    was = load_file(path)["logps"]
    assert was.shape == logps.shape and was.dtype == torch.float32, (was, logps)
    metadata["sha256"] = hashlib.sha256(logps.numpy().tobytes()).hexdigest()
    save_file({"logps": logps.contiguous()}, path, metadata)
    return was


def close(got, wanted, bound):
    return abs(got - wanted) <= bound * max(1.0, abs(wanted))


def check_gradients(name, out, start, wanted):
    begin, end = load_file(start / "adapter_model.safetensors"), load_file(out / "adapter_model.safetensors")
    assert begin.keys() == end.keys() == wanted.keys(), (len(begin), len(end), len(wanted))
    step = {key: (begin[key] - end[key]) / 10 for key in begin}
    got = {key: value / (1 - value.abs()) for key, value in step.items()}
    norm = torch.cat([value.flatten() for value in wanted.values()]).norm()
    error = torch.cat([(got[key] - wanted[key]).flatten() for key in wanted]).norm() / norm
    worst = max(((got[key] - wanted[key]).norm() / wanted[key].norm().clamp(min=1e-3 * norm)).item() for key in wanted)
    print(f"{name}: gradients {error.item():.1e}, worst tensor {worst:.1e}")
    check(error <= 1e-2 and worst <= 5e-2, f"{name}: gradients {error.item():.1e}, worst {worst:.1e}")


def check_batch(name, ref, out, data, flags, wanted, metrics, gradients):
    row = metrics_of(out)[0]
    errors = {"loss": abs(row["loss"] - wanted) / max(1.0, abs(wanted))}
    for key, value in metrics.items():
        check(key in row, f"{name}: no {key} in metrics.jsonl")
        errors[key] = abs(row.get(key, 1e9) - value) / max(1.0, abs(value))
    print(f"{name}: loss {wanted:.6f}, errors", " ".join(f"{key} {value:.1e}" for key, value in errors.items()))
    for key, error in errors.items():
        check(error <= 2e-5, f"{name}: {key} is {row.get(key)}, wanted {wanted if key == 'loss' else metrics[key]}")
    check_gradients(name, out, ref.adapter, gradients)


REPORTED = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected", "kl",
            "nll_loss", "log_odds_ratio", "log_odds_chosen")


def reported(metrics):
    return {key: value for key, value in metrics.items() if key in REPORTED}


def compare_pairs(ref, folder):
    data = write_pairs(folder / "pairs.jsonl")
    rows = ref.rows([(p, c) for p, c, _ in PAIRS] + [(p, r) for p, _, r in PAIRS])
    base = ref.base_logps(rows)
    interleaved = base.view(2, -1).T.flatten()
    flags = ["--micro-batch-size", str(len(PAIRS)), *ONE_BATCH]
    dpo = {"dpo": ([], {}),
           "dpo-beta": (["--beta", "0.7"], {"beta": 0.7}),
           "hinge": (["--dpo-loss", "hinge"], {"losses": ["hinge"]}),
           "ipo": (["--loss-type", "ipo", "--beta", "0.3"], {"losses": ["ipo"], "beta": 0.3}),
           "list": (["--dpo-loss", "[sigmoid, ipo, sft]", "--loss-weights", "[0.8, 0.2, 1.5]"],
                    {"losses": ["sigmoid", "ipo", "sft"], "weights": [0.8, 0.2, 1.5]}),
           "rpo": (["--rpo-alpha", "0.5"], {"losses": ["sigmoid", "sft"], "weights": [1.0, 0.5]})}
    first = True
    for name, (extra, settings) in dpo.items():
        out = folder / name
        train(out, ref.base, data, ref.adapter, "--objective", "dpo", *flags, *extra)
        logits = ref.logits(rows)
        if first:  # the reference is the adapter that the run began from
            own = log_probs(logits, rows).sum(1).detach().view(2, -1).T.flatten()
            kept = load_file(out / REFERENCE)["logps"]
            check((kept - own).abs().max() <= 2e-5 * own.abs().max(), f"kept reference: {kept} and {own}")
            check(close(metrics_of(out)[0]["loss"], 0.6931472, 2e-5), "the loss of a model that is its reference is log 2")
            first = False
        edit_reference(out, interleaved)
        train(out, ref.base, data, ref.adapter, "--objective", "dpo", *flags, *extra)
        loss, metrics = _trl.dpo(log_probs(logits, rows), rows, base, **settings)
        check_batch(name, ref, out, data, extra, loss.item(), reported(metrics), ref.gradients(loss))
    plain = {"orpo": ([], lambda logits: _trl.orpo(logits, rows)),
             "orpo-beta": (["--orpo-alpha", "0.6"], lambda logits: _trl.orpo(logits, rows, beta=0.6)),
             "simpo": (["--beta", "2", "--simpo-gamma", "1"], lambda logits: _trl.simpo(logits, rows, beta=2, gamma=1)),
             "cpo-simpo": (["--cpo-alpha", "0.5", "--label-smoothing", "0.1"],
                           lambda logits: _trl.simpo(logits, rows, cpo_alpha=0.5, label_smoothing=0.1))}
    for name, (extra, golden) in plain.items():
        out = folder / name
        train(out, ref.base, data, ref.adapter, "--objective", name.split("-")[0].replace("cpo", "simpo"), *flags, *extra)
        check(not (out / REFERENCE).exists(), f"{name} needs no reference")
        loss, metrics = golden(ref.logits(rows))
        if name == "simpo":
            metrics.pop("nll_loss")  # TRL computes it for cpo_alpha only, and reports the zero that it is without
        check_batch(name, ref, out, data, extra, loss.item(), reported(metrics), ref.gradients(loss))
    smoothed(ref, folder, data, rows, base, flags, interleaved)


def smoothed(ref, folder, data, rows, base, flags, interleaved):
    """The conservative loss, which TRL 1.16 has for CPO alone: its sigmoid over the differences of log ratios."""
    out = folder / "smoothed"
    extra = ["--label-smoothing", "0.2"]
    train(out, ref.base, data, ref.adapter, "--objective", "dpo", *flags, *extra)
    edit_reference(out, interleaved)
    train(out, ref.base, data, ref.adapter, "--objective", "dpo", *flags, *extra)
    chosen, rejected = (log_probs(ref.logits(rows), rows).sum(1) - base).chunk(2)
    fake = _trl.trainer(beta=0.1, loss_type="sigmoid", alpha=0.0, label_smoothing=0.2)
    loss = _trl.CPOTrainer.cpo_loss(fake, chosen, rejected)[0].mean()
    check_batch("smoothed", ref, out, data, extra, loss.item(), {}, ref.gradients(loss))


def labelled_golden(ref, group):
    """Loss, metrics, and the base's log probabilities in the order in which Bezel keeps them."""
    rows = ref.rows([(p, a) for p, a, _ in group])
    other = ref.rows([(p, group[i - 1][1]) for i, (p, _, _) in enumerate(group)])
    bases = ref.base_logps(rows), ref.base_logps(other)
    with torch.no_grad():
        kl = log_probs(ref.logits(other), other).sum(1)
    labels = torch.tensor([label for _, _, label in group])
    loss, metrics = _trl.kto(log_probs(ref.logits(rows), rows), rows, labels, bases[0], kl, bases[1], beta=0.4, desirable=1.3, undesirable=0.7)
    return loss, metrics, torch.stack(bases, 1).flatten()


def compare_labelled(ref, folder):
    """One micro-batch, and two of an update, where the divergence is of each by itself, as in TRL."""
    answers = [(p, c, True) for p, c, _ in PAIRS] + [(p, r, False) for p, _, r in PAIRS]
    answers = [answers[i] for i in (0, 3, 1, 4, 5, 2)]
    flags = ["--objective", "kto", "--micro-batch-size", "3", *ONE_BATCH, "--beta", "0.4", "--desirable-weight", "1.3",
             "--kto-undesirable-weight", "0.7"]
    for name, groups in (("kto", [answers[:3]]), ("kto-two", [answers[:3], answers[3:]])):
        data = write_lines(folder / f"{name}.jsonl", [{"prompt": chat(p, "")[:1], "completion": chat(p, a)[1:], "label": label}
                                                      for group in groups for p, a, label in group])
        extra = [len(groups) if flag == "1" and flags[i - 1] == "--gradient-accumulation-steps" else flag for i, flag in enumerate(flags)]
        found = [labelled_golden(ref, group) for group in groups]
        out = folder / name
        train(out, ref.base, data, ref.adapter, *extra)
        edit_reference(out, torch.cat([bases for _, _, bases in found]))
        train(out, ref.base, data, ref.adapter, *extra)
        loss = sum(loss for loss, _, _ in found) / len(found)
        metrics = reported(found[0][1]) if len(found) == 1 else {"kl": sum(m["kl"] for _, m, _ in found) / len(found)}
        check(metrics["kl"] > 0, f"{name}: a divergence above zero")
        check_batch(name, ref, out, data, flags, loss.item(), metrics, ref.gradients(loss))


def picture_processor(base, folder):
    from transformers import Gemma4Processor
    from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

    tokenizer, fast = make_reference.build_tokenizer(folder)
    assert fast.get_vocab() == Tokenizer.from_file(str(base / "tokenizer.json")).get_vocab()
    tokenizer.padding_side = "right"
    return Gemma4Processor(Gemma4AudioFeatureExtractor(), Gemma4ImageProcessorPil(max_soft_tokens=70), tokenizer, None, image_seq_length=70)


def picture_rows(processor, texts, images):
    """Rows as Reference.rows has them, and what a model needs beside."""
    def process(strings):
        out = dict(processor(text=strings, images=[[image] for image in images], return_tensors="pt", add_special_tokens=False, padding=True))
        out.pop("num_soft_tokens_per_image", None)
        return out

    prompts = [f"<bos><|turn>user\n<|image|>{prompt}<turn|>\n<|turn>model\n" for prompt, _ in texts]
    asked = process(prompts)["attention_mask"].sum(1)
    inputs = process([prompt + f"{answer}<turn|>\n" for prompt, (_, answer) in zip(prompts, texts)])
    rows = {"input_ids": inputs.pop("input_ids"), "attention_mask": inputs.pop("attention_mask")}
    place = torch.arange(rows["input_ids"].shape[1])[None]
    rows["completion_mask"] = ((place >= asked[:, None]) & (place < rows["attention_mask"].sum(1)[:, None] - 1)).long()
    return rows, inputs


def compare_pictures(folder):
    """Six updates over pairs with an image each, both towers adapted, as AdamW of PyTorch makes them."""
    folder = folder / "images"
    folder.mkdir()
    ref = Reference(folder, VISION)
    processor = picture_processor(ref.base, folder)
    asked = [("What is in the image?", "Waves of color.", "Nothing."), ("Describe it.", "A pattern.", "A dog in the park runs."),
             ("Which color?", "Many.", "None at all, it is dark."), ("Is it large?", "No, it is small.", "Yes.")]
    # Sizes that stay as they are: Bezel scales as torch does, and this processor as Pillow, up to three levels apart.
    images = [make_reference.test_image(w, h, i) for i, (w, h) in enumerate([(480, 336), (384, 384), (336, 480), (672, 240)])]
    for i, image in enumerate(images):
        image.save(folder / f"{i}.png")
    forms = [lambda p, c, r, i: {"images": [f"{i}.png"], "prompt": chat(p, "")[:1], "chosen": chat(p, c)[1:], "rejected": chat(p, r)[1:]},
             lambda p, c, r, i: {"images": [f"{i}.png"], "conversations": [{"from": "human", "value": "<image>" + p}],
                                 "chosen": {"from": "gpt", "value": c}, "rejected": {"from": "gpt", "value": r}}]
    data = write_lines(folder / "images.jsonl", [forms[i % 2](p, c, r, i) for i, (p, c, r) in enumerate(asked)])
    texts = [asked[i][:2] for i in range(4)] + [(asked[i][0], asked[i][2]) for i in range(4)]
    rows, media = picture_rows(processor, texts, images * 2)
    one = folder / "one"
    for _ in range(2):  # the second time beside the base's log probabilities
        train(one, ref.base, data, ref.adapter, "--objective", "dpo", "--micro-batch-size", "4", *ONE_BATCH)
        base = ref.base_logps(rows, **dict(media))
        edit_reference(one, base.view(2, -1).T.flatten())
    loss, metrics = _trl.dpo(log_probs(ref.logits(rows, **dict(media)), rows), rows, base)
    check_batch("images-batch", ref, one, data, [], loss.item(), reported(metrics), ref.gradients(loss))
    ref.model.zero_grad()
    out = folder / "out"
    train(out, ref.base, data, ref.adapter, "--objective", "dpo", "--beta", "0.1", "--dtype", "float32", "--max-steps", "6", "--learning-rate",
          "2e-5", "--lr-scheduler", "constant", "--micro-batch-size", "2", "--gradient-accumulation-steps", "1", "--shuffle", "false",
          "--sample-predictions", "0", "--save-steps", "0", "--report-to", "jsonl")
    got = metrics_of(out)
    batches = []
    for group in ((0, 1), (2, 3)):
        texts = [asked[i][:2] for i in group] + [(asked[i][0], asked[i][2]) for i in group]
        rows, media = picture_rows(processor, texts, [images[i] for i in group] * 2)
        with torch.no_grad():
            batches.append((rows, media, log_probs(ref.logits(rows, **dict(media)), rows).sum(1)))
    params = [p for p in ref.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=2e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    worst, losses = 0.0, []
    for step in range(6):
        rows, media, reference_logps = batches[step % 2]
        loss, metrics = _trl.dpo(log_probs(ref.logits(rows, **dict(media)), rows), rows, reference_logps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        worst = max(worst, abs(got[step]["loss"] - loss.item()))
        check(abs(got[step]["rewards/margins"] - metrics["rewards/margins"]) <= 2e-2, f"images, step {step + 1}: margin")
    print(f"images: losses {' '.join(f'{loss:.4f}' for loss in losses)}, worst error {worst:.1e}")
    check(worst <= 5e-3 and losses[4] < 0.97 * losses[0], f"images: losses {losses}, worst error {worst:.1e}")


def shown(base, data, *flags):
    out = bezel("preprocess", "--base-model", base, "--train-file", data, "--output-dir", data.parent / "none", "--show", "9", "--json", *flags)
    return json.loads(out.stdout)["samples"]


def check_forms(ref, folder):
    """Every form of a pair is the same rows, whose ids are those of the tokenizer and whose loss lies on the answer."""
    prompt, good, bad = PAIRS[0]
    asked, chosen, rejected = chat(prompt, "")[:1], chat(prompt, good)[1:], chat(prompt, bad)[1:]
    lines = [{"prompt": asked, "chosen": chosen, "rejected": rejected}, {"chosen": asked + chosen, "rejected": asked + rejected},
             {"prompt": prompt, "chosen": asked + chosen, "rejected": asked + rejected, "score_chosen": 1.0, "messages": asked + chosen},
             {"messages": asked, "chosen": chosen[0], "rejected": rejected[0]}, {"instruction": prompt, "chosen": good, "rejected": bad},
             {"conversations": [{"from": "human", "value": prompt}], "chosen": {"from": "gpt", "value": good}, "rejected": {"from": "gpt", "value": bad}}]
    rows = shown(ref.base, write_lines(folder / "forms.jsonl", lines), "--objective", "dpo")
    check(len(rows) == 2 * len(lines), f"{len(rows)} rows shown")
    for i, row in enumerate(rows):
        ids, mask = ref.row(prompt, bad if i % 2 else good)
        check(row["input_ids"] == ids and row["learnt"] == [bool(m) for m in mask], f"form {i // 2}: {row['text']}")
        check(row["answer"] == ("rejected" if i % 2 else "chosen"), f"form {i // 2}: {row['answer']}")
    # LLaMA-Factory's names of columns.
    write_lines(folder / "renamed.jsonl", [{"ask": prompt, "good": good, "bad": bad}])
    (folder / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "renamed.jsonl", "ranking": True,
                                                                   "columns": {"prompt": "ask", "chosen": "good", "rejected": "bad"}}}))
    done = bezel("preprocess", "--base-model", ref.base, "--dataset", "mine", "--dataset-dir", folder, "--output-dir", folder / "none", "--show", "1",
                 "--json", "--stage", "dpo")
    check([row["input_ids"] for row in json.loads(done.stdout)["samples"]] == [row["input_ids"] for row in rows[:2]], "dataset_info.json")
    # Pairs are good and bad answers to KTO, good ones first.
    kto = shown(ref.base, folder / "forms.jsonl", "--objective", "kto", "--micro-batch-size", "2")
    check([row["answer"] for row in kto] == ["desirable"] * 6 + ["undesirable"] * 3, f"kto: {[row['answer'] for row in kto]}")
    check(kto[0]["input_ids"] == rows[0]["input_ids"] and kto[6]["input_ids"] == rows[1]["input_ids"], "kto: rows of a pair")
    # ORPO learns the prompt of the chosen answer, too.
    orpo = shown(ref.base, folder / "forms.jsonl", "--objective", "orpo")
    check(all(orpo[0]["learnt"][1:]) and orpo[1]["learnt"] == rows[1]["learnt"], "orpo: what carries loss")
    counted = json.loads(bezel("preprocess", "--base-model", ref.base, "--train-file", folder / "forms.jsonl", "--output-dir", folder / "none",
                               "--objective", "orpo", "--dry-run", "--json").stdout)["train"]["label_tokens"]
    check(counted == sum(sum(row["learnt"][1:]) for row in orpo), f"orpo: preprocess counts {counted} labels")
    terminal = bezel("preprocess", "--base-model", ref.base, "--train-file", folder / "forms.jsonl", "--output-dir", folder / "none", "--show", "1",
                     "--objective", "dpo", "--color", "never").stdout
    for part in ("forms.jsonl:1, chosen: ", "forms.jsonl:1, rejected: ", f"⟦{good}<turn|>⟧", f"⟦{bad}<turn|>⟧"):
        check(part in terminal, f"preprocess does not say {part}: {terminal}")


def check_audio_clips(ref, folder):
    """Pairs with an audio clip in the prompt, which both answers hear: as many soft tokens in both rows, and a run."""
    import soundfile

    soundfile.write(folder / "tone.wav", make_reference.test_audio(1.0, 3), 16000)
    asked = [{"role": "user", "content": [{"type": "audio", "path": "tone.wav"}, {"type": "text", "text": "What is it?"}]}]
    data = write_lines(folder / "tones.jsonl", [{"prompt": asked, "chosen": chat("", "A tone.")[1:], "rejected": chat("", "A bell.")[1:]}] * 2)
    chosen, rejected = shown(ref.base, data, "--objective", "dpo")[:2]
    check(chosen["media"] == rejected["media"] and chosen["media"][0]["soft_tokens"] > 5, f"audio clip: {chosen['media']}")
    train(folder / "tones", ref.base, data, None, "--objective", "dpo", "--dtype", "float32", "--max-steps", "2", "--lora-towers",
          "language,audio", "--learning-rate", "1e-3", "--sample-predictions", "0", "--micro-batch-size", "2", "--gradient-accumulation-steps", "1")
    rows = metrics_of(folder / "tones")
    check(close(rows[0]["loss"], 0.6931472, 2e-5) and rows[1]["loss"] < rows[0]["loss"], f"audio clips: {rows}")


def check_evaluate(ref, folder):
    data = write_pairs(folder / "scored.jsonl")
    scores = folder / "scores.jsonl"
    done = bezel("evaluate", "--model", ref.base, "--data", data, "--adapter", ref.adapter, "--pairs", "--json", "--per-sample", scores, "--dtype",
                 "float32")
    got, lines = json.loads(done.stdout), [json.loads(line) for line in scores.read_text().splitlines()]
    rows = ref.rows([(p, c) for p, c, _ in PAIRS] + [(p, r) for p, _, r in PAIRS])
    base = ref.base_logps(rows).view(2, -1)
    with torch.no_grad():
        tuned = log_probs(ref.logits(rows), rows).sum(1).view(2, -1)
    for name, wanted in (("base", base), ("adapter", tuned)):
        for i, line in enumerate(lines):
            for side, key in enumerate(("chosen", "rejected")):
                check(close(line[name][key], wanted[side, i].item(), 2e-5), f"evaluate, {name}, {key} of pair {i}: {line[name]}")
        check(close(got[name]["preference_accuracy"], (wanted[0] > wanted[1]).float().mean().item(), 1e-6), f"evaluate, {name}: accuracy")
    margin = (tuned - base)[0] - (tuned - base)[1]
    check(close(got["reward"]["margin"], margin.mean().item(), 1e-4), "evaluate: margin")
    check(close(got["reward"]["accuracy"], (margin > 0).float().mean().item(), 1e-6), "evaluate: reward accuracy")


def many_pairs(path, count=13):
    words = "a cup of tea on the sofa and two cats in the rain".split()
    return write_lines(path, [{"prompt": chat(f"Number {i}?", "")[:1], "chosen": chat("", " ".join(words[i % 5:i % 5 + 2 + i % 7]))[1:],
                               "rejected": chat("", " ".join(words[i % 3:i % 3 + 1 + i % 4][::-1]))[1:]} for i in range(count)])


def keep_half(path):
    """As a killed run leaves it: only some answers are there."""
    values = load_file(path)["logps"].clone()
    values[len(values) // 2:] = float("nan")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    metadata["sha256"] = hashlib.sha256(values.numpy().tobytes()).hexdigest()
    save_file({"logps": values}, path, metadata)


def check_resume(folder):
    folder = folder / "resume"
    folder.mkdir()
    many_pairs(folder / "pairs.jsonl")
    for objective in ("dpo", "kto"):
        runs = Runs(BIN / "bezel", folder, objective=objective, packing="false", beta=0.5, train_file=folder / "pairs.jsonl",
                    report_to="jsonl,html")
        whole, stopped = f"{objective}-whole", f"{objective}-stopped"
        runs.run(whole)
        wanted = runs.results(whole)
        kept = (folder / whole / REFERENCE).read_bytes()
        code, _ = runs.run_until(stopped, "saved " + str(folder / stopped / "checkpoint-6"), kill)
        check(code != 0, f"{objective}: the run was killed")
        runs.run(stopped, RESUME)
        runs.same(stopped, wanted)
        check((folder / stopped / REFERENCE).read_bytes() == kept, f"{objective}: the reference's file")
        # Lost, damaged or half-made, the file is made again, and the run is the same.
        for name, harm in (("lost", Path.unlink), ("damaged", lambda path: path.write_bytes(kept[:-5] + b"\x11" + kept[-4:])), ("half", keep_half)):
            out = f"{objective}-{name}"
            shutil.copytree(folder / whole, folder / out)
            harm(folder / out / REFERENCE)
            runs.run(out)
            runs.same(out, wanted)
            check((folder / out / REFERENCE).read_bytes() == kept, f"{objective}, {name}: the reference's file")
        page = (folder / whole / "report.html").read_text()
        check("Reward margin" in page and ("Preference accuracy" in page) == (objective == "dpo"), f"{objective}: report.html")
        evaluations = [row for row in wanted["metrics"] if "eval_loss" in row]
        check(all("eval_rewards/margins" in row for row in evaluations), f"{objective}: {evaluations}")


def check_from_adapter(folder):
    """Supervised training, then DPO from its adapter, which is the reference; a resumed run does without it as long as the
    reference's answers are there."""
    folder = folder / "from-adapter"
    folder.mkdir()
    many_pairs(folder / "pairs.jsonl")
    runs = Runs(BIN / "bezel", folder, packing="false")
    runs.run("sft", max_steps=4)
    flags = {"objective": "dpo", "train_file": folder / "pairs.jsonl", "init_adapter": folder / "sft", "lora_dropout": 0, "val_set_size": 0}
    del runs.flags["lora-r"], runs.flags["target-modules"]
    runs.run("dpo", **flags)
    first = metrics_of(folder / "dpo")[0]
    wanted = runs.results("dpo")
    code, _ = runs.run_until("stopped", "saved " + str(folder / "stopped" / "checkpoint-6"), kill, **flags)
    check(code != 0, "the run from an adapter was killed")
    shutil.move(folder / "sft", folder / "gone")
    shutil.copytree(folder / "stopped", folder / "bare")
    runs.run("stopped", RESUME, **flags)
    runs.same("stopped", wanted)
    (folder / "bare" / REFERENCE).unlink()
    said = runs.run("bare", RESUME, expect=2, **flags)
    check(REFERENCE in said and "is not there any more" in said, said)
    check(first["loss"] != 0, "the run trains")


def check_refused(ref, folder):
    pairs, chats = write_pairs(folder / "pairs.jsonl"), write_lines(folder / "chats.jsonl", [{"messages": chat("q", "a")}])
    for data, objective, code, parts in ((pairs, "sft", 3, ("pairs.jsonl:1", "'chosen'", "objective: dpo")),
                                         (chats, "dpo", 3, ("chats.jsonl:1", "'chosen'", "objective: sft")),
                                         (chats, "kto", 3, ("chats.jsonl:1", "'label'", "objective: sft")),
                                         (pairs, "grpo", 2, ("key 'objective'", "grpo", "docs/preferences.md"))):
        said = train(folder / "refused", ref.base, data, None, "--objective", objective, "--micro-batch-size", "2", code=code)
        for part in parts:
            check(part in said, f"objective {objective}: {said} does not say {part}")
    said = train(folder / "refused", ref.base, chats, None, "--beta", "0.3", code=2)
    check("key 'beta'" in said and "objective: sft does not use it" in said, said)
    # A pair whose prompt fills max_seq_length is left out and counted; one whose answer is too long is cut.
    long = write_lines(folder / "long.jsonl", [{"prompt": "x y " * 60, "chosen": " a", "rejected": " b"},
                                               {"prompt": "Say", "chosen": " a b c" * 30, "rejected": " d"}])
    out = json.loads(bezel("preprocess", "--base-model", ref.base, "--train-file", long, "--output-dir", folder / "none", "--dry-run", "--json",
                           "--objective", "dpo", "--max-seq-length", "64").stdout)
    check(out["train"]["samples"] == 1, f"overlong pairs: {out['train']}")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ref = Reference(folder)
        compare_pairs(ref, folder)
        compare_labelled(ref, folder)
        check_forms(ref, folder)
        check_audio_clips(ref, folder)
        check_evaluate(ref, folder)
        check_refused(ref, folder)
        compare_pictures(folder)
        check_resume(folder)
        check_from_adapter(folder)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
