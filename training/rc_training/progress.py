"""What a training run reports while it goes on, and the meter it reads it from."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EpochResult:
    """What one epoch reached.

    Attributes:
        epoch: from 1.
        loss: mean cross entropy of the training images, as they were seen.
        train_accuracy: of the same images, augmented and while the weights changed, in percent.
        test_accuracy: of the test split after the epoch, in percent.
        learning_rate: of the epoch's last step.
        seconds: training and evaluation together.
    """

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """Where a training run stands.

    Attributes:
        epoch: the current one, from 1.
        epochs: how many there will be.
        images: seen so far, over all epochs.
        images_total: to be seen, over all epochs.
        loss: mean so far of this epoch.
        train_accuracy: so far of this epoch, in percent.
        images_per_second: of this epoch's training part.
        result: of the epoch, on the last report of each.
    """

    epoch: int
    epochs: int
    images: int
    images_total: int
    loss: float
    train_accuracy: float
    images_per_second: float
    result: EpochResult | None = None


class Meter:
    """Loss, accuracy and speed of one epoch; the sums stay on the device until they are read.

    Args:
        epoch: from 1.
        epochs: how many there will be.
        epoch_images: images in one epoch.
        device: of the tensors that will be added.
    """

    def __init__(self, epoch: int, epochs: int, epoch_images: int, device: torch.device) -> None:
        self.epoch, self.epochs, self.epoch_images = epoch, epochs, epoch_images
        self.images = 0
        self.start = time.perf_counter()
        self._loss = torch.zeros((), dtype=torch.float32, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: its mean loss, its logits (N, classes) and labels (N,)."""
        self.images += len(labels)
        self._loss += loss.detach() * len(labels)
        self._correct += (logits.detach().argmax(1) == labels).sum()

    def progress(self) -> Progress:
        """Read the sums, which makes a CUDA device finish its queue.

        Raises:
            InputError: the loss of some batch was infinite or NaN.
        """
        loss = self._loss.item() / self.images
        if not math.isfinite(loss):
            raise InputError(
                f"Training diverged: the loss is {loss} in epoch {self.epoch}. Nothing was written.",
                "Lower the learning rate (--set learning_rate=...) or warm up longer (warmup_epochs).",
            )
        seconds = time.perf_counter() - self.start
        before, total = (self.epoch - 1) * self.epoch_images, self.epochs * self.epoch_images
        accuracy = 100 * self._correct.item() / self.images
        return Progress(self.epoch, self.epochs, before + self.images, total, loss, accuracy, self.images / seconds)
