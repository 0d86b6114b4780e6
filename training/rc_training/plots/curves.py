"""Training curves as numbers: the runs of a recipe put together, each quantity by epoch with its spread."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy.decode import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rc_training.runs import FoundRun

QUANTITIES = ("loss", "test_loss", "train_accuracy", "test_accuracy")
# A loss beyond this, shortly before a run diverges, would leave no room for any other; it is a gap in the curve.
LARGEST = 1e6


@dataclass(frozen=True)
class Curve:
    """One quantity by epoch, over the runs that have it there; not a number where no run has.

    Attributes:
        mean: (epochs,).
        low: the lowest of the runs, (epochs,).
        high: the highest.
        std: sample standard deviation (n - 1); not a number where fewer than two runs have the quantity.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    std: NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The runs of one recipe, which differ in their seeds only.

    Attributes:
        name: of the recipe; with the keys that tell it apart, where recipes of the same name differ.
        runs: by seed.
        epochs: that any of the runs has, in order.
        counts: how many runs have each of these epochs.
        curves: quantity -> curve.
    """

    name: str
    runs: tuple[FoundRun, ...]
    epochs: tuple[int, ...]
    counts: tuple[int, ...]
    curves: dict[str, Curve]


def grouped(runs: Sequence[FoundRun]) -> list[Group]:
    """Return the runs put together by recipe, in the order in which each recipe first comes.

    Two runs belong together if their recipes have the same name and the same keys but for the seed.
    """
    together: dict[str, list[FoundRun]] = {}
    for run in runs:
        together.setdefault(json.dumps([run.record.recipe_name, _settings(run)], sort_keys=True), []).append(run)
    members = list(together.values())
    names = _names([group[0] for group in members])
    return [
        _group(name, sorted(group, key=lambda run: run.record.seed)) for name, group in zip(names, members, strict=True)
    ]


def over_runs(values: NDArray[np.float64]) -> Curve:
    """Return the curve of a table (runs, epochs) in which NaN stands for what a run does not have."""
    table = np.ma.masked_invalid(values)
    return Curve(
        mean=_filled(table.mean(axis=0)),
        low=_filled(table.min(axis=0)),
        high=_filled(table.max(axis=0)),
        std=_filled(table.std(axis=0, ddof=1)),
    )


def _filled(masked: Any) -> NDArray[np.float64]:
    return np.ma.filled(np.ma.asarray(masked, dtype=np.float64), np.nan)


def _group(name: str, runs: list[FoundRun]) -> Group:
    by_epoch = [{epoch.epoch: epoch for epoch in run.epochs} for run in runs]
    epochs = sorted(set().union(*by_epoch))
    curves = {}
    for quantity in QUANTITIES:
        rows = [
            [getattr(records[epoch], quantity) if epoch in records else np.nan for epoch in epochs]
            for records in by_epoch
        ]
        table = np.array(rows, np.float64)
        curves[quantity] = over_runs(np.where(np.abs(table) <= LARGEST, table, np.nan))
    counts = tuple(sum(epoch in records for records in by_epoch) for epoch in epochs)
    return Group(name, tuple(runs), tuple(epochs), counts, curves)


def _settings(run: FoundRun) -> dict[str, Any]:
    return {key: value for key, value in run.record.recipe.items() if key not in ("name", "seed")}


def _names(firsts: list[FoundRun]) -> list[str]:
    """Return a name for each recipe; those that share theirs also get the keys in which they differ."""
    names = []
    for run in firsts:
        alike = [_settings(other) for other in firsts if other.record.recipe_name == run.record.recipe_name]
        keys = [key for key in sorted(set().union(*alike)) if any(one.get(key) != alike[0].get(key) for one in alike)]
        own = _settings(run)
        names.append(clean(", ".join([run.record.recipe_name, *(f"{key}={_word(own.get(key))}" for key in keys)])))
    return names


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
