"""Proving a coarsely typed graph by parts, where a comparison of logits alone would prove too little (ADR 11).

int8, float8 and, in deep networks, bfloat16 change the logits by more than a wrong constant or a wrong channel does.
So the graph is taken apart. Of the reference R, the artefact A and images:

1. Skeleton: A without its quantisers and with R's weights must compute what R computes, within float32's tolerance.
2. Weights: each weight of A lies within half a step of R's; the step is that of R's channel.
3. Ranges: what A represents of each tensor is within `RANGE_FACTOR` of what A's calibration method makes of R's tensor
   on these images, which need not be those of the calibration.
4. Quantisers: each has the same scale on both sides, and a zero point of 0.

What remains is noise, whose variance is computed from R's tensors and weights; the logits of A as it runs must be
within what it explains. A's scales have no part in any bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rc_deploy import data
from rc_deploy.calibration import observe
from rc_deploy.errors import InputError
from rc_deploy.graph.layers import layers
from rc_deploy.graph.precision import ONNX_TYPES
from rc_deploy.graph.quantise import LARGEST, channel_scales, fake_quantised, step
from rc_deploy.graph.skeleton import narrow_weights, quantisers, skeleton, unpacked
from rc_deploy.runners import OnnxRunner
from rc_deploy.specs import Calibration, CalibrationMethod, Precision
from rc_deploy.tolerances import HALF_STEP, RANGE_FACTOR, derive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto

    from rc_deploy.graph.layers import Layer
    from rc_deploy.graph.model import Provenance
    from rc_deploy.ranges import Histogram
    from rc_deploy.tolerances import Rounding

# Precisions that are proven by parts.
BY_PARTS = (Precision.BF16, Precision.INT8, Precision.FP8)
SKELETON_IMAGES = 64


@dataclass(frozen=True)
class Part:
    """One thing that must hold: `value` at most `bound`; `where` is the PyTorch module of the worst, if it has one."""

    name: str
    value: float
    bound: float
    where: str = ""


@dataclass(frozen=True)
class Proof:
    """What was found.

    Attributes:
        parts: that must hold.
        noise: variance that quantisation adds to the relative error of the logits.
        explained: change of the skeleton's logits that float32's rounding explains, relative to them.
    """

    parts: tuple[Part, ...]
    noise: float
    explained: float


@dataclass(frozen=True)
class Evidence:
    """What the reference is known to compute.

    Attributes:
        graph: returns that of the reference, float32.
        images: (N, C, H, W) of the validation.
        logits: the reference's, (N, K).
        roundings: of the reference.
        condition: its condition number.
    """

    graph: Callable[[], ModelProto]
    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    roundings: Sequence[Rounding]
    condition: float


def prove(artefact: ModelProto, stated: Provenance, evidence: Evidence) -> Proof:
    """Hold an artefact's parts against its reference.

    Args:
        artefact: of a precision of `BY_PARTS`.
        stated: what it says of itself; of that its precision, and its calibration's method and number of images enter.
        evidence: of the reference.

    Raises:
        InputError: the artefact's weights are not those of this network, or an observed tensor is not finite.
    """
    reference = evidence.graph()
    found = layers(reference)
    weights = {tensor.name: tensor for tensor in reference.graph.initializer}
    narrow = narrow_weights(artefact)
    sizes = {name: list(weights[name].dims) if name in weights else None for name in narrow}
    strange = sorted(name for name, size in sizes.items() if size != list(narrow[name][1].shape))
    if strange:
        raise InputError(
            f"{len(strange)} weights of the artefact are not in the reference's graph, the first being {strange[0]}.",
            "Give the reference that it was made from; for a file of an older rc-deploy, export and build it again.",
        )
    axes = {layer.weight: layer.channels for layer in found}
    steps = {
        name: _steps_off(values, unpacked(weights[name]), kind, axes.get(name, 0))
        for name, (kind, values) in narrow.items()
    }
    skeletal, explained = _skeleton(skeleton(artefact, reference), stated, evidence)
    owners = {layer.weight: layer.module for layer in found}
    parts = [skeletal, _worst("largest error of a weight (half steps)", steps, HALF_STEP, owners)]
    if not stated.precision.quantised:
        return Proof(tuple(parts), 0.0, explained)
    calibration = stated.calibration or Calibration("", SKELETON_IMAGES, CalibrationMethod.MINMAX)
    observed = observe(reference, evidence.images[: calibration.images], stated.input)
    parts += _quantisers(
        artefact, observed, calibration.method, {layer.data: layer.module for layer in reversed(found)}
    )
    kind = ONNX_TYPES[stated.precision]
    noise = sum(
        _noise(layer, observed[layer.data], unpacked(weights[layer.weight]), kind, calibration.method)
        for layer in found
    )
    return Proof(tuple(parts), noise, explained)


def _skeleton(bare: ModelProto, stated: Provenance, evidence: Evidence) -> tuple[Part, float]:
    inputs = data.normalise(evidence.images[:SKELETON_IMAGES], stated.input)
    expected = evidence.logits[: len(inputs)]
    with OnnxRunner(bare, bodies=True) as runner:
        error = np.abs(runner.run(inputs).astype(np.float64) - expected)
    tolerance = derive(evidence.roundings, Precision.FP32, expected, evidence.condition)
    largest = float(error.max()) if np.isfinite(error).all() else math.inf
    return Part("largest error of a logit without narrow types", largest, tolerance.maximum), tolerance.explained


def _worst(name: str, values: dict[str, float], bound: float, owners: dict[str, str]) -> Part:
    """Return the part that the largest of some tensors' values decides; `owners` are the tensors' modules."""
    if not values:
        return Part(name, math.inf, bound)
    tensor = max(values, key=values.__getitem__)
    return Part(name, values[tensor], bound, owners.get(tensor, ""))


def _quantisers(
    artefact: ModelProto, observed: dict[str, Histogram], method: CalibrationMethod, readers: dict[str, str]
) -> list[Part]:
    """Return what must hold of the quantisers; `readers` are the modules that take each tensor first."""
    found = quantisers(artefact)
    factors: dict[str, float] = {}
    for item in found:
        expected = observed[item.tensor].range(method) if item.tensor in observed else math.nan
        # Of nothing but zeros any range is the right one.
        ratio = float(item.largest.max()) / expected if expected else 1.0
        factor = max(ratio, 1 / ratio) if ratio > 0 else math.inf
        factors[item.tensor] = max(factor, factors.get(item.tensor, 0.0))
    unsound = [item.tensor for item in found if not item.sound]
    return [
        _worst("largest factor between a range and the one measured here", factors, RANGE_FACTOR, readers),
        Part(
            "quantisers with unequal halves or a zero point",
            len(unsound),
            0,
            readers.get(unsound[0], "") if unsound else "",
        ),
    ]


def _steps_off(found: NDArray[np.float32], expected: NDArray[np.float32], kind: int, axis: int) -> float:
    """Return the largest difference of a weight from the reference's, in halves of the reference's step there."""
    difference = np.abs(found.astype(np.float64) - expected)
    steps = np.maximum(step(expected.astype(np.float64), kind, axis), np.finfo(np.float32).tiny)
    ratio = difference / (steps / 2)
    return float(ratio.max(initial=0)) if np.isfinite(ratio).all() else math.inf


def _noise(
    layer: Layer, observed: Histogram, weight: NDArray[np.float32], kind: int, method: CalibrationMethod
) -> float:
    """Return the variance that quantising a layer's data and weight adds to its result, relative to that."""
    scale = observed.range(method) / LARGEST[kind]
    data_noise = observed.noise(lambda values: fake_quantised(values, scale, kind)) if scale else 0.0
    scales = channel_scales(weight, layer.channels, kind)
    others = [index for index in range(weight.ndim) if index != layer.channels]
    rounded = fake_quantised(weight.astype(np.float64), np.expand_dims(scales, others), kind)
    energy = float(np.square(weight, dtype=np.float64).sum())
    return data_noise + (float(np.square(rounded - weight).sum()) / energy if energy else 0.0)
