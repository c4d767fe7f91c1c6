"""What a run shows. TensorBoard's own reader finds in runs/ what metrics.jsonl says; the shares of clamped values are those
that transformers + PEFT have at the same places; report.html is there while training goes on, and holds up in a browser;
the terminal, --quiet and --json-lines say what they should.

    run_reports.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from _browser import Browser, find_chromium

ROOT = Path(__file__).resolve().parents[2]
BEZEL = Path(sys.argv[1]) / "bezel"
MODEL, ASSETS = ROOT / "demo" / "model", ROOT / "demo" / "assets"
QUESTIONS = ["What is in the cup?", "Where is the cat?", "Is it raining?"]
STEPS = 12
TAGS = {"train/loss": "loss", "train/learning_rate": "learning_rate", "train/grad_norm": "grad_norm",
        "train/tokens_per_second": "tokens_per_second", "train/epoch": "epoch", "eval/loss": "eval_loss",
        "eval/mean_token_accuracy": "eval_mean_token_accuracy"}


def command(out, *extra):
    return [BEZEL, "train", ROOT / "demo" / "config.yaml", "--output-dir", out, "--max-steps", str(STEPS), "--logging-steps", "1",
            "--eval-file", ROOT / "demo" / "train.jsonl", "--eval-steps", "6", *map(str, extra)]


def train(out, *extra):
    return subprocess.run(command(out, *extra), capture_output=True, text=True, cwd=ROOT)


def check_events(out, steps, sessions=1):
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(out / "runs"), size_guidance={"scalars": 0})
    events.Reload()
    assert set(events.Tags()["scalars"]) == {*TAGS, "train/peak_memory_mib"}, events.Tags()
    for tag, key in TAGS.items():
        wanted = [(row["step"], np.float32(row[key])) for row in rows if key in row and ("eval" in key) == ("eval_loss" in row)]
        got = [(event.step, np.float32(event.value)) for event in events.Scalars(tag)]
        assert got == wanted and len(got) == (steps if tag.startswith("train") else steps // 6), (tag, got, wanted)
    memory = [event.value for event in events.Scalars("train/peak_memory_mib")]
    assert (sessions > 1 or memory == sorted(memory)) and 50 < memory[0] < 4000, memory
    print(f"TensorBoard reads {len(TAGS) + 1} tags, equal to metrics.jsonl")


def media_inputs():
    """The first two samples with an image and the first two with an audio clip, as transformers prepares them."""
    import soundfile
    import soxr
    import torch
    from PIL import Image

    sys.path.insert(0, str(ROOT / "tools"))
    import make_reference as reference

    images = reference.Gemma4ImageProcessorPil.from_pretrained(MODEL)
    sounds = reference.Gemma4AudioFeatureExtractor.from_pretrained(MODEL)
    parts = [json.loads(line)["messages"][0]["content"][0] for line in (ROOT / "demo" / "train.jsonl").read_text().splitlines()]
    for part in [p for p in parts if p["type"] == "image"][:2]:
        made = images([Image.open(ASSETS / part["path"])])
        pixels = torch.as_tensor(np.asarray(made["pixel_values"]))
        places = torch.as_tensor(np.asarray(made["image_position_ids"]))
        real = places[0, :, 0] >= 0
        yield "image", {"pixel_values": pixels[:, real], "image_position_ids": places[:, real]}
    for part in [p for p in parts if p["type"] == "audio"][:2]:
        sound, rate = soundfile.read(ASSETS / part["path"], dtype="float32")
        made = sounds([soxr.resample(sound, rate, 16000)])
        yield "audio", {"input_features": torch.as_tensor(np.asarray(made["input_features"])),
                        "input_features_mask": torch.as_tensor(np.asarray(made["input_features_mask"]))}


def reference_counts(adapter):
    """Values beyond each bound by layer, from hooks around transformers' clamps."""
    import torch
    from peft import PeftModel

    sys.path.insert(0, str(ROOT / "tools"))
    import make_reference as reference

    base = reference.Gemma4ForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    model = (PeftModel.from_pretrained(base, str(adapter)).eval().base_model.model if adapter else base).model
    counts = {}

    def watch(name, clipped):
        row = counts.setdefault(name, dict.fromkeys(("inputs", "outputs", "input_min", "input_max", "output_min", "output_max"), 0))

        def before(_, args):
            row["inputs"] += args[0].numel()
            row["input_min"] += int((args[0] < clipped.input_min).sum())
            row["input_max"] += int((args[0] > clipped.input_max).sum())

        def after(_, __, output):
            row["outputs"] += output.numel()
            row["output_min"] += int((output < clipped.output_min).sum())
            row["output_max"] += int((output > clipped.output_max).sum())

        clipped.register_forward_pre_hook(before)
        clipped.linear.register_forward_hook(after)

    for name, module in model.named_modules():
        if type(module).__name__ == "Gemma4ClippableLinear":
            watch("model." + name, module)
    with torch.no_grad():
        for kind, inputs in media_inputs():
            (model.get_image_features if kind == "image" else model.get_audio_features)(**inputs)
    return counts


