"""Compare Bezel's Jinja interpreter with jinja2 in the environment that transformers makes.

    python tests/parity/jinja_render.py BUILD_DIR TEST_DIR [--expressions 6000] [--statements 3000] [--chats 8] [--seed 1]

Renders hand-written templates, generated expressions and statements, letters of all scripts, and every template of the
wheels `axolotl` and `trl` with random chats. Texts must be equal, and both must refuse the same templates; what Bezel
alone refuses must say that it is not supported. Exits with 1 on any difference.
"""
import argparse, collections, random, sys
from pathlib import Path

import _chats, _jinja

VALUES = {
    "s": " Hello, World\n", "t": "a-b_c d", "e": "", "u": "Größe ΣΑΣ ǆ ßﬁ İ", "n": None, "yes": True, "no": False, "i": 7, "j": -3, "z": 0,
    "f": 2.5, "g": 1e-7, "h": 1e16, "big": 2**64 - 1, "low": -2**63, "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "m": [[1, "x"], [2, None]],
    "d": {"b": 1, "A": "x", "c": None, "items": [1, 2]}, "o": {}, "p": [], "mixed": [1, "a", None, 2.5, [1]],
    "rows": [{"name": "Bob", "age": 3, "tags": ["x"]}, {"name": "alice", "age": 30}, {"name": "bob", "age": None}],
    "q": "it's \"q\" \\ \t é \u200b \U0001f600 \x7f", "html": "<a href='x'>&</a>", "num": " 42 ", "real": "1_0.5e1", "lines": "a\n\n b\r\nc\x0bd",
}
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]
FILTERS = [
    "trim", "upper", "lower", "title", "capitalize", "string", "length", "count", "first", "last", "list", "reverse|list", "sort", "unique|list",
    "join", "join(', ')", "join('-', attribute='name')", "default('D')", "d('D', true)", "int", "int(5)", "int(base=16)", "float", "abs",
    "round", "round(1)", "round(1, 'floor')", "round(method='ceil')", "sum", "sum(attribute='age')", "min", "max", "min(attribute='age')",
    "max(true)", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'), sort_keys=true)", "items|list",
    "dictsort", "dictsort(true)", "dictsort(by='value')", "dictsort(reverse=true)", "map('upper')|list", "map('string')|join('|')",
    "map(attribute='name')|list", "map(attribute='tags.0', default='none')|list", "map('default', 1)|list", "select|list", "reject|list",
    "select('odd')|list", "reject('none')|list", "select('string')|list", "select('>', 2)|list", "selectattr('age')|list", "selectattr('age', 'none')|list",
    "rejectattr('name', 'equalto', 'Bob')|map(attribute='name')|list", "replace('a', 'b')", "replace('', '-')", "replace('l', 'LL', 2)",
    "indent", "indent(2, true)", "indent('> ', blank=true)", "center(20)", "batch(2)|list", "batch(2, 'x')|list", "slice(2)|list",
    "slice(2, 'x')|list", "groupby('name')|list", "wordcount", "truncate(5)", "truncate(8, true, '..', 0)", "escape", "e", "safe", "format(1)",
    "format(name='x')", "attr('name')", "sort(reverse=true)", "sort(attribute='name')", "sort(case_sensitive=true)", "forceescape", "map('length')|list",
]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "iterable", "sequence",
         "callable", "odd", "even", "divisibleby 3", "divisibleby(2)", "in [1, 7, 'a']", "eq 7", "ne(7)", "lt 3", "gt 2.0", "ge 7", "le(7)",
         "equalto none", "lower", "upper", "escaped", "filter", "test", "sameas none", "sameas true", "greaterthan 1", "lessthan 1"]
