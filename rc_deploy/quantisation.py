"""Quantisation as data decide it: in which ranges layers compute, and, by measurement, which stay float32."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from rc_deploy import calibration as calibrating
from rc_deploy.accuracies import Problem
from rc_deploy.assignment import Assigned
from rc_deploy.engine.settings import Progress
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.layers import layers
from rc_deploy.graph.precision import typed
from rc_deploy.sensitivity import search
from rc_deploy.specs import CalibrationMethod

if TYPE_CHECKING:
    from onnx import ModelProto

    from rc_deploy.assignment import PrecisionOptions
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


def quantise(
    model: ModelProto,
    options: PrecisionOptions,
    calibration: Calibration,
    name: str,
    fixed: frozenset[str],
    on_progress: OnProgress,
) -> Assigned:
    """Return the model quantised, as `assignment.assign` does.

    Args:
        model: float32, from `rc-deploy export`.
        options: what was asked for.
        calibration: theirs.
        name: of the model, for messages.
        fixed: names of nodes that stay float32 whatever is measured.
        on_progress: called with the images that were calibrated on, and searched on.

    Raises:
        InputError: the data cannot be used.
        UnsupportedError: the accuracy holds with no layer in the narrow type.
    """
    spec = onnx_model.provenance(model, name).input
    searching = options.max_accuracy_drop is not None
    held_out = max(CHECK_IMAGES, HELD_OUT_BYTES // math.prod(spec.shape))
    wanted = calibration.images + (SEARCH_IMAGES + CHECK_IMAGES + held_out if searching else 0)
    images = calibrating.choose(calibration.data, options.folder, spec, wanted)
    observed, others = images.split(calibration.images)
    calibration = replace(calibration, images=len(observed))
    histograms = calibrating.observe(
        model,
        observed.images,
        spec,
        counting=calibration.method is not CalibrationMethod.MINMAX,
        on_progress=lambda done, total: on_progress(Progress("Measuring ranges", None, done, total, done == total)),
    )
    ranges = {tensor: histogram.range(calibration.method) for tensor, histogram in histograms.items()}

    def with_kept(kept: frozenset[str]) -> ModelProto:
        return typed(model, options.precision, name, kept, ranges, calibration)

    if options.max_accuracy_drop is None:
        return Assigned(with_kept(fixed), fixed)
    problem = Problem(model, with_kept, layers(model), spec, *_parts(others), options.max_accuracy_drop, fixed)
    found = search(problem, on_progress)
    if len(found.kept) == len(found.layers):
        raise UnsupportedError(
            f"Not one layer of {name} can be {options.precision} within {options.max_accuracy_drop:g} points.",
            "Allow a larger drop, try another --calibration-method, or build with --fp16.",
        )
    kept = fixed | set(found.kept)
    return Assigned(with_kept(kept), kept, found)


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
