"""What `rc-deploy train` does with its options: train one run or several, then say what came out."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from rc_deploy.data import files_of
from rc_deploy.errors import InputError
from rc_deploy.files import json_text, write_json
from rc_deploy.outputs import require_json
from rc_training import outcome
from rc_training import recipe as recipes
from rc_training.display import Display
from rc_training.distributed import connected, local_device
from rc_training.options import going_on
from rc_training.progress import Reporter
from rc_training.run import Run
from rc_training.train import check, resolve_device, train

if TYPE_CHECKING:
    from rc_deploy.checkpoint import Checkpoint
    from rc_training.options import RunOptions
    from rc_training.recipe import Recipe

RUNS = Path("runs")


@dataclass(frozen=True)
class TrainOptions:
    """The command line of `rc-deploy train`.

    Attributes:
        recipe: name of a recipe or path of a .toml file.
        overrides: "key=value" each.
        seed: in place of the recipe's.
        seeds: one run each; none for one run with the recipe's seed.
        run: folder of the run, or of the runs' folders; runs/RECIPE for None.
        json: file for the results, "-" for standard output, None for neither.
        how: everything else; its folder is not looked at.
    """

    recipe: str
    overrides: tuple[str, ...]
    seed: int | None
    seeds: tuple[int, ...]
    run: Path | None
    json: str | None
    how: RunOptions


@dataclass(frozen=True)
class Planned:
    """One run: what it trains, how, and what stands before each line about it."""

    recipe: Recipe
    how: RunOptions
    label: str = ""


def run(options: TrainOptions) -> None:
    """Train as `options` say, with progress on standard error. Raises as `recipe.load` and `train` do."""
    recipe = recipes.load(options.recipe, options.overrides)
    runs = plan(recipe, options)
    splits = (f"{recipe.dataset}:{split}" for split in ("train", "test"))
    inputs = [recipes.find(options.recipe), *(file for split in splits for file in files_of(split, options.how.data))]
    written = [file for planned in runs for file in (planned.how.checkpoint, *Run(planned.how.folder).documents)]
    require_json(options.json, [*written, *inputs])
    for planned in runs:
        check(planned.recipe, planned.how, inputs)
    with connected(local_device(resolve_device(options.how.device))) as processes:
        trained = [_train(planned, quiet=processes.rank > 0) for planned in runs]
    if processes.rank == 0:
        _say(runs, trained, options)


def plan(recipe: Recipe, options: TrainOptions) -> list[Planned]:
    """Return the runs that are asked for. Raises InputError where they would write one file."""
    folder = options.run or RUNS / recipe.name
    if not options.seeds:
        recipe = recipe if options.seed is None else replace(recipe, seed=options.seed)
        return [Planned(recipe, replace(options.how, folder=options.run or folder / f"seed{recipe.seed}"))]
    if options.how.output:
        raise InputError(
            f"--seeds makes a checkpoint for each seed; --output {options.how.output} names one file.",
            "Leave --output out: each lies in the folder of its run. --run names the folder above them.",
        )
    return [
        Planned(replace(recipe, seed=seed), replace(options.how, folder=folder / f"seed{seed}"), label=f"seed {seed}, ")
        for seed in options.seeds
    ]


def _train(planned: Planned, quiet: bool) -> Checkpoint:
    if quiet:
        return train(planned.recipe, planned.how, _Silent())
    with Display(Console(stderr=True), planned.label) as display:
        try:
            return train(planned.recipe, planned.how, display)
        except KeyboardInterrupt:
            display.notice(_how_to_go_on(planned))
            raise


class _Silent(Reporter):
    """Says nothing: process 0 says it."""

    def notice(self, text: str) -> None:
        """Pass over what process 0 hears too."""


def _how_to_go_on(planned: Planned) -> str:
    run = Run(planned.how.folder)
    kept = f"; the run is kept in {run.folder}" if run.record.exists() else ""
    return (
        f"Stopped after epoch {run.epochs()} of {planned.recipe.epochs}{kept}.\n"
        f"To go on: {going_on(planned.how.command)}"
    )


def _say(runs: list[Planned], trained: list[Checkpoint], options: TrainOptions) -> None:
    """Write the results for programs and for people."""
    results = [outcome.of_run(r.how.folder, r.how.checkpoint, t) for r, t in zip(runs, trained, strict=True)]
    document, lines = (
        (outcome.of_seeds(results, trained), outcome.lines_of_seeds)
        if options.seeds
        else (results[0], outcome.lines_of_run)
    )
    if options.json == "-":
        sys.stdout.write(json_text(document) + "\n")
    elif options.json is not None:
        write_json(Path(options.json), document)
    # With JSON on standard output the summary for people moves over to standard error.
    console = Console(stderr=options.json == "-")
    for line in lines(document):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