METHODS = ["strip()", "strip('Ha ')", "lstrip()", "rstrip('\\n')", "split()", "split(',')", "split('l', 1)", "rsplit(None, 1)", "rsplit('-', 1)",
           "splitlines()", "splitlines(true)", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "startswith('a')",
           "startswith(('x', 'a'))", "endswith('c')", "find('l')", "rfind('l')", "find('l', 4)", "find('', 3, 2)", "index('a')", "count('l')",
           "count('')", "replace('l', 'L')", "replace('l', 'L', 1)", "removeprefix('a')", "removesuffix('d')", "partition('-')",
           "rpartition(' ')", "join(['x', 'y'])", "join(w)", "center(9)", "center(8, '*')", "ljust(9, '.')", "rjust(9)", "zfill(9)", "isdigit()",
           "isalpha()", "isalnum()", "isspace()", "isupper()", "islower()", "isascii()", "get('b')", "get('zz')", "get('zz', 4)", "items()",
           "keys()", "values()", "items()|list", "keys()|list", "values()|list|tojson", "copy()", "count(1)", "index(2)", "append(1)", "pop('b')",
           "pop()", "update({})", "format(1, x=2)"]
SUBSCRIPTS = ["[0]", "[-1]", "[99]", "['b']", "['zz']", "[1:]", "[:2]", "[::-1]", "[-2:]", "[1:-1]", "[::2]", "[5:1:-2]", ".b", ".zz", ".0",
              "['items']", ".items", "[none]", "[:0]", "['get']", "[true]", "[1.0]", ".name", "[0].name", "[0]['age']", "[0][1]"]
LITERALS = ["1", "0", "-2", "3.0", "1.5e3", "'x'", "''", "[1, 'a']", "(1,)", "()", "{'k': 1, 2: 'v'}", "true", "none", "12345678901234567890123",
            "'%s-%05.1f|%-4d|%x' % ('a', 2.25, 7, 255)", "'%(b)s' % d", "'{} {0}'", "'{:>5}|{:05d}'.format('x', 3)", "'a' 'b'", "range(3)",
            "range(5, 0, -2)", "dict(a=1)", "namespace(x=1).x", "missing", "missing.x", "loop", "range"]
