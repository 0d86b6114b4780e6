"""Telling the files of the pipeline apart by what is in them, not by how they are named."""

from __future__ import annotations

import zipfile
from enum import Enum
from typing import TYPE_CHECKING

from rc_deploy.files import require_file

if TYPE_CHECKING:
    from pathlib import Path

# First bytes of serialised engines: TensorRT writes "ftrt", TensorRT-RTX "vtrt".
ENGINE_MAGIC = (b"ftrt", b"vtrt")
_ENGINE_ADVICE = "Give the ONNX file that it was built from: its manifest, ENGINE.json, names it."
_CHECKPOINT_ADVICE = "Export it first: rc-deploy export CHECKPOINT MODEL.onnx"


class Kind(Enum):
    """Kind of an artefact, in words for messages."""

    CHECKPOINT = "a checkpoint"
    ONNX = "an ONNX file"
    ENGINE = "a TensorRT engine"

    @property
    def advice(self) -> str:
        """What to do with such a file where an ONNX file is wanted."""
        return {Kind.CHECKPOINT: _CHECKPOINT_ADVICE, Kind.ENGINE: _ENGINE_ADVICE}.get(self, "")


def kind_of(path: Path) -> Kind:
    """Return the kind of a file; what is neither engine nor checkpoint is taken for ONNX, which has no signature.

    Raises:
        InputError: the file is missing, empty or unreadable.
    """
    require_file(path, "file")
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(ENGINE_MAGIC):
        return Kind.ENGINE
    # Safetensors starts with the length of its header, 8 bytes, then the header, a JSON object.
    safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size
    # PyTorch's current format is a zip file, its older one a pickle.
    if safetensors or zipfile.is_zipfile(path) or head.startswith((b"PK", b"\x80\x02")):
        return Kind.CHECKPOINT
    return Kind.CHECKPOINT if path.suffix in (".pt", ".pth", ".safetensors") else Kind.ONNX
