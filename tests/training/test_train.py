"""Training on the digits that come with scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from rc_deploy import checkpoint, data
from rc_deploy.errors import InputError, OutputError, UnsupportedError
from rc_training import evaluate as evaluation
from rc_training import recipe as recipes
from rc_training import state as states
from rc_training import train as training
from rc_training import trainer
from rc_training.datasets import DATASETS
from rc_training.evaluate import Evaluation, evaluate
from rc_training.models import create
from rc_training.options import RunOptions
from rc_training.progress import Meter, Pace, Progress, Reporter
from rc_training.schedule import learning_rate
from rc_training.splits import InMemory
from rc_training.step import StepResult

if TYPE_CHECKING:
    from pathlib import Path

    from rc_deploy.checkpoint import Checkpoint

SHORT = replace(recipes.load("digits"), epochs=6, warmup_epochs=1, batch_size=64)
TINY = replace(SHORT, architecture="resnet8", activation="relu", epochs=1, warmup_epochs=0, batch_size=512)
IMAGES = 1437


class Listener(Reporter):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.reports: list[Progress] = []

    def progress(self, progress: Progress) -> None:
        self.reports.append(progress)


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener()


@pytest.fixture
def reports(listener: Listener) -> list[Progress]:
    return listener.reports


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits") / "checkpoint.pt"


@pytest.fixture(scope="module")
def trained(path: Path, listener: Listener) -> Checkpoint:
    return train(SHORT, path, listener)


def train(recipe: recipes.Recipe, path: Path, reporter: Reporter | None = None) -> Checkpoint:
    """Train on the CPU into a folder beside `path`, the checkpoint."""
    return training.train(recipe, RunOptions(path.parent / "run", output=path, device="cpu"), reporter)


def test_digits_are_learned(trained: Checkpoint) -> None:
    assert trained.metrics["test_accuracy_last"] >= 90
    history = trained.metrics["history"]
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]


def test_metrics(trained: Checkpoint) -> None:
    metrics, history = trained.metrics, trained.metrics["history"]
    accuracies = [epoch["test_accuracy"] for epoch in history]
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 4, 5, 6]
    assert metrics["test_accuracy_last"] == accuracies[-1]
    assert metrics["test_accuracy_best"] == max(accuracies)
    assert metrics["epochs"] == 6
    assert metrics["parameters"] == 82_038  # rescnet8's 82,326 less 16 * 9 * 2 of the stem: one channel, not three
    assert metrics["seconds"] >= sum(epoch["seconds"] for epoch in history) > 0
    assert min(metrics["images_per_second"], *(epoch["images_per_second"] for epoch in history)) > 0
    assert metrics["best_epoch"] == 1 + accuracies.index(max(accuracies))
    assert (metrics["device"], metrics["torch"]) == ("cpu", torch.__version__)
    steps = 23  # an epoch's 1,437 images in batches of 64
    assert history[0]["learning_rate"] == learning_rate(SHORT, steps - 1, steps)
    assert history[5]["learning_rate"] == learning_rate(SHORT, 6 * steps - 1, steps)
    assert trained.recipe == SHORT.to_json()


def test_progress_is_reported(trained: Checkpoint, reports: list[Progress]) -> None:
    assert [report.images for report in reports] == sorted(report.images for report in reports)
    assert reports[-1].images == reports[-1].images_total == 6 * IMAGES
    results = [report.result for report in reports if report.result]
    assert [result.epoch for result in results] == [1, 2, 3, 4, 5, 6]
    assert len(reports) > len(results)
    assert all(report.seconds_left > 0 for report in reports[:-1])
    assert reports[-1].seconds_left == 0


def test_the_file_holds_the_last_epochs_network(trained: Checkpoint, path: Path) -> None:
    loaded = checkpoint.load(path)
    assert (loaded.architecture, loaded.arguments) == (trained.architecture, trained.arguments)
    assert (loaded.input, loaded.recipe, loaded.metrics) == (trained.input, trained.recipe, trained.metrics)
    test = data.load("digits:test", spec=loaded.input)
    inputs = torch.from_numpy(data.normalise(test.images, loaded.input))
    outputs = []
    for weights in (trained.weights, loaded.weights):
        network = create(loaded.architecture, **loaded.arguments)
        network.load_state_dict(weights)
        outputs.append(network.eval()(inputs))
    assert torch.equal(*outputs)
    # Judged by the toolkit's own data path, the file has the accuracy that the trainer wrote down.
    assert test.labels is not None
    correct = (outputs[1].argmax(1) == torch.from_numpy(test.labels)).sum().item()
    assert 100 * correct / len(test) == pytest.approx(trained.metrics["test_accuracy_last"], abs=0.3)


def weights_of(recipe: recipes.Recipe, folder: Path) -> dict[str, torch.Tensor]:
    return training.train(recipe, RunOptions(folder, device="cpu")).weights


def test_a_seed_decides_the_weights(tmp_path: Path) -> None:
    recipe = replace(TINY, augment=("crop", "flip", "affine"))
    folders = {tmp_path / "first": 3, tmp_path / "again": 3, tmp_path / "other": 4}
    first, again, other = (weights_of(replace(recipe, seed=seed), folder) for folder, seed in folders.items())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])
    assert checkpoint.load(tmp_path / "other" / "checkpoint.pt").recipe["seed"] == 4


def test_steps_are_the_textbooks(tmp_path: Path) -> None:
    """SGD with momentum and weight decay on every parameter, written out for two epochs of one step each."""
    recipe = replace(TINY, batch_size=IMAGES, epochs=2, warmup_epochs=1, augment=(), weight_decay=0.01)
    weights = weights_of(recipe, tmp_path / "run")
    dataset = DATASETS["digits"]
    train_set = data.load("digits:train")
    inputs = torch.from_numpy(data.normalise(train_set.images, dataset.input))
    assert train_set.labels is not None
    labels = torch.from_numpy(train_set.labels)
    torch.manual_seed(recipe.seed)
    network = create(recipe.architecture, activation=recipe.activation, in_channels=1)
    velocity = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for rate in (0.01 * recipe.learning_rate, recipe.learning_rate):
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, p in network.named_parameters():
                assert p.grad is not None
                velocity[name] = recipe.momentum * velocity[name] + p.grad + recipe.weight_decay * p.detach()
                p.sub_(rate * velocity[name])
    for name, p in network.named_parameters():
        # The trainer sums the 1,437 images in another order and layout: 2.4e-6 was seen. Leaving weight decay
        # off the BatchNorms alone changes 1e-3, Nesterov's momentum more.
        torch.testing.assert_close(weights[name], p.detach(), rtol=0, atol=2e-5)


def test_divergence_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(checkpoint.Checkpoint("resnet8", {}, DATASETS["digits"].input, {}), path)
    earlier = path.read_bytes()
    recipe = replace(TINY, learning_rate=1e8, epochs=3, batch_size=64)
    with pytest.raises(InputError, match=r"Training diverged: the loss is (nan|inf) in epoch [12]\.") as caught:
        train(recipe, path)
    assert "learning_rate" in caught.value.hint
    assert path.read_bytes() == earlier


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_last_step_that_diverges_is_noticed(bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss was computed before it; only the evaluation sees what it left. Nothing of such a network is kept."""
    losses = iter([1.0, bad])
    monkeypatch.setattr(trainer, "evaluate", lambda *_: Evaluation(10.0, next(losses)))
    with pytest.raises(InputError, match=r"Training diverged: the loss is (nan|inf) in epoch 2\."):
        train(replace(TINY, epochs=2), tmp_path / "checkpoint.pt")
    assert not (tmp_path / "checkpoint.pt").exists()
    assert len(states.load(tmp_path / "run" / "state.pt").past.history) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 2])
