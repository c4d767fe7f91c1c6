#!/usr/bin/env bash
# Trains Gemma 3 270M on capitals and asks for others, before and after. `make demo` prepares what this needs.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "Gemma 3 270M learns to answer with the capitals of 134 countries,"
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
