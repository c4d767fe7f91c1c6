"""Videos as the reference sees them: which frames are taken and when, their pixels, the text and token ids, and what the model
makes of them.

    python tests/parity/video_parity.py BUILD_DIR TEST_DIR

The reference is transformers' Gemma 4 processors and model; files are decoded with PyAV by torchcodec's rules. Bounds: frame
indices, rates, times, ids and token types equal; frames within 2 levels of 255; patches equal where the frames are (the
image processor's own bounds elsewhere). Model in float32: loss 2e-5, logits 3e-3, soft tokens 1e-4, each gradient 1e-2.
"""
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _video import exact_frames, upright, use_exact_decoder

import numpy as np
import PIL.Image
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.image_processing_gemma4 import Gemma4ImageProcessor
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor
from transformers.models.gemma4.video_processing_gemma4 import Gemma4VideoProcessor
from transformers.video_utils import VideoMetadata

from _reference import ROOT, bezel, check, finish, forward, reference, relative

TEST_BIN = Path(sys.argv[2])
CLIPS = ROOT / "tests" / "data" / "video"
FRAMES = 32


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def make_clips(folder):
    """Codecs and pixel formats beyond those of tests/data/video; yields the paths."""
    source = ["-i", CLIPS / "a.mp4", "-t", "2"]
    kinds = {"mpeg4.avi": ["-c:v", "mpeg4", "-q:v", "4"], "mjpeg.avi": ["-c:v", "mjpeg", "-q:v", "3"],
             "bframes.avi": ["-c:v", "mpeg4", "-bf", "2"], "vp8.webm": ["-c:v", "libvpx", "-b:v", "200k"],
             "hevc.mp4": ["-c:v", "libx265", "-x265-params", "log-level=none"],
             "ten_bits.mp4": ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"],
             "four_four_four.mp4": ["-c:v", "libx264", "-pix_fmt", "yuv444p"],
             "odd.mkv": ["-c:v", "ffv1", "-pix_fmt", "yuv444p", "-vf", "scale=161:91"],
             "narrow.mp4": ["-c:v", "libx264", "-vf", "scale=178:100"],
             "rgb.mov": ["-c:v", "png"], "prores.mov": ["-c:v", "prores_ks"],
             "sparse_keys.mp4": ["-c:v", "libx264", "-g", "300"], "all_keys.mkv": ["-c:v", "libx264", "-g", "1"]}
    for name, options in kinds.items():
        ffmpeg(*source, *options, folder / name)
        yield folder / name


def dump(out, num_frames, fps, *files):
    done = subprocess.run([TEST_BIN / "video_dump", out, str(num_frames), str(fps), *files], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


def command_frames(path, shape):
    """All frames as the ffmpeg command of this machine gives them. Beyond 8 bits, versions of swscale bring chroma to the size
    of luma by other filters, so that PyAV's is no reference there: at edges of color its own interpolations differ by 100."""
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"],
                         capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape).astype(int)


