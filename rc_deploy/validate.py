"""Validation: does an artefact still compute what its reference computes, on real data?"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy import data, loading, machine, manifest, tolerances
from rc_deploy.artefacts import Kind
from rc_deploy.compare import Comparison, compare
from rc_deploy.condition import condition
from rc_deploy.errors import InputError
from rc_deploy.files import require_writable
from rc_deploy.graph import model as onnx_model
from rc_deploy.parts import BY_PARTS, Evidence, Proof, prove
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rc_deploy.loading import Loaded
    from rc_deploy.runners import Runner
    from rc_deploy.specs import InputSpec
    from rc_deploy.tolerances import Tolerance

SCHEMA, SCHEMA_VERSION = "rc-deploy/validation", 1
CONDITION_IMAGES = 32


@dataclass(frozen=True)
class ValidateOptions:
    """How to validate.

    Attributes:
        data: data source, see `rc_deploy.data.load`.
        folder: where CIFAR is; None for RC_DATA.
        limit: use the first so many images; None for all.
        batch: images per run.
        threads: for one operator; None for every processor this process may use.
        factory: "module:callable" that builds a checkpoint's network.
        min_agreement: least top-1 agreement, percent; None asks for none.
        max_accuracy_drop: largest loss of accuracy, percentage points; None asks for none.
    """

    data: str
    folder: Path | None = None
    limit: int | None = None
    batch: int = 250
    threads: int | None = None
    factory: str | None = None
    min_agreement: float | None = None
    max_accuracy_drop: float | None = None


@dataclass(frozen=True)
class Criterion:
    """One condition that an artefact must meet: `value` at most (or, for `at_least`, at least) `bound`."""

    name: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def relation(self) -> str:
        """How value and bound must relate."""
        return ">=" if self.at_least else "<="

    @property
    def passed(self) -> bool:
        """Whether it is met; not for a value that is not a number."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True)
class Validation:
    """Outcome of a validation."""

    artefact: Loaded
    reference: Loaded
    data: str
    comparison: Comparison
    tolerance: Tolerance
    criteria: tuple[Criterion, ...]

    @property
    def passed(self) -> bool:
        """Whether every criterion is met."""
        return all(criterion.passed for criterion in self.criteria)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "machine": machine.facts(),
            "artefact": _describe(self.artefact),
            "reference": _describe(self.reference),
            "data": self.data,
            "comparison": asdict(self.comparison),
            "tolerance": asdict(self.tolerance),
            "criteria": [{**asdict(item), "passed": item.passed} for item in self.criteria],
            "passed": self.passed,
        }


