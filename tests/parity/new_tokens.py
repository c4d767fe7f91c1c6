"""Tokens that a run adds (add_tokens, add_special_tokens), beside transformers' add_tokens and resize_token_embeddings and PEFT's
trainable_token_indices and modules_to_save, over tied and untied tables, in float32.

PEFT makes an adapter over the resized model: logits, loss and gradients are the same, and the merged checkpoint is
merge_and_unload's. Bezel trains one: transformers reads the tokenizer beside it, PEFT the adapter once the embeddings are resized.
Killed and resumed runs end with the same bytes, every command knows the tokens, and what would leave a row untrained is refused.

    new_tokens.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import shutil
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import adapter_kinds as kinds
from _reference import BIN, bezel, check, finish, forward, inputs_of, reference, relative, run
from _runs import Runs, kill

PLAIN, SPECIAL = ["<tool>", "[END] now"], ["<sp>"]
TEXTS = ["a <tool> b[END] now c<sp>d", "<tool><tool> [END]  now", "[END] nowhere <sp>", "no token here"]
FIRST = 1321  # of the ids: the vocabulary of the small checkpoints has so many words


def small_base(folder, out, rows=FIRST):
    """The checkpoint with no more rows than its tokenizer has words."""
    model = kinds.load(folder)
    model.resize_token_embeddings(rows)
    model.save_pretrained(out)
    for file in folder.iterdir():
        if not (out / file.name).exists():
            shutil.copy(file, out)
    return out


def tokenizer_of(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(PLAIN)
    tokenizer.add_tokens(SPECIAL, special_tokens=True)
    return tokenizer


def tables(model):
    yield model.model.language_model.embed_tokens
    yield model.model.language_model.embed_tokens_per_layer
    if not model.config.text_config.tie_word_embeddings:
        yield model.lm_head


def resized(folder, num_tokens):
    """transformers' model with new rows: the mean, but for noise of which no two runs draw the same, and which is taken out."""
    model = kinds.load(folder)
    before = [table.weight.detach().clone() for table in tables(model)]
    torch.manual_seed(5)
    model.resize_token_embeddings(num_tokens)
    with torch.no_grad():
        for old, table in zip(before, tables(model), strict=True):
            rows, mean = table.weight[len(old):], old.mean(0)
            check(rows.shape[0] == num_tokens - len(old), f"rows of {table}")
            check((rows - mean).abs().max() <= 1e-3 * old.std(), "transformers begins new rows with the mean")
            rows.copy_(mean)
    return model


def with_new_ids(file, out):
    """A case whose second half has the new tokens in it."""
    case = load_file(file)
    ids, labels = case["in.input_ids"], case["in.labels"]
    places = (labels[0] >= 0).nonzero().flatten()[:6]
    for i, place in enumerate(places):
        ids[0, place] = labels[0, place] = FIRST + i % 3
    save_file({k: v for k, v in case.items() if k.startswith("in.")}, out)
    return out


def of_peft(name, base, config, file, tmp, wanted_by_peft):
    tokenizer = tokenizer_of(base)
    resized(base, len(tokenizer)).save_pretrained(tmp / "resized")
    model = kinds.tuned(tmp / "resized", config, seed=3)
    kinds.quiet(lambda: model.save_pretrained(tmp / "adapter", save_embedding_layers=False))
    tokenizer.save_pretrained(tmp / "adapter")
    told = kinds.same_as_peft(name, base, tmp / "adapter", model, file, tmp)
    merged = kinds.merged(name, base, tmp / "adapter", model, file, tmp, wanted_by_peft)
    text = json.loads((tmp / "merged" / "config.json").read_text())["text_config"]
    check(text["vocab_size"] == text["vocab_size_per_layer_input"] == len(tokenizer), f"{name}: config.json of the merged checkpoint")
    same_tokenizer(name, tmp / "merged", base)
    print(f"{name}: {told}; {merged}", flush=True)


def same_tokenizer(name, folder, base):
    got, wanted = AutoTokenizer.from_pretrained(folder), tokenizer_of(base)
    check(len(got) == len(wanted), f"{name}: {len(got)} tokens, wanted {len(wanted)}")
    for text in TEXTS:
        ids = wanted.encode(text)
        check(got.encode(text) == ids, f"{name}: ids of {text!r}: {got.encode(text)}, wanted {ids}")
        check(got.decode(ids, skip_special_tokens=True) == wanted.decode(ids, skip_special_tokens=True), f"{name}: text of {ids}")


def write_samples(path):
    with open(path, "w") as file:
        for i in range(13):
            row = {"messages": [{"role": "user", "content": f"Number {i}<sp>?"}, {"role": "assistant", "content": f"<tool> {i * i}[END] now and"}]}
            file.write(json.dumps(row) + "\n")


def runs_of(base, folder, **flags):
    runs = Runs(BIN / "bezel", folder, base_model=base, add_tokens=",".join(PLAIN), add_special_tokens=",".join(SPECIAL), **flags)
    write_samples(folder / "train.jsonl")
    return runs


