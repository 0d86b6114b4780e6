"""One step of training: from a batch of images to moved weights.

Normalise, network, cross entropy, gradients, clipping, optimiser; over all processes, where there are several. The
first batch of a run decides which shape is the fast one, that is compiled or recorded: any other (the last, smaller
batch of an epoch) takes the plain way with the same weights, so that nothing is ever compiled twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_

from rc_deploy.errors import UnsupportedError, reason
from rc_training import cuda_graph
from rc_training.batch_norm import synchronise
from rc_training.datasets import Normalisation
from rc_training.distributed import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from rc_deploy.specs import InputSpec

    Sums = Callable[..., tuple[Tensor, Tensor]]
    Update = Callable[..., tuple[Tensor, ...]]

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class StepOptions:
    """How steps are computed. The first three change what comes out, the last two only how fast.

    Attributes:
        label_smoothing: part of each target that is spread over all classes.
        clip_norm: largest norm of the gradient of all parameters together; 0 for any.
        precision: one of `PRECISIONS`: of convolutions and products, by autocast; weights and loss stay float32.
        compile: run the network through torch.compile.
        cuda_graph: replay the whole step as one CUDA graph.
    """

    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    precision: str = "float32"
    compile: bool = False
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not '{self.precision}'")


class Mixed(NamedTuple):
    """What images are mixed with: labels (N,) of the others, and the weight () or (N,) of the batch's own, 0 to 1."""

    labels: Tensor
    weight: Tensor | float


class Batch(NamedTuple):
    """Images and their targets; with several processes, the part of a batch that is this one's.

    Attributes:
        images: (N, C, H, W) of pixel values 0 to 255, uint8 or float; or normalised ones, float.
        labels: (N,) int64.
        mixed: what images were mixed with, by mixup or cutmix.
        normalised: whether the images are.
        whole: how many images the batch has in all processes; None for those that are here.
    """

    images: Tensor
    labels: Tensor
    mixed: Mixed | None = None
    normalised: bool = False
    whole: int | None = None

    @property
    def size(self) -> int:
        """How many images the batch has in all processes."""
        return len(self.labels) if self.whole is None else self.whole


class StepResult(NamedTuple):
    """What a step found before it moved the weights; on the device, so that nothing waits for it.

    Attributes:
        loss: mean over the batch, () float32.
        correct: how many images were classified as labelled, () int64; of mixed ones each label counts by its
            weight, () float32.
    """

    loss: Tensor
    correct: Tensor


