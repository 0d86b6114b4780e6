"""The optimisers that recipes name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim import SGD, AdamW, Optimizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from rc_training.recipe import Recipe


def make_optimizer(recipe: Recipe, network: nn.Module) -> Optimizer:
    """Return the recipe's optimiser of all parameters; weight decay is on every one of them."""
    return OPTIMIZERS[recipe.optimizer](recipe, network)


def _sgd(recipe: Recipe, network: nn.Module) -> Optimizer:
    return SGD(network.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)


def _adamw(recipe: Recipe, network: nn.Module) -> Optimizer:
    return AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)


OPTIMIZERS: dict[str, Callable[[Recipe, nn.Module], Optimizer]] = {"sgd": _sgd, "adamw": _adamw}
