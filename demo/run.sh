#!/usr/bin/env bash
# Trains both halves of the demo and says what to do with the results. `make demo` builds and prepares what this needs.
set -euo pipefail
cd "$(dirname "$0")/.."
build/bezel train demo/config.yaml
echo
echo "The adapter is in demo/out. With transformers and peft installed, load it like this:"
echo
cat <<'PYTHON'
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    base = AutoModelForImageTextToText.from_pretrained("demo/model")
    model = PeftModel.from_pretrained(base, "demo/out")
PYTHON
echo
echo "Those weights were random. Gemma 3 270M is trained: it learns to answer with the capitals of 134 countries,"
echo "and is then asked for those of 40 others."
echo
build/bezel train demo/capitals.yaml
build/bezel evaluate --model .venv/models/gemma-3-270m-q4_k_m.gguf --data demo/capitals/heldout.jsonl \
  --adapter demo/out-capitals --generate --max-new-tokens 16 --per-sample demo/out-capitals/answers.jsonl
echo
.venv/bin/python3 demo/answers.py demo/out-capitals/answers.jsonl
echo
echo "demo/out-capitals/report.html draws the run. The adapter runs in llama.cpp, too:"
echo
echo "    build/bezel convert --adapter demo/out-capitals --to gguf --output capitals.gguf"
echo "    llama-cli -m .venv/models/gemma-3-270m-q4_k_m.gguf --lora capitals.gguf -p …"
