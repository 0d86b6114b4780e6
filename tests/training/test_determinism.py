"""Deterministic mode switches PyTorch over, and back again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rc_deploy.errors import UnsupportedError
from rc_training import trainer
from rc_training.determinism import WORKSPACE_VARIABLE, deterministic
from rc_training.progress import Reporter
from rc_training.train import train
from rc_training.trainer import Splits
from training_runs import RECIPE, options, small_splits


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, "to be put back")
    monkeypatch.delenv(WORKSPACE_VARIABLE)


def switches() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


def test_only_inside_the_context_and_only_if_wanted() -> None:
    before = switches()
    with deterministic(False):
        assert switches() == (*before[:2], True)  # cuDNN looks for its fastest algorithms
        assert WORKSPACE_VARIABLE not in os.environ
    assert switches() == before
    with deterministic(True):
        assert switches() == (True, True, False)
        assert os.environ[WORKSPACE_VARIABLE] == ":4096:8"
    assert switches() == before


class Listener(Reporter):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_training_is_deterministic_where_asked_and_says_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Splits, "open", staticmethod(small_splits))
    seen = []
    evaluate = trainer.evaluate  # type: ignore[attr-defined]
    monkeypatch.setattr(trainer, "evaluate", lambda *a: (seen.append(switches()), evaluate(*a))[1])  # type: ignore[func-returns-value]
    listener, recipe = Listener(), replace(RECIPE, epochs=1, warmup_epochs=0)
    first = train(recipe, replace(options(tmp_path / "on"), deterministic=True), listener)
    second = train(recipe, options(tmp_path / "off"), Listener())
    assert seen == [(True, True, False), (*switches()[:2], True)]
    assert "slower" in listener.notices[0]
    assert "CPU" in listener.notices[0]
    # What the notice says of CPUs.
    assert all(torch.equal(tensor, second.weights[name]) for name, tensor in first.weights.items())


def test_an_operation_without_a_deterministic_form_is_an_error_in_words() -> None:
    before = switches()
    with (
        pytest.raises(UnsupportedError, match="put_ does not have a deterministic implementation") as caught,
        deterministic(True),
    ):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    assert "--deterministic" in caught.value.hint
    assert switches() == before
    with pytest.raises(RuntimeError, match="something else"), deterministic(True):
        raise RuntimeError("something else")