def test_meter_notices_any_batch_that_is_not_finite(bad: float, place: int) -> None:
    meter = Meter(1, 1, 6, Pace(0, 6), torch.device("cpu"))
    for index in range(3):
        loss = torch.tensor(bad if index == place else 1.0)
        meter.add(StepResult(loss, torch.tensor(1)), 2)
    with pytest.raises(InputError, match="diverged"):
        meter.progress()


def test_meter_weighs_batches_by_their_size() -> None:
    meter = Meter(2, 3, 10, Pace(0, 30), torch.device("cpu"))
    meter.add(StepResult(torch.tensor(1.0), torch.tensor(2)), 3)
    meter.add(StepResult(torch.tensor(5.0), torch.tensor(1)), 1)
    progress = meter.progress()
    assert (progress.loss, progress.train_accuracy) == (2.0, 75.0)
    assert (progress.epoch, progress.images, progress.images_total) == (2, 14, 30)


def no_loading(*_: object) -> None:
    raise AssertionError("the data was loaded before the output was checked")


def test_unwritable_output_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load", no_loading)
    for path in (tmp_path / "missing" / "checkpoint.pt", tmp_path):
        with pytest.raises(OutputError):
            training.train(TINY, RunOptions(tmp_path / "run", output=path))
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match="is not a folder"):
            training.train(TINY, RunOptions(folder))
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no cifar10 in"):
        training.train(replace(TINY, dataset="cifar10"), RunOptions(tmp_path / "run", data=tmp_path, device="cpu"))
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_fit_the_network(tmp_path: Path) -> None:
    for options in ({"nonsense": 1}, {"reduction": 0}):
        with pytest.raises(InputError, match="The recipe's options do not fit rescnet8: ") as caught:
            training.train(replace(SHORT, options=options), RunOptions(tmp_path / "run", device="cpu"))
        assert "--set" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_options_reach_the_network_and_the_checkpoint(tmp_path: Path) -> None:
    recipe = replace(TINY, architecture="rescnet8", options={"reduction": 2})
    trained = train(recipe, tmp_path / "checkpoint.pt")
    assert trained.arguments == {"num_classes": 10, "activation": "relu", "in_channels": 1, "reduction": 2}
    assert checkpoint.load(tmp_path / "checkpoint.pt").module().state_dict().keys() == trained.weights.keys()


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training.resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.resolve_device("auto") == torch.device("cpu")
    with pytest.raises(UnsupportedError, match="no CUDA device"):
        training.resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training.resolve_device("auto") == torch.device("cuda")


