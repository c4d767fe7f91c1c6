"""TIFF images of many kinds, as Pillow and hands write them: Bezel's pixels are those of Pillow's convert("RGB").

    tiff.py BEZEL_FOLDER TEST_FOLDER
"""
import base64
import io
import itertools
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from _pillow import pillow
from _reference import check, finish

WIDTH, HEIGHT = 37, 23
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"]
COMPRESSIONS = [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "zstd", "webp", "group3", "group4"]


def noise(mode):
    rng = np.random.default_rng(7)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 600, (HEIGHT, WIDTH), dtype=np.uint16))
    smooth = np.add.outer(np.arange(HEIGHT) * 5, np.arange(WIDTH) * 3)[..., None] + rng.integers(0, 40, (HEIGHT, WIDTH, 4))
    rgba = Image.fromarray(smooth.astype(np.uint8), "RGBA")
    return rgba.convert("RGB").convert(mode) if mode in ("1", "P", "CMYK", "YCbCr") else rgba.convert(mode)


def from_pillow():
    for mode, compression, orientation in itertools.product(MODES, COMPRESSIONS, (None, 6)):
        out, options = io.BytesIO(), {}
        if orientation:
            options["tiffinfo"] = {274: orientation}
        try:
            noise(mode).save(out, "TIFF", compression=compression, **options)
        except Exception:  # not every compression takes every mode
            continue
        yield f"{mode} {compression} {orientation}", out.getvalue()
    pages = [noise("RGB"), Image.new("RGB", (5, 5))]
    out = io.BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    yield "two pages", out.getvalue()


def made(order, tags, blocks):
    """A TIFF file of one page: `tags` as tag -> (type, values), `blocks` the strips or tiles."""
    sizes = {1: "B", 3: "H", 4: "I"}
    offset_tag, count_tag = (324, 325) if 322 in tags else (273, 279)
    tags = {**tags, offset_tag: (4, [0] * len(blocks)), count_tag: (4, [len(block) for block in blocks])}
    base = 8 + 2 + 12 * len(tags) + 4
    packed = {tag: struct.pack(f"{order}{len(values)}{sizes[kind]}", *values) for tag, (kind, values) in tags.items()}
    data_at = base + sum(len(value) for value in packed.values() if len(value) > 4)
    starts = [data_at + sum(len(b) for b in blocks[:i]) for i in range(len(blocks))]
    packed[offset_tag] = struct.pack(f"{order}{len(starts)}I", *starts)
    entries, outside = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        value = packed[tag]
        field = struct.pack(order + "I", base + len(outside)) if len(value) > 4 else value.ljust(4, b"\0")
        outside += value if len(value) > 4 else b""
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + field
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", len(tags)) + entries + bytes(4) + outside + b"".join(blocks)


def tags_of(bits, photometric, **more):
    tags = {256: (4, [WIDTH]), 257: (4, [HEIGHT]), 258: (3, bits), 259: (3, [1]), 262: (3, [photometric]),
            277: (3, [len(bits)]), 278: (4, [10])}
    return tags | {int(tag[1:]): value for tag, value in more.items()}


def strips(rows, row_bytes, each=10):
    return [rows[i * row_bytes:min(i + each, HEIGHT) * row_bytes] for i in range(0, HEIGHT, each)]


def by_hand():
    rng = np.random.default_rng(9)
    whole = lambda count: rng.integers(0, 256, HEIGHT * count, dtype=np.uint8).tobytes()
    for order, photometric, bits in itertools.product("<>", (0, 1), (1, 2, 4)):
        row = (WIDTH * bits + 7) // 8
        yield f"{bits}-bit gray {photometric} {order}", made(order, tags_of([bits], photometric), strips(whole(row), row))
    palette = rng.integers(0, 65536, 3 * 16).tolist()
    for bits in (1, 4):
        row = (WIDTH * bits + 7) // 8
        yield f"palette of {bits} bits", made("<", tags_of([bits], 3, t320=(3, palette[:3 << bits])), strips(whole(row), row))
    for order, alpha in itertools.product("<>", ([], [0], [1], [2])):
        colors = 3 + len(alpha)
        more = {"t338": (3, alpha)} if alpha else {}
        for width in (1, 2):
            row = WIDTH * colors * width
            yield (f"RGB of {8 * width} bits, extra {alpha} {order}",
                   made(order, tags_of([8 * width] * colors, 2, **more), strips(whole(row), row)))
    row = WIDTH
    yield "gray with alpha", made("<", tags_of([8, 8], 1, t338=(3, [2])), strips(whole(2 * row), 2 * row))
    yield "planes", made("<", tags_of([8] * 3, 2, t284=(3, [2])), sum((strips(whole(row), row) for _ in range(3)), []))
    yield "CMYK of 16 bits", made("<", tags_of([16] * 4, 5), strips(whole(8 * row), 8 * row))
    for order in "<>":
        yield f"16-bit gray {order}", made(order, tags_of([16], 1), strips(whole(2 * row), 2 * row))
    for compression in (1, 8):
        tiles = [rng.integers(0, 256, 16 * 16 * 3, dtype=np.uint8).tobytes() for _ in range(6)]
        if compression == 8:
            tiles = [zlib.compress(tile) for tile in tiles]
        tags = tags_of([8] * 3, 2, t259=(3, [compression]), t322=(4, [16]), t323=(4, [16]))
        del tags[278]
        yield f"tiles {compression}", made("<", tags, tiles)
    row = WIDTH * 3
    yield "turned", made("<", tags_of([8] * 3, 2, t274=(3, [8])), strips(whole(row), row))


def main():
    program = subprocess.Popen([Path(sys.argv[2]) / "read_inputs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(content):
        program.stdin.write(b"image " + base64.b64encode(content) + b"\n")
        program.stdin.flush()
        return json.loads(program.stdout.readline())

    alike, refused = 0, []
    for name, content in itertools.chain(from_pillow(), by_hand()):
        ours = read(content)
        if "error" in ours:
            refused.append(f"{name}: {ours['error']}")
            continue
        alike += 1
        check(ours["read"] == pillow(content), f"{name}: {str(pillow(content))[:200]} {str(ours)[:200]}")
        for cut in (len(content) // 2, len(content) - 3) if "two pages" != name else ():
            check("error" in read(content[:cut]) or cut > len(content) // 2, f"{name}: cut at {cut} and read")
    print(f"{alike} alike; refused:", *refused, sep="\n  ")
    # Refused is only what docs/FAULTS.md names.
    check(alike > 60 and all("YCbCr" in name for name in refused), "too few are read")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
