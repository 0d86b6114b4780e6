"""What a build starts from: the exported graph, and the sizes that it is built for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rc_deploy.errors import InputError
from rc_deploy.files import digest
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.resolution import resized
from rc_deploy.specs import BatchRange

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from rc_deploy.engine.options import BuildOptions
    from rc_deploy.graph.model import Provenance

DEFAULT_BATCH = BatchRange(1, 8, 64)


@dataclass(frozen=True)
class Source:
    """An exported graph.

    Attributes:
        path: of the file.
        content: of the file.
        model: what the file holds, for images of the size asked for.
        provenance: what the file says of itself.
        profiles: batch sizes to build for, a range each.
        as_read: `model` is what the file holds, unchanged.
    """

    path: Path
    content: bytes
    model: ModelProto
    provenance: Provenance
    profiles: tuple[BatchRange, ...]
    as_read: bool

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        return digest(self.content)


def read_source(path: Path, options: BuildOptions) -> Source:
    """Read and check what is to be built.

    Raises:
        InputError: the file cannot be used, or not for the sizes asked for.
        UnsupportedError: the network takes images of its own size only.
    """
    model, content = onnx_model.read(path)
    provenance = onnx_model.provenance(model, str(path))
    onnx_model.require_classifier(model, provenance.input, str(path))
    profiles = _profiles(model, options.batch, path)
    asked = resized(model, options.image, str(path)) if options.image else model
    return Source(path, content, asked, provenance, profiles, asked is model)


def _profiles(model: ModelProto, asked: tuple[BatchRange, ...], source: Path) -> tuple[BatchRange, ...]:
    """Return the batch sizes to build for, a range per profile.

    Raises:
        InputError: one is not the graph's own fixed size, or is asked for twice.
    """
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if not fixed:
        if len(set(asked)) < len(asked):
            raise InputError(f"--batch asks for {asked[-1]} twice.", "Give each range once.")
        return asked or (DEFAULT_BATCH,)
    own = BatchRange.parse(str(fixed))
    if wrong := [batch for batch in asked if batch != own]:
        raise InputError(
            f"{source} has the fixed batch size {fixed}; it cannot be built for {wrong[0]}.",
            "Leave --batch out, or export without --static-batch.",
        )
    return (own,)
