"""The order of things: every artefact is loaded again and again, and in between they take turns.

Whatever else the machine does thereby meets all of them alike. The order of loading, and that of the turns of a round,
is drawn anew each time: then nothing tells an artefact from itself named twice, and a difference between the two can
only be chance.

A turn is a pause, in which the threads of the library that ran before come to rest (they spin for a while, and would
take a core from the one that is timed), then a run that is not counted, which wakes the library's own threads, then
the one that is. Turns before times settle are not counted either.
"""

from __future__ import annotations

import gc
import math
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy.bench import callers
from rc_deploy.bench.clocks import gpu_clocks
from rc_deploy.bench.lanes import LocalLane
from rc_deploy.bench.processes import ProcessLane
from rc_deploy.bench.records import Bench, BenchOptions, Method, Startup
from rc_deploy.bench.statistics import CONFIDENCE, summarise
from rc_deploy.errors import InputError
from rc_deploy.runners import default_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rc_deploy.bench.lanes import Lane
    from rc_deploy.bench.records import Artefact
    from rc_deploy.bench.statistics import Rounds, Turn
    from rc_deploy.bench.subjects import Subject

SETTLE = 0.005
# Of each load.
LEAST_ROUNDS = 3
# Values of one batch: 1 GiB as float32, several times that with the noise it is made from and what networks add.
LARGEST_INPUT = 2**28
# Warm-up ends when the median of the last WINDOW rounds is within STEADY of the median of the WINDOW before.
WINDOW, STEADY, LONGEST_WARM_UP = 3, 0.05, 30


def side_by_side(chosen: Sequence[Subject], options: BenchOptions, on_progress: Callable[[str, float], None]) -> Bench:
    """Measure artefacts side by side.

    Args:
        chosen: at least one; the first is the base of the ratios.
        options: how.
        on_progress: called with what is being measured and the fraction done, 0 to 1.

    Raises:
        InputError: a file cannot be used, the artefacts take different inputs, or a batch is too large.
        UnsupportedError: an engine where none can be run, or a process of its own that ended.
        MissingDependencyError: what an artefact needs to run is not installed.
    """
    order = np.random.default_rng(0)
    clocks = [gpu_clocks()]
    loads = []
    for number in range(options.loads):
        on_batch = partial(_on_batch, on_progress, number, options.loads)
        loads.append(_Load(chosen, options, order, on_batch))
        gc.collect()
    return Bench(
        artefacts=loads[0].artefacts,
        method=_method(options),
        startups=tuple(_startup(index, loads) for index in range(len(chosen))),
        timings=tuple(
            summarise(index, batch, [load.rounds[batch] for load in loads])
            for batch in options.batches
            for index in range(len(chosen))
        ),
        gpu_clocks=tuple(found for found in (*clocks, gpu_clocks()) if found),
    )


def _on_batch(on_progress: Callable[[str, float], None], number: int, loads: int, batch: int, done: float) -> None:
    on_progress(f"load {number + 1} of {loads}, batch {batch}", (number + done) / loads)


class _Load:
    """What one load of every artefact found; seconds and bytes, in the order of the artefacts."""

    def __init__(
        self,
        chosen: Sequence[Subject],
        options: BenchOptions,
        order: np.random.Generator,
        on_batch: Callable[[int, float], None],
    ) -> None:
        lane_of = ProcessLane if options.isolate else LocalLane
        lanes: list[Lane] = [lane_of(subject, options) for subject in chosen]
        self.rounds: dict[int, Rounds] = {}
        self.first_runs: dict[int, float] = {}
        self.memory: dict[int, int | None] = {}
        with ExitStack() as stack:
            for index in order.permutation(len(lanes)).tolist():
                stack.enter_context(lanes[index])
                _require_size(lanes[index].artefact, options.batches)
                self.first_runs[index] = lanes[index].prepare(options.batches[0])
                self.memory[index], _ = lanes[index].memory()
            self.artefacts = tuple(lane.artefact for lane in lanes)
            _require_same_input(self.artefacts)
            for place, batch in enumerate(options.batches):
                on_batch(batch, place / len(options.batches))
                for lane in lanes:
                    lane.prepare(batch)
                self.rounds[batch] = measure(lanes, options.seconds / options.loads, order)
            self.seconds = tuple(lane.load_seconds for lane in lanes)
            self.peaks = tuple(lane.memory()[1] for lane in lanes)


