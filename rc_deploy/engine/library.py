"""TensorRT and TensorRT-RTX behind one adapter: which library there is, and what each can do.

What differs between them stands in `LIBRARIES` and `FEATURES` and, by attribute, in `api.ATTRIBUTES`; nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rc_deploy import gpu
from rc_deploy.errors import InputError, MissingDependencyError, UnsupportedError
from rc_deploy.optional import EXTRAS, is_installed, require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Library:
    """One inference library.

    Attributes:
        name: as `--backend` takes it.
        title: as people call it.
        module: its Python package.
        minimum: oldest version that rc-deploy drives.
        builds_without_gpu: it compiles for GPUs that are not there.
        takes_plugins: nodes may become our plugins.
    """

    name: str
    title: str
    module: str
    minimum: tuple[int, int]
    builds_without_gpu: bool
    takes_plugins: bool


@dataclass(frozen=True)
class Loaded:
    """What a library says of itself where it is loaded.

    Attributes:
        version: e.g. "1.7.1.116".
        capabilities: compute capabilities that it builds for whatever GPU the machine has, in ascending order.
    """

    version: str
    capabilities: tuple[str, ...]

    @classmethod
    def of(cls, module: Any) -> Loaded:
        """Return what a library's Python package says."""
        names = module.ComputeCapability.__members__ if hasattr(module, "ComputeCapability") else ()
        numbers = [name[2:] for name in names if name[:2] == "SM"]
        return cls(str(module.__version__), _ascending(f"{number[:-1]}.{number[-1]}" for number in numbers))


LIBRARIES = {
    "tensorrt": Library("tensorrt", "TensorRT", "tensorrt", (10, 12), builds_without_gpu=False, takes_plugins=True),
    "tensorrt-rtx": Library(
        "tensorrt-rtx", "TensorRT-RTX", "tensorrt_rtx", (1, 4), builds_without_gpu=True, takes_plugins=False
    ),
}
# Ampere and later. Older GPUs are left out unless they are asked for: they would enlarge the engine by half.
OLDEST_TARGET = "8.0"
# What a hardware-compatible engine of TensorRT runs on.
# https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html#hardware-compatibility
AMPERE_AND_LATER = ("8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1")


@dataclass(frozen=True)
class Feature:
    """Something that a build can be asked for and that not every library can do.

    Attributes:
        option: of the command line.
        libraries: that can, by name.
        otherwise: why the other cannot, and what stands for it there.
        needs_gpu: libraries that can only on a machine with a GPU, though they build without one.
    """

    option: str
    libraries: tuple[str, ...]
    otherwise: str = ""
    needs_gpu: tuple[str, ...] = ()


# By the name of the option in `BuildOptions`.
FEATURES = {
    "timing_cache": Feature(
        "--timing-cache",
        ("tensorrt",),
        "TensorRT-RTX times no kernels when it builds, and its calls for timing caches do nothing. What it keeps "
        "between runs is a runtime cache, which belongs to running",
    ),
    "compute_capabilities": Feature(
        "--compute-capability", ("tensorrt-rtx",), "TensorRT builds for the GPU of the machine that it runs on"
    ),
    "version_compatible": Feature(
        "--version-compatible",
        ("tensorrt",),
        "TensorRT-RTX comes without the lean runtime (libnvinfer_lean) that such an engine must hold",
    ),
    "hardware_compatible": Feature(
        "--hardware-compatible",
        ("tensorrt",),
        "an engine of TensorRT-RTX holds code for several GPUs instead: see --compute-capability",
    ),
    "strip_weights": Feature("--strip-weights", ("tensorrt", "tensorrt-rtx"), needs_gpu=("tensorrt-rtx",)),
    "refittable": Feature("--refittable", ("tensorrt", "tensorrt-rtx"), needs_gpu=("tensorrt-rtx",)),
}


def named(backend: str) -> Library:
    """Return the library of a name, or for "auto" TensorRT with a GPU, else TensorRT-RTX; it may be missing here.

    Nothing is imported for that. Raises UnsupportedError where there is none of that name.
    """
    if backend == "auto":
        native = is_installed("tensorrt") and bool(gpu.driver().gpus)
        backend = "tensorrt" if native else "tensorrt-rtx"
    if backend not in LIBRARIES:
        raise UnsupportedError(f"There is no backend '{backend}'.", f"Choose auto, {' or '.join(LIBRARIES)}.")
    return LIBRARIES[backend]


