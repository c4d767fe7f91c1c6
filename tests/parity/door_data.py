"""The data that people have, row by row: what each kind must become, or how it must be refused. Prints row, expected and
found, and fails where one does not hold. Rows that a chat template decides are in chat_render.py, recipes in recipes.py.

    door_data.py BEZEL_FOLDER TEST_FOLDER
"""
import base64
import gzip
import io
import json
import re
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _reference import BIN, bezel, check, finish

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "demo" / "model"


def tell(row, what, expected, found, ok):
    print(f"D{row:<4} {what}\n      expected {expected}\n      found    {found}")
    check(ok, f"D{row} {what}: expected {expected}, found {found}")


def turn(role, text):
    return f"<|turn>{role}\n{text}<turn|>\n"


def chat(question, answer, system=None):
    """A chat of one question as the model sees it."""
    head = turn("system", system) if system else ""
    return f"<bos>{head}{turn('user', question)}<|turn>model\n⟦{answer}<turn|>⟧\n"


def ask(question="Which way?", answer="North.", **more):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]}


def human(question, answer, **line):
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], **line}


# One line of a data set each: (row, line, what it becomes). What is learned stands between ⟦ and ⟧.


class Refused:
    """The message of a line that is refused holds these parts."""

    def __init__(self, *parts):
        self.parts = parts


def small_image(folder):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(out, "PNG")
    (folder / "pics").mkdir(exist_ok=True)
    for name in ("owl.png", "pics/owl.png"):
        (folder / name).write_bytes(out.getvalue())
    return base64.b64encode(out.getvalue()).decode()


def sound(path, seconds):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(4).integers(-9000, 9000, int(16000 * seconds), dtype=np.int16).tobytes())


