"""Several seeds in one command: a folder each, and what they say together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rc_deploy.checkpoint import Checkpoint
from rc_deploy.errors import InputError
from rc_deploy.specs import InputSpec
from rc_training import cli
from rc_training.cli import parse_seeds
from rc_training.seeds import spreads
from rc_training.trainer import Splits
from training_runs import small_splits

FAST = ["--set", "epochs=2", "--set", "warmup_epochs=0", "--set", "architecture=resnet8", "--set", "augment=flip"]


def reached(last: float, best: float) -> Checkpoint:
    metrics = {"test_accuracy_last": last, "test_accuracy_best": best}
    return Checkpoint("resnet8", {}, InputSpec((1, 1, 1), (0.5,), (0.5,), ("a",)), {}, metrics=metrics)


def test_mean_and_spread() -> None:
    found = spreads([reached(90, 91), reached(92, 92), reached(94, 96)])
    last, best = found["test_accuracy_last"], found["test_accuracy_best"]
    assert (last.runs, last.mean, last.standard_deviation, last.minimum, last.maximum) == (3, 92, 2, 90, 94)
    assert (best.mean, best.minimum, best.maximum) == (93, 91, 96)
    assert best.standard_deviation == pytest.approx(7**0.5)
    assert "test split itself chose" in best.meaning
    assert spreads([reached(90, 91)])["test_accuracy_last"].standard_deviation is None


def test_seeds_are_read() -> None:
    assert parse_seeds("") == ()
    assert parse_seeds("3") == (3,)
    assert parse_seeds(" 2, 0,1 ") == (2, 0, 1)
    for wrong in ("a", "1,", "-1", "1.5", "0,0", "9" * 19, "9" * 5000, "²"):
        with pytest.raises(typer.BadParameter):
            parse_seeds(wrong)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setattr(Splits, "load", staticmethod(small_splits))
    app = typer.Typer()
    app.command("train")(cli.train)
    return app


def run(app: typer.Typer, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["digits", *FAST, "--device", "cpu", *arguments], catch_exceptions=False)


def test_three_seeds_then_one_more(app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(app, "--seeds", "0,1")
    assert result.exit_code == 0
    folder = tmp_path / "runs" / "digits"
    assert sorted(path.name for path in folder.iterdir()) == ["seed0", "seed1"]
    assert "seed 1, epoch 2/2" in result.stderr
    assert "test accuracy, last epoch: mean " in result.stdout
    assert "test accuracy, best epoch: mean " in result.stdout
    assert "2 seeds (of each run's best epoch, which the test split itself chose: optimistic)" in result.stdout

    result = run(app, "--seeds", "0,1,2", "--resume", "--json", "-")
    assert "seed 0, The run in runs/digits/seed0 is finished" in result.stderr
    assert "seed 0, epoch" not in result.stderr
    assert "seed 2, epoch 2/2" in result.stderr
    document = json.loads(result.stdout)
    assert (document["schema"], document["schema_version"]) == ("rc-deploy/training-seeds", 1)
    assert document["seeds"] == [one["recipe"]["seed"] for one in document["runs"]] == [0, 1, 2]
    accuracies = [one["metrics"]["test_accuracy_last"] for one in document["runs"]]
    spread = document["spread"]["test_accuracy_last"]
    assert spread["mean"] == pytest.approx(sum(accuracies) / 3)
    assert (spread["minimum"], spread["maximum"], spread["runs"]) == (min(accuracies), max(accuracies), 3)
    for one in document["runs"]:
        assert json.loads((tmp_path / one["run"] / "run.json").read_text())["status"] == "finished"


def test_every_folder_is_checked_before_the_first_run(app: typer.Typer, tmp_path: Path) -> None:
    run(app, "--seed", "5", "--run", str(tmp_path / "seed1"))
    with pytest.raises(InputError, match="seed is 5 there and 1 here"):
        run(app, "--seeds", "0,1", "--run", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["seed1"]


def test_what_contradicts_itself_is_refused(app: typer.Typer, tmp_path: Path) -> None:
    assert run(app, "--seeds", "0,1", "--seed", "2").exit_code == 2
    assert run(app, "--resume", "--restart").exit_code == 2
    with pytest.raises(InputError, match="--output .* names one file"):
        run(app, "--seeds", "0,1", "--output", str(tmp_path / "c.pt"))
