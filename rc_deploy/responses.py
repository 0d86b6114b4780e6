"""What a network's RC layers do to real images: the mean, deviation and weight that each predicts (Eq. 2 to 5)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.helper

from rc_deploy.bisection import fitting, groups
from rc_deploy.graph.emulate import emulated
from rc_deploy.graph.from_torch import MODULE_KEY
from rc_deploy.graph.modules import layer_outputs
from rc_deploy.schema import DEFAULT_EPSILON, DOMAIN, RESPONSE_CALIBRATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from rc_deploy.loading import Loaded

    Array = NDArray[np.float32]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Quantiles = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class LayerResponses:
    """What one RC layer did, as quantiles (5, 25, 50, 75 and 95 percent).

    Attributes:
        module: path of the PyTorch module.
        channels: C.
        mu: predicted means, over images and channels.
        std: predicted standard deviations, exp(log_var / 2) + epsilon, over the same.
        weight: w = Phi(-|a - mu| / std) of every response a, from 0 to 0.5: a becomes a (1 + w).
    """

    module: str
    channels: int
    mu: Quantiles
    std: Quantiles
    weight: Quantiles


@dataclass(frozen=True)
class Responses:
    """The RC layers of an artefact, in the order of its graph, on so many images."""

    artefact: str
    images: int
    layers: tuple[LayerResponses, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def responses(artefacts: Sequence[Loaded], images: Array, threads: int | None = None) -> Responses | None:
    """Measure the RC layers of the first artefact that has any that can be looked into.

    Args:
        artefacts: ONNX files and engines; quantised ones are passed over.
        images: normalised (N, C, H, W).
        threads: for one operator; None for every processor this process may use.

    Returns:
        None where there is none: no RC layers, or all fused or inlined.
    """
    for artefact in artefacts:
        if artefact.precision.quantised:
            continue
        graph = emulated(artefact.graph())
        if nodes := [node for node in graph.graph.node if _is_calibration(node)]:
            images = fitting(images, graph)
            return Responses(artefact.path.name, len(images), tuple(_measured(graph, nodes, images, threads)))
    return None


def _is_calibration(node: NodeProto) -> bool:
    return (node.domain, node.op_type) == (DOMAIN, RESPONSE_CALIBRATION.name)


def _measured(
    graph: ModelProto, nodes: Sequence[NodeProto], images: Array, threads: int | None
) -> list[LayerResponses]:
    by_response = {node.input[0]: node for node in nodes}
    found = []
    for group in groups({tensor: tensor for tensor in by_response}, graph, len(images)):
        tensors = [tensor for response in group for tensor in by_response[response].input]
        values = layer_outputs(graph, tensors, images, threads)
        for index, response in enumerate(group):
            found.append(_layer(by_response[response], *values[3 * index : 3 * index + 3]))
    return found


def _layer(node: NodeProto, a: Array, mu: Array, log_var: Array) -> LayerResponses:
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    std = np.exp(log_var / 2) + np.float32(given.get("epsilon", DEFAULT_EPSILON))
    mean, deviation = (values.reshape(*values.shape, *[1] * (a.ndim - 2)) for values in (mu, std))
    distance = _quantiles(np.abs(a - mean) / deviation)
    return LayerResponses(
        module=next((entry.value for entry in node.metadata_props if entry.key == MODULE_KEY), node.name),
        channels=a.shape[1],
        mu=_quantiles(mu),
        std=_quantiles(std),
        # Phi(-x) falls with x: its quantiles are those of x, in the opposite order.
        weight=tuple(math.erfc(value / math.sqrt(2)) / 2 for value in reversed(distance)),  # type: ignore[arg-type]
    )


def _quantiles(values: Array) -> Quantiles:
    return tuple(np.quantile(values, QUANTILES).tolist())
