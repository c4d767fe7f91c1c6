"""The commands on videos, sound out of M4A and WebM files against PyAV, and what no video should be: each of it is refused by
name, in bounded time and memory.

    video_command.py BUILD_DIR TEST_DIR
"""
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _video import exact_frames, upright

import numpy as np
import PIL.Image
import soxr
from safetensors.torch import load_file

from _reference import ROOT, bezel, check, finish, reference

TEST_BIN = Path(sys.argv[2])
CLIPS = ROOT / "tests" / "data" / "video"
LIMIT_S, LIMIT_MIB = 30, 400


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def sample(*media):
    parts = [*media, {"type": "text", "text": "What moves?"}]
    return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "Waves of color."}]}


def write(path, *samples):
    path.write_text("".join(json.dumps(s) + "\n" for s in samples))
    return path


def write_frames(folder):
    """The frames of short.mp4 as PNG; the part that names them."""
    folder.mkdir()
    count, rate, frames = exact_frames(CLIPS / "short.mp4")
    for i, frame in enumerate(frames):
        PIL.Image.fromarray(np.ascontiguousarray(upright(frame))).save(folder / f"frame_{i + 1:04d}.png")
    assert count == len(frames) == 24
    return {"type": "video", "path": folder.name, "fps": rate}


def common(model, file, out):
    return ("--base-model", model, "--train-file", file, "--output-dir", out, "--max-seq-length", 4096, "--media-root", file.parent)


def check_commands(model, folder):
    for clip in CLIPS.iterdir():
        (folder / clip.name).write_bytes(clip.read_bytes())
    frames = write_frames(folder / "frames")
    as_file = write(folder / "file.jsonl", sample({"type": "video", "path": "short.mp4"}))
    as_frames = write(folder / "frames.jsonl", sample(frames))
    # One view, one loss, whether the frames come out of a file or a folder.
    views, losses = [], []
    for file in (as_file, as_frames):
        text = bezel("preprocess", *common(model, file, folder / "none"), "--video-frames", 4, "--show", 1, "--json").stdout
        views.append(json.loads(text)["samples"][0])
        done = bezel("evaluate", "--model", model, "--data", file, "--video-frames", 4, "--max-seq-length", 4096, "--json", "--dtype", "float32")
        losses.append(json.loads(done.stdout)["base"]["loss"])
    view = views[0]
    check(views[0]["input_ids"] == views[1]["input_ids"], "a file and its frames give other tokens")
    check(losses[0] == losses[1] and losses[0] > 0, f"a file and its frames give other losses: {losses}")
    media = view["media"][0]
    check((media["kind"], media["frames"], media["times"]) == ("video", 24, ["00:00"] * 4), f"{media}")
    check(media["soft_tokens"] == view["words"].count("<|video|>") == 4 * 63, f"{media['soft_tokens']} soft tokens")
    shown = bezel("preprocess", *common(model, as_file, folder / "none"), "--show", 1).stdout
    check("24 of 24 frames at 24 a second, 1,512 soft tokens" in shown, shown[:600])
    check("00:00 <|image>[63 soft tokens of a video]<image|> 00:00" in shown, shown[:900])

    prompt = json.loads(bezel("generate", "--model", model, "--video", folder / "short.mp4", "--video-frames", 4, "--prompt",
                              "What moves?", "--max-new-tokens", 4, "--greedy", "--json", "--dtype", "float32").stdout)
    wanted = view["input_ids"][:len(prompt["prompt_ids"])]
    check(prompt["prompt_ids"] == wanted and len(prompt["tokens"]) > 0, "generate --video asks another prompt")
    by_rate = json.loads(bezel("generate", "--model", model, "--video", folder / "a.mp4", "--video-fps", 1, "--prompt", "?",
                               "--max-new-tokens", 1, "--greedy", "--json").stdout)
    check(by_rate["prompt_ids"].count(view["input_ids"][view["words"].index("<|video|>")]) == 6 * 63, "--video-fps 1 of 6 seconds")
    print("preprocess, evaluate and generate: a file and its frames are one")


