"""How pictures look and are written: a page's width, colours that everyone can tell apart, no display needed."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from rc_deploy.errors import OutputError
from rc_deploy.optional import require

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDED_BY = "A plot"
WIDTH = 6.3  # inches: the text of an A4 page with margins of an inch
FONT_SIZE, SMALL = 8.0, 7.0  # points, beside a paper's text of 10
DOTS_PER_INCH = 220

TEXT, SOFT, LINE = "#1c1e22", "#5a616c", "#d9dbd8"
# Okabe and Ito's colours, for people of any colour vision; without their yellow, which white paper swallows.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")

# Suffix -> what is not to be in a file of that format, so that the same picture gives the same bytes.
_DATES: dict[str, dict[str, None]] = {
    ".png": {},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the layout does not depend on the machine
    "font.size": FONT_SIZE,
    "text.color": TEXT,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.unicode_minus": True,
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "svg.hashsalt": "rc-deploy",  # the same picture gives the same file
}


def require_format(path: Path) -> Path:
    """Return `path` if its suffix is one of a picture that can be written. Raises OutputError for others."""
    if path.suffix.lower() not in _DATES:
        *others, last = _DATES
        raise OutputError(
            f"{path}: a plot is written as {', '.join(others)} or {last}, told by the file's suffix.",
            f"Write e.g. -o {path.with_suffix('.png').name if path.name else 'plot.png'}",
        )
    return path


def settings() -> AbstractContextManager[None]:
    """Return a context in which figures are to be made and written. Raises MissingDependencyError."""
    context: AbstractContextManager[None] = require("matplotlib", NEEDED_BY).rc_context(_SETTINGS)
    return context


def new_figure(height: float) -> Figure:
    """Return an empty figure, `WIDTH` by `height` inches, that belongs to no window."""
    figure: Figure = require("matplotlib.figure", NEEDED_BY).Figure(
        figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained"
    )
    return figure


def encoded(figure: Figure, path: Path) -> bytes:
    """Return a figure as the bytes of a file of the format that the suffix of `path` says."""
    suffix = path.suffix.lower()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that DejaVu Sans lacks becomes a box; that is no reason to fail.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format=suffix[1:], metadata=_DATES[suffix])
    return buffer.getvalue()


def dress(axes: Axes, title: str) -> None:
    """Give axes the looks of the report: a title in words where an axis label would be turned, a grid, no frame."""
    axes.set_title(title, loc="left", fontsize=FONT_SIZE, color=TEXT, pad=5)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(SOFT)
        spine.set_linewidth(0.6)
    axes.grid(visible=True, axis="y", color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=SOFT, labelsize=SMALL)


def shorten(text: str, longest: int = 90) -> str:
    """Return `text`, its middle left out if it is longer: names differ at their ends."""
    head = longest // 2 - 1
    return text if len(text) <= longest else f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"
