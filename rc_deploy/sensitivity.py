"""Which layers must stay float32 so that a quantised network keeps its accuracy: found by measurement.

1. Each layer alone is quantised, on `SENSITIVITY_IMAGES`; its sensitivity is how much the logits change, relative to
   them (root mean square). Errors of different layers are independent, so their squares add up.
2. Layers are kept in the order of the error that each takes away per product of its cost, until the accuracy on the
   search images drops by no more than was asked for; how many that are is found by bisection.
3. Each kept layer, the costliest first, is given back if the accuracy holds without it.
4. The accuracy is measured on images that took no part in calibration and search. Where it does not hold there, one
   layer more is kept, and the outcome says how often these images were looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy import data
from rc_deploy.errors import InputError
from rc_deploy.runners import default_threads, onnx_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto

    from rc_deploy.data import ImageSet
    from rc_deploy.graph.layers import Layer
    from rc_deploy.specs import InputSpec

SENSITIVITY_IMAGES = 256
BATCH = 64
OnStep = Callable[[str, float], None]


@dataclass(frozen=True)
class Sensitivity:
    """What one layer costs in float32 and in the narrow type.

    Attributes:
        node: name of the layer's node.
        module: of PyTorch.
        change: root mean square of the logits' change, relative to the logits, where this layer alone is quantised.
        macs: products and sums for one image.
    """

    node: str
    module: str
    change: float
    macs: int


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of the float32 network and of the quantised one on the same images, percent."""

    images: int
    float32: float
    quantised: float

    @property
    def drop(self) -> float:
        """Percentage points that were lost."""
        return self.float32 - self.quantised


@dataclass(frozen=True)
class Search:
    """Outcome of a search.

    Attributes:
        asked: largest loss of accuracy, percentage points.
        layers: in the order of the graph.
        kept: names of nodes that stay float32.
        share: of the products and sums that are quantised, percent.
        search: accuracy on the images that the assignment was chosen on.
        held_out: accuracy on images that took no part in it.
        looks: how often the held-out images were measured; more than once, and they have a part in the choice.
        candidates: assignments that were measured.
    """

    asked: float
    layers: tuple[Sensitivity, ...]
    kept: tuple[str, ...]
    share: float
    search: Accuracy
    held_out: Accuracy
    looks: int
    candidates: int

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Problem:
    """What a search is given.

    Attributes:
        model: float32.
        quantise: makes of it a graph in which the named nodes stay float32.
        layers: of the model.
        spec: of its input.
        chosen_on: labelled images to search on.
        held_out: labelled images that take no part in the search.
        asked: largest loss of accuracy, percentage points.
        fixed: layers that stay float32 whatever is found.
    """

    model: ModelProto
    quantise: Callable[[frozenset[str]], ModelProto]
    layers: Sequence[Layer]
    spec: InputSpec
    chosen_on: ImageSet
    held_out: ImageSet
    asked: float
    fixed: frozenset[str] = frozenset()


def search(problem: Problem, on_step: OnStep = lambda *_: None) -> Search:
    """Find the cheapest assignment that holds.

    Args:
        problem: what is searched.
        on_step: called with what is done and the fraction of the whole, 0 to 1, which is an estimate.

    Raises:
        InputError: the images have no labels.
    """
    if problem.chosen_on.labels is None or problem.held_out.labels is None:
        raise InputError("The images have no labels, so no accuracy.", "Give --calibration a split that has them.")
    measured = _Measurements(problem, on_step)
    sensitivities = _sensitivities(problem, measured, on_step)
    order = [
        item.node
        for item in sorted(sensitivities, key=lambda item: item.change**2 / item.macs, reverse=True)
        if item.node not in problem.fixed
    ]
    kept = _shortest_prefix(problem, measured, order)
    kept = _given_back(problem, measured, kept, sensitivities)
    kept, looks = _held_out(problem, measured, kept, order)
    total = sum(item.macs for item in sensitivities)
    return Search(
        asked=problem.asked,
        layers=tuple(sensitivities),
        kept=tuple(item.node for item in sensitivities if item.node in kept),
        share=100 * sum(item.macs for item in sensitivities if item.node not in kept) / total,
        search=measured.accuracy(kept, problem.chosen_on),
        held_out=measured.accuracy(kept, problem.held_out),
        looks=looks,
        candidates=measured.candidates,
    )


