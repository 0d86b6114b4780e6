"""`make gpu-train`: pieces that are stopped in time and go on; a rehearsal says that it is one."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

import gpu_train
from gpu_train import FAILED, FINISHED, STOPPED, main, plan, trained
from rc_deploy.gpu import Driver
from rc_training import recipe as recipes
from rc_training.options import RunOptions
from rc_training.progress import Progress, Reporter
from rc_training.train import train

SLEEPING = "import signal, time; signal.signal(signal.SIGINT, signal.{}); time.sleep(100)"


@pytest.mark.parametrize(
    ("script", "seconds", "outcome"),
    [
        ("pass", 60, FINISHED),
        ("raise SystemExit(3)", 60, FAILED),
        (SLEEPING.format("default_int_handler"), 0.5, STOPPED),
        (SLEEPING.format("SIG_IGN"), 0.5, STOPPED),
    ],
    ids=["finished", "failed", "stopped", "killed"],
)
def test_a_piece_ends_in_time(script: str, seconds: float, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_train, "GRACE", 1)
    start = time.monotonic()
    assert trained([sys.executable, "-c", script], os.environ, seconds) == outcome
    assert time.monotonic() - start < 50


class Stop(Reporter):
    """Interrupts after the first epoch."""

    def progress(self, progress: Progress) -> None:
        if progress.result:
            raise KeyboardInterrupt


def stopped_after_an_epoch(command: Sequence[str], _: Mapping[str, str], __: float) -> str:
    """Stand for a process whose time is up."""
    words = list(command)
    keys = [value for word, value in pairwise(words) if word == "--set"]
    folder = Path(words[words.index("--run") + 1])
    with pytest.raises(KeyboardInterrupt):
        train(recipes.load("digits", keys), RunOptions(folder, device="cpu"), Stop())
    return STOPPED


def test_a_rehearsal_in_two_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = plan(rehearse=True, words=())[:1]
    monkeypatch.setattr(gpu_train, "plan", lambda *_: wanted)
    arguments = ["--rehearse", "--runs", str(tmp_path / "all"), "--output", str(tmp_path)]
    output, run = tmp_path / "gpu_train.json", tmp_path / "all" / "digits" / "seed0"
    assert main([*arguments, "--budget", "1"]) == 0
    assert "1 of 1 runs are left" in capsys.readouterr().out
    assert not output.exists()

    with monkeypatch.context() as patched:
        patched.setattr(gpu_train, "trained", stopped_after_an_epoch)
        assert main(arguments) == 0
    assert "digits seed 0: stopped, epoch 1" in capsys.readouterr().out
    first = (run / "log.jsonl").read_text()
    assert json.loads(output.read_text())["results"]["unfinished"][0]["epoch"] == 1

    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "REHEARSAL" in said
    assert "0 of 1 runs are left" in said
    log = (run / "log.jsonl").read_text()
    assert log.startswith(first)
    assert len(log.splitlines()) == 2
    record = json.loads(output.read_text())
    assert record["rehearsal"] is True
    assert [(piece["outcome"], piece["epoch"]) for piece in record["pieces"]] == [(STOPPED, 1), (FINISHED, 2)]
    (finished,) = record["results"]["finished"]
    assert finished["folders"] == ["RUNS/digits/seed0"]
    assert finished["changes"]["epochs"] == {"recipe": 40, "run": 2}  # and so not beside the paper's
    assert str(tmp_path) not in output.read_text()


def test_a_rehearsal_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_at_once(*_: object) -> str:
        return FINISHED

    monkeypatch.setattr(gpu_train, "BUILD", tmp_path / "build")
    monkeypatch.setattr(gpu_train, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(gpu_train, "trained", ends_at_once)
    assert main(["--rehearse"]) == 0
    (written,) = tmp_path.rglob("*.json")
    assert written == tmp_path / "build" / "gpu-train-rehearsal" / "gpu_train.json"
    assert json.loads(written.read_text())["rehearsal"] is True


def test_without_a_gpu_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rc_deploy.gpu.driver", lambda: Driver(None, (), "there is no GPU"))
    assert main(["--runs", str(tmp_path), "--output", str(tmp_path)]) == 1
    assert "nothing was trained, there is no GPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_plan_is_made_of_recipes_of_the_paper_as_they_are() -> None:
    planned = plan(rehearse=False, words=("--cuda-graph",))
    assert [one.seed for one in planned[:6]] == [0, 1, 2, 0, 1, 2]
    assert {one.recipe for one in planned[:6]} == {"table1/rescnet32-cifar10", "table1/resnet32-cifar10"}
    assert len({(one.recipe, one.seed) for one in planned}) == len(planned)
    for one in planned:
        assert recipes.load(one.recipe).epochs == 200
        assert "--set" not in one.words
