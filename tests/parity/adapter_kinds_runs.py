"""`bezel train` with every kind of adapter: killed and resumed runs end with the same bytes, the next run begins from them, and the
other commands know them: inspect, verify-adapter, merge, and convert, which refuses by name what has no form elsewhere.

    adapter_kinds_runs.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from _runs import MODEL, Runs, kill

RESUME = "--resume-from-checkpoint=auto"
EMBEDDINGS = "base_model.model.model.language_model.embed_tokens."
LAYER = "base_model.model.model.language_model.layers.0.self_attn.q_proj."
# flags, and some keys that the adapter must have
KINDS = {
    "dora": ({"use_dora": "true"}, [LAYER + "lora_magnitude_vector"]),
    "loraplus": ({"target_modules": "q_proj,embed_tokens,lm_head", "loraplus_lr_ratio": 4, "loraplus_lr_embedding": 1e-3},
                 [EMBEDDINGS + "lora_embedding_A", EMBEDDINGS + "lora_embedding_B", "base_model.model.lm_head.lora_B.weight"]),
    "saved": ({"modules_to_save": "embed_tokens,lm_head", "learning_rate": 1e-3}, [EMBEDDINGS + "weight", "base_model.model.lm_head.weight"]),
    "tokens": ({"trainable_token_indices": "262,263", "init_lora_weights": "orthogonal"}, [EMBEDDINGS + "token_adapter.trainable_tokens_delta"]),
    "norms": ({"modules_to_save": "norm", "learning_rate": 1e-3},
              ["base_model.model.model.language_model.norm.weight", "base_model.model.model.language_model.layers.0.self_attn.q_norm.weight"]),
    "pissa": ({"init_lora_weights": "pissa", "lora_dropout": 0}, [LAYER + "lora_A.weight"]),
    "starts": ({"init_lora_weights": "false", "use_dora": "true", "use_rslora": "true"}, [LAYER + "lora_A.weight"]),
}
REFUSED = {"dora": "use_dora", "loraplus": "LoRA on the head", "saved": "modules_to_save", "norms": "modules_to_save", "tokens": "trainable_token_indices", "starts": "use_dora"}


def bezel(runs, *arguments, code=0):
    done = subprocess.run([str(a) for a in (runs.bezel, *arguments)], capture_output=True, text=True)
    assert done.returncode == code, (arguments, done)
    return done.stdout + done.stderr


def check_kind(runs, name, flags, keys):
    runs.run(name, **flags)
    wanted = runs.results(name)
    tensors = load_file(runs.folder / name / "adapter_model.safetensors")
    assert set(keys) <= tensors.keys(), (name, sorted(tensors))
    code, _ = runs.run_until(f"{name}-killed", "step 8/12", kill, **flags)
    assert code < 0, code
    assert "resumed after step" in runs.run(f"{name}-killed", RESUME, **flags)
    runs.same(f"{name}-killed", wanted)
    return tensors


def check_next(runs, name, flags, tensors):
    """The next run begins where this one ended, and one that changes nothing saves the same."""
    plain = {key: value for key, value in flags.items() if key.startswith("loraplus")}
    still = {"init_adapter": runs.folder / name, "learning_rate": 1e-30, "max_steps": 1, "lora_dropout": 0, **plain}
    if plain:
        still["loraplus_lr_embedding"] = 1e-30
    runs.run(f"{name}-still", **still)
    after = load_file(runs.folder / f"{name}-still" / "adapter_model.safetensors")
    assert after.keys() == tensors.keys() and all(torch.equal(after[k], v) for k, v in tensors.items()), name
    config, before = (json.loads((runs.folder / out / "adapter_config.json").read_text()) for out in (f"{name}-still", name))
    for one in (config, before):
        one["target_modules"].sort()
        one["modules_to_save"] = sorted(one["modules_to_save"] or [])
        del one["lora_dropout"]  # of this run
    assert config == before, [(key, config[key], before[key]) for key in before if config[key] != before[key]]
    begun = {"init_adapter": runs.folder / name, "save_steps": 6, **plain}
    runs.run(f"{name}-on", **begun)
    goal = runs.adapter(f"{name}-on")
    (runs.folder / f"{name}-on" / "adapter_model.safetensors").unlink()
    for file in (runs.folder / f"{name}-on" / "checkpoint-12").iterdir():
        file.unlink()
    (runs.folder / f"{name}-on" / "checkpoint-12").rmdir()
    runs.run(f"{name}-on", RESUME, **begun)
    assert runs.adapter(f"{name}-on") == goal, name


def check_commands(runs, name):
    adapter = runs.folder / name
    report = json.loads(bezel(runs, "inspect", adapter, "--json"))
    assert report["loads"] and not report["unexpected_tensors"] and not report["unsupported"], (name, report)
    verified = json.loads(bezel(runs, "verify-adapter", "--model", MODEL, "--adapter", adapter, "--json"))
    assert not verified["problems"], verified
    elsewhere = {row["tool"]: row["problems"] for row in verified["elsewhere"]}
    refused = REFUSED.get(name)  # a kind without an entry is plain LoRA, once it is saved
    assert bool(refused) == bool(elsewhere["llama.cpp"]) == bool(elsewhere["vLLM"]), elsewhere
    said = bezel(runs, "convert", "--adapter", adapter, "--to", "gguf", "--output", runs.folder / f"{name}.gguf", code=3 if refused else 0)
    assert refused is None or (refused in said and not (runs.folder / f"{name}.gguf").exists()), said
    out = runs.folder / f"{name}-merged"
    bezel(runs, "merge", "--model", MODEL, "--adapter", adapter, "--output", out)
    report = json.loads(bezel(runs, "inspect", out, "--json"))
    assert report["loads"], report
    gguf = runs.folder / f"{name}-merged.gguf"
    bezel(runs, "convert", "--model", out, "--to", "gguf", "--output", gguf)
    assert gguf.exists()


def main():
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(sys.argv[1]) / "bezel", Path(folder))
        for name, (flags, keys) in KINDS.items():
            tensors = check_kind(runs, name, flags, keys)
            check_next(runs, name, flags, tensors)
            check_commands(runs, name)
            print("ok", name, flush=True)
        for start in ("orthogonal", "pissa", "pissa_niter_4"):
            text = runs.run("quantized", storage="nf4", init_lora_weights=start, lora_dropout=0, dtype="bfloat16", expect=2)
            assert "init_lora_weights" in text and "dense" in text, text
        for key, value in (("lora_dropout", 0.1), ("use_dora", "true"), ("target_modules", "q_proj,lm_head"), ("lora_r", 4096)):
            text = runs.run("refused", **{"init_lora_weights": "pissa", "lora_dropout": 0, key: value}, expect=2)
            assert "init_lora_weights" in text, text
        runs.run("nf4-dora", storage="nf4", use_dora="true", dtype="bfloat16", lora_dropout=0.1)


if __name__ == "__main__":
    main()
