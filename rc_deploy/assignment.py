"""From what a build is asked for to a typed graph: which nodes stay float32, and in which ranges the others compute."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rc_deploy import calibration as calibrating
from rc_deploy.accuracies import Problem
from rc_deploy.engine.settings import Progress
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.layers import layers, matching
from rc_deploy.graph.precision import typed
from rc_deploy.sensitivity import Search, search
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from rc_deploy.data import ImageSet
    from rc_deploy.engine.settings import OnProgress
    from rc_deploy.specs import Calibration

# Of the images that are not calibrated on: so many to search on, and to check on what was found. A search measures
# dozens of assignments, a check a few.
SEARCH_IMAGES, CHECK_IMAGES = 2000, 5000
# Held out, where one or two are measured: as many images as have so many bytes, 21,845 of 32x32, or as are checked on.
HELD_OUT_BYTES = 64 << 20
# Where there are fewer images, those to search on and to check on are this share at most.
SHARE = 2 / 7
# With fewer to search on, one image more or less would be a percentage point.
FEWEST_IMAGES = 100


@dataclass(frozen=True)
class PrecisionOptions:
    """Which precision, and where not.

    Attributes:
        precision: of weights and activations.
        keep_fp32: patterns of nodes or PyTorch modules that stay float32.
        calibration: what ranges are measured on; for int8 and fp8.
        folder: where the data sets are; None for RC_DATA.
        max_accuracy_drop: largest loss of accuracy, percentage points, that layers may be quantised for; None
            quantises all.
    """

    precision: Precision = Precision.FP32
    keep_fp32: tuple[str, ...] = ()
    calibration: Calibration | None = None
    folder: Path | None = None
    max_accuracy_drop: float | None = None


@dataclass(frozen=True)
class Assigned:
    """A typed graph and how it came about.

    Attributes:
        graph: in its precision.
        kept: names of nodes that stay float32.
        search: that found them; None where none was asked for.
    """

    graph: ModelProto
    kept: frozenset[str]
    search: Search | None = None


def assign(
    model: ModelProto, options: PrecisionOptions, name: str, on_progress: OnProgress = lambda _: None
) -> Assigned:
    """Return the model in the precision that was asked for.

    Args:
        model: float32, from `rc-deploy export`.
        options: what was asked for.
        name: of the model, for messages.
        on_progress: called with the images that were calibrated on, and searched on.

    Raises:
        InputError: the options do not fit together or to the model, or the data cannot be used.
        UnsupportedError: the accuracy holds with no layer in the narrow type.
    """
    require_sense(options)
    fixed = matching(model, options.keep_fp32)
    if fixed and all(layer.node in fixed for layer in layers(model)):
        raise InputError(f"--keep-fp32 keeps every layer of {name}.", "Give fewer patterns, or --fp32.")
    if not options.precision.quantised or options.calibration is None:
        return Assigned(typed(model, options.precision, name, fixed), fixed)
    spec = onnx_model.provenance(model, name).input
    searching = options.max_accuracy_drop is not None
    held_out = max(CHECK_IMAGES, HELD_OUT_BYTES // math.prod(spec.shape))
    wanted = options.calibration.images + (SEARCH_IMAGES + CHECK_IMAGES + held_out if searching else 0)
    images = calibrating.choose(options.calibration.data, options.folder, spec, wanted)
    observed, others = images.split(options.calibration.images)
    calibration = replace(options.calibration, images=len(observed))
    histograms = calibrating.observe(
        model,
        observed.images,
        spec,
        on_progress=lambda done, total: on_progress(Progress("Measuring ranges", None, done, total, done == total)),
    )
    ranges = {tensor: histogram.range(calibration.method) for tensor, histogram in histograms.items()}

    def quantise(kept: frozenset[str]) -> ModelProto:
        return typed(model, options.precision, name, kept, ranges, calibration)

    if options.max_accuracy_drop is None:
        return Assigned(quantise(fixed), fixed)
    problem = Problem(model, quantise, layers(model), spec, *_parts(others), options.max_accuracy_drop, fixed)
    found = search(problem, on_progress)
    if len(found.kept) == len(found.layers):
        raise UnsupportedError(
            f"Not one layer of {name} can be {options.precision} within {options.max_accuracy_drop:g} points.",
            "Allow a larger drop, try another --calibration-method, or build with --fp16.",
        )
    kept = fixed | set(found.kept)
    return Assigned(quantise(kept), kept, found)


def require_sense(options: PrecisionOptions) -> None:
    """Raise InputError where the options do not fit together."""
    precision = options.precision
    if precision.quantised and options.calibration is None:
        raise InputError(
            f"--{precision} needs data to measure ranges on.", "Add --calibration NAME:train, e.g. cifar10:train."
        )
    if not precision.quantised and (options.calibration or options.max_accuracy_drop is not None):
        raise InputError(
            f"Nothing is calibrated for {precision}.",
            "Leave --calibration and --max-accuracy-drop to --int8 and --fp8.",
        )
    if precision is Precision.FP32 and options.keep_fp32:
        raise InputError("--keep-fp32 keeps layers out of a narrower type.", "Add --fp16, --bf16, --int8 or --fp8.")


def _parts(images: ImageSet) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Return images to search on, to check on and to hold out, by the numbers above where there are so many."""
    most = round(len(images) * SHARE)
    if most < FEWEST_IMAGES:
        raise InputError(
            f"After calibration {len(images)} images are left, too few to measure an accuracy on.",
            "Lower --calibration-images, or name a larger split.",
        )
    chosen_on, others = images.split(min(SEARCH_IMAGES, most))
    return chosen_on, *others.split(min(CHECK_IMAGES, most))
