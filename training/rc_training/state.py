"""What an interrupted run goes on from: a file per epoch, the last two of which are kept.

On disk it is {"rc_deploy_training": JSON text, "network": ..., "optimizer": ..., "draws": ...}, written by `torch.save`
and read without unpickling objects. A file is taken only if every checksum in it is right.
"""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from rc_deploy.decode import FormError, decode, parse
from rc_deploy.errors import InputError, reason
from rc_deploy.files import atomic_write, json_text, require_file
from rc_training.progress import EpochResult  # noqa: TC001 (`decode` reads the annotations of Past)

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
KEY = "rc_deploy_training"
PARTS: dict[str, type] = {"network": dict, "optimizer": dict, "draws": torch.Tensor}
HINT = "Begin the run again: --restart"


@dataclass(frozen=True)
class Past:
    """What a run did so far.

    Attributes:
        recipe: all keys of it.
        history: of every epoch.
        seconds: that they took, in all sessions.
        version: of this format.
    """

    recipe: dict[str, Any]
    history: tuple[EpochResult, ...]
    seconds: float
    version: int = VERSION


@dataclass(frozen=True)
class State:
    """A run between two epochs.

    Attributes:
        past: what it did so far.
        network: its state dict.
        optimizer: the "state" of its state dict: what it remembers of each parameter.
        draws: where the generator stands that everything random comes from.
    """

    past: Past
    network: dict[str, Any]
    optimizer: dict[int, Any]
    draws: torch.Tensor


def save(state: State, path: Path, previous: Path) -> None:
    """Write `state` to `path`; what was there is `previous` from then on.

    Killed at any moment, this leaves at least one of the two whole. Raises OutputError.
    """
    content = {KEY: json_text(asdict(state.past)), **{part: getattr(state, part) for part in PARTS}}
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            torch.save(content, file)
        if path.exists():
            path.replace(previous)


def load(path: Path) -> State:
    """Read a state. Raises InputError where it is missing, half-written, damaged or something else."""
    require_file(path, "state of a run")
    try:
        # PyTorch's own reader does not compare the checksums.
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise InputError(f"{damaged} does not have its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (damaged bytes make the readers fail in any way there is)
        raise InputError(f"{path} is half-written, damaged or no state of a run: {reason(error)}.", HINT) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), kind) for part, kind in PARTS.items()):
        raise InputError(f"{path} is not the state of a run.", HINT)
    return State(_past(path, content.get(KEY)), **{part: content[part] for part in PARTS})


def _past(path: Path, text: Any) -> Past:
    try:
        document = parse(text)
        # Before the rest, which another version may spell differently.
        version = document.get("version") if isinstance(document, dict) else None
        if type(version) is int and version != VERSION:
            raise InputError(f"{path} has format version {version}; this rc-deploy reads {VERSION}.", HINT)
        return decode(Past, document)
    except FormError as error:
        raise InputError(f"{path} is not the state of a run: {error}.", HINT) from None
