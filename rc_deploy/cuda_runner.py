"""PyTorch networks on an NVIDIA GPU, with the time of each part of a run. Not yet run on one: docs/gpu-status.md."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

from rc_deploy.errors import UnsupportedError
from rc_deploy.optional import require
from rc_deploy.runners import DeviceTime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


class TorchCudaRunner:
    """A PyTorch network on the first GPU, eager or recorded as a CUDA graph.

    Args:
        network: in evaluation mode; a copy of it goes to the GPU.
        graph: record the launches once for each shape of input, and replay them in every run.

    Attributes:
        records: whether it was asked to.
        device_network: the copy, while the runner is entered.

    Raises:
        UnsupportedError: PyTorch finds no GPU.
    """

    def __init__(self, network: nn.Module, graph: bool = False) -> None:
        self._network = network
        self.records = graph
        self._torch: Any = require("torch", "Running a checkpoint")
        if not self._torch.cuda.is_available():
            raise UnsupportedError(
                "PyTorch finds no CUDA device.", "Run it on the CPU: leave @cuda and @cuda-graph away."
            )
        form = "CUDA graph" if graph else "eager"
        self.name = f"PyTorch {self._torch.__version__} {form} on {self._torch.cuda.get_device_name(0)}"

    def __enter__(self) -> Self:
        """Bring the network to the GPU."""
        cuda = self._torch.cuda
        self.device_network = copy.deepcopy(self._network).cuda()
        self._events = [cuda.Event(enable_timing=True) for _ in range(4)]
        self._graphs: dict[tuple[int, ...], tuple[Any, Any, Any]] = {}
        return self

    def __exit__(self, *exception: object) -> None:
        """Free the GPU's memory."""
        del self.device_network, self._events, self._graphs
        self._torch.cuda.empty_cache()

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (N, K) of normalised images (N, C, H, W)."""
        torch, (start, uploaded, computed, downloaded) = self._torch, self._events
        host = torch.from_numpy(images)
        with torch.inference_mode():
            recorded = self._recorded(host) if self.records else None
            start.record()
            if recorded is None:
                device = host.cuda()
                uploaded.record()
                output = self.device_network(device)
            else:
                graph, place, output = recorded
                place.copy_(host)
                uploaded.record()
                graph.replay()
            computed.record()
            logits: NDArray[np.float32] = output.cpu().numpy()
            downloaded.record()
        downloaded.synchronize()
        return logits

    def device_time(self) -> DeviceTime:
        """Return the parts of the last run, by CUDA events."""
        start, uploaded, computed, downloaded = self._events
        return DeviceTime(
            upload=start.elapsed_time(uploaded),
            compute=uploaded.elapsed_time(computed),
            download=computed.elapsed_time(downloaded),
        )

    def run_float64(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits of a copy of the network in float64."""
        network = copy.deepcopy(self._network).double().cuda()
        with self._torch.inference_mode():
            logits: NDArray[np.float64] = network(self._torch.from_numpy(images).double().cuda()).cpu().numpy()
        return logits

    def _recorded(self, host: Any) -> tuple[Any, Any, Any]:
        """Return the graph for this shape with the tensors it reads and writes; record it the first time."""
        shape = tuple(host.shape)
        if shape not in self._graphs:
            torch = self._torch
            place = host.cuda()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            # Libraries choose algorithms and take memory in their first runs, which a graph must not record:
            # https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.device_network(place)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                output = self.device_network(place)
            self._graphs[shape] = (graph, place, output)
        return self._graphs[shape]
