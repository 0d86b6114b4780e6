"""Training in several processes that torchrun starts, one per device, each with a part of every batch.

    torchrun --nproc-per-node 2 -m -- rc_deploy train RECIPE

("--" keeps torchrun from taking --run for an abbreviation of an option of its own.)
A batch is cut into parts of as equal a size as can be, between pairs of images; each process reads, augments and
computes its own. What is summed over its images (the loss, the gradients, the
statistics of batch normalisation) is summed over all processes, so that a network does not depend on how many there
are, but for the order in which sums are taken, and for dropout, whose masks each process draws for itself.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from rc_deploy.errors import InputError, UnsupportedError, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds for which the others are waited for: longer than compiling a network or writing a checkpoint takes.
PATIENCE = 600
# What torchrun tells each process. MASTER_ADDR and MASTER_PORT are PyTorch's to read.
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together.

    Attributes:
        rank: of this one, from 0. Number 0 writes files and reports.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def part(self, count: int) -> slice:
        """Return which of `count` images are this process's; the sizes of the parts differ by two at most.

        Pairs (0 and 1, 2 and 3, ...) stay together: `mix` wants both images of each.
        """
        pairs = (count + 1) // 2
        start, stop = (2 * (pairs * rank // self.size) for rank in (self.rank, self.rank + 1))
        return slice(start, min(stop, count))

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of `tensor` (of one shape everywhere) over all processes; `tensor` itself if this is the only.

        Raises:
            UnsupportedError: a process ended, or did not answer in time.
        """
        return tensor if self.size == 1 else sum_over_processes(tensor)

    def agree(self, value: float) -> bool:
        """Return whether every process says the same number. Raises what `sum` does."""
        said = torch.zeros(self.size, dtype=torch.float64)
        said[self.rank] = value
        return len(set(self.sum(said).tolist())) == 1

    def wait(self) -> None:
        """Return once every process is here. Raises what `sum` does."""
        self.sum(torch.zeros(()))


def current() -> Processes:
    """Return the processes that are connected: this one alone outside of `connected`."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()


def local_device(place: torch.device) -> torch.device:
    """Return the device of this process where the run is on `place`: with torchrun, the GPU of its local rank.

    Raises:
        UnsupportedError: this machine has fewer GPUs than processes.
    """
    local = _environment()["LOCAL_RANK"]
    if place.type != "cuda":
        return place
    if local >= torch.cuda.device_count():
        raise UnsupportedError(
            f"Process {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}.",
            f"Start torchrun with --nproc-per-node {torch.cuda.device_count()}.",
        )
    return torch.device("cuda", local)


@contextmanager
def connected(place: torch.device, patience: float = PATIENCE) -> Iterator[Processes]:
    """Connect this process with the others of a torchrun, for as long as the context lasts.

    Without torchrun, or with one process of it, nothing is connected. An error in one process ends the others too:
    a closed connection at their next sum, or else `patience`.

    Args:
        place: this process's device: NCCL connects GPUs, gloo CPUs.
        patience: seconds that a sum waits for the other processes.

    Raises:
        InputError: torchrun's environment variables are incomplete or not numbers.
        UnsupportedError: the processes could not reach each other.
    """
    if _environment()["WORLD_SIZE"] == 1:
        yield Processes()
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    try:
        dist.init_process_group(
            "nccl" if place.type == "cuda" else "gloo",
            timeout=timedelta(seconds=patience),
            device_id=place if place.type == "cuda" else None,
        )
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(
            f"The processes of this run cannot reach each other: {reason(error)}.",
            "Start all of them with torchrun, and check --rdzv-endpoint and the network between the machines.",
        ) from error
    yield current()
    # After an error the process is about to end, which closes connections too; to close them properly, the others would
    # have to be waited for.
    dist.destroy_process_group()


@torch.library.custom_op("rc_training::sum_over_processes", mutates_args=())
def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of `tensor` over all processes; an operator, so that torch.compile keeps it as it is."""
    # NCCL sends from GPUs alone.
    place = f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"
    total = tensor.to(place, copy=True, memory_format=torch.contiguous_format)
    try:
        dist.all_reduce(total)
    except RuntimeError as error:
        raise UnsupportedError(
            f"Another process of this run ended or does not answer: {reason(error)}.",
            "Its own message says why. Start the run again with --resume.",
        ) from error
    return total.to(tensor.device)


@sum_over_processes.register_fake
def _(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _environment() -> dict[str, int]:
    """Return torchrun's variables; those of a process that is alone where there are none."""
    found = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    if not found:
        return {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
    if len(found) < len(_VARIABLES) or not all(value.isdecimal() for value in found.values()):
        said = ", ".join(f"{name}={found.get(name, '')}" for name in _VARIABLES)
        raise InputError(
            f"The environment of a training process is incomplete or damaged: {said}.",
            "Start several processes with torchrun, which sets all of these; for one process, unset them.",
        )
    return {name: int(value) for name, value in found.items()}
