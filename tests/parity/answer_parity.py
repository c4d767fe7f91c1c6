"""`bezel evaluate --generate` against transformers' `generate`: what base and adapter answer, and the exact matches, shares
and intervals that follow from it, computed here anew.

The expected answers are made from what transformers says: by the base, by the adapter, a part of it, in capitals, or
something else, so that every score has samples that it holds for and samples that it does not. Prompts at which the two
most probable tokens lie too close together for float32 (see generate_parity.py) are left out.

    answer_parity.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import math
import re
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from scipy import stats
from transformers import Gemma4ForConditionalGeneration

from _reference import ROOT, bezel, check, finish, reference

sys.path.insert(0, str(ROOT / "tools"))
import make_reference as made  # noqa: E402

COUNT, SAMPLES = 10, 10
STOP = [made.ID["<eos>"], made.ID["<turn|>"]]
SIZES = [(480, 336), (336, 480), (672, 240)]  # of 70 soft tokens as they are: Pillow and ATen resize with other roundings
WORDS = "cat mat sofa prime image garden french weather degrees sum stone ring".split()


def evaluate(*arguments, code=0):
    done = bezel("evaluate", *arguments, code=code)
    return done.stdout if code == 0 else done.stderr


def squeezed(text, ignore_case=False):
    text = re.sub(r"[ \t\n\r\f\v]+", " ", text).strip(" ")
    return re.sub("[A-Z]", lambda letter: letter[0].lower(), text) if ignore_case else text


def contains(said, expected):
    return expected in said if expected else not said


def interval(first, second):
    """Of the mean difference of pairs: the ordinary t interval, which the ratio's is for equal weights."""
    rest = [b - a for a, b in zip(first, second)]
    mean = sum(rest) / len(rest)
    half = stats.t.ppf(0.975, len(rest) - 1) * math.sqrt(sum((r - mean) ** 2 for r in rest) / (len(rest) - 1) / len(rest))
    return mean, mean - half, mean + half


class Preset:
    def __init__(self, root, name, tmp):
        self.name, self.model, self.adapter, self.tmp = name, root / name / "model", root / name / "adapter", tmp
        base = Gemma4ForConditionalGeneration.from_pretrained(self.model, attn_implementation="eager", dtype=torch.float32).eval()
        self.tuned = PeftModel.from_pretrained(base, self.adapter).eval()
        tokenizer = made.GemmaTokenizer.from_pretrained(self.model)
        audio = made.Gemma4AudioFeatureExtractor.from_pretrained(self.model) if name == "e2b" else made.Gemma4AudioFeatureExtractor()
        image = made.Gemma4ImageProcessorPil.from_pretrained(self.model)
        self.processor = made.Gemma4Processor(audio, image, tokenizer, None, image_seq_length=70)

    def say(self, text, image):
        """Text and the smallest margin of what the model, as it is now, answers; None when it holds special tokens."""
        raw = dict(text=[text], **({"images": [[image]]} if image else {}))
        made_here = dict(self.processor(**raw, return_tensors="pt", add_special_tokens=False))
        inputs = {key: torch.as_tensor(value) for key, value in made_here.items() if key != "num_soft_tokens_per_image"}
        out = self.tuned.generate(**inputs, max_new_tokens=COUNT, do_sample=False, pad_token_id=0, eos_token_id=STOP,
                                  return_dict_in_generate=True, output_logits=True)
        tops = [logits[0].topk(2).values for logits in out.logits]
        tokens = [t for t in out.sequences[0, inputs["input_ids"].shape[1]:].tolist() if t not in STOP]
        said = self.processor.tokenizer.decode(tokens, skip_special_tokens=False)
        return None if "<" in said else said.strip(" \t\n\r\f\v"), min((top[0] - top[1]).item() for top in tops)

    def question(self, i):
        """Messages, the prompt that the chat template makes of them, and an image for every fourth."""
        ask = f"{WORDS[i % len(WORDS)]} {i}, {WORDS[(5 * i + 2) % len(WORDS)]}?"
        messages, text = [{"role": "user", "content": ask}], f"<bos><|turn>user\n{ask}<turn|>\n"
        image = None
        if i % 4 == 1:
            image = made.test_image(*SIZES[i % 3], i)
            image.save(self.tmp / f"{i}.png")
            messages[0]["content"] = [{"type": "image", "path": f"{i}.png"}, {"type": "text", "text": ask}]
            text = f"<bos><|turn>user\n<|image|>{ask}<turn|>\n"
        if i % 4 == 2:  # an earlier turn of the model belongs to the prompt
            messages = [messages[0], {"role": "assistant", "content": "A cat."}, {"role": "user", "content": "And now?"}]
            text += "<|turn>model\nA cat.<turn|>\n<|turn>user\nAnd now?<turn|>\n"
        return messages, text + "<|turn>model\n" + ("" if self.name == "e2b" else "<|channel>thought\n<channel|>"), image

    def samples(self):
        rows, said = [], []
        for i in range(60):
            messages, text, image = self.question(i)
            adapter, margin = self.say(text, image)
            with self.tuned.disable_adapter():
                base, base_margin = self.say(text, image)
            if base is None or adapter is None or min(margin, base_margin) < 2 * (3e-3 if image else 3e-4) or len(base) < 8 or len(adapter) < 8:
                continue
            kind = len(rows) % 5
            expected = [base.replace(" ", " \n "), adapter, base[2:-2], adapter.swapcase(), "no such answer"][kind]
            rows.append({"messages": [*messages, {"role": "assistant", "content": expected}]})
            said.append({"prompt": text, "expected": expected.strip(" \t\n\r\f\v"), "base": base, "adapter": adapter})
            if len(rows) == SAMPLES:
                break
        check(len(rows) == SAMPLES, f"{self.name}: only {len(rows)} prompts are clear enough")
        return rows, said


