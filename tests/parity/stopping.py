"""Runs that stop early, end where transformers' EarlyStoppingCallback would end them, and leave the best adapter; killed and
resumed they come to the same decision and bytes. What an evaluation measures on the way is what `bezel evaluate` measures of the
adapter in the end.

    stopping.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import EarlyStoppingCallback

from _runs import MODEL, PATIENCE_S, Runs, kill, signals

RESUME = "--resume-from-checkpoint=auto"
LONG = {"max_steps": 60, "eval_steps": 2, "save_steps": 3, "learning_rate": 0.02, "lr_scheduler": "constant", "save_total_limit": 1,
        "val_set_size": 0}
NAMES = {"eval_loss": False, "eval_mean_token_accuracy": True, "eval_exact_match": True}


def write(path, answers):
    rows = [[{"role": "user", "content": f"Number {i}?"}, {"role": "assistant", "content": say}] for i, say in enumerate(answers)]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


def evaluations(runs, out):
    return [row for row in runs.results(out)["metrics"] if "eval_loss" in row]


def decision(rows, metric, patience, threshold):
    """The step at which transformers stops, and the best one, from the evaluations of a run that goes on to its end."""
    callback = EarlyStoppingCallback(patience, threshold)
    greater = NAMES[metric]
    state = SimpleNamespace(best_metric=None)
    best = None
    for row in rows:
        value = row[metric]
        callback.check_metric_value(SimpleNamespace(greater_is_better=greater), state, None, value)
        if state.best_metric is None or (value > state.best_metric if greater else value < state.best_metric):  # Trainer._determine_best_metric
            state.best_metric, best = value, row["step"]
        if callback.early_stopping_patience_counter >= patience:
            return row["step"], best
    return None, best


def check_early(runs, whole, metric, patience, threshold):
    """Returns the results of a run that stopped early."""
    out = f"early-{metric}-{threshold}"
    stop, best = decision(whole, metric, patience, threshold)
    assert stop is not None and best < stop, (metric, stop, best, [row[metric] for row in whole])
    flags = LONG | {"early_stopping_patience": patience, "early_stopping_threshold": threshold, "metric_for_best_model": metric,
                    "load_best_model_at_end": "true"}
    runs.run(out, **flags)
    rows = evaluations(runs, out)
    assert rows == [row for row in whole if row["step"] <= stop], (metric, stop, rows)
    state = runs.results(out)["state"]
    assert state["global_step"] == stop and state["best_global_step"] == best, (metric, state)
    assert state["best_model_checkpoint"] == f"checkpoint-{best}", state
    assert runs.checkpoints(out) == [best, stop], "the best one is no old one"
    saved = (runs.folder / out / f"checkpoint-{best}" / "adapter_model.safetensors").read_bytes()
    assert runs.adapter(out) == saved != (runs.folder / out / f"checkpoint-{stop}" / "adapter_model.safetensors").read_bytes()
    card = (runs.folder / out / "README.md").read_text()
    assert f"that of step {best}, whose {metric}" in card and f"Stopped early, after {patience} evaluations" in card, card
    print(f"{metric}, patience {patience}, threshold {threshold}: stops after step {stop}, best {best}, as transformers", flush=True)
    return flags, stop


def check_resumes(runs, flags, stop):
    """Stopped by a signal, killed, resumed: the same decision, adapter, card, metrics and history; and once more from its end."""
    out, wanted = "stopped", runs.results("early-eval_loss-0.0")
    code, _ = runs.run_until(out, "step 4/60", signals(15), **flags)
    assert code == 143, code
    newest = runs.checkpoints(out)[-1]
    assert runs.adapter(out) == (runs.folder / out / f"checkpoint-{newest}" / "adapter_model.safetensors").read_bytes(), "the last while it goes on"
    code, _ = runs.run_until(out, f"step {stop - 2}/60", kill, RESUME, **flags)
    assert code == -9, code
    for _ in range(2):
        runs.run(out, RESUME, **flags)
        runs.same(out, wanted)
    cards = [(runs.folder / name / "README.md").read_text().replace(str(runs.folder / name), "OUT") for name in (out, "early-eval_loss-0.0")]
    assert cards[0].split("## Settings")[0] == cards[1].split("## Settings")[0], cards
    refused = runs.run(out, RESUME, expect=2, **flags | {"early_stopping_patience": 9})
    assert "early_stopping_patience: was" in refused, refused
    runs.run(out, RESUME, "--force-resume", **flags | {"early_stopping_patience": 9})
    assert runs.results(out)["state"]["global_step"] > stop, "more patience goes on"


def check_best_only(runs):
    """save_strategy best: checkpoints of the best evaluations alone."""
    runs.run("best", **LONG | {"save_strategy": "best", "save_total_limit": 0, "max_steps": 12})
    steps, least = [], float("inf")
    for row in evaluations(runs, "best"):
        if row["eval_loss"] < least:
            steps, least = [*steps, row["step"]], row["eval_loss"]
    assert runs.checkpoints("best") == steps, (runs.checkpoints("best"), steps)


def check_delay(runs):
    runs.run("late", **LONG | {"eval_strategy": "steps", "eval_delay": 5, "max_steps": 9})
    assert [row["step"] for row in evaluations(runs, "late")] == [6, 8, 9]


def check_lost_best(runs, flags):
    """A best checkpoint that is gone is told of, and the run fails; the last adapter is there."""
    out = runs.folder / "lost"
    shutil.copytree(runs.folder / "early-eval_loss-0.0", out)
    best = runs.results("early-eval_loss-0.0")["state"]["best_global_step"]
    shutil.rmtree(out / f"checkpoint-{best}")
    text = runs.run("lost", RESUME, expect=4, **flags)
    last = runs.checkpoints("lost")[-1]
    assert "load_best_model_at_end" in text and "that of the last update" in text, text
    assert runs.adapter("lost") == (out / f"checkpoint-{last}" / "adapter_model.safetensors").read_bytes()


def check_refused(runs):
    for flags, part in [({"load_best_model_at_end": "true", "val_set_size": 0}, "no sample is held out"),
                        ({"eval_generate": "true", "val_set_size": 0}, "no sample is held out"),
                        ({"early_stopping_patience": 2, "eval_strategy": "no"}, "needs evaluations")]:
        text = runs.run("refused", expect=2, **{"eval_file": ""} | flags)
        assert part in text, (flags, text)


def check_measures(runs):
    """Token accuracy and exact match of the last evaluation against `bezel evaluate` on the adapter that was saved."""
    runs.run("measured", val_set_size=0, eval_generate="true", eval_max_new_tokens=8, max_steps=30,
             eval_steps=10, metric_for_best_model="exact_match", lora_dropout=0)
    rows = evaluations(runs, "measured")
    done = subprocess.run([str(item) for item in (runs.bezel, "evaluate", "--model", MODEL, "--data", runs.flags["eval-file"], "--adapter", runs.folder / "measured", "--dtype",
                                                  "float32", "--threads", 1, "--generate", "--max-new-tokens", 8, "--json")],
                          capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    alone = json.loads(done.stdout)["adapter"]
    last = rows[-1]
    print("exact match on the way:", [row["eval_exact_match"] for row in rows], "token accuracy:", [round(row["eval_mean_token_accuracy"], 3) for row in rows])
    assert last["eval_exact_match"] == alone["exact_match"] and 0 < alone["exact_match"] < 1, (last, alone)
    assert abs(last["eval_mean_token_accuracy"] - alone["token_accuracy"]) < 1e-12 and abs(last["eval_loss"] - alone["loss"]) < 1e-5, (last, alone)
    assert runs.results("measured")["state"]["best_metric"] == max(row["eval_exact_match"] for row in rows)


def main():
    with tempfile.TemporaryDirectory() as name:
        # One answer is learnt, which is that of some held-out samples; the others are unlearnt in the end.
        held = ["a cup of tea", "rain", "two cats in the rain", "the sofa and two cats", "a cup of tea"]
        runs = Runs(Path(sys.argv[1]) / "bezel", Path(name), train_file=write(Path(name) / "cups.jsonl", ["a cup of tea"] * 12),
                    eval_file=write(Path(name) / "held.jsonl", held))
        check_refused(runs)
        check_measures(runs)
        runs.run("whole", **LONG)
        whole = evaluations(runs, "whole")
        print("held-out losses:", [round(row["eval_loss"], 3) for row in whole])
        print("token accuracies:", [round(row["eval_mean_token_accuracy"], 3) for row in whole], flush=True)
        flags, stop = check_early(runs, whole, "eval_loss", 3, 0.0)
        check_early(runs, whole, "eval_loss", 3, 0.05)
        check_early(runs, whole, "eval_mean_token_accuracy", 3, 0.0)
        check_resumes(runs, flags, stop)
        check_lost_best(runs, flags)
        check_best_only(runs)
        check_delay(runs)


if __name__ == "__main__":
    main()
