"""The folders that `rc-deploy train` leaves behind, read back: what was trained, how far it is, what it reached."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rc_deploy.decode import FormError, cleaned, decode, parse
from rc_deploy.errors import InputError
from rc_deploy.files import read_json, require_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SCHEMA, SCHEMA_VERSION = "rc-deploy/run", 1
LONGEST = 3.2e9  # seconds, a century: a longer run is a damaged record


class Status(StrEnum):
    """Where a run stands; one that was killed still says "running"."""

    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True)
class Metrics:
    """What a finished run reached; accuracies of the test split in percent."""

    test_accuracy_last: float
    test_accuracy_best: float
    epochs: int
    seconds: float
    device: str = ""

    def __post_init__(self) -> None:
        if not all(0 <= percent <= 100 for percent in (self.test_accuracy_last, self.test_accuracy_best)):
            raise ValueError("an accuracy is not between 0 and 100")
        if not 0 <= self.seconds <= LONGEST:
            raise ValueError(f"'seconds' is {self.seconds:g}")


@dataclass(frozen=True)
class LoggedEpoch:
    """A line of a run's log, as far as tables of results want it."""

    epoch: int
    test_accuracy: float


@dataclass(frozen=True)
class Run:
    """A run, as its run.json has it.

    Attributes:
        recipe: all keys, with what --set changed.
        recipe_name: what the recipe was called.
        seed: of this run.
        status: finished or not.
        processes: that trained together.
        metrics: of a finished run.
        folder: that it was read from.
        logged: the last epoch in its log; None before the first.
    """

    recipe: dict[str, Any]
    recipe_name: str
    seed: int
    status: Status
    processes: int = 1
    metrics: Metrics | None = None
    folder: str = ""
    logged: LoggedEpoch | None = None

    def __post_init__(self) -> None:
        if self.status is Status.FINISHED and self.metrics is None:
            raise ValueError("it is finished, but has no metrics")
        if type(self.recipe.get("epochs")) is not int:
            raise ValueError("'recipe.epochs' is not a whole number")


def find(folders: Iterable[Path]) -> list[Path]:
    """Return the run.json files in and below folders, each once.

    Raises:
        InputError: a folder is missing.
    """
    found = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}.", "Name the folder of your runs: rc-deploy results DIR")
        found.update({path.resolve(): path for path in sorted(folder.rglob("run.json"))})
    return list(found.values())


def read(path: Path) -> Run:
    """Read a run from its run.json and the log beside it.

    Raises:
        InputError: one of them is damaged or of another version.
    """
    document = read_json(path, "run")
    if (document.get("schema"), document.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
        raise InputError(f"{path} is not the record of a run of this version.", "Train again, or move it away.")
    try:
        run = decode(Run, cleaned(document))
    except FormError as error:
        raise InputError(f"The run {path} is damaged: {error}.", "Train again, or move it away.") from None
    logged = None if run.status is Status.FINISHED else _last_logged(path.with_name("log.jsonl"))
    return replace(run, folder=str(path.parent), logged=logged)


def _last_logged(path: Path) -> LoggedEpoch | None:
    """Return the last whole line of a log: a run that was killed may have left half a line at its end."""
    if not path.exists() or not path.stat().st_size:
        return None
    try:
        lines = require_file(path, "log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"The log {path} cannot be read: {error.strerror}.", "Check its permissions.") from None
    epoch = next(_epochs(lines), None)
    if epoch is None and len(lines) > 1:
        raise InputError(f"The log {path} is damaged: no line of it is an epoch.", "Resume or restart the run.")
    return epoch


def _epochs(lines: list[str]) -> Iterator[LoggedEpoch]:
    """Yield the epochs in lines, the last one first; what is none is passed over."""
    for line in reversed(lines):
        try:
            yield decode(LoggedEpoch, parse(line))
        except FormError:
            continue
