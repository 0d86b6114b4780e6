"""The optimisers against their papers' formulas; SGD stands in test_train.py."""

from __future__ import annotations

from dataclasses import replace

import torch

from rc_training import recipe as recipes
from rc_training.optimizer import make_optimizer


def test_adamw_is_the_papers() -> None:
    """Loshchilov and Hutter's Algorithm 2, in float64, with weight decay on every parameter."""
    network = torch.nn.Linear(3, 2).double()
    recipe = replace(recipes.load("digits"), optimizer="adamw", learning_rate=0.01, weight_decay=0.1)
    optimizer = make_optimizer(recipe, network)
    expected = {name: p.detach().clone() for name, p in network.named_parameters()}
    first = {name: torch.zeros_like(p) for name, p in expected.items()}
    second = {name: torch.zeros_like(p) for name, p in expected.items()}
    inputs = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for step in (1, 2, 3):
        optimizer.zero_grad()
        network(inputs).square().sum().backward()
        optimizer.step()
        for name, p in network.named_parameters():
            assert p.grad is not None
            first[name] = 0.9 * first[name] + 0.1 * p.grad
            second[name] = 0.999 * second[name] + 0.001 * p.grad**2
            moved = first[name] / (1 - 0.9**step) / ((second[name] / (1 - 0.999**step)).sqrt() + 1e-8)
            expected[name] = expected[name] - 0.01 * (moved + 0.1 * expected[name])
            torch.testing.assert_close(p.detach(), expected[name], rtol=1e-12, atol=1e-14)


def test_sgd_is_not_nesterovs() -> None:
    optimizer = make_optimizer(replace(recipes.load("digits"), momentum=0.5), torch.nn.Linear(3, 2))
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, False, 5e-4)
