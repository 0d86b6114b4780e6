"""What is timed: a file, and how it runs, written FILE or FILE@VARIANT."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rc_deploy import loading, native
from rc_deploy.artefacts import Kind, kind_of
from rc_deploy.errors import InputError, UnsupportedError
from rc_deploy.runners import OnnxRunner, TorchRunner

if TYPE_CHECKING:
    from rc_deploy.loading import Loaded
    from rc_deploy.runners import Runner

# How files of each kind can run; the first is the usual way, and for ONNX files "kernels" is only where they are.
VARIANTS: dict[Kind, tuple[str, ...]] = {
    Kind.CHECKPOINT: ("eager", "compile", "cuda", "cuda-graph"),
    Kind.ONNX: ("kernels", "bodies", "openvino"),
    Kind.ENGINE: (),
}
_KNOWN = {variant for variants in VARIANTS.values() for variant in variants}


@dataclass(frozen=True)
class Subject:
    """A file and how to run it; an empty variant is the usual way."""

    path: Path
    variant: str = ""


def parse(text: str) -> Subject:
    """Return what FILE or FILE@VARIANT names; a file that has such a name itself is that file.

    Raises:
        InputError: the file cannot be used, or does not run in that way.
    """
    name, at, variant = text.rpartition("@")
    if not at or not name or Path(text).exists() or (variant not in _KNOWN and not Path(name).exists()):
        subject = Subject(Path(text))
    else:
        subject = Subject(Path(name), variant)
    kind = kind_of(subject.path)
    if subject.variant and subject.variant not in VARIANTS[kind]:
        ways = ", ".join(VARIANTS[kind]) or "one way only"
        raise InputError(
            f"{text}: {kind.value} does not run as '{subject.variant}'; it runs as {ways}.",
            f"Write {subject.path} or, e.g., {subject.path}@{(VARIANTS[kind] or ('',))[-1]}".removesuffix("@"),
        )
    return subject


def load(subject: Subject, threads: int | None, factory: str | None) -> Loaded:
    """Make a subject runnable.

    Raises:
        InputError: the file cannot be used.
        UnsupportedError: an engine where none can be run, or kernels or a GPU that are not there.
        MissingDependencyError: what it needs to run is not installed.
    """
    found = loading.load(subject.path, threads, factory, bodies=subject.variant in ("bodies", "openvino"))
    if found.kind is Kind.ENGINE and found.note:
        raise UnsupportedError(
            f"{subject.path} cannot be timed: "
            f"{found.note.split('. ')[0].removeprefix('The engine itself was NOT run: ')}.",
            "Times of its typed ONNX on a CPU say nothing about the engine; name that file to measure it as such.",
        )
    return replace(found, runner=_runner(found.runner, subject, threads))


def _runner(usual: Runner, subject: Subject, threads: int | None) -> Runner:
    """Return what runs a subject in place of its kind's usual runner."""
    if subject.variant == "kernels" and native.onnx_runtime_library() is None:
        raise UnsupportedError(
            f"{subject.path}@kernels: there is no librc_ort on this machine.",
            "Install rc-deploy where CMake and a C++ compiler are, or build it with `make native`.",
        )
    if isinstance(usual, TorchRunner):
        if subject.variant == "compile":
            return usual.compiled()
        if subject.variant in ("cuda", "cuda-graph"):
            from rc_deploy.cuda_runner import TorchCudaRunner

            return TorchCudaRunner(usual.network, graph=subject.variant == "cuda-graph")
    if isinstance(usual, OnnxRunner) and subject.variant == "openvino":
        from rc_deploy.openvino_runner import OpenVinoRunner

        return OpenVinoRunner(usual.model, threads)
    return usual