class _Measurements:
    """Accuracies by assignment and set of images; each is measured once."""

    def __init__(self, problem: Problem, on_step: OnStep) -> None:
        self._problem, self._on_step = problem, on_step
        self._known: dict[tuple[frozenset[str], int], Accuracy] = {}
        self._expected: dict[int, NDArray[np.float32]] = {}
        self.candidates = 0

    def expected(self, part: ImageSet) -> NDArray[np.float32]:
        """Return the float32 network's logits."""
        if id(part) not in self._expected:
            self._expected[id(part)] = _logits(self._problem.model, part.images, self._problem.spec)
        return self._expected[id(part)]

    def accuracy(self, kept: frozenset[str], part: ImageSet) -> Accuracy:
        """Return the accuracy where `kept` stay float32."""
        if (kept, id(part)) not in self._known:
            self._known[kept, id(part)] = self._measure(kept, part)
        return self._known[kept, id(part)]

    def holds(self, kept: frozenset[str]) -> bool:
        """Whether the images of the search lose no more than was asked for."""
        return self.accuracy(kept, self._problem.chosen_on).drop <= self._problem.asked

    def _measure(self, kept: frozenset[str], part: ImageSet) -> Accuracy:
        expected = self.expected(part)
        narrow = [layer for layer in self._problem.layers if layer.node not in kept]
        self.candidates += 1
        self._on_step(f"{len(narrow)} of {len(self._problem.layers)} layers narrow", 1 - 0.5 * 0.9**self.candidates)
        # Where no layer is narrow, there is nothing to measure.
        found = _logits(self._problem.quantise(kept), part.images, self._problem.spec) if narrow else expected
        right = (100 * float(np.mean(logits.argmax(1) == part.labels)) for logits in (expected, found))
        return Accuracy(len(part), *right)


def _sensitivities(problem: Problem, measured: _Measurements, on_step: OnStep) -> list[Sensitivity]:
    names = frozenset(layer.node for layer in problem.layers)
    images = problem.chosen_on.images[:SENSITIVITY_IMAGES]
    expected = measured.expected(problem.chosen_on)[:SENSITIVITY_IMAGES]
    result = []
    for index, layer in enumerate(problem.layers):
        on_step(f"sensitivity of {layer.module or layer.node}", 0.5 * index / len(problem.layers))
        changed = _logits(problem.quantise(names - {layer.node}), images, problem.spec) - expected
        change = float(np.linalg.norm(changed) / np.linalg.norm(expected))
        result.append(Sensitivity(layer.node, layer.module, change, layer.macs))
    return result


def _shortest_prefix(problem: Problem, measured: _Measurements, order: list[str]) -> frozenset[str]:
    """Return the fixed layers and the shortest beginning of `order` that holds; all of it does."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if measured.holds(problem.fixed | set(order[:middle])):
            high = middle
        else:
            low = middle + 1
    return problem.fixed | set(order[:low])


def _given_back(
    problem: Problem, measured: _Measurements, kept: frozenset[str], sensitivities: Sequence[Sensitivity]
) -> frozenset[str]:
    """Return `kept` without those layers, the costliest first, that it holds without."""
    for item in sorted(sensitivities, key=lambda item: item.macs, reverse=True):
        if item.node in kept - problem.fixed and measured.holds(kept - {item.node}):
            kept -= {item.node}
    return kept


def _held_out(
    problem: Problem, measured: _Measurements, kept: frozenset[str], order: list[str]
) -> tuple[frozenset[str], int]:
    """Return `kept` with as many layers more as the held-out images ask for, and how often these were looked at."""
    looks = 1
    while measured.accuracy(kept, problem.held_out).drop > problem.asked:
        kept |= {next(node for node in order if node not in kept)}
        looks += 1
    return kept, looks


def _logits(model: ModelProto, images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    session = onnx_session(model, default_threads(), as_written=True)
    name = session.get_inputs()[0].name
    parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return np.concatenate([session.run(None, {name: data.normalise(part, spec)})[0] for part in parts])
