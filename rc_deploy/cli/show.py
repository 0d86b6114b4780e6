"""How outcomes look in a terminal: progress on standard error, tables on standard output, or JSON in their place."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from rc_deploy.files import json_text, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.progress import TaskID

    from rc_deploy.check import Check, EngineCheck
    from rc_deploy.doctor import Diagnosis
    from rc_deploy.engine import BuildResult
    from rc_deploy.engine.settings import OnPhase, OnProgress
    from rc_deploy.engine.settings import Progress as Phase
    from rc_deploy.export import ExportResult
    from rc_deploy.inspection import Inspection
    from rc_deploy.report import Summary
    from rc_deploy.sensitivity import Search

# Names of classes and the like: so many are shown, --json has them all.
MOST_ITEMS = 12
# Layers are many: so many are shown.
MOST_ROWS = 40


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


@contextmanager
def building() -> Iterator[tuple[OnPhase, OnProgress]]:
    """Show a line for the build, and below it a bar for each phase that is going on, and how much of it is done.

    Yield two functions: one says what is going on now, the other takes how far a phase is.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TaskProgressColumn())
    with _progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        whole = bar.add_task("Building", total=None)
        tasks: dict[str, TaskID] = {}
        depths: dict[str | None, int] = {None: 0}

        def on_progress(phase: Phase) -> None:
            if phase.finished:
                if phase.name in tasks:
                    bar.remove_task(tasks.pop(phase.name))
                return
            if phase.name not in tasks:
                depths[phase.name] = depths.get(phase.parent, 0) + 1
                tasks[phase.name] = bar.add_task("  " * depths[phase.name] + phase.name, total=phase.steps)
            bar.update(tasks[phase.name], completed=phase.done, total=phase.steps)

        yield (lambda name: bar.update(whole, description=f"Building: {name}"), on_progress)


def _progress(*columns: Any) -> Progress:
    return Progress(*columns, console=Console(stderr=True), transient=True)


