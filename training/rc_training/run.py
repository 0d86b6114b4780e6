"""The folder of a run: what it was asked for, how it went, and what it goes on from after an interruption.

    run.json            what was asked for, whether it is finished, and then what it reached
    log.jsonl           a line per epoch
    state.pt, state.previous.pt   what resuming needs, until the run is finished
    checkpoint.pt       the network, once it is
    tensorboard/        event files, where they were asked for

A process that trains holds a lock on the folder, which ends with it however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shlex
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rc_deploy.decode import FormError, decode
from rc_deploy.errors import InputError, OutputError
from rc_deploy.files import json_line, read_json, require_writable, write_bytes, write_json
from rc_training import state as states
from rc_training.options import Existing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from rc_training.progress import EpochResult
    from rc_training.recipe import Recipe
    from rc_training.state import State

SCHEMA, SCHEMA_VERSION = "rc-deploy/run", 1
RECORD = "run.json"


class Status(StrEnum):
    """How far a run is."""

    RUNNING = "running"  # or interrupted
    FINISHED = "finished"


# What is said of a run that is not to be replaced, and what else there is to do.
_KEPT = {
    Status.RUNNING: ("a run that is not finished", "Go on with it: --resume."),
    Status.FINISHED: ("this run, and it is finished", "Look at it: rc-deploy results."),
}


@dataclass(frozen=True)
class Metrics:
    """What a finished run reached; accuracies in percent, the best epoch is the test split's choice."""

    test_accuracy_last: float
    test_accuracy_best: float
    best_epoch: int
    epochs: int
    seconds: float
    images_per_second: float
    device: str
    torch: str


@dataclass(frozen=True)
class Record:
    """What run.json says.

    Attributes:
        recipe: all keys of it.
        recipe_name: under which it is found.
        seed: of the recipe's keys, the one that tells runs of a recipe apart.
        status: how far the run is.
        machine: that it ran on, of the last session.
        command: the arguments it was begun with.
        started: when, in ISO 8601.
        processes: that trained it.
        parameters: of its network.
        metrics: once it is finished.
    """

    recipe: dict[str, Any]
    recipe_name: str
    seed: int
    status: Status
    machine: dict[str, Any]
    command: tuple[str, ...]
    started: str
    processes: int
    parameters: int
    metrics: Metrics | None = None


