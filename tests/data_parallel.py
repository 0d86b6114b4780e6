"""What a process of test_distributed.py does: python data_parallel.py OUT CASE..., under torchrun or alone.

Each case is a function here; process 0 saves what it returns as OUT/CASE.pt. Without torchrun it is the one process
that the others are compared with. DEVICE=cuda gives each process a GPU; PATIENCE is in seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rc_deploy.specs import InputSpec
from rc_training import step as steps
from rc_training.batch_norm import SynchronisedBatchNorm, synchronise
from rc_training.distributed import connected, current, local_device
from rc_training.models import create
from rc_training.step import Batch, Mixed, Step, StepOptions

if TYPE_CHECKING:
    from torch import Tensor

SPEC = InputSpec((1, 8, 8), (0.3,), (0.4,), tuple("0123456789"))
# With two processes: halves, unequal parts, and one where the first process has no image at all.
SIZES = (16, 16, 5, 16, 1)
DEVICE = torch.device(os.environ.get("DEVICE", "cpu"))


def batch_of(size: int, seed: int, mixed: bool = False, order: int = 0) -> Batch:
    """Return this process's part of a batch; `order` other than 0 puts the same images into another order."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (size, 1, 8, 8), generator=draws, dtype=torch.uint8)
    labels, others = torch.randint(0, 10, (2, size), generator=draws)
    share = torch.rand(size, generator=draws)
    if order:
        chosen = torch.randperm(size, generator=torch.Generator().manual_seed(order))
        images, labels, others, share = images[chosen], labels[chosen], others[chosen], share[chosen]
    part, device = current().part(size), local_device(DEVICE)
    images, labels, others, share = (t[part].to(device) for t in (images, labels, others, share))
    return Batch(images, labels, Mixed(others, share) if mixed else None, whole=size)


def train(network: nn.Module, mixed: bool = False, order: int = 0, **options: Any) -> dict[str, Tensor]:
    """Return the losses, the counts and everything that the network holds after a step for each of `SIZES`."""
    network.to(local_device(DEVICE), memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4)
    step = Step(network, optimizer, SPEC, StepOptions(**options))
    results = [step(batch_of(size, seed, mixed, order), 0.02) for seed, size in enumerate(SIZES)]
    losses, correct = (torch.stack(column) for column in zip(*results, strict=True))
    found = {"losses": losses, "correct": correct, **network.state_dict()}
    return {name: tensor.cpu() for name, tensor in found.items()}


def rescnet(**options: Any) -> dict[str, Tensor]:
    """Batch norm, RC and GCLU, clipped gradients."""
    torch.manual_seed(0)
    return train(create("rescnet8", activation="gclu", in_channels=1), clip_norm=1.0, **options)


def mixed() -> dict[str, Tensor]:
    """Mixed images and smoothed labels."""
    return rescnet(mixed=True, label_smoothing=0.1)


def layer_norm() -> dict[str, Tensor]:
    """No batch norm, and a parameter that nothing uses."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 10))
    network.register_parameter("unused", nn.Parameter(torch.ones(3)))
    return train(network)


def compiled() -> dict[str, Tensor]:
    """Through torch.compile's tracing, the sums over processes included."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    compiler = torch.compile
    torch.compile = lambda function, **options: compiler(function, backend="aot_eager", **options)  # type: ignore[assignment]
    return train(network, compile=True)


def unsynchronised() -> dict[str, Tensor]:
    """A fault: batch norm over each process's own images."""
    setattr(steps, "synchronise", lambda _: None)  # noqa: B010 (mypy knows it as another module's)
    return rescnet()


def agree() -> dict[str, Tensor]:
    """Whether processes that say the same number agree, and others do not."""
    said = [current().agree(number) for number in (0.1, current().rank)]
    return {"agree": torch.tensor(said)}


def norm() -> dict[str, Tensor]:
    """One batch norm alone in float64 and bfloat16: outputs, gradients and running statistics, of several batches."""
    found: dict[str, Tensor] = {}
    for dtype, momentum in ((torch.float64, 0.1), (torch.float64, None), (torch.bfloat16, 0.1)):
        layer = nn.BatchNorm2d(3, momentum=momentum, dtype=torch.promote_types(dtype, torch.float32))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
            layer.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
        made = nn.Sequential(layer)
        if current().size > 1:
            synchronise(made)
            assert type(made[0]) is SynchronisedBatchNorm
        for seed, size in enumerate(SIZES):
            draws = torch.Generator().manual_seed(seed)
            # Far from 0, where sums of squares would cancel.
            x = (torch.randn(size, 3, 4, 2, generator=draws, dtype=torch.float64) + 30).to(dtype)
            weights = torch.randn(size, 3, 4, 2, generator=draws, dtype=torch.float64).to(dtype)
            part = current().part(size)
            own = x[part].clone().requires_grad_()
            out = made(own)
            made.zero_grad()
            (out * weights[part]).sum().backward()
            assert own.grad is not None
            name = f"{dtype} {momentum} {size} {seed}"
            found[f"{name} out"], found[f"{name} grad"] = whole(out.detach(), x), whole(own.grad, x)
            for key, parameter in made.named_parameters():
                assert parameter.grad is not None
                found[f"{name} {key}"] = current().sum(parameter.grad)
        found |= {f"{dtype} {momentum} {key}": tensor.clone() for key, tensor in made.state_dict().items()}
    return found


def whole(own: Tensor, like: Tensor) -> Tensor:
    """Return the tensor shaped as `like` of which `own` is this process's part."""
    out = torch.zeros(like.shape, dtype=torch.float64)
    out[current().part(len(like))] = own.double()
    return current().sum(out)


def killed() -> None:
    """The last process is killed before the third step."""
    last = current().rank == current().size - 1
    for _ in range(100):
        current().wait()
        if last:
            os.kill(os.getpid(), signal.SIGKILL)


def stuck() -> None:
    """The last process does something else for ever."""
    current().wait()
    if current().rank == current().size - 1:
        time.sleep(100)
    current().wait()


def main() -> None:
    """Run the cases."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with connected(local_device(DEVICE), patience=float(os.environ.get("PATIENCE", "60"))) as processes:
        for case in sys.argv[2:]:
            found = globals()[case]()
            if processes.rank == 0:
                torch.save(found, folder / f"{case}.pt")


if __name__ == "__main__":
    main()
