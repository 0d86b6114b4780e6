"""Training runs read back from their folders, finished or not, for tables and curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rc_deploy.decode import decode, parse
from rc_deploy.errors import InputError
from rc_training.run import RECORD, Metrics, Record, Run, Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_EPOCHS = 10_000
LONGEST = 3.2e9  # seconds, a century: a longer run is a damaged record


@dataclass(frozen=True)
class Epoch:
    """What one epoch reached, as a line of the log says.

    Attributes:
        epoch: from 1.
        loss: mean cross entropy of the training images; not a number where the log says null.
        train_accuracy: in percent.
        test_loss: mean cross entropy of the test split.
        test_accuracy: in percent.
    """

    epoch: int
    loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float

    def __post_init__(self) -> None:
        if not 1 <= self.epoch <= MOST_EPOCHS:
            raise ValueError(f"epoch must be from 1 to {MOST_EPOCHS:,}, not {self.epoch}")


@dataclass(frozen=True)
class FoundRun:
    """A run as its folder shows it.

    Attributes:
        folder: of the run.
        record: its run.json.
        length: epochs that its recipe asks for.
        metrics: of a finished run; None of another.
        epochs: of its log, in order; none yet where the first one is still going on.
        notes: what in its log was passed over, in words.
    """

    folder: Path
    record: Record
    length: int
    metrics: Metrics | None
    epochs: tuple[Epoch, ...]
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are the run's own."""
        return Run(self.folder).documents


def find(places: Sequence[Path]) -> list[Path]:
    """Return the folders of the runs in `places`: each is the folder of a run, or one with runs below it.

    Raises:
        InputError: one of them holds no run.
    """
    folders: dict[Path, Path] = {}
    for place in places:
        if not place.is_dir():
            what = f"{place} is not a folder" if place.exists() else f"There is no folder {place}"
            raise InputError(f"{what}; a run is a folder with {RECORD} in it.", "Name the folder of a training run.")
        here = [place] if (place / RECORD).exists() else sorted(path.parent for path in place.rglob(RECORD))
        if not here:
            raise InputError(
                f"There is no training run in {place}: no {RECORD} in it or below it.",
                "Train one: rc-deploy train RECIPE --run DIR",
            )
        # A run that was named twice, by whatever name, is one run.
        folders.update((path.resolve(), path) for path in here if path.resolve() not in folders)
    return list(folders.values())


def read(folder: Path) -> FoundRun:
    """Read a run; lines of its log that are no record of an epoch are passed over, with a note.

    Raises:
        InputError: its record is missing, damaged or of another version, or its log cannot be read.
    """
    run = Run(folder)
    record = run.read()
    if record is None:
        raise InputError(f"There is no run in {folder} any more.", "Run the command again.")
    length = record.recipe.get("epochs")
    if type(length) is not int:
        raise _damaged(run, "'recipe.epochs' is not a whole number")
    finished = record.status is Status.FINISHED
    if finished:
        _require_credible(run, record.metrics)
    epochs, notes = _read_log(run.log)
    return FoundRun(folder, record, length, record.metrics if finished else None, epochs, notes)


def _require_credible(run: Run, metrics: Metrics | None) -> None:
    if metrics is None:
        raise _damaged(run, "it is finished, but has no metrics")
    if not all(0 <= value <= 100 for value in (metrics.test_accuracy_last, metrics.test_accuracy_best)):
        raise _damaged(run, "an accuracy is not between 0 and 100")
    if not 0 <= metrics.seconds <= LONGEST:
        raise _damaged(run, f"'metrics.seconds' is {metrics.seconds:g}")


def _damaged(run: Run, what: str) -> InputError:
    return InputError(f"{run.record} is damaged: {what}.", "Train again with --restart.")


def _read_log(path: Path) -> tuple[tuple[Epoch, ...], tuple[str, ...]]:
    """Return the epochs of a log, in order, and notes on what was passed over."""
    if not path.is_file():  # before the end of the first epoch
        return (), ()
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"The log {path} cannot be read: {error.strerror}.", "Check its permissions.") from None
    epochs: dict[int, Epoch] = {}
    broken, repeated = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            epoch = decode(Epoch, parse(line.decode()))
        except ValueError:  # FormError, or bytes that are no text
            broken.append(number)
            continue
        if epoch.epoch in epochs:
            repeated.append(epoch.epoch)
        epochs[epoch.epoch] = epoch
    notes = []
    if broken:
        notes.append(f"{path}: {_counted('line', broken)} no record of an epoch, as a killed run leaves; skipped.")
    if repeated:
        notes.append(f"{path}: {_counted('epoch', repeated)} there more than once; the last record counts.")
    return tuple(epochs[number] for number in sorted(epochs)), tuple(notes)


def _counted(noun: str, numbers: list[int], most: int = 5) -> str:
    shown = ", ".join(map(str, sorted(set(numbers))[:most]))
    more = ", …" if len(set(numbers)) > most else ""
    return f"{noun} {shown} is" if len(set(numbers)) == 1 else f"{noun}s {shown}{more} are"
