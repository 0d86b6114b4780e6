"""What a step takes for its target: label smoothing, and the two labels of mixed images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rc_deploy.specs import InputSpec
from rc_training.step import Batch, Mixed, Step, StepOptions

SPEC = InputSpec((1, 2, 2), (0.5,), (0.25,), ("a", "b", "c"))


class Line(nn.Module):
    """Logits are a linear function of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_loss_is_the_formulas(smoothing: float, mixed: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    network = Line()
    with torch.no_grad():
        network.linear.weight.normal_(std=2, generator=generator)
    images = torch.randint(256, (8, 1, 2, 2), dtype=torch.uint8, generator=generator)
    labels, others = torch.randint(3, (2, 8), generator=generator)
    batch = Batch(images, labels, Mixed(others, 0.3) if mixed else None)

    pixels = (images.numpy().astype(np.float64).reshape(8, 4) / 255 - 0.5) / 0.25
    weight, bias = (p.detach().double().numpy() for p in (network.linear.weight, network.linear.bias))
    logits = pixels @ weight.T + bias
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = np.eye(3)[labels.numpy()]
    if mixed:
        targets = 0.3 * targets + 0.7 * np.eye(3)[others.numpy()]
    targets = (1 - smoothing) * targets + smoothing / 3
    expected = -(targets * logs).sum(1).mean()

    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    step = Step(network, optimizer, SPEC, StepOptions(label_smoothing=smoothing))
    assert float(step(batch, 0.1).loss) == pytest.approx(expected, rel=1e-5)
    # The gradient too: of the bias it is the mean of softmax - target.
    found = (torch.from_numpy(bias) - network.linear.bias.detach()) / 0.1
    np.testing.assert_allclose(found.numpy(), (np.exp(logs) - targets).mean(0), atol=1e-5)
