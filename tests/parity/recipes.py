"""Recipes of axolotl, LLaMA-Factory, TRL and unsloth (tests/parity/recipes) train on the demo's checkpoint as they are, with at most
--train-file added; keys of other names mean the same adapter; what would change what is learnt is refused in one message; paths
may begin with ~ and the base model may be an id of the hub that is in the local cache.

    recipes.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
BEZEL = (Path(sys.argv[1]) / "bezel").resolve()
MODEL = ROOT / "demo" / "model"
RECIPES = ROOT / "tests" / "parity" / "recipes"
WORDS = "a cup of tea on the sofa and two cats in the rain".split()


def chat(i):
    answer = " ".join(WORDS[i % 5:i % 5 + 2 + i % 7])
    return [{"role": "user", "content": f"Number {i}?"}, {"role": "assistant", "content": answer}]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bezel(*arguments, folder, code=0, **env):
    done = subprocess.run([str(item) for item in (BEZEL, *arguments)], cwd=folder, capture_output=True, text=True, env=os.environ | env)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    return done


def recipe(name, folder, **words):
    text = (RECIPES / f"{name}.yaml").read_text()
    for word, value in {"MODEL": MODEL, "DATA": folder / "chats.jsonl", "OUT": folder / f"out-{name}", **words}.items():
        text = re.sub(rf"\b{word}\b", str(value), text)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def check_trained(out, what):
    tensors = load_file(out / "adapter_model.safetensors")
    assert any(".lora_B." in name and np.any(value != 0) for name, value in tensors.items()), what


def rows_of(out, key):
    return [row[key] for row in json.loads((out / "trainer_state.json").read_text())["log_history"] if key in row]


def notes_of(stderr):
    return [line for line in stderr.splitlines() if line.startswith("note: ")]


def check_listed(stderr, wanted):
    """Every key without effect is named in one line, and nowhere else."""
    lines = [line for line in notes_of(stderr) if "nothing here" in line]
    assert len(lines) == 1, stderr
    names = lines[0].rsplit(": ", 1)[1].split(", ")
    assert set(wanted) <= set(names) and len(names) == len(set(names)), (wanted, names)


def check_axolotl(folder):
    done = bezel("train", recipe("axolotl", folder), folder=folder)
    check_listed(done.stderr, ["strict", "liger_rope", "tf32", "flash_attention", "gradient_checkpointing_kwargs", "pad_to_sequence_len"])
    assert "note: optimizer paged_adamw_8bit: moments stay in memory" in done.stderr, done.stderr
    check_trained(folder / "out-axolotl", "axolotl")
    resolved = (folder / "out-axolotl" / "config.resolved.yaml").read_text()
    for part in ("storage: \"nf4\"", "val_set_size: 0.1", "lora_alpha: 16", "lr_scheduler: cosine_with_min_lr", "min_lr_rate: 0.1"):
        assert part in resolved, (part, resolved)
    assert "36 samples" in done.stderr and "4 held out" in done.stderr, done.stderr


def check_llamafactory(folder):
    path = recipe("llamafactory", folder)
    done = bezel("train", path, "--train-file", folder / "chats.jsonl", "--max-samples", "null", folder=folder)
    check_listed(done.stderr, ["trust_remote_code", "ddp_timeout", "plot_loss", "overwrite_output_dir", "preprocessing_num_workers"])
    assert "note: image_max_pixels: images are scaled" in done.stderr, done.stderr
    check_trained(folder / "out-llamafactory", "LLaMA-Factory")
    (folder / "data").mkdir()
    write_lines(folder / "data" / "house.jsonl", [{"ask": f"Number {i}?", "say": "a cup of tea"} for i in range(25)])
    turns = [{"who": "visitor", "what": "Who?"}, {"who": "host", "what": "two cats"}]
    (folder / "data" / "garden.json").write_text(json.dumps([{"turns": turns, "id": i} for i in range(7)], indent=1))
    info = {"house": {"file_name": "house.jsonl", "columns": {"prompt": "ask", "response": "say"}},
            "garden": {"file_name": "garden.json", "formatting": "sharegpt", "columns": {"messages": "turns"},
                       "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "visitor", "assistant_tag": "host"}}}
    (folder / "data" / "dataset_info.json").write_text(json.dumps(info))
    done = bezel("train", path, "--output-dir", folder / "out-info", folder=folder)
    assert "24 samples" in done.stderr and "3 held out" in done.stderr, done.stderr  # 20 and 7, a tenth of them held out
    check_trained(folder / "out-info", "dataset_info.json")


def check_trl(folder):
    done = bezel("train", recipe("trl", folder), "--train-file", folder / "chats.jsonl", folder=folder)
    check_listed(done.stderr, ["attn_implementation", "hub_model_id", "logging_first_step", "ddp_find_unused_parameters"])
    out = folder / "out-trl"
    check_trained(out, "TRL")
    assert len(rows_of(out, "learning_rate")) == 4, "logging_steps: 0.25 is a quarter of the updates"
    assert not rows_of(out, "eval_loss")
    refused = bezel("train", folder / "trl.yaml", folder=folder, code=2).stderr
    assert "somebody/Chats" in refused and "load_dataset" in refused, refused


def check_unsloth(folder):
    bezel("train", recipe("unsloth", folder), "--train-file", folder / "chats.jsonl", folder=folder)
    check_trained(folder / "out-unsloth", "unsloth")
    assert "optimizer: adamw_8bit" in (folder / "out-unsloth" / "config.resolved.yaml").read_text()
    assert len(rows_of(folder / "out-unsloth", "learning_rate")) == 12


PLAIN = ("--base-model", MODEL, "--dtype", "float32", "--threads", 1, "--max-steps", 3, "--packing", "false", "--sample-predictions", 0,
         "--report-to", "jsonl", "--lora-r", 2, "--save-steps", 0)


def check_same_adapter(folder):
    """The same samples under other names, and in two files, are the same adapter."""
    def train(name, *arguments):
        bezel("train", *arguments, *PLAIN, "--output-dir", folder / name, folder=folder)
        return (folder / name / "adapter_model.safetensors").read_bytes()

    chats = [chat(i) for i in range(12)]
    wanted = train("plain", "--train-file", write_lines(folder / "plain.jsonl", [{"messages": item} for item in chats]))
    other = [{"dialog": [{"from": {"user": "human", "assistant": "gpt"}[turn["role"]], "value": turn["content"]} for turn in item],
              "text": "not this"} for item in chats]
    write_lines(folder / "first.jsonl", other[:5])
    write_lines(folder / "rest.jsonl", other[5:])
    names = "field_messages: dialog\n    message_property_mappings: {role: from, content: value}"
    (folder / "mapped.yaml").write_text("datasets:\n" + "".join(f"  - path: {name}.jsonl\n    {names}\n" for name in ("first", "rest")))
    assert train("mapped", folder / "mapped.yaml") == wanted
    alpaca = [{"q": item[0]["content"], "a": item[1]["content"]} for item in chats]
    write_lines(folder / "alpaca.jsonl", alpaca)
    assert train("alpaca", "--train-file", folder / "alpaca.jsonl", "--columns", "{prompt: q, response: a}") == wanted


def check_weights(folder):
    write_lines(folder / "few.jsonl", [{"messages": chat(i)} for i in range(4)])
    write_lines(folder / "many.jsonl", [{"messages": chat(i)} for i in range(20)])
    (folder / "weights.yaml").write_text("datasets:\n  - {path: few.jsonl, weight: 2.5}\n  - {path: many.jsonl, weight: 0.5}\n"
                                         "  - {path: many.jsonl, split: 'train[:25%]'}\n")
    done = bezel("train", folder / "weights.yaml", *PLAIN, "--output-dir", folder / "weights", "--json-lines", folder=folder)
    start = next(row for row in map(json.loads, done.stdout.splitlines()) if row["event"] == "start")
    assert start["samples"] == 10 + 10 + 5, start


def check_refused(folder):
    bad = {"embedding_lr": "1e-5", "fp16": "true", "push_to_hub": "true", "pissa_init": "true", "rl": "grpo",
           "report_to": "wandb", "optim": "lion_8bit", "lr_scheduler": "rex", "learning_rat": "1e-4", "metric_for_best_model": "rouge",
           "template": "llama3", "flash_atention": "true"}
    lines = ["seed: 1", *(f"{key}: {value}" for key, value in bad.items())]
    (folder / "bad.yaml").write_text("\n".join(lines) + "\n")
    error = bezel("train", folder / "bad.yaml", folder=folder, code=2).stderr
    assert len(error.splitlines()) == 1, error
    for number, key in enumerate(bad, 2):
        assert re.search(rf"bad\.yaml:{number}: (unknown )?key '{key}'", error), (key, error)
    for part in ("learning_rate", "flash_attention", "TensorBoard", "bf16: true", "hf upload"):
        assert part in error, (part, error)


def check_paths(folder):
    home = folder / "home"
    (home / "adapters").mkdir(parents=True)
    (home / "base").symlink_to(MODEL)
    write_lines(home / "train.jsonl", [{"messages": chat(i)} for i in range(4)])
    (folder / "home.yaml").write_text("base_model: ~/base\ntrain_file: ~/train.jsonl\noutput_dir: ~/adapters/one\n")
    bezel("train", folder / "home.yaml", *PLAIN[2:], folder=folder, HOME=str(home))
    assert (home / "adapters" / "one" / "adapter_model.safetensors").exists() and not (folder / "~").exists()
    bezel("inspect", "~/base", folder=folder, HOME=str(home))

    cached = folder / "hf" / "hub" / "models--google--gemma-4-E2B-it"
    (cached / "snapshots").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123456789abcdef")
    (cached / "snapshots" / "0123456789abcdef").symlink_to(MODEL)
    environment = {"HF_HOME": str(folder / "hf"), "HF_HUB_CACHE": ""}
    id_flags = ("--base-model", "google/gemma-4-E2B-it", *PLAIN[2:], "--train-file", home / "train.jsonl")
    bezel("train", *id_flags, "--output-dir", folder / "by-id", folder=folder, **environment)
    config = json.loads((folder / "by-id" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "google/gemma-4-E2B-it", config
    bezel("inspect", cached, folder=folder)
    bezel("inspect", "google/gemma-4-E2B-it", folder=folder, **environment)
    for command in (("inspect", "google/gemma-4-E4B-it"), ("train", "--base-model", "google/gemma-4-E4B-it", "--train-file", "x", "--output-dir", "y")):
        error = bezel(*command, folder=folder, code=2, **environment).stderr
        assert "hf download google/gemma-4-E4B-it" in error and len(error.splitlines()) == 1, error


def main():
    checks = (check_axolotl, check_llamafactory, check_trl, check_unsloth, check_same_adapter, check_weights, check_refused, check_paths)
    for check in checks:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_lines(folder / "chats.jsonl", [{"messages": chat(i)} for i in range(40)])
            check(folder)
            print(check.__name__.removeprefix("check_"), "holds", flush=True)


if __name__ == "__main__":
    main()
