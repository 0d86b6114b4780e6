"""From a file to something that runs: which runner, for which input, under which name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from rc_deploy import checkpoint, manifest, native
from rc_deploy.artefacts import Kind, kind_of
from rc_deploy.check import obstacle
from rc_deploy.engine.runner import runner_of
from rc_deploy.files import sha256
from rc_deploy.graph import model as onnx_model
from rc_deploy.graph.blocked import fastest
from rc_deploy.graph.emulate import emulated
from rc_deploy.graph.from_torch import onnx_from_module
from rc_deploy.graph.precision import require_precision
from rc_deploy.graph.roundings import roundings
from rc_deploy.runners import OnnxRunner, Runner, TorchRunner
from rc_deploy.specs import BatchRange, Precision

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import ModelProto
    from torch import nn

    from rc_deploy.specs import InputSpec
    from rc_deploy.tolerances import Rounding


@dataclass(frozen=True)
class Loaded:
    """An artefact ready to run.

    Attributes:
        path: the artefact that was named.
        kind: of it.
        sha256: of it.
        precision: of its weights and activations.
        input: what it takes.
        runner: runs it; to be entered.
        roundings: returns those of its arithmetic; for a reference, which is float32.
        graph: returns the ONNX graph that runs, or that the checkpoint's network exports to.
        kernels: runs an ONNX file with native kernels where `runner` runs its bodies; None where there are none.
        note: what else than the artefact itself runs, and why; empty if it is the artefact.
        network: of a checkpoint, to look into its layers.
        checkpoint_sha256: of the checkpoint it was made from, or that it is.
        batch: sizes that an engine was built for; None where any will do.
    """

    path: Path
    kind: Kind
    sha256: str
    precision: Precision
    input: InputSpec
    runner: Runner
    roundings: Callable[[], list[Rounding]]
    graph: Callable[[], ModelProto]
    kernels: Runner | None = None
    note: str = ""
    network: nn.Module | None = None
    checkpoint_sha256: str = ""
    batch: BatchRange | None = None


def load(path: Path, threads: int | None = None, factory: str | None = None, bodies: bool = False) -> Loaded:
    """Make an artefact runnable: an engine on the GPU that it is for, everything else on the CPU.

    Where this machine cannot run an engine, that is the typed ONNX it was compiled from, on the CPU; `note` says so.

    Args:
        path: a checkpoint, an ONNX file or an engine.
        threads: for one operator; None for every processor this process may use.
        factory: "module:callable" that builds a checkpoint's network.
        bodies: run the bodies that are in an ONNX file even where native kernels are. An engine's typed ONNX runs them
            always, for the engine was compiled from them.

    Raises:
        InputError: the file cannot be used, or its tensors are not of the precision it states.
        MissingDependencyError: what it needs to run is not installed.
    """
    kind = kind_of(path)
    if kind is Kind.CHECKPOINT:
        saved = checkpoint.load(path)
        network = saved.module(factory)
        return Loaded(
            path=path,
            kind=kind,
            sha256=(digest := sha256(path)),
            precision=Precision.FP32,
            input=saved.input,
            runner=TorchRunner(network, threads),
            roundings=partial(_roundings_of_network, network, saved.input.shape),
            graph=partial(onnx_from_module, network, saved.input),
            network=network,
            checkpoint_sha256=digest,
        )
    if kind is Kind.ENGINE:
        record = manifest.read(path)
        model = onnx_model.load(path.with_name(record.typed_onnx.name))
        problem = obstacle(record)
        runner = None if problem else runner_of(record, path)
        found = _onnx(path, kind, model, threads, _engine_note(record, problem) if problem else "", runner)
        return replace(found, batch=record.batch_range())
    found = _onnx(path, kind, onnx_model.load(path), threads)
    if found.kernels and not bodies:
        return replace(found, runner=found.kernels, kernels=None)
    return found


def _onnx(
    path: Path, kind: Kind, model: ModelProto, threads: int | None, note: str = "", runner: Runner | None = None
) -> Loaded:
    provenance = onnx_model.provenance(model, str(path))
    onnx_model.require_classifier(model, provenance.input, str(path))
    require_precision(model, provenance, str(path))
    library = native.onnx_runtime_library() if kind is Kind.ONNX else None
    return Loaded(
        path=path,
        kind=kind,
        sha256=sha256(path),
        precision=provenance.precision,
        input=provenance.input,
        runner=runner or OnnxRunner(model, threads, bodies=True, form=emulated),
        roundings=partial(roundings, model),
        graph=lambda: model,
        kernels=OnnxRunner(model, threads, form=partial(_fastest, library=library)) if library else None,
        note=" ".join(filter(None, [note, "" if runner else _emulation_note(provenance.precision)])),
        checkpoint_sha256=provenance.checkpoint_sha256,
    )


def _roundings_of_network(network: nn.Module, shape: tuple[int, int, int]) -> list[Rounding]:
    from rc_deploy.nn import roundings as traced  # imports PyTorch

    return traced.roundings(network, shape)


def _fastest(model: ModelProto, library: Path) -> ModelProto:
    return fastest(emulated(model), library)


def _emulation_note(precision: Precision) -> str:
    if precision is not Precision.BF16:
        return ""
    return "ONNX Runtime has no bfloat16 convolution on the CPU: float32 stood for it, each result rounded to bfloat16."


def _engine_note(record: manifest.Manifest, problem: str) -> str:
    return (
        f"The engine itself was NOT run: {problem}. What was run, on the CPU, is {record.typed_onnx.name}, "
        f"the typed ONNX that the engine was compiled from."
    )