def choose(backend: str) -> Library:
    """Return the library to build with, see `named`; nothing is imported.

    Raises:
        MissingDependencyError: it is not installed.
        UnsupportedError: unknown name, or it builds only where a GPU is.
    """
    library = named(backend)
    if not is_installed(library.module):
        raise MissingDependencyError(f"Building needs {library.title}: {unavailable(library)}.", installation(library))
    _require_none(library, unavailable(library))
    return library


def require_recent(library: Library, found: str) -> None:
    """Require of a library's version that rc-deploy drives it. Raises UnsupportedError."""
    _require_none(library, too_old(library, found))


def unavailable(library: Library) -> str:
    """Return why `library` cannot build on this machine, in words, as far as can be said without loading it."""
    if not is_installed(library.module):
        return "it is not installed"
    if not library.builds_without_gpu and not gpu.driver().gpus:
        return f"it builds only where a GPU is, and {gpu.driver().problem}"
    return ""


def too_old(library: Library, found: str) -> str:
    """Return why rc-deploy does not drive a version of a library, in words; empty if it does."""
    if tuple(int(part) for part in found.split(".")[:2]) >= library.minimum:
        return ""
    return f"version {found} is installed, {'.'.join(map(str, library.minimum))} or later is needed"


def version(library: Library) -> str:
    """Return the installed version, e.g. "1.7.1.116"; loads the library."""
    return Loaded.of(require(library.module, library.title)).version


def installation(library: Library) -> str:
    """Return the command that installs it."""
    return f"pip install 'rc-deploy[{EXTRAS[library.module][1]}]'"


def _require_none(library: Library, problem: str) -> None:
    if problem:
        raise UnsupportedError(f"{library.title} cannot build here: {problem}.", "See `rc-deploy doctor`.")


def require_features(library: Library, wanted: Sequence[str]) -> None:
    """Require that `library` can do, on this machine, what is wanted of `FEATURES`. Raises UnsupportedError."""
    for name in wanted:
        feature = FEATURES[name]
        if library.name not in feature.libraries:
            able = " and ".join(LIBRARIES[other].title for other in feature.libraries)
            raise UnsupportedError(
                f"{library.title} has no {feature.option}: {feature.otherwise}.",
                f"Leave {feature.option} out, or build with {able}: --backend {feature.libraries[0]}",
            )
        if library.name in feature.needs_gpu and not gpu.driver().gpus:
            raise UnsupportedError(
                f"{library.title} can do {feature.option} only where a GPU is, and {gpu.driver().problem}.",
                f"Leave {feature.option} out, or build on a machine with a GPU.",
            )


def targets(
    library: Library,
    loaded: Loaded,
    asked: Sequence[str] = (),
    hardware_compatible: bool = False,
    oldest: str = OLDEST_TARGET,
) -> tuple[str, ...]:
    """Return the compute capabilities that an engine is built for, in ascending order, e.g. ("8.6", "8.9").

    Args:
        library: that builds it.
        loaded: what that says of itself.
        asked: those to build for; all that are not too old, or the machine's own, where there are none.
        hardware_compatible: it shall run on every GPU of Ampere or later.
        oldest: that has the types of the graph.

    Raises:
        InputError: one that the library does not offer, or that is older.
    """
    if library.name != "tensorrt-rtx":
        own = {found.compute_capability for found in gpu.driver().gpus}
        return AMPERE_AND_LATER if hardware_compatible else _ascending(own)
    offered = loaded.capabilities
    if unknown := [capability for capability in asked if capability not in offered]:
        raise InputError(
            f"{library.title} {loaded.version} does not build for compute capability {', '.join(unknown)}.",
            f"It offers {', '.join(offered)}.",
        )
    if oldest != OLDEST_TARGET and (older := [item for item in asked if _number(item) < _number(oldest)]):
        raise InputError(
            f"GPUs of compute capability {', '.join(older)} do not have the types of this graph.",
            f"They are there from {oldest} on.",
        )
    return _ascending(asked or [item for item in offered if _number(item) >= _number(oldest)])


def _ascending(capabilities: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(capabilities), key=_number))


def _number(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))
