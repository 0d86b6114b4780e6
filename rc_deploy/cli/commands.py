"""The toolkit's commands: each parses, makes an options object, calls one function and shows the outcome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rc_deploy import weights
from rc_deploy.cli.bench import bench
from rc_deploy.cli.build import build
from rc_deploy.cli.options import DataFolder, Json, Model, Report, Threads, number
from rc_deploy.errors import InputError
from rc_deploy.specs import LARGEST_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint from `rc-deploy train`, or the name of weights.")],
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

    checkpoint = weights.find(checkpoint)
    require_json(json, [checkpoint, output])
    with show.status("Exporting and comparing with PyTorch"):
        result = run(checkpoint, output, ExportOptions(opset=opset, factory=model, static_batch=static_batch))
    show.exported(result, json)


def validate(
    artefacts: Annotated[list[Path], typer.Argument(help="ONNX files and engines, in the order they were made.")],
    reference: Annotated[
        Path, typer.Option("--reference", "-r", help="Checkpoint, or ONNX file, to hold them against.")
    ],
    data: Annotated[
        str, typer.Option(metavar="SOURCE", help="digits:test, cifar10:test, svhn:test, imagenet:val, folder:PATH, ...")
    ],
    data_folder: DataFolder = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use N images only, the first or, of pictures, of each class in turn.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draw the N images of --limit at random, by this seed.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=LARGEST_BATCH, help="Images per run.")] = 250,
    threads: Threads = None,
    model: Model = None,
    float64: Annotated[
        int, typer.Option(min=0, metavar="N", help="Run a checkpoint in float64 too, on the first N images.")
    ] = 32,
    stress: Annotated[bool, typer.Option(help="Run inputs made to break things, and batches of several sizes.")] = True,
    bisect: Annotated[bool, typer.Option("--bisect", help="Name the first layer that leaves its tolerance.")] = False,
    min_agreement: Annotated[
        float | None, typer.Option(min=0, max=100, callback=number, help="Least top-1 agreement, percent.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(min=-100, max=100, callback=number, help="Largest loss of accuracy, points.")
    ] = None,
    json: Json = None,
    report: Report = None,
) -> None:
    """Hold artefacts against their checkpoint on real data; exit code 8 if one does not compute the same."""
    from rc_deploy.cli import parity, show
    from rc_deploy.data import files_of
    from rc_deploy.outputs import require_json
    from rc_deploy.report import report_on, require_report
    from rc_deploy.validate import ValidateOptions, validate_chain
    from rc_deploy.verdict import require_passed

    reference = weights.find(reference)
    inputs = [*artefacts, reference, *files_of(data, data_folder)]
    require_json(json, inputs)
    if report:
        require_report(report, inputs, json)
    options = ValidateOptions(
        data=data,
        folder=data_folder,
        limit=limit,
        batch=batch,
        threads=threads,
        factory=model,
        min_agreement=min_agreement,
        max_accuracy_drop=max_accuracy_drop,
        seed=seed,
        float64=float64,
        stress=stress,
        bisect=bisect,
    )
    with show.progress("Validating") as bar:
        outcome = validate_chain(artefacts, reference, options, bar)
    document = outcome.to_json()
    parity.validated(outcome, document, json)
    if report:
        report_on(json, document, report)
    require_passed(outcome)


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


def check(
    engine: Annotated[Path, typer.Argument(help="Engine, with its manifest beside it.")],
    json: Json = None,
) -> None:
    """Say whether this machine can run an engine, without loading it; exit code 6 if it cannot."""
    from rc_deploy.check import check as run
    from rc_deploy.check import require_all
    from rc_deploy.cli import show
    from rc_deploy.outputs import require_json

    require_json(json, [engine])
    outcome = run(engine)
    show.checked(outcome, json)
    require_all(outcome)


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
    show.diagnosed(run(), json)


ALL: tuple[Callable[..., None], ...] = (export, build, validate, bench, report, inspect, check, download, doctor)
