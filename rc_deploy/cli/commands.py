"""The toolkit's commands: each parses, makes an options object, calls one function and shows the outcome."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rc_deploy.errors import InputError, ParityError, SlowerError
from rc_deploy.specs import LARGEST_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_BENCH = 86_400.0  # seconds: a day
MOST_CALLERS, MOST_LOADS, LARGEST_SLOW_DOWN = 1024, 1000, 100.0


def _number(value: float | None) -> float | None:
    """Refuse NaN, which every range lets through."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is not a number.")
    return value


# Options that several commands share.
Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the outcome as JSON; '-' for standard output.")
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


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint from `rc-deploy train`.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="ONNX file to write.")],
    model: Model = None,
    opset: Annotated[int, typer.Option(min=18, max=23, help="Version of the standard ONNX operators.")] = 20,
    static_batch: Annotated[
        int | None, typer.Option(min=1, max=LARGEST_BATCH, metavar="N", help="Fix the batch size; symbolic by default.")
    ] = None,
    json: Json = None,
) -> None:
    """Write a checkpoint as ONNX with rc operators, and prove that it computes the same."""
    from rc_deploy.cli import show
    from rc_deploy.export import ExportOptions
    from rc_deploy.export import export as run
    from rc_deploy.outputs import require_json

    require_json(json, [checkpoint, output])
    with show.status("Exporting and comparing with PyTorch"):
        result = run(checkpoint, output, ExportOptions(opset=opset, factory=model, static_batch=static_batch))
    show.exported(result, json)


def build(
    source: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="ONNX file from `rc-deploy export`.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Engine to write; MODEL.PRECISION.engine by default.")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Weights and activations in float16.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Everything in float32 (the default).")] = False,
    backend: Annotated[str, typer.Option(help="auto, tensorrt or tensorrt-rtx.")] = "auto",
    batch: Annotated[
        str | None, typer.Option(metavar="MIN:OPT:MAX", help="Batch sizes to build for; 1:8:64 by default.")
    ] = None,
    json: Json = None,
) -> None:
    """Build an engine, read back its precision, and write the typed ONNX and a manifest beside it."""
    from rc_deploy.cli import show
    from rc_deploy.engine import BuildOptions
    from rc_deploy.engine import build as run
    from rc_deploy.engine.builder import default_output, outputs
    from rc_deploy.outputs import require_json
    from rc_deploy.specs import BatchRange, Precision

    if fp16 and fp32:
        raise InputError("--fp16 and --fp32 exclude each other.", "Give one of them.")
    precision = Precision.FP16 if fp16 else Precision.FP32
    options = BuildOptions(precision, backend, BatchRange.parse(batch) if batch else None)
    engine = output or default_output(source, precision)
    require_json(json, [source, *outputs(engine)])
    with show.status("Building") as on_phase:
        result = run(source, engine, options, on_phase)
    show.built(result, json)


