"""The toolkit's commands: each parses, makes an options object, calls one function and shows the outcome."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rc_deploy import weights
from rc_deploy.errors import InputError, SlowerError
from rc_deploy.specs import LARGEST_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from rc_deploy.specs import Calibration, Precision

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


def build(
    source: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="ONNX file from `rc-deploy export`.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Engine to write; MODEL.PRECISION.engine by default.")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Weights and activations in float16.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Weights and activations in bfloat16.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Layers quantised to int8; needs --calibration.")] = False,
    fp8: Annotated[bool, typer.Option("--fp8", help="Layers quantised to float8 E4M3; needs --calibration.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Everything in float32 (the default).")] = False,
    keep_fp32: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Nodes or PyTorch modules that stay float32, e.g. 'stages.0.*'."),
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Data to measure ranges on, e.g. cifar10:train.")
    ] = None,
    calibration_method: Annotated[str, typer.Option(help="minmax, entropy or percentile.")] = "minmax",
    calibration_images: Annotated[int, typer.Option(min=1, metavar="N", help="Images to measure ranges on.")] = 512,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(min=0, max=100, callback=_number, help="Keep float32 the layers that accuracy needs, points."),
    ] = None,
    data_folder: DataFolder = None,
    backend: Annotated[str, typer.Option(help="auto, tensorrt or tensorrt-rtx.")] = "auto",
    batch: Annotated[
        list[str] | None,
        typer.Option(metavar="MIN:OPT:MAX", help="Batch sizes to build for, 1:8:64 by default; a profile each time."),
    ] = None,
    plugins: Annotated[
        str, typer.Option(metavar="auto|require|off", help="TensorRT: rc nodes as plugins; auto keeps what is faster.")
    ] = "auto",
    image: Annotated[
        str | None, typer.Option(metavar="HxW", help="Size of the images to build for, where the network can change.")
    ] = None,
    compute_capability: Annotated[
        str | None, typer.Option(metavar="N.N,N.N,...", help="GPUs to build for; TensorRT-RTX only.")
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep measurements for the next build; TensorRT only.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="For later versions too; TensorRT only.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="For Ampere and all later GPUs; TensorRT only.")
    ] = False,
    strip_weights: Annotated[
        bool, typer.Option("--strip-weights", help="Leave the weights out of the engine; needs a GPU.")
    ] = False,
    refittable: Annotated[
        bool, typer.Option("--refittable", help="Let weights be replaced in the engine; needs a GPU.")
    ] = False,
    json: Json = None,
) -> None:
    """Build an engine, read back its precision, and write the typed ONNX and a manifest beside it."""
    from rc_deploy.cli import show
    from rc_deploy.data import files_of
    from rc_deploy.engine import BuildOptions
    from rc_deploy.engine import build as run
    from rc_deploy.engine.builder import default_output, outputs
    from rc_deploy.engine.plugins import Plugins
    from rc_deploy.graph.resolution import ImageSize
    from rc_deploy.outputs import require_json
    from rc_deploy.specs import BatchRange

    precision = _precision({"fp32": fp32, "fp16": fp16, "bf16": bf16, "int8": int8, "fp8": fp8})
    options = BuildOptions(
        precision=precision,
        keep_fp32=tuple(keep_fp32 or ()),
        calibration=_calibration(calibration, calibration_images, calibration_method),
        folder=data_folder,
        max_accuracy_drop=max_accuracy_drop,
        backend=backend,
        plugins=Plugins.parse(plugins),
        batch=tuple(BatchRange.parse(text) for text in batch or ()),
        image=ImageSize.parse(image) if image else None,
        timing_cache=timing_cache,
        compute_capabilities=tuple(compute_capability.split(",")) if compute_capability else (),
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        strip_weights=strip_weights,
        refittable=refittable,
    )
    engine = output or default_output(source, precision)
    inputs = [source, *(files_of(calibration, data_folder) if calibration else [])]
    require_json(json, [*inputs, *outputs(engine), *([timing_cache] if timing_cache else [])])
    with show.building() as (on_phase, on_progress):
        result = run(source, engine, options, on_phase, on_progress)
    show.built(result, json)


def _precision(flags: dict[str, bool]) -> Precision:
    from rc_deploy.specs import Precision

    given = [name for name, on in flags.items() if on]
    if len(given) > 1:
        raise InputError(f"{' and '.join(f'--{name}' for name in given)} exclude each other.", "Give one of them.")
    return Precision(given[0]) if given else Precision.FP32


def _calibration(source: str | None, images: int, method: str) -> Calibration | None:
    from rc_deploy.specs import Calibration, CalibrationMethod

    if method not in list(CalibrationMethod):
        raise InputError(f"There is no calibration method '{method}'.", f"Choose {', '.join(CalibrationMethod)}.")
    return Calibration(source, images, CalibrationMethod(method)) if source else None


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
        float | None, typer.Option(min=0, max=100, callback=_number, help="Least top-1 agreement, percent.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(min=-100, max=100, callback=_number, help="Largest loss of accuracy, points.")
    ] = None,
    json: Json = None,
) -> None:
    """Hold artefacts against their checkpoint on real data; exit code 8 if one does not compute the same."""
    from rc_deploy.cli import parity, show
    from rc_deploy.data import files_of
    from rc_deploy.outputs import require_json
    from rc_deploy.validate import ValidateOptions, validate_chain
    from rc_deploy.verdict import require_passed

    reference = weights.find(reference)
    require_json(json, [*artefacts, reference, *files_of(data, data_folder)])
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
    parity.validated(outcome, json)
    require_passed(outcome)


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
