"""The layers of a reference, and what their tolerances follow from: roundings, growth and unevenness of errors.

All of it is measured on the reference alone, as `rc_deploy.condition` does for the logits (docs/tolerances.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rc_deploy.condition import PERTURBATION, relative, unevenness
from rc_deploy.graph.modules import disturbed_graph, layer_outputs, module_outputs
from rc_deploy.graph.roundings import roundings_up_to

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto
    from torch import nn

    from rc_deploy.loading import Loaded
    from rc_deploy.tolerances import Rounding

    Array = NDArray[np.floating[Any]]

# Disturbances of the reference: one draw may happen to cancel in a layer of few values.
DRAWS = 4


@dataclass(frozen=True)
class MeasuredLayer:
    """A layer of the reference: its values, how much it enlarges rounding errors, and how unevenly they lie."""

    values: Array
    condition: float
    unevenness: float


class ReferenceLayers(Protocol):
    """The layers of a reference, by the paths of their modules as a graph names them.

    Attributes:
        roundings: of all arithmetic up to each layer.
        modules: paths of the modules that each layer stands for; the last one's output is compared.
    """

    roundings: Mapping[str, Sequence[Rounding]]
    modules: Mapping[str, tuple[str, ...]]

    def measure(self, modules: Sequence[str], images: NDArray[np.float32]) -> dict[str, MeasuredLayer]:
        """Return these layers."""
        ...


def layers_of(reference: Loaded, named: Collection[str], threads: int | None) -> ReferenceLayers:
    """Return the layers of a reference, for an artefact whose graph names these modules."""
    if reference.network is not None:
        return _NetworkLayers(reference.network, reference.input.shape, named)
    return _GraphLayers(reference.graph(), threads)


class _NetworkLayers:
    """Of a PyTorch network: its float32, and itself with everything a little off, are held against its float64."""

    def __init__(self, network: nn.Module, shape: tuple[int, int, int], named: Collection[str]) -> None:
        from rc_deploy.nn.layers import layers  # imports PyTorch

        self._network = network
        found = layers(network, shape)
        pairs = [(layer.normalises, path) for path, layer in found.items() if layer.normalises is not None]
        modules: dict[str, tuple[str, ...]] = {path: (path,) for path in found}
        for before, norm in pairs:
            # Of the two only one left a node, under its own name or the other's: they were folded into one.
            if (before in named) != (norm in named):
                modules[before] = modules[norm] = (before, norm)
        self.modules: Mapping[str, tuple[str, ...]] = modules
        self._folded = {names[0] for names in modules.values() if len(names) > 1}
        self.roundings: Mapping[str, Sequence[Rounding]] = {
            path: found[names[-1]].roundings for path, names in modules.items()
        }

    def measure(self, modules: Sequence[str], images: NDArray[np.float32]) -> dict[str, MeasuredLayer]:
        from rc_deploy.nn.layers import disturbed_outputs, outputs  # imports PyTorch

        paths = {module: self.modules[module][-1] for module in modules}
        chosen = set(paths.values())
        wide, exact = (outputs(self._network, images, chosen, float64) for float64 in (False, True))
        # Errors of weights are the same at every position and in every image: each part of the images gets its own.
        parts = [part for part in np.array_split(images, DRAWS) if len(part)]
        draws = [
            disturbed_outputs(self._network, disturbed(part, seed), chosen, PERTURBATION, self._folded, seed)
            for seed, part in enumerate(parts)
        ]
        moved = {path: np.concatenate([draw[path][0] for draw in draws]) for path in chosen}
        return {
            module: self._measured(module, wide[path], exact[path], moved[path], draws[0][path][1])
            for module, path in paths.items()
        }

    def _measured(self, module: str, found: Array, exact: Array, moved: Array, disturbances: int) -> MeasuredLayer:
        """Return the larger of what two kinds of error show: float32's roundings, and disturbances of known size."""
        predicted = math.sqrt(sum(rounding.float32_variance() for rounding in self.roundings[module]))
        known = PERTURBATION * math.sqrt(1 + disturbances)
        true = exact.astype(np.float64)
        pairs = [(found.astype(np.float64), predicted), (moved.astype(np.float64), known)]
        grown = [relative(values, true) / size for values, size in pairs if size]
        return MeasuredLayer(found, max([1.0, *grown]), max(unevenness(values, true) for values, _ in pairs))


class _GraphLayers:
    """Of an ONNX graph, which cannot run in float64: itself with everything a little off is held against it."""

    def __init__(self, graph: ModelProto, threads: int | None) -> None:
        self._graph, self._threads = graph, threads
        self._tensors = module_outputs(graph)
        self._moved = [disturbed_graph(graph, PERTURBATION, seed) for seed in range(DRAWS)]
        self.modules: Mapping[str, tuple[str, ...]] = {module: (module,) for module in self._tensors}
        behind = roundings_up_to(graph)
        self.roundings: Mapping[str, Sequence[Rounding]] = {
            module: behind[tensor] for module, tensor in self._tensors.items()
        }

    def measure(self, modules: Sequence[str], images: NDArray[np.float32]) -> dict[str, MeasuredLayer]:
        tensors = [self._tensors[module] for module in modules]
        values = layer_outputs(self._graph, tensors, images, self._threads)
        draws = [
            layer_outputs(graph, tensors, disturbed(images, seed), self._threads)
            for seed, (graph, _) in enumerate(self._moved)
        ]
        return {
            module: self._measured(module, value, list(moved))
            for module, value, *moved in zip(modules, values, *draws, strict=True)
        }

    def _measured(self, module: str, value: Array, moved: list[Array]) -> MeasuredLayer:
        known = PERTURBATION * math.sqrt(1 + self._moved[0][1][module])
        true = np.concatenate([value] * len(moved)).astype(np.float64)
        found = np.concatenate(moved).astype(np.float64)
        return MeasuredLayer(value, max(1.0, relative(found, true) / known), unevenness(found, true))


def disturbed(images: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return images of which every value is off by a little, by a relative error that `seed` draws for that value.

    Pixels have 256 values. Those of one value are rounded alike, and where a sky is all of one colour their errors add
    up in a convolution instead of cancelling.
    """
    values, places = np.unique(images, return_inverse=True)
    noise = 1 + PERTURBATION * np.random.default_rng(seed).standard_normal(values.size)
    return np.asarray((values * noise)[places].reshape(images.shape), np.float32)
