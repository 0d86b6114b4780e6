"""Profiles: where the time of a run goes, layer by layer, with RC and GCLU layers told from the others."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy import data
from rc_deploy.bench import bandwidth, subjects
from rc_deploy.bench.profile_onnx import onnx_spans
from rc_deploy.bench.profile_torch import cuda_spans, torch_spans
from rc_deploy.bench.spans import GCLU, OTHER, RC
from rc_deploy.cuda_runner import TorchCudaRunner
from rc_deploy.optional import require
from rc_deploy.runners import OnnxRunner, TorchRunner, default_threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rc_deploy.bench.records import BenchOptions
    from rc_deploy.bench.spans import Span
    from rc_deploy.bench.subjects import Subject

RUNS = 20
OUTSIDE = "(outside of layers)"


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        name: of the PyTorch module that it is, or of its node where the file does not tell.
        kind: "rc", "gclu" or "other".
        operators: what ran for it, in the words of the library.
        milliseconds: per run.
        share: of the whole run, 0 to 1.
        moved: bytes per run that its operators read and write: their inputs, weights and outputs, each once.
    """

    name: str
    kind: str
    operators: tuple[str, ...]
    milliseconds: float
    share: float
    moved: int

    @property
    def bandwidth(self) -> float:
        """Bytes moved per second; 0 where nothing is known of either."""
        return 1000 * self.moved / self.milliseconds if self.milliseconds else 0.0


@dataclass(frozen=True)
class Profile:
    """Where the time of an artefact's run goes. Profiling itself takes time: shares, not times, are its result.

    Attributes:
        artefact: index into the list of artefacts.
        batch: images per run.
        runs: that were profiled; times are medians.
        milliseconds: of a run.
        layers: in the order in which they first run.
        shares: of RC and of GCLU layers, 0 to 1.
        bandwidth: of the memory, bytes per second, measured by copying on the same threads or GPU.
        note: why there is none.
    """

    artefact: int
    batch: int
    runs: int = 0
    milliseconds: float = math.nan
    layers: tuple[Layer, ...] = ()
    shares: tuple[tuple[str, float], ...] = ()
    bandwidth: float = math.nan
    note: str = ""


def profile(index: int, subject: Subject, options: BenchOptions) -> Profile:
    """Profile one artefact at the first batch size. Raises as `subjects.load`."""
    loaded = subjects.load(subject, options.threads, options.factory)
    batch = options.batches[0]
    noise = np.random.default_rng(0).integers(0, 256, (batch, *loaded.input.shape), np.uint8)
    images = data.normalise(noise, loaded.input)
    runner = loaded.runner
    if isinstance(runner, TorchCudaRunner) and not runner.records:
        total, spans = cuda_spans(runner, images, RUNS)
        return of_spans(index, batch, total, spans, bandwidth.of_gpu(require("torch", "Measuring a GPU's memory")))
    if isinstance(runner, OnnxRunner):
        total, spans = onnx_spans(runner, images, RUNS)
    elif isinstance(runner, TorchRunner) and not runner.compiles:
        total, spans = torch_spans(runner, images, RUNS)
    else:
        return Profile(index, batch, note=f"{runner.name} does not say which layer its code belongs to.")
    return of_spans(index, batch, total, spans, bandwidth.of_cpu(options.threads or default_threads()))


def of_spans(index: int, batch: int, total: float, spans: Iterable[Span], copied: float = math.nan) -> Profile:
    """Add up, by layer, the spans of a run that took `total` seconds; `copied` is the memory's bandwidth."""
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    moved: dict[tuple[str, str], int] = defaultdict(int)
    operators: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for span in spans:
        seconds[span.layer, span.kind] += span.seconds
        moved[span.layer, span.kind] += span.moved
        operators[span.layer, span.kind][span.operator] = None
    seconds[OUTSIDE, OTHER] += max(total - sum(seconds.values()), 0.0)
    layers = tuple(
        Layer(name, kind, tuple(operators[name, kind]), 1000 * spent, spent / total, moved[name, kind])
        for (name, kind), spent in seconds.items()
    )
    shares = tuple((kind, sum(layer.share for layer in layers if layer.kind == kind)) for kind in (RC, GCLU))
    return Profile(index, batch, RUNS, 1000 * total, layers, shares, copied)
