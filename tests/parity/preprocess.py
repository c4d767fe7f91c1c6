"""`bezel preprocess`: what it shows of samples against transformers' processor, and what a dry run says against counts made
here, against the run itself, and against damage done on purpose.

    preprocess.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image

from _reference import ROOT, bezel, reference

sys.path.insert(0, str(ROOT / "tools"))
import make_reference as made  # noqa: E402

import soundfile  # noqa: E402


def preprocess(*arguments, code=0):
    done = bezel("preprocess", *arguments, code=code)
    return done.stdout if code in (0, 3) else done.stderr


def write_samples(folder):
    made.test_image(220, 150, 3).save(folder / "a.png")
    made.test_image(40, 130, 4).save(folder / "b.png")
    soundfile.write(folder / "c.wav", made.test_audio(0.9, 4), 16000)
    user = lambda *parts: {"role": "user", "content": list(parts)}
    text = lambda words: {"type": "text", "text": words}
    rows = [
        {"messages": [user({"type": "image", "path": "a.png"}, text("What is in the image?")), {"role": "assistant", "content": "A cat."}]},
        {"messages": [user(text("Hi")), {"role": "assistant", "content": "Hello."}, user({"type": "audio", "path": "c.wav"}, text("And now?")),
                      {"role": "assistant", "content": "naïve 日本語\ttab"}]},
        {"messages": [user({"type": "image", "path": "b.png"}, {"type": "image", "path": "a.png"}), {"role": "assistant", "content": "Two."}]},
        {"prompt": "Name three:\n", "completion": "zebras"},
        {"messages": [user(text("Count")), {"role": "assistant", "content": "1, 2, 3, 4, 5, 6, 7, 8, 9, " * 30}]},
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def common(model, folder, *more, file="t.jsonl"):
    return ("--base-model", model, "--train-file", folder / file, "--output-dir", folder / "out", "--max-seq-length", 160,
            "--max-soft-tokens", 70, *more)


# Text of each sample with what is learnt between marks, by the chat template as it is documented.
RENDERED = ["<bos><|turn>user\n<|image|>What is in the image?<turn|>\n<|turn>model\n⟦A cat.<turn|>⟧\n",
            "<bos><|turn>user\nHi<turn|>\n<|turn>model\n⟦Hello.<turn|>⟧\n<|turn>user\n<|audio|>And now?<turn|>\n<|turn>model\n⟦naïve 日本語\ttab<turn|>⟧\n",
            "<bos><|turn>user\n<|image|><|image|><turn|>\n<|turn>model\n⟦Two.<turn|>⟧\n",
            "<bos>Name three:\n⟦zebras<eos>⟧"]


def check_show(model, folder):
    tokenizer = made.GemmaTokenizer.from_pretrained(model)
    processor = made.Gemma4Processor(made.Gemma4AudioFeatureExtractor.from_pretrained(model),
                                     made.Gemma4ImageProcessorPil.from_pretrained(model), tokenizer, None, image_seq_length=70)
    images = [["a.png"], [], ["b.png", "a.png"], []]
    report = json.loads(preprocess(*common(model, folder, "--show", 10, "--json")))["samples"]
    for i, (row, rendered) in enumerate(zip(report, RENDERED)):
        plain = rendered.replace("⟦", "").replace("⟧", "")
        raw = dict(text=[plain])
        if images[i]:
            raw["images"] = [[Image.open(folder / name) for name in images[i]]]
        if "<|audio|>" in plain:
            raw["audio"] = [soundfile.read(folder / "c.wav", dtype="float32")[0]]
        wanted = list(processor(**raw, add_special_tokens=False)["input_ids"][0])
        assert row["input_ids"] == wanted and row["source"] == f"{folder / 't.jsonl'}:{i + 1}", (i, row["input_ids"], wanted)
        assert row["words"] == tokenizer.convert_ids_to_tokens(wanted), i
        learnt = tokenizer.decode([t for t, is_learnt in zip(wanted, row["learnt"]) if is_learnt], skip_special_tokens=False)
        assert learnt == "".join(re.findall("⟦(.*?)⟧", rendered, re.S)), (i, learnt)
        assert sum(m["soft_tokens"] for m in row["media"]) == sum(t in (made.ID["<|image|>"], made.ID["<|audio|>"]) for t in wanted), i
    assert [(m["path"], m["width"], m["height"]) for m in report[2]["media"]] == [("b.png", 40, 130), ("a.png", 220, 150)]
    assert abs(report[1]["media"][0]["seconds"] - 0.9) < 1e-3, report[1]["media"]  # at most a sample more
    cut = report[4]
    assert cut["tokens"] == 160 < cut["tokens_before_cut"] and "1, 2, 3" in cut["cut_text"]
    check_text(model, folder, report)
    print(f"shown: {len(report)} samples as transformers' processor makes them")


def check_text(model, folder, report):
    text = preprocess(*common(model, folder, "--show", 4))
    assert "\x1b" not in text, "color where there is no terminal"
    for rendered, row in zip(RENDERED, report):
        counts = iter(media["soft_tokens"] for media in row["media"])
        shown = re.sub(r"<\|(image|audio)\|>",
                       lambda m: f"[{next(counts)} soft tokens of a {'image' if m[1] == 'image' else 'audio clip'}]", rendered)
        shown = shown.replace("\t", "\\t")
        # The processor's opening and closing tokens stand around the soft tokens.
        for kind in ("image", "audio"):
            word = "image" if kind == "image" else "audio clip"
            shown = re.sub(rf"(\[\d+ soft tokens of a {word}\])", rf"<|{kind}>\1<{kind}|>", shown)
        assert shown in text, (shown, text)
    assert "a.png, 220 x 150 pixels" in text and "c.wav, 0.90 s" in text
    colored = preprocess(*common(model, folder, "--show", 1, "--color", "always"))
    assert "\x1b[1;32mA cat.<turn|>\x1b[0m" in colored and "⟦" not in colored, colored


def check_dry_run(model, folder):
    shown = json.loads(preprocess(*common(model, folder, "--show", 10, "--json")))["samples"]
    flags = ("--lora-towers", "[language, vision]", "--val-set-size", 1, "--num-train-epochs", 3, "--gradient-accumulation-steps", 2,
             "--packing", "false")
    report = json.loads(preprocess(*common(model, folder, "--dry-run", "--json", *flags)))
    data, run = report["train"], report["run"]
    assert (data["lines"], data["samples"], data["bad_samples"], data["cut_samples"]) == (5, 5, 0, 1), data
    assert 0 <= data["tokens"] - sum(row["tokens"] for row in shown) <= 1
    assert data["label_tokens"] == sum(row["label_tokens"] for row in shown)
    assert (data["images"], data["audio_clips"]) == (3, 1)
    assert sum(bin["count"] for bin in data["lengths"]) == 5
    # 4 of 5 samples are trained on, 2 an update, 3 times.
    assert (run["train_samples"], run["held_out_samples"], run["steps_per_epoch"], run["total_steps"]) == (4, 1, 2, 6), run
    done = bezel("train", *common(model, folder, *flags), "--json-lines", "--sample-predictions", 0)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    # Six updates are few, which is said first.
    assert events[0]["event"] == "warning" and events[0]["text"].startswith("the run has 6 updates"), events[0]
    assert events[1]["total_steps"] == 6 and events[1]["towers"] == run["towers"], (events[1], run)
    peak = max(event["peak_memory_bytes"] for event in events if event["event"] == "step")
    print(f"memory: {run['memory']['total'] / 2**20:.0f} MiB estimated, {peak / 2**20:.0f} MiB taken")
    assert 0.5 < run["memory"]["total"] / peak < 2, (run["memory"], peak)
    assert run["flops"] > 0 and run["least_seconds"] > 0
    text = preprocess(*common(model, folder, "--dry-run", *flags))
    for words in ("5 of 5 lines", "6, 2 an epoch", "vision:", "about ", "are free", "an estimate, from", "█ "):
        assert words in text, (words, text)


def check_damage(model, folder):
    lines = (folder / "t.jsonl").read_text().splitlines()
    damaged = bytearray((folder / "a.png").read_bytes())
    damaged[len(damaged) // 2] ^= 1  # found by its checksum, and only when it is decoded
    (folder / "damaged.png").write_bytes(damaged)
    bad = ['{"messages": 3}', lines[0].replace("a.png", "damaged.png"), lines[0].replace("a.png", "none.png")]
    (folder / "t.jsonl").write_text("\n".join([lines[3], bad[0], *lines[3:4] * 70, bad[1], bad[2]]) + "\n")
    out = preprocess(*common(model, folder, "--dry-run", "--json"), code=3)
    data = json.loads(out)["train"]
    found = sorted(int(message.split(":")[1]) for message in data["bad"])
    assert data["bad_samples"] == 3 and found == [2, 73, 74], data
    text = preprocess(*common(model, folder, "--dry-run"), code=3)
    assert "t.jsonl:73: " in text and "damaged.png" in text, text
    preprocess(*common(model, folder, "--dry-run", "--skip-bad-samples"))
    # A tower without data is refused as the run would refuse it.
    assert "image" in preprocess(*common(model, folder, "--dry-run", "--lora-towers", "[vision]", file=write_text(folder)), code=2)
    assert "--color" in preprocess(*common(model, folder, "--color", "blue"), code=2)


def check_packing(model, folder):
    (folder / "short.jsonl").write_text("".join(json.dumps({"prompt": "a " * (5 + i), "completion": "b"}) + "\n" for i in range(12)))
    report = json.loads(preprocess(*common(model, folder, "--show", 99, "--dry-run", "--json", "--packing", "true", file="short.jsonl")))
    rows, run = report["rows"], report["run"]
    assert run["packing"] and run["rows"] == len(rows) < 12 and run["train_samples"] == 12, run
    lengths = {sample["source"]: sample["tokens"] for sample in report["samples"]}
    packed = [sample for row in rows for sample in row["samples"]]
    assert {sample["source"]: sample["tokens"] for sample in packed} == lengths and len(packed) == 12
    assert all(row["tokens"] == sum(sample["tokens"] for sample in row["samples"]) <= 160 for row in rows)
    assert "row 1 of the first epoch, packed" in preprocess(*common(model, folder, "--packing", "true", file="short.jsonl"))
    print(f"packing: 12 samples in {len(rows)} rows")


def write_text(folder):
    path = folder / "text.jsonl"
    path.write_text('{"prompt": "a ", "completion": "b"}\n')
    return path


def main():
    root = reference(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_samples(folder)
        check_show(root / "e2b" / "model", folder)
        check_dry_run(root / "e2b" / "model", folder)
        check_packing(root / "e2b" / "model", folder)
        check_damage(root / "e2b" / "model", folder)


if __name__ == "__main__":
    main()
