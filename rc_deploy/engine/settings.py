"""What goes to the worker process and what comes back: records that both sides know, and that are plain JSON.

Imports next to nothing, so that the worker starts at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rc_deploy.specs import BatchRange


@dataclass(frozen=True)
class Settings:
    """How a library shall compile a graph.

    Attributes:
        profiles: ranges of the first dimension of each input, where it is symbolic; one optimisation profile each.
        compute_capabilities: GPUs to build for, e.g. ("8.6", "8.9"); TensorRT knows only the machine's own.
        version_compatible: later versions of the library shall run the engine too.
        hardware_compatible: GPUs of Ampere and later generations shall all run the engine.
        strip_weights: leave the weights out; they are put back from the typed ONNX when the engine is refitted.
        refittable: let weights be replaced in the finished engine.
        plugin_library: file of the plugins in the graph; the engine then tells the types of its layers.
    """

    profiles: tuple[BatchRange, ...]
    compute_capabilities: tuple[str, ...]
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False
    refittable: bool = False
    plugin_library: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """Return the record that `to_json` wrote."""
        profiles = tuple(BatchRange(**profile) for profile in values["profiles"])
        rest = {**values, "compute_capabilities": tuple(values["compute_capabilities"])}
        return cls(**{**rest, "profiles": profiles})


@dataclass(frozen=True)
class Compiled:
    """What a library made of a graph.

    Attributes:
        engine: the serialised engine.
        layer_types: (kind, type of the first output) of every layer as the library understood the graph, by name.
        compute_capabilities: GPUs it was built for, e.g. ["8.6", "8.9"].
        warnings: what the library warned of.
        seconds: from the first call of the library to the engine.
        timing_cache: the library's measurements, to be used again; empty where it keeps none.
        cache_refused: the library would not have the timing cache that it was given.
        weights: the graph that it was compiled from, where the engine was built without weights.
    """

    engine: bytes | memoryview
    layer_types: dict[str, tuple[str, str]]
    compute_capabilities: list[str]
    warnings: list[str]
    seconds: float = 0.0
    timing_cache: bytes = b""
    cache_refused: bool = False
    weights: bytes | None = None


@dataclass(frozen=True)
class Progress:
    """How far a phase of a build is, as the library's progress monitor tells.

    Attributes:
        name: of the phase.
        parent: the phase that it is a part of; None for the outermost.
        done: steps finished.
        steps: of the whole phase.
        finished: it is over, whatever `done` says: libraries skip steps.
    """

    name: str
    parent: str | None
    done: int
    steps: int
    finished: bool = False


OnPhase = Callable[[str], None]
OnProgress = Callable[[Progress], None]
