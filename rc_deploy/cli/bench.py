"""The command that times artefacts."""

from __future__ import annotations

import math
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import Annotated

import typer

from rc_deploy.cli.options import Json, Model, Report, Threads, number
from rc_deploy.errors import InputError, SlowerError
from rc_deploy.specs import LARGEST_BATCH

LONGEST_BENCH = 86_400.0  # seconds: a day
MOST_CALLERS, MOST_LOADS, LARGEST_SLOW_DOWN = 1024, 1000, 100.0


def bench(
    artefacts: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE[@VARIANT]...",
            help="Checkpoints (@eager, @compile, @cuda, @cuda-graph), ONNX files (@kernels, @bodies, @openvino) and "
            "engines; the first is the base.",
        ),
    ],
    batch: Annotated[str, typer.Option(metavar="N,N,...", help="Batch sizes.")] = "1,8,64",
    seconds: Annotated[
        float, typer.Option(min=0, max=LONGEST_BENCH, callback=number, help="Time to spend on each batch size.")
    ] = 5.0,
    threads: Threads = None,
    concurrency: Annotated[int, typer.Option(min=1, max=MOST_CALLERS, help="Callers that run at once.")] = 1,
    loads: Annotated[int, typer.Option(min=2, max=MOST_LOADS, help="How often each artefact is loaded anew.")] = 10,
    isolate: Annotated[bool, typer.Option("--isolate", help="Run each artefact in a process of its own.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say which layers the time goes to.")] = False,
    baseline: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Hold the outcome against an earlier one.")
    ] = None,
    fail_if_slower: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="With --baseline: exit code 9 beyond this slow-down, e.g. 5%."),
    ] = None,
    any_machine: Annotated[
        bool, typer.Option("--any-machine", help="Take a baseline from another machine too.")
    ] = False,
    model: Model = None,
    json: Json = None,
    report: Report = None,
) -> None:
    """Time artefacts side by side, in turns, with an interval for how many times as fast each is."""
    from rc_deploy.bench import BenchOptions
    from rc_deploy.bench import bench as run
    from rc_deploy.bench.subjects import parse
    from rc_deploy.cli import show, show_bench
    from rc_deploy.outputs import require_json
    from rc_deploy.report import report_on, require_report

    sizes = _batch_sizes(batch)
    limit = None if fail_if_slower is None else _percent(fail_if_slower)
    if baseline is None and (limit is not None or any_machine):
        raise InputError("There is nothing to compare with.", "Add --baseline OLD.json, from an earlier --json.")
    inputs = [*(parse(text).path for text in artefacts), *([baseline] if baseline else [])]
    require_json(json, inputs)
    if report:
        require_report(report, inputs, json)
    options = BenchOptions(
        batches=sizes,
        seconds=seconds,
        threads=threads,
        factory=model,
        concurrency=concurrency,
        loads=loads,
        isolate=isolate,
        profile=profile,
        baseline=baseline,
        limit=limit or 0.0,
        any_machine=any_machine,
    )
    with show.progress("Timing") as bar:
        outcome = run(artefacts, options, bar)
    document = outcome.to_json()
    show_bench.benched(outcome, document, json)
    if report:
        report_on(json, document, report)
    if limit is not None and outcome.comparison is not None and outcome.comparison.slower:
        slower = "; ".join(show_bench.slower(outcome))
        raise SlowerError(
            f"More than {100 * limit:g}% slower than in {baseline}: {slower}.",
            "Make sure that the machine is quiet; `--profile` says which layers the time goes to.",
        )


def _percent(text: str) -> float:
    """Return the fraction that a percentage says."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = math.nan
    if not 0 <= value <= LARGEST_SLOW_DOWN:
        raise typer.BadParameter(f"'{text}' is not a percentage from 0% to {LARGEST_SLOW_DOWN:.0%}.")
    return value


def _batch_sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(
        int(part) if part.isascii() and part.isdecimal() and len(part) < 10 else 0 for part in text.split(",")
    )
    if not all(1 <= size <= LARGEST_BATCH for size in sizes):
        raise InputError(
            f"'{text}' is not a list of batch sizes from 1 to {LARGEST_BATCH:,}.",
            "Write them with commas, e.g. --batch 1,8,64",
        )
    return sizes
