"""`rc-deploy results`: finished runs beside the paper, the others apart, damaged ones named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from rc_deploy.errors import InputError, OutputError
from rc_training import cli, cli_results, results, results_view, runs
from rc_training import recipe as recipes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer.testing import Result

NAME = "table1/rescnet32-cifar10"
METRICS = {
    "test_accuracy_last": 92.5,
    "test_accuracy_best": 93.0,
    "best_epoch": 1,
    "epochs": 200,
    "seconds": 100.0,
    "images_per_second": 50_000.0,
    "device": "cpu",
    "torch": "2.13",
}


def write(folder: Path, name: str, overrides: Sequence[str] = (), best: float = 93.0, **changes: Any) -> Path:
    """Write a run as `rc-deploy train` does; it reached `best`, and half a point less in the end."""
    recipe = recipes.load(name, overrides)
    document = {
        "schema": "rc-deploy/run",
        "schema_version": 1,
        "recipe": recipe.to_json(),
        "recipe_name": recipe.name,
        "seed": recipe.seed,
        "status": "finished",
        "machine": {"cpu": "made up"},
        "command": ["rc-deploy", "train", name, "--restart"],
        "started": "2026-11-24T04:00:00+00:00",
        "processes": 1,
        "parameters": 488_326,
        "metrics": METRICS | {"test_accuracy_last": best - 0.5, "test_accuracy_best": best, "epochs": recipe.epochs},
        **changes,
    }
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(document))
    return folder


def logged(epoch: int, test_accuracy: float) -> str:
    line = {"epoch": epoch, "loss": 1.0, "train_accuracy": 40.0, "test_loss": 1.1, "test_accuracy": test_accuracy}
    return json.dumps(line) + "\n"


def collect(*folders: Path) -> results.Results:
    return results.collect(runs.find(folders))


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(cli_results.results)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_mean_and_spread_over_seeds_beside_the_paper(tmp_path: Path) -> None:
    for seed, best in enumerate((93.4, 93.7, 94.0)):
        write(tmp_path / f"seed{seed}", NAME, [f"seed={seed}"], best)
    (row,) = collect(tmp_path).finished
    assert (row.recipe, row.known, row.changes, row.seeds) == (NAME, True, {}, (0, 1, 2))
    # Three values a step apart: their mean is the middle one, their sample standard deviation the step.
    assert (row.best.mean, row.best.deviation) == pytest.approx((93.7, 0.3))
    assert (row.last.mean, row.last.deviation) == pytest.approx((93.2, 0.3))
    assert (row.paper, row.difference) == pytest.approx((93.79, -0.09))
    assert (row.epochs, row.recipe_epochs, row.seconds, row.devices) == (200, 200, 100.0, ("cpu",))
    text = results_view.text(collect(tmp_path))
    line = next(line for line in text.splitlines() if line.startswith(NAME))
    assert line.split("  ")[1:] == [
        "0, 1, 2 (3)",
        "93.20 ± 0.30",
        "93.70 ± 0.30",
        "93.79",
        "-0.09",
        *line.split("  ")[6:],
    ]
    assert line.split()[-3:] == ["200/200", "0:01:40", "cpu"]


def test_what_training_leaves_is_what_is_read(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(cli.train)
    options = ["--set", "epochs=1", "--set", "architecture=resnet8", "--device", "cpu", "--run", str(tmp_path / "runs")]
    trained = CliRunner().invoke(app, ["digits", *options, "--seeds", "1,4", "--json", "-"], catch_exceptions=False)
    reached = json.loads(trained.stdout)["spread"]
    (row,) = collect(tmp_path).finished
    assert (row.recipe, row.seeds, list(row.changes)) == ("digits", (1, 4), ["architecture", "epochs", "warmup_epochs"])
    for mine, theirs in ((row.last, reached["test_accuracy_last"]), (row.best, reached["test_accuracy_best"])):
        assert (mine.mean, mine.deviation) == pytest.approx((theirs["mean"], theirs["standard_deviation"]))


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    write(tmp_path / "run", NAME)
    (row,) = collect(tmp_path).finished
    assert row.best == results.Spread(93.0, None)
    assert "±" not in results_view.text(collect(tmp_path)).splitlines()[2]


def test_changed_recipes_are_not_compared_with_the_paper(tmp_path: Path) -> None:
    write(tmp_path / "a", NAME)
    write(tmp_path / "b", NAME, ["epochs=2"], best=60.0)
    write(tmp_path / "c", NAME, ["options.reduction=8", "augment=flip"])
    as_it_is, short, other = collect(tmp_path).finished
    assert as_it_is.paper == 93.79
    assert (short.paper, short.difference, short.epochs, short.recipe_epochs) == (None, None, 2, 200)
    assert short.changes == {"epochs": results.Change(200, 2), "warmup_epochs": results.Change(5, 1)}
    assert other.changes["options"] == results.Change({}, {"reduction": 8})
    first, second, _ = results_view.text(collect(tmp_path)).split("\n\n")
    assert "93.79" in first
    assert "epochs=2, warmup_epochs=1" in second
    assert "reduction=8" in second
    assert "augment=flip" in second
    assert "93.79" not in second


def test_the_seed_is_no_change(tmp_path: Path) -> None:
    write(tmp_path / "a", "digits", ["seed=7"])
    write(tmp_path / "b", "digits", ["seed=3", "epochs=40"])
    (row,) = collect(tmp_path).finished
    assert (row.recipe, row.seeds, row.changes, row.paper) == ("digits", (3, 7), {}, None)


def test_recipes_that_did_not_come_along(tmp_path: Path) -> None:
    write(tmp_path / "own", "digits", recipe_name="mine")
    write(tmp_path / "old", NAME, recipe_name="cifar10-rescnet32")
    first, second = collect(tmp_path).finished
    assert (first.recipe, first.paper) == (NAME, 93.79)  # under the name that it has now
    assert (second.recipe, second.known, second.paper, second.recipe_epochs) == ("mine", False, None, None)


def test_several_processes_are_told(tmp_path: Path) -> None:
    write(tmp_path / "run", NAME, processes=2)
    (row,) = collect(tmp_path).finished
    assert row.devices == ("2 x cpu",)


def test_unfinished_runs_are_apart(tmp_path: Path) -> None:
    for number, log in enumerate(
        [
            logged(1, 50.0) + logged(2, 60.0),
            logged(1, 50.0) + logged(2, 60.0)[:40],  # a copy that was cut off
            "",
        ]
    ):
        folder = write(tmp_path / f"seed{number}", NAME, [f"seed={number}"], status="running", metrics=None)
        (folder / "log.jsonl").write_text(log)
    write(tmp_path / "seed3", NAME, ["seed=3", "epochs=9"], status="running", metrics=None)
    found = collect(tmp_path)
    assert found.finished == ()
    assert [(row.seed, row.epoch, row.epochs) for row in found.unfinished] == [
        (0, 2, 200),
        (1, 1, 200),
        (2, 0, 200),
        (3, 0, 9),
    ]
    assert [list(row.changes) for row in found.unfinished] == [[], [], [], ["epochs"]]
    assert [row.test_accuracy for row in found.unfinished] == [60.0, 50.0, None, None]
    text = results_view.text(found)
    assert "2/200" in text
    assert "epochs=9" in text
    assert "No finished run was found" in text
    assert text.count(f"rc-deploy train {NAME} --resume") == 4


# How a good run is damaged, and what is said about it.
DAMAGED = {
    "half a file": (None, "is not valid JSON"),
    "another document": ({"schema": "rc-deploy/bench"}, "it is not rc-deploy/run, version 1"),
    "a later version": ({"schema_version": 2}, "it is not rc-deploy/run, version 1"),
    "no seed": ({"seed": "0"}, "'seed' is text where a whole number belongs"),
    "unknown status": ({"status": "lost"}, "'status' is 'lost', not one of running, finished"),
    "no metrics": ({"metrics": None}, "it is finished, but has no metrics"),
    "no accuracy": ({"metrics": {"test_accuracy_last": 1.0}}, "'metrics.test_accuracy_best' is missing"),
    "no such accuracy": (
        {"metrics": METRICS | {"test_accuracy_last": None}},
        "an accuracy is not between 0 and 100",
    ),
    "endless": ({"metrics": METRICS | {"seconds": 1e300}}, "'metrics.seconds' is 1e+300"),
    "no epochs": ({"recipe": {"epochs": "many"}}, "'recipe.epochs' is not a whole number"),
    "nested": ({"recipe": {"a": json.loads("[" * 40 + "]" * 40)}}, "nested too deep"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_runs_are_named_and_skipped(case: str, tmp_path: Path) -> None:
    changes, message = DAMAGED[case]
    write(tmp_path / "good", NAME)
    folder = write(tmp_path / "bad", NAME, **(changes or {}))
    if changes is None:
        (folder / "run.json").write_bytes((folder / "run.json").read_bytes()[:300])
    result = invoke(tmp_path)
    assert result.exit_code == 0
    assert f"{folder / 'run.json'}" in result.stderr
    assert message in result.stderr
    assert result.stderr.count("warning: skipped") == 1
    assert NAME in result.stdout
    (skipped,) = collect(tmp_path).skipped
    assert message in skipped


@pytest.mark.parametrize("log", [b"\xff\n" * 9, b'{"epoch": 1', b'{"epoch": 1, "test_accuracy": "high"}\n', b"[]\n"])
def test_a_damaged_log_is_named(log: bytes, tmp_path: Path) -> None:
    folder = write(tmp_path / "run", NAME, status="running", metrics=None)
    (folder / "log.jsonl").write_bytes(log)
    assert "no record of an epoch" in collect(tmp_path).skipped[0]


def test_each_run_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "table1" / "seed0", NAME)
    (row,) = collect(tmp_path, tmp_path / "table1", tmp_path / "table1" / "seed0").finished
    assert row.seeds == (0,)


def test_json_and_markdown(tmp_path: Path) -> None:
    write(tmp_path / "a", NAME)
    write(tmp_path / "b", NAME, ["epochs=2"])
    write(tmp_path / "c", "digits", recipe_name="mine|yours\x1b[2J")
    document = json.loads(invoke(tmp_path, "--json", "-").stdout)
    assert (document["schema"], document["schema_version"]) == ("rc-deploy/results", 1)
    assert [row["paper"] for row in document["finished"]] == [93.79, None, None]
    assert document["finished"][1]["changes"]["epochs"] == {"recipe": 200, "run": 2}
    assert (document["unfinished"], document["skipped"]) == ([], [])
    output = tmp_path / "results.json"
    markdown = invoke(tmp_path, "--markdown", "--json", output).stdout
    assert json.loads(output.read_text()) == document
    tables = [line.split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    assert [len(cells) for cells in tables] == [9, 9, 9, 9, 8, 8, 8]
    assert "mine\\|yours" in markdown
    assert "\x1b" not in markdown


def test_errors(tmp_path: Path) -> None:
    assert isinstance(invoke(tmp_path / "none").exception, InputError)
    write(tmp_path / "run", NAME)
    assert isinstance(invoke(tmp_path, "--json", tmp_path / "run" / "run.json").exception, OutputError)
    (tmp_path / "empty").mkdir()
    assert "no training run in" in str(invoke(tmp_path / "empty").exception)


def test_runs_is_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "There is no folder runs" in str(invoke().exception)
    write(Path("runs") / NAME / "seed0", NAME)
    assert NAME in invoke().stdout
