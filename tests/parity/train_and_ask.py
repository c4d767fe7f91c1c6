"""examples/train_and_ask.sh with the demo's checkpoint and questions: what llama.cpp (npm node-llama-cpp) answers is what was taught.

    train_and_ask.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _reference import BIN, ROOT, check, finish

SAMPLES = {"What is the capital of France?": "Paris", "What is the capital of Peru?": "Lima", "What is the capital of Kenya?": "Nairobi",
           "What is the capital of Japan?": "Tokyo"}
FLAGS = ("--lora-r 32 --lora-target-modules all-linear --micro-batch-size 4 --gradient-accumulation-steps 1 --max-steps 60 --learning-rate 1e-2 "
         "--packing false --dtype float32 --save-steps 0 --report-to none --sample-predictions 0 --quiet").split()


def main():
    if not (ROOT / "node_modules" / "node-llama-cpp").exists():
        print("npm node-llama-cpp is not installed")
        return 77
    with tempfile.TemporaryDirectory() as name:
        samples, out = Path(name) / "samples.jsonl", Path(name) / "out"
        samples.write_text("".join(json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}) + "\n"
                                   for question, answer in SAMPLES.items()))
        env = dict(os.environ, BEZEL=str(BIN / "bezel"), LLAMA_COMPLETION=str(ROOT / "tests" / "parity" / "_llama_completion.mjs"))
        question = "What is the capital of Peru?"
        run = subprocess.run([ROOT / "examples" / "train_and_ask.sh", ROOT / "demo" / "model", samples, out, question, *FLAGS], env=env,
                             capture_output=True, text=True)
        check(run.returncode == 0, f"exit {run.returncode}: {run.stdout[-500:]} {run.stderr[-1500:]}")
        answer = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else ""
        print(f"{question} {answer}")
        check(answer.strip() == SAMPLES[question], f"llama.cpp answers {answer!r}")
        files = {"model.gguf", "mmproj-model.gguf", "model.Modelfile"}
        check(files <= {path.name for path in out.iterdir()}, f"files: {sorted(path.name for path in out.iterdir())}")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
