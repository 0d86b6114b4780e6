"""`rc-deploy plot responses`: where the hooks sit, what is drawn, and which networks are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from conftest import randomised
from rc_deploy import checkpoint, data
from rc_deploy.checkpoint import Checkpoint
from rc_deploy.errors import InputError, MissingDependencyError, OutputError, UnsupportedError
from rc_deploy.files import sha256
from rc_training.datasets import DATASETS
from rc_training.models import create
from rc_training.plots.cli import app
from rc_training.plots.picture import settings
from rc_training.plots.responses import Calibrated, Responses, record
from rc_training.plots.rows import Row, chosen, row
from rc_training.plots.statistics import of_channels, summarised
from rc_training.plots.violins import central, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHAPE = (1, 8, 8)
DIGITS = DATASETS["digits"].input


def network_called(name: str, activation: str = "relu") -> nn.Module:
    return randomised(create(name, activation=activation, in_channels=1), SHAPE)


def by_hand(network: Any, images: Tensor) -> dict[str, np.ndarray]:
    """The features around the last block, pooled by NumPy, without a hook."""
    with torch.inference_mode():
        x = network.stem(images)
        for block in [block for stage in network.stages for block in stage][:-1]:
            x = block(x)
        last = network.stages[-1][-1]
        before = last.branch(x)
        after = last.calibration(before)
        features = after + last.shortcut(x)
        found = {"before": before, "after": after, "features": features, "too late": last.activation(features)}
    return {name: value.numpy().astype(np.float64).mean(axis=(2, 3)) for name, value in found.items()}


def plot(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["responses", *map(str, arguments)])


@pytest.fixture
def images() -> Tensor:
    return torch.randn(12, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network of each family, with weights as if trained."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {}
    for name in ("resnet8", "senet8", "rescnet8"):
        paths[name] = folder / f"{name}.pt"
        arguments = {"num_classes": 10, "activation": "relu", "in_channels": 1}
        checkpoint.save(Checkpoint(name, arguments, DIGITS, network_called(name).state_dict()), paths[name])
    return paths


@pytest.mark.parametrize(
    ("name", "activation", "layer"),
    [
        ("resnet8", "relu", None),
        ("senet8", "relu", "SE layer"),
        ("rescnet8", "relu", "RC layer"),
        ("rescnet20", "gclu", "RC layer"),
        ("rescnet18_imagenet", "relu", "RC layer"),
    ],
)
def test_responses_are_taken_before_the_activation(
    name: str, activation: str, layer: str | None, images: Tensor
) -> None:
    network = network_called(name, activation)
    expected = by_hand(network, images)
    # A hook one step too late, or one too early, would show.
    assert np.abs(expected["features"] - expected["too late"]).max() > 0.01
    assert np.abs(expected["features"] - expected["after"]).max() > 0.01
    assert (layer is None) == (np.abs(expected["after"] - expected["before"]).max() < 0.001)
    found = record(network, [images], name)
    np.testing.assert_allclose(found.features, expected["features"], rtol=1e-6, atol=1e-6)
    if layer is None:
        assert found.calibrated is None
    else:
        assert found.calibrated is not None
        assert found.calibrated.layer == layer
        np.testing.assert_allclose(found.calibrated.before, expected["before"], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.calibrated.after, expected["after"], rtol=1e-6, atol=1e-6)


def test_batches_come_in_order_and_hooks_go(images: Tensor) -> None:
    network = network_called("rescnet8").train()
    found = record(network, torch.split(images, 5), "rescnet8")
    assert not network.training
    np.testing.assert_allclose(found.features, by_hand(network, images)["features"], rtol=1e-5, atol=1e-5)
    hooks = [(module._forward_hooks, module._forward_pre_hooks) for module in network.modules()]
    assert not any(after or before for after, before in hooks)


def test_hooks_go_where_the_network_fails() -> None:
    network = network_called("rescnet8")
    with pytest.raises(RuntimeError):
        record(network, [torch.zeros(1, 2, 8, 8)], "rescnet8")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_networks_that_cannot_be_read_are_named_in_words(images: Tensor) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    no_shortcut: Any = network_called("resnet8")
    del no_shortcut.stages[-1][-1].shortcut
    empty: Any = network_called("resnet8")
    empty.stages[-1] = nn.Sequential()
    shared: Any = network_called("resnet8")
    shared.stages[-1][-1].activation = shared.stem[-1]
    unused: Any = network_called("resnet8")
    unused.stages[-1][-1].calibration = nn.ReLU()
    unused.stages[-1][-1].forward = lambda x: unused.stages[-1][-1].activation(unused.stages[-1][-1].branch(x))
    for network, words in (
        (plain, "it has no `stages` of blocks"),
        (no_shortcut, "its last block has no shortcut"),
        (empty, "it has no `stages` of blocks"),
        (shared, "once for each batch"),
        (unused, "once for each batch"),
    ):
        with pytest.raises(UnsupportedError, match="The responses of mynet cannot be read") as caught:
            record(network, [images], "mynet")
        assert words in str(caught.value)


def test_channels_that_are_drawn() -> None:
    assert chosen(5, 5) == [0, 1, 2, 3, 4]
    assert chosen(2048, 64)[::21] == [0, 682, 1365, 2047]
    assert len(set(chosen(65, 64))) == 64
    assert chosen(9, 1) == [0]


@pytest.fixture
def rows(rng: np.random.Generator) -> list[Row]:
    """Two networks, the second with a layer that doubles."""
    plain, branch = rng.normal(1, 2, (300, 6)), rng.normal(-1, 1, (300, 9))
    labels = rng.integers(0, 3, 300)
    return [
        row("plain", Responses(plain, None), labels),
        row("layered", Responses(branch * 3, Calibrated("RC layer", branch, branch * 2)), labels),
    ]


@pytest.fixture
def figure(rows: list[Row]) -> Iterator[Figure]:
    with settings():
        yield draw(rows, most=4)


def bodies(axes: Any) -> list[np.ndarray]:
    """Outlines of the violins; the dashes at the means are the last collection of an axes that has them."""
    return [body.get_paths()[0].vertices for body in axes.collections if type(body).__name__ != "LineCollection"]


def test_violins_are_those_of_the_chosen_channels(figure: Figure, rows: list[Row]) -> None:
    for axes, item, channels in zip(figure.axes, rows, ([0, 2, 3, 5], [0, 3, 5, 8]), strict=False):
        outlines = bodies(axes)
        assert len(outlines) == 4
        for place, (outline, channel) in enumerate(zip(outlines, channels, strict=True)):
            values = central(item.responses.features[:, channel])
            assert (outline[:, 1].min(), outline[:, 1].max()) == pytest.approx((values.min(), values.max()))
            assert (outline[:, 0].min() + outline[:, 0].max()) / 2 == pytest.approx(place)
        dashes: Any = next(item for item in axes.collections if type(item).__name__ == "LineCollection")
        heights = [segment[0][1] for segment in dashes.get_segments()]
        np.testing.assert_allclose(heights, item.responses.features[:, channels].mean(axis=0))
        assert axes.get_title(loc="left") == item.name
        assert f"discriminability {item.responses.summary.discriminability:.3g}" in axes.get_title(loc="right")
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_halves_are_before_and_after(figure: Figure, rows: list[Row]) -> None:
    calibration = rows[1].calibration
    assert calibration is not None
    axes = figure.axes[2]
    assert axes.get_title(loc="left") == "layered: the branch before (pale) and after its RC layer"
    outlines = bodies(axes)
    for place, channel in enumerate((0, 3, 5, 8)):
        for outline, view, left in (
            (outlines[place], calibration.before, True),
            (outlines[4 + place], calibration.after, False),
        ):
            values = central(view.features[:, channel])
            assert (outline[:, 1].min(), outline[:, 1].max()) == pytest.approx((values.min(), values.max()))
            assert (outline[:, 0] <= place + 1e-9).all() == left
            assert (outline[:, 0] >= place - 1e-9).all() != left
    ratios = [view.summary.discriminability for view in (calibration.before, calibration.after)]
    assert axes.get_title(loc="right") == f"discriminability {ratios[0]:.3g} and {ratios[1]:.3g}"


def test_far_values_are_left_out_of_the_violin_only() -> None:
    values = np.arange(1001.0)
    np.testing.assert_array_equal(central(values), values[10:991])
    for few in ([1.0], [1.0, 1.0, 1.0], [1.0, 2.0]):
        np.testing.assert_array_equal(central(np.array(few)), few)


@pytest.mark.parametrize("images", [1, 2])
def test_few_images_are_drawn_too(checkpoints: dict[str, Path], tmp_path: Path, images: int) -> None:
    output = tmp_path / "r.png"
    options = ("--limit", images, "--channels", 3, "-o", output, "--json", "-")
    result = plot(checkpoints["rescnet8"], "--data", "digits:test", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == images
    assert output.is_file()


def test_a_network_that_diverged_is_refused(images: Tensor) -> None:
    network: Any = network_called("resnet8")
    with torch.no_grad():
        network.stages[0][0].branch[0].weight[0] = torch.nan
    with pytest.raises(InputError, match="The responses of resnet8 are not finite"):
        record(network, [images], "resnet8")


def test_draws_responses_and_says_the_numbers(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    picture, numbers = tmp_path / "r.png", tmp_path / "r.json"
    options = ("--limit", 300, "--channels", 8, "--device", "cpu", "-o", picture, "--json", numbers)
    result = plot(*checkpoints.values(), "--data", "digits:test", *options)
    assert result.exit_code == 0, result.output
    with Image.open(picture) as image:
        image.load()
    document = json.loads(numbers.read_text())
    assert (document["schema"], document["images"], document["sha256"]) == ("rc-deploy/responses", 300, sha256(picture))
    test = data.load("digits:test").head(300)
    for (name, path), network in zip(checkpoints.items(), document["networks"], strict=True):
        expected = by_hand(checkpoint.load(path).module(), torch.from_numpy(data.normalise(test.images, DIGITS)))
        assert (network["checkpoint"], network["architecture"]) == (str(path), name)
        assert network["drawn"] == [0, 9, 18, 27, 36, 45, 54, 63]
        views = {"features": network["responses"]}
        if name == "resnet8":
            assert network["calibration"] is None
        else:
            views |= {place: network["calibration"][place] for place in ("before", "after")}
            assert f"  branch after its {network['calibration']['layer']}: mean" in result.stdout
        for place, view in views.items():
            statistics = of_channels(expected[place], test.labels)
            for key, values in statistics.to_json().items():
                np.testing.assert_allclose(view["channels"][key], values, rtol=1e-4, atol=1e-4)
            assert view["summary"]["std"] == pytest.approx(summarised(statistics).std, rel=1e-4)
        summary = network["responses"]["summary"]
        words = f"{name}, 64 channels: mean {summary['mean']:.3g}, standard deviation {summary['std']:.3g}, "
        assert f"{words}discriminability {summary['discriminability']:.3g}; " in result.stdout


def test_without_labels_nothing_is_said_of_classes(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    result = plot(
        checkpoints["rescnet8"], "--data", "random:0", "--channels", 3, "-o", tmp_path / "r.svg", "--json", "-"
    )
    assert result.exit_code == 0, result.output
    (network,) = json.loads(result.stdout)["networks"]
    assert network["drawn"] == [0, 32, 63]
    assert network["responses"]["summary"]["discriminability"] is None
    assert network["responses"]["channels"]["discriminability"] is None
    assert "discriminability" not in result.stderr
    # Every text of an SVG stands in a comment beside its letters' outlines.
    drawn = (tmp_path / "r.svg").read_text(encoding="utf-8")
    assert "rescnet8: the branch before (pale)" in drawn
    assert "discriminability" not in drawn


def test_networks_of_one_architecture_are_told_apart_by_file(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(checkpoints["resnet8"].read_bytes())
    options = ("--data", "digits:test", "--limit", 9, "--channels", 2, "-o", tmp_path / "r.png")
    result = plot(checkpoints["resnet8"], other, checkpoints["senet8"], *options)
    assert [line.partition(" channels")[0] for line in result.stdout.splitlines() if "channels:" in line] == [
        f"resnet8, {checkpoints['resnet8']}, 64",
        f"resnet8, {other}, 64",
        "senet8, 64",
    ]


def test_refuses_before_it_runs_anything(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a network was run")

    monkeypatch.setattr("rc_training.plots.responses_command.record", never)
    resnet, copy = checkpoints["resnet8"], tmp_path / "copy.png"
    copy.write_bytes(resnet.read_bytes())
    output = tmp_path / "r.png"
    digits = ("--data", "digits:test")
    for arguments, error, words in (
        ((tmp_path / "none.pt", *digits, "-o", output), InputError, "There is no checkpoint at"),
        ((resnet, "--data", "nothing", "-o", output), InputError, "'nothing' is not a data source"),
        (
            (resnet, "--data", "cifar10:test", "--data-dir", tmp_path, "-o", output),
            InputError,
            "There is no cifar10 in",
        ),
        ((resnet, *digits, "-o", tmp_path / "r.jpg"), OutputError, "a plot is written as .png, .svg or .pdf"),
        ((resnet, *digits, "-o", copy), OutputError, "looks like a checkpoint; a picture would replace it"),
        ((copy, *digits, "-o", copy), OutputError, "would overwrite a file that this command also reads"),
        ((resnet, *digits, "-o", output, "--json", output), OutputError, "would overwrite"),
        ((resnet, *digits, "-o", output, "--json", ""), OutputError, "--json names no file"),
    ):
        result = plot(*arguments)
        assert isinstance(result.exception, error), result.output
        assert words in str(result.exception)
    if not torch.cuda.is_available():
        result = plot(resnet, *digits, "--device", "cuda", "-o", output)
        assert isinstance(result.exception, UnsupportedError)
    monkeypatch.setattr("rc_deploy.optional.is_installed", lambda package: package != "matplotlib")
    assert isinstance(plot(resnet, *digits, "-o", output).exception, MissingDependencyError)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.png"]


def test_no_violin_for_a_network_of_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rc_deploy.models.available", lambda: {"plain": lambda: nn.Sequential(nn.Flatten())})
    checkpoint.save(Checkpoint("plain", {}, DIGITS, {}), tmp_path / "plain.pt")
    result = plot(tmp_path / "plain.pt", "--data", "digits:test", "-o", tmp_path / "r.png")
    assert isinstance(result.exception, UnsupportedError)
    assert str(result.exception) == "The responses of plain cannot be read: it has no `stages` of blocks."
    assert "ResNet, SENet or ResCNet" in result.exception.hint
