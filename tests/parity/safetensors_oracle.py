"""Compare Bezel's safetensors reader and writer with PyPI `safetensors`.

    python tests/parity/safetensors_oracle.py BUILD_DIR TEST_BIN_DIR

Random files written by the package go through Bezel (TEST_BIN_DIR/copy_safetensors) and must come back the same; damaged
ones that the package refuses must be refused by Bezel too. Exits with 1 on any difference.
"""
import json, random, struct, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64,
          torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64]


def random_tensors(rng):
    tensors = {}
    for i in range(rng.randrange(0, 12)):
        shape = [rng.choice([0, 1, 2, 3, 5]) for _ in range(rng.randrange(0, 4))]
        dtype = rng.choice(DTYPES)
        values = np.array([rng.randrange(0, 2 if dtype == torch.bool else 100) for _ in range(int(np.prod(shape)))])
        name = rng.choice(["model.layers.", "ünï \"q\"\\", "\n", "重み"]) + str(i)
        tensors[name] = torch.tensor(values).reshape(shape).to(dtype)
    return tensors


def read(path):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.reshape(-1).view(torch.uint8).equal(b.reshape(-1).view(torch.uint8))


def damaged(rng, raw):
    """The bytes of a file with one thing wrong, or perhaps not."""
    size = struct.unpack("<Q", raw[:8])[0]
    header, data = json.loads(raw[8:8 + size]), raw[8 + size:]
    names = [name for name in header if name != "__metadata__"]
    kind = rng.randrange(7)
    if kind == 0: return raw[:rng.randrange(len(raw))]
    if kind == 1: return raw + b"x"
    if kind == 2: return struct.pack("<Q", size + rng.choice([-1, 1, 2**40, 2**63])) + raw[8:]
    if not names: return raw[:4]
    info = header[rng.choice(names)]
    if kind == 3: info["data_offsets"][rng.randrange(2)] += rng.choice([-1, 1, 4, 2**62])
    if kind == 4: info["shape"] = info["shape"] + [rng.choice([-1, 2.0, 2**63, 2**64, "1", None, 7])]
    if kind == 5: info["dtype"] = rng.choice(["F8", "", 3, "I64" if info["dtype"] != "I64" else "U8"])
    if kind == 6: info["data_offsets"] = rng.choice([[0], [0, 1, 2], {}, None, [1, 0]])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def main():
    program = Path(sys.argv[2]) / "copy_safetensors"
    if not program.exists():
        print(f"{program} is not built")
        sys.exit(77)
    rng = random.Random(7)
    refused = [0, 0]
    with tempfile.TemporaryDirectory() as folder:
        source, copy = f"{folder}/a.safetensors", f"{folder}/b.safetensors"
        copied = lambda: subprocess.run([program, source, copy], capture_output=True, text=True)
        for case in range(150):
            save_file(random_tensors(rng), source, metadata=rng.choice([None, {"format": "pt", "ключ": "\"\\"}]))
            done = copied()
            if done.returncode != 0:
                sys.exit(f"case {case}: refused a good file: {done.stderr}")
            (want, want_meta), (got, got_meta) = read(source), read(copy)
            if want.keys() != got.keys() or not all(same(want[k], got[k]) for k in want) or (want_meta or {}) != (got_meta or {}):
                sys.exit(f"case {case}: the copy differs")
            Path(source).write_bytes(damaged(rng, Path(source).read_bytes()))
            try:
                read(source)
                bad = False
            except Exception:
                bad = True
            done = copied()
            if done.returncode not in (0, 1):
                sys.exit(f"case {case}: crashed with {done.returncode}: {done.stderr}")
            if bad and done.returncode == 0:
                sys.exit(f"case {case}: took a file that the package refuses")
            refused[0] += bad
            refused[1] += done.returncode
    print(f"150 files copied alike; of 150 damaged ones the package refused {refused[0]}, Bezel {refused[1]}")
    if refused[0] < 100:
        sys.exit("too few damaged files were really bad: the test lost its teeth")


main()
