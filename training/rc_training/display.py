"""What people see of a training run while it goes on: a line per epoch and, on a terminal, a bar below them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn

from rc_training.progress import Reporter

if TYPE_CHECKING:
    from rich.console import Console

    from rc_training.progress import Progress as Standing


class Display(Reporter):
    """Shows runs on a console; a context manager.

    Args:
        console: for standard error.
        label: stands before each line, to tell several runs apart.
    """

    def __init__(self, console: Console, label: str = "") -> None:
        self._bar = Progress(
            TextColumn(f"{label}epoch {{task.fields[epoch]}}", markup=False),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  train {task.fields[accuracy]:.2f}%"),
            TextColumn("{task.fields[speed]:,.0f} images/s  {task.fields[left]} left"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._console, self._label = console, label
        self.epochs_done = 0
        self._task = self._bar.add_task(
            "train", total=None, epoch="1", loss=float("nan"), accuracy=0.0, speed=0.0, left="-:--:--"
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def progress(self, progress: Standing) -> None:
        """Move the bar; at the end of an epoch, print its line above it."""
        epoch, left = f"{progress.epoch}/{progress.epochs}", duration(progress.seconds_left)
        self._bar.update(
            self._task,
            completed=progress.images,
            total=progress.images_total,
            epoch=epoch,
            loss=progress.loss,
            accuracy=progress.train_accuracy,
            speed=progress.images_per_second,
            left=left,
        )
        if (result := progress.result) is not None:
            self.epochs_done = result.epoch
            self._console.print(
                f"{self._label}epoch {epoch}  loss {result.loss:.4f}  train {result.train_accuracy:.2f}%  "
                f"test {result.test_accuracy:.2f}%  {result.images_per_second:,.0f} images/s  {left} left",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def notice(self, text: str) -> None:
        """Print a notice above the bar."""
        self._console.print(f"{self._label}{text}", highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a length of time as H:MM:SS."""
    return str(timedelta(seconds=round(seconds)))
