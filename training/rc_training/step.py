"""One step of training: forward, loss, backward, update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rc_deploy.errors import UnsupportedError
from rc_training.datasets import normalise

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from rc_deploy.specs import InputSpec


class Mixed(NamedTuple):
    """The other labels (N,) of images that were mixed of two, and the share of the first ones, 0 to 1."""

    labels: Tensor
    weight: Tensor | float


class Batch(NamedTuple):
    """Images (N, C, H, W) of pixel values 0 to 255, uint8 or float, or normalised ones; and their labels (N,)."""

    images: Tensor
    labels: Tensor
    mixed: Mixed | None = None
    normalised: bool = False


class StepResult(NamedTuple):
    """Mean loss () and number of images () classified as labelled, of the batch; both on its device."""

    loss: Tensor
    correct: Tensor


@dataclass(frozen=True)
class StepOptions:
    """What a step does besides the network's own arithmetic; see the recipe's keys of the same names."""

    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    precision: str = "float32"
    compile: bool = False
    cuda_graph: bool = False


class Step:
    """Trains a network by one batch at a time."""

    def __init__(self, network: nn.Module, optimizer: Optimizer, spec: InputSpec, options: StepOptions) -> None:
        if options.compile or options.cuda_graph:
            raise UnsupportedError(
                "Steps are neither compiled nor recorded yet.", "Leave --compile and --cuda-graph out."
            )
        self._network, self._optimizer, self._spec, self._options = network, optimizer, spec, options

    def __call__(self, batch: Batch, rate: float) -> StepResult:
        """Take one step with learning rate `rate`; nothing waits for the device."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        half = self._options.precision == "bfloat16"
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=half):
            logits = self._network(batch.images if batch.normalised else normalise(batch.images, self._spec))
        loss = cross_entropy(logits.float(), batch, self._options.label_smoothing)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._options.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._options.clip_norm)
        self._optimizer.step()
        return StepResult(loss.detach(), correct(logits.detach(), batch))


def cross_entropy(logits: Tensor, batch: Batch, label_smoothing: float) -> Tensor:
    """Return the mean loss () of logits (N, classes); of images mixed of a and b it is w CE(a) + (1 - w) CE(b)."""
    loss = F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
    if batch.mixed is None:
        return loss
    other = F.cross_entropy(logits, batch.mixed.labels, label_smoothing=label_smoothing)
    return batch.mixed.weight * loss + (1 - batch.mixed.weight) * other


def correct(logits: Tensor, batch: Batch) -> Tensor:
    """Return how many images () are classified as labelled; mixed ones count by the share of the label found."""
    found = logits.argmax(1)
    count = (found == batch.labels).sum()
    if batch.mixed is None:
        return count
    return batch.mixed.weight * count + (1 - batch.mixed.weight) * (found == batch.mixed.labels).sum()