def check_train(model, folder):
    file = write(folder / "train.jsonl", *(sample({"type": "video", "path": name}) for name in ("a.mp4", "b.webm", "rot.mov", "short.mp4")),
                 {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]})
    options = ("--video-frames", 4, "--epochs", 6, "--learning-rate", 0.01, "--lora-r", 4, "--logging-steps", 1, "--sample-predictions", 0,
               "--gradient-accumulation-steps", 1)
    dry = json.loads(bezel("preprocess", *common(model, file, folder / "none"), "--video-frames", 4, "--dry-run", "--json").stdout)
    check(dry["train"]["videos"] == 4 and dry["train"]["bad_samples"] == 0, f"dry run: {dry['train']}")
    for towers in ("language", "language,vision,projectors"):
        out = folder / towers.replace(",", "-")
        bezel("train", *common(model, file, out), *options, "--lora-towers", towers, "--quiet")
        log = [row["loss"] for row in json.loads((out / "trainer_state.json").read_text())["log_history"] if "loss" in row]
        check(len(log) == 30 and np.mean(log[-5:]) < 0.8 * np.mean(log[:5]), f"{towers}: losses {log}")
        cached = len(list((out / "cache").glob("*.safetensors"))) if (out / "cache").is_dir() else 0
        wanted = 16 if towers == "language" else 0  # four frames of four clips
        check(cached == wanted, f"{towers}: {cached} soft tokens in the cache, {wanted} expected")
        print(f"train {towers}: loss {np.mean(log[:5]):.2f} to {np.mean(log[-5:]):.2f}, {cached} frames in the cache")
    tensors = load_file(folder / "language-vision-projectors" / "adapter_model.safetensors")
    moved = [k for k, t in tensors.items() if "vision_tower" in k and "lora_B" in k and t.abs().max() > 0]
    check(len(moved) > 0, "no adapter of the vision tower has learnt from video")