class Run:
    """A run's folder. Nothing in it is touched before `begin`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record, self.log = folder / RECORD, folder / "log.jsonl"
        self.state, self.previous = folder / "state.pt", folder / "state.previous.pt"
        self.checkpoint, self.events = folder / "checkpoint.pt", folder / "tensorboard"

    @property
    def documents(self) -> tuple[Path, ...]:
        """The files that are a run's own, which nothing else may be written to."""
        return self.record, self.log, self.state, self.previous

    def read(self) -> Record | None:
        """Return what run.json says; None where there is none. Raises InputError where it is damaged."""
        if not self.record.exists():
            return None
        document = read_json(self.record, "record of a run")
        try:
            if (document.get("schema"), document.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
                raise FormError(f"it is not {SCHEMA}, version {SCHEMA_VERSION}")
            return decode(Record, document)
        except FormError as error:
            raise InputError(
                f"{self.record} is not the record of a run that this rc-deploy can read: {error}.",
                "Name another folder with --run, or begin the run again: --restart",
            ) from None

    def finished(self, recipe: Recipe, existing: Existing) -> bool:
        """Decide what is to be done with the folder; return whether there is nothing to do, the run being finished.

        Raises:
            OutputError: the folder cannot be made or written; or something in it must stay.
            InputError: it holds a run that `recipe` cannot go on with.
        """
        self._require_writable()
        if existing is Existing.RESTART:
            return False
        record = self.read()
        if record is None:
            self._require_free()
            return False
        if differences := recipe.differences(record.recipe):
            raise InputError(
                f"{self.folder} holds a run of another recipe: {differences}.",
                "Give the same recipe, or another folder with --run; or lose that run: --restart",
            )
        if existing is Existing.KEEP:
            words, hint = _KEPT[record.status]
            raise OutputError(f"{self.folder} holds {words}.", f"{hint} Or lose it: --restart")
        return record.status is Status.FINISHED

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training in this folder, which is made if need be. Raises OutputError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            raise _folder_error(self.folder, error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise OutputError(
                f"Another process is training in {self.folder}, or it cannot be locked: {error.strerror}.",
                "Wait for it, or name another folder with --run.",
            ) from None
        try:
            yield
        finally:
            os.close(handle)

    def resume(self, restore: Callable[[State], None], notice: Callable[[str], None]) -> None:
        """Hand the latest state that is good to `restore`; nothing, where the run's first epoch was interrupted.

        Args:
            restore: takes a state, or raises InputError if it does not fit.
            notice: is told, in a sentence, why a state is passed over.

        Raises:
            InputError: none is good.
        """
        found = [path for path in (self.state, self.previous) if path.exists()]
        for path in found:
            try:
                restore(states.load(path))
            except InputError as error:
                notice(f"{path.name} is passed over: {error}")
            else:
                return
        if found or self.log.exists():
            raise InputError(
                f"The run in {self.folder} cannot go on: no good state of it is left.",
                "Begin it again with the same command and --restart in place of --resume.",
            )

    def begin(self, record: Record, history: Iterable[EpochResult]) -> None:
        """Leave nothing of an earlier run but what `history` tells; the run counts as running from here on.

        Raises OutputError.
        """
        epochs = tuple(history)
        try:
            for path in self._leftovers(resumed=bool(epochs)):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _folder_error(self.folder, error) from None
        self._write(record)
        if epochs:
            self.write_log(epochs)

    def save(self, state: State) -> None:
        """Keep what the run can go on from, and then its log. Raises OutputError."""
        states.save(state, self.state, self.previous)
        self.write_log(state.past.history)

    def write_log(self, history: Iterable[EpochResult]) -> None:
        """Write log.jsonl whole: no line is ever cut off or there twice. Raises OutputError."""
        write_bytes(self.log, "".join(f"{json_line(asdict(result))}\n" for result in history).encode())

    def epochs(self) -> int:
        """Return how many epochs are logged."""
        return len(self.log.read_text(encoding="utf-8").splitlines()) if self.log.exists() else 0

    def finish(self, record: Record, metrics: Metrics) -> None:
        """Say that the run is finished; called when its checkpoint is written. Raises OutputError."""
        self._write(replace(record, status=Status.FINISHED, metrics=metrics))
        self.forget_states()

    def forget_states(self) -> None:
        """Remove what a finished run no longer needs."""
        for path in (self.state, self.previous):
            path.unlink(missing_ok=True)

    def _write(self, record: Record) -> None:
        write_json(self.record, {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(record)})

    def _leftovers(self, resumed: bool) -> Iterator[Path]:
        """Yield what an interrupted write left and, if the run is new, the files of an earlier one, logs first."""
        if not resumed:
            yield from self.events.glob("events.out.tfevents.*")
            yield from (self.log, self.state, self.previous, self.checkpoint)
        for path in (self.record, self.log, self.state, self.checkpoint):
            yield from self.folder.glob(f".{path.name}.*.tmp")

    def _require_writable(self) -> None:
        try:
            place = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        except OSError as error:  # a folder above it may not be entered
            raise _folder_error(self.folder, error) from None
        if not place.is_dir():
            raise OutputError(f"{place} is not a folder.", "Name another folder with --run.")
        require_writable(place / self.record.name)

    def _require_free(self) -> None:
        for path in (self.log, self.state, self.previous):
            if path.exists():
                raise OutputError(
                    f"{self.folder} holds {path.name}, but no {self.record.name} that says of which run.",
                    "Name another folder with --run; or lose that file: --restart",
                )


def _folder_error(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The folder {folder} cannot be made or written: {error.strerror}.",
        f"Name another one with --run, or see ls -ld {shlex.quote(str(folder))}",
    )