def validate(
    artefact: Path,
    reference: Path,
    options: ValidateOptions,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Validation:
    """Run an artefact and its reference on the same images and compare their logits.

    The largest and the mean difference must stay within what rounding explains (`rc_deploy.tolerances`). An ONNX file
    is run through its bodies and, where native kernels are, with these as well: both must be right. For an engine, the
    outcome is added to its manifest.

    Args:
        artefact: ONNX file or engine.
        reference: checkpoint or float32 ONNX file.
        options: how.
        on_progress: called with images done and images in all.

    Raises:
        InputError: a file or the data cannot be used, the two networks do not belong together, or nothing can be
            held against this reference.
        OutputError: the engine's manifest cannot be written.
        MissingDependencyError: a library that they need is not installed.
    """
    expected = loading.load(reference, options.threads, options.factory, bodies=True)
    found = loading.load(artefact, options.threads, options.factory, bodies=True)
    _require_roles(found, expected)
    _require_same_network(found, expected)
    if found.kind is Kind.ENGINE:
        require_writable(manifest.path_for(artefact))  # the outcome goes there
    images = data.load(options.data, options.folder, expected.input, options.limit)
    roundings = expected.roundings()
    runners = [expected.runner, found.runner, *([found.kernels] if found.kernels else [])]
    with ExitStack() as stack:
        for runner in runners:
            stack.enter_context(runner)
        sample = data.normalise(images.images[:CONDITION_IMAGES], expected.input)
        kappa = condition(expected.runner, sample, roundings)
        logits = _run_all(runners, expected.input, images.images, options.batch, on_progress)
    if logits[0].shape != logits[1].shape or logits[0].ndim != 2:
        raise InputError(
            f"{artefact} gives outputs of shape {logits[1].shape}, {reference} of {logits[0].shape}.",
            "Both must give one logit per class (N, K): give the checkpoint that the artefact was exported from.",
        )
    comparison, *others = (compare(logits[0], other, images.labels) for other in logits[1:])
    proof = _by_parts(found, Evidence(expected.graph, images.images, logits[0], roundings, kappa))
    tolerance = tolerances.derive(roundings, found.precision, logits[0], kappa, proof.noise if proof else 0.0)
    criteria = (*_criteria(comparison, tolerance, options, proof), *_native_criteria(others, tolerance))
    outcome = Validation(found, expected, options.data, comparison, tolerance, criteria)
    if found.kind is Kind.ENGINE:
        _add_to_manifest(outcome)
    return outcome


def _run_all(
    runners: list[Runner],
    spec: InputSpec,
    images: NDArray[np.uint8],
    batch: int,
    on_progress: Callable[[int, int], None],
) -> list[NDArray[np.float32]]:
    """Return each runner's logits (N, K)."""
    parts = []
    for start in range(0, len(images), batch):
        inputs = data.normalise(images[start : start + batch], spec)
        parts.append([runner.run(inputs) for runner in runners])
        on_progress(min(start + batch, len(images)), len(images))
    return [np.concatenate(logits) for logits in zip(*parts, strict=True)]


def _require_roles(found: Loaded, expected: Loaded) -> None:
    if found.kind is Kind.CHECKPOINT:
        raise InputError(
            f"{found.path} is a checkpoint, which others are validated against.",
            f"Export it, then validate what came out: rc-deploy export {found.path} MODEL.onnx",
        )
    if expected.precision is not Precision.FP32:
        raise InputError(
            f"The reference {expected.path} is {expected.precision}: its own rounding would hide the artefact's.",
            "Give the checkpoint, or the float32 file that `rc-deploy export` wrote.",
        )


def _require_same_network(found: Loaded, expected: Loaded) -> None:
    if differences := _differences(found.input, expected.input):
        raise InputError(
            f"{found.path} and {expected.path} do not belong together: {'; '.join(differences)}.",
            "Give the checkpoint that the artefact was exported from.",
        )


def _differences(found: InputSpec, expected: InputSpec) -> list[str]:
    """Return in words how two specifications differ; of many class names or channels, only the first that do."""
    words = []
    if found.shape != expected.shape:
        words.append(f"images are {found.shape}, not {expected.shape}")
    for name in ("mean", "std", "classes"):
        own, other = getattr(found, name), getattr(expected, name)
        if len(own) != len(other):
            words.append(f"{name}: {len(own):,}, not {len(other):,}")
        elif own != other:
            index = next(index for index in range(len(own)) if own[index] != other[index])
            words.append(f"{name}[{index}] is {own[index]!r:.40}, not {other[index]!r:.40}")
    return words


def _by_parts(found: Loaded, evidence: Evidence) -> Proof | None:
    """Return what the parts of a coarsely typed artefact prove; None for the others, whose logits prove enough."""
    if found.precision not in BY_PARTS:
        return None
    model = found.graph()
    return prove(model, onnx_model.provenance(model, str(found.path)), evidence)


def _criteria(
    comparison: Comparison, tolerance: Tolerance, options: ValidateOptions, proof: Proof | None
) -> tuple[Criterion, ...]:
    explained = proof.explained if proof else tolerance.explained
    criteria = [
        Criterion("largest error of a logit", comparison.max_error, tolerance.maximum),
        Criterion("mean error of a logit", comparison.mean_error, tolerance.mean),
        Criterion("share of the logits that rounding explains", explained, tolerances.LARGEST_EXPLAINED),
        *(Criterion(part.name, part.value, part.bound) for part in (proof.parts if proof else ())),
    ]
    if options.min_agreement is not None:
        criteria.append(Criterion("top-1 agreement (%)", comparison.agreement, options.min_agreement, at_least=True))
    if options.max_accuracy_drop is not None:
        if comparison.reference_accuracy is None or comparison.artefact_accuracy is None:
            raise InputError(f"{options.data} has no labels, so no accuracy.", "Leave --max-accuracy-drop out.")
        drop = comparison.reference_accuracy - comparison.artefact_accuracy
        criteria.append(Criterion("loss of accuracy (points)", drop, options.max_accuracy_drop))
    return tuple(criteria)


def _native_criteria(comparisons: Sequence[Comparison], tolerance: Tolerance) -> list[Criterion]:
    return [
        Criterion("largest error of a logit, native kernels", comparison.max_error, tolerance.maximum)
        for comparison in comparisons
    ]


def _describe(loaded: Loaded) -> dict[str, Any]:
    return {
        "path": str(loaded.path),
        "kind": loaded.kind.name.lower(),
        "sha256": loaded.sha256,
        "precision": loaded.precision.value,
        "runner": loaded.runner.name,
        "note": loaded.note,
    }


def _add_to_manifest(outcome: Validation) -> None:
    engine = outcome.artefact.path
    proof = {
        "data": outcome.data,
        "images": outcome.comparison.images,
        "reference_sha256": outcome.reference.sha256,
        "executed": outcome.artefact.runner.name,
        "note": outcome.artefact.note,
        "max_error": outcome.comparison.max_error,
        "agreement": outcome.comparison.agreement,
        "passed": outcome.passed,
    }
    manifest.write(manifest.read(engine).with_proof("validation", proof), engine)
