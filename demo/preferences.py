"""Makes pairs of the capitals' questions: the right answer is chosen, the capital of another country of the continent rejected.
Writes demo/preferences: train.jsonl with 134 countries, heldout.jsonl with 40.

    preferences.py [PACKAGE_FOLDER]

`capitals.py` makes the questions.
"""
import json
import random
from collections import defaultdict
from pathlib import Path

from capitals import entries

HERE = Path(__file__).resolve().parent


def rejected_answers(chats, continents):
    """Each answer is chosen once and rejected once, so that no word is good or bad by itself."""
    groups = defaultdict(list)
    for idx, (question, _) in enumerate(chats):
        groups[continents[question["content"].removeprefix("What is the capital of ").removesuffix("?")]].append(idx)
    alone = [idx for group in groups.values() if len(group) == 1 for idx in group]
    rejected = {}
    for group in [group for group in groups.values() if len(group) > 1] + ([alone] if len(alone) > 1 else []):
        for place, idx in enumerate(group):
            rejected[idx] = chats[group[(place + 1) % len(group)]][1]
    for idx in alone:
        rejected.setdefault(idx, chats[(idx + 1) % len(chats)][1])
    return rejected


def main():
    out = HERE / "preferences"
    out.mkdir(exist_ok=True)
    continents = {country["name"]: country["continentcode"] for country in entries()}
    for name in ("train", "heldout"):
        chats = [json.loads(line)["messages"] for line in (HERE / "capitals" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        order = list(range(len(chats)))
        random.Random(1).shuffle(order)
        chats = [chats[i] for i in order]
        rejected = rejected_answers(chats, continents)
        lines = [json.dumps({"prompt": [question], "chosen": [answer], "rejected": [rejected[i]]}, ensure_ascii=False)
                 for i, (question, answer) in enumerate(chats)]
        (out / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