STATEMENTS = [
    "{% for x in VALUE %}[{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}]{% else %}none{% endfor %}",
    "{% for x in VALUE if EXPR %}{{ x }}{{ loop.first }}{{ loop.revindex }}{% endfor %}",
    "{% for x in VALUE %}{% if EXPR %}{% break %}{% elif x %}{% continue %}{% endif %}{{ x }}{% else %}E{% endfor %}",
    "{% for k, v in VALUE|dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for a, b in m %}{{ a }}{{ b }}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}",
    "{% set x = EXPR %}{{ x }}", "{% set x %}{{ EXPR }} {% endset %}[{{ x|trim }}]", "{% set x | upper %}a{{ EXPR }}{% endset %}{{ x }}",
    "{% set a, b = (EXPR, 2) %}{{ a }}{{ b }}", "{% set ns = namespace(c=0) %}{% for x in VALUE %}{% set ns.c = ns.c + 1 %}{% set y = x %}{% endfor %}{{ ns.c }}{{ y }}",
    "{% if EXPR %}A{% elif EXPR %}B{% else %}C{% endif %}", "{% macro f(a, b=EXPR) %}<{{ a }}{{ b }}{{ varargs }}{{ kwargs }}>{% endmacro %}{{ f(EXPR) }}{{ f(1, 2, 3, k=4) }}{{ f(b=1) }}",
    "{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}{{ f.name }}",
    "{% macro f() %}({{ caller(1) }}){% endmacro %}{% call(v) f() %}{{ v }}{{ EXPR }}{% endcall %}", "{% filter upper %}x{{ EXPR }}{% endfilter %}",
    "{% with a = EXPR, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% generation %}{{ EXPR }}{% set q = 1 %}{% endgeneration %}{{ q }}",
    "{% for x in [1, [2, [3]]] recursive %}{{ loop.depth }}{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}{% endif %}{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{% for y in w %}{{ loop.index0 }}{% endfor %}{{ loop.index }}{% endfor %}",
    "a\n  {%- if EXPR +%}\n  b\n  {%- endif %}\n\nc\n", "{% print EXPR, 1 %}", "{% raw %}{{ x }}{% endraw %}{# {{ x }} #}", "{{ EXPR if EXPR }}", "{{ EXPR if EXPR else EXPR }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% for q in [1] %}{{ x }}{% set x = 3 %}{{ x }}{% endfor %}{{ x }}",
    "{% set f = EXPR %}{% macro g() %}{{ f }}{{ later }}{% endmacro %}{% set later = 5 %}{{ g() }}", "{% for x in VALUE|batch(2) %}{{ x }}{{ loop.length }}{% endfor %}",
    "{% set g = rows|selectattr('age') %}{{ g|list|length }}{{ g|list }}{% if g %}T{% endif %}", "{{ '<i>' + (html|safe) }}{{ (html|safe) ~ '<' }}{{ (html|safe).replace('a', '<') }}",
    "{% for x in d %}{{ d[x] }}{% endfor %}{% for x in d.values() %}{{ x }}{% endfor %}{{ d.items() }}", "{{ raise_exception('no') if EXPR }}", "{{ strftime_now('%d %b %Y %H:%M') }}",
]
HAND = [
    "{{ [1, 'a', none, true, 1.0, {'k': (1,)}, (), ''] }}", "{{ d }}{{ q }}{{ [q] }}", "{{ 10 ** 15 }} {{ 2 ** -1 }} {{ 7 // -2 }} {{ -7 % 3 }} {{ 7.5 // -2 }} {{ -7.5 % 2 }}",
    "{{ 1 < 2 < 3 }}{{ 3 > 2 > 2 }}{{ not 1 in [1] }}{{ 1 is not none }}{{ 1 not in [2] }}", "{{ -1 ** 2 }}{{ 2 ** 3 ** 2 }}{{ 1 ~ 2 + 3 }}{{ -7|abs }}{{ 'a' ~ 1 + 2 ~ 'b' }}",
    "{{ 'abc'[1] }}{{ 'größe'[2:4] }}{{ 'größe'|length }}", "{{ 1e400 }}{{ 1.0 }}{{ 1e22 }}{{ 123456789012345680.0 }}{{ 0.00001 }}{{ 1e5 }}{{ 5e-324 }}",
    "{{ loop }}", "{{ x.y.z }}", "{{ d.update({'a': 1}) }}", "{{ l.append(1) }}", "{{ ''.__class__ }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace() %}{% set ns._a = 1 %}", "{{ range(100001) }}", "{{ range(3) | list }}{{ range(3) }}", "{{ namespace(a=1)['a'] }}", "{{ dict([('a', 1)], b=2) }}",
    "{{ (1, 2) + (3,) }}{{ [1] * 3 }}{{ 'ab' * 2 }}{{ 2 * [0] }}", "{{ true + true }}{{ true == 1 }}{{ 1 == 1.0 }}{{ 'a' == none }}{{ missing == nothing }}", "{{ [] is sequence }}{{ missing is sequence }}",
    "{{ {'a': 1}.items }}", "{{ l|map }}", "{{ l|nofilter }}", "{{ 1 is notest }}", "{% for %}", "{% if %}", "{{ }}", "{% unknown %}", "{% for x in y %}", "{% endif %}", "{{ 1 is defined is defined }}",
    "{% set x.y = 1 %}", "{% set true = 1 %}", "{% macro f(a=1, b) %}{% endmacro %}", "{{ f(a=1, 2) }}", "{{ f(*l, *l) }}", "{{ '%d' % 'x' }}", "{{ '%s %s' % (1,) }}", "{{ 'a' + 1 }}", "{{ 1 / 0 }}",
    "{{ 'x'.join([1]) }}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{{ none|length }}", "{{ none.x }}", "{{ none['x'] }}", "{{ 5 in 5 }}", "{% break %}", "{{ d[l] }}", "{{ {l: 1} }}", "{{ none|map('upper')|list }}",
    "{% for x in none %}{% endfor %}", "{% call 1 %}{% endcall %}", "{% extends 'x' %}", "{% include 'x' %}", "{{ lipsum() }}", "{{ 1|random }}", "{{ missing|list }}{{ missing|join }}{{ missing|length }}", "{{ missing + 1 }}",
]


