"""The command `rc-deploy train`; it joins the command line through the entry points `rc_deploy.commands`.

Everything heavy is imported inside the function: `rc-deploy --help` lists this command without PyTorch.
"""

# No `from __future__ import annotations`: typer reads the annotations when the program runs.
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rc_training.options import Existing, RunOptions

LARGEST_SEED = 2**63 - 1


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
        typer.Option(
            "--data", "--data-dir", metavar="DIR", help="Folder that holds the data sets; RC_DATA by default."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for the run's log, state and checkpoint; runs/RECIPE/seedK by default."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Checkpoint, .pt or .safetensors; checkpoint.pt in the run's folder."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run; a finished one is left as it is.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin again, and lose the run in that folder.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, max=LARGEST_SEED, help="In place of the recipe's seed.")] = None,
    seeds: Annotated[
        str, typer.Option(metavar="0,1,2", help="A run for each seed, then mean and spread over them.")
    ] = "",
    device: Annotated[Device, typer.Option(help="auto takes CUDA where there is one.")] = Device.AUTO,
    compile_: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    cuda_graph: Annotated[bool, typer.Option("--cuda-graph", help="Replay each step as one CUDA graph.")] = False,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="The same bits in every run on a GPU too; costs speed there."),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files for TensorBoard into the run's folder.")
    ] = False,
    json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the outcome as JSON; '-' for standard output.")
    ] = None,
) -> None:
    """Train a network from a recipe and write a checkpoint.

    A run that was interrupted, in whatever way, goes on with the same command and --resume, and ends in the same
    weights as if it had not been.
    """
    if list_:
        from rc_training import listing

        listing.run(recipe, json)
        return
    if recipe is None:
        raise typer.BadParameter("Name a recipe; `rc-deploy train --list` shows them.", param_hint="RECIPE")
    if resume and restart:
        raise typer.BadParameter("--resume keeps what --restart would throw away: give one of them.")
    if seeds and seed is not None:
        raise typer.BadParameter("--seed and --seeds contradict each other: give one of them.")
    from rc_deploy.optional import require

    require("torch", "Training", extra="train")
    from rc_training import command

    how = RunOptions(
        folder=Path(),
        output=output,
        data=data,
        device=device.value,
        existing=Existing.RESUME if resume else Existing.RESTART if restart else Existing.KEEP,
        tensorboard=tensorboard,
        deterministic=deterministic,
        compile=compile_,
        cuda_graph=cuda_graph,
        command=("rc-deploy", *sys.argv[1:]),
    )
    command.run(command.TrainOptions(recipe, tuple(overrides or ()), seed, parse_seeds(seeds), run, json, how))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds written as "0,1,2"; none for "". Raises typer.BadParameter for anything else."""
    if not text:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 20 and int(part) <= LARGEST_SEED for part in parts):
        raise typer.BadParameter(f"--seeds '{text}' is not a list of whole numbers such as 0,1,2.")
    found = tuple(int(part) for part in parts)
    if len(set(found)) < len(found):
        raise typer.BadParameter(f"--seeds '{text}' names a seed twice.")
    return found
