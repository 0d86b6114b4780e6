"""How results look: tables as text or Markdown, and the words below them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rc_training import columns
from rc_training.columns import accuracy, aligned, setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rc_training.results import Outcome, Results, Spread, Unfinished

LEGEND = """\
Accuracies in % of the test split. Last epoch: of the weights that a run keeps. Best epoch: chosen by the test split
itself, which is optimistic; the paper reports that of one seed, and the difference, in points, is from the paper to the
mean of the best epochs here. ±: standard deviation over the seeds (n - 1). Time: of one run."""
NOTHING = "No finished run was found. Train one, e.g.: rc-deploy train digits"
_FINISHED = ("recipe", "seeds (n)", "last epoch", "best epoch", "paper", "difference", "epochs", "time", "device")
_CHANGED = ("recipe", "changed to", "seeds (n)", "last epoch", "best epoch", "epochs", "time", "device")
_UNFINISHED = ("recipe", "changed to", "seed", "epoch", "accuracy", "folder", "to go on")


def text(results: Results) -> str:
    """Return tables of what was found, for a terminal."""
    parts = ["\n".join((title, *aligned(head, rows))) for title, head, rows in _tables(results)]
    return "\n\n".join([*parts, LEGEND if results.finished else NOTHING]) + "\n"


def markdown(results: Results) -> str:
    """Return the same as Markdown, to be put into a document."""
    parts = [f"**{title}**\n\n{columns.markdown(head, rows)}" for title, head, rows in _tables(results)]
    return "\n\n".join([*parts, LEGEND if results.finished else NOTHING]) + "\n"


def _tables(results: Results) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    as_they_are = [_finished(row) for row in results.finished if not row.changes]
    if as_they_are:
        yield "Finished runs", _FINISHED, as_they_are
    if changed := [_changed(row) for row in results.finished if row.changes]:
        yield "With a changed recipe: not to be compared with the paper", _CHANGED, changed
    if results.unfinished:
        yield "Not finished: still running, or stopped", _UNFINISHED, [_unfinished(row) for row in results.unfinished]


def _finished(row: Outcome) -> tuple[str, ...]:
    paper = "" if row.paper is None else accuracy(row.paper)
    difference = "" if row.difference is None else f"{row.difference:+.2f}"
    return (row.recipe, _seeds(row), _spread(row.last), _spread(row.best), paper, difference, *_effort(row))


def _changed(row: Outcome) -> tuple[str, ...]:
    return (row.recipe, _changes(row), _seeds(row), _spread(row.last), _spread(row.best), *_effort(row))


def _unfinished(row: Unfinished) -> tuple[str, ...]:
    reached = "" if row.test_accuracy is None else f"{row.test_accuracy:.2f}"
    return row.recipe, _changes(row), str(row.seed), f"{row.epoch}/{row.epochs}", reached, row.folder, row.command


def _effort(row: Outcome) -> tuple[str, str, str]:
    epochs = str(row.epochs) if row.recipe_epochs is None else f"{row.epochs}/{row.recipe_epochs}"
    return epochs, str(timedelta(seconds=round(row.seconds))), ", ".join(row.devices)


def _seeds(row: Outcome) -> str:
    return f"{', '.join(map(str, row.seeds))} ({len(row.seeds)})"


def _spread(values: Spread) -> str:
    return f"{values.mean:.2f}" if values.deviation is None else f"{values.mean:.2f} ± {values.deviation:.2f}"


def _changes(row: Outcome | Unfinished) -> str:
    return ", ".join(
        f"no {key}" if change.run is None else setting(key, change.run) for key, change in row.changes.items()
    )
