"""Compare Bezel's Jinja lexer with jinja2's, in the environment that transformers makes, on generated templates.

    python tests/parity/jinja_tokens.py BUILD_DIR TEST_DIR [--templates 20000] [--seed 1]

Runs TEST_DIR/lex_templates. Kinds, texts and lines of all tokens must be equal, and both must refuse the same templates,
but for names beyond ASCII, which Bezel refuses. Exits with 1 on any difference.
"""
import argparse, json, random, subprocess, sys
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template

KINDS = {"data": 0, "block_begin": 1, "block_end": 2, "variable_begin": 3, "variable_end": 4, "name": 5, "string": 6,
         "integer": 7, "float": 8}
OPERATOR = 9
ASCII_ONLY = "names are ASCII"
PIECES = ["{%", "{%-", "{%+", "%}", "-%}", "+%}", "{{", "{{-", "}}", "-}}", "{#", "{#-", "#}", "-#}", "+#}", " ", "  ", "\n",
          "\r\n", "\r", "\t", "\u00a0", "\u2028", "\u3000", "raw", "endraw", "{% raw %}", "{%- raw -%}", "{% endraw %}",
          "{%- endraw -%}", "x", "if", "a.b", "'s'", '"q\\n"', "'\\u00e9é\\q'", "'\\é'", "1", "1.5", "1e5", "0x1f", "0",
          "1_0", "(", ")", "[", "]", "{", "}", ":", ",", "|", "~", "==", "!=", "//", "**", "é", ".", "\n\n", "%", "#", "-",
          "+", "!", "{{ x }}", "{% if a %}", "  {%- endif %}\n", "{# c #}\n"]


def reference(lexer, source):
    try:
        tokens = list(lexer.wrap(lexer.tokeniter(source, None)))
    except Exception as error:
        return str(error)
    marks = range(KINDS["block_begin"], KINDS["variable_end"] + 1)
    rows = [(KINDS.get(token.type, OPERATOR), token.value, token.lineno) for token in tokens]
    return [[kind, "" if kind in marks else text, line] for kind, text, line in rows]


def read_numbers(tokens):
    read = {KINDS["integer"]: lambda text: int(text, 0), KINDS["float"]: float}
    return [[kind, read.get(kind, str)(text), line] for kind, text, line in tokens]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir", type=Path)
    parser.add_argument("test_dir", type=Path)
    parser.add_argument("--templates", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    lexer = _compile_jinja_template("").environment.lexer
    rng = random.Random(args.seed)
    sources = ["".join(rng.choices(PIECES, k=rng.randrange(1, 15))) for _ in range(args.templates)]
    run = subprocess.run([args.test_dir / "lex_templates"], input="\n".join(map(json.dumps, sources)), text=True,
                         capture_output=True, check=True)
    rows = [json.loads(line) for line in run.stdout.rstrip("\n").split("\n")]
    if len(rows) != len(sources):
        sys.exit(f"{len(sources)} templates gave {len(rows)} results")
    equal = refused = ascii_only = different = 0
    for source, got in zip(sources, rows):
        want = reference(lexer, source)
        if isinstance(got, str) and ASCII_ONLY in got:
            ascii_only += 1
        elif isinstance(got, str) and isinstance(want, str):
            refused += 1
        elif isinstance(got, list) and read_numbers(got[:-1]) == want:
            equal += 1
        else:
            different += 1
            print(f"{source!r}\n  jinja2 {want}\n  Bezel  {got}")
    print(f"{equal} templates with equal tokens, {refused} refused by both, {ascii_only} with names beyond ASCII, "
          f"{different} different")
    sys.exit(1 if different or not equal else 0)


if __name__ == "__main__":
    main()
