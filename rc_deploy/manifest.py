"""The manifest beside an engine: what it was made from, with what, for what, and what was proven of it."""

from __future__ import annotations

import platform
import shlex
import sys
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from rc_deploy import gpu
from rc_deploy.decode import FormError, clean, decode
from rc_deploy.errors import InputError
from rc_deploy.files import json_bytes, read_json, sha256, write_bytes
from rc_deploy.specs import BatchRange

FORMAT = "rc-deploy/engine"
FORMAT_VERSION = 2
_BUILD = "rc-deploy build MODEL.onnx"
# Packages that have a part in what is built; the inference library itself stands in `backend`.
_TOOLS = ("onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy")


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

    Made from:

    Attributes:
        engine: the engine itself.
        source: the ONNX file it was asked to be built from; its name only, wherever it lies.
        typed_onnx: the graph in the engine's precision that was compiled; lies beside the engine.
        checkpoint_sha256: of the checkpoint at the beginning.

    With what:

        backend: library and version, e.g. {"name": "tensorrt-rtx", "version": "1.7.1.116"}.
        rc_deploy: version that built it.
        tools: versions of Python, the CUDA driver and the packages that had a part in it; null for what was not there.
        options: all that the build was asked for, by the names of `BuildOptions`.

    For what:

        compute_capabilities: of the GPUs it can run on, e.g. ["8.6", "8.9"].
        platform: operating system and processor, e.g. "linux-x86_64".
        batch: "MIN:OPT:MAX" of each profile, with commas.
        profiles: per profile, each input's shapes as [smallest, fastest, largest].
        precision: {"asked": "fp16", "found": ...}, the latter read back from what was built.
        layers: the library's layers as it understood the graph: "KIND TYPE", e.g. "CONVOLUTION HALF", -> their names,
            each after its place in the network, "17:node_conv2d_2". Plugins are of a kind that begins with PLUGIN.
        plugins: plugin libraries it needs, with their SHA-256.
        rc_nodes: whether `rc` nodes are plugins or bodies in it, and why, see `engine.choice.Choice`.

    And:

        created: ISO 8601 time, UTC.
        seconds: that the library took to build it.
        proven: summaries of validations and benchmarks, added by the commands that ran them.
    """

    engine: FileRecord
    source: FileRecord
    typed_onnx: FileRecord
    checkpoint_sha256: str
    backend: dict[str, str]
    rc_deploy: str
    tools: dict[str, str | None]
    options: dict[str, Any]
    compute_capabilities: list[str]
    platform: str
    batch: str
    profiles: list[dict[str, list[list[int]]]]
    precision: dict[str, Any]
    layers: dict[str, list[str]]
    created: str
    seconds: float
    plugins: list[FileRecord] = field(default_factory=list)
    rc_nodes: dict[str, Any] = field(default_factory=dict)
    proven: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not {"name", "version"} <= self.backend.keys():
            raise ValueError("'backend' lacks 'name' or 'version'")
        if not isinstance(self.precision.get("asked"), str):
            raise ValueError("'precision.asked' is not text")

    def batch_range(self) -> BatchRange:
        """Return the sizes of all profiles together. Raises InputError where the manifest states none."""
        profiles = [BatchRange.parse(text) for text in self.batch.split(",")]
        least, most = min(item.minimum for item in profiles), max(item.maximum for item in profiles)
        return BatchRange(least, profiles[0].optimum, most)

    def with_proof(self, name: str, proof: dict[str, Any]) -> Manifest:
        """Return the manifest with one more thing proven."""
        return replace(self, proven={**self.proven, name: proof})


def tools() -> dict[str, str | None]:
    """Return the versions of what has a part in a build, as the manifest's `tools`."""
    return {
        "python": platform.python_version(),
        "cuda_driver": gpu.driver().version,
        **{name: _version(name) for name in _TOOLS},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def this_platform() -> str:
    """Return operating system and processor of this machine, e.g. "linux-x86_64": engines are not portable."""
    return f"{sys.platform}-{platform.machine()}"


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
    manifest = read_alone(engine)
    require_files(manifest, engine)
    return manifest


def read_alone(engine: Path) -> Manifest:
    """Read the manifest of `engine`, not the files it names. Raises InputError where it is missing or unusable."""
    path = path_for(engine)
    if not path.exists():
        raise InputError(
            f"The engine {engine} has no manifest: there is no {path}.",
            "An engine is used together with the .json that `rc-deploy build` wrote beside it: copy both, with the "
            "typed .onnx, or build again.",
        )
    document = read_json(path, "manifest")
    if document.get("format") != FORMAT:
        raise InputError(f"{path} is not the manifest of an engine.", f"Build the engine again: {_BUILD}")
    if document.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} is a manifest of version {clean(str(document.get('format_version')))}; this rc-deploy reads "
            f"version {FORMAT_VERSION}.",
            f"Build the engine again: {_build_again(document, engine)}",
        )
    try:
        return decode(Manifest, document)
    except FormError as error:
        raise InputError(f"The manifest {path} is damaged: {error}.", f"Build the engine again: {_BUILD}") from None


def _build_again(document: dict[str, Any], engine: Path) -> str:
    """Return the command that builds `engine` anew, from what a manifest of any version says of its making."""
    try:
        source, asked = document["source"]["name"], document["precision"]["asked"]
        words = ["rc-deploy", "build", clean(source), f"--{clean(asked)}", "-o", str(engine)]
    except (KeyError, TypeError):
        return _BUILD
    return shlex.join(words)


def require_files(manifest: Manifest, engine: Path) -> None:
    """Require that `engine`, and the typed ONNX beside it, are what the manifest was written for. Raises InputError."""
    for record in (replace(manifest.engine, name=engine.name), manifest.typed_onnx):
        _check(engine.parent, record)


def _check(folder: Path, record: FileRecord) -> None:
    if Path(record.name).name != record.name:
        raise InputError(
            f"The engine's manifest names {record.name!r}, which is not a file in its folder.",
            f"Build the engine again: {_BUILD}",
        )
    path = folder / record.name
    if not path.is_file():
        raise InputError(f"{path}, which the engine's manifest names, is missing.", f"Build the engine again: {_BUILD}")
    if sha256(path) != record.sha256:
        raise InputError(
            f"{path} is not the file that the manifest was written for: its SHA-256 differs.",
            f"It was changed or replaced after the build. Build the engine again: {_BUILD}",
        )
