"""Runs that are stopped by signals, killed, and resumed end with the bytes, metrics and history of a run that was not;
damaged checkpoints are passed over, and those of another run are refused.

    resume.py BEZEL_FOLDER TEST_FOLDER
"""
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from _runs import PATIENCE_S, Runs, check_manifest, contents, copy, kill, signals, write_manifest, write_samples

RESUME = "--resume-from-checkpoint=auto"


def check_undisturbed(runs):
    runs.run("whole")
    wanted = runs.results("whole")
    state = wanted["state"]
    evaluations = [row for row in state["log_history"] if "eval_loss" in row]
    best = min(evaluations, key=lambda row: row["eval_loss"])
    assert [row["step"] for row in evaluations] == [5, 10, 12], evaluations
    assert state["best_metric"] == best["eval_loss"] and state["best_global_step"] == best["step"], state
    assert state["best_model_checkpoint"] == f"checkpoint-{best['step']}", state
    better = {row["step"] for i, row in enumerate(evaluations) if all(row["eval_loss"] < before["eval_loss"] for before in evaluations[:i])}
    # The newest two, and the best by held-out loss.
    assert runs.checkpoints("whole") == sorted({*sorted({3, 6, 9, 12} | better)[-2:], best["step"]}), runs.checkpoints("whole")
    for step in runs.checkpoints("whole"):
        check_manifest(runs.folder / "whole" / f"checkpoint-{step}")
    return wanted


def check_best_is_kept(runs):
    """At a rate too small to change a float32 no evaluation is better than the first one, whose checkpoint then outlives newer
    ones."""
    runs.run("still", learning_rate=1e-30, save_total_limit=1, eval_steps=1, max_steps=6)
    state = runs.results("still")["state"]
    assert state["best_global_step"] == 1 and state["best_model_checkpoint"] == "checkpoint-1", state["best_global_step"]
    assert runs.checkpoints("still") == [1, 6], runs.checkpoints("still")


def check_stops(runs, wanted):
    """Once, the step is finished and a checkpoint written; twice, at once. One run is stopped in each way in turn."""
    code, text = runs.run_until("stopped", "step 2/12", signals(signal.SIGINT))
    assert code == 130, (code, text)
    newest = runs.checkpoints("stopped")[-1]
    check_manifest(runs.folder / "stopped" / f"checkpoint-{newest}")
    assert (runs.folder / "stopped" / "adapter_model.safetensors").exists()
    code, text = runs.run_until("stopped", "step 6/12", signals(signal.SIGTERM), RESUME)
    assert code == 143 and f"resumed after step {newest}" in text, (code, text)
    code, text = runs.run_until("stopped", "step 8/12", signals(signal.SIGTERM, signal.SIGINT), RESUME)
    assert code in (130, 143), (code, text)
    code, text = runs.run_until("stopped", "step 10/12", kill, RESUME)
    assert code == -signal.SIGKILL, (code, text)
    runs.run("stopped", RESUME)
    runs.same("stopped", wanted)
    # What has come to its end comes to the same end.
    runs.run("stopped", RESUME)
    runs.same("stopped", wanted)


