"""Checkpoints of Orbax that Bezel writes (`bezel convert --to orbax`, `bezel merge --to orbax`): orbax-checkpoint restores them, and
every array equals the one that Orbax itself wrote of the same Hugging Face folder, bit for bit; turned back, every tensor is the
folder's. What that form cannot hold is refused by name, and no folder appears.

    orbax_out.py BEZEL_FOLDER TEST_FOLDER

Skipped where orbax-checkpoint is not installed.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
import torch
from _reference import PRESETS, ROOT, bezel, finish, reference, tell
from safetensors.torch import load_file, save_file

# This folder's orbax.py would stand for the package.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
EXTRAS = {("embedder", "mm_input_embedding_extra"), ("embedder", "audio_input_embedding_extra")}  # Hugging Face's form lacks them
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


def make(model, out, *flags):
    """By Orbax, with tools/make_orbax.py."""
    done = subprocess.run([sys.executable, ROOT / "tools" / "make_orbax.py", model, out, *map(str, flags)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)


def restore(folder: Path) -> dict:
    """Arrays by their paths, as orbax-checkpoint restores them without being told what to expect."""
    import orbax.checkpoint as ocp

    def flat(tree, path=()):
        for key, value in tree.items():
            yield from flat(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]

    with ocp.StandardCheckpointer() as checkpointer:
        said = dict(flat(checkpointer.metadata(folder.resolve()).item_metadata.tree))
        made = dict(flat(checkpointer.restore(folder.resolve())))
    tell(all((said[path].shape, said[path].dtype) == (value.shape, value.dtype) for path, value in made.items()), f"{folder.name}: metadata")
    return made


def restore_as_told(folder: Path, like: dict) -> dict:
    """The same, with shapes, dtypes and a sharding given, as Google's loader does."""
    import jax
    import orbax.checkpoint as ocp

    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    tree = {}
    for path, value in like.items():
        below = tree
        for key in path[:-1]:
            below = below.setdefault(key, {})
        below[path[-1]] = jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)
    with ocp.StandardCheckpointer() as checkpointer:
        made = checkpointer.restore(folder.resolve(), tree)
    got = {}
    for path in like:
        below = made
        for key in path:
            below = below[key]
        got[path] = below
    return got


def differing(got: dict, want: dict) -> list:
    def same(a, b):
        return a.dtype == b.dtype and a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()

    return sorted(map(str, got.keys() ^ want.keys())) + [str(path) for path in got.keys() & want.keys() if not same(got[path], want[path])]


def same_tensors(got: dict, want: dict) -> list:
    wrong = sorted(got.keys() ^ want.keys())
    for name in got.keys() & want.keys():
        a, b = got[name], want[name]
        if a.dtype != b.dtype or a.shape != b.shape or not torch.equal(a.contiguous().view(BITS[a.dtype]), b.contiguous().view(BITS[b.dtype])):
            wrong.append(name)
    return wrong


def back(orbax: Path, hf: Path, out: Path, dtype: str) -> dict:
    shutil.rmtree(out, ignore_errors=True)
    bezel("convert", "--model", orbax, "--tokenizer", hf, "--config", hf / "config.json", "--output", out, "--dtype", dtype)
    return load_file(out / "model.safetensors")


def round_trip(preset: str, dtype: str, root: Path, tmp: Path):
    """Oracle -> Bezel's checkpoint of Orbax -> oracle, beside Orbax's own of it."""
    for name in ("theirs", "hf", "ours"):
        shutil.rmtree(tmp / name, ignore_errors=True)
    make(root / preset / "model", tmp / "theirs", "--write-hf", tmp / "hf", "--dtype", dtype)
    bezel("convert", "--model", tmp / "hf", "--to", "orbax", "--output", tmp / "ours")
    want = {path: value for path, value in restore(tmp / "theirs").items() if path not in EXTRAS}
    wrong = differing(restore(tmp / "ours"), want)
    tell(not wrong, f"{preset} {dtype}: orbax-checkpoint restores {len(want)} arrays, those of its own {wrong[:3]}")
    wrong = differing(restore_as_told(tmp / "ours", want), want)
    tell(not wrong, f"{preset} {dtype}: and with shapes, dtypes and a sharding given {wrong[:3]}")
    oracle = load_file(tmp / "hf" / "model.safetensors")
    wrong = same_tensors(back(tmp / "ours", tmp / "hf", tmp / "back", dtype), oracle)
    tell(not wrong, f"{preset} {dtype}: {len(oracle)} tensors there and back {wrong[:3]}")


def other_dtype(preset: str, tmp: Path):
    shutil.rmtree(tmp / "narrow", ignore_errors=True)
    bezel("convert", "--model", tmp / "hf", "--to", "orbax", "--output", tmp / "narrow", "--dtype", "bfloat16")
    oracle = {name: value.to(torch.bfloat16) for name, value in load_file(tmp / "hf" / "model.safetensors").items()}
    wrong = same_tensors(back(tmp / "narrow", tmp / "hf", tmp / "back", "bfloat16"), oracle)
    tell(not wrong, f"{preset}: float32 as bfloat16 is PyTorch's rounding {wrong[:3]}")


