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


OVERRIDES = ("epochs=4", "warmup_epochs=1", "architecture=resnet8", "activation=relu", "augment=crop", "batch_size=96")
SETS = [argument for override in OVERRIDES for argument in ("--set", override)]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    code = "from rc_deploy.cli import main; main()"
    arguments = ["train", "digits", *SETS, "--device", "cpu", "--run", str(folder), *more]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def stop_in_epoch(process: subprocess.Popen[str], epoch: int, folder: Path, number: signal.Signals) -> tuple[str, str]:
    """Send a signal shortly after the epoch before was logged; return what was printed."""
    log = folder / "log.jsonl"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) == epoch - 1):
        time.sleep(0.005)
    time.sleep(0.05)
    process.send_signal(number)
    return process.communicate(timeout=120)


def test_the_command_goes_on_after_sigkill_and_ctrl_c(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    stop_in_epoch(process, 2, folder, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert json.loads((folder / "run.json").read_text())["status"] == "running"

    process = start(folder, "--resume")
    _, errors = stop_in_epoch(process, 3, folder, signal.SIGINT)
    assert process.returncode == 130
    assert "epoch 2/4" in errors
    assert "epoch 1/4" not in errors
    assert f"Stopped after epoch 2 of 4; the run is kept in {folder}." in errors
    command = next(line for line in errors.splitlines() if line.startswith("To go on: "))
    words = shlex.split(command.removeprefix("To go on: "))
    assert words[:3] == ["rc-deploy", "train", "digits"]
    assert words[-1] == "--resume"
    assert words.count("--resume") == 1

    recipe = recipes.load("digits", OVERRIDES)
    resumed = train(recipe, RunOptions(folder, device="cpu", existing=Existing.RESUME))
    whole = train(recipe, RunOptions(tmp_path / "whole", device="cpu"))
    assert all(torch.equal(tensor, resumed.weights[name]) for name, tensor in whole.weights.items())
    assert training_runs.log_of(folder) == training_runs.log_of(tmp_path / "whole")
