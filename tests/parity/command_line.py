"""`bezel` by itself prints its help, and a subcommand that does not exist is answered with the nearest one."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _reference import bezel


def main():
    alone, asked = bezel(code=2), bezel("--help")
    assert alone.stdout == asked.stdout and "train" in alone.stdout and alone.stderr == "", alone
    for typed, meant in (("trian", "train"), ("doktor", "doctor"), ("verify_adapter", "verify-adapter")):
        done = bezel(typed, "--json", code=2)
        assert done.stderr == f"bezel: unknown subcommand '{typed}'; did you mean '{meant}'?; `bezel --help` lists them\n", done.stderr
        assert done.stdout == ""
    done = bezel("zzzzzzzz", code=2)
    assert done.stderr == "bezel: unknown subcommand 'zzzzzzzz'; `bezel --help` lists them\n", done.stderr
    assert "usage or config" not in bezel("version").stdout
    print("help without arguments, and the nearest of mistyped subcommands")


if __name__ == "__main__":
    main()