def measure(lanes: Sequence[Lane], seconds: float, order: np.random.Generator) -> Rounds:
    """Return the counted rounds of lanes that are prepared, after a warm-up."""
    _warm_up(lanes, order)
    rounds: Rounds = []
    end = time.perf_counter() + seconds
    while len(rounds) < LEAST_ROUNDS or time.perf_counter() < end:
        rounds.append(_round(lanes, order))
    return rounds


def _warm_up(lanes: Sequence[Lane], order: np.random.Generator) -> None:
    rounds: list[list[float]] = []
    while len(rounds) < LONGEST_WARM_UP:
        rounds.append([turn.pace for turn in _round(lanes, order)])
        if len(rounds) < 2 * WINDOW:
            continue
        recent, before = np.median(rounds[-WINDOW:], axis=0), np.median(rounds[-2 * WINDOW : -WINDOW], axis=0)
        if np.all(np.abs(recent - before) <= STEADY * before):
            return


def _round(lanes: Sequence[Lane], order: np.random.Generator) -> list[Turn]:
    turns = {}
    for index in order.permutation(len(lanes)).tolist():
        time.sleep(SETTLE)
        turns[index] = lanes[index].turn()
    return [turns[index] for index in range(len(lanes))]


def _require_size(artefact: Artefact, batches: Sequence[int]) -> None:
    largest = LARGEST_INPUT // math.prod(artefact.shape)
    if max(batches) > largest:
        raise InputError(
            f"A batch of {max(batches):,} images {artefact.shape} would take too much memory.",
            f"Give batch sizes of at most {largest:,}.",
        )


def _require_same_input(artefacts: Sequence[Artefact]) -> None:
    if len({artefact.shape for artefact in artefacts}) > 1:
        raise InputError("The artefacts take images of different shapes.", "Compare networks for one input.")


def _startup(index: int, loads: Sequence[_Load]) -> Startup:
    peaks = [peak for load in loads if (peak := load.peaks[index]) is not None]
    return Startup(
        artefact=index,
        first_load=1000 * loads[0].seconds[index],
        load=1000 * float(np.median([load.seconds[index] for load in loads])),
        first_run=1000 * float(np.median([load.first_runs[index] for load in loads])),
        memory=loads[0].memory[index],
        peak=max(peaks, default=None),
    )


def _method(options: BenchOptions) -> Method:
    several = options.concurrency > 1
    calls = f"{options.concurrency} callers at once, {callers.CALLS_AT_ONCE} runs each" if several else "one run timed"
    place = "each in a process of its own" if options.isolate else "all in one process"
    clock = "wall clock of one call: normalised float32 images in, logits out, with a GPU's transfers"
    return Method(
        order=f"the artefacts, {place}, take turns in an order drawn anew each round",
        turn=f"pause of {1000 * SETTLE:g} ms, one run not counted, {calls}",
        warm_up=f"turns until medians of {WINDOW} agree within {STEADY:.0%}, at most {LONGEST_WARM_UP}",
        clock=clock if not several else f"{clock}; the ratio is that of throughputs",
        interval=f"{CONFIDENCE:.0%}, from a bootstrap that draws whole loads, with Student's t",
        startup="from file to ready, rc-deploy's checks included"
        + ("; from the start of the process" if options.isolate else "; libraries that were imported before count not"),
        seconds_per_batch_size=options.seconds,
        loads=options.loads,
        threads=options.threads or default_threads(),
        concurrency=options.concurrency,
        isolated=options.isolate,
    )
