"""`bezel generate` against transformers' `generate`, greedy in float32, 64 tokens, token by token: all presets, with media,
with and without an adapter. And the command itself: stopping, chat, chunks, several adapters, seeds, Ctrl-C, refusals.

Where a token differs, the two most probable tokens of the reference must lie closer together than twice the bound that
model_parity.py holds logits to (3e-4 for text and sound, 3e-3 with pictures): both may then move by that much and change
places. Such places are counted, and the comparison goes on behind the reference's token.

    generate_parity.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import Gemma4ForConditionalGeneration

from _reference import BIN, PRESETS, ROOT, check, finish, forward, reference

sys.path.insert(0, str(ROOT / "tools"))
import make_reference as made  # noqa: E402

COUNT = 64


def bezel(*arguments, expect=0, stdin=None):
    command = [BIN / "bezel", "generate", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, input=stdin)
    out, err = run.stdout.decode(), run.stderr.decode()  # strict: what is printed is UTF-8
    if run.returncode != expect:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {run.returncode}, expected {expect}\n{out}{err}")
    return out if expect == 0 else err


def answers(*arguments, **kw):
    return [json.loads(line) for line in bezel(*arguments, "--json", **kw).splitlines()]


def greedy(model, inputs, tmp, count, *extra):
    save_file({f"in.{k}": v.contiguous() for k, v in inputs.items()}, tmp / "prompt.safetensors")
    out = answers("--model", model, "--inputs", tmp / "prompt.safetensors", "--dtype", "float32", "--greedy", "--ignore-eos",
                  "--max-new-tokens", count, *extra)
    return out[0]["tokens"]


def grown(inputs, tokens):
    """The prompt with tokens behind it."""
    more = torch.tensor([tokens])
    out = dict(inputs, input_ids=torch.cat([inputs["input_ids"], more], 1))
    for key, value in (("attention_mask", 1), ("mm_token_type_ids", 0)):
        if key in out:
            out[key] = torch.cat([out[key], torch.full_like(more, value)], 1)
    return out


def reference_tokens(model, inputs):
    out = model.generate(**inputs, max_new_tokens=COUNT, do_sample=False, pad_token_id=0, return_dict_in_generate=True, output_logits=True)
    tops = [logits[0].topk(2).values for logits in out.logits]
    return out.sequences[0, inputs["input_ids"].shape[1]:].tolist(), [(top[0] - top[1]).item() for top in tops]


def compare(name, model, folder, inputs, tmp, *extra):
    """The number of near ties at which the two went apart."""
    wanted, margins = reference_tokens(model, inputs)
    check(len(wanted) == COUNT, f"{name}: the reference gives {len(wanted)} tokens")
    limit = 2 * (3e-3 if "pixel_values" in inputs else 3e-4)
    done, ties = 0, 0
    while done < COUNT:
        got = greedy(folder, grown(inputs, wanted[:done]) if done else inputs, tmp, COUNT - done, *extra)
        same = next((i for i, (a, b) in enumerate(zip(got, wanted[done:])) if a != b), COUNT - done)
        if len(got) != COUNT - done:
            check(False, f"{name}: {len(got)} tokens behind {done}")
            return ties
        done += same
        if done == COUNT:
            break
        if margins[done] >= limit:
            check(False, f"{name}: token {done} is {got[same]}, not {wanted[done]}; the reference's margin is {margins[done]:.1e}")
            return ties
        done, ties = done + 1, ties + 1
    check(True, f"{name}: {COUNT} tokens equal, {ties} near ties, smallest margin {min(margins):.1e}")
    return ties


def load_model(folder):
    model = Gemma4ForConditionalGeneration.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    return model


def case_inputs(root, preset, case):
    return {k.removeprefix("in."): v for k, v in load_file(root / preset / f"case-{case}.safetensors").items()
            if k.startswith("in.") and k != "in.labels"}


def presets(root, tmp):
    ties = places = 0
    for preset, cases in PRESETS.items():
        folder = root / preset
        model = load_model(folder / "model")
        singles = [case for case in cases if case != "batch"]  # a batch holds padding
        ties += compare(f"{preset}/{singles[-1]}", model, folder / "model", case_inputs(root, preset, singles[-1]), tmp)
        tuned = PeftModel.from_pretrained(model, folder / "adapter").eval()
        for case in singles:
            ties += compare(f"{preset}/{case}, adapter", tuned, folder / "model", case_inputs(root, preset, case), tmp,
                            "--adapter", folder / "adapter")
        places += COUNT * (len(singles) + 1)
    print(f"{ties} near ties in {places} tokens")


def chunks(root, tmp):
    for preset, case in (("e2b", "mixed"), ("moe", "images")):
        inputs, folder = case_inputs(root, preset, case), root / preset / "model"
        whole = greedy(folder, inputs, tmp, COUNT)
        for size in (1, 5, 50):
            check(greedy(folder, inputs, tmp, COUNT, "--prefill-tokens", size) == whole, f"{preset}/{case}: read {size} at a time")


def quantized(root, tmp):
    """Every token is the most probable one of `bezel forward` over the whole text."""
    for storage in ("nf4", "int8"):
        inputs, folder = case_inputs(root, "e2b", "mixed"), root / "e2b" / "model"
        tokens = greedy(folder, inputs, tmp, COUNT, "--storage", storage)
        save_file({f"in.{k}": v.contiguous() for k, v in grown(inputs, tokens).items()}, tmp / "whole.safetensors")
        logits = forward(folder, tmp / "whole.safetensors", tmp / "out.safetensors", "--dtype", "float32", "--storage", storage)["logits"]
        rows = logits[0, inputs["input_ids"].shape[1] - 1:-1]
        behind = (rows.max(-1).values - rows.gather(1, torch.tensor(tokens)[:, None])[:, 0]).max().item()
        check(behind <= 6e-3, f"{storage}: tokens are at most {behind:.1e} below the largest logit")


def int8_embeddings(root, tmp):
    """transformers' tokens over a checkpoint that holds bitsandbytes' int8 values of the token embeddings, to which the head is tied."""
    from bitsandbytes import functional as F

    inputs, folder = case_inputs(root, "e2b", "mixed"), root / "e2b" / "model"
    rounded = tmp / "rounded"
    shutil.copytree(folder, rounded)
    changed = 0
    for file in rounded.glob("*.safetensors"):
        tensors = load_file(file)
        for name in [name for name in tensors if name.endswith("language_model.embed_tokens.weight")]:
            codes, absmax, _ = F.int8_vectorwise_quant(tensors[name].clone())
            values = F.int8_vectorwise_dequant(codes, absmax).to(tensors[name].dtype)
            changed += not torch.equal(values, tensors[name])
            tensors[name] = values
        save_file(tensors, file, metadata={"format": "pt"})
    check(changed == 1, f"{changed} tables changed")
    ties = compare("int8 embeddings", load_model(rounded), folder, inputs, tmp, "--quantize-embeddings", "int8")
    print(f"int8 embeddings: {COUNT} tokens, {ties} near ties")


def stopping(root, tmp):
    """Where generation_config.json says so, both stop, and behind the same token."""
    folder = tmp / "stops"
    shutil.copytree(root / "e2b" / "model", folder)
    prompt = "Name three primes."
    ids = answers("--model", folder, "--prompt", prompt, "--max-new-tokens", 1)[0]["prompt_ids"]
    inputs = {"input_ids": torch.tensor([ids])}
    all_tokens = greedy(folder, inputs, tmp, 40)
    stop = all_tokens[20]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, stop], "do_sample": False, "max_new_tokens": 30}))
    got = answers("--model", folder, "--prompt", prompt, "--dtype", "float32")[0]
    model = Gemma4ForConditionalGeneration.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    wanted = model.generate(**inputs, pad_token_id=0)[0, len(ids):].tolist()
    check(got["tokens"] == wanted == all_tokens[:all_tokens.index(stop) + 1] and got["finish"] == "stop", f"stops behind token {len(wanted)}")
    longer = answers("--model", folder, "--prompt", prompt, "--dtype", "float32", "--ignore-eos")[0]
    check(longer["tokens"] == all_tokens[:30] and longer["finish"] == "length", "max_new_tokens of generation_config.json")
    text = bezel("--model", folder, "--prompt", prompt, "--dtype", "float32")
    check(text == got["text"] + "\n", "the streamed text is the decoded text")


def media_prompt(root, tmp):
    """--image and --audio with a prompt make the processor's token ids."""
    picture, sound = tmp / "image.png", tmp / "sound.wav"
    made.test_image(220, 150, 3).save(picture)
    import soundfile
    samples = made.test_audio(0.9, 4)
    soundfile.write(sound, samples, 16000)
    model = root / "e2b" / "model"
    tokenizer = made.GemmaTokenizer.from_pretrained(model)
    processor = made.Gemma4Processor(made.Gemma4AudioFeatureExtractor.from_pretrained(model),
                                     made.Gemma4ImageProcessorPil.from_pretrained(model), tokenizer, None, image_seq_length=70)
    text = "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\n{}<turn|>\n<|turn>model\n"
    for prompt, inside in (("What is it?", "<|image|><|audio|>What is it?"), ("<|audio|>and <|image|>?", "<|audio|>and <|image|>?")):
        wanted = processor(text=[text.format(inside)], images=[[made.Image.open(picture)]], audio=[samples], add_special_tokens=False)
        got = answers("--model", model, "--prompt", prompt, "--system", "Be brief.", "--image", picture, "--audio", sound,
                      "--max-new-tokens", 2)[0]
        check(got["prompt_ids"] == list(wanted["input_ids"][0]), f"prompt ids of {inside!r}")
    raw = answers("--model", model, "--prompt", "Two primes are", "--raw", "--max-new-tokens", 1)[0]["prompt_ids"]
    check(raw == tokenizer("Two primes are")["input_ids"], "--raw")


