"""Every fenced block of README.md and docs/ does what it says. Blocks of one page run in order in a scratch folder, in which
gemma-4-E2B-it is the demo's tiny checkpoint, my-adapter a LoRA adapter of it, and cat.jpg, hello.wav, my.jsonl and valid.jsonl
are there:

    bash    runs and must succeed          python  runs, those of one page as one program
    yaml    is read as a training config   json, jsonl  parse

A block behind `<!-- checked only: why -->` needs what a test does not have (the real weights, the network, an install): its
commands and flags are looked up in place of being run. Commands stand in fenced blocks only. Keys in the tables of docs/recipes.md must be read, and
docs/REFERENCE.md must be what `bezel reference` prints.

    doc_blocks.py BEZEL_FOLDER TEST_FOLDER
"""
import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEZEL = (Path(sys.argv[1]) / "bezel").resolve()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
BLOCK = re.compile(r"(?:<!-- checked only: (?P<why>[^>]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
SAMPLE = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A cup."}]}\n'
REFERENCE = subprocess.run([BEZEL, "reference"], capture_output=True, text=True, check=True).stdout


def known_keys():
    table = REFERENCE[REFERENCE.index("## Keys of a"):REFERENCE.index("## Keys of other")]
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]*) \|", table, re.M)
    return {name for key, others in rows for name in (key, *others.split())}


def foreign_keys():
    rows = re.findall(r"^\| (`.*?) \|", REFERENCE[REFERENCE.index("## Keys of other"):], re.M)
    return {name for row in rows for name in re.findall(r"`([\w*]+)`", row)}


def make_adapter(folder):
    """Trained once, for all pages."""
    (folder / "my.jsonl").write_text(SAMPLE * 3)
    run([BEZEL, "train", "--base-model", ROOT / "demo" / "model", "--train-file", folder / "my.jsonl", "--output-dir", folder / "adapter",
         "--max-steps", "3", "--learning-rate", "0.01", "--quiet"], folder, "the adapter of all pages")
    return folder / "adapter"


def make_scratch(folder, adapter):
    subprocess.run([sys.executable, ROOT / "demo" / "prepare.py"], check=True)
    (folder / "build").mkdir()
    (folder / "build" / "bezel").symlink_to(BEZEL)
    shutil.copytree(ROOT / "demo" / "model", folder / "gemma-4-E2B-it")
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copyfile(ROOT / "demo" / "assets" / "chelsea.png", folder / "cat.jpg")
    shutil.copyfile(ROOT / "demo" / "assets" / "Front_Left.wav", folder / "hello.wav")
    for name in ("my.jsonl", "valid.jsonl"):
        (folder / name).write_text(SAMPLE * 3)
    shutil.copytree(adapter, folder / "my-adapter")


def run(command, folder, what, text=None):
    # Python beside the command: transformers and peft of the tests' environment, and nothing from the network.
    env = dict(os.environ, HF_HUB_OFFLINE="1", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    done = subprocess.run(command, input=text, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{what}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def check_yaml(text, folder, what):
    """A config with these keys comes as far as its data, which are not there."""
    path = folder / "block.yaml"
    path.write_text(text)
    done = subprocess.run([BEZEL, "train", path, "--base-model", "gemma-4-E2B-it", "--output-dir", "none-out", "--train-file", "none.jsonl"],
                          cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2 and "none.jsonl" in done.stderr, f"{what}: {done.stderr}"


def check_commands(text, what):
    """Subcommands and flags of `bezel` exist; other programs are only split into words."""
    lines = text.replace("\\\n", " ").splitlines()
    for line in lines:
        words = shlex.split(line, comments=True)
        if not words or not words[0].endswith("bezel"):
            continue
        section = re.search(rf"^### bezel {re.escape(words[1])}\n(.*?)(?=^##)", REFERENCE, re.M | re.S)
        assert section, f"{what}: no command {words[1]}"
        for flag in (word.split("=")[0] for word in words[2:] if word.startswith("--")):
            name = flag[2:].replace("-", "_")
            assert f"{flag}" in section[1] or words[1] in ("train", "preprocess") and name in known_keys(), f"{what}: {words[1]} has no {flag}"


def check_page(page, counts, adapter):
    name = page.relative_to(ROOT)
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch, program = Path(scratch_name), []
        make_scratch(scratch, adapter)
        for block in BLOCK.finditer(page.read_text()):
            language, text = block["language"], block["text"]
            what = f"{name}:{page.read_text()[:block.start('text')].count(chr(10))} ({language or 'no language'})"
            run_it = block["why"] is None
            if language == "bash":
                run(["bash", "-euo", "pipefail", "-c", text], scratch, what) if run_it else check_commands(text, what)
            elif language == "yaml":
                check_yaml(text, scratch, what)
            elif language == "python":
                ast.parse(text)
                if run_it:
                    program.append(text)
            elif language in ("json", "jsonl"):
                for line in text.splitlines() if language == "jsonl" else [text]:
                    json.loads(line)
            else:
                assert language in ("text", "cmake", "cpp"), f"{what}: say what this block is"
            how = "run" if run_it and language in ("bash", "python") else "checked"
            counts[language, how] = counts.get((language, how), 0) + 1
        if program:
            run([sys.executable, "-"], scratch, f"{name} (python)", "\n".join(program))


def check_key_tables():
    """In docs/recipes.md: what is said to be used is a key, and what has another shape is a key or one of another tool."""
    page, keys, foreign = (ROOT / "docs" / "recipes.md").read_text(), known_keys(), foreign_keys()
    rows = [row for row in page[:page.index("## Several files")].splitlines() if row.startswith("|")]
    same, other = rows[2:rows.index("| there | here |")], rows[rows.index("| there | here |") + 2:]
    assert len(same) > 25 and len(other) > 8
    names = [name for row in same for name in re.findall(r"`(\w+)[^`]*`", row)]
    names += [name for row in other for name in re.findall(r"`(\w+): ", row.split("|")[2])]
    unknown = [name for name in names if name not in keys]
    there = [name for row in other for name in re.findall(r"`(\w+)(?:: [^`]*)?`", row.split("|")[1])]
    unknown += [name for name in there if name not in keys | foreign | {"path"} and not name.startswith("paged_")]
    assert not unknown, unknown
    print(f"{len(names) + len(there)} keys in the tables are read")


def main():
    assert (ROOT / "docs" / "REFERENCE.md").read_text() == REFERENCE, "docs/REFERENCE.md is old: run `make reference`"
    check_key_tables()
    counts = {}
    with tempfile.TemporaryDirectory() as name:
        adapter = make_adapter(Path(name))
        for page in PAGES:
            bare = re.search(r"^    (build/)?(bezel|cmake|make|pip) .*$", page.read_text(), re.M)
            assert not bare, f"{page.name}: a command outside of a fenced block: {bare[0]}"
            check_page(page, counts, adapter)
    print(", ".join(f"{count} {language} {how}" for (language, how), count in sorted(counts.items())))


if __name__ == "__main__":
    main()
