"""The command that builds engines."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path  # noqa: TC003 (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

from rc_deploy.cli.options import DataFolder, Json, number
from rc_deploy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rc_deploy.engine.settings import OnPhase, OnProgress, Progress
    from rc_deploy.specs import Calibration, Precision


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
        typer.Option(min=0, max=100, callback=number, help="Keep float32 the layers that accuracy needs, points."),
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
    from rc_deploy.engine.library import named
    from rc_deploy.engine.process import started

    with started(named(backend)) as worker:  # it imports its library while this process imports what it needs itself
        from rc_deploy.engine import BuildOptions
        from rc_deploy.engine import build as run
        from rc_deploy.engine.options import default_output, outputs
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
        inputs = [source, *(_files_of(calibration, data_folder) if calibration else [])]
        require_json(json, [*inputs, *outputs(engine), *([timing_cache] if timing_cache else [])])
        with _shown() as (on_phase, on_progress):
            result = run(source, engine, options, on_phase, on_progress, worker)
    from rc_deploy.cli import show

    show.built(result, json)


@contextmanager
def _shown() -> Iterator[tuple[OnPhase, OnProgress]]:
    """As `show.building`, from the first progress: what draws it is imported while the library compiles."""
    with ExitStack() as stack:

        @cache
        def display() -> tuple[OnPhase, OnProgress]:
            from rc_deploy.cli import show

            return stack.enter_context(show.building())

        def on_phase(name: str) -> None:
            display()[0](name)

        def on_progress(phase: Progress) -> None:
            display()[1](phase)

        yield on_phase, on_progress


def _files_of(calibration: str, folder: Path | None) -> list[Path]:
    from rc_deploy.data import files_of

    return files_of(calibration, folder)


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