class Step:
    """Trains a network batch by batch.

    With several processes each is given its part of every batch, which may be empty; loss, gradient and batch
    statistics are the whole batch's. What was trained before is loaded into `network` and `optimizer` before the first
    step.

    Args:
        network: on its device, in channels_last for speed; its batch norms are replaced where there are several
            processes.
        optimizer: SGD or AdamW over its parameters; its fused form is used.
        spec: what the network takes.
        options: how.

    Raises:
        UnsupportedError: a CUDA graph was asked for and there is no CUDA device, or several processes.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, spec: InputSpec, options: StepOptions) -> None:
        self._network, self._optimizer, self._options = network, optimizer, options
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._device = self._parameters[0].device
        self._normalisation = Normalisation(spec, self._device)
        self._processes = current()
        if options.cuda_graph:
            cuda_graph.require_graphs(self._device, self._processes.size)
        if self._processes.size > 1:
            synchronise(network)
        for group in optimizer.param_groups:
            # The one form that reads the learning rate from the device, and the fastest.
            group.update(fused=True, foreach=False)
        # On a device, so that a graph reads what it is then; and not a number there either, which rounds differently.
        on_device = options.cuda_graph or self._device.type == "cuda"
        self._rate = torch.zeros((), device=self._device) if on_device else None
        self._fast_kind: tuple[object, ...] | None = None
        self._fast: Update | None = None

    def __call__(self, batch: Batch, rate: float) -> StepResult:
        """Take one step.

        Args:
            batch: of at least one image in all processes.
            rate: the learning rate.

        Raises:
            UnsupportedError: torch.compile cannot compile the network here, or another process ended.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate if self._rate is None else self._rate.fill_(rate)
        kind = (batch.size, batch.images.shape, batch.images.dtype, batch.normalised, batch.mixed is None)
        if self._fast is None:
            _align(self._optimizer)
            self._fast_kind, self._fast = kind, self._fastest(batch)
        update = self._fast if kind == self._fast_kind else self._update(self._sums, batch)
        return StepResult(*update(*self._tensors(batch)))

    def _tensors(self, batch: Batch) -> list[Tensor]:
        """Return the images and labels of a batch and, of mixed ones, other labels and shares."""
        tensors = [batch.images.contiguous(memory_format=torch.channels_last), batch.labels]
        if batch.mixed is not None:
            weight = torch.as_tensor(batch.mixed.weight, dtype=torch.float32, device=self._device)
            tensors += [batch.mixed.labels, weight.expand(len(batch.labels)).contiguous()]
        return tensors

    def _fastest(self, batch: Batch) -> Update:
        """Return what takes steps on batches like `batch` in the fastest way that the options allow."""
        sums: Sums = self._sums
        if self._options.compile:
            sums = _explained(torch.compile(sums, fullgraph=True, dynamic=False))
        update = self._update(sums, batch)
        return cuda_graph.Recorded(_capturable(update, self._optimizer)) if self._options.cuda_graph else update

    def _update(self, sums: Sums, batch: Batch) -> Update:
        """Return a step as a function of tensors (see `_tensors`), for batches like `batch`: to loss and correct."""
        count, normalised = batch.size, batch.normalised

        def update(*tensors: Tensor) -> tuple[Tensor, ...]:
            self._optimizer.zero_grad(set_to_none=True)
            loss, correct = sums(normalised, *tensors)
            loss = loss / count
            loss.backward()  # type: ignore[no-untyped-call]
            found = self._over_processes(loss.detach(), correct)
            if self._options.clip_norm:
                clip_grad_norm_(self._parameters, self._options.clip_norm)
            self._optimizer.step()
            return found

        return update

    def _sums(
        self,
        normalised: bool,
        images: Tensor,
        labels: Tensor,
        others: Tensor | None = None,
        share: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of the images' losses and how many were recognised; `share` (N,) is what `labels` weigh."""
        # Each weight is converted once: a cache would save nothing, and must be off where a graph is recorded.
        half = self._options.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            logits = self._network(images if normalised else self._normalisation(images))
        logits = logits.float()
        found = logits.detach().argmax(1)
        losses, correct = self._losses(logits, labels), found == labels
        if others is None or share is None:
            return losses.sum(), correct.sum()
        losses = share * losses + (1 - share) * self._losses(logits, others)
        return losses.sum(), (share * correct + (1 - share) * (found == others)).sum()

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self._options.label_smoothing)

    def _over_processes(self, loss: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the gradients over all processes, in place, and return the sums of the other two: one message for all."""
        if self._processes.size == 1:
            return loss, correct
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        sent = [*gradients, loss, correct.float()]  # batches are smaller than 2^24: whole numbers stay exact
        total = self._processes.sum(torch.cat([tensor.reshape(-1) for tensor in sent]))
        parts = [
            part.view_as(tensor)
            for part, tensor in zip(torch.split(total, [t.numel() for t in sent]), sent, strict=True)
        ]
        torch._foreach_copy_(gradients, parts[:-2])
        return parts[-2], parts[-1].to(correct.dtype)


def _explained(sums: Sums) -> Sums:
    """Return `sums`, compiled, with the compiler's errors in words."""
    from torch._dynamo.exc import TorchDynamoException  # seconds to import

    def run(*arguments: bool | Tensor) -> tuple[Tensor, Tensor]:
        try:
            return sums(*arguments)
        except TorchDynamoException as error:
            raise UnsupportedError(
                f"torch.compile cannot compile this network here: {reason(error)}.", "Train without --compile."
            ) from error

    return run


def _align(optimizer: Optimizer) -> None:
    """Give what the optimiser remembers of a parameter the parameter's layout.

    Fused optimisers walk through memory and do not look at strides: with what was saved in another layout they would
    silently train on the wrong numbers.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def _capturable(update: Update, optimizer: Optimizer) -> Update:
    """Return `update` so that the optimiser lets it be recorded.

    AdamW wants a flag for that, at which it warns wherever nothing is recorded; its fused form does the same with it.
    """

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        groups = [group for group in optimizer.param_groups if "capturable" in group]
        for group in groups:
            group["capturable"] = torch.cuda.is_current_stream_capturing()
        try:
            return update(*tensors)
        finally:
            for group in groups:
                group["capturable"] = False

    return run
