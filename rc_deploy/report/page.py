"""The page: records through templates to HTML, every text escaped on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from rc_deploy import __version__
from rc_deploy.report import words
from rc_deploy.report.sections import sections
from rc_deploy.report.summary import used

if TYPE_CHECKING:
    from rc_deploy.report.documents import Documents
    from rc_deploy.report.summary import Summary


def render(documents: Documents, summary: Summary, title: str) -> str:
    """Return the report as HTML. Raises MissingDependencyError where a plot is due without Matplotlib."""
    parts = sections(documents)
    html: str = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            {part.name: part.content for part in parts},
            title=title,
            documents=documents,
            summary=summary,
            sections=parts,
            created=_latest(documents),
            version=__version__,
        )
    )
    return html.lstrip() + "\n"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rc_deploy.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=words.count,
        moment=words.moment,
        number=words.number,
        percent=words.percent,
        share=words.share,
        used=used,
        width=_width,
    )
    return environment


def _width(fraction: float) -> str:
    """Return the width of a bar in percent: full where the bound is exceeded, or the value is not a number."""
    return f"{100 * max(0.0, fraction):.1f}" if fraction <= 1 else "100"


def _latest(documents: Documents) -> str:
    """Return when the newest measurement was made: not the time of now, so that one input gives one page."""
    trained = [item.machine.created for item in documents.trainings]
    validated = [item.machine.created for item in documents.chains]
    benched = [item.machine.created for item in documents.benches]
    return max((*trained, *validated, *benched), default="")
