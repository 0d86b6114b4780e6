"""Doctor: what this machine has, which stages would work on it, and what to install for those that would not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from typing import Any

from rc_deploy import libraries, machine, native
from rc_deploy.check import Check
from rc_deploy.engine.contained import why_not
from rc_deploy.engine.library import LIBRARIES, installation
from rc_deploy.errors import InputError
from rc_deploy.gpu import driver
from rc_deploy.models import GROUP
from rc_deploy.optional import EXTRAS, is_installed


@dataclass(frozen=True)
class Diagnosis:
    """What works on this machine, the inference libraries that are on it, and its facts."""

    checks: tuple[Check, ...]
    libraries: tuple[libraries.Found, ...]
    machine: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


# What a user may want to do, and the packages that it needs.
STAGES = {
    "train": ("torch", "sklearn", "scipy", "PIL"),
    "export": ("torch", "onnxscript", "onnxruntime"),
    "validate, bench (ONNX)": ("onnxruntime",),
    "validate, bench (checkpoint)": ("torch",),
    "report": ("matplotlib",),
}


# Our libraries: what each is for, and what builds it where it is missing.
PLUGINS = {
    native.ONNX_RUNTIME_LIBRARY: (
        "native kernels (ONNX Runtime)",
        "Have g++, CMake and ONNX Runtime's headers, and install again: plugins/README.md",
    ),
    native.TENSORRT_LIBRARY: (
        "plugins (TensorRT)",
        "Have g++, CMake, nvcc and TensorRT's headers, and install again: plugins/README.md",
    ),
}


def doctor() -> Diagnosis:
    """Return one check per stage, backend and plugin library, every inference library, and the machine's facts."""
    stages = [_stage(name, packages) for name, packages in STAGES.items()]
    backends = [_backend(name) for name in LIBRARIES]
    plugins = [_plugin(name, *words) for name, words in PLUGINS.items()]
    checks = (*stages, *backends, _quantised(backends), *plugins, _gpu(), _architectures())
    return Diagnosis(checks, tuple(libraries.find()), machine.facts())


def _stage(name: str, packages: tuple[str, ...]) -> Check:
    missing = [package for package in packages if not is_installed(package)]
    if not missing:
        return Check(name, True, ", ".join(EXTRAS[package][0] for package in packages))
    extras = ",".join(sorted({EXTRAS[package][1] for package in missing}))
    titles = ", ".join(EXTRAS[package][0] for package in missing)
    return Check(name, False, f"missing: {titles}", f"pip install 'rc-deploy[{extras}]'")


def _backend(name: str) -> Check:
    library = LIBRARIES[name]
    reason = why_not(library)
    detail = reason or f"{library.title} builds here"
    remedy = "" if is_installed(library.module) else installation(library)
    return Check(f"build --backend {name}", not reason, detail, remedy)


def _quantised(backends: list[Check]) -> Check:
    """Return whether quantised builds work: ranges are measured with ONNX Runtime, then a backend builds."""
    measures = _stage("build --int8, --fp8", ("onnxruntime",))
    if not measures.works or any(backend.works for backend in backends):
        return measures
    return Check(measures.name, False, "no backend builds here", "Install one: see the backends.")


def _plugin(library: str, name: str, remedy: str) -> Check:
    try:
        path = native.library(library)
    except InputError as error:
        return Check(name, False, str(error), error.hint)
    if path is None:
        return Check(name, False, f"there is no {library}: rc operators run through their bodies", remedy)
    return Check(name, True, f"{library} {native.built_for(path)}")


def _gpu() -> Check:
    """Return whether engines run here; whether a certain one does, `rc-deploy check` says."""
    name, found = "run engines on a GPU", driver()
    if not found.gpus:
        return Check(name, False, found.problem)
    names = ", ".join(f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in found.gpus)
    if not is_installed("pycuda"):
        return Check(name, False, f"PyCUDA is missing; found: {names}", "pip install 'rc-deploy[gpu]'")
    return Check(name, True, names)


def _architectures() -> Check:
    """Return which packages offer networks; the networks themselves would take seconds to import."""
    if not is_installed("torch"):
        return Check("architectures", False, "they need PyTorch", "pip install 'rc-deploy[export]'")
    names = sorted(entry.name for entry in entry_points(group=GROUP))
    detail = f"from {', '.join(names)}" if names else "no installed package offers any"
    return Check("architectures", bool(names), detail)
