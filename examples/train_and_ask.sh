#!/usr/bin/env bash
# From samples to an answer by llama.cpp, without Python: trains an adapter, merges it into a GGUF file and asks that.
#
#     examples/train_and_ask.sh BASE SAMPLES.jsonl OUT QUESTION [more flags of `bezel train`]
#
# BASE is a checkpoint folder or a GGUF file, OUT a new folder. BEZEL and LLAMA_COMPLETION name the two programs.
set -euo pipefail
base="$1" samples="$2" out="$3" question="$4"
bezel="${BEZEL:-build/bezel}" llama="${LLAMA_COMPLETION:-llama-completion}"

"$bezel" train --base-model "$base" --train-file "$samples" --output-dir "$out" "${@:5}"
"$bezel" merge --model "$base" --adapter "$out" --to gguf --type q8_0 --output "$out/model.gguf"

# The Modelfile for Ollama, too, says how a turn of this model ends.
if grep -q '"<turn|>"' "$out/model.Modelfile"; then
  prompt=$(printf '<|turn>user\n%s<turn|>\n<|turn>model\n.' "$question")
else
  prompt=$(printf '<start_of_turn>user\n%s<end_of_turn>\n<start_of_turn>model\n.' "$question")
fi
prompt="${prompt%.}" # the shell cuts line ends off
"$llama" -m "$out/model.gguf" -no-cnv --no-display-prompt --temp 0 -n 48 -p "$prompt"