def trained(base, file, folder):
    """A run of Bezel's own, from its first row to what others read of it."""
    runs = runs_of(base, folder)
    delta = "base_model.model.model.language_model.embed_tokens.token_adapter.trainable_tokens_delta"
    said = runs.run("still", learning_rate=1e-30, max_steps=1, lora_dropout=0)
    check(all(part in said for part in ("3 new tokens with ids from 1321", "3 rows", "mean", "per-layer")), f"the run says what it adds: {said}")
    rows = load_file(runs.folder / "still" / "adapter_model.safetensors")[delta]
    table = kinds.load(base).get_input_embeddings().weight.detach()
    check(relative(rows, table.mean(0).expand(3, -1)) <= 1e-6, "rows begin as the mean")
    runs.run("out")
    wanted, adapter = runs.results("out"), runs.folder / "out"
    check(relative(load_file(adapter / "adapter_model.safetensors")[delta], rows) > 0.1, "rows are trained")
    code, _ = runs.run_until("killed", "step 8/12", kill)
    check(code < 0, f"killed: {code}")
    forward(base, file, folder / "checkpoint.safetensors", "--dtype", "float32", "--adapter", runs.folder / "killed" / "checkpoint-6")
    check("resumed after step" in runs.run("killed", "--resume-from-checkpoint=auto"), "resumes")
    runs.same("killed", wanted)
    same_tokenizer("trained", adapter, base)
    model = resized(base, len(AutoTokenizer.from_pretrained(adapter)))
    loaded, said = kinds.quiet(lambda: PeftModel.from_pretrained(model, adapter).eval())
    check(not said, f"PEFT takes the folder without a word {said}")
    case = load_file(file)
    with torch.no_grad():
        logits = loaded(**inputs_of(case), use_cache=False).logits
    got = forward(base, file, folder / "out.safetensors", "--dtype", "float32", "--adapter", adapter)["logits"]
    error = kinds.error_of(case, got, logits)
    check(error <= 3e-4, f"trained: logits beside PEFT {error:.1e}")
    print(f"trained: logits beside PEFT {error:.1e}", flush=True)
    return runs, adapter


def goes_on(runs, adapter):
    """The next run takes tokens and rows over from the adapter that it starts from."""
    before = load_file(adapter / "adapter_model.safetensors")
    still = dict(init_adapter=adapter, learning_rate=1e-30, max_steps=1, lora_dropout=0)
    runs.run("on", **still)
    after = load_file(runs.folder / "on" / "adapter_model.safetensors")
    check(after.keys() == before.keys() and all(torch.equal(after[k], v) for k, v in before.items()), "the next run begins where this one ended")
    check((runs.folder / "on" / "tokenizer.json").read_bytes() == (adapter / "tokenizer.json").read_bytes(), "its tokenizer is the same")
    said = runs.run("other", expect=2, **still | {"add_tokens": "<tool>,<other>"})
    check("add_tokens" in said and "<other>" in said, f"a token that the adapter lacks is refused: {said}")


def commands(runs, base, adapter):
    asked = json.loads(bezel("generate", "--model", base, "--adapter", adapter, "--dtype", "float32", "--greedy", "--max-new-tokens", 4,
                             "--json", "--prompt", TEXTS[0]).stdout)
    check({FIRST, FIRST + 1, FIRST + 2} <= set(asked["prompt_ids"]), f"generate: {asked}")
    plain = json.loads(bezel("generate", "--model", base, "--dtype", "float32", "--greedy", "--max-new-tokens", 4, "--json", "--prompt", TEXTS[0]).stdout)
    check(max(plain["prompt_ids"]) < FIRST, "the base has none of them")
    data = runs.folder / "train.jsonl"
    score = json.loads(bezel("evaluate", "--model", base, "--adapter", adapter, "--data", data, "--dtype", "float32", "--json").stdout)
    check(score["adapter"]["loss"] < score["base"]["loss"], f"evaluate: {score}")
    config = runs.folder / "config.yaml"
    config.write_text(json.dumps({"base_model": str(base), "train_file": str(data), "output_dir": str(runs.folder / "none"), "tokens": PLAIN,
                                  "add_special_tokens": SPECIAL, "resize_vocab": True}))
    shown = run(BIN / "bezel", "preprocess", config, "--dry-run", "--show", 1).stdout
    check("<tool>" in shown and "<sp>" in shown, f"preprocess: {shown}")
    verified = json.loads(bezel("verify-adapter", "--model", base, "--adapter", adapter, "--json").stdout)
    check(not verified["problems"], f"verify-adapter: {verified['problems']}")
    check(json.loads(bezel("inspect", adapter, "--json").stdout)["loads"], "inspect")
    for to in ("gguf", "orbax"):
        done = bezel("merge", "--model", base, "--adapter", adapter, "--to", to, "--output", runs.folder / f"merged.{to}", code=2)
        check("adds tokens" in done.stderr and "merge into a checkpoint first" in done.stderr, f"merge --to {to}: {done.stderr}")
    done = bezel("convert", "--adapter", adapter, "--to", "gguf", "--output", runs.folder / "adapter.gguf", code=3)
    check("trainable_token_indices" in done.stderr and "merge" in done.stderr, f"convert: {done.stderr}")
    bezel("merge", "--model", base, "--adapter", adapter, "--output", runs.folder / "merged")
    bezel("convert", "--model", runs.folder / "merged", "--to", "gguf", "--output", runs.folder / "merged.gguf")
    # A GGUF file cannot say that a token is matched behind the normalizer, which one with a blank needs.
    of_adapter, of_gguf = (json.loads(bezel("generate", *model, "--dtype", "float32", "--greedy", "--max-new-tokens", 4, "--json", "--prompt", "a <tool> c<sp>d").stdout)
                           for model in (("--model", base, "--adapter", adapter), ("--model", runs.folder / "merged.gguf")))
    check(of_gguf["prompt_ids"] == of_adapter["prompt_ids"] and of_gguf["tokens"] == of_adapter["tokens"], f"the merged GGUF file answers alike: {of_gguf} {of_adapter}")
    (runs.folder / "bare").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, runs.folder / "bare")
    done = bezel("verify-adapter", "--model", base, "--adapter", runs.folder / "bare", code=3)
    check("token 1321" in done.stderr and "tokenizer.json" in done.stderr, f"an adapter without its tokenizer: {done.stderr}")


