"""Make demo/model: a tiny checkpoint with the structure of google/gemma-4-E2B and random weights, in bfloat16.

    .venv/bin/python3 tools/make_demo_model.py demo/model

Everything the real one has is here, smaller: per-layer embeddings, layers that share keys and values, a double-wide MLP,
sliding and full attention, clipped vision and audio towers with finite bounds, a tokenizer and processor settings. The
tokenizer's words are learnt from the captions of demo/train.jsonl, so that a caption is a few tokens.
"""
import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import make_reference as reference

SEED = 4
SOFT_TOKENS = 70  # of an image: the smallest budget
S, F = reference.S, reference.F


def captions(path: Path) -> str:
    lines = []
    for row in map(json.loads, path.read_text().splitlines()):
        for message in row["messages"]:
            content = message["content"]
            lines += [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
    return "\n".join(lines)


def build_model(spec):
    ids = reference.ID
    config = reference.Gemma4Config(
        text_config=spec["text"], vision_config=spec["vision"], audio_config=spec["audio"], boi_token_id=ids["<|image>"],
        eoi_token_id=ids["<image|>"], image_token_id=ids["<|image|>"], video_token_id=ids["<|video|>"], boa_token_id=ids["<|audio>"],
        eoa_token_index=ids["<audio|>"], audio_token_id=ids["<|audio|>"])
    model = reference.Gemma4ForConditionalGeneration(config).float().eval()
    reference.randomise(model, SEED)
    for name, bound in model.named_buffers():  # wide enough that most values pass, narrow enough that some do not
        if name.endswith(("_min", "_max")):
            bound.mul_(4)
    model.tie_weights()
    return model


def main(out: Path):
    root = Path(__file__).resolve().parent.parent
    torch.manual_seed(SEED)
    spec = dict(text=reference.text_config(num_hidden_layers=8, layer_types=[S, S, F, S, F, S, S, F], num_kv_shared_layers=3,
                                           use_double_wide_mlp=True, hidden_size_per_layer_input=8, sliding_window=64),
                vision=reference.vision_config(), audio=reference.audio_config())
    reference.CORPUS += "\n" + "\n".join([captions(root / "demo" / "train.jsonl")] * 20)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer, _ = reference.build_tokenizer(Path(scratch))
    build_model(spec).save_pretrained(out)
    processor = reference.Gemma4Processor(reference.Gemma4AudioFeatureExtractor(), reference.Gemma4ImageProcessorPil(max_soft_tokens=SOFT_TOKENS),
                                          tokenizer, None, image_seq_length=SOFT_TOKENS)
    reference.save_processor(processor, out)
    reference.release_layout(out, spec, SEED)

    weights = out / "model.safetensors"
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    config_file = out / "config.json"
    config = json.loads(config_file.read_text())
    for part in (config, config["text_config"], config["vision_config"], config["audio_config"]):
        part["dtype"] = "bfloat16"
    config_file.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
