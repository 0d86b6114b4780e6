"""Time per module of a PyTorch network: on a CPU by torch.profiler, on a GPU by CUDA events around each module."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rc_deploy.bench.spans import GCLU, OTHER, RC, Span, per_run
from rc_deploy.optional import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from rc_deploy.cuda_runner import TorchCudaRunner
    from rc_deploy.runners import TorchRunner

_PREFIX = "rc_deploy.layer."
_RUN = "rc_deploy.run"


class Watch(Protocol):
    """Is told when a layer begins and ends."""

    def enter(self, layer: str) -> None:
        """Take note that a layer begins."""

    def leave(self, layer: str) -> None:
        """Take note that the layer that began last is over."""


def torch_spans(runner: TorchRunner, images: NDArray[np.float32], runs: int) -> tuple[float, list[Span]]:
    """Return the seconds of a run on normalised images (N, C, H, W), of so many, and the spans of the modules in it."""
    torch: Any = require("torch", "Profiling a checkpoint")
    with runner, watched(runner.network, _Records(torch)) as moved:
        runner.run(images)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
            for _ in range(runs):
                with torch.profiler.record_function(_RUN):
                    runner.run(images)
    times: dict[str, list[float]] = defaultdict(list)
    for event in recorded.events():
        times[event.name.removeprefix(_PREFIX)].append(event.cpu_time_total / 1e6)
    return per_run(times[_RUN], runs), _spans(runner.network, times, moved, runs)


def cuda_spans(runner: TorchCudaRunner, images: NDArray[np.float32], runs: int) -> tuple[float, list[Span]]:
    """Return the same of a network on a GPU: of its work there, transfers left out. Not yet run on one."""
    totals: list[float] = []
    with runner, watched(runner.device_network, events := Events(require("torch", "Profiling a checkpoint"))) as moved:
        for _ in range(1 + runs):
            runner.run(images)
            totals.append(runner.device_time().compute / 1e3)
        times = {layer: seconds[len(seconds) // (1 + runs) :] for layer, seconds in events.seconds().items()}
        return per_run(totals[1:], runs), _spans(runner.device_network, times, moved, runs)


def _spans(network: nn.Module, times: dict[str, list[float]], moved: dict[str, int], runs: int) -> list[Span]:
    return [
        Span(name, _kind(module), type(module).__name__, per_run(times[name], runs), moved[name])
        for name, module in _layers(network)
        if name in moved
    ]


@contextmanager
def watched(network: nn.Module, watch: Watch) -> Iterator[dict[str, int]]:
    """Have every layer of a network tell when it runs; yield the bytes that each moves, by name, filled as they run."""
    moved: dict[str, int] = {}
    hooks = [hook for name, module in _layers(network) for hook in _hooks(name, module, watch, moved)]
    try:
        yield moved
    finally:
        for hook in hooks:
            hook.remove()


def _layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield modules without children, and RC layers whole."""
    if _kind(module) != OTHER or not any(True for _ in module.children()):
        yield name, module
        return
    for child, inner in module.named_children():
        yield from _layers(inner, f"{name}.{child}" if name else child)


def _kind(module: nn.Module) -> str:
    from rc_deploy import nn as ours  # imports PyTorch

    if isinstance(module, ours.ResponseCalibration):
        return RC
    return GCLU if isinstance(module, ours.GCLU) else OTHER


def _hooks(name: str, module: nn.Module, watch: Watch, moved: dict[str, int]) -> Iterator[Any]:
    """Have a module tell when it runs and what it moves; yield what removes that again."""

    def enter(*_: object) -> None:
        watch.enter(name)

    def leave(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        watch.leave(name)
        moved[name] = _bytes([*inputs, output, *module.parameters(), *module.buffers()])

    yield module.register_forward_pre_hook(enter)
    yield module.register_forward_hook(leave)


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.nbytes for tensor in tensors if hasattr(tensor, "nbytes"))


class _Records:
    """Marks layers in what torch.profiler records."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._open: list[Any] = []

    def enter(self, layer: str) -> None:
        record = self._torch.profiler.record_function(_PREFIX + layer)
        record.__enter__()
        self._open.append(record)

    def leave(self, _: str) -> None:
        self._open.pop().__exit__(None, None, None)


class Events:
    """Puts a CUDA event into the stream where a layer begins, and one where it ends."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._pairs: dict[str, list[tuple[Any, Any]]] = defaultdict(list)

    def enter(self, layer: str) -> None:
        """Take note that a layer begins."""
        self._pairs[layer].append((self._recorded(), None))

    def leave(self, layer: str) -> None:
        """Take note that the layer that began last is over."""
        start, _ = self._pairs[layer].pop()
        self._pairs[layer].append((start, self._recorded()))

    def seconds(self) -> dict[str, list[float]]:
        """Return the times of each layer, once the GPU has done all that it was given."""
        self._torch.cuda.synchronize()
        return {layer: [start.elapsed_time(end) / 1e3 for start, end in pairs] for layer, pairs in self._pairs.items()}

    def _recorded(self) -> Any:
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event
