"""`reduce_dtype: bfloat16`: gradients beside those that travel in float32, and residuals that a resumed run has from its checkpoint.

    rounded_reduction.py BEZEL_FOLDER [TEST_FOLDER] [--updates 12]
"""
import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file

from _runs import copy, write_manifest
from processes import RESUME, Group, distance, gradient_error, norm, ranks_of

ROUNDED = {"reduce_dtype": "bfloat16"}


def drift(runs, out, wanted, updates):
    """Relative to what the updates after the first changed."""
    got, right, first = (runs.tensors(name, step, "adapter_model", "") for name, step in ((out, updates), (wanted, updates), (wanted, 1)))
    return distance(got, right) / distance(right, first)


def check_gradients(runs, updates):
    three = runs.of(3)
    three.run("float32")
    three.run("bfloat16", **ROUNDED)
    gradients = gradient_error(runs, "bfloat16", "float32")
    # Each of three addends and the sum have 8 bits: half a unit of the last place is 2^-9 of an element at most.
    assert 1e-4 < gradients < 2 ** -8, gradients
    noise = runs.of(2)
    noise.run("noise")
    losses = {name: [row["loss"] for row in runs.metrics(name) if "loss" in row] for name in ("float32", "bfloat16")}
    worst = max(abs(a / b - 1) for a, b in zip(losses["bfloat16"], losses["float32"]))
    print(f"bfloat16 beside float32, {updates} updates of 3 processes: gradients of the first {gradients:.1e}, adapters {drift(runs, 'bfloat16', 'float32', updates):.1e} "
          f"(2 processes beside 3 in float32: {drift(runs, 'noise', 'float32', updates):.1e}), losses {worst:.1e}", flush=True)
    assert losses["bfloat16"][0] == losses["float32"][0] and worst < (1e-2 if updates == 12 else 5e-2), worst


def check_residuals(runs, updates):
    residuals = load_file(runs.folder / "bfloat16" / f"checkpoint-{updates}" / "residuals.safetensors")
    names = {name.split(".", 1)[0] for name in residuals}
    assert names == {"0", "1", "2"} and norm(residuals.values()) > 0, names
    assert not (runs.folder / "float32" / f"checkpoint-{updates}" / "residuals.safetensors").exists()


def check_resume(runs):
    """Killed and resumed: the same bytes; with residuals taken away others, so that they are what does it."""
    three = runs.of(3)
    code, text = three.run_until("killed", "step 5/", lambda process: os.kill(ranks_of(process)[1], signal.SIGKILL), **ROUNDED)
    assert code not in (0, None), (code, text)
    last = runs.folder / "killed" / f"checkpoint-{runs.checkpoints('killed')[-1]}"
    bare = copy(runs.folder / "killed", runs.folder / "bare") / last.name
    (bare / "residuals.safetensors").unlink()
    write_manifest(bare)
    copy(runs.folder / "killed", runs.folder / "fewer")
    for out in ("killed", "bare"):
        text = three.run(out, RESUME, **ROUNDED)
        assert "resumed after step" in text, text
    wanted = runs.adapter("bfloat16")
    assert runs.adapter("killed") == wanted and runs.adapter("bare") != wanted
    runs.of(2).run("fewer", RESUME, **ROUNDED)
    text = three.run("float32", RESUME, expect=2, **ROUNDED)
    assert "reduce_dtype" in text, text


def check_key(runs):
    text = runs.of(2).run("words", expect=2, reduce_dtype="float16")
    assert "reduce_dtype" in text and "bfloat16" in text, text
    # A process alone sends nothing.
    runs.run("alone", max_steps=2)
    runs.run("alone-rounded", max_steps=2, **ROUNDED)
    assert runs.adapter("alone") == runs.adapter("alone-rounded")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bezel", type=Path)
    parser.add_argument("tests", nargs="?")
    parser.add_argument("--updates", type=int, default=12)
    options = parser.parse_args()
    if shutil.which("mpirun") is None or not (options.bezel / "libbezel_mpi.so").exists():
        print("skipped: no mpirun, or bezel was built without MPI")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        runs = Group(options.bezel / "bezel", Path(folder), max_grad_norm=0, max_steps=options.updates)
        check_key(runs)
        check_gradients(runs, options.updates)
        check_residuals(runs, options.updates)
        if options.updates == 12:
            check_resume(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
