"""What validations say, for the report: the parity matrix, what changed class, every layer, and the RC layers."""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Any

from rc_deploy.optional import require
from rc_deploy.report.parity_charts import ErrorRow, error_chart, layer_chart, response_chart
from rc_deploy.report.words import count, number, percent
from rc_deploy.tolerances import FALSE_ALARM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markupsafe import Markup

    from rc_deploy.bisection import Bisection
    from rc_deploy.flips import Flip
    from rc_deploy.matrix import Measured, Row
    from rc_deploy.report.documents import Documents
    from rc_deploy.report.records import Chain, Subject, Validation
    from rc_deploy.responses import LayerResponses

Facts = list[tuple[str, str]]

# Indices of images that changed class: so many are listed.
MOST_FLIPS = 20


def parity(documents: Documents) -> dict[str, Any]:
    """Return what the section on parity shows."""
    rows = [_error_rows(chain) for chain in documents.chains]
    return {
        "chains": [
            _chain(chain, error_chart(drawn, f"parity-{index}-errors"))
            for index, (chain, drawn) in enumerate(zip(documents.chains, rows, strict=True))
        ],
        "validations": [{"record": item, "facts": _compared(item)} for item in documents.validations],
        # Values that a logarithmic axis has no place for.
        "edges": any(
            value == 0 or not math.isfinite(value) for drawn in rows for row in drawn for value in row.quantiles
        ),
        "steps": any(row.step for drawn in rows for row in drawn),
        "false_alarm": FALSE_ALARM,
    }


def _chain(chain: Chain, chart: Markup) -> dict[str, Any]:
    images = max((row.images for row in chain.matrix), default=0)
    links = [
        {
            "name": f"{index} {row.title}",
            "about": row.precision if row.images == images else f"{row.precision}, {count(row.images, 'image')}",
            "accuracy": _accuracy(row),
            "comparisons": [(name, measured, _changed(measured)) for name, measured in row.comparisons],
        }
        for index, row in enumerate(chain.matrix)
    ]
    return {
        "chart": chart,
        "links": links,
        "fewer": any(row.images < images for row in chain.matrix),
        "images": images,
        "data": chain.selection.data,
    }


def _error_rows(chain: Chain) -> list[ErrorRow]:
    """Return a row for every comparison of the matrix; of a document without one, for every artefact."""
    rows = [
        ErrorRow(
            f"{row.title}, {row.precision}{'' if name == 'both' else f', {name}'}",
            measured.comparison.error_quantiles,
            measured.maximum,
            name == "step",
        )
        for row in chain.matrix
        for name, measured in row.comparisons
        if measured
    ]
    return rows or [
        ErrorRow(
            f"{item.artefact.title}, {item.artefact.name}",
            item.comparison.error_quantiles,
            item.tolerance.maximum,
            step=False,
        )
        for item in chain.validations
    ]


def _accuracy(row: Row) -> str:
    if row.accuracy is None:
        return ""
    if row.interval is None:
        return percent(row.accuracy)
    low, high = row.interval
    return f"{percent(row.accuracy)} ({low:.2f} to {high:.2f})"


def _changed(measured: Measured | None) -> str:
    """Return how many images only one of the two has right."""
    if measured is None or measured.comparison.lost is None or measured.comparison.won is None:
        return ""
    return f"{measured.comparison.lost:,} / {measured.comparison.won:,}"


def _compared(item: Validation) -> Facts:
    comparison = item.comparison
    same = comparison.images - len(comparison.flips)
    images = count(comparison.images, "image")
    facts = [
        ("Reference", _ran(item.reference, comparison.reference_accuracy)),
        ("Artefact", _ran(item.artefact, comparison.artefact_accuracy)),
        ("Data", f"{images} of {item.data}"),
        ("Same class", f"{percent(comparison.agreement)}: {same:,} of {images}"),
        ("Smallest cosine", f"{comparison.cosine:.9f}"),
        ("Errors", _quantiles(item)),
    ]
    if comparison.flips:
        listed = ", ".join(str(index) for index in comparison.flips[:MOST_FLIPS])
        more = len(comparison.flips) - MOST_FLIPS
        facts.append(("Images that changed class", f"{listed}{f' and {more:,} more' if more > 0 else ''}"))
    return facts


def _ran(subject: Subject, accuracy: float | None) -> str:
    right = "" if accuracy is None else f", {percent(accuracy)} right"
    return f"{subject.path}, {subject.precision}, in {subject.runner}{right}"


def _quantiles(item: Validation) -> str:
    half, nine, last, every = (number(value) for value in item.comparison.error_quantiles)
    return f"50% of the logits within {half}, 90% within {nine}, 99% within {last}, all within {every}"


def flipped(documents: Documents) -> list[dict[str, Any]]:
    """Return the pictures of every artefact that changed a class. Raises MissingDependencyError without Pillow."""
    return [
        {
            "title": f"{item.artefact.title}, {item.artefact.name}",
            "pictures": [_shown(flip) for flip in item.flips],
            "images": len(item.comparison.flips),
        }
        for item in documents.validations
        if item.flips
    ]


def _shown(flip: Flip) -> dict[str, str]:
    right = "" if flip.label is None else f"labelled {flip.label}: "
    change = f"{flip.expected} {flip.expected_probability:.0%} became {flip.found} {flip.found_probability:.0%}"
    return {"source": _picture(flip), "number": f"{flip.number:,}", "right": right, "change": change}


def _picture(flip: Flip) -> str:
    """Return a picture as a data address. Raises MissingDependencyError where Pillow is not installed."""
    pixels = flip.picture()
    image = require("PIL.Image", "A report with pictures").fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    content = io.BytesIO()
    image.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def layers(documents: Documents) -> list[dict[str, Any]]:
    """Return the layers of every artefact that was bisected."""
    found = [item.layers for item in documents.validations if item.layers is not None and item.layers.layers]
    return [
        {
            "found": bisection,
            "verdict": _verdict(bisection),
            "chart": layer_chart(bisection, f"layers-{index}"),
        }
        for index, bisection in enumerate(found)
    ]


def _verdict(found: Bisection) -> str:
    if found.first is None:
        return f"All {len(found.layers):,} layers of {found.artefact} are within their tolerance"
    return f"The first layer of {found.artefact} beyond its tolerance is {found.layers[found.first].name}"


def responses(documents: Documents) -> list[dict[str, Any]]:
    """Return what the RC layers did, once for each file that was looked into."""
    found = {chain.responses.artefact: chain.responses for chain in documents.chains if chain.responses}
    return [
        {"found": item, "chart": response_chart(item, f"responses-{index}"), "rows": _response_rows(item.layers)}
        for index, item in enumerate(found.values())
        if item.layers
    ]


def _response_rows(layers: Sequence[LayerResponses]) -> Iterator[tuple[str, int, list[str]]]:
    for layer in layers:
        yield (
            layer.module,
            layer.channels,
            [
                f"{number(values[2])} ({number(values[0])} to {number(values[4])})"
                for values in (layer.mu, layer.std, layer.weight)
            ],
        )
