"""Options that several commands share."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

import typer


def number(value: float | None) -> float | None:
    """Refuse NaN, which every range lets through."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is not a number.")
    return value


Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the outcome as JSON; '-' for standard output.")
]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="OUT.html", help="Write the outcome as one HTML file to look at.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="MODULE:FACTORY", help="Build the checkpoint's network with this callable."),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, max=os.cpu_count() or 1, help="Threads of each library; by default, and at most, all processors."
    ),
]
DataFolder = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder that holds the data sets; RC_DATA by default.")
]
