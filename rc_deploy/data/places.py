"""Where a data set's files are: in a folder of its own inside the data folder, or in the data folder itself."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from rc_deploy.errors import InputError

DATA_VARIABLE = "RC_DATA"


def data_folder(given: Path | None) -> Path | None:
    """Return the data folder that was given, or else the one that RC_DATA names; None where neither is."""
    return given or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)


def find(name: str, given: Path | None, folder: str, proof: str, advice: str) -> Path:
    """Return the folder of the data set `name`.

    Args:
        name: for messages.
        given: the data folder; RC_DATA's by default.
        folder: its own inside the data folder.
        proof: a file or folder that the data set has.
        advice: how to come by it.

    Raises:
        InputError: no data folder was given, or the data set is not in it.
    """
    root = data_folder(given)
    if root is None:
        raise InputError(
            f"{name} is not embedded and no folder was given.",
            f"{advice} Then pass --data-dir DIR (or set {DATA_VARIABLE}=DIR).",
        )
    for candidate in (root / folder, root):
        if (candidate / proof).exists():
            return candidate
    raise InputError(f"There is no {name} in {root}: {folder}/{proof} is missing.", advice)


def download_command(name: str, folder: Path | str) -> str:
    """Return the command that downloads a data set into a data folder."""
    return f"rc-deploy download {name} --data-dir {shlex.quote(str(folder))}"