def check_damage(runs, wanted):
    """The newest checkpoint flipped or cut, in each of its files: the one before is taken, and the user is told."""
    code, _ = runs.run_until("damaged", "saved " + str(runs.folder / "damaged" / "checkpoint-6"), kill)
    assert code == -signal.SIGKILL
    newest = max(runs.checkpoints("damaged"))
    names = sorted(path.name for path in (runs.folder / "damaged" / f"checkpoint-{newest}").iterdir())
    assert {"MANIFEST.json", "optimizer.safetensors", "training_state.json", "adapter_model.safetensors"} <= set(names), names
    for name in names:
        out = f"damaged-{name}"
        copy(runs.folder / "damaged", runs.folder / out)
        file = runs.folder / out / f"checkpoint-{newest}" / name
        data = bytearray(file.read_bytes())
        if name in ("optimizer.safetensors", "MANIFEST.json"):
            del data[len(data) // 2:]
        else:
            data[len(data) // 2] ^= 0x10
        file.write_bytes(data)
        text = runs.run(out, RESUME)
        assert "DAMAGED checkpoint passed over" in text and str(file) in text, text
        runs.same(out, wanted)
    check_loud(runs, file=f"checkpoint-{newest}/optimizer.safetensors")
    copy(runs.folder / "damaged", runs.folder / "all-damaged")
    for checkpoint in (runs.folder / "all-damaged").glob("checkpoint-*"):
        (checkpoint / "MANIFEST.json").unlink()
    before = contents(runs.folder / "all-damaged")
    assert "every checkpoint is damaged" in runs.run("all-damaged", RESUME, expect=3)
    assert contents(runs.folder / "all-damaged") == before


def check_loud(runs, file):
    """--quiet leaves warnings alone, and --json-lines makes events of them."""
    for flag in ("--quiet", "--json-lines"):
        out = copy(runs.folder / "damaged", runs.folder / f"damaged{flag}")
        (out / file).write_bytes(b"cut")
        done = subprocess.run(runs.command(out.name, RESUME, flag), capture_output=True, text=True, timeout=PATIENCE_S)
        text = done.stderr if flag == "--quiet" else done.stdout
        lines = [line for line in text.splitlines() if "DAMAGED checkpoint passed over" in line and str(out / file) in line]
        assert done.returncode == 0 and len(lines) == 1, (flag, done)
        if flag == "--quiet":
            assert lines[0].startswith("warning: ") and done.stdout == "" and len(done.stderr.splitlines()) == 1, done
        else:
            assert json.loads(lines[0])["event"] == "warning" and done.stderr == "", done


def check_every_part_counts(runs, wanted):
    """The control: with any one part of the newest checkpoint taken from an older one, the resumed run ends otherwise."""
    code, _ = runs.run_until("parts", "saved " + str(runs.folder / "parts" / "checkpoint-6"), kill, save_total_limit=0)
    assert code == -signal.SIGKILL
    old, new = (runs.folder / "parts" / f"checkpoint-{step}" for step in (3, 6))
    for step in runs.checkpoints("parts"):
        if step > 6:
            shutil.rmtree(runs.folder / "parts" / f"checkpoint-{step}")
    states = [json.loads((folder / "training_state.json").read_text()) for folder in (old, new)]

    def resumed(part, edit):
        out = runs.folder / f"parts-{part}"
        copy(runs.folder / "parts", out)
        edit(out / new.name)
        write_manifest(out / new.name)
        runs.run(out.name, RESUME, save_total_limit=0)
        return runs.adapter(out.name)

    def with_state(edit):
        def write(folder):
            state = json.loads((folder / "training_state.json").read_text())
            edit(state)
            (folder / "training_state.json").write_text(json.dumps(state))
        return write

    assert resumed("none", lambda folder: None) == wanted["adapter"]
    for name in ("adapter_model.safetensors", "optimizer.safetensors"):
        assert resumed(name, lambda folder: shutil.copyfile(old / name, folder / name)) != wanted["adapter"], name
    # Dropout follows from seed, update and sample: no step draws from torch's generator.
    assert states[0]["random"] == states[1]["random"]
    # Step 5 is of another epoch than step 6: other rows, in another order.
    assert resumed("position", with_state(lambda state: state["trainer"].update(steps_done=5))) != wanted["adapter"]


def check_other_runs(runs):
    """Refused with exit code 2, all differences in one line, nothing changed; --force-resume goes on."""
    out = runs.folder / "damaged"
    before = contents(out)
    other = copy(runs.flags["base-model"], runs.folder / "other-model")
    config = json.loads((other / "generation_config.json").read_text()) if (other / "generation_config.json").exists() else {}
    (other / "generation_config.json").write_text(json.dumps({**config, "temperature": 0.5}))
    processor = json.loads((other / "processor_config.json").read_text())
    (other / "processor_config.json").write_text(json.dumps({**processor, "mine": 1}))
    write_samples(runs.folder / "other.jsonl", count=14)
    cases = [({"seed": 7}, ["seed: was 42, is 7"]),
             ({"packing": "false"}, ["packing: was true, is false"]),
             ({"micro_batch_size": 4, "learning_rate": 0.02}, ["micro_batch_size: was 2, is 4", "learning_rate: was 0.01, is 0.02"]),
             ({"lora_dropout": 0}, ["lora_dropout: was 0.1, is 0"]),
             ({"train_file": runs.folder / "other.jsonl"}, ["train_file: was "]),
             ({"base_model": other}, ["base_model/processor_config.json: was "])]
    for flags, parts in cases:
        text = runs.run("damaged", RESUME, expect=2, **flags)
        assert len(text.splitlines()) == 1 and all(part in text for part in [*parts, "force_resume"]), text
        assert contents(out) == before, flags
    text = runs.run("damaged", RESUME, "--force-resume", learning_rate=0.02, report_to="none")
    assert "resumed with another learning_rate: was 0.01, is 0.02" in text and "resumed after step" in text, text


def check_fresh_start(runs, wanted):
    """A run that starts anew beside checkpoints of another leaves those alone, and resumes from its own."""
    runs.run("twice", max_steps=7, seed=1)
    left = runs.checkpoints("twice")
    code, _ = runs.run_until("twice", "step 4/12", signals(signal.SIGINT))
    assert code == 130
    assert set(left) - set(range(7)) <= set(runs.checkpoints("twice")), (left, runs.checkpoints("twice"))
    text = runs.run("twice", RESUME)
    assert "of an earlier run and left alone" in text, text
    assert runs.adapter("twice") == wanted["adapter"]
    assert "starting from the beginning" in runs.run("empty", RESUME)
    runs.same("empty", wanted)


def check_lost_start(runs):
    """A run that began from an adapter goes on without it: its checkpoints have what it needs."""
    runs.run("start", max_steps=2)
    begun = {"init_adapter": runs.folder / "start", "save_steps": 6}
    runs.run("tuned", **begun)
    wanted = (runs.folder / "tuned" / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(runs.folder / "start")
    shutil.rmtree(runs.folder / "tuned" / "checkpoint-12")
    runs.run("tuned", RESUME, **begun)
    assert (runs.folder / "tuned" / "adapter_model.safetensors").read_bytes() == wanted


def main():
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(Path(sys.argv[1]) / "bezel", Path(name))
        wanted = check_undisturbed(runs)
        check_best_is_kept(runs)
        check_stops(runs, wanted)
        check_damage(runs, wanted)
        check_every_part_counts(runs, wanted)
        check_other_runs(runs)
        check_fresh_start(runs, wanted)
        check_lost_start(runs)


if __name__ == "__main__":
    main()
