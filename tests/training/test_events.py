"""TensorBoard's files hold what log.jsonl holds, each epoch once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rc_deploy import optional
from rc_deploy.errors import MissingDependencyError
from rc_training import trainer
from rc_training.events import TAGS
from rc_training.options import Existing
from rc_training.progress import Progress, Reporter
from rc_training.run import Run
from rc_training.train import train
from rc_training.trainer import Splits
from training_runs import IMAGES, RECIPE, options, small_splits


class Interrupter(Reporter):
    def __init__(self, images: int) -> None:
        self.images = images

    def progress(self, progress: Progress) -> None:
        if progress.images == self.images:
            raise KeyboardInterrupt

    def notice(self, text: str) -> None:
        """A damaged state is meant here."""


def test_event_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr(Splits, "open", staticmethod(small_splits))
    monkeypatch.setattr(trainer, "REPORT_STEPS", 1)
    run = Run(tmp_path / "run")
    how = replace(options(run.folder), tensorboard=True)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, how, Interrupter(2 * IMAGES + 48))
    run.state.write_bytes(b"damaged")  # the second epoch will be trained, and written, again
    train(RECIPE, replace(how, existing=Existing.RESUME), Interrupter(-1))
    events = accumulator.EventAccumulator(str(run.events))
    events.Reload()
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert set(events.Tags()["scalars"]) == set(TAGS)
    for tag, key in TAGS.items():
        written = [(event.step, pytest.approx(event.value, rel=1e-6)) for event in events.Scalars(tag)]
        assert [(line["epoch"], line[key]) for line in lines] == written

    train(RECIPE, replace(how, existing=Existing.RESTART))
    assert len(list(run.events.iterdir())) == 1
    train(RECIPE, replace(options(run.folder), existing=Existing.RESTART))
    assert list(run.events.iterdir()) == []


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "is_installed", lambda name: name != "tensorboard")
    with pytest.raises(MissingDependencyError, match="--tensorboard needs TensorBoard, which is not installed"):
        train(RECIPE, replace(options(tmp_path / "run"), tensorboard=True))
    assert list(tmp_path.iterdir()) == []
