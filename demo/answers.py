"""Prints a few answers before and after training side by side, and how many of all are right.

    answers.py SCORES.jsonl [ROWS]

SCORES.jsonl is what `bezel evaluate --generate --per-sample` writes.
"""
import json
import sys
from pathlib import Path


def question(prompt):
    return prompt.rsplit("<start_of_turn>user\n", 1)[-1].split("<end_of_turn>")[0]


def short(text, width=34):
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def main():
    samples = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    print(f"{'held-out question':46} {'before training':34} {'after':20} wanted")
    for sample in samples[:rows]:
        after = short(sample["adapter"]["predicted"], 20)
        mark = "" if sample["adapter"]["exact_match"] else sample["expected"]
        print(f"{short(question(sample['prompt']), 46):46} {short(sample['base']['predicted']):34} {after:20} {mark or '✓'}")
    right = [sum(sample[model]["exact_match"] for sample in samples) for model in ("base", "adapter")]
    print(f"\nExactly right on {len(samples)} countries that it was not trained on: {right[0]} before, {right[1]} after.")


if __name__ == "__main__":
    main()
