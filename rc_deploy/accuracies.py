"""Accuracies of quantised forms of a network, measured beside the float32 network on the same images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rc_deploy import data
from rc_deploy.engine.settings import Progress
from rc_deploy.runners import default_threads, onnx_session
from rc_deploy.significance import paired_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto

    from rc_deploy.data import ImageSet
    from rc_deploy.engine.settings import OnProgress
    from rc_deploy.graph.layers import Layer
    from rc_deploy.specs import InputSpec

BATCH = 64


@dataclass(frozen=True)
class Problem:
    """What a search is given.

    Attributes:
        model: float32.
        quantise: makes of it a graph in which the named nodes stay float32.
        layers: of the model.
        spec: of its input.
        chosen_on: labelled images to search on.
        checked_on: labelled images that say how many layers more the promise takes.
        held_out: labelled images that are to prove it.
        asked: largest loss of accuracy, percentage points.
        fixed: layers that stay float32 whatever is found.
    """

    model: ModelProto
    quantise: Callable[[frozenset[str]], ModelProto]
    layers: Sequence[Layer]
    spec: InputSpec
    chosen_on: ImageSet
    checked_on: ImageSet
    held_out: ImageSet
    asked: float
    fixed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of the float32 network and of the quantised one on the same images, percent.

    Attributes:
        images: how many.
        float32: percent that the float32 network classifies right.
        quantised: percent that the quantised one does.
        lost: images that only the float32 network classifies right.
        won: images that only the quantised one does.
    """

    images: int
    float32: float
    quantised: float
    lost: int
    won: int

    @classmethod
    def of(cls, expected: NDArray[np.bool_], found: NDArray[np.bool_]) -> Accuracy:
        """Return what it is where `expected` and `found` say, image by image, who is right."""
        lost, won = int(np.sum(expected & ~found)), int(np.sum(found & ~expected))
        return cls(len(found), 100 * float(np.mean(expected)), 100 * float(np.mean(found)), lost, won)

    @property
    def drop(self) -> float:
        """Percentage points that were lost."""
        return 100 * (self.lost - self.won) / self.images

    def interval(self, looks: int = 1) -> tuple[float, float]:
        """Return the 95% interval of the drop on all images of this kind, percentage points.

        Args:
            looks: assignments that were measured on these images before one was kept; each costs confidence.
        """
        low, high = paired_interval(self.lost, self.won, self.images, looks)
        return 100 * low, 100 * high

    def within(self, asked: float, looks: int = 1) -> bool:
        """Whether no more than `asked` points are lost on all images of this kind: the whole interval says so.

        Where so few images could not prove that of any network, the loss is to be no more as it was measured.
        """
        provable = replace(self, lost=0, won=0).interval()[1] <= asked
        return self.interval(looks)[1] <= asked if provable else self.drop <= asked


class Work:
    """How much of a search is done, in images that a network is run on.

    Args:
        on_progress: called after each run.
    """

    NAME = "Searching for layers that must stay float32"

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._done = self._total = 0

    def expect(self, images: int) -> None:
        """Say that at most so many images are still to be run."""
        self._total = self._done + images
        self._report()

    def ran(self, images: int) -> None:
        """Note that so many more were."""
        self._done += images
        self._report()

    def finish(self) -> None:
        """Say that nothing is left."""
        self._on_progress(Progress(self.NAME, None, self._done, self._done, finished=True))

    def _report(self) -> None:
        self._on_progress(Progress(self.NAME, None, self._done, max(self._total, self._done)))


class Measurements:
    """Accuracies by assignment and set of images; each is measured once."""

    def __init__(self, problem: Problem, work: Work) -> None:
        self._problem, self._work = problem, work
        self._known: dict[tuple[frozenset[str], int], Accuracy] = {}
        self._expected: dict[int, NDArray[np.float32]] = {}
        self.candidates = 0

    def expected(self, part: ImageSet) -> NDArray[np.float32]:
        """Return the float32 network's logits."""
        if id(part) not in self._expected:
            self._expected[id(part)] = self.logits(self._problem.model, part.images)
        return self._expected[id(part)]

    def accuracy(self, kept: frozenset[str], part: ImageSet) -> Accuracy:
        """Return the accuracy where `kept` stay float32."""
        if (kept, id(part)) not in self._known:
            self._known[kept, id(part)] = self._measure(kept, part)
        return self._known[kept, id(part)]

    def holds(self, kept: frozenset[str]) -> bool:
        """Whether the images of the search lose no more than was asked for."""
        return self.accuracy(kept, self._problem.chosen_on).drop <= self._problem.asked

    def promises(self, kept: frozenset[str]) -> bool:
        """Whether the held-out images would prove it, were they like those of the check."""
        found = self.accuracy(kept, self._problem.checked_on)
        share = len(self._problem.held_out) / found.images
        alike = replace(
            found,
            images=len(self._problem.held_out),
            lost=round(share * found.lost),
            won=round(share * found.won),
        )
        return alike.within(self._problem.asked)

    def proves(self, kept: frozenset[str]) -> bool:
        """Whether the held-out images prove that no more is lost than was asked for."""
        found = self.accuracy(kept, self._problem.held_out)
        return found.within(self._problem.asked, self.looks)

    @property
    def looks(self) -> int:
        """For how many assignments the held-out images were measured."""
        return sum(part == id(self._problem.held_out) for _, part in self._known)

    def logits(self, model: ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (N, K) of a model."""
        found = run(model, images, self._problem.spec)
        self._work.ran(len(images))
        return found

    def _measure(self, kept: frozenset[str], part: ImageSet) -> Accuracy:
        expected = self.expected(part)
        self.candidates += 1
        # Where no layer is narrow, there is nothing to measure.
        narrow = any(layer.node not in kept for layer in self._problem.layers)
        found = self.logits(self._problem.quantise(kept), part.images) if narrow else expected
        labels: Any = part.labels
        return Accuracy.of(expected.argmax(1) == labels, found.argmax(1) == labels)


def run(model: ModelProto, images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Return the logits (N, K) of a model, its quantisers as they are written."""
    session = onnx_session(model, default_threads(), as_written=True)
    name = session.get_inputs()[0].name
    parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return np.concatenate([session.run(None, {name: data.normalise(part, spec)})[0] for part in parts])
