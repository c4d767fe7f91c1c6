"""Make demo/doctor.safetensors: what transformers + PEFT compute with demo/model in float32, for `bezel doctor`.

    .venv/bin/python3 tools/make_doctor_reference.py

Inputs of a few words, an image of two soft tokens and an audio clip of three, adapters of rank 2 on one layer of each
tower (`adapter.<module>.a`, `.b`; scale 1), and in float32 loss, logits of the last rows, soft tokens and gradients.
"""
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import Gemma4ForConditionalGeneration

DEMO = Path(__file__).resolve().parent.parent / "demo"
LAYERS = {"model.language_model.layers.4.mlp.down_proj": "", "model.vision_tower.encoder.layers.1.self_attn.q_proj": ".linear",
          "model.audio_tower.layers.1.lconv1d.linear_start": ".linear", "model.embed_vision.embedding_projection": ""}
ROWS = 8


def make_inputs(config):
    g = torch.Generator().manual_seed(3)
    words = torch.randint(300, 1400, (20,), generator=g)
    ids = torch.cat([torch.tensor([config.text_config.bos_token_id]), words[:8], torch.full((2,), config.image_token_id), words[8:10],
                     torch.full((3,), config.audio_token_id), words[10:]])[None]
    labels = ids.clone()
    labels[:, :-ROWS] = -100
    index = torch.arange(18)
    kinds = (ids == config.image_token_id).long() + 3 * (ids == config.audio_token_id).long()
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds,
            "pixel_values": torch.rand(1, 18, 768, generator=g), "image_position_ids": torch.stack([index % 6, index // 6], -1)[None],
            "input_features": torch.randn(1, 12, 128, generator=g), "input_features_mask": torch.ones(1, 12, dtype=torch.bool)}


def main():
    model = Gemma4ForConditionalGeneration.from_pretrained(DEMO / "model", dtype=torch.float32, attn_implementation="eager").eval()
    inputs = make_inputs(model.config)
    tuned = get_peft_model(model, LoraConfig(r=2, lora_alpha=2, target_modules=[name + end for name, end in LAYERS.items()]))
    g = torch.Generator().manual_seed(4)
    saved = {f"in.{k}": v for k, v in inputs.items()}
    for name, parameter in tuned.named_parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=g) * parameter.shape[1] ** -0.5)
            module, part = name.removeprefix("base_model.model.").removesuffix(".default.weight").rsplit(".lora_", 1)
            saved[f"adapter.{module.removesuffix('.linear')}.{part.lower()}"] = parameter.detach().clone()
    out = tuned(**inputs, use_cache=False)
    out.loss.backward()
    saved |= {"loss": out.loss.detach(), "logits": out.logits[:, -ROWS:].detach()}
    for name, parameter in tuned.named_parameters():
        if parameter.requires_grad:
            saved["grad." + name.replace(".default", "")] = parameter.grad
    with torch.no_grad():
        backbone = tuned.base_model.model.model
        images = backbone.get_image_features(inputs["pixel_values"], inputs["image_position_ids"], return_dict=True)
        sound = backbone.get_audio_features(inputs["input_features"], inputs["input_features_mask"], return_dict=True)
        saved["image_features"] = torch.cat(list(images.pooler_output)) if not torch.is_tensor(images.pooler_output) else images.pooler_output
        saved["audio_features"] = sound.pooler_output[sound.attention_mask]
    save_file({k: v.contiguous() for k, v in saved.items()}, DEMO / "doctor.safetensors")


if __name__ == "__main__":
    main()