def leaf(rng):
    return rng.choice(list(VALUES)) if rng.random() < 0.7 else rng.choice(LITERALS)


def expression(rng, depth=0):
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return leaf(rng)
    if kind == 1:
        return f"{expression(rng, depth + 2)}|{rng.choice(FILTERS)}"
    if kind == 2:
        return f"{leaf(rng)}.{rng.choice(METHODS)}"
    if kind == 3:
        return f"{rng.choice(list(VALUES))}{rng.choice(SUBSCRIPTS)}"  # jinja2 slices constants with other rules
    if kind == 4:
        return f"{leaf(rng)} is {rng.choice(['', 'not '])}{rng.choice(TESTS)}"
    if kind == 5:
        return f"({expression(rng, depth + 1)} {rng.choice(OPERATORS)} {expression(rng, depth + 1)})"
    if kind == 6:
        return f"{rng.choice(['not ', '-', '+'])}{expression(rng, depth + 1)}"
    return f"[{expression(rng, depth + 1)}, {expression(rng, depth + 1)}]"


def statement(rng):
    out = ""
    for _ in range(rng.randrange(1, 3)):
        pieces = rng.choice(STATEMENTS).replace("VALUE", rng.choice(["l", "w", "d", "o", "p", "m", "s", "mixed", "rows", "missing", "n", "range(3)"])).split("EXPR")
        out += pieces[0] + "".join(expression(rng, 1) + piece for piece in pieces[1:])
    return out


def letters():
    """All characters, some at a time, through what depends on the letters of a script."""
    codes = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
    for begin in range(0, len(codes), 8192):
        text = "".join(f"{chr(c)}a{chr(c)}Σ" for c in codes[begin:begin + 8192])
        for change in ("s|upper", "s|lower", "s.title()", "s|title", "s.swapcase()", "[s]", "s|tojson", "s.split()|length", "s.splitlines()|length"):
            yield f"{{{{ {change} }}}}", {"s": text}


def chats(rng, count):
    for name, template in _jinja.wheel_templates().items():
        for _ in range(count):
            messages, tools = _chats.conversation(rng, media=("image", "audio"))
            context = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": rng.random() < 0.5,
                       "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
            if rng.random() < 0.3:
                context["enable_thinking"] = rng.random() < 0.5
            yield template, context


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir", type=Path)
    parser.add_argument("test_dir", type=Path)
    parser.add_argument("--expressions", type=int, default=6000)
    parser.add_argument("--statements", type=int, default=3000)
    parser.add_argument("--chats", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    groups = {
        "hand-written": [(template, VALUES) for template in HAND],
        "expressions": [(f"{{{{ {expression(rng)} }}}}", VALUES) for _ in range(args.expressions)],
        "statements": [(statement(rng), VALUES) for _ in range(args.statements)],
        "letters": list(letters()),
        "chats": list(chats(rng, args.chats)),
    }
    failed = False
    for group, rows in groups.items():
        counts = collections.Counter()
        for (template, context), got in zip(rows, _jinja.bezel(args.test_dir, rows)):
            want = _jinja.reference(template, context)
            if isinstance(want, str) and got.get("text") == want:
                counts["equal"] += 1
            elif not isinstance(want, str) and "error" in got:
                counts["refused by both"] += 1
            elif "not supported" in got.get("error", "") or (isinstance(want, str) and " at 0x" in want):
                counts["not supported"] += 1
            else:
                counts["different"] += 1
                if counts["different"] <= 20:
                    print(f"{template[-400:]!r}\n  jinja2 {want!r:.400}\n  Bezel  {got.get('text', got.get('error'))!r:.400}")
        print(f"{group}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
        failed |= counts["different"] > 0 or counts["equal"] < len(rows) / 8 or counts["not supported"] > len(rows) / 12
        if group == "chats":
            failed |= counts["not supported"] > 0 or counts["equal"] < len(rows) / 2
    sys.exit(failed)


if __name__ == "__main__":
    main()
