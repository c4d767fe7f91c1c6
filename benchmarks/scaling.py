"""Several processes on one machine, on the text row of `make bench`: the same samples by two processes of one thread and by one of
two threads, and twice the samples by twice the processes.

    .venv/bin/python3 benchmarks/scaling.py [--page docs/BENCHMARKS.md]   # a few minutes on two cores

The checkpoint is that of vs_transformers.py (E2B's geometry, ten text layers, random weights), with the demo's tokenizer; samples
have 512 tokens, the last 128 of them labelled; LoRA of rank 16, bfloat16. Rounds are run in turn; figures are medians of their
updates after the first. Also measured: what an update takes beside its micro-batches, which several machines do not share; see
cluster_projection.py. Figures are kept in scaling.json in --work.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks")]

import bench_page  # noqa: E402

TOKENS, LABELS = 512, 128
STRONG_AIM, WEAK_AIM = 1.0, 1.9
ENVIRONMENT = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
# ranks, threads each, micro-batches an update over all ranks
SETTINGS = {"1 x 1": (1, 1, 2), "1 x 2": (1, 2, 4), "2 x 1": (2, 1, 4)}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bezel", default=ROOT / "build" / "bezel", type=Path)
    p.add_argument("--work", default=ROOT / "build" / "bench", type=Path, help="folder for the checkpoint and scaling.json")
    p.add_argument("--model", type=Path, help="the checkpoint, if it is elsewhere than in --work")
    p.add_argument("--rounds", default=2, type=int)
    p.add_argument("--updates", default=4, type=int, help="of a run; the first is left out")
    p.add_argument("--page", type=Path, help="docs/BENCHMARKS.md, to write the section into")
    options = p.parse_args()
    options.model = options.model or options.work / "e2b10"
    return options


def trainable_model(options, folder):
    """The checkpoint and, where it has none, a tokenizer; its files are hard links."""
    if not (options.model / "config.json").exists():
        subprocess.run([sys.executable, ROOT / "tools" / "make_bench_model.py", options.model, "--layers", "10"], check=True)
    for file in options.model.iterdir():
        os.link(file.resolve(), folder / file.name)
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        if not (folder / name).exists():
            shutil.copy(ROOT / "demo" / "model" / name, folder)
    return folder


def write_samples(path, count=8):
    """Prompts and answers of exactly so many tokens, template included."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ROOT / "demo" / "model" / "tokenizer.json"))
    words = "two cats and a cup of tea on the sofa in the rain".split()

    def text_of(tokens, seed):
        text = ""
        for i in range(10 * tokens):
            longer = text + " " + words[(seed + i) % len(words)]
            if len(tokenizer.encode(longer, add_special_tokens=False).ids) > tokens:
                return text
            text = longer
        raise AssertionError("words without tokens")

    with open(path, "w") as file:
        for i in range(count):
            file.write(json.dumps({"prompt": text_of(TOKENS - LABELS - 2, i), "completion": text_of(LABELS, i + 5)}) + "\n")


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        (folder / "model").mkdir()
        self.model = trainable_model(options, folder / "model")
        write_samples(folder / "train.jsonl")

    def run(self, ranks, threads, micro_batches):
        """tokens/s and seconds of an update."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        flags = {"base-model": self.model, "train-file": self.folder / "train.jsonl", "output-dir": out, "threads": threads, "max-steps": self.options.updates,
                 "global-batch-size": micro_batches, "micro-batch-size": 1, "max-seq-length": TOKENS, "packing": "false", "share-prefixes": "false",
                 "sample-predictions": 0, "val-set-size": 0, "save-steps": 0, "logging-steps": 1, "report-to": "jsonl", "gradient-checkpointing": "true"}
        command = [str(self.options.bezel), "train", *(f"--{key}={value}" for key, value in flags.items())]
        if ranks > 1:
            command = ["mpirun", "-n", str(ranks), *command]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\nexit {done.returncode}\n{done.stderr[-3000:]}")
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        speed = statistics.median(row["tokens_per_second"] for row in rows[1:] if "tokens_per_second" in row)
        state = json.loads((out / "trainer_state.json").read_text())
        tokens = state["num_input_tokens_seen"] / self.options.updates
        return {"tokens_per_s": speed, "update_s": tokens / speed, "tokens": tokens / micro_batches, "adapter_bytes": (out / "adapter_model.safetensors").stat().st_size,
                "waited": statistics.median(row.get("waited", 0) for row in rows[1:] if "loss" in row)}

    def measure(self):
        found = {name: [] for name in [*SETTINGS, "one micro-batch"]}
        for _ in range(self.options.rounds):
            for name, setting in SETTINGS.items():
                found[name].append(self.run(*setting))
            found["one micro-batch"].append(self.run(1, 2, 1))
        return {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}

    def reduction(self):
        """Seconds of sums between two processes of this machine, by bytes."""
        done = subprocess.run(["mpirun", "-n", "2", self.options.bezel, "doctor", "--json"], capture_output=True, text=True, env=ENVIRONMENT)
        return {row["bytes"]: row["seconds"] for row in json.loads(done.stdout)["processes"]["sums"]}


def section(found):
    speed = {name: found["runs"][name]["tokens_per_s"] for name in SETTINGS}
    strong, weak = speed["2 x 1"] / speed["1 x 2"], speed["2 x 1"] / speed["1 x 1"]
    rows = [f"| 1 process of 2 threads, 4 micro-batches | {speed['1 x 2']:.0f} | |",
            f"| 2 processes of 1 thread, 4 micro-batches | {speed['2 x 1']:.0f} | {bench_page.aimed(strong, STRONG_AIM)} of 1 process of 2 threads |",
            f"| 1 process of 1 thread, 2 micro-batches | {speed['1 x 1']:.0f} | {bench_page.aimed(weak, WEAK_AIM)} with 2 of these |"]
    rounds = f"{found['rounds']} {'round' if found['rounds'] == 1 else 'rounds'}"
    sums = ", ".join(f"{int(size) >> 20} MiB in {1e3 * seconds:.0f} ms" for size, seconds in found["sums"].items())
    return ("\n## Several processes\n\n"
            f"`mpirun bezel train` on the text row (benchmarks/scaling.py): layers recomputed; {rounds} of {found['updates']} updates, medians; tokens/s of all processes.\n"
            f"On {found['machine']}. An update takes {1e3 * found['serial_s']:.0f} ms beside its micro-batches; two processes sum {sums};\n"
            f"they waited for each other {100 * found['runs']['2 x 1']['waited']:.1f} % of their time.\n\n"
            "| work | tokens/s | times |\n|---|---|---|\n" + "\n".join(rows) + "\n")


def main():
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        bench = Bench(options, Path(folder))
        runs = bench.measure()
        # Four micro-batches and one, by the same process: a line through both.
        one, four = runs["one micro-batch"]["update_s"], runs["1 x 2"]["update_s"]
        micro = (four - one) / 3
        found = {"machine": bench_page.machine(), "rounds": options.rounds, "updates": options.updates, "runs": runs, "sums": bench.reduction(),
                 "micro_batch_s": micro, "serial_s": max(0.0, one - micro)}
    (options.work / "scaling.json").write_text(json.dumps(found, indent=1))
    text = section(found)
    print(text)
    if options.page:
        bench_page.replace_section(options.page, text)


if __name__ == "__main__":
    main()
