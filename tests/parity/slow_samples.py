"""Samples are read by worker threads: how many there are changes no byte of the adapter, and a file that hangs ends the run, or
is left out, with its line.

    slow_samples.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300
BROKEN = 3


def write_samples(folder: Path):
    rng = np.random.default_rng(0)
    with open(folder / "train.jsonl", "w") as file:
        for i in range(7):
            Image.fromarray(rng.integers(0, 255, (60, 50 + 30 * i, 3), dtype=np.uint8)).save(folder / f"{i}.png")
            parts = [{"type": "image", "path": f"{i}.png"}, {"type": "text", "text": f"Number {i}?"}]
            file.write(json.dumps({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": f"An image of {i} cats."}]}) + "\n")


def train(bezel, folder, out, *extra, expect=0, hangs=None):
    flags = {"base-model": ROOT / "demo" / "model", "train-file": folder / "train.jsonl", "output-dir": folder / out, "dtype": "float32", "threads": 2,
             "lora-r": 4, "lora-dropout": 0.1, "lora-towers": "language,vision", "max-soft-tokens": 70, "packing": "true", "max-seq-length": 160,
             "micro-batch-size": 1, "gradient-accumulation-steps": 2, "num-train-epochs": 2, "val-set-size": 2, "save-steps": 0}
    flags |= dict(flag.removeprefix("--").split("=", 1) for flag in extra)
    env = dict(os.environ)
    if hangs:
        shim = Path(sys.argv[2]) / "libhang_open.so"
        env |= {"LD_PRELOAD": str(shim.resolve()), "HANG_OPEN": hangs, "ASAN_OPTIONS": "verify_asan_link_order=0"}
    done = subprocess.run([bezel, "train", *(f"--{key}={value}" for key, value in flags.items())], env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == expect, (out, done.returncode, done.stderr)
    return done.stderr


def eval_losses(out: Path):
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row["eval_loss"] for row in rows if "eval_loss" in row]


def check_bad_sample_late(bezel, folder):
    """An image that cannot be decoded ends the run at its step; what was learned until then is saved, and goes on."""
    image = folder / "6.png"
    whole = image.read_bytes()
    flags = ("--shuffle=false", "--val-set-size=0", "--gradient-accumulation-steps=1", "--packing=false", "--num-train-epochs=1", "--warmup-steps=0",
             "--save-steps=100", "--sample-predictions=0")
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    # Every chunk is whole, but of 50 rows only 25 are there: decoding alone shows it.
    image.write_bytes(whole[:33] + chunk(b"IDAT", zlib.compress(bytes(25 * (1 + 3 * 230)))) + chunk(b"IEND", b""))
    text = train(bezel, folder, "late", *flags, expect=3)
    assert "6.png" in text and "train.jsonl:7" in text, text
    out = folder / "late"
    assert (out / "adapter_model.safetensors").exists() and (out / "checkpoint-6" / "MANIFEST.json").exists(), text
    image.write_bytes(whole)
    text = train(bezel, folder, "late", *flags, "--resume-from-checkpoint=auto", "--force-resume=true")  # the image is another
    assert "resumed after step 6" in text, text
    train(bezel, folder, "undisturbed", *flags)
    assert (out / "adapter_model.safetensors").read_bytes() == (folder / "undisturbed" / "adapter_model.safetensors").read_bytes()


def main():
    bezel = Path(sys.argv[1]) / "bezel"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_samples(folder)
        check_bad_sample_late(bezel, folder)
        for workers in (0, 1, 2):
            train(bezel, folder, f"workers-{workers}", f"--dataloader-num-workers={workers}")
        adapters = [(folder / f"workers-{workers}" / "adapter_model.safetensors").read_bytes() for workers in (0, 1, 2)]
        assert adapters[0] == adapters[1] == adapters[2], "the adapter depends on who reads the samples"
        losses = [eval_losses(folder / f"workers-{workers}") for workers in (0, 2)]
        assert losses[0] == losses[1] and losses[0], losses

        slow = f"train.jsonl:{BROKEN + 1}: not read and decoded after 2 s"
        for workers in (1, 2):
            text = train(bezel, folder, "hangs", f"--dataloader-num-workers={workers}", "--data-timeout=2", expect=3, hangs=f"/{BROKEN}.png")
            assert slow in text and len(text.strip().splitlines()[-1]) < 400, text
        text = train(bezel, folder, "goes-on", "--data-timeout=2", "--skip-bad-samples=true", hangs=f"/{BROKEN}.png")
        assert text.count(slow) == 1 and "left out: " in text, text
        # The control: the file that hangs is one that is asked for, for training or for evaluation, so the numbers differ.
        assert (folder / "goes-on" / "adapter_model.safetensors").read_bytes() != adapters[0] or eval_losses(folder / "goes-on") != losses[0]


if __name__ == "__main__":
    main()
