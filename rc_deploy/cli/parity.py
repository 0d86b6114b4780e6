"""How a validation looks in a terminal: what failed, the parity matrix, and the first layer that diverges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from rc_deploy.cli.show import as_json, console, facts_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rc_deploy.bisection import Bisection, LayerError
    from rc_deploy.matrix import Measured, Row
    from rc_deploy.verdict import Chain, Validation

# Of inputs made to break things, so many that did are named; --json has them all.
MOST_NAMED = 5
# Below so many letters a line, columns are left out rather than names of links broken into syllables.
WIDE = 100
_FOR_WIDE_ONES = {"p50", "p99.9", "top-5"}


def validated(chain: Chain, document: dict[str, Any], json_to: str | None) -> None:
    """Show how far each artefact is from the reference, and from the one before it; `document` says it as JSON."""
    if as_json(document, json_to):
        return
    out = console()
    out.print(_criteria(chain))
    left_out = set() if out.width >= WIDE else _FOR_WIDE_ONES
    out.print(_errors(chain.matrix, left_out))
    out.print(_decisions(chain.matrix, left_out))
    facts_table("PASS" if chain.passed else "FAIL", dict(_facts(chain)))
    for validation in chain.validations:
        for note in _notes(validation):
            out.print(Text(note, style="yellow"))


def _criteria(chain: Chain) -> Table:
    table = Table(title=f"Against {chain.validations[0].reference.path}", title_justify="left")
    table.add_column("criterion")
    for name in ("value", "bound"):
        table.add_column(name, justify="right")
    table.add_column("")
    for validation in chain.validations:
        table.add_row(Text(validation.artefact.path.name, style="bold"))
        for item in validation.criteria:
            verdict = Text("pass", style="green") if item.passed else Text("FAIL", style="bold red")
            table.add_row(
                f"  {item.name}{item.place}", f"{item.value:.4g}", f"{item.relation} {item.bound:.4g}", verdict
            )
    return table


def _errors(rows: tuple[Row, ...], left_out: set[str]) -> Table:
    title = "Errors of the logits: the step from the link before, and the sum from the reference"
    table = _table(title)
    table.add_column("link", overflow="fold")
    table.add_column("")
    names = [name for name in ("max", "mean", "p50", "p99", "p99.9", "of tol.", "cosine") if name not in left_out]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        for line, (what, measured) in enumerate(row.comparisons):
            values = _error_values(measured) if measured else {}
            table.add_row(_named(row, index) if not line else "", what, *(values.get(name, "") for name in names))
    return table


def _decisions(rows: tuple[Row, ...], left_out: set[str]) -> Table:
    images = max(row.images for row in rows)
    table = _table(f"Decisions on {images:,} images")
    table.add_column("link", overflow="fold")
    table.add_column("accuracy (95%)", justify="right", no_wrap=True)
    table.add_column("")
    names = [name for name in ("top-1", "top-5", "flips", "lost/won", "McNemar p") if name not in left_out]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        for line, (what, measured) in enumerate(row.comparisons):
            head = (_named(row, index), _accuracy(row)) if not line else ("", "")
            values = _decision_values(measured) if measured else {}
            table.add_row(head[0], head[1], what, *(values.get(name, "") for name in names))
    return table


def _table(title: str) -> Table:
    """Return a table of many columns: without upright lines they fit 100 letters."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def _named(row: Row, index: int) -> str:
    count = "" if index or row.precision != "float64" else f", {row.images:,} images"
    return f"{index} {row.title} {row.precision}{count}"


def _error_values(measured: Measured) -> dict[str, str]:
    """Return what stands in each column."""
    found = measured.comparison
    half, _, most, _ = found.error_quantiles
    errors = {"max": found.max_error, "mean": found.mean_error, "p50": half, "p99": most, "p99.9": found.error_p999}
    texts = {name: f"{error:.1e}" for name, error in errors.items()}
    return {**texts, "of tol.": _used(measured.used), "cosine": _cosine(found.cosine)}


def _used(used: float) -> str:
    return f"{used:.0%}" if used < 10 else f"{used:.0f}x"


def _cosine(cosine: float) -> str:
    """Return a cosine; one that is nearly 1 by how much it lacks."""
    return f"{cosine:.4f}" if cosine < 0.9999 else f"1-{max(0.0, 1 - cosine):.0e}"


def _decision_values(measured: Measured) -> dict[str, str]:
    """Return what stands in each column."""
    found = measured.comparison
    changed = "" if found.lost is None else f"{found.lost:,}/{found.won:,}"
    p = "" if found.mcnemar is None else f"{found.mcnemar:.2g}"
    shares = {"top-1": _percent(found.agreement), "top-5": _percent(found.top5_agreement)}
    return {**shares, "flips": f"{len(found.flips):,}", "lost/won": changed, "McNemar p": p}


def _percent(value: float | None) -> str:
    """Return a percentage; what is not quite 100 does not read so."""
    if value is None:
        return ""
    return f"{value:.2f}%" if value == 100 or value < 99.995 else f"{value:.4f}%"


def _accuracy(row: Row) -> str:
    if row.accuracy is None or row.interval is None:
        return ""
    low, high = row.interval
    return f"{row.accuracy:.2f}% ({low:.2f} to {high:.2f})"


def _facts(chain: Chain) -> Iterator[tuple[str, str]]:
    looked = any(validation.layers for validation in chain.validations)
    selection, rows = chain.selection, chain.matrix
    drawn = "" if None in (selection.limit, selection.seed) else f", drawn by seed {selection.seed}"
    yield "images", f"{max(row.images for row in rows):,} of {selection.data}{drawn}"
    for row in rows:
        yield row.title, row.runner
    for validation in chain.validations:
        if validation.layers is not None:
            yield f"layers of {validation.artefact.path.name}", _divergence(validation.layers)
        elif looked and validation.artefact.precision.quantised:
            yield (
                f"layers of {validation.artefact.path.name}",
                "proven by parts; a criterion that fails names its layer",
            )


def _divergence(found: Bisection) -> str:
    if found.first is None:
        closest = max(found.layers, key=lambda layer: layer.used)
        return f"all {len(found.layers)} layers are within their tolerance; closest to it: {_layer(closest)}"
    before = f"; before it: {_layer(found.layers[found.first - 1])}" if found.first else ", the first of all"
    return f"first beyond its tolerance: {_layer(found.layers[found.first])}{before}"


def _layer(layer: LayerError) -> str:
    return f"{layer.name}, largest error {layer.max_error:.2g}, {_used(layer.used)} of its tolerance"


def _notes(validation: Validation) -> Iterator[str]:
    name = validation.artefact.path.name
    if validation.artefact.note:
        yield f"note: {validation.artefact.note}"
    if validation.stale:
        yield (
            f"note: {name} was made from another checkpoint (SHA-256 {validation.artefact.checkpoint_sha256[:12]}…) "
            f"than the reference ({validation.reference.checkpoint_sha256[:12]}…)."
        )
    wrong = [f"{outcome.name} ({title})" for title, outcome in validation.stress if not outcome.passed]
    if wrong:
        more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        yield f"note: {name} does these wrong: {', '.join(wrong[:MOST_NAMED])}{more}."