def merges(preset: str, root: Path, tmp: Path):
    for name in ("merged", "merged-hf"):
        shutil.rmtree(tmp / name, ignore_errors=True)
    adapter = root / preset / "adapter"
    done = bezel("merge", "--model", tmp / "hf", "--adapter", adapter, "--to", "orbax", "--output", tmp / "merged")
    bezel("merge", "--model", tmp / "hf", "--adapter", adapter, "--output", tmp / "merged-hf")
    want, plain = load_file(tmp / "merged-hf" / "model.safetensors"), load_file(tmp / "hf" / "model.safetensors")
    got = back(tmp / "merged", tmp / "hf", tmp / "back", "float32")
    changed = [name for name in want if not torch.equal(want[name], plain[name])]
    # The product B A has its sums in another order where other numbers of rows are taken at once.
    far = max(((got[name] - want[name]).norm() / want[name].norm()).item() for name in changed)
    wrong = same_tensors({name: got[name] for name in got if name not in changed}, {name: want[name] for name in want if name not in changed})
    tell(len(changed) > 0 and not wrong and far <= 1e-6 and f"{len(changed)} matrices merged" in done.stdout,
         f"{preset}: merge --to orbax is merge, {len(changed)} matrices within {far:.1e}, all others bit for bit {wrong[:3]}")


def keys_that_are_not_there(root: Path, tmp: Path):
    """transformers saves no keys and values of layers that share others; Google's loader wants them."""
    folder, out = tmp / "without", tmp / "without-orbax"
    shutil.copytree(tmp / "hf", folder)
    text = json.loads((folder / "config.json").read_text())["text_config"]
    shared = range(text["num_hidden_layers"] - text["num_kv_shared_layers"], text["num_hidden_layers"])
    gone = [f".layers.{i}.self_attn.{part}" for i in shared for part in ("k_proj", "v_proj", "k_norm")]
    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not ("language_model" in name and any(part in name for part in gone))}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    done = bezel("convert", "--model", folder, "--to", "orbax", "--output", out)
    got, want = restore(out), restore(tmp / "ours")
    zeros = {path for path in got if any(path[0] == f"layer_{i}" and path[2] in ("kv_einsum", "key_norm") for i in shared if path[1] == "attn")}
    wrong = differing({p: v for p, v in got.items() if p not in zeros}, {p: v for p, v in want.items() if p not in zeros})
    tell(len(kept) < len(tensors) and not wrong and got.keys() == want.keys() and all(not got[p].any() for p in zeros)
         and all(".".join(path) in done.stderr for path in zeros), f"{len(zeros)} arrays that no layer computes are zeros, and named {wrong[:3]}")


def refused(what: str, out: Path, words, *arguments, code=3):
    done = bezel(*arguments, "--output", out, code=code)
    said = [word for word in words if word not in done.stderr]
    tell(not said and not out.exists() and not list(out.parent.glob(out.name + "*")), f"refused: {what} {said and done.stderr.strip()}")


def refusals(root: Path, tmp: Path):
    out, e2b = tmp / "refused", root / "e2b" / "model"
    refused("bounds of v other than those of k", out, ["vision_tower.encoder.layers.0.self_attn.k_proj.", "kv_einsum.clip_"], "convert", "--model", e2b, "--to", "orbax")
    bezel("quantize", "--model", tmp / "hf", "--output", tmp / "codes", "--type", "nf4")
    refused("a quantized base", out, ["is quantized", "layers.0."], "convert", "--model", tmp / "codes", "--to", "orbax", code=2)
    bezel("convert", "--model", tmp / "hf", "--to", "gguf", "--output", tmp / "m.gguf")
    refused("a GGUF file", out, ["a GGUF file"], "convert", "--model", tmp / "m.gguf", "--to", "orbax", code=2)
    refused("an adapter", out, ["bezel merge --to orbax"], "convert", "--adapter", root / "e2b" / "adapter", "--to", "orbax", code=2)
    refused("float16", out, ["float32 or bfloat16"], "merge", "--model", tmp / "hf", "--adapter", root / "e2b" / "adapter", "--to", "orbax",
            "--dtype", "float16", code=2)
    untied = tmp / "untied"
    shutil.copytree(tmp / "hf", untied)
    config = json.loads((untied / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (untied / "config.json").write_text(json.dumps(config))
    tensors = load_file(untied / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"].clone()
    save_file(tensors, untied / "model.safetensors", {"format": "pt"})
    refused("a head of its own", out, ["lm_head.weight"], "convert", "--model", untied, "--to", "orbax")
    done = bezel("convert", "--model", tmp / "hf", "--to", "orbax", "--output", tmp / "ours", code=2)
    tell("is there already" in done.stderr, "refused: a folder that is there")


def main():
    if subprocess.run([sys.executable, "-c", "import orbax.checkpoint"], cwd=ROOT, capture_output=True).returncode != 0:
        print("skipped: orbax-checkpoint is not installed")
        return 77
    root = reference(0)
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        for preset in [name for name in PRESETS if name != "e2b"] + ["e2b"]:  # it stays for what follows
            for dtype in ("bfloat16", "float32"):
                round_trip(preset, dtype, root, tmp)
            other_dtype(preset, tmp)
            merges(preset, root, tmp)
        keys_that_are_not_there(root, tmp)
        refusals(root, tmp)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
