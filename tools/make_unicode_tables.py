"""Write bezel/jinja/unicode_case.cpp and unicode_printable.cpp: letter case and printability of all characters, as this
Python has them.

    python tools/make_unicode_tables.py
"""
import textwrap, unicodedata
from pathlib import Path

CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def strided(codes):
    """Runs (first, last, stride) of rising numbers, with stride 1 or 2."""
    runs = []
    for code in codes:
        if runs and len(runs[-1]) > 1 and code - runs[-1][-1] == runs[-1][1] - runs[-1][0]:
            runs[-1].append(code)
        elif runs and len(runs[-1]) == 1 and code - runs[-1][0] in (1, 2):
            runs[-1].append(code)
        else:
            runs.append([code])
    return [(run[0], run[-1], run[1] - run[0] if len(run) > 1 else 1) for run in runs]


def mapped(convert):
    """Runs (first, last, stride, delta) of characters that become another one."""
    deltas = {}
    for c in CHARACTERS:
        if len(convert(c)) == 1 and convert(c) != c:
            deltas.setdefault(ord(convert(c)) - ord(c), []).append(ord(c))
    return sorted((*run, delta) for delta, codes in deltas.items() for run in strided(codes))


def is_ignorable(c):
    """Whether the rule for a final sigma passes over the character."""
    return ("A" + c + "\u03a3").lower()[-1] == "\u03c2" and (c + "\u03a3").lower()[-1] != "\u03c2"


def table(kind, name, rows):
    body = ", ".join("{" + ", ".join(row) + "}" for row in rows)
    lines = textwrap.fill(body, 116, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
    return f"constexpr {kind} k{name}[] = {{\n{lines}}};\n"


def numbers(rows):
    return [[str(n) if i == 2 or i == 3 else hex(n) for i, n in enumerate(row)] for row in rows]


def quoted(text):
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def write(stem, tables):
    """`tables` has (type, name, function, rows)."""
    text = [f"// Written by tools/make_unicode_tables.py from Unicode {unicodedata.unidata_version}.", "// clang-format off",
            '#include "bezel/jinja/unicode_tables.h"\n\nnamespace bezel::jinja {\nnamespace {\n']
    text += [table(kind, name, rows) for kind, name, _, rows in tables]
    text += ["}  // namespace\n"]
    text += [f"std::span<const {kind}> {function}() {{ return k{name}; }}" for kind, name, function, _ in tables]
    text += ["\n}  // namespace bezel::jinja\n"]
    (Path(__file__).parent.parent / "bezel/jinja" / f"{stem}.cpp").write_text("\n".join(text))


def main():
    codes = lambda test: numbers(strided([ord(c) for c in CHARACTERS if test(c)]))
    special = lambda cases: [[hex(ord(c)), quoted(text)] for c, text in cases.items()]
    to_lower = lambda c: c.lower() if c != "\u03a3" else "\u03c3"
    long_upper = {c: c.upper() for c in CHARACTERS if len(c.upper()) > 1}
    title = {c: c.title() for c in CHARACTERS if c.title() != c.upper()}
    write("unicode_printable", [("CodeRun", "Unprintable", "unprintable_table", codes(lambda c: not c.isprintable()))])
    write("unicode_case", [
        ("CodeRun", "Lowercase", "lowercase_table", codes(str.islower)),
        ("CodeRun", "Uppercase", "uppercase_table", codes(str.isupper)),
        ("CodeRun", "Titlecase", "titlecase_table", codes(lambda c: c.istitle() and not c.isupper())),
        ("CodeRun", "Ignorable", "ignorable_table", codes(is_ignorable)),
        ("CaseRun", "ToLower", "to_lower_table", numbers(mapped(to_lower))),
        ("CaseRun", "ToUpper", "to_upper_table", numbers(mapped(str.upper))),
        ("SpecialCase", "SpecialUpper", "special_upper_table", special(long_upper)),
        ("SpecialCase", "SpecialTitle", "special_title_table", special(title))])


if __name__ == "__main__":
    main()
