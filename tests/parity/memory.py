"""What a run keeps in memory, on a checkpoint of 300 MiB whose matrices are mapped: sample predictions add nothing to it, and a
default run, a resumed run and `bezel bench` agree in losses and in memory.

    memory.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Gemma4ForCausalLM, Gemma4TextConfig

from _reference import BIN, ROOT, bezel, check, finish

MIB = 1 << 20
STEPS = 4
# Each large block goes back to the system when it is freed. By default the command keeps its heap, and where large blocks lie in it
# moves its end by up to a third of these small matrices from one run to the next.
RETURNS_FREED_MEMORY = dict(MALLOC_ARENA_MAX="1", MALLOC_MMAP_THRESHOLD_=str(256 << 10), MALLOC_MMAP_MAX_="1000000",
                            MALLOC_TRIM_THRESHOLD_=str(256 << 10))


def write_model(folder: Path) -> int:
    """Writes a text model with the demo's tokenizer; returns the bytes of its mapped matrices."""
    layers = 6
    config = Gemma4TextConfig(
        hidden_size=1024, intermediate_size=8192, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=1, head_dim=256,
        global_head_dim=256, layer_types=["sliding_attention"] * (layers - 1) + ["full_attention"], sliding_window=64,
        num_kv_shared_layers=0, vocab_size=json.loads((ROOT / "demo/model/config.json").read_text())["text_config"]["vocab_size"],
        hidden_size_per_layer_input=0, use_double_wide_mlp=False, tie_word_embeddings=True, max_position_embeddings=512)
    torch.manual_seed(3)
    model = Gemma4ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(ROOT / "demo/model" / name, folder)
    return sum(tensor.numel() * 2 for name, tensor in model.named_parameters() if "proj" in name)


class Watched:
    """A command, with the most anonymous and the most resident memory that /proc showed while it ran, in bytes."""

    def __init__(self, *command):
        env = os.environ | RETURNS_FREED_MEMORY
        process = subprocess.Popen([str(part) for part in command], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.anonymous, self.resident = 0, 0
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            except (FileNotFoundError, ProcessLookupError):
                break
            if "RssAnon" in fields:
                self.anonymous = max(self.anonymous, int(fields["RssAnon"].split()[0]) * 1024)
                self.resident = max(self.resident, int(fields["VmHWM"].split()[0]) * 1024)
            time.sleep(0.002)
        self.out, text = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"{command}: exit {process.returncode}\n{text}")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model"
        mapped = write_model(model)
        check(mapped > 256 * MIB, f"the checkpoint has {mapped / MIB:.0f} MiB of mapped matrices")
        text = "two cats and a cup of tea on the sofa in the rain " * 4
        (folder / "train.jsonl").write_text(json.dumps({"text": text}) + "\n" + "\n".join(
            json.dumps({"prompt": f"Number {i}?", "completion": " a cup of tea"}) for i in range(2)) + "\n")

        def train(out, *extra, predictions=2, steps=STEPS):
            return Watched(BIN / "bezel", "train", f"--base-model={model}", f"--train-file={folder / 'train.jsonl'}",
                           f"--output-dir={folder / out}", "--threads=1", f"--max-steps={steps}", f"--sample-predictions={predictions}",
                           "--gradient-accumulation-steps=1", "--lora-r=2", "--packing=false", "--shuffle=false", "--seed=0", "--warmup-steps=0",
                           "--lr-scheduler=constant", "--learning-rate=1e-4", "--max-grad-norm=0", "--val-set-size=0",
                           "--save-steps=2", "--logging-steps=1", "--dataloader-num-workers=0", *extra)

        def losses(out):
            rows = [json.loads(line) for line in (folder / out / "metrics.jsonl").read_text().splitlines()]
            return [row["loss"] for row in rows if "loss" in row]

        plain = train("plain", predictions=0)

        default = train("default")
        answers = [json.loads(line) for line in (folder / "default/predictions.jsonl").read_text().splitlines()]
        check(len(answers) == 2 and all(row["before"] and row["after"] for row in answers), f"both samples were answered twice: {answers}")
        print(f"matrices {mapped / MIB:.0f} MiB; anonymous {plain.anonymous / MIB:.0f} without predictions, "
              f"{default.anonymous / MIB:.0f} with; resident {plain.resident / MIB:.0f}, {default.resident / MIB:.0f}")
        check(default.anonymous - plain.anonymous < 0.05 * mapped, "predictions leave the matrices mapped")
        check(default.resident <= 1.05 * plain.resident, "predictions do not raise the peak of resident memory")
        check(losses("default") == losses("plain"), "predictions do not change the losses")

        shutil.copytree(folder / "default", folder / "resumed")
        shutil.rmtree(folder / f"resumed/checkpoint-{STEPS}")
        resumed = train("resumed", "--resume-from-checkpoint=auto")
        check(losses("resumed") == losses("default"), f"a resumed run has the same losses: {losses('resumed')}")
        check(resumed.anonymous - plain.anonymous < 0.05 * mapped and resumed.resident <= 1.05 * plain.resident,
              f"a resumed run keeps no more: {resumed.anonymous / MIB:.0f}, {resumed.resident / MIB:.0f} MiB")

        ids = Tokenizer.from_file(str(model / "tokenizer.json")).encode(text, add_special_tokens=False).ids
        ids = torch.tensor([[2, *ids, 1]])
        save_file({"in.input_ids": ids, "in.labels": ids.clone()}, folder / "inputs.safetensors")
        bench = Watched(BIN / "bezel", "bench", "--model", model, "--inputs", folder / "inputs.safetensors", "--steps", 1,
                        "--threads", 1, "--json")
        found = json.loads(bench.out)
        check(found["losses"][0] == losses("default")[0], f"bench has the loss of a run: {found['losses'][0]}, {losses('default')}")
        check(bench.resident <= 1.05 * default.resident, f"bench keeps no more than a run: {bench.resident / MIB:.0f} MiB")
        print(f"resumed: anonymous {resumed.anonymous / MIB:.0f}, resident {resumed.resident / MIB:.0f}; bench: resident {bench.resident / MIB:.0f}")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