def chatting(root, tmp):
    """Each answer of a conversation is the one that its prompt gives by itself."""
    model = root / "e2b" / "model"
    turns = answers("--model", model, "--chat", "--dtype", "float32", "--greedy", "--max-new-tokens", 12,
                    stdin=f"Hi there\n/image {tmp / 'image.png'}\nWhat is in the image?\n/new\nHi there\n".encode())
    check(len(turns) == 3 and turns[0]["tokens"] == turns[2]["tokens"], "/new begins again")
    first = {"input_ids": torch.tensor([turns[0]["prompt_ids"]])}
    check(greedy(model, first, tmp, 12)[:len(turns[0]["tokens"])] == turns[0]["tokens"], "first answer")
    check(turns[1]["prompt_ids"][:len(turns[0]["prompt_ids"])] == turns[0]["prompt_ids"], "the second prompt goes on from the first")
    # The image's tensors are not ours to make again: all in one prompt instead.
    alone = answers("--model", model, "--chat", "--dtype", "float32", "--greedy", "--max-new-tokens", 12, "--prefill-tokens", 4,
                    stdin=f"Hi there\n/image {tmp / 'image.png'}\nWhat is in the image?\n".encode())
    check(alone[1]["tokens"] == turns[1]["tokens"], "second answer, read in other chunks")


