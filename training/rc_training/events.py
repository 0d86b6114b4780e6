"""TensorBoard's event files: the figures of log.jsonl, as TensorBoard wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rc_deploy.optional import require

if TYPE_CHECKING:
    from pathlib import Path

    from rc_training.progress import EpochResult

# TensorBoard draws tags that share what stands before the slash side by side.
TAGS = {
    "loss/train": "loss",
    "loss/test": "test_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/test": "test_accuracy",
    "speed/images_per_second": "images_per_second",
    "learning_rate": "learning_rate",
}


def require_tensorboard() -> None:
    """Raise MissingDependencyError where TensorBoard is not installed."""
    require("tensorboard", "--tensorboard")


class Events:
    """A writer of event files; a context manager.

    Args:
        folder: for the event files.
        after: epochs that are there already; what an interrupted run wrote beyond them is not shown.
    """

    def __init__(self, folder: Path, after: int) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=after + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, result: EpochResult) -> None:
        """Write an epoch's figures."""
        for tag, key in TAGS.items():
            self._writer.add_scalar(tag, getattr(result, key), result.epoch)
        self._writer.flush()
