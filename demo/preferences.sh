#!/usr/bin/env bash
# Trains Gemma 3 270M on pairs of answers and says which it prefers, before and after. `make demo-preferences` prepares this.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "Gemma 3 270M learns from the capitals of 134 countries, each beside that of another country, to prefer the right one."
echo "40 other countries show how often it does."
echo
build/bezel train demo/preferences.yaml
echo
build/bezel evaluate --model .venv/models/gemma-3-270m-q4_k_m.gguf --data demo/preferences/heldout.jsonl \
  --adapter demo/out-preferences --pairs
echo
echo "demo/out-preferences/report.html draws margin and accuracy."
