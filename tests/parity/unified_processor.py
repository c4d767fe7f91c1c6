"""Images, audio clips and prompts of the unified model against transformers' Gemma4UnifiedProcessor on torchvision: patches,
positions, frames and token ids, bit for bit.

    unified_processor.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import sys
import tempfile
from pathlib import Path

from _torchvision import use_torchvision

LIBRARY = use_torchvision()
if LIBRARY is None:
    print("no wheel of torchvision in .venv: tools/setup.sh test downloads it")
    sys.exit(77)

import numpy as np
import soundfile
import torch
from PIL import Image
from transformers import (AutoTokenizer, Gemma4UnifiedAudioFeatureExtractor, Gemma4UnifiedImageProcessor, Gemma4UnifiedProcessor,
                          Gemma4UnifiedVideoProcessor)

from _reference import BIN, ROOT, UNIFIED, bezel, check, finish, reference
from media_parity import Dump

sys.path.insert(0, str(ROOT / "tools"))
import make_reference as made  # noqa: E402

SIZES = [(48, 48), (96, 48), (220, 150), (90, 300), (1000, 40), (31, 900), (640, 480), (1600, 1200), (2000, 333), (50, 50)]
SAMPLES = [1, 639, 640, 641, 16000, 12345, 16000 * 40 + 1]


def model_folder(model, folder, budget):
    """What the settings of media are read from, with places for images of `budget` soft tokens."""
    folder.mkdir()
    config, processor = (json.loads((model / name).read_text()) for name in ("config.json", "processor_config.json"))
    config["vision_config"]["mm_posemb_size"] = 1120
    config["text_config"]["max_position_embeddings"] = 262144
    processor["image_processor"]["max_soft_tokens"] = budget
    for name, value in (("config.json", config), ("processor_config.json", processor)):
        (folder / name).write_text(json.dumps(value))
    return folder


def pictures(dump, model, tmp):
    compared = 0
    for budget in (70, 140, 280, 560, 1120):
        folder = model_folder(model, tmp / f"budget-{budget}", budget)
        processor = Gemma4UnifiedImageProcessor.from_pretrained(folder)
        check(processor.max_soft_tokens == budget, "the processor takes the budget")
        for i, (width, height) in enumerate(SIZES):
            path = tmp / f"{i}.png"
            made.test_image(width, height, i).save(path)
            wanted = processor(Image.open(path), return_tensors="pt")
            count = wanted["num_soft_tokens_per_image"][0]
            got = dump.tensors("image-of", path, folder)
            check(not isinstance(got, str), f"{width} x {height}: {got}")
            name = f"{width} x {height}, {budget} soft tokens"
            check(got["counts"][0] == count, f"{name}: {got['counts'][0]} of {count} soft tokens")
            check(np.array_equal(got["features"], wanted["pixel_values"][0, :count].numpy()), f"{name}: other pixels")
            check(np.array_equal(got["layout"], wanted["image_position_ids"][0, :count].numpy()), f"{name}: other positions")
            compared += int(count)
    print(f"{compared} patches of {5 * len(SIZES)} images compared")


def audio_clips(dump, model, tmp):
    folder = model_folder(model, tmp / "sound", 70)
    extractor = Gemma4UnifiedAudioFeatureExtractor.from_pretrained(folder)
    for i, count in enumerate(SAMPLES):
        path = tmp / f"{i}.wav"
        soundfile.write(path, made.test_audio(count / 16000 + 1e-9, i)[:count], 16000, subtype="PCM_16")
        samples, rate = soundfile.read(path, dtype="float32")
        check(len(samples) == count and rate == 16000, f"the file has {len(samples)} samples")
        wanted = extractor([samples], return_tensors="pt")
        got = dump.tensors("audio-of", path, folder)
        check(not isinstance(got, str), f"{count} samples: {got}")
        check(np.array_equal(got["features"], wanted["input_features"][0].numpy()), f"{count} samples: other frames")
        check(got["layout"].all() and got["counts"][0] == int(wanted["input_features_mask"].sum()), f"{count} samples: {got['counts'][0]} soft tokens")
    print(f"{len(SAMPLES)} audio clips compared, the longest of {SAMPLES[-1] / 16000:.0f} s")


def prompts(model, tmp):
    """Token ids of `bezel generate`, with media of several sizes."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    processor = Gemma4UnifiedProcessor(Gemma4UnifiedAudioFeatureExtractor.from_pretrained(model), Gemma4UnifiedImageProcessor.from_pretrained(model),
                                       tokenizer, Gemma4UnifiedVideoProcessor(), image_seq_length=70)
    text = "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\n{}<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    for prompt, inside, images, sounds in (("What?", "<|image|><|audio|>What?", [2], [4]), ("<|audio|>and <|image|>?",) * 2 + ([5], [6]),
                                           ("a<|image|>b<|image|>c",) * 2 + ([0, 3], [])):
        pictures, clips = [tmp / f"{i}.png" for i in images], [tmp / f"{i}.wav" for i in sounds]
        inputs = dict(text=[text.format(inside)], add_special_tokens=False)
        if pictures: inputs["images"] = [[Image.open(p) for p in pictures]]
        if clips: inputs["audio"] = [soundfile.read(p, dtype="float32")[0] for p in clips]
        wanted = list(map(int, np.asarray(processor(**inputs)["input_ids"][0]).reshape(-1)))
        flags = [x for p in pictures for x in ("--image", p)] + [x for p in clips for x in ("--audio", p)]
        out = bezel("generate", "--model", model, "--prompt", prompt, "--system", "Be brief.", *flags, "--max-new-tokens", 1, "--json").stdout
        check(json.loads(out)["prompt_ids"] == wanted, f"prompt ids of {inside!r}: {len(wanted)} tokens")
    print("token ids of three prompts compared")


def main() -> int:
    model = reference(0, tuple(UNIFIED)) / "unified" / "model"
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        dump = Dump(sys.argv[2])
        pictures(dump, model, tmp)
        audio_clips(dump, model, tmp)
        prompts(model, tmp)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
