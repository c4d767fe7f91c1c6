"""Goldens of transformers + PEFT, made once for each seed in the build folder, and a way to run `bezel forward` on them."""
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["BEZEL_BIN"])
PRESETS = {"e2b": ["text", "batch", "image", "images", "audio", "mixed"],
           "dense": ["text", "batch", "image", "images"],
           "moe": ["text", "batch", "image", "images"]}


def reference(seed: int) -> Path:
    """The folder of all presets of `seed`; several test programs may ask for it at once."""
    import fcntl

    out = BIN / "reference" / f"seed{seed}"
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = out / ".done"
        script = ROOT / "tools" / "make_reference.py"
        stamp = script.read_text()
        if not done.exists() or done.read_text() != stamp:
            env = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
            subprocess.run([sys.executable, script, out, "--seed", str(seed)], check=True, env=env,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            done.write_text(stamp)
    return out


def forward(model: Path, inputs: Path, output: Path, *extra: str) -> dict:
    """Tensors that `bezel forward` writes."""
    from safetensors.torch import load_file

    command = [BIN / "bezel", "forward", "--model", model, "--inputs", inputs, "--output", output, *extra]
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"{' '.join(str(c) for c in command)}\nexit {run.returncode}\n{run.stdout}{run.stderr}")
    return load_file(output)
