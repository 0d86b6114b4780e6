"""What a report is made of: one frozen record per kind of document, with the checks that its types cannot express."""

# No `from __future__ import annotations`: `decode` reads these annotations when the program runs.
from dataclasses import dataclass
from typing import Any

from rc_deploy.bench import Method, Timing
from rc_deploy.bench.records import named
from rc_deploy.bisection import Bisection
from rc_deploy.compare import Comparison
from rc_deploy.engine.readback import Readback
from rc_deploy.flips import Flip
from rc_deploy.gpu import Gpu
from rc_deploy.manifest import FileRecord
from rc_deploy.matrix import Row
from rc_deploy.responses import Responses
from rc_deploy.tolerances import Tolerance
from rc_deploy.verdict import Criterion

# What the libraries call the type of a layer that was asked for.
LAYER_TYPES = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16", "int8": "INT8", "fp8": "FP8"}
# Times, throughputs and their ratios outside these are damage, and no axis could show them beside others.
LEAST, MOST = 1e-12, 1e15


@dataclass(frozen=True)
class Machine:
    """What `rc_deploy.machine.facts` says."""

    created: str
    rc_deploy: str
    cpu: str
    usable_cores: int
    load_average: float
    system: str
    python: str
    gpus: tuple[Gpu, ...]
    cuda_driver: str | None
    packages: dict[str, str]


@dataclass(frozen=True)
class Subject:
    """A file that was run: artefact or reference. `note` says where something else ran in its stead."""

    path: str
    kind: str
    sha256: str
    precision: str
    runner: str
    note: str = ""
    variant: str = ""

    @property
    def name(self) -> str:
        """The file's name without its folder, and how it ran where that is not the usual way."""
        return named(self.path, self.variant)

    @property
    def title(self) -> str:
        """What it is in words, e.g. "fp16 graph"; an engine that did not run itself is not called one."""
        if self.kind == "engine" and self.note:
            return f"{self.precision} graph behind the engine"
        return f"{self.precision} {'graph' if self.kind == 'onnx' else self.kind}"


@dataclass(frozen=True)
class Validation:
    """What `rc-deploy validate` says of one artefact."""

    artefact: Subject
    reference: Subject
    data: str
    comparison: Comparison
    tolerance: Tolerance
    criteria: tuple[Criterion, ...]
    passed: bool
    layers: Bisection | None = None
    flips: tuple[Flip, ...] = ()

    def __post_init__(self) -> None:
        for flip in self.flips:
            flip.picture()  # raises where it is none
        # The verdict is worked out from value and bound again: a report must not repeat a claim that they deny.
        if not self.criteria or self.passed != all(criterion.passed for criterion in self.criteria):
            raise ValueError("'passed' is not what the criteria's values and bounds give")


@dataclass(frozen=True)
class Selection:
    """Which images ran."""

    data: str
    limit: int | None
    seed: int | None


@dataclass(frozen=True)
class Chain:
    """An outcome of `rc-deploy validate`: one or several artefacts against one reference."""

    machine: Machine
    selection: Selection
    validations: tuple[Validation, ...]
    passed: bool
    matrix: tuple[Row, ...] = ()
    responses: Responses | None = None

    def __post_init__(self) -> None:
        if not self.validations or self.passed != all(item.passed for item in self.validations):
            raise ValueError("'passed' is not what its validations give")
        if len({item.reference for item in self.validations}) > 1:
            raise ValueError("its validations are against several references")


@dataclass(frozen=True)
class Bench:
    """An outcome of `rc-deploy bench`; the first artefact is the base of the ratios."""

    machine: Machine
    method: Method
    artefacts: tuple[Subject, ...]
    timings: tuple[Timing, ...]

    def __post_init__(self) -> None:
        if not self.artefacts or not self.timings:
            raise ValueError("it holds no timings")
        for timing in self.timings:
            if not 0 <= timing.artefact < len(self.artefacts):
                raise ValueError(f"a timing names artefact {timing.artefact} of {len(self.artefacts)}")
            values = (timing.p50, timing.p90, timing.p95, timing.p99, timing.images_per_second, timing.ratio)
            if timing.batch < 1 or not all(LEAST < value < MOST for value in values):
                raise ValueError("a timing is not a plausible positive number")
            if not timing.p50 <= timing.p90 <= timing.p95 <= timing.p99:
                raise ValueError("a timing's percentiles do not ascend")

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes, ascending."""
        return tuple(sorted({timing.batch for timing in self.timings}))

    def of(self, artefact: int) -> tuple[Timing, ...]:
        """Return the timings of one artefact, by batch size."""
        return tuple(sorted((t for t in self.timings if t.artefact == artefact), key=lambda t: t.batch))


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training reached; accuracies in percent."""

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Metrics:
    """What a training run reached; accuracies in percent."""

    test_accuracy_last: float
    test_accuracy_best: float
    epochs: int
    seconds: float
    images_per_second: float
    history: tuple[Epoch, ...]
    device: str = ""


@dataclass(frozen=True)
class Training:
    """An outcome of `rc-deploy train`."""

    machine: Machine
    architecture: str
    arguments: dict[str, Any]
    parameters: int
    recipe: dict[str, Any]
    metrics: Metrics
    checkpoint: str = ""


@dataclass(frozen=True)
class Planned:
    """How many convolutions and matrix products should compute in the precision asked for, and how many in float32."""

    narrow: int
    wide: int


@dataclass(frozen=True)
class Calibration:
    """What the ranges of a quantised graph were measured on."""

    data: str
    images: int
    method: str


@dataclass(frozen=True)
class Precision:
    """The precision asked for, and what was read back from the build."""

    asked: str
    found: Readback
    planned: Planned
    kept: tuple[str, ...] = ()
    calibration: Calibration | None = None

    @property
    def layers_as_asked(self) -> int | None:
        """How many of them have the type asked for; None where its name is not known."""
        name = LAYER_TYPES.get(self.asked)
        return None if name is None else self.found.compute_layers.get(name, 0)


@dataclass(frozen=True)
class Proof:
    """What a manifest records of a validation of its engine."""

    data: str
    images: int
    executed: str
    note: str
    max_error: float
    agreement: float
    passed: bool


@dataclass(frozen=True)
class Proven:
    """What a manifest records as proven."""

    validation: Proof | None = None


@dataclass(frozen=True)
class Build:
    """A manifest that `rc-deploy build` wrote beside an engine."""

    engine: FileRecord
    source: FileRecord
    typed_onnx: FileRecord
    checkpoint_sha256: str
    backend: dict[str, str]
    compute_capabilities: tuple[str, ...]
    batch: str
    precision: Precision
    created: str
    rc_deploy: str
    seconds: float
    plugins: tuple[FileRecord, ...] = ()
    proven: Proven = Proven()
