"""What `bezel train demo/capitals.yaml` does, done with transformers + PEFT: LoRA over Gemma 3 from a GGUF file, on questions
and answers. Prints one JSON line: losses of every step, seconds of the training loop, peak memory.

    hf_peft_capitals.py MODEL.gguf TRAIN.jsonl [--init ADAPTER] [--max-steps N] [--heldout HELDOUT.jsonl]

transformers expands the GGUF file into matrices of --dtype. Order, batches, schedule and loss are those of the config with
shuffle: false; --init starts from an adapter in place of a fresh one. --heldout also answers, greedily, and counts.
"""
import argparse
import json
import math
import resource
import time
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path)
    p.add_argument("train", type=Path)
    p.add_argument("--init")
    p.add_argument("--heldout", type=Path)
    p.add_argument("--dtype", default="bfloat16")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--max-steps", type=int)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--lr", type=float, default=2e-4)
    return p.parse_args()


def read(path):
    return [[m["content"] for m in json.loads(line)["messages"]] for line in path.read_text(encoding="utf-8").splitlines()]


def question_ids(tokenizer, question):
    text = f"<bos><start_of_turn>user\n{question}<end_of_turn>\n<start_of_turn>model\n"
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def make_batch(tokenizer, rows):
    pairs = []
    for question, answer in rows:
        asked = question_ids(tokenizer, question)
        said = tokenizer(answer + "<end_of_turn>", add_special_tokens=False)["input_ids"]
        newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
        pairs.append((asked + said + newline, [-100] * len(asked) + said + [-100] * len(newline)))
    width = max(len(ids) for ids, _ in pairs)
    pad = lambda values, fill: torch.tensor([v + [fill] * (width - len(v)) for v in values])
    return dict(input_ids=pad([i for i, _ in pairs], 0), labels=pad([l for _, l in pairs], -100),
                attention_mask=pad([[1] * len(i) for i, _ in pairs], 0))


def train(model, tokenizer, rows, options):
    per_epoch = math.ceil(len(rows) / options.batch)
    total = options.epochs * per_epoch
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(0.03 * total), total)
    model.train()
    losses, begin = [], time.perf_counter()
    for step in range(min(options.max_steps or total, total)):
        at = step % per_epoch * options.batch
        loss = model(**make_batch(tokenizer, rows[at:at + options.batch]), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, time.perf_counter() - begin


def exact_matches(model, tokenizer, rows):
    model.eval()
    stop = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    right = 0
    for question, answer in rows:
        ids = torch.tensor([question_ids(tokenizer, question)])
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False, eos_token_id=stop)
        right += tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True).strip() == answer
    return right


def main():
    options = arguments()
    begin = time.perf_counter()
    given = dict(gguf_file=options.model.name)
    tokenizer = AutoTokenizer.from_pretrained(options.model.parent, **given)
    base = AutoModelForCausalLM.from_pretrained(options.model.parent, dtype=getattr(torch, options.dtype), **given)
    torch.manual_seed(42)
    if options.init:
        model = PeftModel.from_pretrained(base, options.init, is_trainable=True)
    else:
        model = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS))
    loaded = time.perf_counter()
    losses, seconds = train(model, tokenizer, read(options.train), options)
    out = dict(losses=losses, train_s=seconds, load_s=loaded - begin, peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    if options.heldout:
        out["exact_matches"] = exact_matches(model, tokenizer, read(options.heldout))
    print(json.dumps(out))


if __name__ == "__main__":
    main()
