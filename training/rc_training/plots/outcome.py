"""What the plot commands say when they are done: lines for people, or JSON in their place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rc_deploy.files import json_text, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence


def show(document: dict[str, Any], lines: Sequence[str], notes: Sequence[str], json: str | None) -> None:
    """Write `document` where --json says, and the lines where people look.

    Args:
        document: JSON values.
        lines: for standard output, or standard error where --json has taken that.
        notes: for standard error: what was left out of the picture.
        json: file, "-" for standard output, None for neither.
    """
    if json == "-":
        sys.stdout.write(json_text(document) + "\n")
    elif json is not None:
        write_json(Path(json), document)
    errors = Console(stderr=True)
    for note in notes:
        _print(errors, f"note: {note}", "yellow")
    console = errors if json == "-" else Console()
    for line in lines:
        _print(console, line)


def _print(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
