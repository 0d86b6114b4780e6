"""Running a chain: the reference and every program for it, on real images and on some made to break things."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy import data, stress, tolerances
from rc_deploy.compare import absolute_error
from rc_deploy.condition import condition
from rc_deploy.errors import InputError
from rc_deploy.graph import model as onnx_model
from rc_deploy.matrix import Link
from rc_deploy.parts import BY_PARTS, Evidence, prove
from rc_deploy.specs import BatchRange, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from rc_deploy.data import ImageSet
    from rc_deploy.loading import Loaded
    from rc_deploy.parts import Proof
    from rc_deploy.runners import Runner
    from rc_deploy.specs import InputSpec
    from rc_deploy.tolerances import Rounding, Tolerance

    OnProgress = Callable[[str, float], None]

CONDITION_IMAGES = 32


@dataclass(frozen=True)
class Program:
    """One way to run an artefact, under a title for tables."""

    loaded: Loaded
    runner: Runner
    title: str


@dataclass(frozen=True)
class Run:
    """What one program computed.

    Attributes:
        program: that ran.
        logits: (N, K).
        tolerance: on its difference from the reference.
        proof: what the parts of a coarsely typed graph prove; None for the others, whose logits prove enough.
        stress: what the inputs made to break things showed; empty where they were not run.
        batch_error: largest error of a logit in batches of other sizes; None where they were not run.
    """

    program: Program
    logits: NDArray[np.float32]
    tolerance: Tolerance
    proof: Proof | None = None
    stress: tuple[stress.Outcome, ...] = ()
    batch_error: float | None = None


@dataclass(frozen=True)
class ReferenceRun:
    """What the reference computed, and all that tolerances are derived from.

    Attributes:
        loaded: the reference.
        images: (N, C, H, W) of the validation.
        logits: (N, K).
        roundings: of its arithmetic.
        condition: kappa on the data.
        exact: logits of the first images in float64 (M, K); None where it cannot compute them, or nobody asked.
    """

    loaded: Loaded
    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    roundings: list[Rounding]
    condition: float
    exact: NDArray[np.float64] | None

    def tolerance(self, precision: Precision, noise: float = 0.0) -> Tolerance:
        """Return the tolerance of an artefact in `precision`, whose quantisation adds a variance of `noise`."""
        return tolerances.derive(self.roundings, precision, self.logits, self.condition, noise)

    def proof(self, found: Loaded) -> Proof | None:
        """Return what the parts of an artefact prove where its logits alone would prove too little."""
        if found.precision not in BY_PARTS:
            return None
        model = found.graph()
        evidence = Evidence(self.loaded.graph, self.images, self.logits, self.roundings, self.condition)
        return prove(model, onnx_model.provenance(model, str(found.path)), evidence)

    def runs(self, ran: Sequence[tuple[Program, NDArray[np.float32]]]) -> list[Run]:
        """Return what each program computed, with what is allowed to it; programs of one artefact share its proof."""
        proofs = {loaded.path: self.proof(loaded) for loaded in {program.loaded for program, _ in ran}}
        noise = {path: proof.noise if proof else 0.0 for path, proof in proofs.items()}
        return [
            Run(program, logits, self.tolerance(loaded.precision, noise[loaded.path]), proofs[loaded.path])
            for program, logits in ran
            for loaded in [program.loaded]
        ]

    def links(self, runs: Sequence[Run]) -> Iterator[Link]:
        """Yield the links of the chain: float64 where it ran, the reference, then every run."""
        name, runner = self.loaded.path.name, self.loaded.runner.name
        if self.exact is not None:
            yield Link(name, runner, "float64", self.exact, self.tolerance(Precision.FP32))
        yield Link(name, runner, self.loaded.precision, self.logits, None)
        for run in runs:
            program = run.program
            yield Link(program.title, program.runner.name, program.loaded.precision, run.logits, run.tolerance)


def run_chain(
    expected: Loaded,
    found: Sequence[Loaded],
    images: ImageSet,
    batch: int,
    float64: int,
    with_stress: bool,
    on_progress: OnProgress,
) -> tuple[ReferenceRun, list[Run]]:
    """Run the reference and every program of the artefacts.

    Args:
        expected: the reference.
        found: the artefacts.
        images: real ones.
        batch: images per run.
        float64: images that the reference runs in float64 as well.
        with_stress: run inputs made to break things, and batches of several sizes.
        on_progress: called with what was done, and the fraction.

    Raises:
        InputError: nothing can be held against this reference, or outputs differ in shape.
    """
    programs = [program for loaded in found for program in _programs(loaded)]
    batch = min([batch, *(loaded.batch.maximum for loaded in found if loaded.batch)])
    runners = [expected.runner, *(program.runner for program in programs)]
    roundings = expected.roundings()
    with ExitStack() as stack:
        for runner in runners:
            stack.enter_context(runner)
        sample = data.normalise(images.images[:CONDITION_IMAGES], expected.input)
        kappa = condition(expected.runner, sample, roundings)
        exact = _float64(expected, images.images[:float64])
        logits = run_all(runners, expected.input, images.images, batch, on_progress)
        _require_same_shape(expected, programs, logits)
        reference = ReferenceRun(expected, images.images, logits[0], roundings, kappa, exact)
        measure = _stressed if with_stress else _plain
        return reference, measure(reference, list(zip(programs, logits[1:], strict=True)), images, batch)


def _programs(loaded: Loaded) -> Iterator[Program]:
    name = loaded.path.name
    yield Program(loaded, loaded.runner, f"{name} (bodies)" if loaded.kernels else name)
    if loaded.kernels:
        yield Program(loaded, loaded.kernels, f"{name} (native kernels)")


def run_all(
    runners: Sequence[Runner],
    spec: InputSpec,
    images: NDArray[np.uint8],
    batch: int,
    on_progress: OnProgress,
) -> list[NDArray[np.float32]]:
    """Return each runner's logits (N, K)."""
    parts = []
    for start in range(0, len(images), batch):
        inputs = data.normalise(images[start : start + batch], spec)
        parts.append([runner.run(inputs) for runner in runners])
        done = min(start + batch, len(images))
        on_progress(f"{done:,}/{len(images):,} images", done / len(images))
    return [np.concatenate(logits) for logits in zip(*parts, strict=True)]


