"""Doctor: what this machine has, which stages would work on it, and what to install for those that would not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rc_deploy import machine, native
from rc_deploy.engine.library import LIBRARIES, why_not
from rc_deploy.gpu import driver
from rc_deploy.models import available
from rc_deploy.optional import EXTRAS, is_installed


@dataclass(frozen=True)
class Check:
    """One thing that a user may want to do: whether it works here, and if not why and what helps."""

    name: str
    works: bool
    detail: str
    remedy: str = ""


# What a user may want to do, and the packages that it needs.
STAGES = {
    "train": ("torch", "sklearn", "scipy", "PIL"),
    "export": ("torch", "onnxscript", "onnxruntime"),
    "validate, bench (ONNX)": ("onnxruntime",),
    "validate, bench (checkpoint)": ("torch",),
    "report": ("matplotlib",),
}


def doctor() -> tuple[list[Check], dict[str, Any]]:
    """Return one check per stage and backend, and the facts of the machine."""
    stages = [_stage(name, packages) for name, packages in STAGES.items()]
    backends = [_backend(name) for name in LIBRARIES]
    checks = [*stages, *backends, _half(backends), _native(), _gpu(), _architectures()]
    return checks, machine.facts()


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
    remedy = "" if is_installed(library.module) else f"pip install 'rc-deploy[{EXTRAS[library.module][1]}]'"
    return Check(f"build --backend {name}", not reason, detail, remedy)


def _half(backends: list[Check]) -> Check:
    """Return whether `build --fp16` works: it converts with ONNX Runtime's tools, then needs a backend that builds."""
    converts = _stage("build --fp16", ("onnxruntime",))
    if not converts.works or any(backend.works for backend in backends):
        return converts
    return Check(converts.name, False, "no backend builds here", "Install one: see the backends.")


def _native() -> Check:
    library = native.onnx_runtime_library()
    detail = library.name if library else "rc operators run through their bodies"
    remedy = "" if library else "Have g++, CMake and ONNX Runtime's headers, and install again: plugins/README.md"
    return Check("native kernels (ONNX Runtime)", library is not None, detail, remedy)


def _gpu() -> Check:
    found = driver()
    names = ", ".join(f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in found.gpus)
    unable = f"this version does not run engines yet; found: {names}"
    return Check("run engines on a GPU", False, unable if names else found.problem)


def _architectures() -> Check:
    if not is_installed("torch"):
        return Check("architectures", False, "they need PyTorch", "pip install 'rc-deploy[export]'")
    names = sorted(available())
    return Check("architectures", bool(names), ", ".join(names) or "no installed package offers any")
