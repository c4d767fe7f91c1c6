"""Thousands of damaged files, read by Bezel and by the package that everybody else uses: safetensors, tokenizers, Pillow,
soundfile. What both read, they must read to the same content. What only one of them reads is counted, by the reason that
the other gives: Bezel is stricter with what it uses, and passes over damage in what it does not, such as the resolution in
an image's metadata.

    mutants.py BEZEL_FOLDER TEST_FOLDER [SECONDS_FOR_EACH [SEED]]
"""
import base64
import io
import json
import random
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import safetensors
import soundfile
import soxr
import tokenizers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))
import make_seeds as seeds

PROGRAM = Path(sys.argv[2]) / "read_inputs"
SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 4.0
TELLING = [0, 1, 0x7F, 0x80, 0xFF, *b'"\\{[-9\n']


class Refused(Exception):
    pass


def mutant(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if not data:
            break
        at, kind = rng.randrange(len(data)), rng.randrange(5)
        if kind == 0: data[at] ^= 1 << rng.randrange(8)
        if kind == 1: data[at] = rng.choice(TELLING)
        if kind == 2: del data[at + 1:]
        if kind == 3: del data[at:at + rng.randrange(1, 9)]
        if kind == 4: data[at:at] = data[:at][-rng.randrange(1, 9):]
    return bytes(data)


class Bezel:
    def __init__(self):
        self.process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def read(self, kind, *parts):
        self.process.stdin.write(b" ".join([kind.encode(), *(base64.b64encode(part) for part in parts)]) + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"{PROGRAM.name} ended with {self.process.wait()}"
        return json.loads(answer)


def read_safetensors(data):
    # What the package itself calls; it gives the bytes of each tensor.
    return {name: [info["dtype"], info["shape"], bytes(info["data"]).hex()] for name, info in safetensors.deserialize(data)}


def read_image(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = PIL.Image.open(io.BytesIO(data))
        image.load()
        progressive = "progressive" in image.info
        image = PIL.ImageOps.exif_transpose(image).convert("RGB")
    return {"height": image.height, "width": image.width, "pixels": image.tobytes().hex(), "progressive": progressive}


def same_image(theirs, ours):
    theirs, progressive = dict(theirs), theirs["progressive"]
    del theirs["progressive"]
    if theirs == ours or not progressive or (theirs["height"], theirs["width"]) != (ours["height"], ours["width"]):
        return theirs == ours
    # What a progressive JPEG lacks is made up from its neighbors, by other weights in libjpeg-turbo 3 than in 2.1.
    pixels = [np.frombuffer(bytes.fromhex(image["pixels"]), dtype=np.uint8).astype(int) for image in (theirs, ours)]
    return np.abs(pixels[0] - pixels[1]).mean() < 4


def read_audio(data):
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    mono = soxr.resample(mono, rate, 16000) if rate != 16000 and len(mono) else mono
    if not np.isfinite(mono).all():
        raise ValueError("samples that are no numbers, which nothing can be learned from")
    return mono


def same_audio(theirs, ours):
    ours = np.frombuffer(bytes.fromhex(ours), dtype="<f4")
    # Resampling in blocks rounds the length up, and adds in another order.
    return abs(len(theirs) - len(ours)) <= 1 and np.allclose(theirs[:len(ours)], ours[:len(theirs)], atol=2e-4, rtol=1e-4)


def tokenizer_input(data):
    parts = data.split(b"\0")
    return parts[0], b"\0".join(parts[1:]) or b"a b"


def read_tokenizer(data):
    definition, text = tokenizer_input(data)
    return tokenizers.Tokenizer.from_str(definition.decode()).encode(text.decode()).ids


KINDS = {"safetensors": (read_safetensors, lambda theirs, ours: theirs == ours, lambda data: (data,)),
         "tokenizer": (read_tokenizer, lambda theirs, ours: theirs == ours, tokenizer_input),
         "image": (read_image, same_image, lambda data: (data,)),
         "audio": (read_audio, same_audio, lambda data: (data,))}


def theirs_of(read, data):
    try:
        return read(data)
    except BaseException as error:  # Rust's panics are no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        raise Refused from error


def compare(bezel, kind, rng):
    read, same, parts_of = KINDS[kind]
    originals = [content for name, content in seeds.SEEDS[kind]() if not content.startswith(b"\0")]
    count, stricter, looser, failures = Counter(), Counter(), Counter(), []
    end = time.monotonic() + SECONDS
    # On a busy machine longer, until the mutants tell something.
    while time.monotonic() < end or min(count["read alike"], count["refused by both"]) <= 20 and time.monotonic() < end + 60:
        original = rng.choice(originals)
        data = original if count["inputs"] < len(originals) else mutant(rng, original)
        if count["inputs"] < len(originals):
            data = originals[count["inputs"]]
        count["inputs"] += 1
        ours = bezel.read(kind, *parts_of(data)) if all(parts_of(data)) else {"error": "empty"}
        try:
            theirs = theirs_of(read, data)
        except Refused as refusal:
            count["refused by both" if "error" in ours else "read by Bezel only"] += 1
            if "read" in ours:
                looser[repr(refusal.__cause__)[:60]] += 1
            continue
        if "error" in ours:
            count["refused by Bezel only"] += 1
            stricter[ours["error"].split(": ", 1)[-1][:60]] += 1
        else:
            count["read alike" if same(theirs, ours["read"]) else "read differently"] += 1
            if not same(theirs, ours["read"]):
                failures.append(("read differently", data, str(theirs)[:300], str(ours)[:300]))
    print(f"{kind}: {dict(count)}", flush=True)
    for who, reasons in (("Bezel", stricter), ("the other", looser)):
        for reason, times in reasons.most_common(8):
            print(f"    {times:5} refused by {who}: {reason}")
    for failure in failures[:5]:
        print("  FAIL", *(str(part)[:200] for part in failure))
    assert count["read alike"] > 20 and count["refused by both"] > 20, "the mutants are too tame or too wild"
    return len(failures)


def main():
    bezel, rng = Bezel(), random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 11)
    failures = sum([compare(bezel, kind, rng) for kind in KINDS])
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
