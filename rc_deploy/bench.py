"""Benchmarks: how fast artefacts are, side by side.

All artefacts are loaded at once and take turns, so that whatever else the machine does meets them alike. A turn is a
pause, in which the threads of the library that ran before come to rest (they spin for a while, and would take a core
from the one that is timed), then a run that is not counted, which wakes the library's own threads, then one that is.
Turns before times settle are not counted either.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy import data, loading, machine
from rc_deploy.artefacts import Kind
from rc_deploy.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rc_deploy.loading import Loaded
    from rc_deploy.runners import Runner

SCHEMA, SCHEMA_VERSION = "rc-deploy/bench", 1
SETTLE = 0.005
LEAST_ROUNDS = 10
# Values of one batch: 1 GiB as float32, several times that with the noise it is made from and what networks add.
LARGEST_INPUT = 2**28
# Warm-up ends when the median of the last WINDOW rounds is within STEADY of the median of the WINDOW before.
WINDOW, STEADY, LONGEST_WARM_UP = 5, 0.05, 50


@dataclass(frozen=True)
class BenchOptions:
    """How to measure.

    Attributes:
        batches: batch sizes.
        seconds: to spend on each batch size, all artefacts together.
        threads: for one operator; None for every processor this process may use.
        factory: "module:callable" that builds a checkpoint's network.
    """

    batches: tuple[int, ...] = (1, 8, 64)
    seconds: float = 5.0
    threads: int | None = None
    factory: str | None = None


@dataclass(frozen=True)
class Timing:
    """Times of one artefact at one batch size.

    Attributes:
        artefact: index into the list of artefacts.
        batch: images per run.
        rounds: runs counted.
        p50, p90, p99: percentiles of the time of a run, milliseconds.
        fastest: shortest run, milliseconds.
        images_per_second: at the median.
        ratio: median, over rounds, of the first artefact's time by this one's: how many times as fast this one is.
        ratio_spread: its 25th and 75th percentile.
    """

    artefact: int
    batch: int
    rounds: int
    p50: float
    p90: float
    p99: float
    fastest: float
    images_per_second: float
    ratio: float
    ratio_spread: tuple[float, float]


@dataclass(frozen=True)
class Bench:
    """Outcome of a benchmark; the first artefact is the one that the others are compared with."""

    artefacts: tuple[Loaded, ...]
    options: BenchOptions
    timings: tuple[Timing, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "machine": machine.facts(),
            "method": {
                "order": "the artefacts take turns",
                "turn": f"pause of {1000 * SETTLE:g} ms, one run not counted, one run timed",
                "warm_up": f"turns until medians of {WINDOW} agree within {STEADY:.0%}, at most {LONGEST_WARM_UP}",
                "clock": "wall clock of one call: normalised float32 images in, logits out",
                "seconds_per_batch_size": self.options.seconds,
            },
            "artefacts": [
                {
                    "path": str(loaded.path),
                    "sha256": loaded.sha256,
                    "kind": loaded.kind.name.lower(),
                    "precision": loaded.precision.value,
                    "runner": loaded.runner.name,
                }
                for loaded in self.artefacts
            ],
            "timings": [asdict(timing) for timing in self.timings],
        }


def bench(
    artefacts: Sequence[Path],
    options: BenchOptions = BenchOptions(),
    on_progress: Callable[[str, float], None] = lambda *_: None,
) -> Bench:
    """Measure checkpoints (PyTorch eager) and ONNX files (ONNX Runtime) on the CPU, and engines on a GPU, side by side.

    Args:
        artefacts: at least one; the first is the base of the ratios.
        options: how.
        on_progress: called with what is being measured and the fraction done, 0 to 1.

    Raises:
        InputError: a file cannot be used, the artefacts take different inputs, or a batch is too large.
        UnsupportedError: an engine that this machine cannot run.
    """
    loaded = tuple(_load(path, options) for path in artefacts)
    spec = loaded[0].input
    if any(other.input.shape != spec.shape for other in loaded):
        raise InputError("The artefacts take images of different shapes.", "Compare networks for one input.")
    largest = LARGEST_INPUT // math.prod(spec.shape)
    if max(options.batches) > largest:
        raise InputError(
            f"A batch of {max(options.batches):,} images {spec.shape} would take too much memory.",
            f"Give batch sizes of at most {largest:,}.",
        )
    timings: list[Timing] = []
    with ExitStack() as stack:
        runners = [stack.enter_context(artefact.runner) for artefact in loaded]
        for index, batch in enumerate(options.batches):
            on_progress(f"batch {batch}", index / len(options.batches))
            noise = np.random.default_rng(0).integers(0, 256, (batch, *spec.shape), np.uint8)
            times = _measure(runners, data.normalise(noise, spec), options.seconds)
            timings += [_summarise(number, batch, times) for number in range(len(loaded))]
    on_progress("done", 1.0)
    return Bench(loaded, options, tuple(timings))


def _load(path: Path, options: BenchOptions) -> Loaded:
    found = loading.load(path, options.threads, options.factory)
    if found.kind is Kind.ENGINE and found.note:
        raise UnsupportedError(
            f"{path} cannot be timed: {found.note.split('. ')[0].removeprefix('The engine itself was NOT run: ')}.",
            "Times of its typed ONNX on a CPU say nothing about the engine; name that file to measure it as such.",
        )
    return found


def _measure(runners: list[Runner], images: NDArray[np.float32], seconds: float) -> NDArray[np.float64]:
    """Return the times of counted rounds (rounds, runners) in seconds."""
    _warm_up(runners, images)
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(rounds) < LEAST_ROUNDS or time.perf_counter() < end:
        rounds.append(_round(runners, images))
    return np.array(rounds)


def _warm_up(runners: list[Runner], images: NDArray[np.float32]) -> None:
    rounds: list[list[float]] = []
    while len(rounds) < LONGEST_WARM_UP:
        rounds.append(_round(runners, images))
        recent, before = (
            np.median(rounds[-WINDOW:], axis=0),
            np.median(rounds[-2 * WINDOW : -WINDOW] or [[0]], axis=0),
        )
        if len(rounds) >= 2 * WINDOW and np.all(np.abs(recent - before) <= STEADY * before):
            return


def _round(runners: list[Runner], images: NDArray[np.float32]) -> list[float]:
    times = []
    for runner in runners:
        time.sleep(SETTLE)
        runner.run(images)
        start = time.perf_counter()
        runner.run(images)
        times.append(time.perf_counter() - start)
    return times


def _summarise(artefact: int, batch: int, times: NDArray[np.float64]) -> Timing:
    """Summarise column `artefact` of times (rounds, artefacts) in seconds."""
    own = 1000 * times[:, artefact]
    p50, p90, p99 = np.percentile(own, (50, 90, 99)).tolist()
    low, ratio, high = np.percentile(times[:, 0] / times[:, artefact], (25, 50, 75)).tolist()
    return Timing(
        artefact=artefact,
        batch=batch,
        rounds=len(own),
        p50=p50,
        p90=p90,
        p99=p99,
        fastest=float(own.min()),
        images_per_second=1000 * batch / p50,
        ratio=ratio,
        ratio_spread=(low, high),
    )
