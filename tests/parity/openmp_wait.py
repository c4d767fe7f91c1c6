"""The command starts itself again where its OpenMP threads would spin for long: once, before the runtime is
loaded, and never against a setting of the user's.

libgomp shows its settings on stderr at each start of a process with OMP_DISPLAY_ENV=verbose."""
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _reference import BIN, check, finish

OWN_SPINS = "300000"  # libgomp's, without a setting


def start(*arguments, stdin="", **settings):
    """The finished process, and the spins of each start of the runtime in it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_", "BEZEL_"))}
    done = subprocess.run([BIN / "bezel", *arguments], env=clean | {"OMP_DISPLAY_ENV": "verbose"} | settings, input=stdin, capture_output=True, text=True)
    return done, re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)


def main():
    done, spins = start("version")
    check(done.returncode == 0 and done.stdout.startswith("bezel "), f"version: {done}")
    check(len(spins) == 1 and 0 < int(spins[0]) < 30_000, f"the runtime is loaded once, with a bound: {spins}")
    bound = spins[-1]

    for name, value, shown in (("OMP_WAIT_POLICY", "passive", "0"), ("OMP_WAIT_POLICY", "active", "30000000000"), ("GOMP_SPINCOUNT", "7", "7"),
                               ("KMP_BLOCKTIME", "0", OWN_SPINS), ("KMP_LIBRARY", "throughput", OWN_SPINS)):
        done, spins = start("version", **{name: value})
        check(spins == [shown], f"{name}={value} is the user's choice: {spins}")
    done, spins = start("version", OMP_NUM_THREADS="1")
    check(spins == [bound] and re.findall(r"OMP_NUM_THREADS = '(\d+)'", done.stderr)[-1] == "1", f"other settings stay beside it: {done.stderr}")
    done, spins = start("version", BEZEL_RESTARTED="1")
    check(spins == [OWN_SPINS], f"a restarted command does not start again: {spins}")

    done, spins = start("no such subcommand")
    check(done.returncode == 2 and "unknown subcommand 'no such subcommand'" in done.stderr and spins == [bound], f"arguments and exit code: {done}")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
