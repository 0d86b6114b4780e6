"""Lanes: an artefact, loaded, that takes its turns in this process. `processes` has those in processes of their own."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from rc_deploy import data
from rc_deploy.bench import memory, subjects
from rc_deploy.bench.callers import Callers
from rc_deploy.bench.records import Artefact

if TYPE_CHECKING:
    from rc_deploy.bench.records import BenchOptions
    from rc_deploy.bench.statistics import Turn
    from rc_deploy.bench.subjects import Subject


class Lane(Protocol):
    """One artefact, loaded on enter and freed on exit.

    Attributes:
        artefact: what it is.
        load_seconds: from file to ready.
    """

    artefact: Artefact
    load_seconds: float

    def __enter__(self) -> Self:
        """Load the artefact."""
        ...

    def __exit__(self, *exception: object) -> None:
        """Free it."""
        ...

    def prepare(self, batch: int) -> float:
        """Make a batch of noise and run it once; return the seconds of that run."""
        ...

    def turn(self) -> Turn:
        """Run the batch once without counting and then for the clock."""
        ...

    def memory(self) -> tuple[int | None, int | None]:
        """Return the bytes resident more than before the load, and the most ever resident in a process of its own."""
        ...


class LocalLane:
    """A lane in this process."""

    def __init__(self, subject: Subject, options: BenchOptions) -> None:
        self._subject = subject
        self._options = options

    def __enter__(self) -> Self:
        """Load the artefact. Raises as `subjects.load`."""
        self._before = memory.resident()
        start = time.perf_counter()
        loaded = subjects.load(self._subject, self._options.threads, self._options.factory)
        with ExitStack() as stack:
            runner = stack.enter_context(loaded.runner)
            self.load_seconds = time.perf_counter() - start
            self._callers = stack.enter_context(Callers(runner, self._options.concurrency))
            self._stack = stack.pop_all()
        self._runner, self._input = runner, loaded.input
        self.artefact = Artefact(
            path=str(loaded.path),
            variant=self._subject.variant,
            sha256=loaded.sha256,
            kind=loaded.kind.name.lower(),
            precision=loaded.precision.value,
            runner=loaded.runner.name,
            shape=loaded.input.shape,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        """Free it."""
        self._stack.close()
        del self._runner, self._callers

    def prepare(self, batch: int) -> float:
        """Make a batch of noise, the same for every lane, and run it once; return the seconds of that run."""
        noise = np.random.default_rng(0).integers(0, 256, (batch, *self._input.shape), np.uint8)
        self._images = data.normalise(noise, self._input)
        start = time.perf_counter()
        self._runner.run(self._images)
        return time.perf_counter() - start

    def turn(self) -> Turn:
        """Run the batch once without counting and then for the clock."""
        return self._callers.turn(self._images)

    def memory(self) -> tuple[int | None, int | None]:
        """Return the bytes resident more than before the load; the most ever resident is not the artefact's alone."""
        now = memory.resident()
        return (None if now is None or self._before is None else now - self._before), None
