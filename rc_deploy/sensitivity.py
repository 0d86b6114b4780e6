"""Which layers must stay float32 so that a quantised network keeps its accuracy: found by measurement.

1. Each layer alone is quantised, on `SENSITIVITY_IMAGES`; its sensitivity is how much the logits change, relative to
   them (root mean square). Errors of different layers are independent, so their squares add up.
2. Layers are kept in the order of the error that each takes away per product of its cost, until the accuracy on the
   search images drops by no more than was asked for; how many that are is found by bisection.
3. Each kept layer, the costliest first, is given back if the accuracy holds without it.
4. More layers are kept, in the same order, until images that took no part in this prove the promise: the whole 95%
   interval of their loss lies within what was asked for. Where it does not, a check on fewer images says how many
   layers more that should take.

The cheapest assignment that just holds on some images is also a lucky one there: on others it loses more than was
asked for as often as not. That is what the interval is for. Where assignments were rejected for what the held-out
images said, it is wider by as much. Images so few that they prove the promise of no network are taken at their word.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy.accuracies import Measurements, Work
from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rc_deploy.accuracies import Accuracy, Problem
    from rc_deploy.engine.settings import OnProgress

SENSITIVITY_IMAGES = 256


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
class Search:
    """Outcome of a search.

    Attributes:
        asked: largest loss of accuracy, percentage points.
        layers: in the order of the graph.
        kept: names of nodes that stay float32.
        unproven: names of those that would do if the images of the search were all that there is.
        share: of the products and sums that are quantised, percent.
        search: accuracy on the images that the assignment was chosen on.
        check: accuracy on those that say how many layers more the promise takes.
        held_out: accuracy on images that took no part in either.
        looks: how often the held-out images were measured; more than once, and they have a part in the choice, which
            `interval` allows for.
        candidates: assignments that were measured.
    """

    asked: float
    layers: tuple[Sensitivity, ...]
    kept: tuple[str, ...]
    unproven: tuple[str, ...]
    share: float
    search: Accuracy
    check: Accuracy
    held_out: Accuracy
    looks: int
    candidates: int

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the drop, percentage points, by the held-out images."""
        return self.held_out.interval(self.looks)

    @property
    def proven(self) -> bool:
        """Whether the whole interval lies within what was asked for, not the measured drop alone."""
        return self.interval[1] <= self.asked

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {**asdict(self), "interval": list(self.interval), "proven": self.proven}


def search(problem: Problem, on_progress: OnProgress = lambda _: None) -> Search:
    """Find the cheapest assignment that holds.

    Args:
        problem: what is searched.
        on_progress: called with the images that networks were run on, and at most will be.

    Raises:
        InputError: the images have no labels.
    """
    if any(part.labels is None for part in (problem.chosen_on, problem.checked_on, problem.held_out)):
        raise InputError("The images have no labels, so no accuracy.", "Give --calibration a split that has them.")
    work = Work(on_progress)
    measured = Measurements(problem, work)
    free = sum(layer.node not in problem.fixed for layer in problem.layers)
    searched, steps = len(problem.chosen_on), free.bit_length() + 1
    # In float32 and narrow, but for the images of the search: each bisection of the check, the held-out ones twice.
    others = (1 + steps) * len(problem.checked_on) + 3 * len(problem.held_out)
    # In float32, each layer alone, the bisection, and each layer without it.
    alone = len(problem.layers) * min(SENSITIVITY_IMAGES, searched)
    work.expect(searched + alone + (steps + free) * searched + others)
    sensitivities = _sensitivities(problem, measured)
    order = [
        item.node
        for item in sorted(sensitivities, key=lambda item: item.change**2 / item.macs, reverse=True)
        if item.node not in problem.fixed
    ]
    kept = _shortest_prefix(problem, measured, order)
    work.expect(len(kept - problem.fixed) * searched + others)
    unproven = _given_back(problem, measured, kept, sensitivities)
    kept = _extended(measured, unproven, order)
    parts = [measured.accuracy(kept, part) for part in (problem.chosen_on, problem.checked_on, problem.held_out)]
    work.finish()
    total = sum(item.macs for item in sensitivities)
    return Search(
        asked=problem.asked,
        layers=tuple(sensitivities),
        kept=tuple(item.node for item in sensitivities if item.node in kept),
        unproven=tuple(item.node for item in sensitivities if item.node in unproven),
        share=100 * sum(item.macs for item in sensitivities if item.node not in kept) / total,
        search=parts[0],
        check=parts[1],
        held_out=parts[2],
        looks=measured.looks,
        candidates=measured.candidates,
    )


def _sensitivities(problem: Problem, measured: Measurements) -> list[Sensitivity]:
    names = frozenset(layer.node for layer in problem.layers)
    images = problem.chosen_on.images[:SENSITIVITY_IMAGES]
    expected = measured.expected(problem.chosen_on)[:SENSITIVITY_IMAGES]
    result = []
    for layer in problem.layers:
        changed = measured.logits(problem.quantise(names - {layer.node}), images) - expected
        change = float(np.linalg.norm(changed) / np.linalg.norm(expected))
        result.append(Sensitivity(layer.node, layer.module, change, layer.macs))
    return result


def _shortest_prefix(problem: Problem, measured: Measurements, order: list[str]) -> frozenset[str]:
    """Return the fixed layers and the shortest beginning of `order` that holds; all of it does."""
    count = _fewest(0, len(order), lambda n: measured.holds(problem.fixed | set(order[:n])))
    return problem.fixed | set(order[:count])


def _fewest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the smallest number from `low` to `high` that `holds`, by bisection from `low`; `high` does, untried."""
    middle = low
    while low < high:
        if holds(middle):
            high = middle
        else:
            low = middle + 1
        middle = (low + high) // 2
    return low


def _given_back(
    problem: Problem, measured: Measurements, kept: frozenset[str], sensitivities: Sequence[Sensitivity]
) -> frozenset[str]:
    """Return `kept` without those layers, the costliest first, that it holds without."""
    for item in sorted(sensitivities, key=lambda item: item.macs, reverse=True):
        if item.node in kept - problem.fixed and measured.holds(kept - {item.node}):
            kept -= {item.node}
    return kept


def _extended(measured: Measurements, kept: frozenset[str], order: list[str]) -> frozenset[str]:
    """Return `kept` with as many layers more as it takes to prove the promise on images that it was not chosen on.

    Each look at the held-out images makes their interval wider. So where they do not prove it yet, the check says how
    many layers more that should take: an eighth of the rest at least.
    """
    rest = [node for node in order if node not in kept]

    def extended(count: int) -> frozenset[str]:
        return kept | set(rest[:count])

    count = 0
    while count < len(rest) and not measured.proves(extended(count)):
        count += max(1, (len(rest) - count) // 8)
        count = _fewest(count, len(rest), lambda n: measured.promises(extended(n)))
    return extended(count)
