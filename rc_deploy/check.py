"""Check: can this machine run an engine, and why not; the engine itself is never loaded.

Sources: TensorRT's and TensorRT-RTX's pages on engine compatibility
(https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/engine-compatibility.html and
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/engine-compatibility.html).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from rc_deploy import gpu, manifest, native
from rc_deploy.artefacts import Kind, kind_of
from rc_deploy.decode import clean
from rc_deploy.engine import library
from rc_deploy.engine.library import LIBRARIES
from rc_deploy.errors import InputError, RcDeployError, UnsupportedError
from rc_deploy.files import require_file, sha256
from rc_deploy.optional import is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rc_deploy.engine.library import Library
    from rc_deploy.manifest import FileRecord, Manifest

SCHEMA, SCHEMA_VERSION = "rc-deploy/check", 1
# Distributions end in the CUDA release that they were made with, e.g. tensorrt-rtx-cu13.
_DISTRIBUTIONS = {
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt-rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
}
# TensorRT engines built for later GPUs too run on Ampere and whatever came after it.
_AMPERE = 8


@dataclass(frozen=True)
class Check:
    """One thing that must be so: whether it is, what was found, and what to do where it is not."""

    name: str
    works: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class EngineCheck:
    """All that an engine wants, and whether it is there. `record` is None where the manifest cannot be read."""

    engine: Path
    record: Manifest | None
    checks: tuple[Check, ...]

    @property
    def runnable(self) -> bool:
        """Whether nothing stands in the way."""
        return all(check.works for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "engine": str(self.engine),
            "sha256": self.record.engine.sha256 if self.record else None,
            "runnable": self.runnable,
            "checks": [vars(check) for check in self.checks],
        }


def check(engine: Path) -> EngineCheck:
    """Hold an engine and its manifest against its files and this machine.

    Raises:
        InputError: there is no such file, or it is neither an engine nor has a manifest beside it.
    """
    require_file(engine, "engine")
    if not manifest.path_for(engine).exists() and (kind := kind_of(engine)) is not Kind.ENGINE:
        raise InputError(f"{engine} is {kind.value}, not an engine.", "Build one from ONNX: rc-deploy build MODEL.onnx")
    try:
        record = manifest.read_alone(engine)
    except InputError as error:
        return EngineCheck(engine, None, (_failed("manifest", error),))
    return EngineCheck(engine, record, (_files(record, engine), *machine_checks(record)))


def require_runnable(engine: Path) -> Manifest:
    """Return the manifest of an engine that this machine can run; called before anything else loads an engine.

    Raises:
        InputError: the engine or its manifest is missing, damaged, or not what was built.
        UnsupportedError: this machine cannot run it; the message holds every reason, the hint what to do.
    """
    record = manifest.read(engine)
    require_all(EngineCheck(engine, record, machine_checks(record)))
    return record


def require_all(outcome: EngineCheck) -> None:
    """Raise UnsupportedError with every reason why an engine cannot run here; return where there is none."""
    failed = [item for item in outcome.checks if not item.works]
    if failed:
        raise UnsupportedError(
            f"{outcome.engine} cannot run here: {'; '.join(f'{item.name}: {item.detail}' for item in failed)}.",
            " ".join(dict.fromkeys(f"{item.remedy.rstrip('.')}." for item in failed)),
        )


def machine_checks(record: Manifest) -> tuple[Check, ...]:
    """Return what a manifest asks of a machine, held against this one."""
    return (_platform(record), *_library(record), *_device(record), *_pycuda(), *map(_plugin, record.plugins))


def obstacle(record: Manifest) -> str:
    """Return the first reason why this machine cannot run the engine of a manifest; empty where there is none."""
    return next((f"{item.name}: {item.detail}" for item in machine_checks(record) if not item.works), "")


def _failed(name: str, error: RcDeployError) -> Check:
    return Check(name, False, str(error).rstrip("."), error.hint)


def _files(record: Manifest, engine: Path) -> Check:
    try:
        manifest.require_files(record, engine)
    except InputError as error:
        return _failed("files", error)
    return Check("files", True, f"the engine and {record.typed_onnx.name} have the SHA-256 that the manifest states")


def _platform(record: Manifest) -> Check:
    here = manifest.this_platform()
    fits = record.platform == here
    detail = here if fits else f"built on {clean(record.platform)}; this is {here}"
    return Check("platform", fits, detail, "" if fits else f"Build the engine on {here}: rc-deploy build MODEL.onnx")


def _library(record: Manifest) -> Iterator[Check]:
    wanted = LIBRARIES.get(record.backend["name"])
    if wanted is None:
        detail = f"this rc-deploy does not know {clean(record.backend['name'])}"
        yield Check("library", False, detail, f"It knows {', '.join(LIBRARIES)}: build again with one of them")
        return
    built = clean(record.backend["version"])
    install = library.installation(wanted)
    if not is_installed(wanted.module):
        yield Check("library", False, f"{wanted.title} {built} is not installed", install)
        return
    try:
        found = library.version(wanted)
    except (ImportError, OSError) as error:
        yield Check("library", False, f"{wanted.title} cannot be loaded: {error}", f"Install it again: {install}")
        return
    fits = found == built or (bool(record.options.get("version_compatible")) and _later(found, built))
    detail = f"{wanted.title} {found}" if fits else f"built with {wanted.title} {built}; {found} is installed"
    remedy = f"Build the engine again with what is installed, or pip install '{wanted.name}=={built}'"
    yield Check("library", fits, detail, "" if fits else remedy)
    yield _driver(wanted)


def _later(found: str, built: str) -> bool:
    """Whether a version-compatible engine runs: in a later release of its major version, those of 10 in 11 as well."""
    try:
        new, old = (tuple(int(part) for part in text.split(".")) for text in (found, built))
    except ValueError:
        return False
    return new >= old and (new[0] == old[0] or (old[0], new[0]) == (10, 11))


def _driver(wanted: Library) -> Check:
    found = gpu.driver()
    needed = cuda_of(wanted)
    if found.version is None:
        return Check("driver", False, found.problem, "Install NVIDIA's driver: https://www.nvidia.com/drivers")
    if needed and int(found.version.split(".")[0]) < needed:
        detail = f"it supports CUDA {found.version}; the installed {wanted.title} needs {needed}.0 or later"
        return Check("driver", False, detail, "Update NVIDIA's driver: https://www.nvidia.com/drivers")
    return Check("driver", True, f"CUDA {found.version}")


def cuda_of(wanted: Library) -> int | None:
    """Return the CUDA release that the installed library was made with, e.g. 13, by its package; None if unknown."""
    for name in _DISTRIBUTIONS[wanted.name]:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return int(re.sub(r".*-cu", "", name))
    return None


def _device(record: Manifest) -> Iterator[Check]:
    found = gpu.driver()
    if not found.gpus:
        detail = found.problem if found.version else "none can be seen without a driver"
        yield Check("GPU", False, detail, "Run it on a machine with an NVIDIA GPU; see `rc-deploy doctor`")
        return
    fitting = [device for device in found.gpus if _fits(device.compute_capability, record)]
    names = ", ".join(f"{device.name} (compute capability {device.compute_capability})" for device in found.gpus)
    built = clean(", ".join(record.compute_capabilities)) or "none"
    own = ",".join(sorted({device.compute_capability for device in found.gpus}))
    if fitting:
        yield Check("GPU", True, ", ".join(f"{device.name} ({device.compute_capability})" for device in fitting))
    else:
        detail = f"built for compute capability {built}; here is {names}"
        yield Check("GPU", False, detail, f"Build the engine again for {own}: rc-deploy build MODEL.onnx")


def _fits(capability: str, record: Manifest) -> bool:
    if capability in record.compute_capabilities:
        return True
    return bool(record.options.get("hardware_compatible")) and int(capability.split(".")[0]) >= _AMPERE


def _pycuda() -> Iterator[Check]:
    if not is_installed("pycuda"):
        yield Check("PyCUDA", False, "it is not installed; engines run through it", "pip install 'rc-deploy[gpu]'")


def _plugin(wanted: FileRecord) -> Check:
    name = f"plugin {clean(wanted.name)}"
    try:
        path = native.library(wanted.name) if _is_name(wanted.name) else None
    except InputError as error:
        return _failed(name, error)
    if path is None:
        remedy = f"Install rc-deploy with its native parts, or set {native.VARIABLE}=DIR; or build with --plugins off"
        return Check(name, False, "it is not there", remedy)
    if sha256(path) != wanted.sha256:
        remedy = f"Set {native.VARIABLE} to the folder of the library it was built with, or build again"
        return Check(name, False, f"{path} is not the library that the engine was built with", remedy)
    return Check(name, True, str(path))


def _is_name(text: str) -> bool:
    """Whether a text from a manifest names a file, not a place."""
    return bool(re.fullmatch(r"[\w.-]+", text)) and text not in (".", "..")
