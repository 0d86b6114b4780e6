"""The manifest beside an engine: what it was made from, with what, for what, and what was proven of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rc_deploy.decode import FormError, decode
from rc_deploy.errors import InputError
from rc_deploy.files import json_bytes, read_json, sha256, write_bytes

FORMAT = "rc-deploy/engine"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileRecord:
    """A file, by name in the manifest's folder, with the SHA-256 that it must have."""

    name: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Return the record of an existing file."""
        return cls(path.name, sha256(path))


@dataclass(frozen=True)
class Manifest:
    """Everything known of one engine.

    Attributes:
        engine: the engine itself.
        source: the ONNX file it was asked to be built from; its name only, wherever it lies.
        typed_onnx: the graph in the engine's precision that was compiled; lies beside the engine.
        checkpoint_sha256: of the checkpoint at the beginning.
        backend: library and version, e.g. {"name": "tensorrt-rtx", "version": "1.7.1.116"}.
        compute_capabilities: of the GPUs it can run on, e.g. ["8.6", "8.9"].
        batch: "MIN:OPT:MAX".
        precision: {"asked": "fp16", "found": ...}, the latter read back from what was built.
        plugins: plugin libraries it needs, with their SHA-256.
        rc_nodes: whether `rc` nodes are plugins or bodies in it, and why, see `engine.choice.Choice`.
        created: ISO 8601 time, UTC.
        rc_deploy: version that built it.
        seconds: that the library took to build it.
        proven: summaries of validations and benchmarks, added by the commands that ran them.
    """

    engine: FileRecord
    source: FileRecord
    typed_onnx: FileRecord
    checkpoint_sha256: str
    backend: dict[str, str]
    compute_capabilities: list[str]
    batch: str
    precision: dict[str, Any]
    created: str
    rc_deploy: str
    seconds: float
    plugins: list[dict[str, str]] = field(default_factory=list)
    rc_nodes: dict[str, Any] = field(default_factory=dict)
    proven: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not {"name", "version"} <= self.backend.keys():
            raise ValueError("'backend' lacks 'name' or 'version'")
        if not isinstance(self.precision.get("asked"), str):
            raise ValueError("'precision.asked' is not text")

    def with_proof(self, name: str, proof: dict[str, Any]) -> Manifest:
        """Return the manifest with one more thing proven."""
        return replace(self, proven={**self.proven, name: proof})


def path_for(engine: Path) -> Path:
    """Return where the manifest of `engine` lies."""
    return engine.parent / f"{engine.name}.json"


def write(manifest: Manifest, engine: Path) -> None:
    """Write the manifest beside its engine. Raises OutputError."""
    write_bytes(path_for(engine), content(manifest))


def content(manifest: Manifest) -> bytes:
    """Return the manifest as it stands in its file."""
    return json_bytes({"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(manifest)})


def typed_onnx_of(engine: Path) -> FileRecord | None:
    """Return what the manifest of `engine` says of its typed ONNX, unchecked; None where no manifest says it."""
    try:
        return FileRecord(**read_json(path_for(engine), "manifest")["typed_onnx"])
    except (InputError, KeyError, TypeError):
        return None


def read(engine: Path) -> Manifest:
    """Read the manifest of `engine` and hold both files it names against it.

    Raises:
        InputError: no or damaged manifest, another version's, or a file that is not the one it was written for.
    """
    if not path_for(engine).exists():
        raise InputError(
            f"The engine {engine} has no manifest: there is no {path_for(engine)}.",
            "An engine is used together with the .json that `rc-deploy build` wrote beside it: copy both, with the "
            "typed .onnx, or build again.",
        )
    document = read_json(path_for(engine), "manifest")
    if (document.get("format"), document.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise InputError(
            f"{path_for(engine)} is not a manifest of this version of rc-deploy.", "Build the engine again."
        )
    try:
        manifest = decode(Manifest, document)
    except FormError as error:
        raise InputError(
            f"The manifest {path_for(engine)} is damaged: {error}.",
            "Build the engine again: rc-deploy build MODEL.onnx",
        ) from None
    for record in (replace(manifest.engine, name=engine.name), manifest.typed_onnx):
        _check(engine.parent, record)
    return manifest


def _check(folder: Path, record: FileRecord) -> None:
    if Path(record.name).name != record.name:
        raise InputError(
            f"The engine's manifest names {record.name!r}, which is not a file in its folder.",
            "Build the engine again.",
        )
    path = folder / record.name
    if not path.is_file():
        raise InputError(f"{path}, which the engine's manifest names, is missing.", "Build the engine again.")
    if sha256(path) != record.sha256:
        raise InputError(
            f"{path} is not the file that the manifest was written for: its SHA-256 differs.",
            "It was changed or replaced after the build. Build the engine again.",
        )
