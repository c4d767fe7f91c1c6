"""`bezel train` from end to end on the demo's checkpoint: images and speech, all towers. The loss must fall, the output
folder must be complete, PEFT must load the adapter unmodified, and its logits must be those of `bezel forward`.

    train_command.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import make_reference as reference  # noqa: E402

import soundfile  # noqa: E402
import soxr  # noqa: E402

BEZEL = Path(sys.argv[1]) / "bezel"
MODEL = ROOT / "demo" / "model"
ASSETS = ROOT / "demo" / "assets"
STEPS = 24
# float32's own error between the two: see the bounds of the forward parity test.
TOLERANCE = {"text": 3e-4, "audio": 3e-4, "image": 3e-3}


def bezel(*arguments, expect=0):
    done = subprocess.run([BEZEL, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
    return done


def train(out: Path, *extra):
    return bezel("train", ROOT / "demo" / "config.yaml", "--output-dir", out, "--max-steps", STEPS, "--logging-steps", 1, *extra)


def check_folder(out: Path):
    for name in ("adapter_model.safetensors", "adapter_config.json", "README.md", "config.resolved.yaml", "trainer_state.json",
                 "metrics.jsonl", "tokenizer.json", "tokenizer_config.json", "processor_config.json", "checkpoint-12"):
        assert (out / name).exists(), name
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in metrics if "loss" in row]
    assert len(losses) == STEPS, len(losses)
    first, last = sum(losses[:4]) / 4, sum(losses[-4:]) / 4
    print(f"loss {first:.3f} -> {last:.3f}")
    assert last < 0.9 * first, losses
    state = json.loads((out / "trainer_state.json").read_text())
    assert state["global_step"] == STEPS and state["log_history"][0]["learning_rate"] == 0.0
    assert [row["loss"] for row in state["log_history"] if "loss" in row] == losses


def cases(processor):
    turn = "<bos><|turn>user\n{}<turn|>\n<|turn>model\nFront Left.<turn|>\n"
    sound, rate = soundfile.read(ASSETS / "Front_Left.wav", dtype="float32")
    yield "text", dict(text=[turn.format("What is in the image?")])
    yield "image", dict(text=[turn.format("<|image|>What is in the image?")], images=[[Image.open(ASSETS / "chelsea.png")]])
    yield "audio", dict(text=[turn.format("<|audio|>Transcribe the audio clip.")], audio=[soxr.resample(sound, rate, 16000)])


def check_peft(out: Path, scratch: Path):
    base = reference.Gemma4ForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    model = PeftModel.from_pretrained(base, str(out)).eval()
    trained = [p for n, p in model.named_parameters() if "lora_B" in n]
    assert len(trained) == len(load_file(out / "adapter_model.safetensors")) // 2
    assert all(float(p.detach().abs().max()) > 0 for p in trained), "an adapter did not move"
    tokenizer = reference.GemmaTokenizer.from_pretrained(MODEL)
    processor = reference.Gemma4Processor(reference.Gemma4AudioFeatureExtractor.from_pretrained(MODEL),
                                          reference.Gemma4ImageProcessorPil.from_pretrained(MODEL), tokenizer, None, image_seq_length=70)
    for name, raw in cases(processor):
        inputs = dict(processor(**raw, return_tensors="pt", add_special_tokens=False))
        inputs = {key: torch.as_tensor(value) for key, value in inputs.items() if key != "num_soft_tokens_per_image"}
        with torch.no_grad():
            wanted = model(**inputs, use_cache=False).logits
        save_file({f"in.{key}": value.contiguous() for key, value in inputs.items()}, scratch / "in.safetensors")
        bezel("forward", "--model", MODEL, "--adapter", out, "--inputs", scratch / "in.safetensors", "--output", scratch / "out.safetensors")
        error = float((load_file(scratch / "out.safetensors")["logits"] - wanted).abs().max())
        print(f"{name}: worst logit error {error:.1e}")
        assert error < TOLERANCE[name], (name, error)


def check_refusals(scratch: Path):
    out = scratch / "never"
    assert "learning_rate" in bezel("train", ROOT / "demo" / "config.yaml", "--learnin-rate", "1", expect=2).stderr
    assert "base_model" in bezel("train", "--output-dir", out, "--train-file", "x", expect=2).stderr
    text_only = scratch / "text.jsonl"
    text_only.write_text('{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A cup."}]}\n')
    message = bezel("train", ROOT / "demo" / "config.yaml", "--train-file", text_only, "--output-dir", out, expect=2).stderr
    assert "image" in message or "audio clip" in message, message
    bezel("train", ROOT / "demo" / "config.yaml", "--train-file", scratch / "none.jsonl", "--output-dir", out, expect=2)
    bezel("train", ROOT / "demo" / "config.yaml", "--base-model", scratch, "--output-dir", out, expect=4)
    assert not (out / "adapter_model.safetensors").exists()


def check_soft_token_cache(scratch: Path):
    """Towers without adapters: the same bytes without a cache, filling one, from a filled one and from a damaged one."""
    cache, adapters = scratch / "cache", {}

    def run(name, *extra):
        out = scratch / name
        bezel("train", ROOT / "demo" / "config.yaml", "--output-dir", out, "--lora-towers", "language", "--max-steps", 8, "--save-steps", 0, *extra)
        adapters[name] = (out / "adapter_model.safetensors").read_bytes()

    run("uncached", "--cache-soft-tokens", "false")
    for name in ("filling", "filled", "damaged"):
        run(name, "--cache-soft-tokens", "true", "--cache-dir", cache)
        entries = sorted(cache.iterdir())
        assert entries, "nothing was cached"
        entries[0].write_bytes(entries[0].read_bytes()[:-1])
    assert len(set(adapters.values())) == 1, [hash(bytes) for bytes in adapters.values()]


def main():
    subprocess.run([sys.executable, ROOT / "demo" / "prepare.py"], check=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        out = scratch / "out"
        train(out, "--save-steps", 12)
        check_folder(out)
        check_peft(out, scratch)
        again = scratch / "again"
        train(again, "--save-steps", 0)
        same = (again / "adapter_model.safetensors").read_bytes() == (out / "adapter_model.safetensors").read_bytes()
        assert same, "the same seed gave another adapter"
        check_soft_token_cache(scratch)
        check_refusals(scratch)


if __name__ == "__main__":
    main()