def validate(
    artefact: Annotated[Path, typer.Argument(help="ONNX file or engine.")],
    reference: Annotated[Path, typer.Option("--reference", "-r", help="Checkpoint, or ONNX file, to hold it against.")],
    data: Annotated[
        str, typer.Option(metavar="SOURCE", help="digits:test, cifar10:test, svhn:test, imagenet:val, folder:PATH, ...")
    ],
    data_folder: DataFolder = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use N images only, the first or, of pictures, of each class in turn.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=LARGEST_BATCH, help="Images per run.")] = 250,
    threads: Threads = None,
    model: Model = None,
    min_agreement: Annotated[
        float | None, typer.Option(min=0, max=100, callback=_number, help="Least top-1 agreement, percent.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(min=-100, max=100, callback=_number, help="Largest loss of accuracy, points.")
    ] = None,
    json: Json = None,
) -> None:
    """Hold an artefact against its checkpoint on real data; exit code 8 if it does not compute the same."""
    from rc_deploy.cli import show
    from rc_deploy.data import files_of
    from rc_deploy.outputs import require_json
    from rc_deploy.validate import ValidateOptions
    from rc_deploy.validate import validate as run

    require_json(json, [artefact, reference, *files_of(data, data_folder)])
    options = ValidateOptions(data, data_folder, limit, batch, threads, model, min_agreement, max_accuracy_drop)
    with show.progress("Validating") as bar:
        outcome = run(artefact, reference, options, lambda done, total: bar(f"{done:,}/{total:,} images", done / total))
    show.validated(outcome, json)
    if not outcome.passed:
        failed = "; ".join(
            f"{item.name} is {item.value:.4g}, not {item.relation} {item.bound:.4g}"
            for item in outcome.criteria
            if not item.passed
        )
        raise ParityError(
            f"{artefact} does not compute what {reference} computes: {failed}.",
            "Make sure that it was exported from this checkpoint; then export and build it again.",
        )


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
        float, typer.Option(min=0, max=LONGEST_BENCH, callback=_number, help="Time to spend on each batch size.")
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
) -> None:
    """Time artefacts side by side, in turns, with an interval for how many times as fast each is."""
    from rc_deploy.bench import BenchOptions
    from rc_deploy.bench import bench as run
    from rc_deploy.bench.subjects import parse
    from rc_deploy.cli import show, show_bench
    from rc_deploy.outputs import require_json

    sizes = _batch_sizes(batch)
    limit = None if fail_if_slower is None else _percent(fail_if_slower)
    if baseline is None and (limit is not None or any_machine):
        raise InputError("There is nothing to compare with.", "Add --baseline OLD.json, from an earlier --json.")
    require_json(json, [*(parse(text).path for text in artefacts), *([baseline] if baseline else [])])
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
    show_bench.benched(outcome, json)
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


def report(
    sources: Annotated[list[Path], typer.Argument(help="JSON files of the other commands, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path("report.html"),
    json: Json = None,
) -> None:
    """Put training, validation, build and bench results into one self-contained HTML file."""
    from rc_deploy.cli import show
    from rc_deploy.files import sha256
    from rc_deploy.outputs import require_json
    from rc_deploy.report import build_report, documents

    require_json(json, [output, *(document.path for document in documents.load(sources).all)])
    summary = build_report(sources, output)
    show.reported(summary, output, sha256(output), json)


def inspect(
    artefact: Annotated[Path, typer.Argument(help="Checkpoint, ONNX file or engine.")],
    json: Json = None,
) -> None:
    """Say what a file holds."""
    from rc_deploy.cli import show
    from rc_deploy.inspection import inspect as run
    from rc_deploy.outputs import require_json

    require_json(json, [artefact])
    show.inspected(run(artefact), json)


def download(
    dataset: Annotated[str, typer.Argument(metavar="NAME", help="cifar10, cifar100 or svhn.")],
    data_folder: DataFolder = None,
    json: Json = None,
) -> None:
    """Download a data set from its official address, and check it by size and SHA-256."""
    from rc_deploy.cli import show
    from rc_deploy.data import places
    from rc_deploy.data.download import download as run
    from rc_deploy.data.download import remotes, targets
    from rc_deploy.outputs import require_json

    wanted = remotes(dataset)
    folder = places.data_folder(data_folder)
    if folder is None:
        raise InputError(
            "No folder was given to put the data set into.",
            f"Pass --data-dir DIR (or set {places.DATA_VARIABLE}=DIR).",
        )
    require_json(json, targets(wanted, folder))
    with show.progress("Downloading") as bar:
        written = run(
            wanted,
            folder,
            places.download_command(dataset, folder),
            lambda done, total: bar(f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB", done / total),
        )
    show.downloaded(dataset, folder, written, json)


def doctor(json: Json = None) -> None:
    """Say what this machine has, what would work on it, and what to install for what would not."""
    from rc_deploy.cli import show
    from rc_deploy.doctor import doctor as run
    from rc_deploy.outputs import require_json

    require_json(json, [])
    show.diagnosed(*run(), json)


ALL: tuple[Callable[..., None], ...] = (export, build, validate, bench, report, inspect, download, doctor)
