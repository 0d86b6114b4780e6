"""A run that is interrupted and resumed ends in the same weights, bit for bit; a state that is not good is said so."""

from __future__ import annotations

import json
import resource
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from rc_deploy.errors import InputError, OutputError
from rc_training import state as states
from rc_training import trainer
from rc_training.distributed import Processes
from rc_training.models import create
from rc_training.options import Existing
from rc_training.progress import Progress, Reporter
from rc_training.run import Run
from rc_training.train import train
from rc_training.trainer import Splits
from training_runs import IMAGES, RECIPE, log_of, options, small_splits

if TYPE_CHECKING:
    from rc_training.recipe import Recipe

RESUME = Existing.RESUME


class Interrupter(Reporter):
    """Interrupts training after so many images; keeps what it hears."""

    def __init__(self, images: int = -1) -> None:
        self.images, self.notices = images, list[str]()

    def progress(self, progress: Progress) -> None:
        if progress.images == self.images:
            raise KeyboardInterrupt

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture(autouse=True)
def small_and_talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Splits, "open", staticmethod(small_splits))
    monkeypatch.setattr(trainer, "REPORT_STEPS", 1)


def interrupted(folder: Path, recipe: Recipe = RECIPE, images: int = 2 * IMAGES + 48) -> Run:
    """A run that was stopped there: by default in its third and last epoch."""
    with pytest.raises(KeyboardInterrupt):
        train(recipe, options(folder), Interrupter(images))
    return Run(folder)


def assert_same_as_whole(recipe: Recipe, folder: Path, weights: dict[str, Any]) -> None:
    whole = train(recipe, options(folder.parent / "whole"))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in whole.weights.items())
    assert log_of(folder) == log_of(folder.parent / "whole")


MIXED = replace(RECIPE, augment=("crop", "random_erasing"), mixup=1.0, cutmix=1.0)
# Beside SGD with augmentations: an optimiser that counts its steps, and one with nothing to remember.
RECIPES = {
    "sgd": RECIPE,
    "mixed": MIXED,
    "adamw": replace(RECIPE, optimizer="adamw", learning_rate=0.01, label_smoothing=0.1, clip_norm=0.5),
    "plain": replace(RECIPE, momentum=0.0, augment=(), precision="bfloat16", epochs=2, warmup_epochs=0),
}


@pytest.mark.parametrize("name", RECIPES)
def test_interrupted_twice_is_as_good_as_never(name: str, tmp_path: Path) -> None:
    recipe, folder = RECIPES[name], tmp_path / "run"
    run = interrupted(folder, recipe, 48)
    assert not run.state.exists()
    with pytest.raises(KeyboardInterrupt):
        train(recipe, options(folder, RESUME), Interrupter(IMAGES + 48))
    torch.manual_seed(99)  # another process would not have the generators of this one
    reporter = Interrupter()
    assert_same_as_whole(recipe, folder, train(recipe, options(folder, RESUME), reporter).weights)
    assert reporter.notices == []
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.pt", "log.jsonl", "run.json"]


def test_a_dropout_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws from PyTorch's own generator, not from the run's."""
    monkeypatch.setattr(trainer, "create", lambda *a, **k: nn.Sequential(nn.Dropout(0.5), create(*a, **k)))
    interrupted(tmp_path / "run")
    torch.manual_seed(99)
    assert_same_as_whole(RECIPE, tmp_path / "run", train(RECIPE, options(tmp_path / "run", RESUME)).weights)


def test_processes_drop_out_differently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the others' images are others; nothing else of a training depends on the process."""

    def weights(rank: int, folder: str) -> dict[str, Any]:
        monkeypatch.setattr(trainer, "current", lambda: Processes(rank, 1))
        return train(replace(RECIPE, epochs=1, warmup_epochs=0), options(tmp_path / folder)).weights

    other = weights(1, "b")
    assert all(torch.equal(tensor, other[name]) for name, tensor in weights(0, "a").items())
    monkeypatch.setattr(trainer, "create", lambda *a, **k: nn.Sequential(nn.Dropout(0.5), create(*a, **k)))
    assert not torch.equal(weights(0, "c")["1.classifier.weight"], weights(1, "d")["1.classifier.weight"])