def exported(result: ExportResult, json_to: str | None) -> None:
    """Show what `export` wrote."""
    if as_json({**asdict(result), "path": str(result.path)}, json_to):
        return
    layers = ", ".join(f"{count} {name}" for name, count in result.rc_layers.items()) or "none"
    facts_table(
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
    if as_json(asdict(result.manifest), json_to):
        return
    record = result.manifest
    facts_table(
        f"{result.engine} is {record.precision['asked']}",
        {
            "found": result.readback.verdict(),
            "backend": f"{record.backend['name']} {record.backend['version']}",
            "runs on": "compute capability " + ", ".join(record.compute_capabilities),
            "batch": record.batch,
            "rc nodes": _rc_nodes(record.rc_nodes),
            "size": f"{result.engine.stat().st_size:,} bytes, built in {record.seconds:.1f} s",
            "compiled from": str(result.typed_onnx),
        },
    )
    if result.search:
        _searched(result.search)
    for warning in result.warnings:
        console().print(Text(f"warning: {warning}", style="yellow"))
    _next("validate", str(result.engine), "--reference", "CHECKPOINT", "--data", "NAME:test")


def _rc_nodes(chosen: dict[str, Any]) -> str:
    """Say whether plugins or bodies run, why, and what was measured."""
    what = f"{chosen['plugins']} plugins" if chosen["plugins"] else "bodies"
    times = ", ".join(f"{name} {milliseconds:.3f} ms" for name, milliseconds in chosen["milliseconds"].items())
    return f"{what}: {chosen['why']}" + (f" ({times})" if times else "")


def _searched(found: Search) -> None:
    """Show each layer's sensitivity, which layers stay float32, and what accuracy that holds."""
    table = Table(title="Sensitivity of each layer, alone in the narrow type", title_justify="left")
    for name in ("layer", "change of the logits", "million products", "computes in"):
        table.add_column(name, justify="left" if name in ("layer", "computes in") else "right")
    for item in found.layers:
        kept = "float32" if item.node in found.kept else ""
        table.add_row(item.module or item.node, f"{100 * item.change:.2f}%", f"{item.macs / 1e6:.2f}", kept)
    console().print(table)
    parts = {"searched on": found.search, "checked on": found.check, "held out": found.held_out}
    for title, accuracy in parts.items():
        console().print(
            f"{title}: {accuracy.images:,} images, accuracy {accuracy.float32:.2f}% -> {accuracy.quantised:.2f}%, a "
            f"loss of {accuracy.drop:.2f} points; {found.asked:g} were allowed"
        )
    low, high = found.interval
    proven = "the promise holds" if found.proven else "so many images do not prove the promise"
    console().print(f"loss on images like the held-out ones, 95% interval: {low:+.2f} to {high:+.2f} points; {proven}")
    console().print(
        f"{len(found.kept)} of {len(found.layers)} layers stay float32, {found.share:.1f}% of the products do not; "
        f"{found.candidates} assignments were measured, the held-out images {found.looks} times"
    )
    if len(found.unproven) < len(found.kept):
        console().print(
            f"{len(found.unproven)} layers would do by the images of the search alone, which prove nothing; to keep "
            "fewer, allow more or name a larger split"
        )


def reported(summary: Summary, output: Path, sha256: str, json_to: str | None) -> None:
    """Show the head of a report."""
    rows = [{"label": label, "value": value, "passed": passed} for label, value, passed in summary.rows]
    document = {"verdict": summary.verdict.word, "passed": summary.verdict.passed, "rows": rows}
    if as_json({**document, "output": str(output), "sha256": sha256}, json_to):
        return
    table = Table(title=f"Summary; the whole report is in {output}", title_justify="left", show_header=False)
    for label, value, passed in summary.rows:
        style = {True: "green", False: "bold red", None: "default"}[passed]
        table.add_row(label, Text(value, style=style))
    console().print(table)


def inspected(found: Inspection, json_to: str | None) -> None:
    """Show what a file holds."""
    if as_json({"verdict": found.verdict, **found.details, "layers": found.layers}, json_to):
        return
    console().print(Text(found.verdict, style="bold"))
    for section, content in found.details.items():
        facts_table(section, {key: _plain(value) for key, value in content.items()})
    if found.layers:
        console().print(_rows("layers", found.layers[:MOST_ROWS]))
    if (more := len(found.layers) - MOST_ROWS) > 0:
        console().print(f"and {more:,} more layers: --json - shows all")


def checked(outcome: EngineCheck, json_to: str | None) -> None:
    """Show whether an engine can run here."""
    if as_json(outcome.to_json(), json_to):
        return
    verdict = "can run here" if outcome.runnable else "cannot run here"
    console().print(_checks(f"{outcome.engine} {verdict}", outcome.checks))


def downloaded(dataset: str, folder: Path, written: list[Path], json_to: str | None) -> None:
    """Show where a data set is now, and which of its files are new."""
    if as_json({"dataset": dataset, "folder": str(folder), "written": [str(path) for path in written]}, json_to):
        return
    news = f"{len(written)} files written, checked by size and SHA-256" if written else "all of it was there already"
    facts_table(f"{dataset} is in {folder}", {"files": news})


def diagnosed(found: Diagnosis, json_to: str | None) -> None:
    """Show what works on this machine, and which libraries are on it."""
    if as_json(found.to_json(), json_to):
        return
    console().print(_checks("What works here", found.checks))
    if found.libraries:
        console().print(_rows("Libraries", [vars(library) for library in found.libraries]))
    facts_table("This machine", {key: _plain(value) for key, value in found.machine.items()})


def _checks(title: str, checks: Sequence[Check]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("", "works", "with, or why not", "remedy"):
        table.add_column(name, overflow="fold")
    for check in checks:
        verdict = Text("yes", style="green") if check.works else Text("no", style="yellow")
        table.add_row(check.name, verdict, Text(check.detail), Text(check.remedy))
    return table


def _rows(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of records, a column for each of their keys."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for key in rows[0]:
        table.add_column(key.replace("_", " "), overflow="fold", header_style="dim")
    for row in rows:
        table.add_row(*(Text(_plain(value)) for value in row.values()))
    return table


def as_json(document: dict[str, Any], target: str | None) -> bool:
    """Write `document` where --json says; return whether it took the place of the tables."""
    if target == "-":
        print(json_text(document))
    elif target is not None:
        write_json(Path(target), document)
    return target == "-"


def console() -> Console:
    """Return where tables are printed."""
    return Console(markup=False, highlight=False)


def facts_table(title: str, facts: dict[str, str]) -> None:
    """Print facts under a title, a line each."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key, Text(value))
    console().print(table)


def _next(*arguments: str) -> None:
    console().print(Text("next: ", style="green") + Text(shlex.join(("rc-deploy", *arguments))), soft_wrap=True)


def _share(value: float, bound: float) -> str:
    if not bound:  # logits that are all zero
        return f"{value:.3g}; rounding explains none"
    return f"{value:.3g}, {value / bound:.0%} of the {bound:.3g} that rounding explains"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        shown = ", ".join(_plain(item) for item in value[:MOST_ITEMS])
        return shown if len(value) <= MOST_ITEMS else f"{shown}, … ({len(value):,} in all)"
    return str(value)
