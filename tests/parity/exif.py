"""EXIF directories of every shape, damaged ones too, in PNG and WebP: where Pillow opens the image, Bezel turns it alike.

    exif.py BEZEL_FOLDER TEST_FOLDER
"""
import base64
import io
import json
import random
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

from PIL import Image

from _pillow import pillow
from _reference import check, finish

ORIENTATION = 274
COUNTS = [1] * 12 + [0, 2, 2, 3, 4, 5, 9, 40, 300, 2**20, 2**31, 2**32 - 1]
FORMATS = {3: "H", 4: "I", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 6: "b"}
XMP = ['<x tiff:Orientation="6"/>', "<tiff:Orientation>3</tiff:Orientation>", '<x tiff:Orientation="9"/>', "<x/>"]


def value_bytes(rng, kind, order):
    value = rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 8, 6, 0, 9, 70000, -6])
    if kind in FORMATS:
        if value < 0 and FORMATS[kind].isupper() or kind in (3, 6, 8) and value > 127:
            value = 6
        return struct.pack(order + FORMATS[kind], value)
    if kind in (5, 10):
        times = rng.choice([1, 1, 2, 0, 3])
        return struct.pack(order + ("II" if kind == 5 else "ii"), abs(value) * max(times, 1), times)
    return bytes([abs(value) % 256, 0])


def directory(rng):
    order = rng.choice("<>")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    entries = rng.choice([1, 1, 2, 3])
    outside_at, outside, body = 8 + 2 + 12 * entries + 4, b"", b""
    for _ in range(entries):
        tag = rng.choice([ORIENTATION] * 3 + [256, 305, 34665])
        kind, count = rng.choice([3, 3, 4, *range(0, 18)]), rng.choice(COUNTS)
        value = value_bytes(rng, kind, order)
        if len(value) > 4 or rng.random() < 0.2:
            at = rng.choice([outside_at + len(outside), outside_at + len(outside), 0, 6, 2**20])
            outside += value * min(count, 9)
            field = struct.pack(order + "I", at)
        else:
            field = (value * 4)[:4] if rng.random() < 0.5 else value.ljust(4, b"\0")
        body += struct.pack(order + "HHI", tag, kind, count) + field
    claimed = entries if rng.random() < 0.9 else rng.randrange(65536)
    block = head + struct.pack(order + "H", claimed) + body + bytes(4) + outside
    return block if rng.random() < 0.9 else block[:rng.randrange(8, len(block))]


def image(rng):
    picture = Image.new("RGB", (3, 2))
    picture.putdata([(i * 40, 255 - i * 40, i) for i in range(6)])
    options = {"exif": b"Exif\0\0" + directory(rng)}
    form = rng.choice(["PNG", "WEBP"])
    if form == "WEBP":
        options |= {"lossless": True, "xmp": rng.choice(XMP).encode()} if rng.random() < 0.5 else {"lossless": True}
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def main():
    rng, outcomes = random.Random(19), Counter()
    program = subprocess.Popen([Path(sys.argv[2]) / "read_inputs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    upright = None
    for i in range(4000):
        content = image(rng)
        program.stdin.write(b"image " + base64.b64encode(content) + b"\n")
        program.stdin.flush()
        ours = json.loads(program.stdout.readline())
        try:
            theirs = pillow(content)
        except Exception:  # of any kind, by what is damaged
            outcomes["refused by Pillow"] += 1
            continue
        upright = upright or ours.get("read")
        outcomes["turned" if theirs != upright else "as stored"] += 1
        check(ours.get("read") == theirs, f"image {i}: {content.hex()}: Pillow {theirs}, Bezel {ours}")
    print(dict(outcomes))
    check(outcomes["turned"] > 500 and outcomes["as stored"] > 500, "the directories are too tame or too wild")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
