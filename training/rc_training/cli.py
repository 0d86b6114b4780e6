"""The command `rc-deploy train`; it joins the command line through the entry points `rc_deploy.commands`.

Everything heavy is imported inside the function: `rc-deploy --help` lists this command without PyTorch.
"""

# No `from __future__ import annotations`: typer reads the annotations when the program runs.
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Where to train."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe (digits, table1/rescnet32-cifar10, ...) or a .toml file.")
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the recipes and the paper's results; with a word, those that have it.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", "--data-dir", metavar="DIR", help="Folder that holds CIFAR; RC_DATA by default."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write, .pt or .safetensors.")] = Path(
        "checkpoint.pt"
    ),
    device: Annotated[Device, typer.Option(help="auto takes CUDA where there is one.")] = Device.AUTO,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="In place of the recipe's seed.")] = None,
    json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the outcome as JSON; '-' for standard output.")
    ] = None,
) -> None:
    """Train a network from a recipe and write a checkpoint."""
    if list_:
        from rc_training import listing

        listing.run(recipe, json)
        return
    if recipe is None:
        raise typer.BadParameter("Name a recipe; `rc-deploy train --list` shows them.", param_hint="RECIPE")
    from rc_deploy.optional import require

    require("torch", "Training", extra="train")
    from rc_training.command import TrainOptions, run

    run(TrainOptions(recipe, data, tuple(overrides or ()), output, device.value, seed, json))
