"""A function of tensors as one CUDA graph: recorded once, then replayed with a single launch.

PyTorch's rules, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs: what is recorded reads and writes
the same memory at every replay, waits for nothing on the host, and ran a few times before on a stream of its own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from rc_deploy.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Function = Callable[..., tuple[Tensor, ...]]

WARM_UP_CALLS = 3


class Recorded:
    """Calls `function`; from the fourth call on, as a replay of a recording of it.

    The calls before are the warm-up: they do their work, on the arguments they are given, as all others do.

    Args:
        function: of tensors, to tensors; whatever else it reads or writes keeps its place in memory.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._calls = 0
        self._arguments: list[Tensor] = []
        self._results: tuple[Tensor, ...] = ()
        self._replay: Callable[[], None] | None = None

    def __call__(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """Return what `function` returns for `arguments`, which have the same shapes, types and layouts every time."""
        self._calls += 1
        if self._calls <= WARM_UP_CALLS:
            with side_stream():
                return self._function(*arguments)
        if self._replay is None:
            self._arguments = [torch.empty_like(argument) for argument in arguments]
            self._replay, self._results = record(lambda: self._function(*self._arguments))
        for place, argument in zip(self._arguments, arguments, strict=True):
            place.copy_(argument)
        self._replay()
        return tuple(result.clone() for result in self._results)  # the next replay writes over them


def record(function: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """Record what `function` launches, without running it; return what runs it, and where its results will be."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on copying images to the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = function()
    return graph.replay, results


@contextmanager
def side_stream() -> Iterator[None]:
    """Run the context on another stream, in order with the current one."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


def require_graphs(device: torch.device, processes: int) -> None:
    """Raise UnsupportedError where steps cannot be recorded."""
    if device.type != "cuda":
        raise UnsupportedError(
            f"A CUDA graph wants a CUDA device; this run is on the {device.type}.", "Train without --cuda-graph."
        )
    if processes > 1:
        raise UnsupportedError(
            f"CUDA graphs of steps that {processes} processes take together are not supported.",
            "Train without --cuda-graph, or in one process.",
        )