def command(root, tmp):
    model, adapter = root / "e2b" / "model", root / "e2b" / "adapter"
    asks = ("--model", model, "--prompt", "Hi", "--max-new-tokens", 6)
    both = answers(*asks, "--adapter", adapter, "--adapter", adapter)
    check([row["adapter"] for row in both] == [None, str(adapter), str(adapter)] and both[1]["tokens"] == both[2]["tokens"], "several adapters")
    check(both[0]["tokens"] == answers(*asks)[0]["tokens"] and both[1]["tokens"] == answers(*asks, "--adapter", adapter)[0]["tokens"],
          "each as alone")
    titles = [line for line in bezel(*asks, "--adapter", adapter, "--adapter", adapter).splitlines() if line.startswith("== ")]
    check(titles == ["== base ==", f"== {adapter} ==", f"== {adapter} =="], "titles")
    drawn = [answers(*asks, "--temperature", "1.5", "--top-k", "0", "--seed", seed)[0]["tokens"] for seed in (5, 5, 6)]
    check(drawn[0] == drawn[1] != drawn[2], "--seed")
    check(answers(*asks, "--temperature", "0")[0]["tokens"] == answers(*asks, "--greedy")[0]["tokens"], "--temperature 0 is greedy")
    for arguments, code, word in ((("--model", model), 2, "--prompt"), ((*asks, "--chat", "--raw"), 2, "--raw"),
                                  ((*asks, "--greedy", "--top-k", "3"), 2, "--greedy"), ((*asks, "--top-p", "2"), 2, "top-p"),
                                  ((*asks, "--image", tmp / "none.png"), 4, "none.png"), ((*asks, "--image", model / "config.json"), 3, "config.json"),
                                  (("--model", root / "dense" / "model", "--prompt", "a", "--audio", "x.wav"), 3, "no audio tower"),
                                  ((*asks[:2], "--prompt", "<|image|>?"), 3, "0 images"), ((*asks, "--adapter", tmp), 4, "adapter_config.json"),
                                  (("--model", tmp, "--prompt", "a"), 4, "config.json")):
        check(word in bezel(*arguments, expect=code), f"refused with {code}: {word}")


def interrupted(root):
    for number in (signal.SIGINT, signal.SIGTERM):
        run = subprocess.Popen([BIN / "bezel", "generate", "--model", root / "e2b" / "model", "--prompt", "Hi", "--ignore-eos",
                                "--max-new-tokens", "4000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.read(run.stdout.fileno(), 1)
        run.send_signal(number)
        out, err = run.communicate()
        check(run.returncode == 128 + number and out.endswith(b"\n") and not err, f"signal {number}: exit {run.returncode} {err.decode()}")


def main():
    torch.set_grad_enabled(False)
    root = reference(0)
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        presets(root, tmp)
        chunks(root, tmp)
        quantized(root, tmp)
        int8_embeddings(root, tmp)
        stopping(root, tmp)
        media_prompt(root, tmp)
        chatting(root, tmp)
        command(root, tmp)
        interrupted(root)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
