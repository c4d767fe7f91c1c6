"""Compare the samples of bezel's data set with transformers' Gemma4Processor: token ids and media types of chats with
images and audio clips of many sizes, and the tokens that carry loss.

    python tests/parity/dataset_parity.py BUILD_DIR TEST_DIR

Runs TEST_DIR/dump_dataset on files made here; needs no model.
"""
import json, random, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from transformers import Gemma4Processor, GemmaTokenizer
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

TINY = Path(__file__).parent.parent / "data" / "tiny_tokenizer.json"
SIZES = [(64, 64), (96, 48), (48, 200), (333, 77), (1000, 40), (31, 900), (640, 480), (50, 50)]
SECONDS = [0.05, 0.3, 1.0, 2.37, 7.5, 31.0]
MAX_SOFT_TOKENS = 70


def make_processor():
    # The video processor needs torchvision, and no sample here has video.
    Gemma4Processor.check_argument_for_proper_class = lambda self, name, value: None
    tokenizer = GemmaTokenizer(
        tokenizer_file=str(TINY), bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
        extra_special_tokens=dict(boi_token="<|image>", eoi_token="<image|>", image_token="<|image|>", boa_token="<|audio>",
                                  eoa_token="<audio|>", audio_token="<|audio|>", sot_token="<|turn>", eot_token="<turn|>"))
    return Gemma4Processor(Gemma4AudioFeatureExtractor(), Gemma4ImageProcessorPil(max_soft_tokens=MAX_SOFT_TOKENS), tokenizer,
                           None, image_seq_length=MAX_SOFT_TOKENS, audio_seq_length=750, audio_ms_per_token=40)


def write_media(folder):
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    for i, seconds in enumerate(SECONDS):
        rate = [16000, 8000, 44100][i % 3]
        soundfile.write(folder / f"{i}.wav", rng.uniform(-0.5, 0.5, int(seconds * rate)), rate)


def make_samples():
    rng = random.Random(0)
    kinds = [("image", i) for i in range(len(SIZES))] + [("audio", i) for i in range(len(SECONDS))]
    for n in range(24):
        media = [kinds[n % len(kinds)]] + rng.sample(kinds, rng.randrange(3))
        parts = []
        for kind, i in media:
            parts.append({"type": kind, "path": f"{i}.{'png' if kind == 'image' else 'wav'}"})
            if rng.random() < 0.7:
                parts.append({"type": "text", "text": rng.choice(["What is it?", " naïve 日本語 ", "two\n\nlines"])})
        yield {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": rng.choice(["A cat.", "größe 🤖"])},
                            {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "No."}]}


def expected_of(processor, folder, sample, text):
    media = [p for m in sample["messages"] if isinstance(m["content"], list) for p in m["content"]]
    images = [Image.open(folder / p["path"]) for p in media if p["type"] == "image"]
    audio = []
    for p in media:
        if p["type"] == "audio":
            # Only the length matters here; tests of the audio reader compare the samples.
            info = soundfile.info(folder / p["path"])
            audio.append(np.zeros(min(480000, round(info.frames * 16000 / info.samplerate)), dtype=np.float32))
    inputs = dict(text=[text], add_special_tokens=False)
    if images: inputs["images"] = [images]
    if audio: inputs["audio"] = audio
    out = processor(**inputs)
    return [list(map(int, np.asarray(out[key]).reshape(-1))) for key in ("input_ids", "mm_token_type_ids")]


def learned_text(tokenizer, labels):
    return tokenizer.decode([i for i in labels if i != -100])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_media(folder)
        samples = list(make_samples())
        (folder / "t.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))
        done = subprocess.run([f"{sys.argv[2]}/dump_dataset", folder / "t.jsonl", TINY, str(MAX_SOFT_TOKENS)], capture_output=True)
        if done.returncode != 0:
            sys.exit(f"dump_dataset failed: {done.stderr.decode()}")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        processor = make_processor()
        bad = len(rows) != len(samples)
        for n, (sample, row) in enumerate(zip(samples, rows)):
            ids, types = expected_of(processor, folder, sample, row["text"])
            answers = "".join(m["content"] + "<turn|>" for m in sample["messages"] if m["role"] == "assistant")
            wrong = [what for what, ok in [("ids", ids == row["input_ids"]), ("types", types == row["mm_token_type_ids"]),
                                           ("loss", learned_text(processor.tokenizer, row["labels"]) == answers),
                                           ("planned", 0 <= row["planned_tokens"] - len(row["input_ids"]) <= 3)] if not ok]
            if wrong:
                bad = True
                print(f"sample {n}: {wrong} differ; {len(ids)} tokens expected, {len(row['input_ids'])} found")
    print(f"{len(rows)} samples compared: {'differences' if bad else 'the same ids, media types and loss'}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
