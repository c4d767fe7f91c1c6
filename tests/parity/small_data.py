"""Small data sets train: README's two samples by examples/train_e2b.yaml, and 24 short chats by the defaults. Each adapter
passes verify-adapter and has moved from its start, as safetensors reads it. Runs that cannot learn end before they begin."""
import json
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _reference import bezel

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "demo" / "model"
LIGHT = ("--base-model", MODEL, "--sample-predictions", 0, "--threads", 2, "--dtype", "float32")


def readme_samples(folder):
    readme = (ROOT / "README.md").read_text()
    (folder / "my.jsonl").write_text(readme.split("<<'JSONL'\n")[1].split("JSONL\n")[0])
    noise = np.random.default_rng(1)
    Image.fromarray(noise.integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(folder / "cat.jpg")
    with wave.open(str(folder / "hello.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(noise.integers(-9000, 9000, 16000, dtype=np.int16).tobytes())
    return folder / "my.jsonl"


def short_samples(folder):
    rows = [{"prompt": f"Number {i}?", "completion": f"It is {i}."} for i in range(24)]
    (folder / "short.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "short.jsonl"


def moved(adapter):
    """lora_B starts at zero: every one that is not zero was learnt."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    return sorted(name for name, value in tensors.items() if ".lora_B." in name and np.any(value != 0))


def check_readme(folder):
    out = folder / "readme"
    done = bezel("train", ROOT / "examples" / "train_e2b.yaml", "--train-file", readme_samples(folder), "--output-dir", out, "--val-set-size", 0,
                 *LIGHT)
    assert "warning: the run has 3 updates" in done.stderr, done.stderr
    names = moved(out)
    for tower in ("language_model", "vision_tower", "audio_tower"):
        assert any(tower in name for name in names), (tower, names)
    bezel("verify-adapter", "--model", MODEL, "--adapter", out)


def check_short(folder):
    out, samples = folder / "short", short_samples(folder)
    done = bezel("train", "--train-file", samples, "--output-dir", out, *LIGHT)
    assert "packed" not in done.stderr and "warning: the run has 6 updates" in done.stderr, done.stderr
    rates = [row["learning_rate"] for row in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "learning_rate" in row]
    assert len(rates) == 6 and min(rates) > 0 and rates[0] == 2e-4, rates
    assert moved(out)
    bezel("verify-adapter", "--model", MODEL, "--adapter", out)


def check_refused(folder):
    samples = short_samples(folder)
    for flags, parts in ((("--learning-rate", 0), ["learning_rate 0", "2e-4"]), (("--warmup-steps", 6), ["warmup_steps 6", "6 updates"]),
                         (("--max-steps", 1, "--warmup-steps", 1), ["warmup_steps 1", "write warmup_steps: 0"])):
        out = folder / "never"
        done = bezel("train", "--train-file", samples, "--output-dir", out, *LIGHT, *flags, code=2)
        assert len(done.stderr.splitlines()) == 1 and all(part in done.stderr for part in parts), (flags, done.stderr)
        assert not (out / "adapter_model.safetensors").exists()


def main():
    with tempfile.TemporaryDirectory() as name:
        for check in (check_readme, check_short, check_refused):
            check(Path(name))
    print("README's two samples and 24 short ones train; runs that cannot learn are refused")


if __name__ == "__main__":
    main()
