"""The unified model (12B) in two GGUF files, language model and the embedders' `mmproj`, computes what its checkpoint does: logits,
soft tokens and every LoRA gradient over texts, images and audio clips, within the rounding of float32. It trains on images and audio
clips and answers about them, and files that are not the embedders of this model are refused by name.

    unified_mmproj.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import math
import shutil
import sys
import tempfile
from pathlib import Path

from _reference import ROOT, UNIFIED, bezel, finish, forward, reference, relative, tell  # before torch

import numpy as np
import soundfile
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, get_tensor_name_map
from gguf.quants import quantize
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from _gguf import add_config, llama_name
from mmproj_out import UNIFIED_NAMES, expected_unified_keys
from unified_tools import CONFIG, tensors_of_12b

sys.path.insert(0, str(ROOT / "tools"))
import make_reference as made  # noqa: E402

# The same numbers, aligned otherwise in their file, which alone moves last bits.
LOGITS, GRADIENT = 2e-4, 1e-3
REFERENCE_LOGITS = 3e-3  # adapter_parity.py's bound
F32, BF16 = GGMLQuantizationType.F32, GGMLQuantizationType.BF16
EMBEDDERS = ("embed_vision", "embed_audio")


def compare(root: Path, gguf: Path, tmp: Path):
    """With the checkpoint, and with what transformers and PEFT say of it."""
    for case in UNIFIED["unified"]:
        inputs = root / f"case-{case}.safetensors"
        want, got = (forward(model, inputs, tmp / "out.safetensors", "--adapter", root / "adapter", "--grads") for model in (root / "model", gguf))
        golden = load_file(inputs)
        real = golden["in.attention_mask"] == 1
        logits, from_reference = ((got["logits"] - other)[real].abs().max().item() for other in (want["logits"], golden["adapter_logits"]))
        soft = [relative(got[key], want[key]) for key in ("image_features", "audio_features") if key in want]
        gradients = {key: relative(got[key], value) for key, value in want.items() if key.startswith("grad.") and key in got}
        media = sum(any(part in key for part in EMBEDDERS) and bool(want[key].abs().max() > 0) for key in gradients)
        ok = (got.keys() == want.keys() and logits <= LOGITS and from_reference <= REFERENCE_LOGITS and max(soft, default=0.0) <= 1e-5
              and max(gradients.values()) <= GRADIENT and (media > 0) == bool(soft) == (case not in ("text", "batch")))
        tell(ok, f"{case}: {len(gradients)} gradients, {media} of them of embedders, worst {max(gradients.values()):.1e}; logits {logits:.1e}, "
             f"{from_reference:.1e} from the reference's; soft tokens {max(soft, default=0.0):.1e}")


def as_released(root: Path, tmp: Path):
    """In bfloat16, as the released checkpoint: its file holds matrices in BF16, patches, norms and positions in F32."""
    folder = tmp / "bfloat16"
    shutil.copytree(root / "model", folder)
    tensors = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    bezel("convert", "--model", folder, "--to", "gguf", "--output", tmp / "bf16.gguf")
    types = {tensor.tensor_type.name for tensor in GGUFReader(tmp / "mmproj-bf16.gguf").tensors}
    inputs = root / "case-mixed.safetensors"
    want, got = (forward(model, inputs, tmp / "out.safetensors", "--adapter", root / "adapter", "--grads") for model in (folder, tmp / "bf16.gguf"))
    logits = (got["logits"] - want["logits"])[load_file(inputs)["in.attention_mask"] == 1].abs().max().item()
    far = max(relative(got[key], value) for key, value in want.items() if key != "logits") if got.keys() == want.keys() else float("inf")
    tell(types == {"BF16", "F32"} and logits <= LOGITS and far <= GRADIENT, f"{sorted(types)}: logits {logits:.1e}, soft tokens and gradients {far:.1e}")


def reads_by_name(root: Path, gguf: Path, tmp: Path):
    apart, named = tmp / "apart" / "m.gguf", tmp / "elsewhere" / "any-name.gguf"
    for path in (apart, named):
        path.parent.mkdir()
    shutil.copy(gguf, apart)
    shutil.copy(gguf.parent / f"mmproj-{gguf.name}", named)
    inputs = root / "case-mixed.safetensors"
    want, got = forward(gguf, inputs, tmp / "out.safetensors"), forward(apart, inputs, tmp / "out.safetensors", "--mmproj", named)
    tell(got.keys() == want.keys() and all(torch.equal(got[key], want[key]) for key in want), "a named file gives the bits of one beside the model")
    alone, whole, folder = (json.loads(bezel("inspect", *of, "--json").stdout) for of in ((apart,), (apart, "--mmproj", named), (root / "model",)))
    tell(alone["architecture"] == "Gemma4ForCausalLM", "without it: a language model")
    same = [key for key in ("architecture", "target_modules", "loads") if whole[key] != folder[key]]
    tell(not same and whole["architecture"] == "Gemma4UnifiedForConditionalGeneration", f"with it: what inspect says of the checkpoint {same}")
    return apart, named


def media(tmp: Path):
    made.test_image(220, 150, 1).save(tmp / "a.png")
    soundfile.write(tmp / "b.wav", made.test_audio(2.5, 2), 16000)
    chat = lambda parts, answer: {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]}
    samples = [chat([{"type": "image", "path": "a.png"}, {"type": "text", "text": "What is it?"}], "Waves."),
               chat([{"type": "audio", "path": "b.wav"}, {"type": "text", "text": "And this?"}], "A long tone.")]
    (tmp / "train.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))


def train(out: Path, data: Path, *base) -> dict:
    bezel("train", *base, "--train-file", data, "--output-dir", out, "--max-steps", 2, "--dtype", "float32", "--lora-towers", "language,vision,projectors",
          "--lora-target-modules", "all-linear", "--lora-r", 4, "--learning-rate", "1e-3", "--micro-batch-size", 1, "--gradient-accumulation-steps", 2,
          "--report-to", "none", "--save-steps", 0, "--max-soft-tokens", 70, "--sample-predictions", 0, "--quiet")
    return load_file(out / "adapter_model.safetensors")


def trains_and_answers(root: Path, apart: Path, named: Path, tmp: Path):
    media(tmp)
    wanted = train(tmp / "from-folder", tmp / "train.jsonl", "--base-model", root / "model")
    got = train(tmp / "from-gguf", tmp / "train.jsonl", "--base-model", apart, "--mmproj", named)
    far = max(relative(got[key], value) for key, value in wanted.items()) if got.keys() == wanted.keys() else float("inf")
    # AdamW's first steps have the sign of gradients that may be rounding.
    tell(far <= 5e-2, f"two steps over an image and an audio clip: {len(got)} tensors, the names of the checkpoint's adapter, differing by {far:.1e}")
    folder, gguf = (json.loads((tmp / name / "adapter_config.json").read_text())["auto_mapping"] for name in ("from-folder", "from-gguf"))
    tell(folder == gguf and gguf["image_attention"] == "all_layers", f"the class and the rule of images are recorded: {gguf}")
    model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(root / "model", dtype=torch.float32), tmp / "from-gguf")
    loaded = sum(bool(parameter.abs().max() > 0) for name, parameter in model.named_parameters() if "lora_B" in name)
    tell(loaded == len(got) // 2 and any("embed_vision" in key for key in got) and any("embed_audio" in key for key in got),
         f"PEFT loads {loaded} layers of it on the checkpoint, the embedders among them")
    ask = lambda *of: json.loads(bezel("generate", *of, "--image", tmp / "a.png", "--audio", tmp / "b.wav", "--prompt", "What?", "--greedy",
                                       "--max-new-tokens", 8, "--max-soft-tokens", 70, "--dtype", "float32", "--json").stdout)
    wanted, got = ask("--model", root / "model", "--adapter", tmp / "from-gguf"), ask("--model", apart, "--mmproj", named, "--adapter", tmp / "from-gguf")
    # Not the text: rows of the embeddings without a word have names in a GGUF file.
    tell(got["prompt_ids"] == wanted["prompt_ids"] and got["tokens"] == wanted["tokens"] and len(got["tokens"]) == 8,
         f"asked about both, it answers as the checkpoint: {got['tokens']}")
    asked = bezel("generate", "--model", apart, "--mmproj", named, "--image", tmp / "a.png", "--prompt", "What?", "--greedy", "--max-new-tokens", 2, "--json")
    tell(len(json.loads(asked.stdout)["prompt_ids"]) > 40, "without a budget: as many soft tokens as there are positions")


def writes(root: Path, apart: Path, named: Path, tmp: Path):
    """What is written from the two files is what is written from the checkpoint, with an adapter inside too."""
    contents = lambda path: {tensor.name: (tensor.tensor_type, list(tensor.shape), np.array(tensor.data)) for tensor in GGUFReader(path).tensors}
    outputs = {}
    for name, base in (("folder", (root / "model",)), ("gguf", (apart, "--mmproj", named))):
        bezel("merge", "--model", *base, "--adapter", root / "adapter", "--to", "gguf", "--output", tmp / f"merged-{name}.gguf")
        outputs[name] = contents(tmp / f"mmproj-merged-{name}.gguf")
    folder, gguf, before = outputs["folder"], outputs["gguf"], contents(named)
    same = folder.keys() == gguf.keys() and all(folder[name][:2] == gguf[name][:2] for name in folder)
    far = max(np.abs(folder[name][2] - gguf[name][2]).max() for name in folder) if same else float("inf")
    moved = [name for name in folder if not np.array_equal(folder[name][2], before[name][2])]
    tell(far <= 1e-6 and "v.patch_embd.weight" in moved, f"merged into {moved}: as from the checkpoint, {far:.1e}")
    bezel("convert", "--model", apart, "--mmproj", named, "--to", "gguf", "--output", tmp / "again.gguf")
    again = contents(tmp / "mmproj-again.gguf")
    tell(again.keys() == before.keys() and all(np.array_equal(again[name][2], before[name][2]) for name in before), "converted again: the same tensors")


def rewrite(source: Path, out: Path, change=lambda tensors: None, keys: dict = {}) -> Path:
    """A copy of an mmproj file with other tensors or values of keys."""
    reader, writer = GGUFReader(source), GGUFWriter(out, "clip")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = keys.get(name, field.contents())
        writer.add_array(name, value) if field.types[0] == GGUFValueType.ARRAY else writer.add_key_value(name, value, field.types[0])
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    change(tensors)
    for name, value in tensors.items():
        packed = value.dtype == np.uint8
        writer.add_tensor(name, value, raw_dtype=GGMLQuantizationType.Q8_0 if packed else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def refuses(root: Path, apart: Path, named: Path, tmp: Path):
    inputs, bad = root / "case-image.safetensors", tmp / "bad.gguf"

    def refused(what, words, change=lambda tensors: None, keys={}, model=apart, code=3):
        bad.unlink(missing_ok=True)
        rewrite(named, bad, change, keys)
        told = bezel("forward", "--model", model, "--mmproj", bad, "--inputs", inputs, "--output", tmp / "none.safetensors", code=code).stderr
        tell(all(word in told for word in (str(bad), *words)), f"refused: {what}: {told.strip()}")

    whole = rewrite(named, tmp / "whole.gguf")
    got, want = (forward(apart, inputs, tmp / "out.safetensors", "--mmproj", path)["logits"] for path in (whole, named))
    tell(torch.equal(got, want), "a copy that changes nothing is read as before")

    def cut(name, index):
        return lambda tensors: tensors.update({name: np.ascontiguousarray(tensors[name][index])})

    for name in ("v.patch_norm.3.bias", "v.patch_embd.weight", "v.patch_norm.1.weight", "mm.input_projection.weight", "mm.a.input_projection.weight",
                 "v.position_embd.weight"):
        refused(f"no {name}", [f"'{name}'", "missing"], lambda tensors: tensors.pop(name))
    last = np.s_[..., :-1]
    for name in ("v.patch_norm.1.bias", "v.patch_norm.2.weight", "v.patch_embd.weight", "mm.input_projection.weight", "mm.a.input_projection.weight"):
        refused(f"{name} without its last column", [f"'{name}'", "got shape", "the metadata makes it"], cut(name, last))
    refused("positions of columns alone", ["'v.position_embd.weight'", "got shape"], cut("v.position_embd.weight", np.s_[:1]))
    refused("positions in two dimensions", ["'v.position_embd.weight'", "2 dimensions, expected 3"], cut("v.position_embd.weight", 0))
    refused("another size of patches", ["'v.patch_", "the metadata makes it"], keys={"clip.vision.patch_size": 8})
    refused("frames of another size", ["'mm.a.input_projection.weight'", "the metadata makes it"], keys={"clip.audio.embedding_length": 320})
    refused("no patches", ["clip.vision.patch_size", "got 0"], keys={"clip.vision.patch_size": 0})
    refused("a layer of a tower", ["'v.blk.0.attn_q.weight'", "the embedders of the 12B"],
            lambda tensors: tensors.update({"v.blk.0.attn_q.weight": np.zeros((4, 4), np.float32)}))
    refused("packed patches", ["'v.patch_embd.weight'", "Q8_0", "F32, F16 or BF16"],
            lambda tensors: tensors.update({"v.patch_embd.weight": quantize(tensors["v.patch_embd.weight"], GGMLQuantizationType.Q8_0)}))
    types = lambda vision, audio: {"clip.vision.projector_type": vision, "clip.audio.projector_type": audio}
    refused("towers for images beside embedders for audio", ["clip.vision.projector_type", "'gemma4v'", "'gemma4uv'"], keys=types("gemma4v", "gemma4ua"))
    refused("embedders for images beside a tower for audio", ["clip.audio.projector_type", "'gemma4a'", "'gemma4ua'"], keys=types("gemma4uv", "gemma4a"))
    refused("embedders that are said to be towers", ["clip.vision.feed_forward_length", "got 0"], keys=types("gemma4v", "gemma4a"))
    refused("embedders of another family", ["not the towers of", "gemma4uv", "found clip.vision gemma3"], keys=types("gemma3", "gemma3a"), code=2)
    refused("another width", ["not the towers of", "projection_dim 64"], keys={f"clip.{tower}.projection_dim": 72 for tower in ("vision", "audio")}, code=2)
    small = tmp / "e2b" / "m.gguf"
    small.parent.mkdir()
    bezel("convert", "--model", reference(0) / "e2b" / "model", "--to", "gguf", "--output", small)
    (small.parent / "mmproj-m.gguf").unlink()
    refused("the 12B's beside a model with per-layer embeddings", ["not the towers of", "expected projector_type gemma4v or gemma4a and"], model=small, code=2)
    shutil.copy(named, small.parent / "mmproj-F32.gguf")
    told = json.loads(bezel("inspect", small, "--json").stdout)
    tell(told["architecture"] == "Gemma4ForCausalLM", "and passed over in its folder")


def write_sparse(path: Path, architecture: str, tensors: dict, add_keys, first: np.ndarray | None = None):
    """A GGUF file whose tensors are a hole of zeros, but for the `first` one: {name: (shape, type)}."""
    writer = GGUFWriter(path, architecture)
    add_keys(writer)
    for name, (shape, kind) in tensors.items():
        writer.add_tensor_info(name, shape, np.dtype(np.float32), math.prod(shape) * (4 if kind == F32 else 2), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    aligned = lambda size: -(-size // 32) * 32
    file = writer.fout[0]
    begin = aligned(file.tell())
    file.seek(begin)
    if first is not None:
        file.write(first.tobytes())
    file.truncate(begin + sum(aligned(math.prod(shape) * (4 if kind == F32 else 2)) for shape, kind in tensors.values()))
    writer.close()


def real_names(tmp: Path):
    """Names and shapes of google/gemma-4-12B in llama.cpp's two files."""
    text, folder = CONFIG["text_config"], tmp / "12b"
    folder.mkdir()
    names = get_tensor_name_map(MODEL_ARCH.GEMMA4, text["num_hidden_layers"])
    model, embedders = {"rope_freqs.weight": ([text["global_head_dim"] // 2], F32)}, {}
    for name, shape in tensors_of_12b().items():
        module, part = name.rsplit(".", 1)
        if "language_model" in name:
            model[llama_name(names, name.replace("language_model.", ""))] = (shape, BF16 if len(shape) > 1 else F32)
        elif part == "pos_embedding":
            embedders["v.position_embd.weight"] = ([shape[1], shape[0], shape[2]], F32)
        else:
            embedders[f"{UNIFIED_NAMES[module]}.{part}"] = (shape, BF16 if part == "weight" and module.endswith("embedding_projection") else F32)

    def language_keys(writer):
        add_config(writer, text)
        factors = writer.tensors[0].pop("rope_freqs.weight").tensor
        assert np.array_equal(factors, rope)
        writer.add_tokenizer_model("gemma4")
        writer.add_token_list(["<|image|>", "<|audio|>", "<|video|>"])

    turning = int(text["global_head_dim"] * text["rope_parameters"]["full_attention"]["partial_rotary_factor"] / 2)
    rope = np.array([1.0] * turning + [1e30] * (text["global_head_dim"] // 2 - turning), np.float32)

    def embedder_keys(writer):
        for key, value in expected_unified_keys(CONFIG, folder, 32).items():
            if key == "general.architecture":
                continue
            if isinstance(value, bool): writer.add_bool(key, value)
            elif isinstance(value, int): writer.add_uint32(key, value)
            elif isinstance(value, float): writer.add_float32(key, value)
            elif isinstance(value, list): writer.add_array(key, [float(x) for x in value])
            else: writer.add_string(key, value)

    (folder / "processor_config.json").write_text('{"image_processor": {}}')
    write_sparse(folder / "m.gguf", "gemma4", model, language_keys, rope)
    write_sparse(folder / "mmproj-m.gguf", "clip", embedders, embedder_keys)
    found = json.loads(bezel("inspect", folder / "m.gguf", "--json").stdout)
    wrong = [found[kind][:2] for kind in ("unexpected_tensors", "missing_tensors", "wrong_shapes") if found[kind]]
    tell(found["loads"] and found["parameters"] == 11_959_730_224 and not wrong and found["architecture"] == "Gemma4UnifiedForConditionalGeneration"
         and found["target_modules"]["all-linear"] == {"language": 328, "vision": 1, "projectors": 2},
         f"the real names and shapes: {found['tensors']} tensors, {found['parameters']} numbers {wrong}")


def main() -> int:
    root = reference(0, tuple(UNIFIED)) / "unified"
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        gguf = tmp / "base" / "m.gguf"
        gguf.parent.mkdir()
        bezel("convert", "--model", root / "model", "--to", "gguf", "--output", gguf)
        compare(root, gguf, tmp)
        as_released(root, tmp)
        real_names(tmp)
        apart, named = reads_by_name(root, gguf, tmp)
        trains_and_answers(root, apart, named, tmp)
        writes(root, apart, named, tmp)
        refuses(root, apart, named, tmp)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
