#!/usr/bin/env bash
# Trains the demo and says what to do with the result. `make demo` builds and prepares what this needs.
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
