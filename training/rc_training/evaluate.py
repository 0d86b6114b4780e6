"""How good a network is on a labelled split."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from rc_training.datasets import normalise

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rc_deploy.specs import InputSpec

EVALUATION_BATCH = 1000


class Evaluation(NamedTuple):
    """Accuracy in percent, and mean cross entropy."""

    accuracy: float
    loss: float


@torch.inference_mode()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor, spec: InputSpec) -> Evaluation:
    """Judge a network on images (N, C, H, W) uint8 with labels (N,); leaves eval mode on."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=labels.device)
    loss = torch.zeros((), dtype=torch.float64, device=labels.device)
    for part, truth in zip(torch.split(images, EVALUATION_BATCH), torch.split(labels, EVALUATION_BATCH), strict=True):
        logits = network(normalise(part, spec))
        correct += (logits.argmax(1) == truth).sum()
        loss += F.cross_entropy(logits, truth, reduction="sum")
    return Evaluation(100 * int(correct) / len(labels), float(loss) / len(labels))