def compare_frames(folder):
    worst = {}
    for path in sorted(CLIPS.iterdir()) + list(make_clips(folder)):
        got = dump(folder / "frames", FRAMES, 0, path)
        if isinstance(got, str):
            check(False, f"{path.name}: {got}")
            continue
        count, rate, frames = exact_frames(path)
        if path.name == "bframes.avi":
            rate = got["fps"]  # before version 6, FFmpeg knew no time of presentation in AVI, and begins half a frame later
        taken = min(FRAMES, count)
        indices = [i * count // taken for i in range(taken)]
        check(got["num_frames"] == count and got["fps"] == rate, f"{path.name}: {got['num_frames']} at {got['fps']}, {count} at {rate}")
        check(got["indices"] == indices, f"{path.name}: indices {got['indices']}")
        times = [f"{int(i / rate // 60):02d}:{int(i / rate % 60):02d}" for i in indices]
        check(got["times"] == times, f"{path.name}: times {got['times']}")
        want = np.stack([upright(frames[i]) for i in indices]).astype(int)
        if path.name == "ten_bits.mp4":
            want = command_frames(path, want.shape[1:])[indices]
        pixels = np.fromfile(folder / "frames", np.uint8).reshape(len(indices), got["height"], got["width"], 3)
        check(pixels.shape == want.shape, f"{path.name}: {pixels.shape}, {want.shape}")
        worst[path.name] = int(np.abs(pixels - want).max()) if pixels.shape == want.shape else 255
        check(worst[path.name] <= 2, f"{path.name}: frames differ by {worst[path.name]} levels")
    print(f"{len(worst)} clips: the same frames at the same times; {sum(e == 0 for e in worst.values())} the same to the bit, "
          f"largest difference {max(worst.values())} levels")


def compare_colors(folder):
    """BT.709 against the matrix of the standard, so that both sides cannot be wrong together."""
    path = CLIPS / "full709.mp4"
    dump(folder / "frames", 1, 0, path)
    _, _, frames = exact_frames(path)
    planes = [np.frombuffer(bytes(p), np.uint8).reshape(-1, p.line_size)[:p.height, :p.width].astype(float) for p in frames[0].planes]
    height, width = planes[0].shape
    y, (u, v) = planes[0], (p.repeat(2, 0).repeat(2, 1)[:height, :width] - 128 for p in planes[1:])
    check(frames[0].color_range == 2, "full709.mp4 is not of full range")
    want = np.stack([y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u], -1).clip(0, 255)
    got = np.fromfile(folder / "frames", np.uint8).reshape(want.shape)
    error = np.abs(got - want).max()  # BT.601 would differ by 40, limited range by 22
    check(error <= 2, f"BT.709: {error:.2f} levels")
    print(f"BT.709 in full range by its matrix: {error:.2f} levels at most")


def compare_choices(folder):
    for num_frames, fps in ((8, 0), (1, 0), (100, 0), (32, 1), (32, 2.5), (32, 0.01)):
        got = dump("-", num_frames, fps, CLIPS / "a.mp4")
        n = min(144, max(1, int(144 / 24.0 * fps)) if fps else num_frames)
        check(got["indices"] == (np.arange(n) * 144 // n).tolist(), f"{num_frames} frames, {fps} a second: {got}")


def processor_of(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return Gemma4Processor(Gemma4AudioFeatureExtractor(), Gemma4ImageProcessor(max_soft_tokens=70), tokenizer,
                           Gemma4VideoProcessor(), image_seq_length=70)


def samples_of(folder):
    """(line of a data set, the processor's inputs)"""
    def line(*parts):
        return {"messages": [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": "Waves."}]}

    def video(path):
        return {"type": "video", "path": path}

    text = {"type": "text", "text": "What moves?"}
    for clip in sorted(CLIPS.iterdir()):
        shutil.copy(clip, folder)
        if clip.name != "short.mp4":
            yield line(video(clip.name), text), {"videos": [[str(clip)]]}
    noise = np.random.default_rng(0)
    PIL.Image.fromarray(noise.integers(0, 255, (90, 70, 3), dtype=np.uint8)).save(folder / "i.png")
    soundfile.write(folder / "s.wav", noise.uniform(-0.5, 0.5, 20000), 16000)
    both = [[str(CLIPS / "a.mp4"), str(CLIPS / "vfr.mp4")]]
    yield line(video("a.mp4"), text, video("vfr.mp4")), {"videos": both}
    yield line({"type": "image", "path": "i.png"}, video("a.mp4"), {"type": "audio", "path": "s.wav"}, text, video("vfr.mp4")), {
        "videos": both, "images": [[PIL.Image.open(folder / "i.png")]], "audio": [np.zeros(20000, np.float32)]}
    frames = noise.integers(0, 255, (5, 64, 96, 3), dtype=np.uint8)
    for i, frame in enumerate(frames):
        PIL.Image.fromarray(frame).save(folder / f"f{i}.png")
    metadata = VideoMetadata(total_num_frames=5, fps=0.4, frames_indices=list(range(5)))
    given = {"videos": [torch.from_numpy(frames).permute(0, 3, 1, 2)], "video_metadata": [metadata], "do_sample_frames": False}
    yield line({"type": "video", "frames": [f"f{i}.png" for i in range(5)], "fps": 0.4}, text), given


def compare_samples(folder, model):
    processor = processor_of(model)
    lines, inputs = zip(*samples_of(folder))
    (folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = subprocess.run([TEST_BIN / "dump_dataset", folder / "t.jsonl", model / "tokenizer.json", "70"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"dump_dataset failed: {done.stderr}")
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    tokens = 0
    for i, (row, given) in enumerate(zip(rows, inputs)):
        want = processor(text=[row["text"]], add_special_tokens=False, **given)
        same = all(np.array_equal(np.asarray(want[key]).reshape(-1), row[key]) for key in ("input_ids", "mm_token_type_ids"))
        check(same, f"sample {i}: ids or token types differ, {np.asarray(want['input_ids']).size} and {len(row['input_ids'])} tokens")
        learned = processor.tokenizer.decode([t for t in row["labels"] if t != -100])
        check(learned == "Waves.<turn|>", f"sample {i}: learned {learned!r}")
        # The length of an audio clip is planned as an upper bound that may be one too large.
        slack = 1 if "audio" in given else 0
        check(0 <= row["planned_tokens"] - len(row["input_ids"]) <= slack, f"sample {i}: {row['planned_tokens']} tokens planned")
        tokens += len(row["input_ids"])
    check(len(rows) == len(lines), f"{len(rows)} of {len(lines)} samples")
    print(f"{len(rows)} samples, {tokens} tokens: the same ids and token types")
    try:
        processor(text=["<|video|>"], videos=[[str(CLIPS / "short.mp4")]])
        check(False, "the reference takes a clip of fewer than 32 frames by now")
    except ValueError:
        pass


def compare_patches(folder):
    """What the vision tower reads. Frames equal to the bit give patches equal to the bit."""
    processor = Gemma4VideoProcessor()
    worst = 0.0
    names = ["a.mp4", "b.webm", "rot.mov", "full709.mp4", "c.gif"]
    lines = "".join(f"video\t{CLIPS / name}\t{folder / name}.safetensors\n" for name in names)
    answers = subprocess.run([TEST_BIN / "media_dump"], input=lines, capture_output=True, text=True, check=True).stdout.split("\n")
    for name, answer in zip(names, answers):
        check(answer == "ok", f"{name}: {answer}")
        got = load_file(folder / f"{name}.safetensors")
        want = processor([str(CLIPS / name)], return_tensors="pt")
        n = int(want["num_soft_tokens_per_video"][0]) * 9
        check(torch.equal(got["positions"], want["video_position_ids"][:, :n].long()), f"{name}: positions")
        check(got["patches"].shape == want["pixel_values_videos"][:, :n].shape, f"{name}: {got['patches'].shape}")
        worst = max(worst, (got["patches"] - want["pixel_values_videos"][:, :n]).abs().max().item())
    check(worst == 0, f"patches differ by {worst * 255:.2f} levels")
    print(f"{len(names)} clips: patches differ by {worst * 255:.2f} levels at most")


def model_case(model, processor):
    """Inputs of a text with two videos of small frames, an image between them, and labels."""
    noise = np.random.default_rng(1)
    videos = [torch.from_numpy(noise.integers(0, 255, (n, 3, h, w), dtype=np.uint8)) for n, h, w in ((3, 60, 80), (2, 96, 48))]
    metadata = [VideoMetadata(total_num_frames=40, fps=8.0, frames_indices=i) for i in ([0, 13, 26], [0, 20])]
    text = "<bos><|turn>user\n<|video|>then<|image|>and<|video|>What is it?<turn|>\n<|turn>model\nColor that moves.<turn|>\n"
    image = PIL.Image.fromarray(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    x = processor(text=[text], videos=videos, video_metadata=metadata, images=[[image]], do_sample_frames=False, return_tensors="pt",
                  add_special_tokens=False)
    names = ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_position_ids", "pixel_values_videos",
             "video_position_ids")
    labels = x["input_ids"].clone()
    labels[:, :-8] = -100
    return {name: x[name] for name in names} | {"num_frames_per_video": torch.as_tensor(x["num_frames_per_video"])}, labels


def compare_model(root, preset, folder):
    from peft import PeftModel
    from transformers import Gemma4ForConditionalGeneration

    model_dir, adapter = root / preset / "model", root / preset / "adapter"
    x, labels = model_case(model_dir, processor_of(model_dir))
    save_file({f"in.{k}": v.contiguous() for k, v in x.items() if k != "num_frames_per_video"} | {"in.labels": labels}, folder / "case")
    model = Gemma4ForConditionalGeneration.from_pretrained(model_dir, attn_implementation="eager").float().eval()
    with torch.no_grad():
        want = model(**x, labels=labels, use_cache=False)
    got = forward(model_dir, folder / "case", folder / "out", "--dtype", "float32")
    errors = {"logits": (got["logits"] - want.logits).abs().max().item(), "loss": abs(got["loss"].item() - want.loss.item())}
    with torch.no_grad():
        soft = model.model.get_video_features(x["pixel_values_videos"], x["video_position_ids"], x["num_frames_per_video"], return_dict=True)
    errors["soft tokens"] = relative(got["video_features"], torch.cat(list(soft.pooler_output)).reshape(got["video_features"].shape))
    tuned = PeftModel.from_pretrained(model, adapter, is_trainable=True).eval()
    tuned(**x, labels=labels, use_cache=False).loss.backward()
    got = forward(model_dir, folder / "case", folder / "out", "--dtype", "float32", "--adapter", adapter, "--grads")
    grads = {"grad." + n.replace(".default", ""): p.grad for n, p in tuned.named_parameters() if p.grad is not None}
    check({k for k in got if k.startswith("grad.")} == set(grads), f"{preset}: other tensors have gradients")
    relatives = {k: relative(got[k], g) for k, g in grads.items() if k in got}
    errors["worst gradient"], errors["median gradient"] = max(relatives.values()), statistics.median(relatives.values())
    check(any("vision_tower" in k and g.norm() > 0 for k, g in grads.items()), f"{preset}: no gradient reaches the vision tower")
    bounds = {"logits": 3e-3, "loss": 2e-5, "soft tokens": 1e-4, "worst gradient": 1e-2, "median gradient": 1e-3}
    for name, bound in bounds.items():
        check(errors[name] <= bound, f"{preset}: {name} {errors[name]:.1e}")
    print(f"{preset} with two videos and an image: " + ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))


def main():
    use_exact_decoder()
    root = reference(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare_frames(folder)
        compare_colors(folder)
        compare_choices(folder)
        compare_patches(folder)
        compare_samples(folder, root / "e2b" / "model")
        for preset in ("e2b", "dense", "moe"):
            compare_model(root, preset, folder)
    sys.exit(finish())


if __name__ == "__main__":
    main()