def _float64(expected: Loaded, images: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Return the reference's logits (M, K) in float64, a few images at a time: its activations are twice as large."""
    parts = []
    for start in range(0, len(images), CONDITION_IMAGES):
        part = data.normalise(images[start : start + CONDITION_IMAGES], expected.input)
        logits = expected.runner.run_float64(part)
        if logits is None:
            return None
        parts.append(logits)
    return np.concatenate(parts) if parts else None


def _require_same_shape(expected: Loaded, programs: Sequence[Program], logits: Sequence[NDArray[np.float32]]) -> None:
    for program, own in zip(programs, logits[1:], strict=True):
        if own.shape != logits[0].shape or own.ndim != 2:
            raise InputError(
                f"{program.loaded.path} gives outputs of shape {own.shape}, {expected.path} of {logits[0].shape}.",
                "Both must give one logit per class (N, K): give the checkpoint that the artefact was exported from.",
            )


def _plain(
    reference: ReferenceRun, ran: Sequence[tuple[Program, NDArray[np.float32]]], _: ImageSet, __: int
) -> list[Run]:
    return reference.runs(ran)


def _stressed(
    reference: ReferenceRun, ran: Sequence[tuple[Program, NDArray[np.float32]]], images: ImageSet, batch: int
) -> list[Run]:
    """Return the runs with what they do in batches of other sizes, and with inputs made to break things."""
    spec, runner, roundings = reference.loaded.input, reference.loaded.runner, reference.roundings
    found = stress.cases(spec)
    hard = stress.images_of(found)
    expected = runner.run(hard)
    kappa = stress.condition(expected, runner.run_float64(hard), roundings, reference.condition)
    runs = []
    for run in reference.runs(ran):
        program, loaded = run.program, run.program.loaded
        allowed = loaded.batch or BatchRange(1, batch, batch)
        hard_logits = _in_batches(program.runner, hard, allowed.maximum)
        outcomes = stress.judge(found, expected, hard_logits, roundings, loaded.precision, kappa)
        sizes = stress.batches(allowed, len(images))
        error = max((_batch_error(program, reference, images, size) for size in sizes), default=0.0)
        runs.append(replace(run, stress=outcomes, batch_error=error))
    return runs


def _in_batches(runner: Runner, images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.concatenate([runner.run(images[start : start + size]) for start in range(0, len(images), size)])


def _batch_error(program: Program, reference: ReferenceRun, images: ImageSet, size: int) -> float:
    logits = program.runner.run(data.normalise(images.images[:size], program.loaded.input))
    return float(absolute_error(reference.logits[:size].astype(np.float64), logits.astype(np.float64)).max())
