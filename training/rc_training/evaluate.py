"""How good a network is on a labelled split."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from rc_training.datasets import normalise
from rc_training.distributed import current

if TYPE_CHECKING:
    from torch import nn

    from rc_deploy.specs import InputSpec
    from rc_training.splits import Split

EVALUATION_BATCH = 1000


class Evaluation(NamedTuple):
    """Accuracy in percent, and mean cross entropy."""

    accuracy: float
    loss: float


@torch.inference_mode()
def evaluate(network: nn.Module, split: Split, spec: InputSpec) -> Evaluation:
    """Judge a network on a split of at least one image, a part of it in each process; leaves eval mode on."""
    network.eval()
    processes = current()
    correct, loss = torch.tensor(0), torch.tensor(0.0)  # on the device, once something is added
    for images, labels in split.batches(torch.arange(len(split))[processes.part(len(split))], EVALUATION_BATCH):
        logits = network(normalise(images, spec))
        correct = correct + (logits.argmax(1) == labels).sum()
        loss = loss + F.cross_entropy(logits, labels, reduction="sum").double()
    correct, loss = processes.sum(torch.stack((correct.double(), loss.double()))).unbind()
    return Evaluation(100 * int(correct) / len(split), float(loss) / len(split))
