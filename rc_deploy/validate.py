"""Validation: does an artefact still compute what its reference computes, on real data and on what may break it?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rc_deploy import data, loading, manifest, tolerances
from rc_deploy.artefacts import Kind
from rc_deploy.bisection import IMAGES, bisect
from rc_deploy.compare import Comparison, compare
from rc_deploy.errors import InputError
from rc_deploy.files import require_writable
from rc_deploy.flips import flips
from rc_deploy.matrix import matrix
from rc_deploy.parity import CONDITION_IMAGES, ReferenceRun, Run, run_chain
from rc_deploy.responses import responses
from rc_deploy.specs import Precision
from rc_deploy.verdict import Chain, Criterion, Selection, Validation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from rc_deploy.data import ImageSet
    from rc_deploy.loading import Loaded
    from rc_deploy.specs import InputSpec

    OnProgress = Callable[[str, float], None]


@dataclass(frozen=True)
class ValidateOptions:
    """How to validate.

    Attributes:
        data: data source, see `rc_deploy.data.load`.
        folder: where CIFAR is; None for RC_DATA.
        limit: use so many images; None for all.
        batch: images per run.
        threads: for one operator; None for every processor this process may use.
        factory: "module:callable" that builds a checkpoint's network.
        min_agreement: least top-1 agreement, percent; None asks for none.
        max_accuracy_drop: largest loss of accuracy, percentage points; None asks for none.
        seed: draws the `limit` images; None for the first ones.
        float64: images that the reference runs in float64 too, where it can: the first link of the matrix.
        stress: run inputs made to break things, and batches of several sizes.
        bisect: hold every layer against the reference's; of a quantised artefact the criteria name the layer.
    """

    data: str
    folder: Path | None = None
    limit: int | None = None
    batch: int = 250
    threads: int | None = None
    factory: str | None = None
    min_agreement: float | None = None
    max_accuracy_drop: float | None = None
    seed: int | None = None
    float64: int = CONDITION_IMAGES
    stress: bool = True
    bisect: bool = False


def validate(
    artefact: Path, reference: Path, options: ValidateOptions, on_progress: OnProgress = lambda *_: None
) -> Validation:
    """Validate one artefact, as `validate_chain` does."""
    return validate_chain([artefact], reference, options, on_progress).validations[0]


def validate_chain(
    artefacts: Sequence[Path],
    reference: Path,
    options: ValidateOptions,
    on_progress: OnProgress = lambda *_: None,
) -> Chain:
    """Run artefacts and their reference on the same images and compare their logits.

    The largest and the mean difference from the reference must stay within what rounding explains
    (`rc_deploy.tolerances`). An ONNX file is run through its bodies and, where native kernels are, with these as well:
    both must be right. For an engine, the outcome is added to its manifest.

    Args:
        artefacts: ONNX files and engines, at least one; the matrix shows the steps between them in this order.
        reference: checkpoint or float32 ONNX file.
        options: how.
        on_progress: called with what was done, and the fraction, 0 to 1.

    Raises:
        InputError: a file or the data cannot be used, the networks do not belong together, or nothing can be held
            against this reference.
        OutputError: an engine's manifest cannot be written.
        MissingDependencyError: a library that they need is not installed.
    """
    expected = loading.load(reference, options.threads, options.factory, bodies=True)
    found = [loading.load(path, options.threads, options.factory, bodies=True) for path in artefacts]
    for loaded in found:
        _require_roles(loaded, expected)
        _require_same_network(loaded, expected)
        if loaded.kind is Kind.ENGINE:
            require_writable(manifest.path_for(loaded.path))  # the outcome goes there
    images = data.load(options.data, options.folder, expected.input, options.limit, options.seed)
    if options.max_accuracy_drop is not None and images.labels is None:
        raise InputError(f"{options.data} has no labels, so no accuracy.", "Leave --max-accuracy-drop out.")
    measured, runs = run_chain(expected, found, images, options.batch, options.float64, options.stress, on_progress)
    rows = matrix(tuple(measured.links(runs)), images.labels, images.numbers)
    validations = tuple(
        _judged(measured, [run for run in runs if run.program.loaded is loaded], images, options) for loaded in found
    )
    sample = data.normalise(images.images[:IMAGES], expected.input)
    if options.bisect:
        validations = tuple(_looked_into(item, sample, options, on_progress) for item in validations)
    for validation in validations:
        if validation.artefact.kind is Kind.ENGINE:
            _add_to_manifest(validation)
    selection = Selection(options.data, options.limit, options.seed)
    return Chain(selection, validations, rows, responses(found, sample, options.threads))


def _judged(measured: ReferenceRun, runs: Sequence[Run], images: ImageSet, options: ValidateOptions) -> Validation:
    """Return what the programs of one artefact prove: the first runs the artefact itself, others its native kernels."""
    first, *others = runs
    comparison, *kernels = (compare(measured.logits, run.logits, images.labels, images.numbers) for run in runs)
    criteria = [
        *_criteria(comparison, first, options),
        *(
            Criterion("largest error of a logit, native kernels", found.max_error, run.tolerance.maximum)
            for run, found in zip(others, kernels, strict=True)
        ),
        *_stress_criteria(runs),
    ]
    return Validation(
        artefact=first.program.loaded,
        reference=measured.loaded,
        data=options.data,
        comparison=comparison,
        tolerance=first.tolerance,
        criteria=tuple(criteria),
        stress=tuple((run.program.title, outcome) for run in runs for outcome in run.stress),
        flips=flips(measured.logits, first.logits, images, measured.loaded.input.classes),
    )


def _criteria(comparison: Comparison, run: Run, options: ValidateOptions) -> Iterator[Criterion]:
    tolerance, proof = run.tolerance, run.proof
    explained = proof.explained if proof else tolerance.explained
    yield Criterion("largest error of a logit", comparison.max_error, tolerance.maximum)
    yield Criterion("mean error of a logit", comparison.mean_error, tolerance.mean)
    yield Criterion("share of the logits that rounding explains", explained, tolerances.LARGEST_EXPLAINED)
    if proof:
        yield from (Criterion(part.name, part.value, part.bound, where=part.where) for part in proof.parts)
    if options.min_agreement is not None:
        yield Criterion("top-1 agreement (%)", comparison.agreement, options.min_agreement, at_least=True)
    if options.max_accuracy_drop is not None:
        drop = (comparison.reference_accuracy or 0.0) - (comparison.artefact_accuracy or 0.0)
        yield Criterion("loss of accuracy (points)", drop, options.max_accuracy_drop)


def _stress_criteria(runs: Sequence[Run]) -> Iterator[Criterion]:
    errors = [run.batch_error for run in runs if run.batch_error is not None]
    if errors:
        yield Criterion("largest error of a logit, other batch sizes", max(errors), runs[0].tolerance.maximum)
        wrong = sum(not outcome.passed for run in runs for outcome in run.stress)
        yield Criterion("inputs made to break things, done wrong", wrong, 0)


def _looked_into(
    item: Validation, sample: NDArray[np.float32], options: ValidateOptions, on_progress: OnProgress
) -> Validation:
    if item.artefact.precision.quantised:
        return item
    title = f"layers of {item.artefact.path.name}"
    layers = bisect(
        item.artefact, item.reference, sample, options.threads, lambda done, total: on_progress(title, done / total)
    )
    return replace(item, layers=layers)


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
