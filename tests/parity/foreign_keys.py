"""docs/from-other-tools.md has a row for every key of PEFT's LoraConfig, TRL's SFTConfig and DPOConfig, and what axolotl and LLaMA-Factory
say of LoRA, as the program and the tools' own classes say; and the program does with each key what its row says.

    foreign_keys.py BEZEL_FOLDER TEST_FOLDER
"""
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import foreign_keys_page as page  # noqa: E402


def reference_of(bezel):
    return subprocess.run([str(bezel), "reference"], capture_output=True, text=True, check=True).stdout


def refusal(bezel, folder, text):
    recipe = folder / "recipe.yaml"
    recipe.write_text(text)
    done = subprocess.run([str(bezel), "train", str(recipe), "--base-model", str(ROOT / "demo" / "model"), "--train-file", str(folder / "none.jsonl"), "--output-dir",
                           str(folder / "out")], capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr


def main():
    bezel = Path(sys.argv[1]) / "bezel"
    reference = page.Reference(reference_of(bezel))
    made, missing = page.page(reference)
    assert not missing, missing
    assert page.PAGE.read_text() == made, "docs/from-other-tools.md is another: run tools/foreign_keys_page.py"
    # A key that nothing knows would be missing.
    assert reference.row("a_key_of_no_tool") is None
    counts = dict.fromkeys(page.KINDS, 0)
    refused = {}
    for _, keys in page.keys_of_tools():
        for key in keys:
            kind, advice = reference.row(key)
            counts[kind] += 1
            if kind == "refused":
                refused[key] = advice
    assert min(counts.values()) > 0 and counts["the same"] > 60, counts
    with tempfile.TemporaryDirectory() as tmp:
        said = refusal(bezel, Path(tmp), "".join(f"{key}: something\n" for key in refused))
    silent = [key for key, advice in refused.items() if f"key '{key}': {advice}" not in said]
    assert not silent, (silent, said)
    print("keys:", ", ".join(f"{count} {kind}" for kind, count in counts.items()))


if __name__ == "__main__":
    main()
