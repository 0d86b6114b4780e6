"""From a Matplotlib figure to SVG that lives inside a page: its colours follow the page, its ids are its own.

Figures are drawn in the colours of `INK`, which occur nowhere else; `inline` puts the page's CSS variables in their
places, so that one drawing serves light mode, dark mode and paper.
"""

from __future__ import annotations

import io
import re
import warnings
from enum import StrEnum
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from rc_deploy.optional import require

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.figure import Figure

NEEDED_BY = "A report with plots"
# One unit of a figure is a point; a chart 320 wide fills a phone, and half of a desktop page, at a legible size.
WIDTH = 320
_POINTS_PER_INCH = 72
FONT_SIZE = 9

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
    "svg.hashsalt": "rc-deploy",  # the same figure gives the same file
    "text.parse_math": False,  # a dollar sign in a file's name is a dollar sign
    "axes.unicode_minus": True,
    "font.size": FONT_SIZE,
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the layout does not depend on the machine
}


class Ink(StrEnum):
    """Colours to draw in; each stands for a CSS variable."""

    TEXT = "#010101"
    SOFT = "#020202"
    LINE = "#030303"
    PAPER = "#040404"
    FAIL = "#050505"
    SERIES_1 = "#060606"
    SERIES_2 = "#070707"
    SERIES_3 = "#080808"
    SERIES_4 = "#090909"
    SERIES_5 = "#0a0a0a"
    SERIES_6 = "#0b0b0b"

    @property
    def variable(self) -> str:
        """The CSS variable, e.g. "--series-1"."""
        return "--" + self.name.lower().replace("_", "-")


SERIES = (Ink.SERIES_1, Ink.SERIES_2, Ink.SERIES_3, Ink.SERIES_4, Ink.SERIES_5, Ink.SERIES_6)


def new_figure(height: float) -> Figure:
    """Return an empty figure, `WIDTH` by `height` points. Raises MissingDependencyError."""
    module = require("matplotlib.figure", NEEDED_BY)
    require("matplotlib.backends.backend_svg", NEEDED_BY)
    figure: Figure = module.Figure(
        figsize=(WIDTH / _POINTS_PER_INCH, height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH, layout="constrained"
    )
    return figure


def settings() -> AbstractContextManager[None]:
    """Return a context in which figures are to be made and drawn. Raises MissingDependencyError."""
    context: AbstractContextManager[None] = require("matplotlib", NEEDED_BY).rc_context(_SETTINGS)
    return context


def inline(figure: Figure, identifier: str, description: str) -> Markup:
    """Return a figure as an SVG element.

    Args:
        figure: drawn in the colours of `Ink`.
        identifier: unique in the page; begins the ids of its parts.
        description: what it shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # A script that DejaVu Sans lacks is still shown by the browser, which has fonts of its own.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    body = _adapted(_stripped(buffer.getvalue()), identifier)
    width, height = (size * _POINTS_PER_INCH for size in figure.get_size_inches())
    # The body comes from Matplotlib, which escapes every text it is given.
    return Markup(  # noqa: S704
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(description)}">'
        f"<title>{escape(description)}</title>{body}</svg>"
    )


def _stripped(svg: str) -> str:
    """Return what is inside the svg element, without metadata, comments and styles for a whole page."""
    start = svg.index(">", svg.index("<svg")) + 1
    body = svg[start : svg.rindex("</svg>")]
    for part in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style.*?</style>"):
        body = re.sub(part, "", body, flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "\n", body)


def _adapted(body: str, identifier: str) -> str:
    """Return `body` with its tags rewritten for the page; the text between them, which is data, stays as it is.

    1. ids that something refers to become unique in the page, the others go;
    2. links lose their XML namespace, which HTML does not need;
    3. fonts come from the page, colours are CSS variables.
    """
    wanted = set(re.findall(r'href="#([^"]+)"', body)) | set(re.findall(r"url\(#([^)]+)\)", body))

    def identified(match: re.Match[str]) -> str:
        return f' id="{identifier}-{match[1]}"' if match[1] in wanted else ""

    def adapted(match: re.Match[str]) -> str:
        tag = re.sub(r' id="([^"]*)"', identified, match[0])
        tag = re.sub(r'(?:xlink:)?href="#', f'href="#{identifier}-', tag)
        tag = tag.replace("url(#", f"url(#{identifier}-")
        return re.sub(r'style="[^"]*"', _style, tag)

    return re.sub(r"<[^>]*>", adapted, body)


def _style(match: re.Match[str]) -> str:
    style = re.sub(r"font: [^;\"]*?(\d+(?:\.\d+)?)px[^;\"]*", r"font-size: \1px", match[0])
    style = re.sub(r" ?font-family: [^;\"]*;?", "", style)
    for ink in Ink:
        style = style.replace(ink.value, f"var({ink.variable})")
    return style
