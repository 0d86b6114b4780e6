"""How a training run is carried out, as opposed to what it trains, which is the recipe's."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Existing(StrEnum):
    """What is done about a run that the folder holds already."""

    KEEP = "keep"  # it is not replaced
    RESUME = "resume"
    RESTART = "restart"


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out: where it reads and writes, and what changes only its speed.

    Attributes:
        folder: the run's.
        output: the checkpoint to write; checkpoint.pt in the folder for None.
        data: folder of the data set, for those that do not come with a package.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        existing: what is done about a run that the folder holds already.
        tensorboard: write event files too.
        deterministic: take deterministic algorithms only.
        compile: run the network through torch.compile.
        cuda_graph: replay each step as one CUDA graph.
        command: the arguments that the program was given, for the record.
    """

    folder: Path
    output: Path | None = None
    data: Path | None = None
    device: str = "auto"
    existing: Existing = Existing.KEEP
    tensorboard: bool = False
    deterministic: bool = False
    compile: bool = False
    cuda_graph: bool = False
    command: tuple[str, ...] = ()

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint is written."""
        return self.output or self.folder / "checkpoint.pt"


def going_on(command: Sequence[str]) -> str:
    """Return the command line that goes on with the run that `command` began."""
    return shlex.join([*(word for word in command if word not in ("--restart", "--resume")), "--resume"])
