"""Telling the files of the pipeline apart by what is in them, not by how they are named."""

from __future__ import annotations

import zipfile
from enum import Enum
from typing import TYPE_CHECKING

from rc_deploy import manifest
from rc_deploy.errors import InputError
from rc_deploy.files import read_json, require_file

if TYPE_CHECKING:
    from pathlib import Path

# First bytes of serialised engines: TensorRT writes "ftrt", TensorRT-RTX "vtrt".
ENGINE_MAGIC = (b"ftrt", b"vtrt")
# Serialised ONNX starts with the field ir_version; these are the fields that can follow it, but for rare ones.
_ONNX_START, _ONNX_NEXT = 0x08, b"\x12\x1a\x22\x28\x32\x3a\x42"
# PNG, PDF and SVG; the last may begin as every XML file does.
_PICTURES, _XML, _SVG = (b"\x89PNG\r\n\x1a\n", b"%PDF-", b"<svg"), b"<?xml", b"<svg"
_HEAD = 1024
# First bytes of files of ours that are neither JSON nor any other format.
LOG_MAGIC, TIMING_CACHE_MAGIC = b"rc-deploy/log", b"rc-deploy/timing-cache"
_ENGINE_ADVICE = "Give the ONNX file that it was built from: its manifest, ENGINE.json, names it."
_CHECKPOINT_ADVICE = "Export it first: rc-deploy export CHECKPOINT MODEL.onnx"


class Kind(Enum):
    """Kind of an artefact, in words for messages."""

    CHECKPOINT = "a checkpoint"
    ONNX = "an ONNX file"
    ENGINE = "a TensorRT engine"
    MANIFEST = "the manifest of an engine"
    DOCUMENT = "a JSON document"
    REPORT = "a report"
    PICTURE = "a picture"
    LOG = "the log of a build"
    TIMING_CACHE = "a timing cache"

    @property
    def advice(self) -> str:
        """What to do with such a file where an ONNX file is wanted."""
        return {Kind.CHECKPOINT: _CHECKPOINT_ADVICE, Kind.ENGINE: _ENGINE_ADVICE}.get(self, "")


def kind_of(path: Path) -> Kind:
    """Return the kind of a file; what is neither engine nor checkpoint is taken for ONNX, which has no signature.

    A file with an engine's manifest beside it is that engine, whatever it holds: the manifest says what it must hold.

    Raises:
        InputError: the file is missing, empty or unreadable.
    """
    found = recognise(require_file(path, "file"))
    if found is not Kind.ENGINE and recognise(manifest.path_for(path)) is Kind.MANIFEST:
        return Kind.ENGINE
    if found in (Kind.ENGINE, Kind.CHECKPOINT):
        return found
    return Kind.CHECKPOINT if path.suffix in (".pt", ".pth", ".safetensors") else Kind.ONNX


def recognise(path: Path) -> Kind | None:
    """Return the kind of artefact that a file's content shows; None for other files, and where there is none."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith(ENGINE_MAGIC):
            return Kind.ENGINE
        if _holds_weights(path, head):
            return Kind.CHECKPOINT
    except OSError:
        return None
    if head[:1] == bytes([_ONNX_START]) and head[2:3] and head[2] in _ONNX_NEXT:
        return Kind.ONNX
    if head.startswith((LOG_MAGIC, TIMING_CACHE_MAGIC)):
        return Kind.LOG if head.startswith(LOG_MAGIC) else Kind.TIMING_CACHE
    if head.startswith(_PICTURES) or (head.startswith(_XML) and _SVG in head):
        return Kind.PICTURE
    return _document(path) if head.lstrip()[:1] == b"{" else None


def _holds_weights(path: Path, head: bytes) -> bool:
    # Safetensors starts with the length of its header, 8 bytes, then the header, a JSON object.
    safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size
    # PyTorch's current format is a zip file, its older one a pickle.
    return safetensors or zipfile.is_zipfile(path) or head.startswith((b"PK", b"\x80\x02"))


def _document(path: Path) -> Kind | None:
    try:
        document = read_json(path, "document")
    except InputError:
        return None
    if document.get("format") == manifest.FORMAT:
        return Kind.MANIFEST
    return Kind.DOCUMENT if str(document.get("schema")).startswith("rc-deploy/") else None