class FillsTheDisk(Reporter):
    """Lets no file grow beyond 8 KiB once the first epoch is kept."""

    def progress(self, progress: Progress) -> None:
        if progress.result:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_full_disk_loses_the_epoch_in_hand(tmp_path: Path) -> None:
    run, limits = Run(tmp_path / "run"), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OutputError, match=r"state\.pt could not be written: File too large"):
            train(RECIPE, options(run.folder), FillsTheDisk())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in run.folder.iterdir()) == ["log.jsonl", "run.json", "state.pt"]
    assert len(states.load(run.state).past.history) == 1
    assert_same_as_whole(RECIPE, run.folder, train(RECIPE, options(run.folder, RESUME)).weights)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    """Of a weight: PyTorch's reader alone would not notice."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(content)


def replace_by_a_pickle(path: Path) -> None:
    torch.save({"network": Path("an object")}, path)


def replace_by_a_checkpoint(path: Path) -> None:
    torch.save({"rc_deploy": "{}", "weights": {}}, path)


def give_another_recipe(path: Path) -> None:
    state = states.load(path)
    past = replace(state.past, recipe={**state.past.recipe, "seed": 7})
    states.save(replace(state, past=past), path, path.with_name("spare"))
    path.with_name("spare").unlink()


def give_another_version(path: Path) -> None:
    state = states.load(path)
    states.save(replace(state, past=replace(state.past, version=2)), path, path.with_name("spare"))
    path.with_name("spare").unlink()


def take_a_weight_away(path: Path) -> None:
    state = states.load(path)
    state.network.popitem()
    states.save(state, path, path.with_name("spare"))
    path.with_name("spare").unlink()


FAULTS = {
    halve: "half-written, damaged or no state of a run",
    empty: "empty (0 bytes)",
    flip_a_bit: "does not have its checksum",
    replace_by_a_pickle: "half-written, damaged or no state of a run",
    replace_by_a_checkpoint: "is not the state of a run",
    give_another_recipe: "is of another recipe: seed is 7 there and 0 here",
    give_another_version: "has format version 2; this rc-deploy reads 1",
    take_a_weight_away: "does not fit this network",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_bad_state_is_passed_over_for_the_one_before(fault: Any, tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run")
    assert len(states.load(run.state).past.history) == 2
    assert len(states.load(run.previous).past.history) == 1
    fault(run.state)
    reporter = Interrupter()
    weights = train(RECIPE, options(run.folder, RESUME), reporter).weights
    assert len(reporter.notices) == 1
    assert FAULTS[fault] in reporter.notices[0]
    assert reporter.notices[0].startswith("state.pt is passed over: ")
    assert_same_as_whole(RECIPE, run.folder, weights)


def test_no_good_state_is_an_error(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run")
    halve(run.state)
    halve(run.previous)
    log = run.log.read_bytes()
    reporter = Interrupter()
    with pytest.raises(InputError, match="cannot go on: no good state of it is left") as caught:
        train(RECIPE, options(run.folder, RESUME), reporter)
    assert "--restart" in caught.value.hint
    assert len(reporter.notices) == 2
    assert run.log.read_bytes() == log
    run.state.unlink()
    run.previous.unlink()
    with pytest.raises(InputError, match="no good state"):
        train(RECIPE, options(run.folder, RESUME))
    assert_same_as_whole(RECIPE, run.folder, train(RECIPE, options(run.folder, Existing.RESTART)).weights)


def test_a_notice_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().notice("Something is odd.")
    assert capsys.readouterr() == ("", "Something is odd.\n")


def test_what_is_done_about_an_unfinished_run(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run")
    state = run.state.read_bytes()
    with pytest.raises(OutputError, match="holds a run that is not finished") as caught:
        train(RECIPE, options(run.folder))
    assert "--resume" in caught.value.hint
    assert "--restart" in caught.value.hint
    for changed in (replace(RECIPE, seed=1), replace(RECIPE, epochs=9)):
        with pytest.raises(InputError, match="a run of another recipe: (seed is 0|epochs is 3) there and [19] here"):
            train(changed, options(run.folder, RESUME))
    assert run.state.read_bytes() == state
    # A recipe's name may change.
    train(replace(RECIPE, name="renamed"), options(run.folder, RESUME))


def test_a_run_that_was_begun_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interfering(*arguments: Any) -> Splits:
        monkeypatch.setattr(Splits, "open", staticmethod(small_splits))
        interrupted(tmp_path / "run")
        return small_splits(*arguments)

    monkeypatch.setattr(Splits, "open", staticmethod(interfering))
    with pytest.raises(OutputError, match="holds a run that is not finished"):
        train(RECIPE, options(tmp_path / "run"))
    assert len(states.load(tmp_path / "run" / "state.pt").past.history) == 2


def test_what_is_done_about_a_finished_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    first = train(RECIPE, options(run.folder))
    written = run.checkpoint.stat().st_mtime_ns
    reporter = Interrupter()
    assert train(RECIPE, options(run.folder, RESUME), reporter).metrics == first.metrics
    assert run.checkpoint.stat().st_mtime_ns == written
    assert "is finished: nothing is left to do" in reporter.notices[0]

    with pytest.raises(InputError, match="a run of another recipe: seed is 0 there and 1 here"):
        train(replace(RECIPE, seed=1), options(run.folder))
    with pytest.raises(OutputError, match="holds this run, and it is finished") as kept:
        train(RECIPE, options(run.folder))
    assert "--restart" in kept.value.hint
    assert run.checkpoint.stat().st_mtime_ns == written
    again = train(RECIPE, options(run.folder, Existing.RESTART))
    assert all(torch.equal(tensor, again.weights[name]) for name, tensor in first.weights.items())

    train(replace(RECIPE, seed=1), options(run.folder, Existing.RESTART))
    assert json.loads(run.record.read_text())["seed"] == 1
    run.checkpoint.unlink()
    with pytest.raises(InputError, match="is finished, but its checkpoint is not at hand: There is no") as caught:
        train(replace(RECIPE, seed=1), options(run.folder, RESUME))
    assert "--restart" in caught.value.hint