def py_sound(path):
    """Mono float32 at 16 kHz of what PyAV decodes."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        blocks = []
        for frame in container.decode(stream):
            values = frame.to_ndarray().astype(np.float32)
            channels = frame.layout.nb_channels
            blocks.append(values.mean(0) if frame.format.is_planar else values.reshape(-1, channels).mean(1))
        samples = np.concatenate(blocks)
    length = math.ceil(len(samples) * 16000 / stream.rate)  # as transformers' load_audio pads it
    out = samples if stream.rate == 16000 else soxr.resample(samples, stream.rate, 16000)
    return np.pad(out, (0, max(0, length - len(out))))


def check_sound(model, folder):
    tones = ["-f", "lavfi", "-i", "aevalsrc='0.4*sin(2*PI*(300+200*t)*t)|0.3*sin(2*PI*500*t)':s=44100:d=2.37"]
    kinds = {"s.m4a": ["-c:a", "aac"], "s.aac": ["-c:a", "aac"], "s.webm": ["-ar", "48000", "-c:a", "libopus"],
             "s.mkv": ["-c:a", "libvorbis"], "mono.m4a": ["-ac", "1", "-ar", "16000", "-c:a", "aac"], "s.mp4": ["-c:a", "aac"]}
    for name, options in kinds.items():
        video = ["-i", CLIPS / "short.mp4", "-c:v", "copy"] if name == "s.mp4" else []
        ffmpeg(*tones, *video, *options, folder / name)
    lines = "".join(f"audio\t{folder / name}\t{folder / name}.out\n" for name in kinds)
    answers = subprocess.run([TEST_BIN / "media_dump"], input=lines, capture_output=True, text=True, check=True).stdout.split("\n")
    worst = 0.0
    for name, answer in zip(kinds, answers):
        check(answer == "ok", f"{name}: {answer}")
        got, want = load_file(folder / f"{name}.out")["waveform"].numpy(), py_sound(folder / name)
        check(len(got) == len(want), f"{name}: {len(got)} samples, {len(want)} expected")
        size = min(len(got), len(want))
        error = float(np.abs(got[:size] - want[:size]).max())
        worst = max(worst, error)
        check(error < 1e-3 and np.abs(got).max() > 0.1, f"{name}: differs by {error:.1e}")
    file = write(folder / "sound.jsonl", *(sample({"type": "audio", "path": name}) for name in kinds))
    text = bezel("preprocess", *common(model, file, folder / "none"), "--show", len(kinds), "--json").stdout
    for row, name in zip(json.loads(text)["samples"], kinds):
        # A coder's packets may reach beyond the end of what was coded.
        check(abs(row["media"][0]["seconds"] - 2.37) < 0.06, f"{name}: {row['media'][0]}")
    dry = json.loads(bezel("preprocess", *common(model, file, folder / "none"), "--dry-run", "--json").stdout)
    check(dry["train"]["audio_clips"] == len(kinds) and dry["train"]["bad_samples"] == 0, f"{dry['train']['bad']}")
    print(f"sound of {', '.join(kinds)}: samples within {worst:.1e}")


def bad_files(folder):
    """(file, what the refusal says)"""
    color = ["-f", "lavfi", "-i"]
    ffmpeg(*color, "color=size=16x16:rate=1000:duration=101", "-frames:v", "100000", "-c:v", "mpeg4", folder / "many.mp4")
    yield "many.mp4", "over 90000 frames"
    ffmpeg(*color, "color=size=16x16:rate=1:duration=36000", "-c:v", "mpeg4", folder / "hours.mkv")
    yield "hours.mkv", "36000 s, at most 14400 s"
    ffmpeg(*color, "sine=duration=1", "-c:a", "aac", folder / "audio.mp4")
    yield "audio.mp4", "holds no video"
    PIL.Image.new("RGB", (32, 32)).save(folder / "cover.png")
    ffmpeg(*color, "sine=duration=1", "-i", folder / "cover.png", "-c:a", "aac", "-c:v", "png", "-disposition:v", "attached_pic", folder / "cover.m4a")
    yield "cover.m4a", "only audio with a cover image"
    ffmpeg("-i", CLIPS / "a.mp4", "-frames:v", "0", "-c", "copy", folder / "none.mkv")
    yield "none.mkv", ""
    ffmpeg(*color, "color=size=64x64:rate=10:duration=1", "-c:v", "libvpx", folder / "one.webm")
    ffmpeg(*color, "color=size=64x64:rate=10:duration=1", "-c:v", "wmv2", folder / "codec.avi")
    yield "codec.avi", "coded in 'wmv2'"
    ffmpeg(*color, "color=size=64x64:rate=10:duration=1", "-c:v", "flv1", folder / "v.flv")
    yield "v.flv", "of the format 'flv'"
    whole = (CLIPS / "a.mp4").read_bytes()
    # The index in front, as for the web, so that all but the frames is there.
    ffmpeg("-i", CLIPS / "a.mp4", "-c", "copy", "-movflags", "faststart", folder / "fast.mp4")
    (folder / "cut.mp4").write_bytes((folder / "fast.mp4").read_bytes()[:-2000])
    yield "cut.mp4", "is the file whole?"
    (folder / "half.mp4").write_bytes(whole[:len(whole) // 2])
    yield "half.mp4", "damaged or truncated"
    ffmpeg("-i", CLIPS / "a.mp4", "-c:v", "mpeg4", folder / "whole.avi")
    (folder / "half.avi").write_bytes((folder / "whole.avi").read_bytes()[:60000])
    yield "half.avi", "is the file whole?"
    (folder / "half.mkv").write_bytes((CLIPS / "a.mkv").read_bytes()[:15000])
    yield "half.mkv", "truncated"
    target = CLIPS / "a.mp4"
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:6.0,\n{target}\n#EXT-X-ENDLIST\n")
    yield "list.m3u8", "of the format 'hls'"
    (folder / "list.txt").write_text(f"ffconcat version 1.0\nfile '{target}'\n")
    yield "list.txt", "of the format 'concat'"
    (folder / "list.mp4").write_text(f"concat:{target}|{target}")
    yield "list.mp4", "not a media file that Bezel reads"
    (folder / "v.sdp").write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n")
    yield "v.sdp", "of the format 'sdp'"
    (folder / "empty.mp4").write_bytes(b"")
    yield "empty.mp4", "is empty"


def check_bad(folder):
    slowest, largest = 0.0, 0
    for name, why in bad_files(folder):
        begin = time.monotonic()
        process = subprocess.Popen([TEST_BIN / "video_dump", folder / "out", "32", "0", folder / name], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        said = process.stdout.read().strip()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        slowest, largest = max(slowest, time.monotonic() - begin), max(largest, usage.ru_maxrss >> 10)
        check(process.returncode == 1 and why in said, f"{name}: exit {process.returncode}, {said}")
        check(name in said and len(said.splitlines()) == 1, f"{name}: {said}")
    check(slowest < LIMIT_S and largest < LIMIT_MIB, f"a bad file took {slowest:.0f} s, {largest} MiB")
    print(f"bad files: {slowest:.1f} s and {largest} MiB at most")


def check_bad_samples(model, folder):
    """Errors name the line, and the rest of the file is read on."""
    (folder / "gap").mkdir()
    for i in (1, 2, 4):
        PIL.Image.new("RGB", (64, 48)).save(folder / "gap" / f"{i}.png")
    (folder / "sizes").mkdir()
    for i, width in enumerate((64, 96)):
        PIL.Image.new("RGB", (width, 48)).save(folder / "sizes" / f"{i}.png")
    video = lambda **keys: sample({"type": "video", **keys})
    rows = [(video(path="half.mp4"), "half.mp4'"), (video(path="gap", fps=1), "frames are missing between '2.png' and '4.png'"),
            (video(path="gap"), "needs their rate"), (video(frames=["gap/1.png", "gap/3.png"], fps=1), "gap/3.png"),
            (video(path="sizes", fps=1), "have one size"), (video(path=f"concat:{CLIPS}/a.mp4"), "concat:"),
            (video(path="https://example.com/a.mp4"), "is a URL"), (video(path="short.mp4", fps=2), "video_fps in the config"),
            (video(path="short.mp4", video_start=3), "video_start' is not used"), (video(path="missing.mp4"), "missing.mp4")]
    file = write(folder / "bad.jsonl", *(row for row, _ in rows), sample({"type": "video", "path": "short.mp4"}))
    report = json.loads(bezel("preprocess", *common(model, file, folder / "none"), "--dry-run", "--json", "--skip-bad-samples", "true").stdout)
    bad = {int(text.split("bad.jsonl:")[1].split(":")[0]): text for text in report["train"]["bad"]}
    for i, (_, why) in enumerate(rows, start=1):
        check(why in bad.get(i, ""), f"line {i}: {bad.get(i)}, expected {why!r}")
    check(len(rows) + 1 not in bad, f"the good line: {bad.get(len(rows) + 1)}")
    print(f"{len(rows)} bad samples, each named with its line")


def main():
    model = reference(0) / "e2b" / "model"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bad").mkdir()
        check_bad(folder / "bad")
        check_commands(model, folder)
        (folder / "half.mp4").write_bytes((folder / "bad" / "half.mp4").read_bytes())
        check_bad_samples(model, folder)
        check_train(model, folder)
        check_sound(model, folder)
    sys.exit(finish())


if __name__ == "__main__":
    main()
