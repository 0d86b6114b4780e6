"""What a training run reports while it goes on, and the meter it reads it from."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from rc_training.step import StepResult


@dataclass(frozen=True)
class EpochResult:
    """What one epoch reached; a line of a run's log.jsonl.

    Attributes:
        epoch: from 1.
        loss: mean loss of the training images, as they were seen.
        train_accuracy: of the same images, augmented and while the weights changed, in percent.
        test_accuracy: of the test split after the epoch, in percent.
        test_loss: mean cross entropy of the test split.
        learning_rate: of the epoch's last step.
        seconds: training and evaluation together.
        images_per_second: of the training part.
    """

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    test_loss: float
    learning_rate: float
    seconds: float
    images_per_second: float


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
        seconds_left: until the run is finished, at the pace of this session, evaluations included.
        result: of the epoch, on the last report of each.
    """

    epoch: int
    epochs: int
    images: int
    images_total: int
    loss: float
    train_accuracy: float
    images_per_second: float
    seconds_left: float
    result: EpochResult | None = None


class Reporter:
    """Hears what a training run has to say; this one passes on only what must not be missed, to standard error."""

    def progress(self, progress: Progress) -> None:
        """Hear where the run stands: every few steps and, with the result, at the end of every epoch."""

    def notice(self, text: str) -> None:
        """Hear something that is out of the ordinary, in whole sentences."""
        sys.stderr.write(f"{text}\n")


class Pace:
    """How fast a session gets on; a session begins where an earlier one was interrupted, or at 0.

    Args:
        images_before: seen in earlier sessions.
        images_total: to be seen, over all epochs.
    """

    def __init__(self, images_before: int, images_total: int) -> None:
        self._before, self.images_total = images_before, images_total
        self._start = time.perf_counter()

    def seconds_left(self, images: int) -> float:
        """Return how long the rest will take, once `images` were seen in all sessions."""
        seconds = time.perf_counter() - self._start
        return seconds / (images - self._before) * (self.images_total - images)


class Meter:
    """Loss, accuracy and speed of one epoch; the sums stay on the device until they are read.

    Args:
        epoch: from 1.
        epochs: how many there will be.
        epoch_images: images in one epoch.
        pace: of the session.
        device: of the tensors that will be added.
    """

    def __init__(self, epoch: int, epochs: int, epoch_images: int, pace: Pace, device: torch.device) -> None:
        self.epoch, self.epochs, self.epoch_images, self.pace = epoch, epochs, epoch_images, pace
        self.images = 0
        self.start = time.perf_counter()
        self._loss = torch.zeros((), dtype=torch.float32, device=device)
        self._correct = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, result: StepResult, images: int) -> None:
        """Count what a step found in so many images."""
        self.images += images
        self._loss += result.loss * images
        self._correct += result.correct

    def progress(self) -> Progress:
        """Read the sums, which makes a CUDA device finish its queue.

        Raises:
            InputError: the loss of some batch was infinite or NaN.
        """
        loss = self._loss.item() / self.images
        require_finite(loss, self.epoch)
        seconds = time.perf_counter() - self.start
        images = (self.epoch - 1) * self.epoch_images + self.images
        return Progress(
            self.epoch,
            self.epochs,
            images,
            self.pace.images_total,
            loss,
            100 * self._correct.item() / self.images,
            self.images / seconds,
            self.pace.seconds_left(images),
        )


def require_finite(loss: float, epoch: int) -> None:
    """Raise InputError where training has diverged: its cause and remedy are in the recipe."""
    if not math.isfinite(loss):
        raise InputError(
            f"Training diverged: the loss is {loss} in epoch {epoch}. No checkpoint was written.",
            "Lower the learning rate (--set learning_rate=...) or warm up longer (warmup_epochs), with --restart.",
        )
