"""Videos of the 12B: patches, positions, frames' times and token ids against transformers' Gemma4UnifiedProcessor on torchvision, and loss,
logits, soft tokens and gradients of a text with two videos and an image against its model, in float32.

    unified_video.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import statistics
import sys
import tempfile
from pathlib import Path

from _video import use_exact_decoder  # before transformers

import numpy as np
import PIL.Image
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import (AutoTokenizer, Gemma4UnifiedAudioFeatureExtractor, Gemma4UnifiedForConditionalGeneration, Gemma4UnifiedImageProcessor,
                          Gemma4UnifiedProcessor, Gemma4UnifiedVideoProcessor)
from transformers.video_utils import VideoMetadata

from _reference import ROOT, UNIFIED, bezel, check, finish, forward, reference, relative

CLIPS = ROOT / "tests" / "data" / "video"
BOUNDS = {"logits": 3e-3, "loss": 2e-5, "soft tokens": 1e-4, "worst gradient": 1e-2, "median gradient": 1e-3}
TEXT = "<bos><|turn>user\n<|video|>then<|image|>and<|video|>What is it?<turn|>\n<|turn>model\nColor that moves.<turn|>\n"


def processor_of(model):
    return Gemma4UnifiedProcessor(Gemma4UnifiedAudioFeatureExtractor(), Gemma4UnifiedImageProcessor.from_pretrained(model), AutoTokenizer.from_pretrained(model),
                                  Gemma4UnifiedVideoProcessor(), image_seq_length=70)


def small_case(processor):
    """Frames of a few patches: the tiny model has few places."""
    noise = np.random.default_rng(1)
    videos = [torch.from_numpy(noise.integers(0, 255, (n, 3, h, w), dtype=np.uint8)) for n, h, w in ((3, 60, 80), (2, 96, 48))]
    metadata = [VideoMetadata(total_num_frames=40, fps=8.0, frames_indices=i) for i in ([0, 13, 26], [0, 20])]
    image = PIL.Image.fromarray(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    x = processor(text=[TEXT], videos=videos, video_metadata=metadata, images=[[image]], do_sample_frames=False, return_tensors="pt", add_special_tokens=False)
    names = ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_position_ids", "pixel_values_videos", "video_position_ids")
    labels = x["input_ids"].clone()
    labels[:, :-8] = -100
    return {name: x[name] for name in names}, x, labels


def compare_model(root, tmp):
    folder, adapter = root / "unified" / "model", root / "unified" / "adapter"
    given, whole, labels = small_case(processor_of(folder))
    save_file({f"in.{k}": v.contiguous() for k, v in given.items()} | {"in.labels": labels}, tmp / "case")
    model = Gemma4UnifiedForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").float().eval()
    extra = {"num_frames_per_video": torch.as_tensor(whole["num_frames_per_video"])} if "num_frames_per_video" in whole else {}
    with torch.no_grad():
        want = model(**given, **extra, labels=labels, use_cache=False)
    got = forward(folder, tmp / "case", tmp / "out", "--dtype", "float32")
    errors = {"logits": (got["logits"] - want.logits).abs().max().item(), "loss": abs(got["loss"].item() - want.loss.item())}
    with torch.no_grad():
        soft = model.model.get_video_features(given["pixel_values_videos"], given["video_position_ids"], *extra.values(), return_dict=True)
    soft = soft.pooler_output
    soft = torch.cat(list(soft)) if isinstance(soft, (list, tuple)) else soft
    errors["soft tokens"] = relative(got["video_features"], soft.reshape(got["video_features"].shape))
    tuned = PeftModel.from_pretrained(model, adapter, is_trainable=True).eval()
    tuned(**given, **extra, labels=labels, use_cache=False).loss.backward()
    got = forward(folder, tmp / "case", tmp / "out", "--dtype", "float32", "--adapter", adapter, "--grads")
    grads = {"grad." + n.replace(".default", ""): p.grad for n, p in tuned.named_parameters() if p.grad is not None}
    found = {k for k in got if k.startswith("grad.")}
    check(found == set(grads), f"other tensors have gradients {sorted(found ^ set(grads))[:3]}")
    each = {k: relative(got[k], g) for k, g in grads.items() if k in got}
    errors["worst gradient"], errors["median gradient"] = max(each.values()), statistics.median(each.values())
    check(any("patch_dense" in k and g.norm() > 0 for k, g in grads.items()), "no gradient reaches the patch embedder")
    for name, bound in BOUNDS.items():
        check(errors[name] <= bound, f"{name} {errors[name]:.1e}")
    print("two videos and an image: " + ", ".join(f"{name} {error:.1e}" for name, error in errors.items()), flush=True)


def roomy(model, folder):
    """The same model with places for frames as the released one has them."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text())
    tensors = load_file(model / "model.safetensors")
    places = config["vision_config"]["mm_posemb_size"]
    for name, value in tensors.items():
        if "pos_embedding" in name:
            axis = list(value.shape).index(places)
            wide = list(value.shape)
            wide[axis] = 1120
            tensors[name] = torch.zeros(wide, dtype=value.dtype)
    config["vision_config"]["mm_posemb_size"] = 1120
    config["text_config"]["max_position_embeddings"] = 262144
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def compare_clips(root, tmp):
    """Whole files: the ids of `bezel generate --video`."""
    model = roomy(root / "unified" / "model", tmp / "roomy")
    processor = processor_of(model)
    text = "<bos><|turn>user\n<|video|>What moves?<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    compared = tokens = 0
    for clip in sorted(CLIPS.iterdir()):
        if clip.name == "short.mp4":  # fewer frames than are asked for: the reference refuses it
            continue
        wanted = list(map(int, np.asarray(processor(text=[text], videos=[[str(clip)]], add_special_tokens=False)["input_ids"]).reshape(-1)))
        out = bezel("generate", "--model", model, "--prompt", "What moves?", "--video", clip, "--max-new-tokens", 1, "--json").stdout
        got = json.loads(out)["prompt_ids"]
        check(got == wanted, f"{clip.name}: {len(got)} and {len(wanted)} tokens, other ids")
        compared, tokens = compared + 1, tokens + len(wanted)
    print(f"{compared} clips, {tokens} tokens: the same ids", flush=True)


def main():
    use_exact_decoder()
    root = reference(0, tuple(UNIFIED))
    with tempfile.TemporaryDirectory() as name:
        compare_model(root, Path(name))
        compare_clips(root, Path(name))
    return finish()


if __name__ == "__main__":
    sys.exit(main())
