"""Goldens of transformers + PEFT, made once for each seed in the build folder, ways to run `bezel` on them, and checks that are
counted, so that a program tells of all that is wrong."""
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # bitsandbytes compiles its portable form anew for every shape
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["BEZEL_BIN"])
PRESETS = {"e2b": ["text", "batch", "image", "images", "audio", "mixed"],
           "dense": ["text", "batch", "image", "images"],
           "moe": ["text", "batch", "image", "images"]}
# The 12B has programs of its own, unified_*.py: it has no towers.
UNIFIED = {"unified": ["text", "batch", "image", "images", "audio", "mixed", "long"]}
CASES = PRESETS | UNIFIED


failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAILED", what)


def tell(ok, what):
    """A check that says what holds, too."""
    if ok:
        print("ok", what, flush=True)
    check(ok, what)


def relative(got, wanted) -> float:
    """|got - wanted| / |wanted|, of tensors."""
    return ((got - wanted).norm() / wanted.norm().clamp_min(1e-30)).item()


def inputs_of(case, labels=False):
    """A case's tensors as arguments of transformers' model."""
    return {k.removeprefix("in."): v for k, v in case.items() if k.startswith("in.") and (labels or k != "in.labels")}


def finish() -> int:
    """The exit code of a program."""
    print(f"{len(failures)} failures")
    return 1 if failures else 0


def run(*command, code=0):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != code:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {done.returncode}, wanted {code}\n{done.stdout}{done.stderr}")
    return done


def bezel(*arguments, code=0):
    return run(BIN / "bezel", *arguments, code=code)


def reference(seed: int, presets=tuple(PRESETS)) -> Path:
    """The folder of some presets of `seed`; several test programs may ask for it at once."""
    import fcntl

    out = BIN / "reference" / (f"seed{seed}" if presets == tuple(PRESETS) else f"{'-'.join(presets)}{seed}")
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = out / ".done"
        script = ROOT / "tools" / "make_reference.py"
        stamp = script.read_text()
        if not done.exists() or done.read_text() != stamp:
            env = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
            subprocess.run([sys.executable, script, out, "--seed", str(seed), "--presets", *presets], check=True, env=env,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            done.write_text(stamp)
    return out


def forward(model: Path, inputs: Path, output: Path, *extra: str) -> dict:
    """Tensors that `bezel forward` writes."""
    from safetensors.torch import load_file

    bezel("forward", "--model", model, "--inputs", inputs, "--output", output, *extra)
    return load_file(output)


def portable_bitsandbytes():
    """On AVX-512 machines bitsandbytes 0.50.2 dequantizes with a kernel that starts a new block at every row, which its
    own quantizer does not, and that flushes the smallest numbers to zero; its portable form does neither."""
    import torch
    from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
    from bitsandbytes.backends.utils import _get_4bit_code

    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None

    def portable(A, absmax, blocksize, quant_type, shape, dtype):
        codes = A.view(torch.uint8).reshape(-1)
        return _dequantize_4bit_compute(codes, absmax.float(), _get_4bit_code(quant_type, A.device), blocksize, shape, dtype)

    library = torch.library.Library("bitsandbytes", "IMPL")
    library.impl("dequantize_4bit", portable, "CPU", allow_override=True)
    print("bitsandbytes: portable dequantize_4bit")
    return library  # works for as long as it lives
