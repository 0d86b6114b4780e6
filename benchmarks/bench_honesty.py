"""Does `rc-deploy bench` tell the truth? python benchmarks/bench_honesty.py [MODEL.onnx] measures it on real runs.

1. A/A: an artefact against itself, twenty times. The interval of the ratio must contain 1.00 in at least nineteen.
2. A/B: the artefact against itself with a slow-down of 5% planted in each of its runs, twenty times. The interval must
   leave out 1.00, on the right side, in at least nineteen.

The planted delay is a loop that keeps the processor, for a sleep is seldom as long as it was asked to be; how long it
must be is found by timing the artefact first. Run it on a quiet machine; it takes about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self
from unittest.mock import patch

import numpy as np

from native_cpu import exported
from rc_deploy import data
from rc_deploy.bench import BenchOptions, bench, subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from rc_deploy.bench.subjects import Subject
    from rc_deploy.loading import Loaded
    from rc_deploy.runners import Runner

RUNS = 20
SLOW_DOWN = 0.05
BATCH, SECONDS = 1, 10.0
CALIBRATION_RUNS = 200


def main() -> None:
    """Print every interval, and end with 1 where the claims do not hold."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", nargs="?", type=Path, help="ONNX file; by default a ResCNet-32 with fresh weights")
    arguments.add_argument("--json", type=Path, help="write the intervals here too")
    arguments.add_argument("--seconds", type=float, default=SECONDS, help="for each benchmark")
    arguments.add_argument("--runs", type=int, default=RUNS, help="of each kind; one in twenty may fail")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.model is None:
            exported("rescnet32", Path(folder))
        model = chosen.model or Path(folder) / "rescnet32.onnx"
        options = BenchOptions(batches=(BATCH,), seconds=chosen.seconds, threads=1)
        same = list(_repeated("A/A", (model, model), options, chosen.runs))
        copy = Path(shutil.copy(model, Path(folder) / "slowed.onnx"))
        with patch.object(subjects, "load", _planted(copy, _delay(model))):
            slowed = list(_repeated("A/B", (model, copy), options, chosen.runs))
    honest = sum(low <= 1 <= high for low, high in same)
    found = sum(high < 1 for _, high in slowed)
    due = chosen.runs - chosen.runs // 20
    print(f"A/A: {honest} of {chosen.runs} intervals contain 1.00, {due} are due")
    print(f"A/B: {found} of {chosen.runs} intervals show the planted slow-down of {SLOW_DOWN:.0%}, {due} are due")
    if chosen.json:
        chosen.json.write_text(json.dumps({"same": same, "slowed": slowed, "seconds": chosen.seconds}, indent=2))
    raise SystemExit(0 if min(honest, found) >= due else 1)


def _repeated(title: str, models: tuple[Path, Path], options: BenchOptions, runs: int) -> Iterator[tuple[float, float]]:
    for number in range(runs):
        outcome = bench([str(model) for model in models], options)
        timing = outcome.timings[1]
        low, high = timing.ratio_interval
        print(
            f"{title} {number + 1:2}: {timing.ratio:.4f} ({low:.4f} to {high:.4f}), {timing.rounds} rounds", flush=True
        )
        yield low, high


def _delay(model: Path) -> float:
    """Return the seconds that make a run of the model slower by SLOW_DOWN."""
    loaded = subjects.load(subjects.Subject(model), 1, None)
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, *loaded.input.shape), np.uint8)
    images = data.normalise(noise, loaded.input)
    with loaded.runner as runner:
        times = []
        for _ in range(CALIBRATION_RUNS):
            start = time.perf_counter()
            runner.run(images)
            times.append(time.perf_counter() - start)
    return SLOW_DOWN * float(np.median(times))


class _Slowed:
    """A runner that keeps the processor for `delay` seconds longer in each run."""

    def __init__(self, runner: Runner, delay: float) -> None:
        self._runner = runner
        self._delay = delay
        self.name = runner.name

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.__exit__(*exception)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the images, then wait."""
        logits = self._runner.run(images)
        end = time.perf_counter() + self._delay
        while time.perf_counter() < end:
            pass
        return logits

    def run_float64(self, images: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Run the images in float64."""
        return self._runner.run_float64(images)


def _planted(slowed: Path, delay: float) -> Callable[..., Loaded]:
    """Return what loads subjects as ever, but for one file whose runs take longer."""
    load = subjects.load

    def loaded(subject: Subject, threads: int | None, factory: str | None) -> Loaded:
        found = load(subject, threads, factory)
        return replace(found, runner=_Slowed(found.runner, delay)) if subject.path == slowed else found

    return loaded


if __name__ == "__main__":
    main()