def loss_lines():
    later = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "South."}]
    masked = ("<bos>" + turn("user", "Which way?") + turn("model", "North.") + turn("user", "Sure?") + "<|turn>model\n⟦South.<turn|>⟧\n")
    for key in ({"loss": False}, {"weight": 0}, {"train": "false"}, {"trainable": 0}, {"mask": True}, {"learn": False}):
        line = ask(**key)
        line["messages"] += later
        yield "01", line, masked
    yield "02", ask(loss="maybe"), Refused("loss", "true, false, 1 or 0")
    turns = human("Which way?", "North.")
    turns["conversations"][1]["loss"] = False
    turns["conversations"] += [{"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "South."}]
    yield "02", turns, masked


def system_lines():
    yield "03", {"system": "Be brief.", **ask()}, chat("Which way?", "North.", "Be brief.")
    yield "03", {"system": "Be brief.", **human("Which way?", "North.")}, chat("Which way?", "North.", "Be brief.")
    prompt = [{"role": "user", "content": "Which way?"}]
    yield "03", {"system": "Be brief.", "prompt": prompt, "completion": "North."}, chat("Which way?", "North.", "Be brief.")
    yield "03", {"system": "Be brief.", "prompt": "Which way?", "completion": "North."}, Refused("'system'", "role system")
    yield "43", {**ask(), "chat_template_kwargs": {"enable_thinking": True}}, chat("Which way?", "North.", "<|think|>\n")
    yield "43", {**ask(), "chat_template_kwargs": {"mood": "glad"}}, Refused("chat_template_kwargs.mood")
    schema = {"type": "object", "properties": {"port": {"type": "string"}}}
    tool = "<|tool>declaration:tide{description:<|\"|>When?<|\"|>,parameters:{properties:{port:{type:<|\"|>STRING<|\"|>}},type:<|\"|>OBJECT<|\"|>}}<tool|>"
    for name, key in (("functions", "parameters"), ("tools", "input_schema"), ("functions", "input_schema")):
        yield "52", {name: [{"name": "tide", "description": "When?", key: schema}], **ask()}, chat("Which way?", "North.", tool)


def media_lines(raw):
    image, audio = chat("<|image|>Which bird?", "An owl."), chat("<|audio|>Transcribe the audio.", "hoo hoo")
    parts = [{"type": "image"}, {"type": "text", "text": "Which bird?"}]
    yield "04", {"image": "owl.png", **ask(parts, "An owl.")}, image
    yield "04", {"images": "owl.png", **ask(parts, "An owl.")}, image
    yield "05", {"images": ["owl.png"], **ask("Which bird?", "An owl.")}, image
    yield "05", {"images": [{"path": "owl.png"}], "prompt": [{"role": "user", "content": "Which bird?"}], "completion": "An owl."}, image
    yield "06", human("<image>\nWhich bird?", "An owl.", id="1", image="owl.png"), image
    yield "06", human("Which bird?\n<image>", "An owl.", image="owl.png"), chat("Which bird?<|image|>", "An owl.")
    message_level = ask("Which bird?", "An owl.")
    message_level["messages"][0]["images"] = ["owl.png"]
    yield "34", message_level, image
    yield "34", {"images": [f"data:image/png;base64,{raw}"], **ask("<image>Which bird?", "An owl.")}, image
    yield "50", {"images": [raw], **ask("<image>Which bird?", "An owl.")}, image
    yield "51", {"images": [{"bytes": raw, "path": None}], **ask("<image>Which bird?", "An owl.")}, image
    yield "51", {"images": [{"bytes": None, "path": "owl.png"}], **ask("<image>Which bird?", "An owl.")}, image
    frames = {"frames": ["owl.png", "owl.png"], "fps": 2}
    frame = "00:00 <|image>[63 soft tokens of a video]<image|>"
    video = chat(f"{frame} {frame}Which bird?", "An owl.")
    yield "48", {"videos": [frames], **ask("<video>Which bird?", "An owl.")}, video
    yield "48", ask([{"type": "video", **frames}, {"type": "text", "text": "Which bird?"}], "An owl."), video
    yield "48", {"videos": [["owl.png", "owl.png"]], **ask("<video>Which bird?", "An owl.")}, Refused("'videos", "needs their rate", "\"fps\"")
    yield "49", {"file_name": "owl.png", "text": "An owl."}, chat("<|image|>Describe the image.", "An owl.")
    yield "49", {"file_name": "owl.png", "caption": "An owl.", "prompt": "Which bird?"}, image
    for line in ({"audio": "hoo.wav", "text": "hoo hoo"}, {"audio": {"path": "hoo.wav"}, "sentence": "hoo hoo", "speaker_id": 4},
                 {"audio_filepath": "hoo.wav", "duration": 0.5, "text": "hoo hoo"}, {"file_name": "hoo.wav", "transcription": "hoo hoo"},
                 {"client_id": "7", "path": "hoo.wav", "sentence": "hoo hoo", "up_votes": 2, "locale": "en"}):
        yield "49", line, audio
    yield "49", {"audio_filepath": "hoo.wav", "offset": 2.5, "text": "hoo hoo"}, Refused("'offset'", "cut the audio clip")


def path_lines(folder):
    image = chat("<|image|>Which bird?", "An owl.")
    for path in (f"{folder}/owl.png", f"file://{folder}/owl.png", "pics/../owl.png", "./pics/owl.png", f"{folder}/pics/../owl.png"):
        yield "15", {"images": [path], **ask("Which bird?", "An owl.")}, image
    yield "15", {"images": ["../owl.png"], **ask()}, Refused("'../owl.png'", "leads out", "media root")
    yield "15", {"images": ["https://a.b/owl.png"], **ask()}, Refused("is a URL, and nothing is fetched")


def text_lines():
    yield "07", human("What does <audio> do?", "It plays."), chat("What does <audio> do?", "It plays.")
    yield "07", {"instruction": "Name a tag.", "output": "<image>", "images": []}, chat("Name a tag.", "<image>")
    yield "09", {"prompt": "<bos>Sky?", "completion": "Blue.<eos>"}, "<bos>Sky?⟦Blue.<eos>⟧"
    yield "09", {"prompt": "Sky?", "completion": "Blue."}, "<bos>Sky?⟦Blue.<eos>⟧"
    yield "09", {"text": "<bos>Blue.<eos>"}, "<bos>⟦Blue.<eos>⟧"
    for blank in "\u3000", "\u00a0", "\u2003", "\x1f", "\u2029":
        yield "58", ask(f"{blank}Which way?{blank}", f"{blank}North.{blank}"), chat("Which way?", "North.")
    yield "61", {"messages": json.dumps(ask()["messages"])}, chat("Which way?", "North.")
    yield "61", {"messages": str(ask()["messages"])}, Refused("'messages'", "json.dumps")
    yield "10", ask(thinking="Moss grows there."), Refused(".thinking'", "'reasoning'", "drops")
    yield "02", {"question": "Which way?", "response": "North."}, Refused("'question'", "'instruction'", "'response'", "'output'")
    yield "02", {"sytem": "Be brief.", **ask()}, Refused("'sytem'", "did you mean 'system'?")


def read_shown(output):
    """Text of each sample as `preprocess --show` prints it, soft tokens as one placeholder."""
    texts = {}
    for part in re.split(r"^(?=\S+:\d+(?: \(element \d+\))?: [\d,]+ tokens?, )", output, flags=re.M)[1:]:
        line = int(re.match(r"\S+?:(\d+)", part)[1])
        text = part[part.index("<bos>"):]
        # Behind the text stands an empty line, and the tokens with their ids.
        text = text[:re.search(r"\n\n  ⟦?\d+ ", text).start()]
        for kind, word in (("image", "image"), ("audio", "audio clip")):
            text = re.sub(rf"<\|{kind}>\[\d+ soft tokens? of a {word}\]<{kind}\|>", f"<|{kind}|>", text)
        texts[line] = text
    return texts


def common(folder, file, *more):
    return ("--base-model", MODEL, "--train-file", file, "--output-dir", folder / "out", "--max-soft-tokens", 70, *more)


def check_lines(folder):
    raw = small_image(folder)
    sound(folder / "hoo.wav", 0.5)
    cases = [*loss_lines(), *system_lines(), *media_lines(raw), *path_lines(folder), *text_lines()]
    file = folder / "lines.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for _, line, _ in cases))
    output = bezel("preprocess", *common(folder, file, "--show", len(cases), "--whole"), code=3).stdout
    texts = read_shown(output)
    bad = json.loads(bezel("preprocess", *common(folder, file, "--dry-run", "--json"), code=3).stdout)["train"]["bad"]
    errors = {int(message.removeprefix(str(file)).split(":")[1]): message for message in bad}
    for number, (row, line, wanted) in enumerate(cases, 1):
        what = json.dumps(line)[:100]
        if isinstance(wanted, Refused):
            found = errors.get(number, texts.get(number))
            tell(row, what, f"refused with {wanted.parts}", found, number in errors and all(part in found for part in wanted.parts))
        else:
            found = texts.get(number, errors.get(number))
            tell(row, what, repr(wanted), repr(found), (found or "").rstrip("\n") == wanted.rstrip("\n"))


def samples_in(folder, file, *more):
    report = json.loads(bezel("preprocess", *common(folder, file, "--show", 9, "--json", *more)).stdout)
    return [sample["text"] for sample in report["samples"]]


def check_files(folder):
    """Rows 22, 35, 37: one text in every form of a file."""
    rows = [ask(f"Which way, {i}?", f"North {i}.") for i in range(3)]
    wanted = [chat(f"Which way, {i}?", f"North {i}.").replace("⟦", "").replace("⟧", "") for i in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    table = "instruction,output\n" + "".join(f'"Which way, {i}?",North {i}.\n' for i in range(3))
    files = {"array.json": json.dumps(rows), "indented.json": json.dumps(rows, indent=2), "objects.jsonl": "".join(json.dumps(row, indent=1) + "\n" for row in rows),
             "mark.jsonl": "\ufeff" + lines.replace("\n", "\r\n"), "table.csv": table, "table.tsv": table.replace('"', "").replace(",N", "\tN").replace("n,o", "n\to"),
             "lines.jsonl.gz": gzip.compress(lines.encode()), "table.csv.gz": gzip.compress(table.encode())}
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        found = samples_in(folder, folder / name)
        tell("22", name, "3 samples", f"{len(found)} samples", found == wanted)
    refused = {"train.parquet": (b"PAR1" + bytes(40), ["a Parquet file", "read_parquet", "to_json"]),
               "train.arrow": (b"ARROW1\0\0" + bytes(40), ["an Arrow file", "to_json"]),
               "utf16.jsonl": (lines.encode("utf-16"), ["UTF-16", "iconv"]), "sheet.xlsx": (b"PK\3\4" + bytes(40), ["Excel", "read_excel"]),
               "broken.json": (json.dumps(rows)[:-5].encode(), ["the file ends inside"])}
    for name, (content, parts) in refused.items():
        (folder / name).write_bytes(content)
        message = bezel("preprocess", *common(folder, folder / name, "--skip-bad-samples"), code=3).stderr
        tell("22", name, f"refused with {parts}", message.strip(), all(part in message for part in parts))
    for name in ("valid", "validation", "val", "dev"):
        split = folder / f"with_{name}"
        split.mkdir()
        (split / "train.jsonl").write_text(lines)
        (split / f"{name}.jsonl").write_text(lines.replace("North", "South"))
        run = json.loads(bezel("preprocess", *common(folder, split, "--dry-run", "--json")).stdout)["run"]
        tell("35", f"{name}.jsonl beside train.jsonl", "3 held out", f"{run['held_out_samples']} held out", run["held_out_samples"] == 3)
        bezel("evaluate", "--model", MODEL, "--data", split, "--limit", 1)
    pictures = folder / "imagefolder" / "train"
    pictures.mkdir(parents=True)
    Image.new("RGB", (30, 40)).save(pictures / "owl.png")
    (pictures / "metadata.jsonl").write_text(json.dumps({"file_name": "owl.png", "text": "An owl."}) + "\n")
    found = samples_in(folder, pictures.parent)
    tell("37", "an image folder", "1 sample", found, found == [chat("<|image><|image|><image|>Describe the image.", "An owl.").replace("⟦", "").replace("⟧", "")])
    columns = folder / "parquet_folder"
    columns.mkdir()
    (columns / "train.parquet").write_bytes(b"PAR1" + bytes(40))
    message = bezel("preprocess", *common(folder, columns), code=3).stderr
    tell("37", "a folder with train.parquet", "the line that converts it", message.strip(), "read_parquet" in message)


def check_media_root(folder):
    (folder / "lists").mkdir()
    file = folder / "lists" / "t.jsonl"
    file.write_text(json.dumps({"images": ["owl.png"], **ask("Which bird?", "An owl.")}) + "\n")
    for root in (folder, "/"):
        text = file.read_text() if root != "/" else json.dumps({"images": [f"{folder}/owl.png"], **ask("Which bird?", "An owl.")}) + "\n"
        file.write_text(text)
        found = samples_in(folder, file, "--media-root", root)
        tell("15", f"media_root {root}", "1 sample", f"{len(found)} sample", len(found) == 1)
    message = bezel("preprocess", *common(folder, file), "--media-dir", folder, code=2).stderr if not takes_media_dir(folder, file) else "media_root"
    tell("16", "media_dir", "read, or refused with media_root", message.strip(), "media_root" in message)
    # D36, ~ in paths of the config: recipes.py


def takes_media_dir(folder, file):
    done = subprocess.run([BIN / "bezel", "preprocess", *map(str, common(folder, file, "--media-dir", folder, "--show", "1"))], capture_output=True)
    return done.returncode == 0


def train(folder, file, *more, code=0, out="run"):
    return bezel("train", "--base-model", MODEL, "--train-file", file, "--output-dir", folder / out, "--dtype", "float32", "--threads", 2,
                 "--max-soft-tokens", 70, *more, code=code)


def check_counts(folder):
    """What is left out by rule is counted, by preprocess and by the run, in the same words."""
    sound(folder / "long.wav", 31)
    rows = [ask(reasoning="Moss grows there."), ask(reasoning_content="Moss grows there."), ask(answer="<|channel>thought\nMoss.<channel|>North."), ask(answer=""),
            {"prompt": "Which way?", "completion": " "}, {"audio": "long.wav", "text": "hoo " * 40, "prompt": "Listen."},
            {"audio": "hoo.wav", "text": "hoo"}, ask("far " * 900, "North.")]
    file = folder / "counted.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = {"10": "thoughts of 3 messages are not learned", "33": "2 answers are empty", "26": "1 audio clip is longer than 30 s",
              "49": "1 medium with its text is asked", "24": "1 sample is left out: longer than max_seq_length 800"}
    data = json.loads(bezel("preprocess", *common(folder, file, "--dry-run", "--json", "--max-seq-length", 800)).stdout)["train"]
    outputs = {"preprocess --show": bezel("preprocess", *common(folder, file, "--max-seq-length", 800)).stderr,
               "preprocess --dry-run": bezel("preprocess", *common(folder, file, "--dry-run", "--max-seq-length", 800)).stdout,
               "train": train(folder, file, "--max-seq-length", 800, "--max-steps", 1, "--sample-predictions", 0).stderr,
               "train --quiet": train(folder, file, "--max-seq-length", 800, "--max-steps", 1, "--sample-predictions", 0, "--quiet").stderr}
    for row, words in wanted.items():
        for command, text in outputs.items():
            tell(row, command, words, next((line for line in text.splitlines() if words[:20] in line), "nothing"), words in text)
    counts = [data[key] for key in ("thoughts_left_out", "empty_answers", "long_audio_clips", "added_requests", "too_long_samples")]
    tell("10", "counts of --json", [3, 2, 1, 1, 1], counts, counts == [3, 2, 1, 1, 1])


def check_late_faults(folder):
    """A truncated image near the end of a run: what was learned before it is saved."""
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(whole, "JPEG", quality=90)
    (folder / "whole.jpg").write_bytes(whole.getvalue())
    (folder / "cut.jpg").write_bytes(whole.getvalue()[:-200])
    lines = [{"images": ["whole.jpg"], **ask("<image>?", "ok")}] * 11 + [{"images": ["cut.jpg"], **ask("<image>?", "ok")}]
    file = folder / "late.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = ("--shuffle", "false", "--gradient-accumulation-steps", 1, "--num-train-epochs", 1, "--lora-towers", "[language, vision]", "--sample-predictions", 0)
    message = train(folder, file, *flags, code=3, out="late").stderr
    saved = sorted(path.name for path in (folder / "late").iterdir())
    tell("56", "a truncated image in update 12 of 12", "checkpoint and adapter of 11 updates, and the line of the image", f"{message.splitlines()[-1]}; {saved}",
         "adapter_model.safetensors" in saved and any(name.startswith("checkpoint-11") for name in saved) and "late.jsonl:12" in message and "cut.jpg" in message)
    # An update of three samples: one that has no sample left at all ends the run.
    threes = [3 if word == 1 and flags[i - 1] == "--gradient-accumulation-steps" else word for i, word in enumerate(flags)]
    done = train(folder, file, *threes, "--skip-bad-samples", out="skipped")
    tell("56", "the same with skip_bad_samples", "left out and said", [line for line in done.stderr.splitlines() if "cut.jpg" in line][:1],
         "left out: " in done.stderr and "cut.jpg" in done.stderr)
    (folder / "noise.wav").write_bytes(b"RIFFnothing of an audio clip" + bytes(60))
    file.write_text(json.dumps({"audio": "noise.wav", "text": "hoo"}) + "\n")
    message = bezel("preprocess", *common(folder, file), code=3).stderr
    tell("30", "unreadable audio", "file and formats named", message.strip(), all(part in message for part in ("noise.wav", "WAV, FLAC, MP3 or OGG", "late.jsonl:1")))
    file.write_text("{\n" + json.dumps(ask()) + "\n")
    bezel("preprocess", *common(folder, file, "--show", 1), code=3)
    bezel("preprocess", *common(folder, file, "--show", 1, "--skip-bad-samples"))
    tell("60", "preprocess --show with a bad line", "exit code 3, and 0 with skip_bad_samples", "the same", True)


def moved(adapter):
    tensors = load_file(adapter / "adapter_model.safetensors")
    return any(".lora_B." in name and np.any(value != 0) for name, value in tensors.items())


def losses(adapter):
    rows = map(json.loads, (adapter / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def check_small_runs(folder):
    """README's example word for word (tests/parity/doc_blocks.py runs its commands), and few short samples by the defaults."""
    readme = (ROOT / "README.md").read_text()
    (folder / "my.jsonl").write_text(readme.split("<<'JSONL'\n")[1].split("JSONL\n")[0])
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(folder / "cat.jpg")
    sound(folder / "hello.wav", 1)
    bezel("train", ROOT / "examples" / "train_e2b.yaml", "--base-model", MODEL, "--train-file", folder / "my.jsonl", "--output-dir", folder / "readme",
          "--val-set-size", 0)
    bezel("verify-adapter", "--model", MODEL, "--adapter", folder / "readme")
    curve = losses(folder / "readme")
    tell("46", "README's two samples", "loss falls, verify-adapter exits 0", curve, moved(folder / "readme") and curve[-1] < curve[0])
    for count in (2, 5, 11, 24, 40):
        file = folder / "short.jsonl"
        file.write_text("".join(json.dumps(ask(f"{i} plus one?", f"{i + 1}.")) + "\n" for i in range(count)))
        out = f"short{count}"
        train(folder, file, "--sample-predictions", 0, out=out)
        rates = [json.loads(line).get("learning_rate", 1) for line in (folder / out / "metrics.jsonl").read_text().splitlines()]
        tell("46", f"{count} short samples", "an adapter that has moved", f"{len(rates)} rows, highest rate {max(rates)}", moved(folder / out) and max(rates) > 0)
    file.write_text("".join(json.dumps(ask(f"{i} plus one?", f"{i + 1}.")) + "\n" for i in range(40)))
    message = train(folder, file, "--max-steps", 10, "--warmup-steps", 100, code=2).stderr
    tell("54", "warm-up of 100 in 10 updates", "refused", message.strip(), "warmup_steps 100" in message)
    shown = bezel("preprocess", *common(folder, file, "--dry-run", "--max-steps", 10, "--warmup-steps", 100), code=2).stderr
    tell("54", "the same by preprocess --dry-run", "refused in the same words", shown.strip(), shown == message)


def check_left_padding(folder):
    """A label on the first real token would be predicted by padding: it is dropped, and the gradients are those without it."""
    ids = np.array([[0] * 5 + list(range(120, 131)), list(range(140, 156))], dtype=np.int64)
    mask = np.ones_like(ids)
    mask[0, :5] = 0
    labels = np.where(mask == 1, ids, -100)
    without = labels.copy()
    without[0, 5] = -100
    for dtype in ("float32", "bfloat16"):
        grads = []
        for given in (labels, without):
            save_file({"in.input_ids": ids, "in.attention_mask": mask, "in.labels": given}, folder / "padded.safetensors")
            done = bezel("forward", "--model", MODEL, "--adapter", folder / "readme", "--inputs", folder / "padded.safetensors", "--output",
                         folder / "grads.safetensors", "--grads", "--dtype", dtype)
            tensors = load_bits(folder / "grads.safetensors")
            grads.append({name: value for name, value in tensors.items() if name.startswith("grad.") or name == "loss"})
            said = "1 label dropped" in done.stderr
            tell("-", f"labels behind left padding, {dtype}", "1 dropped" if given is labels else "none dropped", done.stderr.strip() or "nothing", said == (given is labels))
        same = grads[0].keys() == grads[1].keys() and all(np.array_equal(grads[0][name], grads[1][name]) for name in grads[0])
        largest = max(np.abs(value).max() for value in grads[0].values())
        tell("-", f"their gradients, {dtype}", "finite, and those without the label", f"equal: {same}, largest {largest:.3g}", same and np.isfinite(largest) and len(grads[0]) > 10)


def load_bits(path):
    """Tensors as float32; numpy has no bfloat16."""
    with open(path, "rb") as file:
        content = file.read()
    size = int.from_bytes(content[:8], "little")
    out = {}
    for name, info in json.loads(content[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in info["data_offsets"])
        raw = content[begin:end]
        out[name] = (np.frombuffer(raw, "<f4") if info["dtype"] == "F32" else (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")).reshape(info["shape"])
    return out


def check_small_things(folder):
    done = subprocess.run([BIN / "bezel"], capture_output=True, text=True)
    tell("-", "bezel alone", "help", done.stdout.splitlines()[:1], "preprocess" in done.stdout)
    message = bezel("trian", code=2).stderr
    tell("-", "bezel trian", "did you mean 'train'?", message.strip(), "did you mean 'train'?" in message)
    file = folder / "bytes.jsonl"
    file.write_bytes(b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}\n')
    done = subprocess.run([BIN / "bezel", "preprocess", *map(str, common(folder, file))], capture_output=True)
    tell("-", "bytes that are no UTF-8 in a line", "a message in UTF-8", done.stderr, done.returncode == 3 and is_text(done.stderr))
    named = folder / "gr\udcff\udc9bn\x1b.jsonl"  # a file name of bytes that are no UTF-8
    named.write_bytes(b"{\n")
    done = subprocess.run([BIN / "bezel", "preprocess", *map(str, common(folder, named))], capture_output=True)
    tell("-", "such bytes in a file's name", r"gr\xff\x9bn\x1b.jsonl", done.stderr, rb"gr\xff\x9bn\x1b.jsonl" in done.stderr and is_text(done.stderr))


def is_text(output):
    try:
        return all(c == "\n" or c.isprintable() for c in output.decode())
    except UnicodeDecodeError:
        return False


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for part in (check_lines, check_files, check_media_root, check_counts, check_late_faults, check_small_runs, check_left_padding, check_small_things):
            part(folder)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
