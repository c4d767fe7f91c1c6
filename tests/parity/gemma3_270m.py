"""Trained weights: Gemma 3 270M from its GGUF file, beside transformers + PEFT (which expand it to float32) and beside
llama.cpp (npm node-llama-cpp, which reads the same codes).

 - logits of 20 texts equal transformers' within LOGITS;
 - the loss of every step of the demo's three epochs is within 2 % of transformers + PEFT, from the same adapter;
 - llama.cpp goes on with 20 texts as Bezel does (_llama.py says how that is judged), also with the adapter of that training.
   llama.cpp rounds what it multiplies with packed matrices to 8 bits, which alone moves logits by about 0.1 (it and transformers
   part at margins up to 0.23); so the texts are those of 50 repetitive ones on which Bezel's two likeliest tokens stay furthest apart,
   by 1.0 and more. Of the 50, all on which they stay apart by 0.25 agree;
 - with 20 ordinary texts it does too, where it reads the same matrices as float32 and rounds nothing, without and with the
   adapter, which changes these texts.

The second, the adapter's part of the third and the fourth take minutes, so `make test` leaves them to `make test-llama`: they need --full.

    gemma3_270m.py BEZEL_FOLDER TEST_FOLDER [--full] [--epochs 3]
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from _llama import NUM_TOKENS, as_gguf, compare, compare_texts, greedy
from _reference import BIN, ROOT, finish, forward, tell
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize
from safetensors.torch import save_file

MODEL = ROOT / ".venv" / "models" / "gemma-3-270m-q4_k_m.gguf"
# float32 over 18 layers: what transformers' own eager and sdpa forms differ by on these texts is printed beside it.
LOGITS = 2e-3
TEXTS = ["Jan 1\nJan 2\nJan 3\nJan 4\n", "Chapter 1\nChapter 2\nChapter 3\n", "1, 2, 3, 4, 5, 6, 7,", "do re mi do re mi do re mi do",
         "SELECT name FROM users WHERE id = 1;\nSELECT name FROM users WHERE id = 2;\n", "<p>text</p>\n<p>text</p>\n<p>text</p>\n",
         "a b c d e f g h i j a b c d e f g h i j a b c", "Page 1\nPage 2\nPage 3\nPage 4\n", "Step 1\nStep 2\nStep 3\nStep 4\n",
         "A-1, A-2, A-3, A-4, A-5,", "x = 1\nx = 1\nx = 1\nx = 1\n", "10:01\n10:02\n10:03\n10:04\n", '{"id": 1}\n{"id": 2}\n{"id": 3}\n',
         "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday, Tuesday,", "- item 1\n- item 2\n- item 3\n",
         "def f1():\n    return 1\n\ndef f2():\n    return 2\n\ndef", "100, 101, 102, 103, 104, 105,", "(1) (2) (3) (4) (5) (6)",
         "log: ok\nlog: ok\nlog: ok\nlog: ok\n", "2001, 2002, 2003, 2004,"]
ORDINARY = ["The capital of France is", "Once upon a time, there was a small", "Water boils at", "My favorite season is autumn because",
            "In 1969, astronauts", "To make bread, you need", "The largest planet in the solar system", "Dear Sir or Madam,\n\nI am writing to",
            "Photosynthesis is the process by which", "The difference between a cat and a dog is", "She opened the door and", "A good teacher should",
            "The river flows from the mountains to", "Python is a programming language that", "Yesterday I went to the market and bought",
            "The history of the Roman Empire", "Why is the sky blue?", "He looked at his watch and", "The recipe calls for two eggs,", "Music helps people"]


def padded(rows):
    """Token ids of several texts as `bezel forward` and transformers take them."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return dict(input_ids=ids, attention_mask=mask)


def bezel_logits(rows, tmp, *extra):
    inputs = padded(rows)
    save_file({f"in.{key}": value for key, value in inputs.items()}, tmp / "in.safetensors")
    return forward(MODEL, tmp / "in.safetensors", tmp / "out.safetensors", "--dtype", "float32", *extra)["logits"]


