"""What a network takes and what a build is asked for: small immutable records with checked JSON forms."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rc_deploy.errors import InputError

# Values of one image; more, from a damaged file, would only exhaust the memory.
LARGEST_IMAGE = 2**26
# Images of one run. Nobody serves more at once, and far larger numbers crash inference libraries.
LARGEST_BATCH = 65_536


class Precision(StrEnum):
    """Type of the weights and activations of a graph; in- and outputs stay float32 whatever it is."""

    FP32 = "fp32"
    FP16 = "fp16"


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
        channels = self.shape[0]
        if len(self.shape) != 3 or min(self.shape) < 1 or math.prod(self.shape) > LARGEST_IMAGE:
            raise ValueError(
                f"shape must be three positive numbers (C, H, W) of at most {LARGEST_IMAGE:,} values, not {self.shape}"
            )
        if len(self.mean) != channels or len(self.std) != channels or min(self.std) <= 0:
            raise ValueError(f"mean and std must hold {channels} values each, std positive ones")
        if not self.classes:
            raise ValueError("there must be at least one class")

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> InputSpec:
        """Return the record that `to_json` wrote. Raises InputError where `document` is not one."""
        try:
            c, h, w = (int(size) for size in document["shape"])
            return cls(
                shape=(c, h, w),
                mean=tuple(float(value) for value in document["mean"]),
                std=tuple(float(value) for value in document["std"]),
                classes=tuple(str(name) for name in document["classes"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"The input specification is not valid: {error}.", "Export or train again.") from None


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
