"""`rc-deploy train` as a command."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from rc_deploy import checkpoint
from rc_deploy.errors import InputError, OutputError
from rc_training import cli, cli_results, models

if TYPE_CHECKING:
    from collections.abc import Callable

FAST = ["--set", "epochs=2", "--set", "warmup_epochs=0", "--set", "architecture=resnet8", "--device", "cpu"]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("train")(cli.train)
    return app


def test_trains_and_says_what_came_out(app: typer.Typer, tmp_path: Path) -> None:
    path, results = tmp_path / "mine [1].pt", tmp_path / "results.json"
    result = CliRunner().invoke(
        app,
        ["digits", *FAST, "--run", str(tmp_path / "run"), "-o", str(path), "--seed", "5", "--json", str(results)],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert "epoch 2/2  loss " in result.stderr
    for text in (str(path), "resnet8, gclu", "77,754", "last epoch", "best epoch"):
        assert text in result.stdout
    assert f"Next: rc-deploy export '{path}' {tmp_path / 'model.onnx'}" in result.stdout
    written = checkpoint.load(path)
    document = json.loads(results.read_text())
    assert document["metrics"] == written.metrics
    assert document["recipe"] == written.recipe
    assert document["recipe"]["seed"] == 5
    assert document["run"] == str(tmp_path / "run")
    assert (document["checkpoint"], document["parameters"]) == (str(path), 77_754)


def test_json_alone_on_stdout(app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    result = CliRunner().invoke(app, ["digits", *FAST, "-o", str(path), "--json", "-"], catch_exceptions=False)
    assert json.loads(result.stdout)["architecture"] == "resnet8"
    assert "Next: rc-deploy export" in result.stderr
    assert checkpoint.load(path).architecture == "resnet8"
    # Without --run the folder is named after the recipe and the seed.
    assert sorted(file.name for file in (tmp_path / "runs" / "digits" / "seed0").iterdir()) == ["log.jsonl", "run.json"]


def test_errors_reach_the_boundary(app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    invoke = CliRunner().invoke
    assert isinstance(invoke(app, ["nonsense"]).exception, InputError)
    assert isinstance(invoke(app, ["digits", "--set", "epochs=0"]).exception, InputError)
    missing = str(tmp_path / "missing" / "file")
    assert isinstance(invoke(app, ["digits", *FAST, "-o", missing]).exception, OutputError)
    output = str(tmp_path / "checkpoint.pt")
    assert isinstance(invoke(app, ["digits", *FAST, "-o", output, "--json", missing]).exception, OutputError)
    for own in ("run.json", "checkpoint.pt"):
        run = [*FAST, "--run", str(tmp_path), "--json", str(tmp_path / own)]
        assert isinstance(invoke(app, ["digits", *run]).exception, OutputError)
    assert invoke(app, ["digits", "--device", "tpu"]).exit_code == 2
    assert invoke(app, ["digits", "--seed", "-1"]).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_importing_the_command_loads_nothing_heavy() -> None:
    code = (
        "import rc_training.cli, rc_training.cli_results, sys; "
        "print([m for m in ('torch', 'numpy', 'scipy', 'PIL', 'sklearn', 'onnx') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_entry_points_name_what_exists() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    groups = tomllib.loads(pyproject.read_text())["project"]["entry-points"]
    found = []
    commands = groups["rc_deploy.commands"]
    for reference in (groups["rc_deploy.models"]["rc_training"], commands["train"], commands["results"]):
        module, _, attribute = reference.partition(":")
        found.append(getattr(import_module(module), attribute))
    assert found == [models.ARCHITECTURES, cli.train, cli_results.results]


@pytest.mark.parametrize("command", [cli.train, cli_results.results])
def test_every_parameter_is_explained(command: Callable[..., None]) -> None:
    for parameter in inspect.signature(command).parameters.values():
        assert parameter.annotation.__metadata__[0].help


def test_recipes_are_listed(app: typer.Typer) -> None:
    listed = CliRunner().invoke(app, ["--list", "table6"])
    assert (listed.exit_code, listed.stdout.count("table6/")) == (0, 6)
    nothing = CliRunner().invoke(app, [])
    assert (nothing.exit_code, "train --list" in nothing.stderr) == (2, True)
