"""`rc-deploy plot curves`: what is read from runs, what is made of it, and that this is what is drawn."""

from __future__ import annotations

import inspect
import json
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image
from typer.testing import CliRunner, Result

from rc_deploy.artefacts import Kind, recognise
from rc_deploy.errors import InputError, MissingDependencyError, OutputError
from rc_deploy.files import sha256
from rc_training import runs
from rc_training.plots.cli import app
from rc_training.plots.curve_figure import draw
from rc_training.plots.curves import QUANTITIES, grouped, over_runs
from rc_training.plots.picture import COLOURS, DOTS_PER_INCH, WIDTH, require_format, settings, shorten

RunHere = Callable[..., tuple[object, str]]


def line(number: int, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A line of a log; every quantity is another at every epoch and seed."""
    return {
        "epoch": number,
        "loss": 2.0 / number + 0.1 * seed,
        "train_accuracy": 50.0 + number + seed,
        "test_accuracy": 40.0 + 2 * number - 3 * seed,
        "test_loss": 3.0 / number + 0.2 * seed,
        "learning_rate": 0.1,
        "seconds": 1.0,
        "images_per_second": 100.0,
    } | changes


def write_run(
    folder: Path,
    epochs: int = 3,
    seed: int = 0,
    name: str = "digits",
    log: bytes | None = None,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    folder.mkdir(parents=True)
    document = {
        "schema": "rc-deploy/run",
        "schema_version": 1,
        "recipe": {"name": name, "epochs": 3, "seed": seed, "activation": "relu"} | (settings or {}),
        "recipe_name": name,
        "seed": seed,
        "status": "finished" if epochs == 3 else "running",
        "machine": {},
        "command": ["rc-deploy", "train"],
        "started": "2026-11-24T04:00:00+00:00",
        "processes": 1,
        "parameters": 77_850,
        "metrics": {
            "test_accuracy_last": 46.0,
            "test_accuracy_best": 46.0,
            "best_epoch": 3,
            "epochs": 3,
            "seconds": 3.0,
            "images_per_second": 100.0,
            "device": "cpu",
            "torch": "2.13.0",
        }
        if epochs == 3
        else None,
    } | changes
    (folder / "run.json").write_text(json.dumps(document))
    lines = "".join(json.dumps(line(epoch, seed)) + "\n" for epoch in range(1, epochs + 1))
    (folder / "log.jsonl").write_bytes(lines.encode() if log is None else log)
    return folder


def plot(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["curves", *map(str, arguments)])


@pytest.fixture(autouse=True)
def drawing() -> Iterator[None]:
    with settings():
        yield


def test_mean_range_and_deviation_of_runs_of_unequal_length(tmp_path: Path) -> None:
    lengths = (3, 2, 3, 0)
    folders = [write_run(tmp_path / f"{seed}", length, seed) for seed, length in enumerate(lengths)]
    (group,) = grouped([runs.read(folder) for folder in folders])
    assert (group.epochs, group.counts) == ((1, 2, 3), (3, 3, 2))
    for quantity in QUANTITIES:
        curve = group.curves[quantity]
        for place, epoch in enumerate(group.epochs):
            there = [line(epoch, seed)[quantity] for seed, length in enumerate(lengths) if length >= epoch]
            assert curve.mean[place] == pytest.approx(statistics.mean(there), rel=1e-12)
            assert (curve.low[place], curve.high[place]) == (min(there), max(there))
            assert curve.std[place] == pytest.approx(statistics.stdev(there), rel=1e-9)


def test_what_no_run_has_is_no_number() -> None:
    curve = over_runs(np.array([[1.0, np.nan, 3.0], [5.0, np.nan, np.nan]]))
    np.testing.assert_array_equal(curve.mean, [3, np.nan, 3])
    np.testing.assert_array_equal(curve.low, [1, np.nan, 3])
    np.testing.assert_array_equal(curve.high, [5, np.nan, 3])
    np.testing.assert_array_equal(curve.std, [math.sqrt(8), np.nan, np.nan])


@pytest.mark.parametrize("value", ["null", "NaN", "Infinity", "1e300"])
def test_a_loss_that_is_none_is_a_gap(tmp_path: Path, value: str) -> None:
    text = "".join(json.dumps(line(epoch)) + "\n" for epoch in (1, 2, 3)).replace('"loss": 1.0', f'"loss": {value}')
    (group,) = grouped([runs.read(write_run(tmp_path / "run", log=text.encode()))])
    np.testing.assert_array_equal(group.curves["loss"].mean, [2.0, np.nan, 2.0 / 3])
    assert group.curves["test_loss"].mean[1] == 1.5


def test_runs_belong_together_by_recipe_whatever_their_seeds(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", seed=10),
        write_run(tmp_path / "b", seed=0, settings={"activation": "gclu", "mixup": 0.5}),
        write_run(tmp_path / "c", seed=2),
        write_run(tmp_path / "d", seed=0, name="table1/other\u202e"),
    ]
    groups = grouped([runs.read(folder) for folder in folders])
    assert [[run.record.seed for run in group.runs] for group in groups] == [[2, 10], [0], [0]]
    assert [group.name for group in groups] == [
        "digits, activation=relu, mixup=null",
        "digits, activation=gclu, mixup=0.5",
        "table1/other\N{REPLACEMENT CHARACTER}",
    ]


@pytest.mark.parametrize(
    "broken",
    [
        b'{"epoch": 4, "loss": 0.',
        b"\0\0\0\0",
        b"\xff\xfe\n",
        b"[1, 2]\n",
        b'{"epoch": 4}\n',
        json.dumps(line(1, epoch=0)).encode(),
        json.dumps(line(1, epoch=10_001)).encode(),
        json.dumps(line(4, loss="low")).encode(),
        b"[" * 100_000,
    ],
)
def test_a_broken_line_is_skipped_with_a_word(tmp_path: Path, broken: bytes) -> None:
    good = [json.dumps(line(epoch)).encode() for epoch in (1, 2, 3)]
    run = runs.read(write_run(tmp_path / "run", log=b"\n".join([*good, broken])))
    assert [epoch.epoch for epoch in run.epochs] == [1, 2, 3]
    (note,) = run.notes
    assert str(tmp_path / "run" / "log.jsonl") in note
    assert "line 4 is no record of an epoch" in note


def test_broken_lines_amid_others_are_counted(tmp_path: Path) -> None:
    good = [json.dumps(line(epoch)) for epoch in (1, 2)]
    log = "\n".join([good[0], "x", "", good[1], *["y"] * 9])
    run = runs.read(write_run(tmp_path / "run", log=log.encode()))
    assert [epoch.epoch for epoch in run.epochs] == [1, 2]
    assert "lines 2, 5, 6, 7, 8, … are no record" in run.notes[0]


def test_of_an_epoch_that_was_repeated_the_last_record_counts(tmp_path: Path) -> None:
    records = [line(1), line(2, loss=7.0), line(2, loss=5.0), line(3)]
    run = runs.read(write_run(tmp_path / "run", log="\n".join(map(json.dumps, records)).encode()))
    assert [epoch.loss for epoch in run.epochs] == [2.0, 5.0, 2.0 / 3]
    assert "epoch 2 is there more than once" in run.notes[0]


def test_runs_are_found_below_a_folder_and_counted_once(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "runs" / "digits" / f"seed{seed}", seed=seed) for seed in (0, 1)]
    (tmp_path / "link").symlink_to(folders[1])
    assert runs.find([folders[1], tmp_path / "link", tmp_path / "runs", folders[0]]) == [folders[1], folders[0]]


def test_places_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, words in (("file", "is not a folder"), ("none", "There is no folder"), (".", "no training run in")):
        with pytest.raises(InputError, match=words):
            runs.find([tmp_path / place])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": "rc-deploy/training"}, "it is not rc-deploy/run, version 1"),
        ({"schema_version": 2}, "it is not rc-deploy/run, version 1"),
        ({"status": 1}, "'status' is a whole number where text belongs"),
        ({"recipe": []}, "'recipe' is a list"),
    ],
)
def test_a_run_that_is_none(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        runs.read(write_run(tmp_path / "run", **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize("error", [False, True])
def test_what_is_drawn_is_what_was_computed(tmp_path: Path, error: bool) -> None:
    folders = [write_run(tmp_path / f"{seed}", seed=seed) for seed in (0, 1)]
    groups = grouped([runs.read(folder) for folder in [*folders, write_run(tmp_path / "other", name="other")]])
    figure: Any = draw(groups, error=error)
    drawn = [
        (panel, to_hex(item.get_color()), item.get_linestyle(), item.get_xdata().tolist(), item.get_ydata().tolist())
        for panel, axes in enumerate(figure.axes)
        for item in axes.lines
    ]
    expected = []
    for panel, pair in enumerate((("loss", "test_loss"), ("train_accuracy", "test_accuracy"))):
        for group, colour in zip(groups, COLOURS, strict=False):
            for quantity, dash in zip(pair, ("--", "-"), strict=True):
                values = group.curves[quantity].mean
                shown = 100 - values if error and panel else values
                expected.append((panel, colour, dash, [1, 2, 3], shown.tolist()))
    assert drawn == expected
    for axes, pair in zip(figure.axes, (("loss", "test_loss"), ("train_accuracy", "test_accuracy")), strict=True):
        assert len(axes.collections) == 2  # bands of the recipe with two seeds, none of that with one
        for band, quantity in zip(axes.collections, pair, strict=True):
            heights = band.get_paths()[0].vertices[:, 1]
            curve = groups[0].curves[quantity]
            low, high = curve.low.min(), curve.high.max()
            ends = (100 - high, 100 - low) if error and "accuracy" in quantity else (low, high)
            assert (heights.min(), heights.max()) == pytest.approx(ends)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["digits (mean and range of 2 seeds)", "other"]
    assert figure.axes[1].get_title(loc="left") == ("top-1 error, %" if error else "accuracy, %")
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".PDF"])
def test_writes_a_picture_of_each_kind_the_same_each_time(tmp_path: Path, suffix: str) -> None:
    write_run(tmp_path / "runs" / "seed0", name="dollars $x_{ in <a> name " + "and so on " * 30)
    write_run(tmp_path / "runs" / "seed1", epochs=1, seed=1)
    pictures = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for picture in pictures:
        result = plot(tmp_path / "runs", "-o", picture)
        assert result.exit_code == 0, result.output
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert recognise(pictures[0]) is Kind.PICTURE
    if suffix == ".png":
        with Image.open(pictures[0]) as image:
            image.load()
            assert image.format == "PNG"
            assert image.width == pytest.approx(WIDTH * DOTS_PER_INCH, abs=1)
    elif suffix == ".svg":
        assert ET.parse(pictures[0]).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 (our own)
    else:
        data = pictures[0].read_bytes()
        assert data.startswith(b"%PDF-")
        assert data.rstrip().endswith(b"%%EOF")


def test_says_what_the_picture_shows(tmp_path: Path) -> None:
    for seed, epochs in enumerate((3, 3, 2, 0)):
        write_run(tmp_path / "runs" / f"seed{seed}", epochs, seed)
    picture, numbers = tmp_path / "c.png", tmp_path / "c.json"
    result = plot(tmp_path / "runs", "-o", picture, "--json", numbers)
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first == f"{picture}: training curves of 3 runs"
    assert second == (
        "digits, seeds 0, 1: test accuracy 44.50% (43.00 to 46.00) after the last epoch, 44.50% (43.00 to 46.00) after "
        "the best; seed 2 is at epoch 2 of 3, test accuracy 38.00%"
    )
    assert "seed3 has finished no epoch yet; it is not in the picture." in result.stderr
    document = json.loads(numbers.read_text())
    assert (document["schema"], document["output"], document["sha256"]) == (
        "rc-deploy/curves",
        str(picture),
        sha256(picture),
    )
    (recipe,) = document["recipes"]
    assert recipe["epochs"] == [1, 2, 3]
    assert recipe["runs_with_epoch"] == [3, 3, 2]
    assert recipe["curves"]["test_accuracy"]["mean"] == [39.0, 41.0, 44.5]
    assert recipe["curves"]["test_accuracy"]["low"] == [36.0, 38.0, 43.0]
    assert [run["test_accuracy_best"] for run in recipe["runs"]] == [46.0, 43.0, 38.0]
    assert json.loads(plot(tmp_path / "runs", "-o", picture, "--json", "-").stdout)["recipes"] == [recipe]


def test_one_unfinished_run_and_the_best_of_a_finished_one(tmp_path: Path) -> None:
    log = "\n".join(json.dumps(line(epoch, test_accuracy=accuracy)) for epoch, accuracy in enumerate((9, 8.5, 7), 1))
    write_run(tmp_path / "done", name="done", log=log.encode())
    write_run(tmp_path / "going", 1, name="going")
    result = plot(tmp_path / "done", tmp_path / "going", "-o", tmp_path / "c.png")
    assert result.stdout.splitlines()[1:] == [
        "done, seed 0: test accuracy 7.00% after the last epoch, 9.00% after the best",
        "going, seed 0 is at epoch 1 of 3, test accuracy 42.00%",
    ]


def test_refuses_what_cannot_be_drawn(tmp_path: Path) -> None:
    waiting = write_run(tmp_path / "waiting", epochs=0)
    (tmp_path / "waiting" / "log.jsonl").unlink()
    many = [write_run(tmp_path / "many" / str(i), name=f"r{i}") for i in range(len(COLOURS) + 1)]
    for places, words in (([waiting], "None of these runs has finished an epoch"), (many, "runs of 8 recipes")):
        result = plot(*places, "-o", tmp_path / "c.png")
        assert isinstance(result.exception, InputError)
        assert words in str(result.exception)
    assert not (tmp_path / "c.png").exists()


def test_never_replaces_an_input_or_another_artefact(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    log = folder / "log.jsonl"
    before = log.read_bytes()
    (tmp_path / "c.png").symlink_to(log)
    (tmp_path / "d.svg").write_text('{"schema": "rc-deploy/training"}')
    for name in ("c.png", "d.svg", "c.jpg", "c", "nowhere/c.png"):
        result = plot(folder, "-o", tmp_path / name)
        assert isinstance(result.exception, OutputError), name
    result = plot(folder, "-o", tmp_path / "e.png", "--json", log)
    assert isinstance(result.exception, OutputError)
    assert log.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.png", "d.svg", "run"]


def test_an_older_picture_is_replaced(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    picture = tmp_path / "c.png"
    assert plot(folder, "-o", picture).exit_code == 0
    first = picture.read_bytes()
    assert plot(folder, "--error", "-o", picture).exit_code == 0
    assert picture.read_bytes() != first


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path / "run")
    monkeypatch.setattr("rc_deploy.optional.is_installed", lambda _: False)
    result = plot(folder, "-o", tmp_path / "c.png")
    assert isinstance(result.exception, MissingDependencyError)
    assert result.exception.hint == "pip install 'rc-deploy[report]'"


def test_an_interrupt_is_one(here: RunHere, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rc_training.plots.curves_command.draw_curves", interrupted)
    code, stderr = here("plot", "curves", "runs")
    assert (code, stderr) == (130, "Interrupted. Each output file is as it was, or complete.\n")


def test_every_parameter_is_explained() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        for parameter in inspect.signature(command.callback).parameters.values():
            assert parameter.annotation.__metadata__[0].help, parameter


def test_names() -> None:
    assert require_format(Path("a/b.SVG")) == Path("a/b.SVG")
    with pytest.raises(OutputError, match=r"\.png, \.svg or \.pdf"):
        require_format(Path("a/b.jpeg"))
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijk", 10) == "abcd…ghijk"
