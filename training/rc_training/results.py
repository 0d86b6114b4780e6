"""Runs beside the paper: those of one recipe together, mean and spread over their seeds."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import InputError
from rc_training import catalogue, runs
from rc_training.options import going_on
from rc_training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rc_training.runs import FoundRun
    from rc_training.tables import Entry

SCHEMA, SCHEMA_VERSION = "rc-deploy/results", 1


@dataclass(frozen=True)
class Spread:
    """Accuracies in percent over seeds: their mean, and their sample standard deviation; None of a single one."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return that of one value or more."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Change:
    """A key in which runs differ from the recipe of their name; None stands for a key that is not there."""

    recipe: Any
    run: Any


@dataclass(frozen=True)
class Outcome:
    """Finished runs with the same keys, but for the seed.

    Attributes:
        recipe: its name.
        known: whether a recipe of that name comes along.
        changes: keys in which the runs differ from it; with any, they are no runs of the paper's recipe.
        seeds: one per run, in ascending order.
        last: accuracy after the last epoch, of the weights that a run keeps.
        best: accuracy of the best epoch, which the test split chose: optimistic, and what the paper reports.
        paper: its accuracy, the best epoch of one seed; None where the paper has none or the recipe was changed.
        difference: mean of `best` minus `paper`, in points.
        epochs: of the runs.
        recipe_epochs: of the recipe of that name.
        seconds: of one run, on average.
        devices: that they ran on.
        folders: of the runs.
    """

    recipe: str
    known: bool
    changes: dict[str, Change]
    seeds: tuple[int, ...]
    last: Spread
    best: Spread
    paper: float | None
    difference: float | None
    epochs: int
    recipe_epochs: int | None
    seconds: float
    devices: tuple[str, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Unfinished:
    """A run that is still going on, or was stopped.

    Attributes:
        recipe: its name.
        changes: as of an `Outcome`.
        seed: of the run.
        epoch: the last one in its log; 0 before the first has ended.
        epochs: that there are to be.
        test_accuracy: after that epoch, in percent; not the best one.
        folder: of the run.
        command: with which it goes on from there, if it was stopped.
    """

    recipe: str
    changes: dict[str, Change]
    seed: int
    epoch: int
    epochs: int
    test_accuracy: float | None
    folder: str
    command: str


@dataclass(frozen=True)
class Results:
    """What was found: runs with and without an end, and what could not be read and why."""

    finished: tuple[Outcome, ...]
    unfinished: tuple[Unfinished, ...]
    skipped: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(self)}


def collect(folders: Iterable[Path]) -> Results:
    """Read runs and put those of one recipe together; one that cannot be read is named in the result."""
    found, skipped = [], []
    for folder in folders:
        try:
            run = runs.read(folder)
        except InputError as error:
            skipped.append(str(error))
            continue
        found.append(run)
        if run.metrics is None:  # of a finished one the log does not count
            skipped += run.notes
    known = catalogue.available()
    unfinished = []
    groups: dict[tuple[str, str], list[FoundRun]] = {}
    for run in sorted(found, key=lambda run: (run.record.seed, run.folder)):
        name = catalogue.ALIASES.get(run.record.recipe_name, run.record.recipe_name)
        if run.metrics is None:
            unfinished.append(_unfinished(name, known.get(name), run))
        else:
            groups.setdefault((name, json.dumps(_comparable(run.record.recipe), sort_keys=True)), []).append(run)
    finished = [_outcome(name, known.get(name), group) for (name, _), group in groups.items()]
    ranks = {name: rank for rank, name in enumerate(known)}

    def order(row: Outcome | Unfinished) -> tuple[int, str, int, str]:
        return ranks.get(row.recipe, len(ranks)), row.recipe, len(row.changes), str(row.changes)

    return Results(tuple(sorted(finished, key=order)), tuple(sorted(unfinished, key=order)), tuple(skipped))


def _outcome(name: str, entry: Entry | None, group: Sequence[FoundRun]) -> Outcome:
    metrics = [run.metrics for run in group if run.metrics is not None]
    best = Spread.of([item.test_accuracy_best for item in metrics])
    changes = _changes(entry, group[0])
    paper = entry.paper.accuracy if entry and entry.paper and not changes else None
    return Outcome(
        recipe=name,
        known=entry is not None,
        changes=changes,
        seeds=tuple(run.record.seed for run in group),
        last=Spread.of([item.test_accuracy_last for item in metrics]),
        best=best,
        paper=paper,
        difference=None if paper is None else best.mean - paper,
        epochs=group[0].length,
        recipe_epochs=None if entry is None else entry.keys["epochs"],
        seconds=mean(item.seconds for item in metrics),
        devices=tuple(dict.fromkeys(_device(run) for run in group)),
        folders=tuple(str(run.folder) for run in group),
    )


def _unfinished(name: str, entry: Entry | None, run: FoundRun) -> Unfinished:
    epoch, accuracy = (run.epochs[-1].epoch, run.epochs[-1].test_accuracy) if run.epochs else (0, None)
    return Unfinished(
        recipe=name,
        changes=_changes(entry, run),
        seed=run.record.seed,
        epoch=epoch,
        epochs=run.length,
        test_accuracy=accuracy,
        folder=str(run.folder),
        command=going_on(run.record.command),
    )


def _device(run: FoundRun) -> str:
    device = run.metrics.device if run.metrics else ""
    return f"{run.record.processes} x {device}" if run.record.processes > 1 else device


def _changes(entry: Entry | None, run: FoundRun) -> dict[str, Change]:
    """Return where a run differs from the recipe of its name; nowhere, if there is none of that name."""
    if entry is None:
        return {}
    before, after = _comparable(entry.keys), _comparable(run.record.recipe)
    return {
        key: Change(before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    }


def _comparable(keys: dict[str, Any]) -> dict[str, Any]:
    """Return all keys that decide how a network is trained, but for the seed, which is to differ between runs."""
    defaults = {known.name: known.default for known in fields(Recipe) if known.default is not MISSING}
    return {key: value for key, value in {"options": {}, **defaults, **keys}.items() if key not in ("name", "seed")}