def check_saturation(events, out):
    measured = [event for event in events if event["event"] == "saturation"]
    assert [event["step"] for event in measured] == [0, STEPS]
    outside = 0
    for event, adapter in zip(measured, (None, out)):
        wanted, got = reference_counts(adapter), {layer.pop("layer"): layer for layer in event["layers"]}
        assert set(got) == set(wanted) and len(got) > 30, (len(got), len(wanted))
        for name, row in wanted.items():
            for key, count in row.items():
                # Sums in another order put a value that is all but at a bound on its other side; so do pictures, which
                # Pillow resizes there and which differ from Bezel's by a step of brightness here and there.
                slack = 0 if key in ("inputs", "outputs") else 2 + count // (20 if "vision" in name else 200)
                assert abs(got[name][key] - count) <= slack, (event["step"], name, key, got[name][key], count)
            outside += sum(row[key] for key in ("input_min", "input_max", "output_min", "output_max"))
    assert outside > 1000, outside
    print(f"clamped values as in transformers + PEFT: {len(got)} layers, {outside} values, at the start and the end")


def reference_answers(adapter):
    """What transformers + PEFT say to the first samples' prompts, greedily."""
    import torch
    from peft import PeftModel

    sys.path.insert(0, str(ROOT / "tools"))
    import make_reference as reference

    base = reference.Gemma4ForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    model = PeftModel.from_pretrained(base, str(adapter)).eval() if adapter else base
    tokenizer = reference.GemmaTokenizer.from_pretrained(MODEL)
    stop = [tokenizer.convert_tokens_to_ids(word) for word in ("<eos>", "<turn|>")]
    for question in QUESTIONS:
        ids = tokenizer(f"<bos><|turn>user\n{question}<turn|>\n<|turn>model\n", add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            out = model.generate(ids, max_new_tokens=64, do_sample=False, pad_token_id=0, eos_token_id=stop,
                                 return_dict_in_generate=True, output_logits=True)
        tops = [logits[0].topk(2).values for logits in out.logits]
        # Behind two tokens that lie within what float32 moves them, any text may follow: see generate_parity.py.
        sure = next((i for i, top in enumerate(tops) if top[0] - top[1] < 6e-4), len(tops))
        tokens = out.sequences[0, ids.shape[1]:].tolist()
        text = tokenizer.decode([t for t in tokens[:sure] if t not in stop], skip_special_tokens=False)
        while "<|channel>" in text or "<channel|>" in text:  # thoughts, which answers are shown without
            before, _, after = text.partition("<channel|>")
            text = before.partition("<|channel>")[0] + after
        yield text.strip(" \t\n\r\f\v"), sure == len(tops)


def same_answers(got, wanted):
    return all(a == b if is_whole else a.startswith(b.rstrip("\ufffd")) for a, (b, is_whole) in zip(got, wanted, strict=True))


def check_predictions(scratch):
    """Asked before and after; a run that goes on keeps what was said before; page, file, terminal and events agree."""
    data = scratch / "questions.jsonl"
    data.write_text("".join(json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": f"Answer {i}."}]}) + "\n"
                            for i, question in enumerate(QUESTIONS * 4)))
    out = scratch / "asked"
    flags = ("--base-model", MODEL, "--train-file", data, "--output-dir", out, "--dtype", "float32", "--learning-rate", "0.01",
             "--sample-predictions", len(QUESTIONS), "--save-steps", 2)

    def run(*extra):
        return subprocess.run([str(a) for a in (BEZEL, "train", *flags, *extra)], capture_output=True, text=True)

    file = lambda: [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    done = run("--max-steps", 2)
    assert done.returncode == 0, done.stderr
    first = file()
    assert same_answers([row["before"] for row in first], reference_answers(None)), first
    assert same_answers([row["after"] for row in first], reference_answers(out)), first
    assert [row["expected"] for row in first] == [f"Answer {i}." for i in range(len(QUESTIONS))]
    assert "  before" in done.stdout and QUESTIONS[0] in done.stdout, done.stdout
    done = run("--max-steps", 4, "--resume", "--force-resume", "--json-lines")
    assert done.returncode == 0, done.stderr
    second = file()
    assert [row["before"] for row in second] == [row["before"] for row in first]
    assert same_answers([row["after"] for row in second], reference_answers(out)), second
    assert [row["after"] for row in second] != [row["after"] for row in first]
    told = [event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "predictions"]
    assert len(told) == 1 and told[0]["samples"] == second, told
    page = (out / "report.html").read_text()
    assert page.count("<h4>before training") == len(QUESTIONS) and QUESTIONS[1] in page
    print(f"{len(QUESTIONS)} samples answered before and after as by transformers + PEFT, kept over a resume")


def check_json_lines(done):
    assert done.returncode == 0 and done.stderr == "", done
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start" and kinds[-1] == "end" and kinds.count("step") == STEPS and kinds.count("eval") == STEPS // 6, kinds
    assert events[0]["total_steps"] == STEPS and {row["tower"] for row in events[0]["towers"]} == {"language", "vision", "audio", "projectors"}
    assert events[-1]["steps"] == STEPS and not events[-1]["stopped"]
    return events


def check_resumed(scratch):
    """A run that was killed, in the middle of a record, and resumed: curves without a gap, and nothing twice."""
    out = scratch / "resumed"
    process = subprocess.Popen(command(out, "--save-steps", 4), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT)
    seen = next((line for line in process.stderr if "step 6/" in line), "")
    process.kill()
    process.communicate()
    assert seen, "the run ended too early"
    newest = max((out / "runs").iterdir())
    newest.write_bytes(newest.read_bytes() + b"\x40\0\0\0\0\0\0\0half")
    done = train(out, "--save-steps", 4, "--resume")
    assert done.returncode == 0 and "resumed after step" in done.stderr, done
    check_events(out, STEPS, sessions=2)
    page = (out / "report.html").read_text()
    assert 'class="state done"' in page and "ended early" not in page


def on_terminal(arguments):
    """What a program writes to a terminal."""
    ours, its = pty.openpty()
    process = subprocess.Popen(arguments, stdout=its, stderr=its, cwd=ROOT, text=False)
    os.close(its)
    text = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    return process.wait(), text.decode()


def check_terminal(scratch):
    code, text = on_terminal(command(scratch / "tty", "--report-to", "none", "--save-steps", 0))
    assert code == 0 and "░" in text, text
    curve = set("▁▂▃▄▅▆▇█")
    bars = [line for line in text.split("\r") if "tok/s" in line]
    # Behind the bar and the count stands the curve of the losses.
    assert len(bars) == STEPS and set(bars[-1].split("  ")[1]) <= curve and len(bars[-1].split("  ")[1]) == STEPS, bars[-1]
    tail = text[text.rindex("\r\nloss "):]
    for word in ("loss ", "held out", "steps ", "tokens ", "memory ", "adapter "):
        assert word in tail, tail
    assert "report.html" not in tail and not (scratch / "tty" / "report.html").exists() and not (scratch / "tty" / "runs").exists()
    assert not (scratch / "tty" / "metrics.jsonl").exists()


def check_resolved(scratch):
    """With init_adapter, the page and config.resolved.yaml have that adapter's rank, scale and towers, not the defaults."""
    data = scratch / "words.jsonl"
    data.write_text("".join(json.dumps({"prompt": question, "completion": f"Answer {i}."}) + "\n" for i, question in enumerate(QUESTIONS * 8)))
    flags = ["--base-model", MODEL, "--train-file", data, "--max-steps", 1, "--save-steps", 0, "--sample-predictions", 0, "--quiet"]
    runs = {"first": ["--lora-r", 3, "--lora-alpha", 5, "--use-rslora", "true"], "second": ["--init-adapter", scratch / "first"]}
    for name, extra in runs.items():
        words = [BEZEL, "train", *flags, *extra, "--output-dir", scratch / name]
        subprocess.run([str(word) for word in words], check=True)
    page, resolved = ((scratch / "second" / name).read_text() for name in ("report.html", "config.resolved.yaml"))
    for key, value in (("lora_r", "3"), ("lora_alpha", "5"), ("use_rslora", "true"), ("lora_towers", "[language]")):
        assert f"<th>{key}</th><td>{value}</td>" in page, key
        assert f"\n{key}: {value}\n" in resolved, (key, resolved)


def check_page(out):
    if find_chromium() is None:
        print("chromium is not installed: report.html was not looked at")
        return
    with Browser() as page:
        page.open(out / "report.html", width=390, scheme="dark")
        assert page.logs == [] and page.requests == [f"file://{out / 'report.html'}"], (page.logs, page.requests)
        assert page.evaluate("document.querySelectorAll('.chart .line').length") >= 6
        assert page.evaluate("document.querySelectorAll('.heat').length") == 4
        assert page.evaluate("document.querySelector('.state').textContent") == "done"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def main():
    subprocess.run([sys.executable, ROOT / "demo" / "prepare.py"], check=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name).resolve()
        out = scratch / "out"
        events = check_json_lines(train(out, "--json-lines", "--save-steps", 0))
        check_events(out, STEPS)
        check_saturation(events, out)
        check_page(out)
        # A second run in the same folder: what the first one wrote into runs/ is void.
        done = train(out, "--quiet", "--seed", 7, "--save-steps", 0)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
        check_events(out, STEPS)
        check_resumed(scratch)
        check_terminal(scratch)
        check_predictions(scratch)
        check_resolved(scratch)
        both = subprocess.run([BEZEL, "train", "--quiet", "--json-lines"], capture_output=True, text=True)
        assert both.returncode == 2 and "contradict" in both.stderr, both


if __name__ == "__main__":
    main()
