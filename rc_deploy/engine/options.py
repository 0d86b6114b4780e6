"""What a build is asked for, and which files it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rc_deploy import manifest
from rc_deploy.assignment import PrecisionOptions
from rc_deploy.engine.plugins import Plugins

if TYPE_CHECKING:
    from pathlib import Path

    from rc_deploy.graph.resolution import ImageSize
    from rc_deploy.specs import BatchRange, Precision


@dataclass(frozen=True)
class BuildOptions(PrecisionOptions):
    """How to build; what it says of the precision is that of the typed graph.

    Attributes:
        backend: "auto", "tensorrt" or "tensorrt-rtx".
        plugins: what shall become of `rc` nodes in TensorRT; TensorRT-RTX always runs their bodies.
        batch: ranges of sizes to build for, an optimisation profile each; `source.DEFAULT_BATCH` where there are none,
            or the graph's own where it is fixed.
        image: size of the images that the engine takes; the graph's own for None.
        timing_cache: file of the library's measurements, to read and to write.
        compute_capabilities: GPUs to build for, e.g. ("8.6", "8.9"); none for all from Ampere on, or the machine's own.
        version_compatible: later versions of the library shall run the engine too.
        hardware_compatible: GPUs of Ampere and later generations shall all run the engine.
        strip_weights: leave the weights out of the engine.
        refittable: let weights be replaced in the finished engine.
    """

    backend: str = "auto"
    plugins: Plugins = Plugins.AUTO
    batch: tuple[BatchRange, ...] = ()
    image: ImageSize | None = None
    timing_cache: Path | None = None
    compute_capabilities: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False
    refittable: bool = False


def default_output(source: Path, precision: Precision) -> Path:
    """Return where the engine of `source` goes by default: model.onnx -> model.fp16.engine."""
    return source.parent / f"{source.stem}.{precision}.engine"


def outputs(engine: Path) -> tuple[Path, Path, Path]:
    """Return the files that a build of `engine` writes, in order: typed ONNX, engine, manifest."""
    return engine.parent / f"{engine.stem}.onnx", engine, manifest.path_for(engine)
