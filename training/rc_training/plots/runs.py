"""Reading what training runs wrote into their folders, finished or not: `run.json` and `log.jsonl`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rc_deploy.decode import FormError, decode, parse
from rc_deploy.errors import InputError
from rc_deploy.files import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA, SCHEMA_VERSION = "rc-deploy/run", 1
RUN_FILE, LOG_FILE = "run.json", "log.jsonl"
MOST_EPOCHS = 10_000


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
class Description:
    """What `run.json` says of a run, as far as curves need it."""

    recipe: dict[str, Any]
    recipe_name: str
    seed: int
    status: str


@dataclass(frozen=True)
class Run:
    """A training run as its folder shows it.

    Attributes:
        folder: of the run.
        about: what its `run.json` says.
        epochs: in order; none yet where the first one is still going on.
        notes: what in its log was passed over, in words.
    """

    folder: Path
    about: Description
    epochs: tuple[Epoch, ...]
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        """The files it was read from."""
        return [self.folder / RUN_FILE, self.folder / LOG_FILE]


def find(places: Sequence[Path]) -> list[Path]:
    """Return the folders of the runs in `places`: each is the folder of a run, or one with runs below it.

    Raises:
        InputError: one of them holds no run.
    """
    folders: dict[Path, Path] = {}
    for place in places:
        if not place.is_dir():
            what = f"{place} is not a folder" if place.exists() else f"There is no folder {place}"
            raise InputError(f"{what}; a run is a folder with {RUN_FILE} in it.", "Name the folder of a training run.")
        here = [place] if (place / RUN_FILE).exists() else sorted(path.parent for path in place.rglob(RUN_FILE))
        if not here:
            raise InputError(
                f"There is no training run in {place}: no {RUN_FILE} in it or below it.",
                "Train one: rc-deploy train RECIPE --run DIR",
            )
        # A run that was named twice, by whatever name, is one run.
        folders.update((path.resolve(), path) for path in here if path.resolve() not in folders)
    return list(folders.values())


def read(folder: Path) -> Run:
    """Read a run; lines of its log that are no record of an epoch are passed over, with a note.

    Raises:
        InputError: its `run.json` is missing, damaged or of another version.
    """
    path = folder / RUN_FILE
    document = read_json(path, "description of a run")
    if (document.get("schema"), document.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
        raise InputError(
            f"{path} has the schema {document.get('schema')!r:.80}, version {document.get('schema_version')!r:.80}; "
            f"this rc-deploy reads {SCHEMA}, version {SCHEMA_VERSION}.",
            "Name the folder of a run of this version of `rc-deploy train`.",
        )
    try:
        about = decode(Description, document)
    except FormError as error:
        raise InputError(f"{path} does not describe a run: {error}.", "Train again, with --restart.") from None
    epochs, notes = _read_log(folder / LOG_FILE)
    return Run(folder, about, epochs, notes)


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
