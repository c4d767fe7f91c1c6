"""`bezel convert` of checkpoints that Orbax itself writes, in every form of them, against the Hugging Face folders they were made
from: every tensor bit for bit, and the logits of the text case. `bezel inspect` lists their arrays, and `bezel train` on such a
folder gives the adapter of a run on the converted one. What is damaged is refused, and no folder appears.

    orbax.py BEZEL_FOLDER TEST_FOLDER

Skipped where orbax-checkpoint is not installed.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file

from _reference import BIN, PRESETS, ROOT, bezel, check, finish, forward, reference
from _runs import MODEL, Runs, contents, kill

FORMS = [(), ("--dtype", "bfloat16"), ("--plain-zarr",), ("--zarr3",), ("--chunks", "4096"), ("--zarr3", "--chunks", "4096"),
         ("--plain-zarr", "--chunks", "4096"), ("--bare-mlp",), ("--layout", "flat")]
BITS = {"torch.float32": "int32", "torch.bfloat16": "int16"}


def make(model, out, *flags):
    env = dict(os.environ, JAX_PLATFORMS="cpu")
    done = subprocess.run([sys.executable, ROOT / "tools" / "make_orbax.py", model, out, *map(str, flags)], env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)


def same_tensors(what, folder, oracle):
    import torch

    got = load_file(folder / "model.safetensors")
    check(set(got) == set(oracle), f"{what}: names differ: {sorted(set(got) ^ set(oracle))[:4]}")
    for name in set(got) & set(oracle):
        mine, theirs = got[name], oracle[name]
        same = mine.dtype == theirs.dtype and mine.shape == theirs.shape
        bits = getattr(torch, BITS[str(theirs.dtype)])
        check(same and torch.equal(mine.contiguous().view(bits), theirs.contiguous().view(bits)), f"{what}: {name} differs")
    return len(got)


def text_only(config, path):
    """The flat form has no towers."""
    path.write_text(json.dumps({**json.loads(config.read_text()), "vision_config": None, "audio_config": None}))
    return path


def check_form(root, model, flags, work):
    what = f"{model.parent.name} {' '.join(flags) or 'as released'}"
    source, hf, out = work / "orbax", work / "hf", work / "out"
    for folder in (hf, out):
        shutil.rmtree(folder, ignore_errors=True)
    make(model, source, *flags, "--write-hf", hf)
    flat = "flat" in flags
    config = text_only(model / "config.json", work / "config.json") if flat else model / "config.json"
    dtype = "bfloat16" if "bfloat16" in flags else "float32"
    done = bezel("convert", "--model", source, "--tokenizer", model, "--config", config, "--output", out, "--dtype", dtype)
    oracle = load_file(hf / "model.safetensors")
    if flat:
        oracle = {name: value for name, value in oracle.items() if name.startswith("model.language_model.")}
    count = same_tensors(what, out, oracle)
    check(flat or "mm_input_embedding_extra is not used" in done.stderr, f"{what}: says which arrays are not used")
    check((out / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes(), f"{what}: tokenizer.json")
    return what, count


def check_logits(model, work):
    import torch

    from safetensors.torch import save_file

    case = load_file(model.parent / "case-text.safetensors")
    save_file({key: value for key, value in case.items() if key.startswith("in.")}, work / "in.safetensors")
    logits = [forward(folder, work / "in.safetensors", work / "logits.safetensors", "--dtype", "float32")["logits"] for folder in (work / "out", work / "hf")]
    # Experts multiply single rows, which LibTorch rounds by how the matrix is aligned in its file: see gguf_parity.py.
    same = torch.allclose(*logits, rtol=0, atol=2e-5) if model.parent.name == "moe" else torch.equal(*logits)
    check(same, f"{model.parent.name}: logits of the converted checkpoint and of the oracle differ")


def check_rounding(model, work):
    """float32 arrays as bfloat16: PyTorch's rounding."""
    import torch

    out = work / "rounded"
    shutil.rmtree(out, ignore_errors=True)
    done = bezel("convert", "--model", work / "orbax", "--tokenizer", model, "--config", model / "config.json", "--output", out, "--layout", "flat")
    check("rounded from float32" in done.stdout, "says that it rounds")
    oracle = {name.replace(".linear.weight", ".weight"): value.to(torch.bfloat16) for name, value in load_file(work / "hf" / "model.safetensors").items()}
    same_tensors(f"{model.parent.name} rounded, flat names", out, oracle)


