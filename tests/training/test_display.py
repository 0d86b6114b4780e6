"""What people see while a run goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rc_training.display import Display, duration
from rc_training.progress import EpochResult, Progress

MIDDLE = Progress(2, 40, 1500, 4000, 0.51234, 87.5, 12345.6, 3725.4)
RESULT = EpochResult(2, 0.5, 88.0, 91.25, 0.3, 0.1, 60.0, 12000.0)
END = Progress(2, 40, 2000, 4000, 0.5, 88.0, 12000.0, 3600.0, RESULT)
LINE = "epoch 2/40  loss 0.5000  train 88.00%  test 91.25%  12,000 images/s  1:00:00 left"


def shown(terminal: bool, label: str = "") -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    with Display(console, label) as display:
        display.progress(MIDDLE)
        display._bar.refresh()
        display.progress(END)
        display.notice("Something [odd].")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_loss_accuracy_speed_and_time_left() -> None:
    text = shown(terminal=True)
    for part in ("epoch 2/40", "loss 0.5123", "train 87.50%", "12,346 images/s", "1:02:05 left", LINE):
        assert part in text


@pytest.mark.parametrize("label", ["", "seed 3, "])
def test_elsewhere_there_is_a_line_per_epoch(label: str) -> None:
    assert shown(terminal=False, label=label).split("\n") == [f"{label}{LINE}", f"{label}Something [odd].", ""]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3600, "1:00:00"), (90_000, "1 day, 1:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
