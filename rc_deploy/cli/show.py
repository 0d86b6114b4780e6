"""How outcomes look in a terminal: progress on standard error, tables on standard output, or JSON in their place."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rc_deploy.files import json_text, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rc_deploy.doctor import Check
    from rc_deploy.engine import BuildResult
    from rc_deploy.export import ExportResult
    from rc_deploy.inspection import Inspection
    from rc_deploy.report import Summary
    from rc_deploy.validate import Validation

# Names of classes and the like: so many are shown, --json has them all.
MOST_ITEMS = 12


@contextmanager
def status(title: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner; yield a function that says what is going on now."""
    with _progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda phase: bar.update(task, description=f"{title}: {phase}")


@contextmanager
def progress(title: str) -> Iterator[Callable[[str, float], None]]:
    """Show a bar; yield a function that takes what is done and the fraction, 0 to 1."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with _progress(*columns) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda what, done: bar.update(task, description=f"{title}: {what}", completed=done)


def _progress(*columns: Any) -> Progress:
    return Progress(*columns, console=Console(stderr=True), transient=True)


def exported(result: ExportResult, json_to: str | None) -> None:
    """Show what `export` wrote."""
    if _as_json({**asdict(result), "path": str(result.path)}, json_to):
        return
    layers = ", ".join(f"{count} {name}" for name, count in result.rc_layers.items()) or "none"
    _facts(
        f"{result.path} computes what PyTorch computes",
        {
            "largest error of a logit": _share(result.comparison.max_error, result.tolerance.maximum),
            "rc layers": f"{layers}; all are in the graph",
            "nodes": ", ".join(f"{count} {name}" for name, count in result.nodes.items()),
            "sha256": result.sha256,
            "time": f"{result.seconds:.1f} s",
        },
    )
    _next("build", str(result.path), "--fp16")


def built(result: BuildResult, json_to: str | None) -> None:
    """Show what `build` wrote."""
    if _as_json(asdict(result.manifest), json_to):
        return
    record = result.manifest
    _facts(
        f"{result.engine} is {record.precision['asked']}",
        {
            "found": result.readback.verdict(),
            "backend": f"{record.backend['name']} {record.backend['version']}",
            "runs on": "compute capability " + ", ".join(record.compute_capabilities),
            "batch": record.batch,
            "size": f"{result.engine.stat().st_size:,} bytes, built in {record.seconds:.1f} s",
            "compiled from": str(result.typed_onnx),
        },
    )
    for warning in result.warnings:
        _out().print(Text(f"warning: {warning}", style="yellow"))
    _next("validate", str(result.engine), "--reference", "CHECKPOINT", "--data", "NAME:test")


def validated(outcome: Validation, json_to: str | None) -> None:
    """Show how far an artefact is from its reference."""
    if _as_json(outcome.to_json(), json_to):
        return
    comparison = outcome.comparison
    table = Table(title=f"{outcome.artefact.path} against {outcome.reference.path}", title_justify="left")
    for name in ("criterion", "value", "bound", ""):
        table.add_column(name, justify="right" if name in ("value", "bound") else "left")
    for item in outcome.criteria:
        verdict = Text("pass", style="green") if item.passed else Text("FAIL", style="bold red")
        table.add_row(item.name, f"{item.value:.4g}", f"{item.relation} {item.bound:.4g}", verdict)
    _out().print(table)
    same = comparison.images - len(comparison.flips)
    facts = {
        "images": f"{comparison.images:,} of {outcome.data}",
        "top-1 agreement": f"{comparison.agreement:.2f}% ({same:,} of {comparison.images:,})",
        "smallest cosine": f"{comparison.cosine:.9f}",
        "reference": outcome.reference.runner.name + _accuracy(comparison.reference_accuracy),
        "artefact": f"{outcome.artefact.precision} in {outcome.artefact.runner.name}"
        + _accuracy(comparison.artefact_accuracy),
    }
    _facts("PASS" if outcome.passed else "FAIL", facts)
    if outcome.artefact.note:
        _out().print(Text(f"note: {outcome.artefact.note}", style="yellow"))


def reported(summary: Summary, output: Path, sha256: str, json_to: str | None) -> None:
    """Show the head of a report."""
    rows = [{"label": label, "value": value, "passed": passed} for label, value, passed in summary.rows]
    document = {"verdict": summary.verdict.word, "passed": summary.verdict.passed, "rows": rows}
    if _as_json({**document, "output": str(output), "sha256": sha256}, json_to):
        return
    table = Table(title=f"Summary; the whole report is in {output}", title_justify="left", show_header=False)
    for label, value, passed in summary.rows:
        style = {True: "green", False: "bold red", None: "default"}[passed]
        table.add_row(label, Text(value, style=style))
    _out().print(table)


def inspected(found: Inspection, json_to: str | None) -> None:
    """Show what a file holds."""
    if _as_json({"verdict": found.verdict, **found.details}, json_to):
        return
    _out().print(Text(found.verdict, style="bold"))
    for section, content in found.details.items():
        _facts(section, {key: _plain(value) for key, value in content.items()})


def downloaded(dataset: str, folder: Path, written: list[Path], json_to: str | None) -> None:
    """Show where a data set is now, and which of its files are new."""
    if _as_json({"dataset": dataset, "folder": str(folder), "written": [str(path) for path in written]}, json_to):
        return
    news = f"{len(written)} files written, checked by size and SHA-256" if written else "all of it was there already"
    _facts(f"{dataset} is in {folder}", {"files": news})


def diagnosed(checks: list[Check], facts: dict[str, Any], json_to: str | None) -> None:
    """Show what works on this machine."""
    if _as_json({"checks": [asdict(check) for check in checks], "machine": facts}, json_to):
        return
    table = Table(title="What works here", title_justify="left")
    for name in ("", "works", "with, or why not", "remedy"):
        table.add_column(name, overflow="fold")
    for check in checks:
        verdict = Text("yes", style="green") if check.works else Text("no", style="yellow")
        table.add_row(check.name, verdict, check.detail, check.remedy)
    _out().print(table)
    _facts("This machine", {key: _plain(value) for key, value in facts.items()})


def _as_json(document: dict[str, Any], target: str | None) -> bool:
    """Write `document` where --json says; return whether it took the place of the tables."""
    if target == "-":
        print(json_text(document))
    elif target is not None:
        write_json(Path(target), document)
    return target == "-"


def _out() -> Console:
    return Console(markup=False, highlight=False)


def _facts(title: str, facts: dict[str, str]) -> None:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key, Text(value))
    _out().print(table)


def _next(*arguments: str) -> None:
    _out().print(Text("next: ", style="green") + Text(shlex.join(("rc-deploy", *arguments))), soft_wrap=True)


def _share(value: float, bound: float) -> str:
    if not bound:  # logits that are all zero
        return f"{value:.3g}; rounding explains none"
    return f"{value:.3g}, {value / bound:.0%} of the {bound:.3g} that rounding explains"


def _accuracy(percent: float | None) -> str:
    return "" if percent is None else f", accuracy {percent:.2f}%"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        shown = ", ".join(_plain(item) for item in value[:MOST_ITEMS])
        return shown if len(value) <= MOST_ITEMS else f"{shown}, … ({len(value):,} in all)"
    return str(value)