def test_last_and_best_accuracy_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([10.0, 90.0, 50.0])
    monkeypatch.setattr(trainer, "evaluate", lambda *_: Evaluation(next(accuracies), 1.0))
    metrics = train(replace(TINY, epochs=3), tmp_path / "checkpoint.pt").metrics
    assert (metrics["test_accuracy_last"], metrics["test_accuracy_best"], metrics["best_epoch"]) == (50.0, 90.0, 2)


class FirstPixels(torch.nn.Module):
    """Takes an image's first ten pixels for its logits: exact, whatever the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return x.flatten(1)[:, :10]


@pytest.mark.parametrize("size", [1000, 360, 7, 1])
def test_evaluation_covers_every_image_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", size)
    dataset = DATASETS["digits"]
    images, labels = dataset.load("test", None, torch.device("cpu"))
    logits = data.normalise(images.numpy(), dataset.input).reshape(360, 64)[:, :10].astype(np.float64)
    expected = 100 * int((logits.argmax(1) == labels.numpy()).sum()) / 360
    assert 0 < expected < 100
    found = evaluate(FirstPixels(), InMemory(images, labels), dataset.input)
    assert found.accuracy == expected
    log_sums = np.log(np.exp(logits).sum(1))
    assert found.loss == pytest.approx((log_sums - logits[np.arange(360), labels.numpy()]).mean(), rel=1e-5)
