"""Learning rates of every schedule, with random options, against transformers' get_scheduler: the same to 1e-12 of the peak, and
what transformers refuses is refused.

    schedules.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import random
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import get_scheduler

PRINT_RATES = Path(sys.argv[2]) / "print_rates"
COUNT = 400


def options_of(kind, rng, peak, total, warmup):
    def maybe(make):
        return make() if rng.random() < 0.6 else None

    share = lambda: round(rng.uniform(0, 0.9), 3)
    options = {"cosine": lambda: {"num_cycles": maybe(lambda: rng.choice([0.25, 0.5, 1.5]))},
               "cosine_with_restarts": lambda: {"num_cycles": maybe(lambda: rng.randint(1, 5))},
               "polynomial": lambda: {"lr_end": maybe(lambda: peak * share()), "power": maybe(lambda: rng.choice([0.5, 1.0, 2.0, 3.0]))},
               "inverse_sqrt": lambda: {"timescale": maybe(lambda: rng.randint(max(1, warmup), 500))},
               "cosine_with_min_lr": lambda: {rng.choice(["min_lr", "min_lr_rate"]): None, "num_cycles": maybe(lambda: rng.choice([0.5, 1.5]))},
               "cosine_warmup_with_min_lr": lambda: {rng.choice(["min_lr", "min_lr_rate"]): None, "warmup_lr_rate": maybe(share)},
               "warmup_stable_decay": lambda: {"num_decay_steps": rng.randint(1, max(1, total - warmup)),
                                               "num_stable_steps": maybe(lambda: rng.randint(0, total)), "min_lr_ratio": maybe(share),
                                               "warmup_type": maybe(lambda: rng.choice(["linear", "cosine", "1-sqrt"])),
                                               "decay_type": maybe(lambda: rng.choice(["linear", "cosine", "1-sqrt"]))}}
    made = options.get(kind, dict)()
    for name in ("min_lr", "min_lr_rate"):
        if name in made:
            made[name] = share() * (peak if name == "min_lr" else 1)
    return {name: value for name, value in made.items() if value is not None}


def make_case(rng, kind):
    total = rng.randint(2, 120)
    warmup = 0 if kind == "constant" else rng.randint(0, total - 1)
    peak = rng.choice([2e-4, 1e-5, 0.5])
    return {"kind": kind, "total": total, "warmup": warmup, "peak": peak, "options": options_of(kind, rng, peak, total, warmup)}


def reference(case):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=case["peak"])
    schedule = get_scheduler(case["kind"], optimizer, num_warmup_steps=case["warmup"], num_training_steps=case["total"],
                             scheduler_specific_kwargs=dict(case["options"]))
    rates = []
    for _ in range(case["total"]):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def line(case):
    config = {"learning_rate": case["peak"], "lr_scheduler_type": case["kind"], "warmup_steps": case["warmup"],
              "lr_scheduler_kwargs": case["options"]}
    return f"{case['total']} {json.dumps(config)}\n"


def bezel_rates(cases):
    done = subprocess.run([PRINT_RATES], input="".join(map(line, cases)), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def check_refused():
    bad = [("cosine_with_min_lr", {}), ("cosine_with_min_lr", {"min_lr": 1e-6, "min_lr_rate": 0.1}), ("polynomial", {"lr_end": 1.0}),
           ("warmup_stable_decay", {}), ("warmup_stable_decay", {"num_decay_steps": 2, "decay_type": "step"}), ("linear", {"power": 2.0}),
           ("cosine", {"min_lr": 1e-6}), ("reduce_lr_on_plateau", {}), ("greedy", {})]
    cases = [{"kind": kind, "total": 20, "warmup": 2, "peak": 2e-4, "options": options} for kind, options in bad]
    for case, row in zip(cases, bezel_rates(cases), strict=True):
        assert row.startswith("error stdin"), (case, row)
        if case["kind"] not in ("reduce_lr_on_plateau", "greedy"):  # schedules there that are not built here
            try:
                reference(case)
            except (ValueError, TypeError):
                continue
            raise AssertionError(f"transformers takes {case}")
    return len(bad)


def main():
    rng = random.Random(7)
    kinds = ["cosine", "linear", "constant", "constant_with_warmup", "cosine_with_restarts", "cosine_with_min_lr",
             "cosine_warmup_with_min_lr", "polynomial", "inverse_sqrt", "warmup_stable_decay"]
    cases = [make_case(rng, kinds[i % len(kinds)]) for i in range(COUNT)]
    worst = 0.0
    for case, row in zip(cases, bezel_rates(cases), strict=True):
        assert not row.startswith("error"), (case, row)
        found, wanted = [float(item) for item in row.split()], reference(case)
        assert len(found) == len(wanted), case
        error = max(abs(a - b) for a, b in zip(found, wanted)) / case["peak"]
        worst = max(worst, error)
        assert error < 1e-12, (case, error, list(zip(found, wanted)))
    print(f"{COUNT} schedules of {len(kinds)} kinds: worst error {worst:.1e} of the peak; {check_refused()} refused as there")


if __name__ == "__main__":
    main()
