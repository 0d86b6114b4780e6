"""The runs below some folders, read for a table of results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rc_deploy.decode import FormError, decode, parse
from rc_deploy.errors import InputError
from rc_training.run import Metrics, Record, Run, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LONGEST = 3.2e9  # seconds, a century: a longer run is a damaged record


@dataclass(frozen=True)
class LoggedEpoch:
    """A line of a run's log, as far as a table of results wants it."""

    epoch: int
    test_accuracy: float


@dataclass(frozen=True)
class FoundRun:
    """A run: where it is, what its run.json says, and the last epoch in its log if it is not finished.

    Attributes:
        folder: the run's.
        record: its run.json.
        epochs: that its recipe asks for.
        metrics: of a finished run; None of another.
        logged: of an unfinished run; None before its first epoch ended.
    """

    folder: Path
    record: Record
    epochs: int
    metrics: Metrics | None
    logged: LoggedEpoch | None


def find(folders: Iterable[Path]) -> list[Path]:
    """Return the folders of the runs in and below `folders`, each once.

    Raises:
        InputError: a folder is missing.
    """
    found = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}.", "Name the folder of your runs: rc-deploy results DIR")
        found.update({path.resolve(): path.parent for path in sorted(folder.rglob("run.json"))})
    return list(found.values())


def read(folder: Path) -> FoundRun:
    """Read a run.

    Raises:
        InputError: its record or its log is damaged.
    """
    run = Run(folder)
    record = run.read()
    if record is None:
        raise InputError(f"There is no run in {folder} any more.", "Run the command again.")
    epochs = record.recipe.get("epochs")
    if type(epochs) is not int:
        raise _damaged(run, "'recipe.epochs' is not a whole number")
    if record.status is Status.RUNNING:
        return FoundRun(folder, record, epochs, None, _last_logged(run.log))
    if record.metrics is None:
        raise _damaged(run, "it is finished, but has no metrics")
    if not all(0 <= value <= 100 for value in (record.metrics.test_accuracy_last, record.metrics.test_accuracy_best)):
        raise _damaged(run, "an accuracy is not between 0 and 100")
    if not 0 <= record.metrics.seconds <= LONGEST:
        raise _damaged(run, f"'metrics.seconds' is {record.metrics.seconds:g}")
    return FoundRun(folder, record, epochs, record.metrics, None)


def _damaged(run: Run, what: str) -> InputError:
    return InputError(f"{run.record} is damaged: {what}.", "Train again with --restart.")


def _last_logged(path: Path) -> LoggedEpoch | None:
    """Return the last epoch of a log; None where there is no log yet."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"The log {path} cannot be read: {error.strerror}.", "Check its permissions.") from None
    epoch = next(_epochs(lines), None)
    if epoch is None and lines:
        raise InputError(f"The log {path} is damaged: no line of it is an epoch.", "Begin the run again: --restart")
    return epoch


def _epochs(lines: list[str]) -> Iterator[LoggedEpoch]:
    """Yield the epochs in lines, the last one first; a line that a copy cut off is passed over."""
    for line in reversed(lines):
        try:
            yield decode(LoggedEpoch, parse(line))
        except FormError:
            continue
