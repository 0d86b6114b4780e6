"""The fast ways of a training step on a CUDA device against the plain one; not yet run, see docs/gpu-status.md.

Differences are held against what the order of summation alone changes: the plain way, given the images of each batch
in other orders.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import data_parallel
from data_parallel import SPEC, batch_of
from rc_deploy.nn import response_calibration
from rc_training.models import create
from rc_training.step import Batch, Step, StepOptions

CUDA = torch.device("cuda")
SIZES = (32, 32, 7) * 4  # the last batch of an epoch is smaller


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4)


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.05)


def on_cuda(batch: Batch) -> Batch:
    mixed = None if batch.mixed is None else batch.mixed._replace(labels=batch.mixed.labels.to(CUDA))
    return batch._replace(images=batch.images.to(CUDA), labels=batch.labels.to(CUDA), mixed=mixed)


def train(optimizer: Any = sgd, order: int = 0, slip: float = 1, mixed: bool = False, **options: Any) -> Tensor:
    """Return the losses and weights of a few epochs in one vector; `slip` is a fault in one step's learning rate."""
    torch.manual_seed(0)
    network = create("rescnet8", activation="gclu", in_channels=1)
    network.to(CUDA, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    step = Step(network, optimizer(network), SPEC, StepOptions(clip_norm=1.0, **options))
    losses = []
    for index, size in enumerate(SIZES):
        rate = 0.02 / (1 + index) * (slip if index == 6 else 1) * (1 if optimizer is sgd else 0.05)
        losses.append(step(on_cuda(batch_of(size, index, mixed, order)), rate).loss)
    return torch.cat([torch.stack(losses), *(p.detach().flatten() for p in network.parameters())]).cpu()


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize(
    ("fast", "precision", "optimizer"),
    [
        ("compile", "float32", sgd),
        ("cuda_graph", "float32", sgd),
        ("cuda_graph", "bfloat16", adamw),
        ("compile cuda_graph", "bfloat16", adamw),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # in PyTorch's own compiler
def test_fast_steps_are_the_plain_ones(fast: str, precision: str, optimizer: Any) -> None:
    plain = train(optimizer, precision=precision)
    allowed = 4 * max(difference(plain, train(optimizer, order, precision=precision)) for order in (1, 2, 3))
    torch._dynamo.reset()
    found = train(optimizer, precision=precision, **dict.fromkeys(fast.split(), True))
    assert difference(found, plain) <= allowed
    # A graph that did not read one step's learning rate would be noticed.
    assert difference(train(optimizer, slip=100, precision=precision), plain) > allowed


def test_recorded_steps_of_mixed_images() -> None:
    plain = train(mixed=True, label_smoothing=0.1)
    allowed = 4 * max(difference(plain, train(order=order, mixed=True, label_smoothing=0.1)) for order in (1, 2, 3))
    assert difference(train(mixed=True, label_smoothing=0.1, cuda_graph=True), plain) <= allowed


def test_recorded_steps_equal_plain_ones_bit_for_bit() -> None:
    """The same kernels on the same numbers: float32, algorithms that do not depend on the run."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        assert torch.equal(train(), train())  # else nothing can be concluded
        assert torch.equal(train(cuda_graph=True), train())
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def test_dropout_differs_from_replay_to_replay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).to(CUDA)
    step = Step(network, sgd(network), SPEC, StepOptions(cuda_graph=True))
    batch = on_cuda(batch_of(32, 0))
    losses = {step(batch, 0.0).loss.item() for _ in range(10)}
    assert len(losses) == 10


def test_a_seed_reaches_a_recorded_dropout() -> None:
    """The trainer seeds each epoch, after the recording too."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).to(CUDA)
    step = Step(network, sgd(network), SPEC, StepOptions(cuda_graph=True))
    batch, losses = on_cuda(batch_of(32, 0)), []
    for seed in (0, 1, 2, 3, 4, 5, 4, 5):
        torch.manual_seed(seed)
        losses.append(step(batch, 0.0).loss.item())
    assert losses[4:6] == losses[6:8]
    assert losses[4] != losses[5]


def test_bfloat16_follows_float32() -> None:
    """As closely as float32 does whose images and labels' order is the same, but for bfloat16's roundings."""

    def losses(precision: str, noise: float = 0.0) -> Tensor:
        torch.manual_seed(0)
        network = create("rescnet8", activation="gclu", in_channels=1).to(CUDA)
        for module in network.modules():
            if noise and isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(lambda _, __, out: out * (1 + noise * (2 * torch.rand_like(out) - 1)))
        step = Step(network, sgd(network), SPEC, StepOptions(precision=precision))
        batch = on_cuda(batch_of(16, 0))
        return torch.stack([step(batch, 0.05 / (1 + index)).loss for index in range(20)]).cpu()

    exact = losses("float32")
    # Two operands and a result round, each by 2^-9 of itself.
    allowed = torch.stack([(losses("float32", 3 * 2.0**-9) - exact).abs() for _ in range(3)]).amax(0)
    found = (losses("bfloat16") - exact).abs()
    assert exact[-1] < 0.8 * exact[0]
    assert found.max() > 1e-5
    assert (found.cummax(0).values <= 4 * allowed.cummax(0).values + 1e-3).all(), (found, allowed)


@pytest.mark.parametrize("types", [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)], ids=str)
def test_calibration_of_mixed_types_rounds_once(types: tuple[torch.dtype, torch.dtype]) -> None:
    torch.manual_seed(0)
    a, mu, log_var = (torch.randn(shape, device=CUDA) for shape in ((4, 8, 5, 5), (4, 8), (4, 8)))
    a, mu = a.to(types[0]), mu.to(types[1])
    found = response_calibration(a, mu, log_var)
    exact = response_calibration(a.float(), mu.float(), log_var)
    torch.testing.assert_close(found, exact.to(types[0]), rtol=0, atol=0)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_the_network_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*run, data_parallel.__file__, str(tmp_path), "rescnet"]
    done = subprocess.run(
        command, env=os.environ | {"DEVICE": "cuda"}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    monkeypatch.setattr(data_parallel, "DEVICE", CUDA)
    one = data_parallel.rescnet()
    two = torch.load(tmp_path / "rescnet.pt", weights_only=True)
    for name, tensor in one.items():
        orders = [data_parallel.rescnet(order=order)[name] for order in (1, 2, 3, 4)]
        allowed = 4 * max(float((tensor - other).abs().max()) for other in orders) + 1e-6
        assert float((two[name] - tensor).abs().max()) <= allowed, name