def compare(preset):
    rows, wanted = preset.samples()
    data = preset.tmp / "data.jsonl"
    rows.append({"text": "No prompt here."})
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ("--model", preset.model, "--data", data, "--dtype", "float32", "--generate", "--max-new-tokens", COUNT)
    for extra in ((), ("--ignore-case",)):
        got = json.loads(evaluate(*common, *extra, "--adapter", preset.adapter, "--json", "--per-sample", preset.tmp / "out.jsonl"))
        lines = [json.loads(line) for line in (preset.tmp / "out.jsonl").read_text().splitlines()]
        check("prompt" not in lines.pop() and got["answers"]["samples"] == SAMPLES and got["answers"]["without_prompt"] == 1, "plain text has no prompt")
        scores = {model: {"exact_match": [], "contains": []} for model in ("base", "adapter")}
        for line, row in zip(lines, wanted, strict=True):
            check(line["prompt"] == row["prompt"] and line["expected"] == row["expected"], f"{preset.name}: prompt or answer of line {line['line']}: {line}")
            for model, lists in scores.items():
                check(line[model]["predicted"] == row[model], f"{preset.name}, {model}, line {line['line']}: {line[model]['predicted']!r}, not {row[model]!r}")
                said, expected = (squeezed(text, bool(extra)) for text in (row[model], row["expected"]))
                lists["exact_match"].append(said == expected)
                lists["contains"].append(contains(said, expected))
                check([line[model]["exact_match"], line[model]["contains"]] == [lists["exact_match"][-1], lists["contains"][-1]], f"scores of line {line['line']}")
        for score in ("exact_match", "contains"):
            values = {model: list(map(float, scores[model][score])) for model in scores}
            for model, list_ in values.items():
                check(0 < sum(list_) < SAMPLES, f"{preset.name}: {score} of {model} tells nothing")
                check(abs(got[model][score] - sum(list_) / SAMPLES) < 1e-12, f"{preset.name}: {score} of {model}")
            mine = [got[f"{score}_difference"]["difference"], *got[f"{score}_difference"]["interval"]]
            check(max(abs(a - b) for a, b in zip(mine, interval(values["base"], values["adapter"]))) < 1e-9, f"{preset.name}: interval of {score}")
        print(f"{preset.name} {' '.join(extra)}: {SAMPLES} samples, exact match {got['base']['exact_match']:.2f} and {got['adapter']['exact_match']:.2f}, "
              f"contains {got['base']['contains']:.2f} and {got['adapter']['contains']:.2f}")
    alone = json.loads(evaluate(*common, "--json"))
    check(alone["base"] == json.loads(evaluate(*common, "--json", "--adapter", preset.adapter))["base"], "the base alone is the base beside an adapter")
    text = evaluate(*common, "--adapter", preset.adapter)
    check("exact match: adapter - base" in text and "1 have no prompt" in text, text)


def main():
    torch.set_grad_enabled(False)
    root = reference(0)
    with tempfile.TemporaryDirectory() as name:
        for preset in ("e2b", "moe"):
            folder = Path(name) / preset
            folder.mkdir()
            compare(Preset(root, preset, folder))
    check("--generate" in evaluate("--model", root, "--data", "x.jsonl", "--ignore-case", code=2), "--ignore-case needs --generate")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
