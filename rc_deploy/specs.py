"""What a network takes and what a build is asked for: small immutable records that check themselves."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rc_deploy.errors import InputError

# Values of one image; more, from a damaged file, would only exhaust the memory. The same holds for classes.
LARGEST_IMAGE = 2**26
# Images of one run. Nobody serves more at once, and far larger numbers crash inference libraries.
LARGEST_BATCH = 65_536
MOST_CLASSES = 2**20
# Pixels are scaled to [0, 1]: beyond these, normalised images would not be numbers in float32.
SMALLEST_STD, LARGEST_MEAN = 1e-6, 1e6


class Precision(StrEnum):
    """Type of the weights and activations of a graph; in- and outputs stay float32 whatever it is."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"

    @property
    def quantised(self) -> bool:
        """Whether its layers need ranges that are measured on data."""
        return self in (Precision.INT8, Precision.FP8)


class CalibrationMethod(StrEnum):
    """How the range of a tensor is chosen from what was seen of it (`rc_deploy.ranges`)."""

    MINMAX = "minmax"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"


@dataclass(frozen=True)
class Calibration:
    """What the ranges of a quantised graph were measured on, and how they were chosen.

    Attributes:
        data: source, see `rc_deploy.data.load`.
        images: how many of it.
        method: that chose the ranges.
    """

    data: str
    images: int
    method: CalibrationMethod

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"a calibration on {self.images} images is none")


@dataclass(frozen=True)
class InputSpec:
    """What a classification network takes, and what its outputs mean.

    Attributes:
        shape: (C, H, W) of one image.
        mean: per-channel mean, of pixel values scaled to [0, 1]; length C.
        std: per-channel standard deviation, on the same scale; length C, positive.
        classes: name of each output, in order.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1 or math.prod(self.shape) > LARGEST_IMAGE:
            raise ValueError(
                f"shape must be three positive numbers (C, H, W) of at most {LARGEST_IMAGE:,} values, not {self.shape}"
            )
        channels = self.shape[0]
        if len(self.mean) != channels or not all(abs(value) <= LARGEST_MEAN for value in self.mean):
            raise ValueError(f"mean must hold {channels} numbers between -{LARGEST_MEAN:g} and {LARGEST_MEAN:g}")
        if len(self.std) != channels or not all(SMALLEST_STD <= value <= LARGEST_MEAN for value in self.std):
            raise ValueError(f"std must hold {channels} numbers from {SMALLEST_STD:g} to {LARGEST_MEAN:g}")
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"there must be 1 to {MOST_CLASSES:,} classes, not {len(self.classes):,}")

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class BatchRange:
    """Batch sizes an engine is built for: it runs any from `minimum` to `maximum`, `optimum` fastest."""

    minimum: int
    optimum: int
    maximum: int

    @classmethod
    def parse(cls, text: str) -> BatchRange:
        """Return the range written as "MIN:OPT:MAX" or, for one size only, "N". Raises InputError."""
        match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}):(\d{1,9}))?", text)
        sizes = [int(size or match[1]) for size in match.groups()] if match else [0]
        if sizes[0] < 1 or sizes != sorted(sizes) or sizes[-1] > LARGEST_BATCH:
            raise InputError(
                f"'{text}' is not a batch range.",
                f"Write MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX <= {LARGEST_BATCH}, e.g. 1:8:64, or N.",
            )
        return cls(*sizes)

    def __str__(self) -> str:
        return f"{self.minimum}:{self.optimum}:{self.maximum}"
