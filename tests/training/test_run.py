"""The folder of a run: what is in it, who may write there, and what is refused before anything is touched."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from rc_deploy import checkpoint
from rc_deploy.errors import InputError, OutputError
from rc_training.options import Existing, RunOptions
from rc_training.progress import EpochResult
from rc_training.run import Metrics, Run, Status
from rc_training.train import train
from rc_training.trainer import Splits
from training_runs import RECIPE, options, small_splits


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Splits, "load", staticmethod(small_splits))


def test_what_a_run_leaves(tmp_path: Path) -> None:
    run = Run(tmp_path / "new" / "run")
    how = replace(options(run.folder), command=("rc-deploy", "train", "digits"))
    trained = train(RECIPE, how)
    assert sorted(path.name for path in run.folder.iterdir()) == ["checkpoint.pt", "log.jsonl", "run.json"]
    document = json.loads(run.record.read_text())
    assert (document["schema"], document["schema_version"]) == ("rc-deploy/run", 1)
    assert document["recipe"] == RECIPE.to_json()
    assert (document["recipe_name"], document["seed"], document["status"]) == ("digits", 0, "finished")
    assert document["command"] == ["rc-deploy", "train", "digits"]
    assert document["parameters"] == trained.metrics["parameters"] == 77_754
    assert document["processes"] == 1
    assert document["machine"]["packages"]["torch"]
    assert document["started"][:2] == "20"
    expected = {key: trained.metrics[key] for key in document["metrics"]}
    assert document["metrics"] == expected
    assert set(expected) == set(Metrics.__annotations__)

    record = run.read()
    assert record is not None
    assert record.status is Status.FINISHED
    assert record.metrics == Metrics(**expected)
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert lines == trained.metrics["history"]
    assert list(lines[0]) == list(EpochResult.__annotations__)
    assert checkpoint.load(run.checkpoint).metrics == trained.metrics


def test_the_checkpoint_may_lie_elsewhere(tmp_path: Path) -> None:
    run, output = Run(tmp_path / "run"), tmp_path / "mine.safetensors"
    train(RECIPE, RunOptions(run.folder, output=output, device="cpu"))
    assert not run.checkpoint.exists()
    assert checkpoint.load(output).recipe == RECIPE.to_json()


def test_a_run_that_is_going_on_is_left_alone(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with run.held(), pytest.raises(OutputError, match="Another process is training in"):
        train(RECIPE, options(run.folder))
    assert list(run.folder.iterdir()) == []
    train(RECIPE, options(run.folder))


@pytest.mark.parametrize("name", ["log.jsonl", "state.pt", "state.previous.pt"])
def test_files_of_no_run_are_left_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("mine")
    for existing in (Existing.KEEP, Existing.RESUME):
        with pytest.raises(OutputError, match=f"holds {name}, but no run.json"):
            train(RECIPE, options(tmp_path, existing))
    assert path.read_text() == "mine"


def test_the_output_may_not_be_a_file_of_the_run(tmp_path: Path) -> None:
    for name in ("run.json", "log.jsonl", "state.pt"):
        with pytest.raises(OutputError, match="would overwrite a file"):
            train(RECIPE, RunOptions(tmp_path, output=tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def text(document: Any) -> str:
    return json.dumps({"schema": "rc-deploy/run", "schema_version": 1, **document})


DAMAGED = {
    "no JSON": "{",
    "a list": "[]",
    "another document": '{"schema": "rc-deploy/bench", "schema_version": 1}',
    "another version": '{"schema": "rc-deploy/run", "schema_version": 2}',
    "nothing in it": text({}),
    "no status": text({"status": "lost", "recipe": {}, "recipe_name": "", "seed": 0}),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_records_are_refused(case: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.record.write_text(DAMAGED[case])
    for existing in (Existing.KEEP, Existing.RESUME):
        with pytest.raises(InputError, match="run.json") as caught:
            train(RECIPE, options(tmp_path, existing))
        assert caught.value.hint
    assert run.record.read_text() == DAMAGED[case]
    train(RECIPE, options(tmp_path, Existing.RESTART))


def test_folders_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OutputError, match="cannot be made or written: No space left on device"):
        train(RECIPE, options(tmp_path / "run"))


def test_the_log_writes_null_for_what_is_not_finite(tmp_path: Path) -> None:
    run = Run(tmp_path)
    result = EpochResult(1, 0.5, 90.0, 80.0, float("inf"), 0.1, 2.0, 100.0)
    run.write_log([result, replace(result, epoch=2)])
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert lines == [{**asdict(result), "epoch": epoch, "test_loss": None} for epoch in (1, 2)]