def logits(model, rows, tmp):
    worst = own = 0.0
    for at in range(0, len(rows), 10):
        inputs = padded(rows[at:at + 10])
        real = inputs["attention_mask"] == 1
        with torch.no_grad():
            model.set_attn_implementation("eager")
            wanted = model(**inputs, use_cache=False).logits[real]
            model.set_attn_implementation("sdpa")
            own = max(own, (model(**inputs, use_cache=False).logits[real] - wanted).abs().max().item())
        got = bezel_logits(rows[at:at + 10], tmp)[real]
        worst = max(worst, (got - wanted).abs().max().item())
    tell(worst <= LOGITS, f"logits of {len(rows)} texts differ by {worst:.1e} from transformers, whose own forms differ by {own:.1e}")


def train(tmp, epochs):
    """Losses of Bezel and of transformers + PEFT from one adapter, over the same batches in the same order."""
    subprocess.run([sys.executable, ROOT / "demo" / "capitals.py"], check=True)
    data, start, out = ROOT / "demo" / "capitals" / "train.jsonl", tmp / "start", tmp / "adapter"
    fresh = ["--base-model", MODEL, "--train-file", data, "--shuffle", "false", "--packing", "false", "--micro-batch-size", "8", "--gradient-accumulation-steps", "1",
             "--dtype", "float32", "--report-to", "none", "--sample-predictions", "0", "--quiet"]
    bezel = lambda *extra: subprocess.run([str(c) for c in [BIN / "bezel", "train", *fresh, *extra]], check=True, capture_output=True)
    bezel("--output-dir", start, "--max-steps", "1", "--learning-rate", "1e-9", "--lora-r", "16", "--save-steps", "0")
    bezel("--output-dir", out, "--num-train-epochs", epochs, "--learning-rate", "2e-4", "--init-adapter", start, "--save-steps", "0")
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    ours = [entry["loss"] for entry in history if "loss" in entry]
    peer = subprocess.run([sys.executable, ROOT / "tools" / "hf_peft_capitals.py", MODEL, data, "--init", start, "--dtype", "float32",
                           "--epochs", str(epochs)], check=True, capture_output=True, text=True)
    theirs = json.loads(peer.stdout.splitlines()[-1])["losses"]
    worst = max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
    tell(worst <= 0.02, f"losses of {len(ours)} steps within {100 * worst:.3f} % of transformers + PEFT; {ours[0]:.3f} to {ours[-1]:.3f}")
    return out


def expanded(path):
    """MODEL with float32 matrices in place of the packed ones, as a GGUF file."""
    reader = GGUFReader(MODEL)
    writer = GGUFWriter(path, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            writer.add_key_value(field.name, field.contents(), field.types[0], *field.types[1:2])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def generated(prompt, text, tmp):
    """`bezel generate` itself, token by token."""
    save_file({"in.input_ids": torch.tensor([prompt])}, tmp / "prompt.safetensors")
    run = subprocess.run([str(c) for c in [BIN / "bezel", "generate", "--model", MODEL, "--inputs", tmp / "prompt.safetensors", "--dtype", "float32",
                                           "--greedy", "--ignore-eos", "--max-new-tokens", NUM_TOKENS, "--json"]],
                         capture_output=True, text=True, check=True)
    tell(json.loads(run.stdout)["tokens"] == text, "bezel generate writes what llama.cpp does")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folders", nargs="*")
    p.add_argument("--full", action="store_true")
    p.add_argument("--epochs", type=int, default=3)
    options = p.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = dict(gguf_file=MODEL.name)
    tokenizer = AutoTokenizer.from_pretrained(MODEL.parent, **given)
    model = AutoModelForCausalLM.from_pretrained(MODEL.parent, dtype=torch.float32, **given).eval()
    tokens_of = lambda texts: [tokenizer("<bos>" + text, add_special_tokens=False)["input_ids"] for text in texts]
    rows = tokens_of(TEXTS)
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        logits(model, rows, tmp)
        del model
        base = compare("base", MODEL, rows, tmp)
        generated(rows[0], base[0], tmp)
        if options.full:
            ordinary, wide = tokens_of(ORDINARY), expanded(tmp / "wide.gguf")
            before = greedy(wide, ordinary)
            compare_texts("ordinary texts, float32 matrices", MODEL, ordinary, before, tmp)
            adapter = train(tmp, options.epochs)
            compare("adapter", MODEL, rows, tmp, adapter)
            after = greedy(wide, ordinary, as_gguf(adapter))
            compare_texts("ordinary texts, float32 matrices, adapter", MODEL, ordinary, after, tmp, "--adapter", adapter)
            changed = sum(a != b for a, b in zip(before, after))
            tell(changed >= 10, f"the adapter changes {changed} of llama.cpp's ordinary texts")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
