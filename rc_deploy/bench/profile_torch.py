"""Time per module of a PyTorch network, by torch.profiler."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from rc_deploy.bench.spans import GCLU, OTHER, RC, Span, per_run
from rc_deploy.optional import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from rc_deploy.runners import TorchRunner

_PREFIX = "rc_deploy.layer."
_RUN = "rc_deploy.run"


def torch_spans(runner: TorchRunner, images: NDArray[np.float32], runs: int) -> tuple[float, list[Span]]:
    """Return the seconds of a run on normalised images (N, C, H, W), of so many, and the spans of the modules in it."""
    torch: Any = require("torch", "Profiling a checkpoint")
    found = dict(_layers(runner.network))
    hooks = [hook for name, module in found.items() for hook in _hooks(torch, name, module)]
    try:
        with runner:
            runner.run(images)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
                for _ in range(runs):
                    with torch.profiler.record_function(_RUN):
                        runner.run(images)
    finally:
        for hook in hooks:
            hook.remove()
    times: dict[str, list[float]] = defaultdict(list)
    for event in recorded.events():
        times[event.name].append(event.cpu_time_total / 1e6)
    spans = [
        Span(name, _kind(module), type(module).__name__, per_run(times[_PREFIX + name], runs))
        for name, module in found.items()
        if _PREFIX + name in times
    ]
    return per_run(times[_RUN], runs), spans


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


def _hooks(torch: Any, name: str, module: nn.Module) -> Iterator[Any]:
    """Have the profiler see when a module runs; yield what removes that again."""
    open_records = []

    def enter(*_: object) -> None:
        record = torch.profiler.record_function(_PREFIX + name)
        record.__enter__()
        open_records.append(record)

    def leave(*_: object) -> None:
        open_records.pop().__exit__(None, None, None)

    yield module.register_forward_pre_hook(enter)
    yield module.register_forward_hook(leave)
