"""Compare Bezel's media readers with Pillow, soundfile, soxr and transformers' Gemma 4 processors.

    python tests/parity/media_parity.py BUILD_DIR TEST_BIN_DIR

Photographs come from the scikit-image wheel, speech from Debian's alsa-utils (without it, the part on speech uses made
tones). Exits with 1 on any difference beyond the bounds printed.
"""
import io, math, os, random, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
import skimage
import soundfile
import soxr
import torch
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import load_file
from transformers.audio_utils import load_audio
from transformers.image_utils import load_image
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil, get_aspect_ratio_preserving_size
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

BUDGETS = (70, 140, 280, 560, 1120)
SPEECH = Path("/usr/share/sounds/alsa")
failures = []


def check(name, good, detail=""):
    if not good:
        failures.append(name)
    print(f"{'ok  ' if good else 'FAIL'} {name} {detail}", flush=True)


class Dump:
    """The media_dump program; each request is answered by one line."""

    def __init__(self, test_bin):
        self.process = subprocess.Popen([f"{test_bin}/media_dump"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.out = tempfile.NamedTemporaryFile(suffix=".safetensors")

    def ask(self, *fields):
        self.process.stdin.write("\t".join(str(f) for f in fields) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            sys.exit(f"media_dump ended at {fields}")
        return answer

    def tensors(self, what, path, *rest):
        answer = self.ask(what, path, self.out.name, *rest)
        if answer != "ok":
            return answer
        return load_file(self.out.name)


def compare_sizes(dump, rng):
    """resized_image_size against the reference's arithmetic, odd shapes included."""
    bad = []
    sizes = [(rng.randrange(1, limit), rng.randrange(1, limit)) for limit in (60, 500, 5000) for _ in range(1200)]
    sizes += [(48 * a, 48 * b) for a in range(1, 40) for b in range(1, 40, 3)]
    sizes += [(1, w) for w in (1, 2, 47, 48, 49, 100, 5000, 20000, 80000)] + [(h, 3) for h in (1, 900, 60000)]
    for height, width in sizes:
        budget = rng.choice(BUDGETS)
        try:
            h, w = get_aspect_ratio_preserving_size(height, width, 16, budget * 9, 3)
            want = f"{h} {w} {h * w // 48**2}"
        except ValueError:
            want = "error"
        got = dump.ask("size", height, width, budget)
        if got.split(" ")[0] == "error":
            got = "error"
        if got != want:
            bad.append((height, width, budget, want, got))
    check("image sizes", not bad, f"{len(sizes)} sizes, {len(bad)} differ {bad[:3]}")


def replaced_tokens(mask):
    """Placeholders that the processor writes for one audio clip."""
    class Shell:
        boa_token, audio_token, eoa_token = "", "x", ""
    return len(Gemma4Processor.replace_audio_token(Shell(), {"input_features_mask": [mask]}, 0))


def compare_token_counts(dump, rng):
    extractor = Gemma4AudioFeatureExtractor()
    bad = []
    lengths = list(range(1, 700, 13)) + [127, 128, 129, 160, 161, 162, 256, 257, 320, 321] + [rng.randrange(700, 60000) for _ in range(80)]
    lengths += [479999, 480000, 480001, 500000]
    for n in lengths:
        out = extractor([np.zeros(n, np.float32)])
        mask = np.asarray(out["input_features_mask"][0])
        rows = len(mask)
        for _ in range(2):
            rows = (rows + 2 - 3) // 2 + 1 if rows else 0
        want = f"{len(mask)} {mask.sum()} {rows} {replaced_tokens(mask)}"
        got = dump.ask("tokens", n)
        if got != want:
            bad.append((n, want, got))
    check("audio token counts", not bad, f"{len(lengths)} lengths, {len(bad)} differ {bad[:3]}")


def pillow_rgb(path):
    return np.asarray(load_image(str(path)).convert("RGB")).transpose(2, 0, 1)


def exif_bytes(orientation):
    exif = PIL.Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def write_pictures(folder):
    """Files of every kind that is read, with the largest difference from Pillow allowed for each."""
    data = Path(skimage.__file__).parent / "data"
    small = PIL.Image.open(data / "chelsea.png").convert("RGB").crop((50, 20, 231, 140))
    rgb = np.asarray(small)
    files = [(p, 2 if p.suffix == ".jpg" else 0) for p in sorted(data.iterdir()) if p.suffix in (".png", ".jpg")]

    def save(name, image, limit=0, **options):
        path = folder / name
        image.save(path, **options)
        files.append((path, limit))

    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        image = PIL.Image.fromarray(rgb[..., 0].astype(np.uint16) * 3) if mode == "I;16" else small.convert(mode)
        if mode in ("LA", "RGBA"):
            image.putalpha(PIL.Image.fromarray(rgb[..., 1]))
        save(f"mode_{mode.replace(';', '')}.png", image, format="PNG")
    for bits in (1, 2, 4):
        save(f"palette_{bits}.png", small.quantize(2**bits), format="PNG", bits=bits)
    save("palette_trns.png", small.quantize(64), format="PNG", transparency=bytes(range(0, 256, 4)))
    save("palette_key.png", small.quantize(64), format="PNG", transparency=3)
    save("rgb_key.png", small, format="PNG", transparency=(1, 2, 3))
    save("gray_key.png", small.convert("L"), format="PNG", transparency=7)
    save("apng.png", small, format="PNG", save_all=True, append_images=[small.rotate(90), small.rotate(180)])
    save("wrong_extension.jpg", small, format="PNG")
    for orientation in range(1, 9):
        exif = exif_bytes(orientation)
        save(f"exif_{orientation}.jpg", small, 2, format="JPEG", quality=95, exif=exif)
        save(f"exif_{orientation}.png", small, format="PNG", exif=exif)
        save(f"exif_{orientation}.webp", small, format="WEBP", lossless=True, exif=exif)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    save("xmp.jpg", small, 2, format="JPEG", xmp=xmp)
    save("xmp.webp", small, format="WEBP", xmp=xmp)
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
    save("xmp.png", small, format="PNG", pnginfo=info)
    raw = PngInfo()
    raw.add_text("Raw profile type exif", f"\nexif\n{len(exif_bytes(8)):8}\n{exif_bytes(8).hex()}\n", zip=True)
    save("raw_profile.png", small, format="PNG", pnginfo=raw)
    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            save(f"jpeg_{subsampling}_{progressive}.jpg", small, 2, format="JPEG", subsampling=subsampling, progressive=progressive)
    save("gray.jpg", small.convert("L"), 2, format="JPEG")
    save("cmyk.jpg", small.convert("CMYK"), 2, format="JPEG")
    save("rgb.jpg", small, 2, format="JPEG", keep_rgb=True)
    save("lossy.webp", small, format="WEBP", quality=70)
    save("alpha.webp", PIL.Image.merge("RGBA", (*small.split(), small.split()[0])), format="WEBP", quality=70)
    save("lossless_alpha.webp", PIL.Image.merge("RGBA", (*small.split(), small.split()[0])), format="WEBP", lossless=True)
    save("animated.webp", small, format="WEBP", save_all=True, append_images=[small.rotate(90)], lossless=True)
    save("colors.gif", small, format="GIF")
    save("interlaced.gif", small.quantize(16), format="GIF", interlace=1, transparency=3)
    save("plain.gif", small.quantize(4), format="GIF", interlace=0)
    save("gray.gif", small.convert("L"), format="GIF")
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        save(f"{mode}.bmp", small.convert(mode), format="BMP")
    save("animated.gif", small, format="GIF", save_all=True, append_images=[small.rotate(90)])
    save("one_pixel.png", small.crop((0, 0, 1, 1)), format="PNG")
    files += [(path, 0) for path in write_raw_pngs(folder, rgb)]
    return files


def write_raw_pngs(folder, rgb):
    """PNG kinds that Pillow cannot write: 16-bit color, interlaced rows, palettes shorter than their indices."""
    import struct, zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def png(name, width, height, bits, color, rows, extra=b"", interlace=0):
        body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace))
        path = folder / name
        path.write_bytes(body + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
        return path

    height, width = rgb.shape[:2]
    wide = rgb.astype(">u2") * 257 - np.arange(height)[:, None, None].astype(">u2")
    alpha = np.concatenate([wide, wide[..., :1]], -1).astype(">u2")
    gray_alpha = wide[..., :2].astype(">u2")
    paths = [png(name, width, height, 16, color, b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
             for name, color, values in (("rgb16.png", 2, wide), ("rgba16.png", 6, alpha), ("la16.png", 4, gray_alpha))]
    indices = (rgb[..., 0] // 2).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    paths.append(png("short_palette.png", width, height, 8, 3, rows, chunk(b"PLTE", bytes(range(30)))))
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in rgb[y::dy, x::dx])
    paths.append(png("interlaced.png", width, height, 8, 2, rows, interlace=1))
    return paths


def compare_decoding(dump, files):
    worst = {}
    for path, limit in files:
        want = pillow_rgb(path)
        got = dump.tensors("decode", path)
        if isinstance(got, str) or got["pixels"].shape != want.shape:
            check(f"decode {path.name}", False, str(got if isinstance(got, str) else (got["pixels"].shape, want.shape)))
            continue
        error = int(np.abs(got["pixels"].astype(int) - want).max())
        kind = path.suffix
        worst[kind] = max(worst.get(kind, 0), error)
        if error > limit:
            check(f"decode {path.name}", False, f"differs by {error} levels, {limit} allowed")
        probed = dump.ask("probe", path)
        if probed != f"{want.shape[1]} {want.shape[2]}":
            check(f"probe {path.name}", False, f"{probed}, expected {want.shape[1:]}")
    check("decoding", True, f"{len(files)} files, largest differences in levels by extension: {worst}")


def photographs(folder):
    """Images of many aspect ratios for resizing, as PNG, so that decoding is exact."""
    data = Path(skimage.__file__).parent / "data"
    crops = {"astronaut.png": [None, (0, 100, 512, 300), (200, 0, 260, 512)], "chelsea.png": [None, (0, 0, 451, 40)],
             "coffee.png": [None, (100, 100, 180, 160)], "rocket.jpg": [None, (10, 0, 150, 420)], "hubble_deep_field.jpg": [None]}
    for name, boxes in crops.items():
        for i, box in enumerate(boxes):
            image = PIL.Image.open(data / name).convert("RGB")
            path = folder / f"photo_{i}_{Path(name).stem}.png"
            (image.crop(box) if box else image).save(path)
            yield path


def compare_patches(dump, folder):
    worst_pillow, worst_torch, over_one, total = 0, 0, 0, 0
    for path in photographs(folder):
        for budget in BUDGETS:
            processor = Gemma4ImageProcessorPil(max_soft_tokens=budget)
            image = load_image(str(path)).convert("RGB")
            want = processor(image, return_tensors="np")
            tokens = int(want["num_soft_tokens_per_image"][0])
            n = tokens * 9
            got = dump.tensors("image", path, budget)
            name = f"{path.name} at {budget}"
            if isinstance(got, str):
                check(name, False, got)
                continue
            if got["counts"][0] != tokens or got["patches"].shape != (n, 768):
                check(name, False, f"{got['counts']} tokens, expected {tokens}")
                continue
            if not np.array_equal(got["positions"], want["image_position_ids"][0][:n]):
                check(name, False, "positions differ")
            x, y = got["positions"].T
            if not np.array_equal(got["pool_index"], x // 3 + (x.max() + 1) // 3 * (y // 3)):
                check(name, False, "pool_index differs")
            worst_pillow = max(worst_pillow, float(np.abs(got["patches"] - want["pixel_values"][0][:n]).max() * 255))
            difference = compare_resize(dump, path, budget, image)
            worst_torch, over_one, total = max(worst_torch, difference.max()), over_one + (difference > 1).sum(), total + difference.size
    check("pixels against the Pillow processor", worst_pillow <= 3.01, f"largest difference {worst_pillow:.3f} levels, 3 allowed")
    check("pixels against torch's uint8 kernel", worst_torch <= 3 and over_one * 10000 <= total,
          f"largest difference {worst_torch} levels, {over_one} of {total} over one level")


def compare_resize(dump, path, budget, image):
    got = dump.tensors("resize", path, budget)["pixels"].astype(int)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    want = torch.nn.functional.interpolate(pixels[None], size=got.shape[1:], mode="bicubic", antialias=True)[0].numpy()
    return np.abs(got - want)


def audio_clips(folder):
    """Speech (or tones) at many rates and in every container, mono and stereo; yields path and whether MP3 or OGG coded."""
    names = sorted(SPEECH.glob("Front_*.wav"))[:3]
    sources = [soundfile.read(p, dtype="float32") for p in names]
    if not sources:
        print("no alsa-utils speech here: made tones are used")
        t = np.arange(48000 * 2) / 48000
        sources = [((0.4 * np.sin(2 * np.pi * f * t * (1 + t / 4))).astype(np.float32), 48000) for f in (220, 700, 1900)]
    for i, (samples, rate) in enumerate(sources):
        for new_rate in (8000, 16000, 22050, 44100, 48000):
            audio = samples if new_rate == rate else soxr.resample(samples, rate, new_rate)
            stereo = np.stack([audio, np.roll(audio, 40) * 0.6, audio * 0.1], 1)[:, : 2 + (i == 2)]
            for kind, options in (("wav", {}), ("wav", {"subtype": "FLOAT"}), ("flac", {}), ("ogg", {}), ("mp3", {})):
                path = folder / f"speech_{i}_{new_rate}_{options.get('subtype', 'default')}.{kind}"
                channels = audio if i == 0 else stereo
                if kind == "mp3" and channels.ndim == 2:
                    channels = channels[:, :2]
                soundfile.write(path, channels, new_rate, **options)
                yield path, kind in ("mp3", "ogg")


def compare_audio(dump, folder):
    extractor = Gemma4AudioFeatureExtractor()
    worst, worst_mean, worst_wave = {}, {}, {}
    count = 0
    for path, _ in audio_clips(folder):
        count += 1
        waveform = load_audio(str(path), sampling_rate=16000, backend="soundfile")
        want = extractor([waveform], return_tensors="np")
        features, mask = want["input_features"][0], want["input_features_mask"][0]
        got = dump.tensors("audio", path)
        if isinstance(got, str) or got["features"].shape != features.shape:
            check(path.name, False, got if isinstance(got, str) else f"{got['features'].shape}, expected {features.shape}")
            continue
        if len(got["waveform"]) != len(waveform):
            check(path.name, False, f"{len(got['waveform'])} samples, expected {len(waveform)}")
            continue
        if not np.array_equal(got["mask"], mask) or len(got["soft_rows"]) != replaced_tokens(mask):
            check(path.name, False, "mask or token count differs")
        error = np.abs(got["features"] - features)
        kind = ("16 kHz" if "_16000_" in path.name else "resampled") + " " + path.suffix
        worst[kind] = max(worst.get(kind, 0.0), float(error.max()))
        worst_mean[kind] = max(worst_mean.get(kind, 0.0), float(error.mean()))
        worst_wave[kind] = max(worst_wave.get(kind, 0.0), float(np.abs(got["waveform"] - waveform).max()))
    for kind in sorted(worst):
        good = worst[kind] <= 1e-3 if kind.startswith("16 kHz") else worst_mean[kind] <= 2e-2
        check(f"mel {kind}", good, f"largest {worst[kind]:.1e}, mean {worst_mean[kind]:.1e}, samples {worst_wave[kind]:.1e}")
    check("audio clips", count > 0, f"{count} files")


def compare_long_audio_clip(dump, folder):
    """Only 30 s of a long audio clip count, and a header that claims more than there is changes nothing."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, 44100 * 45).astype(np.float32)
    path = folder / "long.flac"
    soundfile.write(path, samples, 44100)
    waveform = load_audio(str(path), sampling_rate=16000, backend="soundfile")[:480000]
    got = dump.tensors("audio", path)["waveform"]
    error = float(np.abs(got - waveform).max()) if got.shape == waveform.shape else math.inf
    check("45 s audio clip", error < 1e-5, f"{len(got)} samples, largest difference {error:.1e}")


def main():
    test_bin = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("BEZEL_TEST_BIN", f"{sys.argv[1]}/tests")
    dump, rng = Dump(test_bin), random.Random(7)
    compare_sizes(dump, rng)
    compare_token_counts(dump, rng)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare_decoding(dump, write_pictures(folder))
        compare_patches(dump, folder)
        compare_audio(dump, folder)
        compare_long_audio_clip(dump, folder)
    print(f"{len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
