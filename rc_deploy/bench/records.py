"""What a benchmark is asked for and what it finds: frozen records, written as JSON and read back by `decode`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from rc_deploy import machine
from rc_deploy.runners import DeviceTime  # noqa: TC001 (`decode` reads the annotations of Timing)

if TYPE_CHECKING:
    from rc_deploy.bench.baseline import Comparison
    from rc_deploy.bench.profile import Profile

SCHEMA, SCHEMA_VERSION = "rc-deploy/bench", 2


@dataclass(frozen=True)
class BenchOptions:
    """How to measure.

    Attributes:
        batches: batch sizes.
        seconds: to spend on the counted turns of each batch size, all artefacts and loads together.
        threads: for one operator; None for every processor this process may use.
        factory: "module:callable" that builds a checkpoint's network.
        concurrency: callers that run an artefact at once.
        loads: how often each artefact is loaded anew; at least 2, for the interval comes from how loads differ.
        isolate: whether each artefact runs in a process of its own.
        profile: whether to say which layers the time goes to.
        baseline: JSON document of an earlier benchmark to hold this one against.
        limit: slow-down against the baseline that is allowed, e.g. 0.05.
        any_machine: whether the baseline may be of another machine.
    """

    batches: tuple[int, ...] = (1, 8, 64)
    seconds: float = 5.0
    threads: int | None = None
    factory: str | None = None
    concurrency: int = 1
    loads: int = 10
    isolate: bool = False
    profile: bool = False
    baseline: Path | None = None
    limit: float = 0.0
    any_machine: bool = False


DEFAULTS = BenchOptions()


@dataclass(frozen=True)
class Artefact:
    """A file that is timed.

    Attributes:
        path: of it.
        variant: how it runs, e.g. "compile"; empty for the usual way.
        sha256: of the file.
        kind: "checkpoint", "onnx" or "engine".
        precision: of its weights and activations.
        runner: what runs it, with its version and threads.
        shape: (C, H, W) of one image.
    """

    path: str
    variant: str
    sha256: str
    kind: str
    precision: str
    runner: str
    shape: tuple[int, int, int]

    @property
    def name(self) -> str:
        """The file's name without its folder, and how it runs."""
        return named(self.path, self.variant)


def named(path: str, variant: str) -> str:
    """Return how an artefact is called in tables: its file's name, and the variant where there is one."""
    name = PurePath(path).name or path
    return f"{name}@{variant}" if variant else name


@dataclass(frozen=True)
class Startup:
    """What it costs until an artefact answers for the first time; milliseconds and bytes.

    Attributes:
        artefact: index into the list of artefacts.
        first_load: from file to ready, the first time.
        load: the median of all loads.
        first_run: median of the first run after a load, at the first batch size.
        memory: more resident in the process after the first load and run than before; None where it cannot be told.
        peak: most that was ever resident, in a process of its own; None in a shared one.
    """

    artefact: int
    first_load: float
    load: float
    first_run: float
    memory: int | None
    peak: int | None


@dataclass(frozen=True)
class Timing:
    """Times of one artefact at one batch size; milliseconds.

    Attributes:
        artefact: index into the list of artefacts.
        batch: images per run.
        loads: how often it was loaded for them.
        rounds: turns counted, all loads together.
        p50, p90, p95, p99: percentiles of the time of a run.
        fastest: shortest run.
        spread: distance of the quartiles by the median, of the time of a run.
        p50_interval: confidence interval of the median.
        images_per_second: at the median turn, all callers together.
        ratio: median, over rounds, of the first artefact's time by this one's: how many times as fast this one is.
        ratio_spread: its 25th and 75th percentile.
        ratio_interval: confidence interval of the ratio.
        device: medians of the parts of a run on a GPU; None on a CPU.
    """

    artefact: int
    batch: int
    loads: int
    rounds: int
    p50: float
    p90: float
    p95: float
    p99: float
    fastest: float
    spread: float
    p50_interval: tuple[float, float]
    images_per_second: float
    ratio: float
    ratio_spread: tuple[float, float]
    ratio_interval: tuple[float, float]
    device: DeviceTime | None = None


@dataclass(frozen=True)
class Method:
    """How it was measured, in words for people and in numbers for whoever compares."""

    order: str
    turn: str
    warm_up: str
    clock: str
    interval: str
    startup: str
    seconds_per_batch_size: float
    loads: int
    threads: int
    concurrency: int
    isolated: bool


@dataclass(frozen=True)
class Bench:
    """Outcome of a benchmark; the first artefact is the one that the others are compared with.

    Attributes:
        artefacts: in the order they were named.
        method: how they were measured.
        startups: one for each artefact.
        timings: by batch size, and in that by artefact.
        gpu_clocks: what the GPU said of its clocks before and after; empty where there is none.
        profiles: one for each artefact, where they were asked for.
        comparison: with the baseline, where there is one.
    """

    artefacts: tuple[Artefact, ...]
    method: Method
    startups: tuple[Startup, ...]
    timings: tuple[Timing, ...]
    gpu_clocks: tuple[dict[str, str], ...] = ()
    profiles: tuple[Profile, ...] = ()
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "machine": machine.facts(), **asdict(self)}
