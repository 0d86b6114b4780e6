"""The graph that an engine is compiled from: in the precision asked for, as it is written beside the engine."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rc_deploy import manifest
from rc_deploy.assignment import assign
from rc_deploy.errors import OutputError
from rc_deploy.files import digest, holds, sha256
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.plan import planned
from rc_deploy.graph.weights import serialised

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from rc_deploy.assignment import Assigned
    from rc_deploy.engine.options import BuildOptions
    from rc_deploy.engine.settings import OnProgress
    from rc_deploy.engine.source import Source
    from rc_deploy.graph.plan import Plan


@dataclass(frozen=True)
class TypedGraph:
    """A graph in its precision.

    Attributes:
        assigned: the graph, and how it came about.
        content: the graph as the file beside the engine.
        plan: what it shall hold, decided before it was converted.
    """

    assigned: Assigned
    content: bytes
    plan: Plan

    @property
    def graph(self) -> ModelProto:
        """The graph itself."""
        return self.assigned.graph

    @cached_property
    def sha256(self) -> str:
        """Of `content`."""
        return digest(self.content)


def typed_graph(source: Source, options: BuildOptions, on_progress: OnProgress) -> TypedGraph:
    """Return the source's graph in the precision asked for, checked.

    A float32 graph that nothing was changed in is the file that was read, byte for byte: it is checked already.

    Raises:
        InputError: the graph cannot be converted, or the options or data do not fit it.
        UnsupportedError: the accuracy asked for holds with no layer in the narrow type.
    """
    assigned = assign(source.model, options, str(source.path), on_progress)
    plan = planned(source.model, options.precision, assigned.kept)
    if source.as_read and assigned.graph is source.model:
        return TypedGraph(assigned, source.content, plan)
    content = serialised(assigned.graph)
    onnx_model.check(assigned.graph, f"The {options.precision} form of {source.path}")
    return TypedGraph(assigned, content, plan)


def require_replaceable(place: Path, typed: TypedGraph, engine: Path) -> None:
    """Require that the file in the typed ONNX's place is the one of the earlier build of this engine, or the same.

    Nobody named that place, so nobody agreed to lose what lies there. Raises OutputError.
    """
    if not place.exists() or holds(place, typed.content):
        return
    earlier = manifest.typed_onnx_of(engine)
    if earlier is None or sha256(place) != earlier.sha256:
        raise OutputError(
            f"The typed ONNX written beside the engine would overwrite {place}, which no earlier build of {engine} "
            "wrote.",
            f"Move that file away, or choose another name: -o {shlex.quote(str(engine.with_stem(engine.stem + '-2')))}",
        )
