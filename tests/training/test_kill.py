"""Runs that end by SIGKILL at any moment, or by Ctrl-C, lose at most the epoch in hand."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

import training_runs
from rc_training import recipe as recipes
from rc_training.options import Existing, RunOptions
from rc_training.train import train

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_killed_at_any_step_or_file_operation(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, training_runs.__file__, str(tmp_path)], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    *killed, whole = found["outcomes"]
    assert whole["ended"]
    # Two steps in each of three epochs, and a state and a log that are written, synced and renamed; besides, run.json
    # twice and the checkpoint.
    assert len(killed) >= 3 * (2 + 5) + 3 * 3
    for outcome in killed:
        assert outcome["killed"]
        assert outcome["same_weights"]
        assert outcome["log"] == found["log"]
        assert outcome["files"] == ["checkpoint.pt", "log.jsonl", "run.json"]
        if outcome["resumed_after"]:
            assert outcome["trained"] - 1 <= outcome["resumed_after"][0] <= outcome["trained"]
        else:
            assert outcome["trained"] in (0, 1, training_runs.RECIPE.epochs)
    assert {tuple(outcome["resumed_after"]) for outcome in killed} == {(), (1,), (2,), (3,)}


OVERRIDES = ("epochs=4", "warmup_epochs=1", "architecture=resnet8", "activation=relu", "augment=crop", "batch_size=240")
STEPS = 6  # of an epoch: 1,437 images in batches of 240
# The command line, but for a training that comes to a halt before a step, to be stopped there.
HALTING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background of a shell begin by ignoring it
from pathlib import Path
from rc_deploy.cli import main
from rc_training import trainer

rate, halt, mark = trainer.learning_rate, int(sys.argv.pop(1)), Path(sys.argv.pop(1))

def learning_rate(recipe, step, epoch_steps):
    if step == halt:
        mark.touch()
        time.sleep(600)
    return rate(recipe, step, epoch_steps)

trainer.learning_rate = learning_rate
main()
"""


def stopped_before(step: int, number: signal.Signals, folder: Path, *more: str) -> tuple[int, str]:
    """Train until that step, and stop the process by a signal; return its exit code and what it said."""
    mark = folder.with_name(f"step{step}")
    sets = [argument for override in OVERRIDES for argument in ("--set", override)]
    arguments = ["train", "digits", *sets, "--device", "cpu", "--run", str(folder), *more]
    process = subprocess.Popen(
        [sys.executable, "-c", HALTING, str(step), str(mark), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    while process.poll() is None and not mark.exists():
        time.sleep(0.01)
    process.send_signal(number)
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, said


def test_the_command_goes_on_after_sigkill_and_ctrl_c(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, _ = stopped_before(STEPS + 2, signal.SIGKILL, folder)
    assert code == -signal.SIGKILL
    assert json.loads((folder / "run.json").read_text())["status"] == "running"

    code, said = stopped_before(2 * STEPS + 3, signal.SIGINT, folder, "--resume")
    assert code == 130
    assert "epoch 2/4" in said
    assert "epoch 1/4" not in said
    assert f"Stopped after epoch 2 of 4; the run is kept in {folder}." in said
    command = next(line for line in said.splitlines() if line.startswith("To go on: "))
    words = shlex.split(command.removeprefix("To go on: "))
    assert words[:3] == ["rc-deploy", "train", "digits"]
    assert words[-1] == "--resume"
    assert words.count("--resume") == 1

    recipe = recipes.load("digits", OVERRIDES)
    resumed = train(recipe, RunOptions(folder, device="cpu", existing=Existing.RESUME))
    whole = train(recipe, RunOptions(tmp_path / "whole", device="cpu"))
    assert all(torch.equal(tensor, resumed.weights[name]) for name, tensor in whole.weights.items())
    assert training_runs.log_of(folder) == training_runs.log_of(tmp_path / "whole")
