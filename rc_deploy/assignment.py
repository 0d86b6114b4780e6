"""From what a build is asked for to a typed graph: which nodes stay float32, as far as no data decide it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rc_deploy.errors import InputError
from rc_deploy.graph.layers import layers, matching
from rc_deploy.graph.precision import typed
from rc_deploy.specs import Precision

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from rc_deploy.engine.settings import OnProgress
    from rc_deploy.sensitivity import Search
    from rc_deploy.specs import Calibration


@dataclass(frozen=True)
class PrecisionOptions:
    """Which precision, and where not.

    Attributes:
        precision: of weights and activations.
        keep_fp32: patterns of nodes or PyTorch modules that stay float32.
        calibration: what ranges are measured on; for int8 and fp8.
        folder: where the data sets are; None for RC_DATA.
        max_accuracy_drop: largest loss of accuracy, percentage points, that layers may be quantised for; None
            quantises all.
    """

    precision: Precision = Precision.FP32
    keep_fp32: tuple[str, ...] = ()
    calibration: Calibration | None = None
    folder: Path | None = None
    max_accuracy_drop: float | None = None


@dataclass(frozen=True)
class Assigned:
    """A typed graph and how it came about.

    Attributes:
        graph: in its precision.
        kept: names of nodes that stay float32.
        search: that found them; None where none was asked for.
    """

    graph: ModelProto
    kept: frozenset[str]
    search: Search | None = None


def assign(
    model: ModelProto, options: PrecisionOptions, name: str, on_progress: OnProgress = lambda _: None
) -> Assigned:
    """Return the model in the precision that was asked for.

    Args:
        model: float32, from `rc-deploy export`.
        options: what was asked for.
        name: of the model, for messages.
        on_progress: called with the images that were calibrated on, and searched on.

    Raises:
        InputError: the options do not fit together or to the model, or the data cannot be used.
        UnsupportedError: the accuracy holds with no layer in the narrow type.
    """
    require_sense(options)
    fixed = matching(model, options.keep_fp32)
    if fixed and all(layer.node in fixed for layer in layers(model)):
        raise InputError(f"--keep-fp32 keeps every layer of {name}.", "Give fewer patterns, or --fp32.")
    if not options.precision.quantised or options.calibration is None:
        return Assigned(typed(model, options.precision, name, fixed), fixed)
    # Imports the data sets, and what measures on them.
    from rc_deploy.quantisation import quantise

    return quantise(model, options, options.calibration, name, fixed, on_progress)


def require_sense(options: PrecisionOptions) -> None:
    """Raise InputError where the options do not fit together."""
    precision = options.precision
    if precision.quantised and options.calibration is None:
        raise InputError(
            f"--{precision} needs data to measure ranges on.", "Add --calibration NAME:train, e.g. cifar10:train."
        )
    if not precision.quantised and (options.calibration or options.max_accuracy_drop is not None):
        raise InputError(
            f"Nothing is calibrated for {precision}.",
            "Leave --calibration and --max-accuracy-drop to --int8 and --fp8.",
        )
    if precision is Precision.FP32 and options.keep_fp32:
        raise InputError("--keep-fp32 keeps layers out of a narrower type.", "Add --fp16, --bf16, --int8 or --fp8.")