def check_refusals(model, source, work):
    """A copy of the checkpoint is damaged in one way; no folder appears."""
    def refused(what, spoil, words, code=3, config=model / "config.json"):
        copy, out = work / "bad", work / "bad-out"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        spoil(copy)
        done = bezel("convert", "--model", copy, "--tokenizer", model, "--output", out, *(("--config", config) if config else ()), code=code)
        check(words in done.stderr, f"{what}: {done.stderr.strip()!r} does not say {words!r}")
        check(not out.exists() and not list(work.glob("bad-out*")), f"{what}: a folder is left behind")

    def largest(folder):
        return max((path for path in folder.rglob("d/*") if path.is_file()), key=lambda path: path.stat().st_size)

    def flip(path, at):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    def edit_metadata(folder, change):
        path = folder / "_METADATA"
        json_text = json.loads(path.read_text())
        change(json_text["tree_metadata"])
        path.write_text(json.dumps(json_text))

    def drop(tree):
        tree.pop(next(key for key in tree if "final_norm" in key))

    def invent(tree):
        tree["x"] = {"key_metadata": [{"key": "nowhere", "key_type": 2}]}

    def rename(tree):
        entry = next(tree[key] for key in tree if "final_norm" in key)
        entry["key_metadata"][0]["key"] = "../final_norm"

    refused("a flipped byte of the manifest", lambda f: flip(f / "manifest.ocdbt", 40), "manifest.ocdbt")
    refused("a truncated data file", lambda f: os.truncate(largest(f), largest(f).stat().st_size // 2), "truncated")
    refused("no manifest", lambda f: (f / "manifest.ocdbt").unlink(), "manifest.ocdbt is missing")
    refused("an array that _METADATA does not name", lambda f: edit_metadata(f, drop), "model.language_model.norm.weight")
    refused("an array that is not there", lambda f: edit_metadata(f, invent), "array 'nowhere' is in _METADATA")
    refused("a name that leads out", lambda f: edit_metadata(f, rename), "without '..'")
    refused("a size that was not released", lambda f: None, "--config", code=2, config=None)


def is_bound(name):
    return name.endswith((".input_min", ".input_max", ".output_min", ".output_max"))


def tower_of(name):
    """As Bezel calls the towers; the names are those of Hugging Face."""
    towers = {"model.vision_tower.": "vision", "model.audio_tower.": "audio", "model.embed_vision.": "projectors", "model.embed_audio.": "projectors"}
    return next((tower for prefix, tower in towers.items() if name.startswith(prefix)), "language")


def sizes_by_tower(tensors):
    """Elements by tower, without clip bounds, which several tensors share in one array."""
    sizes = {}
    for name, value in tensors.items():
        if not is_bound(name):
            sizes[tower_of(name)] = sizes.get(tower_of(name), 0) + value.numel()
    return sizes


def check_inspect(model, work):
    """The numbers are those of _METADATA and of the Hugging Face folder that the checkpoint stands for."""
    what, source = f"{model.parent.name}: inspect", work / "orbax"
    names = json.loads((source / "_METADATA").read_text())["tree_metadata"]
    oracle = load_file(work / "hf" / "model.safetensors")
    report = json.loads(bezel("inspect", source, "--config", model / "config.json", "--json").stdout)
    check(report["kind"] == "orbax" and report["store"] == "OCDBT" and report["size"] == "", f"{what}: form and size")
    check(report["converts"] is True and report["loads"] is False, f"{what}: can be converted")
    check(report["arrays"] == len(names), f"{what}: {report['arrays']} arrays, _METADATA has {len(names)}")
    check(report["tensors"] == len(oracle), f"{what}: {report['tensors']} tensors, Hugging Face's has {len(oracle)}")
    rows = [(tower, row) for tower, tower_rows in report["tree"].items() for row in tower_rows]
    sizes, counts = {}, 0
    for tower, row in rows:
        counts += row["count"]
        if row["name"] != "clip bounds":
            sizes[tower] = sizes.get(tower, 0) + row["parameters"]
    check(sizes == sizes_by_tower(oracle), f"{what}: {sizes}, Hugging Face's has {sizes_by_tower(oracle)}")
    unused = {array["name"] for array in report["unused_arrays"]}
    extras = {".".join(part["key"] for part in entry["key_metadata"]) for entry in names.values()}
    extras = {name for name in extras if name.endswith("_input_embedding_extra")}
    check(unused == extras and counts + len(unused) == len(names), f"{what}: arrays that are not used: {unused}")
    layers = json.loads((model / "config.json").read_text())["text_config"]["num_hidden_layers"]
    scales = next(row for tower, row in rows if tower == "language" and row["name"] == "layer_*.skip_scale")
    check((scales["count"], scales["layers"], scales["shape"], scales["storage"]) == (layers, f"0-{layers - 1}", [1], "F32"), f"{what}: {scales}")
    unknown = json.loads(bezel("inspect", source, "--json").stdout)
    check(unknown["converts"] is None, f"{what}: without a config nothing is compared")
    text = bezel("inspect", source).stdout
    check("--config FILE" in text and f"bezel convert --model {source}" in text and "layer_*.attn.q_einsum.w" in text, f"{what}: {text}")
    check("only for a checkpoint of Orbax" in bezel("inspect", model, "--config", model / "config.json", code=2).stderr, f"{what}: --config is for Orbax")


def check_bad_inspect(model, work):
    """What cannot be converted is listed all the same, with exit code 3; --check reads the values."""
    bad = work / "inspected"
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(work / "orbax", bad)
    metadata = json.loads((bad / "_METADATA").read_text())
    tree = metadata["tree_metadata"]
    tree.pop(next(key for key in tree if "final_norm" in key))
    (bad / "_METADATA").write_text(json.dumps(metadata))
    report = json.loads(bezel("inspect", bad, "--config", model / "config.json", "--json", code=3).stdout)
    check(report["converts"] is False and "model.language_model.norm.weight" in report["problem"] and report["arrays"] == len(tree), "inspect: an array is missing")
    check(json.loads(bezel("inspect", work / "orbax", "--check", "--json").stdout)["bad_values"] == [], "inspect --check: finite")
    from safetensors.torch import save_file

    spoilt = work / "spoilt"
    shutil.rmtree(spoilt, ignore_errors=True)
    shutil.copytree(model, spoilt)
    tensors = load_file(spoilt / "model.safetensors")
    norm = next(name for name in tensors if name.endswith("language_model.norm.weight"))
    tensors[norm].view(-1)[:3] = tensors[norm].new_tensor([float("nan"), float("inf"), 1.0])
    save_file(tensors, spoilt / "model.safetensors", metadata={"format": "pt"})
    make(spoilt, bad, "--no-extras")
    found = json.loads(bezel("inspect", bad, "--check", "--json", code=3).stdout)["bad_values"]
    check([(item["tensor"], item["nan"], item["inf"]) for item in found] == [("final_norm.scale", 1, 1)], f"inspect --check: {found}")


def flagged(flags):
    return [f"--{key}={value}" for key, value in flags.items()]


def check_training(work):
    """A run on the folder that Orbax wrote is, byte for byte, a run on what `bezel convert` makes of it."""
    source, plain = work / "demo-orbax", work / "demo-plain"
    make(MODEL, source)
    bezel("convert", "--model", source, "--tokenizer", MODEL, "--config", MODEL / "config.json", "--output", plain)
    folder = work / "runs"
    folder.mkdir()
    base = folder / "made" / "base"
    oracle = Runs(BIN / "bezel", folder, base_model=plain)
    oracle.run("wanted")
    wanted = oracle.results("wanted")
    runs = Runs(BIN / "bezel", folder, base_model=source, tokenizer=MODEL, convert_to=base)

    text = runs.run("first")
    check(f"converting it to {base}" in text and "mm_input_embedding_extra is not used" in text, f"train says that it converts: {text}")
    runs.same("first", wanted)
    made = contents(base)
    origin = json.loads(made.pop("converted_from.json"))
    check(origin["model"] == str(source), f"train: {origin}")
    check(made == contents(plain), "train: converts to what `bezel convert` writes")
    check(json.loads((folder / "first" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base), "train: the adapter's base is the converted one")
    resolved = (folder / "first" / "config.resolved.yaml").read_text()
    check(f"base_model: {base}" in resolved.replace('"', "") and str(MODEL) not in resolved, f"train: the resolved config names the converted base: {resolved}")

    times = {path.name: path.stat().st_mtime_ns for path in base.iterdir()}
    code, _ = runs.run_until("second", "saved " + str(folder / "second" / "checkpoint-6"), kill)
    text = runs.run("second", "--resume-from-checkpoint=auto")
    check("was converted from it before" in text and "converting" not in text, f"train converts once: {text}")
    runs.same("second", wanted)
    check(code < 0 and times == {path.name: path.stat().st_mtime_ns for path in base.iterdir()}, "train: the converted base is not written again")
    shown = bezel("preprocess", *flagged({**runs.flags, "output-dir": folder / "shown"}), "--show", "1")
    check("was converted from it before" in shown.stderr, f"preprocess: {shown.stderr}")

    other = folder / "at-once"
    together = [runs.start(f"together{i}", convert_to=other) for i in range(2)]
    texts = [process.communicate(timeout=300)[1] for process in together]
    check([process.returncode for process in together] == [0, 0], f"two runs at once: {texts}")
    check(sum("converting it to" in text for text in texts) == 1, f"two runs at once convert once: {texts}")
    check({runs.adapter(f"together{i}") for i in range(2)} == {wanted["adapter"]}, "two runs at once: adapters")
    return runs, source, base


def check_training_refusals(runs, source, base, work):
    def refused(what, words, code=2, **flags):
        given = {**runs.flags, **{key.replace("_", "-"): value for key, value in flags.items()}, "output-dir": work / "refused"}
        done = bezel("train", *flagged({key: value for key, value in given.items() if value is not None}), code=code)
        check(words in done.stderr, f"{what}: {done.stderr.strip()!r} does not say {words!r}")
        check(not (work / "refused").exists() and not list(work.glob("new-base*")), f"{what}: a folder is left behind")

    new = work / "new-base"
    refused("no keys", "convert_to: FOLDER", tokenizer=None, convert_to=None)
    refused("no keys", f"bezel convert --model {source}", tokenizer=None, convert_to=None)
    refused("no tokenizer", "tokenizer: FOLDER", tokenizer=None)
    refused("a base that needs no conversion", "only for a base_model that is a checkpoint of Orbax", base_model=MODEL)
    refused("a folder of something else", "is there already", convert_to=MODEL)
    tokenizer = work / "tokenizer"
    shutil.copytree(MODEL, tokenizer)
    (tokenizer / "tokenizer_config.json").write_text((MODEL / "tokenizer_config.json").read_text() + "\n")
    refused("another tokenizer", "another checkpoint or tokenizer", tokenizer=tokenizer)
    (tokenizer / "config.json").unlink()
    refused("no config", "of no released size", tokenizer=tokenizer, convert_to=new)
    (tokenizer / "tokenizer.json").unlink()
    shutil.copyfile(MODEL / "config.json", tokenizer / "config.json")
    refused("no tokenizer.json", "tokenizer.json is not there", tokenizer=tokenizer, convert_to=new)
    damaged = work / "damaged"
    shutil.copytree(source, damaged)
    largest = max((path for path in damaged.rglob("d/*") if path.is_file()), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    refused("a truncated file", "truncated", code=3, base_model=damaged, convert_to=new)
    changed = work / "changed"
    make(MODEL, changed, "--seed", 1)
    refused("another checkpoint", "another checkpoint or tokenizer", base_model=changed)


def main():
    if subprocess.run([sys.executable, "-c", "import orbax.checkpoint"], cwd=ROOT, capture_output=True).returncode != 0:
        print("skipped: orbax-checkpoint is not installed")
        return 77
    root = reference(0)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for preset in PRESETS:
            model = root / preset / "model"
            for flags in FORMS[1:] + FORMS[:1]:  # the released form last: it stays for what follows
                print(*check_form(root, model, flags, work))
            check_logits(model, work)
            check_rounding(model, work)
            check_inspect(model, work)
            check_bad_inspect(model, work)
            check_refusals(model, work / "orbax", work)
        check_training_refusals(*check_training(work), work)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