def refused(runs, untied):
    word = AutoTokenizer.from_pretrained(untied).convert_ids_to_tokens(456)
    cases = [({"modules_to_save": "embed_tokens"}, ("modules_to_save", "lm_head", "add_tokens")),
             ({"modules_to_save": "lm_head"}, ("modules_to_save", "embed_tokens", "add_tokens")),
             ({"target_modules": "q_proj,embed_tokens"}, ("embed_tokens", "add_tokens")),
             ({"add_tokens": "<a>,<a>"}, ("add_tokens", "twice")),
             ({"add_tokens": word}, ("add_tokens", f"'{word}'", "vocabulary already")),
             ({"objective": "dpo"}, ("add_tokens", "objective: sft"))]
    for flags, words in cases:
        said = runs.run("refused", expect=2, **flags)
        check(all(word in said for word in words), f"{flags} is refused by name: {said}")
    said = runs.run("kept", add_tokens="<|think|>", add_special_tokens="<bos>", max_steps=1)
    check("has all of them already" in said, f"known tokens: {said}")
    # Rows of an untied head are trained as well.
    runs.run("untied", base_model=untied, max_steps=1)
    keys = load_file(runs.folder / "untied" / "adapter_model.safetensors").keys()
    check(sum("trainable_tokens_delta" in key for key in keys) == 2, "rows of an untied head are trained")


def enough_rows(runs, folder):
    """Where the embeddings have rows already, those are trained and none is added."""
    said = runs.run("enough", base_model=folder, max_steps=1)
    check("have rows already" in said, f"enough rows: {said}")
    bezel("merge", "--model", folder, "--adapter", runs.folder / "enough", "--output", runs.folder / "enough-merged")
    check(kinds.load(runs.folder / "enough-merged").config.text_config.vocab_size == kinds.load(folder).config.text_config.vocab_size, "no row is added")
    same_tokenizer("enough rows", runs.folder / "enough-merged", folder)


def main():
    root = reference(0)
    folder = root / "e2b" / "model"
    with tempfile.TemporaryDirectory() as temporary:
        tmp = Path(temporary)

        def fresh():
            return Path(tempfile.mkdtemp(dir=tmp))

        base = small_base(folder, fresh())
        text, image = (with_new_ids(root / "e2b" / f"case-{case}.safetensors", fresh() / f"case-{case}.safetensors") for case in ("text", "image"))
        ids = list(range(FIRST, FIRST + 3))
        rows = dict(target_modules=kinds.DECODER, trainable_token_indices=ids)
        whole = dict(target_modules=kinds.DECODER, modules_to_save=["embed_tokens", "lm_head"])
        of_peft("rows, tied", base, rows, text, fresh(), True)
        of_peft("rows, tied, with an image", base, rows, image, fresh(), True)
        of_peft("whole tables, tied", base, whole, text, fresh(), False)
        untied = kinds.untied(base, fresh())
        both = dict(target_modules=kinds.DECODER, trainable_token_indices={"embed_tokens": ids, "lm_head": ids})
        of_peft("rows, untied", untied, both, text, fresh(), True)
        runs, adapter = trained(base, text, fresh())
        goes_on(runs, adapter)
        commands(runs, base, adapter)
        refused(runs, untied)
        enough_rows(runs, folder)
    return finish()


if __name__ == "__main__":
    raise SystemExit(main())
